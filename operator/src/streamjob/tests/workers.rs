//! Pods come and go with their tasks, and are replaced.

use super::super::decide::{RescaleStep, Stage};
use super::super::pods::Trouble;
use super::super::status;
use super::*;

#[test]
fn pods_come_before_their_tasks_and_go_after_them() {
    // More workers: first pods.
    let mut facts = wanting(3, running(2));
    let decision = decided(&facts);
    assert_eq!(decision.actions, vec![Action::ApplyWorkers { pods: 3 }]);
    assert_eq!(decision.stage, Stage::Rescaling { from: 2, to: 3, step: RescaleStep::Pods });
    // Then, when the new one stands by, the assignment.
    facts.asked_pods = Some(3);
    facts.workers.push(worker(2, WorkerPhase::StandingBy, None));
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 3 }, Action::HandOut { slots: 3 }]);

    // Fewer: first the assignment, and no pod goes.
    let mut facts = wanting(1, running(2));
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }, Action::HandOut { slots: 1 }]);
    // It is handed out, but the worker that stays has not taken it over: no pod goes yet.
    facts.workers[0] = worker(0, WorkerPhase::TakingOver, Some((2, 1)));
    facts.workers[1] = worker(1, WorkerPhase::StandingBy, None);
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }]);
    facts.workers[0] = worker(0, WorkerPhase::Running, Some((2, 1)));
    assert_eq!(decided(&facts), Decision { stage: Stage::Running, actions: vec![Action::ApplyWorkers { pods: 1 }] });
}

#[test]
fn no_pod_goes_while_no_worker_can_be_asked() {
    let mut facts = wanting(1, running(4));
    for worker in &mut facts.workers {
        worker.status = Some(Err("silent".into()));
    }
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 4 }]);
}

#[test]
fn a_pod_whose_node_is_lost_is_removed() {
    let mut facts = running(2);
    facts.workers[1].pod.gone_by_ms = Some(85_000);
    assert_eq!(decided(&facts).actions[0], Action::ForceDelete { pod: "fraud-detection-1".into() });
    facts.workers[1].pod.gone_by_ms = Some(95_000);
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }]);
}

#[test]
fn pods_that_kubernetes_refuses_are_asked_for_again_and_named() {
    let words = || Trouble { reason: "FailedCreate".into(), message: "exceeded quota".into() };
    // A preflight without a pod is left alone for a while; then another one is tried, and the words stand.
    let mut facts = fresh();
    facts.preflights = vec![preflight(1, PreflightState::Running(Some(words())))];
    assert_eq!(decided(&facts).actions, Vec::new());
    facts.preflights[0].made_ms = 90_000;
    let decision = decided(&facts);
    assert_eq!(decision.actions, vec![Action::StartPreflight { attempt: 2, slots: 2 }]);
    let (ready, reason, message) = (false, "FailedCreate", "the preflight's pod: FailedCreate: exceeded quota");
    assert_eq!(ready_reason(&facts), (ready, reason.to_owned(), message.to_owned()));
    // A pod that no node takes, and then the spec names other nodes: another is tried at once.
    let nowhere = Trouble { reason: "Unschedulable".into(), message: "0/1 nodes".into() };
    facts.preflights = vec![preflight(1, PreflightState::Running(Some(nowhere)))];
    assert_eq!(decided(&facts).actions, Vec::new());
    facts.preflights[0].pod = Some("other".into());
    assert_eq!(decided(&facts).actions, vec![Action::StartPreflight { attempt: 2, slots: 2 }]);
    // A worker without a pod: its StatefulSet is touched now and then, so that it tries again at once.
    let mut facts = Facts { refused_pods: Some(words()), asked_again_ms: 90_000, ..running(2) };
    facts.workers.pop();
    assert_eq!(decided(&facts).actions[0], Action::AskAgain);
    assert_eq!(ready_reason(&facts).2, "worker 1 gets no pod: exceeded quota");
    facts.asked_again_ms = 95_000;
    assert!(!decided(&facts).actions.contains(&Action::AskAgain));
}

#[test]
fn a_worker_that_ended_under_a_former_revision_begins_at_once() {
    let mut facts = running(2);
    facts.workers[1].pod.end =
        Some(freshet_crds::control::WorkerEnd { reason: "BadRecord".into(), message: "it is no JSON".into() });
    facts.valid = Ok(Valid { revision: "other1".into(), ..valid() });
    facts.preflights =
        vec![PreflightFact { revision: "other1".into(), ..preflight(1, PreflightState::Passed(report(2, 2))) }];
    let actions = decided(&facts).actions;
    assert_eq!(actions.last(), Some(&Action::Replace { pod: "fraud-detection-1".into() }), "{actions:?}");
}

#[test]
fn what_keeps_new_workers_from_starting_is_told_beside_what_runs() {
    let because = |facts: &Facts| {
        let verdict = status::verdict(facts, &decided(facts), None);
        assert!(verdict.ready.holds, "what runs is well: {:?}", verdict.ready);
        let fact = verdict.stalled.or(verdict.reconciling).expect("it is under way");
        (fact.reason, fact.message)
    };
    let mut facts = wanting(4, running(2));
    facts.asked_pods = Some(4);
    let under_way = "from 2 to 4 workers: the new workers start";
    assert_eq!(because(&facts), ("Rescaling".to_owned(), under_way.to_owned()));
    facts.workers.push(worker(2, WorkerPhase::Starting, None));
    assert_eq!(because(&facts), ("Rescaling".to_owned(), under_way.to_owned()), "it only takes time");
    facts.refused_pods = Some(Trouble { reason: "FailedCreate".into(), message: "exceeded quota".into() });
    let (reason, message) = because(&facts);
    assert_eq!(reason, "FailedCreate");
    assert_eq!(message, "from 2 to 4 workers: worker 3 gets no pod: exceeded quota (and 1 other workers)");
    facts.refused_pods = None;
    facts.workers[2].pod.trouble = Some(Trouble { reason: "Unschedulable".into(), message: "no room".into() });
    assert_eq!(because(&facts).0, "Unschedulable");
}
