//! Topics and the cluster. The invariants stand in the parent.

use std::collections::HashMap;
use std::ffi::c_char;

use rdkafka::bindings as sys;

use super::{
    Answer, Answered, COMPLAINT, Handles, Request, array, borrowed_error, c_string, check, error, said, text,
    unanswered,
};
use crate::admin::types::{AdminResult, Cluster, NewTopic, Operation, Partition, TopicDescription};

/// Makes topics; one result a topic, in their order.
pub(in crate::admin) fn create_topics(request: &Request<'_>, topics: &[NewTopic]) -> AdminResult<Vec<AdminResult<()>>> {
    let mut handles = Handles::new(sys::rd_kafka_NewTopic_destroy);
    let mut complaint = [0; COMPLAINT];
    for topic in topics {
        let name = c_string(&topic.name)?;
        let replicas = topic.replicas.map_or(-1, i32::from);
        // SAFETY: names and values end with a zero byte and are copied; the buffer has the length that is said.
        unsafe {
            let (text, size) = (complaint.as_mut_ptr(), complaint.len());
            let new = sys::rd_kafka_NewTopic_new(name.as_ptr(), topic.partitions, replicas, text, size);
            let new = handles.keep(new, &said(&complaint))?;
            for (name, value) in &topic.config {
                let (name, value) = (c_string(name)?, c_string(value)?);
                check(sys::rd_kafka_NewTopic_set_config(new, name.as_ptr(), value.as_ptr()), &[0])?;
            }
        }
    }
    // SAFETY: the array holds as many handles as is said.
    unsafe {
        let (made, count) = (handles.made.as_mut_ptr(), handles.made.len());
        sys::rd_kafka_CreateTopics(request.native(), made, count, request.options.as_ptr(), request.queue.as_ptr());
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_CREATETOPICS_RESULT)?;
    let names = topics.iter().map(|topic| topic.name.as_str());
    Ok(topic_results(&answer, sys::rd_kafka_CreateTopics_result_topics, names))
}

/// Grows topics to a number of partitions; one result a topic, in their order.
pub(in crate::admin) fn create_partitions(
    request: &Request<'_>,
    topics: &[(String, u32)],
) -> AdminResult<Vec<AdminResult<()>>> {
    let mut handles = Handles::new(sys::rd_kafka_NewPartitions_destroy);
    let mut complaint = [0; COMPLAINT];
    for (topic, total) in topics {
        let (name, total) = (c_string(topic)?, usize::try_from(*total).unwrap_or(usize::MAX));
        // SAFETY: the name ends with a zero byte and is copied; the buffer has the length that is said.
        unsafe {
            let (text, size) = (complaint.as_mut_ptr(), complaint.len());
            let new = sys::rd_kafka_NewPartitions_new(name.as_ptr(), total, text, size);
            handles.keep(new, &said(&complaint))?;
        }
    }
    // SAFETY: the array holds as many handles as is said.
    unsafe {
        let (made, count) = (handles.made.as_mut_ptr(), handles.made.len());
        sys::rd_kafka_CreatePartitions(request.native(), made, count, request.options.as_ptr(), request.queue.as_ptr());
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT)?;
    let names = topics.iter().map(|(name, _)| name.as_str());
    Ok(topic_results(&answer, sys::rd_kafka_CreatePartitions_result_topics, names))
}

/// Deletes topics; one result a topic, in their order.
pub(in crate::admin) fn delete_topics(request: &Request<'_>, topics: &[String]) -> AdminResult<Vec<AdminResult<()>>> {
    let mut handles = Handles::new(sys::rd_kafka_DeleteTopic_destroy);
    for topic in topics {
        let name = c_string(topic)?;
        // SAFETY: the name ends with a zero byte and is copied.
        handles.keep(unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) }, "no such name can be")?;
    }
    // SAFETY: the array holds as many handles as is said.
    unsafe {
        let (made, count) = (handles.made.as_mut_ptr(), handles.made.len());
        sys::rd_kafka_DeleteTopics(request.native(), made, count, request.options.as_ptr(), request.queue.as_ptr());
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_DELETETOPICS_RESULT)?;
    Ok(topic_results(&answer, sys::rd_kafka_DeleteTopics_result_topics, topics.iter().map(String::as_str)))
}

type TopicResults =
    unsafe extern "C" fn(*const sys::rd_kafka_event_t, *mut usize) -> *mut *const sys::rd_kafka_topic_result_t;

fn topic_results<'a>(
    answer: &Answer<'_>,
    list: TopicResults,
    names: impl Iterator<Item = &'a str>,
) -> Vec<AdminResult<()>> {
    // SAFETY: invariants 3 to 5.
    let mut by_name: HashMap<String, AdminResult<()>> = unsafe {
        let mut count = 0;
        let results = list(answer.event.as_ptr(), &raw mut count);
        let each = array(results, count).iter().map(|result| {
            let code = sys::rd_kafka_topic_result_error(*result);
            let result_of = if code == Answered::RD_KAFKA_RESP_ERR_NO_ERROR {
                Ok(())
            } else {
                Err(error(code, &text(sys::rd_kafka_topic_result_error_string(*result))))
            };
            (text(sys::rd_kafka_topic_result_name(*result)), result_of)
        });
        each.collect()
    };
    names.map(|name| by_name.remove(name).unwrap_or_else(|| Err(unanswered(name)))).collect()
}

