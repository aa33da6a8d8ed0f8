//! Transactions of the model broker: visibility, fencing, time-outs, decisions that complete late.

use crate::cluster::{Cluster, batch, ms, offset, open_with, read, records, send_all, tp};
use freshet_env::sim::NodeId;
use freshet_log::model::ModelFaults;
use freshet_log::{Bounds, Log, LogError};

/// Faults with one thing changed.
fn with(change: impl FnOnce(&mut ModelFaults)) -> ModelFaults {
    let mut faults = ModelFaults::none();
    change(&mut faults);
    faults
}

#[test]
fn records_and_offsets_become_visible_together() {
    let cluster = Cluster::new(1, ModelFaults::none());
    let log = cluster.client(1);
    let committed = cluster.run(1, async move {
        let mut producer = open_with(&log, "id", &batch("out", 0, &["a", "b"])).await;
        producer.send_offsets("group", &[(tp("in", 0), offset(7, "v1|meta"))]).await.expect("offsets are taken");
        producer.commit().await.expect("nothing is in the way");
        log.committed("group", &[tp("in", 0), tp("in", 1)]).await.expect("the broker is there")
    });
    assert_eq!(committed, [Some(offset(7, "v1|meta")), None]);
    cluster.settle(ms(10));
    assert_eq!(cluster.values("out"), ["a", "b"]);
    // Two records and a marker.
    assert_eq!(cluster.broker.bounds(&tp("out", 0)), Ok(Bounds { low: 0, stable: 3, high: 3 }));
}

#[test]
fn an_open_transaction_is_not_visible_and_holds_later_records_back() {
    let cluster = Cluster::new(2, ModelFaults::none());
    let log = cluster.client(1);
    let producer = cluster.run(1, async move { open_with(&log, "id", &batch("out", 0, &["open"])).await });
    cluster.broker.append(&tp("out", 0), 0, None, Some(b"behind")).expect("the partition is there");
    assert_eq!(cluster.broker.bounds(&tp("out", 0)), Ok(Bounds { low: 0, stable: 0, high: 2 }));
    assert_eq!(cluster.values("out"), Vec::<String>::new());
    cluster
        .run(1, async move {
            let mut producer = producer;
            producer.commit().await
        })
        .expect("nothing is in the way");
    cluster.settle(ms(10));
    assert_eq!(cluster.values("out"), ["open", "behind"]);
}

#[test]
fn aborted_records_are_skipped_by_readers() {
    let cluster = Cluster::new(3, ModelFaults::none());
    let log = cluster.client(1);
    let seen = cluster.run(1, async move {
        let mut producer = open_with(&log, "id", &batch("out", 0, &["no", "no"])).await;
        producer.send_offsets("group", &[(tp("in", 0), offset(9, ""))]).await.expect("offsets are taken");
        producer.abort().await.expect("a clean stop");
        producer.begin().expect("the next transaction");
        send_all(producer.as_mut(), &batch("out", 0, &["yes"])).await.expect("records are taken");
        producer.commit().await.expect("nothing is in the way");
        let mut consumer = log.consumer(&[(tp("out", 0), 0)]).await.expect("the topic is there");
        let seen = read(consumer.as_mut(), 1).await;
        (seen, log.committed("group", &[tp("in", 0)]).await)
    });
    // 0 and 1 aborted, 2 the abort marker.
    assert_eq!(seen, (vec![(0, 3, "yes".to_owned())], Ok(vec![None])));
}

#[test]
fn a_new_producer_fences_the_old_one_and_aborts_what_it_left() {
    let cluster = Cluster::new(4, ModelFaults::none());
    let log = cluster.client(1);
    let errors = cluster.run(1, async move {
        let mut old = open_with(&log, "id", &batch("out", 0, &["old"])).await;
        let mut new = open_with(&log, "id", &batch("out", 0, &["new"])).await;
        let offsets = old.send_offsets("group", &[(tp("in", 0), offset(1, ""))]).await;
        let commit = old.commit().await;
        let begin = old.begin();
        new.commit().await.expect("the new one holds the id");
        [offsets, commit, begin]
    });
    for error in errors {
        assert!(matches!(error, Err(LogError::Fenced(_))), "{error:?}");
    }
    cluster.settle(ms(10));
    assert_eq!(cluster.values("out"), ["new"]);
}

