//! Flink's side of the comparison: the very SQL of the manifest, on tables that are declared from its Topics.

use super::Engine;
use crate::LabError;
use crate::nexmark::{Pipeline, Table};
use crate::servers::FlinkCluster;

/// The consumer group of its source.
const GROUP: &str = "flink-peer";

/// A session cluster with the query's job.
pub(super) struct Flink {
    cluster: FlinkCluster,
    output: String,
}

impl Flink {
    /// Starts it on `input`; it writes into the topic `output`.
    pub(super) fn start(
        bootstrap: &str,
        pipeline: &Pipeline,
        input: &Table,
        output: &str,
        interval_ms: u64,
    ) -> Result<Self, LabError> {
        let cluster = FlinkCluster::start(interval_ms)?;
        cluster.submit(&script(bootstrap, pipeline, input, output))?;
        Ok(Self { cluster, output: output.to_owned() })
    }
}

/// What the SQL client reads.
fn script(bootstrap: &str, pipeline: &Pipeline, input: &Table, output: &str) -> String {
    let shared = |topic: &str| {
        format!(
            "'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json', \
             'json.timestamp-format.standard' = 'ISO-8601'"
        )
    };
    let read = format!(
        "{}, 'properties.group.id' = '{GROUP}', 'properties.isolation.level' = 'read_committed', 'scan.startup.mode' = \
         'earliest-offset'",
        shared(&input.topic)
    );
    // The broker takes transactions of fifteen minutes at the most; Flink asks for an hour.
    let written = format!(
        "{}, 'json.encode.decimal-as-plain-number' = 'true', 'sink.delivery-guarantee' = 'exactly-once', \
         'sink.transactional-id-prefix' = '{GROUP}', 'properties.transaction.timeout.ms' = '900000'",
        shared(output)
    );
    format!(
        "SET 'execution.target' = 'remote';\n{}{}{};\n",
        declared(input, &read),
        declared(&pipeline.output, &written),
        pipeline.sql.trim_end_matches(';')
    )
}

/// A table's declaration.
fn declared(table: &Table, options: &str) -> String {
    let mut columns: Vec<String> = table.columns.iter().map(|(name, kind)| format!("`{name}` {kind}")).collect();
    if let Some((column, seconds)) = &table.event_time {
        columns.push(format!("WATERMARK FOR `{column}` AS `{column}` - INTERVAL '{seconds}' SECOND"));
    }
    format!("CREATE TABLE `{}` ({}) WITH ({options});\n", table.name, columns.join(", "))
}

impl Engine for Flink {
    fn name(&self) -> &'static str {
        "Flink"
    }

    fn ids(&self) -> Vec<u32> {
        self.cluster.ids().to_vec()
    }

    fn groups(&self) -> &'static str {
        GROUP
    }

    fn output(&self) -> &str {
        &self.output
    }

    fn freeze(&self) {
        self.cluster.freeze();
    }

    fn thaw(&self) {
        self.cluster.thaw();
    }

    fn said(&self) -> String {
        self.cluster.said()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_declared_as_the_topics_are() {
        let pipeline = Pipeline::load("q1").expect("a test's own data");
        let script = script("broker:9092", &pipeline, pipeline.reads()[0], "out");
        let wanted = "CREATE TABLE `bid` (`auction` BIGINT, `bidder` BIGINT, `price` BIGINT, `channel` STRING, `url` STRING, \
                      `dateTime` TIMESTAMP(3), `extra` STRING, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) \
                      WITH ('connector' = 'kafka', 'topic' = 'nexmark.bid'";
        assert!(script.contains(wanted), "{script}");
        assert!(script.contains("`price` DECIMAL(24,3)") && script.contains("'topic' = 'out'"), "{script}");
        assert!(script.ends_with("FROM bid;\n"), "{script}");
    }
}
