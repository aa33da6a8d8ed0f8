//! Which cluster the scenarios run on, and where its Kafka and S3 are: for pods, and for this machine.

use std::path::PathBuf;

use crate::LabError;
use crate::cluster::{Addresses, Cluster, SharedCluster};
use crate::images::ImageName;
use crate::servers::S3Server;

/// Names the file with addresses of a cluster that is not the lab's.
const ADDRESSES: &str = "FRESHET_E2E_ADDRESSES";

/// Names the runtime's image, on a cluster that is not the lab's.
const IMAGE: &str = "FRESHET_E2E_IMAGE";

/// Names the operator's image there.
const OPERATOR_IMAGE: &str = "FRESHET_E2E_OPERATOR_IMAGE";

/// A cluster, and the servers beside it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The lab's cluster; none when `KUBECONFIG` names another, on which no faults can be done.
    pub lab: Option<Cluster>,
    /// The runtime's image.
    pub image: String,
    /// The operator's image.
    pub operator_image: String,
    /// Brokers, for pods.
    pub kafka_from_pods: String,
    /// Brokers, for this machine.
    pub kafka_from_here: String,
    /// The store's endpoint, for pods.
    pub store_from_pods: String,
    /// The store's endpoint, for this machine.
    pub store_from_here: String,
    /// A bucket for tests.
    pub bucket: String,
    /// Its access key.
    pub access_key: String,
    /// The secret that goes with it.
    pub secret_key: String,
    /// Its region.
    pub region: String,
}

impl Surroundings {
    /// The cluster that `KUBECONFIG` names, else the lab's, which the first test of a run brings up.
    ///
    /// # Errors
    /// When nothing says where the Kafka and S3 of another cluster are.
    pub fn find() -> Result<Self, LabError> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let lab = match named("KUBECONFIG") {
            None => SharedCluster::get().clone(),
            // The line that `make cluster-up` ends with names the lab's own.
            Some(asked) if Cluster::load().is_ok_and(|own| own.kubeconfig() == asked) => Cluster::load()?,
            Some(asked) => return Self::elsewhere(asked, named(ADDRESSES)),
        };
        Self::of_lab(&lab)
    }

    /// Those of a lab's cluster.
    ///
    /// # Errors
    /// When it has no Kafka or no S3.
    pub fn of_lab(lab: &Cluster) -> Result<Self, LabError> {
        let services = lab.services().map(|(name, address)| (name.to_owned(), address.clone())).collect();
        Self::new(lab.kubeconfig(), Some(lab.clone()), &Addresses { services })
    }

    fn elsewhere(kubeconfig: PathBuf, addresses: Option<PathBuf>) -> Result<Self, LabError> {
        let path = addresses.ok_or_else(|| {
            LabError::Wrong(format!(
                "KUBECONFIG names {}: set {ADDRESSES} to a file that says where its Kafka and S3 are, in the form of the \
                 lab's own addresses.json (docs/testing-on-the-cluster.md); or unset KUBECONFIG, and run \
                 `make cluster-up`",
                kubeconfig.display()
            ))
        })?;
        let text = std::fs::read_to_string(&path).map_err(LabError::file("reading", &path))?;
        let read: Addresses =
            serde_json::from_str(&text).map_err(|error| LabError::Wrong(format!("{}: {error}", path.display())))?;
        Self::new(kubeconfig, None, &read)
    }

    /// The lab's own cluster, for faults.
    ///
    /// # Errors
    /// When the cluster is another: what is not ours is not broken.
    pub fn lab(&self) -> Result<&Cluster, LabError> {
        self.lab.as_ref().ok_or_else(|| {
            LabError::Wrong(
                "faults are for the lab's own cluster: unset KUBECONFIG, and run `make cluster-up`".to_owned(),
            )
        })
    }

    fn new(kubeconfig: PathBuf, lab: Option<Cluster>, addresses: &Addresses) -> Result<Self, LabError> {
        let service = |name: &str| {
            let found = addresses.services.get(name);
            found.ok_or_else(|| LabError::Wrong(format!("the addresses of the cluster have no `{name}`")))
        };
        let (kafka, s3) = (service("kafka")?, service("s3")?);
        let image =
            |variable: &str, built: ImageName| std::env::var(variable).unwrap_or_else(|_| built.reference().to_owned());
        let property = |name: &str, default: &str| s3.properties.get(name).map_or(default, String::as_str).to_owned();
        let http = |address: &str| {
            if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
        };
        Ok(Self {
            image: image(IMAGE, ImageName::FreshetUnderTest),
            operator_image: image(OPERATOR_IMAGE, ImageName::FreshetOperator),
            kubeconfig,
            lab,
            kafka_from_pods: kafka.pods.clone(),
            kafka_from_here: kafka.machine.clone(),
            store_from_pods: http(&s3.pods),
            store_from_here: http(&s3.machine),
            bucket: property("bucket", "freshet"),
            access_key: property("accessKey", S3Server::ACCESS_KEY),
            secret_key: property("secretKey", S3Server::SECRET_KEY),
            region: property("region", S3Server::REGION),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_where_everything_is() {
        let text = r#"{"services": {
            "kafka": {"machine": "127.0.0.1:1", "pods": "kafka.freshet-servers.svc:9092"},
            "s3": {"machine": "127.0.0.1:2", "pods": "http://s3.freshet-servers.svc:7070", "properties": {"bucket": "b"}}
        }}"#;
        let found = Surroundings::new(PathBuf::from("k"), None, &serde_json::from_str(text).expect("JSON"));
        let found = found.expect("all is there");
        assert_eq!(found.kafka_from_pods, "kafka.freshet-servers.svc:9092");
        assert_eq!((found.store_from_here.as_str(), found.bucket.as_str()), ("http://127.0.0.1:2", "b"));
        assert_eq!(found.store_from_pods, "http://s3.freshet-servers.svc:7070");
        let none = Surroundings::new(PathBuf::from("k"), None, &Addresses::default());
        assert!(none.expect_err("nothing is there").to_string().contains("no `kafka`"));
    }
}
