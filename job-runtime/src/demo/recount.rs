//! The recount: what the pilot's job must write, by other means.
//!
//! It reads the records of each source partition in their order, as the job does, and applies the rules
//! that the documentation gives, in the plainest code that can hold them:
//!
//! * A record that is no JSON object of the contract is bad; it counts nowhere.
//! * A window of a partition closes once the partition's newest event time, less the allowed disorder,
//!   reaches the window's end. A record whose window closed before it came is late; it counts nowhere.
//! * `alerts`: accounts with at least [`Rules::min_txns`] transactions or more than
//!   [`Rules::above_cents`] in one window, of windows that have closed.
//! * `country_totals`: transactions, their sum and the largest by the merchant's country, of windows that
//!   have closed in every partition.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::rows::{WindowRow, cents, time_ms};

/// The figures in the pilot's manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Length of a window, ms.
    pub window_ms: i64,
    /// How far behind the newest an on-time record may be, ms.
    pub disorder_ms: i64,
    /// From so many transactions on, an account is alerted.
    pub min_txns: u64,
    /// Above this sum, in hundredths, an account is alerted.
    pub above_cents: i128,
}

impl Default for Rules {
    fn default() -> Self {
        Self { window_ms: 60_000, disorder_ms: 5_000, min_txns: 5, above_cents: 1_000_000 }
    }
}

/// What was made of the records so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub records: u64,
    /// Not of the contract.
    pub bad: u64,
    /// After their window had closed.
    pub late: u64,
}

/// A recount in progress.
#[derive(Debug, Clone)]
pub struct Recount {
    rules: Rules,
    partitions: Vec<Partition>,
    /// By window and country.
    countries: BTreeMap<i64, HashMap<Option<String>, Sum>>,
    alerts: Vec<WindowRow>,
    counts: Counts,
}

#[derive(Debug, Clone, Default)]
struct Partition {
    newest_ms: Option<i64>,
    /// Windows that are open, by start; in each, sums by account.
    open: BTreeMap<i64, HashMap<String, Sum>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    txns: u64,
    cents: Option<i128>,
    largest: Option<i128>,
}

impl Sum {
    fn add(&mut self, amount: Option<i128>) {
        self.txns += 1;
        if let Some(amount) = amount {
            self.cents = Some(self.cents.unwrap_or(0) + amount);
            self.largest = self.largest.max(Some(amount));
        }
    }

    fn row(self, group: Option<String>, start_ms: i64, window_ms: i64) -> WindowRow {
        WindowRow {
            group,
            window_start_ms: start_ms,
            window_end_ms: start_ms + window_ms,
            txns: self.txns,
            total_cents: self.cents,
            largest_cents: None,
        }
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, rename = "txn_id")]
    _txn_id: Cow<'a, str>,
    #[serde(borrow)]
    account_id: Cow<'a, str>,
    amount: Option<Value>,
    merchant: Option<Merchant>,
    ts: Value,
}

#[derive(Deserialize)]
struct Merchant {
    country: Option<String>,
}

struct Transaction {
    account: String,
    country: Option<String>,
    amount: Option<i128>,
    time_ms: i64,
}

fn decode(value: &[u8]) -> Option<Transaction> {
    let record: Record<'_> = serde_json::from_slice(value).ok()?;
    let amount = match &record.amount {
        None | Some(Value::Null) => None,
        Some(amount) => Some(cents(amount)?),
    };
    Some(Transaction {
        account: record.account_id.into_owned(),
        country: record.merchant.and_then(|merchant| merchant.country),
        amount,
        time_ms: time_ms(&record.ts)?,
    })
}

