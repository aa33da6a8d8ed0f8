//! Offsets of partitions and of groups. The invariants stand in the parent.

use std::ffi::c_int;

use freshet_log::TopicPartition;
use rdkafka::bindings as sys;

use super::{Answer, Answered, Handles, Request, array, borrowed_error, c_string, error, text};
use crate::admin::types::AdminResult;

/// Partitions for a call, each with an offset, or with what is asked for in its place.
pub(in crate::admin) struct Places(Handles<sys::rd_kafka_topic_partition_list_t>);

impl Places {
    /// A list of `places`.
    pub(in crate::admin) fn new<'a>(
        places: impl ExactSizeIterator<Item = (&'a TopicPartition, i64)>,
    ) -> AdminResult<Self> {
        let mut handles = Handles::new(sys::rd_kafka_topic_partition_list_destroy);
        let size = c_int::try_from(places.len()).unwrap_or(0);
        // SAFETY: the list is ours, the topic's name ends with a zero byte and is copied, and the entry that is
        // returned is one of the list.
        unsafe {
            let list = handles.keep(sys::rd_kafka_topic_partition_list_new(size), "librdkafka gives no list")?;
            for (place, offset) in places {
                let (topic, partition) = (c_string(&place.topic)?, i32::try_from(place.partition).unwrap_or(i32::MAX));
                let entry = sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
                (*entry).offset = offset;
            }
        }
        Ok(Self(handles))
    }

    fn list(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.made[0]
    }
}

/// Finds offsets; `places` has what is asked for as the offset. One result a place.
pub(in crate::admin) fn list_offsets(request: &Request<'_>, places: &Places) -> AdminResult<Vec<Found>> {
    // SAFETY: the list is alive during the call and copied.
    unsafe {
        let (options, queue) = (request.options.as_ptr(), request.queue.as_ptr());
        sys::rd_kafka_ListOffsets(request.native(), places.list(), options, queue);
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_LISTOFFSETS_RESULT)?;
    // SAFETY: invariants 3 to 5.
    unsafe {
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(answer.event.as_ptr(), &raw mut count);
        let each = array(infos, count).iter();
        Ok(each.map(|info| found(sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info))).collect())
    }
}

/// A partition and what was found or done there.
pub(in crate::admin) type Found = (TopicPartition, AdminResult<i64>);

/// # Safety
/// `partition` belongs to an answer that is alive.
unsafe fn found(partition: *const sys::rd_kafka_topic_partition_t) -> Found {
    // SAFETY: the caller promises it.
    let (topic, partition) = unsafe { (text((*partition).topic), &*partition) };
    let place = TopicPartition::new(topic, u32::try_from(partition.partition).unwrap_or(0));
    let result = match partition.err {
        Answered::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(partition.offset),
        code => Err(error(code, "")),
    };
    (place, result)
}

/// Deletes the committed offsets of `places` in `group`. One result a partition.
pub(in crate::admin) fn delete_group_offsets(
    request: &Request<'_>,
    group: &str,
    places: &Places,
) -> AdminResult<Vec<Found>> {
    let name = c_string(group)?;
    let mut handles = Handles::new(sys::rd_kafka_DeleteConsumerGroupOffsets_destroy);
    // SAFETY: name and list are alive during the calls and copied; the array holds one handle.
    unsafe {
        let made = sys::rd_kafka_DeleteConsumerGroupOffsets_new(name.as_ptr(), places.list());
        handles.keep(made, "no such group can be")?;
        let (made, options, queue) = (handles.made.as_mut_ptr(), request.options.as_ptr(), request.queue.as_ptr());
        sys::rd_kafka_DeleteConsumerGroupOffsets(request.native(), made, 1, options, queue);
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_DELETECONSUMERGROUPOFFSETS_RESULT)?;
    group_results(&answer, sys::rd_kafka_DeleteConsumerGroupOffsets_result_groups)
}

/// Sets the committed offsets of `group` to those of `places`. One result a partition.
pub(in crate::admin) fn alter_group_offsets(
    request: &Request<'_>,
    group: &str,
    places: &Places,
) -> AdminResult<Vec<Found>> {
    let name = c_string(group)?;
    let mut handles = Handles::new(sys::rd_kafka_AlterConsumerGroupOffsets_destroy);
    // SAFETY: name and list are alive during the calls and copied; the array holds one handle.
    unsafe {
        let made = sys::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), places.list());
        handles.keep(made, "no such group can be")?;
        let (made, options, queue) = (handles.made.as_mut_ptr(), request.options.as_ptr(), request.queue.as_ptr());
        sys::rd_kafka_AlterConsumerGroupOffsets(request.native(), made, 1, options, queue);
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT)?;
    group_results(&answer, sys::rd_kafka_AlterConsumerGroupOffsets_result_groups)
}

type GroupResults =
    unsafe extern "C" fn(*const sys::rd_kafka_event_t, *mut usize) -> *mut *const sys::rd_kafka_group_result_t;

fn group_results(answer: &Answer<'_>, list: GroupResults) -> AdminResult<Vec<Found>> {
    let mut results = Vec::new();
    // SAFETY: invariants 3 to 5; the list of partitions has `cnt` elements.
    unsafe {
        let mut count = 0;
        let groups = list(answer.event.as_ptr(), &raw mut count);
        for group in array(groups, count) {
            borrowed_error(sys::rd_kafka_group_result_error(*group))?;
            let partitions = sys::rd_kafka_group_result_partitions(*group);
            if !partitions.is_null() {
                let count = usize::try_from((*partitions).cnt).unwrap_or(0);
                results.extend((0..count).map(|index| found((*partitions).elems.add(index))));
            }
        }
    }
    Ok(results)
}
