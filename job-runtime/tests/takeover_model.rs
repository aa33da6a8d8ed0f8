//! The take-over, checked exhaustively for small bounds.
//!
//! One task, three generations with two slots each, and processes that were told who owns the task in one of
//! them. What they were told may contradict itself (two leaders handed out the same number). A process may
//! crash at any step and start again with what it was told first; its commit may be under way meanwhile and
//! arrive at any later time. Each step that a process takes is what the slot's own [`next_step`] says, each
//! position what the slot's own [`judge`] says: there is no copy of the protocol here, only of the broker and
//! the store.
//!
//! ```text
//! broker   for each transactional id: who holds it, and a commit that is under way
//! store    for each generation: the owner that is stored; the fence mark
//! ```
//!
//! The property: a commit that becomes visible begins exactly at the committed offset. A gap is a loss, an
//! overlap is a record twice.
#![cfg(feature = "faults")]

use freshet::slot::offsets::{Beginning, TaskFacts, judge};
use freshet::slot::takeover::decide::{Fence, Look, Progress, Step, next_step};
use freshet_env::{PlantedBug, plant};
use freshet_log::CommittedOffset;
use freshet_state::TaskId;
use freshet_state::metadata::CommitMetadata;
use stateright::{Checker, Model, Property};

const GENERATIONS: usize = 3;
const SLOTS: usize = 2;
const LAST_OFFSET: i64 = 2;

