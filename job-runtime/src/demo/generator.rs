//! Card transactions for the pilot: a function of the seed.
//!
//! Most accounts pay now and then, small sums, in their own country. Some are being robbed: a burst of
//! payments within seconds, or a few large ones, abroad. Records come a little out of order, within the
//! declared bound; a few come after their window has closed, and a few are no transactions at all.
//!
//! The generator has a clock of its own, which moves by [`Settings::events_per_second`]; how fast records
//! are taken is the caller's business, so a minute's window need not take a minute.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use chrono::DateTime;
use freshet_plan::key::partition_of;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Of 10,000 records, how many are late, and how many are bad.
const LATE_PER_10_000: u32 = 20;
const BAD_PER_10_000: u32 = 5;
/// Of 10,000 on-time records, how many come out of order.
const DISORDERED_PER_10_000: u32 = 2_000;
/// One ordinary record in so many starts a robbery.
const RECORDS_PER_ROBBERY: u32 = 4_000;

const COUNTRIES: [&str; 12] = ["DE", "FR", "NL", "PL", "ES", "IT", "AT", "BE", "DK", "SE", "CZ", "PT"];

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The same seed gives the same records.
    pub seed: u64,
    /// How many accounts there are.
    pub accounts: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Event time of the first record, ms since the Unix epoch.
    pub start_ms: i64,
    /// Records in one second of event time. Far fewer a window than five an account, or all are suspicious.
    pub events_per_second: u32,
    /// The declared disorder, ms.
    pub disorder_ms: i64,
    /// The pilot's window, ms; late records are more than one behind.
    pub window_ms: i64,
}

/// One record for the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The partition of its key.
    pub partition: u32,
    /// The record's key: the account.
    pub key: String,
    /// The record's value.
    pub value: Vec<u8>,
    /// Its event time, ms since the Unix epoch; of a bad record, when it would have happened.
    pub event_time_ms: i64,
}

/// An endless stream of records.
#[derive(Debug)]
pub struct Generator {
    settings: Settings,
    random: SmallRng,
    made: u64,
    newest_ms: i64,
    /// Payments of robberies under way, soonest first.
    planned: BinaryHeap<Reverse<Payment>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Payment {
    at_ms: i64,
    account: u32,
    cents: u32,
    country: usize,
}

impl Generator {
    /// A stream from its beginning.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            random: SmallRng::seed_from_u64(settings.seed),
            made: 0,
            newest_ms: settings.start_ms,
            planned: BinaryHeap::new(),
        }
    }

    /// One record for every partition, so far ahead that all windows before it close.
    #[must_use]
    pub fn closing(&self) -> Vec<Generated> {
        let at_ms = self.newest_ms + self.settings.disorder_ms + 2 * self.settings.window_ms;
        let key_of = |partition| {
            (0_u32..)
                .map(|number| format!("closing-{number}"))
                .find(|key| partition_of(key.as_bytes(), self.settings.partitions) == partition)
        };
        let record =
            |(number, key): (usize, String)| self.record(self.made + number as u64, &key, 1, COUNTRIES[0], at_ms);
        (0..self.settings.partitions).filter_map(key_of).enumerate().map(record).collect()
    }

    fn chance(&mut self, of_10_000: u32) -> bool {
        self.random.random_range(0..10_000) < of_10_000
    }

    fn now_ms(&self) -> i64 {
        let passed = u128::from(self.made) * 1_000 / u128::from(self.settings.events_per_second.max(1));
        self.settings.start_ms + i64::try_from(passed).unwrap_or(i64::MAX / 2)
    }

    fn ordinary(&mut self, now_ms: i64) -> Payment {
        let account = self.random.random_range(0..self.settings.accounts.max(1));
        // The product of two is small far more often than large.
        let cents = 100 + self.random.random_range(0..160_u32) * self.random.random_range(0..160_u32);
        let country = if self.random.random_range(0..20) == 0 { self.random.random() } else { account };
        Payment { at_ms: now_ms, account, cents, country: country as usize % COUNTRIES.len() }
    }

    fn rob(&mut self, now_ms: i64) {
        let account = self.random.random_range(0..self.settings.accounts.max(1));
        let abroad = self.random.random_range(0..COUNTRIES.len());
        let large = self.random.random_range(0..3) == 0;
        let (payments, amounts) = if large { (2..5, 380_000..900_000_u32) } else { (5..13, 4_000..45_000) };
        let mut at_ms = now_ms;
        for _ in 0..self.random.random_range(payments) {
            at_ms += self.random.random_range(200..3_000);
            let cents = self.random.random_range(amounts.clone());
            self.planned.push(Reverse(Payment { at_ms, account, cents, country: abroad }));
        }
    }

    fn record(&self, number: u64, key: &str, cents: u32, country: &str, at_ms: i64) -> Generated {
        let time = DateTime::from_timestamp_millis(at_ms).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.3f");
        let (whole, hundredths) = (cents / 100, cents % 100);
        let merchant = number % 977;
        let value = format!(
            r#"{{"txn_id":"t{number:09}","account_id":"{key}","amount":{whole}.{hundredths:02},"merchant":{{"id":"m{merchant:03}","country":"{country}"}},"ts":"{time}"}}"#
        );
        Generated {
            partition: partition_of(key.as_bytes(), self.settings.partitions.max(1)),
            key: key.to_owned(),
            value: value.into_bytes(),
            event_time_ms: at_ms,
        }
    }
}

