//! Every metric of the runtime: names, labels and meanings in one table.
//!
//! The table below makes the fields of [`Metrics`], their registration and the page `docs/metrics.md`,
//! so the three can't differ. Names follow Prometheus' conventions: base units (`_seconds`, `_bytes`),
//! `_total` for counters, no figure that a query can compute (a rate, a share, an average).
//!
//! Each metric carries `streamjob` and `slot` as constant labels. A task is named by `stage` and `partition`;
//! its series go when it moves to another slot ([`Metrics::retain_tasks`]), so that no two slots ever
//! show the same task for long. Values of `reason`, `step` and `cause` are constants of the code, never
//! text of an error, so the number of series is bounded by the plan.

use std::time::Duration;

use freshet_engine::TaskStats;
use freshet_state::TaskId;
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

/// One row of the table of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricInfo {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels beside `streamjob` and `slot`.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

/// Latencies from half an epoch of the fastest job to a job that is badly behind, seconds.
const LATENCY: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.45, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Steps of an epoch, from a buffer that is handed over to an upload that is stuck, seconds.
const EPOCH: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// A take-over, seconds.
const TAKEOVER: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Label values, so that a typing error can't make a series of its own.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl $name {
            /// The label's value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => stringify!($value),)* }
            }
        }
    };
}

label_values! {
    /// Steps of an epoch.
    EpochStep {
        /// Dirty state is taken from the tasks and encoded.
        Snapshot,
        /// The state object is written to the store.
        Upload,
        /// Every record of the transaction is acknowledged.
        Acknowledge,
        /// Offsets are added to the transaction.
        Offsets,
        /// The transaction commits.
        Commit,
        /// From the snapshot to the commit.
        Total,
    }
}

label_values! {
    /// Why an epoch did not commit.
    EpochFailure {
        /// The store failed.
        Store,
        /// The log failed, and the transaction was aborted.
        Log,
        /// A newer producer holds the transactional id.
        Fenced,
        /// The outcome of the commit is unknown.
        Indefinite,
    }
}

label_values! {
    /// Why a slot took over.
    TakeOver {
        /// It began.
        Start,
        /// A new generation moved tasks.
        Generation,
        /// It took over from itself after a failure.
        Recovery,
    }
}

label_values! {
    /// What reading waited for.
    Blocked {
        /// Room in the producer's queue.
        Sink,
        /// The commit of the epoch before.
        Epoch,
    }
}

label_values! {
    /// Kinds of state objects.
    ObjectKind {
        /// What an epoch changed.
        Delta,
        /// All of a task's state.
        Base,
    }
}

macro_rules! kind {
    (counter) => {
        IntCounterVec
    };
    (seconds) => {
        CounterVec
    };
    (gauge) => {
        IntGaugeVec
    };
    (real) => {
        GaugeVec
    };
    (histogram) => {
        HistogramVec
    };
}

macro_rules! kind_name {
    (counter) => {
        "counter"
    };
    (seconds) => {
        "counter"
    };
    (gauge) => {
        "gauge"
    };
    (real) => {
        "gauge"
    };
    (histogram) => {
        "histogram"
    };
}

macro_rules! make {
    (histogram $buckets:ident, $opts:expr, $labels:expr) => {
        HistogramVec::new(HistogramOpts::from($opts).buckets($buckets.to_vec()), $labels)
    };
    ($kind:ident, $opts:expr, $labels:expr) => {
        <kind!($kind)>::new($opts, $labels)
    };
}

macro_rules! metrics {
    ($($field:ident: $kind:ident $($buckets:ident)? $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// The metrics of one process, and the registry that shows them. Cloning shares them.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: kind!($kind),)*
        }

        /// The table of metrics, in the order of `docs/metrics.md`.
        pub const METRICS: &[MetricInfo] = &[
            $(MetricInfo { name: $name, kind: kind_name!($kind), labels: &[$($label),*], help: $help },)*
        ];

        impl Metrics {
            /// Metrics of the slot `slot` of job `job`, all at zero.
            ///
            /// # Panics
            /// Never: the table's names are valid and differ, which a test shows.
            #[must_use]
            pub fn new(job: &str, slot: &str) -> Self {
                let constant = [("streamjob".to_owned(), job.to_owned()), ("slot".to_owned(), slot.to_owned())];
                let registry = Registry::new_custom(None, Some(constant.into_iter().collect()))
                    .expect("no prefix, and valid label names");
                $(
                    let $field = make!($kind $($buckets)?, Opts::new($name, $help), &[$($label),*])
                        .expect("the table's names and labels are valid");
                    registry.register(Box::new($field.clone())).expect("the table's names differ");
                )*
                let metrics = Self { registry, $($field,)* };
                // A metric without labels shows its zero; the others can't know their series yet.
                $(if <[&str]>::is_empty(&[$($label),*]) {
                    let _ = metrics.$field.with_label_values(NO_LABELS);
                })*
                metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                metrics
            }

            /// Removes the series of the task with these label values.
            fn remove_task_series(&self, wanted: impl Fn(&str, &str) -> bool) {
                $(remove_series(&self.$field, &[$($label),*], &wanted, |labels| {
                    // A series that is gone already is what was wanted.
                    let _ = self.$field.remove_label_values(labels);
                });)*
            }
        }
    };
}

