//! A query from its SELECT to its rows, on the embedded log: what it shows, where it ends, and that nothing is left of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use freshet::demo::{Generator, Recount, Rules, Settings, WindowRow, compare};
use freshet::manifest::{self, SqlText, TopicTable};
use freshet::query::show::{Format, Printer};
use freshet::query::{Begin, Ending, Options, Output, QueryError, Report, Supply, Terminal, run};
use freshet_env::{RealEnv, SharedEnv};
use freshet_log::model::ModelBroker;
use freshet_log::{Log, Outgoing, TopicPartition};
use freshet_sql::Query;

const TOPIC: &str = "payments.transactions";
const PARTITIONS: u32 = 4;
const TO_THE_END: Options = Options { from: Begin::Earliest, follow: false, limit: None, run_for: None };
const TOTALS: &str = "SELECT merchant.country AS country, window_start, window_end, COUNT(*) AS txns, \
     SUM(amount) AS total, MAX(amount) AS largest FROM TABLE(TUMBLE(TABLE transactions, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) \
     GROUP BY merchant.country, window_start, window_end";
const ALERTS: &str = "SELECT account_id, window_start, window_end, COUNT(*) AS txns, SUM(amount) AS total \
     FROM TABLE(TUMBLE(TABLE transactions, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) \
     GROUP BY account_id, window_start, window_end HAVING COUNT(*) >= 5 OR SUM(amount) > 10000";

/// The pilot's Topics.
fn topics() -> Vec<TopicTable> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fraud-detection");
    let tables = manifest::tables(&[folder]);
    assert!(!tables.diagnostics.has_errors(), "{}", tables.diagnostics);
    tables.topics
}

/// The pilot's Topics, without an idle time-out.
fn patient_topics() -> Vec<TopicTable> {
    let mut topics = topics();
    for time in topics.iter_mut().filter_map(|topic| topic.contract.as_mut()?.event_time.as_mut()) {
        time.idle_timeout_ms = None;
    }
    topics
}

fn planned(topics: &[TopicTable], sql: &str) -> Query {
    let mut diagnostics = manifest::Diagnostics::default();
    let planned = manifest::plan_query(&SqlText::bare("SQL", sql), topics, &mut diagnostics);
    planned.unwrap_or_else(|| panic!("{diagnostics}"))
}

struct World {
    broker: ModelBroker,
    env: SharedEnv,
    log: Rc<dyn Log>,
}

impl World {
    fn new() -> Self {
        let broker = ModelBroker::embedded();
        broker.create_topic(TOPIC, PARTITIONS);
        let env: SharedEnv = Rc::new(RealEnv::new());
        let log: Rc<dyn Log> = Rc::new(broker.client(Rc::clone(&env)));
        Self { broker, env, log }
    }

    /// Records of the pilot, and what must come of them.
    fn fed(records: usize) -> (Self, Recount) {
        let world = Self::new();
        let rules = Rules::default();
        let settings = Settings {
            seed: 7,
            accounts: 500,
            partitions: PARTITIONS,
            start_ms: 1_767_225_600_000,
            events_per_second: 250,
            disorder_ms: rules.disorder_ms,
            window_ms: rules.window_ms,
        };
        let mut recount = Recount::new(rules, PARTITIONS);
        let mut batch = Outgoing::new(vec![TOPIC.to_owned()]);
        for record in Generator::new(settings).take(records) {
            recount.record(record.partition, &record.value);
            // Written a moment ago: no partition has been at its end for long.
            batch.push(0, record.partition, world.env.now_ms(), Some(record.key.as_bytes()), Some(&record.value));
        }
        world.broker.append_batch(&batch).unwrap();
        (world, recount)
    }

    fn append(&self, partition: u32, timestamp_ms: i64, id: &str, ts: &str) {
        append(&self.broker, partition, timestamp_ms, id, ts);
    }

    /// The rows of a query, as JSON, and what it says at its end.
    async fn query(&self, sql: &str, options: &Options) -> (Vec<String>, Report) {
        self.query_over(&topics(), sql, options).await
    }

