//! Groupings without a window, deduplication and top-N: their plans, and what a reader of their topic must be left with.
//!
//! Which of a group's rows come out depends on where epochs are cut, so only the last one of each key is compared. But
//! whatever comes out must count more records than what came before it: a group that goes back, or stands still, was
//! counted twice or forgotten.

use std::collections::BTreeMap;

use freshet_log::model::StoredRecord;
use freshet_plan::{
    BinaryOp, Changes, Column, DataType, Emits, Expr, GroupAggregate, Literal, OrderBy, Output, Rank, Step, TopicSink,
};
use serde_json::{Value, json};

use super::input::Payment;
use super::oracle::Verdict;
use super::plans::{ACCOUNT, AMOUNT, Frame, Grouping, MERCHANT, SEQ, TIME, TOTALS, columns, figures, operator, sink};

/// Groups whose least amount falls below it fall out of the result.
const LEAST: i64 = -10;

/// The grouping of `frame`, which has no window: by `group`, and for distinct rows by `other` too.
pub(super) fn grouping(group: usize, other: usize, frame: Frame) -> GroupAggregate {
    let is_distinct = frame == Frame::Distinct;
    let group_by = if is_distinct { vec![group, other] } else { vec![group] };
    GroupAggregate {
        id: operator(group),
        group_columns: group_by.iter().map(|at| columns()[*at].clone()).collect(),
        group: group_by,
        aggregates: if is_distinct { Vec::new() } else { figures(other) },
        emits: if is_distinct { Emits::First } else { Emits::Changes },
        state_ttl_ms: None,
        state_version: 1,
    }
}

/// What is behind it: `HAVING least >= LEAST`, where there is a least amount.
pub(super) fn behind(frame: Frame) -> Vec<Step> {
    let least = Expr::column(3, "least");
    let bound = Expr::Literal { value: Literal::Int(LEAST), data_type: DataType::BigInt };
    let predicate = Expr::Binary { op: BinaryOp::GtEq, left: Box::new(least), right: Box::new(bound) };
    if frame == Frame::Distinct { Vec::new() } else { vec![Step::Filter { predicate }] }
}

/// Where its rows go.
pub(super) fn output(frame: Frame, columns: Vec<Column>) -> Output {
    match sink(TOTALS, columns) {
        Output::Topic(topic) if frame == Frame::Forever => {
            Output::Topic(TopicSink { changes: Changes::Upsert, ..topic })
        }
        Output::Topic(topic) if frame == Frame::Top => {
            Output::Topic(TopicSink { changes: Changes::Upsert, key: vec![0, 3], ..topic })
        }
        other => other,
    }
}

/// How many payments of a group are kept.
pub(super) const RANKS: usize = 2;

/// Of each group, the payments of the greatest amounts, or the first one.
pub(super) fn ranking(group: usize, frame: Frame) -> Rank {
    let kept = vec![group, SEQ, AMOUNT];
    let is_first = frame == Frame::First;
    let by = if is_first { TIME } else { AMOUNT };
    Rank {
        id: operator(group),
        partition: vec![group],
        partition_columns: vec![columns()[group].clone()],
        order: vec![OrderBy {
            column: by,
            name: columns()[by].name.clone(),
            data_type: columns()[by].data_type.clone(),
            descending: !is_first,
            nulls_first: is_first,
        }],
        limit: if is_first { 1 } else { RANKS as u64 },
        kept_columns: kept.iter().map(|at| columns()[*at].clone()).collect(),
        kept,
        numbered: !is_first,
        emits: if is_first { Emits::First } else { Emits::Latest },
        state_ttl_ms: None,
        state_version: 1,
    }
}

/// The row of a payment that is kept, under its number where there are some.
pub(super) fn kept_row(grouping: Grouping, payment: &Payment, number: Option<usize>) -> String {
    let (name, group) = match grouping {
        Grouping::Account => ("account", &payment.account),
        Grouping::Merchant => ("merchant", &payment.merchant),
    };
    let mut row = json!({ name: group, "seq": payment.seq, "amount": payment.amount });
    if let Some(number) = number {
        row["row_number"] = json!(number);
    }
    row.to_string()
}

/// The row of a payment, where each comes once.
pub(super) fn distinct_row(grouping: Grouping, payment: &Payment) -> String {
    let names = [columns()[ACCOUNT].name.clone(), columns()[MERCHANT].name.clone()];
    let values = [&payment.account, &payment.merchant];
    let order = if grouping == Grouping::Account { [0, 1] } else { [1, 0] };
    let row: serde_json::Map<String, Value> =
        order.map(|at| (names[at].clone(), json!(values[at]))).into_iter().collect();
    Value::Object(row).to_string()
}

/// What must be left of a topic of upserts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// For each key that the last life of the statement has counted: how many records, and its row, if it has one.
    rows: BTreeMap<String, (i64, Option<String>)>,
    /// Whether the statement had a life before: what that has left may be there too.
    had_a_life_before: bool,
}

impl Left {
    pub fn new(had_a_life_before: bool) -> Self {
        Self { rows: BTreeMap::new(), had_a_life_before }
    }

    /// The record of `key` must have this row.
    pub fn insert_row(&mut self, key: String, row: String) {
        self.rows.insert(key, (i64::MAX, Some(row)));
    }

    /// The group of `key` has counted `n` records; its row and its least amount are these.
    pub fn insert(&mut self, key: String, n: i64, row: String, least: Option<i64>) {
        let row = least.is_some_and(|least| least >= LEAST).then_some(row);
        self.rows.insert(key, (n, row));
    }

    /// Compares it with the records of the topic.
    pub fn compare(&self, records: &[StoredRecord]) -> Verdict {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut counted: BTreeMap<String, i64> = BTreeMap::new();
        for record in records {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            let Some(value) = &record.value else {
                found.remove(&key);
                continue;
            };
            let row: Value = match serde_json::from_slice(value) {
                Ok(row) => row,
                Err(error) => return Verdict::Wrong(format!("{TOTALS}: a row is no JSON: {error}")),
            };
            // Rows of a ranking count nothing.
            let counts = row.get("n").is_some();
            let n = row["n"].as_i64().unwrap_or(-1);
            let before = counted.insert(key.clone(), n).unwrap_or(0);
            if counts && n <= before && !self.had_a_life_before {
                return Verdict::Wrong(format!("{TOTALS}: the group {key} has counted {n} after {before}"));
            }
            if counts && self.rows.get(&key).is_none_or(|(most, _)| n > *most) && !self.had_a_life_before {
                return Verdict::Wrong(format!("{TOTALS}: {row} counts records that nobody wrote"));
            }
            found.insert(key, row.to_string());
        }
        let mut missing = Vec::new();
        for (key, (n, wanted)) in &self.rows {
            let found = found.get(key);
            if found == wanted.as_ref() || (wanted.is_none() && self.had_a_life_before) {
                continue;
            }
            if counted.get(key) == Some(n) && found.is_some() && wanted.is_some() {
                return Verdict::Wrong(format!("{TOTALS}: {found:?} is not what the recount gives: {wanted:?}"));
            }
            missing.push(format!("{wanted:?} of {key}, which has {found:?}"));
        }
        match missing.first() {
            None => Verdict::Complete,
            Some(first) => Verdict::Missing(format!("{} rows of {TOTALS}, for instance {first}", missing.len())),
        }
    }
}
