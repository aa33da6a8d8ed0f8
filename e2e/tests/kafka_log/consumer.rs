//! Reading: every record once and in order, ends, positions that are gone, back-pressure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freshet_kafka::bulk::{Loader, read_committed};
use freshet_log::{Log, LogError, Outgoing, TopicPartition};
use rdkafka::admin::{AdminClient, AdminOptions};

use crate::shared::*;

/// The key of record `number`: every seventh has none, every eleventh an empty one.
fn key(number: u64) -> Option<Vec<u8>> {
    match number {
        n if n % 7 == 0 => None,
        n if n % 11 == 0 => Some(Vec::new()),
        n => Some(format!("key-{n}").into_bytes()),
    }
}

/// The value of record `number`: every thirteenth is a tombstone, the others differ in length.
fn value(number: u64) -> Option<Vec<u8>> {
    (!number.is_multiple_of(13)).then(|| format!("{number:0>width$}", width = (number % 97) as usize).into_bytes())
}

/// Loads records 0..`count`, record n into partition n mod `partitions`.
fn load(topic: &str, partitions: u64, count: u64) {
    let mut loader = Loader::new(&config()).unwrap();
    for from in (0..count).step_by(10_000) {
        let mut batch = Outgoing::new(vec![topic.to_owned()]);
        for number in from..(from + 10_000).min(count) {
            let (key, value) = (key(number), value(number));
            let partition = (number % partitions) as u32;
            batch.push(0, partition, 1_000 + number as i64, key.as_deref(), value.as_deref());
        }
        loader.send(&batch).unwrap();
    }
    loader.finish().unwrap();
}

#[test]
fn two_hundred_thousand_records_arrive_once_in_order_and_unchanged() {
    const COUNT: u64 = 200_000;
    const PARTITIONS: u64 = 4;
    run(async {
        let log = log();
        let topic = topic(&log, "many", PARTITIONS as u32).await;
        load(&topic, PARTITIONS, COUNT);

        let positions: Vec<_> = (0..PARTITIONS).map(|number| (TopicPartition::new(&topic, number as u32), 0)).collect();
        let mut consumer = log.consumer(&positions).await.unwrap();
        let mut next: BTreeMap<u32, i64> = BTreeMap::new();
        let (mut seen, mut batches) = (0, 0);
        let mut at_end = [false; PARTITIONS as usize];
        let started = Instant::now();
        while !at_end.iter().all(|end| *end) {
            let batch = within("a batch", consumer.next()).await.unwrap();
            let partition = batch.partition.partition;
            let expected = next.entry(partition).or_insert(0);
            for record in &batch.records {
                assert_eq!(record.offset, *expected, "{}", batch.partition);
                let number = *expected as u64 * PARTITIONS + u64::from(partition);
                assert_eq!(batch.key(record), key(number).as_deref(), "key of record {number}");
                assert_eq!(batch.value(record), value(number).as_deref(), "value of record {number}");
                assert_eq!(record.timestamp_ms, 1_000 + number as i64);
                *expected += 1;
                seen += 1;
            }
            assert!(batch.next_offset >= *expected && batch.high >= batch.next_offset);
            at_end[partition as usize] = batch.at_end;
            batches += 1;
        }
        println!("{seen} records in {batches} batches in {:?}", started.elapsed());
        assert_eq!(seen, COUNT);

        let mut recounted = 0;
        let shown = read_committed(&config(), &topic, |batch| recounted += batch.records.len() as u64).unwrap();
        assert_eq!((shown, recounted), (COUNT, COUNT));
    });
}

