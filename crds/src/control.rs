//! What workers, the preflight and the operator say to one another: plain JSON, versioned by the path of the
//! control server (`/control/v1/…`).
//!
//! ```text
//! operator ──GET  /control/v1/status──────▶ worker   WorkerStatus
//! operator ──POST /control/v1/assignment──▶ worker   AssignmentRequest ─▶ Assignment
//! preflight Job ──standard output, /dev/termination-log──▶ operator   PreflightReport
//! worker that ends for good ──/dev/termination-log──▶ operator        WorkerEnd
//! ```
//!
//! Every request to the control server carries `Authorization: Bearer <token>`. What is refused is answered with
//! a [`Refusal`] and a status code: 401 without the right token, 409 when the job as it is refuses, 503 when it may
//! heal by itself, 400 and 413 for requests that make no sense.
//!
//! # Asked often
//! The answer to `GET /control/v1/status` carries an entity tag ([`WorkerStatus::tag`]) and the lag ([`LAG_HEADER`]). Asked
//! with that tag in `If-None-Match`, a worker of which nothing but the lag, the epoch and the figures of its tasks has changed
//! answers 304 with both headers and no body. A worker that knows nothing of it answers in full.
//!
//! # Growing
//! A field may be added at any time, and a reader ignores those that it does not know; nothing is renamed, nothing
//! changes its meaning, nothing that is always there goes away. Reasons are those of [`crate::reasons`]; a newer
//! worker may say one that this build does not know, so they travel as text.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::reasons::{self, Reason};

/// Port of a worker's control server, in a pod.
pub const CONTROL_PORT: u16 = 9401;
/// Path of the control server: what a worker is doing.
pub const STATUS_PATH: &str = "/control/v1/status";
/// Path of the control server: hand out the next generation.
pub const ASSIGNMENT_PATH: &str = "/control/v1/assignment";
/// Header of every answer to [`STATUS_PATH`]: [`WorkerStatus::lag_ms`], in decimal.
pub const LAG_HEADER: &str = "freshet-lag-ms";
/// The most bytes that Kubernetes keeps of a container's termination message.
pub const TERMINATION_MESSAGE_BYTES: usize = 4096;
/// Exit code of a preflight or a worker that refuses: a person must change something.
pub const EXIT_REFUSED: u8 = 2;
/// Exit code of a preflight or a worker that failed in a way that may heal by itself.
pub const EXIT_FAILED: u8 = 1;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WorkerPhase {
    /// It opens the lineage, and has not looked for its tasks yet.
    Starting,
    /// There is no generation yet, or none that has tasks for this slot: it waits for one. It is ready.
    StandingBy,
    /// It goes through the steps of a take-over; nothing is read yet.
    TakingOver,
    /// It loads state.
    Restoring,
    /// It reads, processes and commits.
    Running,
    /// It was asked to stop, and commits a last epoch.
    Stopping,
    /// An attempt failed; it waits before the next. `problem` says why.
    BackingOff,
    /// It ends for good. `problem` says why.
    Failed,
    /// A phase of a newer worker.
    #[serde(other)]
    Unknown,
}

/// What is wrong, in words that a condition can carry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A reason of [`crate::reasons`].
    pub reason: String,
    /// What is, what was wanted, and what to do.
    pub message: String,
    /// Since when it is so without a break, ms since the Unix epoch.
    pub since_ms: i64,
}

/// How a worker is doing: the answer to `GET /control/v1/status`, and `/status` of the open server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// The StreamJob's name.
    pub job: String,
    /// The worker's slot, from 0.
    pub slot: u32,
    /// Version of the runtime.
    pub runtime_version: String,
    /// The lineage; absent before it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<String>,
    /// What it is doing.
    pub phase: WorkerPhase,
    /// Since when, ms since the Unix epoch.
    pub phase_since_ms: i64,
    /// The generation whose tasks it holds; absent before it held any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How many slots that generation has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The fingerprint of that generation's plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_fingerprint: Option<String>,
    /// The fingerprint of that generation's plan and of how it is run (errors, epochs): it changes with either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether it may be called ready: it holds its tasks, or stands by for some.
    pub ready: bool,
    /// Whether it gets anywhere: what waits is committed in good time. False while it takes over.
    pub progressing: bool,
    /// The last epoch that committed in this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// When it committed, ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit_ms: Option<i64>,
    /// Records of its inputs that wait: not read yet, or processed and not committed.
    pub lag_records: u64,
    /// Age of the oldest record that is read next, ms; 0 at the end of all inputs.
    pub lag_ms: u64,
    /// What the last take-over brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// What is wrong now; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Inputs that somebody else's open transaction blocks: `topic[partition]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_inputs: Vec<String>,
    /// The tasks that it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<WorkerTask>,
}

/// What a take-over brought back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// How many tasks were taken over.
    pub tasks: u32,
    /// Bytes of state that were read.
    pub state_bytes: u64,
    /// From the first look at the generation log until the first record could be processed, ms.
    pub took_ms: u64,
    /// When it was done, ms since the Unix epoch.
    pub at_ms: i64,
}

