//! The broker itself: topics, transactional ids and groups. No delays and no faults: each request is
//! answered at once, or has to wait for a transaction's end.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::task::Waker;

use super::partition::{Cursor, NewRecord, Partition, ProducerId};
use crate::{CommittedOffset, LogError, Outgoing, TopicPartition};

/// The most metadata that an offset may carry: a Kafka broker's default.
const METADATA_BYTES: usize = 4096;

/// What the broker says to a request.
pub(super) enum Answer<T> {
    /// Done, or refused.
    Now(Result<T, LogError>),
    /// A transaction has to end first; ask again then.
    Wait,
}

/// A partition by the position of its topic: cheaper than by name.
pub(super) type Place = (usize, u32);

pub(super) struct Topic {
    pub name: String,
    pub partitions: Vec<Partition>,
    pub retain_bytes: Option<u64>,
}

/// Where a transactional id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No transaction.
    Idle,
    /// Records or offsets were added.
    Open,
    /// It is decided; so many markers are not written yet.
    Ending { commit: bool, markers_left: usize },
}

struct Transactional {
    producer: ProducerId,
    epoch: u32,
    phase: Phase,
    /// Counts transactions, so that a time-out of an ended one is known as such.
    transaction: u64,
    places: BTreeSet<Place>,
    offsets: BTreeMap<String, BTreeMap<TopicPartition, GroupOffset>>,
}

/// An offset of a group.
#[derive(Debug, Clone)]
struct GroupOffset {
    committed: CommittedOffset,
    /// Of two offsets for one partition the one that reached the broker last wins, whichever transaction
    /// commits last: so Kafka does it.
    arrival: u64,
}

/// The identity of a producer: it is refused once the broker knows a higher epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub id: String,
    pub epoch: u32,
}

/// What a marker is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MarkerTarget {
    Partition(Place),
    Group(String),
}

/// What the broker has to do later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Later {
    /// Write one marker of a transaction that is decided.
    Marker { id: String, target: MarkerTarget },
    /// Abort the transaction if it is open still.
    TimeOut { id: String, transaction: u64 },
}

#[derive(Default)]
pub(super) struct Core {
    topics: Vec<Topic>,
    by_name: BTreeMap<String, usize>,
    ids: BTreeMap<String, Transactional>,
    groups: BTreeMap<String, BTreeMap<TopicPartition, GroupOffset>>,
    arrivals: u64,
    /// Work that follows from what was done; the wire takes it and decides when it happens.
    pub(super) later: Vec<Later>,
    /// Set when a transaction has ended, so that requests which wait are asked again.
    pub(super) progressed: bool,
    /// Waiting for room in a topic.
    pub(super) waiting_for_room: Vec<Waker>,
}

