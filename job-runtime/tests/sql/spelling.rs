//! Windows as the queries name them, as Freshet spells them, and spelled out for Postgres.

/// Windows over `events`, all in seconds: `10 SECOND` (tumbling), `HOP 5 10` (the slide, then the size),
/// `CUMULATE 2 10` (the step, then the size), each perhaps with ` + ` and an offset; `SESSION 2` (the gap), perhaps with
/// `BY` and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Windows {
    Tumble { size: i64, offset: i64 },
    Hop { slide: i64, size: i64, offset: i64 },
    Cumulate { step: i64, size: i64, offset: i64 },
    Session { gap: i64, by: String },
}

impl Windows {
    /// Reads what stands in braces.
    pub fn of(text: &str) -> Self {
        let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("`{text}` is no number of seconds"));
        let (windows, offset) = text.split_once(" + ").map_or((text, 0), |(windows, offset)| (windows, number(offset)));
        match windows.split(' ').collect::<Vec<_>>().as_slice() {
            [size, "SECOND"] => Self::Tumble { size: number(size), offset },
            ["HOP", slide, size] => Self::Hop { slide: number(slide), size: number(size), offset },
            ["CUMULATE", step, size] => Self::Cumulate { step: number(step), size: number(size), offset },
            ["SESSION", gap] => Self::Session { gap: number(gap), by: String::new() },
            ["SESSION", gap, "BY", columns @ ..] => Self::Session { gap: number(gap), by: columns.join(" ") },
            other => panic!("{other:?} are no windows"),
        }
    }

    /// The short form; where there is an offset, Flink's.
    pub fn freshet(self) -> String {
        match self {
            Self::Tumble { size, offset: 0 } => format!("TUMBLE(events, ts, INTERVAL '{size}' SECOND)"),
            Self::Tumble { size, offset } => format!(
                "TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '{size}' SECOND, INTERVAL '{offset}' SECOND))"
            ),
            Self::Hop { slide, size, offset: 0 } => {
                format!("HOP(events, ts, INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND)")
            }
            Self::Hop { slide, size, offset } => format!(
                "TABLE(HOP(DATA => TABLE events, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '{slide}' SECOND, \
                 SIZE => INTERVAL '{size}' SECOND, OFFSET => INTERVAL '{offset}' SECOND))"
            ),
            Self::Cumulate { step, size, offset: 0 } => {
                format!("CUMULATE(events, ts, INTERVAL '{step}' SECOND, INTERVAL '{size}' SECOND)")
            }
            Self::Cumulate { step, size, offset } => format!(
                "TABLE(CUMULATE(DATA => TABLE events, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '{step}' SECOND, \
                 SIZE => INTERVAL '{size}' SECOND, OFFSET => INTERVAL '{offset}' SECOND))"
            ),
            Self::Session { gap, by } if by.is_empty() => {
                format!("SESSION(events, ts, INTERVAL '{gap}' SECOND)")
            }
            Self::Session { gap, by } => {
                format!("TABLE(SESSION(TABLE events PARTITION BY ({by}), DESCRIPTOR(ts), INTERVAL '{gap}' SECOND))")
            }
        }
    }

    /// `events` with a row for each window that holds it, and the window's columns.
    pub fn postgres(self) -> String {
        if let Self::Session { gap, by } = &self {
            return sessions_in_postgres(*gap, by);
        }
        let ms = "(extract(epoch from ts) * 1000)";
        // The last multiple of `every` seconds, shifted, that is not after the row.
        let last = |every: i64, offset: i64| {
            let (every, offset) = (every * 1000, offset * 1000);
            format!("({offset} + {every} * floor(({ms} - {offset}) / {every}))::bigint")
        };
        let starts_and_ends = match self {
            Self::Tumble { size, offset } => {
                let start = last(size, offset);
                format!("SELECT {start} AS start_ms, {start} + {} AS end_ms", size * 1000)
            }
            Self::Hop { slide, size, offset } => format!(
                "SELECT start_ms, start_ms + {size} AS end_ms FROM \
                 (SELECT {} - n * {} AS start_ms FROM generate_series(0, {}) AS n) AS hops WHERE start_ms + {size} > {ms}",
                last(slide, offset),
                slide * 1000,
                size / slide,
                size = size * 1000,
            ),
            Self::Cumulate { step, size, offset } => format!(
                "SELECT start_ms, start_ms + n * {step} AS end_ms FROM (SELECT {} AS start_ms) AS started \
                 CROSS JOIN generate_series(1, {}) AS n WHERE start_ms + n * {step} > {ms}",
                last(size, offset),
                size / step,
                step = step * 1000,
            ),
            Self::Session { .. } => unreachable!("spelled out above"),
        };
        format!(
            "(SELECT events.*, timestamp '1970-01-01' + interval '1 ms' * start_ms AS window_start, \
             timestamp '1970-01-01' + interval '1 ms' * end_ms AS window_end, \
             timestamp '1970-01-01' + interval '1 ms' * (end_ms - 1) AS window_time \
             FROM events CROSS JOIN LATERAL ({starts_and_ends}) AS held) AS events"
        )
    }
}

/// `events` with the session of each row: a new one begins where the row before is further away than the gap.
fn sessions_in_postgres(gap: i64, by: &str) -> String {
    let partition = |more: &str| {
        let columns = [by, more].into_iter().filter(|columns| !columns.is_empty()).collect::<Vec<_>>().join(", ");
        if columns.is_empty() { String::new() } else { format!("PARTITION BY {columns} ") }
    };
    let (group, session) = (partition(""), partition("session"));
    format!(
        "(SELECT *, min(ts) OVER ({session}) AS window_start, max(ts) OVER ({session}) + interval '{gap} s' AS window_end, \
         max(ts) OVER ({session}) + interval '{gap} s' - interval '1 ms' AS window_time FROM \
         (SELECT *, sum(begins) OVER ({group}ORDER BY ts, id) AS session FROM \
         (SELECT *, CASE WHEN ts - lag(ts) OVER ({group}ORDER BY ts, id) <= interval '{gap} s' THEN 0 ELSE 1 END AS begins \
         FROM events) AS begun) AS numbered) AS events"
    )
}
