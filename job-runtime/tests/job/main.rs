//! What is handed out after what: plans that change under state, and the end of a job. The level: the real decisions and
//! their IO, against the embedded broker and a store in memory; no worker runs.
#![cfg(feature = "faults")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod restore;
mod retire;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use freshet::job::{self, Handed, JobSpec, Refusal, Wanted};
use freshet::slot::{SlotError, transactional_id};
use freshet_env::{RealEnv, SharedEnv};
use freshet_log::model::ModelBroker;
use freshet_log::{CommittedOffset, Log, StartPosition, TopicPartition};
use freshet_plan::{Column, DataType, EventTime, Format, Plan};
use freshet_sql::{Catalog, PlanOptions, Table};
use freshet_state::TaskId;
use freshet_state::generation::{Generation, Retired};
use freshet_state::lineage::{Lineage, Owner};
use freshet_state::run_policy::{BadRecords, LateRecords, RunPolicy};
use freshet_state::store::{FaultyStore, MemoryStore, Outcome, Store, StoreFault};

const COPY: &str = "INSERT INTO copies SELECT account, amount FROM payments;";
const REFUNDS: &str = "INSERT INTO copies SELECT account, amount FROM refunds;";
const BY_ACCOUNT: &str = "INSERT INTO totals SELECT account, window_start, COUNT(*) AS n \
     FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY account, window_start, window_end;";
const BY_MERCHANT: &str = "INSERT INTO totals SELECT merchant, window_start, COUNT(*) AS n \
     FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY merchant, window_start, window_end;";

fn table(name: &str, columns: &[(&str, DataType)]) -> Table {
    let event_time = EventTime { column: "ts".into(), max_out_of_orderness_ms: 1_000, idle_timeout_ms: None };
    let has_time = columns.iter().any(|(column, _)| *column == "ts");
    Table {
        name: name.to_owned(),
        resource_name: name.to_owned(),
        topic: name.to_owned(),
        format: Format::Json,
        columns: columns.iter().map(|(column, data_type)| Column::new(*column, data_type.clone())).collect(),
        key: vec![columns[0].0.to_owned()],
        key_trusted: true,
        event_time: has_time.then_some(event_time),
        partitions: 2,
    }
}

fn catalog() -> Catalog {
    let (text, number, time) = (DataType::String, DataType::BigInt, DataType::Timestamp(3));
    let payments =
        [("account", text.clone()), ("merchant", text.clone()), ("amount", number.clone()), ("ts", time.clone())];
    Catalog {
        tables: vec![
            table("payments", &payments),
            table("refunds", &payments),
            table("copies", &[("account", text.clone()), ("amount", number.clone())]),
            table("totals", &[("who", text), ("since", time), ("n", number)]),
        ],
    }
}

fn plan(sql: &[&str]) -> Plan {
    freshet_sql::plan(&catalog(), &sql.concat(), &PlanOptions { max_parallelism: 4, ..PlanOptions::default() })
        .expect("it can be planned")
}

struct World {
    broker: ModelBroker,
    objects: MemoryStore,
    env: SharedEnv,
    log: Rc<dyn Log>,
}

impl World {
    fn new() -> Self {
        let broker = ModelBroker::embedded();
        for topic in ["payments", "refunds", "copies", "totals", "dead"] {
            broker.create_topic(topic, 2);
        }
        let env: SharedEnv = Rc::new(RealEnv::new());
        let log: Rc<dyn Log> = Rc::new(broker.client(Rc::clone(&env)));
        Self { broker, objects: MemoryStore::new(), env, log }
    }

    fn store(&self) -> Rc<dyn Store> {
        Rc::new(self.objects.clone())
    }

    /// The store, of which the operation after `n` others and all behind it come out as `outcome` says.
    fn store_that_fails_after(&self, n: u32, outcome: Outcome) -> Rc<dyn Store> {
        let left = Cell::new(n);
        Rc::new(FaultyStore::new(self.objects.clone(), Rc::clone(&self.env), move |_, _| {
            let works = left.get() > 0;
            left.set(left.get().saturating_sub(1));
            StoreFault { outcome: if works { Outcome::Works } else { outcome }, ..StoreFault::NONE }
        }))
    }

