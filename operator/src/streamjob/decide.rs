//! Pure: from facts to what is done next. A pass does what [`decide`] says and ends; the next one looks again.
//!
//! ```text
//! spec refused ─▶ Refused: what runs goes on
//!    │ good
//! Topics not ready ─▶ WaitingForTopics
//!    │ ready
//! this revision not checked yet ─▶ Checking: a preflight Job looks at state, store, brokers, rights, and hands out
//!    │                             the generation; running workers take it over by themselves
//!    │ checked                     ─▶ CheckFailed: tried again after a while; what runs goes on
//! StatefulSet and assignment ─▶ Starting, Rescaling, Running
//! ```
//!
//! # The order of scaling
//! More workers: first the pods, then, when all of them stand by, the assignment. Fewer: first the assignment, then,
//! when the workers that stay run it, the pods. So a slot that has tasks always has a pod.
//!
//! # What is written before it is done
//! A revision is accepted by writing the workers' ConfigMap with the preflight's report beside it. Before that the
//! StatefulSet is not touched, after it there is only forward. The number of a generation is the store's matter.

use freshet_crds::control::{PreflightReport, WorkerPhase};
use freshet_crds::reasons::{FAILED_CREATE, Kind};

use super::facts::{Facts, Legacy, PreflightFact, PreflightFailure, PreflightState, RetirementState, is_in};
use super::names;
use super::pods::Trouble;
use super::validate::{Refusal, Valid};

/// What is done next, and where the job stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Where it stands.
    pub stage: Stage,
    /// What is done, in this order; the first that fails ends the pass.
    pub actions: Vec<Action>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// The spec can't work. What runs goes on.
    Refused(Refusal),
    /// A Topic that the job names was not there yet when both were applied: it may be on its way.
    Arriving(Refusal),
    /// Topics that it names are not ready; each with why.
    WaitingForTopics(Vec<String>),
    /// A preflight looks at the revision. `last`: why the attempt before it failed.
    Checking {
        /// Which attempt it is, from 1.
        attempt: u32,
        /// What keeps its pod from running.
        trouble: Option<Trouble>,
        /// Why the attempt before failed.
        last: Option<PreflightFailure>,
    },
    /// The preflight found that it can't run; it is tried again after a while.
    CheckFailed(PreflightFailure),
    /// Workers get their tasks, or run: how well is the workers' to say.
    Running,
    /// The revision is accepted, and not all workers run it yet.
    TakingOver {
        /// The generation that they take over.
        generation: u64,
    },
    /// The number of workers changes.
    Rescaling {
        /// How many slots the assignment has.
        from: u32,
        /// How many are asked for.
        to: u32,
        /// What is waited for.
        step: RescaleStep,
    },
    /// Workers commit a last epoch and go; so many are left.
    Suspending(usize),
    /// Suspended as asked.
    Suspended,
    /// The resource is deleted; so many workers are left.
    Deleting(usize),
    /// It is deleted with its state, which a retirement Job does.
    Retiring {
        /// Which attempt it is, from 1.
        attempt: u32,
        /// What keeps its pod from running.
        trouble: Option<Trouble>,
        /// Why the attempt before failed.
        last: Option<PreflightFailure>,
    },
}

