//! The model under everything that it can do to its clients: a small reader that copies a topic with
//! transactions, takes over from itself after every error and every kill, must copy each record once.
//! And a reader that leaves out one of the steps must be caught: so the model is strict enough.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::cluster::{Cluster, ms, offset, send_all, tp};
use freshet_env::SharedEnv;
use freshet_env::sim::{NodeFault, NodeId, SeededRng, Sim};
use freshet_log::model::{ModelBroker, ModelFaults, ModelLog};
use freshet_log::{Log, LogError, Outgoing, Producer};

const RECORDS: i64 = 40;

/// What the copier gets wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// It uses the producer again after an outcome that is unknown.
    ReusesProducer,
    /// It reads its position before it has fenced its predecessor.
    ReadsBeforeFence,
    /// Each of its lives has an id of its own, so that nobody is fenced.
    NeverFences,
}

/// Copies until an error; then takes over from itself.
async fn copier(log: ModelLog, env: SharedEnv, mistake: Mistake) {
    loop {
        // The error says nothing that matters: whatever it was, the answer is to take over.
        let _ = copy(&log, &env, mistake).await;
        env.sleep(ms(1 + env.random_u64() % 50)).await;
    }
}

async fn position(log: &ModelLog) -> Result<i64, LogError> {
    let committed = log.committed("copier", &[tp("in", 0)]).await?;
    Ok(committed[0].as_ref().map_or(0, |committed| committed.offset))
}

async fn copy(log: &ModelLog, env: &SharedEnv, mistake: Mistake) -> Result<(), LogError> {
    let early = if mistake == Mistake::ReadsBeforeFence { Some(position(log).await?) } else { None };
    let id = if mistake == Mistake::NeverFences { format!("copier-{}", env.random_u64()) } else { "copier".to_owned() };
    let mut producer = log.producer(&id).await?;
    loop {
        let start = match early {
            Some(early) => early,
            None => position(log).await?,
        };
        let result = epochs(log, env, producer.as_mut(), start).await;
        match result {
            Err(LogError::Indefinite(_)) if mistake == Mistake::ReusesProducer => {}
            other => return other,
        }
    }
}

async fn epochs(log: &ModelLog, env: &SharedEnv, producer: &mut dyn Producer, start: i64) -> Result<(), LogError> {
    let mut consumer = log.consumer(&[(tp("in", 0), start)]).await?;
    loop {
        let batch = consumer.next().await?;
        env.crash_point("read").await;
        if batch.records.is_empty() {
            continue;
        }
        let mut out = Outgoing::new(vec!["out".to_owned()]);
        for record in &batch.records {
            let partition = (record.offset % 2) as u32;
            out.push(0, partition, record.timestamp_ms, batch.key(record), batch.value(record));
        }
        producer.begin()?;
        send_all(producer, &out).await?;
        env.crash_point("sent").await;
        producer.acknowledged().await?;
        env.crash_point("acknowledged").await;
        producer.send_offsets("copier", &[(tp("in", 0), offset(batch.next_offset, ""))]).await?;
        env.crash_point("offsets").await;
        producer.commit().await?;
        env.crash_point("committed").await;
    }
}

/// The copier's lives: each on a node of its own, so that a former one may wake beside it.
#[derive(Clone)]
struct Lives {
    broker: ModelBroker,
    mistake: Mistake,
    current: Rc<Cell<u32>>,
}

impl Lives {
    fn node(&self) -> NodeId {
        NodeId(self.current.get())
    }

    fn start(&self, sim: &Sim) {
        self.current.set(self.current.get() + 1);
        let env: SharedEnv = Rc::new(sim.env(self.node()));
        sim.spawn("copier", self.node(), copier(self.broker.client(env.clone()), env, self.mistake));
    }

    /// The current life is paused already: a successor starts, the zombie wakes beside it, and dies at last.
    fn replace(&self, sim: &Sim, wakes_after: Duration) {
        let zombie = self.node();
        self.start(sim);
        sim.at(sim.now() + wakes_after, move |sim| sim.resume(zombie));
        sim.at(sim.now() + wakes_after + ms(300), move |sim| sim.kill(zombie));
    }
}

const STEPS: [&str; 5] = ["read", "sent", "acknowledged", "offsets", "committed"];

