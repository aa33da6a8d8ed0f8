//! Is a slot alive, ready, and getting anywhere? Pure functions of facts and the time.
//!
//! * **live**: its thread comes round. A slot that is not live must be restarted.
//! * **ready**: it holds its tasks, or stands by for some, and has not failed. A slot that has nothing to do yet is as
//!   ready as it can be: were it not, a StatefulSet could not be scaled up before tasks are handed out to its slots.
//! * **progressing**: what waits gets committed. A job that is up but not progressing is never shown
//!   healthy; this is the question that such a job fails and the other two don't.

use std::collections::BTreeMap;
use std::fmt;

use freshet_crds::control::{Problem, Restored};
use serde::Serialize;

/// What a slot is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub enum Phase {
    /// It opens the lineage.
    Starting,
    /// There is no generation with tasks for it: it waits for one.
    StandingBy,
    /// It is taking its tasks over; nothing is read yet.
    TakingOver {
        /// Which step of the take-over.
        step: &'static str,
    },
    /// It loads state.
    Restoring,
    /// It reads, processes and commits.
    Running,
    /// It was asked to stop and commits a last epoch.
    Stopping,
    /// An attempt failed; it waits before the next.
    BackingOff,
    /// It gave up and will not go on by itself.
    Failed {
        /// Why, for a person.
        reason: String,
    },
}

/// What a slot runs since its last take-over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Runs {
    /// The generation.
    pub generation: u64,
    /// How many slots it has.
    pub slots: u32,
    /// The fingerprint of its plan.
    pub plan_fingerprint: String,
    /// The fingerprint of its plan and of how it is run.
    pub revision: String,
    /// What the take-over brought back.
    pub restored: Restored,
}

/// What the slot knows about itself. Times are ms since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// What it is doing.
    #[serde(flatten)]
    pub phase: Phase,
    /// Since when.
    pub phase_since_ms: i64,
    /// When its thread last came round.
    pub last_beat_ms: i64,
    /// What it runs.
    #[serde(flatten)]
    pub runs: Option<Runs>,
    /// What is wrong, from the first failed attempt on until it gets anywhere again.
    pub problem: Option<Problem>,
    /// What is wrong with each piece of upkeep whose last turn failed, since something committed.
    pub upkeep: BTreeMap<&'static str, Problem>,
    /// Inputs that somebody else's open transaction blocks, and since when that is known.
    pub blocked: BTreeMap<String, i64>,
    /// Age of the oldest record that is read next, ms.
    pub lag_ms: u64,
    /// The last epoch that committed.
    pub epoch: Option<u64>,
    /// When it committed.
    pub last_commit_ms: Option<i64>,
    /// Records that wait: not read yet, or processed and not committed.
    pub waiting_records: u64,
    /// Since when there has been no moment without any.
    pub waiting_since_ms: Option<i64>,
}

impl Facts {
    /// A slot that starts now.
    #[must_use]
    pub const fn starting(now_ms: i64) -> Self {
        Self {
            phase: Phase::Starting,
            phase_since_ms: now_ms,
            last_beat_ms: now_ms,
            runs: None,
            problem: None,
            upkeep: BTreeMap::new(),
            blocked: BTreeMap::new(),
            lag_ms: 0,
            epoch: None,
            last_commit_ms: None,
            waiting_records: 0,
            waiting_since_ms: None,
        }
    }

    /// The slot's thread came round.
    pub const fn beat(&mut self, now_ms: i64) {
        self.last_beat_ms = now_ms;
    }

    /// The slot is in `phase` now. Its time moves only when the phase changes.
    pub fn enter(&mut self, phase: Phase, now_ms: i64) {
        if self.phase != phase {
            if phase == Phase::StandingBy {
                self.begin_anew();
            }
            self.phase = phase;
            self.phase_since_ms = now_ms;
        }
        self.beat(now_ms);
    }

    /// An epoch committed: whatever was wrong no longer is.
    pub fn committed(&mut self, epoch: u64, now_ms: i64) {
        self.epoch = Some(epoch);
        self.last_commit_ms = Some(now_ms);
        self.problem = None;
        self.upkeep.clear();
        self.beat(now_ms);
    }

    /// An attempt failed. The time of a problem is that of its first failure.
    pub fn fails(&mut self, reason: &str, message: String, now_ms: i64) {
        self.problem = Some(again(self.problem.as_ref(), reason, message, now_ms));
        self.beat(now_ms);
    }

