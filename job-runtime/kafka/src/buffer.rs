//! The bounded buffer between a consumer's thread and its slot.
//!
//! The thread blocks when the slot is behind; the slot waits without blocking. What bounds it is bytes,
//! and batches, since empty ones cost something too. One batch always fits, however large.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freshet_log::{Fetched, FetchedRecord, LogError};
use tokio::sync::Notify;

/// Batches that wait at most.
const MOST_BATCHES: usize = 256;

/// A bounded queue of batches that ends with an error or by being closed.
#[derive(Debug)]
pub(crate) struct Buffer {
    most_bytes: usize,
    state: Mutex<State>,
    /// Wakes the thread: there is room, or the pause or everything is over.
    room: Condvar,
    /// Wakes the slot: there is a batch or an error.
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Fetched>,
    bytes: usize,
    failed: Option<LogError>,
    paused: bool,
    closed: bool,
}

impl Buffer {
    /// An empty buffer for `most_bytes` of records.
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, state: Mutex::default(), room: Condvar::new(), ready: Notify::new() }
    }

    /// Appends a batch as soon as there is room. `false` when nobody will read it any more.
    pub(crate) fn push(&self, batch: Fetched) -> bool {
        let mut state = self.lock();
        while !state.closed && (state.bytes >= self.most_bytes || state.batches.len() >= MOST_BATCHES) {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.bytes += size_of_batch(&batch);
        state.batches.push_back(batch);
        drop(state);
        self.ready.notify_one();
        true
    }

    /// Ends the buffer: after the batches that are in it, every read gives `error`.
    pub(crate) fn fail(&self, error: LogError) {
        self.lock().failed.get_or_insert(error);
        self.ready.notify_one();
    }

    /// Waits up to `limit` while the slot wants no records. `false` when it will never want any again.
    pub(crate) fn wait_while_paused(&self, limit: Duration) -> bool {
        let state = self.lock();
        let paused = |state: &mut State| state.paused && !state.closed;
        let (state, _) = self.room.wait_timeout_while(state, limit, paused).unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }

    /// Waits up to `limit` until the slot reads no more; whether it is so.
    pub(crate) fn wait_until_closed(&self, limit: Duration) -> bool {
        let open = |state: &mut State| !state.closed;
        let (state, _) = self.room.wait_timeout_while(self.lock(), limit, open).unwrap_or_else(PoisonError::into_inner);
        state.closed
    }

    /// Whether the slot wants no records now.
    pub(crate) fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// The next batch; waits for it. Safe to drop.
    pub(crate) async fn pop(&self) -> Result<Fetched, LogError> {
        loop {
            {
                let mut state = self.lock();
                if let Some(batch) = state.batches.pop_front() {
                    state.bytes -= size_of_batch(&batch);
                    self.room.notify_one();
                    return Ok(batch);
                }
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
            }
            // A batch that is pushed before this line leaves a permit behind.
            self.ready.notified().await;
        }
    }

    /// Whether the slot wants records.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
        self.room.notify_one();
    }

    /// The slot reads no more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.batches.clear();
        drop(state);
        self.room.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of_batch(batch: &Fetched) -> usize {
    batch.bytes.len() + batch.records.len() * size_of::<FetchedRecord>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_log::TopicPartition;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn batch(offset: i64, bytes: usize) -> Fetched {
        let mut batch = Fetched::empty(TopicPartition::new("t", 0), offset);
        batch.push(offset, 0, None, Some(&vec![0; bytes]));
        batch
    }

    #[tokio::test]
    async fn a_writer_waits_for_a_slow_reader_and_nothing_is_lost() {
        let buffer = Arc::new(Buffer::new(1000));
        let pushed = Arc::new(AtomicUsize::new(0));
        let writer = {
            let (buffer, pushed) = (buffer.clone(), pushed.clone());
            std::thread::spawn(move || {
                for offset in 0..100 {
                    assert!(buffer.push(batch(offset, 400)));
                    pushed.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        for offset in 0..100_usize {
            let popped = buffer.pop().await.expect("the writer goes on");
            assert_eq!(popped.records[0].offset, offset as i64);
            // 1000 bytes are three batches; one more is being pushed.
            let ahead = pushed.load(Ordering::SeqCst).saturating_sub(offset);
            assert!(ahead <= 5, "{ahead} batches are ahead of the reader");
        }
        writer.join().expect("the writer ends");
    }

    #[tokio::test]
    async fn an_error_comes_after_the_batches_before_it_and_stays() {
        let buffer = Buffer::new(1000);
        assert!(buffer.push(batch(0, 1)));
        buffer.fail(LogError::UnknownTopic("t".to_owned()));
        assert!(buffer.pop().await.is_ok());
        for _ in 0..2 {
            assert_eq!(buffer.pop().await.expect_err("it failed"), LogError::UnknownTopic("t".to_owned()));
        }
    }

    #[test]
    fn closing_frees_a_writer_that_waits() {
        let buffer = Arc::new(Buffer::new(1));
        assert!(buffer.push(batch(0, 100)));
        let waiting = {
            let buffer = buffer.clone();
            std::thread::spawn(move || buffer.push(batch(1, 100)))
        };
        buffer.close();
        assert!(!waiting.join().expect("the writer ends"), "a closed buffer took a batch");
    }

    #[test]
    fn a_pause_ends_when_it_is_lifted_or_the_limit_passes() {
        let buffer = Buffer::new(1);
        buffer.set_paused(true);
        assert!(buffer.wait_while_paused(Duration::from_millis(1)));
        assert!(buffer.is_paused());
        assert!(!buffer.wait_until_closed(Duration::from_millis(1)));
        buffer.close();
        assert!(!buffer.wait_while_paused(Duration::from_secs(60)));
        assert!(buffer.wait_until_closed(Duration::from_secs(60)));
    }
}