/// One task of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerTask {
    /// The stage's id in the plan.
    pub stage: String,
    /// The partition of its input.
    pub partition: u32,
    /// The next offset to read.
    pub position: i64,
    /// Offsets between the position and the end of the input.
    pub lag_records: u64,
    /// The watermark, ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<i64>,
    /// Keys in its state.
    pub state_keys: u64,
}

/// The body of `POST /control/v1/assignment`: spread the job's tasks, as they are, over so many slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssignmentRequest {
    /// How many slots, from 1.
    pub slots: u32,
}

/// Its answer: the generation that is now the latest. Asked again, it is the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Its number.
    pub generation: u64,
    /// How many slots it has.
    pub slots: u32,
}

/// Why the control server did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// A reason of [`crate::reasons`], or `Unauthorised`, `BadRequest`.
    pub reason: String,
    /// What is, what was wanted, and what to do.
    pub message: String,
}

/// The outcome of `freshet preflight`: what was found, and which generation is the latest now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightReport {
    /// Whether the job can run as its manifests say; nothing was handed out when it can't.
    pub ok: bool,
    /// `PreflightPassed`, or the reason why not: one of [`crate::reasons`].
    pub reason: String,
    /// What is, what was wanted, and what to do.
    pub message: String,
    /// The lineage, once it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<String>,
    /// When the lineage was born, ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage_born_ms: Option<i64>,
    /// The latest generation, if there is one: handed out by this preflight when `changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How many slots that generation has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The fingerprint of the manifests' plan, once it was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_fingerprint: Option<String>,
    /// The fingerprint of the manifests' plan and of how it is to be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Version of the runtime that ran the preflight.
    pub runtime_version: String,
    /// Whether this preflight handed out a generation (with `--check-only`: whether it would have).
    pub changed: bool,
    /// How many stages the plan has.
    #[serde(default)]
    pub stages: u32,
    /// How many tasks the plan has on the inputs' partitions.
    #[serde(default)]
    pub tasks: u32,
    /// The internal topics of the plan, by their names in Kafka.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub internal_topics: Vec<String>,
}

/// What a worker writes when it ends for good (exit code 2): it would fail again, until a person changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerEnd {
    /// A reason of [`crate::reasons`].
    pub reason: String,
    /// What is, what was wanted, and what to do.
    pub message: String,
}

impl WorkerStatus {
    /// A weak entity tag, as HTTP writes it: it changes with everything that is acted on, and not with what moves while
    /// all is well: lag, epochs and the figures of tasks.
    #[must_use]
    pub fn tag(&self) -> String {
        // All are named, so that whoever adds a field decides whether it belongs to the tag.
        let Self {
            job,
            slot,
            runtime_version,
            lineage,
            phase,
            phase_since_ms,
            generation,
            slots,
            plan_fingerprint,
            revision,
            ready,
            progressing,
            restored,
            problem,
            blocked_inputs,
            epoch: _,
            last_commit_ms: _,
            lag_records: _,
            lag_ms: _,
            tasks: _,
        } = self;
        let mut hasher = DefaultHasher::new();
        (job, slot, runtime_version, lineage, phase, phase_since_ms).hash(&mut hasher);
        (generation, slots, plan_fingerprint, revision).hash(&mut hasher);
        (ready, progressing, restored, problem, blocked_inputs).hash(&mut hasher);
        format!("W/\"{:016x}\"", hasher.finish())
    }
}

impl Problem {
    /// Its reason with meaning and remedy, if this build knows it.
    #[must_use]
    pub fn known(&self) -> Option<&'static Reason> {
        reasons::find(&self.reason)
    }
}

impl PreflightReport {
    /// As one line of JSON of at most [`TERMINATION_MESSAGE_BYTES`]: the list of internal topics goes first when it
    /// is too long, then the end of the message.
    #[must_use]
    pub fn termination_message(&self) -> String {
        let mut report = self.clone();
        if json(&report).len() > TERMINATION_MESSAGE_BYTES {
            report.internal_topics.clear();
        }
        shortened(&mut report, |report| &mut report.message)
    }
}

impl WorkerEnd {
    /// As one line of JSON of at most [`TERMINATION_MESSAGE_BYTES`]: a message that is too long loses its end.
    #[must_use]
    pub fn termination_message(&self) -> String {
        shortened(&mut self.clone(), |end| &mut end.message)
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with string keys serialises")
}

/// The JSON of `value`, whose message loses as much of its end as must be for all to fit.
fn shortened<T: Serialize>(value: &mut T, message: impl Fn(&mut T) -> &mut String) -> String {
    let whole = message(value).clone();
    let mut cut_to = |bytes: usize| {
        let end = whole.floor_char_boundary(bytes);
        *message(value) = if end == whole.len() { whole.clone() } else { format!("{}…", &whole[..end]) };
        json(value)
    };
    // Escapes make a text longer in JSON than it is, so the length is searched for: `fits` does, `too_long` does not.
    let (mut fits, mut too_long) = (0, whole.len() + 1);
    while fits + 1 < too_long {
        let middle = fits.midpoint(too_long);
        if cut_to(middle).len() <= TERMINATION_MESSAGE_BYTES {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    cut_to(fits)
}