/// A transactional id.
type Id = (u64, u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Told {
    generation: u64,
    owner: u8,
}

/// What the broker knows of an id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Held {
    /// The process that initialised it last.
    by: Option<u8>,
    /// A commit of that process that has not arrived yet: where it begins.
    under_way: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    TakingOver(Attempt),
    Working {
        producer: Id,
        position: i64,
    },
    /// It has sent a commit and waits for the answer.
    Committing {
        producer: Id,
        position: i64,
    },
    /// The stored assignment gives it no task.
    Idle,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Attempt {
    progress: Progress<u8>,
    /// Ids that are still to be initialised.
    to_fence: Vec<Id>,
    /// Only a planted bug: what is fenced after the mark was written.
    after_mark: bool,
    /// Only a planted bug: the producer of the attempt before.
    kept: Option<Id>,
    producer: Option<Id>,
    position: Option<i64>,
    /// Whether the last step changed anything that others see. A crash after one that did not is a crash before it,
    /// so only these need to be looked at.
    seen: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    stored: [Option<u8>; GENERATIONS],
    fenced_before: u64,
    ids: [[Held; SLOTS]; GENERATIONS],
    /// Offset, generation and slot of the last visible commit.
    committed: Option<(i64, u64, u8)>,
    processes: Vec<At>,
    /// How many crashes may still come.
    crashes: u8,
    broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// A process does what comes next.
    Goes(usize),
    /// It dies, and starts again with what it was told first.
    Crashes(usize),
    /// Its commit is not answered in time.
    TimesOut(usize),
    /// It sees a later generation while it works.
    Watches(usize),
    /// The commit of an id arrives.
    Arrives(Id),
}

struct TakeOver {
    processes: Vec<Told>,
    crashes: u8,
    bug: Option<PlantedBug>,
}

impl State {
    fn latest(&self) -> u64 {
        self.stored.iter().rposition(Option::is_some).map_or(0, |at| at as u64 + 1)
    }

    fn stored(&self, generation: u64) -> Option<u8> {
        self.stored[generation as usize - 1]
    }

    fn held(&mut self, (generation, slot): Id) -> &mut Held {
        &mut self.ids[generation as usize - 1][slot as usize]
    }

    /// Whoever held the id is refused from now on, and what it had under way too.
    fn initialise(&mut self, id: Id, by: Option<u8>) {
        *self.held(id) = Held { by, under_way: None };
    }

    /// The ids of all stored generations before `generation` that no mark covers.
    fn unfenced(&self, from: u64, generation: u64) -> Vec<Id> {
        let stored = (1..generation).filter(|g| *g >= from && self.stored(*g).is_some());
        stored.flat_map(|g| (0..SLOTS as u8).map(move |slot| (g, slot))).collect()
    }

    fn visible(&self) -> i64 {
        self.committed.map_or(0, |(offset, ..)| offset)
    }
}

impl Attempt {
    fn new(generation: u64, claim: Option<u8>, kept: Option<Id>) -> Self {
        let progress = Progress::new(generation, claim);
        Self { progress, to_fence: Vec::new(), after_mark: false, kept, producer: None, position: None, seen: false }
    }

    /// The owner that it goes by.
    fn owner(&self) -> Option<u8> {
        let stored = self.progress.look.as_ref().and_then(|look| look.stored);
        if freshet_env::planted(PlantedBug::TrustOwnClaim) { self.progress.claim.or(stored) } else { stored }
    }
}

impl TakeOver {
    /// The next attempt of a process that goes by what is stored.
    fn again(state: &State, kept: Option<Id>) -> At {
        let kept = kept.filter(|_| freshet_env::planted(PlantedBug::ReuseProducerAfterTimeout));
        At::TakingOver(Attempt::new(state.latest(), None, kept))
    }

    /// One step of a take-over.
    fn take_over(&self, state: &mut State, which: usize, mut attempt: Attempt) -> At {
        let slot = self.slot(which);
        let number = attempt.progress.generation;
        // Initialising several ids takes several steps, and others go on between them.
        attempt.seen = false;
        if let Some(id) = attempt.to_fence.pop() {
            state.initialise(id, None);
            attempt.seen = true;
            if attempt.to_fence.is_empty() {
                attempt.progress.fence = if attempt.after_mark { Fence::Marked } else { Fence::Initialised };
            }
            return At::TakingOver(attempt);
        }
        let progress = &mut attempt.progress;
        match next_step(progress) {
            Step::Look => progress.look = Some(Look { latest: state.latest(), stored: state.stored(number) }),
            Step::WriteGeneration => {
                let place = &mut state.stored[number as usize - 1];
                attempt.seen = place.is_none();
                let stored = *place.get_or_insert(progress.claim.expect("only a claim is written"));
                progress.look = Some(Look { latest: state.latest(), stored: Some(stored) });
            }
            Step::ReadMark => {
                progress.fence = if state.fenced_before >= number { Fence::Marked } else { Fence::Unmarked };
            }
            Step::FenceEarlier => {
                attempt.to_fence = state.unfenced(state.fenced_before, number);
                if attempt.to_fence.is_empty() {
                    progress.fence = Fence::Initialised;
                }
            }
            Step::WriteMark => {
                attempt.seen = state.fenced_before < number;
                state.fenced_before = state.fenced_before.max(number);
                if progress.fence == Fence::Unmarked {
                    attempt.after_mark = true;
                    attempt.to_fence = state.unfenced(0, number);
                }
                if attempt.to_fence.is_empty() {
                    progress.fence = Fence::Marked;
                }
            }
            Step::InitOwn => {
                if attempt.owner() != Some(slot) {
                    return At::Idle;
                }
                let id = attempt.kept.take().unwrap_or((number, slot));
                if state.held(id).by != Some(which as u8)
                    || !freshet_env::planted(PlantedBug::ReuseProducerAfterTimeout)
                {
                    state.initialise(id, Some(which as u8));
                }
                attempt.producer = Some(id);
                attempt.progress.own_id = true;
                attempt.seen = true;
            }
            Step::LookAgain => progress.second_look = Some(state.latest()),
            Step::ReadOffsets => {
                let metadata = |(offset, generation, slot): (i64, u64, u8)| CommittedOffset {
                    offset,
                    metadata: CommitMetadata { generation, epoch: 0, slot: slot.into(), object: None }.to_string(),
                };
                let facts = TaskFacts {
                    task: TaskId::new("task", 0),
                    committed: state.committed.map(metadata),
                    begun: state.committed.is_some(),
                    pointer: None,
                    start: Some(0),
                };
                let Ok(Beginning::Resume { offset, .. } | Beginning::Begin { offset }) =
                    judge(&facts, number, slot.into())
                else {
                    return Self::again(state, None);
                };
                attempt.progress.offsets_read = true;
                attempt.position = Some(offset);
            }
            // What is loaded is named by what was read, and nobody else sees it.
            Step::LoadState | Step::Work => {
                let (producer, position) = (attempt.producer.expect("own id"), attempt.position.expect("offsets"));
                return At::Working { producer, position };
            }
            Step::Stop(_) => return Self::again(state, None),
        }
        At::TakingOver(attempt)
    }

    fn slot(&self, which: usize) -> u8 {
        self.processes[which].owner
    }

    fn start(&self, which: usize) -> At {
        let told = self.processes[which];
        At::TakingOver(Attempt::new(told.generation, Some(told.owner), None))
    }
}

impl Model for TakeOver {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let processes = (0..self.processes.len()).map(|which| self.start(which));
        vec![State {
            stored: [None; GENERATIONS],
            fenced_before: 0,
            ids: [[Held::default(); SLOTS]; GENERATIONS],
            committed: None,
            processes: processes.collect(),
            crashes: self.crashes,
            broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (which, process) in state.processes.iter().enumerate() {
            match process {
                At::Idle => {}
                At::Working { producer, .. } if producer.0 < state.latest() => {
                    actions.extend([Action::Goes(which), Action::Watches(which)]);
                }
                At::Committing { .. } => actions.extend([Action::Goes(which), Action::TimesOut(which)]),
                At::TakingOver(_) | At::Working { .. } => actions.push(Action::Goes(which)),
            }
            let seen = match process {
                At::TakingOver(attempt) => attempt.seen,
                At::Working { .. } | At::Idle => false,
                At::Committing { .. } => true,
            };
            if seen && state.crashes > 0 {
                actions.push(Action::Crashes(which));
            }
        }
        for (generation, slots) in (1..).zip(&state.ids) {
            for (slot, held) in (0..).zip(slots) {
                if held.under_way.is_some() {
                    actions.push(Action::Arrives((generation, slot)));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        // The switch is this thread's own, and the checker has threads of its own.
        plant(self.bug);
        let mut state = last.clone();
        match action {
            Action::Crashes(which) => {
                state.crashes -= 1;
                state.processes[which] = self.start(which);
            }
            Action::Watches(which) => state.processes[which] = Self::again(&state, None),
            Action::TimesOut(which) => {
                let At::Committing { producer, .. } = last.processes[which] else { return None };
                state.processes[which] = Self::again(&state, Some(producer));
            }
            Action::Arrives(id) => {
                let from = state.held(id).under_way.take()?;
                state.broken |= from != state.visible();
                state.committed = Some((from + 1, id.0, id.1));
            }
            Action::Goes(which) => {
                let me = Some(which as u8);
                let at = match last.processes[which].clone() {
                    At::TakingOver(attempt) => self.take_over(&mut state, which, attempt),
                    At::Working { producer, .. } | At::Committing { producer, .. } if state.held(producer).by != me => {
                        Self::again(&state, None)
                    }
                    At::Working { position, .. } if position >= LAST_OFFSET => return None,
                    At::Working { producer, position } if state.held(producer).under_way.is_none() => {
                        state.held(producer).under_way = Some(position);
                        At::Committing { producer, position }
                    }
                    At::Committing { producer, position } if state.held(producer).under_way.is_none() => {
                        At::Working { producer, position: position + 1 }
                    }
                    At::Working { .. } | At::Committing { .. } | At::Idle => return None,
                };
                state.processes[which] = at;
            }
        }
        plant(None);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every visible commit begins at the committed offset", |_, state: &State| !state.broken),
            Property::sometimes("the last offset is reached", |_, state: &State| state.visible() == LAST_OFFSET),
        ]
    }
}

fn told(generation: u64, owner: u8) -> Told {
    Told { generation, owner }
}

/// What each check is made of: who was told what, and how many crashes there may be.
fn bounds() -> Vec<(Vec<Told>, u8)> {
    vec![
        // Contradicting claims under number 2, and a third generation.
        (vec![told(1, 0), told(2, 0), told(2, 1)], 1),
        (vec![told(1, 0), told(2, 1), told(3, 0)], 1),
        // The same slot twice, as when a pod is replaced while it still runs.
        (vec![told(1, 0), told(1, 0), told(2, 1)], 1),
    ]
}

fn check(processes: Vec<Told>, crashes: u8, bug: Option<PlantedBug>) -> (usize, Option<Vec<Action>>) {
    let checker = TakeOver { processes, crashes, bug }.checker().threads(2).spawn_bfs().join();
    let broken = checker.discovery("every visible commit begins at the committed offset");
    if bug.is_none() {
        assert!(checker.discovery("the last offset is reached").is_some(), "the model goes nowhere");
    }
    (checker.unique_state_count(), broken.map(stateright::Path::into_actions))
}

#[test]
fn every_visible_commit_begins_at_the_committed_offset() {
    for (processes, crashes) in bounds() {
        let (states, broken) = check(processes.clone(), crashes, None);
        println!("{processes:?}: {states} states");
        assert_eq!(broken, None, "{processes:?}");
        assert!(states > 10_000, "{processes:?}: only {states} states were looked at");
    }
}

#[test]
fn each_step_of_the_order_is_needed() {
    for bug in [
        PlantedBug::SkipFence,
        PlantedBug::MarkBeforeFence,
        PlantedBug::ReadOffsetsBeforeFence,
        PlantedBug::SkipSecondLook,
        PlantedBug::TrustOwnClaim,
        PlantedBug::ReuseProducerAfterTimeout,
    ] {
        let found = bounds().into_iter().find_map(|(processes, crashes)| {
            let (states, broken) = check(processes, crashes, Some(bug));
            broken.map(|path| (states, path))
        });
        let Some((states, path)) = found else { panic!("{bug:?} is not found") };
        println!("{bug:?}: found within {states} states, {} steps: {path:?}", path.len());
    }
}
