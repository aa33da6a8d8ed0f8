//! Planted bugs and real crash points: how the project proves that its tests can fail.
//!
//! Each [`PlantedBug`] is one deliberate mistake, switched on at run time in the one test build
//! (feature `faults`). Without that feature [`planted`] is a constant `false` and the mistake is not
//! in the binary at all.

/// A deliberate mistake that the simulation or the real-Kafka tests must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PlantedBug {
    /// Earlier generations' ids are not fenced at a take-over.
    SkipFence = 1,
    /// The fence mark is written before the ids are fenced.
    MarkBeforeFence,
    /// Committed offsets are read before the fences stand.
    ReadOffsetsBeforeFence,
    /// The second look for a later generation is left out.
    SkipSecondLook,
    /// A worker trusts what it was told instead of the stored generation.
    TrustOwnClaim,
    /// Offsets are committed without the state object that belongs to them.
    OffsetsWithoutState,
    /// The epoch commits before its state object is written.
    CommitBeforeObject,
    /// Checksums of state objects are not compared.
    IgnoreChecksum,
    /// Dirty state is kept after an aborted epoch.
    KeepStateAfterAbort,
    /// Deltas are forgotten when a base is merged.
    ForgetDeltaInMerge,
    /// The collector removes objects that are still named.
    CollectNamedObject,
    /// A task's watermark is the maximum of its inputs.
    WatermarkMaximum,
    /// A task moved here starts from the resolved start position, not the committed one.
    RestartMovedTask,
    /// The same producer goes on after an indefinite commit.
    ReuseProducerAfterTimeout,
    /// Only partitions that moved are in the offsets of a transaction.
    OffsetsOfMovedOnly,
    /// A fired window stays in the state and fires again after recovery.
    FireTwiceAfterRecovery,
    /// Watermark marks of repartition topics are forgotten at recovery.
    ForgetMarksOnRestore,
    /// Generation objects are overwritten instead of created.
    OverwriteGeneration,
    /// The pointer of a clean stop counts though its slot has gone on since.
    HonourSpentPointer,
    /// A process counts as a new one whenever it takes over, and not only when it comes up.
    EnlistAtEachTakeOver,
    /// How long a partition was quiet is measured by the wall clock.
    IdleByWallClock,
    /// A statement that comes back gets the ids of its former life.
    ReuseRetiredIds,
    /// Tasks keep their memory when the plan changes.
    KeepTasksAcrossPlans,
    /// A window that shares its panes with others is merged without the last of them.
    ForgetPane,
    /// A row that joins two sessions loses what the later of them had.
    ForgetJoinedSession,
    /// A session ends a gap after its first row, whatever came after that.
    EndSessionAtFirstGap,
    /// The row before a change is left out where a group falls out of a condition.
    LoseRetraction,
    /// A group that is in the state already is not written again when it changes.
    StaleGroup,
    /// The last one of the rows that a key keeps is not in its state.
    ForgetRank,
    /// That a key's first row has come out is not in the state.
    ForgetFirst,
}

impl PlantedBug {
    /// All of them, for tables.
    pub const ALL: &'static [Self] = &[
        Self::SkipFence,
        Self::MarkBeforeFence,
        Self::ReadOffsetsBeforeFence,
        Self::SkipSecondLook,
        Self::TrustOwnClaim,
        Self::OffsetsWithoutState,
        Self::CommitBeforeObject,
        Self::IgnoreChecksum,
        Self::KeepStateAfterAbort,
        Self::ForgetDeltaInMerge,
        Self::CollectNamedObject,
        Self::WatermarkMaximum,
        Self::RestartMovedTask,
        Self::ReuseProducerAfterTimeout,
        Self::OffsetsOfMovedOnly,
        Self::FireTwiceAfterRecovery,
        Self::ForgetMarksOnRestore,
        Self::OverwriteGeneration,
        Self::HonourSpentPointer,
        Self::EnlistAtEachTakeOver,
        Self::IdleByWallClock,
        Self::ReuseRetiredIds,
        Self::KeepTasksAcrossPlans,
        Self::ForgetPane,
        Self::ForgetJoinedSession,
        Self::EndSessionAtFirstGap,
        Self::LoseRetraction,
        Self::StaleGroup,
        Self::ForgetRank,
        Self::ForgetFirst,
    ];
}

/// Whether `bug` is switched on. Always `false`, at no cost, in builds without the feature `faults`.
#[cfg(not(feature = "faults"))]
#[inline]
#[must_use]
pub const fn planted(_bug: PlantedBug) -> bool {
    false
}

#[cfg(feature = "faults")]
mod switched {
    #![allow(clippy::disallowed_methods, reason = "fault switches of the test build come from its environment")]
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::PlantedBug;

    thread_local! {
        static PLANTED: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }
    static PROCESS_WIDE: std::sync::OnceLock<Option<PlantedBug>> = std::sync::OnceLock::new();

    /// Whether `bug` is switched on, for this thread or for the whole process.
    #[must_use]
    pub fn planted(bug: PlantedBug) -> bool {
        PLANTED.get() == Some(bug) || PROCESS_WIDE.get().copied().flatten() == Some(bug)
    }

    /// Switches `bug` on for this thread (a simulation runs on one); `None` switches it off.
    pub fn plant(bug: Option<PlantedBug>) {
        PLANTED.set(bug);
    }

    /// Switches on, for the whole process, the bug that `FRESHET_PLANTED_BUG` names.
    ///
    /// # Errors
    /// The name, when it is no planted bug.
    pub fn plant_from_environment() -> Result<(), String> {
        let Ok(name) = std::env::var("FRESHET_PLANTED_BUG") else { return Ok(()) };
        let bug = PlantedBug::ALL.iter().copied().find(|bug| format!("{bug:?}") == name);
        match bug {
            Some(bug) => {
                let _ = PROCESS_WIDE.set(Some(bug));
                Ok(())
            }
            None => Err(format!("FRESHET_PLANTED_BUG={name} is no planted bug; there are {:?}", PlantedBug::ALL)),
        }
    }

    /// Ends the process with SIGKILL at the n-th passing of a label: `FRESHET_CRASH_AT=label:n`.
    #[derive(Debug)]
    pub struct CrashSwitch {
        armed: Option<(String, u32)>,
        passed: Mutex<HashMap<&'static str, u32>>,
    }

    impl CrashSwitch {
        pub fn from_environment() -> Self {
            let armed = std::env::var("FRESHET_CRASH_AT").ok().map(|text| match text.rsplit_once(':') {
                Some((label, count)) => (label.to_owned(), count.parse().unwrap_or(1)),
                None => (text, 1),
            });
            Self { armed, passed: Mutex::new(HashMap::new()) }
        }

        pub fn pass(&self, label: &'static str) {
            let Some((armed, at)) = &self.armed else { return };
            if armed != label {
                return;
            }
            let mut passed = self.passed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let count = passed.entry(label).or_insert(0);
            *count += 1;
            if count == at {
                eprintln!("crash point {label} reached for the {at}. time: killing this process");
                std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status().ok();
                std::process::abort();
            }
        }
    }
}

#[cfg(feature = "faults")]
pub(crate) use switched::CrashSwitch;
#[cfg(feature = "faults")]
pub use switched::{plant, plant_from_environment, planted};
