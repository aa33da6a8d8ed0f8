//! Payments at random, and what windows over them must give, counted again in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{DISORDER_MS, Payment, SINK, Written};

/// What the recount keeps of a group.
#[derive(Default)]
struct Expected {
    rows: i64,
    amounts: Vec<i64>,
    prices: Vec<i64>,
    good_total: Option<i64>,
}

/// `SELECT account, window…, many_aggregates()`, as a person would write it, over one partition: the rows, in the order
/// of their windows' ends and starts, and how many payments came when all of their windows had closed. `windows` gives
/// the windows that hold a time, each as its start and end.
pub fn recount(payments: &[Payment], windows: impl Fn(i64) -> Vec<(i64, i64)>) -> (Vec<String>, u64) {
    let (groups, watermark, late) = groups(payments, windows);
    let closed = groups.into_iter().filter(|((end, _, _), _)| end - 1 <= watermark);
    (
        closed.map(|((end, start, account), group)| expected_json((start, end), account.as_deref(), &group)).collect(),
        late,
    )
}

/// The rows over several partitions, each with its own watermark, when all windows have closed.
pub fn recount_all(partitions: &[Vec<Payment>], windows: impl Fn(i64) -> Vec<(i64, i64)> + Copy) -> Vec<String> {
    let mut all = Groups::new();
    for partition in partitions {
        for (window, group) in groups(partition, windows).0 {
            all.entry(window).or_default().add(group);
        }
    }
    let rows = all.into_iter();
    rows.map(|((end, start, account), group)| expected_json((start, end), account.as_deref(), &group)).collect()
}

/// By end and start of the window, and account.
type Groups = BTreeMap<(i64, i64, Option<String>), Expected>;

fn groups(payments: &[Payment], windows: impl Fn(i64) -> Vec<(i64, i64)>) -> (Groups, i64, u64) {
    let mut groups = Groups::new();
    let (mut watermark, mut late) = (i64::MIN, 0);
    for payment in payments {
        let held = windows(payment.time);
        let open: Vec<_> = held.iter().filter(|(_, end)| end - 1 > watermark).collect();
        late += u64::from(open.is_empty() && !held.is_empty());
        for (start, end) in open {
            groups.entry((*end, *start, payment.account.clone())).or_default().count(payment);
        }
        watermark = watermark.max(payment.time - DISORDER_MS - 1);
    }
    (groups, watermark, late)
}

/// The rows of sessions over several partitions, each with its own watermark, as far as they end no later than the least
/// of those and `end`; and how many payments were late.
pub fn recount_sessions(partitions: &[Vec<Payment>], gap_ms: i64, end: i64) -> (Vec<String>, u64) {
    let (mut kept, mut late, mut horizon) = (Vec::new(), 0, end);
    for partition in partitions {
        let mut watermark = i64::MIN;
        for payment in partition {
            if payment.time <= watermark {
                late += 1;
            } else {
                kept.push(payment);
            }
            watermark = watermark.max(payment.time - DISORDER_MS - 1);
        }
        horizon = horizon.min(watermark);
    }
    kept.sort_by_key(|payment| payment.time);
    let mut by_account: BTreeMap<_, Vec<(i64, i64, Expected)>> = BTreeMap::new();
    for payment in kept {
        let sessions = by_account.entry(payment.account.clone()).or_default();
        match sessions.last_mut().filter(|(_, last, _)| payment.time - *last <= gap_ms) {
            Some((_, last, group)) => {
                *last = payment.time;
                group.count(payment);
            }
            None => {
                let mut group = Expected::default();
                group.count(payment);
                sessions.push((payment.time, payment.time, group));
            }
        }
    }
    let mut rows: Vec<(i64, String)> = Vec::new();
    for (account, sessions) in by_account {
        for (first, last, group) in sessions.iter().filter(|(_, last, _)| last + gap_ms <= horizon) {
            rows.push((last + gap_ms, expected_json((*first, last + gap_ms), account.as_deref(), group)));
        }
    }
    rows.sort_by_key(|(end, _)| *end);
    (rows.into_iter().map(|(_, row)| row).collect(), late)
}

impl Expected {
    fn count(&mut self, payment: &Payment) {
        self.rows += 1;
        self.amounts.extend(payment.amount);
        self.prices.extend(payment.price);
        if payment.good == Some(true)
            && let Some(amount) = payment.amount
        {
            *self.good_total.get_or_insert(0) += amount;
        }
    }

    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.amounts.extend(other.amounts);
        self.prices.extend(other.prices);
        if let Some(more) = other.good_total {
            *self.good_total.get_or_insert(0) += more;
        }
    }
}

fn expected_json((start, end): (i64, i64), account: Option<&str>, group: &Expected) -> String {
    let time = |ms: i64| {
        chrono::DateTime::from_timestamp_millis(ms).expect("in range").naive_utc().format("%Y-%m-%dT%H:%M:%S%.3f")
    };
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    let account = or_null(account.map(|account| format!("\"{account}\"")));
    let sum = |values: &mut dyn Iterator<Item = &i64>| {
        let values: Vec<i64> = values.copied().collect();
        (!values.is_empty()).then(|| values.iter().sum::<i64>().to_string())
    };
    let distinct: BTreeSet<i64> = group.amounts.iter().copied().collect();
    let hundredths = |value: i64| {
        let sign = if value < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", value.abs() / 100, value.abs() % 100)
    };
    // In millionths, half up.
    let mean = (!group.prices.is_empty()).then(|| {
        let (sum, count) = (group.prices.iter().sum::<i64>() * 10_000, group.prices.len() as i64);
        let rounded = (sum.abs() * 2 + count) / (count * 2);
        format!("{}{}.{:06}", if sum < 0 && rounded > 0 { "-" } else { "" }, rounded / 1_000_000, rounded % 1_000_000)
    });
    format!(
        "{{\"account\":{account},\"window_start\":\"{}\",\"window_end\":\"{}\",\"window_time\":\"{}\",\"rows\":{},\
         \"amounts\":{},\"total\":{},\"least\":{},\"mean\":{},\"greatest\":{account},\"different\":{},\
         \"different_total\":{},\"good_total\":{}}}",
        time(start),
        time(end),
        time(end - 1),
        group.rows,
        group.amounts.len(),
        or_null(sum(&mut group.amounts.iter())),
        or_null(group.prices.iter().min().map(|v| hundredths(*v))),
        or_null(mean),
        distinct.len(),
        or_null(sum(&mut distinct.iter())),
        or_null(group.good_total.map(|v| v.to_string())),
    )
}

/// What was written to the sink.
pub fn results(written: &[Written]) -> Vec<String> {
    written.iter().filter(|record| record.topic == SINK).map(|record| record.text().to_owned()).collect()
}

/// A payment at some time around 0.
pub fn payment() -> impl Strategy<Value = Payment> {
    let account = prop_oneof![1 => Just(None), 9 => "[abü]{0,2}".prop_map(Some)];
    (
        account,
        prop::option::weighted(0.9, -5..6_i64),
        prop::option::weighted(0.9, -300..300_i64),
        any::<Option<bool>>(),
        -20..20_i64,
    )
        .prop_map(|(account, amount, price, good, time)| Payment { account, amount, price, good, time })
}

/// Payments whose time moves on.
pub fn stream() -> impl Strategy<Value = Vec<Payment>> {
    prop::collection::vec((payment(), 0..4_i64), 0..120).prop_map(|steps| {
        let mut now = 0;
        steps
            .into_iter()
            .map(|(payment, step)| {
                now += step;
                Payment { time: now + payment.time, ..payment }
            })
            .collect()
    })
}
