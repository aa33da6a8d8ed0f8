//! The course of one simulation: the cluster comes up, is fed and struck; then the sky clears, and what is
//! there must become what the recount says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use freshet_env::sim::{SeededRng, Sim, Stop};
use freshet_log::model::{ModelBroker, ModelFaults};
use freshet_log::{StartPosition, TopicPartition};
use freshet_plan::Input;
use freshet_state::TaskId;
use freshet_state::lineage::Owner;
use freshet_state::run_policy::LateRecords;

use super::cluster::{BROKER, Cluster, HARNESS};
use super::input::{self, InputRecord};
use super::oracle::{Era, Expected, Fed, Verdict, recount};
use super::plans::{self, COPIES, DEAD, LATE, PAYMENTS, SOURCE_STAGE, Shape, TOTALS};
use super::scenario::{Kind, Scenario, StoreWeather};
use super::{Figures, Outcome};
use crate::job::{JobSpec, Wanted};

/// After the sky has cleared, everything must be done within this time.
const DEADLINE: Duration = Duration::from_secs(240);
/// How long a complete result is watched for what comes after it.
const WATCH: Duration = Duration::from_secs(4);
/// The end of any simulation.
const LONGEST: Duration = Duration::from_secs(3600);

/// One simulation under way.
pub(super) struct Run {
    pub cluster: Rc<Cluster>,
    pub scenario: Scenario,
    /// What was written to the input, by partition.
    pub fed: RefCell<Vec<Vec<Fed>>>,
    /// Whether the sky has cleared.
    pub calm: Cell<bool>,
    rng: RefCell<SeededRng>,
    /// Misfortunes that are not seen through yet.
    striking: Cell<usize>,
    finished: Cell<bool>,
    violations: RefCell<Vec<String>>,
    /// The shapes that were ever asked for, by what generations store of them.
    pub shapes: RefCell<Vec<(PlansKey, Shape)>>,
    pub replanning: Cell<bool>,
}

/// What tells the shapes of generations apart.
type PlansKey = (String, bool);

pub(super) fn plans_key(spec: &JobSpec) -> PlansKey {
    (spec.plan.fingerprint(), spec.policy.on_late != LateRecords::Drop)
}

/// Runs the scenario of `seed`.
pub(super) fn run(seed: u64, kind: Option<Kind>, keep_trace: usize) -> Outcome {
    let sim = Rc::new(Sim::new(seed));
    sim.keep_trace(keep_trace);
    let mut rng = sim.fork_rng();
    let scenario = Scenario::draw(&mut rng, kind);
    sim.trace(format_args!("scenario {scenario:?}"));
    let records = input::draw(&scenario.input, &mut rng);
    let broker = ModelBroker::simulated(Rc::new(sim.env(BROKER)), sim.fork_rng(), scenario.faults.clone());
    broker.create_topic(PAYMENTS, scenario.shape.partitions);
    for (topic, partitions) in [(COPIES, 2), (TOTALS, 3), (DEAD, 1), (LATE, 2)] {
        broker.create_topic(topic, partitions);
    }
    sim.spawn("broker", BROKER, broker.run());
    let cluster = Cluster::new(&sim, broker, job(&scenario), scenario.tuning.clone(), scenario.store.clone());
    let run = Rc::new(Run {
        cluster,
        fed: RefCell::new(vec![Vec::new(); scenario.shape.partitions as usize]),
        scenario,
        calm: Cell::new(false),
        rng: RefCell::new(rng),
        striking: Cell::new(0),
        finished: Cell::new(false),
        violations: RefCell::default(),
        shapes: RefCell::default(),
        replanning: Cell::new(false),
    });
    run.shapes.borrow_mut().push((plans_key(&run.cluster.spec.borrow()), run.scenario.shape));
    sim.spawn("kubelet", HARNESS, Rc::clone(&run.cluster).look_after_processes());
    sim.spawn("director", HARNESS, Rc::clone(&run).direct(records));
    let finished = Rc::clone(&run);
    let stop = sim.run_until(LONGEST, move |_| finished.finished.get());
    if stop != Stop::Done {
        run.violate(format!("the simulation ended by itself ({stop:?}): {}", run.cluster.situation()));
    }
    Outcome {
        seed,
        kind: run.scenario.kind,
        trace_hash: sim.trace_hash(),
        violations: run.violations.take(),
        figures: Figures {
            virtual_time: sim.now(),
            epochs: run.cluster.epochs(),
            processes: run.cluster.processes_started(),
            records: run.fed.borrow().iter().map(Vec::len).sum(),
            struck: run.cluster.struck(),
        },
        trace: sim.kept_trace(),
    }
}

