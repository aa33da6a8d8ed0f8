//! The generation log: what is run and how, who runs which task, and that those before are fenced.
//!
//! One object a generation, written create-only: the stored object *is* the assignment, and the plan, and how it
//! is run. Whoever was told otherwise under the same number adopts what is stored or stops; the next number is the
//! log's highest plus one. A worker needs nothing else to know its work. Beside it lie the fence marks ("all
//! generations before g are fenced"), the numbered processes of each slot and their starts in a generation, and the
//! pointers of clean stops.
//!
//! # Pointers
//! The pointer of a clean stop stands in for committed offsets that expired since. It may do so only while
//! nothing was committed after it. So a start first commits again where its tasks stand, then records that it
//! has resumed, and only then commits anything that goes further:
//!
//! ```text
//! pointer-1        offsets expire    start 2 ─▶ positions of pointer-1 committed ─▶ resumed-2 ─▶ epochs
//!    └─ counts ──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Whoever dies on that way leaves the pointer as good as it was, and whoever comes after `resumed-2` knows
//! that it is worth nothing ([`Standing`]).
//!
//! The order in which a take-over uses them is the slot's business; here is only what they say.

mod records;

use std::rc::Rc;

use freshet_env::{PlantedBug, planted};

use self::records::{FenceMark, Process, Resumed, Start};
pub use self::records::{Generation, Pointer, PointerOffset, Proposed, Retired, revision};
use crate::StateError;
use crate::paths::{FENCED, GENERATIONS, LineagePath, PROCESSES, slot_folder};
use crate::sealed;
use crate::store::{Created, Store};

/// What a slot has left of its work in a generation, for whoever finds no committed offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has committed nothing there that goes further than what it found.
    Untouched,
    /// It stopped cleanly, and nobody has gone on from there.
    Stopped(Pointer),
    /// It has gone on, and left no word of how far.
    WentOn,
}

/// Which of a slot's pointers counts: the newest, unless a later start has resumed. `pointers` and `resumed` are
/// the numbers of starts.
fn pointer_that_counts(pointers: &[u64], resumed: &[u64]) -> Result<Option<u64>, WentOn> {
    let (pointer, resumed) = (pointers.iter().max().copied(), resumed.iter().max().copied());
    match (pointer, resumed) {
        (Some(pointer), _) if planted(PlantedBug::HonourSpentPointer) => Ok(Some(pointer)),
        (pointer, Some(resumed)) if pointer < Some(resumed) => Err(WentOn),
        (pointer, _) => Ok(pointer),
    }
}

struct WentOn;

/// The generations of one lineage.
#[derive(Clone)]
pub struct GenerationLog {
    store: Rc<dyn Store>,
    prefix: String,
}

