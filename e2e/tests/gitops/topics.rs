//! Situations of a Topic, each with the status that the operator writes in it.

use std::collections::BTreeMap;

use freshet_crds::Topic;
use freshet_kafka::admin::{AdminError, Trouble};
use freshet_operator::clock::time;
use freshet_operator::topic::decide::{KafkaTopic, Refusal};
use freshet_operator::topic::status::{Doing, Ended, Failure, status};
use freshet_operator::topic::wanted::validate;
use serde_json::{Value, json};

use crate::{FAILED, GOING, GOOD, Row, UNDER_WAY, unseen};

const TOPIC: &str = "
apiVersion: freshet.dev/v1alpha1
kind: Topic
metadata: {name: alerts, namespace: payments, generation: 2}
spec: {partitions: 6}
";

fn topic() -> Topic {
    serde_saphyr::from_str(TOPIC).unwrap()
}

/// The Topic after a pass that ended so.
fn after(ended: &Ended) -> Topic {
    let mut topic = topic();
    let wanted = validate(&topic, Some("kafka:9092")).unwrap();
    topic.status = Some(status(Some(&wanted), ended, None, 2, &time(1_000)));
    topic
}

fn kafka_topic() -> KafkaTopic {
    KafkaTopic {
        id: "id-1".to_owned(),
        partitions: 6,
        replicas: (1, 1),
        set: BTreeMap::new(),
        effective: BTreeMap::new(),
    }
}

fn failure(trouble: Trouble, doing: Doing) -> Failure {
    Failure { doing, error: AdminError { trouble, code: "CODE".to_owned(), words: "words".to_owned() } }
}

fn failed(failed: Vec<Failure>, creating: bool) -> Ended {
    Ended::Failed { topic: None, failed, creating }
}

fn refused(refusal: Refusal) -> Ended {
    Ended::Refused { topic: None, refused: vec![refusal], failed: Vec::new() }
}

fn json_of(topic: &Topic) -> Value {
    serde_json::to_value(topic).unwrap()
}

pub fn rows() -> Vec<Row> {
    let mut new = json_of(&topic());
    new["status"] = unseen("Topic");
    let mut changed = json_of(&after(&Ended::InSync(kafka_topic())));
    changed["metadata"]["generation"] = json!(3);
    let in_use = Ended::InUse { jobs: vec!["fraud".to_owned()], until: "10:00".to_owned() };
    let mut deleted = json_of(&after(&in_use));
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let invalid = validate(&topic(), None).unwrap_err();
    let unavailable = || failure(Trouble::Unavailable, Doing::Looking);
    let mut rows = vec![
        Row { situation: "applied, no operator has looked", object: new, wanted: UNDER_WAY },
        Row { situation: "changed, no operator has looked", object: changed, wanted: UNDER_WAY },
        Row { situation: "deleted, and a StreamJob uses it", object: deleted, wanted: GOING },
    ];
    let ended = [
        ("being made", Ended::Creating, UNDER_WAY),
        ("as it should be", Ended::InSync(kafka_topic()), GOOD),
        ("a change is not shown yet", Ended::Applying { topic: Some(kafka_topic()) }, UNDER_WAY),
        ("the brokers are away", failed(vec![unavailable()], false), UNDER_WAY),
        ("the brokers went away while it was made", failed(vec![unavailable()], true), UNDER_WAY),
        ("no right to do it", failed(vec![failure(Trouble::Unauthorised, Doing::Creating)], false), FAILED),
        ("a bad configuration", failed(vec![failure(Trouble::Refused, Doing::Configuring)], false), FAILED),
        (
            "one thing is refused, another may pass",
            failed(vec![unavailable(), failure(Trouble::Refused, Doing::Configuring)], false),
            FAILED,
        ),
        ("fewer partitions than there are", refused(Refusal::FewerPartitions { is: 12 }), FAILED),
        ("another Topic has the name", refused(Refusal::Claimed { by: "payments/first".to_owned() }), FAILED),
        ("deleted behind the operator's back", refused(Refusal::Deleted { known: "id-0".to_owned() }), FAILED),
        ("nobody says which cluster", Ended::Invalid(invalid), FAILED),
    ];
    rows.extend(ended.into_iter().map(|(situation, ended, wanted)| Row {
        situation,
        object: json_of(&after(&ended)),
        wanted,
    }));
    rows
}