/// What a change of the number of workers waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RescaleStep {
    /// The new pods, which are to stand by.
    Pods,
    /// The workers that stay, which are to run the new assignment.
    Assignment,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Keep the resource until its workers have stopped.
    AddFinalizer,
    /// Let the resource go. `waited_for`: what was not waited for any longer.
    RemoveFinalizer {
        /// What was left when the deadline passed, or could not be done.
        waited_for: Option<String>,
    },
    /// Make what a retirement needs, and the retirement.
    StartRetirement {
        /// Which attempt it is.
        attempt: u32,
    },
    /// Make what a preflight needs, and the preflight.
    StartPreflight {
        /// Which attempt it is.
        attempt: u32,
        /// How many slots the assignment is to have.
        slots: u32,
    },
    /// Remove what nobody reads any more of preflights.
    RemovePreflights {
        /// Jobs, by name.
        jobs: Vec<String>,
        /// ConfigMaps that they read.
        manifests: Vec<String>,
    },
    /// Write the workers' ConfigMap: the revision is accepted.
    Accept(Box<PreflightReport>),
    /// Make or mend the workers' children, with so many pods.
    ApplyWorkers {
        /// How many pods.
        pods: u32,
    },
    /// Only change how many pods there are: what they run is not the spec's.
    ResizeWorkers {
        /// How many pods.
        pods: u32,
    },
    /// Ask a worker to hand out the next generation.
    HandOut {
        /// How many slots it is to have.
        slots: u32,
    },
    /// Have the StatefulSet's controller try again at once to make pods: left alone it waits ever longer.
    AskAgain,
    /// Delete a pod whose worker ended for good under a former revision: kubelet would start it after minutes.
    Replace {
        /// The pod's name.
        pod: String,
    },
    /// Remove a pod whose node is lost: the StatefulSet would wait for it for ever, and the fences keep it apart.
    ForceDelete {
        /// The pod's name.
        pod: String,
    },
}

/// How long after a failed preflight the next one starts. It should be well below what a person who mended
/// something waits for.
const RETRY_MS: i64 = 8_000;

/// How long a job and its Topics may take to arrive after one another.
const ARRIVAL_MS: i64 = 5_000;

/// How long a pod may outlive its grace period before its node counts as lost.
const LOST_MS: i64 = 10_000;

/// What is done next.
#[must_use]
pub fn decide(facts: &Facts, deletion_deadline_ms: i64) -> Decision {
    if let Some(since) = facts.deleted_ms {
        return delete(facts, since, deletion_deadline_ms);
    }
    let mut actions = Vec::new();
    if !facts.finalizer {
        actions.push(Action::AddFinalizer);
    }
    actions.extend(lost_pods(facts));
    let stage = match &facts.valid {
        Err(refusal) => refused(facts, refusal),
        Ok(valid) if valid.suspended => suspend(facts, &mut actions),
        Ok(valid) => run(facts, valid, &mut actions),
    };
    let (jobs, manifests) = (stale_preflights(facts), stale_candidates(facts));
    if !jobs.is_empty() || !manifests.is_empty() {
        // First, so that no report of a former revision is there once another one is accepted: should the spec go
        // back to it, it is looked at anew.
        actions.insert(0, Action::RemovePreflights { jobs, manifests });
    }
    Decision { stage, actions }
}

fn delete(facts: &Facts, since: i64, deadline_ms: i64) -> Decision {
    let mut actions: Vec<Action> = lost_pods(facts).collect();
    let left = facts.workers.len();
    if !facts.finalizer {
        return Decision { stage: Stage::Deleting(left), actions: Vec::new() };
    }
    if facts.asked_pods.is_some_and(|pods| pods > 0) {
        actions.push(Action::ResizeWorkers { pods: 0 });
    }
    if matches!(facts.legacy, Legacy::Deleted { .. }) && !facts.preflights.is_empty() {
        // One that still runs would begin what is to end. The others go with the resource.
        let jobs = facts.preflights.iter().map(|preflight| preflight.name.clone()).collect();
        actions.push(Action::RemovePreflights { jobs, manifests: Vec::new() });
    }
    let overdue = facts.now_ms - since >= deadline_ms;
    let looked = !matches!(facts.legacy, Legacy::Deleted { .. }) || facts.preflights.is_empty();
    let stopped = looked && left == 0 && facts.asked_pods.is_none_or(|pods| pods == 0);
    let mut stage = Stage::Deleting(left);
    let ends = if stopped {
        match retire(facts, &mut stage, &mut actions) {
            Retire::Over => Some(None),
            Retire::UnderWay => overdue.then(|| Some(undeleted(&stage))),
        }
    } else {
        let names = || facts.workers.iter().map(|worker| worker.pod.name.as_str()).collect::<Vec<_>>().join(", ");
        overdue.then(|| Some(names()))
    };
    if let Some(waited_for) = ends {
        // What was begun a moment ago is waited for no longer.
        actions.retain(|action| !matches!(action, Action::StartRetirement { .. }));
        actions.push(Action::RemoveFinalizer { waited_for });
    }
    Decision { stage, actions }
}

