//! A broker that is killed or hangs: what was committed stays, what was not never shows, readers go on.

use std::time::{Duration, Instant};

use freshet_e2e::servers::{KafkaOptions, KafkaServer};
use freshet_kafka::{KafkaConfig, KafkaLog};
use freshet_log::{Log, LogError, TopicPartition};

use crate::shared::*;

#[test]
fn transactions_and_readers_survive_a_killed_broker() {
    let mut server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let config = KafkaConfig::new(server.bootstrap(), "outage");
    run(async move {
        let log = KafkaLog::connect(config, env()).unwrap();
        let topic = topic(&log, "killed", 1).await;
        let place = TopicPartition::new(&topic, 0);
        let (id, group) = (unique("tx"), unique("group"));
        let mut producer = log.producer(&id).await.unwrap();
        commit(&mut producer, &values(&topic, &["before"])).await;
        // A commit is confirmed before its marker is written: a reader that comes sooner finds an empty topic.
        settled(&log, &topic).await;
        let mut reader = log.consumer(&[(place.clone(), 0)]).await.unwrap();
        assert_eq!(texts_until_end(&mut reader).await, ["before"]);

        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["during"])).await;
        producer.acknowledged().await.unwrap();
        producer.send_offsets(&group, &[(place.clone(), offset(1, "during"))]).await.unwrap();
        server.kill9();
        let restarted = std::thread::spawn(move || {
            server.restart().unwrap();
            server
        });
        // Whether it goes through or not is the broker's luck; that it is one of the two is not.
        let outcome = within("the commit's outcome", producer.commit()).await;
        println!("the commit during the outage: {outcome:?}");
        let server = restarted.join().unwrap();
        drop(producer);

        let mut successor = within("a take-over", log.producer(&id)).await.unwrap();
        let committed = log.committed(&group, std::slice::from_ref(&place)).await.unwrap();
        let went_through = committed == [Some(offset(1, "during"))];
        assert!(went_through || committed == [None], "{committed:?}");
        assert!(went_through || outcome.is_err(), "a commit that was confirmed is not there");
        commit(&mut successor, &values(&topic, &["after"])).await;
        let expected: &[&str] = if went_through { &["before", "during", "after"] } else { &["before", "after"] };
        assert_eq!(read_settled(&log, &topic).await, expected, "records and offsets disagree");

        let back = Instant::now();
        let mut seen = Vec::new();
        while seen.last().map(String::as_str) != Some("after") {
            let batch = within("the reader to go on by itself", reader.next()).await.unwrap();
            seen.extend(batch.records.iter().map(|record| text(batch.value(record).unwrap())));
        }
        assert_eq!(seen, expected[1..]);
        println!("the reader went on after {:?}", back.elapsed());
        drop(server);
    });
}

#[test]
fn a_broker_that_hangs_makes_a_commit_indefinite_and_a_take_over_clears_it() {
    let server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let mut config = KafkaConfig::new(server.bootstrap(), "hanging");
    config.transaction_timeout = Duration::from_secs(2);
    run(async move {
        let log = KafkaLog::connect(config, env()).unwrap();
        let topic = topic(&log, "hanging", 1).await;
        let id = unique("tx");
        let mut producer = log.producer(&id).await.unwrap();
        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["unknown"])).await;
        producer.acknowledged().await.unwrap();
        server.freeze();
        let unknown = within("the commit to give up", producer.commit()).await.expect_err("nobody answered");
        assert!(matches!(unknown, LogError::Indefinite(_)), "{unknown}");
        // It must never be used again: a commit that is on its way could hit the next transaction.
        assert!(matches!(producer.begin().expect_err("it began again"), LogError::Indefinite(_)));
        server.thaw();
        drop(producer);

        let mut successor = within("a take-over", log.producer(&id)).await.unwrap();
        let before = read_settled(&log, &topic).await;
        assert!(before.is_empty() || before == ["unknown"], "{before:?}");
        commit(&mut successor, &values(&topic, &["after"])).await;
        let mut expected = before;
        expected.push("after".to_owned());
        assert_eq!(read_settled(&log, &topic).await, expected, "an old commit became visible after the take-over");
    });
}
