//! The loop of a slot at work: batches in, outputs to the transaction, epochs cut and landed.

use std::collections::{BTreeSet, HashMap};
use std::task::Poll;
use std::time::Duration;

use freshet_env::{LocalFuture, PlantedBug, planted};
use freshet_log::{Consumer, Fetched, LogError, Outgoing, Producer, TopicPartition};
use freshet_state::TaskId;
use freshet_state::generation::{Generation, Pointer, PointerOffset};
use futures::FutureExt as _;
use futures::future::Shared;

use super::awake::AwakeClock;
use super::commit::{Landed, commit_beginnings};
use super::takeover::Ready;
use super::tasks::{Kept, RunningTask};
use super::upkeep::{Done, Upkeep};
use super::{JobPolicy, Phase, Slot, SlotError, StopSignal};

/// How work ended without an error.
pub(super) enum WorkEnd {
    /// As asked, after a last epoch.
    Stopped,
    /// A later generation exists: take over again.
    Again,
}

/// What the loop turns to next.
enum Event {
    Landed(Box<Landed>),
    Stop,
    Done(Done),
    Tick,
    Batch(Result<Fetched, LogError>),
}

/// An epoch that is on its way to its commit.
pub(super) type Commit = LocalFuture<'static, Landed>;

/// A slot at work.
pub(super) struct Work<'a> {
    pub(super) slot: &'a Slot,
    pub(super) generation: Generation,
    pub(super) policy: JobPolicy,
    pub(super) incarnation: u64,
    pub(super) tasks: Vec<RunningTask>,
    pub(super) places: HashMap<TopicPartition, usize>,
    /// The producer, while no commit is under way.
    pub(super) producer: Option<Box<dyn Producer>>,
    pub(super) in_transaction: bool,
    /// Output of the epoch that is not cut yet.
    pub(super) out: Outgoing,
    /// How many records of it the producer has taken.
    pub(super) sent: usize,
    pub(super) next_epoch: u64,
    pub(super) last_commit: Duration,
    pub(super) records: Vec<(String, i64)>,
    pub(super) awake: AwakeClock,
    pub(super) blocked: Duration,
    /// Offsets as the last commit has them.
    pub(super) offsets: Vec<PointerOffset>,
    pub(super) last_epoch: u64,
}

/// Works until asked to stop, until a later generation appears, or until something fails.
pub(super) async fn work(slot: &Slot, ready: Ready, stop: &StopSignal, kept: &mut Kept) -> Result<WorkEnd, SlotError> {
    let positions: Vec<_> = ready.tasks.iter().map(|task| (task.input.clone(), task.position)).collect();
    let places = ready.tasks.iter().enumerate().map(|(at, task)| (task.input.clone(), at)).collect();
    let policy = JobPolicy::of(&ready.generation, slot.job())?;
    // The loop cuts once an interval; a cut that waits for its predecessor may take a few.
    let longest_look = policy.epoch_interval * 2 + Duration::from_secs(1);
    let mut work = Work {
        slot,
        policy,
        incarnation: ready.incarnation,
        tasks: ready.tasks,
        places,
        producer: Some(ready.producer),
        in_transaction: false,
        out: Outgoing::new(ready.outputs),
        sent: 0,
        next_epoch: ready.next_epoch,
        last_commit: slot.env.monotonic(),
        records: Vec::new(),
        awake: AwakeClock::start(slot.env.monotonic(), longest_look),
        blocked: Duration::ZERO,
        offsets: Vec::new(),
        last_epoch: ready.next_epoch.saturating_sub(1),
        generation: ready.generation,
    };
    work.begin(&ready.unmarked).await?;
    let mut consumer = slot.log.consumer(&positions).await?;
    let mut upkeep = Upkeep::start(slot, &work.generation);
    let ended = work.run(&mut *consumer, &mut upkeep, stop).await;
    work.leave(kept, &ended);
    ended
}