    async fn query_over(&self, topics: &[TopicTable], sql: &str, options: &Options) -> (Vec<String>, Report) {
        let before = self.everything();
        let mut rows = Rows::default();
        let report = self.run(&planned(topics, sql), options, std::future::pending(), &mut rows).await.unwrap();
        assert_eq!(self.everything(), before, "the query has left something in the log");
        assert_eq!(report.rows, rows.taken.len() as u64);
        assert!(rows.ended);
        (rows.taken, report)
    }

    async fn run(
        &self,
        query: &Query,
        options: &Options,
        stop: impl Future<Output = ()>,
        output: &mut dyn Output,
    ) -> Result<Report, QueryError> {
        run(query, &self.log, &self.env, options, Supply::Here, stop, output).await
    }

    /// Topics, groups, transactions, and the ends of all partitions.
    fn everything(&self) -> (Vec<String>, Vec<String>, Vec<String>, Vec<i64>) {
        let ends = (0..PARTITIONS).map(|at| self.broker.bounds(&TopicPartition::new(TOPIC, at)).unwrap().high);
        (self.broker.topics(), self.broker.groups(), self.broker.open_transactions(), ends.collect())
    }
}

fn record(id: &str, ts: &str) -> String {
    format!(r#"{{"txn_id":"{id}","account_id":"a","amount":1.50,"merchant":{{"id":"m","country":"DE"}},"ts":"{ts}"}}"#)
}

fn append(broker: &ModelBroker, partition: u32, timestamp_ms: i64, id: &str, ts: &str) {
    let partition = TopicPartition::new(TOPIC, partition);
    broker.append(&partition, timestamp_ms, Some(b"a"), Some(record(id, ts).as_bytes())).unwrap();
}

/// Keeps rows, and does something at each.
#[derive(Default)]
struct Rows {
    taken: Vec<String>,
    at_each: Option<Box<dyn FnMut(usize)>>,
    ended: bool,
}

impl Output for Rows {
    fn row(&mut self, record: &[u8]) -> std::io::Result<()> {
        self.taken.push(String::from_utf8(record.to_vec()).unwrap());
        if let Some(act) = &mut self.at_each {
            act(self.taken.len());
        }
        Ok(())
    }

    fn settle(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn pause(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.ended = true;
        Ok(())
    }
}

fn within_a_minute<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let work = async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("done within a minute") };
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn window_rows(rows: &[String], group: &str) -> Vec<WindowRow> {
    rows.iter().map(|row| WindowRow::from_json(row.as_bytes(), group).unwrap()).collect()
}

fn ids(rows: &[String]) -> Vec<String> {
    let id =
        |row: &String| serde_json::from_str::<serde_json::Value>(row).unwrap()["txn_id"].as_str().unwrap().to_owned();
    rows.iter().map(id).collect()
}

#[test]
fn windows_in_one_stage_and_in_two_are_those_of_a_recount() {
    within_a_minute(async {
        let (world, recount) = World::fed(60_000);
        for (sql, group, wanted) in
            [(ALERTS, "account_id", recount.alerts()), (TOTALS, "country", recount.country_totals())]
        {
            let (rows, report) = world.query(sql, &TO_THE_END).await;
            let compared = compare(sql, &wanted, &window_rows(&rows, group));
            assert!(compared.agrees() && compared.expected > 20, "{compared}");
            let counts = recount.counts();
            assert_eq!(report.ending, Ending::AtTheEnd);
            assert_eq!((report.counts.records, report.counts.late), (counts.records, counts.late));
            assert_eq!(report.counts.bad.values().sum::<u64>(), counts.bad);
            assert!(counts.late > 0 && counts.bad > 0, "the input tries nothing: {counts:?}");
            assert!(report.counts.open_groups > 0 && report.counts.watermark_ms.is_some(), "{report:?}");
            assert!(report.first_bad.unwrap().place.starts_with("payments.transactions["));
        }
    });
}

/// What is left of changes, each a row behind its kind; and that each one fits to those before it.
fn left(rows: &[String], key: &str) -> BTreeMap<String, String> {
    let mut left: BTreeMap<String, String> = BTreeMap::new();
    for text in rows {
        let row: serde_json::Value = serde_json::from_str(text).unwrap();
        let (op, key, row) = (row["op"].as_str().unwrap(), row[key].to_string(), row["n"].to_string());
        match op {
            "+I" | "+U" => assert_eq!(left.insert(key, row), None, "{text} replaces a row that is not taken back"),
            "-U" | "-D" => assert_eq!(left.remove(&key), Some(row), "{text} takes another row back"),
            other => panic!("{other}"),
        }
    }
    left
}

#[test]
fn a_result_that_changes_is_shown_by_its_changes() {
    within_a_minute(async {
        let (world, _) = World::fed(20_000);
        for (column, name) in [("account_id", "account_id"), ("merchant.country", "country")] {
            let (all, _) = world.query(&format!("SELECT {column} AS {name} FROM transactions"), &TO_THE_END).await;
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for row in &all {
                let row: serde_json::Value = serde_json::from_str(row).unwrap();
                *counts.entry(row[name].to_string()).or_default() += 1;
            }
            for (having, least) in [("", 0), ("HAVING COUNT(*) % 2 = 0", 2)] {
                let sql =
                    format!("SELECT {column} AS {name}, COUNT(*) AS n FROM transactions GROUP BY {column} {having}");
                let (rows, report) = world.query(&sql, &TO_THE_END).await;
                let wanted = counts.iter().filter(|(_, n)| least == 0 || **n % least == 0);
                let wanted: BTreeMap<String, String> = wanted.map(|(key, n)| (key.clone(), n.to_string())).collect();
                assert_eq!(left(&rows, name), wanted, "{sql}");
                assert_eq!((report.counts.late, report.counts.open_groups), (0, 0));
            }
            let (distinct, _) =
                world.query(&format!("SELECT DISTINCT {column} AS {name} FROM transactions"), &TO_THE_END).await;
            assert_eq!(distinct.len(), counts.len());
        }
    });
}

#[test]
fn what_a_row_replaces_is_taken_back_before_it() {
    within_a_minute(async {
        for (format, wanted) in [
            (Format::Csv, "op,account_id,n\n+I,a,1\n-U,a,1\n+U,a,2\n"),
            (
                Format::Json,
                "{\"op\":\"+I\",\"account_id\":\"a\",\"n\":1}\n{\"op\":\"-U\",\"account_id\":\"a\",\"n\":1}\n\
                 {\"op\":\"+U\",\"account_id\":\"a\",\"n\":2}\n",
            ),
            (
                Format::Table,
                "op | account_id | n\n---+------------+--\n+I | a          | 1\n-U | a          | 1\n+U | a          | 2\n",
            ),
        ] {
            let world = World::new();
            world.append(0, 1, "first", "2026-01-01T00:00:00");
            let broker = world.broker.clone();
            let second = move |rows| {
                if rows == 1 {
                    append(&broker, 0, 1, "second", "2026-01-01T00:00:00");
                }
            };
            let mut rows = Rows { at_each: Some(Box::new(second)), ..Rows::default() };
            let query = planned(&topics(), "SELECT account_id, COUNT(*) AS n FROM transactions GROUP BY account_id");
            let options = Options { follow: true, limit: Some(3), ..TO_THE_END };
            world.run(&query, &options, std::future::pending(), &mut rows).await.unwrap();
            let mut shown = Vec::new();
            let mut terminal = Terminal::new(Printer::new(format, &query.columns), &mut shown);
            rows.taken.iter().for_each(|row| terminal.row(row.as_bytes()).unwrap());
            terminal.end().unwrap();
            assert_eq!(String::from_utf8(shown).unwrap(), wanted);
        }
    });
}

#[test]
fn every_record_comes_once_in_the_order_of_its_partition() {
    within_a_minute(async {
        let (world, recount) = World::fed(20_000);
        let (rows, report) = world.query("SELECT * FROM transactions", &TO_THE_END).await;
        let counts = recount.counts();
        assert_eq!(rows.len() as u64, counts.records - counts.bad);
        let mut seen = ids(&rows);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), rows.len());
        // Rows without windows have no windows to be late for.
        assert_eq!((report.counts.late, report.counts.open_groups), (0, 0));
    });
}

