//! The second half of an epoch: object, acknowledgements, offsets, commit. Runs beside the next batches.

use std::time::Duration;

use bytes::Bytes;
use freshet_env::{PlantedBug, SharedEnv, deadline, planted};
use freshet_log::{CommittedOffset, LogError, Producer, TopicPartition};
use freshet_state::lineage::Lineage;
use freshet_state::store::{StoreError, create_own};

use super::SlotError;
use super::events::EpochReport;

/// What is to be committed: only a cut makes one.
pub(super) struct Cut {
    pub epoch: u64,
    pub generation: u64,
    /// The state object, relative to the lineage.
    pub object: Option<(String, Bytes)>,
    /// Offsets by consumer group.
    pub offsets: Vec<(String, Vec<(TopicPartition, CommittedOffset)>)>,
    pub snapshot: Duration,
    pub records: Vec<(String, i64)>,
}

/// A commit that ended, one way or the other.
pub(super) struct Landed {
    /// Usable only when the result is `Ok`.
    pub producer: Box<dyn Producer>,
    pub result: Result<EpochReport, SlotError>,
}

/// Makes a cut true.
pub(super) async fn commit(
    env: SharedEnv,
    lineage: Lineage,
    mut producer: Box<dyn Producer>,
    cut: Cut,
    upload_deadline: Duration,
) -> Landed {
    let result = try_commit(&env, &lineage, &mut *producer, cut, upload_deadline).await;
    Landed { producer, result }
}

async fn try_commit(
    env: &SharedEnv,
    lineage: &Lineage,
    producer: &mut dyn Producer,
    cut: Cut,
    upload_deadline: Duration,
) -> Result<EpochReport, SlotError> {
    env.crash_point("epoch.snapshot-taken").await;
    let began = env.monotonic();
    let object_bytes = cut.object.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
    let early = planted(PlantedBug::CommitBeforeObject);
    if let Some((name, bytes)) = &cut.object
        && !early
        && !planted(PlantedBug::OffsetsWithoutState)
    {
        upload(env, lineage, name, bytes, upload_deadline).await?;
        env.crash_point("epoch.object-written").await;
    }
    let uploaded = env.monotonic();
    producer.acknowledged().await?;
    env.crash_point("epoch.outputs-acknowledged").await;
    let acknowledged = env.monotonic();
    for (group, offsets) in &cut.offsets {
        producer.send_offsets(group, offsets).await?;
    }
    env.crash_point("epoch.offsets-sent").await;
    producer.commit().await?;
    env.crash_point("epoch.committed").await;
    let committed = env.monotonic();
    if let Some((name, bytes)) = &cut.object
        && early
    {
        upload(env, lineage, name, bytes, upload_deadline).await?;
    }
    Ok(EpochReport {
        epoch: cut.epoch,
        generation: cut.generation,
        snapshot: cut.snapshot,
        upload: uploaded.saturating_sub(began),
        acknowledge: acknowledged.saturating_sub(uploaded),
        commit: committed.saturating_sub(acknowledged),
        object_bytes,
        committed_at_ms: env.now_ms(),
        records: cut.records,
    })
}

/// Writes the object, trying again until `limit` has passed.
async fn upload(
    env: &SharedEnv,
    lineage: &Lineage,
    name: &str,
    bytes: &Bytes,
    limit: Duration,
) -> Result<(), SlotError> {
    let path = format!("{}{name}", lineage.prefix());
    let trying = async {
        let mut pause = Duration::from_millis(20);
        loop {
            match create_own(&**lineage.store(), &path, bytes.clone()).await {
                Err(StoreError::Unavailable(_)) => env.sleep(pause).await,
                done => return done,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    };
    match deadline(env, limit, trying).await {
        Some(done) => Ok(done?),
        None => Err(StoreError::Unavailable(format!("{path} could not be written within {limit:?}")).into()),
    }
}

/// Commits the start positions of tasks that begin, as their epoch 0.
pub(super) async fn commit_beginnings(
    producer: &mut dyn Producer,
    offsets: Vec<(String, Vec<(TopicPartition, CommittedOffset)>)>,
) -> Result<(), LogError> {
    producer.begin()?;
    for (group, offsets) in &offsets {
        producer.send_offsets(group, offsets).await?;
    }
    producer.commit().await
}
