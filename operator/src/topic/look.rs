//! Pure: when it is looked again at a Topic that is in order.

use std::time::Duration;

/// When to look next at what is in order: once a `period`, at a second of it that `seed` chooses. Topics are spread
/// over the period, and those of one second share requests.
pub(super) fn next_look(now_ms: i64, period: Duration, seed: u64) -> Duration {
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let slots = u64::try_from(period_ms / 1_000).unwrap_or(1).max(1);
    let phase = i64::try_from(seed % slots).unwrap_or(0) * 1_000 % period_ms;
    let wait = (phase - now_ms).rem_euclid(period_ms);
    // Not at once again, when its second is just passing.
    let wait = if wait < period_ms / 2 { wait + period_ms } else { wait };
    Duration::from_millis(u64::try_from(wait).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_spread_over_the_period_and_meet_in_whole_seconds() {
        let period = Duration::from_secs(20);
        let mut phases = std::collections::BTreeSet::new();
        for seed in 0..1_000 {
            for now in [0, 1, 7_777, 19_999, 1_700_000_000_123] {
                let wait = i64::try_from(next_look(now, period, seed).as_millis()).expect("short");
                assert!((10_000..30_000).contains(&wait), "{wait}");
                assert_eq!((now + wait) % 1_000, 0);
                phases.insert((now + wait) % 20_000);
            }
        }
        assert_eq!(phases.len(), 20);
        assert!(next_look(5, Duration::from_millis(300), 3) <= Duration::from_millis(600));
    }
}
