//! From manifests to a planned job, with everything that is wrong shown at once.

use std::path::PathBuf;

use freshet_plan::Plan;
use freshet_state::lineage::Owner;

use super::{EXIT_REFUSED, Failure};
use crate::job::{JobSpec, run_policy};
use crate::manifest::{self, Diagnostics, Examined, Pipeline};

/// A pipeline and its plan.
pub(super) struct Planned {
    pub pipeline: Pipeline,
    pub plan: Plan,
}

impl Planned {
    /// The job as the runtime takes it.
    pub fn spec(&self, owner: Owner) -> JobSpec {
        let job = &self.pipeline.job;
        JobSpec {
            owner,
            plan: self.plan.clone(),
            policy: run_policy(&job.on_bad_record, &job.on_late, job.epoch_interval),
            start_from: job.start_from,
            accept_dropped: job.accept_dropped.clone(),
        }
    }
}

/// What is known of manifests after a look at all of them.
pub(super) struct Looked {
    pub planned: Option<Planned>,
    pub diagnostics: Diagnostics,
}

/// Looks at manifests and plans their SQL, however much is wrong.
pub(super) fn look(paths: &[PathBuf]) -> Looked {
    let Examined { pipeline, sql, topics, mut diagnostics } = manifest::examine(paths);
    let options = manifest::options_of(pipeline.as_ref().map(|pipeline| &pipeline.job));
    let plan = sql.and_then(|sql| manifest::plan(&sql, &topics, &options, &mut diagnostics));
    let planned = pipeline.zip(plan).map(|(pipeline, plan)| Planned { pipeline, plan });
    Looked { planned, diagnostics }
}

/// A pipeline that can be run; everything that is wrong is printed.
pub(super) fn load(paths: &[PathBuf]) -> Result<Planned, Failure> {
    let looked = look(paths);
    match looked.planned {
        Some(planned) if !looked.diagnostics.has_errors() => Ok(planned),
        _ => {
            eprint!("{}", looked.diagnostics);
            Err(Failure::Said(EXIT_REFUSED))
        }
    }
}
