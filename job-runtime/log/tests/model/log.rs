//! The model broker as a log: reading, ends, deletion, growth, unavailability.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, batch, ms, offset, open_with, read, tp};
use freshet_env::sim::NodeId;
use freshet_log::model::ModelFaults;
use freshet_log::{Header, Log, LogError, Outgoing, StartPosition, TopicSpec};

fn filled(seed: u64, faults: ModelFaults) -> Cluster {
    let cluster = Cluster::new(seed, faults);
    let mut input = Outgoing::new(vec!["in".to_owned()]);
    for n in 0..10_u8 {
        input.push(0, u32::from(n % 2), 1000 + i64::from(n), Some(&[n]), Some(&[b'0' + n]));
    }
    cluster.broker.append_batch(&input).expect("the topic is there");
    cluster
}

#[test]
fn records_come_in_offset_order_however_they_are_cut() {
    for seed in 0..30 {
        let mut faults = ModelFaults::none();
        faults.fetch_records = 1 + (seed % 4) as usize;
        let cluster = filled(seed, faults);
        let log = cluster.client(1);
        let seen = cluster.run(1, async move {
            let mut consumer = log.consumer(&[(tp("in", 0), 0), (tp("in", 1), 2)]).await.expect("the topic is there");
            read(consumer.as_mut(), 8).await
        });
        let mut by_partition: BTreeMap<u32, Vec<(i64, String)>> = BTreeMap::new();
        for (partition, offset, value) in seen {
            by_partition.entry(partition).or_default().push((offset, value));
        }
        let owned = |list: &[(i64, &str)]| list.iter().map(|(o, v)| (*o, (*v).to_owned())).collect::<Vec<_>>();
        assert_eq!(by_partition[&0], owned(&[(0, "0"), (1, "2"), (2, "4"), (3, "6"), (4, "8")]), "seed {seed}");
        assert_eq!(by_partition[&1], owned(&[(2, "5"), (3, "7"), (4, "9")]), "seed {seed}");
    }
}

#[test]
fn the_end_is_told_once_each_time_that_it_is_reached() {
    for seed in 0..30 {
        let cluster = filled(seed, ModelFaults::none());
        let log = cluster.client(1);
        let mut consumer = cluster.run(1, async move { log.consumer(&[(tp("in", 0), 0)]).await.expect("it is there") });
        let (mut ends, mut position) = (0, 0);
        let broker = cluster.broker.clone();
        let env = cluster.sim.env(NodeId(1));
        cluster.run(1, async move {
            use freshet_env::Env;
            for round in 1..=3 {
                while ends < round {
                    let batch = consumer.next().await.expect("the log is there");
                    position = batch.next_offset;
                    ends += i32::from(batch.at_end);
                    assert!(!batch.at_end || batch.next_offset == batch.high);
                }
                assert_eq!(position, broker.bounds(&tp("in", 0)).expect("it is there").stable);
                let quiet = {
                    let shared: freshet_env::SharedEnv = std::rc::Rc::new(env.clone());
                    freshet_env::deadline(&shared, ms(100), consumer.next()).await
                };
                assert_eq!(quiet, None, "nothing is told twice");
                env.sleep(ms(1)).await;
                broker.append(&tp("in", 0), 0, None, Some(b"more")).expect("it is there");
            }
        });
    }
}

