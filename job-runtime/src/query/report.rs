//! Pure: what a query has to say at its end, beside its rows.

use std::fmt;

use freshet_log::TopicPartition;

use super::pipeline::{BadRecord, Counts};
use crate::demo::figures::count;

/// Why a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was there at the start is read.
    AtTheEnd,
    /// As many rows as were wanted have come.
    Limit,
    /// The time that it was given is over.
    TimeUp,
    /// A person stopped it.
    Stopped,
    /// Nobody reads its rows any more.
    Unread,
}

/// What a query did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why it ended.
    pub ending: Ending,
    /// How many rows it gave.
    pub rows: u64,
    /// What was done for them.
    pub counts: Counts,
    /// The first record that gave no row.
    pub first_bad: Option<BadRecord>,
    /// Partitions that nobody can read to their end, since somebody's transaction is open there; with how many offsets
    /// lay behind it at the start.
    pub held_back: Vec<(TopicPartition, i64)>,
}

/// For standard error: a line, and a line for everything that a person may have expected among the rows.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ending, rows, counts, first_bad, held_back } = self;
        let why = match ending {
            Ending::AtTheEnd => "",
            Ending::Limit => ", as many as were asked for",
            Ending::TimeUp => ", time is up",
            Ending::Stopped => ", stopped",
            Ending::Unread => ", nobody reads on",
        };
        write!(f, "{} from {}{why}", counted(*rows, "row"), counted(counts.records, "record"))?;
        let bad: u64 = counts.bad.values().sum();
        if bad > 0 {
            let reasons: Vec<String> =
                counts.bad.iter().map(|(reason, times)| format!("{reason} {}", count(*times))).collect();
            write!(f, "\nleft out: {} ({})", counted(bad, "bad record"), reasons.join(", "))?;
        }
        if let Some(BadRecord { place, reason, detail }) = first_bad {
            write!(f, "; the first is {place}: {reason}: {detail}")?;
        }
        if counts.late > 0 {
            write!(f, "\nleft out: {}", counted(counts.late, "late record"))?;
        }
        for (partition, offsets) in held_back {
            write!(
                f,
                "\nleft out: {} of {partition} behind an open transaction",
                counted(offsets.unsigned_abs(), "offset")
            )?;
        }
        if counts.open_groups > 0 && *ending != Ending::Limit && *ending != Ending::Unread {
            write!(f, "\nnot shown: {} in windows that are still open", counted(counts.open_groups, "group"))?;
            if let Some(ms) = counts.watermark_ms {
                write!(f, "; the watermark is {}", instant(ms))?;
            }
            if counts.silent > 0 {
                write!(
                    f,
                    "\n{} no record yet, and windows wait for {}: an idleTimeout in the Topic's eventTime ends that",
                    if counts.silent == 1 {
                        "1 partition has".to_owned()
                    } else {
                        format!("{} partitions have", counts.silent)
                    },
                    if counts.silent == 1 { "it" } else { "them" }
                )?;
            }
        }
        Ok(())
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

fn instant(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms);
    time.map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let counts = Counts { records: 12_345, ..Counts::default() };
        Report { ending: Ending::AtTheEnd, rows: 1, counts, first_bad: None, held_back: Vec::new() }
    }

    #[test]
    fn a_plain_end_takes_a_line() {
        assert_eq!(report().to_string(), "1 row from 12,345 records");
        assert_eq!(Report { ending: Ending::Stopped, ..report() }.to_string(), "1 row from 12,345 records, stopped");
    }

    #[test]
    fn everything_that_is_missing_among_the_rows_is_told() {
        let counts = Counts {
            records: 1,
            bad: [("NotJson", 3), ("MissingColumn", 1_000)].into(),
            late: 1,
            open_groups: 2,
            watermark_ms: Some(1_769_860_800_000),
            silent: 1,
        };
        let bad = BadRecord { place: "orders[3]@17".into(), reason: "NotJson".into(), detail: "it is cut off".into() };
        let held_back = vec![(TopicPartition::new("orders", 2), 5)];
        let report = Report { counts, first_bad: Some(bad), held_back, ..report() };
        let wanted = "\
1 row from 1 record
left out: 1,003 bad records (MissingColumn 1,000, NotJson 3); the first is orders[3]@17: NotJson: it is cut off
left out: 1 late record
left out: 5 offsets of orders[2] behind an open transaction
not shown: 2 groups in windows that are still open; the watermark is 2026-01-31 12:00:00.000
1 partition has no record yet, and windows wait for it: an idleTimeout in the Topic's eventTime ends that";
        assert_eq!(report.to_string(), wanted);
        let limited = Report { ending: Ending::Limit, ..report };
        assert!(!limited.to_string().contains("still open"), "{limited}");
    }
}
