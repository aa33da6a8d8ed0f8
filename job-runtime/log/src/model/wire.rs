//! What lies between clients and the broker: requests under way, replies, delays and losses.
//!
//! An embedded broker has none of it: a request is carried out where it is made. A simulated one keeps
//! every request, reply, marker and time-out as an event with a due time; [`super::ModelBroker::run`]
//! carries them out in that order. An event does not belong to whoever caused it: a client may die, and
//! its commit arrives all the same.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use freshet_env::sim::SeededRng;
use freshet_env::{SharedEnv, deadline};
use futures::channel::oneshot;

use super::core::{Answer, Core, Later};
use super::faults::{ModelFaults, drawn_ns};
use super::signal::{Signal, yield_now};
use crate::LogError;

/// Hands an answer to whoever waits for it, if anybody does still.
type Reply = Box<dyn FnOnce()>;

/// Carries out a request; `None` when it has to be asked again later.
pub(super) type Request = Box<dyn FnMut(&mut Core) -> Option<Reply>>;

enum Event {
    Arrives { what: &'static str, request: Request, reply: ReplyPath },
    Replies(Reply),
    Later(Later),
}

/// How an answer travels back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyPath {
    /// It may be lost.
    Lossy,
    /// It is repeated until it arrives, as acknowledgements of records are.
    Sure,
}

struct Parked {
    what: &'static str,
    request: Request,
    reply: ReplyPath,
}

/// Delays and faults of a simulated broker.
pub(super) struct Weather {
    pub env: SharedEnv,
    pub rng: SeededRng,
    pub faults: ModelFaults,
    pub available: bool,
}

pub(super) struct State {
    pub core: Core,
    /// `None`: embedded.
    pub weather: Option<Weather>,
    events: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    parked: VecDeque<Parked>,
}

/// The broker as its clients and its driver share it.
pub(super) struct Shared {
    pub state: RefCell<State>,
    /// Raised when an event was added, for the driver.
    changed: Signal,
}

/// An event that is under way.
pub(super) type EventId = (u64, u64);

impl Weather {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.env.monotonic().as_nanos()).unwrap_or(u64::MAX)
    }

    /// When something that sets out now arrives.
    fn arrival_ns(&mut self) -> u64 {
        let range = if self.rng.chance(self.faults.slow_rate) { self.faults.slow } else { self.faults.latency };
        self.now_ns().saturating_add(drawn_ns(&mut self.rng, range))
    }
}

impl State {
    fn add(&mut self, due_ns: u64, event: Event) -> EventId {
        self.last_event += 1;
        let id = (due_ns, self.last_event);
        self.events.insert(id, event);
        id
    }

    /// Carries out one request, and what follows from it.
    fn arrive(&mut self, what: &'static str, mut request: Request, path: ReplyPath) {
        let reply = request(&mut self.core);
        if let Some(weather) = &self.weather {
            let verdict = if reply.is_some() { "answers" } else { "holds back" };
            weather.env.trace(format_args!("broker {verdict} {what}"));
        }
        match reply {
            Some(reply) => self.send_back(reply, path),
            None => self.parked.push_back(Parked { what, request, reply: path }),
        }
        self.settle();
    }

    fn send_back(&mut self, reply: Reply, path: ReplyPath) {
        match &mut self.weather {
            None => reply(),
            Some(weather) => {
                let lost = weather.rng.chance(weather.faults.lose_reply_rate);
                if lost && path == ReplyPath::Lossy {
                    weather.env.trace(format_args!("reply is lost"));
                    return;
                }
                let due = weather.arrival_ns();
                self.add(due, Event::Replies(reply));
            }
        }
    }

    /// Does or schedules what follows, and asks again whatever waits for a transaction's end.
    pub(super) fn settle(&mut self) {
        loop {
            for later in std::mem::take(&mut self.core.later) {
                self.schedule(later);
            }
            if !std::mem::take(&mut self.core.progressed) {
                break;
            }
            for mut parked in std::mem::take(&mut self.parked) {
                match (parked.request)(&mut self.core) {
                    Some(reply) => self.send_back(reply, parked.reply),
                    None => self.parked.push_back(parked),
                }
            }
        }
    }

