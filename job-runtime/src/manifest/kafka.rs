//! Pure: how a Kafka cluster is reached, from a manifest to librdkafka's settings. Files and credentials are not in a
//! manifest: who runs the job brings them.

use freshet_crds::KafkaSpec;

/// The settings that the manifest alone decides.
#[must_use]
pub fn security(kafka: &KafkaSpec) -> Vec<(String, String)> {
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => return Vec::new(),
        (Some(_), None) => "SSL",
        (None, Some(_)) => "SASL_PLAINTEXT",
        (Some(_), Some(_)) => "SASL_SSL",
    };
    let mut settings = vec![("security.protocol".to_owned(), protocol.to_owned())];
    if let Some(sasl) = &kafka.sasl {
        settings.push(("sasl.mechanism".to_owned(), sasl.mechanism.name().to_owned()));
    }
    settings
}