    fn spec(&self, sql: &[&str]) -> JobSpec {
        JobSpec {
            owner: Owner { cluster: "c".into(), namespace: "shop".into(), name: "fraud".into() },
            plan: plan(sql),
            policy: RunPolicy { on_bad_record: BadRecords::Fail, on_late: LateRecords::Drop, epoch_interval_ms: 500 },
            start_from: StartPosition::Earliest,
            accept_dropped: [].into(),
        }
    }

    async fn open(&self, spec: &JobSpec) -> Lineage {
        job::open(spec, self.store(), &self.env).await.expect("it opens")
    }

    async fn try_hand_out(&self, spec: &JobSpec, slots: u32, accept: bool) -> Result<Handed, SlotError> {
        let lineage = self.open(spec).await;
        let wanted = Wanted { slots, accept_dropped_state: accept };
        job::hand_out(spec, &lineage, &self.log, &self.env, wanted).await
    }

    async fn hand_out(&self, sql: &[&str]) -> Generation {
        let handed = self.try_hand_out(&self.spec(sql), 2, true).await.expect("it is handed out");
        handed.generation
    }

    fn append(&self, topic: &str, partition: u32, count: u32) {
        for _ in 0..count {
            self.broker.append(&TopicPartition::new(topic, partition), 1, None, Some(b"{}")).expect("it is written");
        }
    }

