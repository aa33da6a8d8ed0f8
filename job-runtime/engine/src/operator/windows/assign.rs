//! Which rows of a batch belong to which window.

use std::collections::HashMap;

use arrow::array::Int64Array;
use freshet_plan::Window;

/// Window arithmetic, in ms since the Unix epoch. It saturates at the ends of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tumbling {
    size_ms: i64,
    offset_ms: i64,
}

impl Tumbling {
    /// The windows of a plan, or what is wrong with them.
    pub fn new(window: Window) -> Result<Self, String> {
        let Window::Tumble { size_ms, offset_ms } = window;
        if size_ms <= 0 || !(0..size_ms).contains(&offset_ms) {
            return Err(format!("a window of {size_ms} ms shifted by {offset_ms} ms is none"));
        }
        Ok(Self { size_ms, offset_ms })
    }

    /// The start of the window that holds `time`.
    #[inline]
    pub const fn start(self, time: i64) -> i64 {
        time.saturating_sub(time.saturating_sub(self.offset_ms).rem_euclid(self.size_ms))
    }

    /// The end of the window that begins at `start`: the first instant after it.
    #[inline]
    pub const fn end(self, start: i64) -> i64 {
        start.saturating_add(self.size_ms)
    }

    /// The last instant of the window that begins at `start`: what closes it is a watermark of at least that.
    #[inline]
    pub const fn last_instant(self, start: i64) -> i64 {
        self.end(start) - 1
    }
}

/// Positions of rows by window. Its memory is used again for each batch.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    starts: Vec<i64>,
    rows: Vec<Vec<u32>>,
    places: HashMap<i64, usize>,
}

impl Assignment {
    /// Assigns rows by their times. A row is late when the watermark before it, or the one that fired
    /// last, has closed its window.
    pub fn assign(
        &mut self,
        window: Tumbling,
        times: &[i64],
        watermark: &Int64Array,
        fired: i64,
        mut late: impl FnMut(usize),
    ) {
        self.clear();
        let (mut start, mut last, mut place) = (0, i64::MIN, usize::MAX);
        for (row, (time, before)) in times.iter().zip(watermark.values()).enumerate() {
            if *time < start || *time > last || place == usize::MAX {
                start = window.start(*time);
                last = window.last_instant(start);
                place = usize::MAX;
            }
            if last <= (*before).max(fired) {
                late(row);
                continue;
            }
            if place == usize::MAX {
                place = self.place(start);
            }
            self.rows[place].push(row as u32);
        }
    }

    fn clear(&mut self) {
        for rows in &mut self.rows {
            rows.clear();
        }
        // One batch with thousands of windows should not cost every later one.
        self.rows.truncate(64);
        self.starts.clear();
        self.places.clear();
    }

    fn place(&mut self, start: i64) -> usize {
        *self.places.entry(start).or_insert_with(|| {
            self.starts.push(start);
            if self.rows.len() < self.starts.len() {
                self.rows.push(Vec::new());
            }
            self.starts.len() - 1
        })
    }

    /// How many windows got rows.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// The start of the `at`-th of them and its rows.
    pub fn window(&self, at: usize) -> (i64, &[u32]) {
        (self.starts[at], &self.rows[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_where_flink_says() {
        let ten = Tumbling::new(Window::Tumble { size_ms: 10, offset_ms: 0 }).expect("windows");
        for (time, start) in [(0, 0), (9, 0), (10, 10), (-1, -10), (-10, -10), (-11, -20)] {
            assert_eq!(ten.start(time), start, "{time}");
        }
        let shifted = Tumbling::new(Window::Tumble { size_ms: 10, offset_ms: 3 }).expect("windows");
        for (time, start) in [(0, -7), (2, -7), (3, 3), (12, 3), (13, 13), (-8, -17)] {
            assert_eq!(shifted.start(time), start, "{time}");
        }
        assert_eq!(shifted.last_instant(3), 12);
    }

    #[test]
    fn windows_that_are_none_are_refused() {
        for (size_ms, offset_ms) in [(0, 0), (-1, 0), (10, 10), (10, -1)] {
            assert!(Tumbling::new(Window::Tumble { size_ms, offset_ms }).is_err(), "{size_ms} {offset_ms}");
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let day = Tumbling::new(Window::Tumble { size_ms: 86_400_000, offset_ms: 1 }).expect("windows");
        for time in [i64::MIN, i64::MIN + 1, i64::MAX] {
            let start = day.start(time);
            assert!(start <= time && day.last_instant(start) >= start);
        }
    }

    #[test]
    fn rows_are_late_by_the_watermark_before_them() {
        let window = Tumbling::new(Window::Tumble { size_ms: 10, offset_ms: 0 }).expect("windows");
        let mut assignment = Assignment::default();
        let mut late = Vec::new();
        let times = [5, 15, 9, 25, 9, 12, 30];
        let before = Int64Array::from(vec![-1, 4, 8, 8, 9, 9, 19]);
        assignment.assign(window, &times, &before, i64::MIN, |row| late.push(row));
        assert_eq!(late, [4]);
        let windows: Vec<_> = (0..assignment.len()).map(|at| assignment.window(at)).collect();
        assert_eq!(windows, [(0, &[0, 2][..]), (10, &[1, 5]), (20, &[3]), (30, &[6])]);
        late.clear();
        assignment.assign(window, &times, &before, 19, |row| late.push(row));
        assert_eq!(late, [0, 1, 2, 4, 5], "what has fired closes windows for rows of any watermark");
    }
}