/// What was not waited for any longer, with what has kept it.
fn undeleted(stage: &Stage) -> String {
    const WHAT: &str = "the deletion of its state, which stays";
    match stage {
        Stage::Retiring { trouble: Some(Trouble { reason, message }), .. }
        | Stage::Retiring { last: Some(PreflightFailure { reason, message, .. }), .. } => {
            format!("{WHAT}: {reason}: {message}")
        }
        _ => WHAT.to_owned(),
    }
}

/// How far the deletion of what a job leaves is.
enum Retire {
    /// There is nothing more to do.
    Over,
    /// It is waited for.
    UnderWay,
}

/// The workers are gone: what they leave is deleted, if it should be.
fn retire(facts: &Facts, stage: &mut Stage, actions: &mut Vec<Action>) -> Retire {
    let attempts = match &facts.legacy {
        Legacy::Kept | Legacy::None => return Retire::Over,
        // Until the deadline somebody may say where it is.
        Legacy::Lost(Refusal { reason, message }) => {
            let (reason, kind, message) = (reason.name.to_owned(), reason.kind, message.clone());
            let last = Some(PreflightFailure { reason, kind, message, at_ms: facts.now_ms });
            *stage = Stage::Retiring { attempt: 1, trouble: None, last };
            return Retire::UnderWay;
        }
        Legacy::Deleted { attempts, .. } => attempts,
    };
    let newest = attempts.iter().max_by_key(|fact| fact.attempt);
    let failed = attempts.iter().filter_map(|fact| match &fact.state {
        RetirementState::Failed(failure) => Some((fact.attempt, failure.clone())),
        _ => None,
    });
    let last = failed.max_by_key(|(attempt, _)| *attempt).map(|(_, failure)| failure);
    let (attempt, trouble) = match newest.map(|fact| (fact.attempt, &fact.state)) {
        None => (1, None),
        Some((_, RetirementState::Done)) => return Retire::Over,
        Some((attempt, RetirementState::Running(trouble))) => {
            *stage = Stage::Retiring { attempt, trouble: trouble.clone(), last };
            return Retire::UnderWay;
        }
        Some((attempt, RetirementState::Failed(failure))) if facts.now_ms - failure.at_ms < RETRY_MS => {
            *stage = Stage::Retiring { attempt, trouble: None, last };
            return Retire::UnderWay;
        }
        Some((attempt, RetirementState::Failed(_))) => (attempt + 1, None),
    };
    actions.push(Action::StartRetirement { attempt });
    *stage = Stage::Retiring { attempt, trouble, last };
    Retire::UnderWay
}

fn refused(facts: &Facts, refusal: &Refusal) -> Stage {
    let young = facts.now_ms - facts.created_ms < ARRIVAL_MS;
    if young && refusal.reason == &freshet_crds::reasons::TOPIC_NOT_FOUND {
        Stage::Arriving(refusal.clone())
    } else {
        Stage::Refused(refusal.clone())
    }
}

fn suspend(facts: &Facts, actions: &mut Vec<Action>) -> Stage {
    if facts.asked_pods.is_some_and(|pods| pods > 0) {
        actions.push(Action::ResizeWorkers { pods: 0 });
    }
    let left = facts.workers.len();
    if left > 0 || facts.asked_pods.is_some_and(|pods| pods > 0) { Stage::Suspending(left) } else { Stage::Suspended }
}

fn run(facts: &Facts, valid: &Valid, actions: &mut Vec<Action>) -> Stage {
    match &facts.accepted {
        Some(accepted) if accepted.revision == valid.revision && !overtaken(facts, &accepted.report) => {
            workers(facts, valid, &accepted.report, actions)
        }
        _ => check(facts, valid, actions),
    }
}

