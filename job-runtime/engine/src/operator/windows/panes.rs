//! Panes: where rows are kept, and which windows count them.
//!
//! A row is kept once, in the pane that holds its time ([`freshet_plan::window`]), and counts in every window that
//! holds the pane: one where windows don't overlap, several in a row where they do. Windows are told by their *ends*.
//!
//! # Late rows
//! A row counts in those of its windows that were still open when it came, and is late only when none was. So a pane's
//! rows need not all count in the same windows: a pane is told by its start and by the *first end*, the end of the
//! first window in which its rows count. Rows that are on time have the pane's own; the few others have panes beside
//! it, with a later one.
//!
//! ```text
//! HOP, size 10, slide 5; the windows that end at 10 and at 15 hold the pane [5, 10)
//!   a row at 7, before the watermark closes the first:    pane (5, 10), counts in both
//!   a row at 7, after it and before the second closes:    pane (5, 15), counts in the second
//!   a row at 7, after that:                               late
//! ```
//!
//! Cumulating windows begin together, so that rows which miss the first of them count in the same windows as rows of a
//! later pane: they go into the first pane of which no window has closed, and each pane's rows count alike.
//!
//! All arithmetic is in ms since the Unix epoch, and saturates at the ends of time.

use freshet_plan::Window;

/// Rows that count in the same windows. The order is that in which sums go through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pane {
    /// Its first instant.
    pub start: i64,
    /// The end of the first window in which its rows count.
    pub first_end: i64,
}

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Into this pane.
    In(Pane),
    /// All its windows had closed.
    Late,
    /// Into no window: hops that are longer than their windows leave gaps.
    Nowhere,
}

/// The windows of an operator and their panes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panes {
    /// Length of a window.
    size_ms: i64,
    /// From one window's end to the next one's.
    every_ms: i64,
    /// From one pane's start to the next one's. Longer than a pane where there are gaps.
    pitch_ms: i64,
    /// Length of a pane.
    pane_ms: i64,
    /// Shift of starts from the Unix epoch.
    offset_ms: i64,
    /// Whether windows begin together and are ever longer.
    cumulate: bool,
}

impl Panes {
    /// The windows of a plan, or what is wrong with them.
    pub fn new(window: Window) -> Result<Self, String> {
        window.check()?;
        let pane_ms = window.pane_ms();
        Ok(match window {
            Window::Tumble { size_ms, offset_ms } => {
                Self { size_ms, every_ms: size_ms, pitch_ms: size_ms, pane_ms, offset_ms, cumulate: false }
            }
            Window::Hop { size_ms, slide_ms, offset_ms } => {
                let pitch_ms = if slide_ms > size_ms { slide_ms } else { pane_ms };
                Self { size_ms, every_ms: slide_ms, pitch_ms, pane_ms, offset_ms, cumulate: false }
            }
            Window::Cumulate { size_ms, step_ms, offset_ms } => {
                Self { size_ms, every_ms: step_ms, pitch_ms: pane_ms, pane_ms, offset_ms, cumulate: true }
            }
            Window::Session { .. } => return Err("sessions have no panes".to_owned()),
        })
    }

    /// Whether windows begin together and are ever longer.
    pub const fn cumulate(self) -> bool {
        self.cumulate
    }

    /// Whether rows of one pane may count in different windows: it is in several that don't begin together.
    pub const fn rows_differ(self) -> bool {
        self.every_ms < self.size_ms && !self.cumulate
    }

    /// The start of the pane that holds `time`, if one does.
    #[inline]
    pub const fn start(self, time: i64) -> Option<i64> {
        let within = time.saturating_sub(self.offset_ms).rem_euclid(self.pitch_ms);
        if within < self.pane_ms { Some(time.saturating_sub(within)) } else { None }
    }

    /// The pane that begins at `start`, for rows that are on time.
    #[inline]
    pub const fn whole(self, start: i64) -> Pane {
        let first_end = if self.rows_differ() { self.end_after(start) } else { start.saturating_add(self.pane_ms) };
        Pane { start, first_end }
    }

    /// The first end of a window that is later than `instant`.
    const fn end_after(self, instant: i64) -> i64 {
        let since = instant.saturating_sub(self.offset_ms).saturating_sub(self.size_ms).rem_euclid(self.every_ms);
        instant.saturating_add(self.every_ms - since)
    }

