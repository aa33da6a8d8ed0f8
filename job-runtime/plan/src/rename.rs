//! The ids of a plan: which there are, and the same plan under others.
//!
//! An id names what outlives a generation: state, consumer groups, internal topics. A plan that comes from SQL has
//! ids from meaning alone; where a lineage has dropped one before, its next life needs another name, or it would
//! find what its former life has left behind.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Input, Output, Plan, Stage, Step};

impl Step {
    /// The id of the operator that it is (half of); `None` for steps that have none.
    #[must_use]
    pub const fn operator_id(&self) -> Option<&String> {
        match self {
            Self::WindowAggregate(aggregate) | Self::WindowCombine(aggregate) | Self::WindowMerge(aggregate) => {
                Some(&aggregate.id)
            }
            Self::GroupAggregate(group) | Self::GroupCombine(group) | Self::GroupMerge(group) => Some(&group.id),
            Self::Rank(rank) | Self::RankCombine(rank) | Self::RankMerge(rank) => Some(&rank.id),
            Self::Filter { .. } | Self::Project { .. } => None,
        }
    }

    /// The same, to be changed.
    pub const fn operator_id_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::WindowAggregate(aggregate) | Self::WindowCombine(aggregate) | Self::WindowMerge(aggregate) => {
                Some(&mut aggregate.id)
            }
            Self::GroupAggregate(group) | Self::GroupCombine(group) | Self::GroupMerge(group) => Some(&mut group.id),
            Self::Rank(rank) | Self::RankCombine(rank) | Self::RankMerge(rank) => Some(&mut rank.id),
            Self::Filter { .. } | Self::Project { .. } => None,
        }
    }
}

impl Plan {
    /// The ids of all operators.
    #[must_use]
    pub fn operator_ids(&self) -> BTreeSet<&str> {
        let steps = self.stages.iter().flat_map(|stage| &stage.chains).flat_map(|chain| &chain.steps);
        steps.filter_map(Step::operator_id).map(String::as_str).collect()
    }

    /// The stages that read users' topics, with the topics' names in Kafka.
    pub fn source_stages(&self) -> impl Iterator<Item = (&Stage, &str)> {
        self.stages.iter().filter_map(|stage| match &stage.input {
            Input::Topic(source) => Some((stage, source.topic.as_str())),
            Input::Repartition(_) => None,
        })
    }

    /// The same plan with other ids: old to new, of source stages and operators. A stage that reads an operator's
    /// internal topic is called like the operator.
    #[must_use]
    pub fn with_ids(&self, ids: &BTreeMap<String, String>) -> Self {
        let rename = |id: &mut String| {
            if let Some(new) = ids.get(id) {
                id.clone_from(new);
            }
        };
        let mut plan = self.clone();
        for stage in &mut plan.stages {
            rename(&mut stage.id);
            if let Input::Repartition(source) = &mut stage.input {
                rename(&mut source.operator);
                rename(&mut source.from_stage);
            }
            for chain in &mut stage.chains {
                chain.steps.iter_mut().filter_map(Step::operator_id_mut).for_each(rename);
                if let Output::Repartition { operator, .. } = &mut chain.output {
                    rename(operator);
                }
            }
        }
        plan
    }
}
