//! The operator's metrics: every name is in this file.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// All metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<All>);

#[derive(Debug)]
struct All {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    leading: IntGauge,
    resources: IntGaugeVec,
    worker_requests: IntCounterVec,
    writes: IntCounterVec,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to be done.
    Settled,
    /// Something is under way.
    Waiting,
    /// It failed, and is tried again.
    Failed,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that count from nothing.
    ///
    /// # Panics
    /// Never: the names below are valid and different.
    #[must_use]
    pub fn new() -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name")
        };
        let all = All {
            registry: Registry::new(),
            reconciles: counter("freshet_operator_reconciles_total", "Passes over a resource.", &["kind", "outcome"]),
            reconcile_seconds: HistogramVec::new(
                HistogramOpts::new("freshet_operator_reconcile_seconds", "Duration of a pass, seconds.")
                    .buckets(vec![0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0]),
                &["kind"],
            )
            .expect("a valid name"),
            leading: IntGauge::new("freshet_operator_leading", "1 while this replica leads.").expect("a valid name"),
            resources: IntGaugeVec::new(
                Opts::new("freshet_operator_resources", "Resources, by whether they are Ready."),
                &["kind", "ready"],
            )
            .expect("a valid name"),
            worker_requests: counter(
                "freshet_operator_worker_requests_total",
                "Requests to the control servers of workers.",
                &["request", "outcome"],
            ),
            writes: counter("freshet_operator_writes_total", "Writes to the API server.", &["kind", "verb"]),
        };
        let metrics: [Box<dyn prometheus::core::Collector>; 6] = [
            Box::new(all.reconciles.clone()),
            Box::new(all.reconcile_seconds.clone()),
            Box::new(all.leading.clone()),
            Box::new(all.resources.clone()),
            Box::new(all.worker_requests.clone()),
            Box::new(all.writes.clone()),
        ];
        for metric in metrics {
            all.registry.register(metric).expect("names are different");
        }
        Self(Arc::new(all))
    }

    /// A pass over a resource of `kind` ended.
    pub fn reconciled(&self, kind: &'static str, outcome: Outcome, took: Duration) {
        self.0.reconciles.with_label_values(&[kind, outcome.label()]).inc();
        self.0.reconcile_seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    /// Whether this replica leads.
    pub fn leading(&self, leads: bool) {
        self.0.leading.set(i64::from(leads));
    }

    /// How many resources of `kind` are ready, and how many are not.
    pub fn resources(&self, kind: &'static str, ready: i64, others: i64) {
        self.0.resources.with_label_values(&[kind, "true"]).set(ready);
        self.0.resources.with_label_values(&[kind, "false"]).set(others);
    }

    /// A worker's control server was asked.
    pub fn worker_asked(&self, request: &'static str, answered: bool) {
        self.0.worker_requests.with_label_values(&[request, if answered { "answered" } else { "failed" }]).inc();
    }

    /// An object of `kind` was written: `verb` is the API's.
    pub fn wrote(&self, kind: &'static str, verb: &'static str) {
        self.0.writes.with_label_values(&[kind, verb]).inc();
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics can't be written");
        }
        text
    }

    /// Where rooms add metrics of their own; their names begin with `freshet_operator_`.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_shown_under_its_name() {
        let metrics = Metrics::new();
        metrics.reconciled("StreamJob", Outcome::Settled, Duration::from_millis(3));
        metrics.leading(true);
        metrics.resources("StreamJob", 2, 1);
        metrics.worker_asked("status", true);
        metrics.wrote("StatefulSet", "apply");
        let text = String::from_utf8(metrics.text()).expect("text");
        for line in [
            "freshet_operator_reconciles_total{kind=\"StreamJob\",outcome=\"settled\"} 1",
            "freshet_operator_reconcile_seconds_count{kind=\"StreamJob\"} 1",
            "freshet_operator_leading 1",
            "freshet_operator_resources{kind=\"StreamJob\",ready=\"true\"} 2",
            "freshet_operator_worker_requests_total{outcome=\"answered\",request=\"status\"} 1",
            "freshet_operator_writes_total{kind=\"StatefulSet\",verb=\"apply\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