    /// A piece of upkeep was done, or failed with a reason and a message: for a slot that has nothing to commit, the
    /// only sign of what it works with.
    pub fn upkept(&mut self, piece: &'static str, outcome: Result<(), (&str, String)>, now_ms: i64) {
        match outcome {
            Ok(()) => {
                self.upkeep.remove(piece);
            }
            Err((reason, message)) => {
                let problem = again(self.upkeep.get(piece), reason, message, now_ms);
                self.upkeep.insert(piece, problem);
            }
        }
        self.beat(now_ms);
    }

    /// The slot holds other tasks now: what was said of the former ones is over.
    pub fn begin_anew(&mut self) {
        self.blocked.clear();
        self.upkeep.clear();
    }

    /// So many records wait now, read or not.
    pub fn waiting(&mut self, records: u64, now_ms: i64) {
        self.waiting_records = records;
        if records == 0 && self.phase == Phase::Running {
            // Nothing will commit, and nothing has to.
            self.problem = None;
        }
        self.waiting_since_ms = match (records, self.waiting_since_ms) {
            (0, _) => None,
            (_, Some(since)) => Some(since),
            (_, None) => Some(now_ms),
        };
        self.beat(now_ms);
    }
}

/// A problem that has the time of its first failure.
fn again(before: Option<&Problem>, reason: &str, message: String, now_ms: i64) -> Problem {
    let since_ms = before.filter(|problem| problem.reason == reason).map_or(now_ms, |problem| problem.since_ms);
    Problem { reason: reason.to_owned(), message, since_ms }
}

/// How long may pass before a fact is a fault, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without the slot's thread coming round.
    pub beat_ms: i64,
    /// With records waiting and no epoch committed.
    pub progress_ms: i64,
}

impl Limits {
    /// For a job with this epoch interval: a minute for the thread; for progress 10 s, or twenty epochs
    /// where that is longer.
    #[must_use]
    pub const fn for_epoch_interval(epoch_interval_ms: i64) -> Self {
        let twenty = epoch_interval_ms.saturating_mul(20);
        Self { beat_ms: 60_000, progress_ms: if twenty > 10_000 { twenty } else { 10_000 } }
    }
}

/// Why a slot is not what a probe asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Its thread has not come round for so long, ms.
    Stuck(i64),
    /// It has not begun to take over.
    Starting,
    /// It is taking over.
    TakingOver {
        /// At which step.
        step: &'static str,
        /// For how long, ms.
        for_ms: i64,
    },
    /// It waits before it tries again.
    BackingOff {
        /// Why the last attempt failed.
        why: String,
    },
    /// It is stopping as asked.
    Stopping,
    /// It gave up.
    Failed(String),
    /// Records wait and no epoch commits.
    NotCommitting {
        /// How many wait.
        records: u64,
        /// For how long, ms.
        for_ms: i64,
        /// The last epoch that committed.
        epoch: Option<u64>,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &i64| *ms as f64 / 1000.0;
        match self {
            Self::Stuck(ms) => write!(f, "the slot's thread has not come round for {:.1} s", seconds(ms)),
            Self::Starting => f.write_str("the slot is starting"),
            Self::TakingOver { step, for_ms } => {
                write!(f, "the slot is taking its tasks over ({step}) for {:.1} s", seconds(for_ms))
            }
            Self::BackingOff { why } => write!(f, "the slot waits before it tries again: {why}"),
            Self::Stopping => f.write_str("the slot is stopping as asked"),
            Self::Failed(reason) => write!(f, "the slot gave up: {reason}"),
            Self::NotCommitting { records, for_ms, epoch } => {
                write!(f, "{records} records wait and no epoch has committed for {:.1} s", seconds(for_ms))?;
                match epoch {
                    Some(epoch) => write!(f, "; the last was epoch {epoch}"),
                    None => f.write_str("; none ever has"),
                }
            }
        }
    }
}

