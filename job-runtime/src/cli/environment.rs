//! What commands need of the process around them: runtime, signals, store, Kafka.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use freshet_crds::reasons;
use freshet_env::SharedEnv;
use freshet_kafka::{KafkaConfig, KafkaLog};
use freshet_log::{Log, TopicSpec};
use freshet_state::store::{S3Options, Store, open};

use super::Failure;
use crate::manifest::{Checkpoint, Pipeline, TopicTable};
use crate::slot::SlotError;

/// How long a command tries again where that may help. A question to a broker that is away takes longer than this by
/// itself, so that it is asked once; whoever waits is told then.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a topic may be unknown that was just made: brokers hear of it one after the other.
const TOPIC_PATIENCE: Duration = Duration::from_secs(3);

/// Runs `work` on this thread, with timers, IO and local tasks.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime can't be started: {error}")))?;
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(&runtime, work);
    // Blocking calls of clients that were left behind must not keep the process.
    runtime.shutdown_background();
    Ok(result)
}

/// Completes when a person or a supervisor asks the process to stop. A Ctrl-C after that ends the process at once.
pub(super) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
    tokio::task::spawn_local(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            end_at_once();
        }
    });
}

/// Ends the process, because a person has asked a second time: a clean stop waits for brokers and store, which may be
/// away. Nothing is lost by it.
pub(super) fn end_at_once() -> ! {
    eprintln!("asked twice: ended at once. What was not committed is done again at the next start");
    std::process::exit(130)
}

/// Tries again for a while where that may help. The leader of a partition that was just made may not know yet that it
/// is one, and a broker that restarts is back within seconds.
pub(super) async fn patiently<T, F: Future<Output = Result<T, SlotError>>>(
    env: &SharedEnv,
    mut attempt: impl FnMut() -> F,
) -> Result<T, SlotError> {
    let began = env.monotonic();
    let mut pause = Duration::from_millis(50);
    let patience = |error: &SlotError| match error.known_reason() {
        reason if reason == reasons::TOPIC_NOT_FOUND => TOPIC_PATIENCE,
        _ if error.is_transient() => PATIENCE,
        _ => Duration::ZERO,
    };
    loop {
        match attempt().await {
            Err(error) if env.monotonic().saturating_sub(began) < patience(&error) => {
                tracing::warn!(reason = error.reason(), "{error}; trying again");
                env.sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            done => return done,
        }
    }
}

/// The store of a checkpoint's URL.
pub(super) fn store(checkpoint: &Checkpoint) -> Result<Rc<dyn Store>, Failure> {
    let s3 = (checkpoint.endpoint.is_some() || checkpoint.region.is_some()).then(|| S3Options {
        endpoint: checkpoint.endpoint.clone(),
        region: checkpoint.region.clone(),
        ..S3Options::default()
    });
    open(&checkpoint.url, s3).map_err(|error| Failure::Refused(format!("checkpoint {}: {error}", checkpoint.url)))
}

/// Where state is kept: what was asked for, what the manifest says, or a folder here.
pub(super) fn checkpoint(asked: Option<&str>, pipeline: &Pipeline) -> Result<Checkpoint, Failure> {
    if let Some(url) = asked {
        let declared = pipeline.job.checkpoint.clone();
        let (endpoint, region) = declared.map_or((None, None), |declared| (declared.endpoint, declared.region));
        return Ok(Checkpoint { url: url.to_owned(), endpoint, region });
    }
    if let Some(declared) = &pipeline.job.checkpoint {
        return Ok(declared.clone());
    }
    let folder = Path::new(".freshet").join("state");
    let absolute = std::fs::create_dir_all(&folder)
        .and_then(|()| folder.canonicalize())
        .map_err(|error| Failure::Failed(format!("{} can't be made: {error}", folder.display())))?;
    Ok(Checkpoint { url: format!("file://{}", absolute.display()), endpoint: None, region: None })
}

/// The user that a job's processes log in to Kafka as.
const SASL_USERNAME: &str = "FRESHET_KAFKA_SASL_USERNAME";
/// That user's password.
const SASL_PASSWORD: &str = "FRESHET_KAFKA_SASL_PASSWORD";

/// Settings for the Kafka cluster at `servers`, with SASL credentials from the environment where it has some.
///
/// # Errors
/// Half of the credentials. Their values are in no text.
pub(super) fn kafka_config(servers: &str, job: &str, settings: &[(String, String)]) -> Result<KafkaConfig, String> {
    let mut config = KafkaConfig::new(servers, format!("freshet-{job}"));
    config.extra = settings.iter().cloned().collect::<BTreeMap<_, _>>();
    #[allow(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable(SASL_USERNAME), variable(SASL_PASSWORD)) {
        (None, None) => {}
        (Some(username), Some(password)) => {
            config.extra.insert("sasl.username".to_owned(), username);
            config.extra.insert("sasl.password".to_owned(), password);
        }
        (username, _) => {
            let missing = if username.is_some() { SASL_PASSWORD } else { SASL_USERNAME };
            return Err(format!("{missing} is not set, or empty, but its counterpart is: set both, or neither"));
        }
    }
    Ok(config)
}

/// Kafka as a log.
pub(super) fn kafka(config: KafkaConfig, env: &SharedEnv) -> Result<Rc<dyn Log>, Failure> {
    Ok(Rc::new(KafkaLog::connect(config, Rc::clone(env)).map_err(|error| Failure::Refused(error.to_string()))?))
}

/// The topics of a pipeline, as the log is asked to make them.
pub(super) fn topic_specs<'a>(topics: impl Iterator<Item = &'a TopicTable>) -> Vec<TopicSpec> {
    let spec = |topic: &TopicTable| TopicSpec {
        name: topic.topic.clone(),
        partitions: topic.partitions,
        replicas: topic.replicas,
        config: topic.config.clone(),
    };
    topics.map(spec).collect()
}

/// `name=value`, as an argument.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not name=value")),
    }
}

/// A duration as manifests write it: `200ms`, `5s`, `10m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<freshet_crds::Duration>().map(Into::into).map_err(|error| error.to_string())
}
