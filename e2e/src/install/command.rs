//! Runs other programs: quiet when they succeed, their last lines in the error when they don't.

use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::LabError;

/// Lines of output that an error carries.
const TAIL_LINES: usize = 30;

/// Runs `command` to its end and gives its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, LabError> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| LabError::MissingProgram {
        program: command.get_program().to_string_lossy().into_owned(),
        remedy: format!("It could not be started: {source}."),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(LabError::Command { command: shown, status: output.status.to_string(), output: tail(&all, TAIL_LINES) })
}

/// The last `lines` lines of `text`.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The SHA-256 of a file in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> Result<String, LabError> {
    let bytes = std::fs::read(path).map_err(LabError::file("reading", path))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether `program` is on the path.
pub(super) fn on_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_the_end_of_the_output() {
        let error = run(Command::new("sh").args(["-c", "echo first; echo last >&2; exit 3"])).expect_err("exit 3");
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("first") && text.contains("last"), "{text}");
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        let path = std::env::temp_dir().join(format!("freshet-sha-{}", std::process::id()));
        std::fs::write(&path, "abc").expect("the temporary folder can be written");
        assert_eq!(
            sha256_of(&path).expect("the file is there"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        std::fs::remove_file(&path).expect("the file can be removed");
    }
}
