//! Transactions: what becomes visible, what never does, and who is fenced.

use std::time::{Duration, Instant};

use freshet_kafka::KafkaLog;
use freshet_log::{Header, Log, LogError, Outgoing, TopicPartition};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;

use crate::shared::*;

#[test]
fn a_commit_makes_records_visible_and_an_abort_never_does() {
    run(async {
        let log = log();
        let topic = topic(&log, "visible", 1).await;
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        commit(&mut producer, &values(&topic, &["one", "two"])).await;

        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["never"])).await;
        producer.acknowledged().await.unwrap();
        producer.abort().await.unwrap();

        commit(&mut producer, &values(&topic, &["three"])).await;
        assert_eq!(read_settled(&log, &topic).await, ["one", "two", "three"]);
    });
}

#[test]
fn an_open_transaction_is_hidden_and_holds_the_stable_end() {
    run(async {
        let log = log();
        let topic = topic(&log, "open", 1).await;
        let partition = TopicPartition::new(&topic, 0);
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["a", "b", "c"])).await;
        producer.acknowledged().await.unwrap();

        let bounds = log.bounds(&partition).await.unwrap();
        assert_eq!((bounds.low, bounds.stable, bounds.high), (0, 0, 3));
        assert!(read_all(&log, &topic).await.is_empty());

        producer.commit().await.unwrap();
        // The commit marker takes an offset too.
        stable_at(&log, &topic, 4).await;
        let bounds = log.bounds(&partition).await.unwrap();
        assert_eq!((bounds.low, bounds.stable, bounds.high), (0, 4, 4));
        assert_eq!(read_settled(&log, &topic).await, ["a", "b", "c"]);
    });
}

#[test]
fn a_successor_fences_and_what_was_open_is_aborted() {
    run(async {
        let log = log();
        let topic = topic(&log, "zombie", 1).await;
        let id = unique("tx");
        let mut zombie = log.producer(&id).await.unwrap();
        zombie.begin().unwrap();
        send_all(&mut zombie, &values(&topic, &["of the zombie"])).await;
        zombie.acknowledged().await.unwrap();

        let mut successor = log.producer(&id).await.unwrap();
        let refused = zombie.commit().await.expect_err("a zombie committed");
        assert!(matches!(refused, LogError::Fenced(_)), "{refused}");
        // And it stays so, whatever it tries.
        assert!(matches!(zombie.begin().expect_err("a zombie began"), LogError::Fenced(_)));

        commit(&mut successor, &values(&topic, &["of the successor"])).await;
        assert_eq!(read_settled(&log, &topic).await, ["of the successor"]);
    });
}

#[test]
fn a_zombie_that_writes_on_is_told_so() {
    run(async {
        let log = log();
        let topic = topic(&log, "writing-zombie", 1).await;
        let id = unique("tx");
        let mut zombie = log.producer(&id).await.unwrap();
        let _successor = log.producer(&id).await.unwrap();
        zombie.begin().unwrap();
        let sent = zombie.send(&values(&topic, &["late"]), 0);
        let refused = match sent {
            Ok(_) => match zombie.acknowledged().await {
                Ok(()) => zombie.commit().await.expect_err("a zombie committed"),
                Err(error) => error,
            },
            Err(error) => error,
        };
        assert!(matches!(refused, LogError::Fenced(_)), "{refused}");
        assert!(read_settled(&log, &topic).await.is_empty());
    });
}

