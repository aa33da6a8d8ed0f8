//! Parts of a cluster, and how they are brought up: what all parts have in common.
//!
//! A part installs what it runs, starts what does not run yet, and says whether it is ready by asking it to do what it
//! is for. Nothing is remembered between two runs of the program: a part is up when it says so, and whoever was
//! interrupted anywhere calls [`bring_up`] again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::LabError;
use crate::install;
use crate::servers::process::log_tail;

use super::site::{Presence, Site};

/// How long a part may take to be ready on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(180);
/// How often it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whether a part does what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// Not now; why, as far as it is known.
    NotYet(String),
}

impl From<Result<(), String>> for Readiness {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::NotYet, |()| Self::Ready)
    }
}

/// A part of a cluster.
pub trait Part: std::fmt::Debug {
    /// What people call it.
    fn name(&self) -> String;

    /// What `freshet-lab install` must have installed.
    fn needs(&self) -> &'static [install::Part];

    /// The places of its processes, as in `cp/etcd`; the first ones are what the others stand on.
    fn places(&self) -> Vec<String>;

    /// Starts what of it does not run, without waiting for it to be ready.
    ///
    /// # Errors
    /// When something can't be started.
    fn start(&self, site: &Site) -> Result<(), LabError>;

    /// Asks it whether it does what it is for; answers within a few seconds.
    fn ready(&self, site: &Site) -> Readiness;

    /// Ends its processes and waits until they are gone; what they stored stays.
    ///
    /// # Errors
    /// When they do not end.
    fn stop(&self, site: &Site) -> Result<(), LabError> {
        super::down::end(site, &|place| self.places().iter().any(|own| own == place))
    }
}

/// What has happened to a part, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// It was up before.
    There(&'a str),
    /// It is being started.
    Starting(&'a str),
    /// It became ready after this time.
    Ready(&'a str, Duration),
}

/// Brings parts up that do not need each other: starts all, and waits until all are ready.
///
/// # Errors
/// The first part that could not be started, ended by itself, or was not ready in time.
pub fn bring_up(site: &Site, parts: &[Box<dyn Part>], report: &mut dyn FnMut(Progress<'_>)) -> Result<(), LabError> {
    let mut started = Vec::new();
    for part in parts {
        if up(site, part.as_ref()) == Readiness::Ready {
            report(Progress::There(&part.name()));
            continue;
        }
        report(Progress::Starting(&part.name()));
        let began = Instant::now();
        part.start(site)?;
        started.push((part, began));
    }
    for (part, began) in started {
        wait_until(site, &part.places(), &part.name(), || match part.ready(site) {
            Readiness::Ready => Ok(()),
            Readiness::NotYet(why) => Err(why),
        })?;
        report(Progress::Ready(&part.name(), began.elapsed()));
    }
    Ok(())
}

/// Whether a part is up: all of its processes are there, and it is ready.
#[must_use]
pub fn up(site: &Site, part: &dyn Part) -> Readiness {
    let missing = |place: &String| !matches!(site.presence(place), Presence::Working(_));
    match part.places().into_iter().find(missing) {
        Some(place) => Readiness::NotYet(format!("{place} does not run")),
        None => part.ready(site),
    }
}

/// Waits until `reached` says so, as long as there are processes at all of `places`.
pub(super) fn wait_until(
    site: &Site,
    places: &[String],
    what: &str,
    reached: impl Fn() -> Result<(), String>,
) -> Result<(), LabError> {
    let began = Instant::now();
    loop {
        // The order matters: what a process did before it ended is seen once it has ended.
        let gone = places.iter().find(|place| site.presence(place) == Presence::Absent);
        let Err(why) = reached() else { return Ok(()) };
        if let Some(place) = gone {
            let log = site.log(place);
            return Err(LabError::Died {
                server: place.clone(),
                status: format!("{what} was waited for: {why}"),
                tail: log_tail(&log),
                log,
            });
        }
        if began.elapsed() > DEADLINE {
            let (log, tail) = last_words(site, places);
            let (server, what) = (places.join(", "), format!("{what}: {why}"));
            return Err(LabError::Deadline { server, what, seconds: DEADLINE.as_secs_f64(), log, tail });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The folder or file of the logs of `places`, and the ends of them.
fn last_words(site: &Site, places: &[String]) -> (PathBuf, String) {
    let logs: Vec<_> = places.iter().map(|place| site.log(place)).filter(|log| log.exists()).collect();
    let tails = logs.iter().map(|log| format!("--- {}\n{}", log.display(), log_tail(log)));
    let all = tails.collect::<Vec<_>>().join("\n");
    (logs.into_iter().next().unwrap_or_else(|| site.folder().join("logs")), all)
}
