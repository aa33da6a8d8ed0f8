//! `freshet query`: a SELECT over topics, tried out before anything is deployed.

use std::rc::Rc;
use std::time::Duration;

use freshet_engine::EngineError;
use freshet_env::{RealEnv, SharedEnv};
use freshet_log::model::ModelBroker;
use freshet_log::{Log, LogError};
use freshet_sql::Query;

use super::environment::{asked_to_stop, block_on, duration, kafka, kafka_config, setting, topic_specs};
use super::run::feed::{self, Feed, Making};
use super::{EXIT_REFUSED, Failure, Manifests};
use crate::manifest::{self, SqlText, Tables, TopicTable};
use crate::query::show::{Format, Printer};
use crate::query::{Begin, Ending, Options, QueryError, Supply, Terminal};

pub(super) const EXAMPLES: &str = "\
Examples:
  freshet query examples/fraud-detection \"SELECT * FROM transactions LIMIT 5\"
  freshet query examples/fraud-detection \"SELECT merchant.country, window_start, COUNT(*) AS txns
      FROM TUMBLE(transactions, ts, INTERVAL '1' MINUTE)
      GROUP BY merchant.country, window_start, window_end\"
  freshet query topics/ \"SELECT * FROM orders WHERE total > 100\" --kafka localhost:9092 --follow
  freshet query topics/ \"SELECT id, total FROM orders\" --kafka localhost:9092 --format csv > orders.csv
  freshet query topics/ \"SELECT id, total FROM orders\" --input orders=orders.jsonl --format json | jq .total

Without --kafka the query reads files (--input) or, for examples/fraud-detection, what its generator makes.
Rows go to standard output; how many there were, and what is left out, to standard error.
Ctrl-C ends it cleanly, and so does a reader that goes away (| head).
Exit codes: 0 done, 1 it failed while it ran, 2 refused: manifests, SQL or arguments are wrong, a topic or a right is
missing.";

/// What stands for a file's name where a mistake in the query is shown.
const SQL: &str = "SQL";
/// What the pilot's generator makes unless a number is given.
const EVENTS: u64 = 100_000;
/// How many records a second it makes where they are to be looked at, without an end.
const RATE: u32 = 5_000;

#[derive(Debug, clap::Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    manifests: Manifests,
    /// The query: one SELECT, as a StreamJob has it behind INSERT INTO; it may end with LIMIT n
    #[arg(required = true)]
    sql: String,
    /// Read the topics of the Kafka cluster at these brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    kafka: Option<String>,
    /// A librdkafka setting, for instance security.protocol=SASL_SSL. SASL credentials come from the environment:
    /// FRESHET_KAFKA_SASL_USERNAME and FRESHET_KAFKA_SASL_PASSWORD
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting, requires = "kafka")]
    kafka_setting: Vec<(String, String)>,
    /// Where to begin; at the end there is nothing to do but to follow
    #[arg(long, value_enum, default_value = "earliest")]
    from: Begin,
    /// Go on at the ends of the topics, and show what comes
    #[arg(long, short)]
    follow: bool,
    /// End after so many rows
    #[arg(long, short = 'n')]
    limit: Option<u64>,
    /// End after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// How rows are shown
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Read the lines of FILE (`-`: standard input), each a record, as a table's topic
    #[arg(long, value_name = "TABLE=FILE", value_parser = setting, conflicts_with = "kafka")]
    input: Vec<(String, String)>,
    /// How many records the pilot's generator makes [default: 100000; with --follow: no end]
    #[arg(long, conflicts_with_all = ["kafka", "input"])]
    events: Option<u64>,
    /// The generator's seed
    #[arg(long, default_value_t = 1, conflicts_with_all = ["kafka", "input"])]
    seed: u64,
}

