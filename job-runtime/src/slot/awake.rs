//! The clock of idleness: how long this slot has been looking at its inputs.
//!
//! A partition is idle once it was read to its end and stayed there for a while. That while must be time in which
//! records would have been seen. The wall clock won't do: it is set forward, and partitions that were quiet for a
//! moment look idle for an hour. Nor will any clock that runs while the process stands still (a frozen machine, a
//! stopped container) or while reading waits for a slow sink: records that came meanwhile wait to be read, and would
//! all be late.

use std::time::Duration;

/// Counts time between two looks, but never more than one look may take.
#[derive(Debug)]
pub(super) struct AwakeClock {
    looked: Duration,
    awake: Duration,
    longest: Duration,
}

impl AwakeClock {
    /// Starts at `now` (monotonic). Looks are at most `longest` apart while the process is awake.
    pub fn start(now: Duration, longest: Duration) -> Self {
        // From `now` on and not from zero, so that what a task remembers of an attempt before is never ahead.
        Self { looked: now, awake: now, longest }
    }

    /// Nothing was looked at until `now` (monotonic): reading had to stand still.
    pub fn skip(&mut self, now: Duration) {
        self.looked = self.looked.max(now);
    }

    /// Time awake until `now` (monotonic), ms.
    pub fn look(&mut self, now: Duration) -> i64 {
        self.awake += now.saturating_sub(self.looked).min(self.longest);
        self.looked = self.looked.max(now);
        i64::try_from(self.awake.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_a_process_stands_still_does_not_count() {
        let s = Duration::from_secs;
        let mut clock = AwakeClock::start(s(100), s(2));
        assert_eq!(clock.look(s(101)), 101_000);
        assert_eq!(clock.look(s(102)), 102_000);
        assert_eq!(clock.look(s(4_000)), 104_000, "an hour frozen is one look");
        assert_eq!(clock.look(s(4_001)), 105_000);
        clock.skip(s(4_002));
        assert_eq!(clock.look(s(4_003)), 106_000, "reading stood still for a second");
    }
}
