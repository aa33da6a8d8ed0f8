//! Leases: one that is renewed in another time, or held by somebody else, as when clocks differ or a holder hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, TimeDelta, Utc};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::LabError;
use crate::scenario::cluster::Kubernetes;

/// How often the lease is set again: more often than any holder renews it.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the first time may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// How a lease is skewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew<'a> {
    /// How far from now its last renewal seems to be, s: in the past if negative, as by a holder that is gone.
    pub seconds: i64,
    /// Who seems to hold it; whoever does when `None`.
    pub holder: Option<&'a str>,
}

/// Keeps a lease skewed, until it is dropped. Then the lease is its holder's again, as it was before; who saw it
/// meanwhile has seen it.
#[derive(Debug)]
pub struct LeaseSkew {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Skews the lease `name` of `namespace`; on return it is.
///
/// # Errors
/// When there is no such lease.
pub fn skew_lease(kubernetes: &Kubernetes, namespace: &str, name: &str, skew: Skew<'_>) -> Result<LeaseSkew, LabError> {
    // The thread outlives this call, and has a client of its own.
    let own = Kubernetes::new(kubernetes.kubeconfig())?;
    let api: Api<Lease> = own.api(namespace);
    let before = own.ask(&format!("looking at the lease {namespace}/{name}"), api.get(name))?;
    let original = serde_json::to_value(before.spec).unwrap_or_default();
    let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&times));
    let (name, holder, seconds) = (name.to_owned(), skew.holder.map(str::to_owned), skew.seconds);
    let keep = move || {
        let set = |spec: Value| {
            let patch = Patch::Merge(json!({"spec": spec}));
            own.block_on(api.patch(&name, &PatchParams::default(), &patch)).is_ok()
        };
        while !stopping.load(Ordering::Relaxed) {
            if set(skewed(Utc::now(), seconds, holder.as_deref())) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(AGAIN);
        }
        set(json!({
            "holderIdentity": original["holderIdentity"],
            "renewTime": original["renewTime"],
        }));
    };
    let thread = std::thread::Builder::new().name("lease-skew".to_owned()).spawn(keep);
    let thread = thread.map_err(LabError::file("starting a thread in", "."))?;
    let skew = LeaseSkew { stop, thread: Some(thread) };
    let began = Instant::now();
    while times.load(Ordering::Relaxed) == 0 {
        if began.elapsed() > DEADLINE {
            return Err(LabError::Wrong(format!("a lease of {namespace} could not be skewed in {DEADLINE:?}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(skew)
}

/// What a skewed lease says.
fn skewed(now: chrono::DateTime<Utc>, seconds: i64, holder: Option<&str>) -> Value {
    let time = now + TimeDelta::seconds(seconds);
    let mut spec = json!({"renewTime": time.to_rfc3339_opts(SecondsFormat::Micros, true)});
    if let Some(holder) = holder {
        spec["holderIdentity"] = holder.into();
    }
    spec
}

impl Drop for LeaseSkew {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_lease_was_renewed_in_another_time() {
        let now = chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("a time");
        assert_eq!(skewed(now, -30, None), json!({"renewTime": "2025-12-31T23:59:30.000000Z"}));
        let other = json!({"renewTime": "2026-01-01T01:00:00.000000Z", "holderIdentity": "b"});
        assert_eq!(skewed(now, 3600, Some("b")), other);
    }
}
