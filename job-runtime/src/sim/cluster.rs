//! The cluster: workers as processes that die, stand still and are started again, a store behind a bad
//! network, and the hand that deals out generations.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use std::time::Duration;

use freshet_env::SharedEnv;
use freshet_env::sim::{NodeFault, NodeId, SeededRng, Sim, SimEnv, TaskHandle};
use freshet_log::Log;
use freshet_log::model::ModelBroker;
use freshet_state::TaskId;
use freshet_state::generation::{Generation, GenerationLog};
use freshet_state::lineage::Lineage;
use freshet_state::store::{FaultyStore, MemoryStore, Outcome, Store, StoreFault};

use super::scenario::{StoreWeather, Strike};
use crate::job::{self, JobSpec, Wanted};
use crate::slot::{
    self, EpochReport, Phase, Slot, SlotError, SlotEvents, StopHandle, StopSignal, TakenOver, TaskReport, Tuning,
};

/// The node of whoever looks after the cluster.
pub(super) const HARNESS: NodeId = NodeId(0);
/// The broker's node.
pub(super) const BROKER: NodeId = NodeId(1);
/// Processes get nodes from here on, each a new one.
const FIRST_WORKER: u32 = 10;

/// A worker's process.
struct Process {
    node: NodeId,
    slot: u32,
    handle: TaskHandle<Result<(), SlotError>>,
    stop: Option<StopHandle>,
    /// Nobody counts on it any more, though it may live.
    zombie: bool,
    killed: bool,
    /// Its end was looked at.
    buried: bool,
    /// Whether, when it was started, another process of its slot lived that had never worked: it may have counted
    /// as the later one of the two.
    rivalled: bool,
    ears: Rc<Ears>,
}

impl Process {
    fn is_live(&self) -> bool {
        !self.killed && !self.handle.is_finished()
    }
}

/// What a process last said.
#[derive(Default)]
struct Ears {
    phase: Cell<Option<Phase>>,
    worked: Cell<bool>,
    /// Whether it has taken a partition for idle.
    idled: Cell<bool>,
    epochs: Cell<u64>,
    failure: RefCell<Option<String>>,
    taken: Rc<RefCell<BTreeMap<(u64, TaskId), i64>>>,
}

impl SlotEvents for Ears {
    fn took_over(&self, taken: &TakenOver<'_>) {
        let mut all = self.taken.borrow_mut();
        for (task, position) in &taken.tasks {
            let least = all.entry((taken.generation.number, task.clone())).or_insert(*position);
            *least = (*least).min(*position);
        }
    }

    fn phase(&self, phase: Phase) {
        self.phase.set(Some(phase));
        self.worked.set(self.worked.get() || phase == Phase::Working);
    }

    fn epoch(&self, _report: &EpochReport) {
        self.epochs.set(self.epochs.get() + 1);
    }

    fn tasks(&self, reports: &[TaskReport]) {
        self.idled.set(self.idled.get() || reports.iter().any(|report| report.idle));
    }

    fn failed(&self, error: &SlotError, _transient: bool) {
        *self.failure.borrow_mut() = Some(error.to_string());
    }
}

/// A worker that ended for good.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub slot: u32,
    pub reason: &'static str,
    pub text: String,
}

#[derive(Default)]
struct State {
    processes: Vec<Process>,
    /// Slots that must have a process.
    wanted: u32,
    /// Whether processes are started at all.
    halted: bool,
    restart_at: BTreeMap<u32, Duration>,
    claims: BTreeMap<u32, Generation>,
    refusals: Vec<Refusal>,
    /// Processes that ended for one that was started before them.
    ousted: Vec<String>,
    /// Whether any process that is gone has taken a partition for idle.
    idled: bool,
    epochs: u64,
    struck: BTreeSet<(&'static str, bool)>,
}

/// The cluster.
pub(super) struct Cluster {
    pub sim: Weak<Sim>,
    pub env: SharedEnv,
    pub broker: ModelBroker,
    pub objects: MemoryStore,
    /// The job as it was last asked for.
    pub spec: RefCell<JobSpec>,
    /// For each generation and task, the least position at which a worker took it over.
    pub taken: Rc<RefCell<BTreeMap<(u64, TaskId), i64>>>,
    pub tuning: Tuning,
    pub weather: Rc<RefCell<StoreWeather>>,
    pub rng: RefCell<SeededRng>,
    next_node: Cell<u32>,
    state: RefCell<State>,
}

impl Cluster {
    pub fn new(sim: &Rc<Sim>, broker: ModelBroker, spec: JobSpec, tuning: Tuning, weather: StoreWeather) -> Rc<Self> {
        Rc::new(Self {
            sim: Rc::downgrade(sim),
            env: Rc::new(sim.env(HARNESS)),
            broker,
            objects: MemoryStore::new(),
            spec: RefCell::new(spec),
            taken: Rc::default(),
            tuning,
            weather: Rc::new(RefCell::new(weather)),
            rng: RefCell::new(sim.fork_rng()),
            next_node: Cell::new(FIRST_WORKER),
            state: RefCell::default(),
        })
    }

