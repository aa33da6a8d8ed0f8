//! The operator's settings: arguments of the process, read once. A chart renders each of them; nothing is read
//! from the environment but logging (`FRESHET_LOG`, `FRESHET_LOG_FORMAT`), Kafka's credentials
//! (`FRESHET_KAFKA_SASL_USERNAME`, `FRESHET_KAFKA_SASL_PASSWORD`) and, outside of a cluster, `KUBECONFIG`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use freshet_crds::{KafkaSaslSpec, KafkaSpec, KafkaTlsSpec, SaslMechanism, SecretKeyRef, SecretRef};

/// Reconciles Freshet's Topics and StreamJobs.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "freshet-operator", version, max_term_width = 100)]
pub struct Config {
    /// Look after this namespace alone [default: all namespaces]
    #[arg(long, value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,

    /// The namespace that the operator itself runs in: its Lease is there
    #[arg(long, value_name = "NAMESPACE", default_value = "freshet-system")]
    pub namespace: String,

    /// This replica's name, unique among them; in a pod its name [default: made from the process's number]
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,

    /// Name of the Lease by which one replica leads
    #[arg(long, value_name = "NAME", default_value = "freshet-operator")]
    pub lease: String,

    /// How long a Lease holds that is not renewed: a leader that is lost is followed by another after that
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub lease_duration: Duration,

    /// Work without a Lease: for a single replica outside of a cluster
    #[arg(long)]
    pub no_leader_election: bool,

    /// Serve metrics and health here: /metrics, /livez, /readyz
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// The brokers of Topics and StreamJobs that name none
    #[arg(long, value_name = "HOST:PORT,…")]
    pub kafka: Option<String>,

    /// With --kafka: those brokers are reached by TLS
    #[arg(long, requires = "kafka")]
    pub kafka_tls: bool,

    /// With --kafka-tls: name of the Secret, in each job's namespace, whose entry ca.crt holds the certificates of the
    /// authorities that sign the brokers' [default: public authorities]
    #[arg(long, value_name = "NAME", requires = "kafka_tls")]
    pub kafka_ca_secret: Option<String>,

    /// With --kafka-tls: the file with those certificates for the operator itself, which looks after Topics
    #[arg(long, value_name = "FILE", requires = "kafka_tls")]
    pub kafka_ca_file: Option<PathBuf>,

    /// With --kafka: how is logged in there: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. The operator's own credentials come
    /// from the environment: FRESHET_KAFKA_SASL_USERNAME and FRESHET_KAFKA_SASL_PASSWORD
    #[arg(long, value_name = "MECHANISM", requires_all = ["kafka", "kafka_sasl_secret"], value_parser = mechanism)]
    pub kafka_sasl_mechanism: Option<SaslMechanism>,

    /// With --kafka-sasl-mechanism: name of the Secret, in each job's namespace, with username and password of its
    /// workers
    #[arg(long, value_name = "NAME", requires = "kafka_sasl_mechanism")]
    pub kafka_sasl_secret: Option<String>,

    /// Where StreamJobs keep state that name no place
    #[arg(long, value_name = "URL")]
    pub checkpoint_url: Option<String>,

    /// With --checkpoint-url: address of the S3-compatible store
    #[arg(long, value_name = "URL", requires = "checkpoint_url")]
    pub checkpoint_s3_endpoint: Option<String>,

    /// With --checkpoint-url: the store's region
    #[arg(long, value_name = "REGION", requires = "checkpoint_url")]
    pub checkpoint_s3_region: Option<String>,

    /// With --checkpoint-url: name of the Secret, in each job's namespace, that holds the store's credentials
    #[arg(long, value_name = "NAME", requires = "checkpoint_url")]
    pub checkpoint_s3_secret: Option<String>,

    /// The image that workers and preflight Jobs run
    #[arg(long, value_name = "IMAGE", default_value = concat!("localhost/freshet:", env!("CARGO_PKG_VERSION")))]
    pub runtime_image: String,

    /// When kubelet pulls it: Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,

    /// Name of a Secret in each job's namespace that the image is pulled with
    #[arg(long, value_name = "NAME")]
    pub image_pull_secret: Vec<String>,

    /// What tells this cluster from others that keep state in the same bucket; it must never change
    /// [default: the UID of the namespace kube-system, which the operator must then be allowed to get]
    #[arg(long, value_name = "ID")]
    pub cluster_id: Option<String>,

    /// A file of at least 32 random bytes, the same for all replicas and for ever: control tokens of workers are
    /// made from it
    #[arg(long, value_name = "FILE")]
    pub control_key_file: PathBuf,

    /// How long a resource that is deleted may wait for its workers to stop before its finalizer goes anyway
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub deletion_deadline: Duration,

    /// How often a Kafka topic is looked at that is as its Topic says: what others did to it goes back within that
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub topic_resync: Duration,

    /// How many resources of a kind are reconciled at once
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
}

impl Config {
    /// This replica's name.
    #[must_use]
    pub fn identity(&self) -> String {
        self.identity.clone().unwrap_or_else(|| format!("freshet-operator-{}", std::process::id()))
    }

    /// The Kafka cluster of jobs that name none, as if they had named it.
    #[must_use]
    pub fn default_kafka(&self) -> Option<KafkaSpec> {
        let ca = |name: &String| SecretKeyRef { name: name.clone(), key: "ca.crt".to_owned() };
        let sasl = self.kafka_sasl_mechanism.zip(self.kafka_sasl_secret.clone());
        Some(KafkaSpec {
            bootstrap_servers: self.kafka.clone()?,
            tls: self.kafka_tls.then(|| KafkaTlsSpec {
                ca_secret_ref: self.kafka_ca_secret.as_ref().map(ca),
                certificate_secret_ref: None,
            }),
            sasl: sasl.map(|(mechanism, name)| KafkaSaslSpec { mechanism, secret_ref: SecretRef { name } }),
        })
    }
}

/// A mechanism as Kafka calls it.
fn mechanism(text: &str) -> Result<SaslMechanism, String> {
    let all = [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];
    let found = all.into_iter().find(|mechanism| mechanism.name() == text);
    found.ok_or_else(|| format!("one of {}", all.map(SaslMechanism::name).join(", ")))
}

/// A duration as manifests write it.
fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<freshet_crds::Duration>().map(Into::into).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn arguments_are_well_formed_and_have_defaults() {
        Config::command().debug_assert();
        let config = Config::parse_from(["freshet-operator", "--control-key-file", "/key"]);
        assert_eq!(
            (config.lease_duration, config.deletion_deadline),
            (Duration::from_secs(10), Duration::from_secs(120))
        );
        assert_eq!(config.watch_namespace, None);
    }
}