#[test]
fn next_may_be_dropped_at_any_time() {
    let mut faults = ModelFaults::none();
    faults.latency = (ms(3), ms(9));
    faults.fetch_records = 2;
    let cluster = filled(5, faults);
    let log = cluster.client(1);
    let env: freshet_env::SharedEnv = std::rc::Rc::new(cluster.sim.env(NodeId(1)));
    let seen = cluster.run(1, async move {
        let mut consumer = log.consumer(&[(tp("in", 0), 0)]).await.expect("the topic is there");
        let (mut seen, mut dropped) = (Vec::new(), 0);
        while seen.len() < 5 {
            match freshet_env::deadline(&env, ms(1), consumer.next()).await {
                Some(batch) => seen.extend(crate::cluster::records(&batch.expect("the log is there"))),
                None => dropped += 1,
            }
        }
        assert!(dropped > 3, "the test drops it now and then");
        seen
    });
    assert_eq!(seen.iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_paused_consumer_gets_nothing_new() {
    let cluster = filled(6, ModelFaults::none());
    let log = cluster.client(1);
    let env: freshet_env::SharedEnv = std::rc::Rc::new(cluster.sim.env(NodeId(1)));
    cluster.run(1, async move {
        let mut consumer = log.consumer(&[(tp("in", 0), 0)]).await.expect("the topic is there");
        consumer.set_paused(true);
        assert_eq!(freshet_env::deadline(&env, ms(1000), consumer.next()).await, None);
        consumer.set_paused(false);
        assert_eq!(read(consumer.as_mut(), 5).await.len(), 5);
    });
}

#[test]
fn a_position_that_is_gone_is_an_error_with_the_range() {
    let cluster = filled(7, ModelFaults::none());
    cluster.broker.delete_records(&tp("in", 0), 3).expect("the partition is there");
    let log = cluster.client(1);
    let (before, behind, there) = cluster.run(1, async move {
        let mut before = log.consumer(&[(tp("in", 0), 2)]).await.expect("the topic is there");
        let mut behind = log.consumer(&[(tp("in", 0), 6)]).await.expect("the topic is there");
        let mut there = log.consumer(&[(tp("in", 0), 3)]).await.expect("the topic is there");
        (before.next().await, behind.next().await, read(there.as_mut(), 2).await)
    });
    let gone = |wanted| Err(LogError::OffsetGone { partition: tp("in", 0), wanted, low: 3, high: 5 });
    assert_eq!((before, behind), (gone(2), gone(6)));
    assert_eq!(there.iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(cluster.values("in").len(), 7);
}

#[test]
fn a_waiting_reader_learns_that_its_position_is_gone() {
    let cluster = filled(8, ModelFaults::none());
    let hanging = cluster.broker.hang_transaction(&tp("in", 0)).expect("the partition is there");
    let log = cluster.client(1);
    let mut consumer = cluster.run(1, async move {
        let mut consumer = log.consumer(&[(tp("in", 0), 5)]).await.expect("the topic is there");
        assert!(consumer.next().await.expect("the log is there").at_end);
        consumer
    });
    cluster.broker.end_hanging(&hanging, true);
    cluster.settle(ms(10));
    let deleting = cluster.client(2);
    cluster.run(2, async move { deleting.delete_records(&[(tp("in", 0), 6)]).await }).expect("the topic is there");
    let next = cluster.run(1, async move { consumer.next().await });
    assert!(matches!(next, Err(LogError::OffsetGone { wanted: 5, low: 6, .. })), "{next:?}");
}

#[test]
fn start_positions_resolve_to_offsets() {
    let cluster = filled(9, ModelFaults::none());
    cluster.broker.delete_records(&tp("in", 0), 1).expect("the partition is there");
    let _hanging = cluster.broker.hang_transaction(&tp("in", 0)).expect("the partition is there");
    cluster.broker.append(&tp("in", 0), 9999, None, Some(b"behind")).expect("the partition is there");
    let log = cluster.client(1);
    let starts = [
        (StartPosition::Earliest, 1),
        (StartPosition::Latest, 5),
        (StartPosition::Timestamp(0), 1),
        (StartPosition::Timestamp(1005), 3),
        (StartPosition::Timestamp(1006), 3),
        (StartPosition::Timestamp(1009), 5),
        (StartPosition::Timestamp(9999), 5),
    ];
    for (start, expected) in starts {
        let log = log.clone();
        assert_eq!(cluster.run(1, async move { log.resolve(&tp("in", 0), start).await }), Ok(expected), "{start:?}");
    }
}

#[test]
fn topics_are_made_once_and_grow() {
    let cluster = Cluster::new(10, ModelFaults::none());
    let log = cluster.client(1);
    let spec = |partitions| TopicSpec { name: "new".to_owned(), partitions, replicas: None, config: Vec::new() };
    let (three, one) = (spec(3), spec(1));
    let made = cluster.run(1, {
        let log = log.clone();
        async move {
            assert_eq!(log.partition_count("new").await, Err(LogError::UnknownTopic("new".to_owned())));
            log.ensure_topics(&[three]).await.expect("the broker is there");
            log.ensure_topics(&[one]).await.expect("one that differs stays as it is");
            log.partition_count("new").await
        }
    });
    assert_eq!(made, Ok(3));
    cluster.broker.grow_topic("new", 5).expect("the topic is there");
    let grown = cluster.run(1, async move {
        let unknown = log.consumer(&[(tp("new", 5), 0)]).await.map(|_| ());
        (log.partition_count("new").await, log.bounds(&tp("new", 4)).await.map(|b| b.high), unknown)
    });
    assert_eq!(grown, (Ok(5), Ok(0), Err(LogError::UnknownTopic("new[5]".to_owned()))));
}

#[test]
fn a_record_for_a_partition_that_is_not_there_is_refused() {
    let cluster = Cluster::new(11, ModelFaults::none());
    let log = cluster.client(1);
    let sent = cluster.run(1, async move {
        let mut producer = log.producer("id").await.expect("the broker is there");
        producer.begin().expect("a new producer can begin");
        (producer.send(&batch("out", 2, &["a"]), 0), producer.send(&batch("nowhere", 0, &["a"]), 0))
    });
    assert_eq!(sent.0, Err(LogError::UnknownTopic("out[2]".to_owned())));
    assert_eq!(sent.1, Err(LogError::UnknownTopic("nowhere".to_owned())));
}

#[test]
fn keys_headers_tombstones_and_timestamps_survive() {
    let cluster = Cluster::new(12, ModelFaults::none());
    let log = cluster.client(1);
    let header = Header { name: "freshet-error-reason", value: b"late".to_vec() };
    let headers = vec![header.clone()];
    cluster.run(1, async move {
        let mut batch = Outgoing::new(vec!["out".to_owned()]);
        batch.push(0, 1, 5, Some(b"key"), None);
        batch.push(0, 1, 6, None, Some("größer".as_bytes()));
        batch.set_headers(headers);
        batch.push(0, 1, 7, Some(b""), Some(b""));
        let mut producer = open_with(&log, "id", &batch).await;
        producer.commit().await.expect("nothing is in the way");
    });
    cluster.settle(ms(10));
    let records = cluster.broker.committed_records("out").expect("the topic is there");
    let told: Vec<_> = records.iter().map(|r| (r.timestamp_ms, r.key.as_deref(), r.value.as_deref())).collect();
    assert_eq!(
        told,
        [(5, Some(&b"key"[..]), None), (6, None, Some("größer".as_bytes())), (7, Some(&b""[..]), Some(&b""[..]))]
    );
    assert_eq!(records.iter().map(|r| r.headers.clone()).collect::<Vec<_>>(), [vec![], vec![header], vec![]]);
}

#[test]
fn a_broker_that_is_away_refuses_or_delays_and_forgets_nothing() {
    let (mut refused, mut delayed) = (0, 0);
    for seed in 0..20 {
        let cluster = filled(seed, ModelFaults::none());
        let log = cluster.client(1);
        cluster.broker.set_available(false);
        let call = cluster.sim.spawn("call", NodeId(1), async move { log.partition_count("in").await });
        let reader = cluster.client(2);
        let reading = cluster.sim.spawn("read", NodeId(2), async move {
            loop {
                if let Ok(mut consumer) = reader.consumer(&[(tp("in", 0), 0)]).await {
                    return read(consumer.as_mut(), 5).await.len();
                }
            }
        });
        cluster.settle(ms(1000));
        assert!(!reading.is_finished());
        match call.take() {
            Some(answer) => {
                assert!(matches!(answer, Err(LogError::Unavailable(_))), "{answer:?}");
                refused += 1;
            }
            None => delayed += 1,
        }
        cluster.broker.set_available(true);
        cluster.settle(ms(1000));
        assert_eq!(reading.take(), Some(5));
        if let Some(answer) = call.take() {
            assert_eq!(answer, Ok(2));
        }
    }
    assert!(refused > 0 && delayed > 0, "{refused} refused, {delayed} delayed");
}

#[test]
fn expired_offsets_are_gone() {
    let cluster = Cluster::new(13, ModelFaults::none());
    let log = cluster.client(1);
    let committed = cluster.run(1, {
        let log = log.clone();
        async move {
            let mut producer = open_with(&log, "id", &batch("out", 0, &["a"])).await;
            producer.send_offsets("group", &[(tp("in", 0), offset(1, ""))]).await.expect("offsets are taken");
            producer.commit().await.expect("nothing is in the way");
            log.committed("group", &[tp("in", 0)]).await
        }
    });
    assert_eq!(committed, Ok(vec![Some(offset(1, ""))]));
    assert_eq!(cluster.broker.groups(), ["group"]);
    cluster.broker.expire_offsets("group");
    assert_eq!(cluster.run(1, async move { log.committed("group", &[tp("in", 0)]).await }), Ok(vec![None]));
}
