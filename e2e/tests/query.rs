//! Level: real servers. `freshet query`, as a person runs it, on a real Kafka: what a `read_committed` reader sees and
//! nothing else, and a broker that has nothing more afterwards than it had before.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use freshet_e2e::servers::{KafkaOptions, KafkaServer, Scratch};
use freshet_env::RealEnv;
use freshet_kafka::bulk::{Loader, wait_until_settled};
use freshet_kafka::{KafkaConfig, KafkaLog};
use freshet_log::{Log, Outgoing, Producer, TopicSpec};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

const PATIENCE: Duration = Duration::from_secs(100);
const TOPIC: &str = "shop.orders";
const PARTITIONS: u32 = 2;

/// A broker of this test's own, so that everything on it can be listed, and the manifests of its one topic.
struct Shop {
    server: KafkaServer,
    folder: Scratch,
    runtime: tokio::runtime::Runtime,
    log: KafkaLog,
}

impl Shop {
    fn open(name: &str) -> Self {
        let server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
        let folder = Scratch::new(name).unwrap();
        let topic = |name: &str, topic: &str| {
            format!(
                "apiVersion: freshet.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\nspec:\n  topicName: {topic}\n  \
                 partitions: {PARTITIONS}\n  schema:\n    format: JSON\n    columns:\n      - {{name: id, type: STRING, required: \
                 true}}\n      - {{name: region, type: STRING}}\n      - {{name: total, type: \"DECIMAL(12,2)\"}}\n      - {{name: ts, \
                 type: TIMESTAMP(3)}}\n    eventTime: {{column: ts, maxOutOfOrderness: 0s, idleTimeout: 1s}}\n"
            )
        };
        let manifests = format!("{}---\n{}", topic("orders", TOPIC), topic("refunds", "shop.refunds"));
        std::fs::write(folder.path().join("topics.yaml"), manifests).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // A transaction that is left open stays so for as long as this test may take.
        let config =
            KafkaConfig { transaction_timeout: PATIENCE * 3, ..KafkaConfig::new(server.bootstrap(), "query-test") };
        let log = KafkaLog::connect(config, Rc::new(RealEnv::new())).unwrap();
        let shop = Self { server, folder, runtime, log };
        let spec = TopicSpec {
            name: TOPIC.to_owned(),
            partitions: PARTITIONS,
            replicas: None,
            // The records of these tests are of an earlier day.
            config: vec![("retention.ms".to_owned(), "-1".to_owned())],
        };
        shop.runtime.block_on(shop.log.ensure_topics(&[spec])).unwrap();
        shop
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig::new(self.server.bootstrap(), "query-test")
    }

