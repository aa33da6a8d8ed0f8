//! Managed, Adopt, Observe; and two Topics that name one Kafka topic.

use serde_json::json;

use crate::stage::*;

#[test]
fn an_adoption_is_shown_before_it_is_done() {
    run(async |stage| {
        let kafka = unique("foreign");
        stage.make(&kafka, 2, &[("retention.ms", "1000"), ("segment.ms", "2000000")]).await;
        let spec = json!({ "topicName": kafka, "partitions": 4, "config": { "retention.ms": "3000" } });
        stage.topic("foreign", spec).await;
        let words = stage.stalled("foreign", "TopicExists").await;
        for change in ["partitions: 2 -> 4", "retention.ms: 1000 -> 3000", "segment.ms: 2000000 -> the default"] {
            assert!(words.contains(change), "{words}");
        }
        assert_eq!(stage.entry(&kafka, "retention.ms").await, "1000", "shown, not done");
        stage.change("foreign", json!({ "managementPolicy": "Adopt" })).await;
        let topic = stage.reason("foreign", "InSync").await;
        assert_eq!(topic.status.unwrap().partitions, Some(4));
        assert_eq!(stage.entry(&kafka, "retention.ms").await, "3000");
    });
}

#[test]
fn a_topic_that_is_as_it_should_be_is_taken_and_none_is_adopted_that_is_not_there() {
    run(async |stage| {
        let kafka = unique("same");
        stage.make(&kafka, 2, &[]).await;
        stage.topic("same", json!({ "topicName": kafka, "partitions": 2 })).await;
        stage.reason("same", "InSync").await;
        let other = unique("same");
        stage.make(&other, 1, &[]).await;
        stage.topic("deletes", json!({ "topicName": other, "deletionPolicy": "Delete" })).await;
        let words = stage.stalled("deletes", "TopicExists").await;
        assert!(words.contains("deletionPolicy would delete it"), "{words}");
        let missing = stage.topic("missing", json!({ "managementPolicy": "Adopt" })).await;
        let words = stage.stalled("missing", "TopicNotFound").await;
        assert!(words.contains(&missing) && words.contains("managementPolicy: Adopt makes none"), "{words}");
        assert!(stage.kafka(&missing).await.is_none());
    });
}

#[test]
fn one_that_observes_writes_nothing() {
    run(async |stage| {
        let kafka = stage.topic("watched", json!({ "managementPolicy": "Observe", "partitions": 2 })).await;
        stage.stalled("watched", "TopicNotFound").await;
        stage.make(&kafka, 2, &[("segment.ms", "2000000")]).await;
        let topic = stage.reason("watched", "Observed").await;
        assert_eq!(condition(&topic, "Ready").unwrap().0, "True");
        stage.change("watched", json!({ "config": { "segment.ms": "3000000" } })).await;
        let words = stage.stalled("watched", "TopicDiffers").await;
        assert!(words.contains("spec.config has segment.ms: 3000000, the topic has 2000000"), "{words}");
        stage.set(&kafka, "segment.ms", "3000000").await;
        stage.reason("watched", "Observed").await;
        stage.deleted("watched").await;
        assert!(stage.kafka(&kafka).await.is_some());
    });
}

#[test]
fn of_two_topics_that_name_one_the_older_has_it() {
    run(async |stage| {
        let kafka = stage.topic("older", json!({ "partitions": 2 })).await;
        stage.reason("older", "InSync").await;
        let spec = json!({ "topicName": kafka, "partitions": 5, "deletionPolicy": "Delete" });
        stage.topic("younger", spec).await;
        let words = stage.stalled("younger", "TopicClaimed").await;
        assert!(words.contains(&format!("the older Topic {}/older", stage.namespace)), "{words}");
        assert_eq!(stage.kafka(&kafka).await.unwrap().partitions.len(), 2);
        // One address more, one cluster still.
        let spec = json!({
            "topicName": kafka, "partitions": 5,
            "kafka": { "bootstrapServers": stage.bootstrap.replace("127.0.0.1", "localhost") }
        });
        stage.topic("elsewhere", spec).await;
        stage.stalled("elsewhere", "TopicClaimed").await;

        // What never had it does not delete it.
        stage.deleted("younger").await;
        assert!(stage.kafka(&kafka).await.is_some());
        stage.deleted("older").await;
        let words = stage.stalled("elsewhere", "TopicExists").await;
        assert!(words.contains("partitions: 2 -> 5"), "{words}");
    });
}