#[test]
fn fencing_needs_no_producer_and_may_be_done_twice() {
    let cluster = Cluster::new(5, ModelFaults::none());
    let log = cluster.client(1);
    let commit = cluster.run(1, async move {
        let ids = ["a".to_owned(), "never-used".to_owned(), "b".to_owned()];
        let mut a = open_with(&log, "a", &batch("out", 0, &["a"])).await;
        let mut other = open_with(&log, "other", &batch("out", 1, &["other"])).await;
        log.fence(&ids).await.expect("the broker is there");
        log.fence(&ids).await.expect("it is idempotent");
        other.commit().await.expect("another id is not touched");
        a.commit().await
    });
    assert!(matches!(commit, Err(LogError::Fenced(_))), "{commit:?}");
    cluster.settle(ms(10));
    assert_eq!(cluster.values("out"), ["other"]);
}

#[test]
fn a_decided_commit_completes_before_a_successor_begins() {
    let cluster = Cluster::new(
        6,
        with(|faults| {
            faults.late_marker_rate = 1000;
            faults.late_marker = (ms(500), ms(500));
        }),
    );
    let log = cluster.client(1);
    let env = cluster.sim.env(NodeId(1));
    let times = cluster.run(1, async move {
        use freshet_env::Env;
        let mut old = open_with(&log, "id", &batch("out", 0, &["old"])).await;
        old.send_offsets("group", &[(tp("in", 0), offset(5, "old"))]).await.expect("offsets are taken");
        let before = env.monotonic();
        old.commit().await.expect("a commit is answered when it is decided");
        let answered = env.monotonic() - before;
        let _new = log.producer("id").await.expect("it waits, and is not refused");
        let initialised = env.monotonic() - before;
        let committed = log.committed("group", &[tp("in", 0)]).await.expect("the broker is there");
        assert_eq!(committed, [Some(offset(5, "old"))], "what is decided is never taken back");
        (answered, initialised)
    });
    assert!(times.0 < ms(10) && times.1 >= ms(500), "{times:?}");
    assert_eq!(cluster.values("out"), ["old"]);
}

#[test]
fn stable_reads_wait_for_pending_offsets() {
    let cluster = Cluster::new(
        7,
        with(|faults| {
            faults.late_marker_rate = 1000;
            faults.late_marker = (ms(500), ms(500));
        }),
    );
    let (writer, reader) = (cluster.client(1), cluster.client(2));
    let mut producer = cluster.run(1, async move {
        let mut producer = open_with(&writer, "id", &batch("out", 0, &["a"])).await;
        producer.send_offsets("group", &[(tp("in", 0), offset(3, ""))]).await.expect("offsets are taken");
        producer
    });
    let others = cluster.run(2, {
        let reader = reader.clone();
        async move { (reader.committed("group", &[tp("in", 1)]).await, reader.committed("other", &[tp("in", 0)]).await) }
    });
    assert_eq!(others, (Ok(vec![None]), Ok(vec![None])), "nothing is pending on these");
    let waiting =
        cluster.sim.spawn("reader", NodeId(2), async move { reader.committed("group", &[tp("in", 0)]).await });
    cluster.settle(ms(2000));
    assert!(!waiting.is_finished(), "an open transaction is pending on the offset");
    cluster.run(1, async move { producer.commit().await }).expect("nothing is in the way");
    cluster.settle(ms(100));
    assert!(!waiting.is_finished(), "it is decided, and not visible yet");
    cluster.settle(ms(600));
    assert_eq!(waiting.take(), Some(Ok(vec![Some(offset(3, ""))])));
}

#[test]
fn a_lost_reply_leaves_the_outcome_open_and_the_commit_done() {
    let cluster = Cluster::new(8, ModelFaults::none());
    let log = cluster.client(1);
    let mut producer = cluster.run(1, {
        let log = log.clone();
        async move { open_with(&log, "id", &batch("out", 0, &["a"])).await }
    });
    cluster.broker.set_faults(with(|faults| faults.lose_reply_rate = 1000));
    let commit = cluster.run(1, async move { producer.commit().await });
    assert!(matches!(commit, Err(LogError::Indefinite(_))), "{commit:?}");
    cluster.broker.set_faults(ModelFaults::none());
    cluster.run(1, async move { log.producer("id").await.map(|_| ()) }).expect("the broker is there");
    assert_eq!(cluster.values("out"), ["a"]);
}