    /// The end of the last window that holds the pane at `start`.
    pub const fn last_end(self, start: i64) -> i64 {
        let every = if self.cumulate { self.size_ms } else { self.every_ms };
        let since = start.saturating_sub(self.offset_ms).rem_euclid(every);
        start.saturating_sub(since).saturating_add(self.size_ms)
    }

    /// The start of the window that ends at `end`.
    pub const fn window_start(self, end: i64) -> i64 {
        let end = if self.cumulate { self.last_end(end.saturating_sub(1)) } else { end };
        end.saturating_sub(self.size_ms)
    }

    /// The end of the first window that counts the rows of `pane` and that a watermark of `closed` has not closed: its
    /// last instant is after it. `None` when all have closed.
    pub const fn next_end(self, pane: Pane, closed: i64) -> Option<i64> {
        if pane.first_end.saturating_sub(1) > closed {
            return Some(pane.first_end);
        }
        let end = self.end_after(closed.saturating_add(1));
        if end <= self.last_end(pane.start) && end.saturating_sub(1) > closed { Some(end) } else { None }
    }

    /// Whether there can be such a pane: it begins where panes do, and a window that holds it ends at its first end.
    pub fn is_pane(self, pane: Pane) -> bool {
        let Pane { start, first_end } = pane;
        let ends = self.whole(start).first_end..=self.last_end(start);
        self.start(start) == Some(start)
            && ends.contains(&first_end)
            && self.end_after(first_end.saturating_sub(1)) == first_end
    }

    /// Where rows of `pane` belong that come when the watermark is `closed`; `None` when they are late.
    #[inline]
    pub const fn still_open(self, pane: Pane, closed: i64) -> Option<Pane> {
        match self.next_end(pane, closed) {
            Some(first_end) if self.cumulate => Some(Pane { start: first_end.saturating_sub(self.pane_ms), first_end }),
            Some(first_end) => Some(Pane { start: pane.start, first_end }),
            None => None,
        }
    }

    /// Where a row of this time belongs that comes when the watermark is `closed`.
    pub const fn place(self, time: i64, closed: i64) -> Place {
        let Some(start) = self.start(time) else { return Place::Nowhere };
        match self.still_open(self.whole(start), closed) {
            Some(pane) => Place::In(pane),
            None => Place::Late,
        }
    }

