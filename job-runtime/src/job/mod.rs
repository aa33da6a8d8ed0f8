//! Opening a job: its lineage, its internal topics, its next generation; and its end.
//!
//! ```text
//! open ─▶ the lineage (found, or born); open_as_asked ─▶ the one that restoreFrom asks for
//! next_generation ─▶ follow (pure): may this plan come after that one, and under which ids?
//!                 ─▶ starts: where tasks begin that are new
//!                 ─▶ propose: one create-only object, taken over by whoever runs
//! retire ─▶ a tombstone, fences, then everything is deleted
//! ```
//!
//! Every step can be taken by several processes at once and again after a crash: what is written is create-only, and
//! who comes second adopts it.

mod follow;
mod next;
mod restore;
mod retire;
mod starts;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use freshet_engine::{OnBadRecord, OnLate};
use freshet_env::SharedEnv;
use freshet_log::{StartPosition, TopicSpec};
use freshet_plan::{Output, Plan};
use freshet_state::generation::{Generation, revision};
use freshet_state::lineage::{FixedFacts, Lineage, Owner, open_existing, open_or_create};
use freshet_state::paths::job_root;
use freshet_state::run_policy::{BadRecords, LateRecords, RunPolicy};
use freshet_state::store::{Store, probe_create_only};

pub use follow::{Refusal, describe_operator};
pub use next::{Handed, Wanted, check_new, current_generation, hand_out, look_ahead, next_generation, rescale};
pub use restore::open_as_asked;
pub use retire::{Retired, retire};

use crate::slot::{NEXT_GENERATION, SlotError};

/// A job, as its resources say it.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Whose it is, and what it is called.
    pub owner: Owner,
    /// What it computes, with ids from meaning.
    pub plan: Plan,
    /// How that is run.
    pub policy: RunPolicy,
    /// Where tasks begin whose input the lineage has not read before.
    pub start_from: StartPosition,
    /// Operators whose state a change of the plan may drop, by their ids in the lineage.
    pub accept_dropped: BTreeSet<String>,
}

impl JobSpec {
    /// The fingerprint of what is run and how.
    #[must_use]
    pub fn revision(&self) -> String {
        revision(&self.plan.fingerprint(), Some(&self.policy))
    }
}

/// How a job is run, from what its manifest says.
#[must_use]
pub fn run_policy(on_bad_record: &OnBadRecord, on_late: &OnLate, epoch_interval: Duration) -> RunPolicy {
    RunPolicy {
        on_bad_record: match on_bad_record {
            OnBadRecord::Fail => BadRecords::Fail,
            OnBadRecord::Skip => BadRecords::Skip,
            OnBadRecord::DeadLetter(topic) => BadRecords::DeadLetter { topic: topic.clone() },
        },
        on_late: match on_late {
            OnLate::Drop => LateRecords::Drop,
            OnLate::DeadLetter(topic) => LateRecords::DeadLetter { topic: topic.clone() },
        },
        epoch_interval_ms: u64::try_from(epoch_interval.as_millis()).unwrap_or(u64::MAX).max(1),
    }
}

/// Opens the job's lineage, or starts its first one, after making sure that the store keeps two writers
/// apart.
///
/// # Errors
/// [`SlotError`]: the store's, or that the lineage is not the job's.
pub async fn open(spec: &JobSpec, store: Rc<dyn Store>, env: &SharedEnv) -> Result<Lineage, SlotError> {
    let root = job_root(&spec.owner.namespace, &spec.owner.name);
    probe_create_only(&*store, &root, env.random_u64()).await?;
    let facts = FixedFacts { max_parallelism: spec.plan.max_parallelism };
    Ok(open_or_create(store, &root, &spec.owner, &facts, || new_id(env), env.now_ms()).await?)
}

/// An id that no other lineage has.
fn new_id(env: &SharedEnv) -> String {
    format!("r-{:010x}", env.random_u64() & 0xff_ffff_ffff)
}

/// The job's lineage, if it has one that has not ended: a worker starts none.
///
/// # Errors
/// [`SlotError`]: the store's, or that the lineage is not the job's.
pub async fn find(owner: &Owner, store: Rc<dyn Store>) -> Result<Option<Lineage>, SlotError> {
    Ok(open_existing(store, &job_root(&owner.namespace, &owner.name), owner).await?)
}

/// The repartition topics of a plan. Their records never expire by time: what is consumed is deleted.
#[must_use]
pub fn internal_topics(plan: &Plan, job: &str, lineage: &str) -> Vec<TopicSpec> {
    let outputs = plan.stages.iter().flat_map(|stage| &stage.chains).map(|chain| &chain.output);
    outputs
        .filter_map(|output| match output {
            Output::Topic(_) => None,
            Output::Repartition { operator, format_version, .. } => Some(TopicSpec {
                name: Plan::repartition_topic(job, lineage, operator, *format_version),
                partitions: plan.max_parallelism,
                replicas: None,
                config: vec![
                    ("retention.ms".to_owned(), "-1".to_owned()),
                    ("cleanup.policy".to_owned(), "delete".to_owned()),
                ],
            }),
        })
        .collect()
}

/// How a generation's records are handled.
///
/// # Errors
/// A generation of version 1 does not say.
pub fn policy_of(generation: &Generation) -> Result<&RunPolicy, SlotError> {
    generation.policy.as_ref().ok_or_else(|| {
        SlotError::Plan(format!(
            "generation {} was handed out by an older runtime, which did not store how it is run. {NEXT_GENERATION}",
            generation.number
        ))
    })
}
