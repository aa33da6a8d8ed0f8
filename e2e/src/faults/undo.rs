//! What undoes a fault, whatever happens to the test.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::LabError;

/// How long undoing may take; a broker that must start again is the slowest.
const DEADLINE: Duration = Duration::from_secs(180);

/// One command of the undoing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    words: Vec<String>,
    lenient: bool,
}

impl Step {
    /// A command that must succeed.
    pub fn new(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), lenient: false }
    }

    /// A command that may fail: what it undoes may be gone by itself, as the rules of a pod that is no more.
    pub fn lenient(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { lenient: true, ..Self::new(words) }
    }

    /// The command as a line of a shell script.
    fn line(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        let line = words.join(" ");
        if self.lenient { format!("{line} 2>/dev/null || true") } else { format!("{line} || failed=1") }
    }
}

/// Undoes a fault when it is told to, when it is dropped, and when the process that holds it is killed.
#[derive(Debug)]
#[must_use = "a fault is undone as soon as this is dropped"]
pub struct Undo {
    what: String,
    shell: Option<(Child, ChildStdin)>,
}

impl Undo {
    /// Makes the undoing ready, before the fault is done: `what` says what will be put right, `steps` do it.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn prepare(what: impl Into<String>, steps: &[Step]) -> Result<Self, LabError> {
        let lines: Vec<String> = steps.iter().map(Step::line).collect();
        let script = format!(
            "trap '' TERM INT HUP\necho ready\nexec >/dev/null\nread -r word\n[ \"$word\" = forget ] && exit 0\nfailed=0\n{}\nexit $failed",
            lines.join("\n")
        );
        let missing = |why: &dyn std::fmt::Display| LabError::MissingProgram {
            program: "sh".to_owned(),
            remedy: why.to_string(),
        };
        let mut shell = Command::new("sh");
        // A group of its own: what ends the test's group must not end the undoing.
        shell
            .args(["-c", &script])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = shell.spawn().map_err(|source| missing(&source))?;
        let pipe = child.stdin.take().ok_or_else(|| missing(&"it has no standard input"))?;
        // From here on no signal can keep it from its work.
        let mut ready = [0; 6];
        let heard = child.stdout.as_mut().map(|output| output.read_exact(&mut ready));
        match heard {
            Some(Ok(())) => Ok(Self { what: what.into(), shell: Some((child, pipe)) }),
            _ => Err(missing(&"it did not start")),
        }
    }

    /// Undoes it now.
    ///
    /// # Errors
    /// When a command of the undoing failed, with what it said.
    pub fn now(mut self) -> Result<(), LabError> {
        self.finish()
    }

    /// Does nothing after all: the fault was not done, or is gone by itself.
    pub fn forget(mut self) {
        if let Some((mut child, mut pipe)) = self.shell.take() {
            pipe.write_all(b"forget\n").ok();
            drop(pipe);
            child.wait().ok();
        }
    }

    /// Does the fault by `work`, and forgets the undoing if that failed.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn around<T>(self, work: impl FnOnce() -> Result<T, LabError>) -> Result<(Self, T), LabError> {
        match work() {
            Ok(done) => Ok((self, done)),
            Err(error) => {
                // Half of it may be done: undoing is harmless where nothing was done, but its complaints are not news.
                let mut undo = self;
                undo.finish().ok();
                Err(error)
            }
        }
    }

    fn finish(&mut self) -> Result<(), LabError> {
        let Some((mut child, pipe)) = self.shell.take() else { return Ok(()) };
        drop(pipe);
        let began = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() < DEADLINE => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    return Err(LabError::Wrong(format!("waited {DEADLINE:?} for this to be undone: {}", self.what)));
                }
                Err(source) => return Err(LabError::file("waiting for the shell that undoes", &self.what)(source)),
            }
        };
        let mut said = String::new();
        if let Some(errors) = &mut child.stderr {
            errors.read_to_string(&mut said).ok();
        }
        if status.success() {
            return Ok(());
        }
        Err(LabError::Command { command: format!("undo: {}", self.what), status: status.to_string(), output: said })
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            eprintln!("a fault could not be undone: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::servers::Scratch;

    fn writes(path: &Path) -> Step {
        Step::new(["touch", &path.display().to_string()])
    }

    #[test]
    fn it_undoes_when_told_and_when_dropped_and_not_when_forgotten() {
        let scratch = Scratch::new("undo it's").expect("a scratch folder");
        let [told, dropped, forgotten] = ["told", "dropped", "forgotten"].map(|name| scratch.path().join(name));
        let undo = Undo::prepare("told", &[writes(&told)]).expect("a shell");
        assert!(!told.exists(), "undone at once");
        undo.now().expect("it succeeds");
        assert!(told.exists());
        drop(Undo::prepare("dropped", &[writes(&dropped)]).expect("a shell"));
        assert!(dropped.exists());
        Undo::prepare("forgotten", &[writes(&forgotten)]).expect("a shell").forget();
        assert!(!forgotten.exists());
    }

    #[test]
    fn it_undoes_when_the_test_panics() {
        let scratch = Scratch::new("undo-panic").expect("a scratch folder");
        let undone = scratch.path().join("undone");
        let path = undone.clone();
        let thread = std::thread::spawn(move || {
            let _undo = Undo::prepare("panics", &[writes(&path)]).expect("a shell");
            panic!("as a test that fails");
        });
        thread.join().expect_err("it panicked");
        assert!(undone.exists());
    }

    #[test]
    fn it_undoes_when_its_process_is_killed() {
        let scratch = Scratch::new("undo-killed").expect("a scratch folder");
        let undone = scratch.path().join("undone");
        let mut undo = Undo::prepare("killed", &[writes(&undone)]).expect("a shell");
        // What the system does with the pipe of a process that dies, after the group got its signal:
        let (mut child, pipe) = undo.shell.take().expect("it has one");
        let group = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &group]).status().expect("kill runs").success());
        drop(pipe);
        child.wait().expect("the shell ends");
        assert!(undone.exists());
    }

    #[test]
    fn a_failed_step_does_not_hide_the_next_and_is_told() {
        let scratch = Scratch::new("undo-fails").expect("a scratch folder");
        let undone = scratch.path().join("undone");
        let steps = [Step::lenient(["false"]), Step::new(["ls", "/nowhere"]), writes(&undone)];
        let error = Undo::prepare("fails", &steps).expect("a shell").now().expect_err("ls fails").to_string();
        assert!(undone.exists() && error.contains("undo: fails") && error.contains("/nowhere"), "{error}");
        Undo::prepare("lenient", &steps[..1]).expect("a shell").now().expect("it may fail");
    }

    #[test]
    fn a_fault_that_failed_half_way_is_undone() {
        let scratch = Scratch::new("undo-half").expect("a scratch folder");
        let undone = scratch.path().join("undone");
        let undo = Undo::prepare("half", &[writes(&undone)]).expect("a shell");
        let failed = undo.around(|| Err::<(), _>(LabError::Wrong("half-way".to_owned())));
        assert!(failed.is_err() && undone.exists());
    }
}
