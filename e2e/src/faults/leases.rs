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
use crate::scenario::cluster::{Kubernetes, MANAGER};

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
    let original = before.spec.clone().unwrap_or_default();
    let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&times));
    let (name, holder, seconds) = (name.to_owned(), skew.holder.map(str::to_owned), skew.seconds);
    let keep = move || {
        // What is written is written in the name of whoever renews it, and only where it still is as it was seen.
        let set = |seen: &Lease, spec: Value| {
            let manager = PatchParams { field_manager: Some(renewer(seen)), ..PatchParams::default() };
            let version = &seen.metadata.resource_version;
            let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": spec}));
            own.block_on(api.patch(&name, &manager, &patch)).is_ok()
        };
        let look = || own.block_on(api.get(&name)).ok();
        while !stopping.load(Ordering::Relaxed) {
            // A Lease that nobody holds is not renewed, in whatever time.
            let seen = look().filter(|seen| holder.is_some() || holder_of(seen).is_some());
            if seen.is_some_and(|seen| set(&seen, skewed(Utc::now(), seconds, holder.as_deref()))) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(AGAIN);
        }
        // Who holds it renews it in the right time; only a holder of ours is taken back.
        let taken = |seen: &Lease| holder.is_some() && holder_of(seen) == holder;
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            match look() {
                Some(seen) if taken(&seen) => {
                    set(&seen, json!({"holderIdentity": original.holder_identity, "renewTime": original.renew_time}))
                }
                Some(_) => return,
                None => false,
            };
        }
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

fn holder_of(lease: &Lease) -> Option<String> {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone())
}

/// Who the API server has written down as the one who renews a lease.
fn renewer(lease: &Lease) -> String {
    let entries = lease.metadata.managed_fields.iter().flatten();
    let renews = |fields: &Value| !fields["f:spec"]["f:renewTime"].is_null();
    let entry = entries.into_iter().find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| renews(&fields.0)));
    entry.and_then(|entry| entry.manager.clone()).unwrap_or_else(|| MANAGER.to_owned())
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
