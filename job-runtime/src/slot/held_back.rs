//! Pure: which inputs another producer's open transaction holds back.
//!
//! An input's last stable offset stands still, before its end, for as long as the oldest transaction on it is open; every
//! transaction that ends moves it on. How long is too long depends on the producer: some commit many times a second,
//! some at checkpoints minutes apart. So an input is called blocked once it has stood for longer than any producer
//! should take, and for twice as long as it ever stood before it moved on by itself: whoever commits seldom is taken for
//! blocked once at most.

use std::collections::BTreeMap;
use std::time::Duration;

use freshet_log::{Bounds, TopicPartition};

/// For so long an input may stand still before it counts as blocked.
const PATIENCE: Duration = Duration::from_secs(12);

/// What was seen of the inputs of a slot.
#[derive(Debug, Default)]
pub(super) struct HeldBack(BTreeMap<TopicPartition, Hold>);

#[derive(Debug, Default)]
struct Hold {
    /// Where it stands, and since when.
    stands: Option<(i64, Duration)>,
    told: bool,
    /// The longest that it stood before it moved on.
    longest: Duration,
}

impl HeldBack {
    /// Takes note of an input's bounds at a time of the monotonic clock. Gives whether it is blocked, where that is news.
    pub fn look(&mut self, input: &TopicPartition, bounds: Bounds, now: Duration) -> Option<bool> {
        if bounds.stable == bounds.high && !self.0.contains_key(input) {
            return None;
        }
        let hold = self.0.entry(input.clone()).or_default();
        let here = hold.stands.filter(|(stable, _)| *stable == bounds.stable && bounds.stable < bounds.high);
        if here.is_none() {
            if let Some((_, since)) = hold.stands {
                hold.longest = hold.longest.max(now.saturating_sub(since));
            }
            hold.stands = (bounds.stable < bounds.high).then_some((bounds.stable, now));
        }
        let stood = hold.stands.map_or(Duration::ZERO, |(_, since)| now.saturating_sub(since));
        let blocked = stood >= PATIENCE.max(hold.longest.saturating_mul(2));
        let news = (blocked != hold.told).then_some(blocked);
        hold.told = blocked;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn bounds(stable: i64, high: i64) -> Bounds {
        Bounds { low: 0, stable, high }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_input_is_blocked_while_its_stable_end_stands_still_before_its_end() {
        let (mut held, input) = (HeldBack::default(), TopicPartition::new("t", 0));
        let mut look = |at: u64, stable: i64, high: i64| held.look(&input, bounds(stable, high), s(at));
        assert_eq!(look(0, 5, 5), None);
        assert_eq!(look(6, 5, 9), None, "it may be committing just now");
        assert_eq!(look(12, 7, 12), None, "it moved on");
        assert_eq!(look(23, 7, 30), None);
        assert_eq!(look(24, 7, 30), Some(true));
        assert_eq!(look(30, 7, 31), None, "told once");
        assert_eq!(look(36, 31, 31), Some(false));
    }

    #[test]
    fn a_producer_that_commits_seldom_is_taken_for_blocked_once_at_most() {
        let (mut held, input) = (HeldBack::default(), TopicPartition::new("t", 0));
        let mut told = Vec::new();
        for at in (0..600).step_by(6) {
            // A transaction of 60 s after the other, each of ten records.
            let done = i64::try_from(at / 60 * 10).expect("few");
            told.extend(held.look(&input, bounds(done, done + 1), s(at)));
        }
        assert_eq!(told, [true, false]);
        // One that is really stuck is told all the same.
        let stuck = (600..900).step_by(6).find_map(|at| held.look(&input, bounds(600, 601), s(at)).map(|it| (it, at)));
        assert_eq!(stuck, Some((true, 720)));
    }
}