#[test]
fn it_ends_after_as_many_rows_as_are_asked_for() {
    within_a_minute(async {
        let (world, _) = World::fed(20_000);
        for (limit, sql) in [(7, "SELECT * FROM transactions"), (5, TOTALS), (0, ALERTS)] {
            let (rows, report) =
                world.query(sql, &Options { limit: Some(limit), follow: limit == 7, ..TO_THE_END }).await;
            assert_eq!((rows.len() as u64, report.ending), (limit, Ending::Limit), "{sql}");
        }
    });
}

#[test]
fn records_that_come_while_it_runs_are_for_the_next_query() {
    within_a_minute(async {
        let world = World::new();
        world.append(0, 1, "first", "2026-01-01T00:00:00");
        world.append(1, 1, "second", "2026-01-01T00:00:00");
        let broker = world.broker.clone();
        // Behind a record that is shown, and behind one that is not even fetched.
        let more = move |_| (0..2).for_each(|at| append(&broker, at, 1, "later", "2026-01-01T00:00:00"));
        let mut rows = Rows { at_each: Some(Box::new(more)), ..Rows::default() };
        let query = planned(&topics(), "SELECT txn_id FROM transactions");
        let report = world.run(&query, &TO_THE_END, std::future::pending(), &mut rows).await.unwrap();
        let mut seen = ids(&rows.taken);
        seen.sort();
        assert_eq!((seen, report.ending), (vec!["first".to_owned(), "second".to_owned()], Ending::AtTheEnd));
    });
}

