//! The oracle: what every record of the input should have come to, counted again in the plainest way.
//!
//! It knows nothing of batches, epochs, tasks or state: it goes through each partition from its first record
//! to its last, keeps a watermark, and adds up. What a committed reader sees must be exactly this, whatever
//! befell the cluster.

use std::collections::{BTreeMap, BTreeSet};

use freshet_log::model::{ModelBroker, StoredRecord};
use serde_json::{Value, json};

use super::input::{InputRecord, Meaning, Payment};
use super::plans::{COPIES, DEAD, DISORDER_MS, Frame, Grouping, LATE, PAYMENTS, Shape, TOTALS};
use super::updates::{Left, RANKS, distinct_row, kept_row};

/// A record of the input, by where it was written.
#[derive(Debug, Clone)]
pub(super) struct Fed {
    pub offset: i64,
    pub record: InputRecord,
}

/// What the job is, from where on: a plan counts from the offset at which it was taken over, in each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Era {
    pub shape: Shape,
    /// For each partition, the first offset that it reads.
    pub from: Vec<i64>,
}

impl Era {
    /// All that there is, from the beginning.
    pub fn first(shape: Shape) -> Self {
        Self { shape, from: vec![0; shape.partitions as usize] }
    }
}

/// What the outputs must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// For each key, its rows in order.
    copies: BTreeMap<String, Vec<String>>,
    /// How often each row must be there, and how often it may: the windows of a statement that is no more came out
    /// or did not, but never twice, and never with other figures.
    totals: BTreeMap<String, Times>,
    /// What must be left of totals that change for ever.
    left: Option<Left>,
    /// Partition, offset and reason of each record.
    dead: BTreeSet<Letter>,
    late: BTreeSet<Letter>,
}

type Letter = (u32, i64, String);

/// How what is there compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Exactly what is wanted.
    Complete,
    /// So far nothing is wrong, but something is missing.
    Missing(String),
    /// Something is there that may never be.
    Wrong(String),
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Times {
    must: i64,
    may: i64,
}

#[derive(Default)]
struct Total {
    n: i64,
    total: i64,
    least: Option<i64>,
    others: BTreeSet<String>,
}

impl Total {
    fn add(&mut self, other: Self) {
        self.n += other.n;
        self.total += other.total;
        self.least = self.least.into_iter().chain(other.least).min();
        self.others.extend(other.others);
    }
}

/// The life of a statement, a group, and a window.
type Place = (usize, String, (i64, i64));

type Totals = BTreeMap<Place, Total>;

/// Sessions out of single payments, each of which lasts for a gap: one goes on where the next begins no later than it ends.
fn sessions(payments: Totals) -> Totals {
    let mut sessions = Totals::new();
    let mut last: Option<(Place, Total)> = None;
    for ((life, group, (start, end)), total) in payments {
        match &mut last {
            Some((key, session)) if (key.0, &key.1) == (life, &group) && start <= key.2.1 => {
                key.2.1 = end;
                session.add(total);
            }
            _ => sessions.extend(last.replace(((life, group, (start, end)), total))),
        }
    }
    sessions.extend(last);
    sessions
}

/// A life of a statement: from an era that has it to one that has not. One that comes back begins with nothing.
fn lives(eras: &[Era]) -> Vec<usize> {
    let mut life = 0;
    let mut before = None;
    let lives = eras.iter().map(|era| {
        life += usize::from(before.replace(era.shape.totals) != Some(era.shape.totals));
        life
    });
    lives.collect()
}

