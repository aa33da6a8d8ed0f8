//! Where state comes from: `restoreFrom`, asked once for each resource and nonce.

use super::*;
use freshet_state::generation::GenerationLog;
use freshet_state::lineage::{Asked, RestoreFrom, all_records, ended};
use freshet_state::paths::lineage_prefix;

const ROOT: &str = "shop/fraud/";
const WANTED: Wanted = Wanted { slots: 2, accept_dropped_state: false };

fn asked(by: &str, generation: i64, nonce: &str) -> Asked {
    Asked { by: by.to_owned(), made_at_ms: 1_000, generation, nonce: nonce.to_owned() }
}

impl World {
    async fn ask_of(
        &self,
        store: Rc<dyn Store>,
        spec: &JobSpec,
        asked: &Asked,
        from: &RestoreFrom,
    ) -> Result<Lineage, SlotError> {
        job::open_as_asked(spec, (asked, from), &store, &self.log, &self.env, WANTED).await
    }

    async fn ask(&self, spec: &JobSpec, asked: &Asked, from: &RestoreFrom) -> Result<Lineage, SlotError> {
        self.ask_of(self.store(), spec, asked, from).await
    }

    /// The ids of the job's lineages, oldest first. None has a successor before it has ended behind its fences.
    async fn lineages(&self) -> Vec<String> {
        let store = self.store();
        let records = all_records(&*store, ROOT).await.expect("they can be read");
        let newest = records.first().map(|(_, record)| record.lineage.clone());
        let mut ids: Vec<String> = Vec::new();
        for (_, record) in records.iter().rev() {
            if ids.contains(&record.lineage) {
                continue;
            }
            ids.push(record.lineage.clone());
            if Some(&record.lineage) == newest.as_ref() {
                continue;
            }
            let log = GenerationLog::new(Rc::clone(&store), lineage_prefix(ROOT, &record.lineage));
            let latest = log.latest().await.expect("it can be read").expect("a tombstone");
            assert!(latest.is_tombstone(), "{} goes on beside its successor", record.lineage);
            assert!(log.is_marked(latest.number).await.expect("a mark"), "{} is not fenced", record.lineage);
            assert!(ended(&*store, ROOT, record).await.expect("it can be read").is_some(), "{}", record.lineage);
        }
        ids
    }
}

#[test]
fn a_new_lineage_begins_behind_the_fences_of_the_old_one_and_once() {
    let world = World::new();
    run(async {
        let spec = world.spec(&[COPY, BY_MERCHANT]);
        let first = world.ask(&spec, &asked("job-1", 1, ""), &RestoreFrom::Latest).await.expect("a first");
        let generation =
            job::hand_out(&spec, &first, &world.log, &world.env, WANTED).await.expect("it runs").generation;
        let payments = source(&generation, "payments");
        world.commit(&first, 1, &payments, "payments", 1).await;
        let mut zombie = world.log.producer(&transactional_id(first.id(), 1, 1)).await.expect("a producer");
        zombie.begin().expect("it begins");

        // Deleted, its state kept, and applied again.
        let again = asked("job-2", 1, "");
        let second = world.ask(&spec, &again, &RestoreFrom::Nothing).await.expect("a new one");
        assert_ne!(second.id(), first.id());
        let late = CommittedOffset { offset: 2, metadata: "v1|1|4|1|".into() };
        let group = Plan::consumer_group(first.id(), &payments);
        let sent = zombie.send_offsets(&group, &[(TopicPartition::new("payments", 0), late)]).await;
        let committed = zombie.commit().await;
        assert!(sent.is_err() || committed.is_err(), "a worker of the old one writes beside the new one");
        let scaled = job::rescale(&first, &world.env, 3).await;
        assert_eq!(scaled.expect_err("it is over").reason(), "LineageRefused");
        let started = job::hand_out(&spec, &second, &world.log, &world.env, WANTED).await.expect("it runs").generation;
        assert_eq!((started.number, started.starts.values().sum::<i64>()), (1, 0));
        let found = job::find(&spec.owner, world.store()).await.expect("it is read").expect("workers find it");
        assert_eq!(found.id(), second.id());

        // The same request is answered; whatever the spec says meanwhile. Another nonce asks once more.
        for from in [RestoreFrom::Nothing, RestoreFrom::Latest, RestoreFrom::Lineage("r-x".into())] {
            assert_eq!(world.ask(&spec, &again, &from).await.expect("answered").id(), second.id());
        }
        let resumed = world.ask(&spec, &asked("job-2", 4, "a"), &RestoreFrom::Latest).await.expect("it resumes");
        assert_eq!((resumed.id(), resumed.born_at_ms()), (second.id(), second.born_at_ms()));
        let third = world.ask(&spec, &asked("job-2", 5, "b"), &RestoreFrom::Nothing).await.expect("a third");
        assert_eq!(world.lineages().await, [first.id(), second.id(), third.id()]);
        let late = world.ask(&spec, &asked("job-2", 4, "a"), &RestoreFrom::Nothing).await;
        assert_eq!(late.expect_err("asked earlier").reason(), "LineageRefused");

        // What all of them have left goes at the end.
        job::hand_out(&spec, &third, &world.log, &world.env, WANTED).await.expect("it runs");
        let internal = Plan::repartition_topic("fraud", first.id(), &operators(&generation)[0], 1);
        assert!(world.log.partition_count(&internal).await.is_ok(), "the old one's topics stay until then");
        job::retire(&spec.owner, world.store(), &world.log, &world.env).await.expect("it is retired");
        assert!(world.objects.is_empty(), "{:?}", world.objects.list("").await);
        assert!(world.log.partition_count(&internal).await.is_err());
    });
}