#[test]
fn who_follows_from_the_end_sees_what_comes_and_ends_when_stopped() {
    within_a_minute(async {
        let world = World::new();
        world.append(0, 1, "old", "2026-01-01T00:00:00");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let broker = world.broker.clone();
        let env = Rc::clone(&world.env);
        let writing = async move {
            for (at, id) in ["one", "two", "three"].into_iter().enumerate() {
                env.sleep(Duration::from_millis(20)).await;
                append(&broker, at as u32, 1, id, "2026-01-01T00:00:00");
            }
        };
        let stop = RefCell::new(Some(stop));
        let until_three = move |count| {
            if count == 3 {
                let _ = stop.take().unwrap().send(());
            }
        };
        let mut rows = Rows { at_each: Some(Box::new(until_three)), ..Rows::default() };
        let query = planned(&topics(), "SELECT txn_id FROM transactions");
        let options = Options { from: Begin::Latest, follow: true, ..TO_THE_END };
        let asked = async {
            let _ = stopped.await;
        };
        let (report, ()) = tokio::join!(world.run(&query, &options, asked, &mut rows), writing);
        assert_eq!(
            (ids(&rows.taken), report.unwrap().ending),
            (vec!["one".into(), "two".into(), "three".into()], Ending::Stopped)
        );
        let (rows, report) = world
            .query("SELECT txn_id FROM transactions", &Options { run_for: Some(Duration::from_millis(50)), ..options })
            .await;
        assert_eq!((rows.len(), report.ending), (0, Ending::TimeUp));
    });
}

#[test]
fn what_is_aborted_or_still_open_is_not_shown() {
    within_a_minute(async {
        let world = World::new();
        let partition = TopicPartition::new(TOPIC, 0);
        for (id, commit) in [("committed", true), ("aborted", false)] {
            let mut producer = world.log.producer(id).await.unwrap();
            producer.begin().unwrap();
            let mut batch = Outgoing::new(vec![TOPIC.to_owned()]);
            batch.push(0, 0, 1, Some(b"a"), Some(record(id, "2026-01-01T00:00:00").as_bytes()));
            producer.send(&batch, 0).unwrap();
            producer.acknowledged().await.unwrap();
            if commit { producer.commit().await.unwrap() } else { producer.abort().await.unwrap() }
        }
        let hanging = world.broker.hang_transaction(&partition).unwrap();
        world.append(0, 1, "behind", "2026-01-01T00:00:00");
        let (rows, report) = world.query("SELECT txn_id FROM transactions", &TO_THE_END).await;
        assert_eq!((ids(&rows), report.held_back), (vec!["committed".to_owned()], vec![(partition, 2)]));
        world.broker.end_hanging(&hanging, false);
        let (rows, report) = world.query("SELECT txn_id FROM transactions", &TO_THE_END).await;
        assert_eq!((ids(&rows), report.held_back), (vec!["committed".into(), "behind".into()], vec![]));
    });
}

