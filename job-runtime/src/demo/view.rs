//! What the live view shows: a snapshot of figures, drawn on a terminal or said in one line.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};

use super::columns::Columns;
use super::figures::{bytes, count, duration, time};

/// The figures of a running job at one moment. Plain values: whoever runs the job fills it in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The job's name.
    pub job: String,
    /// What is under way, where it is not just running: `taking over`, `stopping`…
    pub phase: String,
    /// Since the start.
    pub elapsed: Duration,
    /// When it will end by itself, if it will.
    pub ends_after: Option<Duration>,
    /// The clock, ms since the Unix epoch.
    pub now_ms: i64,
    /// Records read.
    pub records_in: u64,
    /// Records read in the last second.
    pub records_per_second: u64,
    /// Records written.
    pub records_out: u64,
    /// Records that wait.
    pub lag_records: u64,
    /// For how long the oldest of them has waited.
    pub lag: Duration,
    /// The least watermark of all tasks, ms since the Unix epoch.
    pub watermark_ms: Option<i64>,
    /// Epochs committed.
    pub epochs: u64,
    /// Epochs that failed.
    pub epochs_failed: u64,
    /// What the last one took.
    pub epoch_took: Duration,
    /// Keys in the state.
    pub state_keys: u64,
    /// Bytes of it.
    pub state_bytes: u64,
    /// Late records.
    pub late: u64,
    /// Bad records.
    pub bad: u64,
    /// What `latest` shows, for instance `alerts`.
    pub latest_title: String,
    /// How many of them there are.
    pub latest_count: u64,
    /// The latest, newest first. JSON objects are shown as a table.
    pub latest: Vec<String>,
    /// The last lines of log.
    pub log: Vec<String>,
}

impl Snapshot {
    /// What was done, at the end of a run.
    #[must_use]
    pub fn summary(&self) -> String {
        let seconds = self.elapsed.as_secs_f64().max(0.001);
        format!(
            "done in {}: {} records read ({}/s), {} written, {} late, {} bad; {} epochs committed, {} attempts failed; \
             state {} keys, {}",
            duration(self.elapsed),
            count(self.records_in),
            count((self.records_in as f64 / seconds) as u64),
            count(self.records_out),
            count(self.late),
            count(self.bad),
            count(self.epochs),
            count(self.epochs_failed),
            count(self.state_keys),
            bytes(self.state_bytes),
        )
    }

    /// All of it in one line, for outputs that are no terminal.
    #[must_use]
    pub fn line(&self) -> String {
        let watermark = self.watermark_ms.map_or_else(|| "–".to_owned(), |ms| time(ms, self.now_ms));
        let phase = if self.phase.is_empty() { String::new() } else { format!("{}  ", self.phase) };
        format!(
            "{:>7}  {phase}{} records  {}/s  lag {}  watermark {watermark}  epoch {} ({})  state {} keys, {}  {} {}",
            duration(self.elapsed),
            count(self.records_in),
            count(self.records_per_second),
            count(self.lag_records),
            count(self.epochs),
            duration(self.epoch_took),
            count(self.state_keys),
            bytes(self.state_bytes),
            count(self.latest_count),
            self.latest_title,
        )
    }
}

/// The view's memory: the last snapshot, and the rates before it.
#[derive(Debug, Clone, Default)]
pub struct View {
    snapshot: Snapshot,
    rates: VecDeque<u64>,
}

/// Rates that are kept: as many as a wide terminal has columns.
const RATES: usize = 400;

impl View {
    /// Shows this from now on.
    pub fn show(&mut self, snapshot: Snapshot) {
        self.rates.push_back(snapshot.records_per_second);
        if self.rates.len() > RATES {
            self.rates.pop_front();
        }
        self.snapshot = snapshot;
    }

