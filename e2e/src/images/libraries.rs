//! The shared libraries that a program needs: what `ldd` says, read by a pure function.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;

/// What a program needs beside itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Libraries {
    /// Nothing: it is linked statically.
    None,
    /// The loader and these libraries, by the paths at which it looks for them.
    At(Vec<PathBuf>),
}

/// Asks the dynamic loader what `program` needs. Only for programs that one would run: the loader starts them.
///
/// # Errors
/// When it is no program, or a library that it needs is not installed.
pub fn libraries_of(program: &Path) -> Result<Libraries, LabError> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C");
    let said = ldd.output().map_err(|source| LabError::MissingProgram {
        program: "ldd".to_owned(),
        remedy: format!("Images are made with it, on Linux with glibc: {source}."),
    })?;
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    read(&text).map_err(|why| LabError::Wrong(format!("the libraries of {}: {why}", program.display())))
}

/// Reads what `ldd` said.
fn read(said: &str) -> Result<Libraries, String> {
    let mut found = Vec::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.ends_with("statically linked") || line.ends_with("not a dynamic executable") {
            return Ok(Libraries::None);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // The kernel's own page, which is in no file.
            [name, address] if name.starts_with("linux-") && address.starts_with('(') => {}
            [name, "=>", "not", "found"] => return Err(format!("{name} is not installed")),
            [_, "=>", path, _] | [path, _] if path.starts_with('/') => found.push(PathBuf::from(path)),
            _ => return Err(format!("`ldd` said `{line}`")),
        }
    }
    if found.is_empty() { Err("`ldd` said nothing".to_owned()) } else { Ok(Libraries::At(found)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_every_library_are_found() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x00007f)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths =
            ["/lib/x86_64-linux-gnu/libssl.so.3", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(read(said), Ok(Libraries::At(paths.iter().map(PathBuf::from).collect())));
    }

    #[test]
    fn static_programs_need_nothing() {
        assert_eq!(read("\tnot a dynamic executable\n"), Ok(Libraries::None));
        assert_eq!(read("\tstatically linked\n"), Ok(Libraries::None));
    }

    #[test]
    fn a_missing_library_is_named() {
        let said = "\tlibssl.so.3 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n";
        assert_eq!(read(said), Err("libssl.so.3 is not installed".to_owned()));
        assert!(read("ldd: ./x: No such file or directory\n").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn this_very_program_needs_the_c_library() {
        let own = std::env::current_exe().expect("a running program has a path");
        let Ok(Libraries::At(paths)) = libraries_of(&own) else { panic!("the tests are linked dynamically") };
        assert!(paths.iter().any(|path| path.ends_with("libc.so.6")), "{paths:?}");
        assert!(paths.iter().all(|path| path.exists()), "{paths:?}");
    }
}
