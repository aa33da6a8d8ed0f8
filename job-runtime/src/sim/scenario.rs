//! What a seed stands for: the job, its input, the weather, and the misfortunes that will befall it.

use std::ops::Range;
use std::time::Duration;

use freshet_env::CRASH_POINTS;
use freshet_env::sim::SeededRng;
use freshet_log::model::ModelFaults;

use super::input::InputSpec;
use super::plans::{Frame, Grouping, Shape};
use crate::slot::Tuning;

/// Kinds of scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing happens.
    Calm,
    /// Everything happens, at any time.
    Chaos,
    /// Tasks are taken over again and again while their former owner stands still, and wakes at the worst time.
    TakeOver,
    /// Two leaders hand out different assignments under one number.
    Claims,
    /// The SQL changes again and again, and how it is run.
    Replanned,
    /// Offsets expire while state exists: the job must refuse to go on.
    OffsetsExpired,
    /// A bit of a state object changes: the job must notice, or must not need it.
    Damage,
    /// The job is stopped cleanly, its offsets expire, and it is started again: it must go on.
    Stopped,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Calm,
        Self::Chaos,
        Self::TakeOver,
        Self::Claims,
        Self::Replanned,
        Self::OffsetsExpired,
        Self::Damage,
        Self::Stopped,
    ];
}

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// At the n-th passing of a labelled step.
    Label(&'static str, u32),
    /// At the n-th poll of any task of the process.
    Poll(u32),
}

/// A process stands still, somebody takes its tasks over, and it wakes.
#[derive(Debug, Clone)]
pub struct Dance {
    /// The slot that stands still.
    pub slot: u32,
    /// Whether a generation is handed out and the slot restarted first, so that it stands still in its own take-over.
    pub fresh: bool,
    /// Where it stands still.
    pub pause: Strike,
    /// Whether its tasks go to other slots in a next generation; otherwise the same slot is started elsewhere.
    pub next_generation: bool,
    /// Where its successor is when it wakes.
    pub wake: Strike,
    /// How long the successor stands still there.
    pub hold: Duration,
    /// When it wakes at the latest.
    pub longest: Duration,
    /// Where every other process dies first, once.
    pub stumble: Option<&'static str>,
}

/// What a job is to be from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// See [`Shape::copies`].
    pub copies: bool,
    /// See [`Shape::totals`].
    pub totals: Option<Grouping>,
    /// See [`Shape::letters`].
    pub letters: bool,
    /// Time between the cuts of two epochs.
    pub epoch_interval: Duration,
    /// Whether state that has no operator any more may be dropped; otherwise such a plan must be refused.
    pub accept_dropped: bool,
}

/// Something that befalls the cluster.
#[derive(Debug, Clone)]
pub enum Misfortune {
    /// A process is killed.
    Kill(u32),
    /// A process is killed at its next passing of a place.
    KillAt(u32, Strike),
    /// See [`Dance`].
    Dance(Dance),
    /// The next generation has so many slots. Workers are told (restarted with the claim), or find out.
    Rescale {
        /// How many slots.
        slots: u32,
        /// Whether workers are restarted with what they are told.
        told: bool,
        /// Whether slots that are no longer needed are killed; otherwise they are stopped.
        kill: bool,
    },
    /// Two assignments under one number, each told to some workers.
    Contradict,
    /// Another plan is handed out, and another policy.
    Replan(Change),
    /// The broker is away.
    Outage(Duration),
    /// The store fails more than it works.
    StoreStorm(Duration),
    /// Every open transaction is timed out.
    TimeOutTransactions,
    /// Somebody else's transaction blocks a partition of the input, and ends, committed or not.
    Hang {
        /// The partition.
        partition: u32,
        /// For how long.
        time: Duration,
        /// How it ends.
        commit: bool,
    },
    /// A worker is stopped cleanly, and started again.
    Stop(u32),
    /// A worker's wall clock is wrong from now on.
    Skew(u32, i64),
    /// All workers are killed, and when all is quiet the offsets expire.
    ExpireOffsets {
        /// Whether they were stopped cleanly and started again before: what they left then counts no more.
        stopped_before: bool,
    },
    /// All workers are killed, and when all is quiet a bit of an object that is named changes.
    Damage,
    /// All workers are stopped cleanly, the offsets expire, and all are started again.
    StopAndExpire {
        /// Before that, one after the other, these slots are started and die there, and offsets expire again.
        falls: Vec<(u32, &'static str)>,
        /// Into so many slots the job is divided meanwhile.
        rescale: Option<u32>,
    },
}

/// How the store behaves. Rates are per mille.
#[derive(Debug, Clone)]
pub struct StoreWeather {
    /// How long a request or an answer travels at the most.
    pub latency: Duration,
    /// Requests that travel up to `slow`.
    pub slow_rate: u32,
    /// See `slow_rate`.
    pub slow: Duration,
    /// Requests that fail without effect.
    pub fail_before_rate: u32,
    /// Requests that fail though they had effect.
    pub fail_after_rate: u32,
}

impl StoreWeather {
    /// Small delays, no failures.
    pub const CALM: Self = Self {
        latency: Duration::from_millis(3),
        slow_rate: 0,
        slow: Duration::ZERO,
        fail_before_rate: 0,
        fail_after_rate: 0,
    };
}

/// All that a seed decides.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Which kind.
    pub kind: Kind,
    /// The job.
    pub shape: Shape,
    /// Slots of the first generation.
    pub slots: u32,
    /// Intervals of the slots.
    pub tuning: Tuning,
    /// Time between the cuts of two epochs.
    pub epoch_interval: Duration,
    /// The network and the broker.
    pub faults: ModelFaults,
    /// The store.
    pub store: StoreWeather,
    /// How the input is made.
    pub(super) input: InputSpec,
    /// What happens when.
    pub misfortunes: Vec<(Duration, Misfortune)>,
}

