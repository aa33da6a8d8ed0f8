//! The end of a job with its state.

use super::*;

#[test]
fn a_retired_job_leaves_nothing_and_begins_anew() {
    let world = World::new();
    run(async {
        let first = world.hand_out(&[COPY, BY_MERCHANT]).await;
        let lineage = world.open(&world.spec(&[COPY])).await;
        let payments = source(&first, "payments");
        world.commit(&lineage, 1, &payments, "payments", 1).await;
        let mut zombie = world.log.producer(&transactional_id(lineage.id(), 1, 1)).await.expect("a producer");
        zombie.begin().expect("it begins");
        let internal = Plan::repartition_topic("fraud", lineage.id(), &operators(&first)[0], 1);
        assert!(world.log.partition_count(&internal).await.is_ok());

        let owner = world.spec(&[COPY]).owner;
        let retired = job::retire(&owner, world.store(), &world.log, &world.env).await.expect("it is retired");
        assert_eq!(retired.lineage.as_deref(), Some(lineage.id()));
        assert!(world.objects.is_empty(), "{:?}", world.objects.list("").await);
        assert_eq!(world.broker.groups(), Vec::<String>::new());
        assert!(world.log.partition_count(&internal).await.is_err(), "the internal topic is gone");
        let late = CommittedOffset { offset: 2, metadata: "v1|1|4|1|".into() };
        let group = Plan::consumer_group(lineage.id(), &payments);
        let sent = zombie.send_offsets(&group, &[(TopicPartition::new("payments", 0), late)]).await;
        let committed = zombie.commit().await;
        assert!(sent.is_err() || committed.is_err(), "a worker that slept through it is fenced");
        assert_eq!(world.broker.groups(), Vec::<String>::new());

        let again = job::retire(&owner, world.store(), &world.log, &world.env).await.expect("once more");
        assert_eq!(again, job::Retired::default());
        let anew = world.hand_out(&[COPY]).await;
        assert_eq!(anew.number, 1);
        assert_ne!(world.open(&world.spec(&[COPY])).await.id(), lineage.id());
    });
}

#[test]
fn retiring_may_be_interrupted_anywhere() {
    // The n-th operation on the store and all after it fail, with and without effect; then it is tried again.
    for (n, outcome) in (0_u32..).flat_map(|n| [(n, Outcome::FailsBefore), (n, Outcome::FailsAfter)]) {
        let world = World::new();
        let done = run(async {
            world.hand_out(&[COPY, BY_MERCHANT]).await;
            let lineage = world.open(&world.spec(&[COPY])).await;
            let owner = world.spec(&[COPY]).owner;
            let store = world.store_that_fails_after(n, outcome);
            let interrupted = job::retire(&owner, store, &world.log, &world.env).await;
            // Whoever looks meanwhile never goes on in the lineage that is ending, once its tombstone stands.
            let generations = lineage.generations();
            if generations.latest().await.expect("it can be read").is_some_and(|latest| latest.is_tombstone()) {
                let found = job::find(&owner, world.store()).await.expect("it can be read");
                if let Some(found) = found {
                    let scaled = job::rescale(&found, &world.env, 3).await;
                    assert!(matches!(scaled, Err(SlotError::LineageEnded(_))), "{n}: {scaled:?}");
                }
            }
            job::retire(&owner, world.store(), &world.log, &world.env).await.expect("it is retired");
            assert!(world.objects.is_empty(), "{n}: {:?}", world.objects.list("").await);
            assert_eq!(world.hand_out(&[COPY]).await.number, 1, "{n}");
            interrupted.is_ok()
        });
        if done {
            assert!(n > 15, "it takes more than {n} operations");
            break;
        }
    }
}