#[test]
fn beginning_anew_may_be_interrupted_anywhere() {
    for (n, outcome) in (0_u32..).flat_map(|n| [(n, Outcome::FailsBefore), (n, Outcome::FailsAfter)]) {
        let world = World::new();
        let done = run(async {
            let spec = world.spec(&[COPY]);
            world.hand_out(&[COPY]).await;
            let store = world.store_that_fails_after(n, outcome);
            let again = asked("job-2", 1, "");
            let interrupted = world.ask_of(store, &spec, &again, &RestoreFrom::Nothing).await;
            world.lineages().await;
            let anew = world.ask(&spec, &again, &RestoreFrom::Nothing).await.expect("it is done in the end");
            let lineages = world.lineages().await;
            assert_eq!((lineages.len(), lineages.last().map(String::as_str)), (2, Some(anew.id())), "{n}");
            let handed = job::hand_out(&spec, &anew, &world.log, &world.env, WANTED).await;
            assert_eq!(handed.expect("it runs").generation.number, 1, "{n}");
            interrupted.is_ok()
        });
        if done {
            assert!(n > 12, "it takes more than {n} operations");
            break;
        }
    }
}

#[test]
fn several_that_ask_at_once_get_one_answer() {
    let world = World::new();
    run(async {
        let spec = world.spec(&[COPY]);
        world.hand_out(&[COPY]).await;
        let again = asked("job-2", 1, "");
        let asking = (1..5_u64).map(|each| {
            let slow = FaultyStore::new(world.objects.clone(), Rc::clone(&world.env), move |operation, path| {
                let ms = (each * 7 + path.len() as u64 + operation as u64) % 5;
                StoreFault { before: Duration::from_millis(ms), ..StoreFault::NONE }
            });
            world.ask_of(Rc::new(slow), &spec, &again, &RestoreFrom::Nothing)
        });
        let answers = futures::future::join_all(asking).await;
        let ids: Vec<String> = answers.into_iter().map(|answer| answer.expect("an answer").id().to_owned()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(world.lineages().await.len(), 2);
    });
}

#[test]
fn what_runs_is_not_ended_for_what_cant() {
    let world = World::new();
    run(async {
        world.hand_out(&[COPY]).await;
        let before = world.lineages().await;
        let mut spec = world.spec(&[COPY]);
        spec.policy.on_late = LateRecords::DeadLetter { topic: "nowhere".into() };
        let refused = world.ask(&spec, &asked("job-1", 2, "a"), &RestoreFrom::Nothing).await;
        assert_eq!(refused.expect_err("no such topic").reason(), "TopicNotFound");
        assert_eq!(world.lineages().await, before);
        let lineage = world.open(&world.spec(&[COPY])).await;
        assert!(!lineage.generations().latest().await.expect("it is read").expect("it runs").is_tombstone());
    });
}

#[test]
fn another_clusters_lineage_is_taken_over_by_name_where_the_job_can_go_on_in_it() {
    let world = World::new();
    run(async {
        let theirs = world.spec(&[COPY, BY_ACCOUNT]);
        let lineage = world.ask(&theirs, &asked("job-1", 1, ""), &RestoreFrom::Latest).await.expect("it begins");
        job::hand_out(&theirs, &lineage, &world.log, &world.env, WANTED).await.expect("it runs");

        let elsewhere = |sql: &[&str]| {
            let spec = world.spec(sql);
            JobSpec { owner: Owner { cluster: "d".into(), ..spec.owner.clone() }, ..spec }
        };
        let (ours, ask) = (elsewhere(&[COPY, BY_ACCOUNT]), asked("job-2", 1, ""));
        for from in [RestoreFrom::Latest, RestoreFrom::Nothing] {
            let refused = world.ask(&ours, &ask, &from).await.expect_err("it is another's");
            assert_eq!(refused.reason(), "LineageOwnedElsewhere");
            let remedy = format!("spec.restoreFrom {{type: Lineage, lineageId: {}}}", lineage.id());
            assert!(refused.to_string().contains(&remedy), "{refused}");
        }
        let by_name = RestoreFrom::Lineage(lineage.id().to_owned());
        let misnamed = world.ask(&ours, &ask, &RestoreFrom::Lineage("r-other".into())).await;
        assert_eq!(misnamed.expect_err("no such one").reason(), "LineageRefused");
        // Nothing is taken for a job that could not go on.
        let narrow = elsewhere(&[COPY]);
        let refused = world.ask(&narrow, &ask, &by_name).await.expect_err("it would drop state");
        assert_eq!(refused.reason(), "StateWouldBeDropped");
        let mut wide = elsewhere(&[COPY, BY_ACCOUNT]);
        wide.plan.max_parallelism = 9;
        let refused = world.ask(&wide, &ask, &by_name).await.expect_err("it is fixed");
        assert_eq!(refused.reason(), "LineageRefused");
        assert!(job::rescale(&lineage, &world.env, 3).await.is_ok(), "it is theirs still");

        let taken = world.ask(&ours, &ask, &by_name).await.expect("it is taken");
        assert_eq!(taken.id(), lineage.id());
        let next = job::hand_out(&ours, &taken, &world.log, &world.env, WANTED).await.expect("it goes on");
        assert_eq!((next.changed, next.generation.number), (true, 3), "a generation that fences theirs");
        let former = job::rescale(&lineage, &world.env, 1).await.expect_err("no longer theirs");
        assert_eq!(former.reason(), "LineageOwnedElsewhere");
        let former = world.ask(&theirs, &asked("job-1", 7, ""), &by_name).await;
        assert_eq!(former.expect_err("that was answered").reason(), "LineageOwnedElsewhere");
    });
}
