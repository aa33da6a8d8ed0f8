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
    /// An object or a folder: file:///…, s3://bucket/…, or a path here
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
    let url = as_url(&args.url);
    let at = |url: &str| {
        store(&Checkpoint { url: url.to_owned(), endpoint: args.endpoint.clone(), region: args.region.clone() })
    };
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{url}: {error}"));
    let object = match parent_of(&url) {
        Some((folder, name)) => {
            let parent = at(folder)?;
            block_on(async { parent.get(name).await })?.map_err(|error| failed(&error))?
        }
        None => None,
    };
    match object {
        Some(bytes) => show(&bytes, args.output).map_err(|failure| match failure {
            Failure::Failed(message) => Failure::Failed(format!(
                "{url} is no state object that this version reads: {message}; `freshet state` of its folder lists objects"
            )),
            other => other,
        }),
        None => {
            let here = at(&url)?;
            let paths = block_on(async { here.list("").await })?.map_err(|error| failed(&error))?;
            if paths.is_empty() {
                let message = "name an object, or a folder above it: <checkpoint url>/<namespace>/<job>";
                return Err(Failure::Failed(format!("there is nothing at {url}; {message}")));
            }
            paths.iter().for_each(|path| println!("{path}"));
            Ok(())
        }
    }
}

/// A path in the file system as the URL that it is short for.
fn as_url(given: &str) -> String {
    if given.contains("://") {
        return given.to_owned();
    }
    let path = std::path::Path::new(given);
    let path = path.canonicalize().or_else(|_| std::path::absolute(path));
    path.map_or_else(|_| given.to_owned(), |path| format!("file://{}", path.display()))
}

/// The folder and the name of what may be an object: something inside of a bucket, or of a folder.
fn parent_of(url: &str) -> Option<(&str, &str)> {
    let (folder, name) = url.rsplit_once('/')?;
    let (_, place) = folder.split_once("://")?;
    (!name.is_empty() && !place.is_empty()).then_some((folder, name))
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