    /// The last instant of the pane that begins at `start`.
    #[inline]
    pub const fn last_instant(self, start: i64) -> i64 {
        start.saturating_add(self.pane_ms) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panes(window: Window) -> Panes {
        Panes::new(window).expect("windows")
    }

    const fn tumble(size_ms: i64, offset_ms: i64) -> Window {
        Window::Tumble { size_ms, offset_ms }
    }

    const fn hop(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Window {
        Window::Hop { size_ms, slide_ms, offset_ms }
    }

    const fn cumulate(size_ms: i64, step_ms: i64, offset_ms: i64) -> Window {
        Window::Cumulate { size_ms, step_ms, offset_ms }
    }

    #[test]
    fn windows_begin_where_flink_says() {
        let ten = panes(tumble(10, 0));
        for (time, start) in [(0, 0), (9, 0), (10, 10), (-1, -10), (-10, -10), (-11, -20)] {
            assert_eq!(ten.start(time), Some(start), "{time}");
        }
        let shifted = panes(tumble(10, 3));
        for (time, start) in [(0, -7), (2, -7), (3, 3), (12, 3), (13, 13), (-8, -17)] {
            assert_eq!(shifted.start(time), Some(start), "{time}");
        }
        assert_eq!(shifted.whole(3), Pane { start: 3, first_end: 13 });
        assert_eq!(shifted.last_end(3), 13);
    }

    /// The windows that count a row, by the definition: each that holds its time and whose last instant is after the
    /// watermark.
    fn by_definition(window: Window, time: i64, closed: i64) -> Vec<(i64, i64)> {
        let windows: Vec<(i64, i64)> = match window {
            Window::Tumble { size_ms, offset_ms } => {
                (-50..50).map(|n| (n * size_ms + offset_ms, (n + 1) * size_ms + offset_ms)).collect()
            }
            Window::Hop { size_ms, slide_ms, offset_ms } => {
                (-200..200).map(|n| n * slide_ms + offset_ms).map(|start| (start, start + size_ms)).collect()
            }
            Window::Cumulate { size_ms, step_ms, offset_ms } => {
                let starts = (-50..50).map(|n| n * size_ms + offset_ms);
                starts.flat_map(|start| (1..=size_ms / step_ms).map(move |n| (start, start + n * step_ms))).collect()
            }
            Window::Session { .. } => panic!("sessions have no panes"),
        };
        windows.into_iter().filter(|(start, end)| (*start..*end).contains(&time) && end - 1 > closed).collect()
    }

    #[test]
    fn rows_count_in_the_windows_that_hold_them_and_are_open() {
        for window in [
            tumble(10, 3),
            hop(10, 5, 0),
            hop(10, 4, 3),
            hop(10, 3, 1),
            hop(9, 6, 5),
            hop(4, 10, 2),
            hop(4, 4, 1),
            cumulate(12, 4, 0),
            cumulate(10, 1, 3),
        ] {
            let panes = panes(window);
            for time in -40..40 {
                for closed in (-45..60).chain([i64::MIN, i64::MAX]) {
                    let mut found = Vec::new();
                    let place = panes.place(time, closed);
                    if let Place::In(pane) = place {
                        let mut before = closed;
                        while let Some(end) = panes.next_end(pane, before) {
                            found.push((panes.window_start(end), end));
                            before = end - 1;
                        }
                        assert!(panes.is_pane(pane), "{window:?}: {pane:?}");
                        assert!((pane.start..=panes.last_instant(pane.start)).contains(&time) || panes.cumulate());
                        assert_eq!(found.last().map(|(_, end)| *end), Some(panes.last_end(pane.start)), "{window:?}");
                    }
                    let wanted = by_definition(window, time, closed);
                    assert_eq!(found, wanted, "{window:?} at {time}, {closed} closed: {place:?}");
                    let nowhere = by_definition(window, time, i64::MIN).is_empty();
                    assert_eq!(place == Place::Nowhere, nowhere, "{window:?} at {time}");
                }
            }
        }
    }

    #[test]
    fn rows_that_miss_a_cumulating_window_go_where_the_next_ones_are() {
        let panes = panes(cumulate(12, 4, 0));
        for (time, closed, pane) in [(1, -1, (0, 4)), (1, 2, (0, 4)), (1, 3, (4, 8)), (5, 3, (4, 8)), (1, 9, (8, 12))] {
            let (start, first_end) = pane;
            assert_eq!(panes.place(time, closed), Place::In(Pane { start, first_end }), "{time}, {closed} closed");
        }
        assert_eq!(panes.place(1, 11), Place::Late);
        assert_eq!(panes.place(12, 11), Place::In(Pane { start: 12, first_end: 16 }));
    }

    #[test]
    fn panes_that_are_none_are_told() {
        let panes = panes(hop(10, 4, 1));
        for (start, first_end) in [(1, 3), (1, 7), (1, 11), (3, 7), (3, 11)] {
            assert!(panes.is_pane(Pane { start, first_end }), "{start} {first_end}");
        }
        for (start, first_end) in [(0, 3), (1, 2), (1, 4), (1, 15), (3, 3), (3, 13), (1, -1)] {
            assert!(!panes.is_pane(Pane { start, first_end }), "{start} {first_end}");
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let far = [i64::MIN, i64::MIN + 1, -1, i64::MAX - 1, i64::MAX];
        // The ends of event time, between which all is exact.
        let most = crate::watermark::MAX_EVENT_TIME_MS;
        for window in [
            tumble(86_400_000, 1),
            hop(86_400_000, 1_000, 7),
            hop(1_000, 86_400_000, 7),
            cumulate(86_400_000, 1_000, 7),
            hop(freshet_plan::window::MAX_SIZE_MS, freshet_plan::window::MAX_SIZE_MS / 2, 1),
        ] {
            let panes = panes(window);
            for time in far.into_iter().chain([-most, 0, most]) {
                for closed in far.into_iter().chain([-most, most]) {
                    let Place::In(pane) = panes.place(time, closed) else { continue };
                    assert!(panes.next_end(pane, closed).is_some_and(|end| end - 1 > closed), "{window:?} at {time}");
                    if (-most..=most).contains(&time) {
                        assert!(panes.is_pane(pane), "{window:?} at {time}: {pane:?}");
                        assert!(panes.window_start(panes.last_end(pane.start)) <= time, "{window:?} at {time}");
                        assert!(panes.last_end(pane.start) > time, "{window:?} at {time}");
                    }
                }
            }
        }
    }
}
