//! What happened, as one number: the hash of every decision and event of a simulation.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// FNV-1a over everything that is reported, and the last lines of it when somebody wants to read them.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    keep: usize,
}

impl Trace {
    pub(super) const fn new() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), keep: 0 }
    }

    pub(super) fn keep(&mut self, lines: usize) {
        self.keep = lines;
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    /// Mixes in one event that happened at `now_ns`.
    pub(super) fn event(&mut self, now_ns: u64, text: fmt::Arguments<'_>) {
        self.number(now_ns);
        let _ = self.write_fmt(text);
        if self.keep > 0 {
            if self.lines.len() == self.keep {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{:>12.3} ms  {text}", now_ns as f64 / 1e6));
        }
    }

    /// Mixes in a decision that is too frequent to be worth a line.
    pub(super) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