#[test]
fn a_lost_request_leaves_the_outcome_open_and_nothing_done() {
    let cluster = Cluster::new(9, ModelFaults::none());
    let log = cluster.client(1);
    let mut producer = cluster.run(1, {
        let log = log.clone();
        async move { open_with(&log, "id", &batch("out", 0, &["a"])).await }
    });
    cluster.broker.set_faults(with(|faults| faults.lose_request_rate = 1000));
    let commit = cluster.run(1, async move { producer.commit().await });
    assert!(matches!(commit, Err(LogError::Indefinite(_))), "{commit:?}");
    cluster.broker.set_faults(ModelFaults::none());
    cluster.run(1, async move { log.producer("id").await.map(|_| ()) }).expect("the broker is there");
    assert_eq!(cluster.values("out"), Vec::<String>::new());
}

#[test]
fn a_commit_may_arrive_after_its_client_gave_up() {
    let slow = with(|faults| {
        faults.slow_rate = 1000;
        faults.slow = (ms(3000), ms(3000));
        faults.request_timeout = ms(1000);
    });
    for successor_first in [false, true] {
        let cluster = Cluster::new(10, ModelFaults::none());
        let log = cluster.client(1);
        let mut producer = cluster.run(1, {
            let log = log.clone();
            async move { open_with(&log, "id", &batch("out", 0, &["a"])).await }
        });
        cluster.broker.set_faults(slow.clone());
        let commit = cluster.run(1, async move { producer.commit().await });
        assert!(matches!(commit, Err(LogError::Indefinite(_))), "{commit:?}");
        assert_eq!(cluster.values("out"), Vec::<String>::new());
        cluster.broker.set_faults(ModelFaults::none());
        if successor_first {
            cluster.run(1, async move { log.producer("id").await.map(|_| ()) }).expect("the broker is there");
        }
        cluster.settle(ms(4000));
        let expected: &[&str] = if successor_first { &[] } else { &["a"] };
        assert_eq!(cluster.values("out"), expected, "successor first: {successor_first}");
    }
}

#[test]
fn a_dead_clients_commit_may_arrive_all_the_same() {
    for (rate, expected) in [(0, &[][..]), (1000, &["a"][..])] {
        let cluster = Cluster::new(
            11,
            with(|faults| {
                faults.outlive_client_rate = rate;
                faults.slow = (ms(100), ms(200));
            }),
        );
        let log = cluster.client(1);
        let mut producer = cluster.run(1, async move { open_with(&log, "id", &batch("out", 0, &["a"])).await });
        cluster.sim.spawn("committer", NodeId(1), async move { producer.commit().await.map_err(|_| ()) });
        // One poll begins the commit, a second one sends it.
        cluster.sim.arm_poll(NodeId(1), 2, freshet_env::sim::NodeFault::Kill, |_| {});
        cluster.settle(ms(500));
        assert_eq!(cluster.sim.tasks_of(NodeId(1)), 0);
        assert_eq!(cluster.values("out"), expected);
    }
}

#[test]
fn records_that_a_dead_client_had_not_sent_are_lost_from_the_end() {
    let mut kept = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let cluster = Cluster::new(seed, with(|faults| faults.outlive_client_rate = 800));
        let log = cluster.client(1);
        cluster.sim.spawn("sender", NodeId(1), async move {
            let mut producer = log.producer("id").await.expect("the broker is there");
            producer.begin().expect("a new producer can begin");
            for value in ["a", "b", "c"] {
                send_all(producer.as_mut(), &batch("out", 0, &[value])).await.expect("records are taken");
            }
            std::future::pending::<()>().await;
        });
        let sent = |cluster: &Cluster| !cluster.broker.open_transactions().is_empty();
        cluster.sim.run_until(ms(100), |_| sent(&cluster));
        cluster.sim.kill(NodeId(1));
        cluster.settle(ms(100));
        let high = cluster.broker.bounds(&tp("out", 0)).expect("the partition is there").high;
        assert_eq!(cluster.values("out"), Vec::<String>::new(), "they stay in the open transaction");
        kept.insert(high);
        let log = cluster.client(2);
        cluster.run(2, async move { log.fence(&["id".to_owned()]).await }).expect("the broker is there");
        assert_eq!(cluster.values("out"), Vec::<String>::new());
        assert!(cluster.broker.open_transactions().is_empty());
    }
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_transaction_that_stays_open_is_timed_out() {
    let cluster = Cluster::new(12, with(|faults| faults.transaction_timeout = Some(ms(1000))));
    let log = cluster.client(1);
    let mut producer = cluster.run(1, async move { open_with(&log, "id", &batch("out", 0, &["a"])).await });
    cluster.settle(ms(900));
    assert_eq!(cluster.broker.open_transactions(), ["id"]);
    cluster.settle(ms(200));
    assert!(cluster.broker.open_transactions().is_empty());
    let commit = cluster.run(1, async move { producer.commit().await });
    assert!(matches!(commit, Err(LogError::Fenced(_))), "{commit:?}");
    assert_eq!(cluster.values("out"), Vec::<String>::new());
}

