//! A query of examples/nexmark: what its manifests say, for those who run the same SQL on another engine.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::LabError;
use crate::scenario::cluster::Manifest;

/// A Topic with a schema, as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in SQL.
    pub name: String,
    /// Its topic in Kafka.
    pub topic: String,
    /// How many partitions that has.
    pub partitions: u32,
    /// Names and types of its columns.
    pub columns: Vec<(String, String)>,
    /// The column of event time, and how far out of order records may come, s.
    pub event_time: Option<(String, u32)>,
}

/// A query with its tables.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The name of its manifest.
    pub name: String,
    /// The files that `freshet run` takes.
    pub manifests: Vec<PathBuf>,
    /// `INSERT INTO … SELECT …`.
    pub sql: String,
    /// What it writes.
    pub output: Table,
    /// All that it could read.
    pub inputs: Vec<Table>,
}

impl Pipeline {
    /// The query of the manifest `name`.
    ///
    /// # Errors
    /// When there is no such file, or it is not as these files are.
    pub fn load(name: &str) -> Result<Self, LabError> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nexmark");
        let manifests = vec![folder.join("topics.yaml"), folder.join(format!("{name}.yaml"))];
        let wrong = |what: &str| LabError::Wrong(format!("examples/nexmark/{name}.yaml: {what}"));
        let inputs = documents(&manifests[0])?.iter().filter_map(table).collect();
        let own = documents(&manifests[1])?;
        let sql = own.iter().find_map(|document| document["spec"]["sql"].as_str());
        let sql = sql.ok_or_else(|| wrong("no StreamJob with spec.sql"))?.trim_end().to_owned();
        let output = own.iter().find_map(table).ok_or_else(|| wrong("no Topic with columns"))?;
        Ok(Self { name: name.to_owned(), manifests, sql, output, inputs })
    }

    /// The SELECT alone, as `freshet query` takes it.
    ///
    /// # Errors
    /// When the SQL does not begin with INSERT INTO and the output's name.
    pub fn select(&self) -> Result<&str, LabError> {
        let begin = format!("INSERT INTO {}", self.output.name);
        let wrong = || LabError::Wrong(format!("{}: the SQL does not begin with `{begin}`", self.name));
        self.sql.strip_prefix(&begin).map(str::trim_start).ok_or_else(wrong)
    }

    /// The tables that its FROM names.
    #[must_use]
    pub fn reads(&self) -> Vec<&Table> {
        let words: Vec<&str> = self.sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
        let follows =
            |name: &str| words.windows(2).any(|pair| ["FROM", "JOIN", "TABLE"].contains(&pair[0]) && pair[1] == name);
        self.inputs.iter().filter(|table| follows(&table.name)).collect()
    }
}

fn documents(file: &Path) -> Result<Vec<Value>, LabError> {
    let text = std::fs::read_to_string(file).map_err(LabError::file("reading", file))?;
    let wrong = |error: serde_saphyr::Error| LabError::Wrong(format!("{}: {error}", file.display()));
    Manifest::split(&text).iter().map(|manifest| serde_saphyr::from_str(&manifest.text).map_err(wrong)).collect()
}

/// A Topic with columns, as a table.
fn table(document: &Value) -> Option<Table> {
    let spec = &document["spec"];
    let column = |column: &Value| Some((column["name"].as_str()?.to_owned(), column["type"].as_str()?.to_owned()));
    let columns = spec["schema"]["columns"].as_array()?.iter().map(column).collect::<Option<Vec<_>>>()?;
    let event_time = &spec["schema"]["eventTime"];
    let seconds = || event_time["maxOutOfOrderness"].as_str()?.strip_suffix('s')?.parse().ok();
    Some(Table {
        name: document["metadata"]["name"].as_str()?.replace('-', "_"),
        topic: spec["topicName"].as_str()?.to_owned(),
        partitions: u32::try_from(spec["partitions"].as_u64()?).ok()?,
        columns,
        event_time: event_time["column"].as_str().map(str::to_owned).zip(seconds()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nexmark::{DISORDER_MS, Kind, PARTITIONS, QUERIES, Recount};

    #[test]
    fn manifests_recounts_and_generator_speak_of_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nexmark");
        let files =
            std::fs::read_dir(folder).expect("a test's own data").map(|file| file.expect("a test's own data").path());
        let mut found: Vec<String> = files
            .filter(|file| file.extension().is_some_and(|it| it == "yaml"))
            .map(|file| file.file_stem().expect("a test's own data").to_string_lossy().into_owned())
            .filter(|name| name != "topics")
            .collect();
        let mut wanted = QUERIES.map(str::to_owned).to_vec();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "each manifest has a recount");
        for name in QUERIES {
            let pipeline = Pipeline::load(name).expect("a test's own data");
            assert!(pipeline.select().expect("a test's own data").starts_with("SELECT"), "{name}");
            let [read] = pipeline.reads()[..] else { panic!("{name} reads not one table") };
            let kind = Recount::new(name).expect("a test's own data").reads();
            assert_eq!((&*read.name, &*read.topic, read.partitions), (kind.table(), kind.topic(), PARTITIONS));
            let disorder = u32::try_from(DISORDER_MS / 1_000).expect("a test's own data");
            assert_eq!(read.event_time, Some(("dateTime".to_owned(), disorder)));
            assert_eq!(pipeline.inputs.len(), Kind::ALL.len());
        }
    }
}