/// The record as a broken producer might have sent it.
fn spoil(value: &[u8], how: u32) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    match how {
        0 => value[..value.len() / 2].to_vec(),
        1 => text.replacen("\"account_id\"", "\"account\"", 1).into_bytes(),
        2 => text.replacen("\"amount\":", "\"amount\":\"n/a\",\"was\":", 1).into_bytes(),
        _ => text.replacen("\"ts\":\"", "\"ts\":\"around ", 1).into_bytes(),
    }
}

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        let now_ms = self.now_ms();
        let due = self.planned.peek().is_some_and(|Reverse(payment)| payment.at_ms <= now_ms);
        let planned = if due { self.planned.pop() } else { None };
        let payment = match planned {
            Some(Reverse(payment)) => payment,
            None => self.ordinary(now_ms),
        };
        if !due && self.random.random_range(0..RECORDS_PER_ROBBERY) == 0 {
            self.rob(now_ms);
        }

        let late = self.chance(LATE_PER_10_000);
        let behind_ms = if late {
            self.settings.disorder_ms
                + self.settings.window_ms
                + self.random.random_range(0..self.settings.window_ms.max(1))
        } else if self.chance(DISORDERED_PER_10_000) {
            self.random.random_range(0..=self.settings.disorder_ms)
        } else {
            0
        };
        let key = format!("acct-{:06}", payment.account);
        let mut record = self.record(self.made, &key, payment.cents, COUNTRIES[payment.country], now_ms - behind_ms);
        if self.chance(BAD_PER_10_000) {
            record.value = spoil(&record.value, self.random.random_range(0..4));
        }
        self.made += 1;
        self.newest_ms = self.newest_ms.max(now_ms);
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::recount::{Recount, Rules};

    const SETTINGS: Settings = Settings {
        seed: 7,
        accounts: 50_000,
        partitions: 4,
        start_ms: 1_772_323_200_000,
        events_per_second: 500,
        disorder_ms: 5_000,
        window_ms: 60_000,
    };

    #[test]
    fn the_seed_is_all_that_counts() {
        let make = |seed| Generator::new(Settings { seed, ..SETTINGS }).take(5_000).collect::<Vec<_>>();
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn keys_go_where_java_clients_put_them_and_records_are_well_formed() {
        let mut bad = 0;
        for record in Generator::new(SETTINGS).take(20_000) {
            assert_eq!(record.partition, partition_of(record.key.as_bytes(), 4));
            match serde_json::from_slice::<serde_json::Value>(&record.value) {
                Ok(value) if value.get("account_id").is_some() => assert_eq!(value["account_id"], record.key),
                _ => bad += 1,
            }
        }
        assert!((1..40).contains(&bad), "{bad} bad records of 20,000");
    }

    #[test]
    fn there_is_something_to_find_and_not_too_much() {
        let mut generator = Generator::new(SETTINGS);
        let mut recount = Recount::new(Rules::default(), 4);
        for record in generator.by_ref().take(120_000) {
            recount.record(record.partition, &record.value);
        }
        let before = recount.alerts().len();
        for record in generator.closing() {
            recount.record(record.partition, &record.value);
        }
        let counts = recount.counts();
        let alerts = recount.alerts().len();
        assert!((20..200).contains(&alerts), "{alerts} alerts");
        assert!(before < alerts, "the closing records closed no window");
        assert!((100..400).contains(&counts.late), "{} late", counts.late);
        assert!((20..120).contains(&counts.bad), "{} bad", counts.bad);
        // Four minutes of event time, all of them closed, in twelve countries.
        let totals = recount.country_totals();
        assert!((48..=60).contains(&totals.len()), "{} country totals", totals.len());
        let counted: u64 = totals.iter().map(|row| row.txns).sum();
        assert_eq!(counted, counts.records - counts.bad - counts.late - 4);
    }

    #[test]
    fn every_partition_gets_a_closing_record() {
        let mut partitions: Vec<_> = Generator::new(SETTINGS).closing().iter().map(|record| record.partition).collect();
        partitions.sort_unstable();
        assert_eq!(partitions, [0, 1, 2, 3]);
    }
}