impl Work<'_> {
    /// Commits where tasks stand of which no offset is committed, and then records that this start goes on from
    /// there: in this order, so that whoever finds the record knows that offsets were there to be lost, and whoever
    /// does not knows that nothing goes further than the last pointer.
    async fn begin(&mut self, unmarked: &BTreeSet<TaskId>) -> Result<(), SlotError> {
        let slot = self.slot;
        let uncommitted: Vec<usize> = (0..self.tasks.len()).filter(|at| self.tasks[*at].uncommitted).collect();
        if !uncommitted.is_empty() {
            let offsets = self.offsets_of(uncommitted.iter().copied(), self.next_epoch);
            if let Some(producer) = self.producer.as_mut() {
                commit_beginnings(&mut **producer, offsets).await?;
            }
            self.next_epoch += 1;
            slot.env.crash_point("begin.positions-committed").await;
        }
        let (generation, number) = (self.generation.number, slot.number);
        if !unmarked.is_empty() {
            slot.lineage.mark_begun(generation, number, self.incarnation, unmarked.iter().cloned()).await?;
        }
        let log = slot.lineage.generations();
        log.mark_resumed(generation, number, self.incarnation, slot.env.now_ms()).await?;
        slot.env.crash_point("begin.marked").await;
        for task in &mut self.tasks {
            task.uncommitted = false;
        }
        Ok(())
    }

    async fn run(
        &mut self,
        consumer: &mut dyn Consumer,
        upkeep: &mut Upkeep,
        stop: &StopSignal,
    ) -> Result<WorkEnd, SlotError> {
        let slot = self.slot;
        let mut stop = stop.asked();
        let mut commit: Option<Commit> = None;
        let interval = self.policy.epoch_interval;
        let mut tick = slot.env.sleep(interval);
        let mut overdue = false;
        let mut looked = slot.env.monotonic();
        loop {
            let may_read = !self.has_more() && self.out.bytes.len() < slot.tuning.waiting_bytes;
            let waiting = slot.env.monotonic();
            let event = next_event(consumer, &mut commit, upkeep, &mut tick, &mut stop, may_read).await;
            if !may_read {
                self.blocked += slot.env.monotonic().saturating_sub(waiting);
                self.awake.skip(slot.env.monotonic());
            }
            match event {
                Event::Batch(batch) => {
                    self.process(&batch.map_err(input_error)?)?;
                    self.send().await?;
                    yield_now().await;
                }
                Event::Tick => {
                    tick = slot.env.sleep(interval);
                    if commit.is_some() {
                        overdue = true;
                    } else {
                        commit = self.cut().await?;
                    }
                    if slot.env.monotonic().saturating_sub(looked) >= Duration::from_secs(1) {
                        looked = slot.env.monotonic();
                        self.tell();
                    }
                }
                Event::Landed(landed) => {
                    commit = None;
                    self.landed(*landed)?;
                    upkeep.merge(slot, &self.generation, self.next_epoch, &self.tasks);
                    self.send().await?;
                    if std::mem::take(&mut overdue) {
                        tick = slot.env.sleep(interval);
                        commit = self.cut().await?;
                    }
                }
                Event::Done(done) => {
                    if upkeep.done(slot, done, &self.generation, &mut self.tasks)? {
                        self.finish(commit).await?;
                        return Ok(WorkEnd::Again);
                    }
                }
                Event::Stop => {
                    slot.events.phase(Phase::Stopping);
                    self.finish(commit).await?;
                    self.point().await?;
                    return Ok(WorkEnd::Stopped);
                }
            }
        }
    }

    /// Runs a batch through its task.
    fn process(&mut self, batch: &Fetched) -> Result<(), SlotError> {
        let Some(&at) = self.places.get(&batch.partition) else {
            return Err(
                LogError::Refused(format!("records of {} came, which was not asked for", batch.partition)).into()
            );
        };
        let task = &mut self.tasks[at];
        let awake_ms = match planted(PlantedBug::IdleByWallClock) {
            true => self.slot.env.now_ms(),
            false => self.awake.look(self.slot.env.monotonic()),
        };
        if let Some(last) = batch.records.last() {
            task.last_timestamp_ms = last.timestamp_ms;
            self.records.push((task.id.stage.clone(), last.timestamp_ms));
        }
        let began = self.slot.env.monotonic();
        task.task
            .process(batch, awake_ms, &mut self.out)
            .map_err(|error| SlotError::Engine { task: task.id.clone(), error })?;
        task.position = task.position.max(batch.next_offset);
        // Behind the end may lie records that nobody reads, as the marks of transactions: nothing waits there.
        task.high = if batch.at_end { batch.next_offset } else { batch.high };
        task.busy += self.slot.env.monotonic().saturating_sub(began);
        Ok(())
    }

    /// Whether a task has more output than fitted into its limit.
    fn has_more(&self) -> bool {
        self.tasks.iter().any(|task| task.task.has_more())
    }

    /// Hands output to the producer, until tasks have no more of it or a commit is under way.
    pub(super) async fn send(&mut self) -> Result<(), SlotError> {
        loop {
            self.send_waiting().await?;
            if self.producer.is_none() {
                return Ok(());
            }
            let Some(task) = self.tasks.iter_mut().find(|task| task.task.has_more()) else { return Ok(()) };
            task.task.resume(&mut self.out).map_err(|error| SlotError::Engine { task: task.id.clone(), error })?;
        }
    }

    /// Hands what is waiting to the producer, unless a commit is under way.
    async fn send_waiting(&mut self) -> Result<(), SlotError> {
        let Some(producer) = self.producer.as_mut() else { return Ok(()) };
        if self.out.is_empty() {
            return Ok(());
        }
        if !self.in_transaction {
            producer.begin()?;
            self.in_transaction = true;
        }
        loop {
            self.sent += producer.send(&self.out, self.sent)?;
            if self.sent >= self.out.records.len() {
                break;
            }
            let began = self.slot.env.monotonic();
            producer.drained().await?;
            self.blocked += self.slot.env.monotonic().saturating_sub(began);
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// An epoch is true, or this attempt is over.
    fn landed(&mut self, landed: Landed) -> Result<(), SlotError> {
        self.producer = Some(landed.producer);
        let report = landed.result?;
        self.last_commit = self.slot.env.monotonic();
        self.last_epoch = report.epoch;
        // Between cut and landing no other cut is made, so the last cut is what was committed.
        for task in &mut self.tasks {
            task.committed_position = task.cut_position;
        }
        self.slot.events.epoch(&report);
        self.tell();
        Ok(())
    }

    fn tell(&mut self) {
        let reports: Vec<_> = self.tasks.iter().map(RunningTask::report).collect();
        self.slot.events.tasks(&reports);
        let busy: Vec<_> =
            self.tasks.iter_mut().map(|task| (task.id.clone(), std::mem::take(&mut task.busy))).collect();
        self.slot.events.time(&busy, std::mem::take(&mut self.blocked));
    }

    /// Lands what is under way, then everything that was processed since.
    async fn finish(&mut self, commit: Option<Commit>) -> Result<(), SlotError> {
        if let Some(commit) = commit {
            let landed = commit.await;
            self.landed(landed)?;
        }
        self.send().await?;
        if let Some(last) = self.cut().await? {
            let landed = last.await;
            self.landed(landed)?;
        }
        Ok(())
    }

    /// Writes the pointer of a clean stop: it stands in for offsets that expire while the job is stopped.
    async fn point(&mut self) -> Result<(), SlotError> {
        if self.offsets.is_empty() {
            let offsets = self.offsets_of(0..self.tasks.len(), self.last_epoch);
            self.remember(&offsets);
        }
        let pointer = Pointer {
            epoch: self.last_epoch,
            stopped_at_ms: self.slot.env.now_ms(),
            offsets: std::mem::take(&mut self.offsets),
        };
        let (generation, number) = (self.generation.number, self.slot.number);
        self.slot.lineage.generations().write_pointer(generation, number, self.incarnation, &pointer).await?;
        self.slot.env.crash_point("stop.pointer-written").await;
        Ok(())
    }

    /// Leaves to the next attempt what is as good as restored.
    fn leave(self, kept: &mut Kept, ended: &Result<WorkEnd, SlotError>) {
        let aborted = ended.is_err();
        if aborted && planted(PlantedBug::ReuseProducerAfterTimeout) {
            kept.producer = self.producer;
        }
        if aborted && !planted(PlantedBug::KeepStateAfterAbort) {
            return;
        }
        kept.generation = Some(self.generation);
        kept.tasks = self.tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
    }
}

/// A position that is gone, told with the range that is lost.
fn input_error(error: LogError) -> SlotError {
    match error {
        LogError::OffsetGone { partition, wanted, low, .. } if low > wanted => {
            SlotError::InputTruncated { partition, from: wanted, to: low - 1 }
        }
        other => other.into(),
    }
}

/// What comes next, in this order of precedence: a commit that ended, a wish to stop, upkeep, the time to cut, a batch.
async fn next_event(
    consumer: &mut dyn Consumer,
    commit: &mut Option<Commit>,
    upkeep: &mut Upkeep,
    tick: &mut LocalFuture<'static, ()>,
    stop: &mut Shared<LocalFuture<'static, ()>>,
    may_read: bool,
) -> Event {
    let mut batch = may_read.then(|| consumer.next());
    std::future::poll_fn(|cx| {
        if let Some(running) = commit
            && let Poll::Ready(landed) = running.poll_unpin(cx)
        {
            return Poll::Ready(Event::Landed(Box::new(landed)));
        }
        if stop.poll_unpin(cx).is_ready() {
            return Poll::Ready(Event::Stop);
        }
        if let Poll::Ready(done) = upkeep.poll(cx) {
            return Poll::Ready(Event::Done(done));
        }
        if tick.poll_unpin(cx).is_ready() {
            return Poll::Ready(Event::Tick);
        }
        match &mut batch {
            Some(batch) => batch.poll_unpin(cx).map(Event::Batch),
            None => Poll::Pending,
        }
    })
    .await
}

/// Lets timers and IO of this thread have their turn between two batches.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
