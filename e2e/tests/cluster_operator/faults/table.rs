//! What a fault is, and how one is tried out.

use std::fmt::{self, Display};

use freshet_e2e::LabError;
use freshet_e2e::scenario::cluster::{condition, told};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

use super::canary::Remains;
use super::*;

/// How long the reason may take to be told, and to be forgotten after the mend.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How long a job may take to be well before anything is done to it; the machine may be busy.
const WELL: Duration = Duration::from_secs(90);

/// Which resource says what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The StreamJob that is called after the fault.
    Job,
    /// The Topic that is called after the fault.
    Topic,
}

/// Puts it right.
pub type Mend = Box<dyn FnOnce(&Stage<'_>) -> Result<(), LabError>>;

/// Something that goes wrong.
pub struct Fault {
    /// Its name, and that of its resource.
    pub name: &'static str,
    /// Which resource says it.
    pub of: Of,
    /// Whether it needs a namespace of its own.
    pub apart: bool,
    /// What there is before it happens, all of it well; nothing where the resource is wrong from the start.
    pub before: fn(&Stage<'_>) -> Vec<Value>,
    /// It happens; what undoes it.
    pub happens: fn(&Stage<'_>) -> Result<Mend, LabError>,
    /// The condition that says it, and its status.
    pub shows: (&'static str, &'static str),
    /// The reasons that are right.
    pub reasons: &'static [&'static str],
    /// What the message must hold.
    pub says: &'static str,
}

/// How it went.
pub struct Outcome {
    name: &'static str,
    told_after: Option<Duration>,
    forgotten_after: Option<Duration>,
    said: String,
    /// What was not as it should be.
    pub failure: Option<String>,
    /// What its job showed at the end.
    pub remains: Remains,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
        write!(
            f,
            "{:<28} {:>5} s {:>5} s  {}",
            self.name,
            seconds(self.told_after),
            seconds(self.forgotten_after),
            self.said
        )?;
        self.failure.as_ref().map_or(Ok(()), |failure| write!(f, "\n    FAILED: {failure}"))
    }
}

/// Does the fault, waits for its reason, mends it, and waits until all is well.
pub fn try_out(scene: &Scene, fault: &Fault) -> Outcome {
    let own = fault.apart.then(|| {
        let own = Scene::new(&format!("cluster_operator::{}", fault.name)).unwrap();
        stage::prepare(&own);
        own
    });
    let scene = own.as_ref().unwrap_or(scene);
    let stage = Stage::new(scene, fault.name);
    let mut outcome = Outcome {
        name: fault.name,
        told_after: None,
        forgotten_after: None,
        said: String::new(),
        failure: None,
        remains: Remains::default(),
    };
    let gone = steps(&stage, fault, &mut outcome);
    if let Err(error) = gone {
        outcome.failure = Some(error.to_string());
    }
    if fault.of == Of::Job {
        outcome.remains = canary::remains(scene, fault.name);
    }
    stage.clear(fault.of);
    outcome
}

fn steps(stage: &Stage<'_>, fault: &Fault, outcome: &mut Outcome) -> Result<(), LabError> {
    let before = (fault.before)(stage);
    if !before.is_empty() {
        stage.apply(&before)?;
        wait(stage, fault, "to be well at first", WELL, well)?;
    }
    let mend = (fault.happens)(stage)?;
    let began = Instant::now();
    let shown = |conditions: &[Condition]| {
        let found = condition(conditions, fault.shows.0)?;
        let right = found.status == fault.shows.1 && fault.reasons.contains(&found.reason.as_str());
        (right && found.message.contains(fault.says)).then(|| format!("{}: {}", found.reason, found.message))
    };
    let wanted =
        format!("to say {}={} with one of {:?} and `{}`", fault.shows.0, fault.shows.1, fault.reasons, fault.says);
    outcome.said = wait(stage, fault, &wanted, LIMIT, shown)?;
    outcome.told_after = Some(began.elapsed());
    mend(stage)?;
    let began = Instant::now();
    wait(stage, fault, "to be well again", LIMIT, well)?;
    outcome.forgotten_after = Some(began.elapsed());
    Ok(())
}

/// Whether all is well: Ready, nothing refused, nothing under way.
fn well(conditions: &[Condition]) -> Option<()> {
    let is = |type_: &str, status: &str| condition(conditions, type_).is_none_or(|it| it.status == status);
    let ready = condition(conditions, "Ready").is_some_and(|it| it.status == "True");
    (ready && is("Reconciling", "False") && is("Stalled", "False") && is("LagWithinObjective", "True")).then_some(())
}

fn wait<T>(
    stage: &Stage<'_>,
    fault: &Fault,
    what: &str,
    limit: Duration,
    reached: impl Fn(&[Condition]) -> Option<T>,
) -> Result<T, LabError> {
    let conditions = || stage.conditions(fault.of);
    stage.scene.kubernetes.wait_for(
        &format!("{} {what}", fault.name),
        limit,
        || Ok(conditions()?.and_then(|conditions| reached(&conditions))),
        || {
            conditions()
                .map_or_else(|error| error.to_string(), |it| it.map_or("it is not there".to_owned(), |it| told(&it)))
        },
    )
}
