//! Opening a job whose spec asks where its state comes from: `restoreFrom`, asked by a new resource or another
//! `restoreNonce`.
//!
//! ```text
//! look at all records ─▶ answer (pure) ─▶ GoOn       open the newest lineage
//!      ▲                             ├──▶ Take       one more record ───────────────────────────────────┐
//!      │                             └──▶ BeginAnew  check ─▶ tombstone ─▶ fence ─▶ ended ─▶ new record ─┤
//!      └─────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The record comes last, create-only, under the number behind the newest that was looked at. So a lineage that follows
//! has no writer before every id of the one before it is fenced; whoever is cut off begins again where the records stand;
//! and of several at once one writes, and the others find themselves answered.
//!
//! What can be known to fail is looked at before anything is ended or taken: a job that runs is not stopped for one that
//! can't.

use std::rc::Rc;

use freshet_env::SharedEnv;
use freshet_log::Log;
use freshet_state::lineage::{
    Answer, Asked, FixedFacts, Lineage, LineageError, LineageRecord, RestoreFrom, all_records, answer, begin, ended,
    open_existing, open_or_create, take,
};
use freshet_state::paths::job_root;
use freshet_state::store::{Store, probe_create_only};

use super::retire::end;
use super::{JobSpec, Wanted, check_new, look_ahead, new_id};
use crate::slot::SlotError;

/// How often somebody else may be faster before something else must be wrong.
const RACES: u32 = 16;

/// Opens the lineage that the job's spec asks for, after making sure that the store keeps two writers apart. `wanted`:
/// what will be handed out in it.
///
/// # Errors
/// [`SlotError`]: the store's or the log's; that the lineage is not the job's or not the one that was named; that the job
/// could not run in it.
pub async fn open_as_asked(
    spec: &JobSpec,
    (asked, from): (&Asked, &RestoreFrom),
    store: &Rc<dyn Store>,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    wanted: Wanted,
) -> Result<Lineage, SlotError> {
    let owner = &spec.owner;
    let root = job_root(&owner.namespace, &owner.name);
    probe_create_only(&**store, &root, env.random_u64()).await?;
    let facts = FixedFacts { max_parallelism: spec.plan.max_parallelism };
    for _ in 0..RACES {
        let mut records = all_records(&**store, &root).await?;
        let newest = records.first().cloned();
        let is_over = match &newest {
            Some((_, newest)) => ended(&**store, &root, newest).await?.is_some(),
            None => false,
        };
        let stored: Vec<LineageRecord> = records.drain(..).map(|(_, record)| record).collect();
        match (answer(&stored, is_over, owner, asked, from)?, &newest) {
            (Answer::GoOn, _) => {
                let open = open_or_create(Rc::clone(store), &root, owner, &facts, || new_id(env), env.now_ms());
                return Ok(open.await?);
            }
            (Answer::Take, Some((number, newest))) => {
                may_be_taken(spec, newest, &facts, store, log, env, wanted).await?;
                take(&**store, &root, (*number, newest), owner, asked, env.now_ms()).await?;
            }
            (Answer::Take | Answer::BeginAnew, newest) => {
                if newest.is_some() && !is_over {
                    let lineage = alive(spec, &facts, store, env).await?;
                    may_follow(spec, &lineage, log).await?;
                    end(&lineage, log, env, "spec.restoreFrom asked for a new lineage").await?;
                }
                begin(&**store, &root, newest.as_ref(), new_id(env), owner, asked, env.now_ms()).await?;
            }
        }
    }
    Err(LineageError::Contended(RACES).into())
}

/// The newest lineage, which has not ended. One whose creator died before its birth is born now: its id could still be
/// used by whoever has found it.
async fn alive(
    spec: &JobSpec,
    facts: &FixedFacts,
    store: &Rc<dyn Store>,
    env: &SharedEnv,
) -> Result<Lineage, SlotError> {
    let owner = &spec.owner;
    let root = job_root(&owner.namespace, &owner.name);
    match open_existing(Rc::clone(store), &root, owner).await? {
        Some(lineage) => Ok(lineage),
        None => Ok(open_or_create(Rc::clone(store), &root, owner, facts, || new_id(env), env.now_ms()).await?),
    }
}

/// Before a lineage is ended for another one: the job could run, and its credentials may hold transactional ids, or the
/// fences could not be had once the tombstone stands.
async fn may_follow(spec: &JobSpec, lineage: &Lineage, log: &Rc<dyn Log>) -> Result<(), SlotError> {
    check_new(spec, log).await?;
    log.fence(&[format!("freshet/{}/preflight", lineage.id())]).await?;
    Ok(())
}

/// Before a lineage is taken from another owner: it has the facts that the spec wants, and the job can go on in it.
async fn may_be_taken(
    spec: &JobSpec,
    record: &LineageRecord,
    facts: &FixedFacts,
    store: &Rc<dyn Store>,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    wanted: Wanted,
) -> Result<(), SlotError> {
    if record.owner == spec.owner {
        return Ok(());
    }
    let root = job_root(&spec.owner.namespace, &spec.owner.name);
    let Some(lineage) = open_existing(Rc::clone(store), &root, &record.owner).await? else { return Ok(()) };
    let (fixed, asked) = (lineage.facts().max_parallelism, facts.max_parallelism);
    if fixed != asked {
        let lineage = record.lineage.clone();
        let (fixed, asked) = (fixed.to_string(), asked.to_string());
        return Err(LineageError::FixedFactChanged { lineage, field: "maxParallelism", fixed, asked }.into());
    }
    look_ahead(spec, &lineage, log, env, wanted).await?;
    Ok(())
}
