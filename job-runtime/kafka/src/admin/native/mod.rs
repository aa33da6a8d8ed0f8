//! Administration through librdkafka's own interface: the second room with unsafe code.
//!
//! rdkafka's `AdminClient` gives back codes without the broker's words, replaces a topic's whole configuration
//! where one entry should change, and knows neither topic ids, the cluster's id, authorised operations,
//! offsets by partition, nor offsets of groups. librdkafka has all of them behind one pattern, which stands
//! here once: [`Request`] holds a queue and options, a call is submitted, [`Request::wait`] takes the one event
//! that answers it, and a reader copies what it needs out of that event.
//!
//! # Invariants
//! 1. A [`Request`] borrows its client, so the queue and the options that it destroys never outlive it.
//! 2. What is submitted is copied by librdkafka before the call returns: [`Handles`] and the C strings that
//!    they were made from may be destroyed right after it.
//! 3. Everything that a reader sees (results, their names, texts and lists) belongs to the [`Answer`] that it
//!    borrows from; readers return owned values only.
//! 4. An [`Answer`] is of the type that its request has asked for: [`Request::wait`] gives no other, so that
//!    librdkafka's `…_result_…` functions may be called on it.
//! 5. Arrays that librdkafka returns with a count are read up to that count; a null pointer counts as empty.
#![allow(unsafe_code, reason = "this is the room for it; see the invariants above")]

mod configs;
mod offsets;
mod topics;

use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Answered;

pub(super) use configs::{alter_configs, describe_configs};
pub(super) use offsets::{Found, Places, alter_group_offsets, delete_group_offsets, list_offsets};
pub(crate) use topics::describe_topics;
pub(super) use topics::{create_partitions, create_topics, delete_topics, describe_cluster};

use super::types::{AdminError, AdminResult};
use crate::events::Events;

/// Beyond the deadline of the request itself, within which librdkafka always answers.
const GRACE: Duration = Duration::from_secs(5);
/// Room for librdkafka's complaint about an argument.
const COMPLAINT: usize = 512;

/// A request that is about to be submitted on `client`.
pub(crate) struct Request<'client> {
    client: &'client Client<Events>,
    queue: NonNull<sys::rd_kafka_queue_t>,
    options: NonNull<sys::rd_kafka_AdminOptions_t>,
    limit: Duration,
}

impl<'client> Request<'client> {
    /// A request of kind `op` that librdkafka gives up after `limit`.
    pub(crate) fn new(client: &'client Client<Events>, op: Op, limit: Duration) -> AdminResult<Self> {
        let native = client.native_ptr();
        // SAFETY: the client is alive; both are ours and destroyed in `Drop`.
        let (queue, options) = unsafe { (sys::rd_kafka_queue_new(native), sys::rd_kafka_AdminOptions_new(native, op)) };
        let (Some(queue), Some(options)) = (NonNull::new(queue), NonNull::new(options)) else {
            return Err(error(Answered::RD_KAFKA_RESP_ERR__FAIL, "librdkafka gives no queue for a request"));
        };
        let made = Self { client, queue, options, limit };
        let (limit, share) = (milliseconds(limit), milliseconds(limit * 4 / 5));
        let mut complaint = [0; COMPLAINT];
        // SAFETY: the options are alive and the buffer has the length that is said.
        unsafe {
            let (text, size) = (complaint.as_mut_ptr(), complaint.len());
            check(sys::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), limit, text, size), &complaint)?;
            if matches!(
                op,
                Op::RD_KAFKA_ADMIN_OP_CREATETOPICS
                    | Op::RD_KAFKA_ADMIN_OP_DELETETOPICS
                    | Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS
            ) {
                // The broker's share must end before ours does.
                let set = sys::rd_kafka_AdminOptions_set_operation_timeout(options.as_ptr(), share, text, size);
                check(set, &complaint)?;
            }
        }
        Ok(made)
    }

    /// Only checks what is asked for, and changes nothing.
    pub(in crate::admin) fn only_check(&self) -> AdminResult<()> {
        let mut complaint = [0; COMPLAINT];
        // SAFETY: the options are alive and the buffer has the length that is said.
        unsafe {
            let (text, size) = (complaint.as_mut_ptr(), complaint.len());
            let set = sys::rd_kafka_AdminOptions_set_validate_only(self.options.as_ptr(), 1, text, size);
            check(set, &complaint)
        }
    }

    /// Asks for the operations that the client's user may do, too.
    fn with_rights(&self) -> AdminResult<()> {
        // SAFETY: the options are alive; the error, if any, is ours.
        unsafe {
            let set = sys::rd_kafka_AdminOptions_set_include_authorized_operations(self.options.as_ptr(), 1);
            take_error(set)
        }
    }

    /// Waits for the event that answers what was submitted.
    fn wait(&self, wanted: i32) -> AdminResult<Answer<'_>> {
        // SAFETY: the queue is alive; the event is ours from here on.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), milliseconds(self.limit + GRACE)) };
        let Some(event) = NonNull::new(event) else {
            return Err(error(Answered::RD_KAFKA_RESP_ERR__TIMED_OUT, "no answer within the deadline"));
        };
        let answer = Answer { event, request: PhantomData };
        // SAFETY: the event is alive, and so are its texts.
        unsafe {
            let code = sys::rd_kafka_event_error(event.as_ptr());
            if code != Answered::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(error(code, &text(sys::rd_kafka_event_error_string(event.as_ptr()))));
            }
            if sys::rd_kafka_event_type(event.as_ptr()) != wanted {
                return Err(error(Answered::RD_KAFKA_RESP_ERR__BAD_MSG, "librdkafka answered another question"));
            }
        }
        Ok(answer)
    }

    fn native(&self) -> *mut sys::rd_kafka_t {
        self.client.native_ptr()
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // SAFETY: invariant 1; an answer that comes later is discarded with the queue's last reference.
        unsafe {
            sys::rd_kafka_AdminOptions_destroy(self.options.as_ptr());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// The event that answers a request.
struct Answer<'request> {
    event: NonNull<sys::rd_kafka_event_t>,
    request: PhantomData<&'request ()>,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        // SAFETY: it was ours since it was polled, and nothing borrowed from it is left (invariant 3).
        unsafe { sys::rd_kafka_event_destroy(self.event.as_ptr()) };
    }
}

