//! The executor's tables: tasks, the ready list, timers, nodes, and what is armed against them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::rng::SeededRng;
use super::trace::Trace;
use super::{Action, NodeFault, NodeId};
use crate::LocalFuture;

/// The result of a task, once it is there.
#[derive(Debug)]
pub struct TaskHandle<T> {
    result: Rc<RefCell<Option<T>>>,
    finished: Rc<std::cell::Cell<bool>>,
}

impl<T> Default for TaskHandle<T> {
    fn default() -> Self {
        Self { result: Rc::default(), finished: Rc::default() }
    }
}

impl<T> Clone for TaskHandle<T> {
    fn clone(&self) -> Self {
        Self { result: self.result.clone(), finished: self.finished.clone() }
    }
}

impl<T> TaskHandle<T> {
    /// Whether the task ran to its end. A killed one never does.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// What it returned, the first time that this is asked after its end.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.result.borrow_mut().take()
    }

    pub(super) fn put(&self, value: T) {
        *self.result.borrow_mut() = Some(value);
        self.finished.set(true);
    }
}

/// Ids of woken tasks, in the order of their waking. Behind a mutex only because wakers must be `Send`.
type ReadyList = Arc<Mutex<Vec<u64>>>;

struct TaskWaker {
    task: u64,
    queued: AtomicBool,
    ready: ReadyList,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.task);
        }
    }
}

/// A task, or what is left of the entry of one that is being polled right now.
struct Task {
    name: String,
    node: NodeId,
    future: Option<LocalFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

/// A task that was taken out to be polled.
pub(super) struct Picked {
    task: u64,
    node: NodeId,
    future: LocalFuture<'static, ()>,
    waker: Waker,
}

impl Picked {
    /// Polls it once and says whether it has ended.
    pub(super) fn poll(&mut self) -> bool {
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker)) == Poll::Ready(())
    }
}

#[derive(Default)]
struct Node {
    skew_ms: i64,
    paused: bool,
    /// Woken while paused.
    parked: Vec<u64>,
    passes: BTreeMap<&'static str, u32>,
    /// Killed by one of its own tasks, which is still being polled.
    doomed: bool,
}

struct Armed {
    node: NodeId,
    /// `None`: any poll.
    label: Option<String>,
    left: u32,
    fault: NodeFault,
    then: Action,
}

pub(super) struct Core {
    pub(super) now_ns: u64,
    pub(super) rng: SeededRng,
    pub(super) trace: Trace,
    pub(super) timers: BTreeMap<(u64, u64), Waker>,
    tasks: BTreeMap<u64, Task>,
    ready: ReadyList,
    nodes: BTreeMap<NodeId, Node>,
    armed: Vec<Armed>,
    /// Armed faults that a crash point has met during the current poll.
    met: Vec<(NodeId, NodeFault, Action)>,
    actions: BTreeMap<(u64, u64), Action>,
    last_id: u64,
    polling: Option<u64>,
    last_polled: String,
}

/// What outlives a borrow of the core, to be dropped after it.
pub(super) type Remains = Vec<LocalFuture<'static, ()>>;

