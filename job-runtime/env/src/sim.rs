//! The simulation: every node of a cluster on one thread, with a virtual clock, from one seed.
//!
//! A [`Sim`] is a small executor. Tasks belong to nodes (a slot, the broker, the test's own harness);
//! all that they may know of time and chance comes from their node's [`SimEnv`]. Wherever more than one
//! task could go on, the seed picks; the clock moves to the next timer only when no task can go on. So
//! a run is a function of its seed, however long its time-outs are, and it takes no time to wait.
//!
//! ```text
//!          ┌───────── pick a ready task by the seed ◀──────── wakers
//!          ▼                                                     ▲
//!   poll it once ──▶ deaths and pauses that fell due ──▶ none ready: clock to the next timer
//! ```
//!
//! # What can happen to a node
//! * [`Sim::kill`]: all of its tasks are gone, in the middle of whatever they did (`kill -9`). The same
//!   node may be given new tasks later: that is its restart.
//! * [`Sim::pause`] and [`Sim::resume`]: it is not run while its timers run out (`SIGSTOP`, a long
//!   collection, a frozen virtual machine): how a zombie comes to wake after its successor.
//! * [`Sim::arm`]: one of both at the n-th time that the node passes a labelled step; with
//!   [`Sim::arm_poll`] at its n-th poll, wherever that is. What is armed may bring a callback, so that
//!   the harness can start a successor first and then wake the zombie.
//! * [`Sim::set_skew_ms`]: its wall clock is wrong.
//!
//! # The trace hash
//! Every decision of the executor and every event that parts report with [`Env::trace`](crate::Env::trace)
//! goes into one hash. Two runs of a seed with different hashes prove that something leaked in: the order
//! of a hash map, an address, a real clock. [`Sim::keep_trace`] keeps the last lines for a person.
//!
//! ```
//! use std::time::Duration;
//! use freshet_env::sim::{NodeId, Sim, Stop};
//! use freshet_env::Env;
//!
//! let sim = Sim::new(42);
//! let env = sim.env(NodeId(1));
//! let task = sim.spawn("sleeper", NodeId(1), async move {
//!     env.sleep(Duration::from_secs(3600)).await;
//!     env.monotonic()
//! });
//! assert_eq!(sim.run_until(Duration::from_secs(7200), |_| task.is_finished()), Stop::Done);
//! assert_eq!(task.take(), Some(Duration::from_secs(3600)));
//! ```

mod environment;
mod executor;
mod rng;
mod trace;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

pub use environment::SimEnv;
use executor::Core;
pub use executor::TaskHandle;
pub use rng::SeededRng;

/// The wall clock of a node without skew when a simulation begins: 2025-01-01T00:00:00Z, in ms.
pub const SIM_EPOCH_MS: i64 = 1_735_689_600_000;

/// How many polls without any time passing count as a livelock.
const LIVELOCK_POLLS: u64 = 2_000_000;

/// One machine or process of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node-{}", self.0)
    }
}

/// What is done to a node at an armed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeFault {
    /// All its tasks end there.
    Kill,
    /// It is not run any more, until somebody resumes it.
    Pause,
}

/// Why [`Sim::run_until`] came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The predicate was true.
    Done,
    /// The virtual clock reached the deadline first.
    Deadline,
    /// Nothing is ready and no timer runs: nothing can ever happen again.
    Stuck,
    /// This task was polled last of two million polls in which no time passed.
    Livelock(String),
}

type Action = Box<dyn FnOnce(&Sim)>;

/// A simulation. Dropping it drops all its tasks.
pub struct Sim {
    inner: Rc<Inner>,
}

pub(crate) struct Inner {
    core: RefCell<Core>,
}

impl Inner {
    fn event(&self, text: std::fmt::Arguments<'_>) {
        let mut core = self.core.borrow_mut();
        let now_ns = core.now_ns;
        core.trace.event(now_ns, text);
    }

    fn pass(&self, node: NodeId, label: &'static str) {
        self.event(format_args!("{node} passes {label}"));
        self.core.borrow_mut().pass(node, label);
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("now", &self.now()).field("trace_hash", &self.trace_hash()).finish_non_exhaustive()
    }
}

