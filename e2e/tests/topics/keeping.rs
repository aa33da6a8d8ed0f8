//! A topic is made, grown and configured, and kept so; what can't be is refused in the broker's own words.

use freshet_e2e::servers::{KafkaOptions, KafkaServer};
use serde_json::json;

use crate::stage::*;

#[test]
fn a_topic_is_made_grown_and_configured_and_drift_goes_back() {
    run(async |stage| {
        let spec = json!({
            "partitions": 2, "replicas": 1, "config": { "retention.ms": "1000000", "min.cleanable.dirty.ratio": "0.50" },
            "unmanagedConfig": ["segment.ms"]
        });
        let kafka = stage.topic("orders", spec).await;
        let topic = stage.reason("orders", "InSync").await;
        let made = stage.kafka(&kafka).await.unwrap();
        let status = topic.status.as_ref().unwrap();
        assert_eq!(status.topic_id.as_deref(), Some(made.id.as_str()));
        assert_eq!((status.active_topic.as_deref(), status.partitions), (Some(kafka.as_str()), Some(2)));
        assert_eq!((made.partitions.len(), stage.entry(&kafka, "retention.ms").await.as_str()), (2, "1000000"));
        let (_, _, message) = condition(&topic, "Ready").unwrap();
        assert!(message.contains("2 partitions, 1 replicas"), "{message}");

        stage.set(&kafka, "retention.ms", "5").await;
        stage.set(&kafka, "max.message.bytes", "4096").await;
        stage.set(&kafka, "segment.ms", "123456").await;
        stage.entry_becomes(&kafka, "retention.ms", "1000000").await;
        stage.entry_becomes(&kafka, "max.message.bytes", "1048588").await;
        assert_eq!(stage.entry(&kafka, "segment.ms").await, "123456", "hands off");

        stage.change("orders", json!({ "partitions": 5, "config": { "retention.ms": "2000000" } })).await;
        let topic = stage.reason("orders", "InSync").await;
        assert_eq!(topic.status.as_ref().unwrap().partitions, Some(5));
        let grown = stage.kafka(&kafka).await.unwrap();
        assert_eq!((grown.partitions.len(), grown.id), (5, made.id));
        assert_eq!(stage.entry(&kafka, "retention.ms").await, "2000000");
        let wanted = ["TopicCreated", "ConfigChanged", "PartitionsAdded"];
        eventually("the story to be told", async || {
            let told = stage.events("orders").await;
            wanted.iter().all(|reason| told.iter().any(|event| event == reason))
        })
        .await;
    });
}

#[test]
fn what_is_in_order_is_looked_at_and_never_written() {
    run(async |stage| {
        let spec = json!({ "config": { "min.cleanable.dirty.ratio": "0.50", "cleanup.policy": "compact, delete" } });
        stage.topic("quiet", spec).await;
        let first = stage.reason("quiet", "InSync").await;
        let looks =
            || stage.metric("freshet_operator_kafka_requests_total{outcome=\"answered\",request=\"describe-topics\"}");
        let before = looks();
        eventually("five more looks", async || looks() >= before + 5).await;
        let last = stage.topics.get("quiet").await.unwrap();
        assert_eq!(first.metadata.resource_version, last.metadata.resource_version, "a status was written");
        for request in ["alter-configs", "create-partitions"] {
            for outcome in ["answered", "failed"] {
                let line =
                    format!("freshet_operator_kafka_requests_total{{outcome=\"{outcome}\",request=\"{request}\"}}");
                assert_eq!(stage.metric(&line), 0, "{request}");
            }
        }
        // Finalizer, that it is being made, and that it is there.
        assert_eq!(stage.metric("freshet_operator_writes_total{kind=\"Topic\",verb=\"patch\"}"), 3);
    });
}