impl Recount {
    /// A recount of a topic of `partitions` partitions.
    #[must_use]
    pub fn new(rules: Rules, partitions: u32) -> Self {
        Self {
            rules,
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            countries: BTreeMap::new(),
            alerts: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The next record of `partition`.
    ///
    /// # Panics
    /// When the topic has no such partition.
    pub fn record(&mut self, partition: u32, value: &[u8]) {
        self.counts.records += 1;
        let Some(transaction) = decode(value) else {
            self.counts.bad += 1;
            return;
        };
        let window_ms = self.rules.window_ms;
        let start_ms = transaction.time_ms.div_euclid(window_ms) * window_ms;
        let partition = &mut self.partitions[partition as usize];
        if let Some(newest_ms) = partition.newest_ms
            && start_ms + window_ms <= newest_ms - self.rules.disorder_ms
        {
            self.counts.late += 1;
            return;
        }
        partition.open.entry(start_ms).or_default().entry(transaction.account).or_default().add(transaction.amount);
        self.countries.entry(start_ms).or_default().entry(transaction.country).or_default().add(transaction.amount);

        let newest_ms = partition.newest_ms.map_or(transaction.time_ms, |newest_ms| newest_ms.max(transaction.time_ms));
        partition.newest_ms = Some(newest_ms);
        let rules = self.rules;
        while let Some(window) = partition.open.first_entry()
            && *window.key() + window_ms <= newest_ms - rules.disorder_ms
        {
            let (start_ms, accounts) = window.remove_entry();
            let suspicious = accounts.into_iter().filter(|(_, sum)| {
                sum.txns >= rules.min_txns || sum.cents.is_some_and(|cents| cents > rules.above_cents)
            });
            self.alerts.extend(suspicious.map(|(account, sum)| sum.row(Some(account), start_ms, window_ms)));
        }
    }

    /// What was made of the records so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The rows that `alerts` must hold by now, sorted.
    #[must_use]
    pub fn alerts(&self) -> Vec<WindowRow> {
        let mut alerts = self.alerts.clone();
        alerts.sort_unstable();
        alerts
    }

    /// The rows that `country_totals` must hold by now, sorted.
    #[must_use]
    pub fn country_totals(&self) -> Vec<WindowRow> {
        let newest_everywhere = self.partitions.iter().map(|partition| partition.newest_ms).min().flatten();
        let Some(newest_ms) = newest_everywhere else { return Vec::new() };
        let closed_until = newest_ms - self.rules.disorder_ms - self.rules.window_ms;
        let mut rows = Vec::new();
        for (start_ms, countries) in self.countries.range(..=closed_until) {
            rows.extend(countries.iter().map(|(country, sum)| WindowRow {
                largest_cents: sum.largest,
                ..sum.row(country.clone(), *start_ms, self.rules.window_ms)
            }));
        }
        rows.sort_unstable();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(account: &str, amount: &str, country: &str, time_ms: i64) -> Vec<u8> {
        format!(
            r#"{{"txn_id":"t","account_id":"{account}","amount":{amount},"merchant":{{"id":"m","country":"{country}"}},"ts":{time_ms}}}"#
        )
        .into_bytes()
    }

    fn row(group: &str, start_ms: i64, txns: u64, cents: i128) -> WindowRow {
        WindowRow {
            group: Some(group.to_owned()),
            window_start_ms: start_ms,
            window_end_ms: start_ms + 60_000,
            txns,
            total_cents: Some(cents),
            largest_cents: None,
        }
    }

    fn total(group: &str, start_ms: i64, txns: u64, cents: i128, largest: i128) -> WindowRow {
        WindowRow { largest_cents: Some(largest), ..row(group, start_ms, txns, cents) }
    }

    #[test]
    fn five_transactions_or_more_than_ten_thousand_alert() {
        let mut recount = Recount::new(Rules::default(), 1);
        for at in 0..5 {
            recount.record(0, &transaction("five", "1.10", "DE", at * 1_000));
        }
        for at in 0..4 {
            recount.record(0, &transaction("four", "1.10", "DE", at * 1_000));
        }
        recount.record(0, &transaction("rich", "10000.01", "FR", 0));
        recount.record(0, &transaction("exact", "10000", "FR", 0));
        assert_eq!(recount.alerts(), [], "the window is open");
        recount.record(0, &transaction("later", "1", "DE", 64_999));
        assert_eq!(recount.alerts(), [], "it is open until the disorder has passed");
        recount.record(0, &transaction("later", "1", "DE", 65_000));
        assert_eq!(recount.alerts(), [row("five", 0, 5, 550), row("rich", 0, 1, 1_000_001)]);
        assert_eq!(recount.country_totals(), [total("DE", 0, 9, 990, 110), total("FR", 0, 2, 2_000_001, 1_000_001)]);
    }

    #[test]
    fn lateness_is_judged_by_the_records_before_it_in_its_own_partition() {
        let mut recount = Recount::new(Rules { min_txns: 1, ..Rules::default() }, 2);
        recount.record(0, &transaction("a", "1", "DE", 64_999));
        // 59 999 lies in the first window, which is open: 64 999 − 5 000 < 60 000.
        recount.record(0, &transaction("a", "1", "DE", 59_999));
        recount.record(0, &transaction("a", "1", "DE", 65_000));
        recount.record(0, &transaction("a", "1", "DE", 59_999));
        assert_eq!(recount.counts(), Counts { records: 4, bad: 0, late: 1 });
        // The other partition has not seen 65 000.
        recount.record(1, &transaction("b", "1", "DE", 100));
        assert_eq!(recount.counts().late, 1);
        assert_eq!(recount.alerts(), [row("a", 0, 1, 100)]);
    }

    #[test]
    fn totals_wait_for_every_partition() {
        let mut recount = Recount::new(Rules::default(), 2);
        recount.record(0, &transaction("a", "1", "DE", 10));
        recount.record(0, &transaction("a", "1", "DE", 200_000));
        assert_eq!(recount.country_totals(), [], "partition 1 has said nothing");
        recount.record(1, &transaction("b", "2", "DE", 20));
        assert_eq!(recount.country_totals(), []);
        recount.record(1, &transaction("b", "2", "DE", 65_000));
        assert_eq!(recount.country_totals(), [total("DE", 0, 2, 300, 200)]);
    }

    #[test]
    fn bad_records_count_nowhere_and_move_no_time() {
        let mut recount = Recount::new(Rules { min_txns: 1, ..Rules::default() }, 1);
        recount.record(0, &transaction("a", "1", "DE", 10));
        for bad in [
            b"not json".to_vec(),
            br#"{"txn_id":"t","amount":1,"ts":900000}"#.to_vec(),
            br#"{"account_id":"a","amount":1,"ts":900000}"#.to_vec(),
            br#"{"txn_id":"t","account_id":"a","amount":"much","ts":900000}"#.to_vec(),
            br#"{"txn_id":"t","account_id":"a","amount":1,"ts":"soon"}"#.to_vec(),
            br#"{"txn_id":"t","account_id":7,"amount":1,"ts":900000}"#.to_vec(),
        ] {
            recount.record(0, &bad);
        }
        assert_eq!(recount.counts(), Counts { records: 7, bad: 6, late: 0 });
        assert_eq!(recount.alerts(), []);
    }

    #[test]
    fn nulls_count_and_add_nothing() {
        let mut recount = Recount::new(Rules { min_txns: 2, ..Rules::default() }, 1);
        for _ in 0..2 {
            recount.record(0, br#"{"txn_id":"t","account_id":"a","amount":null,"ts":0}"#);
        }
        recount.record(0, &transaction("z", "1", "DE", 70_000));
        let expected = WindowRow { total_cents: None, ..row("a", 0, 2, 0) };
        assert_eq!(recount.alerts(), std::slice::from_ref(&expected));
        assert_eq!(recount.country_totals(), [WindowRow { group: None, ..expected }]);
    }

    #[test]
    fn windows_before_1970_begin_where_they_should() {
        let mut recount = Recount::new(Rules { min_txns: 1, ..Rules::default() }, 1);
        recount.record(0, &transaction("a", "1", "DE", -1));
        recount.record(0, &transaction("a", "1", "DE", 5_000));
        assert_eq!(recount.alerts(), [row("a", -60_000, 1, 100)]);
    }
}
