//! What a cluster consists of, as asked for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::LabError;

use super::address::MOST_NODES;
use super::extras::Extra;

/// What a cluster consists of besides what every cluster has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// How many nodes it has.
    pub nodes: u8,
    /// How many Kafka brokers it has: 1 or 3, for its whole life.
    #[serde(default = "one")]
    pub brokers: u8,
    /// What else it has.
    #[serde(default)]
    pub extras: BTreeSet<Extra>,
}

const fn one() -> u8 {
    1
}

impl Default for Spec {
    fn default() -> Self {
        Self { nodes: 1, brokers: 1, extras: BTreeSet::new() }
    }
}

impl Spec {
    /// What a cluster that has `self` is to have when `asked` is asked for: a cluster grows, and never loses a part
    /// before it goes down.
    #[must_use]
    pub fn grown_to(&self, asked: &Self) -> Self {
        Self {
            nodes: self.nodes.max(asked.nodes),
            brokers: self.brokers,
            extras: self.extras.union(&asked.extras).copied().collect(),
        }
    }

    /// Says when a cluster that has `self` can't become what is asked for: who votes on Kafka's leader is fixed when its
    /// folders are formatted.
    ///
    /// # Errors
    /// When more brokers are asked for than it has.
    pub fn check_growth(&self, asked: &Self) -> Result<(), LabError> {
        if asked.brokers <= self.brokers {
            return Ok(());
        }
        Err(LabError::Wrong(format!(
            "the cluster has {} broker, and can't get {} while it is up: `make cluster-down` first",
            self.brokers, asked.brokers
        )))
    }

    /// Says what can't be had.
    ///
    /// # Errors
    /// When there are too many nodes, or none, or another number of brokers than 1 or 3.
    pub fn check(&self) -> Result<(), LabError> {
        if ![1, 3].contains(&self.brokers) {
            return Err(LabError::Wrong(format!("a cluster has 1 or 3 brokers, not {}", self.brokers)));
        }
        if (1..=MOST_NODES).contains(&self.nodes) {
            Ok(())
        } else {
            Err(LabError::Wrong(format!("a cluster has 1 to {MOST_NODES} nodes, not {}", self.nodes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(nodes: u8, brokers: u8) -> Spec {
        Spec { nodes, brokers, ..Spec::default() }
    }

    #[test]
    fn a_cluster_grows_and_does_not_shrink() {
        let (one, two) = (Spec::default(), spec(2, 1));
        assert_eq!(one.grown_to(&two), two);
        assert_eq!(two.grown_to(&one), two);
        assert!(two.check().is_ok());
        assert!(spec(0, 1).check().is_err());
        assert!(spec(MOST_NODES + 1, 1).check().is_err());
    }

    #[test]
    fn extras_are_added_and_stay() {
        let with = |extras: &[Extra]| Spec { extras: extras.iter().copied().collect(), ..Spec::default() };
        let (sasl, postgres) = (with(&[Extra::Sasl]), with(&[Extra::Postgres]));
        assert_eq!(sasl.grown_to(&postgres), with(&[Extra::Sasl, Extra::Postgres]));
        assert_eq!(sasl.grown_to(&Spec::default()), sasl);
        let text = serde_json::to_string(&sasl).expect("plain data");
        assert_eq!(serde_json::from_str::<Spec>(&text).expect("its own text"), sasl);
    }

    #[test]
    fn brokers_are_one_or_three_for_a_clusters_whole_life() {
        let (one, three) = (Spec::default(), spec(1, 3));
        assert!(three.check().is_ok() && spec(1, 2).check().is_err());
        assert!(one.check_growth(&three).is_err() && three.check_growth(&one).is_ok());
        assert_eq!(three.grown_to(&one).brokers, 3);
        let old: Spec = serde_json::from_str(r#"{"nodes": 2}"#).expect("a file of an older cluster");
        assert_eq!(old, spec(2, 1));
    }
}
