//! One server process: started in its own process group, watched through its log file, killed for sure.
//!
//! # The undertaker
//! A test process may be killed with -9, or end while a static holds a server that is then never dropped.
//! So each server gets a tiny shell beside it that waits on a pipe which only the test process holds. When
//! the pipe closes without a word, the test process is gone: the shell kills the server's group and removes
//! the folder that it was told to remove. An orderly stop says `done` first. A server that several
//! processes share belongs to another process, their parent: then the shell watches that one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::stopped::wait_until_stopped;
use crate::LabError;
use crate::install::command::tail;

/// How often a log file or a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Lines of the log that an error shows.
const TAIL_LINES: usize = 40;
/// Earlier errors that it shows besides.
const TAIL_ERRORS: usize = 5;

/// When the undertaker acts, and what it clears away besides the process.
#[derive(Debug, Default, Clone)]
pub struct Undertaking {
    /// A folder to remove.
    pub remove: Option<PathBuf>,
    /// The process whose end it waits for; this one when `None`.
    pub owner: Option<u32>,
}

/// A running server.
#[derive(Debug)]
pub struct ServerProcess {
    name: String,
    child: Child,
    log: PathBuf,
    undertaker: Option<(Child, ChildStdin)>,
}

impl ServerProcess {
    /// Starts `command` in its own process group with its output in the new file `log`.
    ///
    /// # Errors
    /// When the log can't be written or the program can't be started.
    pub fn spawn(name: &str, mut command: Command, log: &Path, clear: &Undertaking) -> Result<Self, LabError> {
        // A fresh file: a line of an earlier run must never be taken for one of this run.
        let output = File::create(log).map_err(LabError::file("writing", log))?;
        let errors = output.try_clone().map_err(LabError::file("writing", log))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = started.map_err(|source| LabError::MissingProgram {
            program,
            remedy: format!("{name} could not be started: {source}."),
        })?;
        let mut server = Self { name: name.to_owned(), child, log: log.to_owned(), undertaker: None };
        server.undertaker = Some(undertaker(server.child.id(), clear)?);
        Ok(server)
    }

    /// The server's process id, which is its group's too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the log holds `wanted`.
    ///
    /// # Errors
    /// When the deadline passes or the process ends first; with the end of the log.
    pub fn wait_for_line(&mut self, wanted: &str, deadline: Duration) -> Result<(), LabError> {
        let mut seen = LogReader::open(&self.log)?;
        self.wait_until(&format!("\"{wanted}\" in its log"), deadline, || seen.find(wanted))
    }