    /// Draws it on the whole of `frame`.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let log_lines = u16::try_from(self.snapshot.log.len().min(3)).unwrap_or(0);
        let [head, figures, rates, latest, log, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(7),
            Constraint::Length(5),
            Constraint::Min(3),
            Constraint::Length(log_lines),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.head(frame, head);
        self.figures(frame, figures);
        self.rates(frame, rates);
        self.latest(frame, latest);
        self.log(frame, log);
        frame.render_widget(Paragraph::new("q or Ctrl-C stops cleanly".dim()), foot);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let shown = &self.snapshot;
        let elapsed = match shown.ends_after {
            Some(end) => format!("{} of {}", duration(shown.elapsed), duration(end)),
            None => duration(shown.elapsed),
        };
        let mut spans = vec![
            " freshet ".bold().reversed(),
            Span::raw(" "),
            shown.job.as_str().bold(),
            Span::raw("  "),
            Span::raw(elapsed),
        ];
        if !shown.phase.is_empty() {
            spans.extend([Span::raw("  "), shown.phase.as_str().yellow()]);
        }
        frame.render_widget(Paragraph::new(Line::from(spans)), area);
    }

    fn figures(&self, frame: &mut Frame<'_>, area: Rect) {
        let shown = &self.snapshot;
        let watermark = match shown.watermark_ms {
            None => "none yet".to_owned(),
            Some(ms) => {
                let delay = u64::try_from(shown.now_ms.saturating_sub(ms)).unwrap_or(0);
                format!("{}, {} behind", time(ms, shown.now_ms), duration(Duration::from_millis(delay)))
            }
        };
        let failed =
            if shown.epochs_failed == 0 { String::new() } else { format!(", {} failed", count(shown.epochs_failed)) };
        let left = [
            figure("events/s", count(shown.records_per_second)),
            figure("read", count(shown.records_in)),
            figure("written", count(shown.records_out)),
            figure("lag", format!("{} records, {}", count(shown.lag_records), duration(shown.lag))),
            figure("late, bad", format!("{}, {}", count(shown.late), count(shown.bad))),
        ];
        let right = [
            figure("watermark", watermark),
            figure("epochs", format!("{} committed{failed}", count(shown.epochs))),
            figure("last epoch", duration(shown.epoch_took)),
            figure("state", format!("{} keys", count(shown.state_keys))),
            figure("", bytes(shown.state_bytes)),
        ];
        let [left_area, right_area] =
            Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(area);
        frame.render_widget(Paragraph::new(left.to_vec()).block(Block::bordered().title(" records ")), left_area);
        frame.render_widget(Paragraph::new(right.to_vec()).block(Block::bordered().title(" progress ")), right_area);
    }

    fn rates(&self, frame: &mut Frame<'_>, area: Rect) {
        let columns = usize::from(area.width.saturating_sub(2));
        let newest: Vec<u64> = self.rates.iter().rev().take(columns).rev().copied().collect();
        let peak = newest.iter().max().copied().unwrap_or(0);
        let title = format!(" events/s, at most {} ", count(peak));
        let bars =
            Sparkline::default().data(newest).style(Style::new().fg(Color::Cyan)).block(Block::bordered().title(title));
        frame.render_widget(bars, area);
    }