    fn schedule(&mut self, later: Later) {
        let Some(weather) = &mut self.weather else {
            // Embedded: a transaction ends at once, and nobody is timed out.
            if let Later::Marker { id, target } = &later {
                self.core.write_marker(id, target);
            }
            return;
        };
        let faults = &weather.faults;
        let due = match &later {
            Later::TimeOut { .. } => match faults.transaction_timeout {
                Some(timeout) => weather.now_ns() + nanos(timeout),
                None => return,
            },
            Later::Marker { .. } if weather.rng.chance(faults.late_marker_rate) => {
                weather.now_ns() + drawn_ns(&mut weather.rng, weather.faults.late_marker)
            }
            Later::Marker { .. } => weather.now_ns() + drawn_ns(&mut weather.rng, weather.faults.latency),
        };
        self.add(due, Event::Later(later));
    }

    fn happen(&mut self, event: Event) -> Option<Reply> {
        match event {
            Event::Arrives { what, request, reply } => self.arrive(what, request, reply),
            Event::Replies(reply) => return Some(reply),
            Event::Later(later) => {
                if let Some(weather) = &self.weather {
                    weather.env.trace(format_args!("broker does: {later}"));
                }
                match &later {
                    Later::Marker { id, target } => self.core.write_marker(id, target),
                    Later::TimeOut { id, transaction } => {
                        self.core.time_out(id, *transaction);
                    }
                }
                self.settle();
            }
        }
        None
    }

    /// The requests that wait for a transaction's end, for messages.
    pub(super) fn parked(&self) -> Vec<&'static str> {
        self.parked.iter().map(|parked| parked.what).collect()
    }
}

