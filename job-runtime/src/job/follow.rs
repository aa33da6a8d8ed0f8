//! Pure: may this plan come after that generation, and under which ids?
//!
//! State, offsets and internal topics are found by the ids of operators and stages. From SQL, ids come from meaning
//! alone. Within a lineage two rules are added, so that nothing is ever found that should not be:
//!
//! * A topic that is being read goes on being read by the same stage, whatever its Topic resource is called now.
//! * An id that the lineage has dropped is not used again: a statement that comes back gets ids of its own
//!   (`agg-77ab01cd` comes back as `agg-77ab01cd-r7` in generation 7). Without that it would find windows, offsets and
//!   internal records of its former life, and everything that was read in between would be missing from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use freshet_env::{PlantedBug, planted};
use freshet_plan::compare::{Compatibility, compare};
use freshet_plan::{Input, Output, Plan, Step};
use freshet_state::NEW_LINEAGE;
use freshet_state::generation::{Generation, Retired};

/// The longest id.
const ID_CHARS: usize = 40;

/// What the next generation takes from the one before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Next {
    /// The plan, under the ids that things have in the lineage.
    pub plan: Plan,
    /// Those that are others than in the plan that was asked for.
    pub renamed: BTreeMap<String, String>,
    /// All that the lineage has no longer.
    pub retired: BTreeMap<String, Retired>,
}

/// Why a plan can't come after a generation. Everything goes on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The state that is there can't be gone on from.
    Incompatible {
        /// A sentence each.
        reasons: Vec<String>,
    },
    /// State would have no operator any more, and that was not accepted.
    StateWouldBeDropped {
        /// The operators whose loss is not accepted, for people: the id of each comes first.
        operators: Vec<String>,
    },
    /// Internal topics would have to be empty first, which is not done yet.
    DrainingNeeded {
        /// The operators, for people.
        operators: Vec<String>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incompatible { reasons } => {
                write!(f, "the new plan can't go on from the state: {}. ", reasons.join("; "))?;
                write!(f, "Go back to the former SQL, or {NEW_LINEAGE}")
            }
            Self::StateWouldBeDropped { operators } => write!(
                f,
                "the new plan would drop the state of {}: what it has counted so far would never come out. Go back to \
                 the former SQL, or accept the loss: spec.upgrade.acceptDroppedState: [{}]",
                operators.join(", "),
                operators.iter().filter_map(|operator| operator.split(' ').next()).collect::<Vec<_>>().join(", ")
            ),
            Self::DrainingNeeded { operators } => write!(
                f,
                "the new plan writes the internal topics of {} in another way, so they would have to be empty first, \
                 which this runtime does not do. Go back to the former SQL, or {NEW_LINEAGE}",
                operators.join(", ")
            ),
        }
    }
}

/// What comes after `latest` when `plan` is to be run, as generation `number`; `accepted`: whether the state of an operator,
/// by its id in the lineage, may be dropped.
pub(super) fn follow(
    latest: &Generation,
    plan: &Plan,
    number: u64,
    accepted: impl Fn(&str) -> bool,
) -> Result<Next, Refusal> {
    let renamed = ids(latest, plan, number);
    let next = plan.with_ids(&renamed);
    let people = |ids: &[String]| ids.iter().map(|id| describe_operator(&latest.plan, id)).collect::<Vec<_>>();
    match compare(&latest.plan, &next) {
        Compatibility::Identical | Compatibility::Compatible => {}
        Compatibility::CompatibleAfterDraining { operators } => {
            return Err(Refusal::DrainingNeeded { operators: people(&operators) });
        }
        Compatibility::CompatibleWithDroppedState { operators, draining } => {
            let lost: Vec<String> = operators.into_iter().filter(|id| !accepted(id)).collect();
            if !lost.is_empty() {
                return Err(Refusal::StateWouldBeDropped { operators: people(&lost) });
            }
            if !draining.is_empty() {
                return Err(Refusal::DrainingNeeded { operators: people(&draining) });
            }
        }
        Compatibility::Incompatible { reasons } => return Err(Refusal::Incompatible { reasons }),
    }
    let mut retired = latest.retired.clone();
    if planted(PlantedBug::ReuseRetiredIds) {
        retired.retain(|id, _| !next.operator_ids().contains(id.as_str()) && next.stage(id).is_none());
    }
    let stages: BTreeSet<&str> = next.stages.iter().map(|stage| stage.id.as_str()).collect();
    let operators = next.operator_ids();
    for stage in latest.plan.stages.iter().filter(|stage| !stages.contains(stage.id.as_str())) {
        let topic = match &stage.input {
            Input::Topic(source) => Some(source.topic.clone()),
            Input::Repartition(_) => None,
        };
        retired.insert(stage.id.clone(), Retired { since: number, topic });
    }
    for id in latest.plan.operator_ids().difference(&operators) {
        retired.entry((*id).to_owned()).or_insert(Retired { since: number, topic: None });
    }
    Ok(Next { plan: next, renamed, retired })
}

/// The ids of `plan` that are others in the lineage: from meaning → in the lineage.
fn ids(latest: &Generation, plan: &Plan, number: u64) -> BTreeMap<String, String> {
    let mut ids = BTreeMap::new();
    let mut add = |id: &str, here: String| {
        if id != here {
            ids.insert(id.to_owned(), here);
        }
    };
    let taken = |id: &str| latest.retired.contains_key(id) && !planted(PlantedBug::ReuseRetiredIds);
    for (stage, topic) in plan.source_stages() {
        let reads = latest.plan.source_stages().find(|(_, read)| *read == topic);
        add(
            &stage.id,
            match reads {
                Some((reader, _)) => reader.id.clone(),
                None if taken(&stage.id) || latest.plan.stage(&stage.id).is_some() => fresh(&stage.id, number),
                None => stage.id.clone(),
            },
        );
    }
    let running = latest.plan.operator_ids();
    for id in plan.operator_ids() {
        let here = latest.renamed.get(id).map_or(id, String::as_str);
        add(
            id,
            if running.contains(here) {
                here.to_owned()
            } else if taken(id) {
                fresh(id, number)
            } else {
                id.to_owned()
            },
        );
    }
    ids
}

/// The id of something that comes back in generation `number`.
fn fresh(id: &str, number: u64) -> String {
    let suffix = format!("-r{number}");
    let kept = id.len().min(ID_CHARS - suffix.len());
    format!("{}{suffix}", id[..kept].trim_end_matches('-'))
}

/// An operator for people: its id, what it is, and where its results go.
#[must_use]
pub fn describe_operator(plan: &Plan, id: &str) -> String {
    let chains = || plan.stages.iter().flat_map(|stage| &stage.chains);
    let holds = |steps: &[Step]| steps.iter().filter_map(Step::operator_id).any(|operator| operator == id);
    let found = chains().filter(|chain| holds(&chain.steps)).find_map(|chain| match &chain.output {
        Output::Topic(sink) => Some((chain.statement, sink.table.clone())),
        Output::Repartition { .. } => None,
    });
    match found {
        Some((statement, table)) => format!("{id} (the window aggregate of statement {}, into {table})", statement + 1),
        None => id.to_owned(),
    }
}