impl Fault {
    /// It in words that stay the same for as long as it lasts: for a status that is written only where it changes.
    #[must_use]
    pub fn steady(&self) -> String {
        match self {
            Self::Stuck(_) => "the slot's thread does not come round".to_owned(),
            Self::NotCommitting { epoch: Some(epoch), .. } => {
                format!("records wait and no epoch commits; the last was epoch {epoch}")
            }
            Self::NotCommitting { epoch: None, .. } => "records wait and no epoch commits; none ever has".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Whether the slot's thread comes round.
///
/// # Errors
/// [`Fault::Stuck`] when it does not.
pub fn live(facts: &Facts, now_ms: i64, limits: Limits) -> Result<(), Fault> {
    let since = now_ms.saturating_sub(facts.last_beat_ms);
    if since > limits.beat_ms { Err(Fault::Stuck(since)) } else { Ok(()) }
}

/// Whether the slot holds its tasks, or stands by for some.
///
/// # Errors
/// What it is doing instead.
pub fn ready(facts: &Facts, now_ms: i64) -> Result<(), Fault> {
    match &facts.phase {
        Phase::Running | Phase::StandingBy => Ok(()),
        Phase::Starting => Err(Fault::Starting),
        Phase::TakingOver { step } => {
            Err(Fault::TakingOver { step, for_ms: now_ms.saturating_sub(facts.phase_since_ms) })
        }
        Phase::Restoring => {
            Err(Fault::TakingOver { step: "restoring state", for_ms: now_ms.saturating_sub(facts.phase_since_ms) })
        }
        Phase::BackingOff => Err(Fault::BackingOff {
            why: facts.problem.as_ref().map_or_else(|| "unknown".to_owned(), |problem| problem.message.clone()),
        }),
        Phase::Stopping => Err(Fault::Stopping),
        Phase::Failed { reason } => Err(Fault::Failed(reason.clone())),
    }
}

/// Whether what waits gets committed.
///
/// # Errors
/// Why not: the slot is not live or not ready, or records have waited past the limit without a commit.
pub fn progress(facts: &Facts, now_ms: i64, limits: Limits) -> Result<(), Fault> {
    live(facts, now_ms, limits)?;
    ready(facts, now_ms)?;
    if facts.phase != Phase::Running {
        return Ok(());
    }
    let Some(waiting_since) = facts.waiting_since_ms else { return Ok(()) };
    // Nothing can be expected to commit before it waits, nor before the slot runs.
    let since = waiting_since.max(facts.phase_since_ms).max(facts.last_commit_ms.unwrap_or(i64::MIN));
    let for_ms = now_ms.saturating_sub(since);
    if for_ms > limits.progress_ms {
        return Err(Fault::NotCommitting { records: facts.waiting_records, for_ms, epoch: facts.epoch });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { beat_ms: 60_000, progress_ms: 10_000 };

    fn running_since(ms: i64) -> Facts {
        let mut facts = Facts::starting(0);
        facts.enter(Phase::Running, ms);
        facts
    }

    #[test]
    fn a_slot_without_work_progresses_for_ever() {
        let mut facts = running_since(1_000);
        facts.committed(7, 2_000);
        facts.beat(10_000_000);
        assert_eq!(progress(&facts, 10_000_000, LIMITS), Ok(()));
    }

    #[test]
    fn waiting_records_must_commit_within_the_limit() {
        let mut facts = running_since(1_000);
        facts.committed(7, 2_000);
        facts.waiting(5, 50_000);
        assert_eq!(progress(&facts, 60_000, LIMITS), Ok(()));
        facts.waiting(9, 60_001);
        let fault = progress(&facts, 60_001, LIMITS).expect_err("past the limit");
        assert_eq!(fault, Fault::NotCommitting { records: 9, for_ms: 10_001, epoch: Some(7) });
        assert_eq!(fault.to_string(), "9 records wait and no epoch has committed for 10.0 s; the last was epoch 7");
    }

    #[test]
    fn a_commit_begins_the_wait_anew_and_an_empty_moment_ends_it() {
        let mut facts = running_since(0);
        facts.waiting(5, 0);
        facts.committed(1, 9_000);
        facts.waiting(5, 9_000);
        assert_eq!(progress(&facts, 19_000, LIMITS), Ok(()));
        assert!(progress(&facts, 19_001, LIMITS).is_err());
        facts.waiting(0, 19_001);
        facts.waiting(5, 19_002);
        assert_eq!(progress(&facts, 29_002, LIMITS), Ok(()));
    }

    #[test]
    fn a_take_over_is_not_progress_however_short() {
        let mut facts = Facts::starting(0);
        assert_eq!(progress(&facts, 0, LIMITS), Err(Fault::Starting));
        facts.enter(Phase::TakingOver { step: "fencing" }, 100);
        let fault = ready(&facts, 1_600).expect_err("taking over");
        assert_eq!(fault.to_string(), "the slot is taking its tasks over (fencing) for 1.5 s");
        assert_eq!(progress(&facts, 1_600, LIMITS), Err(fault));
        facts.enter(Phase::Running, 2_000);
        assert_eq!(progress(&facts, 2_000, LIMITS), Ok(()));
    }

    #[test]
    fn a_slot_without_tasks_is_ready_and_has_nothing_to_get_anywhere_with() {
        let mut facts = Facts::starting(0);
        facts.enter(Phase::StandingBy, 10);
        assert_eq!(ready(&facts, 50_000_000), Ok(()));
        assert_eq!(progress(&facts, 20, LIMITS), Ok(()));
    }

    #[test]
    fn a_problem_keeps_its_time_until_something_commits() {
        let mut facts = Facts::starting(0);
        facts.fails("KafkaUnavailable", "no answer".into(), 1_000);
        facts.fails("KafkaUnavailable", "still none".into(), 2_000);
        let problem = facts.problem.clone().expect("one");
        assert_eq!((problem.since_ms, problem.message.as_str()), (1_000, "still none"));
        facts.enter(Phase::BackingOff, 2_000);
        assert_eq!(ready(&facts, 2_000), Err(Fault::BackingOff { why: "still none".into() }));
        facts.enter(Phase::Running, 3_000);
        facts.waiting(3, 3_000);
        assert!(facts.problem.is_some(), "nothing has committed yet");
        facts.committed(1, 4_000);
        assert_eq!(facts.problem, None);
        facts.fails("StoreUnavailable", "no answer".into(), 5_000);
        facts.waiting(0, 6_000);
        assert_eq!(facts.problem, None, "nothing waits, so nothing is wrong");
    }

    #[test]
    fn failed_upkeep_of_an_idle_slot_is_wrong_until_its_next_turn() {
        let mut facts = running_since(0);
        let failed = |message: &str| Err(("KafkaUnavailable", message.to_owned()));
        facts.upkept("inputs", failed("no answer"), 1_000);
        facts.waiting(0, 1_500);
        facts.upkept("inputs", failed("still none"), 2_000);
        facts.upkept("watch", Ok(()), 2_500);
        let problem = facts.upkeep["inputs"].clone();
        assert_eq!((problem.since_ms, problem.message.as_str()), (1_000, "still none"));
        facts.upkept("inputs", Ok(()), 3_000);
        assert!(facts.upkeep.is_empty());
        // A commit needs the brokers and the store.
        facts.upkept("inputs", failed("no answer"), 4_000);
        facts.committed(2, 5_000);
        assert!(facts.upkeep.is_empty());
        // So it is where it has no tasks any more.
        facts.upkept("inputs", failed("no answer"), 6_000);
        facts.blocked.insert("t[0]".to_owned(), 6_000);
        facts.enter(Phase::StandingBy, 7_000);
        assert!(facts.upkeep.is_empty() && facts.blocked.is_empty());
    }

    #[test]
    fn time_before_the_slot_runs_does_not_count() {
        let mut facts = Facts::starting(0);
        facts.waiting(1, 0);
        facts.enter(Phase::Running, 50_000);
        assert_eq!(progress(&facts, 60_000, LIMITS), Ok(()));
        assert!(progress(&facts, 60_001, LIMITS).is_err());
    }

    #[test]
    fn a_stuck_thread_is_not_live_whatever_it_last_said() {
        let facts = running_since(0);
        assert_eq!(live(&facts, 60_000, LIMITS), Ok(()));
        assert_eq!(live(&facts, 60_001, LIMITS), Err(Fault::Stuck(60_001)));
        assert_eq!(progress(&facts, 60_001, LIMITS), Err(Fault::Stuck(60_001)));
        assert_eq!(ready(&facts, 60_001), Ok(()));
    }

    #[test]
    fn a_phase_keeps_its_time_until_it_changes() {
        let mut facts = running_since(1_000);
        facts.enter(Phase::Running, 5_000);
        assert_eq!(facts.phase_since_ms, 1_000);
        facts.enter(Phase::Failed { reason: "InputTruncated".into() }, 6_000);
        assert_eq!(facts.phase_since_ms, 6_000);
        assert_eq!(ready(&facts, 6_000), Err(Fault::Failed("InputTruncated".into())));
    }

    #[test]
    fn limits_follow_long_epochs() {
        assert_eq!(Limits::for_epoch_interval(100).progress_ms, 10_000);
        assert_eq!(Limits::for_epoch_interval(5_000).progress_ms, 100_000);
    }
}
