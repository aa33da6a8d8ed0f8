//! Topics, start positions and settings.

use freshet_kafka::{KafkaConfig, KafkaLog};
use freshet_log::{Log, LogError, StartPosition, TopicPartition, TopicSpec};

use crate::shared::*;

#[test]
fn topics_are_made_once_and_stay_as_they_are() {
    run(async {
        let log = log();
        let name = unique("made");
        let error = log.partition_count(&name).await.expect_err("nobody made it yet");
        assert!(matches!(error, LogError::UnknownTopic(_)), "{error}");
        let spec = |partitions| TopicSpec {
            name: name.clone(),
            partitions,
            replicas: Some(1),
            config: vec![("retention.ms".to_owned(), "-1".to_owned())],
        };
        log.ensure_topics(&[spec(3)]).await.unwrap();
        assert_eq!(log.partition_count(&name).await.unwrap(), 3);
        log.ensure_topics(&[spec(5)]).await.unwrap();
        assert_eq!(log.partition_count(&name).await.unwrap(), 3, "a topic that was there was changed");
    });
}

#[test]
fn a_topic_that_the_broker_refuses_is_said_with_its_name() {
    run(async {
        let log = log();
        let name = unique("refused");
        let spec = TopicSpec {
            name: name.clone(),
            partitions: 1,
            replicas: None,
            config: vec![("retention.ms".to_owned(), "soon".to_owned())],
        };
        let error = log.ensure_topics(&[spec]).await.expect_err("retention.ms=soon");
        assert!(matches!(&error, LogError::Refused(text) if text.contains(&name)), "{error}");
    });
}

#[test]
fn start_positions_resolve_to_offsets() {
    run(async {
        let log = log();
        let topic = topic(&log, "start", 1).await;
        let place = TopicPartition::new(&topic, 0);
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        // Times 1000, 1001, 1002 at offsets 0, 1, 2; the marker at 3.
        commit(&mut producer, &values(&topic, &["a", "b", "c"])).await;
        stable_at(&log, &topic, 4).await;
        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["open"])).await;
        producer.acknowledged().await.unwrap();

        let resolve = async |start| log.resolve(&place, start).await.unwrap();
        assert_eq!(resolve(StartPosition::Earliest).await, 0);
        assert_eq!(resolve(StartPosition::Latest).await, 4, "latest is not the last stable offset");
        assert_eq!(resolve(StartPosition::Timestamp(0)).await, 0);
        assert_eq!(resolve(StartPosition::Timestamp(1_001)).await, 1);
        // No record is that late; the marker is, since its time is the present.
        assert_eq!(resolve(StartPosition::Timestamp(9_000_000)).await, 3);
        assert_eq!(resolve(StartPosition::Timestamp(i64::MAX)).await, 4);
        producer.abort().await.unwrap();

        log.delete_records(&[(place.clone(), 2)]).await.unwrap();
        assert_eq!(resolve(StartPosition::Earliest).await, 2);
        assert_eq!(resolve(StartPosition::Timestamp(0)).await, 2);
    });
}

#[test]
fn a_setting_that_librdkafka_does_not_know_is_named_without_its_value() {
    let mut config = KafkaConfig::new("127.0.0.1:1", "x");
    config.extra.insert("no.such.setting".to_owned(), "hunter2".to_owned());
    let error = KafkaLog::connect(config, env()).expect_err("no such setting");
    let text = error.to_string();
    assert!(matches!(error, LogError::Refused(_)), "{text}");
    assert!(text.contains("no.such.setting") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_broker_that_is_not_there_is_not_available() {
    run(async {
        let mut config = KafkaConfig::new("127.0.0.1:1", "x");
        config.request_timeout = std::time::Duration::from_millis(500);
        let log = KafkaLog::connect(config, env()).unwrap();
        let error = within("an answer", log.partition_count("t")).await.expect_err("nobody listens there");
        assert!(matches!(error, LogError::Unavailable(_)), "{error}");
    });
}