fn job(scenario: &Scenario) -> JobSpec {
    JobSpec {
        owner: Owner { cluster: "sim".into(), namespace: "sim".into(), name: "payments".into() },
        plan: plans::plan(scenario.shape),
        policy: plans::policy(scenario.shape, scenario.epoch_interval),
        start_from: StartPosition::Earliest,
        accept_dropped: [].into(),
    }
}

impl Run {
    /// Notes a violation, and ends the simulation.
    pub fn violate(&self, what: String) {
        self.cluster.sim().trace(format_args!("violation: {what}"));
        self.violations.borrow_mut().push(what);
        self.finished.set(true);
    }

    pub fn drawn(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().below(bound)
    }

    /// How many tasks the job has.
    pub fn tasks(&self) -> usize {
        let shape = self.scenario.shape;
        let of = |input: &Input| match input {
            Input::Topic(_) => shape.partitions as usize,
            Input::Repartition(_) => shape.max_parallelism as usize,
        };
        self.cluster.spec.borrow().plan.stages.iter().map(|stage| of(&stage.input)).sum()
    }

    pub fn shape_of(&self, spec: &JobSpec) -> Option<Shape> {
        self.shape(&plans_key(spec))
    }

    fn shape(&self, key: &PlansKey) -> Option<Shape> {
        self.shapes.borrow().iter().find(|(known, _)| known == key).map(|(_, shape)| *shape)
    }

    /// What the job was, from where on in each partition: as the generations say it, and as workers took them over.
    /// `None` while the last change is not taken over in every partition.
    async fn history(&self) -> Option<Vec<Era>> {
        let generations = match self.cluster.generations().await {
            Ok(generations) => generations,
            Err(error) => {
                self.violate(format!("the generation log can't be read: {error}"));
                return None;
            }
        };
        let taken = self.cluster.taken.borrow();
        let mut eras: Vec<Era> = Vec::new();
        for generation in generations {
            let letters = generation.policy.as_ref().is_some_and(|policy| policy.on_late != LateRecords::Drop);
            let Some(shape) = self.shape(&(generation.plan_fingerprint.clone(), letters)) else {
                self.violate(format!("generation {} runs a plan that nobody asked for", generation.number));
                return None;
            };
            if eras.last().is_some_and(|era| era.shape == shape) {
                continue;
            }
            let from = (0..shape.partitions).map(|partition| {
                let task = TaskId::new(SOURCE_STAGE, partition);
                let later = taken.iter().filter(|((number, of), _)| *number >= generation.number && *of == task);
                later.map(|(_, position)| *position).min()
            });
            // The first is there from the beginning, whoever took it over.
            let from = if eras.is_empty() { vec![0; shape.partitions as usize] } else { from.collect::<Option<_>>()? };
            eras.push(Era { shape, from });
        }
        Some(eras)
    }

    async fn direct(self: Rc<Self>, records: Vec<InputRecord>) {
        let cluster = Rc::clone(&self.cluster);
        let sim = cluster.sim();
        cluster.set_wanted(self.scenario.slots);
        // A partition that is read while it is empty still may fall idle, and what comes then may be late.
        let (first, rest) = if self.scenario.shape.idle { (records, Vec::new()) } else { (Vec::new(), records) };
        first.into_iter().for_each(|record| self.feed(record));
        let first = Wanted { slots: self.scenario.slots, accept_dropped_state: false };
        if let Err(error) = cluster.hand_out(first).await {
            self.violate(format!("the first generation can't be handed out: {error}"));
            return;
        }
        for (at, misfortune) in self.scenario.misfortunes.clone() {
            let run = Rc::clone(&self);
            self.striking.set(self.striking.get() + 1);
            sim.spawn("misfortune", HARNESS, async move {
                run.pass(at).await;
                Rc::clone(&run).befall(misfortune).await;
                run.striking.set(run.striking.get() - 1);
            });
        }
        for record in rest {
            if !record.after.is_zero() {
                self.pass(record.after).await;
            }
            self.feed(record);
        }
        if !self.wait_for(Duration::from_secs(180), || self.striking.get() == 0).await {
            self.violate("misfortunes do not end".to_owned());
        }
        self.clear_the_sky();
        // Dealers that contradicted each other may have left other slots than were last asked for.
        match cluster.rotated(0).await {
            Ok(Some(next)) => cluster.set_wanted(next.slots),
            Ok(None) => self.violate("there is no generation".to_owned()),
            Err(error) => self.violate(format!("the generation log can't be read: {error}")),
        }
        input::closing(self.scenario.shape.partitions).into_iter().for_each(|record| self.feed(record));
        self.judge().await;
        self.finished.set(true);
    }

