//! A transactional producer of the model broker.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use freshet_env::{SharedEnv, deadline};

use super::core::{Answer, Core, Place, Session};
use super::partition::{NewRecord, ProducerId};
use super::signal::{Signal, yield_now};
use super::wire::{CallError, EventId, ReplyPath, Request, Shared};
use crate::{CommittedOffset, LogError, Outgoing, OutgoingRecord, Producer, TopicPartition};

/// What is under way, and what went wrong with it. Shared with the acknowledgements.
#[derive(Default)]
struct Queue {
    in_flight: Cell<usize>,
    error: RefCell<Option<LogError>>,
    signal: Signal,
}

impl Queue {
    fn done(&self, records: usize, result: Result<(), LogError>) {
        self.in_flight.set(self.in_flight.get() - records);
        if let Err(error) = result {
            self.error.borrow_mut().get_or_insert(error);
        }
        self.signal.raise();
    }

    fn check(&self) -> Result<(), LogError> {
        self.error.borrow().clone().map_or(Ok(()), Err)
    }
}

pub(super) struct ModelProducer {
    shared: Rc<Shared>,
    env: SharedEnv,
    session: Session,
    begun: bool,
    queue: Rc<Queue>,
    /// Records under way, in the order of their sending.
    sent: Vec<EventId>,
    /// When the last records for a partition arrive: none may overtake them.
    last_due: BTreeMap<Place, u64>,
}

impl ModelProducer {
    pub(super) fn new(shared: Rc<Shared>, env: SharedEnv, session: Session) -> Self {
        Self { shared, env, session, begun: false, queue: Rc::default(), sent: Vec::new(), last_due: BTreeMap::new() }
    }

    fn in_transaction(&self) -> Result<(), LogError> {
        self.queue.check()?;
        if self.begun {
            return Ok(());
        }
        Err(LogError::Refused(format!("{}: no transaction was begun", self.session.id)))
    }

    /// Writes straight into the log, where the broker is embedded.
    fn write(&self, batch: &Outgoing, from: usize) -> Result<usize, LogError> {
        let mut state = self.shared.state.borrow_mut();
        let core = &mut state.core;
        let route = core.route(batch)?;
        let Some(producer) = core.open(&self.session)? else {
            return Err(LogError::Indefinite(format!("{}: the last transaction has not ended", self.session.id)));
        };
        let records = &batch.records[from..];
        for record in records {
            let place = place(&route, record)?;
            append(core, &self.session, producer, place, batch, record)?;
        }
        state.settle();
        Ok(records.len())
    }

    /// Sends what fits into the queue on its way, a request for each partition.
    fn dispatch(&mut self, batch: &Outgoing, from: usize) -> Result<usize, LogError> {
        let (route, room, timeout) = {
            let state = self.shared.state.borrow();
            let limits = state.weather.as_ref().map(|w| (w.faults.queue_records, w.faults.request_timeout));
            let (limit, timeout) = limits.unwrap_or((usize::MAX, Duration::MAX));
            let route = state.core.route(batch)?;
            for record in &batch.records[from..] {
                let topic = &batch.topics[usize::from(record.topic)];
                state.core.place(&TopicPartition::new(topic.clone(), record.partition))?;
            }
            (route, limit.saturating_sub(self.queue.in_flight.get()), timeout)
        };
        let taken = room.min(batch.records.len() - from);
        let mut parts: BTreeMap<Place, Outgoing> = BTreeMap::new();
        for record in &batch.records[from..from + taken] {
            let part = parts.entry(place(&route, record)?).or_default();
            part.push(0, record.partition, record.timestamp_ms, batch.key(record), batch.value(record));
            if let Some(headers) = record.headers {
                part.set_headers(batch.headers[headers as usize].clone());
            }
        }
        if self.queue.in_flight.get() == 0 {
            self.sent.clear();
        }
        for (place, part) in parts {
            self.send_part(place, part, timeout);
        }
        Ok(taken)
    }

    fn send_part(&mut self, place: Place, part: Outgoing, timeout: Duration) {
        let count = part.records.len();
        self.queue.in_flight.set(self.queue.in_flight.get() + count);
        let (queue, session) = (self.queue.clone(), self.session.clone());
        let given_up = self.shared.state.borrow_mut().weather.as_mut().and_then(|weather| {
            let lost = weather.rng.chance(weather.faults.lose_records_rate);
            lost.then(|| u64::try_from((weather.env.monotonic() + timeout).as_nanos()).unwrap_or(u64::MAX))
        });
        let request: Request = Box::new(move |core| {
            let result = if given_up.is_some() {
                Err(LogError::Indefinite("records were not acknowledged in time".to_owned()))
            } else {
                match core.open(&session) {
                    Ok(None) => return None,
                    Ok(Some(producer)) => part
                        .records
                        .iter()
                        .try_for_each(|record| append(core, &session, producer, place, &part, record)),
                    Err(error) => Err(error),
                }
            };
            let queue = queue.clone();
            Some(Box::new(move || queue.done(count, result)))
        });
        let not_before = given_up.unwrap_or_else(|| self.last_due.get(&place).copied().unwrap_or(0));
        if let Some(event) = self.shared.submit("records", request, ReplyPath::Sure, not_before) {
            if given_up.is_none() {
                self.last_due.insert(place, event.0);
            }
            self.sent.push(event);
        }
    }

