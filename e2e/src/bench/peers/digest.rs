//! What is in a topic, whatever its order: a sum over its rows, so that millions need no memory.

use std::hash::{DefaultHasher, Hash, Hasher};

use freshet_kafka::KafkaConfig;
use freshet_kafka::bulk::{read_committed, wait_until_settled};
use freshet_log::Fetched;

use crate::LabError;
use crate::nexmark::spelled;
use crate::scenario::PATIENCE;

/// A multiset of rows. Two are equal when each row is in both equally often, but for a chance of one in 2^128.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest {
    rows: u64,
    sums: [u64; 2],
}

impl Digest {
    /// Of the committed records of a topic.
    pub(super) fn of(bootstrap: &str, topic: &str) -> Result<Self, LabError> {
        let config = KafkaConfig::new(bootstrap, "freshet-lab-digest");
        let failed = || LabError::kafka(format!("reading {topic}"));
        wait_until_settled(&config, topic, PATIENCE).map_err(failed())?;
        let mut digest = Self::default();
        let mut wrong = None;
        let visit = |batch: &Fetched| {
            for record in &batch.records {
                match spelled(batch.value(record).unwrap_or_default()) {
                    Ok(row) => digest.add(&row),
                    Err(error) => wrong = Some(error),
                }
            }
        };
        read_committed(&config, topic, visit).map_err(failed())?;
        wrong.map_or(Ok(digest), Err)
    }

    fn add(&mut self, row: &str) {
        self.rows += 1;
        for (seed, sum) in self.sums.iter_mut().enumerate() {
            let mut hasher = DefaultHasher::new();
            (seed, row).hash(&mut hasher);
            *sum = sum.wrapping_add(hasher.finish());
        }
    }

    /// How many rows there are.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows with the sum {:016x}{:016x}", self.rows, self.sums[0], self.sums[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[&str]) -> Digest {
        let mut digest = Digest::default();
        rows.iter().for_each(|row| digest.add(row));
        digest
    }

    #[test]
    fn order_does_not_count_and_how_often_does() {
        assert_eq!(of(&["a", "b", "a"]), of(&["b", "a", "a"]));
        assert_ne!(of(&["a", "b", "a"]), of(&["a", "b", "b"]));
        assert_ne!(of(&["a"]), of(&["a", "a"]));
        assert_ne!(of(&["a"]), of(&["b"]));
    }
}
