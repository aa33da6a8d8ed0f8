//! `freshet-lab`: installs the tools and servers of the tests, and runs a server for people.
#![allow(
    clippy::disallowed_methods,
    reason = "the lab starts real servers, on the machine's own clock and environment"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use freshet_e2e::LabError;
use freshet_e2e::bench::bare::copy;
use freshet_e2e::bench::peers::PeerOptions;
use freshet_e2e::bench::{Figure, bench};
use freshet_e2e::cluster::cli::{self, ClusterTask};
use freshet_e2e::cluster::{serve_relay, serve_targets};
use freshet_e2e::images::{self, ImageName};
use freshet_e2e::install::{Cache, Part, install};
use freshet_e2e::nexmark;
use freshet_e2e::scenario::{sibling_binary, soak};
use freshet_e2e::servers::{KafkaOptions, KafkaServer, S3Options, S3Server};

/// Real servers for Freshet's tests, and for trying things out.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
struct Lab {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install pinned tools and servers into the cache folder (FRESHET_CACHE, or ~/.cache/freshet).
    ///
    /// Every step is verified by checksum, skipped when it is done, and safe to interrupt.
    Install {
        /// What to install; all that tests need when nothing is named.
        parts: Vec<Part>,
    },
    /// Build container images of the programs beside this one, without a registry.
    ///
    /// Archives as `docker save` writes them, for `ctr -n k8s.io images import` or `docker load`. The same input gives
    /// the same image; what is there from the same input is skipped.
    Images {
        /// Which ones; all whose programs are built when none is named.
        names: Vec<ImageName>,
        /// Where to put the archives [default: images beside this program].
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
    /// A real Kubernetes with Kafka and S3, on this machine.
    Cluster {
        #[command(subcommand)]
        task: ClusterTask,
    },
    /// From loopback into a cluster.
    #[command(hide = true)]
    Relay { target: std::net::SocketAddr },
    /// Tells a Prometheus of pods.
    #[command(hide = true)]
    PodTargets { listen: std::net::SocketAddr, kubeconfig: PathBuf },
    /// Run a Kafka broker on 127.0.0.1 until Ctrl-C.
    Kafka {
        /// Its port.
        #[arg(long, default_value_t = 9092)]
        port: u16,
        /// Keep its data in this folder, and go on with what is there. Without it everything goes at the end.
        #[arg(long, value_name = "FOLDER")]
        keep: Option<PathBuf>,
        /// A broker property, for instance offsets.retention.minutes=1; may be given several times.
        #[arg(long = "property", value_name = "NAME=VALUE", value_parser = name_and_value)]
        properties: Vec<(String, String)>,
    },
    /// Run an S3 server on 127.0.0.1 until Ctrl-C.
    S3 {
        /// Its port.
        #[arg(long, default_value_t = 7070)]
        port: u16,
        /// Keep its objects in this folder, and go on with what is there. Without it everything goes at the end.
        #[arg(long, value_name = "FOLDER")]
        keep: Option<PathBuf>,
        /// A bucket to make; may be given several times.
        #[arg(long = "bucket", value_name = "NAME", default_value = "freshet")]
        buckets: Vec<String>,
    },
    /// Kill slots of a job again and again on a real Kafka, and recount its output after every round.
    Soak {
        /// How many kills.
        #[arg(long, default_value_t = 1000)]
        kills: u32,
        /// The seed of the first round; each round has the next.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The program to kill [default: freshet-under-test beside this one].
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
    /// Write the records of Nexmark (people, auctions, bids) into files or topics, for examples/nexmark.
    Nexmark {
        #[command(flatten)]
        settings: nexmark::Settings,
        /// Write person.jsonl, auction.jsonl and bid.jsonl into this folder, for `freshet run --input`.
        #[arg(long, value_name = "FOLDER", required_unless_present = "kafka", conflicts_with = "kafka")]
        to: Option<PathBuf>,
        /// Write into the topics nexmark.person, nexmark.auction and nexmark.bid of these brokers.
        #[arg(long, value_name = "HOST:PORT,…")]
        kafka: Option<String>,
    },
    /// Measure the figures of docs/performance.md.
    Bench {
        /// Which ones; all but `peers` when none is named.
        figures: Vec<Figure>,
        /// The program to measure [default: freshet beside this one].
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        #[command(flatten)]
        peers: PeerOptions,
    },
    /// The faulty proxy before S3, told what to do by lines on its standard input.
    #[command(hide = true)]
    FaultyS3 {
        #[arg(long)]
        listen: std::net::SocketAddr,
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// The bench's yardstick.
    #[command(hide = true)]
    BareCopy { bootstrap: String, from: String, to: String, records: u64, interval_ms: u64 },
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    match run(Lab::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), LabError> {
    match task {
        Task::Install { parts } => install(&Cache::from_environment(), &parts),
        Task::Cluster { task } => cli::run(&task),
        Task::Relay { target } => serve_relay(target),
        Task::PodTargets { listen, kubeconfig } => serve_targets(listen, &kubeconfig),
        Task::Images { names, to } => build_images(&names, &to.unwrap_or_else(images::folder)),
        Task::FaultyS3 { listen, to } => freshet_e2e::faults::weather::serve(listen, to),
        Task::Kafka { port, keep, properties } => {
            let options =
                KafkaOptions { port: Some(port), properties: properties.into_iter().collect(), ..Default::default() };
            let mut server = match keep {
                Some(folder) => KafkaServer::start(&folder, &options)?,
                None => KafkaServer::start_temporary(&options)?,
            };
            println!("Kafka serves on {}; its log is {}/broker.log", server.bootstrap(), server.folder().display());
            println!("Ctrl-C stops it");
            let interrupted = interrupts()?;
            server.wait(|| interrupted.load(Ordering::Relaxed))?;
            server.stop()
        }
        Task::Soak { kills, seed, binary } => {
            let server = KafkaServer::start_temporary(&KafkaOptions::default())?;
            let binary = binary.unwrap_or_else(|| sibling_binary("freshet-under-test"));
            soak(&server.bootstrap(), &binary, kills, seed)
        }
        Task::Nexmark { settings, to, kafka } => {
            let folder = || nexmark::Destination::Folder(to.unwrap_or_default());
            let destination = kafka.map_or_else(folder, nexmark::Destination::Kafka);
            for (kind, count) in nexmark::write(&settings, &destination)? {
                println!("{}: {count}", kind.table());
            }
            Ok(())
        }
        Task::Bench { figures, binary, peers } => {
            bench(&binary.unwrap_or_else(|| sibling_binary("freshet")), &figures, &peers)
        }
        Task::BareCopy { bootstrap, from, to, records, interval_ms } => {
            copy(&bootstrap, &from, &to, records, interval_ms).map(|never| match never {})
        }
        Task::S3 { port, keep, buckets } => {
            let options = S3Options { port: Some(port), buckets };
            let mut server = match keep {
                Some(folder) => S3Server::start(&folder, &options)?,
                None => S3Server::start_temporary(&options)?,
            };
            println!("S3 serves on {}; its log is {}/s3.log", server.endpoint(), server.folder().display());
            println!("access key {}, secret key {}", S3Server::ACCESS_KEY, S3Server::SECRET_KEY);
            println!("Ctrl-C stops it");
            let interrupted = interrupts()?;
            server.wait(|| interrupted.load(Ordering::Relaxed))?;
            server.stop()
        }
    }
}

fn build_images(names: &[ImageName], to: &std::path::Path) -> Result<(), LabError> {
    let built = |name: &ImageName| name.program().is_none_or(|program| program.exists());
    let all: Vec<_> = ImageName::ALL.into_iter().filter(built).collect();
    for name in if names.is_empty() { &all } else { names } {
        let image = images::build(*name, to)?;
        let there = if image.fresh { "built" } else { "there" };
        println!("{}: {there}, {} in {}", image.reference, &image.id[..19], image.archive.display());
    }
    Ok(())
}

/// A flag that Ctrl-C or SIGTERM sets.
fn interrupts() -> Result<&'static AtomicBool, LabError> {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::file("starting a runtime for signals", "."))?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    });
    Ok(&INTERRUPTED)
}
