//! The embedded broker on tokio, as `freshet run` uses it.

use std::rc::Rc;
use std::time::Duration;

use crate::cluster::{batch, offset, send_all, tp};
use freshet_env::{RealEnv, SharedEnv};
use freshet_log::model::ModelBroker;
use freshet_log::{Log, LogError, Outgoing};

fn on_tokio(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let env: SharedEnv = Rc::new(RealEnv::new());
        freshet_env::deadline(&env, Duration::from_secs(30), work).await.expect("the test ends within 30 s");
    });
}

fn broker() -> (ModelBroker, SharedEnv) {
    let broker = ModelBroker::embedded();
    broker.create_topic("in", 2);
    broker.create_topic("out", 2);
    (broker, Rc::new(RealEnv::new()))
}

#[test]
fn a_reader_in_another_task_wakes() {
    on_tokio(async {
        let (broker, env) = broker();
        let log = broker.client(env);
        let reader = tokio::task::spawn_local({
            let log = log.clone();
            async move {
                let mut consumer = log.consumer(&[(tp("out", 0), 0), (tp("out", 1), 0)]).await.expect("it is there");
                crate::cluster::read(consumer.as_mut(), 3).await
            }
        });
        let mut producer = log.producer("id").await.expect("the broker is there");
        for value in ["a", "b", "c"] {
            producer.begin().expect("the last one has ended");
            send_all(producer.as_mut(), &batch("out", 0, &[value])).await.expect("records are taken");
            producer.send_offsets("group", &[(tp("in", 0), offset(1, value))]).await.expect("offsets are taken");
            tokio::task::yield_now().await;
            producer.commit().await.expect("nothing is in the way");
        }
        let seen = reader.await.expect("the reader ends");
        assert_eq!(seen.iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(log.committed("group", &[tp("in", 0)]).await, Ok(vec![Some(offset(1, "c"))]));
    });
}

#[test]
fn a_busy_reader_lets_others_go_on() {
    on_tokio(async {
        let (broker, env) = broker();
        let mut input = Outgoing::new(vec!["in".to_owned()]);
        let filler = vec![b'x'; 1000];
        for _ in 0..20_000 {
            input.push(0, 0, 0, None, Some(&filler));
        }
        broker.append_batch(&input).expect("it is there");
        let log = broker.client(env);
        let turns = Rc::new(std::cell::Cell::new(0));
        let other = tokio::task::spawn_local({
            let turns = turns.clone();
            async move {
                loop {
                    turns.set(turns.get() + 1);
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut consumer = log.consumer(&[(tp("in", 0), 0)]).await.expect("it is there");
        crate::cluster::read(consumer.as_mut(), 20_000).await;
        assert!(turns.get() >= 10, "the other task had {} turns", turns.get());
        other.abort();
    });
}

#[test]
fn a_stable_read_waits_for_the_other_task() {
    on_tokio(async {
        let (broker, env) = broker();
        let log = broker.client(env);
        let mut producer = log.producer("id").await.expect("the broker is there");
        producer.begin().expect("it is new");
        producer.send_offsets("group", &[(tp("in", 0), offset(4, ""))]).await.expect("offsets are taken");
        let reader = tokio::task::spawn_local({
            let log = log.clone();
            async move { log.committed("group", &[tp("in", 0)]).await }
        });
        tokio::task::yield_now().await;
        assert!(!reader.is_finished());
        // A successor aborts what the producer left open, and the reader gets its answer.
        log.fence(&["id".to_owned()]).await.expect("the broker is there");
        assert_eq!(reader.await.expect("the reader ends"), Ok(vec![None]));
        assert!(matches!(producer.commit().await, Err(LogError::Fenced(_))));
    });
}

#[test]
fn memory_is_bounded_by_what_is_not_consumed() {
    on_tokio(async {
        const LIMIT: u64 = 4 << 20;
        let (broker, env) = broker();
        broker.retain_bytes("in", 0).expect("it is there");
        let log = broker.client(env);
        let generator = tokio::task::spawn_local({
            let broker = broker.clone();
            async move {
                let filler = vec![b'x'; 1000];
                let mut most = 0;
                for _ in 0..1000 {
                    broker.room("in", LIMIT).await.expect("it is there");
                    let mut input = Outgoing::new(vec!["in".to_owned()]);
                    (0..100).for_each(|n| input.push(0, n % 2, 0, None, Some(&filler)));
                    broker.append_batch(&input).expect("it is there");
                    most = most.max(broker.stored_bytes("in").expect("it is there"));
                    tokio::task::yield_now().await;
                }
                most
            }
        });
        let mut producer = log.producer("id").await.expect("the broker is there");
        let mut consumer = log.consumer(&[(tp("in", 0), 0), (tp("in", 1), 0)]).await.expect("it is there");
        let (mut seen, mut positions) = (0, [0, 0]);
        while seen < 100_000 {
            let batch = consumer.next().await.expect("nothing is gone that was not consumed");
            seen += batch.records.len();
            positions[batch.partition.partition as usize] = batch.next_offset;
            producer.begin().expect("the last one has ended");
            let offsets = [(tp("in", 0), offset(positions[0], "")), (tp("in", 1), offset(positions[1], ""))];
            producer.send_offsets("group", &offsets).await.expect("offsets are taken");
            producer.commit().await.expect("nothing is in the way");
        }
        let most = generator.await.expect("the generator ends");
        assert!(most < LIMIT + (1 << 20), "{most} bytes of about 100 MB were held at once");
        // A restart finds everything behind its committed offset.
        let committed = log.committed("group", &[tp("in", 0)]).await.expect("the broker is there");
        let position = committed[0].clone().expect("it was committed").offset;
        assert!(broker.bounds(&tp("in", 0)).expect("it is there").low <= position);
    });
}

#[test]
fn what_nobody_reads_is_kept() {
    let (broker, _) = broker();
    broker.retain_bytes("in", 0).expect("it is there");
    let filler = vec![b'x'; 300_000];
    for _ in 0..10 {
        broker.append(&tp("in", 0), 0, None, Some(&filler)).expect("it is there");
    }
    assert_eq!(broker.committed_records("in").expect("it is there").len(), 10);
}
