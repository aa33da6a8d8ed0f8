//! Expected rows against actual rows, and what to say about it.

use std::collections::BTreeMap;
use std::fmt;

use super::rows::WindowRow;

/// How many rows of a kind are printed.
const SHOWN: usize = 5;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The name of what was compared, for instance the output topic.
    pub name: String,
    /// Rows that were expected.
    pub expected: usize,
    /// Rows that were there.
    pub actual: usize,
    /// Expected rows of whose group and window nothing was there.
    pub missing: Vec<WindowRow>,
    /// Rows of whose group and window nothing was expected.
    pub unexpected: Vec<WindowRow>,
    /// Rows that were there once more than expected, equal or not.
    pub doubled: Vec<WindowRow>,
    /// Rows with other figures than expected: expected, actual.
    pub different: Vec<(WindowRow, WindowRow)>,
}

impl Report {
    /// Whether every expected row was there exactly once, and no other.
    #[must_use]
    pub const fn agrees(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.doubled.is_empty() && self.different.is_empty()
    }
}

/// Compares what was expected with what was there, whatever their order.
#[must_use]
pub fn compare(name: &str, expected: &[WindowRow], actual: &[WindowRow]) -> Report {
    let mut report = Report {
        name: name.to_owned(),
        expected: expected.len(),
        actual: actual.len(),
        missing: Vec::new(),
        unexpected: Vec::new(),
        doubled: Vec::new(),
        different: Vec::new(),
    };
    let mut found: BTreeMap<_, Vec<&WindowRow>> = BTreeMap::new();
    for row in actual {
        found.entry(row.identity()).or_default().push(row);
    }
    for row in expected {
        let Some(mut rows) = found.remove(&row.identity()) else {
            report.missing.push(row.clone());
            continue;
        };
        // The equal one is the right one; what is beside it is doubled.
        let right = rows.iter().position(|found| *found == row).unwrap_or(0);
        let first = rows.swap_remove(right);
        if first != row {
            report.different.push((row.clone(), first.clone()));
        }
        report.doubled.extend(rows.into_iter().cloned());
    }
    for rows in found.into_values() {
        let mut rows = rows.into_iter().cloned();
        report.unexpected.extend(rows.next());
        report.doubled.extend(rows);
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expected, actual, .. } = self;
        if self.agrees() {
            return write!(f, "{name}: all {expected} rows are as the recount has them");
        }
        write!(
            f,
            "{name}: the recount has {expected} rows, the job wrote {actual}: {} missing, {} unexpected, {} doubled, {} different",
            self.missing.len(),
            self.unexpected.len(),
            self.doubled.len(),
            self.different.len()
        )?;
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        list(f, "doubled", &self.doubled)?;
        for (expected, actual) in self.different.iter().take(SHOWN) {
            write!(f, "\n  different   {actual}\n  expected    {expected}")?;
        }
        rest(f, "different", self.different.len())
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, rows: &[WindowRow]) -> fmt::Result {
    for row in rows.iter().take(SHOWN) {
        write!(f, "\n  {what:<11} {row}")?;
    }
    rest(f, what, rows.len())
}

fn rest(f: &mut fmt::Formatter<'_>, what: &str, count: usize) -> fmt::Result {
    match count.checked_sub(SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => write!(f, "\n  {what:<11} … and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, txns: u64) -> WindowRow {
        WindowRow {
            group: Some(group.to_owned()),
            window_start_ms: 0,
            window_end_ms: 60_000,
            txns,
            total_cents: Some(100),
            largest_cents: None,
        }
    }

    #[test]
    fn equal_rows_agree_in_any_order() {
        let report = compare("alerts", &[row("a", 5), row("b", 6)], &[row("b", 6), row("a", 5)]);
        assert!(report.agrees());
        assert_eq!(report.to_string(), "alerts: all 2 rows are as the recount has them");
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let expected = [row("lost", 5), row("twice", 5), row("wrong", 5)];
        let actual = [row("twice", 5), row("twice", 5), row("wrong", 6), row("new", 5), row("new", 7)];
        let report = compare("alerts", &expected, &actual);
        assert!(!report.agrees());
        assert_eq!(report.missing, [row("lost", 5)]);
        assert_eq!(report.doubled, [row("twice", 5), row("new", 7)]);
        assert_eq!(report.different, [(row("wrong", 5), row("wrong", 6))]);
        assert_eq!(report.unexpected, [row("new", 5)]);
        let text = report.to_string();
        assert!(text.starts_with("alerts: the recount has 3 rows, the job wrote 5: 1 missing, 1 unexpected"), "{text}");
        assert!(text.contains("missing     lost  1970-01-01 00:00:00–00:01:00  5 txns  1.00"), "{text}");
    }

    #[test]
    fn a_wrong_row_beside_the_right_one_is_doubled() {
        let report = compare("alerts", &[row("a", 5)], &[row("a", 4), row("a", 5)]);
        assert_eq!((report.doubled, report.different), (vec![row("a", 4)], vec![]));
    }

    #[test]
    fn long_lists_are_cut() {
        let expected: Vec<_> = (0..8).map(|n| row(&format!("a{n}"), 5)).collect();
        let text = compare("alerts", &expected, &[]).to_string();
        assert_eq!(text.lines().count(), 1 + SHOWN + 1, "{text}");
        assert!(text.ends_with("… and 3 more"), "{text}");
    }
}