impl Sim {
    /// An empty simulation whose every decision comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { inner: Rc::new(Inner { core: RefCell::new(Core::new(seed)) }) }
    }

    /// The environment of `node`.
    #[must_use]
    pub fn env(&self, node: NodeId) -> SimEnv {
        SimEnv::new(&self.inner, node)
    }

    /// A generator of the simulation's seed, for a part that draws often.
    #[must_use]
    pub fn fork_rng(&self) -> SeededRng {
        self.inner.core.borrow_mut().rng.fork()
    }

    /// Runs `future` as a task of `node`. `name` is for traces.
    pub fn spawn<T: 'static>(
        &self,
        name: impl Into<String>,
        node: NodeId,
        future: impl Future<Output = T> + 'static,
    ) -> TaskHandle<T> {
        let handle = TaskHandle::default();
        let result = handle.clone();
        let name = name.into();
        self.inner.event(format_args!("{node} starts {name}"));
        self.inner.core.borrow_mut().spawn(name, node, Box::pin(async move { result.put(future.await) }));
        handle
    }

    /// Ends all tasks of `node` at once; from within a task, as soon as that task gives way. A pause ends too.
    pub fn kill(&self, node: NodeId) {
        self.inner.event(format_args!("{node} is killed"));
        let dead = self.inner.core.borrow_mut().kill(node);
        // Dropped outside of the borrow: destructors cancel timers and requests.
        drop(dead);
    }

    /// Stops running `node`; its timers run out meanwhile.
    pub fn pause(&self, node: NodeId) {
        self.inner.event(format_args!("{node} is paused"));
        self.inner.core.borrow_mut().pause(node);
    }

    /// Runs `node` again.
    pub fn resume(&self, node: NodeId) {
        self.inner.event(format_args!("{node} is resumed"));
        self.inner.core.borrow_mut().resume(node);
    }

    /// Whether `node` is paused.
    #[must_use]
    pub fn is_paused(&self, node: NodeId) -> bool {
        self.inner.core.borrow().is_paused(node)
    }

    /// How many tasks of `node` have not ended.
    #[must_use]
    pub fn tasks_of(&self, node: NodeId) -> usize {
        self.inner.core.borrow().tasks_of(node)
    }

    /// Makes the wall clock of `node` differ by this much.
    pub fn set_skew_ms(&self, node: NodeId, skew_ms: i64) {
        self.inner.core.borrow_mut().set_skew_ms(node, skew_ms);
    }

    /// Does `fault` to `node` when it passes the crash point `label` for the `nth` time from now on
    /// (1 is the next), and calls `then`.
    pub fn arm(
        &self,
        node: NodeId,
        label: impl Into<String>,
        nth: u32,
        fault: NodeFault,
        then: impl FnOnce(&Self) + 'static,
    ) {
        self.inner.core.borrow_mut().arm(node, Some(label.into()), nth, fault, Box::new(then));
    }

    /// The same after the `nth` poll of any of the node's tasks from now on.
    pub fn arm_poll(&self, node: NodeId, nth: u32, fault: NodeFault, then: impl FnOnce(&Self) + 'static) {
        self.inner.core.borrow_mut().arm(node, None, nth, fault, Box::new(then));
    }

    /// Takes back everything that is armed for `node`.
    pub fn disarm(&self, node: NodeId) {
        let armed = self.inner.core.borrow_mut().disarm(node);
        drop(armed);
    }

    /// How often `node` has passed the crash point `label`.
    #[must_use]
    pub fn passed(&self, node: NodeId, label: &str) -> u32 {
        self.inner.core.borrow().passed(node, label)
    }

    /// Calls `action` when the virtual clock has reached `when` (since the start of the simulation).
    pub fn at(&self, when: Duration, action: impl FnOnce(&Self) + 'static) {
        self.inner.core.borrow_mut().at(when, Box::new(action));
    }

    /// Time since the simulation began.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.inner.core.borrow().now_ns)
    }

    /// The hash of all that happened so far.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.inner.core.borrow().trace.hash()
    }

    /// Reports an event of the harness itself.
    pub fn trace(&self, event: std::fmt::Arguments<'_>) {
        self.inner.event(event);
    }

    /// Keeps the last `lines` events as text from now on; 0 keeps none, which is the default.
    pub fn keep_trace(&self, lines: usize) {
        self.inner.core.borrow_mut().trace.keep(lines);
    }

    /// The events that were kept, oldest first.
    #[must_use]
    pub fn kept_trace(&self) -> Vec<String> {
        self.inner.core.borrow().trace.lines()
    }

    /// Runs until `done` says so (asked before the first step and after each), until the virtual clock
    /// would pass `deadline` (since the start of the simulation), or until nothing can happen any more.
    ///
    /// # Panics
    /// When a task panics.
    pub fn run_until(&self, deadline: Duration, mut done: impl FnMut(&Self) -> bool) -> Stop {
        let deadline_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        let mut polls_at_this_instant = 0;
        loop {
            if done(self) {
                return Stop::Done;
            }
            let picked = self.inner.core.borrow_mut().pick_ready();
            if let Some(mut picked) = picked {
                let finished = picked.poll();
                let (then, dead) = self.inner.core.borrow_mut().polled(picked, finished);
                drop(dead);
                for action in then {
                    action(self);
                }
                polls_at_this_instant += 1;
                if polls_at_this_instant > LIVELOCK_POLLS {
                    return Stop::Livelock(self.inner.core.borrow().last_polled().to_owned());
                }
                continue;
            }
            polls_at_this_instant = 0;
            let (wakers, actions) = {
                let mut core = self.inner.core.borrow_mut();
                match core.next_instant() {
                    None => return Stop::Stuck,
                    Some(instant) if instant > deadline_ns => {
                        core.now_ns = core.now_ns.max(deadline_ns);
                        return Stop::Deadline;
                    }
                    Some(instant) => core.advance_to(instant),
                }
            };
            for waker in wakers {
                waker.wake();
            }
            for action in actions {
                action(self);
            }
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks hold environments, wakers and whatever else; taken apart here while those still work, so
        // that thousands of simulations in one process leave nothing behind.
        let remains = self.inner.core.borrow_mut().take_apart();
        drop(remains);
    }
}
