//! A committed reader of the model broker.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use freshet_env::{LocalFuture, SharedEnv};

use super::core::Place;
use super::faults::drawn_ns;
use super::partition::Cursor;
use super::signal::{Signal, yield_now};
use super::wire::Shared;
use crate::{Consumer, Fetched, LogError, TopicPartition};

/// Most records and bytes of one fetch from an embedded broker.
const EMBEDDED_FETCH: (usize, usize) = (8192, 1024 * 1024);

struct Assigned {
    partition: TopicPartition,
    place: Place,
    cursor: Rc<Cursor>,
    /// The position for which the reader was told that it is the end.
    told_end: Option<i64>,
}

impl Assigned {
    fn position(&self) -> i64 {
        self.cursor.position.get()
    }
}

pub(super) struct ModelConsumer {
    shared: Rc<Shared>,
    env: SharedEnv,
    assigned: Vec<Assigned>,
    signal: Rc<Signal>,
    paused: bool,
    /// Where the next look begins, so that no partition starves.
    turn: usize,
    /// A fetch that is under way; kept here so that nothing is lost when `next` is dropped.
    fetching: Option<LocalFuture<'static, ()>>,
    fetched: bool,
    delivered: bool,
}

impl ModelConsumer {
    pub(super) fn new(
        shared: Rc<Shared>,
        env: SharedEnv,
        positions: &[(TopicPartition, i64)],
    ) -> Result<Self, LogError> {
        let signal = Rc::new(Signal::default());
        let assign = |(partition, position): &(TopicPartition, i64)| {
            let cursor = Rc::new(Cursor { position: Cell::new(*position), signal: signal.clone() });
            let place = shared.state.borrow_mut().core.subscribe(partition, &cursor)?;
            Ok(Assigned { partition: partition.clone(), place, cursor, told_end: None })
        };
        let assigned = positions.iter().map(assign).collect::<Result<Vec<_>, LogError>>()?;
        Ok(Self {
            shared,
            env,
            assigned,
            signal,
            paused: false,
            turn: 0,
            fetching: None,
            fetched: false,
            delivered: false,
        })
    }

    /// A partition about which there is something to tell.
    fn find(&mut self) -> Option<usize> {
        let mut state = self.shared.state.borrow_mut();
        let count = self.assigned.len();
        if let Some(weather) = &mut state.weather {
            if !weather.available {
                return None;
            }
            self.turn = weather.rng.below(count as u64) as usize;
        }
        let news = |at: &usize| {
            let assigned = &self.assigned[*at];
            let bounds = state.core.partition(assigned.place).bounds();
            let position = assigned.position();
            position < bounds.stable || position > bounds.high || assigned.told_end != Some(position)
        };
        let found = (self.turn..count).chain(0..self.turn.min(count)).find(news)?;
        self.turn = found + 1;
        Some(found)
    }

    /// How long a fetch takes; `None` when it takes no time at all.
    fn fetch_time(&self) -> Option<LocalFuture<'static, ()>> {
        let mut state = self.shared.state.borrow_mut();
        let weather = state.weather.as_mut()?;
        let slow = weather.rng.chance(weather.faults.slow_rate);
        let range = if slow { weather.faults.slow } else { weather.faults.latency };
        Some(self.env.sleep(Duration::from_nanos(drawn_ns(&mut weather.rng, range))))
    }

    fn take(&mut self, at: usize) -> Result<Fetched, LogError> {
        let mut state = self.shared.state.borrow_mut();
        let (limits, hide_end) = state.weather.as_mut().map_or((EMBEDDED_FETCH, false), |weather| {
            let records = weather.rng.between(1, weather.faults.fetch_records as u64) as usize;
            // Now and then the end is told in a batch of its own, as clients of a real broker see it.
            ((records, usize::MAX), weather.rng.chance(500))
        });
        let assigned = &mut self.assigned[at];
        let log = state.core.partition(assigned.place);
        let position = assigned.position();
        let mut batch = match log.read(&assigned.partition, position, limits.0, limits.1) {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                assigned.told_end = Some(position);
                let high = log.bounds().stable;
                return Ok(Fetched { at_end: true, high, ..Fetched::empty(assigned.partition.clone(), position) });
            }
            Err(bounds) => {
                return Err(LogError::OffsetGone {
                    partition: assigned.partition.clone(),
                    wanted: position,
                    low: bounds.low,
                    high: bounds.high,
                });
            }
        };
        assigned.cursor.position.set(batch.next_offset);
        batch.at_end &= !hide_end;
        if batch.at_end {
            assigned.told_end = Some(batch.next_offset);
        }
        state.core.trim(&assigned.partition.topic);
        Ok(batch)
    }
}

#[async_trait(?Send)]
impl Consumer for ModelConsumer {
    async fn next(&mut self) -> Result<Fetched, LogError> {
        if std::mem::take(&mut self.delivered) {
            yield_now().await;
        }
        loop {
            if self.paused && self.fetching.is_none() && !self.fetched {
                return std::future::pending().await;
            }
            let Some(at) = self.find() else {
                self.signal.raised().await;
                continue;
            };
            if !self.fetched {
                if self.fetching.is_none() {
                    self.fetching = self.fetch_time();
                }
                if let Some(fetching) = &mut self.fetching {
                    fetching.await;
                    self.fetching = None;
                    self.fetched = true;
                    // The world went on meanwhile.
                    continue;
                }
            }
            self.fetched = false;
            self.delivered = true;
            return self.take(at);
        }
    }

    fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }
}