    /// Writes orders in a transaction of `id`, which is left open.
    fn write(&self, id: &str, orders: &[Order<'_>]) -> Box<dyn Producer> {
        self.runtime.block_on(async {
            let mut producer = self.log.producer(id).await.unwrap();
            producer.begin().unwrap();
            let batch = batch(orders);
            assert_eq!(producer.send(&batch, 0).unwrap(), orders.len());
            producer.acknowledged().await.unwrap();
            producer
        })
    }

    fn commit(&self, id: &str, orders: &[Order<'_>]) {
        let mut producer = self.write(id, orders);
        self.runtime.block_on(producer.commit()).unwrap();
        drop(producer);
        self.settle(id);
    }

    /// Waits until the end of the transaction of `id` is written everywhere: readers see it, and the coordinator has
    /// noted it, which is when it gives the id away again.
    fn settle(&self, id: &str) {
        wait_until_settled(&self.config(), TOPIC, PATIENCE).unwrap();
        self.runtime.block_on(self.log.fence(&[id.to_owned()])).unwrap();
    }

    fn abort(&self, id: &str, orders: &[Order<'_>]) {
        let mut producer = self.write(id, orders);
        self.runtime.block_on(producer.abort()).unwrap();
        drop(producer);
        self.settle(id);
    }

    fn command(&self, sql: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshet-under-test"));
        command.arg("query").arg(self.folder.path()).arg(sql);
        command.args([
            "--kafka",
            &self.server.bootstrap(),
            "--kafka-setting",
            "topic.metadata.propagation.max.ms=1000",
        ]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn query(&self, sql: &str, arguments: &[&str]) -> Said {
        Said::of(&self.command(sql, arguments).output().unwrap())
    }

    /// Everything that a query could leave.
    fn everything(&self) -> Everything {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.server.bootstrap()).create().unwrap();
        let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
        let groups = client.fetch_group_list(None, PATIENCE).unwrap();
        let mut topics = BTreeMap::new();
        for topic in metadata.topics() {
            let end = |number: i32| client.fetch_watermarks(topic.name(), number, PATIENCE).unwrap().1;
            topics.insert(topic.name().to_owned(), topic.partitions().iter().map(|found| end(found.id())).sum());
        }
        // Clients ask for the coordinator even of a group that they don't join. The broker then makes the topic for
        // what groups commit; whether anything is in it is the question.
        topics.entry("__consumer_offsets".to_owned()).or_insert(0);
        Everything { topics, groups: groups.groups().iter().map(|group| group.name().to_owned()).collect() }
    }
}

/// What is on a broker.
#[derive(Debug, PartialEq, Eq)]
struct Everything {
    /// All topics, the broker's own among them, with how many offsets they have.
    topics: BTreeMap<String, i64>,
    /// All groups that have members or offsets.
    groups: Vec<String>,
}

/// Partition, id, region, total, second of the day.
type Order<'a> = (u32, &'a str, &'a str, &'a str, i64);

fn batch(orders: &[Order<'_>]) -> Outgoing {
    let mut batch = Outgoing::new(vec![TOPIC.to_owned()]);
    for (partition, id, region, total, second) in orders {
        let ts = 1_767_225_600_000 + second * 1_000;
        let id_text = serde_json::Value::from(*id);
        let value = format!(r#"{{"id":{id_text},"region":"{region}","total":{total},"ts":{ts}}}"#);
        batch.push(0, *partition, ts, Some(id.as_bytes()), Some(value.as_bytes()));
    }
    batch
}

/// What a run of the binary said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    rows: Vec<String>,
    errors: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let rows = text(&output.stdout).lines().map(str::to_owned).collect();
        Self { code: output.status.code(), rows, errors: text(&output.stderr) }
    }

    fn sorted(mut self) -> Vec<String> {
        self.rows.sort();
        self.rows
    }
}

/// Waits for the end of a process.
fn ended(mut child: Child, what: &str) -> Said {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("waited {PATIENCE:?} for {what}, in vain: {:?}", Said::of(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Said::of(&child.wait_with_output().unwrap())
}

#[test]
fn committed_rows_are_shown_and_nothing_is_left_on_the_broker() {
    let shop = Shop::open("query-committed");
    shop.commit(
        "first",
        &[(0, "a", "north", "1.50", 10), (1, "b", "south", "2.25", 20), (0, "c", "north", "3.00", 70)],
    );
    shop.abort("second", &[(0, "aborted", "north", "100.00", 30), (1, "aborted too", "south", "100.00", 130)]);
    shop.commit("third", &[(1, "d, \"quoted\"", "north", "4.00", 50), (1, "e", "south", "5.00", 200)]);
    let open = shop.write("fourth", &[(0, "open", "north", "100.00", 300), (1, "open too", "south", "100.00", 300)]);
    let before = shop.everything();

    let all = shop.query("SELECT id, total FROM orders", &["--format", "csv"]);
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(all.errors.contains("5 rows from 5 records"), "{all:?}");
    assert!(all.errors.contains("shop.orders[0] behind an open transaction"), "{all:?}");
    assert_eq!(all.rows.first().map(String::as_str), Some("id,total"));
    assert_eq!(all.sorted(), ["\"d, \"\"quoted\"\"\",4.00", "a,1.50", "b,2.25", "c,3.00", "e,5.00", "id,total"]);

    // By a column that is not the topic's key: through two stages. The last records are of long ago, so that no
    // partition holds the other back; the window of `e` is open.
    let windows = shop.query(
        "SELECT region, window_start, SUM(total) AS total FROM TUMBLE(orders, ts, INTERVAL '1' MINUTE) \
         GROUP BY region, window_start, window_end",
        &["--format", "json"],
    );
    assert!(windows.errors.contains("not shown: 1 group in windows that are still open"), "{windows:?}");
    assert_eq!(
        windows.sorted(),
        [
            r#"{"region":"north","window_start":"2026-01-01T00:00:00.000","total":5.50}"#,
            r#"{"region":"north","window_start":"2026-01-01T00:01:00.000","total":3.00}"#,
            r#"{"region":"south","window_start":"2026-01-01T00:00:00.000","total":2.25}"#,
        ]
    );

    let table = shop.query("SELECT id, ts FROM orders WHERE region = 'south' LIMIT 1", &[]);
    assert_eq!(table.rows, ["id | ts", "---+------------------------", "b  | 2026-01-01 00:00:20.000"], "{table:?}");

    let missing = shop.query("SELECT * FROM refunds", &[]);
    assert_eq!((missing.code, missing.rows.len()), (Some(2), 0), "{missing:?}");
    assert!(missing.errors.contains("Topic/refunds: there is no topic `shop.refunds`"), "{missing:?}");

    assert_eq!(shop.everything(), before);
    assert!(before.groups.is_empty() && before.topics["__consumer_offsets"] == 0, "{before:?}");
    drop(open);
}

#[test]
fn who_follows_sees_what_comes_and_ends_when_it_is_told_to() {
    let shop = Shop::open("query-follow");
    shop.commit("old", &[(0, "old", "north", "1.00", 1)]);
    let before = shop.everything();
    let mut loader = Loader::new(&shop.config()).unwrap();
    let mut count = 0;
    let mut write = || {
        count += 1;
        loader.send(&batch(&[(count % PARTITIONS, &format!("new-{count}"), "south", "1.00", 2)])).unwrap();
        loader.finish().unwrap();
    };

    // Somebody writes until enough has come: when exactly the query began to listen is not known.
    let mut child =
        shop.command("SELECT id FROM orders", &["--from", "latest", "-n", "3", "--format", "json"]).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "three records did not come");
        write();
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = ended(child, "the third record");
    assert_eq!((said.code, said.rows.len()), (Some(0), 3), "{said:?}");
    assert!(said.rows.iter().all(|row| row.starts_with(r#"{"id":"new-"#)), "{said:?}");

    let mut child = shop.command("SELECT id FROM orders", &["--follow", "--format", "json"]).spawn().unwrap();
    let mut rows = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    rows.read_line(&mut first).unwrap();
    assert!(first.starts_with(r#"{"id":""#), "{first}");
    // A person's Ctrl-C.
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    rows.read_to_string(&mut first).unwrap();
    let said = ended(child, "the end after Ctrl-C");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.errors.contains(", stopped"), "{said:?}");

    let mut after = shop.everything();
    let written = after.topics.insert(TOPIC.to_owned(), before.topics[TOPIC]).unwrap();
    assert_eq!((after, written), (before, i64::from(count) + 2), "one old record with its marker, and the new ones");
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_word() {
    let shop = Shop::open("query-pipe");
    let mut loader = Loader::new(&shop.config()).unwrap();
    // Far more than a pipe holds.
    let ids: Vec<String> = (0..20_000).map(|number| format!("order-{number}")).collect();
    let orders: Vec<Order<'_>> = ids.iter().map(|id| (0, id.as_str(), "north", "1.00", 1)).collect();
    loader.send(&batch(&orders)).unwrap();
    loader.finish().unwrap();
    for format in ["table", "csv", "json"] {
        let mut child = shop.command("SELECT * FROM orders", &["--format", format]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = ended(child, "the end of a query that nobody reads");
        assert_eq!((said.code, said.errors.as_str()), (Some(0), ""), "{format}");
    }
}