#[test]
fn the_time_out_of_an_ended_transaction_does_not_hit_the_next() {
    let cluster = Cluster::new(13, with(|faults| faults.transaction_timeout = Some(ms(1000))));
    let log = cluster.client(1);
    let env = cluster.sim.env(NodeId(1));
    let commit = cluster.run(1, async move {
        use freshet_env::Env;
        let mut producer = open_with(&log, "id", &batch("out", 0, &["a"])).await;
        env.sleep(ms(800)).await;
        producer.commit().await.expect("in time");
        producer.begin().expect("the next transaction");
        send_all(producer.as_mut(), &batch("out", 0, &["b"])).await.expect("records are taken");
        env.sleep(ms(800)).await;
        producer.commit().await
    });
    assert_eq!(commit, Ok(()));
    cluster.settle(ms(2000));
    assert_eq!(cluster.values("out"), ["a", "b"]);
}

#[test]
fn a_strangers_hanging_transaction_freezes_the_partition() {
    let cluster = Cluster::new(14, ModelFaults::none());
    let partition = tp("in", 0);
    cluster.broker.append(&partition, 0, None, Some(b"before")).expect("the partition is there");
    let hanging = cluster.broker.hang_transaction(&partition).expect("the partition is there");
    cluster.broker.append(&partition, 0, None, Some(b"after")).expect("the partition is there");
    cluster.settle(ms(200_000));
    assert_eq!(cluster.broker.bounds(&partition), Ok(Bounds { low: 0, stable: 1, high: 3 }));
    cluster.broker.end_hanging(&hanging, false);
    cluster.settle(ms(10));
    assert_eq!(cluster.values("in"), ["before", "after"]);
}

#[test]
fn of_two_pending_offsets_the_later_arrival_wins() {
    let cluster = Cluster::new(15, ModelFaults::none());
    let log = cluster.client(1);
    let committed = cluster.run(1, async move {
        let mut first = open_with(&log, "first", &batch("out", 0, &["a"])).await;
        let mut second = open_with(&log, "second", &batch("out", 1, &["b"])).await;
        first.send_offsets("group", &[(tp("in", 0), offset(1, "first"))]).await.expect("offsets are taken");
        second.send_offsets("group", &[(tp("in", 0), offset(2, "second"))]).await.expect("offsets are taken");
        second.commit().await.expect("nothing is in the way");
        first.commit().await.expect("nothing is in the way");
        log.committed("group", &[tp("in", 0)]).await
    });
    assert_eq!(committed, Ok(vec![Some(offset(2, "second"))]));
}

#[test]
fn metadata_that_is_too_long_is_refused() {
    let cluster = Cluster::new(16, ModelFaults::none());
    let log = cluster.client(1);
    let (fits, long) = cluster.run(1, async move {
        let mut producer = open_with(&log, "id", &batch("out", 0, &["a"])).await;
        let fits = producer.send_offsets("group", &[(tp("in", 0), offset(1, &"m".repeat(4096)))]).await;
        (fits, producer.send_offsets("group", &[(tp("in", 0), offset(1, &"m".repeat(4097)))]).await)
    });
    assert_eq!(fits, Ok(()));
    assert!(matches!(long, Err(LogError::Refused(_))), "{long:?}");
}