    fn latest(&self, frame: &mut Frame<'_>, area: Rect) {
        let shown = &self.snapshot;
        let block = Block::bordered().title(format!(" {} {} ", count(shown.latest_count), shown.latest_title));
        let newest = |at: usize| if at == 0 { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        if let Some(columns) = Columns::of(&shown.latest) {
            let widths = columns.widths().into_iter().map(Constraint::Length);
            let rows = columns.rows.into_iter().enumerate().map(|(at, row)| Row::new(row).style(newest(at)));
            let names = Row::new(columns.names).style(Style::new().fg(Color::DarkGray));
            frame.render_widget(Table::new(rows, widths).header(names).column_spacing(2).block(block), area);
        } else {
            let lines = shown.latest.iter().enumerate().map(|(at, text)| Line::styled(text.as_str(), newest(at)));
            frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
        }
    }

    fn log(&self, frame: &mut Frame<'_>, area: Rect) {
        let skip = self.snapshot.log.len().saturating_sub(usize::from(area.height));
        let lines: Vec<Line<'_>> =
            self.snapshot.log.iter().skip(skip).map(|line| line.as_str().yellow().into()).collect();
        frame.render_widget(Paragraph::new(lines), area);
    }
}

fn figure(name: &'static str, value: String) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{name:>11}  "), Style::new().fg(Color::DarkGray)),
        Span::styled(value, Style::new().add_modifier(Modifier::BOLD)),
    ])
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            job: "fraud-detection".into(),
            elapsed: Duration::from_millis(4_200),
            ends_after: Some(Duration::from_secs(20)),
            now_ms: 1_772_323_265_000,
            records_in: 812_345,
            records_per_second: 201_000,
            records_out: 321,
            lag_records: 1_024,
            lag: Duration::from_millis(15),
            watermark_ms: Some(1_772_323_260_000),
            epochs: 38,
            epoch_took: Duration::from_millis(12),
            state_keys: 99_871,
            state_bytes: 12_345_678,
            late: 1_620,
            bad: 401,
            latest_title: "alerts".into(),
            latest_count: 321,
            latest: vec!["acct-000042  6 txns".into(), "acct-000007  5 txns".into()],
            ..Snapshot::default()
        }
    }

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| view.draw(frame)).expect("it draws");
        let buffer = terminal.backend().buffer();
        let row = |y: u16| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..buffer.area.height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn every_figure_is_on_the_screen() {
        let mut view = View::default();
        view.show(Snapshot { records_per_second: 250_000, ..snapshot() });
        view.show(Snapshot { log: vec!["WARN one".into()], phase: "stopping".into(), epochs_failed: 2, ..snapshot() });
        let screen = drawn(&view, 100, 24);
        for text in [
            "freshet  fraud-detection  4.2 s of 20.0 s  stopping",
            "events/s  201,000",
            "read  812,345",
            "lag  1,024 records, 15 ms",
            "late, bad  1,620, 401",
            "00:01:00, 5.0 s behind",
            "38 committed, 2 failed",
            "99,871 keys",
            "12.3 MB",
            "at most 250,000",
            "321 alerts",
            "acct-000042  6 txns",
            "WARN one",
            "q or Ctrl-C stops cleanly",
        ] {
            assert!(screen.contains(text), "`{text}` is not on\n{screen}");
        }
    }

    #[test]
    fn json_objects_are_shown_as_a_table() {
        let mut view = View::default();
        let record = |account, txns| {
            format!(r#"{{"account_id":"{account}","window_end":"2026-03-01T00:01:00.000","txns":{txns}}}"#)
        };
        view.show(Snapshot { latest: vec![record("acct-000042", 6), record("acct-7", 12)], ..snapshot() });
        let screen = drawn(&view, 100, 24);
        for text in [
            "account_id   window_end           txns",
            "acct-000042  2026-03-01 00:01:00  6",
            "acct-7       2026-03-01 00:01:00  12",
        ] {
            assert!(screen.contains(text), "`{text}` is not on\n{screen}");
        }
    }

    #[test]
    fn a_small_terminal_and_an_empty_snapshot_draw_too() {
        let mut view = View::default();
        drawn(&view, 100, 24);
        view.show(snapshot());
        for (width, height) in [(1, 1), (20, 5), (79, 12), (300, 80)] {
            drawn(&view, width, height);
        }
    }

    #[test]
    fn one_line_says_it_without_a_terminal() {
        assert_eq!(
            snapshot().line(),
            "  4.2 s  812,345 records  201,000/s  lag 1,024  watermark 00:01:00  epoch 38 (12 ms)  \
             state 99,871 keys, 12.3 MB  321 alerts"
        );
    }
}