    /// What a worker of `generation` does: it commits an offset of a stage.
    async fn commit(&self, lineage: &Lineage, generation: u64, stage: &str, topic: &str, offset: i64) {
        let id = transactional_id(lineage.id(), generation, 0);
        let mut producer = self.log.producer(&id).await.expect("a producer");
        producer.begin().expect("it begins");
        let committed = CommittedOffset { offset, metadata: format!("v1|{generation}|3|0|") };
        let group = Plan::consumer_group(lineage.id(), stage);
        producer.send_offsets(&group, &[(TopicPartition::new(topic, 0), committed)]).await.expect("offsets");
        producer.commit().await.expect("it commits");
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("done within a minute") };
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn source(generation: &Generation, topic: &str) -> String {
    let found = generation.plan.source_stages().find(|(_, read)| *read == topic);
    found.expect("the topic is read").0.id.clone()
}

fn operators(generation: &Generation) -> Vec<String> {
    generation.plan.operator_ids().into_iter().map(str::to_owned).collect()
}

#[test]
fn what_is_as_wanted_is_handed_out_once() {
    let world = World::new();
    run(async {
        let spec = world.spec(&[COPY, BY_MERCHANT]);
        let first = world.try_hand_out(&spec, 2, false).await.expect("a first");
        assert!(first.changed);
        assert_eq!((first.generation.number, first.generation.assignment.len()), (1, 2 + 4));
        assert_eq!(first.generation.revision(), spec.revision());
        let again = world.try_hand_out(&spec, 2, false).await.expect("the same");
        assert_eq!((again.changed, again.generation.clone()), (false, first.generation));

        let mut slower = spec.clone();
        slower.policy.epoch_interval_ms = 1_000;
        let third = world.try_hand_out(&slower, 3, false).await.expect("another policy, another number of slots");
        assert_eq!((third.changed, third.generation.number, third.generation.slots), (true, 2, 3));
        assert_eq!(third.generation.starts, again.generation.starts, "starts are resolved once");
        assert_ne!(third.generation.revision(), spec.revision());
        assert_eq!(third.generation.plan_fingerprint, spec.plan.fingerprint());

        let lineage = world.open(&spec).await;
        for changed in [true, false] {
            let scaled = job::rescale(&lineage, &world.env, 1).await.expect("it is spread").expect("there is one");
            assert_eq!((scaled.changed, scaled.generation.number, scaled.generation.slots), (changed, 3, 1));
            assert_eq!(scaled.generation.policy, Some(slower.policy.clone()), "as the latest has it");
        }
    });
}

#[test]
fn a_statement_begins_where_the_lineage_stands() {
    let world = World::new();
    run(async {
        world.append("payments", 0, 7);
        let mut spec = world.spec(&[COPY]);
        spec.start_from = StartPosition::Latest;
        let first = world.try_hand_out(&spec, 2, false).await.expect("a first").generation;
        let payments = source(&first, "payments");
        assert_eq!(first.starts[&TaskId::new(&payments, 0)], 7);
        assert_eq!(first.starts[&TaskId::new(&payments, 1)], 0);

        // Another topic: startFrom, as of now. A topic that is read already has no start of its own.
        world.append("payments", 0, 2);
        world.append("refunds", 1, 3);
        spec.plan = plan(&[COPY, REFUNDS, BY_MERCHANT]);
        let second = world.try_hand_out(&spec, 2, false).await.expect("a compatible plan").generation;
        let refunds = source(&second, "refunds");
        assert_eq!(source(&second, "payments"), payments);
        assert_eq!(second.starts[&TaskId::new(&payments, 0)], 7, "resolved once");
        assert_eq!(second.starts[&TaskId::new(&refunds, 1)], 3);
        let operator = operators(&second).pop().expect("one");
        assert_eq!(
            (0..4).map(|p| second.starts[&TaskId::new(&operator, p)]).sum::<i64>(),
            0,
            "internal topics are new"
        );
        assert!(second.renamed.is_empty() && second.retired.is_empty());

        // A partition that is added is read from its first record, whatever startFrom says.
        world.broker.grow_topic("refunds", 3).expect("it grows");
        world.append("refunds", 2, 5);
        let third = world.try_hand_out(&spec, 3, false).await.expect("more partitions").generation;
        assert_eq!(third.starts[&TaskId::new(&refunds, 2)], 0);
    });
}

#[test]
fn an_input_that_comes_back_goes_on_where_it_stopped() {
    let world = World::new();
    run(async {
        world.append("refunds", 0, 9);
        let first = world.hand_out(&[COPY, REFUNDS]).await;
        let lineage = world.open(&world.spec(&[COPY])).await;
        let refunds = source(&first, "refunds");
        world.commit(&lineage, 1, &refunds, "refunds", 5).await;

        let second = world.hand_out(&[COPY]).await;
        assert_eq!(second.retired[&refunds], Retired { since: 2, topic: Some("refunds".into()) });
        // While the first generation's workers may still commit, nobody knows where they stop.
        let early = world.try_hand_out(&world.spec(&[COPY, REFUNDS]), 2, false).await;
        let error = early.expect_err("not taken over");
        assert!(error.is_transient() && error.reason() == "TakeOverPending", "{error}");
        world.log.fence(&[transactional_id(lineage.id(), 1, 0), transactional_id(lineage.id(), 1, 1)]).await.unwrap();
        lineage.generations().mark_fenced(2).await.expect("the mark");

        let third = world.hand_out(&[COPY, REFUNDS]).await;
        let back = source(&third, "refunds");
        assert_eq!(back, format!("{refunds}-r3"), "under a name of its own");
        assert_eq!(third.renamed, [(refunds.clone(), back.clone())].into());
        assert_eq!(third.starts[&TaskId::new(&back, 0)], 5, "where it stopped");
        assert_eq!(third.starts[&TaskId::new(&back, 1)], 0, "that partition never began");
        assert_eq!(third.plan_fingerprint, first.plan_fingerprint, "it is the same SQL");
        let again = world.try_hand_out(&world.spec(&[COPY, REFUNDS]), 2, false).await.expect("as wanted");
        assert!(!again.changed);

        // Offsets that are gone are not guessed.
        lineage.mark_begun(3, 0, 1, [TaskId::new(&back, 0)]).await.expect("it began");
        world.hand_out(&[COPY]).await;
        lineage.generations().mark_fenced(4).await.expect("the mark");
        let lost = world.try_hand_out(&world.spec(&[COPY, REFUNDS]), 2, false).await.expect_err("lost");
        assert_eq!(lost.reason(), "OffsetsLost");
    });
}

#[test]
fn state_is_dropped_only_where_that_is_accepted_and_never_found_again() {
    let world = World::new();
    run(async {
        let first = world.hand_out(&[COPY, BY_ACCOUNT]).await;
        let operator = operators(&first).pop().expect("one");
        let error = world.try_hand_out(&world.spec(&[COPY]), 2, false).await.expect_err("it would drop state");
        let SlotError::PlanRefused { generation: 1, refusal: Refusal::StateWouldBeDropped { operators: named } } =
            &error
        else {
            panic!("{error}");
        };
        assert!(named[0].starts_with(&operator) && named[0].contains("totals"), "{named:?}");
        assert_eq!(error.reason(), "StateWouldBeDropped");
        let lineage = world.open(&world.spec(&[COPY])).await;
        assert_eq!(lineage.generations().latest_number().await, Ok(1), "nothing was handed out");

        // The loss of another operator is none of this one's.
        let mut accepts = world.spec(&[COPY]);
        accepts.accept_dropped = [format!("{operator}-r9")].into();
        let error = world.try_hand_out(&accepts, 2, false).await.expect_err("it is not named");
        let remedy = format!("spec.upgrade.acceptDroppedState: [{operator}]");
        assert!(error.to_string().contains(&remedy), "{error}");
        accepts.accept_dropped.insert(operator.clone());
        let second = world.try_hand_out(&accepts, 2, false).await.expect("it is named").generation;
        assert_eq!(second.retired[&operator], Retired { since: 2, topic: None });
        let third = world.hand_out(&[COPY, BY_ACCOUNT]).await;
        assert_eq!(operators(&third), [format!("{operator}-r3")]);
        let again = world.try_hand_out(&accepts, 2, false).await;
        assert!(again.is_err(), "an id that stays in the spec accepts nothing later");
        let fourth = world.hand_out(&[BY_ACCOUNT]).await;
        assert_eq!(operators(&fourth), operators(&third), "what goes on keeps its name");
        world.hand_out(&[COPY]).await;
        let sixth = world.hand_out(&[BY_ACCOUNT]).await;
        assert_eq!(operators(&sixth), [format!("{operator}-r6")]);
        assert_eq!(sixth.retired.len(), 2);
    });
}

#[test]
fn a_plan_that_cannot_run_is_not_handed_out() {
    let world = World::new();
    run(async {
        world.hand_out(&[COPY]).await;
        let mut spec = world.spec(&[COPY]);
        spec.policy.on_late = LateRecords::DeadLetter { topic: "nowhere".into() };
        let error = world.try_hand_out(&spec, 2, false).await.expect_err("no such topic");
        assert_eq!(error.reason(), "TopicNotFound");
        let wanted = Wanted { slots: 2, accept_dropped_state: false };
        let lineage = world.open(&spec).await;
        let looked = job::look_ahead(&spec, &lineage, &world.log, &world.env, wanted).await;
        assert_eq!(looked.expect_err("the same").reason(), "TopicNotFound");
        spec.policy.on_late = LateRecords::Drop;
        spec.plan = plan(&[COPY, BY_MERCHANT]);
        let (latest, next) = job::look_ahead(&spec, &lineage, &world.log, &world.env, wanted).await.expect("it could");
        assert_eq!((latest.map(|g| g.number), next.map(|g| g.number)), (Some(1), Some(2)));
        assert_eq!(lineage.generations().latest_number().await, Ok(1), "nothing was handed out");
        assert_eq!(job::check_new(&spec, &world.log).await, Ok(2 + 4));
    });
}

#[test]
fn topics_that_were_made_again_are_refused() {
    let world = World::new();
    run(async {
        let first = world.hand_out(&[COPY, BY_MERCHANT]).await;
        let lineage = world.open(&world.spec(&[COPY])).await;
        let internal = Plan::repartition_topic("fraud", lineage.id(), &operators(&first)[0], 1);
        assert_eq!(first.topic_ids.keys().map(String::as_str).collect::<Vec<_>>(), [&*internal, "payments"]);
        for topic in [internal.as_str(), "payments"] {
            world.log.delete_topics(&[topic.to_owned()]).await.expect("it is deleted");
            let unchanged = world.spec(&[COPY, BY_MERCHANT]);
            let gone = world.try_hand_out(&unchanged, 2, false).await.expect_err("it is gone");
            assert_eq!(gone.reason(), "TopicNotFound");
            world.broker.create_topic(topic, if topic == internal { 4 } else { 2 });
            // Neither for the same again, nor for what else reads it, nor by a look.
            for (sql, slots) in [(&[COPY, BY_MERCHANT][..], 2), (&[COPY, BY_MERCHANT], 3)] {
                let error = world.try_hand_out(&world.spec(sql), slots, false).await.expect_err("another topic");
                assert_eq!(error.reason(), "TopicRecreated");
                assert!(error.to_string().contains(topic), "{error}");
            }
            let wanted = Wanted { slots: 2, accept_dropped_state: false };
            let looked = job::look_ahead(&unchanged, &lineage, &world.log, &world.env, wanted).await;
            assert_eq!(looked.expect_err("another topic").reason(), "TopicRecreated");
        }
        assert_eq!(lineage.generations().latest_number().await, Ok(1), "nothing was handed out");
    });
}

#[test]
fn what_is_read_no_longer_is_remembered() {
    let world = World::new();
    run(async {
        let first = world.hand_out(&[COPY, REFUNDS]).await;
        let lineage = world.open(&world.spec(&[COPY])).await;
        let second = world.hand_out(&[COPY]).await;
        assert_eq!(second.topic_ids, first.topic_ids);
        lineage.generations().mark_fenced(2).await.expect("as whoever takes it over");
        world.log.delete_topics(&["refunds".to_owned()]).await.expect("it is deleted");
        world.broker.create_topic("refunds", 2);
        world.append("refunds", 0, 50);
        // The job would go on where it had stopped reading, in another topic.
        let error = world.try_hand_out(&world.spec(&[COPY, REFUNDS]), 2, false).await.expect_err("another topic");
        assert_eq!(error.reason(), "TopicRecreated");
    });
}

#[test]
fn partitions_that_came_are_read_by_the_next_generation() {
    let world = World::new();
    run(async {
        world.hand_out(&[COPY]).await;
        world.broker.grow_topic("payments", 3).expect("it grows");
        let spec = world.spec(&[COPY]);
        let handed = world.try_hand_out(&spec, 2, false).await.expect("it is handed out");
        assert!(handed.changed);
        assert_eq!((handed.generation.number, handed.generation.assignment.len()), (2, 3));
        assert!(!world.try_hand_out(&spec, 2, false).await.expect("as before").changed);
        // State that is placed by the topic's own partitions can't follow.
        let keyed = World::new();
        keyed.hand_out(&[BY_ACCOUNT]).await;
        keyed.broker.grow_topic("payments", 3).expect("it grows");
        let error = keyed.try_hand_out(&keyed.spec(&[BY_ACCOUNT]), 2, false).await.expect_err("it can't follow");
        assert_eq!(error.reason(), "PartitionsChanged");
    });
}

#[test]
fn a_generation_that_does_not_say_where_tasks_begin_is_followed_by_one_that_does() {
    let world = World::new();
    run(async {
        let spec = world.spec(&[COPY]);
        let first = world.try_hand_out(&spec, 2, false).await.expect("a first").generation;
        let lineage = world.open(&spec).await;
        let silent = Generation { number: 2, starts: [].into(), ..first.clone() };
        lineage.generations().propose(&silent).await.expect("as another runtime might write it");
        let third = world.try_hand_out(&spec, 2, false).await.expect("as the remedy says");
        assert_eq!((third.changed, third.generation.number), (true, 3));
        assert_eq!(third.generation.starts, first.starts);
    });
}
