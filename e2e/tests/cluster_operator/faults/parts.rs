//! Faults of what all jobs share, one after another: a broker, the image.

use freshet_e2e::LabError;
use freshet_e2e::cluster::{Spec, up};
use freshet_e2e::faults::parts::kill;
use freshet_e2e::scenario::cluster::NAMESPACE;
use serde_json::{Value, json};

use super::table::{Fault, Mend, Of};
use super::*;

const GOOD: fn(&Stage<'_>) -> Vec<Value> = |stage| vec![stage.job(json!({}))];

fn killed(stage: &Stage<'_>, place: &str) -> Result<Mend, LabError> {
    let killed = kill(stage.scene.around.lab()?, place)?;
    Ok(Box::new(|_| killed.now()))
}

/// A node that the operator does not run on; the cluster gets a second one for it.
fn spare_node(stage: &Stage<'_>) -> Result<String, LabError> {
    up(stage.scene.around.lab()?.site(), &Spec { nodes: 2, ..Spec::default() }, &mut |_| {})?;
    let pods = Kubectl::new(stage.scene.kubernetes.kubeconfig(), NAMESPACE)?;
    let busy = pods.run(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"])?;
    let spare = ["n2", "n1"].into_iter().find(|node| !busy.split_whitespace().any(|name| name == *node));
    spare.map(str::to_owned).ok_or_else(|| LabError::Wrong(format!("the operator runs on every node: {busy}")))
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
            // One without the operator: who is gone says nothing.
            name: "node-down",
            of: Of::Job,
            apart: false,
            before: |stage| {
                let node = spare_node(stage).unwrap();
                vec![stage.job(json!({"template": {"nodeSelector": {"kubernetes.io/hostname": node}}}))]
            },
            happens: |stage| killed(stage, &format!("{}/host", spare_node(stage)?)),
            shows: ("Ready", "False"),
            reasons: &["WorkerUnreachable", "WorkersNotReady"],
            says: "node-down-0",
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
