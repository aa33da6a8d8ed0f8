//! Administration: many topics a request, one result each, in the broker's own words.

use std::time::Duration;

use freshet_e2e::servers::{KafkaOptions, KafkaServer};
use freshet_kafka::KafkaConfig;
use freshet_kafka::admin::{Admin, AdminError, ConfigChange, ConfigSource, NewTopic, OffsetSpec, Operation, Trouble};
use freshet_log::{Log, TopicPartition};

use crate::shared::*;

fn admin() -> Admin {
    Admin::connect(&config()).unwrap()
}

fn new(name: &str, partitions: i32) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions, replicas: None, config: Vec::new() }
}

fn with(mut topic: NewTopic, name: &str, value: &str) -> NewTopic {
    topic.config.push((name.to_owned(), value.to_owned()));
    topic
}

async fn made(admin: &Admin, topics: Vec<NewTopic>) {
    for result in admin.create_topics(topics).await.unwrap() {
        result.unwrap();
    }
}

/// A topic that was just made is known after a moment.
async fn known(admin: &Admin, name: &str) -> freshet_kafka::admin::TopicDescription {
    within("the new topic to be known", async {
        loop {
            match admin.describe_topics(vec![name.to_owned()]).await.unwrap().remove(0) {
                Ok(topic) => return topic,
                Err(error) => assert_eq!(error.trouble, Trouble::NotFound, "{error}"),
            }
            env().sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[test]
fn one_request_makes_many_topics_and_one_bad_topic_hides_no_other() {
    run(async {
        let admin = admin();
        let (good, bad, taken, wide) = (unique("good"), unique("bad"), unique("taken"), unique("wide"));
        made(&admin, vec![new(&taken, 1)]).await;
        let asked = vec![
            with(new(&good, 3), "retention.ms", "1234567"),
            with(new(&bad, 1), "retention.ms", "soon"),
            new(&taken, 2),
            NewTopic { replicas: Some(3), ..new(&wide, 1) },
            new("not/a/name", 1),
        ];
        let results = admin.create_topics(asked).await.unwrap();
        assert_eq!(results[0], Ok(()));
        let is = |error: &AdminError, trouble, code: &str, word: &str| {
            assert!(error.trouble == trouble && error.code == code && error.words.contains(word), "{error:?}");
        };
        is(results[1].as_ref().unwrap_err(), Trouble::Refused, "INVALID_CONFIG", "soon");
        is(results[2].as_ref().unwrap_err(), Trouble::Exists, "TOPIC_ALREADY_EXISTS", &taken);
        is(results[3].as_ref().unwrap_err(), Trouble::Refused, "INVALID_REPLICATION_FACTOR", "1 broker");
        is(results[4].as_ref().unwrap_err(), Trouble::Refused, "TOPIC_EXCEPTION", "not/a/name");

        let topic = known(&admin, &good).await;
        assert_eq!((topic.name.as_str(), topic.partitions.len(), topic.internal), (good.as_str(), 3, false));
        assert!(topic.partitions.iter().all(|part| part.replicas == 1 && part.in_sync == 1 && part.has_leader));
        assert_eq!(topic.id.len(), 22, "{}", topic.id);

        let results = admin.describe_topics(vec![bad.clone(), good.clone(), taken]).await.unwrap();
        is(results[0].as_ref().unwrap_err(), Trouble::NotFound, "UNKNOWN_TOPIC_OR_PART", "");
        assert_eq!(results[1].as_ref().unwrap().id, topic.id);
        assert_ne!(results[2].as_ref().unwrap().id, topic.id);
        assert_eq!(results[2].as_ref().unwrap().partitions.len(), 1, "a topic that was there was changed");
    });
}

#[test]
fn a_check_makes_nothing() {
    run(async {
        let admin = admin();
        let (good, bad) = (unique("checked"), unique("checked"));
        let asked = vec![new(&good, 1), with(new(&bad, 1), "cleanup.policy", "burn")];
        let results = admin.check_new_topics(asked).await.unwrap();
        assert_eq!(results[0], Ok(()));
        assert_eq!(results[1].as_ref().unwrap_err().code, "INVALID_CONFIG");
        made(&admin, vec![new(&good, 1)]).await;
    });
}

#[test]
fn partitions_grow_and_never_shrink() {
    run(async {
        let admin = admin();
        let (grows, shrinks) = (unique("grows"), unique("shrinks"));
        made(&admin, vec![new(&grows, 1), new(&shrinks, 4)]).await;
        known(&admin, &shrinks).await;
        let results = admin.create_partitions(vec![(grows.clone(), 3), (shrinks.clone(), 2)]).await.unwrap();
        assert_eq!(results[0], Ok(()));
        let error = results[1].as_ref().unwrap_err();
        assert!(error.trouble == Trouble::Refused && error.code == "INVALID_PARTITIONS", "{error}");
        assert!(error.words.contains('4'), "{error}");
        within("three partitions", async { while known(&admin, &grows).await.partitions.len() != 3 {} }).await;
        assert_eq!(known(&admin, &shrinks).await.partitions.len(), 4);
    });
}

#[test]
fn single_entries_of_a_configuration_change_and_the_others_stay() {
    run(async {
        let admin = admin();
        let (topic, other) = (unique("configured"), unique("configured"));
        let asked = with(with(new(&topic, 1), "retention.ms", "1000"), "max.message.bytes", "4096");
        made(&admin, vec![asked, new(&other, 1)]).await;
        known(&admin, &topic).await;
        let set = |name: &str, value: &str| ConfigChange::Set { name: name.to_owned(), value: value.to_owned() };
        let changes = vec![
            (
                topic.clone(),
                vec![set("retention.ms", "2000"), ConfigChange::Unset { name: "max.message.bytes".into() }],
            ),
            (other.clone(), vec![set("retention.ms", "2000"), set("no.such.entry", "1")]),
        ];
        let results = admin.alter_configs(changes).await.unwrap();
        assert_eq!(results[0], Ok(()));
        let error = results[1].as_ref().unwrap_err();
        assert!(error.trouble == Trouble::Refused && error.words.contains("no.such.entry"), "{error}");

        let read = || async { admin.describe_configs(vec![topic.clone(), other.clone()]).await.unwrap() };
        let mut results = read().await;
        within("the change to be known", async {
            while results[0].as_ref().unwrap()["retention.ms"].value.as_deref() != Some("2000") {
                results = read().await;
            }
        })
        .await;
        let config = results[0].as_ref().unwrap();
        assert_eq!(config["retention.ms"].source, ConfigSource::Topic);
        assert_eq!(config["max.message.bytes"].source, ConfigSource::Default);
        assert_eq!(results[1].as_ref().unwrap()["retention.ms"].source, ConfigSource::Default, "half of a change");
        let missing = admin.describe_configs(vec![unique("missing")]).await.unwrap().remove(0).unwrap_err();
        assert_eq!(missing.trouble, Trouble::NotFound, "{missing}");
    });
}

#[test]
fn a_topic_that_is_made_again_has_another_id() {
    run(async {
        let admin = admin();
        let topic = unique("twice");
        made(&admin, vec![new(&topic, 1)]).await;
        let first = known(&admin, &topic).await.id;
        let results = admin.delete_topics(vec![topic.clone(), unique("missing")]).await.unwrap();
        assert_eq!(results[0], Ok(()));
        assert_eq!(results[1].as_ref().unwrap_err().trouble, Trouble::NotFound);
        within("the topic to be gone", async {
            while admin.describe_topics(vec![topic.clone()]).await.unwrap()[0].is_ok() {}
        })
        .await;
        made(&admin, vec![new(&topic, 1)]).await;
        assert_ne!(known(&admin, &topic).await.id, first);
    });
}

#[test]
fn the_cluster_says_its_id_and_the_users_rights() {
    run(async {
        let admin = admin();
        let cluster = admin.cluster().await.unwrap();
        assert_eq!((cluster.id.len(), cluster.brokers), (22, 1), "{cluster:?}");
        assert!(cluster.rights.unwrap().contains(&Operation::Create));
        let topic = unique("rights");
        made(&admin, vec![new(&topic, 1)]).await;
        assert_eq!(known(&admin, &topic).await.rights, None);
        let described = admin.describe_topics_and_rights(vec![topic]).await.unwrap().remove(0).unwrap();
        assert!(described.rights.unwrap().contains(&Operation::AlterConfigs));
    });
}

#[test]
fn offsets_are_found_by_place_and_time() {
    run(async {
        let (log, admin) = (log(), admin());
        let topic = topic(&log, "found", 1).await;
        let mut producer = log.producer(&unique("tx")).await.unwrap();
        // Times 1000, 1001, 1002 at offsets 0, 1, 2; the marker at 3.
        commit(&mut producer, &values(&topic, &["a", "b", "c"])).await;
        stable_at(&log, &topic, 4).await;
        let place = TopicPartition::new(&topic, 0);
        let ask = |spec| (place.clone(), spec);
        for (spec, wanted) in [(OffsetSpec::Earliest, 0), (OffsetSpec::Latest, 4), (OffsetSpec::Timestamp(1_001), 1)] {
            let found = admin.list_offsets(vec![ask(spec)]).await.unwrap();
            assert_eq!(found, [Ok(wanted)], "{spec:?}");
        }
        let missing = admin.list_offsets(vec![(TopicPartition::new(&topic, 7), OffsetSpec::Latest)]).await;
        assert!(missing.is_err() || missing.as_ref().unwrap()[0].is_err(), "{missing:?}");
    });
}

#[test]
fn offsets_of_a_group_are_set_and_forgotten() {
    run(async {
        let (log, admin) = (log(), admin());
        let topic = topic(&log, "grouped", 2).await;
        let (group, places) = (unique("group"), [TopicPartition::new(&topic, 0), TopicPartition::new(&topic, 1)]);
        let offsets = vec![(places[0].clone(), 17), (places[1].clone(), 18)];
        let set = within("the group's coordinator", async {
            loop {
                match admin.alter_group_offsets(group.clone(), offsets.clone()).await {
                    Err(error) if error.trouble == Trouble::Unavailable => {}
                    set => return set,
                }
            }
        })
        .await;
        assert_eq!(set.unwrap(), [Ok(()), Ok(())]);
        assert_eq!(log.committed(&group, &places).await.unwrap(), [Some(offset(17, "")), Some(offset(18, ""))]);
        let gone = admin.delete_group_offsets(group.clone(), vec![places[0].clone()]).await.unwrap();
        assert_eq!(gone, [Ok(())]);
        assert_eq!(log.committed(&group, &places).await.unwrap(), [None, Some(offset(18, ""))]);
        let missing = admin.delete_group_offsets(unique("nobody"), vec![places[0].clone()]).await.unwrap_err();
        assert_eq!(missing.trouble, Trouble::NotFound, "{missing}");
    });
}

#[test]
fn a_broker_that_is_away_is_unavailable_and_answers_again_by_itself() {
    let mut server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let mut config = KafkaConfig::new(server.bootstrap(), "away");
    config.request_timeout = Duration::from_secs(2);
    run(async move {
        let admin = Admin::connect(&config).unwrap();
        let id = admin.cluster().await.unwrap().id;
        server.kill9();
        let error = within("an answer", admin.cluster()).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Unavailable, "{error}");
        server.restart().unwrap();
        let back = within("the broker", async {
            loop {
                match admin.cluster().await {
                    Ok(cluster) => return cluster,
                    Err(error) => assert_eq!(error.trouble, Trouble::Unavailable, "{error}"),
                }
            }
        })
        .await;
        assert_eq!(back.id, id);
    });
}
