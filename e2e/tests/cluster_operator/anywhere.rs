//! On any cluster that has the images. The spec changes: what can follow follows from the same state, what can't is refused and says why.

use freshet_e2e::scenario::cluster::condition;
use serde_json::json;

use crate::*;

/// The pilot's SQL with `from` written as `to`.
fn sql(it: &Running, from: &str, to: &str) -> serde_json::Value {
    let sql = it.scene.job(it.name()).unwrap().unwrap().spec.sql;
    assert!(sql.contains(from), "{sql}");
    json!({"spec": {"sql": sql.replacen(from, to, 1)}})
}

#[test]
fn changed_suspended_restarted_deleted_and_applied_again() {
    let it = Running::new("cluster_operator::changed_suspended_restarted", 61);
    it.progress("the start");

    // Said otherwise, it means the same: another plan over the same state, taken over by the pods that run.
    let (before, pods) = (it.settled().status.unwrap(), it.pods());
    let change = sql(&it, "HAVING COUNT(*) >= 5 OR SUM(amount) > 10000", "HAVING SUM(amount) > 10000 OR COUNT(*) >= 5");
    it.scene.change_job(it.name(), &change).unwrap();
    let after = it.settled().status.unwrap();
    assert_ne!(before.revision.unwrap().current, after.revision.clone().unwrap().current);
    assert!(after.generation > before.generation, "no new generation");
    assert_eq!(it.pods(), pods, "a compatible change restarted pods");
    it.progress("a compatible change");

    // Other windows: the state can't follow.
    let wide = sql(&it, "INTERVAL '1' MINUTE", "INTERVAL '7' MINUTE");
    let good = it.scene.job(it.name()).unwrap().unwrap().spec.sql;
    it.scene.change_job(it.name(), &wide).unwrap();
    let refused = it
        .scene
        .wait_job(it.name(), "to refuse other windows", PATIENCE, |job| {
            let conditions = &job.status.as_ref()?.conditions;
            let stalled = condition(conditions, "Stalled").filter(|it| it.status == "True")?.clone();
            Some((stalled, condition(conditions, "Ready")?.clone()))
        })
        .unwrap();
    let (stalled, ready) = refused;
    assert!(["StateIncompatible", "StateWouldBeDropped"].contains(&stalled.reason.as_str()), "{stalled:?}");
    assert!(stalled.message.contains("alerts"), "no operator of the plan is named: {}", stalled.message);
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Running"), "{ready:?}");
    assert_eq!(it.pods(), pods, "a refused change touched pods");
    it.progress("a refused change");
    it.scene.change_job(it.name(), &json!({"spec": {"sql": good}})).unwrap();
    it.settled();

    it.scene.change_job(it.name(), &json!({"spec": {"state": "Suspended"}})).unwrap();
    it.scene
        .wait_job(it.name(), "to be suspended", PATIENCE, |job| {
            let status = job.status.as_ref()?;
            let ready = condition(&status.conditions, "Ready")?;
            (ready.status == "True" && ready.reason == "Suspended" && status.workers.as_deref() == Some("0/0"))
                .then_some(())
        })
        .unwrap();
    assert!(it.pods().is_empty(), "suspended, and there are pods: {:?}", it.pods());
    it.scene.change_job(it.name(), &json!({"spec": {"state": "Running"}})).unwrap();
    it.settled();
    it.progress("suspended and resumed");

    let pods = it.pods();
    it.scene.change_job(it.name(), &json!({"spec": {"restartNonce": "again"}})).unwrap();
    it.scene
        .wait_pod(&pods[0].0, "to be another", |pod| (pod.metadata.uid != Some(pods[0].1.clone())).then_some(()))
        .unwrap();
    it.settled();
    it.progress("a restart");

    let lineage = it.settled().status.unwrap().lineage.unwrap().id;
    it.kubectl.run(&["delete", &it.resource(), "--timeout=60s"]).unwrap();
    for kind in ["statefulset", "service", "configmap", "serviceaccount", "poddisruptionbudget"] {
        let left = || it.kubectl.run(&["get", kind, it.name(), "--ignore-not-found"]).unwrap();
        let gone = || Ok(left().trim().is_empty().then_some(()));
        it.scene.kubernetes.wait_for(&format!("the {kind} to go with its job"), PATIENCE, gone, left).unwrap();
    }
    it.scene.kubernetes.apply(&it.scene.namespace, &it.pilot.yaml()).unwrap();
    let again = it.settled().status.unwrap();
    assert_eq!(again.lineage.unwrap().id, lineage, "it began anew");
    it.progress("deleted and applied again");
    it.exact();
}