impl Core {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now_ns: 0,
            rng: SeededRng::new(seed),
            trace: Trace::new(),
            timers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ready: ReadyList::default(),
            nodes: BTreeMap::new(),
            armed: Vec::new(),
            met: Vec::new(),
            actions: BTreeMap::new(),
            last_id: 0,
            polling: None,
            last_polled: String::new(),
        }
    }

    pub(super) fn next_timer_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.entry(node).or_default()
    }

    pub(super) fn skew_ms(&self, node: NodeId) -> i64 {
        self.nodes.get(&node).map_or(0, |node| node.skew_ms)
    }

    pub(super) fn set_skew_ms(&mut self, node: NodeId, skew_ms: i64) {
        self.node(node).skew_ms = skew_ms;
    }

    pub(super) fn spawn(&mut self, name: String, node: NodeId, future: LocalFuture<'static, ()>) {
        let task = self.next_timer_id();
        let waker = Arc::new(TaskWaker { task, queued: AtomicBool::new(false), ready: self.ready.clone() });
        waker.wake_by_ref();
        self.tasks.insert(task, Task { name, node, future: Some(future), waker });
    }

    pub(super) fn tasks_of(&self, node: NodeId) -> usize {
        self.tasks.values().filter(|task| task.node == node).count()
    }

    pub(super) fn kill(&mut self, node: NodeId) -> Remains {
        self.node(node).paused = false;
        self.node(node).parked.clear();
        let polling = self.polling;
        if polling.and_then(|task| self.tasks.get(&task)).is_some_and(|task| task.node == node) {
            self.node(node).doomed = true;
        }
        let ids: Vec<u64> = self
            .tasks
            .iter()
            .filter(|(id, task)| task.node == node && Some(**id) != polling)
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().filter_map(|id| self.tasks.remove(&id)?.future).collect()
    }

    pub(super) fn pause(&mut self, node: NodeId) {
        self.node(node).paused = true;
    }

    pub(super) fn resume(&mut self, node: NodeId) {
        let node = self.node(node);
        node.paused = false;
        let parked = std::mem::take(&mut node.parked);
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).extend(parked);
    }

    pub(super) fn is_paused(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.paused)
    }

    pub(super) fn arm(&mut self, node: NodeId, label: Option<String>, nth: u32, fault: NodeFault, then: Action) {
        self.armed.push(Armed { node, label, left: nth.max(1), fault, then });
    }

    pub(super) fn disarm(&mut self, node: NodeId) -> Vec<Action> {
        let (gone, kept) = std::mem::take(&mut self.armed).into_iter().partition(|armed: &Armed| armed.node == node);
        self.armed = kept;
        gone.into_iter().map(|armed| armed.then).collect()
    }

    pub(super) fn passed(&self, node: NodeId, label: &str) -> u32 {
        self.nodes.get(&node).and_then(|node| node.passes.get(label)).copied().unwrap_or(0)
    }

    /// `node` passes a labelled step, in the middle of a poll.
    pub(super) fn pass(&mut self, node: NodeId, label: &'static str) {
        *self.node(node).passes.entry(label).or_insert(0) += 1;
        self.meet(node, Some(label));
    }

    /// Counts down what is armed for this step and takes out what is due.
    fn meet(&mut self, node: NodeId, label: Option<&str>) {
        let mut at = 0;
        while at < self.armed.len() {
            let armed = &mut self.armed[at];
            if armed.node == node && armed.label.as_deref() == label {
                armed.left -= 1;
                if armed.left == 0 {
                    let armed = self.armed.remove(at);
                    self.met.push((armed.node, armed.fault, armed.then));
                    continue;
                }
            }
            at += 1;
        }
    }

    pub(super) fn at(&mut self, when: Duration, action: Action) {
        let due_ns = u64::try_from(when.as_nanos()).unwrap_or(u64::MAX).max(self.now_ns);
        let id = self.next_timer_id();
        self.actions.insert((due_ns, id), action);
    }

    /// Takes a ready task by the seed; parks those of paused nodes.
    pub(super) fn pick_ready(&mut self) -> Option<Picked> {
        loop {
            let id = {
                let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
                if ready.is_empty() {
                    return None;
                }
                let at = self.rng.below(ready.len() as u64) as usize;
                ready.swap_remove(at)
            };
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let node = task.node;
            if self.nodes.get(&node).is_some_and(|node| node.paused) {
                self.node(node).parked.push(id);
                continue;
            }
            task.waker.queued.store(false, Ordering::Relaxed);
            let Some(future) = task.future.take() else { continue };
            let waker = Waker::from(task.waker.clone());
            self.last_polled.clone_from(&task.name);
            self.polling = Some(id);
            self.trace.number(id);
            return Some(Picked { task: id, node, future, waker });
        }
    }

    /// Puts a polled task back, or ends it, and carries out what befell its node meanwhile.
    pub(super) fn polled(&mut self, picked: Picked, finished: bool) -> (Vec<Action>, Remains) {
        let mut dead = Remains::new();
        self.polling = None;
        let doomed = std::mem::take(&mut self.node(picked.node).doomed);
        if finished || doomed {
            self.tasks.remove(&picked.task);
            dead.push(picked.future);
        } else if let Some(task) = self.tasks.get_mut(&picked.task) {
            task.future = Some(picked.future);
        }
        self.meet(picked.node, None);
        let mut then = Vec::new();
        for (node, fault, action) in std::mem::take(&mut self.met) {
            self.trace.event(self.now_ns, format_args!("{node} meets {fault:?}"));
            match fault {
                NodeFault::Kill => dead.append(&mut self.kill(node)),
                NodeFault::Pause => self.pause(node),
            }
            then.push(action);
        }
        (then, dead)
    }

    pub(super) fn last_polled(&self) -> &str {
        &self.last_polled
    }

    /// When something will happen next, in ns.
    pub(super) fn next_instant(&self) -> Option<u64> {
        let timer = self.timers.keys().next().map(|(due, _)| *due);
        let action = self.actions.keys().next().map(|(due, _)| *due);
        match (timer, action) {
            (Some(timer), Some(action)) => Some(timer.min(action)),
            (timer, action) => timer.or(action),
        }
    }

    /// Moves the clock and takes out all that is due.
    pub(super) fn advance_to(&mut self, instant: u64) -> (Vec<Waker>, Vec<Action>) {
        self.now_ns = self.now_ns.max(instant);
        self.trace.number(self.now_ns);
        let later = self.timers.split_off(&(self.now_ns + 1, 0));
        let wakers = std::mem::replace(&mut self.timers, later).into_values().collect();
        let later = self.actions.split_off(&(self.now_ns + 1, 0));
        let actions = std::mem::replace(&mut self.actions, later).into_values().collect();
        (wakers, actions)
    }

    /// Everything that may hold on to something outside.
    pub(super) fn take_apart(&mut self) -> (Remains, Vec<Action>, Vec<Action>) {
        let futures = std::mem::take(&mut self.tasks).into_values().filter_map(|task| task.future).collect();
        let armed = std::mem::take(&mut self.armed).into_iter().map(|armed| armed.then).collect();
        let actions = std::mem::take(&mut self.actions).into_values().collect();
        (futures, armed, actions)
    }
}
