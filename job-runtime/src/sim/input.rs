//! The input: payments out of order, late, damaged, spread over partitions by their key.

use std::time::Duration;

use freshet_env::sim::{SIM_EPOCH_MS, SeededRng};
use freshet_plan::key::partition_of;

use super::plans::{DISORDER_MS, WINDOW_MS};

/// A payment as the job should understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payment {
    pub account: String,
    pub merchant: String,
    pub amount: i64,
    pub seq: u64,
    pub time_ms: i64,
}

/// What a record is to the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    Good(Payment),
    /// It breaks the contract, for this reason.
    Bad(&'static str),
}

/// A record to be written.
#[derive(Debug, Clone)]
pub(super) struct InputRecord {
    pub partition: u32,
    pub key: String,
    pub value: String,
    pub meaning: Meaning,
    /// How long after the one before it is written.
    pub after: Duration,
}

/// What kind of input is wanted.
#[derive(Debug, Clone)]
pub(super) struct InputSpec {
    pub partitions: u32,
    pub records: u32,
    /// Per mille of records that are further behind than allowed.
    pub straggler_rate: u32,
    /// Per mille of records that are bad.
    pub bad_rate: u32,
    /// The longest time between two records; zero: everything is there from the beginning.
    pub pace: Duration,
    /// Whether some partitions get next to nothing.
    pub uneven: bool,
}

impl Payment {
    fn json(&self) -> String {
        let Self { account, merchant, amount, seq, time_ms } = self;
        format!(r#"{{"account":"{account}","merchant":"{merchant}","amount":{amount},"seq":{seq},"ts":{time_ms}}}"#)
    }
}

/// At least one account for each partition, so that no partition is without records unless that is wanted.
fn accounts(partitions: u32, rng: &mut SeededRng) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new(); partitions as usize];
    let wanted = rng.between(1, 3) as usize;
    let mut n = 0;
    while found.iter().any(|accounts| accounts.len() < wanted) {
        let account = format!("account-{n}");
        let place = &mut found[partition_of(account.as_bytes(), partitions) as usize];
        if place.len() < wanted {
            place.push(account);
        }
        n += 1;
    }
    found
}

/// The records in the order of their writing.
pub(super) fn draw(spec: &InputSpec, rng: &mut SeededRng) -> Vec<InputRecord> {
    let accounts = accounts(spec.partitions, rng);
    let merchants = rng.between(2, 5);
    let mut clocks = vec![SIM_EPOCH_MS; spec.partitions as usize];
    let step_ms = rng.between(200, 3000);
    let quiet = spec.uneven.then(|| rng.below(u64::from(spec.partitions)) as u32);
    let mut records = Vec::new();
    for seq in 0..u64::from(spec.records) {
        let mut partition = rng.below(u64::from(spec.partitions)) as u32;
        if quiet == Some(partition) && rng.chance(900) {
            partition = (partition + 1) % spec.partitions;
        }
        let clock = &mut clocks[partition as usize];
        *clock += rng.below(step_ms) as i64;
        let behind = if rng.chance(spec.straggler_rate) {
            rng.between(DISORDER_MS as u64, 3 * WINDOW_MS as u64)
        } else {
            rng.below(DISORDER_MS as u64 + 1)
        };
        let account = rng.pick(&accounts[partition as usize]).cloned().unwrap_or_default();
        let payment = Payment {
            account: account.clone(),
            merchant: format!("merchant-{}", rng.below(merchants)),
            amount: rng.between(0, 120) as i64 - 20,
            seq,
            time_ms: *clock - behind as i64,
        };
        let (value, meaning) =
            if rng.chance(spec.bad_rate) { damaged(&payment, rng) } else { (payment.json(), Meaning::Good(payment)) };
        let after = Duration::from_micros(rng.below(spec.pace.as_micros() as u64 + 1));
        records.push(InputRecord { partition, key: account, value, meaning, after });
    }
    records
}

fn damaged(payment: &Payment, rng: &mut SeededRng) -> (String, Meaning) {
    let json = payment.json();
    let (value, reason) = match rng.below(5) {
        0 => (json[..json.len() - 2].to_owned(), "NotJson"),
        1 => (format!("[{json}]"), "NotAnObject"),
        2 => (json.replacen("\"merchant\"", "\"dealer\"", 1), "MissingColumn"),
        3 => (json.replacen("\"amount\":", "\"amount\":null,\"was\":", 1), "NullColumn"),
        _ => (json.replacen("\"seq\":", "\"seq\":\"first\",\"was\":", 1), "WrongType"),
    };
    (value, Meaning::Bad(reason))
}

/// The last record of each partition: its time closes every window before it. `seq` says that it is one.
pub(super) fn closing(partitions: u32) -> Vec<InputRecord> {
    let mut rng = SeededRng::new(1);
    let accounts = accounts(partitions, &mut rng);
    let closing = |partition: u32| {
        let account = accounts[partition as usize][0].clone();
        let payment = Payment {
            account: account.clone(),
            merchant: "merchant-0".to_owned(),
            amount: 1,
            seq: 1_000_000 + u64::from(partition),
            time_ms: SIM_EPOCH_MS + 100 * 86_400_000,
        };
        let value = payment.json();
        InputRecord { partition, key: account, value, meaning: Meaning::Good(payment), after: Duration::ZERO }
    };
    (0..partitions).map(closing).collect()
}
