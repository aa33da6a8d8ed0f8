//! The one room with unsafe code: what rdkafka's safe interface does not offer.
//!
//! * [`BatchQueue`]: `rd_kafka_consume_batch_queue`, which hands over hundreds of records a call where
//!   `poll` hands over one (1.7 times the records per CPU second).
//! * [`TopicHandles::produce`]: producing through a topic handle, without a search by name and an allocated
//!   string for every record.
//! * [`wait_until_delivered`]: `rd_kafka_flush` with its real time-out; rdkafka's own sleeps in steps of 100 ms.
//! * [`send_offsets`]: offsets of a group that no consumer of this process belongs to.
//!
//! # Invariants
//! 1. A queue or a topic handle never outlives its client: each is stored beside the client and destroyed
//!    in `Drop`, which runs before the client's field is dropped.
//! 2. A message is read only between the call that returned it and its `rd_kafka_message_destroy`; nothing
//!    borrowed from it leaves the callback that it is shown to.
//! 3. Each message is destroyed exactly once, also when the callback panics ([`Taken`]).
//! 4. Key and payload pointers are either null or valid for their length while the message lives.
//! 5. The topic pointer of a message stays the same, and stays that topic's, while its partition is
//!    assigned: the assignment holds a reference. So it may serve as a key of [`BatchQueue::places`].
#![allow(unsafe_code, reason = "this is the room for it; see the invariants above")]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use freshet_log::TopicPartition;
use rdkafka::TopicPartitionList;
use rdkafka::bindings::{self as sys, rd_kafka_vtype_t as VType};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaRespErr;

use crate::error::Failure;
use crate::events::Events;

/// Messages that one call takes: enough to make the call cheap, few enough to bound a batch's bytes.
const MESSAGES_A_CALL: usize = 512;

/// What a poll found, shown to a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A record.
    Record {
        /// Index of its partition in the list that the queue was made for.
        place: usize,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    },
    /// Nothing more is visible in this partition; its next record will have at least this offset.
    End { place: usize, offset: i64 },
    /// Fetching a partition failed at this offset.
    Failed { place: usize, offset: i64, code: Code, text: &'a str },
}

/// The records of some partitions of one consumer, in batches.
pub(crate) struct BatchQueue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    partitions: Vec<(CString, i32)>,
    /// Topic handle (as a number) and partition → index in `partitions`.
    places: HashMap<(usize, i32), usize>,
    messages: Vec<*mut sys::rd_kafka_message_t>,
    consumer: BaseConsumer<Events>,
}

// SAFETY: librdkafka's functions on queues and messages may be called from any thread; the raw pointers are
// used by the one thread that owns this value.
unsafe impl Send for BatchQueue {}

