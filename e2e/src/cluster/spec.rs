//! What a cluster consists of, as asked for.

use serde::{Deserialize, Serialize};

use crate::LabError;

use super::address::MOST_NODES;

/// What a cluster consists of besides what every cluster has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// How many nodes it has.
    pub nodes: u8,
}

impl Default for Spec {
    fn default() -> Self {
        Self { nodes: 1 }
    }
}

impl Spec {
    /// What a cluster that has `self` is to have when `asked` is asked for: a cluster grows, and never loses a part
    /// before it goes down.
    #[must_use]
    pub fn grown_to(&self, asked: &Self) -> Self {
        Self { nodes: self.nodes.max(asked.nodes) }
    }

    /// Says what can't be had.
    ///
    /// # Errors
    /// When there are too many nodes, or none.
    pub fn check(&self) -> Result<(), LabError> {
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

    #[test]
    fn a_cluster_grows_and_does_not_shrink() {
        let (one, two) = (Spec { nodes: 1 }, Spec { nodes: 2 });
        assert_eq!(one.grown_to(&two), two);
        assert_eq!(two.grown_to(&one), two);
        assert!(two.check().is_ok());
        assert!(Spec { nodes: 0 }.check().is_err() && Spec { nodes: MOST_NODES + 1 }.check().is_err());
    }
}
