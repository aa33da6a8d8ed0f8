//! The slot: one worker's share of a job, from take-over to clean stop.
//!
//! A slot owns the tasks that the newest generation of the assignment gives it. It takes them over behind
//! fences ([`takeover`]), runs them over batches of records, and commits *epochs*: output, offsets and
//! state become true together, in one Kafka transaction, or not at all.
//!
//! ```text
//! run ─▶ take over ─▶ work ──────────────▶ stop (a last epoch, a pointer)
//!  ▲        │           │ a later generation, an indefinite or fenced commit, a store or broker away
//!  └────────┴───────────┘ (everything in memory that is newer than the last commit is thrown away)
//! ```
//!
//! # The epoch
//! 1. *Cut* at a batch boundary: tasks flush, the rows of state that changed become one immutable object.
//! 2. The object is written, and every record of the transaction is acknowledged.
//! 3. Offsets of every input partition of every task are sent to the transaction, with
//!    `v1|generation|epoch|slot|object` beside each.
//! 4. The transaction commits. That is the only commit point.
//!
//! Steps 2 to 4 run while the next batches are processed; what those give waits, bounded, until the next
//! transaction can begin. After a failure in any of them the producer is destroyed and the slot takes over from
//! itself: it never begins again on the same producer.
//!
//! Everything here is asynchronous but on one thread, and takes clock, log and store from outside, so that
//! the simulation runs this very code.

mod awake;
mod commit;
mod cut;
pub mod error;
pub mod events;
mod held_back;
pub(crate) mod inputs;
pub mod offsets;
pub mod takeover;
mod tasks;
mod upkeep;
mod work;

use std::rc::Rc;
use std::time::Duration;

use freshet_engine::{OnBadRecord, OnLate};
use freshet_env::{LocalFuture, SharedEnv};
use freshet_log::Log;
use freshet_state::generation::Generation;
use freshet_state::lineage::Lineage;
use freshet_state::run_policy::{BadRecords, LateRecords};
use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::{Either, Shared, select};

pub(crate) use error::NEXT_GENERATION;
pub use error::SlotError;
pub use events::{Deaf, EpochReport, Phase, SlotEvents, TakenOver, TaskReport};
use takeover::Outcome;
pub use takeover::Process;
use tasks::Kept;
pub(crate) use tasks::{Programs, input_topic, keys_by_partition, stage_tasks};
use work::WorkEnd;

/// The transactional id of a slot in a generation.
#[must_use]
pub fn transactional_id(lineage: &str, generation: u64, slot: u32) -> String {
    format!("freshet/{lineage}/{generation}/{slot}")
}

/// How a generation's records are handled, beside its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPolicy {
    /// The job's name.
    pub name: String,
    /// Time between the cuts of two epochs.
    pub epoch_interval: Duration,
    /// What is done with bad records.
    pub on_bad_record: OnBadRecord,
    /// What is done with late records.
    pub on_late: OnLate,
}

impl JobPolicy {
    /// The policy of `generation` of the job called `name`.
    ///
    /// # Errors
    /// [`SlotError::Plan`]: a generation of version 1 does not say.
    pub fn of(generation: &Generation, name: &str) -> Result<Self, SlotError> {
        let policy = crate::job::policy_of(generation)?;
        Ok(Self {
            name: name.to_owned(),
            epoch_interval: Duration::from_millis(policy.epoch_interval_ms.max(1)),
            on_bad_record: match &policy.on_bad_record {
                BadRecords::Fail => OnBadRecord::Fail,
                BadRecords::Skip => OnBadRecord::Skip,
                BadRecords::DeadLetter { topic } => OnBadRecord::DeadLetter(topic.clone()),
            },
            on_late: match &policy.on_late {
                LateRecords::Drop => OnLate::Drop,
                LateRecords::DeadLetter { topic } => OnLate::DeadLetter(topic.clone()),
            },
        })
    }
}

/// Intervals and bounds of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// How often the store is asked for a later generation.
    pub watch_interval: Duration,
    /// How often garbage is collected, by slot 0.
    pub collect_interval: Duration,
    /// How long garbage stays all the same.
    pub collect_grace: Duration,
    /// How often inputs are checked for new partitions and hanging transactions, and consumed internal records are
    /// deleted. A job that has nothing to read hears in no other way that its brokers are away; with the time that
    /// they have to answer it is told within half a minute.
    pub upkeep_interval: Duration,
    /// After how long without a commit offsets are committed again, so that they do not expire.
    pub recommit_interval: Duration,
    /// How many bytes of output may wait for the next transaction before reading stops.
    pub waiting_bytes: usize,
    /// How long a state object may take to be written, tries included.
    pub upload_deadline: Duration,
    /// The longest wait between two tries to take over.
    pub longest_backoff: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            watch_interval: Duration::from_secs(2),
            collect_interval: Duration::from_secs(60),
            collect_grace: Duration::from_secs(120),
            upkeep_interval: Duration::from_secs(6),
            recommit_interval: Duration::from_secs(3600),
            waiting_bytes: 16 << 20,
            upload_deadline: Duration::from_secs(20),
            longest_backoff: Duration::from_secs(5),
        }
    }
}

/// Everything that a slot needs.
pub struct Slot {
    /// Its number in the assignment.
    pub number: u32,
    /// The job's lineage, open.
    pub lineage: Lineage,
    /// Intervals and bounds.
    pub tuning: Tuning,
    /// Clock, timers, chance.
    pub env: SharedEnv,
    /// The log.
    pub log: Rc<dyn Log>,
    /// Who listens.
    pub events: Rc<dyn SlotEvents>,
}