/// Whether workers run another plan than the accepted one: the spec went to another revision and came back before the
/// other one was accepted, but not before its preflight had handed a generation out. Only a preflight of the spec's
/// revision hands out the one that puts it right.
fn overtaken(facts: &Facts, report: &PreflightReport) -> bool {
    let here = facts.answers().filter(|status| is_in(status, report.lineage.as_deref()));
    let newest = here.max_by_key(|status| status.generation);
    newest.is_some_and(|status| {
        let later = status.generation > report.generation;
        later && matches!((&status.revision, &report.revision), (Some(runs), Some(accepted)) if runs != accepted)
    })
}

/// The revision was not accepted yet: a preflight looks at it.
fn check(facts: &Facts, valid: &Valid, actions: &mut Vec<Action>) -> Stage {
    let slots = facts.running().map(|(_, slots)| slots).or(facts.asked_pods).filter(|slots| *slots > 0);
    let slots = slots.unwrap_or(valid.replicas);
    let of_revision = facts.preflights.iter().filter(|preflight| preflight.revision == valid.revision);
    let mut attempts: Vec<&PreflightFact> = of_revision.collect();
    attempts.sort_by_key(|preflight| preflight.attempt);
    let before = |attempt: u32| {
        attempts.iter().rev().filter(|preflight| preflight.attempt < attempt).find_map(|preflight| {
            match &preflight.state {
                PreflightState::Failed(failure) => Some(failure.clone()),
                _ => None,
            }
        })
    };
    match attempts.last() {
        None if !facts.unready_topics.is_empty() => Stage::WaitingForTopics(facts.unready_topics.clone()),
        None => {
            actions.push(Action::StartPreflight { attempt: 1, slots });
            Stage::Checking { attempt: 1, trouble: None, last: None }
        }
        // Its pod can't run, and what is particular about it is another matter by now; or no pod is made for it: another
        // Job is tried at once, this one ever more rarely.
        Some(PreflightFact { attempt, made_ms, pod, state: PreflightState::Running(Some(trouble)), .. })
            if *pod != Some(valid.pods.hash())
                || trouble.reason == FAILED_CREATE.name && facts.now_ms - made_ms >= RETRY_MS =>
        {
            actions.push(Action::StartPreflight { attempt: attempt + 1, slots });
            Stage::Checking { attempt: attempt + 1, trouble: Some(trouble.clone()), last: before(*attempt) }
        }
        Some(PreflightFact { attempt, state: PreflightState::Running(trouble), .. }) => {
            Stage::Checking { attempt: *attempt, trouble: trouble.clone(), last: before(*attempt) }
        }
        Some(PreflightFact { state: PreflightState::Passed(report), .. }) => {
            actions.push(Action::Accept(Box::new(report.clone())));
            let stage = workers(facts, valid, report, actions);
            let ended = facts.workers.iter().filter(|worker| worker.pod.end.is_some());
            actions.extend(ended.map(|worker| Action::Replace { pod: worker.pod.name.clone() }));
            stage
        }
        Some(PreflightFact { attempt, pod, state: PreflightState::Failed(failure), .. }) => {
            if facts.now_ms - failure.at_ms >= RETRY_MS || *pod != Some(valid.pods.hash()) {
                actions.push(Action::StartPreflight { attempt: attempt + 1, slots });
                Stage::Checking { attempt: attempt + 1, trouble: None, last: Some(failure.clone()) }
            } else {
                Stage::CheckFailed(failure.clone())
            }
        }
    }
}

/// Preflights that nobody reads any more: of other revisions, and attempts that a later one has replaced.
fn stale_preflights(facts: &Facts) -> Vec<String> {
    let Ok(valid) = &facts.valid else { return Vec::new() };
    let newest = |finished: bool| {
        facts
            .preflights
            .iter()
            .filter(|preflight| preflight.revision == valid.revision)
            .filter(|preflight| !finished || !matches!(preflight.state, PreflightState::Running(_)))
            .map(|preflight| preflight.attempt)
            .max()
    };
    // The last that ended is kept until the next one has: it says why things are as they are.
    let kept = newest(true).or(newest(false)).unwrap_or(0);
    let stale =
        facts.preflights.iter().filter(|preflight| preflight.revision != valid.revision || preflight.attempt < kept);
    stale.map(|preflight| preflight.name.clone()).collect()
}