    fn request_timeout(&self) -> Option<Duration> {
        self.shared.state.borrow().weather.as_ref().map(|weather| weather.faults.request_timeout)
    }

    /// Waits until `enough` of the queue is done, for as long as a client keeps records.
    async fn wait(&self, enough: impl Fn(&Queue) -> bool) -> Result<(), LogError> {
        let done = async {
            while !enough(&self.queue) {
                self.queue.check()?;
                self.queue.signal.raised().await;
            }
            self.queue.check()
        };
        let Some(timeout) = self.request_timeout() else { return done.await };
        // Records are tried again and again for longer than a single request.
        let waited = deadline(&self.env, timeout * 4, done).await;
        waited.unwrap_or_else(|| {
            Err(LogError::Indefinite(format!("{} records are not acknowledged", self.queue.in_flight.get())))
        })
    }

    /// A request within the transaction; after one that failed the producer takes no more.
    async fn request<T: 'static>(
        &self,
        what: &'static str,
        operation: impl FnMut(&mut Core) -> Answer<T> + 'static,
    ) -> Result<T, LogError> {
        let result = self.shared.call(&self.env, what, operation).await.map_err(CallError::within_transaction);
        if let Err(error @ (LogError::Fenced(_) | LogError::Indefinite(_))) = &result {
            self.queue.error.borrow_mut().get_or_insert(error.clone());
        }
        result
    }
}

fn place(route: &[usize], record: &OutgoingRecord) -> Result<Place, LogError> {
    let topic = route.get(usize::from(record.topic));
    let unknown = || LogError::Refused(format!("a record points to topic {} of {}", record.topic, route.len()));
    Ok((*topic.ok_or_else(unknown)?, record.partition))
}

fn append(
    core: &mut Core,
    session: &Session,
    producer: ProducerId,
    place: Place,
    batch: &Outgoing,
    record: &OutgoingRecord,
) -> Result<(), LogError> {
    let headers = record.headers.map_or(&[][..], |at| &batch.headers[at as usize]);
    let first = core.append(
        Some(producer),
        place,
        NewRecord { timestamp_ms: record.timestamp_ms, key: batch.key(record), value: batch.value(record), headers },
    )?;
    if first {
        core.touch(session, place);
    }
    Ok(())
}

#[async_trait(?Send)]
impl Producer for ModelProducer {
    /// Unlike a careful client library the model lets a producer begin again after an outcome that is
    /// unknown: the mistake that this makes possible is one that the simulation has to find.
    fn begin(&mut self) -> Result<(), LogError> {
        let error = self.queue.error.take();
        if let Some(fenced @ LogError::Fenced(_)) = error {
            *self.queue.error.borrow_mut() = Some(fenced.clone());
            return Err(fenced);
        }
        self.begun = true;
        Ok(())
    }

    fn send(&mut self, batch: &Outgoing, from: usize) -> Result<usize, LogError> {
        self.in_transaction()?;
        if from >= batch.records.len() {
            return Ok(0);
        }
        let embedded = self.shared.state.borrow().weather.is_none();
        if embedded { self.write(batch, from) } else { self.dispatch(batch, from) }
    }

    async fn drained(&mut self) -> Result<(), LogError> {
        let limit = self.shared.state.borrow().weather.as_ref().map_or(usize::MAX, |w| w.faults.queue_records);
        self.wait(|queue| queue.in_flight.get() < limit).await
    }

    async fn acknowledged(&mut self) -> Result<(), LogError> {
        self.in_transaction()?;
        yield_now().await;
        self.wait(|queue| queue.in_flight.get() == 0).await
    }

    async fn send_offsets(
        &mut self,
        group: &str,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), LogError> {
        self.in_transaction()?;
        let (session, group, offsets) = (self.session.clone(), group.to_owned(), offsets.to_vec());
        self.request("add offsets", move |core| core.add_offsets(&session, &group, &offsets)).await
    }

    async fn commit(&mut self) -> Result<(), LogError> {
        // As client libraries do: nothing is committed before all of it has arrived.
        self.acknowledged().await?;
        let session = self.session.clone();
        self.request("commit", move |core| core.end(&session, true)).await?;
        self.begun = false;
        Ok(())
    }

    async fn abort(&mut self) -> Result<(), LogError> {
        if let Some(fenced @ LogError::Fenced(_)) = self.queue.error.borrow().clone() {
            return Err(fenced);
        }
        let timeout = self.request_timeout().unwrap_or(Duration::MAX);
        let queue = self.queue.clone();
        let arrived = async move {
            while queue.in_flight.get() > 0 {
                queue.signal.raised().await;
            }
        };
        if self.queue.in_flight.get() > 0 && deadline(&self.env, timeout * 4, arrived).await.is_none() {
            return Err(LogError::Indefinite("records are under way still".to_owned()));
        }
        let session = self.session.clone();
        self.request("abort", move |core| core.end(&session, false)).await?;
        self.queue.error.take();
        self.begun = false;
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.queue.in_flight.get()
    }
}

impl Drop for ModelProducer {
    fn drop(&mut self) {
        if self.queue.in_flight.get() > 0 {
            self.shared.abandon_records(&self.sent);
        }
    }
}