impl Shared {
    pub(super) fn new(weather: Option<Weather>) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                core: Core::default(),
                weather,
                events: BTreeMap::new(),
                last_event: 0,
                parked: VecDeque::new(),
            }),
            changed: Signal::default(),
        })
    }

    /// Does something to the broker from outside: an operator's hand, not a client's request.
    pub(super) fn touch<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let result = act(&mut state.core);
        state.settle();
        drop(state);
        self.changed.raise();
        result
    }

    pub(super) fn set_available(&self, available: bool) {
        if let Some(weather) = &mut self.state.borrow_mut().weather {
            weather.available = available;
            weather.env.trace(format_args!("broker is {}", if available { "up" } else { "down" }));
        }
        self.state.borrow().core.notify_all();
        self.changed.raise();
    }

    /// Sends a request on its way: arriving not before `not_before_ns`, so that requests which must keep
    /// their order can. Answers when it will arrive, and `None` in an embedded broker, where it has.
    pub(super) fn submit(
        &self,
        what: &'static str,
        request: Request,
        reply: ReplyPath,
        not_before_ns: u64,
    ) -> Option<EventId> {
        let mut state = self.state.borrow_mut();
        let Some(weather) = &mut state.weather else {
            state.arrive(what, request, reply);
            return None;
        };
        let due = weather.arrival_ns().max(not_before_ns);
        let id = state.add(due, Event::Arrives { what, request, reply });
        drop(state);
        self.changed.raise();
        Some(id)
    }

    /// The client of a request that may be under way still is gone: it is lost with it, or arrives late.
    pub(super) fn abandon(&self, event: EventId) {
        let mut state = self.state.borrow_mut();
        if !matches!(state.events.get(&event), Some(Event::Arrives { .. })) {
            return;
        }
        let Some(taken) = state.events.remove(&event) else { return };
        let Some(weather) = &mut state.weather else { return };
        if weather.rng.chance(weather.faults.outlive_client_rate) {
            let due = weather.now_ns() + drawn_ns(&mut weather.rng, weather.faults.slow);
            state.add(due, taken);
            drop(state);
            self.changed.raise();
        } else {
            drop(state);
            // Outside of the borrow: the request's own destructors may look at the broker.
            drop(taken);
        }
    }

    /// The records of `events` (in the order of their sending) that a client which is gone has not sent
    /// yet are lost with it: some last ones, never one from the middle.
    pub(super) fn abandon_records(&self, events: &[EventId]) {
        let mut state = self.state.borrow_mut();
        let under_way: Vec<EventId> = events.iter().copied().filter(|event| state.events.contains_key(event)).collect();
        let Some(weather) = &mut state.weather else { return };
        let outlive = weather.rng.chance(weather.faults.outlive_client_rate);
        let kept = if outlive { weather.rng.below(under_way.len() as u64 + 1) as usize } else { 0 };
        let lost: Vec<Event> = under_way[kept..].iter().filter_map(|event| state.events.remove(event)).collect();
        drop(state);
        drop(lost);
    }

    /// A client's call: there, carried out, and back, or not.
    pub(super) async fn call<T: 'static>(
        self: &Rc<Self>,
        env: &SharedEnv,
        what: &'static str,
        mut operation: impl FnMut(&mut Core) -> Answer<T> + 'static,
    ) -> Result<T, CallError> {
        let (sender, answer) = oneshot::channel();
        let mut sender = Some(sender);
        let request: Request = Box::new(move |core| match operation(core) {
            Answer::Wait => None,
            Answer::Now(result) => {
                let sender = sender.take();
                Some(Box::new(move || drop(sender.map(|sender| sender.send(result)))))
            }
        });
        let simulated = self.state.borrow_mut().weather.as_mut().map(|weather| {
            let faults = &weather.faults;
            // While it is down, half of the calls fail at once; the others wait for it.
            let refused =
                if weather.available { weather.rng.chance(faults.unavailable_rate) } else { weather.rng.chance(500) };
            (refused, weather.rng.chance(faults.lose_request_rate), faults.request_timeout)
        });
        let Some((refused, lost, timeout)) = simulated else {
            self.submit(what, request, ReplyPath::Sure, 0);
            yield_now().await;
            return answer.await.map_err(|_| CallError::NoAnswer(what))?.map_err(CallError::Broker);
        };
        if refused {
            yield_now().await;
            return Err(CallError::NotSent(what));
        }
        let event = if lost { None } else { self.submit(what, request, ReplyPath::Lossy, 0) };
        let mut under_way = UnderWay { shared: self.clone(), event };
        let answered = if lost {
            env.sleep(timeout).await;
            None
        } else {
            deadline(env, timeout, answer).await
        };
        match answered {
            Some(Ok(result)) => {
                under_way.event = None;
                result.map_err(CallError::Broker)
            }
            // The request's own copy of the sender went away: the reply was lost.
            Some(Err(_)) => {
                env.sleep(timeout).await;
                Err(CallError::NoAnswer(what))
            }
            None => {
                // The client gives up; its request, if it is under way still, does not.
                under_way.event = None;
                Err(CallError::NoAnswer(what))
            }
        }
    }

    /// In how long the next event falls due; `None` while there is none, or the broker is down.
    fn next_due(&self) -> Option<Duration> {
        let state = self.state.borrow();
        let weather = state.weather.as_ref().filter(|weather| weather.available)?;
        let (due, _) = state.events.keys().next()?;
        Some(Duration::from_nanos(due.saturating_sub(weather.now_ns())))
    }

    /// Carries out events as they fall due, for ever.
    pub(super) async fn run(&self) {
        loop {
            match self.next_due() {
                None => self.changed.raised().await,
                Some(Duration::ZERO) => {
                    let mut state = self.state.borrow_mut();
                    let event = state.events.pop_first();
                    let reply = event.and_then(|(_, event)| state.happen(event));
                    drop(state);
                    if let Some(reply) = reply {
                        reply();
                    }
                }
                Some(wait) => {
                    let timer = self.state.borrow().weather.as_ref().map(|weather| weather.env.clone());
                    let Some(env) = timer else { return };
                    deadline(&env, wait, self.changed.raised()).await;
                }
            }
        }
    }
}

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// The broker refused it.
    Broker(LogError),
    /// It was never sent.
    NotSent(&'static str),
    /// No answer came: it may have happened or not, or may yet.
    NoAnswer(&'static str),
}

impl CallError {
    /// For requests that can simply be made again.
    pub(super) fn repeatable(self) -> LogError {
        match self {
            Self::Broker(error) => error,
            Self::NotSent(what) => LogError::Unavailable(format!("{what}: the broker can't be reached")),
            Self::NoAnswer(what) => LogError::Unavailable(format!("{what}: no answer")),
        }
    }

    /// For requests of a transaction, after which nobody knows where it stands.
    pub(super) fn within_transaction(self) -> LogError {
        match self {
            Self::Broker(error) => error,
            Self::NotSent(what) => LogError::Indefinite(format!("{what}: the broker can't be reached")),
            Self::NoAnswer(what) => LogError::Indefinite(format!("{what}: no answer")),
        }
    }
}

/// A request of a client that may end before it is answered.
struct UnderWay {
    shared: Rc<Shared>,
    event: Option<EventId>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(event) = self.event {
            self.shared.abandon(event);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
