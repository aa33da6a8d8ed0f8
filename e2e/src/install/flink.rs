//! Flink, to be compared with: the jars of a session cluster, its SQL client and its Kafka connector.

use std::path::PathBuf;

use crate::LabError;

use super::cache::Cache;
use super::debian::{self, JAVA, MAVEN};
use super::maven::copy_jars;
use super::versions::{FLINK, FLINK_JARS, FLINK_POM};

/// Copies the jars into the cache.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    if find(cache).is_err() {
        debian::ensure(&[JAVA, MAVEN])?;
    }
    cache.folder(&folder_name(), |folder| copy_jars(FLINK_POM, FLINK_JARS, folder)).map(drop)
}

/// The folder of the installed jars, or what is missing.
pub(super) fn find(cache: &Cache) -> Result<PathBuf, LabError> {
    let found = cache.root().join(folder_name());
    if found.exists() { Ok(found) } else { Err(LabError::NotInstalled { what: "flink", cache: cache.root().into() }) }
}

fn folder_name() -> String {
    format!("flink-{FLINK}-jars")
}

#[cfg(test)]
mod tests {
    use super::super::maven::checksums;
    use super::*;

    #[test]
    fn the_pinned_jars_and_the_pom_name_the_same_versions() {
        let sums = checksums(FLINK_JARS);
        assert!(sums.len() > 50, "only {} jars are pinned", sums.len());
        for jar in [format!("flink-runtime-{FLINK}.jar"), format!("flink-sql-client-{FLINK}.jar")] {
            assert!(sums.contains_key(jar.as_str()), "{jar}");
        }
        assert!(FLINK_POM.contains(&format!("<flink>{FLINK}</flink>")));
        let connector = sums.keys().find_map(|jar| jar.strip_prefix("flink-connector-kafka-")?.strip_suffix(".jar"));
        assert!(FLINK_POM.contains(&format!("<version>{}</version>", connector.expect("a test's own data"))));
        assert!(sums.values().all(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