    /// Waits until `reached` says so.
    ///
    /// # Errors
    /// When the deadline passes or the process ends first; with the end of the log.
    pub fn wait_until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut reached: impl FnMut() -> bool,
    ) -> Result<(), LabError> {
        let started = Instant::now();
        loop {
            // The order matters: what a process wrote before it died is there once it is dead.
            let ended = self.exit_status();
            if reached() {
                return Ok(());
            }
            if let Some(status) = ended {
                return Err(LabError::Died {
                    server: self.name.clone(),
                    status: status.to_string(),
                    log: self.log.clone(),
                    tail: self.log_tail(),
                });
            }
            if started.elapsed() > deadline {
                return Err(self.late(what, deadline));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill9(&mut self) {
        signal("KILL", self.child.id());
        // It can't refuse; a failure to wait means that it was waited for before.
        self.child.wait().ok();
        self.dismiss_undertaker();
    }

    /// Asks it to end (SIGTERM) and waits; kills it when the deadline passes.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(&mut self, deadline: Duration) -> Result<(), LabError> {
        signal("TERM", self.child.id());
        let started = Instant::now();
        while self.exit_status().is_none() {
            if started.elapsed() > deadline {
                let late = self.late("it to end after SIGTERM", deadline);
                self.kill9();
                return Err(late);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.dismiss_undertaker();
        Ok(())
    }

    /// Sends it a signal by its name, for instance `TERM`.
    pub fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Stops it in its tracks (SIGSTOP), as a machine that hangs, and waits until it stands still.
    ///
    /// # Panics
    /// When it is gone, or does not stop.
    pub fn freeze(&self) {
        signal("STOP", self.child.id());
        wait_until_stopped(self.child.id()).expect("a process that runs can be stopped in its tracks");
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        signal("CONT", self.child.id());
    }

    /// Its exit status when it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    fn late(&self, what: &str, deadline: Duration) -> LabError {
        LabError::Deadline {
            server: self.name.clone(),
            what: what.to_owned(),
            seconds: deadline.as_secs_f64(),
            log: self.log.clone(),
            tail: self.log_tail(),
        }
    }

    fn dismiss_undertaker(&mut self) {
        if let Some((mut shell, mut pipe)) = self.undertaker.take() {
            pipe.write_all(b"done\n").ok();
            drop(pipe);
            shell.wait().ok();
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            self.kill9();
        }
        self.dismiss_undertaker();
    }
}

/// The first errors in a log file, and its last lines. (A server may log its whole shut-down after the error that
/// caused it.)
#[must_use]
pub fn log_tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let last = tail(&text, TAIL_LINES);
    let is_error = |line: &&str| line.contains(" ERROR ") || line.contains(" FATAL ") || line.contains("Caused by:");
    let errors: Vec<_> = text.lines().filter(is_error).take(TAIL_ERRORS).filter(|line| !last.contains(line)).collect();
    if errors.is_empty() { last } else { format!("{}\n[…]\n{last}", errors.join("\n")) }
}

/// Sends a signal to a process group.
fn signal(name: &str, group: u32) {
    // `kill` fails when nobody is left in the group, which is what its callers want anyway.
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), "--", &format!("-{group}")]).stderr(Stdio::null()).status().ok();
}

/// Starts the shell that ends group `group` once its owner is gone.
fn undertaker(group: u32, clear: &Undertaking) -> Result<(Child, ChildStdin), LabError> {
    const SCRIPT: &str = r#"
if [ -n "$3" ]; then while kill -0 "$3" 2>/dev/null; do sleep 1; done
else read -r word; [ "$word" = done ] && exit 0
fi
kill -s KILL -- "-$1" 2>/dev/null
[ -z "$2" ] || rm -rf -- "$2""#;
    let remove = clear.remove.as_deref().unwrap_or(Path::new(""));
    let owner = clear.owner.map(|id| id.to_string()).unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "undertaker", &group.to_string()]).arg(remove).arg(owner);
    // A group of its own: Ctrl-C in the terminal must not end it before its work.
    shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let missing = |why: String| LabError::MissingProgram { program: "sh".to_owned(), remedy: why };
    let mut child = shell.spawn().map_err(|source| missing(source.to_string()))?;
    let pipe = child.stdin.take().ok_or_else(|| missing("It has no standard input.".to_owned()))?;
    Ok((child, pipe))
}

/// Reads a growing log and remembers what was searched already.
struct LogReader {
    file: File,
    text: String,
}

impl LogReader {
    fn open(path: &Path) -> Result<Self, LabError> {
        let mut file = File::open(path).map_err(LabError::file("reading", path))?;
        file.seek(SeekFrom::Start(0)).map_err(LabError::file("reading", path))?;
        Ok(Self { file, text: String::new() })
    }

