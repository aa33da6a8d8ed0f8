//! `freshet preflight`, `freshet assign` and `freshet retire`: what is done to a job from outside of its workers.

use std::path::PathBuf;
use std::rc::Rc;

use freshet_crds::control::PreflightReport;
use freshet_crds::reasons;
use freshet_log::{Log, TopicPartition};
use freshet_plan::Plan;
use freshet_state::generation::Generation;
use freshet_state::lineage::{Asked, Lineage, RestoreFrom};

use super::Failure;
use super::environment::{block_on, patiently};
use super::pipeline::{self, Planned};
use super::places::{Ended, Places, Reached, read, write_report};
use crate::job::{self, JobSpec, Wanted};
use crate::slot::SlotError;

#[derive(Debug, clap::Args)]
pub(super) struct PreflightArgs {
    #[command(flatten)]
    places: Places,
    /// How many slots share the job from now on
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// Look, and hand nothing out
    #[arg(long)]
    check_only: bool,
    /// Let state go that no statement uses any more
    #[arg(long)]
    accept_dropped_state: bool,
    /// Ask for spec.restoreFrom in the name of this resource (its UID): answered once for each spec.restoreNonce
    #[arg(long, value_name = "UID", conflicts_with = "check_only")]
    asked_by: Option<String>,
    /// When that resource was made, ms since the Unix epoch
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "asked_by")]
    asked_at: i64,
    /// That resource's generation: what is asked in a later one counts
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "asked_by")]
    asked_in: i64,
    /// Write the report here, too: one line of JSON of at most 4096 bytes
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Checks a job, and hands out the generation that runs it as its manifests say.
pub(super) fn preflight(args: &PreflightArgs) -> Result<(), Failure> {
    let mut report =
        PreflightReport { runtime_version: env!("CARGO_PKG_VERSION").to_owned(), ..PreflightReport::default() };
    let checked = check(args, &mut report);
    let code = match checked {
        Ok(message) => {
            report.ok = true;
            reasons::PREFLIGHT_PASSED.name.clone_into(&mut report.reason);
            report.message = message;
            0
        }
        Err(ended) => {
            ended.reason.name.clone_into(&mut report.reason);
            report.changed = false;
            let code = ended.exit_code();
            report.message = ended.message;
            code
        }
    };
    let text = report.termination_message();
    println!("{text}");
    write_report(args.report.as_deref(), &text);
    if code == 0 { Ok(()) } else { Err(Failure::Said(code)) }
}

fn check(args: &PreflightArgs, report: &mut PreflightReport) -> Result<String, Ended> {
    let planned = planned(args)?;
    let wanted = Wanted { slots: args.slots, accept_dropped_state: args.accept_dropped_state };
    block_on(async {
        let reached = args.places.reach(&planned.pipeline)?;
        let spec = planned.spec(reached.owner.clone());
        let job = &planned.pipeline.job;
        let asked = args.asked_by.clone().map(|by| {
            let nonce = job.restore_nonce.clone();
            (Asked { by, made_at_ms: args.asked_at, generation: args.asked_in, nonce }, job.restore_from.clone())
        });
        report.plan_fingerprint = Some(spec.plan.fingerprint());
        report.revision = Some(spec.revision());
        report.stages = u32::try_from(spec.plan.stages.len()).unwrap_or(u32::MAX);
        if args.check_only {
            look(&spec, &reached, wanted, report).await
        } else {
            hand_out(&spec, &reached, wanted, asked.as_ref(), report).await
        }
    })
    .map_err(|failure| Ended::refused(reasons::INTERNAL_ERROR, failure.text()))?
}

fn planned(args: &PreflightArgs) -> Result<Planned, Ended> {
    let looked = pipeline::look(&args.places.manifests.paths);
    match looked.planned {
        Some(planned) if !looked.diagnostics.has_errors() => Ok(planned),
        _ => Err(Ended::refused(reasons::SPEC_INVALID, looked.diagnostics.in_short())),
    }
}

/// Notes what a generation says.
fn note(report: &mut PreflightReport, spec: &JobSpec, lineage: &Lineage, generation: &Generation) {
    report.lineage = Some(lineage.id().to_owned());
    report.lineage_born_ms = Some(lineage.born_at_ms());
    report.generation = Some(generation.number);
    report.slots = Some(generation.slots);
    report.tasks = u32::try_from(generation.assignment.len()).unwrap_or(u32::MAX);
    let topics = job::internal_topics(&generation.plan, &spec.owner.name, lineage.id());
    report.internal_topics = topics.into_iter().map(|topic| topic.name).collect();
}

