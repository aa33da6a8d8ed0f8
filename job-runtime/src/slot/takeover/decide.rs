//! The order of a take-over, as a pure function from what is known to the next step.
//!
//! Kafka fences a transactional id, not a task. When tasks move between slots that is not enough: a worker
//! with an old assignment could be fenced, initialise its id again before the successor's first commit, and
//! go on. So each generation of the assignment has ids of its own, and a take-over goes in this order:
//!
//! ```text
//! 1 look         our generation is stored, it is what we were told, and no later one is
//! 2 fence        every id of every generation not yet fenced is initialised; then the mark is written
//! 3 own id       our id is initialised
//! 4 look again   a later generation, or none at all, means that we are the zombie
//! 5 offsets      only now are committed offsets and their metadata read (stable reads)
//! 6 state        only now is state loaded
//! ```
//!
//! Why it holds: whoever initialises an id after a later generation was written sees that generation at
//! step 4 and stops; whoever initialised before is fenced by that generation's step 2, which comes before its step 5.
//! Within a generation a task has one slot, and a replaced slot fences its former self by the same id.
//!
//! [`next_step`] is what the worker acts on and what the model check explores; neither has an order of its own.

use freshet_env::{PlantedBug, planted};

/// What a starting slot knows so far. Each step adds to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Progress<Assignment> {
    /// The generation that the slot sets out to run.
    pub generation: u64,
    /// The assignment that it was told under this number; `None`: whatever is stored.
    pub claim: Option<Assignment>,
    /// The first look at the generation log.
    pub look: Option<Look<Assignment>>,
    /// How far the earlier generations are fenced.
    pub fence: Fence,
    /// Whether the slot's own id is initialised.
    pub own_id: bool,
    /// The latest generation at the second look.
    pub second_look: Option<u64>,
    /// Whether committed offsets were read.
    pub offsets_read: bool,
    /// Whether state was loaded.
    pub state_loaded: bool,
}

/// What the generation log said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Look<Assignment> {
    /// The highest number; 0 when there is none.
    pub latest: u64,
    /// What is stored under our number.
    pub stored: Option<Assignment>,
}

/// How far the earlier generations are fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// The mark was not read yet.
    Unknown,
    /// There is no mark for us: ids of earlier generations may be live.
    Unmarked,
    /// All ids of the generations before ours were initialised, but the mark is not written.
    Initialised,
    /// The mark stands.
    Marked,
}

/// What a starting slot does next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the latest number and what is stored under ours.
    Look,
    /// Write our generation, create-only, and look at what is stored then.
    WriteGeneration,
    /// Read the fence mark.
    ReadMark,
    /// Initialise every id of the generations that no mark covers.
    FenceEarlier,
    /// Write the mark.
    WriteMark,
    /// Initialise our own id.
    InitOwn,
    /// Read the latest number again.
    LookAgain,
    /// Read committed offsets and their metadata.
    ReadOffsets,
    /// Load the state that the metadata names.
    LoadState,
    /// Process records.
    Work,
    /// End this attempt.
    Stop(Stop),
}

/// Why a take-over ends without work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// A later generation exists.
    Superseded {
        /// Its number.
        by: u64,
    },
    /// The stored assignment is not what this slot was told; adopt it and begin again.
    OtherAssignment,
    /// Our generation is no longer stored: the lineage was retired, and its fences are as good as a later generation.
    Vanished,
}

impl<Assignment> Progress<Assignment> {
    /// Nothing is known yet.
    pub const fn new(generation: u64, claim: Option<Assignment>) -> Self {
        Self {
            generation,
            claim,
            look: None,
            fence: Fence::Unknown,
            own_id: false,
            second_look: None,
            offsets_read: false,
            state_loaded: false,
        }
    }
}

