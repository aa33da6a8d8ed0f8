//! Commands that look and change nothing: `validate`, `plan`, `state`.

use std::fmt::Write as _;

use bytes::Bytes;
use freshet_state::object::{ObjectDescription, describe};

use super::environment::{block_on, store};
use super::{EXIT_REFUSED, Failure, Manifests, pipeline};
use crate::manifest::Checkpoint;

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    manifests: Manifests,
    /// How findings are printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Says everything that is wrong.
pub(super) fn validate(args: &ValidateArgs) -> Result<(), Failure> {
    let looked = pipeline::look(&args.manifests.paths);
    match args.output {
        Output::Text => print!("{}", looked.diagnostics),
        Output::Json => {
            let json = serde_json::to_string_pretty(&looked.diagnostics).map_err(Failure::failed)?;
            println!("{json}");
        }
    }
    if looked.diagnostics.has_errors() {
        return Err(Failure::Said(EXIT_REFUSED));
    }
    if let (Output::Text, Some(planned)) = (args.output, looked.planned) {
        println!(
            "valid: StreamJob {} with {} topics, plan {} of {} stages",
            planned.pipeline.job.name,
            planned.pipeline.topics.len(),
            planned.plan.fingerprint(),
            planned.plan.stages.len()
        );
    }
    Ok(())
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PlanFormat {
    /// A tree.
    Tree,
    /// A Mermaid diagram.
    Mermaid,
    /// The plan itself.
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    manifests: Manifests,
    /// How the plan is printed
    #[arg(long, value_enum, default_value = "tree")]
    format: PlanFormat,
}

/// Shows the plan.
pub(super) fn plan(args: &PlanArgs) -> Result<(), Failure> {
    let planned = pipeline::load(&args.manifests.paths)?;
    match args.format {
        PlanFormat::Tree => print!("{}", freshet_plan::print::tree(&planned.plan)),
        PlanFormat::Mermaid => print!("{}", freshet_plan::print::mermaid(&planned.plan)),
        PlanFormat::Json => {
            println!("{}", serde_json::to_string_pretty(&planned.plan).map_err(Failure::failed)?);
        }
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(super) struct StateArgs {
    /// An object or a folder: file:///…, s3://bucket/…
    url: String,
    /// Address of an S3-compatible store
    #[arg(long)]
    endpoint: Option<String>,
    /// Its region
    #[arg(long)]
    region: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Shows an object, or lists a folder.
pub(super) fn state(args: &StateArgs) -> Result<(), Failure> {
    let (folder, name) =
        args.url.rsplit_once('/').ok_or_else(|| Failure::Refused(format!("{} is no URL", args.url)))?;
    let at = |url: &str| {
        store(&Checkpoint { url: url.to_owned(), endpoint: args.endpoint.clone(), region: args.region.clone() })
    };
    let parent = at(folder)?;
    let object = block_on(async { if name.is_empty() { Ok(None) } else { parent.get(name).await } })?;
    match object.map_err(Failure::failed)? {
        Some(bytes) => show(&bytes, args.output),
        None => {
            let here = at(&args.url)?;
            let paths = block_on(async { here.list("").await })?.map_err(Failure::failed)?;
            if paths.is_empty() {
                return Err(Failure::Failed(format!("there is nothing at {}", args.url)));
            }
            paths.iter().for_each(|path| println!("{path}"));
            Ok(())
        }
    }
}

fn show(bytes: &Bytes, output: Output) -> Result<(), Failure> {
    // Records of the lineage (generations, starts, pointers) are JSON; state objects are not.
    if bytes.first() == Some(&b'{') {
        println!("{}", String::from_utf8_lossy(bytes));
        return Ok(());
    }
    let description = describe(bytes).map_err(Failure::failed)?;
    match output {
        Output::Text => print!("{}", described(&description)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&description).map_err(Failure::failed)?),
    }
    Ok(())
}

/// An object, for people.
fn described(object: &ObjectDescription) -> String {
    let mut text = format!(
        "{} {}: {} bytes\n  lineage {}, generation {}, slot {}, epoch {}\n  plan {}, runtime {}\n",
        object.kind,
        object.name,
        object.bytes,
        object.lineage,
        object.generation,
        object.slot,
        object.epoch,
        object.plan_fingerprint,
        object.runtime_version
    );
    for task in &object.tasks {
        let parts = usize::from(task.base.is_some()) + task.deltas.len();
        // Writing to a text does not fail.
        let _ = writeln!(text, "  task {}: state in {parts} objects, {} bytes of rows here", task.task, task.row_bytes);
        for (kind, part) in task.base.iter().map(|base| ("base", base)).chain(task.deltas.iter().map(|d| ("delta", d)))
        {
            let _ = writeln!(text, "    {kind} {}: {} bytes", part.object, part.bytes);
        }
        for (operator, rows) in &task.operators {
            let keys = rows.first_keys.join(", ");
            let _ = writeln!(
                text,
                "    {operator}: {} rows, {} deleted, {} bytes; keys {keys}",
                rows.rows, rows.tombstones, rows.bytes
            );
        }
        if let Some(damage) = &task.damage {
            let _ = writeln!(text, "    damaged: {damage}");
        }
    }
    text
}
