//! Windows over event time, and the panes that windows share.
//!
//! Windows that overlap would each need a copy of every row. So time is cut into *panes*: the longest pieces that no
//! window cuts through. A row is kept in its pane, once, and what a window gives is merged from the panes in it.
//!
//! ```text
//! HOP, size 10 s, slide 4 s                CUMULATE, size 12 s, step 4 s
//!   panes   |2|2|2|2|2|2|2|2|2|…             panes   | 4 | 4 | 4 | 4 |…
//!   windows [---------]                      windows [---]
//!               [---------]                          [-------]
//!                   [---------]                      [-----------]
//!                                                                [---]…
//! ```
//!
//! Panes are `gcd(size, slide)` long, or a step. Where windows don't overlap, a pane is a window.
//!
//! Sessions are windows of another kind: where they begin and end is told by the rows of their group alone, so that they
//! have no panes.

use serde::{Deserialize, Serialize};

/// Kinds of windows. A window holds its first instant and not its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Window {
    /// Windows of one size, side by side.
    Tumble {
        /// Length, ms; > 0.
        size_ms: i64,
        /// Shift of the windows' starts from the Unix epoch, ms; 0 ≤ offset < size.
        offset_ms: i64,
    },
    /// Windows of one size, one beginning every `slide_ms`: they overlap where the slide is shorter than the size, and
    /// leave gaps where it is longer. (Where they are equal the windows are those of [`Window::Tumble`], which is then
    /// planned.)
    Hop {
        /// Length, ms; > 0.
        size_ms: i64,
        /// From one window's start to the next one's, ms; > 0.
        slide_ms: i64,
        /// Shift of the windows' starts from the Unix epoch, ms; 0 ≤ offset < slide.
        offset_ms: i64,
    },
    /// Windows that begin together and end a step after one another, until the last of them has the whole size; the
    /// next ones begin at its end.
    Cumulate {
        /// Length of the longest, ms; a multiple of the step.
        size_ms: i64,
        /// Length of the shortest, and what each is longer than the one before, ms; > 0.
        step_ms: i64,
        /// Shift of the windows' starts from the Unix epoch, ms; 0 ≤ offset < size.
        offset_ms: i64,
    },
    /// Windows of each group by itself: rows that follow one another by no more than the gap are in one. A session begins
    /// at its first row and ends a gap after its last one.
    Session {
        /// The longest time between two rows of a session that follow one another, ms; > 0.
        gap_ms: i64,
    },
}

/// A window has at most this many panes: each is looked at when the window closes.
pub const MAX_PANES: i64 = 100_000;

/// The longest windows that overlap, ms: 100,000 years, so that no sum of a time and a length leaves 64 bits.
pub const MAX_SIZE_MS: i64 = 100_000 * 366 * 86_400_000;

impl Window {
    /// What is wrong with it, if something is.
    ///
    /// # Errors
    /// A sentence without its end, for people.
    pub fn check(self) -> Result<(), String> {
        let fits = |size_ms: i64| {
            let panes = size_ms / self.pane_ms();
            if panes > MAX_PANES {
                let pane_ms = self.pane_ms();
                return Err(format!("a window has {panes} panes of {pane_ms} ms; at most {MAX_PANES} are kept"));
            }
            Ok(())
        };
        let is_too_long = |ms: i64| ms > MAX_SIZE_MS;
        match self {
            Self::Tumble { size_ms, offset_ms } if size_ms <= 0 || !(0..size_ms).contains(&offset_ms) => {
                Err(format!("a window of {size_ms} ms shifted by {offset_ms} ms is none"))
            }
            Self::Tumble { .. } => Ok(()),
            Self::Hop { size_ms, slide_ms, offset_ms }
                if size_ms <= 0 || slide_ms <= 0 || !(0..slide_ms).contains(&offset_ms) =>
            {
                Err(format!("a window of {size_ms} ms every {slide_ms} ms shifted by {offset_ms} ms is none"))
            }
            Self::Hop { size_ms, slide_ms, .. } if is_too_long(size_ms) || is_too_long(slide_ms) => {
                Err(format!("a window of {size_ms} ms every {slide_ms} ms is longer than 100,000 years"))
            }
            Self::Hop { size_ms, .. } => fits(size_ms),
            Self::Cumulate { size_ms, step_ms, offset_ms }
                if step_ms <= 0 || size_ms <= 0 || size_ms % step_ms != 0 || !(0..size_ms).contains(&offset_ms) =>
            {
                Err(format!("windows up to {size_ms} ms by {step_ms} ms shifted by {offset_ms} ms are none"))
            }
            Self::Cumulate { size_ms, .. } if is_too_long(size_ms) => {
                Err(format!("a window of {size_ms} ms is longer than 100,000 years"))
            }
            Self::Cumulate { size_ms, .. } => fits(size_ms),
            Self::Session { gap_ms } if gap_ms <= 0 => Err(format!("a session with a gap of {gap_ms} ms is none")),
            Self::Session { gap_ms } if is_too_long(gap_ms) => {
                Err(format!("a gap of {gap_ms} ms is longer than 100,000 years"))
            }
            Self::Session { .. } => Ok(()),
        }
    }