/// The next step.
pub fn next_step<Assignment: PartialEq>(progress: &Progress<Assignment>) -> Step {
    let Some(look) = &progress.look else { return Step::Look };
    if look.latest > progress.generation {
        return Step::Stop(Stop::Superseded { by: look.latest });
    }
    let Some(stored) = &look.stored else { return Step::WriteGeneration };
    if progress.claim.as_ref().is_some_and(|claim| claim != stored) && !planted(PlantedBug::TrustOwnClaim) {
        return Step::Stop(Stop::OtherAssignment);
    }
    if planted(PlantedBug::ReadOffsetsBeforeFence) && !progress.offsets_read {
        return Step::ReadOffsets;
    }
    match progress.fence {
        _ if planted(PlantedBug::SkipFence) => {}
        Fence::Unknown => return Step::ReadMark,
        Fence::Unmarked if planted(PlantedBug::MarkBeforeFence) => return Step::WriteMark,
        Fence::Unmarked => return Step::FenceEarlier,
        Fence::Initialised => return Step::WriteMark,
        Fence::Marked => {}
    }
    if !progress.own_id {
        return Step::InitOwn;
    }
    if !planted(PlantedBug::SkipSecondLook) {
        match progress.second_look {
            None => return Step::LookAgain,
            Some(latest) if latest > progress.generation => return Step::Stop(Stop::Superseded { by: latest }),
            Some(latest) if latest < progress.generation => return Step::Stop(Stop::Vanished),
            Some(_) => {}
        }
    }
    if !progress.offsets_read {
        return Step::ReadOffsets;
    }
    if !progress.state_loaded {
        return Step::LoadState;
    }
    Step::Work
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_come_in_the_order_of_the_protocol() {
        let mut progress = Progress::<u8>::new(2, None);
        let mut steps = Vec::new();
        loop {
            let step = next_step(&progress);
            steps.push(step.clone());
            match step {
                Step::Look => progress.look = Some(Look { latest: 1, stored: None }),
                Step::WriteGeneration => progress.look = Some(Look { latest: 2, stored: Some(7) }),
                Step::ReadMark => progress.fence = Fence::Unmarked,
                Step::FenceEarlier => progress.fence = Fence::Initialised,
                Step::WriteMark => progress.fence = Fence::Marked,
                Step::InitOwn => progress.own_id = true,
                Step::LookAgain => progress.second_look = Some(2),
                Step::ReadOffsets => progress.offsets_read = true,
                Step::LoadState => progress.state_loaded = true,
                Step::Work | Step::Stop(_) => break,
            }
        }
        let order = [
            Step::Look,
            Step::WriteGeneration,
            Step::ReadMark,
            Step::FenceEarlier,
            Step::WriteMark,
            Step::InitOwn,
            Step::LookAgain,
            Step::ReadOffsets,
            Step::LoadState,
            Step::Work,
        ];
        assert_eq!(steps, order);
    }

    #[test]
    fn a_later_generation_stops_at_either_look() {
        let mut progress = Progress::<u8>::new(1, None);
        progress.look = Some(Look { latest: 2, stored: Some(7) });
        assert_eq!(next_step(&progress), Step::Stop(Stop::Superseded { by: 2 }));
        progress.look = Some(Look { latest: 1, stored: Some(7) });
        progress.fence = Fence::Marked;
        progress.own_id = true;
        progress.second_look = Some(3);
        assert_eq!(next_step(&progress), Step::Stop(Stop::Superseded { by: 3 }));
    }

    #[test]
    fn a_generation_log_that_was_deleted_stops_whoever_looks_again() {
        let mut progress = Progress::<u8>::new(3, None);
        progress.look = Some(Look { latest: 3, stored: Some(7) });
        progress.fence = Fence::Marked;
        progress.own_id = true;
        progress.second_look = Some(0);
        assert_eq!(next_step(&progress), Step::Stop(Stop::Vanished));
    }

    #[test]
    fn the_stored_assignment_wins_over_what_was_told() {
        let mut progress = Progress::new(1, Some(5));
        progress.look = Some(Look { latest: 1, stored: Some(7) });
        assert_eq!(next_step(&progress), Step::Stop(Stop::OtherAssignment));
    }
}
