//! Faults of what all jobs share, one after another: a broker, the image.

use freshet_e2e::LabError;
use freshet_e2e::faults::parts::kill;
use serde_json::{Value, json};

use super::table::{Fault, Mend, Of};
use super::*;

const GOOD: fn(&Stage<'_>) -> Vec<Value> = |stage| vec![stage.job(json!({}))];

fn killed(stage: &Stage<'_>, place: &str) -> Result<Mend, LabError> {
    let killed = kill(stage.scene.around.lab()?, place)?;
    Ok(Box::new(|_| killed.now()))
}

/// All of them.
pub fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "broker-down-for-topics",
            of: Of::Topic,
            apart: false,
            before: |stage| vec![stage.topic(stage.name, json!({}))],
            happens: |stage| killed(stage, "kafka-1/kafka"),
            shows: ("Reconciling", "True"),
            reasons: &["KafkaUnavailable"],
            says: "",
        },
        Fault {
            // It has nothing to read, and would not miss them by itself.
            name: "broker-down-for-an-idle-job",
            of: Of::Job,
            apart: false,
            before: GOOD,
            happens: |stage| killed(stage, "kafka-1/kafka"),
            shows: ("Ready", "False"),
            reasons: &["KafkaUnavailable"],
            says: "",
        },
        Fault {
            name: "image-missing",
            of: Of::Job,
            apart: false,
            before: GOOD,
            happens: |stage| {
                let operator = Operator::new(&stage.scene.around, ImageName::FreshetUnderTest);
                operator.clone().with("runtime.tag=nobody-has-it").install()?;
                Ok(Box::new(move |_| operator.install()))
            },
            // What ran before goes on.
            shows: ("Reconciling", "True"),
            reasons: &["ErrImageNeverPull"],
            says: "nobody-has-it",
        },
    ]
}