#[test]
fn a_reader_at_the_end_hears_of_the_next_record_soon_and_passes_markers() {
    run(async {
        let log = log();
        let topic = topic(&log, "tail", 1).await;
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        commit(&mut producer, &values(&topic, &["a"])).await;
        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["aborted", "too"])).await;
        producer.acknowledged().await.unwrap();
        producer.abort().await.unwrap();
        // Record, its marker, two aborted records, their marker.
        stable_at(&log, &topic, 5).await;

        let mut consumer = log.consumer(&[(TopicPartition::new(&topic, 0), 0)]).await.unwrap();
        let last = until_end(&mut consumer).await.pop().unwrap();
        assert_eq!((last.next_offset, last.high), (5, 5), "the position is not past what is invisible");

        let mut delays = Vec::new();
        for number in 0..20 {
            commit(&mut producer, &values(&topic, &["b"])).await;
            let committed = Instant::now();
            loop {
                let batch = within("the record", consumer.next()).await.unwrap();
                if !batch.records.is_empty() {
                    assert_eq!(batch.records[0].offset, 5 + 2 * number);
                    break;
                }
            }
            delays.push(committed.elapsed());
        }
        delays.sort();
        println!("commit to reader: p50 {:?}, worst {:?}", delays[10], delays[19]);
    });
}

#[test]
fn a_position_that_is_gone_is_an_error_with_what_is_left() {
    run(async {
        let log = log();
        let topic = topic(&log, "gone", 1).await;
        let place = TopicPartition::new(&topic, 0);
        load(&topic, 1, 1_000);
        log.delete_records(&[(place.clone(), 600)]).await.unwrap();
        assert_eq!(log.bounds(&place).await.unwrap().low, 600);

        let mut consumer = log.consumer(&[(place.clone(), 100)]).await.unwrap();
        let gone = within("the error", consumer.next()).await.expect_err("offset 100 was deleted");
        let expected = LogError::OffsetGone { partition: place.clone(), wanted: 100, low: 600, high: 1_000 };
        assert_eq!(gone, expected);
        // It stays an error: nothing is ever read from elsewhere.
        assert_eq!(within("the error again", consumer.next()).await.expect_err("still gone"), expected);

        let mut beyond = log.consumer(&[(place.clone(), 5_000)]).await.unwrap();
        let gone = within("the error", beyond.next()).await.expect_err("offset 5000 never was");
        assert_eq!(gone, LogError::OffsetGone { partition: place.clone(), wanted: 5_000, low: 600, high: 1_000 });

        let mut there = log.consumer(&[(place, 600)]).await.unwrap();
        assert_eq!(within("a batch", there.next()).await.unwrap().records[0].offset, 600);
    });
}

#[test]
fn an_empty_partition_says_that_it_is_at_its_end() {
    run(async {
        let log = log();
        let topic = topic(&log, "empty", 1).await;
        let mut consumer = log.consumer(&[(TopicPartition::new(&topic, 0), 0)]).await.unwrap();
        let batch = within("the end", consumer.next()).await.unwrap();
        assert!(batch.at_end && batch.records.is_empty());
        assert_eq!((batch.next_offset, batch.high), (0, 0));
    });
}

#[test]
fn a_topic_or_partition_that_is_not_there_is_said() {
    run(async {
        let log = log();
        let topic = topic(&log, "here", 2).await;
        for place in [TopicPartition::new(unique("nowhere"), 0), TopicPartition::new(&topic, 2)] {
            let Err(error) = log.consumer(&[(place, 0)]).await else { panic!("a reader of nothing") };
            assert!(matches!(error, LogError::UnknownTopic(_)), "{error}");
        }
    });
}

#[test]
fn a_topic_that_is_deleted_under_its_reader_is_said() {
    run(async {
        let log = freshet_kafka::KafkaLog::connect(impatient(), env()).unwrap();
        let topic = topic(&log, "deleted", 1).await;
        load(&topic, 1, 10);
        let mut consumer = log.consumer(&[(TopicPartition::new(&topic, 0), 0)]).await.unwrap();
        until_end(&mut consumer).await;
        let admin: AdminClient<_> =
            rdkafka::ClientConfig::new().set("bootstrap.servers", broker().bootstrap()).create().unwrap();
        admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let error = within("the error", async {
            loop {
                if let Err(error) = consumer.next().await {
                    return error;
                }
            }
        });
        let error = error.await;
        assert!(matches!(error, LogError::UnknownTopic(_)), "{error}");
    });
}

