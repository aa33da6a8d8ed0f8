//! Manifests: from files to one validated pipeline, or to everything that is wrong with them.
//!
//! The files are those that `kubectl apply -f` takes. Nobody behind this room looks at YAML or at a raw
//! spec again: what leaves it is a [`Pipeline`], with references looked up, types parsed, durations as
//! durations and every default filled in.
//!
//! ```text
//! paths ─▶ yaml ─▶ Node (value + place) ─▶ object ─┬▶ schema  the CRD's shapes: unknown fields, types, ranges
//!                                                   ├▶ rules   the CRD's CEL rules, as the API server runs them
//!                                                   └▶ topic, job ─▶ pipeline  names and references between them
//!                          every room: problems, each with its place ─▶ Diagnostics
//! ```
//!
//! # All problems at once
//! A problem never ends the work: each room notes what it finds and goes on with what is left. Where two
//! rooms find the same thing, the one that can say more about it speaks (a type that can't be parsed is
//! not also reported as a pattern that does not match). A CEL rule is evaluated where the shape of what
//! it looks at is right, so that one mistake is reported once.
//!
//! # The same rules everywhere
//! Shapes and rules come from the generated CustomResourceDefinitions, so that `freshet validate` refuses
//! what an API server refuses. Beyond it this room checks what one object can't know: references between
//! resources, and names that collide.

mod diagnostics;
mod job;
mod kafka;
mod known;
mod node;
mod object;
mod pipeline;
mod planning;
mod render;
mod rules;
mod schema;
mod source;
mod sql_text;
mod suggest;
#[cfg(test)]
mod tests;
mod topic;

use std::path::PathBuf;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use kafka::security;
pub use node::Place;
pub use pipeline::{Checkpoint, Contract, Job, Pipeline, TopicTable};
pub use planning::{options_of, plan, plan_options, plan_query};
pub use sql_text::SqlText;

/// What was found in some manifests, however much is wrong with them.
#[derive(Debug)]
pub struct Examined {
    /// The pipeline, when no error was found.
    pub pipeline: Option<Pipeline>,
    /// The SQL of the StreamJob, when it could be read and every Topic could be resolved: then it can be
    /// planned over [`Examined::topics`], and its mistakes shown with the others, even when other fields
    /// of the StreamJob are wrong.
    pub sql: Option<SqlText>,
    /// The Topics that could be resolved, in the order of the files.
    pub topics: Vec<TopicTable>,
    /// Errors, warnings and notes, with the text of the files that they point into.
    pub diagnostics: Diagnostics,
}

/// The Topics among some manifests, however much is wrong with them.
#[derive(Debug)]
pub struct Tables {
    /// The Topics that could be resolved, in the order of the files.
    pub topics: Vec<TopicTable>,
    /// Errors, warnings and notes, with the text of the files that they point into.
    pub diagnostics: Diagnostics,
}

/// Reads the Topics of manifests, as [`examine`] does, and passes StreamJobs over.
#[must_use]
pub fn tables(paths: &[PathBuf]) -> Tables {
    let mut diagnostics = Diagnostics::default();
    let documents = source::read(paths, &mut diagnostics);
    let objects = object::find(documents, &mut diagnostics);
    pipeline::assemble_topics(objects, diagnostics)
}

/// Reads manifests and looks at all of them, however much is wrong.
///
/// A path is a file or a folder; of a folder every `*.yaml` and `*.yml` is read, by name, without
/// sub-folders (as `kubectl apply -f` does). Resources of other kinds are skipped with a note.
#[must_use]
pub fn examine(paths: &[PathBuf]) -> Examined {
    let mut diagnostics = Diagnostics::default();
    let documents = source::read(paths, &mut diagnostics);
    let objects = object::find(documents, &mut diagnostics);
    pipeline::assemble(&objects, diagnostics)
}

/// Looks at manifests that are no files: each is a name, which stands where a file's would, and its text.
#[must_use]
pub fn examine_texts(texts: &[(&str, &str)]) -> Examined {
    let mut diagnostics = Diagnostics::default();
    let mut documents = Vec::new();
    for (name, text) in texts {
        documents.extend(source::parse(name, text, &mut diagnostics));
        diagnostics.add_text(name, (*text).to_owned());
    }
    let objects = object::find(documents, &mut diagnostics);
    pipeline::assemble(&objects, diagnostics)
}

/// Reads manifests into a validated pipeline. Warnings and notes are in [`Pipeline::remarks`].
///
/// # Errors
/// Everything that is wrong with them, with its place, unless nothing is.
pub fn load(paths: &[PathBuf]) -> Result<Pipeline, Diagnostics> {
    let examined = examine(paths);
    examined.pipeline.ok_or(examined.diagnostics)
}