    pub fn sim(&self) -> Rc<Sim> {
        self.sim.upgrade().expect("the cluster is used only while its simulation lives")
    }

    fn drawn(&self, low: u64, high: u64) -> u64 {
        self.rng.borrow_mut().between(low, high)
    }

    /// The store as the node of `env` sees it.
    fn store(&self, env: SharedEnv) -> Rc<dyn Store> {
        let weather = Rc::clone(&self.weather);
        let rng = RefCell::new(self.rng.borrow_mut().fork());
        Rc::new(FaultyStore::new(self.objects.clone(), env, move |_, _| {
            let (weather, mut rng) = (weather.borrow(), rng.borrow_mut());
            let mut travel = || {
                let longest = if rng.chance(weather.slow_rate) { weather.slow } else { weather.latency };
                Duration::from_micros(rng.below(longest.as_micros() as u64 + 1))
            };
            let (before, after) = (travel(), travel());
            let outcome = if rng.chance(weather.fail_before_rate) {
                Outcome::FailsBefore
            } else if rng.chance(weather.fail_after_rate) {
                Outcome::FailsAfter
            } else {
                Outcome::Works
            };
            StoreFault { before, after, outcome }
        }))
    }

    // ---- processes ----

    /// Starts a process of `slot` on a node of its own.
    fn start(self: &Rc<Self>, slot: u32, claim: Option<Generation>) -> NodeId {
        let sim = self.sim();
        let node = NodeId(self.next_node.replace(self.next_node.get() + 1));
        let (stop, signal) = StopSignal::new();
        let ears = Rc::new(Ears { taken: Rc::clone(&self.taken), ..Ears::default() });
        let worker = Rc::clone(self).work(slot, claim, sim.env(node), signal, Rc::clone(&ears));
        let handle = sim.spawn(format!("slot {slot}"), node, worker);
        let rivalled = !self.nodes(|p| p.slot == slot && p.is_live() && !p.ears.worked.get()).is_empty();
        let (stop, zombie, killed, buried) = (Some(stop), false, false, false);
        let process = Process { node, slot, handle, stop, zombie, killed, buried, rivalled, ears };
        self.state.borrow_mut().processes.push(process);
        node
    }

    /// Starts a process of `slot`, though the cluster is halted.
    pub fn start_alone(self: &Rc<Self>, slot: u32) -> NodeId {
        self.start(slot, None)
    }

    /// Whether a process is neither dead nor at its end.
    pub fn lives(&self, node: NodeId) -> bool {
        self.state.borrow().processes.iter().any(|p| p.node == node && p.is_live())
    }

    /// Whether the process that `slot`'s tasks are counted on has come to work.
    pub fn has_worked(&self, slot: u32) -> bool {
        let state = self.state.borrow();
        state.processes.iter().any(|p| p.slot == slot && !p.zombie && p.is_live() && p.ears.worked.get())
    }

    /// Whether any process has taken a partition for idle.
    pub fn idled(&self) -> bool {
        let state = self.state.borrow();
        state.idled || state.processes.iter().any(|process| process.ears.idled.get())
    }

    /// Processes that ended for one that was started before them.
    pub fn ousted(&self) -> Vec<String> {
        self.bury();
        self.state.borrow().ousted.clone()
    }

    async fn work(
        self: Rc<Self>,
        number: u32,
        claim: Option<Generation>,
        env: SimEnv,
        stop: StopSignal,
        ears: Rc<Ears>,
    ) -> Result<(), SlotError> {
        let env: SharedEnv = Rc::new(env);
        let log: Rc<dyn Log> = Rc::new(self.broker.client(Rc::clone(&env)));
        let lineage = self.open(&env).await?;
        let slot = Slot { number, lineage, tuning: self.tuning.clone(), env, log, events: ears };
        slot::run(&slot, claim, &stop).await
    }

    async fn open(&self, env: &SharedEnv) -> Result<Lineage, SlotError> {
        let store = self.store(Rc::clone(env));
        let spec = self.spec.borrow().clone();
        loop {
            match job::open(&spec, Rc::clone(&store), env).await {
                Err(error) if error.is_transient() => env.sleep(Duration::from_millis(30)).await,
                done => return done,
            }
        }
    }

