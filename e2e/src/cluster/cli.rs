//! `freshet-lab cluster`: up, demo, status, down.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Subcommand;

use crate::LabError;
use crate::scenario::cluster::demo::{DemoOptions, demo};

use super::extras::{FOLDER, SECRET};
use super::part::{Progress, Readiness};
use super::{Extra, Site, Spec, status, take_down, up};

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterTask {
    /// Bring it up: install what is missing, start what does not run, and wait until all is ready.
    Up {
        /// How many nodes it has at least.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// How many Kafka brokers it has, 1 or 3: with 3, one can die.
        #[arg(long, default_value_t = 1)]
        brokers: u8,
        /// Have Kafka listen with TLS and SASL/SCRAM too.
        #[arg(long)]
        sasl: bool,
        /// Have a schema registry.
        #[arg(long)]
        registry: bool,
        /// Have a Postgres with logical replication.
        #[arg(long)]
        postgres: bool,
        /// Have a Prometheus that finds the pods with metrics.
        #[arg(long)]
        prometheus: bool,
    },
    /// Run the fraud-detection pilot on it under the operator, feed it, and compare its output with a recount.
    ///
    /// Brings the cluster up, builds and imports images, installs the operator with Helm, applies the manifests. Run
    /// again, the job goes on from where it is.
    Demo {
        /// How long it is fed.
        #[arg(long = "for", value_name = "DURATION", default_value = "20s")]
        feed_for: freshet_crds::Duration,
        /// How many records are written a second.
        #[arg(long, default_value_t = 2_000)]
        rate: u64,
        /// Of the generator: the same seed gives the same transactions.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Say what runs, where its logs are, and what is wrong.
    Status,
    /// End everything that runs, and remove all data; the logs stay.
    Down,
}

/// Does it, for the cluster that the environment names, and tells people what is going on.
///
/// # Errors
/// When it can't be done, or when what was asked about is not well.
pub fn run(task: &ClusterTask) -> Result<(), LabError> {
    let (site, began) = (Site::from_environment()?, Instant::now());
    match task {
        ClusterTask::Up { nodes, brokers, sasl, registry, postgres, prometheus } => {
            let flags = [
                (sasl, Extra::Sasl),
                (registry, Extra::Registry),
                (postgres, Extra::Postgres),
                (prometheus, Extra::Prometheus),
            ];
            let extras = flags.into_iter().filter_map(|(asked, extra)| asked.then_some(extra)).collect();
            let cluster = up(&site, &Spec { nodes: *nodes, brokers: *brokers, extras }, &mut tell)?;
            println!("up in {:.1} s; logs are in {}", began.elapsed().as_secs_f64(), cluster.logs().display());
            for (name, address) in cluster.services() {
                println!("{name}: {} from this machine, {} from pods", address.machine, address.pods);
                if let (Some(folder), Some(secret)) = (address.properties.get(FOLDER), address.properties.get(SECRET)) {
                    println!("    credentials: {folder}, Secret {secret}");
                }
            }
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
            Ok(())
        }
        ClusterTask::Demo { feed_for, rate, seed } => {
            up(&site, &Spec::default(), &mut tell)?;
            demo(&DemoOptions { feed_for: Duration::from_millis(feed_for.as_millis()), rate: *rate, seed: *seed })
        }
        ClusterTask::Status => tell_status(&site),
        ClusterTask::Down => {
            let _lock = site.lock()?;
            take_down(&site)?;
            println!(
                "down in {:.1} s; logs are in {}",
                began.elapsed().as_secs_f64(),
                site.folder().join("logs").display()
            );
            Ok(())
        }
    }
}

fn tell(progress: Progress<'_>) {
    match progress {
        Progress::There(part) => println!("{part}: up"),
        Progress::Starting(part) => println!("{part}: starting …"),
        Progress::Ready(part, took) => println!("{part}: ready after {:.1} s", took.as_secs_f64()),
    }
    // Whoever watches through a pipe wants to see it now.
    std::io::stdout().flush().ok();
}

fn tell_status(site: &Site) -> Result<(), LabError> {
    let parts = status(site)?;
    if parts.is_empty() {
        println!("no cluster in {}. `make cluster-up` starts one", site.folder().display());
        return Ok(());
    }
    let mut wrong = Vec::new();
    for part in &parts {
        match &part.readiness {
            Readiness::Ready => println!("{}: up", part.name),
            Readiness::NotYet(why) => {
                println!("{}: NOT READY: {why}", part.name);
                wrong.push(part.name.as_str());
            }
        }
        for place in &part.places {
            let process = place.process.map_or_else(|| "does not run".to_owned(), |id| format!("process {id}"));
            println!("    {:<28} {process:<16} {}", place.place, place.log.display());
        }
    }
    if wrong.is_empty() {
        println!("export KUBECONFIG={}", site.kubeconfig().display());
        return Ok(());
    }
    Err(LabError::Wrong(format!(
        "{} of {} parts are not ready: {}. `make cluster-up` starts what does not run",
        wrong.len(),
        parts.len(),
        wrong.join(", ")
    )))
}