#[test]
fn refusals_are_stalled_in_the_brokers_own_words() {
    run(async |stage| {
        stage.topic("bad-value", json!({ "config": { "retention.ms": "soon" } })).await;
        stage.topic("bad-key", json!({ "config": { "no.such.entry": "1" } })).await;
        stage.topic("too-wide", json!({ "replicas": 3 })).await;
        stage.topic("fine", json!({ "partitions": 3 })).await;
        stage.reason("fine", "InSync").await;

        let words = stage.stalled("bad-value", "ConfigRefused").await;
        assert!(words.contains("soon") && words.contains("retention.ms"), "{words}");
        let words = stage.stalled("bad-key", "ConfigRefused").await;
        assert!(words.contains("no.such.entry"), "{words}");
        let words = stage.stalled("too-wide", "KafkaRefused").await;
        assert!(words.contains("INVALID_REPLICATION_FACTOR") && words.contains("1 broker"), "{words}");

        stage.change("fine", json!({ "replicas": 2, "config": { "retention.ms": "7" } })).await;
        let words = stage.stalled("fine", "ReplicasCannotChange").await;
        assert!(words.contains("spec.replicas: 2 is not the topic's 1"), "{words}");
        let kafka = stage.topics.get("fine").await.unwrap().spec.topic_name.unwrap();
        assert_eq!(stage.entry(&kafka, "retention.ms").await, "7", "what can be done is done");
        stage.change("fine", json!({ "replicas": null, "config": { "no.such.entry": "1" } })).await;
        stage.stalled("fine", "ConfigRefused").await;

        // Mended.
        stage.change("fine", json!({ "config": { "no.such.entry": null } })).await;
        stage.change("bad-value", json!({ "config": { "retention.ms": "1000" } })).await;
        stage.reason("fine", "InSync").await;
        stage.reason("bad-value", "InSync").await;
    });
}

#[test]
fn fewer_partitions_are_refused() {
    run(async |stage| {
        let kafka = unique("shrinks");
        stage.make(&kafka, 6, &[]).await;
        let spec = json!({ "topicName": kafka, "partitions": 3, "managementPolicy": "Adopt" });
        stage.topic("shrinks", spec).await;
        let words = stage.stalled("shrinks", "PartitionsCannotShrink").await;
        assert!(
            words.starts_with("spec.partitions: 3 is fewer than the topic's 6; Kafka can't shrink a topic."),
            "{words}"
        );
        stage.change("shrinks", json!({ "partitions": 6 })).await;
        stage.reason("shrinks", "InSync").await;
    });
}

#[test]
fn a_topic_that_a_job_groups_by_its_own_key_does_not_grow() {
    run(async |stage| {
        let columns = json!([{ "name": "id", "type": "STRING" }, { "name": "ts", "type": "TIMESTAMP(3)" }]);
        let spec = json!({
            "partitions": 2,
            "schema": { "format": "JSON", "key": ["id"], "partitioner": "Murmur2", "columns": columns, "eventTime": { "column": "ts" } }
        });
        let kafka = stage.topic("payments", spec).await;
        let columns = json!([{ "name": "id", "type": "STRING" }, { "name": "n", "type": "BIGINT" }]);
        stage.topic("counts", json!({ "schema": { "format": "JSON", "columns": columns } })).await;
        stage.reason("payments", "InSync").await;
        let sql = "INSERT INTO counts SELECT id, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), \
                   INTERVAL '1' MINUTE)) GROUP BY id, window_start, window_end";
        stage.job("fraud", sql).await;
        stage.change("payments", json!({ "partitions": 4 })).await;
        let words = stage.stalled("payments", "PartitionsInUse").await;
        assert!(words.contains("StreamJob fraud groups by this topic's own key"), "{words}");
        assert_eq!(stage.kafka(&kafka).await.unwrap().partitions.len(), 2);

        stage.free_of_jobs("fraud").await;
        stage.reason("payments", "InSync").await;
        assert_eq!(stage.kafka(&kafka).await.unwrap().partitions.len(), 4);
    });
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let mut server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    run_on(server.bootstrap(), async move |stage| {
        let kafka = stage.topic("steady", json!({})).await;
        stage.reason("steady", "InSync").await;
        server.kill9();
        let topic = stage.reason("steady", "KafkaUnavailable").await;
        assert_eq!(condition(&topic, "Ready").unwrap().0, "False");
        assert_eq!(condition(&topic, "Reconciling").unwrap().0, "True");
        assert_eq!(condition(&topic, "Stalled").unwrap().0, "False");
        let new = stage.topic("new", json!({ "partitions": 3 })).await;
        stage.reason("new", "KafkaUnavailable").await;
        tokio::task::spawn_blocking(move || {
            server.restart().unwrap();
            server
        })
        .await
        .map(std::mem::forget)
        .unwrap();
        stage.reason("steady", "InSync").await;
        stage.reason("new", "InSync").await;
        assert_eq!(stage.kafka(&new).await.unwrap().partitions.len(), 3);
        assert!(stage.kafka(&kafka).await.is_some());
    });
}