impl Core {
    pub(super) fn create_topic(&mut self, name: &str, partitions: u32) {
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.to_owned(), self.topics.len());
            let partitions = (0..partitions.max(1)).map(|_| Partition::default()).collect();
            self.topics.push(Topic { name: name.to_owned(), partitions, retain_bytes: None });
        }
    }

    /// Its name is free again. Its records stay where they are: transactions that wrote them may still be open.
    pub(super) fn delete_topic(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// Told from every other topic, also one of the same name before or after.
    pub(super) fn topic_id(&self, name: &str) -> Result<String, LogError> {
        let index = self.by_name.get(name).ok_or_else(|| LogError::UnknownTopic(name.to_owned()))?;
        Ok(format!("topic-{index}"))
    }

    pub(super) fn topic(&self, name: &str) -> Result<&Topic, LogError> {
        let index = self.by_name.get(name).ok_or_else(|| LogError::UnknownTopic(name.to_owned()))?;
        Ok(&self.topics[*index])
    }

    pub(super) fn topic_mut(&mut self, name: &str) -> Result<&mut Topic, LogError> {
        let index = self.by_name.get(name).ok_or_else(|| LogError::UnknownTopic(name.to_owned()))?;
        Ok(&mut self.topics[*index])
    }

    pub(super) fn place(&self, partition: &TopicPartition) -> Result<Place, LogError> {
        let unknown = || LogError::UnknownTopic(partition.to_string());
        let index = *self.by_name.get(&partition.topic).ok_or_else(unknown)?;
        if (partition.partition as usize) < self.topics[index].partitions.len() {
            Ok((index, partition.partition))
        } else {
            Err(unknown())
        }
    }

    pub(super) fn partition(&self, place: Place) -> &Partition {
        &self.topics[place.0].partitions[place.1 as usize]
    }

    pub(super) fn partition_mut(&mut self, place: Place) -> &mut Partition {
        &mut self.topics[place.0].partitions[place.1 as usize]
    }

    pub(super) fn topic_names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// Has every reader look again.
    pub(super) fn notify_all(&self) {
        self.topics.iter().flat_map(|topic| &topic.partitions).for_each(Partition::notify);
    }

    pub(super) fn subscribe(&mut self, partition: &TopicPartition, cursor: &Rc<Cursor>) -> Result<Place, LogError> {
        let place = self.place(partition)?;
        self.partition_mut(place).subscribe(cursor);
        Ok(place)
    }

    /// The places of a batch's topics, by their position in it.
    pub(super) fn route(&self, batch: &Outgoing) -> Result<Vec<usize>, LogError> {
        let find = |name: &String| self.by_name.get(name).copied().ok_or_else(|| LogError::UnknownTopic(name.clone()));
        batch.topics.iter().map(find).collect()
    }

    /// Appends one record of a batch that was routed, and says whether it is its transaction's first one
    /// in that partition.
    pub(super) fn append(
        &mut self,
        producer: Option<ProducerId>,
        place: Place,
        record: NewRecord<'_>,
    ) -> Result<bool, LogError> {
        let topic = &mut self.topics[place.0];
        match topic.partitions.get_mut(place.1 as usize) {
            Some(partition) => Ok(partition.append(producer, record)),
            None => Err(LogError::UnknownTopic(format!("{}[{}]", topic.name, place.1))),
        }
    }

    // ---- transactional ids ----

    /// Takes over a transactional id: ends what was open, refuses whoever held it, gives a new epoch.
    pub(super) fn initialise(&mut self, id: &str) -> Answer<Session> {
        let fresh = ProducerId(self.ids.len() as u64 + 1);
        let state = self.ids.entry(id.to_owned()).or_insert_with(|| Transactional {
            producer: fresh,
            epoch: 0,
            phase: Phase::Idle,
            transaction: 0,
            places: BTreeSet::new(),
            offsets: BTreeMap::new(),
        });
        match state.phase {
            Phase::Idle => {
                state.epoch += 1;
                Answer::Now(Ok(Session { id: id.to_owned(), epoch: state.epoch }))
            }
            // What is decided completes first: a commit that was accepted is never taken back.
            Phase::Ending { .. } => Answer::Wait,
            Phase::Open => {
                state.epoch += 1;
                self.decide(id, false);
                Answer::Wait
            }
        }
    }

    /// The id's state, if `session` holds it still.
    fn held(&mut self, session: &Session) -> Result<&mut Transactional, LogError> {
        match self.ids.get_mut(&session.id) {
            Some(state) if state.epoch == session.epoch => Ok(state),
            Some(state) => Err(LogError::Fenced(format!(
                "{} has epoch {}, this producer has {}",
                session.id, state.epoch, session.epoch
            ))),
            None => Err(LogError::Fenced(format!("{} is not known", session.id))),
        }
    }

    /// Opens a transaction if none is open. `None`: the last one has not ended yet.
    pub(super) fn open(&mut self, session: &Session) -> Result<Option<ProducerId>, LogError> {
        let state = self.held(session)?;
        match state.phase {
            Phase::Ending { .. } => return Ok(None),
            Phase::Open => {}
            Phase::Idle => {
                state.phase = Phase::Open;
                state.transaction += 1;
                let transaction = state.transaction;
                self.later.push(Later::TimeOut { id: session.id.clone(), transaction });
            }
        }
        Ok(self.ids.get(&session.id).map(|state| state.producer))
    }

    /// Opens a transaction of somebody who never ends it, and whom the broker never times out.
    pub(super) fn hang(&mut self, id: &str, place: Place) -> Option<Session> {
        let Answer::Now(Ok(session)) = self.initialise(id) else { return None };
        let state = self.ids.get_mut(id)?;
        state.phase = Phase::Open;
        state.places.insert(place);
        let producer = state.producer;
        let record = NewRecord { timestamp_ms: -1, key: None, value: Some(b"hanging"), headers: &[] };
        self.partition_mut(place).append(Some(producer), record);
        Some(session)
    }

    /// Notes that the open transaction has written to `place`.
    pub(super) fn touch(&mut self, session: &Session, place: Place) {
        if let Some(state) = self.ids.get_mut(&session.id) {
            state.places.insert(place);
        }
    }

    /// Adds offsets to the open transaction.
    pub(super) fn add_offsets(
        &mut self,
        session: &Session,
        group: &str,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Answer<()> {
        if let Some((partition, long)) = offsets.iter().find(|(_, offset)| offset.metadata.len() > METADATA_BYTES) {
            let length = long.metadata.len();
            return Answer::Now(Err(LogError::Refused(format!(
                "the metadata of {partition}'s offset has {length} bytes; at most {METADATA_BYTES} are allowed"
            ))));
        }
        match self.open(session) {
            Err(error) => return Answer::Now(Err(error)),
            Ok(None) => return Answer::Wait,
            Ok(Some(_)) => {}
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        if let Some(state) = self.ids.get_mut(&session.id) {
            let pending = state.offsets.entry(group.to_owned()).or_default();
            for (partition, committed) in offsets {
                pending.insert(partition.clone(), GroupOffset { committed: committed.clone(), arrival });
            }
        }
        Answer::Now(Ok(()))
    }

    /// Decides the open transaction. The markers follow; the caller is answered before they are written,
    /// as Kafka does it.
    pub(super) fn end(&mut self, session: &Session, commit: bool) -> Answer<()> {
        let phase = match self.held(session) {
            Ok(state) => state.phase,
            Err(error) => return Answer::Now(Err(error)),
        };
        Answer::Now(match phase {
            Phase::Open => {
                self.decide(&session.id, commit);
                Ok(())
            }
            // Nothing was added, or this is the same request once more.
            Phase::Idle => Ok(()),
            Phase::Ending { commit: decided, .. } if decided == commit => Ok(()),
            Phase::Ending { .. } => Err(LogError::Indefinite(format!(
                "the transaction of {} is being {} already",
                session.id,
                if commit { "aborted" } else { "committed" }
            ))),
        })
    }

    fn decide(&mut self, id: &str, commit: bool) {
        let Some(state) = self.ids.get_mut(id) else { return };
        let partitions = state.places.iter().map(|place| MarkerTarget::Partition(*place));
        let groups = state.offsets.keys().map(|group| MarkerTarget::Group(group.clone()));
        let targets: Vec<MarkerTarget> = partitions.chain(groups).collect();
        state.phase = Phase::Ending { commit, markers_left: targets.len() };
        if targets.is_empty() {
            state.phase = Phase::Idle;
            self.progressed = true;
        }
        self.later.extend(targets.into_iter().map(|target| Later::Marker { id: id.to_owned(), target }));
    }

    /// Writes a marker, after which the part of the transaction there is visible, or never will be.
    pub(super) fn write_marker(&mut self, id: &str, target: &MarkerTarget) {
        let Some(state) = self.ids.get_mut(id) else { return };
        let Phase::Ending { commit, markers_left } = &mut state.phase else { return };
        let (commit, producer) = (*commit, state.producer);
        *markers_left -= 1;
        if *markers_left == 0 {
            state.phase = Phase::Idle;
        }
        self.progressed = true;
        match target {
            MarkerTarget::Partition(place) => {
                state.places.remove(place);
                self.partition_mut(*place).end_transaction(producer, commit);
            }
            MarkerTarget::Group(group) => {
                let pending = state.offsets.remove(group).unwrap_or_default();
                if commit {
                    self.apply_offsets(group, pending);
                }
            }
        }
    }

    fn apply_offsets(&mut self, group: &str, pending: BTreeMap<TopicPartition, GroupOffset>) {
        let current = self.groups.entry(group.to_owned()).or_default();
        let mut topics = BTreeSet::new();
        for (partition, offset) in pending {
            topics.insert(partition.topic.clone());
            if current.get(&partition).is_none_or(|there| there.arrival < offset.arrival) {
                current.insert(partition, offset);
            }
        }
        for topic in topics {
            self.trim(&topic);
        }
    }

    /// Aborts a transaction that was open too long, and refuses its producer from then on.
    pub(super) fn time_out(&mut self, id: &str, transaction: u64) -> bool {
        let Some(state) = self.ids.get_mut(id) else { return false };
        if state.phase != Phase::Open || state.transaction != transaction {
            return false;
        }
        state.epoch += 1;
        self.decide(id, false);
        true
    }

    /// The ids with an open transaction, and its number.
    pub(super) fn open_transactions(&self) -> Vec<(String, u64)> {
        let open = self.ids.iter().filter(|(_, state)| state.phase == Phase::Open);
        open.map(|(id, state)| (id.clone(), state.transaction)).collect()
    }

    // ---- groups ----

    /// Committed offsets, once no transaction is pending on them.
    pub(super) fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Answer<Vec<Option<CommittedOffset>>> {
        let pending = self.ids.values().filter_map(|state| state.offsets.get(group));
        if pending.flat_map(BTreeMap::keys).any(|partition| partitions.contains(partition)) {
            return Answer::Wait;
        }
        let current = self.groups.get(group);
        let find = |partition| Some(current?.get(partition)?.committed.clone());
        Answer::Now(Ok(partitions.iter().map(find).collect()))
    }

    /// All committed offsets of a group, pending transactions or not.
    pub(super) fn group_offsets(&self, group: &str) -> Vec<(TopicPartition, CommittedOffset)> {
        let offsets = self.groups.get(group).into_iter().flatten();
        offsets.map(|(partition, offset)| (partition.clone(), offset.committed.clone())).collect()
    }

    pub(super) fn group_names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    pub(super) fn forget_group(&mut self, group: &str) {
        self.groups.remove(group);
    }

    // ---- retention ----

    /// Lets go of what is consumed, where the topic says how much of it to keep.
    pub(super) fn trim(&mut self, topic: &str) {
        let Some(topic) = self.by_name.get(topic).map(|index| &mut self.topics[*index]) else { return };
        let Some(retain) = topic.retain_bytes else { return };
        let share = retain / topic.partitions.len() as u64;
        let mut trimmed = false;
        for (number, partition) in topic.partitions.iter_mut().enumerate() {
            if partition.stored_bytes() > share {
                let key = TopicPartition::new(topic.name.clone(), number as u32);
                let past = self.groups.values().filter_map(|group| group.get(&key)).map(|o| o.committed.offset).min();
                trimmed |= partition.trim(share, past);
            }
        }
        if trimmed {
            self.waiting_for_room.drain(..).for_each(Waker::wake);
        }
    }

    /// Bytes that a topic holds.
    pub(super) fn stored_bytes(&self, topic: &str) -> Result<u64, LogError> {
        Ok(self.topic(topic)?.partitions.iter().map(Partition::stored_bytes).sum())
    }
}