    /// Starts what should run and does not, and looks at what ended: for ever.
    pub async fn look_after_processes(self: Rc<Self>) {
        loop {
            self.bury();
            let (now, wanted) = (self.env.monotonic(), self.state.borrow().wanted);
            for slot in 0..wanted {
                let due = {
                    let state = self.state.borrow();
                    let lives = state.processes.iter().any(|p| p.slot == slot && !p.zombie && p.is_live());
                    let refused = state.refusals.iter().any(|refusal| refusal.slot == slot);
                    !state.halted && !lives && !refused && state.restart_at.get(&slot).is_none_or(|at| *at <= now)
                };
                if due {
                    let claim = self.state.borrow_mut().claims.remove(&slot);
                    self.start(slot, claim);
                    let pause = Duration::from_millis(self.drawn(20, 400));
                    self.state.borrow_mut().restart_at.insert(slot, now + pause);
                }
            }
            self.env.sleep(Duration::from_millis(10)).await;
        }
    }

    fn bury(&self) {
        let mut state = self.state.borrow_mut();
        let State { processes, refusals, ousted, idled, epochs, .. } = &mut *state;
        for process in processes.iter_mut().filter(|process| !process.buried && !process.is_live()) {
            process.buried = true;
            *epochs += process.ears.epochs.get();
            *idled |= process.ears.idled.get();
            match process.handle.take() {
                Some(Err(error @ SlotError::Replaced { .. })) if !process.zombie && !process.rivalled => {
                    ousted.push(format!("{}: {error}, by a process that was started before it", process.node));
                }
                Some(Err(error)) if !matches!(error, SlotError::Replaced { .. }) => {
                    refusals.push(Refusal { slot: process.slot, reason: error.reason(), text: error.to_string() });
                }
                _ => {}
            }
        }
        processes.retain(|process| !process.buried);
    }

    /// The live process that a slot's tasks are counted on.
    pub fn node_of(&self, slot: u32) -> Option<NodeId> {
        let state = self.state.borrow();
        state.processes.iter().rev().find(|p| p.slot == slot && !p.zombie && p.is_live()).map(|p| p.node)
    }

    /// Nobody counts on this process any more.
    pub fn give_up(&self, node: NodeId) {
        let mut state = self.state.borrow_mut();
        state.processes.iter_mut().filter(|p| p.node == node).for_each(|p| p.zombie = true);
    }

    /// Notes that a process was killed.
    pub fn killed(&self, node: NodeId) {
        let mut state = self.state.borrow_mut();
        state.processes.iter_mut().filter(|p| p.node == node).for_each(|p| p.killed = true);
    }

    pub fn kill(&self, node: NodeId) {
        self.sim().kill(node);
        self.killed(node);
    }

    pub fn kill_slot(&self, slot: u32) {
        let nodes: Vec<NodeId> = self.nodes(|p| p.slot == slot && p.is_live());
        nodes.into_iter().for_each(|node| self.kill(node));
    }

    fn nodes(&self, which: impl Fn(&Process) -> bool) -> Vec<NodeId> {
        self.state.borrow().processes.iter().filter(|p| which(p)).map(|p| p.node).collect()
    }

    /// Arms a fault against a process.
    pub fn arm(self: &Rc<Self>, node: NodeId, strike: Strike, fault: NodeFault, then: impl FnOnce(&Sim) + 'static) {
        let cluster = Rc::downgrade(self);
        let then = move |sim: &Sim| {
            if let Some(cluster) = cluster.upgrade() {
                if fault == NodeFault::Kill {
                    cluster.killed(node);
                }
                if let Strike::Label(label, _) = strike {
                    cluster.state.borrow_mut().struck.insert((label, fault == NodeFault::Kill));
                }
            }
            then(sim);
        };
        match strike {
            Strike::Label(label, nth) => self.sim().arm(node, label, nth, fault, then),
            Strike::Poll(nth) => self.sim().arm_poll(node, nth, fault, then),
        }
    }

    /// Asks the processes of `slot` to stop.
    pub fn stop_slot(&self, slot: u32) {
        let mut state = self.state.borrow_mut();
        for process in state.processes.iter_mut().filter(|p| p.slot == slot && p.is_live()) {
            if let Some(stop) = process.stop.take() {
                stop.stop();
            }
        }
    }

    /// No process is started from now on, or they are again.
    pub fn halt(&self, halted: bool) {
        self.state.borrow_mut().halted = halted;
    }

    /// Kills every process.
    pub fn kill_all(&self) {
        self.nodes(Process::is_live).into_iter().for_each(|node| self.kill(node));
    }

    /// Wakes every process that stands still.
    pub fn wake_all(&self) {
        let sim = self.sim();
        for node in self.nodes(Process::is_live) {
            sim.disarm(node);
            if sim.is_paused(node) {
                sim.resume(node);
            }
        }
    }