metrics! {
    records_in: counter "freshet_records_in_total" ["stage", "partition"]
        "Records read.";
    bytes_in: counter "freshet_bytes_in_total" ["stage", "partition"]
        "Bytes of the keys and values of records read.";
    records_out: counter "freshet_records_out_total" ["stage", "partition"]
        "Records written, to topics, repartition topics and dead letters.";
    bytes_out: counter "freshet_bytes_out_total" ["stage", "partition"]
        "Bytes of the keys and values of records written.";
    lag_records: gauge "freshet_lag_records" ["stage", "partition"]
        "Offsets between the task's position and the end of its input. Transaction markers and holes of compaction are among them.";
    lag_seconds: real "freshet_lag_seconds" ["stage", "partition"]
        "Age of the last record read while more are waiting, by its timestamp; 0 at the end of the input.";
    watermark_timestamp_seconds: real "freshet_watermark_timestamp_seconds" ["stage", "partition"]
        "The task's watermark: every record up to this event time has been seen. Unix time.";
    watermark_delay_seconds: real "freshet_watermark_delay_seconds" ["stage", "partition"]
        "Clock minus watermark.";
    late_records: counter "freshet_late_records_total" ["stage", "partition"]
        "Records that came after their window had closed.";
    undecodable_records: counter "freshet_undecodable_records_total" ["stage", "partition", "reason"]
        "Records that could not be decoded or broke their contract.";
    dropped_records: counter "freshet_dropped_records_total" ["stage", "partition", "reason"]
        "Records neither processed nor sent to a dead-letter topic: reason `Late` or `Undecodable`.";
    expired_keys: counter "freshet_state_expired_keys_total" ["stage", "partition"]
        "Keys whose state has expired by `stateTtl`.";
    state_bytes: gauge "freshet_state_bytes" ["stage", "partition"]
        "Bytes that the task's state takes in memory, about.";
    state_keys: gauge "freshet_state_keys" ["stage", "partition"]
        "Keys in the task's state.";
    busy_seconds: seconds "freshet_busy_seconds_total" ["stage", "partition"]
        "Time spent processing records. Its rate is the task's busy share of a core.";
    backpressure_seconds: seconds "freshet_backpressure_seconds_total" ["cause"]
        "Time in which reading stood still: cause `Sink` (the producer's queue was full) or `Epoch` (the epoch before had not committed).";
    end_to_end_latency_seconds: histogram LATENCY "freshet_end_to_end_latency_seconds" ["stage"]
        "From a record's timestamp to the commit of the epoch that processed it, for the newest and oldest record of each batch.";
    epoch_duration_seconds: histogram EPOCH "freshet_epoch_duration_seconds" ["step"]
        "Duration of an epoch's steps: `Snapshot`, `Upload`, `Acknowledge`, `Offsets`, `Commit`, and `Total`, from the snapshot to the commit.";
    epochs_committed: counter "freshet_epochs_committed_total" []
        "Epochs that committed.";
    epochs_failed: counter "freshet_epochs_failed_total" ["reason"]
        "Epochs that did not commit: reason `Store`, `Log`, `Fenced` or `Indefinite`.";
    epoch: gauge "freshet_epoch" []
        "Number of the last epoch that committed.";
    last_commit_timestamp_seconds: real "freshet_last_commit_timestamp_seconds" []
        "When the last epoch committed. Unix time; 0 before the first.";
    generation: gauge "freshet_generation" []
        "Generation of the assignment that this slot runs.";
    tasks: gauge "freshet_tasks" []
        "Tasks that this slot runs.";
    takeovers: counter "freshet_takeovers_total" ["reason"]
        "Take-overs: reason `Start`, `Generation` (tasks moved) or `Recovery` (the slot took over from itself).";
    takeover_duration_seconds: histogram TAKEOVER "freshet_takeover_duration_seconds" []
        "From the first look at the generation log until the first record is processed.";
    objects_written: counter "freshet_state_objects_written_total" ["kind"]
        "State objects written: kind `Delta` or `Base`.";
    object_bytes_written: counter "freshet_state_object_bytes_written_total" ["kind"]
        "Bytes of state objects written: kind `Delta` or `Base`.";
    objects_collected: counter "freshet_state_objects_collected_total" []
        "State objects deleted because nothing can reach them any more.";
    records_in_flight: gauge "freshet_records_in_flight" []
        "Records handed to the producer and not yet acknowledged.";
    build_info: gauge "freshet_build_info" ["version"]
        "1, with the version of the runtime.";
}

