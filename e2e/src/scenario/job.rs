//! One job: its manifests and topics, and the processes that run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use freshet_crds::control::PreflightReport;
use freshet_kafka::KafkaConfig;
use freshet_kafka::admin::{Admin, AdminError, ConfigChange};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Bucket, Difference, JobOptions, Recount, Role, Watch, Worker, compare, topics};
use crate::LabError;
use crate::servers::Scratch;
use crate::servers::process::{ServerProcess, Undertaking};

/// No wait of a scenario lasts longer, on whatever machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Partitions of every topic of the job.
pub(crate) const PARTITIONS: u32 = 4;
/// The declared disorder of the input, ms.
pub(crate) const DISORDER_MS: i64 = 2_000;

/// A job on a real Kafka, with its state in a folder. It is removed at the end, but kept if the test failed.
#[derive(Debug)]
pub struct Job {
    scratch: Scratch,
    binary: PathBuf,
    prefix: String,
    kafka: KafkaConfig,
    started: AtomicU32,
    log: &'static str,
    bucket: Option<Bucket>,
}

/// The program `name` that was built beside the running one.
#[must_use]
pub fn sibling_binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    // Cargo keeps tests one folder deeper than programs.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join(name)
}

impl Job {
    /// A new job on the broker at `bootstrap`, run by the program `binary`: manifests are written, topics made.
    ///
    /// # Errors
    /// When files can't be written or topics can't be made.
    pub fn new(bootstrap: &str, binary: &Path, name: &str, options: &JobOptions) -> Result<Self, LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let scratch = Scratch::new(name)?;
        let prefix = format!("{name}-{}-{count}", std::process::id());
        let kafka = KafkaConfig::new(bootstrap, "freshet-lab");
        let (binary, started) = (binary.to_owned(), AtomicU32::new(0));
        let job = Self { scratch, binary, prefix, kafka, started, log: options.log, bucket: options.bucket.clone() };
        job.write_manifests(options)?;
        job.make_topics()?;
        if let Some(limit) = options.output_limit {
            job.limit_outputs(limit)?;
        }
        Ok(job)
    }

    /// Writes its manifests, or writes them anew.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn write_manifests(&self, options: &JobOptions) -> Result<(), LabError> {
        let manifests = self.manifests();
        std::fs::create_dir_all(&manifests).map_err(LabError::file("making", &manifests))?;
        let file = manifests.join("job.yaml");
        std::fs::write(&file, self.yaml(options)).map_err(LabError::file("writing", &file))
    }

    /// The name of the topic of `role`.
    #[must_use]
    pub fn topic(&self, role: Role) -> String {
        format!("{}.{}", self.prefix, role.name())
    }

    /// How to reach its broker.
    #[must_use]
    pub const fn kafka(&self) -> &KafkaConfig {
        &self.kafka
    }

    /// The folder of its manifests, state and logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Leaves that folder for a look.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.scratch.keep()
    }

    /// The folder of its state: its own, or that of its bucket's objects.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        match &self.bucket {
            Some(bucket) => bucket.objects.join("state"),
            None => self.folder().join("state"),
        }
    }

    /// The URL of its state.
    #[must_use]
    pub fn state_url(&self) -> String {
        self.bucket.as_ref().map_or_else(|| format!("file://{}", self.state().display()), Bucket::url)
    }

    fn manifests(&self) -> PathBuf {
        self.folder().join("manifests")
    }

    fn yaml(&self, options: &JobOptions) -> String {
        let seconds = options.window_seconds;
        let window = format!("TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '{seconds}' SECOND))");
        let aggregate = |table: &str, by: &str| {
            format!(
                "    INSERT INTO {table} SELECT {by} AS name, window_start, COUNT(*) AS records, SUM(v) AS total FROM {window} \
                 GROUP BY {by}, window_start, window_end{};\n",
                if options.altered { " HAVING COUNT(*) > 0" } else { "" }
            )
        };
        let statement = |role: &Role| match role {
            Role::Events => String::new(),
            Role::Copies if options.whole => {
                "    INSERT INTO copies SELECT k, g, seq, v, ts, pad FROM events;\n".to_owned()
            }
            Role::Copies if options.altered => {
                "    INSERT INTO copies SELECT k, seq, v + 0 AS v FROM events WHERE seq >= 0;\n".to_owned()
            }
            Role::Copies => "    INSERT INTO copies SELECT k, seq, v FROM events;\n".to_owned(),
            Role::ByKey => aggregate("by_key", "k"),
            Role::ByGroup => aggregate("by_group", "g"),
        };
        let sql: String = options.statements.iter().map(statement).collect();
        let topic = |role: Role, key: &str, columns: &str, more: &str| {
            let (name, topic) = (role.name(), self.topic(role));
            format!(
                "---\napiVersion: freshet.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\nspec:\n  topicName: {topic}\n  \
                 partitions: {PARTITIONS}\n  schema:\n    format: JSON\n    key: [{key}]\n    partitioner: Murmur2\n    \
                 columns: [{columns}]\n{more}"
            )
        };
        let column = |name: &str, kind: &str| format!("{{name: {name}, type: {kind}}}");
        let list = |columns: &[(&str, &str)]| {
            columns.iter().map(|(name, kind)| column(name, kind)).collect::<Vec<_>>().join(", ")
        };
        let mut events =
            vec![("k", "STRING"), ("g", "STRING"), ("seq", "BIGINT"), ("v", "BIGINT"), ("ts", "TIMESTAMP(3)")];
        if options.whole {
            events.push(("pad", "STRING"));
        }
        let some: &[(&str, &str)] = &[("k", "STRING"), ("seq", "BIGINT"), ("v", "BIGINT")];
        let copies = list(if options.whole { &events[..] } else { some });
        let events = list(&events);
        let rows =
            list(&[("name", "STRING"), ("window_start", "TIMESTAMP(3)"), ("records", "BIGINT"), ("total", "BIGINT")]);
        // A slot that is dead for a while must not make its partitions look idle.
        let time = format!("    eventTime: {{column: ts, maxOutOfOrderness: {DISORDER_MS}ms, idleTimeout: 30m}}\n");
        let topics = [
            topic(Role::Events, "k", &events, &time),
            topic(Role::Copies, "k", &copies, ""),
            topic(Role::ByKey, "name", &rows, ""),
            topic(Role::ByGroup, "name", &rows, ""),
        ];
        format!(
            "apiVersion: freshet.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: {}}}\nspec:\n  sql: |\n{sql}  \
             startFrom: {{type: Earliest}}\n  maxParallelism: {}\n  epochInterval: {}\n{}",
            self.prefix,
            options.max_parallelism,
            options.epoch_interval,
            topics.concat()
        )
    }

    fn make_topics(&self) -> Result<(), LabError> {
        let roles = [Role::Events].into_iter().chain(Role::OUTPUTS);
        let topics: Vec<_> = roles.map(|role| (self.topic(role), PARTITIONS)).collect();
        topics::make(&self.kafka.bootstrap_servers, &topics)
    }

    /// Sets `max.message.bytes` of the outputs.
    fn limit_outputs(&self, bytes: u32) -> Result<(), LabError> {
        let change = ConfigChange::Set { name: "max.message.bytes".to_owned(), value: bytes.to_string() };
        let changes = Role::OUTPUTS.iter().map(|role| (self.topic(*role), vec![change.clone()])).collect();
        let failed = |error: AdminError| LabError::Wrong(format!("limiting the outputs: {error}"));
        let admin = Admin::connect(&self.kafka).map_err(LabError::kafka("limiting the outputs"))?;
        let changed = topics::block_on(admin.alter_configs(changes))?.map_err(failed)?;
        changed.into_iter().try_for_each(|topic| topic.map_err(failed))
    }

    /// Deletes the input, and makes an empty topic of the same name.
    ///
    /// # Errors
    /// When Kafka can't be asked, or refuses.
    pub fn make_input_again(&self) -> Result<(), LabError> {
        let input = self.topic(Role::Events);
        topics::delete_all(&self.kafka.bootstrap_servers, &input)?;
        topics::make(&self.kafka.bootstrap_servers, &[(input, PARTITIONS)])
    }

    /// Deletes the consumer groups of the job's lineage, with their offsets; gives their names.
    ///
    /// # Errors
    /// When they can't be listed or deleted.
    pub fn delete_offsets(&self) -> Result<Vec<String>, LabError> {
        topics::delete_groups(&self.kafka.bootstrap_servers, &self.lineage()?)
    }

    /// How many records of the input are read, by the offsets that the first stage has committed.
    ///
    /// # Errors
    /// When groups can't be asked.
    pub fn committed(&self) -> Result<u64, LabError> {
        let wrong = |error: rdkafka::error::KafkaError| LabError::Wrong(format!("asking for offsets: {error}"));
        let Ok(lineage) = self.lineage() else { return Ok(0) };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka.bootstrap_servers);
        let client: BaseConsumer = config.create().map_err(wrong)?;
        let listed = client.fetch_group_list(None, Duration::from_secs(30)).map_err(wrong)?;
        let mut asked = rdkafka::TopicPartitionList::new();
        asked.add_partition_range(&self.topic(Role::Events), 0, PARTITIONS as i32 - 1);
        let mut read = 0;
        for group in listed.groups().iter().filter(|group| group.name().contains(&lineage)) {
            let client: BaseConsumer = config.set("group.id", group.name()).create().map_err(wrong)?;
            let committed = client.committed_offsets(asked.clone(), Duration::from_secs(30)).map_err(wrong)?;
            let offsets = committed.elements().into_iter().filter_map(|place| place.offset().to_raw());
            read += offsets.filter(|offset| *offset > 0).sum::<i64>() as u64;
        }
        Ok(read)
    }

    /// The id of the job's lineage, as its folder of state has it.
    fn lineage(&self) -> Result<String, LabError> {
        let mut folders = vec![self.state()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(LabError::file("listing", &folder))? {
                let path = entry.map_err(LabError::file("listing", &folder))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() && name.starts_with("r-") {
                    return Ok(name);
                }
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        Err(LabError::Wrong(format!("{} has no lineage", self.state().display())))
    }

    fn make_state_folder(&self) -> Result<(), LabError> {
        match self.bucket {
            Some(_) => Ok(()),
            None => std::fs::create_dir_all(self.state()).map_err(LabError::file("making", self.state())),
        }
    }

    /// The command `what` of the program on this job's manifests, brokers and state.
    #[must_use]
    pub fn command(&self, what: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(what).arg(self.manifests()).args(arguments);
        command.args(["--kafka", &self.kafka.bootstrap_servers]);
        command.args(["--checkpoint", &self.state_url()]);
        if let Some(bucket) = &self.bucket {
            command.envs(bucket.variables());
        }
        command.env("FRESHET_LOG", self.log).current_dir(self.folder());
        command.env_remove("FRESHET_PLANTED_BUG").env_remove("FRESHET_CRASH_AT");
        command
    }

    /// Starts a worker for `slot`, with these variables in its environment.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn worker_with(&self, slot: u32, variables: &[(&str, &str)]) -> Result<Worker, LabError> {
        self.make_state_folder()?;
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.folder().join(format!("worker-{number:04}-slot-{slot}.log"));
        let mut command = self
            .command("worker", &["--slot".to_owned(), slot.to_string(), "--give-up-after".to_owned(), "0s".to_owned()]);
        command.envs(variables.iter().copied());
        let name = format!("worker of slot {slot}");
        let process = ServerProcess::spawn(&name, command, &log, &Undertaking::default())?;
        Ok(Worker { process, log, slot })
    }

    /// Starts a worker for `slot`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn worker(&self, slot: u32) -> Result<Worker, LabError> {
        self.worker_with(slot, &[])
    }

    /// The command that hands out the next generation, to `slots` slots.
    #[must_use]
    pub fn assign_command(&self, slots: u32) -> Command {
        self.make_state_folder().ok();
        self.command("assign", &["--slots".to_owned(), slots.to_string()])
    }

    /// Hands out the next generation, to `slots` slots; gives what the command said.
    ///
    /// # Errors
    /// When it failed.
    pub fn assign(&self, slots: u32) -> Result<String, LabError> {
        let mut command = self.assign_command(slots);
        let output = command.output().map_err(LabError::file("running", &self.binary))?;
        if !output.status.success() {
            return Err(LabError::Command {
                command: format!("{command:?}"),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the preflight for `slots` slots; gives its exit code and its report.
    ///
    /// # Errors
    /// When it can't be run, or says nothing that is a report.
    pub fn preflight(&self, slots: u32, arguments: &[&str]) -> Result<(i32, PreflightReport), LabError> {
        std::fs::create_dir_all(self.state()).map_err(LabError::file("making", self.state()))?;
        let mut all = vec!["--slots".to_owned(), slots.to_string()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let output = self.run("preflight", &all)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let report = serde_json::from_str(&said).map_err(|error| {
            let errors = String::from_utf8_lossy(&output.stderr);
            LabError::Wrong(format!("the preflight's report is none ({error}): {said}\n{errors}"))
        })?;
        Ok((output.status.code().unwrap_or(-1), report))
    }

    /// Runs a command of the runtime on the job, to its end.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn run(&self, what: &str, arguments: &[String]) -> Result<Output, LabError> {
        self.command(what, arguments).output().map_err(LabError::file("running", &self.binary))
    }

    /// Follows the output until `reached`.
    ///
    /// # Errors
    /// When [`PATIENCE`] passes first; with the ends of the logs of all workers that run.
    pub fn wait_until(
        &self,
        watch: &mut Watch,
        workers: &[&Worker],
        what: &str,
        mut reached: impl FnMut(&Watch) -> bool,
    ) -> Result<(), LabError> {
        let began = Instant::now();
        while !reached(watch) {
            if began.elapsed() > PATIENCE {
                let counts: Vec<_> = Role::OUTPUTS.iter().map(|role| (role.name(), watch.count(*role))).collect();
                let logs: Vec<_> = workers.iter().map(|worker| worker.said()).collect();
                return Err(LabError::Wrong(format!(
                    "waited {PATIENCE:?} for {what}, in vain; seen {counts:?}; workers' logs in {}:\n{}",
                    self.folder().display(),
                    logs.join("\n")
                )));
            }
            watch.follow(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until the output has as many records as the recount of the input, stops the workers, and compares.
    ///
    /// # Errors
    /// When the output does not get there, or a worker does not stop.
    pub fn settle(&self, watch: &mut Watch, workers: &mut [Worker]) -> Result<(Recount, Difference), LabError> {
        let recount = Recount::of(self)?;
        let running: Vec<&Worker> = workers.iter().collect();
        let what = format!(
            "{} copies, {} rows by key, {} rows by group",
            recount.expected(Role::Copies),
            recount.expected(Role::ByKey),
            recount.expected(Role::ByGroup)
        );
        self.wait_until(watch, &running, &what, |watch| {
            Role::OUTPUTS.iter().all(|role| watch.count(*role) >= recount.expected(*role))
        })?;
        for worker in workers {
            worker.stop()?;
        }
        let difference = compare(self, &recount)?;
        Ok((recount, difference))
    }

    /// As [`Job::settle`], and any difference is an error.
    ///
    /// # Errors
    /// As [`Job::settle`], or what differs.
    pub fn settle_exactly(&self, watch: &mut Watch, workers: &mut [Worker]) -> Result<Recount, LabError> {
        let (recount, difference) = self.settle(watch, workers)?;
        if difference.is_none() {
            return Ok(recount);
        }
        Err(LabError::Wrong(format!("output is not the recount: {difference}\nlogs: {}", self.folder().display())))
    }
}