/// Objects made for a call, each destroyed once after it.
struct Handles<T> {
    made: Vec<*mut T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Handles<T> {
    fn new(destroy: unsafe extern "C" fn(*mut T)) -> Self {
        Self { made: Vec::new(), destroy }
    }

    /// Keeps `handle`, or says why it was not made.
    fn keep(&mut self, handle: *mut T, complaint: &str) -> AdminResult<*mut T> {
        if handle.is_null() {
            return Err(error(Answered::RD_KAFKA_RESP_ERR__INVALID_ARG, complaint));
        }
        self.made.push(handle);
        Ok(handle)
    }
}

impl<T> Drop for Handles<T> {
    fn drop(&mut self) {
        for handle in &self.made {
            // SAFETY: each was made once, and librdkafka keeps copies only (invariant 2).
            unsafe { (self.destroy)(*handle) };
        }
    }
}

/// # Safety
/// `start` is null or holds `count` pointers for as long as the result is used.
unsafe fn array<'a, T>(start: *mut *const T, count: usize) -> &'a [*const T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the caller promises it.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// # Safety
/// `text` is null or ends with a zero byte.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller promises it.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> AdminResult<CString> {
    CString::new(text).map_err(|_| error(Answered::RD_KAFKA_RESP_ERR__INVALID_ARG, "a name or value holds a zero byte"))
}

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

/// What librdkafka wrote into a buffer.
fn said(buffer: &[c_char]) -> String {
    // `c_char` is signed on some machines and not on others.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "bytes of a text")]
    let bytes: Vec<u8> = buffer.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(code: Answered, complaint: &[c_char]) -> AdminResult<()> {
    if code == Answered::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(error(code, &said(complaint))) }
}

/// # Safety
/// `given` is null or an error that is the caller's to destroy.
unsafe fn take_error(given: *mut sys::rd_kafka_error_t) -> AdminResult<()> {
    // SAFETY: the caller promises it.
    unsafe {
        let result = borrowed_error(given);
        if !given.is_null() {
            sys::rd_kafka_error_destroy(given);
        }
        result
    }
}

/// # Safety
/// `given` is null or an error that is alive.
unsafe fn borrowed_error(given: *const sys::rd_kafka_error_t) -> AdminResult<()> {
    if given.is_null() {
        return Ok(());
    }
    // SAFETY: the caller promises it.
    unsafe {
        match sys::rd_kafka_error_code(given) {
            Answered::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(error(code, &text(sys::rd_kafka_error_string(given)))),
        }
    }
}

/// The error with `code`, in the broker's words if it said any.
fn error(code: Answered, words: &str) -> AdminError {
    // SAFETY: librdkafka's names and descriptions of codes live for ever.
    let (name, meaning) = unsafe { (text(sys::rd_kafka_err2name(code)), text(sys::rd_kafka_err2str(code))) };
    let words = if words.is_empty() { meaning } else { words.to_owned() };
    AdminError::new(Code::from(code), name, words)
}

fn unanswered(name: &str) -> AdminError {
    error(Answered::RD_KAFKA_RESP_ERR__BAD_MSG, &format!("the answer does not speak of {name}"))
}