/// Among the labelled steps: those of a take-over that any start passes.
const TAKE_OVER: Range<usize> = 1..7;
/// Those before a start records that it goes on.
const BEFORE_MARKS: Range<usize> = 1..8;
/// Those of an epoch.
const EPOCH: Range<usize> = 9..14;

/// When the last misfortune begins, ms after the input began.
const LAST_MISFORTUNE_MS: u64 = 8000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn any<T: Copy>(rng: &mut SeededRng, items: &[T]) -> T {
    items[rng.below(items.len() as u64) as usize]
}

impl Scenario {
    /// The scenario of a seed; of the given kind, if one is given.
    #[must_use]
    pub fn draw(rng: &mut SeededRng, kind: Option<Kind>) -> Self {
        let drawn = match rng.below(100) {
            0..2 => Kind::Calm,
            2..46 => Kind::Chaos,
            46..70 => Kind::TakeOver,
            70..79 => Kind::Claims,
            79..90 => Kind::Replanned,
            90..93 => Kind::OffsetsExpired,
            93..97 => Kind::Damage,
            _ => Kind::Stopped,
        };
        let kind = kind.unwrap_or(drawn);
        let gentle = matches!(kind, Kind::Calm | Kind::OffsetsExpired | Kind::Damage | Kind::Stopped);
        let partitions = rng.between(2, 4) as u32;
        // Idleness follows the clock: exact only where everything can be read from the beginning.
        let idle = rng.chance(150);
        let mut shape = Shape {
            copies: rng.chance(500),
            totals: any(rng, &[None, Some(Grouping::Account), Some(Grouping::Merchant), Some(Grouping::Merchant)]),
            frame: Frame::Tumble,
            partitions,
            max_parallelism: rng.between(1, 4) as u32,
            idle,
            letters: true,
        };
        if matches!(kind, Kind::OffsetsExpired | Kind::Damage) && shape.totals.is_none() {
            shape.totals = Some(Grouping::Account);
        }
        shape.copies |= shape.totals.is_none();
        let two_or_more = matches!(kind, Kind::TakeOver | Kind::Claims);
        let slots = if two_or_more { rng.between(2, 3) } else { rng.between(1, 3) } as u32;
        let records = rng.between(40, 240);
        shape.frame = Frame::ALL[(records % Frame::ALL.len() as u64) as usize];
        // So that most of what happens happens while there is work.
        let pace = ms(rng.between(2000, LAST_MISFORTUNE_MS)) * 2 / records as u32;
        let input = InputSpec {
            partitions,
            records: records as u32,
            straggler_rate: any(rng, &[0, 20, 100]),
            bad_rate: any(rng, &[0, 30, 100]),
            pace: if idle { Duration::ZERO } else { pace },
            uneven: idle || rng.chance(200),
        };
        let epoch_interval = ms(rng.between(15, 200));
        let tuning = tuning(rng);
        let faults = if gentle || rng.chance(300) { ModelFaults::none() } else { broker_weather(rng) };
        let faults = ModelFaults { fetch_records: rng.between(1, 20) as usize, ..faults };
        let mild = StoreWeather { latency: ms(rng.between(1, 20)), ..StoreWeather::CALM };
        let store = if gentle || rng.chance(300) { mild } else { store_weather(rng) };
        let misfortunes = misfortunes(kind, shape, slots, rng);
        Self { kind, shape, slots, tuning, epoch_interval, faults, store, input, misfortunes }
    }
}