    fn feed(&self, record: InputRecord) {
        let place = TopicPartition::new(PAYMENTS, record.partition);
        let (key, value) = (record.key.as_bytes(), record.value.as_bytes());
        let timestamp_ms = self.cluster.env.now_ms();
        match self.cluster.broker.append(&place, timestamp_ms, Some(key), Some(value)) {
            Ok(offset) => self.fed.borrow_mut()[record.partition as usize].push(Fed { offset, record }),
            Err(error) => self.violate(format!("the input can't be written: {error}")),
        }
    }

    fn clear_the_sky(&self) {
        self.cluster.sim().trace(format_args!("the sky clears"));
        self.calm.set(true);
        let limits = ModelFaults {
            request_timeout: self.scenario.faults.request_timeout,
            transaction_timeout: self.scenario.faults.transaction_timeout,
            fetch_records: self.scenario.faults.fetch_records,
            queue_records: self.scenario.faults.queue_records,
            ..ModelFaults::none()
        };
        self.cluster.broker.set_faults(limits);
        self.cluster.weather.replace(StoreWeather::CALM);
        self.cluster.wake_all();
    }

    /// Waits for the result, and for what may come after it.
    async fn judge(&self) {
        self.settle_strangers().await;
        let until = self.cluster.env.monotonic() + DEADLINE;
        let eras = loop {
            match self.history().await {
                Some(eras) => break eras,
                None if self.finished.get() => return,
                None if self.cluster.env.monotonic() >= until => {
                    return self.violate(format!("stuck: a change is not taken over; {}", self.cluster.situation()));
                }
                // Whoever refuses takes nothing over: the first plan is all that such a scenario has.
                None if !self.cluster.refusals().is_empty() => break vec![Era::first(self.scenario.shape)],
                None => self.pass(Duration::from_millis(100)).await,
            }
        };
        let expected = recount(&eras, &self.fed.borrow());
        loop {
            if self.judge_refusals(&expected) {
                return;
            }
            match expected.compare(&self.cluster.broker) {
                Verdict::Complete => break,
                Verdict::Wrong(what) => return self.violate(what),
                Verdict::Missing(what) if self.cluster.env.monotonic() >= until => {
                    return self.violate(format!("stuck: missing {what}; {}", self.cluster.situation()));
                }
                Verdict::Missing(_) => self.pass(Duration::from_millis(100)).await,
            }
        }
        self.pass(WATCH).await;
        if self.judge_refusals(&expected) {
            return;
        }
        if let Some(what) = self.cluster.ousted().first() {
            return self.violate(what.clone());
        }
        if !self.scenario.shape.idle && self.cluster.idled() {
            return self.violate("a partition was taken for idle long before its time-out".to_owned());
        }
        if self.scenario.kind == Kind::OffsetsExpired {
            return self.violate("offsets expired while state existed, and nobody refused to go on".to_owned());
        }
        match expected.compare(&self.cluster.broker) {
            Verdict::Complete => {}
            Verdict::Wrong(what) | Verdict::Missing(what) => self.violate(format!("after it was complete: {what}")),
        }
    }

    /// What a stranger wrote is input only if its transaction was committed, and not timed out before.
    async fn settle_strangers(&self) {
        let broker = &self.cluster.broker;
        let visible = |partition: u32| {
            let bounds = broker.bounds(&TopicPartition::new(PAYMENTS, partition));
            bounds.is_ok_and(|bounds| bounds.stable == bounds.high)
        };
        if !self.wait_for(Duration::from_secs(30), || (0..self.scenario.shape.partitions).all(visible)).await {
            self.violate("the input is held back for ever".to_owned());
        }
        let committed = broker.committed_records(PAYMENTS).unwrap_or_default();
        let places: BTreeSet<(u32, i64)> = committed.iter().map(|record| (record.partition, record.offset)).collect();
        for (partition, records) in (0..).zip(self.fed.borrow_mut().iter_mut()) {
            records.retain(|fed| places.contains(&(partition, fed.offset)));
        }
    }

    /// Whether workers have refused to go on, and so the run is over: as it should be, or not.
    fn judge_refusals(&self, expected: &Expected) -> bool {
        let refusals = self.cluster.refusals();
        let Some(first) = refusals.first() else { return false };
        let wanted = |reason: &str| match self.scenario.kind {
            Kind::OffsetsExpired => reason == "OffsetsLost",
            Kind::Damage => matches!(reason, "StateDamaged" | "StateNewer"),
            _ => false,
        };
        if let Some(bad) = refusals.iter().find(|refusal| !wanted(refusal.reason)) {
            self.violate(format!("slot {} ended for good: {}: {}", bad.slot, bad.reason, bad.text));
            return true;
        }
        if let Verdict::Wrong(what) = expected.compare(&self.cluster.broker) {
            self.violate(format!("slot {} refused ({}), and yet: {what}", first.slot, first.reason));
            return true;
        }
        // The others go on, or refuse too; a job that refused is over.
        true
    }
}