fn remove_series(
    metric: &impl Collector,
    labels: &[&str],
    wanted: &impl Fn(&str, &str) -> bool,
    remove: impl Fn(&[&str]),
) {
    if labels.first() != Some(&"stage") || labels.get(1) != Some(&"partition") {
        return;
    }
    for family in metric.collect() {
        for series in family.get_metric() {
            let value_of =
                |name: &str| series.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value());
            let values: Vec<&str> = labels.iter().map(|name| value_of(name)).collect();
            if wanted(values[0], values[1]) {
                remove(&values);
            }
        }
    }
}

impl Metrics {
    /// The handle by which one task's figures are set. Making it twice gives the same series.
    #[must_use]
    pub fn task(&self, task: &TaskId) -> TaskMetrics {
        TaskMetrics {
            metrics: self.clone(),
            stage: task.stage.clone(),
            partition: task.partition.to_string(),
            seen: TaskStats::default(),
        }
    }

    /// Removes the series of every task but these.
    pub fn retain_tasks(&self, tasks: &[TaskId]) {
        self.remove_task_series(|stage, partition| {
            !tasks.iter().any(|task| task.stage == stage && task.partition.to_string() == partition)
        });
    }

    /// A committed epoch: its number, when it committed (ms since the Unix epoch), and how long it took in all.
    pub fn epoch_committed(&self, epoch: u64, now_ms: i64, total: Duration) {
        self.epochs_committed.with_label_values(NO_LABELS).inc();
        self.epoch.with_label_values(NO_LABELS).set(i64::try_from(epoch).unwrap_or(i64::MAX));
        self.last_commit_timestamp_seconds.with_label_values(NO_LABELS).set(seconds(now_ms));
        self.epoch_step(EpochStep::Total, total);
    }

    /// How long a step of an epoch took.
    pub fn epoch_step(&self, step: EpochStep, took: Duration) {
        self.epoch_duration_seconds.with_label_values(&[step.as_str()]).observe(took.as_secs_f64());
    }

    /// An epoch that did not commit.
    pub fn epoch_failed(&self, reason: EpochFailure) {
        self.epochs_failed.with_label_values(&[reason.as_str()]).inc();
    }