    /// How long its panes are, ms; of sessions, how long they are at least.
    #[must_use]
    pub const fn pane_ms(self) -> i64 {
        match self {
            Self::Tumble { size_ms, .. } => size_ms,
            Self::Hop { size_ms, slide_ms, .. } if slide_ms >= size_ms => size_ms,
            Self::Hop { size_ms, slide_ms, .. } => greatest_common_divisor(size_ms, slide_ms),
            Self::Cumulate { step_ms, .. } => step_ms,
            Self::Session { gap_ms } => gap_ms,
        }
    }
}

const fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hop(size_ms: i64, slide_ms: i64) -> Window {
        Window::Hop { size_ms, slide_ms, offset_ms: 0 }
    }

    #[test]
    fn panes_are_the_longest_pieces_that_no_window_cuts() {
        assert_eq!(Window::Tumble { size_ms: 10, offset_ms: 0 }.pane_ms(), 10);
        for (size, slide, pane) in [(10, 5, 5), (10, 4, 2), (10, 3, 1), (10, 10, 10), (10, 25, 10), (6, 4, 2)] {
            assert_eq!(hop(size, slide).pane_ms(), pane, "{size} every {slide}");
        }
        assert_eq!(Window::Cumulate { size_ms: 12, step_ms: 4, offset_ms: 0 }.pane_ms(), 4);
    }

    #[test]
    fn windows_that_are_none_are_refused() {
        for (window, why) in [
            (Window::Tumble { size_ms: 0, offset_ms: 0 }, "is none"),
            (Window::Tumble { size_ms: -1, offset_ms: 0 }, "is none"),
            (Window::Tumble { size_ms: 10, offset_ms: 10 }, "is none"),
            (Window::Tumble { size_ms: 10, offset_ms: -1 }, "is none"),
            (hop(0, 5), "is none"),
            (hop(5, 0), "is none"),
            (Window::Hop { size_ms: 10, slide_ms: 5, offset_ms: 5 }, "is none"),
            (hop(i64::MAX, 1 << 62), "longer than"),
            (hop(86_400_000, 7), "panes of 1 ms"),
            (Window::Cumulate { size_ms: 10, step_ms: 4, offset_ms: 0 }, "are none"),
            (Window::Cumulate { size_ms: 10, step_ms: 0, offset_ms: 0 }, "are none"),
            (Window::Cumulate { size_ms: 10, step_ms: 5, offset_ms: 10 }, "are none"),
            (Window::Cumulate { size_ms: 200_000, step_ms: 1, offset_ms: 0 }, "panes of 1 ms"),
            (Window::Session { gap_ms: 0 }, "is none"),
            (Window::Session { gap_ms: -5 }, "is none"),
            (Window::Session { gap_ms: i64::MAX }, "longer than"),
        ] {
            let error = window.check().expect_err(why);
            assert!(error.contains(why), "{window:?}: {error}");
        }
        for window in [
            hop(10, 4),
            hop(10, 25),
            Window::Cumulate { size_ms: 12, step_ms: 4, offset_ms: 11 },
            Window::Session { gap_ms: 1 },
        ] {
            assert_eq!(window.check(), Ok(()));
        }
    }
}