/// ConfigMaps of preflights of other revisions.
fn stale_candidates(facts: &Facts) -> Vec<String> {
    let Ok(valid) = &facts.valid else { return Vec::new() };
    let kept = names::preflight_manifests(&valid.name, &valid.revision);
    facts.candidates.iter().filter(|name| **name != kept).cloned().collect()
}

/// The revision is accepted: pods and assignment.
fn workers(facts: &Facts, valid: &Valid, report: &PreflightReport, actions: &mut Vec<Action>) -> Stage {
    if facts.refused_pods.is_some() && facts.now_ms - facts.asked_again_ms >= RETRY_MS {
        actions.push(Action::AskAgain);
    }
    let wanted = valid.replicas;
    let lineage = report.lineage.as_deref();
    let Some((generation, slots)) = facts.running_in(lineage) else {
        // Nobody has said what runs. The stored assignment may have more slots than are asked for, and never has
        // a pod too few; pods are taken away only when a worker has confirmed the assignment.
        let known = report.slots.unwrap_or(wanted).max(facts.asked_pods.unwrap_or(0));
        actions.push(Action::ApplyWorkers { pods: known.max(wanted) });
        return Stage::Running;
    };
    let runs_it = |slot: u32| {
        facts.worker(slot).and_then(|worker| worker.status.as_ref()?.as_ref().ok()).is_some_and(|status| {
            // A worker without tasks holds no generation, and has nothing to take over.
            is_in(status, lineage)
                && status.generation == Some(generation)
                && matches!(status.phase, WorkerPhase::Running | WorkerPhase::StandingBy)
                || status.generation.is_none() && status.phase == WorkerPhase::StandingBy
        })
    };
    let handed_out = report.generation.unwrap_or(0);
    let stage = if generation < handed_out { Stage::TakingOver { generation: handed_out } } else { Stage::Running };
    if slots < wanted {
        actions.push(Action::ApplyWorkers { pods: wanted });
        let stands_by = |slot: u32| {
            let answer = facts.worker(slot).and_then(|worker| worker.status.as_ref()?.as_ref().ok());
            answer.is_some_and(|status| status.ready)
        };
        let there = (slots..wanted).all(stands_by);
        if there && generation >= handed_out {
            actions.push(Action::HandOut { slots: wanted });
        }
        let step = if there { RescaleStep::Assignment } else { RescaleStep::Pods };
        return Stage::Rescaling { from: slots, to: wanted, step };
    }
    if slots > wanted {
        actions.push(Action::ApplyWorkers { pods: slots.max(facts.asked_pods.unwrap_or(0)) });
        if generation >= handed_out {
            actions.push(Action::HandOut { slots: wanted });
        }
        return Stage::Rescaling { from: slots, to: wanted, step: RescaleStep::Assignment };
    }
    let surplus = facts.asked_pods.is_some_and(|pods| pods > wanted);
    if surplus && !(0..wanted).all(runs_it) {
        actions.push(Action::ApplyWorkers { pods: facts.asked_pods.unwrap_or(wanted) });
        let from = facts.asked_pods.unwrap_or(wanted);
        return Stage::Rescaling { from, to: wanted, step: RescaleStep::Assignment };
    }
    actions.push(Action::ApplyWorkers { pods: wanted });
    stage
}

fn lost_pods(facts: &Facts) -> impl Iterator<Item = Action> + '_ {
    let lost = facts
        .workers
        .iter()
        .filter(|worker| worker.pod.gone_by_ms.is_some_and(|gone_by| facts.now_ms - gone_by > LOST_MS));
    lost.map(|worker| Action::ForceDelete { pod: worker.pod.name.clone() })
}

/// The kind of a reason that a report names; one that this build does not know is taken for one that may pass when
/// the report's maker said so.
#[must_use]
pub fn kind_of(reason: &str, refused: bool) -> Kind {
    match freshet_crds::reasons::find(reason).map(|reason| reason.kind) {
        Some(Kind::Good) | None => {
            if refused {
                Kind::Stalled
            } else {
                Kind::Passing
            }
        }
        Some(kind) => kind,
    }
}