#[test]
fn fencing_ids_aborts_them_all_and_is_idempotent() {
    run(async {
        let log = log();
        let topic = topic(&log, "fence", 1).await;
        let ids: Vec<String> = (0..12).map(|_| unique("tx")).collect();
        let mut zombies = Vec::new();
        for id in &ids[..3] {
            let mut producer = log.producer(id).await.unwrap();
            producer.begin().unwrap();
            send_all(&mut producer, &values(&topic, &["open"])).await;
            producer.acknowledged().await.unwrap();
            zombies.push(producer);
        }
        let started = Instant::now();
        within("the fences", log.fence(&ids)).await.unwrap();
        println!("fencing {} ids took {:?}", ids.len(), started.elapsed());
        within("the fences again", log.fence(&ids)).await.unwrap();
        // Three records and a marker of each abort: all stable, though nobody ended the transactions.
        stable_at(&log, &topic, 6).await;
        for mut zombie in zombies {
            assert!(matches!(zombie.commit().await.expect_err("a zombie committed"), LogError::Fenced(_)));
        }
        assert!(read_settled(&log, &topic).await.is_empty());
    });
}

#[test]
fn a_transaction_that_the_broker_timed_out_is_fenced() {
    run(async {
        let mut config = config();
        config.transaction_timeout = Duration::from_secs(1);
        let log = KafkaLog::connect(config, env()).unwrap();
        let topic = topic(&log, "timed-out", 1).await;
        let partition = TopicPartition::new(&topic, 0);
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["slow"])).await;
        producer.acknowledged().await.unwrap();
        within("the broker to time the transaction out", async {
            while log.bounds(&partition).await.unwrap().stable == 0 {
                env().sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let refused = producer.commit().await.expect_err("a timed-out transaction was committed");
        assert!(matches!(refused, LogError::Fenced(_) | LogError::Indefinite(_)), "{refused}");
        assert!(read_settled(&log, &topic).await.is_empty());
    });
}

#[test]
fn keys_values_times_and_headers_arrive_as_they_were_sent() {
    run(async {
        let log = log();
        let topic = topic(&log, "headers", 2).await;
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        let mut batch = Outgoing::new(vec![topic.clone()]);
        batch.push(0, 1, 1_234, Some(b"key"), Some(b"value"));
        batch.set_headers(vec![
            Header { name: "freshet-error-reason", value: b"not JSON".to_vec() },
            Header { name: "freshet-error-offset", value: b"7".to_vec() },
        ]);
        batch.push(0, 1, 0, Some(b""), Some(b""));
        batch.push(0, 1, 1_235, None, None);
        commit(&mut producer, &batch).await;

        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", broker().bootstrap())
            .set("group.id", unique("plain"))
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(&topic, 1, rdkafka::Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let next = || consumer.poll(PATIENCE).expect("a record within the deadline").unwrap();
        let first = next();
        assert_eq!((first.key(), first.payload()), (Some(&b"key"[..]), Some(&b"value"[..])));
        assert_eq!(first.timestamp().to_millis(), Some(1_234));
        let headers: Vec<_> =
            first.headers().unwrap().iter().map(|header| (header.key, text(header.value.unwrap()))).collect();
        assert_eq!(
            headers,
            [("freshet-error-reason", "not JSON".to_owned()), ("freshet-error-offset", "7".to_owned())]
        );
        let empty = next();
        assert_eq!((empty.key(), empty.payload()), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!(empty.timestamp().to_millis(), Some(1), "time 0 must not become the present");
        let tombstone = next();
        assert_eq!((tombstone.key(), tombstone.payload()), (None, None));
    });
}

#[test]
fn a_full_queue_takes_a_part_and_the_rest_after_it_drained() {
    run(async {
        let mut config = config();
        config.send_buffer_bytes = 1 << 20;
        let log = KafkaLog::connect(config, env()).unwrap();
        let topic = topic(&log, "full", 1).await;
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        let mut batch = Outgoing::new(vec![topic.clone()]);
        for number in 0..2_000_u32 {
            batch.push(0, 0, 1, Some(&number.to_be_bytes()), Some(&[7; 4_096]));
        }
        producer.begin().unwrap();
        let (mut sent, mut fills) = (0, 0);
        while sent < batch.records.len() {
            let taken = producer.send(&batch, sent).unwrap();
            sent += taken;
            if sent < batch.records.len() {
                fills += 1;
                assert!(producer.in_flight() <= 400, "{} records in a queue of 1 MiB", producer.in_flight());
                within("room", producer.drained()).await.unwrap();
            }
        }
        assert!(fills > 0, "8 MB went into a queue of 1 MiB at once");
        within("acknowledgements", producer.acknowledged()).await.unwrap();
        assert_eq!(producer.in_flight(), 0);
        within("the commit", producer.commit()).await.unwrap();

        settled(&log, &topic).await;
        let mut numbers = Vec::new();
        let mut consumer = log.consumer(&[(TopicPartition::new(&topic, 0), 0)]).await.unwrap();
        for batch in until_end(&mut consumer).await {
            numbers.extend(
                batch.records.iter().map(|record| u32::from_be_bytes(batch.key(record).unwrap().try_into().unwrap())),
            );
        }
        assert!(numbers.into_iter().eq(0..2_000), "records are lost, doubled or out of order");
    });
}

#[test]
fn what_can_never_be_written_is_refused_at_once() {
    run(async {
        let log = KafkaLog::connect(impatient(), env()).unwrap();
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        let missing = unique("missing");
        producer.begin().unwrap();
        let sent = producer.send(&values(&missing, &["x"]), 0);
        let refused = match sent {
            Ok(_) => within("the refusal", producer.acknowledged()).await.expect_err("a topic that is not there"),
            Err(error) => error,
        };
        assert!(matches!(refused, LogError::UnknownTopic(_)), "{refused}");

        // What is too large may be a batch: it is tried again in smaller ones, and then it can only be the record.
        let small = topic(&log, "small", 1).await;
        let mut batch = Outgoing::new(vec![small]);
        batch.push(0, 0, 1, None, Some(&vec![0; 3 << 20]));
        let mut refused = None;
        for _ in 0..3 {
            let mut producer = match log.producer(&unique("tx")).await {
                Ok(producer) => producer,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            };
            producer.begin().unwrap();
            let error = match producer.send(&batch, 0) {
                Ok(_) => within("the refusal", producer.acknowledged()).await.expect_err("3 MiB in a topic for 1 MiB"),
                Err(error) => error,
            };
            assert!(matches!(error, LogError::Indefinite(_)), "{error}");
        }
        let refused = refused.expect("a third producer for a record that can't be written");
        assert!(matches!(refused, LogError::Refused(_)), "{refused}");
    });
}

#[test]
fn small_transactions_take_milliseconds() {
    run(async {
        let log = log();
        let topic = topic(&log, "latency", 1).await;
        let input = TopicPartition::new(&topic, 0);
        let group = unique("group");
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        let mut times = Vec::new();
        for number in 0..100_i64 {
            let started = Instant::now();
            producer.begin().unwrap();
            send_all(&mut producer, &values(&topic, &["x"])).await;
            producer.acknowledged().await.unwrap();
            producer.send_offsets(&group, &[(input.clone(), offset(number + 1, "v1"))]).await.unwrap();
            producer.commit().await.unwrap();
            times.push(started.elapsed());
        }
        times.sort();
        println!("100 transactions: p50 {:?}, p99 {:?}", times[50], times[98]);
        let committed = log.committed(&group, &[input]).await.unwrap();
        assert_eq!(committed, [Some(offset(100, "v1"))]);
        assert_eq!(read_settled(&log, &topic).await.len(), 100);
    });
}

#[test]
fn why_no_connection_comes_about_is_told() {
    run(async {
        // The broker speaks no TLS at this port: to librdkafka all that follows are time-outs.
        let mut config = config();
        config.transaction_timeout = Duration::from_secs(1);
        config.extra.insert("security.protocol".to_owned(), "ssl".to_owned());
        let log = KafkaLog::connect(config, env()).unwrap();
        let error = log.producer(&unique("tls")).await.err().expect("no TLS, and it was let in");
        let LogError::Unavailable(text) = error else { panic!("{error}") };
        assert!(text.contains("handshake"), "{text}");
    });
}
