//! What a process has used, as the system counts it.

use std::time::Duration;

/// The clock ticks of `/proc/…/stat` in a second: 100 on every Linux that is not of one's own making.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processor time that process `id` has used, all threads together, s; 0 when it is gone.
#[must_use]
pub fn cpu_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The program's name may hold anything; what follows its closing bracket does not.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// The resident memory of process `id`, MiB; 0 when it is gone.
#[must_use]
pub fn resident_mib(id: u32) -> f64 {
    status_mib(id, "VmRSS:")
}

/// The most resident memory that process `id` had so far, MiB; 0 when it is gone.
#[must_use]
pub fn peak_mib(id: u32) -> f64 {
    status_mib(id, "VmHWM:")
}

fn status_mib(id: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The machine's load average over a minute.
#[must_use]
pub fn load() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The value at `share` (0 to 1) of sorted `values`; not a number when there are none.
#[must_use]
pub fn percentile(values: &[i64], share: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).map_or(f64::NAN, |value| *value as f64)
}

/// Seconds, for tables.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
