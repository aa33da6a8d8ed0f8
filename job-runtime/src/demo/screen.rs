//! The live view's thread: takes snapshots, draws them, hears keys, and leaves the terminal as it was.
//!
//! On a terminal it draws on the alternate screen, in raw mode, where Ctrl-C is a key and no signal; the
//! terminal is restored when the view ends, when it is dropped, and by a hook when the process panics.
//! Elsewhere it prints a line a second.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::view::{Snapshot, View};

/// How long the thread waits for a key before it looks for snapshots.
const KEY_WAIT: Duration = Duration::from_millis(50);
/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// A live view on standard output. Dropping it ends it.
#[derive(Debug)]
pub struct LiveView {
    snapshots: Option<Sender<Snapshot>>,
    thread: Option<JoinHandle<()>>,
    on_terminal: bool,
}

impl LiveView {
    /// Starts the view: a screen on a terminal, unless it is to be `plain`; lines elsewhere. `stop` is called when a person asks to stop (q or Ctrl-C), more than once perhaps.
    ///
    /// # Errors
    /// The terminal can't be set up, or there is no thread.
    pub fn start(plain: bool, stop: impl Fn() + Send + 'static) -> io::Result<Self> {
        let on_terminal = !plain && io::stdout().is_terminal() && io::stdin().is_terminal();
        let (sender, snapshots) = mpsc::channel();
        let builder = std::thread::Builder::new().name("view".to_owned());
        let thread = if on_terminal {
            let terminal = ratatui::try_init()?;
            let restore = Restore;
            builder.spawn(move || {
                let _restore = restore;
                draw_until_closed(terminal, &snapshots, &stop);
            })?
        } else {
            // Locked line by line: `--print` writes to it, too.
            builder.spawn(move || print_lines(&snapshots, &mut io::stdout()))?
        };
        Ok(Self { snapshots: Some(sender), thread: Some(thread), on_terminal })
    }

    /// Whether it draws on a terminal: then nothing else may write to it, logs least of all.
    #[must_use]
    pub const fn on_terminal(&self) -> bool {
        self.on_terminal
    }

    /// Shows a snapshot. Several a second are right for a terminal; lines are thinned out.
    pub fn show(&self, snapshot: Snapshot) {
        if let Some(snapshots) = &self.snapshots {
            // The view's thread may be gone (its terminal was closed); the job goes on without it.
            let _ = snapshots.send(snapshot);
        }
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        self.snapshots.take();
        if let Some(thread) = self.thread.take() {
            // A panic in the view has been printed; the terminal is restored by then.
            let _ = thread.join();
        }
    }
}

/// Restores the terminal when dropped, on whatever way.
#[derive(Debug)]
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn draw_until_closed(mut terminal: DefaultTerminal, snapshots: &Receiver<Snapshot>, stop: &impl Fn()) {
    let mut view = View::default();
    loop {
        loop {
            match snapshots.try_recv() {
                Ok(snapshot) => view.show(snapshot),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
        // A terminal that can't be drawn on or read from any more is gone: the job goes on without it.
        if terminal.draw(|frame| view.draw(frame)).is_err() {
            return;
        }
        match event::poll(KEY_WAIT) {
            Ok(false) => {}
            Ok(true) => match event::read() {
                Ok(event) if asks_to_stop(&event) => stop(),
                Ok(_) => {}
                Err(_) => return,
            },
            Err(_) => return,
        }
    }
}

fn asks_to_stop(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (ctrl_c || key.code == KeyCode::Char('q'))
}

fn print_lines(snapshots: &Receiver<Snapshot>, out: &mut impl Write) {
    let mut said: Option<Snapshot> = None;
    let mut last: Option<Snapshot> = None;
    while let Ok(snapshot) = snapshots.recv() {
        let due = said
            .as_ref()
            .is_none_or(|said| snapshot.elapsed >= said.elapsed + LINE_EVERY || snapshot.phase != said.phase);
        if due {
            say(&snapshot, out);
            said = Some(snapshot.clone());
        }
        last = Some(snapshot);
    }
    // The end of the story, where it was thinned out.
    if let Some(last) = last.filter(|last| said.as_ref() != Some(last)) {
        say(&last, out);
    }
}

fn say(snapshot: &Snapshot, out: &mut impl Write) {
    // A reader that closed the pipe wants no more lines; the job's own result is not for it to decide.
    let _ = writeln!(out, "{}", snapshot.line()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn lines_are_thinned_out_and_the_last_one_is_said() {
        let (sender, snapshots) = mpsc::channel();
        for ms in [0, 300, 999, 1_000, 1_500, 2_100, 2_300] {
            let snapshot = Snapshot { elapsed: Duration::from_millis(ms), records_in: ms, ..Snapshot::default() };
            sender.send(snapshot).expect("the receiver is here");
        }
        drop(sender);
        let mut out = Vec::new();
        print_lines(&snapshots, &mut out);
        let text = String::from_utf8(out).expect("text");
        let said: Vec<&str> =
            text.lines().filter_map(|line| line.split(" records").next()?.split("  ").last()).collect();
        assert_eq!(said, ["0", "1,000", "2,100", "2,300"], "{text}");
    }

    #[test]
    fn a_new_phase_is_said_at_once() {
        let (sender, snapshots) = mpsc::channel();
        for (ms, phase) in [(0, "taking over"), (200, ""), (400, ""), (500, "stopping")] {
            let elapsed = Duration::from_millis(ms);
            sender
                .send(Snapshot { elapsed, phase: phase.into(), ..Snapshot::default() })
                .expect("the receiver is here");
        }
        drop(sender);
        let mut out = Vec::new();
        print_lines(&snapshots, &mut out);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().last().is_some_and(|line| line.contains("stopping")), "{text}");
    }

    #[test]
    fn q_and_ctrl_c_stop_and_other_keys_do_not() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(asks_to_stop(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(asks_to_stop(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!asks_to_stop(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!asks_to_stop(&key(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(!asks_to_stop(&Event::Resize(80, 24)));
    }
}
