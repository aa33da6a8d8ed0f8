//! Where a task begins: a pure judgement on what was committed for it.

use freshet_env::{PlantedBug, planted};
use freshet_log::CommittedOffset;
use freshet_state::TaskId;
use freshet_state::generation::PointerOffset;
use freshet_state::metadata::CommitMetadata;

use super::error::SlotError;

/// All that is known of a task when its slot starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFacts {
    /// The task.
    pub task: TaskId,
    /// What its group has committed for its input partition.
    pub committed: Option<CommittedOffset>,
    /// Whether its epoch 0 was ever committed.
    pub begun: bool,
    /// What its slot said when it stopped cleanly, if nobody has committed anything that goes further since.
    pub pointer: Option<PointerOffset>,
    /// The lineage's resolved start position of its input partition.
    pub start: Option<i64>,
}

/// How a task begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// It goes on from its last commit.
    Resume {
        /// The next offset to read.
        offset: i64,
        /// What was committed beside it.
        metadata: CommitMetadata,
    },
    /// It goes on from the pointer of a clean stop: its position is committed again first.
    Restore {
        /// The next offset to read.
        offset: i64,
        /// What was committed beside it.
        metadata: CommitMetadata,
    },
    /// It has never begun: its start position is committed first, as epoch 0.
    Begin {
        /// The start position.
        offset: i64,
    },
}

/// How the task begins in `generation`, as `slot`.
///
/// # Errors
/// [`SlotError::SupersededByCommit`] when a later generation has committed; a named refusal when offsets are lost, or
/// were committed by something else.
pub fn judge(facts: &TaskFacts, generation: u64, slot: u32) -> Result<Beginning, SlotError> {
    let task = || facts.task.clone();
    let pointed = facts.pointer.as_ref().map(|p| CommittedOffset { offset: p.offset, metadata: p.metadata.clone() });
    let restored = facts.committed.is_none();
    let Some(committed) = facts.committed.clone().or(pointed) else {
        if facts.begun {
            return Err(SlotError::OffsetsLost { task: task() });
        }
        let offset = facts.start.ok_or_else(|| SlotError::NoStartPosition { task: task() })?;
        return Ok(Beginning::Begin { offset });
    };
    let metadata: CommitMetadata = committed
        .metadata
        .parse()
        .map_err(|error| SlotError::ForeignOffset { task: task(), detail: format!("{error}") })?;
    if metadata.generation > generation {
        return Err(SlotError::SupersededByCommit { by: metadata.generation });
    }
    let moved = (metadata.generation, metadata.slot) != (generation, slot);
    if planted(PlantedBug::RestartMovedTask)
        && moved
        && let Some(start) = facts.start
    {
        return Ok(Beginning::Resume { offset: start, metadata });
    }
    let offset = committed.offset;
    Ok(if restored { Beginning::Restore { offset, metadata } } else { Beginning::Resume { offset, metadata } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TaskFacts {
        TaskFacts { task: TaskId::new("s", 0), committed: None, begun: false, pointer: None, start: Some(5) }
    }

    fn committed(metadata: &str) -> Option<CommittedOffset> {
        Some(CommittedOffset { offset: 9, metadata: metadata.to_owned() })
    }

    #[test]
    fn a_task_that_never_began_begins_at_its_start_position() {
        assert_eq!(judge(&facts(), 1, 0), Ok(Beginning::Begin { offset: 5 }));
    }

    #[test]
    fn lost_offsets_are_refused_and_never_reset() {
        let lost = judge(&TaskFacts { begun: true, ..facts() }, 1, 0);
        assert!(matches!(lost, Err(SlotError::OffsetsLost { .. })), "{lost:?}");
    }

    #[test]
    fn a_clean_stops_pointer_stands_in_for_expired_offsets() {
        let pointer = PointerOffset {
            group: "g".into(),
            topic: "t".into(),
            partition: 0,
            offset: 7,
            metadata: "v1|1|3|0|".into(),
        };
        let resumed = judge(&TaskFacts { begun: true, pointer: Some(pointer), ..facts() }, 1, 0);
        assert!(matches!(resumed, Ok(Beginning::Restore { offset: 7, .. })), "{resumed:?}");
    }

    #[test]
    fn a_later_generations_commit_stops_us() {
        let judged = judge(&TaskFacts { committed: committed("v1|3|1|0|"), ..facts() }, 2, 0);
        assert_eq!(judged, Err(SlotError::SupersededByCommit { by: 3 }));
    }

    #[test]
    fn somebody_elses_commit_is_refused() {
        for metadata in ["", "hello"] {
            let judged = judge(&TaskFacts { committed: committed(metadata), ..facts() }, 2, 0);
            assert!(matches!(judged, Err(SlotError::ForeignOffset { .. })), "{judged:?}");
        }
    }
}
