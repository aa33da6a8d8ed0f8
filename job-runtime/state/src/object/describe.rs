//! What an object holds, for people: `freshet state URL`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use super::{ObjectError, Part, StoredSection, decode};
use crate::paths::ObjectKind;

/// How many keys of an operator are shown.
const SAMPLE_KEYS: usize = 5;
/// How many bytes of a key are shown.
const SAMPLE_BYTES: usize = 48;

/// A state object in words and figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDescription {
    /// `delta` or `merged`.
    pub kind: &'static str,
    /// Its name, relative to the lineage.
    pub name: String,
    /// The lineage.
    pub lineage: String,
    /// The generation in which it was written.
    pub generation: u64,
    /// The slot that wrote it.
    pub slot: u32,
    /// The epoch that it is for; of a merged object, the last that may name it first.
    pub epoch: u64,
    /// The plan whose operators wrote the rows.
    pub plan_fingerprint: String,
    /// The runtime that wrote it.
    pub runtime_version: String,
    /// Its length.
    pub bytes: u64,
    /// What it holds of each task.
    pub tasks: Vec<TaskDescription>,
}

/// One task in an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDescription {
    /// `<stage>/<partition>`.
    pub task: String,
    /// The manifest's base.
    pub base: Option<PartDescription>,
    /// The manifest's deltas, oldest first.
    pub deltas: Vec<PartDescription>,
    /// Rows in this object, by operator.
    pub operators: BTreeMap<String, OperatorDescription>,
    /// Bytes of the rows in this object.
    pub row_bytes: u64,
    /// What is wrong with the rows, if anything is.
    pub damage: Option<String>,
}

/// One part of a task's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartDescription {
    /// The object, relative to the lineage.
    pub object: String,
    /// Bytes of the task's rows in it.
    pub bytes: u64,
}

/// One operator's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorDescription {
    /// Rows that set a key.
    pub rows: u64,
    /// Rows that delete a key.
    pub tombstones: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The first few keys, as text where they are text, else in hexadecimal.
    pub first_keys: Vec<String>,
}

/// What is in `bytes`.
///
/// # Errors
/// [`ObjectError`] when they are no whole state object.
pub fn describe(bytes: &Bytes) -> Result<ObjectDescription, ObjectError> {
    let object = decode(bytes)?;
    let header = object.header;
    Ok(ObjectDescription {
        kind: match header.name.kind {
            ObjectKind::Delta => "delta",
            ObjectKind::Merged => "merged",
        },
        name: header.name.to_string(),
        lineage: header.lineage,
        generation: header.name.generation,
        slot: header.name.slot,
        epoch: header.name.epoch,
        plan_fingerprint: header.plan_fingerprint,
        runtime_version: header.runtime_version,
        bytes: object.bytes,
        tasks: object.sections.iter().map(describe_task).collect(),
    })
}

impl fmt::Display for ObjectDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} ({} bytes)", self.kind, self.name, self.bytes)?;
        let Self { lineage, generation, slot, epoch, plan_fingerprint, runtime_version, .. } = self;
        let epoch_of = if self.kind == "merged" { "may be named until epoch" } else { "epoch" };
        writeln!(f, "  lineage {lineage}, generation {generation}, slot {slot}, {epoch_of} {epoch}")?;
        writeln!(f, "  plan {plan_fingerprint}, runtime {runtime_version}, {} tasks", self.tasks.len())?;
        self.tasks.iter().try_for_each(|task| write!(f, "\n{task}"))
    }
}

impl fmt::Display for TaskDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole: u64 = self.base.iter().chain(&self.deltas).map(|part| part.bytes).sum();
        writeln!(f, "task {}: {whole} bytes of state, {} of them here", self.task, self.row_bytes)?;
        if let Some(base) = &self.base {
            writeln!(f, "  base   {} {:>10} bytes", base.object, base.bytes)?;
        }
        for delta in &self.deltas {
            writeln!(f, "  delta  {} {:>10} bytes", delta.object, delta.bytes)?;
        }
        for (id, operator) in &self.operators {
            let OperatorDescription { rows, tombstones, bytes, first_keys } = operator;
            let more = if rows + tombstones > first_keys.len() as u64 { ", …" } else { "" };
            writeln!(f, "  here   {id}: {rows} rows, {tombstones} tombstones, {bytes} bytes")?;
            writeln!(f, "         keys {}{more}", first_keys.join(", "))?;
        }
        self.damage.iter().try_for_each(|damage| writeln!(f, "  DAMAGED: {damage}"))
    }
}

fn describe_task(section: &StoredSection) -> TaskDescription {
    let part = |part: &Part| PartDescription { object: part.object.clone(), bytes: part.bytes };
    let mut operators: BTreeMap<String, OperatorDescription> = BTreeMap::new();
    let mut damage = None;
    for row in section {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                damage = Some(error.to_string());
                break;
            }
        };
        let operator = operators.entry(row.operator.to_owned()).or_default();
        match row.value {
            Some(_) => operator.rows += 1,
            None => operator.tombstones += 1,
        }
        operator.bytes += (row.key.len() + row.value.map_or(0, <[u8]>::len)) as u64;
        if operator.first_keys.len() < SAMPLE_KEYS {
            operator.first_keys.push(readable(row.key));
        }
    }
    TaskDescription {
        task: section.task.to_string(),
        base: section.manifest.base.as_ref().map(part),
        deltas: section.manifest.deltas.iter().map(part).collect(),
        operators,
        row_bytes: section.rows.len() as u64,
        damage,
    }
}

fn readable(key: &[u8]) -> String {
    let (shown, more) = if key.len() > SAMPLE_BYTES { (&key[..SAMPLE_BYTES], "…") } else { (key, "") };
    match std::str::from_utf8(shown) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}{more}"),
        _ => {
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}{more}")
        }
    }
}