fn tuning(rng: &mut SeededRng) -> Tuning {
    Tuning {
        watch_interval: ms(rng.between(100, 2500)),
        collect_interval: ms(rng.between(100, 1500)),
        collect_grace: any(rng, &[Duration::ZERO, ms(200), ms(2000)]),
        upkeep_interval: ms(rng.between(200, 3000)),
        recommit_interval: ms(rng.between(1000, 20_000)),
        waiting_bytes: any(rng, &[300, 4000, 1 << 20]),
        upload_deadline: ms(rng.between(300, 3000)),
        longest_backoff: ms(rng.between(60, 1000)),
    }
}

/// Each kind of fault is absent, rare or frequent, so that every seed has a character of its own. Frequent ones
/// of all kinds at once would leave no epoch to strike at.
fn broker_weather(rng: &mut SeededRng) -> ModelFaults {
    ModelFaults {
        slow_rate: any(rng, &[0, 2, 10, 50]),
        slow: (ms(20), ms(rng.between(50, 3000))),
        lose_request_rate: any(rng, &[0, 0, 2, 15]),
        lose_reply_rate: any(rng, &[0, 2, 5, 25]),
        unavailable_rate: any(rng, &[0, 0, 2, 20]),
        lose_records_rate: any(rng, &[0, 0, 5, 20]),
        late_marker_rate: any(rng, &[0, 0, 20, 300]),
        late_marker: (ms(1), ms(rng.between(20, 2000))),
        outlive_client_rate: any(rng, &[0, 100, 700]),
        request_timeout: ms(rng.between(200, 3000)),
        transaction_timeout: Some(ms(rng.between(800, 8000))),
        queue_records: rng.between(4, 60) as usize,
        ..ModelFaults::none()
    }
}

fn store_weather(rng: &mut SeededRng) -> StoreWeather {
    StoreWeather {
        latency: ms(rng.between(1, 30)),
        slow_rate: any(rng, &[0, 5, 40]),
        slow: ms(rng.between(100, 3000)),
        fail_before_rate: any(rng, &[0, 5, 50]),
        fail_after_rate: any(rng, &[0, 5, 50]),
    }
}

fn strike(rng: &mut SeededRng) -> Strike {
    if rng.chance(700) {
        let label = any(rng, CRASH_POINTS);
        Strike::Label(label, if label.starts_with("epoch.") { rng.between(1, 4) as u32 } else { 1 })
    } else {
        Strike::Poll(rng.between(1, 400) as u32)
    }
}

fn dance(slots: u32, rng: &mut SeededRng) -> Dance {
    let fresh = rng.chance(500);
    let pause = match (fresh, rng.below(3)) {
        (_, 0) => Strike::Poll(rng.between(1, 120) as u32),
        (true, _) => Strike::Label(any(rng, &CRASH_POINTS[TAKE_OVER]), 1),
        (false, _) => Strike::Label(any(rng, &CRASH_POINTS[EPOCH]), rng.between(1, 3) as u32),
    };
    let wake = Strike::Label(any(rng, &CRASH_POINTS[TAKE_OVER.start..EPOCH.end]), 1);
    Dance {
        slot: rng.below(u64::from(slots)) as u32,
        fresh,
        pause,
        next_generation: rng.chance(700),
        wake,
        hold: any(rng, &[Duration::ZERO, ms(20), ms(100), ms(400)]),
        longest: ms(rng.between(300, 5000)),
        stumble: match rng.below(6) {
            0 => Some("takeover.fence-marked"),
            1 => Some(any(rng, &CRASH_POINTS[TAKE_OVER])),
            _ => None,
        },
    }
}

