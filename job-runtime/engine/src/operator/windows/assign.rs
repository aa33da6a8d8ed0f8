//! Which rows of a batch belong to which pane.

use std::collections::HashMap;

use arrow::array::Int64Array;

use super::panes::{Pane, Panes, Place};

/// Positions of rows by pane. Its memory is used again for each batch.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    panes: Vec<Pane>,
    rows: Vec<Vec<u32>>,
    places: HashMap<Pane, usize>,
}

/// The pane that the last row went into, where it came on time: most rows go into the same one as the row before.
#[derive(Clone, Copy)]
struct Last {
    start: i64,
    last_instant: i64,
    /// A watermark below it has closed none of the pane's windows.
    open_below: i64,
    place: usize,
}

impl Assignment {
    /// Assigns rows by their times. A row counts in the windows that neither the watermark before it nor the one that
    /// fired last has closed; it is late when there are none.
    pub fn assign(
        &mut self,
        panes: Panes,
        times: &[i64],
        watermark: &Int64Array,
        fired: i64,
        mut late: impl FnMut(usize),
    ) {
        self.clear();
        let mut last: Option<Last> = None;
        for (row, (time, before)) in times.iter().zip(watermark.values()).enumerate() {
            let closed = (*before).max(fired);
            if let Some(last) = last
                && *time >= last.start
                && *time <= last.last_instant
                && closed < last.open_below
            {
                self.rows[last.place].push(row as u32);
                continue;
            }
            match panes.place(*time, closed) {
                Place::In(pane) => {
                    let place = self.place_of(pane);
                    self.rows[place].push(row as u32);
                    let whole = panes.whole(pane.start);
                    if pane == whole {
                        last = Some(Last {
                            start: pane.start,
                            last_instant: panes.last_instant(pane.start),
                            open_below: whole.first_end.saturating_sub(1),
                            place,
                        });
                    }
                }
                Place::Late => late(row),
                Place::Nowhere => {}
            }
        }
    }

    fn clear(&mut self) {
        for rows in &mut self.rows {
            rows.clear();
        }
        // One batch with thousands of panes should not cost every later one.
        self.rows.truncate(64);
        self.panes.clear();
        self.places.clear();
    }

    fn place_of(&mut self, pane: Pane) -> usize {
        *self.places.entry(pane).or_insert_with(|| {
            self.panes.push(pane);
            if self.rows.len() < self.panes.len() {
                self.rows.push(Vec::new());
            }
            self.panes.len() - 1
        })
    }

    /// How many panes got rows.
    pub fn len(&self) -> usize {
        self.panes.len()
    }

    /// The `at`-th of them and its rows.
    pub fn pane(&self, at: usize) -> (Pane, &[u32]) {
        (self.panes[at], &self.rows[at])
    }
}

#[cfg(test)]
mod tests {
    use freshet_plan::Window;

    use super::*;

    /// A pane's start and first end, and its rows.
    type Found = (i64, i64, Vec<u32>);

    fn assigned(window: Window, times: &[i64], before: &Int64Array, fired: i64) -> (Vec<Found>, Vec<usize>) {
        let (mut assignment, mut late) = (Assignment::default(), Vec::new());
        assignment.assign(Panes::new(window).expect("windows"), times, before, fired, |row| late.push(row));
        let found = (0..assignment.len()).map(|at| assignment.pane(at));
        (found.map(|(pane, rows)| (pane.start, pane.first_end, rows.to_vec())).collect(), late)
    }

    #[test]
    fn rows_are_late_by_the_watermark_before_them() {
        let window = Window::Tumble { size_ms: 10, offset_ms: 0 };
        let times = [5, 15, 9, 25, 9, 12, 30];
        let before = Int64Array::from(vec![-1, 4, 8, 8, 9, 9, 19]);
        let (found, late) = assigned(window, &times, &before, i64::MIN);
        assert_eq!(late, [4]);
        assert_eq!(found, [(0, 10, vec![0, 2]), (10, 20, vec![1, 5]), (20, 30, vec![3]), (30, 40, vec![6])]);
        let (_, late) = assigned(window, &times, &before, 19);
        assert_eq!(late, [0, 1, 2, 4, 5], "what has fired closes windows for rows of any watermark");
    }

    #[test]
    fn rows_of_one_pane_may_count_in_different_windows() {
        let window = Window::Hop { size_ms: 10, slide_ms: 5, offset_ms: 0 };
        let times = [7, 8, 7, 9, 7, 6];
        let before = Int64Array::from(vec![-1, 8, 9, 8, 13, 14]);
        let (found, late) = assigned(window, &times, &before, i64::MIN);
        assert_eq!(found, [(5, 10, vec![0, 1, 3]), (5, 15, vec![2, 4])]);
        assert_eq!(late, [5]);
    }

    #[test]
    fn rows_between_windows_are_in_none_and_not_late() {
        let window = Window::Hop { size_ms: 4, slide_ms: 10, offset_ms: 1 };
        let times = [0, 1, 4, 5, 10, 11, 3];
        let before = Int64Array::from_value(3, times.len());
        let (found, late) = assigned(window, &times, &before, i64::MIN);
        assert_eq!(found, [(1, 5, vec![1, 2, 6]), (11, 15, vec![5])]);
        assert_eq!(late, Vec::<usize>::new());
    }
}
