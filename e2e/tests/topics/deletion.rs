//! A Topic that is deleted: what becomes of the Kafka topic, and what is waited for.

use freshet_e2e::servers::{KafkaOptions, KafkaServer};
use kube::ResourceExt;
use serde_json::json;

use crate::stage::*;

#[test]
fn the_kafka_topic_stays_or_goes_as_the_policy_says() {
    run(async |stage| {
        let stays = stage.topic("stays", json!({})).await;
        let goes = stage.topic("goes", json!({ "deletionPolicy": "Delete" })).await;
        let shared = stage.topic("shared", json!({ "deletionPolicy": "Delete" })).await;
        stage.reason("shared", "InSync").await;
        stage.topic("reader", json!({ "topicName": shared, "managementPolicy": "Observe" })).await;
        stage.reason("reader", "Observed").await;
        for name in ["stays", "goes"] {
            stage.reason(name, "InSync").await;
        }
        for name in ["stays", "goes", "shared"] {
            stage.deleted(name).await;
        }
        assert!(stage.kafka(&stays).await.is_some());
        assert!(stage.kafka(&shared).await.is_some(), "another Topic names it");
        eventually("the topic to be deleted", async || stage.kafka(&goes).await.is_none()).await;

        // Applied again, it is made, or taken as it was left.
        stage.topic("stays", json!({ "topicName": stays })).await;
        stage.topic("goes", json!({ "topicName": goes })).await;
        stage.reason("stays", "InSync").await;
        stage.reason("goes", "InSync").await;
    });
}

#[test]
fn one_that_a_job_uses_waits_until_the_job_is_gone() {
    run(async |stage| {
        let kafka = stage.topic("used", json!({ "deletionPolicy": "Delete" })).await;
        stage.reason("used", "InSync").await;
        stage.job("copies", "INSERT INTO elsewhere SELECT * FROM used").await;
        stage.job("innocent", "INSERT INTO elsewhere SELECT * FROM unused").await;
        let uid = stage.topics.get("used").await.unwrap().uid().unwrap();
        stage.delete("used").await;
        let topic = stage.reason("used", "TopicInUse").await;
        let (status, _, words) = condition(&topic, "Reconciling").unwrap();
        assert!(status == "True" && words.contains("deletion waits for StreamJob copies:"), "{words}");
        assert!(stage.kafka(&kafka).await.is_some());
        stage.free_of_jobs("copies").await;
        stage.gone("used", &uid).await;
        eventually("the topic to be deleted", async || stage.kafka(&kafka).await.is_none()).await;
    });
}

#[test]
fn one_that_a_job_uses_waits_no_longer_than_its_deadline() {
    run(async |mut stage| {
        stage.with_deadline("2s").await;
        let kafka = stage.topic("used", json!({ "deletionPolicy": "Delete" })).await;
        stage.reason("used", "InSync").await;
        stage.job("copies", "INSERT INTO elsewhere SELECT * FROM used").await;
        stage.deleted("used").await;
        assert!(stage.kafka(&kafka).await.is_some(), "a job still needs it");
        eventually("it to be told", async || stage.events("used").await.iter().any(|reason| reason == "TopicKept"))
            .await;
    });
}

#[test]
fn kafka_that_is_away_holds_a_deletion_up_no_longer_than_the_deadline() {
    let mut server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    run_on(server.bootstrap(), async move |mut stage| {
        stage.with_deadline("8s").await;
        stage.topic("kept", json!({})).await;
        stage.topic("orphan", json!({ "deletionPolicy": "Delete" })).await;
        stage.reason("kept", "InSync").await;
        let uid = stage.reason("orphan", "InSync").await.uid().unwrap();
        server.kill9();
        // Nothing is asked of Kafka.
        stage.deleted("kept").await;
        stage.delete("orphan").await;
        stage.reason("orphan", "KafkaUnavailable").await;
        stage.gone("orphan", &uid).await;
    });
}

#[test]
fn one_whose_brokers_nobody_names_waits_for_jobs_all_the_same() {
    run(async |mut stage| {
        let kept = stage.topic("kept", json!({})).await;
        let owned = stage.topic("owned", json!({ "deletionPolicy": "Delete" })).await;
        stage.reason("kept", "InSync").await;
        stage.reason("owned", "InSync").await;
        stage.job("copies", "INSERT INTO kept SELECT * FROM owned").await;
        stage.naming_brokers(false).await;
        let mut uids = Vec::new();
        for name in ["kept", "owned"] {
            uids.push(stage.topics.get(name).await.unwrap().uid().unwrap());
            stage.delete(name).await;
            stage.reason(name, "TopicInUse").await;
        }
        stage.free_of_jobs("copies").await;
        stage.gone("kept", &uids[0]).await;
        assert!(stage.kafka(&kept).await.is_some());
        // What is to be deleted waits for somebody to say where it is.
        let words = stage.stalled("owned", "SpecInvalid").await;
        let wanted =
            "the Kafka topic can't be deleted as spec.deletionPolicy asks: spec.kafka.bootstrapServers is not set";
        assert!(words.starts_with(wanted), "{words}");
        assert!(stage.kafka(&owned).await.is_some());
        stage.naming_brokers(true).await;
        stage.gone("owned", &uids[1]).await;
        eventually("the topic to be deleted", async || stage.kafka(&owned).await.is_none()).await;
    });
}