fn misfortunes(kind: Kind, shape: Shape, slots: u32, rng: &mut SeededRng) -> Vec<(Duration, Misfortune)> {
    let mut list = Vec::new();
    match kind {
        Kind::Calm => {}
        Kind::Chaos => {
            for _ in 0..rng.between(2, 10) {
                list.push((ms(rng.between(50, LAST_MISFORTUNE_MS)), drawn(shape, slots, rng)));
            }
        }
        Kind::TakeOver => {
            let mut at = 400;
            for _ in 0..rng.between(1, 4) {
                at += rng.between(100, 2500);
                list.push((ms(at), Misfortune::Dance(dance(slots, rng))));
            }
            if rng.chance(500) {
                list.push((ms(rng.between(50, LAST_MISFORTUNE_MS)), drawn(shape, slots, rng)));
            }
        }
        Kind::Claims => {
            for _ in 0..rng.between(1, 3) {
                list.push((ms(rng.between(400, LAST_MISFORTUNE_MS)), Misfortune::Contradict));
            }
            if rng.chance(500) {
                list.push((ms(rng.between(50, LAST_MISFORTUNE_MS)), drawn(shape, slots, rng)));
            }
        }
        Kind::Replanned => {
            let mut at = 300;
            for _ in 0..rng.between(1, 5) {
                at += rng.between(20, 2000);
                list.push((ms(at), Misfortune::Replan(change(rng))));
                if rng.chance(600) {
                    list.push((ms(at + rng.below(300)), drawn(shape, slots, rng)));
                }
            }
        }
        Kind::OffsetsExpired => {
            let stopped_before = rng.chance(600);
            list.push((ms(rng.between(800, 4000)), Misfortune::ExpireOffsets { stopped_before }));
        }
        Kind::Damage => list.push((ms(rng.between(800, 4000)), Misfortune::Damage)),
        Kind::Stopped => {
            let rescale = rng.chance(400).then(|| rng.between(1, 3) as u32);
            let running = rescale.unwrap_or(slots);
            let count = rng.below(4);
            let fall = |_| (rng.below(u64::from(running)) as u32, any(rng, &CRASH_POINTS[BEFORE_MARKS]));
            let falls = (0..count).map(fall).collect();
            list.push((ms(rng.between(800, 4000)), Misfortune::StopAndExpire { falls, rescale }));
        }
    }
    list.sort_by_key(|(at, _)| *at);
    list
}

fn change(rng: &mut SeededRng) -> Change {
    let totals = any(rng, &[None, Some(Grouping::Account), Some(Grouping::Merchant)]);
    Change {
        copies: totals.is_none() || rng.chance(500),
        totals,
        letters: rng.chance(600),
        epoch_interval: ms(rng.between(15, 200)),
        accept_dropped: rng.chance(750),
    }
}

fn drawn(shape: Shape, slots: u32, rng: &mut SeededRng) -> Misfortune {
    let slot = rng.below(u64::from(slots)) as u32;
    match rng.below(100) {
        0..8 => Misfortune::Kill(slot),
        8..30 => Misfortune::KillAt(slot, strike(rng)),
        30..46 => Misfortune::Dance(dance(slots, rng)),
        46..62 => Misfortune::Rescale { slots: rng.between(1, 3) as u32, told: rng.chance(300), kill: rng.chance(400) },
        62..68 => Misfortune::Replan(change(rng)),
        68..73 => Misfortune::Contradict,
        73..78 => Misfortune::Outage(ms(rng.between(100, 6000))),
        78..84 => Misfortune::StoreStorm(ms(rng.between(200, 5000))),
        84..88 => Misfortune::TimeOutTransactions,
        // Behind a stranger's transaction a partition is at its end, and idle, though records are there.
        88..92 if !shape.idle => Misfortune::Hang {
            partition: rng.below(u64::from(shape.partitions)) as u32,
            time: ms(rng.between(100, 6000)),
            commit: rng.chance(500),
        },
        92..97 => Misfortune::Stop(slot),
        _ => {
            // Seconds, as clocks drift, or a day, as they are set.
            let most = any(rng, &[10_000, 86_400_000]);
            Misfortune::Skew(slot, rng.between(0, 2 * most) as i64 - most as i64)
        }
    }
}