/// Runs the query.
pub(super) fn query(args: &QueryArgs) -> Result<(), Failure> {
    let Tables { topics, mut diagnostics } = manifest::tables(&args.manifests.paths);
    let sql = SqlText::bare(SQL, &args.sql);
    let planned = match diagnostics.has_errors() {
        true => None,
        false => manifest::plan_query(&sql, &topics, &mut diagnostics),
    };
    let Some(query) = planned else {
        eprint!("{diagnostics}");
        return Err(Failure::Said(EXIT_REFUSED));
    };
    block_on(run(args, &query, &topics))?
}

async fn run(args: &QueryArgs, query: &Query, topics: &[TopicTable]) -> Result<(), Failure> {
    let env: SharedEnv = Rc::new(RealEnv::new());
    let (log, supply) = match &args.kafka {
        Some(servers) => {
            let config = kafka_config(servers, "query", &args.kafka_setting).map_err(Failure::Refused)?;
            (kafka(config, &env)?, Supply::Here)
        }
        None => embedded(args, query, topics, &env).await?,
    };
    let options = Options {
        from: args.from,
        follow: args.follow || args.from == Begin::Latest && args.kafka.is_some(),
        limit: args.limit.into_iter().chain(query.limit).min(),
        run_for: args.run_for,
    };
    let mut terminal = Terminal::new(Printer::new(args.format, &query.columns), std::io::stdout());
    let ran = crate::query::run(query, &log, &env, &options, supply, asked_to_stop(), &mut terminal).await;
    let report = ran.map_err(|error| failure(&error, topics, args.kafka.as_deref()))?;
    // Who reads no rows any more wants no more words either.
    if report.ending != Ending::Unread {
        eprintln!("{report}");
    }
    Ok(())
}

/// The embedded log, and what writes the query's input into it.
async fn embedded(
    args: &QueryArgs,
    query: &Query,
    topics: &[TopicTable],
    env: &SharedEnv,
) -> Result<(Rc<dyn Log>, Supply), Failure> {
    let broker = ModelBroker::embedded();
    let log: Rc<dyn Log> = Rc::new(broker.client(Rc::clone(env)));
    log.ensure_topics(&topic_specs(topics.iter())).await.map_err(Failure::failed)?;
    let read = query.plan.source_stages().filter_map(|(_, name)| topics.iter().find(|topic| topic.topic == name));
    let read: Vec<&TopicTable> = read.collect();
    let endless = args.follow && args.events.is_none();
    let (events, rate) = if endless { (None, RATE) } else { (Some(args.events.unwrap_or(EVENTS)), u32::MAX) };
    let making = Making { events, rate, seed: args.seed };
    let feed = feed::for_query(&args.input, making, topics, &read, &broker)?;
    // On a task of its own: a write is never cut short.
    let writing = tokio::task::spawn_local(write(feed));
    let written = async move {
        match writing.await {
            Ok(written) => written,
            Err(panic) => Err(format!("the input's task panicked: {panic}")),
        }
    };
    Ok((log, Supply::Coming(Box::pin(written))))
}

async fn write(mut feed: Feed) -> Result<(), String> {
    while feed.step().await.map_err(|error| error.to_string())? {}
    Ok(())
}

/// Why a query failed, with what is to be done about it where a person must.
fn failure(error: &QueryError, topics: &[TopicTable], servers: Option<&str>) -> Failure {
    match error {
        QueryError::NoTopic(name) => {
            let resource = topics.iter().find(|topic| topic.topic == *name).map_or(name, |topic| &topic.resource);
            let brokers = servers.unwrap_or("the embedded log");
            Failure::Refused(format!(
                "Topic/{resource}: there is no topic `{name}` on {brokers}, and a query makes none; check \
                 spec.topicName, and --kafka"
            ))
        }
        QueryError::Engine(EngineError::Expression { .. }) => Failure::Failed(format!(
            "{error}: some row has no value for it, and a job would stop there; TRY_CAST, NULLIF and CASE are the ways \
             around"
        )),
        QueryError::Log(LogError::Unauthorised(_) | LogError::Refused(_)) => Failure::Refused(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    }
}