    /// A finished take-over: the generation and how many tasks are run from now on, and how long it took.
    pub fn took_over(&self, reason: TakeOver, generation: u64, tasks: usize, took: Duration) {
        self.takeovers.with_label_values(&[reason.as_str()]).inc();
        self.takeover_duration_seconds.with_label_values(NO_LABELS).observe(took.as_secs_f64());
        self.generation.with_label_values(NO_LABELS).set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.tasks.with_label_values(NO_LABELS).set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// Time in which reading stood still.
    pub fn blocked(&self, cause: Blocked, waited: Duration) {
        self.backpressure_seconds.with_label_values(&[cause.as_str()]).inc_by(waited.as_secs_f64());
    }

    /// A state object that was written.
    pub fn object_written(&self, kind: ObjectKind, bytes: u64) {
        self.objects_written.with_label_values(&[kind.as_str()]).inc();
        self.object_bytes_written.with_label_values(&[kind.as_str()]).inc_by(bytes);
    }

    /// From a record's timestamp to the commit that made its results visible.
    pub fn latency(&self, stage: &str, latency: Duration) {
        self.end_to_end_latency_seconds.with_label_values(&[stage]).observe(latency.as_secs_f64());
    }

    /// Records handed to the producer and not yet acknowledged.
    pub fn in_flight(&self, records: usize) {
        self.records_in_flight.with_label_values(NO_LABELS).set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only for a family without a name or type, which registration refuses.
        let _ = prometheus::TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

const NO_LABELS: &[&str] = &[];

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// The figures of one task.
#[derive(Debug)]
pub struct TaskMetrics {
    metrics: Metrics,
    stage: String,
    partition: String,
    seen: TaskStats,
}

impl TaskMetrics {
    /// Adds what `stats` counts beyond the last call's, and sets the sizes of the state. Stats that begin
    /// anew (the task was rebuilt) are counted from zero. `drops_late` and `drops_bad` say whether the job
    /// drops such records.
    pub fn stats(&mut self, stats: &TaskStats, drops_late: bool, drops_bad: bool) {
        if stats.records_in < self.seen.records_in {
            self.seen = TaskStats::default();
        }
        let (metrics, seen) = (&self.metrics, &self.seen);
        let task = [self.stage.as_str(), self.partition.as_str()];
        let add = |counter: &IntCounterVec, now: u64, before: u64| {
            counter.with_label_values(&task).inc_by(now.saturating_sub(before));
        };
        add(&metrics.records_in, stats.records_in, seen.records_in);
        add(&metrics.bytes_in, stats.bytes_in, seen.bytes_in);
        add(&metrics.records_out, stats.records_out, seen.records_out);
        add(&metrics.bytes_out, stats.bytes_out, seen.bytes_out);
        add(&metrics.late_records, stats.late, seen.late);
        add(&metrics.expired_keys, stats.expired, seen.expired);
        let dropped = |reason: &str, count: u64| {
            metrics.dropped_records.with_label_values(&[task[0], task[1], reason]).inc_by(count);
        };
        if drops_late {
            dropped("Late", stats.late.saturating_sub(seen.late));
        }
        for (reason, count) in &stats.bad {
            let new = count.saturating_sub(seen.bad.get(reason).copied().unwrap_or(0));
            metrics.undecodable_records.with_label_values(&[task[0], task[1], reason]).inc_by(new);
            if drops_bad {
                dropped("Undecodable", new);
            }
        }
        let set = |gauge: &IntGaugeVec, value: u64| {
            gauge.with_label_values(&task).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&metrics.state_keys, stats.state_keys);
        set(&metrics.state_bytes, stats.state_bytes);
        self.seen = stats.clone();
    }

    /// How far the task is behind: offsets, and seconds by the timestamp of the last record read.
    pub fn lag(&self, records: u64, behind: Duration) {
        let task = [self.stage.as_str(), self.partition.as_str()];
        self.metrics.lag_records.with_label_values(&task).set(i64::try_from(records).unwrap_or(i64::MAX));
        self.metrics.lag_seconds.with_label_values(&task).set(behind.as_secs_f64());
    }

    /// The task's watermark and the clock, both ms since the Unix epoch. Nothing is shown before there is one.
    pub fn watermark(&self, watermark_ms: Option<i64>, now_ms: i64) {
        let Some(watermark_ms) = watermark_ms else { return };
        let task = [self.stage.as_str(), self.partition.as_str()];
        self.metrics.watermark_timestamp_seconds.with_label_values(&task).set(seconds(watermark_ms));
        self.metrics.watermark_delay_seconds.with_label_values(&task).set(seconds(now_ms.saturating_sub(watermark_ms)));
    }

    /// Time spent processing.
    pub fn busy(&self, spent: Duration) {
        let task = [self.stage.as_str(), self.partition.as_str()];
        self.metrics.busy_seconds.with_label_values(&task).inc_by(spent.as_secs_f64());
    }
}

/// The page `docs/metrics.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Served at `/metrics` in Prometheus' text format. Made from the table in \
         `job-runtime/src/metrics.rs`; `make generate` writes it anew.\n\n\
         Every metric has the labels `streamjob` and `slot`. `stage` and `partition` name a task.\n\n\
         | name | kind | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        page.push_str(&format!("| `{}` | {} | {} | {} |\n", metric.name, metric.kind, labels.join(", "), metric.help));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the series `name` with exactly these labels, beside `streamjob` and `slot`.
    fn sample(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut wanted: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        wanted.extend(["streamjob=\"fraud\"".to_owned(), "slot=\"0\"".to_owned()]);
        wanted.sort_unstable();
        metrics.text().lines().find_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.strip_suffix('}')?.split_once('{')?;
            let mut labels: Vec<&str> = labels.split(',').collect();
            labels.sort_unstable();
            (found == name && labels == wanted).then(|| value.parse().expect("a number"))
        })
    }