/// Counts the input again.
pub(super) fn recount(eras: &[Era], fed: &[Vec<Fed>]) -> Expected {
    let mut expected = Expected::default();
    let mut windows = Totals::new();
    let mut distinct: BTreeSet<(usize, String)> = BTreeSet::new();
    let mut ranked: BTreeMap<(usize, String), Vec<Payment>> = BTreeMap::new();
    let mut horizon = i64::MIN;
    let lives = lives(eras);
    let groupings: BTreeMap<usize, Grouping> =
        eras.iter().zip(&lives).filter_map(|(era, life)| Some((*life, era.shape.totals?))).collect();
    for (partition, records) in (0..).zip(fed) {
        let mut watermark = i64::MIN;
        for Fed { offset, record } in records {
            let letter = |reason: &str| (partition, *offset, reason.to_owned());
            // Where several changes were taken over at one offset, the last of them counts.
            let at = eras.iter().rposition(|era| era.from[partition as usize] <= *offset).unwrap_or(0);
            let shape = eras[at].shape;
            let payment = match &record.meaning {
                Meaning::Bad(reason) => {
                    if shape.letters {
                        expected.dead.insert(letter(reason));
                    }
                    continue;
                }
                Meaning::Good(payment) => payment,
            };
            if shape.copies && payment.amount >= 0 {
                let row = json!({"account": payment.account, "seq": payment.seq, "amount": payment.amount});
                expected.copies.entry(payment.account.clone()).or_default().push(row.to_string());
            }
            let before = watermark;
            let mut open = shape.windows(payment.time_ms);
            match shape.frame {
                Frame::Session => open.retain(|(start, _)| *start > watermark),
                _ => open.retain(|(_, end)| end - 1 > watermark),
            }
            watermark = watermark.max(payment.time_ms - DISORDER_MS - 1);
            let Some(grouping) = shape.totals else { continue };
            match shape.frame {
                Frame::Distinct => {
                    distinct.insert((lives[at], distinct_row(grouping, payment)));
                    continue;
                }
                Frame::Forever => open.push((0, i64::MAX)),
                Frame::First if payment.time_ms <= before => {}
                Frame::Top | Frame::First => {
                    let group = if grouping == Grouping::Account { &payment.account } else { &payment.merchant };
                    ranked.entry((lives[at], group.clone())).or_default().push(payment.clone());
                    continue;
                }
                Frame::Tumble | Frame::Hop | Frame::Cumulate | Frame::Session => {}
            }
            if open.is_empty() {
                if shape.letters {
                    expected.late.insert(letter("LateRecord"));
                }
                continue;
            }
            let (group, other) = match grouping {
                Grouping::Account => (&payment.account, &payment.merchant),
                Grouping::Merchant => (&payment.merchant, &payment.account),
            };
            for window in open {
                let total = windows.entry((lives[at], group.clone(), window)).or_default();
                total.n += 1;
                total.total += payment.amount;
                total.least = Some(total.least.map_or(payment.amount, |least| least.min(payment.amount)));
                total.others.insert(other.clone());
            }
        }
        horizon = horizon.max(watermark);
    }
    let last = lives.last().copied();
    if eras.last().is_some_and(|era| era.shape.frame == Frame::Top) {
        let mut left = Left::new(groupings.keys().any(|life| Some(*life) != last));
        for ((life, group), mut payments) in ranked {
            let Some(grouping) = groupings.get(&life).filter(|_| Some(life) == last) else { continue };
            payments.sort_by_key(|payment| (-payment.amount, payment.seq));
            for (number, payment) in (1..=RANKS).zip(payments) {
                left.insert_row(json!([group, number]).to_string(), kept_row(*grouping, &payment, Some(number)));
            }
        }
        expected.left = Some(left);
        return expected;
    }
    for ((life, _), payments) in ranked {
        let first = payments.iter().min_by_key(|payment| (payment.time_ms, payment.seq));
        let Some((first, grouping)) = first.zip(groupings.get(&life)) else { continue };
        if first.time_ms <= horizon {
            let times = expected.totals.entry(kept_row(*grouping, first, None)).or_default();
            times.may += 1;
            times.must += i64::from(last == Some(life));
        }
    }
    for (life, row) in distinct {
        let times = expected.totals.entry(row).or_default();
        times.may += 1;
        times.must += i64::from(lives.last() == Some(&life));
    }
    if eras.last().is_some_and(|era| era.shape.frame == Frame::Forever) {
        let last = lives.last().copied().unwrap_or(0);
        let mut left = Left::new(groupings.keys().any(|life| *life != last));
        for ((life, group, _), total) in windows {
            if life == last {
                let grouped = if groupings.get(&life) == Some(&Grouping::Account) { "account" } else { "merchant" };
                let row = json!({
                    grouped: group, "n": total.n, "total": total.total, "least": total.least,
                    "others": total.others.len(),
                });
                left.insert(group, total.n, row.to_string(), total.least);
            }
        }
        expected.left = Some(left);
        return expected;
    }
    let in_sessions = eras.last().is_some_and(|era| era.shape.frame == Frame::Session);
    for ((life, group, (start, end)), total) in if in_sessions { sessions(windows) } else { windows } {
        // The windows of the closing records themselves never close.
        if end - 1 <= horizon {
            let grouped = match groupings.get(&life) {
                Some(Grouping::Account) => "account",
                _ => "merchant",
            };
            let row = json!({
                grouped: group, "window_start": time(start), "window_end": time(end),
                "window_time": time(end - 1), "n": total.n, "total": total.total, "least": total.least,
                "others": total.others.len(),
            });
            let times = expected.totals.entry(row.to_string()).or_default();
            times.may += 1;
            times.must += i64::from(lives.last() == Some(&life));
        }
    }
    expected
}