#[test]
fn markers_of_one_commit_may_come_at_different_times() {
    let mut first_partition_first = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let cluster = Cluster::new(
            seed,
            with(|faults| {
                faults.late_marker_rate = 1000;
                faults.late_marker = (ms(10), ms(1000));
            }),
        );
        let log = cluster.client(1);
        cluster.run(1, async move {
            let mut producer = open_with(&log, "id", &batch("out", 0, &["a"])).await;
            send_all(producer.as_mut(), &batch("out", 1, &["b"])).await.expect("records are taken");
            producer.commit().await.expect("nothing is in the way");
        });
        let seen = |partition| cluster.broker.bounds(&tp("out", partition)).expect("it is there").stable > 0;
        cluster.sim.run_until(ms(5000), |_| seen(0) || seen(1));
        first_partition_first.insert(seen(0));
        cluster.settle(ms(1100));
        assert_eq!(cluster.values("out"), ["a", "b"]);
    }
    assert_eq!(first_partition_first.len(), 2);
}

#[test]
fn a_full_queue_takes_less_and_drains() {
    let cluster = Cluster::new(17, with(|faults| faults.queue_records = 3));
    let log = cluster.client(1);
    let (taken, none, rest) = cluster.run(1, async move {
        let batch = batch("out", 0, &["1", "2", "3", "4", "5"]);
        let mut producer = log.producer("id").await.expect("the broker is there");
        producer.begin().expect("a new producer can begin");
        let taken = producer.send(&batch, 0).expect("records are taken");
        let none = producer.send(&batch, taken).expect("it is full, and that is no error");
        assert_eq!(producer.in_flight(), 3);
        producer.drained().await.expect("the broker is there");
        producer.acknowledged().await.expect("the broker is there");
        let rest = producer.send(&batch, taken).expect("records are taken");
        producer.commit().await.expect("nothing is in the way");
        (taken, none, rest)
    });
    assert_eq!((taken, none, rest), (3, 0, 2));
    cluster.settle(ms(10));
    assert_eq!(cluster.values("out"), ["1", "2", "3", "4", "5"]);
}

#[test]
fn records_that_are_not_acknowledged_spoil_the_transaction() {
    let cluster = Cluster::new(18, with(|faults| faults.lose_records_rate = 1000));
    let log = cluster.client(1);
    let (acknowledged, commit) = cluster.run(1, async move {
        let mut producer = log.producer("id").await.expect("the broker is there");
        producer.begin().expect("a new producer can begin");
        send_all(producer.as_mut(), &batch("out", 0, &["a"])).await.expect("records are taken");
        (producer.acknowledged().await, producer.commit().await)
    });
    assert!(matches!(acknowledged, Err(LogError::Indefinite(_))), "{acknowledged:?}");
    assert!(matches!(commit, Err(LogError::Indefinite(_))), "{commit:?}");
}

#[test]
fn nothing_is_sent_outside_of_a_transaction() {
    let cluster = Cluster::new(19, ModelFaults::none());
    let log = cluster.client(1);
    let sent = cluster.run(1, async move {
        let mut producer = log.producer("id").await.expect("the broker is there");
        producer.send(&batch("out", 0, &["a"]), 0)
    });
    assert!(matches!(sent, Err(LogError::Refused(_))), "{sent:?}");
}

#[test]
fn a_reader_waits_behind_an_open_transaction_and_wakes_at_its_end() {
    let cluster = Cluster::new(20, ModelFaults::none());
    let (writer, reader) = (cluster.client(1), cluster.client(2));
    let mut producer = cluster.run(1, async move { open_with(&writer, "id", &batch("out", 0, &["a"])).await });
    let mut consumer = cluster.run(2, async move {
        let mut consumer = reader.consumer(&[(tp("out", 0), 0)]).await.expect("the topic is there");
        let first = consumer.next().await.expect("the log is there");
        assert_eq!((records(&first).len(), first.at_end, first.high), (0, true, 0));
        consumer
    });
    let waiting = cluster.sim.spawn("reader", NodeId(2), async move { read(consumer.as_mut(), 1).await });
    cluster.settle(ms(1000));
    assert!(!waiting.is_finished());
    cluster.run(1, async move { producer.commit().await }).expect("nothing is in the way");
    cluster.settle(ms(20));
    assert_eq!(waiting.take(), Some(vec![(0, 0, "a".to_owned())]));
}