    #[test]
    fn the_page_of_metrics_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        #[allow(clippy::disallowed_methods, reason = "how `make generate` asks for the page")]
        if std::env::var_os("FRESHET_GENERATE").is_some() {
            std::fs::write(path, page()).expect("docs/metrics.md can be written");
        }
        let written = std::fs::read_to_string(path).expect("docs/metrics.md is there");
        assert_eq!(written, page(), "docs/metrics.md is out of date: run `make generate`");
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in METRICS {
            assert!(metric.name.starts_with("freshet_"), "{}", metric.name);
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
            assert!(!metric.name.contains("milliseconds") && !metric.name.ends_with("_ms"), "{}", metric.name);
            assert!(metric.kind != "histogram" || metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn a_task_shows_what_was_counted_and_vanishes_when_it_moves() {
        let metrics = Metrics::new("fraud", "0");
        let (here, gone) = (TaskId::new("s1", 3), TaskId::new("s1", 4));
        let mut stats = TaskStats { records_in: 10, late: 2, expired: 3, state_keys: 7, ..TaskStats::default() };
        stats.bad.insert("NotJson", 1);
        let mut task = metrics.task(&here);
        task.stats(&stats, true, false);
        stats.records_in = 25;
        stats.bad.insert("NotJson", 4);
        task.stats(&stats, true, false);
        task.watermark(Some(1_500), 2_000);
        task.lag(12, Duration::from_millis(250));
        metrics.task(&gone).stats(&stats, true, true);

        let (three, four) = ([("stage", "s1"), ("partition", "3")], [("stage", "s1"), ("partition", "4")]);
        let with = |task: [(&'static str, &'static str); 2], reason| [task[0], task[1], ("reason", reason)];
        assert_eq!(sample(&metrics, "freshet_records_in_total", &three), Some(25.0));
        assert_eq!(sample(&metrics, "freshet_late_records_total", &three), Some(2.0));
        assert_eq!(sample(&metrics, "freshet_state_expired_keys_total", &three), Some(3.0));
        assert_eq!(sample(&metrics, "freshet_dropped_records_total", &with(three, "Late")), Some(2.0));
        assert_eq!(sample(&metrics, "freshet_dropped_records_total", &with(three, "Undecodable")), None);
        assert_eq!(sample(&metrics, "freshet_undecodable_records_total", &with(three, "NotJson")), Some(4.0));
        assert_eq!(sample(&metrics, "freshet_dropped_records_total", &with(four, "Undecodable")), Some(4.0));
        assert_eq!(sample(&metrics, "freshet_state_keys", &three), Some(7.0));
        assert_eq!(sample(&metrics, "freshet_watermark_delay_seconds", &three), Some(0.5));
        assert_eq!(sample(&metrics, "freshet_lag_records", &three), Some(12.0));
        assert_eq!(sample(&metrics, "freshet_lag_seconds", &three), Some(0.25));

        metrics.retain_tasks(&[here]);
        assert!(!metrics.text().contains("partition=\"4\""), "{}", metrics.text());
        assert_eq!(sample(&metrics, "freshet_records_in_total", &three), Some(25.0));
        assert_eq!(sample(&metrics, "freshet_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    }

    #[test]
    fn counters_go_on_when_a_task_begins_anew() {
        let metrics = Metrics::new("j", "0");
        let mut task = metrics.task(&TaskId::new("s", 0));
        task.stats(&TaskStats { records_in: 10, ..TaskStats::default() }, false, false);
        task.stats(&TaskStats { records_in: 4, ..TaskStats::default() }, false, false);
        assert_eq!(metrics.records_in.with_label_values(&["s", "0"]).get(), 14);
    }

    #[test]
    fn epochs_are_counted_and_timed() {
        let metrics = Metrics::new("fraud", "0");
        assert_eq!(sample(&metrics, "freshet_epochs_committed_total", &[]), Some(0.0), "zero is shown, not left out");
        metrics.epoch_committed(41, 1_700_000_000_500, Duration::from_millis(30));
        assert_eq!(sample(&metrics, "freshet_epoch", &[]), Some(41.0));
        assert_eq!(sample(&metrics, "freshet_epochs_committed_total", &[]), Some(1.0));
        assert_eq!(sample(&metrics, "freshet_last_commit_timestamp_seconds", &[]), Some(1_700_000_000.5));
        for (le, count) in [("0.025", 0.0), ("0.05", 1.0)] {
            let labels = [("step", "Total"), ("le", le)];
            assert_eq!(sample(&metrics, "freshet_epoch_duration_seconds_bucket", &labels), Some(count), "{le}");
        }
    }
}