async fn hand_out(
    spec: &JobSpec,
    reached: &Reached,
    wanted: Wanted,
    asked: Option<&(Asked, RestoreFrom)>,
    report: &mut PreflightReport,
) -> Result<String, Ended> {
    let Reached { log, store, env, .. } = reached;
    let lineage = match asked {
        Some((asked, from)) => {
            patiently(env, || job::open_as_asked(spec, (asked, from), store, log, env, wanted)).await?
        }
        None => patiently(env, || job::open(spec, store.clone(), env)).await?,
    };
    report.lineage = Some(lineage.id().to_owned());
    report.lineage_born_ms = Some(lineage.born_at_ms());
    // Before anything that runs is touched.
    let handed = match patiently(env, || may_run(spec, &lineage, log)).await {
        Ok(()) => patiently(env, || job::hand_out(spec, &lineage, log, env, wanted)).await,
        Err(error) => Err(error),
    };
    let handed = match handed {
        Ok(handed) => handed,
        Err(error) => {
            // What goes on meanwhile.
            if let Ok(Some(latest)) = lineage.generations().latest().await {
                note(report, spec, &lineage, &latest);
            }
            return Err(error.into());
        }
    };
    let generation = &handed.generation;
    note(report, spec, &lineage, generation);
    report.changed = handed.changed;
    let (number, tasks, slots) = (generation.number, generation.assignment.len(), generation.slots);
    Ok(if handed.changed {
        format!("generation {number} was handed out: {tasks} tasks on {slots} slots")
    } else {
        format!("generation {number} is as wanted: {tasks} tasks on {slots} slots")
    })
}

async fn look(
    spec: &JobSpec,
    reached: &Reached,
    wanted: Wanted,
    report: &mut PreflightReport,
) -> Result<String, Ended> {
    let Reached { owner, log, store, env } = reached;
    let found = patiently(env, || job::find(owner, store.clone())).await?;
    let Some(lineage) = found else {
        report.tasks = patiently(env, || job::check_new(spec, log)).await?;
        report.changed = true;
        return Ok(format!("the job is new: it would get {} tasks on {} slots", report.tasks, wanted.slots));
    };
    let (latest, next) = patiently(env, || job::look_ahead(spec, &lineage, log, env, wanted)).await?;
    if let Some(latest) = &latest {
        note(report, spec, &lineage, latest);
    }
    match (&next, &latest) {
        (None, Some(latest)) => Ok(format!("generation {} is as wanted", latest.number)),
        (Some(next), _) => {
            report.changed = true;
            Ok(format!("generation {} would be handed out", next.number))
        }
        (None, None) => Err(Ended::refused(reasons::INTERNAL_ERROR, "nothing is there, and nothing would be made")),
    }
}

/// Whether the job's credentials may do what its workers will: hold a transactional id of the lineage, read its groups'
/// offsets and its inputs' bounds. (Rights to read and write topics are looked at when the generation is drafted.)
async fn may_run(spec: &JobSpec, lineage: &Lineage, log: &Rc<dyn Log>) -> Result<(), SlotError> {
    log.fence(&[format!("freshet/{}/preflight", lineage.id())]).await?;
    for (stage, topic) in spec.plan.source_stages() {
        let first = TopicPartition::new(topic, 0);
        log.bounds(&first).await?;
        log.committed(&Plan::consumer_group(lineage.id(), &stage.id), &[first]).await?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(super) struct AssignArgs {
    #[command(flatten)]
    places: Places,
    /// How many slots share the job from now on
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
}

/// Hands out the next generation.
pub(super) fn assign(args: &AssignArgs) -> Result<(), Failure> {
    let planned = pipeline::load(&args.places.manifests.paths)?;
    let wanted = Wanted { slots: args.slots, accept_dropped_state: false };
    block_on(async {
        let reached = args.places.reach(&planned.pipeline)?;
        let spec = planned.spec(reached.owner.clone());
        let Reached { log, store, env, .. } = &reached;
        let lineage = patiently(env, || job::open(&spec, store.clone(), env)).await?;
        let generation = patiently(env, || job::next_generation(&spec, &lineage, log, env, wanted)).await?;
        println!(
            "generation {} of lineage {}: {} tasks on {} slots",
            generation.number,
            lineage.id(),
            generation.assignment.len(),
            generation.slots
        );
        if generation.slots != args.slots {
            let message = format!(
                "somebody else handed out generation {} at the same time, with {} slots; look, and ask again",
                generation.number, generation.slots
            );
            return Err(Ended { reason: reasons::RESCALING, message, may_heal: true });
        }
        Ok(())
    })?
    .map_err(|ended: Ended| ended.report(None))
}

#[derive(Debug, clap::Args)]
pub(super) struct RetireArgs {
    #[command(flatten)]
    places: Places,
    /// Write why it failed here, too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Ends a job with its state.
pub(super) fn retire(args: &RetireArgs) -> Result<(), Failure> {
    let retired = read(&args.places.manifests.paths).and_then(|pipeline| {
        block_on(async {
            let reached = args.places.reach(&pipeline)?;
            let Reached { owner, log, store, env } = &reached;
            Ok(patiently(env, || job::retire(owner, store.clone(), log, env)).await?)
        })
        .map_err(|failure| Ended::refused(reasons::INTERNAL_ERROR, failure.text()))?
    });
    let retired = retired.map_err(|ended: Ended| ended.report(args.report.as_deref()))?;
    let lineage = retired.lineage.as_deref().unwrap_or("none was alive");
    println!(
        "lineage: {lineage}; deleted: {} internal topics, {} consumer groups, {} objects",
        retired.topics, retired.groups, retired.objects
    );
    Ok(())
}