impl BatchQueue {
    /// Forwards `partitions` of `consumer` to a queue of their own. To be called before they are assigned, so that
    /// no record takes the other way.
    ///
    /// # Errors
    /// A partition whose name holds a zero byte, or that librdkafka has no queue for.
    pub(crate) fn new(consumer: BaseConsumer<Events>, partitions: &[TopicPartition]) -> Result<Self, Failure> {
        let client = native(&consumer);
        let mut named = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let topic = CString::new(partition.topic.as_str()).map_err(|_| Failure::of(Code::InvalidTopic))?;
            let number = i32::try_from(partition.partition).map_err(|_| Failure::of(Code::InvalidPartitions))?;
            named.push((topic, number));
        }
        // SAFETY: `client` is alive; the new queue is ours and is destroyed in `Drop`.
        let queue = NonNull::new(unsafe { sys::rd_kafka_queue_new(client) }).ok_or(Failure::of(Code::Fail))?;
        let messages = vec![ptr::null_mut(); MESSAGES_A_CALL];
        let made = Self { queue, partitions: named, places: HashMap::new(), messages, consumer };
        for (topic, number) in &made.partitions {
            // SAFETY: the client is alive and the name ends with a zero byte. The handle that is returned is a
            // reference, given back at once; the forwarding stays with the partition.
            unsafe {
                let own = sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), *number);
                if own.is_null() {
                    return Err(Failure::of(Code::UnknownPartition));
                }
                sys::rd_kafka_queue_forward(own, made.queue.as_ptr());
                sys::rd_kafka_queue_destroy(own);
            }
        }
        Ok(made)
    }

    /// The consumer that the records come from.
    pub(crate) fn consumer(&self) -> &BaseConsumer<Events> {
        &self.consumer
    }

    /// Shows `show` what is there, in order; waits for the first up to `wait` and for no other. Gives the number
    /// of things shown, at most [`MESSAGES_A_CALL`].
    pub(crate) fn poll(&mut self, wait: Duration, mut show: impl FnMut(Found<'_>)) -> usize {
        // One call that asks for many would wait out its time even when some are there.
        let first = self.take(wait, 1, &mut show);
        if first == 0 { 0 } else { first + self.take(Duration::ZERO, MESSAGES_A_CALL - 1, &mut show) }
    }

    fn take(&mut self, wait: Duration, most: usize, show: &mut impl FnMut(Found<'_>)) -> usize {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `messages` has room for `most` pointers, and librdkafka fills in as many as it returns.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.messages.as_mut_ptr(), most)
        };
        // A negative count is an error of the queue itself, which can't happen to one that is alive.
        let count = usize::try_from(count).unwrap_or(0);
        for index in 0..count {
            let taken = Taken(self.messages[index]);
            if let Some(place) = self.place(&taken) {
                show(taken.found(place));
            }
        }
        count
    }

    /// The index of the message's partition. `None` for an error of no partition of ours.
    fn place(&mut self, taken: &Taken) -> Option<usize> {
        // SAFETY: invariant 2.
        let (topic, partition) = unsafe { ((*taken.0).rkt, (*taken.0).partition) };
        if topic.is_null() {
            return None;
        }
        if let Some(place) = self.places.get(&(topic as usize, partition)) {
            return Some(*place);
        }
        // SAFETY: the message holds a reference to its topic, whose name ends with a zero byte.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(topic)) };
        let same = |known: &(CString, i32)| known.0.as_c_str() == name && known.1 == partition;
        let place = self.partitions.iter().position(same)?;
        self.places.insert((topic as usize, partition), place);
        Some(place)
    }

    /// One past the last offset of a partition as the last fetch saw it; `None` before the first.
    pub(crate) fn high(&self, place: usize) -> Option<i64> {
        let (topic, partition) = &self.partitions[place];
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is alive, the name ends with a zero byte, both results are ours.
        let answer = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                native(&self.consumer),
                topic.as_ptr(),
                *partition,
                &raw mut low,
                &raw mut high,
            )
        };
        (answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        // SAFETY: invariant 1: the consumer's field is dropped after this.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

fn native(consumer: &BaseConsumer<Events>) -> *mut sys::rd_kafka_t {
    use rdkafka::consumer::Consumer;
    consumer.client().native_ptr()
}

/// A message that is ours until it is dropped.
struct Taken(*mut sys::rd_kafka_message_t);

impl Taken {
    fn found(&self, place: usize) -> Found<'_> {
        // SAFETY: invariants 2 and 4.
        let message = unsafe { &*self.0 };
        let code = Code::from(message.err);
        // SAFETY: as above; for errors the payload is librdkafka's text.
        let payload = unsafe { slice(message.payload, message.len) };
        match code {
            Code::NoError => {
                let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
                // SAFETY: the message is alive and `kind` is ours.
                let timestamp_ms = unsafe { sys::rd_kafka_message_timestamp(self.0, &raw mut kind) };
                // SAFETY: invariant 4.
                let key = unsafe { slice(message.key, message.key_len) };
                Found::Record { place, offset: message.offset, timestamp_ms, key, value: payload }
            }
            Code::PartitionEOF => Found::End { place, offset: message.offset },
            _ => {
                let text = payload.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("no reason given");
                Found::Failed { place, offset: message.offset, code, text }
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // SAFETY: invariant 3: a `Taken` is made once for each message that a call returned.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}

/// The bytes at `start`, or `None` when it is null.
///
/// # Safety
/// `start` is null or valid for `length` bytes for as long as the result is used.
unsafe fn slice<'a>(start: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller promises it.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// Handles of the topics that a producer writes to.
pub(crate) struct TopicHandles {
    known: Vec<(String, NonNull<sys::rd_kafka_topic_t>)>,
    producer: Arc<BaseProducer<Events>>,
}

impl TopicHandles {
    /// No handles yet.
    pub(crate) fn new(producer: Arc<BaseProducer<Events>>) -> Self {
        Self { known: Vec::new(), producer }
    }

    /// The index of `topic`, for [`TopicHandles::produce`].
    ///
    /// # Errors
    /// A name that is none.
    pub(crate) fn index(&mut self, topic: &str) -> Result<usize, Failure> {
        if let Some(index) = self.known.iter().position(|(name, _)| name == topic) {
            return Ok(index);
        }
        let name = CString::new(topic).map_err(|_| Failure::of(Code::InvalidTopic))?;
        // SAFETY: the producer is alive and the name ends with a zero byte; the handle is destroyed in `Drop`.
        let handle =
            unsafe { sys::rd_kafka_topic_new(self.producer.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        let handle = NonNull::new(handle).ok_or(Failure::of(Code::InvalidTopic))?;
        self.known.push((topic.to_owned(), handle));
        Ok(self.known.len() - 1)
    }

    /// The names of the topics that there are handles of.
    pub(crate) fn names(&self) -> Vec<String> {
        self.known.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Queues one record; librdkafka copies key and value.
    ///
    /// # Errors
    /// librdkafka's code, `QueueFull` among them.
    pub(crate) fn produce(
        &self,
        topic: usize,
        partition: i32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), Code> {
        let (key, key_len) = parts(key);
        let (value, value_len) = parts(value);
        // SAFETY: the producer and the handle are alive; each tag is followed by arguments of the types that
        // librdkafka documents for it, and the list ends with `END`. With `F_COPY` nothing is kept.
        let answer = unsafe {
            sys::rd_kafka_producev(
                self.producer.client().native_ptr(),
                VType::RD_KAFKA_VTYPE_RKT,
                self.known[topic].1.as_ptr(),
                VType::RD_KAFKA_VTYPE_PARTITION,
                partition,
                VType::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                VType::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                VType::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                VType::RD_KAFKA_VTYPE_TIMESTAMP,
                timestamp_ms,
                VType::RD_KAFKA_VTYPE_END,
            )
        };
        if answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(answer.into()) }
    }
}

// SAFETY: topic handles may be used from any thread; the producer is `Send` itself.
unsafe impl Send for TopicHandles {}

impl Drop for TopicHandles {
    fn drop(&mut self) {
        for (_, handle) in &self.known {
            // SAFETY: invariant 1: our reference to the producer is dropped after this.
            unsafe { sys::rd_kafka_topic_destroy(handle.as_ptr()) };
        }
    }
}

/// Pointer and length; null where there is nothing (an empty slice's pointer is not null).
fn parts(bytes: Option<&[u8]>) -> (*const u8, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()))
}

/// Waits until every record that was queued is delivered or has failed, at once when it is so. The producer's
/// events must be served by another thread meanwhile. `false` when `wait` passed first.
pub(crate) fn wait_until_delivered(producer: &BaseProducer<Events>, wait: Duration) -> bool {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the producer is alive.
    let answer = unsafe { sys::rd_kafka_flush(producer.client().native_ptr(), wait_ms) };
    answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Adds `offsets` of `group` to the producer's transaction.
///
/// # Errors
/// What the coordinators answered.
pub(crate) fn send_offsets(
    producer: &BaseProducer<Events>,
    group: &str,
    offsets: &TopicPartitionList,
    wait: Duration,
) -> Result<(), Failure> {
    let group = CString::new(group).map_err(|_| Failure::of(Code::InvalidGroupId))?;
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the producer, the name and the list are alive during the call; the metadata and the error are
    // ours and destroyed once.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata_new(group.as_ptr());
        let answer =
            sys::rd_kafka_send_offsets_to_transaction(producer.client().native_ptr(), offsets.ptr(), metadata, wait_ms);
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        if answer.is_null() {
            return Ok(());
        }
        let failure = Failure {
            code: sys::rd_kafka_error_code(answer).into(),
            fatal: sys::rd_kafka_error_is_fatal(answer) != 0,
            text: CStr::from_ptr(sys::rd_kafka_error_string(answer)).to_string_lossy().into_owned(),
        };
        sys::rd_kafka_error_destroy(answer);
        Err(failure)
    }
}
