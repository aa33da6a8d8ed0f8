//! How misfortunes come about.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use freshet_env::sim::{NodeFault, NodeId};
use freshet_log::TopicPartition;
use freshet_state::metadata::CommitMetadata;
use freshet_state::store::Store as _;

use super::input::{InputRecord, Meaning};
use super::oracle::Fed;
use super::plans::{self, PAYMENTS, Shape};
use super::run::{Run, plans_key};
use super::scenario::{Change, Dance, Misfortune, StoreWeather, Strike};
use crate::job::{JobSpec, Refusal, Wanted};
use crate::slot::SlotError;

/// Long enough for everything that is under way to arrive or be timed out.
const SETTLES: Duration = Duration::from_secs(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Run {
    /// Lets a misfortune happen, and sees it through.
    pub(super) async fn befall(self: Rc<Self>, misfortune: Misfortune) {
        self.cluster.sim().trace(format_args!("misfortune {misfortune:?}"));
        if let Err(error) = Rc::clone(&self).strike(misfortune).await {
            self.violate(format!("the dealer of generations failed: {error}"));
        }
    }

    async fn strike(self: Rc<Self>, misfortune: Misfortune) -> Result<(), SlotError> {
        let cluster = &self.cluster;
        match misfortune {
            Misfortune::Kill(slot) => cluster.kill_slot(slot),
            Misfortune::KillAt(slot, strike) => return self.kill_at(slot % cluster.wanted().max(1), strike).await,
            Misfortune::Dance(dance) => return self.dance(dance).await,
            Misfortune::Rescale { slots, told, kill } => return self.rescale(slots, told, kill).await,
            Misfortune::Contradict => return self.contradict().await,
            Misfortune::Replan(change) => return self.replan(change).await,
            Misfortune::Outage(time) => {
                cluster.broker.set_available(false);
                self.pass(time).await;
                cluster.broker.set_available(true);
            }
            Misfortune::StoreStorm(time) => {
                let storm = StoreWeather {
                    latency: ms(50),
                    slow_rate: 200,
                    slow: ms(3000),
                    fail_before_rate: 250,
                    fail_after_rate: 250,
                };
                cluster.weather.replace(storm);
                self.pass(time).await;
                if !self.calm.get() {
                    cluster.weather.replace(self.scenario.store.clone());
                }
            }
            Misfortune::TimeOutTransactions => cluster.broker.time_out_transactions(),
            Misfortune::Hang { partition, time, commit } => self.hang(partition, time, commit).await,
            Misfortune::Stop(slot) => cluster.stop_slot(slot),
            Misfortune::Skew(slot, skew_ms) => {
                if let Some(node) = cluster.node_of(slot) {
                    cluster.sim().set_skew_ms(node, skew_ms);
                }
            }
            Misfortune::ExpireOffsets { stopped_before } => {
                self.all_have_committed().await;
                if stopped_before {
                    self.stop_all().await;
                    cluster.halt(false);
                    let works = || (0..cluster.wanted()).all(|slot| cluster.has_worked(slot));
                    if !self.wait_for(Duration::from_secs(60), works).await {
                        self.violate(format!("not all come up after a clean stop: {}", cluster.situation()));
                    }
                    self.all_have_committed().await;
                }
                cluster.halt(true);
                cluster.kill_all();
                self.pass(SETTLES).await;
                self.expire_offsets();
                cluster.halt(false);
            }
            Misfortune::Damage => {
                self.all_have_committed().await;
                cluster.halt(true);
                cluster.kill_all();
                self.pass(SETTLES).await;
                self.damage();
                cluster.halt(false);
            }
            Misfortune::StopAndExpire { falls, rescale } => {
                self.all_have_committed().await;
                self.stop_all().await;
                self.pass(SETTLES).await;
                if let Some(slots) = rescale {
                    let generation = cluster.rescale(slots).await?;
                    cluster.set_wanted(generation.slots);
                }
                self.expire_offsets();
                for (slot, label) in falls {
                    let node = cluster.start_alone(slot);
                    cluster.arm(node, Strike::Label(label, 1), NodeFault::Kill, |_| {});
                    if !self.wait_for(Duration::from_secs(10), || !cluster.lives(node)).await {
                        // It does not pass there (nothing was left to fence): it works now, and offsets must stay.
                        cluster.sim().disarm(node);
                        break;
                    }
                    self.pass(SETTLES).await;
                    self.expire_offsets();
                }
                cluster.halt(false);
            }
        }
        Ok(())
    }

    pub(super) async fn pass(&self, time: Duration) {
        self.cluster.env.sleep(time).await;
    }

    /// Waits until `done`, and says whether it came to that.
    pub(super) async fn wait_for(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let until = self.cluster.env.monotonic() + limit;
        while !done() {
            if self.cluster.env.monotonic() >= until {
                return false;
            }
            self.pass(ms(5)).await;
        }
        true
    }

    /// Stops all processes cleanly; none is started until the cluster is no longer halted.
    async fn stop_all(&self) {
        let cluster = &self.cluster;
        cluster.halt(true);
        (0..cluster.wanted()).for_each(|slot| cluster.stop_slot(slot));
        if !self.wait_for(Duration::from_secs(60), || cluster.live_processes() == 0).await {
            self.violate(format!("a worker does not stop: {}", cluster.situation()));
        }
    }

    /// Kills a process at a place, after bringing about that it goes there.
    async fn kill_at(&self, slot: u32, strike: Strike) -> Result<(), SlotError> {
        let cluster = &self.cluster;
        match strike {
            Strike::Label("takeover.generation-written", _) => self.contradict().await?,
            Strike::Label(label, _) if label.starts_with("takeover.") || label.starts_with("begin.") => {
                if matches!(label, "takeover.fenced" | "takeover.fence-marked")
                    && let Some(next) = cluster.rotated(1).await?
                {
                    cluster.propose(&next).await?;
                }
                cluster.kill_slot(slot);
            }
            _ => {}
        }
        self.wait_for(ms(1500), || cluster.node_of(slot).is_some()).await;
        if let Some(node) = cluster.node_of(slot) {
            cluster.arm(node, strike, NodeFault::Kill, |_| {});
            if matches!(strike, Strike::Label("stop.pointer-written", _)) {
                cluster.stop_slot(slot);
            }
        }
        Ok(())
    }

    async fn rescale(&self, slots: u32, told: bool, kill: bool) -> Result<(), SlotError> {
        let cluster = &self.cluster;
        let generation = cluster.rescale(slots).await?;
        let before = cluster.wanted();
        cluster.set_wanted(generation.slots);
        for slot in generation.slots..before {
            if kill {
                cluster.kill_slot(slot);
            } else {
                cluster.stop_slot(slot);
            }
        }
        if told {
            for slot in 0..generation.slots {
                cluster.tell(slot, generation.clone());
                cluster.kill_slot(slot);
            }
        }
        Ok(())
    }

    /// Another plan and another policy, for as many slots as there are. A plan that would drop state is handed out
    /// only where that is accepted.
    async fn replan(&self, change: Change) -> Result<(), SlotError> {
        let cluster = &self.cluster;
        // One after the other, as one operator does it.
        while self.replanning.replace(true) {
            self.pass(ms(10)).await;
        }
        let before = cluster.spec.borrow().clone();
        let shape =
            Shape { copies: change.copies, totals: change.totals, letters: change.letters, ..self.scenario.shape };
        let spec =
            JobSpec { plan: plans::plan(shape), policy: plans::policy(shape, change.epoch_interval), ..before.clone() };
        self.shapes.borrow_mut().push((plans_key(&spec), shape));
        cluster.spec.replace(spec);
        let wanted = Wanted { slots: cluster.wanted(), accept_dropped_state: change.accept_dropped };
        let handed = cluster.hand_out(wanted).await;
        let drops = match (self.shape_of(&before), change.totals) {
            (Some(Shape { totals: Some(held), .. }), totals) => totals != Some(held),
            _ => false,
        };
        let handed = match handed {
            Err(SlotError::PlanRefused { refusal: Refusal::StateWouldBeDropped { operators }, .. })
                if drops && !change.accept_dropped && operators.len() == 1 =>
            {
                cluster.sim().trace(format_args!("refused: {operators:?} would be dropped"));
                cluster.spec.replace(before);
                Ok(())
            }
            Ok(_) if drops && !change.accept_dropped => {
                self.violate("a plan that drops state was handed out, though nobody accepted that".to_owned());
                Ok(())
            }
            other => other.map(drop),
        };
        self.replanning.set(false);
        handed
    }

    /// Two assignments under one number: half of the workers are told one, half the other.
    async fn contradict(&self) -> Result<(), SlotError> {
        let cluster = &self.cluster;
        if cluster.wanted() < 2 {
            cluster.set_wanted(2);
            cluster.rescale(2).await?;
        }
        let (Some(one), Some(other)) = (cluster.rotated(0).await?, cluster.rotated(1).await?) else { return Ok(()) };
        let turned = self.drawn(2) as u32;
        for slot in 0..cluster.wanted() {
            let claim = if slot % 2 == turned { &one } else { &other };
            cluster.tell(slot, claim.clone());
            cluster.kill_slot(slot);
        }
        Ok(())
    }

    async fn dance(&self, dance: Dance) -> Result<(), SlotError> {
        let cluster = &self.cluster;
        let sim = cluster.sim();
        let slots = cluster.wanted();
        let slot = dance.slot % slots.max(1);
        if dance.fresh {
            if let Some(next) = cluster.rotated(1).await? {
                cluster.propose(&next).await?;
            }
            cluster.kill_slot(slot);
            if !self.wait_for(ms(3000), || cluster.node_of(slot).is_some()).await {
                return Ok(());
            }
        }
        let Some(zombie) = cluster.node_of(slot) else { return Ok(()) };
        let paused = Rc::new(Cell::new(false));
        let flag = Rc::clone(&paused);
        cluster.arm(zombie, dance.pause, NodeFault::Pause, move |_| flag.set(true));
        if !self.wait_for(dance.longest, || paused.get()).await {
            sim.disarm(zombie);
            return Ok(());
        }
        let awake = Rc::new(Cell::new(false));
        let wake = {
            let awake = Rc::clone(&awake);
            move |sim: &freshet_env::sim::Sim| {
                if !awake.replace(true) {
                    sim.resume(zombie);
                }
            }
        };
        // Whoever takes the tasks over: the same slot elsewhere, or the slots to which they go.
        cluster.give_up(zombie);
        let successor = if dance.next_generation {
            if let Some(next) = cluster.rotated(1).await? {
                cluster.propose(&next).await?;
            }
            (slot + 1) % slots.max(1)
        } else {
            slot
        };
        if let Some(label) = dance.stumble {
            let others: Vec<NodeId> = (0..slots).filter_map(|slot| cluster.node_of(slot)).collect();
            for node in &others {
                cluster.arm(*node, Strike::Label(label, 1), NodeFault::Kill, |_| {});
            }
            let fell = || (0..slots).filter_map(|slot| cluster.node_of(slot)).all(|node| !others.contains(&node));
            self.wait_for(dance.longest, fell).await;
            others.into_iter().for_each(|node| sim.disarm(node));
        }
        self.wait_for(ms(1000), || cluster.node_of(successor).is_some()).await;
        if let Some(node) = cluster.node_of(successor) {
            let (wake, hold) = (wake.clone(), dance.hold);
            cluster.arm(node, dance.wake, NodeFault::Pause, move |sim| {
                wake(sim);
                sim.at(sim.now() + hold, move |sim| sim.resume(node));
            });
        }
        self.wait_for(dance.longest, || awake.get()).await;
        wake(&sim);
        Ok(())
    }

    async fn hang(&self, partition: u32, time: Duration, commit: bool) {
        let place = TopicPartition::new(PAYMENTS, partition);
        let broker = &self.cluster.broker;
        let Ok(bounds) = broker.bounds(&place) else { return };
        let Ok(hanging) = broker.hang_transaction(&place) else { return };
        // If it is committed, its record is one of the input, and a bad one.
        let record = InputRecord {
            partition,
            key: String::new(),
            value: "hanging".to_owned(),
            meaning: Meaning::Bad("NotJson"),
            after: Duration::ZERO,
        };
        self.fed.borrow_mut()[partition as usize].push(Fed { offset: bounds.high, record });
        self.pass(time).await;
        broker.end_hanging(&hanging, commit);
    }

    /// Waits until every task has committed.
    async fn all_have_committed(&self) {
        let tasks = self.tasks();
        let broker = &self.cluster.broker;
        let committed = || broker.groups().iter().map(|group| broker.group_offsets(group).len()).sum::<usize>();
        if !self.wait_for(Duration::from_secs(60), || committed() >= tasks).await {
            self.violate(format!("only {} of {tasks} tasks commit: {}", committed(), self.cluster.situation()));
        }
        // And some epochs more, so that there is state.
        let epochs = self.cluster.epochs();
        self.wait_for(ms(3000), || self.cluster.epochs() >= epochs + 5).await;
    }

    fn expire_offsets(&self) {
        let broker = &self.cluster.broker;
        broker.groups().iter().for_each(|group| broker.expire_offsets(group));
    }

    /// Flips a bit of an object that a commit names.
    fn damage(&self) {
        let broker = &self.cluster.broker;
        let groups = broker.groups().into_iter().flat_map(|group| broker.group_offsets(&group));
        let mut named: Vec<String> =
            groups.filter_map(|(_, committed)| committed.metadata.parse::<CommitMetadata>().ok()?.object).collect();
        named.sort();
        named.dedup();
        if named.is_empty() {
            return;
        }
        let object = &named[self.drawn(named.len() as u64) as usize];
        let objects = &self.cluster.objects;
        let all = futures::FutureExt::now_or_never(objects.list("")).and_then(Result::ok).unwrap_or_default();
        let Some(path) = all.into_iter().find(|path| path.ends_with(object.as_str())) else { return };
        let Some(bytes) = futures::FutureExt::now_or_never(objects.get(&path)).and_then(Result::ok).flatten() else {
            return;
        };
        let mut bytes = bytes.to_vec();
        let (at, bit) = (self.drawn(bytes.len() as u64) as usize, self.drawn(8));
        bytes[at] ^= 1 << bit;
        self.cluster.sim().trace(format_args!("bit {bit} of byte {at} of {path} changes"));
        objects.damage(&path, bytes.into());
    }
}