impl std::fmt::Debug for GenerationLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenerationLog").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl GenerationLog {
    /// The log in the lineage's folder `prefix` (which ends in `/`).
    #[must_use]
    pub fn new(store: Rc<dyn Store>, prefix: String) -> Self {
        Self { store, prefix }
    }

    fn path(&self, path: LineagePath) -> String {
        format!("{}{path}", self.prefix)
    }

    async fn listed(&self, folder: &str) -> Result<Vec<LineagePath>, StateError> {
        let paths = self.store.list(&format!("{}{folder}", self.prefix)).await?;
        Ok(paths.iter().filter_map(|path| path[self.prefix.len()..].parse().ok()).collect())
    }

    /// The numbers of all generations, ascending.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn numbers(&self) -> Result<Vec<u64>, StateError> {
        let listed = self.listed(GENERATIONS).await?;
        let mut numbers: Vec<u64> = listed
            .into_iter()
            .filter_map(|path| match path {
                LineagePath::Generation(number) => Some(number),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The highest number, 0 when there is no generation.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn latest_number(&self) -> Result<u64, StateError> {
        Ok(self.numbers().await?.last().copied().unwrap_or(0))
    }

    /// The generation with the highest number.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn latest(&self) -> Result<Option<Generation>, StateError> {
        match self.latest_number().await? {
            0 => Ok(None),
            number => self.listed_generation(number).await.map(Some),
        }
    }

    /// Generation `number`, if it is stored.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn get(&self, number: u64) -> Result<Option<Generation>, StateError> {
        let path = self.path(LineagePath::Generation(number));
        let Some(generation) = sealed::read::<Generation>(&*self.store, &path).await? else { return Ok(None) };
        if generation.number != number {
            let (found, wanted) = (generation.number.to_string(), number.to_string());
            return Err(StateError::Foreign { path, field: "number", found, wanted });
        }
        Ok(Some(generation))
    }

    async fn listed_generation(&self, number: u64) -> Result<Generation, StateError> {
        self.get(number).await?.ok_or_else(|| StateError::Missing {
            path: self.path(LineagePath::Generation(number)),
            named_by: "the listing of generations".to_owned(),
        })
    }

    /// Writes `generation` unless one of its number is stored, and gives back the one that is stored.
    ///
    /// # Errors
    /// [`StateError::Malformed`] when it gives a task to a slot that it does not have; the store's.
    pub async fn propose(&self, generation: &Generation) -> Result<Proposed, StateError> {
        let path = self.path(LineagePath::Generation(generation.number));
        generation.check().map_err(|what| StateError::Malformed { path: path.clone(), what })?;
        #[cfg(feature = "faults")]
        if freshet_env::planted(freshet_env::PlantedBug::OverwriteGeneration) {
            self.store.overwrite(&path, sealed::seal(generation)).await?;
            return Ok(Proposed::Ours(generation.clone()));
        }
        match self.store.create(&path, sealed::seal(generation)).await? {
            Created::New => Ok(Proposed::Ours(generation.clone())),
            Created::Existed => {
                let stored = self.listed_generation(generation.number).await?;
                Ok(if stored == *generation { Proposed::Ours(stored) } else { Proposed::Adopted(stored) })
            }
        }
    }

    /// The greatest g for which all generations before g are marked as fenced; 0 without marks.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn fenced_before(&self) -> Result<u64, StateError> {
        let marks = self.listed(FENCED).await?.into_iter().filter_map(|path| match path {
            LineagePath::Fenced(before) => Some(before),
            _ => None,
        });
        Ok(marks.max().unwrap_or(0))
    }

    /// Whether all generations before `number` are marked as fenced.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn is_marked(&self, number: u64) -> Result<bool, StateError> {
        Ok(self.fenced_before().await? >= number)
    }

    /// Marks all generations before `number` as fenced. Only after every transactional id of each of them
    /// was initialised.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn mark_fenced(&self, number: u64) -> Result<(), StateError> {
        let path = self.path(LineagePath::Fenced(number));
        self.store.create(&path, sealed::seal(&FenceMark { before: number })).await?;
        Ok(())
    }

    /// The generations before `number` that no mark covers, oldest first: all their ids must be fenced before
    /// `number` is marked.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn unfenced_before(&self, number: u64) -> Result<Vec<Generation>, StateError> {
        let fenced = self.fenced_before().await?;
        let mut unfenced = Vec::new();
        for earlier in self.numbers().await? {
            if (fenced..number).contains(&earlier) {
                unfenced.push(self.listed_generation(earlier).await?);
            }
        }
        Ok(unfenced)
    }

    /// Records one more start of `slot` in `generation`, by the process of rank `process`, and gives its number, from 1.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn start_incarnation(
        &self,
        generation: u64,
        slot: u32,
        process: u64,
        now_ms: i64,
    ) -> Result<u64, StateError> {
        let mut incarnation = self.latest_incarnation(generation, slot).await?;
        loop {
            // Each round that finds its number taken follows a start by somebody else (or one of our own
            // whose answer got lost), so this ends.
            incarnation += 1;
            let path = self.path(LineagePath::Incarnation { generation, slot, incarnation });
            let start = sealed::seal(&Start { started_at_ms: now_ms, process });
            if self.store.create(&path, start).await? == Created::New {
                return Ok(incarnation);
            }
        }
    }

    /// Records one more process of `slot`, called `name` for people who look, and gives its rank, from 1: whoever
    /// was started later has a higher one, whatever the generation.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn enlist(&self, slot: u32, name: &str, now_ms: i64) -> Result<u64, StateError> {
        let mut rank = self.latest_process(slot).await?;
        loop {
            // As for starts: a number that is taken is another process's, or our own whose answer got lost.
            rank += 1;
            let path = self.path(LineagePath::Process { slot, rank });
            let record = sealed::seal(&Process { started_at_ms: now_ms, name: name.to_owned() });
            if self.store.create(&path, record).await? == Created::New {
                return Ok(rank);
            }
        }
    }

    /// The highest rank of a process of `slot`; 0 when there was none.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn latest_process(&self, slot: u32) -> Result<u64, StateError> {
        let ranks = self.listed(PROCESSES).await?.into_iter().filter_map(|path| match path {
            LineagePath::Process { slot: of, rank } if of == slot => Some(rank),
            _ => None,
        });
        Ok(ranks.max().unwrap_or(0))
    }

    /// The number of the last start of `slot` in `generation`; 0 when it never started.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn latest_incarnation(&self, generation: u64, slot: u32) -> Result<u64, StateError> {
        let starts = self.listed(&slot_folder(generation, slot)).await?.into_iter().filter_map(|path| match path {
            LineagePath::Incarnation { incarnation, .. } => Some(incarnation),
            _ => None,
        });
        Ok(starts.max().unwrap_or(0))
    }

    /// Writes the pointer of a clean stop; once for each incarnation.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::Foreign`] when the incarnation has stored another one.
    pub async fn write_pointer(
        &self,
        generation: u64,
        slot: u32,
        incarnation: u64,
        pointer: &Pointer,
    ) -> Result<(), StateError> {
        let path = self.path(LineagePath::Pointer { generation, slot, incarnation });
        let stored = sealed::create_or_read(&*self.store, &path, pointer.clone()).await?;
        if stored == *pointer {
            return Ok(());
        }
        let (found, wanted) = (format!("{} (or other offsets)", stored.epoch), pointer.epoch.to_string());
        Err(StateError::Foreign { path, field: "epoch", found, wanted })
    }

    /// Records that a start goes on from where its tasks stand. Only after they are committed there, and before
    /// anything is committed that goes further.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn mark_resumed(
        &self,
        generation: u64,
        slot: u32,
        incarnation: u64,
        now_ms: i64,
    ) -> Result<(), StateError> {
        let path = self.path(LineagePath::Resumed { generation, slot, incarnation });
        // A mark that is there is our own, whose answer got lost.
        self.store.create(&path, sealed::seal(&Resumed { resumed_at_ms: now_ms })).await?;
        Ok(())
    }

    /// What `slot` has left in `generation`. To be asked only behind the fences, so that nobody can commit there.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn standing(&self, generation: u64, slot: u32) -> Result<Standing, StateError> {
        let (mut pointers, mut resumed) = (Vec::new(), Vec::new());
        for path in self.listed(&slot_folder(generation, slot)).await? {
            match path {
                LineagePath::Pointer { incarnation, .. } => pointers.push(incarnation),
                LineagePath::Resumed { incarnation, .. } => resumed.push(incarnation),
                _ => {}
            }
        }
        let incarnation = match pointer_that_counts(&pointers, &resumed) {
            Err(WentOn) => return Ok(Standing::WentOn),
            Ok(None) => return Ok(Standing::Untouched),
            Ok(Some(incarnation)) => incarnation,
        };
        let path = self.path(LineagePath::Pointer { generation, slot, incarnation });
        let pointer = sealed::read(&*self.store, &path).await?;
        let missing = || StateError::Missing { path, named_by: "the listing of a slot's objects".to_owned() };
        pointer.map(Standing::Stopped).ok_or_else(missing)
    }
}