/// Partitions 2 and 3 are empty, 1 has ended long ago, 0 a moment ago.
#[test]
fn windows_wait_for_partitions_as_the_topic_says() {
    within_a_minute(async {
        let world = World::new();
        let now = world.env.now_ms();
        let count = "SELECT COUNT(*) AS n, window_end FROM TUMBLE(transactions, ts, INTERVAL '1' MINUTE) GROUP BY window_start, window_end";
        world.append(1, now - 3_600_000, "old", "2026-01-01T00:00:10");
        for (id, ts) in [("a", "2026-01-01T00:00:20"), ("b", "2026-01-01T00:03:30")] {
            world.append(0, now, id, ts);
        }
        // An idle partition does not hold the window of both first records back; the last window is open.
        let (rows, report) = world.query(count, &TO_THE_END).await;
        assert_eq!(rows, [r#"{"n":2,"window_end":"2026-01-01T00:01:00.000"}"#]);
        assert_eq!((report.counts.open_groups, report.counts.silent), (1, 0));
        // Where nothing says that a partition may be idle, the empty ones hold all windows back, as they would a job's.
        let (rows, report) = world.query_over(&patient_topics(), count, &TO_THE_END).await;
        assert_eq!((rows.len(), report.counts.open_groups, report.counts.silent), (0, 2, 2));
        assert!(report.to_string().contains("2 partitions have no record yet"), "{report}");
        // Now the other one is not idle either: its next record may belong to the first window.
        world.append(1, now, "young", "2026-01-01T00:00:11");
        let (rows, report) = world.query(count, &TO_THE_END).await;
        assert_eq!((rows.len(), report.counts.open_groups, report.counts.silent), (0, 2, 0));
    });
}

#[test]
fn rows_before_a_failure_are_shown() {
    within_a_minute(async {
        let world = World::new();
        world.append(0, 1, "1", "2026-01-01T00:00:00");
        world.append(1, 1, "x", "2026-01-01T00:00:00");
        let mut rows = Rows::default();
        let query = planned(&topics(), "SELECT CAST(txn_id AS INT) AS n FROM transactions");
        let error = world.run(&query, &TO_THE_END, std::future::pending(), &mut rows).await.unwrap_err();
        assert!(matches!(error, QueryError::Engine(_)), "{error}");
        assert_eq!((&*rows.taken, rows.ended), (&[r#"{"n":1}"#.to_owned()][..], true));
    });
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    within_a_minute(async {
        let world = World::new();
        let query = planned(&topics(), "SELECT * FROM alerts");
        let mut rows = Rows::default();
        let error = world.run(&query, &TO_THE_END, std::future::pending(), &mut rows).await.unwrap_err();
        assert!(matches!(&error, QueryError::NoTopic(name) if name == "payments.alerts"), "{error}");
        assert!(!rows.ended, "not even the names of columns are shown");
        assert_eq!(world.broker.topics(), [TOPIC]);
    });
}

/// A pipe whose reader has seen enough.
struct Pipe {
    room: usize,
    error: std::io::ErrorKind,
}

impl std::io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.room == 0 {
            return Err(self.error.into());
        }
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_silently_and_a_full_disk_does_not() {
    within_a_minute(async {
        let (world, _) = World::fed(20_000);
        let query = planned(&topics(), "SELECT * FROM transactions");
        let follow = Options { follow: true, ..TO_THE_END };
        for format in [Format::Table, Format::Json, Format::Csv] {
            let gone = Pipe { room: 1_000, error: std::io::ErrorKind::BrokenPipe };
            let mut terminal = Terminal::new(Printer::new(format, &query.columns), gone);
            let report = world.run(&query, &follow, std::future::pending(), &mut terminal).await.unwrap();
            assert_eq!(report.ending, Ending::Unread);
        }
        let full = Pipe { room: 1_000, error: std::io::ErrorKind::StorageFull };
        let mut terminal = Terminal::new(Printer::new(Format::Csv, &query.columns), full);
        let error = world.run(&query, &follow, std::future::pending(), &mut terminal).await.unwrap_err();
        assert!(matches!(error, QueryError::Output(_)), "{error}");
    });
}
