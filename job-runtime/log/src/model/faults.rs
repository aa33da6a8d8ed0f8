//! What can go wrong between a client and the model broker, and how often.

use std::time::Duration;

use freshet_env::sim::SeededRng;

/// Delays and faults of a simulated broker. Rates are per mille of the cases that they name; times are
/// drawn evenly from a range.
///
/// None of it weakens what a Kafka broker promises: a record that was acknowledged stays, a commit that
/// was accepted completes, an old epoch is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFaults {
    /// How long a request or a reply is under way.
    pub latency: (Duration, Duration),
    /// Requests and replies that take [`ModelFaults::slow`] instead.
    pub slow_rate: u32,
    /// How long a slow one is under way.
    pub slow: (Duration, Duration),
    /// Requests that never arrive; the client learns it by its time-out. Not for records: a client sends
    /// those again until they are acknowledged.
    pub lose_request_rate: u32,
    /// Replies that never arrive: the broker did what was asked, and the client can't know.
    pub lose_reply_rate: u32,
    /// Calls that are refused at once with `Unavailable`; also calls while the broker is down that are
    /// refused instead of waiting.
    pub unavailable_rate: u32,
    /// Batches of records that the client gives up on: the transaction must be aborted.
    pub lose_records_rate: u32,
    /// Committed or aborted transactions whose markers come late, each partition and group for itself.
    pub late_marker_rate: u32,
    /// How late.
    pub late_marker: (Duration, Duration),
    /// Requests of a client that died which arrive all the same, after [`ModelFaults::slow`]; the others
    /// are lost with it.
    pub outlive_client_rate: u32,
    /// How long a client waits for a reply, and for its records to be acknowledged.
    pub request_timeout: Duration,
    /// How long a transaction may stay open before the broker aborts it and fences its producer.
    pub transaction_timeout: Option<Duration>,
    /// Most records of one fetch; each fetch draws a number from 1 up to it.
    pub fetch_records: usize,
    /// Most records that a producer queues.
    pub queue_records: usize,
}

impl ModelFaults {
    /// Nothing goes wrong: small delays, generous time-outs.
    #[must_use]
    pub const fn none() -> Self {
        const ZERO: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);
        Self {
            latency: (Duration::from_micros(200), Duration::from_millis(2)),
            slow_rate: 0,
            slow: ZERO,
            lose_request_rate: 0,
            lose_reply_rate: 0,
            unavailable_rate: 0,
            lose_records_rate: 0,
            late_marker_rate: 0,
            late_marker: ZERO,
            outlive_client_rate: 0,
            request_timeout: Duration::from_secs(30),
            transaction_timeout: Some(Duration::from_secs(60)),
            fetch_records: 64,
            queue_records: 1000,
        }
    }

    /// A mix drawn from `rng`: each kind of fault is absent, rare or frequent, so that every seed has a
    /// character of its own.
    #[must_use]
    pub fn drawn(rng: &mut SeededRng) -> Self {
        let ms = Duration::from_millis;
        let mut rate = |often: u32| match rng.below(3) {
            0 => 0,
            1 => often / 5,
            _ => often,
        };
        Self {
            slow_rate: rate(50),
            slow: (ms(20), ms(3000)),
            lose_request_rate: rate(20),
            lose_reply_rate: rate(30),
            unavailable_rate: rate(30),
            lose_records_rate: rate(10),
            late_marker_rate: rate(400),
            late_marker: (ms(1), ms(2000)),
            outlive_client_rate: rate(700),
            request_timeout: ms(rng.between(500, 4000)),
            transaction_timeout: Some(ms(rng.between(2000, 10_000))),
            fetch_records: rng.between(1, 40) as usize,
            queue_records: rng.between(4, 60) as usize,
            ..Self::none()
        }
    }
}

/// A time from `range`, in ns.
pub(super) fn drawn_ns(rng: &mut SeededRng, range: (Duration, Duration)) -> u64 {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    rng.between(nanos(range.0), nanos(range.1))
}
