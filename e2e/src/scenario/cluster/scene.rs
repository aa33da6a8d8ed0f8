//! One test's place on a cluster: a namespace, topics and a bucket prefix of its own, so that tests can run side by
//! side. All go at its end; when the test fails, everything that can explain it is written down first.

use std::path::PathBuf;
use std::time::Duration;

use freshet_kafka::KafkaConfig;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::kubernetes::Kubernetes;
use super::operator::STORE_SECRET;
use super::surroundings::Surroundings;
use super::{bucket, report};
use crate::LabError;
use crate::images::{ImageName, build};
use crate::scenario::topics;

/// How long the cluster may take to make a namespace ready for pods.
const DEADLINE: Duration = Duration::from_secs(60);
/// Set it to keep a test's namespace for a look.
const KEEP: &str = "FRESHET_E2E_KEEP";

/// One test's place on the cluster.
#[derive(Debug)]
pub struct Scene {
    /// Its level and name, for instance `pods::exact`.
    pub name: String,
    /// Its namespace, which also prefixes its topics and its keys in the bucket.
    pub namespace: String,
    /// The API server.
    pub kubernetes: Kubernetes,
    /// The cluster's Kafka and S3.
    pub around: Surroundings,
}

impl Scene {
    /// A place for the test `name` (its level comes first: `pods::exact`) on the cluster that `KUBECONFIG` names, else
    /// on the lab's.
    ///
    /// # Errors
    /// When there is no cluster, or it takes no namespace.
    pub fn new(name: &str) -> Result<Self, LabError> {
        let around = Surroundings::find()?;
        if let Some(lab) = &around.lab {
            // What is tested is what was built last.
            for image in [ImageName::Busybox, ImageName::FreshetUnderTest] {
                lab.import(&build(image, &lab.images())?)?;
            }
        }
        let kubernetes = Kubernetes::new(&around.kubeconfig)?;
        let namespace = namespace_of(name);
        let scene = Self { name: name.to_owned(), namespace, kubernetes, around };
        scene.make_namespace()?;
        Ok(scene)
    }

    fn make_namespace(&self) -> Result<(), LabError> {
        let namespace = from_json::<Namespace>(json!({
            "metadata": {
                "name": self.namespace,
                // The strictest level: what runs here runs wherever Pod Security is enforced.
                "labels": {"freshet.dev/e2e": "true", "pod-security.kubernetes.io/enforce": "restricted"},
                "annotations": {"freshet.dev/test": self.name},
            },
        }));
        let api: Api<Namespace> = Api::all(self.kubernetes.client());
        let doing = format!("making the namespace {}", self.namespace);
        self.kubernetes.ask(&doing, api.create(&PostParams::default(), &namespace))?;
        let accounts = self.kubernetes.api::<ServiceAccount>(&self.namespace);
        self.kubernetes.wait_for(
            &format!("the default service account of {}", self.namespace),
            DEADLINE,
            || Ok(self.kubernetes.block_on(accounts.get_opt("default")).ok().flatten().map(drop)),
            || "without it no pod may start; does kube-controller-manager run?".to_owned(),
        )?;
        self.kubernetes.create(
            &self.namespace,
            &from_json::<k8s_openapi::api::core::v1::Secret>(json!({
                "metadata": {"name": STORE_SECRET},
                "stringData": {
                    "AWS_ACCESS_KEY_ID": self.around.access_key,
                    "AWS_SECRET_ACCESS_KEY": self.around.secret_key,
                    "AWS_REGION": self.around.region,
                },
            })),
        )?;
        Ok(())
    }

    /// What tells this run of the test from all others, in names of topics and jobs.
    #[must_use]
    pub fn run(&self) -> &str {
        self.namespace.rsplit('-').next().unwrap_or_default()
    }

    /// The name of a topic of this test.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    /// Where this test's jobs keep their state.
    #[must_use]
    pub fn store_url(&self) -> String {
        format!("s3://{}/{}", self.around.bucket, self.namespace)
    }

    /// How this machine reaches Kafka.
    #[must_use]
    pub fn kafka(&self) -> KafkaConfig {
        KafkaConfig::new(&self.around.kafka_from_here, "freshet-e2e")
    }

    /// Makes topics of this test.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub fn make_topics(&self, topics: &[(String, u32)]) -> Result<(), LabError> {
        topics::make(&self.around.kafka_from_here, topics)
    }

    /// Deletes every consumer group whose name holds `part`, with its offsets; gives their names.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub fn delete_groups(&self, part: &str) -> Result<Vec<String>, LabError> {
        topics::delete_groups(&self.around.kafka_from_here, part)
    }

    /// Deletes every topic whose name holds `part`, behind everybody's back.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub fn delete_topics(&self, part: &str) -> Result<(), LabError> {
        topics::delete_all(&self.around.kafka_from_here, part)
    }

    /// Writes down what explains a failure; gives the folder.
    pub fn report(&self) -> PathBuf {
        report::write(self)
    }

    fn clear(&self) {
        let api: Api<Namespace> = Api::all(self.kubernetes.client());
        // Its pods end within their own grace period; nobody waits for that.
        if let Err(error) = self.kubernetes.block_on(api.delete(&self.namespace, &DeleteParams::background())) {
            eprintln!("the namespace {} could not be deleted: {error}", self.namespace);
        }
        if let Err(error) = topics::delete_all(&self.around.kafka_from_here, self.run()) {
            eprintln!("the topics of {} could not be deleted: {error}", self.namespace);
        }
        match bucket::clear(self) {
            Ok(0) => {}
            Ok(objects) => println!("{objects} objects of {} deleted", self.namespace),
            Err(error) => eprintln!("the objects of {} could not be deleted: {error}", self.namespace),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what explains the failure of {} is in {}", self.name, self.report().display());
        }
        if std::env::var_os(KEEP).is_some() {
            eprintln!("kept for a look: the namespace {}", self.namespace);
        } else {
            self.clear();
        }
    }
}

/// A resource from the text that one would write, which is checked by the API server anyway.
///
/// # Panics
/// When it is no such resource.
#[must_use]
pub fn from_json<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("the resource has the fields of its type")
}

/// A name that Kubernetes, Kafka and S3 take: the test's, and what tells its runs apart.
fn namespace_of(test: &str) -> String {
    let plain: String = test
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .collect();
    let plain = plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let run = crate::scenario::now_ms() as u64 ^ (u64::from(std::process::id()) << 20);
    format!("e2e-{}-{:08x}", plain[..plain.len().min(40)].trim_end_matches('-'), run & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_name_that_everybody_takes() {
        let name = namespace_of("pods::killed_again_and_again, whatever the_length of the test's name is");
        assert!(name.starts_with("e2e-pods-killed-again-and-again-whatever-the-"), "{name}");
        assert!(name.len() <= 63 && !name.contains("--"), "{name}");
        assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'));
    }
}