fn time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).expect("times of the simulation are in range");
    time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

impl Expected {
    /// Compares it with what a committed reader sees.
    pub fn compare(&self, broker: &ModelBroker) -> Verdict {
        let mut missing = Vec::new();
        let checks = [
            self.copies(broker),
            self.totals(broker),
            letters(broker, DEAD, &self.dead),
            letters(broker, LATE, &self.late),
        ];
        for verdict in checks {
            match verdict {
                Verdict::Complete => {}
                Verdict::Missing(what) => missing.push(what),
                wrong @ Verdict::Wrong(_) => return wrong,
            }
        }
        if missing.is_empty() { Verdict::Complete } else { Verdict::Missing(missing.join("; ")) }
    }

    fn copies(&self, broker: &ModelBroker) -> Verdict {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in records(broker, COPIES) {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            found.entry(key).or_default().push(text(&record));
        }
        let mut missing = 0;
        for (key, found) in &found {
            let expected = self.copies.get(key).map_or(&[][..], Vec::as_slice);
            let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
            if same < found.len() {
                let wanted = expected.get(same).map_or("nothing", String::as_str);
                return Verdict::Wrong(format!(
                    "{COPIES}: row {same} of key {key} is {}, wanted {wanted}",
                    found[same]
                ));
            }
        }
        for (key, expected) in &self.copies {
            missing += expected.len() - found.get(key).map_or(0, Vec::len);
        }
        if missing == 0 { Verdict::Complete } else { Verdict::Missing(format!("{missing} rows of {COPIES}")) }
    }

    fn totals(&self, broker: &ModelBroker) -> Verdict {
        if let Some(left) = &self.left {
            return left.compare(&records(broker, TOTALS));
        }
        let mut left = self.totals.clone();
        for record in records(broker, TOTALS) {
            let row = text(&record);
            match left.get_mut(&row) {
                Some(times) if times.may > 0 => {
                    times.may -= 1;
                    times.must -= 1;
                }
                Some(_) => return Verdict::Wrong(format!("{TOTALS}: {row} is there twice")),
                None => {
                    return Verdict::Wrong(format!(
                        "{TOTALS}: {row} is not what the recount gives: {}",
                        self.near(&row)
                    ));
                }
            }
        }
        let missing: Vec<_> = left.iter().filter(|(_, times)| times.must > 0).collect();
        match missing.first() {
            None => Verdict::Complete,
            Some((row, _)) => Verdict::Missing(format!("{} rows of {TOTALS}, for instance {row}", missing.len())),
        }
    }

    /// The row of the same group and window.
    fn near(&self, row: &str) -> String {
        let until_end = |row: &str| row.split("\"window_end\"").next().map(str::to_owned);
        let same = self.totals.keys().find(|expected| until_end(expected) == until_end(row));
        same.cloned().unwrap_or_else(|| "no such window".to_owned())
    }
}

fn records(broker: &ModelBroker, topic: &str) -> Vec<StoredRecord> {
    broker.committed_records(topic).unwrap_or_default()
}

fn text(record: &StoredRecord) -> String {
    let value = record.value.as_deref().unwrap_or_default();
    // Parsed and written again, so that only the content counts.
    serde_json::from_slice::<Value>(value)
        .map_or_else(|error| format!("{error}: {}", String::from_utf8_lossy(value)), |value| value.to_string())
}

fn letters(broker: &ModelBroker, topic: &str, expected: &BTreeSet<Letter>) -> Verdict {
    let mut found = BTreeSet::new();
    for record in records(broker, topic) {
        let header = |name: &str| {
            let header = record.headers.iter().find(|header| header.name == name);
            header.map(|header| String::from_utf8_lossy(&header.value).into_owned()).unwrap_or_default()
        };
        let letter = (
            header("freshet-partition").parse().unwrap_or(u32::MAX),
            header("freshet-offset").parse().unwrap_or(-1),
            header("freshet-error-reason"),
        );
        if header("freshet-topic") != PAYMENTS || !expected.contains(&letter) {
            return Verdict::Wrong(format!("{topic}: {letter:?} ({}) should not be there", header("freshet-detail")));
        }
        if !found.insert(letter.clone()) {
            return Verdict::Wrong(format!("{topic}: {letter:?} is there twice"));
        }
    }
    match expected.difference(&found).next() {
        None => Verdict::Complete,
        Some(letter) => {
            Verdict::Missing(format!("{} records of {topic}, for instance {letter:?}", expected.len() - found.len()))
        }
    }
}