/// Deaths, zombies and outages, over and over, until the faults stop.
fn torment(sim: &Sim, lives: &Lives, rng: &mut SeededRng) {
    for _ in 0..rng.between(2, 6) {
        let at = ms(rng.between(10, 12_000));
        let (lives, wakes_after) = (lives.clone(), Duration::from_micros(rng.between(0, 20_000)));
        let label = *rng.pick(&STEPS).expect("there are steps");
        let nth = rng.between(1, 60) as u32;
        match rng.below(5) {
            0 => sim.at(at, move |sim| {
                sim.kill(lives.node());
                lives.start(sim);
            }),
            1 => sim.at(at, move |sim| {
                sim.arm(lives.node(), label, 2, NodeFault::Kill, move |sim| lives.start(sim));
            }),
            2 => sim.at(at, move |sim| {
                sim.arm_poll(lives.node(), nth, NodeFault::Kill, move |sim| lives.start(sim));
            }),
            3 => sim.at(at, move |sim| {
                let replaced = lives.clone();
                sim.arm(lives.node(), label, 1, NodeFault::Pause, move |sim| replaced.replace(sim, wakes_after));
            }),
            _ => {
                let back = lives.broker.clone();
                sim.at(at, move |_| lives.broker.set_available(false));
                sim.at(at + ms(rng.between(1, 3000)), move |_| back.set_available(true));
            }
        }
    }
}

struct Run {
    hash: u64,
    copied: Vec<String>,
    in_order: bool,
    trace: Vec<String>,
}

fn run(seed: u64, mistake: Mistake) -> Run {
    let mut rng = SeededRng::new(seed);
    let cluster = Cluster::new(rng.next_u64(), ModelFaults::drawn(&mut rng));
    cluster.sim.keep_trace(200);
    let (sim, broker) = (&cluster.sim, &cluster.broker);
    for n in 0..RECORDS {
        // In order; after an outage a fetch finds several at once.
        let (writer, at) = (broker.clone(), ms(n as u64 * 250 + rng.between(0, 249)));
        sim.at(at, move |_| {
            writer.append(&tp("in", 0), n, None, Some(format!("{n:02}").as_bytes())).expect("it is there");
        });
    }
    let lives = Lives { broker: broker.clone(), mistake, current: Rc::new(Cell::new(0)) };
    torment(sim, &lives, &mut rng);
    lives.start(sim);
    let calm = broker.clone();
    sim.at(ms(15_000), move |sim| {
        // Whatever was armed and has not happened won't: a paused one wakes and dies within 320 ms.
        sim.disarm(lives.node());
        calm.set_available(true);
        calm.set_faults(ModelFaults::none());
    });
    let all = |copied: &[String]| copied.len() >= RECORDS as usize;
    // Ten seconds of grace: what was under way when the faults stopped may still spoil a transaction.
    let mut settled = None;
    sim.run_until(Duration::from_secs(200), |sim| {
        if settled.is_none() && all(&cluster.values("out")) && sim.now() > ms(15_000) {
            settled = Some(sim.now());
        }
        settled.is_some_and(|since| sim.now() > since + ms(10_000))
    });
    let mut copied = cluster.values("out");
    // Partition 0 got the even ones in order, then partition 1 the odd ones: so they come out of the log.
    let in_order = copied.windows(2).filter(|pair| pair[0] >= pair[1]).count() <= 1;
    copied.sort();
    Run { hash: sim.trace_hash(), copied, in_order, trace: sim.kept_trace() }
}

fn expected() -> Vec<String> {
    (0..RECORDS).map(|n| format!("{n:02}")).collect()
}

#[test]
fn every_record_is_copied_once_whatever_happens() {
    for seed in 0..300 {
        let run = run(seed, Mistake::None);
        assert!(run.copied == expected() && run.in_order, "seed {seed}: {:?}\n{}", run.copied, run.trace.join("\n"));
    }
}

#[test]
fn the_same_seed_takes_the_same_way() {
    for seed in 0..20 {
        assert_eq!(run(seed, Mistake::None).hash, run(seed, Mistake::None).hash, "seed {seed}");
    }
}

#[test]
fn every_mistake_shows() {
    for mistake in [Mistake::ReusesProducer, Mistake::ReadsBeforeFence, Mistake::NeverFences] {
        let caught = (0..400).find(|seed| run(*seed, mistake).copied != expected());
        println!("{mistake:?}: caught at seed {caught:?}");
        assert!(caught.is_some(), "{mistake:?} went unnoticed for 400 seeds: the model is too kind");
    }
}
