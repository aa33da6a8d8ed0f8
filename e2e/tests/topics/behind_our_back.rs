//! What others do to a topic, and an operator that is killed.

use std::time::Duration;

use serde_json::json;

use crate::stage::*;

#[test]
fn a_topic_that_was_deleted_is_not_made_again_by_itself() {
    run(async |stage| {
        let kafka = stage.topic("lost", json!({ "partitions": 2 })).await;
        stage.reason("lost", "InSync").await;
        stage.unmake(&kafka).await;
        let words = stage.stalled("lost", "TopicDeleted").await;
        assert!(words.contains("It is not made again by itself, since it would be empty."), "{words}");
        // The spec changes and time passes: still not.
        stage.change("lost", json!({ "partitions": 3 })).await;
        stage.stalled("lost", "TopicDeleted").await;
        assert!(stage.kafka(&kafka).await.is_none());

        // As the message says.
        stage.deleted("lost").await;
        stage.topic("lost", json!({ "topicName": kafka, "partitions": 3 })).await;
        stage.reason("lost", "InSync").await;
        assert_eq!(stage.kafka(&kafka).await.unwrap().partitions.len(), 3);
    });
}

#[test]
fn a_topic_that_was_made_again_is_not_touched() {
    run(async |stage| {
        let spec = json!({ "partitions": 2, "deletionPolicy": "Delete", "config": { "retention.ms": "1000000" } });
        let kafka = stage.topic("again", spec).await;
        let known = stage.reason("again", "InSync").await.status.unwrap().topic_id.unwrap();
        // While nobody looks.
        let mut stage = stage;
        stage.kill().await;
        stage.unmake(&kafka).await;
        stage.make(&kafka, 1, &[]).await;
        stage.start();
        let words = stage.stalled("again", "TopicRecreated").await;
        let id = stage.kafka(&kafka).await.unwrap().id;
        assert!(words.contains(&known) && words.contains(&id), "{words}");
        assert_eq!(stage.kafka(&kafka).await.unwrap().partitions.len(), 1);
        assert_eq!(stage.entry(&kafka, "retention.ms").await, "604800000");
        stage.deleted("again").await;
        assert_eq!(stage.kafka(&kafka).await.unwrap().id, id, "another topic was deleted");
    });
}

#[test]
fn an_operator_that_is_killed_again_and_again_ends_in_the_same_state() {
    run(async |mut stage| {
        let mut made = Vec::new();
        for (round, after_ms) in [0_u64, 5, 10, 20, 40, 60, 80, 120, 160, 240].into_iter().enumerate() {
            let name = format!("killed-{round}");
            // Under Delete a topic that is there is taken only by who is known to have made it.
            let spec = json!({ "partitions": 3, "deletionPolicy": "Delete", "config": { "retention.ms": "1000000" } });
            let kafka = stage.topic(&name, spec).await;
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            stage.kill().await;
            stage.start();
            made.push((name, kafka));
        }
        for (name, kafka) in &made {
            let topic = stage.reason(name, "InSync").await;
            let there = stage.kafka(kafka).await.unwrap();
            assert_eq!(topic.status.unwrap().topic_id, Some(there.id));
            assert_eq!(there.partitions.len(), 3);
        }
    });
}

#[test]
fn a_status_that_is_wiped_is_found_again() {
    run(async |stage| {
        let kafka = stage.topic("wiped", json!({ "partitions": 2 })).await;
        let before = stage.reason("wiped", "InSync").await.status.unwrap();
        let patch = kube::api::Patch::Merge(json!({ "status": null }));
        stage.topics.patch_status("wiped", &kube::api::PatchParams::default(), &patch).await.unwrap();
        let after = stage.reason("wiped", "InSync").await.status.unwrap();
        assert_eq!((after.topic_id, after.partitions), (before.topic_id, Some(2)));
        assert!(stage.kafka(&kafka).await.is_some());
    });
}