#[test]
fn a_reader_that_is_not_read_holds_a_bounded_part() {
    run(async {
        let mut config = config();
        config.fetch_buffer_bytes = 2 << 20;
        let log = freshet_kafka::KafkaLog::connect(config, env()).unwrap();
        let topic = topic(&log, "slow", 1).await;
        let mut loader = Loader::new(&crate::shared::config()).unwrap();
        for round in 0..100_i64 {
            let mut batch = Outgoing::new(vec![topic.clone()]);
            for number in 0..100_i64 {
                let name = (round * 100 + number).to_string();
                batch.push(0, 0, 1, Some(name.as_bytes()), Some(&[3; 10_000]));
            }
            loader.send(&batch).unwrap();
        }
        loader.finish().unwrap();

        let before = resident_mb();
        let mut consumer = log.consumer(&[(TopicPartition::new(&topic, 0), 0)]).await.unwrap();
        let mut next = 0;
        // 100 MB wait in the topic; a slot that takes one batch a while must not make them all come.
        for _ in 0..10 {
            let batch = within("a batch", consumer.next()).await.unwrap();
            next = batch.next_offset;
            env().sleep(Duration::from_millis(100)).await;
        }
        let held = resident_mb().saturating_sub(before);
        assert!(held < 60, "{held} MB are held for a reader with a buffer of 2 MB");
        let mut paused = 0;
        consumer.set_paused(true);
        while let Some(batch) = freshet_env::deadline(&env(), Duration::from_millis(600), consumer.next()).await {
            assert_eq!(batch.as_ref().unwrap().records[0].offset, next);
            next = batch.unwrap().next_offset;
            paused += 1;
        }
        assert!(next < 10_000, "everything came although the reader was paused after {paused} batches");
        consumer.set_paused(false);
        while next < 10_000 {
            let batch = within("the rest", consumer.next()).await.unwrap();
            if let Some(record) = batch.records.first() {
                assert_eq!(record.offset, next, "records are lost or doubled by the pause");
            }
            next = batch.next_offset;
        }
    });
}

/// Resident memory of this process in MB.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn dropping_a_reader_or_its_future_loses_nothing_and_takes_no_time() {
    run(async {
        let log = log();
        let topic = topic(&log, "dropped", 1).await;
        load(&topic, 1, 50_000);
        let place = TopicPartition::new(&topic, 0);
        let mut consumer = log.consumer(&[(place.clone(), 0)]).await.unwrap();
        let mut next = 0;
        while next < 50_000 {
            // A future that is dropped at its first wait, again and again.
            let taken = freshet_env::deadline(&env(), Duration::from_micros(50), consumer.next()).await;
            if let Some(batch) = taken {
                let batch = batch.unwrap();
                if let Some(record) = batch.records.first() {
                    assert_eq!(record.offset, next);
                }
                next = batch.next_offset;
            }
        }
        let started = Instant::now();
        drop(consumer);
        assert!(
            started.elapsed() < Duration::from_millis(100),
            "dropping blocked the slot for {:?}",
            started.elapsed()
        );
    });
}

#[test]
fn an_idle_reader_and_producer_cost_next_to_nothing() {
    run(async {
        let log = log();
        let topic = topic(&log, "idle", 4).await;
        let positions: Vec<_> = (0..4).map(|number| (TopicPartition::new(&topic, number), 0)).collect();
        let mut consumer = log.consumer(&positions).await.unwrap();
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        commit(&mut producer, &values(&topic, &["x"])).await;
        let quiet = Duration::from_secs(3);
        while freshet_env::deadline(&env(), Duration::from_secs(1), consumer.next()).await.is_some() {}
        let (before, started) = (cpu_time(), Instant::now());
        let spurious = freshet_env::deadline(&env(), quiet, consumer.next()).await;
        assert!(spurious.is_none(), "nothing happened, and yet there is {spurious:?}");
        let busy = cpu_time().saturating_sub(before);
        // Only a figure: tests beside this one may be at work in the same process.
        println!("idle: {:.2} % of a core", 100.0 * busy.as_secs_f64() / started.elapsed().as_secs_f64());
        drop(producer);
    });
}

/// CPU time that this process's threads have used.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |path: std::path::PathBuf| {
        // A thread may end while we look.
        let stat = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        stat.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.map(|task| of_task(task.unwrap().path())).sum())
}
