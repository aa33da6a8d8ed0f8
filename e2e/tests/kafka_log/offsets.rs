//! Committed offsets: with metadata, of several groups, together with the records or not at all.

use freshet_log::{Log, LogError, TopicPartition};

use crate::shared::*;

#[test]
fn offsets_of_two_groups_commit_with_the_records() {
    run(async {
        let log = log();
        let topic = topic(&log, "two-groups", 3).await;
        let places: Vec<_> = (0..3).map(|number| TopicPartition::new(&topic, number)).collect();
        let (first, second) = (unique("group"), unique("group"));
        assert_eq!(log.committed(&first, &places).await.unwrap(), [None, None, None]);

        let mut producer = log.producer(&unique("tx")).await.unwrap();
        producer.begin().unwrap();
        send_all(&mut producer, &values(&topic, &["x"])).await;
        producer.acknowledged().await.unwrap();
        let of_first = [(places[2].clone(), offset(30, "v1|4|7|0|object")), (places[0].clone(), offset(10, ""))];
        producer.send_offsets(&first, &of_first).await.unwrap();
        producer.send_offsets(&second, &[(places[1].clone(), offset(20, "ünïcode"))]).await.unwrap();
        producer.commit().await.unwrap();

        // In the order that was asked for, whatever order they were committed in.
        let asked = [places[1].clone(), places[2].clone(), places[0].clone()];
        assert_eq!(
            log.committed(&first, &asked).await.unwrap(),
            [None, Some(offset(30, "v1|4|7|0|object")), Some(offset(10, ""))]
        );
        assert_eq!(log.committed(&second, &asked).await.unwrap(), [Some(offset(20, "ünïcode")), None, None]);
    });
}

#[test]
fn an_aborted_transaction_leaves_offsets_as_they_were() {
    run(async {
        let log = log();
        let topic = topic(&log, "aborted-offsets", 1).await;
        let place = TopicPartition::new(&topic, 0);
        let group = unique("group");
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        producer.begin().unwrap();
        producer.send_offsets(&group, &[(place.clone(), offset(5, "kept"))]).await.unwrap();
        producer.commit().await.unwrap();
        producer.begin().unwrap();
        producer.send_offsets(&group, &[(place.clone(), offset(9, "dropped"))]).await.unwrap();
        producer.abort().await.unwrap();
        assert_eq!(log.committed(&group, &[place]).await.unwrap(), [Some(offset(5, "kept"))]);
    });
}

#[test]
fn reading_waits_for_a_pending_transaction_to_end() {
    run(async {
        let log = log();
        let topic = topic(&log, "pending", 1).await;
        let place = TopicPartition::new(&topic, 0);
        let group = unique("group");
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        producer.begin().unwrap();
        producer.send_offsets(&group, &[(place.clone(), offset(1, "first"))]).await.unwrap();
        producer.commit().await.unwrap();
        producer.begin().unwrap();
        producer.send_offsets(&group, &[(place.clone(), offset(2, "second"))]).await.unwrap();

        let places = [place];
        let mut reading = std::pin::pin!(log.committed(&group, &places));
        let early = freshet_env::deadline(&env(), std::time::Duration::from_millis(700), reading.as_mut()).await;
        assert!(early.is_none(), "offsets were read while a transaction was pending on them: {early:?}");
        producer.commit().await.unwrap();
        assert_eq!(within("stable offsets", reading).await.unwrap(), [Some(offset(2, "second"))]);
    });
}

#[test]
fn a_pending_transaction_that_never_ends_is_said() {
    run(async {
        let mut config = config();
        config.stable_timeout = std::time::Duration::from_millis(300);
        let log = freshet_kafka::KafkaLog::connect(config, env()).unwrap();
        let topic = topic(&log, "hanging", 1).await;
        let place = TopicPartition::new(&topic, 0);
        let group = unique("group");
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        producer.begin().unwrap();
        producer.send_offsets(&group, &[(place.clone(), offset(2, ""))]).await.unwrap();
        let late = within("an answer", log.committed(&group, &[place])).await.expect_err("it is pending");
        assert!(matches!(&late, LogError::Unavailable(text) if text.contains("pending")), "{late}");
        producer.abort().await.unwrap();
    });
}

#[test]
fn metadata_that_is_too_long_is_refused() {
    run(async {
        let log = log();
        let topic = topic(&log, "long-metadata", 1).await;
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        producer.begin().unwrap();
        let long = offset(1, &"x".repeat(5_000));
        let sent = producer.send_offsets(&unique("group"), &[(TopicPartition::new(&topic, 0), long)]).await;
        let refused = sent.expect_err("5000 bytes of metadata");
        assert!(matches!(refused, LogError::Refused(_)), "{refused}");
    });
}