    fn find(&mut self, wanted: &str) -> bool {
        let mut more = Vec::new();
        self.file.read_to_end(&mut more).ok();
        self.text.push_str(&String::from_utf8_lossy(&more));
        if self.text.contains(wanted) {
            return true;
        }
        // Only an unfinished last line can still become what is wanted.
        if let Some(end) = self.text.rfind('\n') {
            self.text.drain(..=end);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Scratch;

    fn shell(script: &str, folder: &Path) -> ServerProcess {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        ServerProcess::spawn("shell", command, &folder.join("log"), &Undertaking::default()).expect("sh starts")
    }

    #[test]
    fn a_server_that_dies_says_so_with_the_end_of_its_log() {
        let scratch = Scratch::new("process-dies").expect("a scratch folder");
        let mut server = shell("echo cannot bind; exit 7", scratch.path());
        let error = server.wait_for_line("ready", Duration::from_secs(20)).expect_err("it died");
        assert!(matches!(error, LabError::Died { .. }), "{error}");
        assert!(error.to_string().contains("cannot bind"), "{error}");
    }

    #[test]
    fn an_early_error_is_shown_with_the_end_of_the_log() {
        let scratch = Scratch::new("process-tail").expect("a scratch folder");
        let log = scratch.path().join("log");
        let lines: Vec<String> = (0..100).map(|number| format!("INFO line {number}")).collect();
        std::fs::write(&log, format!("12:00 ERROR cannot bind\n{}\n", lines.join("\n"))).expect("it can be written");
        let shown = log_tail(&log);
        assert!(shown.starts_with("12:00 ERROR cannot bind\n[…]\n") && shown.ends_with("INFO line 99"), "{shown}");
        assert!(!shown.contains("INFO line 5\n"), "the whole log is shown");
    }

    #[test]
    fn a_deadline_names_what_was_waited_for() {
        let scratch = Scratch::new("process-late").expect("a scratch folder");
        let mut server = shell("echo starting; exec sleep 60", scratch.path());
        let error = server.wait_for_line("ready", Duration::from_millis(200)).expect_err("it never is");
        assert!(matches!(error, LabError::Deadline { .. }), "{error}");
        assert!(error.to_string().contains("\"ready\" in its log"), "{error}");
    }

    #[test]
    fn dropping_a_server_ends_its_whole_group() {
        let scratch = Scratch::new("process-group").expect("a scratch folder");
        let mut server = shell("sleep 60 & echo child $!; wait", scratch.path());
        server.wait_for_line("child", Duration::from_secs(20)).expect("it prints");
        let text = std::fs::read_to_string(scratch.path().join("log")).expect("the log is there");
        let child: u32 = text.trim().rsplit(' ').next().and_then(|id| id.parse().ok()).expect("a process id");
        assert!(alive(child));
        drop(server);
        let started = Instant::now();
        while alive(child) {
            assert!(started.elapsed() < Duration::from_secs(20), "a child outlived its server");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    #[test]
    fn the_undertaker_ends_a_server_whose_owner_is_gone() {
        let scratch = Scratch::new("process-undertaker").expect("a scratch folder");
        let doomed = scratch.path().join("doomed");
        std::fs::create_dir(&doomed).expect("the scratch folder can be written");
        let mut command = Command::new("sleep");
        command.arg("60");
        let clear = Undertaking { remove: Some(doomed.clone()), owner: None };
        let mut server = ServerProcess::spawn("sleep", command, &scratch.path().join("log"), &clear).expect("starts");
        // What the system does with the pipe of a process that dies:
        let (mut shell, pipe) = server.undertaker.take().expect("it has one");
        drop(pipe);
        shell.wait().expect("the shell ends");
        server.wait_until_ended();
        assert!(!doomed.exists(), "the folder is still there");
    }

    #[test]
    fn a_shared_server_ends_with_the_process_that_it_belongs_to() {
        let scratch = Scratch::new("process-shared").expect("a scratch folder");
        let mut owner = Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let mut command = Command::new("sleep");
        command.arg("60");
        let clear = Undertaking { remove: None, owner: Some(owner.id()) };
        let mut server = ServerProcess::spawn("sleep", command, &scratch.path().join("log"), &clear).expect("starts");
        assert!(server.exit_status().is_none());
        owner.kill().expect("the owner can be killed");
        owner.wait().expect("the owner ends");
        server.wait_until_ended();
    }

    impl ServerProcess {
        fn wait_until_ended(&mut self) {
            let started = Instant::now();
            while self.exit_status().is_none() {
                assert!(started.elapsed() < Duration::from_secs(20), "the server lives on");
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }

    /// Whether a process runs; one that has ended and was not waited for yet does not.
    fn alive(id: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
    }
}