/// Describes topics; one result a topic, in their order.
pub(crate) fn describe_topics(
    request: &Request<'_>,
    topics: &[String],
    with_rights: bool,
) -> AdminResult<Vec<AdminResult<TopicDescription>>> {
    if with_rights {
        request.with_rights()?;
    }
    let names = topics.iter().map(|topic| c_string(topic)).collect::<AdminResult<Vec<_>>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let mut handles = Handles::new(sys::rd_kafka_TopicCollection_destroy);
    // SAFETY: the array holds as many names as is said; they are copied, and so is the collection by the call.
    unsafe {
        let made = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let made = handles.keep(made, "no such names can be")?;
        sys::rd_kafka_DescribeTopics(request.native(), made, request.options.as_ptr(), request.queue.as_ptr());
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT)?;
    // SAFETY: invariants 3 to 5.
    let mut by_name: HashMap<String, AdminResult<TopicDescription>> = unsafe {
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(answer.event.as_ptr(), &raw mut count);
        let each = array(described, count).iter();
        each.map(|topic| (text(sys::rd_kafka_TopicDescription_name(*topic)), description(*topic))).collect()
    };
    Ok(topics.iter().map(|name| by_name.remove(name).unwrap_or_else(|| Err(unanswered(name)))).collect())
}

/// # Safety
/// `topic` belongs to an answer that is alive.
unsafe fn description(topic: *const sys::rd_kafka_TopicDescription_t) -> AdminResult<TopicDescription> {
    // SAFETY: the caller promises that the description is alive; invariants 3 and 5.
    unsafe {
        borrowed_error(sys::rd_kafka_TopicDescription_error(topic))?;
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let partitions = array(partitions, count).iter().map(|partition| {
            let (mut replicas, mut in_sync) = (0, 0);
            sys::rd_kafka_TopicPartitionInfo_replicas(*partition, &raw mut replicas);
            sys::rd_kafka_TopicPartitionInfo_isr(*partition, &raw mut in_sync);
            let id = u32::try_from(sys::rd_kafka_TopicPartitionInfo_partition(*partition)).unwrap_or(0);
            let has_leader = !sys::rd_kafka_TopicPartitionInfo_leader(*partition).is_null();
            Partition { id, replicas, in_sync, has_leader }
        });
        let partitions = partitions.collect();
        let mut count = 0;
        let rights = sys::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        Ok(TopicDescription {
            name: text(sys::rd_kafka_TopicDescription_name(topic)),
            id: text(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic))),
            internal: sys::rd_kafka_TopicDescription_is_internal(topic) != 0,
            partitions,
            rights: operations(rights, count),
        })
    }
}

/// Describes the cluster.
pub(in crate::admin) fn describe_cluster(request: &Request<'_>) -> AdminResult<Cluster> {
    request.with_rights()?;
    // SAFETY: client, options and queue are alive.
    unsafe {
        sys::rd_kafka_DescribeCluster(request.native(), request.options.as_ptr(), request.queue.as_ptr());
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_DESCRIBECLUSTER_RESULT)?;
    let event = answer.event.as_ptr();
    // SAFETY: invariants 3 to 5.
    unsafe {
        let mut brokers = 0;
        sys::rd_kafka_DescribeCluster_result_nodes(event, &raw mut brokers);
        let mut count = 0;
        let rights = sys::rd_kafka_DescribeCluster_result_authorized_operations(event, &raw mut count);
        let id = text(sys::rd_kafka_DescribeCluster_result_cluster_id(event));
        Ok(Cluster { id, brokers, rights: operations(rights, count) })
    }
}

/// # Safety
/// `list` is null or holds `count` operations.
unsafe fn operations(list: *const sys::rd_kafka_AclOperation_t, count: usize) -> Option<Vec<Operation>> {
    use sys::rd_kafka_AclOperation_t as Acl;
    if list.is_null() {
        return None;
    }
    // SAFETY: the caller promises it.
    let list = unsafe { std::slice::from_raw_parts(list, count) };
    let known = list.iter().filter_map(|operation| match operation {
        Acl::RD_KAFKA_ACL_OPERATION_READ => Some(Operation::Read),
        Acl::RD_KAFKA_ACL_OPERATION_WRITE => Some(Operation::Write),
        Acl::RD_KAFKA_ACL_OPERATION_CREATE => Some(Operation::Create),
        Acl::RD_KAFKA_ACL_OPERATION_DELETE => Some(Operation::Delete),
        Acl::RD_KAFKA_ACL_OPERATION_ALTER => Some(Operation::Alter),
        Acl::RD_KAFKA_ACL_OPERATION_DESCRIBE => Some(Operation::Describe),
        Acl::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS => Some(Operation::DescribeConfigs),
        Acl::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS => Some(Operation::AlterConfigs),
        Acl::RD_KAFKA_ACL_OPERATION_CLUSTER_ACTION => Some(Operation::ClusterAction),
        Acl::RD_KAFKA_ACL_OPERATION_IDEMPOTENT_WRITE => Some(Operation::IdempotentWrite),
        _ => None,
    });
    Some(known.collect())
}
