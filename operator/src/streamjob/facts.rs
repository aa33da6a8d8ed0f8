//! Pure: what one pass knows. `observe` fills it once; nothing is read after that.

use freshet_crds::control::{PreflightReport, WorkerStatus};
use freshet_crds::reasons::Kind;

use super::pods::PodFact;
use super::validate::{Refusal, Valid};

/// What one pass knows of a job.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The clock, ms since the Unix epoch.
    pub now_ms: i64,
    /// When the resource was made.
    pub created_ms: i64,
    /// When it was told to go, if it was.
    pub deleted_ms: Option<i64>,
    /// Whether our finalizer keeps it.
    pub finalizer: bool,
    /// What it asks for.
    pub valid: Result<Valid, Refusal>,
    /// Topics that it names and that are not ready, each with why.
    pub unready_topics: Vec<String>,
    /// What was checked and handed out last, as the workers' ConfigMap has it.
    pub accepted: Option<Accepted>,
    /// How many pods the StatefulSet asks for; `None`: there is no StatefulSet.
    pub asked_pods: Option<u32>,
    /// Whether pods are replaced one after another, since the StatefulSet makes them otherwise now.
    pub restarting: bool,
    /// Why the StatefulSet makes fewer pods than it asks for, in Kubernetes' words, if that is why.
    pub refused_pods: Option<super::pods::Trouble>,
    /// When it was last asked to try again, ms since the Unix epoch.
    pub asked_again_ms: i64,
    /// The workers' pods, by ordinal.
    pub workers: Vec<WorkerFact>,
    /// Preflights that are there, of all revisions.
    pub preflights: Vec<PreflightFact>,
    /// Names of the ConfigMaps that preflights read, of all revisions.
    pub candidates: Vec<String>,
    /// What is to become of what the job leaves, once it is deleted.
    pub legacy: Legacy,
}

/// What becomes of state, offsets and internal topics when the job is deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum Legacy {
    /// They stay.
    Kept,
    /// Nothing was ever made.
    None,
    /// They are to be deleted.
    Deleted {
        /// The job as far as its retirement needs it: no SQL, no Topics.
        job: Box<Valid>,
        /// The attempts so far.
        attempts: Vec<RetirementFact>,
    },
    /// They should be deleted, but the spec says not where they are.
    Lost(Refusal),
}

/// A retirement Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetirementFact {
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// How it goes.
    pub state: RetirementState,
}

/// How a retirement goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetirementState {
    /// It runs, or waits for its pod to; with what keeps the pod from it.
    Running(Option<super::pods::Trouble>),
    /// Everything is deleted.
    Done,
    /// Something is left.
    Failed(PreflightFailure),
}

/// A revision that a preflight found good, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The revision.
    pub revision: String,
    /// The preflight's report.
    pub report: PreflightReport,
}

/// A worker's pod, and what the worker says.
#[derive(Debug, Clone)]
pub struct WorkerFact {
    /// The pod.
    pub pod: PodFact,
    /// Its slot.
    pub slot: u32,
    /// What the worker says; or why it could not be asked, where it should have answered.
    pub status: Option<Result<WorkerStatus, String>>,
}

/// A preflight Job.
#[derive(Debug, Clone)]
pub struct PreflightFact {
    /// The Job's name.
    pub name: String,
    /// Which revision it looks at.
    pub revision: String,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// The hash of what was particular about its pod.
    pub pod: Option<String>,
    /// When it was made, ms since the Unix epoch.
    pub made_ms: i64,
    /// How it goes.
    pub state: PreflightState,
}

/// How a preflight goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreflightState {
    /// It runs, or waits for its pod to; with what keeps the pod from it.
    Running(Option<super::pods::Trouble>),
    /// The job can run.
    Passed(PreflightReport),
    /// It can't, or it could not be found out.
    Failed(PreflightFailure),
}

/// Why a preflight failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightFailure {
    /// A reason of [`freshet_crds::reasons`], by name.
    pub reason: String,
    /// Whether it may pass.
    pub kind: Kind,
    /// The report's message.
    pub message: String,
    /// When it ended, ms since the Unix epoch.
    pub at_ms: i64,
}

impl Facts {
    /// The lineage of what was accepted last.
    #[must_use]
    pub fn lineage(&self) -> Option<&str> {
        self.accepted.as_ref()?.report.lineage.as_deref()
    }

    /// The generation that workers run: the newest that any of them holds, with its slots.
    #[must_use]
    pub fn running(&self) -> Option<(u64, u32)> {
        self.running_in(self.lineage())
    }

    /// The same in a lineage: those of another one are numbered by themselves.
    #[must_use]
    pub fn running_in(&self, lineage: Option<&str>) -> Option<(u64, u32)> {
        let here = self.answers().filter(|status| is_in(status, lineage));
        let held = here.filter_map(|status| Some((status.generation?, status.slots?)));
        held.max_by_key(|(generation, _)| *generation)
    }

    /// What workers answered.
    pub fn answers(&self) -> impl Iterator<Item = &WorkerStatus> {
        self.workers.iter().filter_map(|worker| worker.status.as_ref()?.as_ref().ok())
    }

    /// The worker of a slot.
    #[must_use]
    pub fn worker(&self, slot: u32) -> Option<&WorkerFact> {
        self.workers.iter().find(|worker| worker.slot == slot)
    }
}

/// Whether a worker is in `lineage`, as far as both are known.
#[must_use]
pub fn is_in(status: &WorkerStatus, lineage: Option<&str>) -> bool {
    let own = status.lineage.as_deref();
    own.is_none() || lineage.is_none() || own == lineage
}
