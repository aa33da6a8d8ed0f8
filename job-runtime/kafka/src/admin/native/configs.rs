//! The configuration of topics. The invariants stand in the parent.

use std::collections::{BTreeMap, HashMap};
use std::ptr;

use rdkafka::bindings as sys;

use super::{Answer, Answered, Handles, Request, array, c_string, error, take_error, text, unanswered};
use crate::admin::types::{AdminResult, ConfigChange, ConfigEntry, ConfigSource};

fn topic_resource(
    handles: &mut Handles<sys::rd_kafka_ConfigResource_t>,
    topic: &str,
) -> AdminResult<*mut sys::rd_kafka_ConfigResource_t> {
    let name = c_string(topic)?;
    // SAFETY: the name ends with a zero byte and is copied.
    let made = unsafe {
        sys::rd_kafka_ConfigResource_new(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr())
    };
    handles.keep(made, "no such name can be")
}

/// Reads the configuration of topics; one result a topic, in their order.
pub(in crate::admin) fn describe_configs(
    request: &Request<'_>,
    topics: &[String],
) -> AdminResult<Vec<AdminResult<BTreeMap<String, ConfigEntry>>>> {
    let mut handles = Handles::new(sys::rd_kafka_ConfigResource_destroy);
    for topic in topics {
        topic_resource(&mut handles, topic)?;
    }
    // SAFETY: the array holds as many handles as is said.
    unsafe {
        let (made, count) = (handles.made.as_mut_ptr(), handles.made.len());
        sys::rd_kafka_DescribeConfigs(request.native(), made, count, request.options.as_ptr(), request.queue.as_ptr());
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT)?;
    let list = sys::rd_kafka_DescribeConfigs_result_resources;
    let results = resources(&answer, list, topics.iter().map(String::as_str), |resource| {
        // SAFETY: the resource belongs to the answer; invariants 3 and 5.
        unsafe {
            let mut count = 0;
            let entries = sys::rd_kafka_ConfigResource_configs(resource, &raw mut count);
            array(entries, count).iter().map(|entry| config_entry(*entry)).collect()
        }
    });
    Ok(results)
}

/// # Safety
/// `entry` belongs to an answer that is alive.
unsafe fn config_entry(entry: *const sys::rd_kafka_ConfigEntry_t) -> (String, ConfigEntry) {
    use sys::rd_kafka_ConfigSource_t as Source;
    // SAFETY: the caller promises that the entry is alive; invariant 3.
    unsafe {
        let value = sys::rd_kafka_ConfigEntry_value(entry);
        let source = match sys::rd_kafka_ConfigEntry_source(entry) {
            Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG => ConfigSource::Topic,
            Source::RD_KAFKA_CONFIG_SOURCE_DEFAULT_CONFIG => ConfigSource::Default,
            _ => ConfigSource::Broker,
        };
        let described = ConfigEntry {
            value: (!value.is_null()).then(|| text(value)),
            source,
            read_only: sys::rd_kafka_ConfigEntry_is_read_only(entry) != 0,
            sensitive: sys::rd_kafka_ConfigEntry_is_sensitive(entry) != 0,
        };
        (text(sys::rd_kafka_ConfigEntry_name(entry)), described)
    }
}

/// Changes single entries of topics' configuration; one result a topic, in their order.
pub(in crate::admin) fn alter_configs(
    request: &Request<'_>,
    topics: &[(String, Vec<ConfigChange>)],
) -> AdminResult<Vec<AdminResult<()>>> {
    use sys::rd_kafka_AlterConfigOpType_t as Change;
    let mut handles = Handles::new(sys::rd_kafka_ConfigResource_destroy);
    for (topic, changes) in topics {
        let resource = topic_resource(&mut handles, topic)?;
        for change in changes {
            let (name, op, value) = match change {
                ConfigChange::Set { name, value } => (name, Change::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, Some(value)),
                ConfigChange::Unset { name } => (name, Change::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, None),
            };
            let name = c_string(name)?;
            let value = value.map(|value| c_string(value)).transpose()?;
            let value = value.as_ref().map_or(ptr::null(), |value| value.as_ptr());
            // SAFETY: the resource is alive, name and value end with a zero byte and are copied; the error is ours.
            unsafe {
                take_error(sys::rd_kafka_ConfigResource_add_incremental_config(resource, name.as_ptr(), op, value))?;
            }
        }
    }
    // SAFETY: the array holds as many handles as is said.
    unsafe {
        let (made, count) = (handles.made.as_mut_ptr(), handles.made.len());
        let (options, queue) = (request.options.as_ptr(), request.queue.as_ptr());
        sys::rd_kafka_IncrementalAlterConfigs(request.native(), made, count, options, queue);
    }
    let answer = request.wait(sys::RD_KAFKA_EVENT_INCREMENTALALTERCONFIGS_RESULT)?;
    let list = sys::rd_kafka_IncrementalAlterConfigs_result_resources;
    Ok(resources(&answer, list, topics.iter().map(|(topic, _)| topic.as_str()), |_| ()))
}

type Resources =
    unsafe extern "C" fn(*const sys::rd_kafka_event_t, *mut usize) -> *mut *const sys::rd_kafka_ConfigResource_t;

fn resources<'a, T>(
    answer: &Answer<'_>,
    list: Resources,
    names: impl Iterator<Item = &'a str>,
    read: impl Fn(*const sys::rd_kafka_ConfigResource_t) -> T,
) -> Vec<AdminResult<T>> {
    // SAFETY: invariants 3 to 5.
    let mut by_name: HashMap<String, AdminResult<T>> = unsafe {
        let mut count = 0;
        let found = list(answer.event.as_ptr(), &raw mut count);
        let each = array(found, count).iter().map(|resource| {
            let code = sys::rd_kafka_ConfigResource_error(*resource);
            let result = if code == Answered::RD_KAFKA_RESP_ERR_NO_ERROR {
                Ok(read(*resource))
            } else {
                Err(error(code, &text(sys::rd_kafka_ConfigResource_error_string(*resource))))
            };
            (text(sys::rd_kafka_ConfigResource_name(*resource)), result)
        });
        each.collect()
    };
    names.map(|name| by_name.remove(name).unwrap_or_else(|| Err(unanswered(name)))).collect()
}
