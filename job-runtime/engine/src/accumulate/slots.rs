//! Columns of cells: a number or a text of each group, by the group's id.

use super::spec::{BitOp, Side};

/// Values of which some groups have seen none.
#[derive(Debug, Clone)]
pub(super) struct Optional<T> {
    values: Vec<T>,
    seen: Vec<bool>,
}

/// Sums with the number of what was summed.
#[derive(Debug, Clone)]
pub(super) struct Counted<T> {
    pub(super) sums: Vec<T>,
    pub(super) counts: Vec<u64>,
}

/// Texts or byte strings, each in a place of its own, and how many bytes they have in all.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    pub(super) cells: Vec<Option<Box<[u8]>>>,
    pub(super) bytes: usize,
}

impl Texts {
    pub(super) fn set(&mut self, id: usize, value: Option<Box<[u8]>>) {
        self.bytes += value.as_deref().map_or(0, <[u8]>::len);
        self.bytes -= self.cells[id].as_deref().map_or(0, <[u8]>::len);
        self.cells[id] = value;
    }

    pub(super) fn resize(&mut self, groups: usize) {
        for id in groups..self.cells.len() {
            self.set(id, None);
        }
        self.cells.resize(groups, None);
    }

    #[inline]
    pub(super) fn offer(&mut self, id: usize, value: &[u8], side: Side) {
        if self.cells[id].as_deref().is_none_or(|old| !side.keeps(old.cmp(value))) {
            self.set(id, Some(value.into()));
        }
    }
}

impl<T: Copy + Default> Optional<T> {
    pub(super) const fn new() -> Self {
        Self { values: Vec::new(), seen: Vec::new() }
    }

    pub(super) fn resize(&mut self, groups: usize) {
        self.values.resize(groups, T::default());
        self.seen.resize(groups, false);
    }

    pub(super) fn reset(&mut self, id: usize) {
        self.values[id] = T::default();
        self.seen[id] = false;
    }

    /// Replaces the value unless `keep(old)` says that it stays.
    #[inline]
    pub(super) fn offer(&mut self, id: usize, value: T, keep: impl Fn(T) -> bool) {
        if !self.seen[id] || !keep(self.values[id]) {
            self.values[id] = value;
            self.seen[id] = true;
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<T> {
        self.seen[id as usize].then(|| self.values[id as usize])
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.seen.capacity()
    }

    pub(super) fn encode(&self, id: usize, out: &mut Vec<u8>, put: impl Fn(&mut Vec<u8>, T)) {
        out.push(u8::from(self.seen[id]));
        if self.seen[id] {
            put(out, self.values[id]);
        }
    }
}

impl<T: Copy + Default> Counted<T> {
    pub(super) const fn new() -> Self {
        Self { sums: Vec::new(), counts: Vec::new() }
    }

    pub(super) fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, T::default());
        self.counts.resize(groups, 0);
    }

    pub(super) fn reset(&mut self, id: usize) {
        self.sums[id] = T::default();
        self.counts[id] = 0;
    }

    pub(super) fn get(&self, id: u32) -> Option<(T, u64)> {
        let count = self.counts[id as usize];
        (count > 0).then(|| (self.sums[id as usize], count))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<T>() + self.counts.capacity() * size_of::<u64>()
    }
}

impl Optional<i128> {
    #[inline]
    pub(super) fn add(&mut self, id: usize, value: i128) -> bool {
        let (sum, overflow) = self.values[id].overflowing_add(value);
        self.values[id] = sum;
        self.seen[id] = true;
        overflow
    }
}

impl Counted<i128> {
    #[inline]
    pub(super) fn add(&mut self, id: usize, value: i128, count: u64) -> bool {
        let (sum, overflow) = self.sums[id].overflowing_add(value);
        self.sums[id] = sum;
        self.counts[id] += count;
        overflow
    }
}

impl Optional<i64> {
    #[inline]
    pub(super) fn put(&mut self, id: usize, value: i64, op: BitOp) {
        let old = self.values[id];
        self.values[id] = match op {
            _ if !self.seen[id] => value,
            BitOp::And => old & value,
            BitOp::Or => old | value,
            BitOp::Xor => old ^ value,
        };
        self.seen[id] = true;
    }
}

impl Optional<f64> {
    #[inline]
    pub(super) fn add(&mut self, id: usize, value: f64) {
        self.values[id] += value;
        self.seen[id] = true;
    }
}

impl Counted<f64> {
    #[inline]
    pub(super) fn add(&mut self, id: usize, value: f64, count: u64) {
        self.sums[id] += value;
        self.counts[id] += count;
    }
}