impl Slot {
    /// The job's name.
    #[must_use]
    pub fn job(&self) -> &str {
        &self.lineage.record().owner.name
    }
}

/// Asks a slot to stop cleanly. Dropping it asks for nothing.
#[derive(Debug)]
pub struct StopHandle(oneshot::Sender<()>);

impl StopHandle {
    /// Stops the slot after one last epoch.
    pub fn stop(self) {
        // A slot that has ended already has stopped.
        let _ = self.0.send(());
    }
}

/// A slot's end of a [`StopHandle`].
#[derive(Clone)]
pub struct StopSignal(Shared<LocalFuture<'static, ()>>);

impl StopSignal {
    /// A handle and its signal.
    #[must_use]
    pub fn new() -> (StopHandle, Self) {
        let (sender, receiver) = oneshot::channel();
        let asked: LocalFuture<'static, ()> = Box::pin(async move {
            if receiver.await.is_err() {
                futures::future::pending::<()>().await;
            }
        });
        (StopHandle(sender), Self(asked.shared()))
    }

    /// Completes once the handle has asked to stop.
    pub fn asked(&self) -> Shared<LocalFuture<'static, ()>> {
        self.0.clone()
    }
}

impl std::fmt::Debug for StopSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StopSignal")
    }
}

/// Runs a slot until it is asked to stop or can't go on.
///
/// `claim` is the generation that the slot was told; it is written if nothing is stored under its number.
/// Without one the slot runs whatever the generation log says, and stands by until it says something.
///
/// # Errors
/// What only a person can mend ([`SlotError::is_transient`] is false), or that the slot was replaced.
pub async fn run(slot: &Slot, claim: Option<Generation>, stop: &StopSignal) -> Result<(), SlotError> {
    run_as(slot, &mut Process::default(), claim, stop).await
}

/// As [`run`], by a process that may have run the slot in this lineage before: it keeps its rank, so that one which
/// tries again after a failure is not taken for a newer one.
///
/// # Errors
/// As [`run`].
pub async fn run_as(
    slot: &Slot,
    process: &mut Process,
    claim: Option<Generation>,
    stop: &StopSignal,
) -> Result<(), SlotError> {
    let mut claim = claim;
    let mut kept = Kept::default();
    let mut failures = 0_u32;
    loop {
        slot.events.phase(Phase::TakingOver);
        let taking_over = takeover::take_over(slot, process, claim.take(), &mut kept);
        let outcome = match select(std::pin::pin!(taking_over), stop.asked()).await {
            Either::Left((outcome, _)) => outcome,
            // Nothing is open yet that a successor would not fence.
            Either::Right(((), _)) => return Ok(()),
        };
        let ended = match outcome {
            Ok(Outcome::Ready(ready)) => {
                failures = 0;
                slot.events.phase(Phase::Working);
                work::work(slot, *ready, stop, &mut kept).await
            }
            Ok(Outcome::Again) => Ok(WorkEnd::Again),
            Ok(Outcome::StandBy) => {
                slot.events.phase(Phase::StandingBy);
                if wait(slot, slot.tuning.watch_interval, stop).await {
                    return Ok(());
                }
                Ok(WorkEnd::Again)
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(WorkEnd::Stopped) => return Ok(()),
            Ok(WorkEnd::Again) => {}
            // What follows is the caller's matter, and nothing has failed.
            Err(error @ SlotError::LineageEnded(_)) => return Err(error),
            Err(error) => {
                let error = judged(slot, process, error).await;
                slot.events.failed(&error, error.is_transient());
                if !error.is_transient() {
                    return Err(error);
                }
                slot.events.phase(Phase::BackingOff);
                if wait(slot, backoff(slot, failures), stop).await {
                    return Ok(());
                }
                failures += 1;
            }
        }
    }
}

/// What a failure that only a person could mend means, once it is known whether the slot's tasks are still its own.
///
/// A process that stood still while others took its tasks over finds strange things when it wakes: records that
/// it wanted to read are consumed and deleted, objects that it wanted to load are collected. That is nothing to
/// tell a person, and nothing to end for: it begins again, and finds out what it is now.
async fn judged(slot: &Slot, process: &Process, error: SlotError) -> SlotError {
    let (Some(generation), Some(ours)) = (process.held, process.rank) else { return error };
    if error.is_transient() {
        return error;
    }
    let log = slot.lineage.generations();
    let asked = async { Ok((log.latest_number().await?, log.latest_process(slot.number).await?)) };
    match asked.await {
        Ok((by, _)) if by > generation => SlotError::Superseded { by },
        Ok((_, by)) if by > ours => SlotError::Replaced { slot: slot.number, by, ours },
        Ok(_) => error,
        // Not known yet: the next attempt fails in the same way, or does not.
        Err(unknown) => SlotError::State(unknown),
    }
}

/// Waits, and says whether the slot was asked to stop meanwhile.
async fn wait(slot: &Slot, duration: Duration, stop: &StopSignal) -> bool {
    matches!(select(slot.env.sleep(duration), stop.asked()).await, Either::Right(_))
}

/// Exponential from 50 ms, with jitter, so that slots that failed together do not try again together.
fn backoff(slot: &Slot, failures: u32) -> Duration {
    let longest = Duration::from_millis(50 << failures.min(10)).min(slot.tuning.longest_backoff);
    longest / 2 + longest.mul_f64((slot.env.random_u64() % 1000) as f64 / 2000.0)
}
