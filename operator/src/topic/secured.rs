//! Reads the environment once: how the operator itself reaches the default Kafka cluster, where its Topics are.

use std::collections::BTreeMap;
use std::fmt;

use super::wanted::Access;
use crate::config::Config;

/// The user that the operator logs in to Kafka as.
const USERNAME: &str = "FRESHET_KAFKA_SASL_USERNAME";
/// That user's password.
const PASSWORD: &str = "FRESHET_KAFKA_SASL_PASSWORD";

/// TLS and credentials for the default cluster. They are sent to no other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secured {
    cluster: Option<Access>,
    settings: BTreeMap<String, String>,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        f.debug_struct("Secured").field("cluster", &self.cluster).field("settings", &names).finish()
    }
}

/// Credentials that can't be used. Their values are in no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{missing} is not set, or empty, and --kafka-sasl-mechanism needs it: mount the Secret with the operator's user"
)]
pub struct MissingCredentials {
    missing: &'static str,
}

impl Secured {
    /// As the operator was started.
    ///
    /// # Errors
    /// [`MissingCredentials`].
    pub fn of(config: &Config) -> Result<Self, MissingCredentials> {
        #[allow(
            clippy::disallowed_methods,
            reason = "credentials come from the environment, so that no argument holds them"
        )]
        Self::from(config, |name| std::env::var(name).ok())
    }

    fn from(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Result<Self, MissingCredentials> {
        let Some(kafka) = config.default_kafka() else { return Ok(Self::default()) };
        let mut settings: BTreeMap<String, String> = freshet::manifest::security(&kafka).into_iter().collect();
        if let Some(file) = &config.kafka_ca_file {
            settings.insert("ssl.ca.location".to_owned(), file.display().to_string());
        }
        if kafka.sasl.is_some() {
            for (name, setting) in [(USERNAME, "sasl.username"), (PASSWORD, "sasl.password")] {
                let value = variable(name).filter(|value| !value.is_empty());
                settings.insert(setting.to_owned(), value.ok_or(MissingCredentials { missing: name })?);
            }
        }
        Ok(Self { cluster: Some(Access::new(&kafka.bootstrap_servers)), settings })
    }

    /// librdkafka's settings for a cluster.
    #[must_use]
    pub fn settings(&self, cluster: &Access) -> BTreeMap<String, String> {
        if self.cluster.as_ref() == Some(cluster) { self.settings.clone() } else { BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const ARGUMENTS: &[&str] = &[
        "freshet-operator",
        "--control-key-file=/key",
        "--kafka=kafka-1:9093,kafka-0:9093",
        "--kafka-tls",
        "--kafka-ca-file=/ca/ca.crt",
        "--kafka-sasl-mechanism=SCRAM-SHA-512",
        "--kafka-sasl-secret=kafka-user",
    ];

    #[test]
    fn credentials_go_to_the_default_cluster_alone() {
        let secured = Secured::from(&Config::parse_from(ARGUMENTS), |name| Some(format!("the {name}"))).expect("whole");
        let settings = secured.settings(&Access::new("kafka-0:9093, Kafka-1:9093"));
        assert_eq!(settings["security.protocol"], "SASL_SSL");
        assert_eq!(settings["sasl.mechanism"], "SCRAM-SHA-512");
        assert_eq!(settings["ssl.ca.location"], "/ca/ca.crt");
        assert_eq!(settings["sasl.password"], format!("the {PASSWORD}"));
        assert!(secured.settings(&Access::new("elsewhere:9093")).is_empty());
        assert!(!format!("{secured:?}").contains("the FRESHET"), "{secured:?}");
    }

    #[test]
    fn half_of_the_credentials_is_refused_by_name() {
        let config = Config::parse_from(ARGUMENTS);
        let missing = Secured::from(&config, |name| (name == USERNAME).then(|| "me".to_owned())).expect_err("half");
        assert!(missing.to_string().contains(PASSWORD) && !missing.to_string().contains("me,"), "{missing}");
        let plain = Config::parse_from(&ARGUMENTS[..3]);
        assert_eq!(
            Secured::from(&plain, |_| None).map(|secured| secured.settings(&Access::new("kafka-0:9093,kafka-1:9093"))),
            Ok(BTreeMap::new())
        );
    }
}
