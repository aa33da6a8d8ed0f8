//! What a spec says, and what is wrong with it.

use super::*;

#[test]
fn a_spec_is_resolved_once() {
    let valid = valid();
    assert_eq!(valid.topics, vec!["alerts", "transactions"], "a Topic that the job does not name does not stop it");
    assert_eq!((valid.replicas, valid.suspended, valid.stages), (2, false, 1));
    assert_eq!(valid.pods.s3_secret.as_deref(), Some("s3-credentials"));
    for part in ["kafka:9092", "s3://pipelines/state", "http://s3:7070", "payments.transactions"] {
        assert!(valid.manifests.contains(part), "{part} is not in\n{}", valid.manifests);
    }
    assert!(!valid.manifests.contains("replicas"), "scaling must not look like another revision");
    // The very files that a pod reads are good in its eyes.
    let examined = freshet::manifest::examine_texts(&[("job.yaml", &valid.manifests)]);
    assert!(examined.pipeline.is_some(), "{}", examined.diagnostics);
}

/// Its name may be a word of the SQL that means something else: a column, or a comment.
#[test]
fn a_topic_that_is_only_called_like_a_word_of_the_sql_stops_nothing() {
    let text = JOB.replace("INSERT INTO alerts", "INSERT INTO alerts -- no stranger, and no txns");
    let named = topic("metadata: {name: txns, namespace: payments}\nspec: {partitions: 3}");
    let all: Vec<Arc<Topic>> = topics().into_iter().chain([Arc::new(named)]).collect();
    let valid = validate(&job(&text), &all, &config(), "cluster-1").expect("the wrong one is not meant");
    assert_eq!(valid.topics, vec!["alerts", "transactions"], "nobody waits for the others");
    // One that is meant, and wrong, is what is wrong with the job.
    let text = JOB.replace("TABLE transactions", "TABLE stranger");
    let refusal = check(&text).expect_err("its column's type is none");
    assert!(refusal.message.contains("Topic/stranger"), "{}", refusal.message);
}

#[test]
fn a_revision_changes_with_what_is_computed_and_not_with_how_many_do_it() {
    let first = valid().revision;
    let revision = |text: String| check(&text).expect("valid").revision;
    assert_eq!(revision(JOB.replace("replicas: 2", "replicas: 3")), first);
    assert_eq!(revision(JOB.replace("replicas: 2", "restartNonce: a")), first);
    assert_ne!(revision(JOB.replace("COUNT(*) AS", "MAX(1) + COUNT(*) AS")), first);
    assert_ne!(revision(JOB.replace("replicas: 2", "epochInterval: 1s")), first);
    let mut shuffled = topics();
    shuffled.reverse();
    assert_eq!(validate(&job(JOB), &shuffled, &config(), "cluster-1").expect("valid").revision, first);
}

#[test]
fn what_is_wrong_is_said_with_field_and_remedy() {
    for (text, reason, words) in [
        (
            JOB.replace("TABLE transactions", "TABLE transaction"),
            "TopicNotFound",
            "spec.sql, line 3: there is no table",
        ),
        (JOB.replace("COUNT(*)", "COUNTT(*)"), "SpecInvalid", "spec.sql, line 2: "),
        (
            JOB.replace("replicas: 2", "errors: {onLate: DeadLetter, deadLetterTopic: dlq}"),
            "TopicNotFound",
            "there is no Topic resource `dlq`",
        ),
        (JOB.replace("replicas: 2", "checkpoint: {url: 'file:///a'}"), "SpecInvalid", "spec.checkpoint.url: file:///a"),
        (
            JOB.replace("replicas: 2", "template: {resources: {limits: {memory: 1 GB}}}"),
            "SpecInvalid",
            "spec.template.resources.limits.memory: `1 GB` is no quantity",
        ),
    ] {
        let refusal = check(&text).expect_err(words);
        assert_eq!(refusal.reason.name, reason, "{}", refusal.message);
        assert!(refusal.message.contains(words), "`{words}` is not in: {}", refusal.message);
    }
    let bare = Config::parse_from(["freshet-operator", "--control-key-file=/key"]);
    let refusal = validate(&job(JOB), &topics(), &bare, "cluster-1").expect_err("no brokers");
    assert!(refusal.message.starts_with("spec.kafka is missing"), "{}", refusal.message);
}