    pub fn live_processes(&self) -> usize {
        self.nodes(Process::is_live).len()
    }

    pub fn wanted(&self) -> u32 {
        self.state.borrow().wanted
    }

    pub fn set_wanted(&self, slots: u32) {
        self.state.borrow_mut().wanted = slots;
    }

    /// What the next process of `slot` is told.
    pub fn tell(&self, slot: u32, claim: Generation) {
        self.state.borrow_mut().claims.insert(slot, claim);
    }

    pub fn refusals(&self) -> Vec<Refusal> {
        self.bury();
        self.state.borrow().refusals.clone()
    }

    pub fn epochs(&self) -> u64 {
        let state = self.state.borrow();
        state.epochs + state.processes.iter().map(|process| process.ears.epochs.get()).sum::<u64>()
    }

    /// The labelled steps at which a process was struck, and whether it was killed there.
    pub fn struck(&self) -> Vec<(&'static str, bool)> {
        self.state.borrow().struck.iter().copied().collect()
    }

    pub fn processes_started(&self) -> u32 {
        self.next_node.get() - FIRST_WORKER
    }

    /// Where every process is: what a stuck run shows.
    pub fn situation(&self) -> String {
        let (state, sim) = (self.state.borrow(), self.sim());
        let process = |p: &Process| {
            let failure = p.ears.failure.borrow().clone().unwrap_or_default();
            let paused = if sim.is_paused(p.node) { " (paused)" } else { "" };
            format!("{}: slot {}, {:?}{paused}, last failure: {failure}", p.node, p.slot, p.ears.phase.get())
        };
        let processes: Vec<String> = state.processes.iter().filter(|p| p.is_live()).map(process).collect();
        format!("{}; requests that wait: {:?}", processes.join("; "), self.broker.waiting())
    }

    // ---- the dealer of generations ----

    /// The lineage, as the dealer sees it.
    pub async fn dealer(&self) -> Result<(Lineage, Rc<dyn Log>), SlotError> {
        let log: Rc<dyn Log> = Rc::new(self.broker.client(Rc::clone(&self.env)));
        Ok((self.open(&self.env).await?, log))
    }

    /// Hands out the generation that runs the job as it was last asked for.
    pub async fn hand_out(&self, wanted: Wanted) -> Result<Generation, SlotError> {
        let (lineage, log) = self.dealer().await?;
        loop {
            let spec = self.spec.borrow().clone();
            match job::hand_out(&spec, &lineage, &log, &self.env, wanted).await {
                Err(error) if error.is_transient() => self.env.sleep(Duration::from_millis(30)).await,
                done => return done.map(|handed| handed.generation),
            }
        }
    }

    /// Spreads the job as it is over so many slots.
    pub async fn rescale(&self, slots: u32) -> Result<Generation, SlotError> {
        let (lineage, _) = self.dealer().await?;
        loop {
            match job::rescale(&lineage, &self.env, slots).await {
                Err(error) if error.is_transient() => self.env.sleep(Duration::from_millis(30)).await,
                Ok(Some(handed)) => return Ok(handed.generation),
                Ok(None) => return Err(SlotError::Plan("there is no generation".to_owned())),
                Err(error) => return Err(error),
            }
        }
    }

    /// All generations, as they are stored.
    pub async fn generations(&self) -> Result<Vec<Generation>, SlotError> {
        let (lineage, _) = self.dealer().await?;
        let log = GenerationLog::new(Rc::new(self.objects.clone()), lineage.prefix().to_owned());
        let mut all = Vec::new();
        for number in log.numbers().await? {
            all.extend(log.get(number).await?);
        }
        Ok(all)
    }

    /// The latest generation with its number raised and every task moved `by` slots on; not written yet.
    pub async fn rotated(&self, by: u32) -> Result<Option<Generation>, SlotError> {
        let (lineage, _) = self.dealer().await?;
        loop {
            match lineage.generations().latest().await.map_err(SlotError::from) {
                Err(error) if error.is_transient() => self.env.sleep(Duration::from_millis(30)).await,
                latest => {
                    return Ok(latest?.map(|mut next| {
                        next.number += 1;
                        next.created_at_ms = self.env.now_ms();
                        next.assignment.values_mut().for_each(|slot| *slot = (*slot + by) % next.slots);
                        next
                    }));
                }
            }
        }
    }

    /// Writes a generation; gives what is stored under its number.
    pub async fn propose(&self, generation: &Generation) -> Result<Generation, SlotError> {
        let (lineage, _) = self.dealer().await?;
        loop {
            match lineage.generations().propose(generation).await.map_err(SlotError::from) {
                Err(error) if error.is_transient() => self.env.sleep(Duration::from_millis(30)).await,
                done => return Ok(done?.into_stored()),
            }
        }
    }
}
