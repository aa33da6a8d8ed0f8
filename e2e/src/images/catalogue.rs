//! The images of the lab: which programs, which user, which entry point.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::{Image, Recipe};
use super::libraries::{Libraries, libraries_of};
use super::root::Root;
use crate::LabError;
use crate::install::{Cache, Part, install, installed_pod_programs};
use crate::scenario::sibling_binary;

/// The number of the user and of the group that images run as. Restricted pods need one that is not 0, and
/// clusters tell a number from a name.
pub const USER: u32 = 65532;

/// Where Debian and its kin keep the certificates of public authorities.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ImageName {
    /// The runtime: `localhost/freshet:dev`.
    Freshet,
    /// The runtime with crash points and planted bugs, under the same entry point: `localhost/freshet-under-test:dev`.
    FreshetUnderTest,
    /// The operator: `localhost/freshet-operator:dev`.
    FreshetOperator,
    /// What holds a pod's namespaces: `localhost/pause:dev`.
    Pause,
    /// A shell and small tools, for pods of tests: `localhost/busybox:dev`.
    Busybox,
}

impl ImageName {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pause, Self::Busybox, Self::Freshet, Self::FreshetUnderTest, Self::FreshetOperator];

    /// Its name with tag, as pods name it.
    #[must_use]
    pub const fn reference(self) -> &'static str {
        match self {
            Self::Freshet => "localhost/freshet:dev",
            Self::FreshetUnderTest => "localhost/freshet-under-test:dev",
            Self::FreshetOperator => "localhost/freshet-operator:dev",
            Self::Pause => "localhost/pause:dev",
            Self::Busybox => "localhost/busybox:dev",
        }
    }

    /// The program of this project that it is made from, beside the running one; none where it comes from elsewhere.
    #[must_use]
    pub fn program(self) -> Option<PathBuf> {
        match self {
            Self::Freshet => Some(sibling_binary("freshet")),
            Self::FreshetUnderTest => Some(sibling_binary("freshet-under-test")),
            Self::FreshetOperator => Some(sibling_binary("freshet-operator")),
            Self::Pause | Self::Busybox => None,
        }
    }
}

/// Builds the archive of an image into `folder`; skipped when it is there from the same input.
///
/// # Errors
/// When its program was not built yet, or a library of it is missing.
pub fn build(name: ImageName, folder: &Path) -> Result<Image, LabError> {
    if let Some(program) = name.program() {
        let entrypoint =
            if name == ImageName::FreshetOperator { "/usr/bin/freshet-operator" } else { "/usr/bin/freshet" };
        return build_program(name.reference(), &program, entrypoint, folder);
    }
    let cache = Cache::from_environment();
    install(&cache, &[Part::Pods])?;
    let programs = installed_pod_programs(&cache)?;
    let recipe = match name {
        ImageName::Pause => Recipe {
            root: Root::new().program("/pause", &programs.pause),
            entrypoint: vec!["/pause".to_owned()],
            ..recipe(name.reference())
        },
        _ => Recipe { root: busybox_root(&programs.busybox)?, ..recipe(name.reference()) },
    };
    recipe.build(folder)
}

/// Builds the image `reference` of one program of this machine, which runs as `entrypoint` in it: with its libraries,
/// certificates and user, and nothing else.
///
/// # Errors
/// When the program is not there, or a library of it is missing.
pub fn build_program(reference: &str, program: &Path, entrypoint: &str, folder: &Path) -> Result<Image, LabError> {
    if !program.exists() {
        return Err(LabError::MissingProgram {
            program: program.display().to_string(),
            remedy: format!("The image {reference} is made from it. Run `cargo build --workspace` first."),
        });
    }
    let mut root = base_root().program(entrypoint, program);
    if let Libraries::At(paths) = libraries_of(program)? {
        for path in paths {
            // By the path at which the program looks; the bytes are those of the file behind the links.
            let at = path.display().to_string();
            root = root.program(&at, &path);
        }
    }
    Recipe { root, entrypoint: vec![entrypoint.to_owned()], ..recipe(reference) }.build(folder)
}

fn recipe(reference: &str) -> Recipe {
    Recipe {
        reference: reference.to_owned(),
        root: Root::new(),
        user: USER,
        entrypoint: Vec::new(),
        labels: vec![("org.opencontainers.image.title".to_owned(), reference.to_owned())],
    }
}

/// What is in every image that runs a program of ours.
fn base_root() -> Root {
    let certificates = Path::new(CERTIFICATES);
    let root = Root::new()
        .text("/etc/passwd", format!("root:x:0:0::/:/none\nfreshet:x:{USER}:{USER}::/:/none\n"))
        .text("/etc/group", format!("root:x:0:\nfreshet:x:{USER}:\n"));
    // A machine without them has nothing to trust either; stores and brokers with public certificates then need a
    // certificate authority of their own in the pod.
    if certificates.exists() { root.file(CERTIFICATES, certificates) } else { root }
}

/// A shell and its tools, a temporary folder, and a page to serve.
fn busybox_root(busybox: &Path) -> Result<Root, LabError> {
    let mut list = Command::new(busybox);
    let listed = crate::install::command::run(list.arg("--list"))?;
    let root = base_root().program("/bin/busybox", busybox).folder("/tmp", 0o1777).text("/www/index.html", "ok\n");
    Ok(listed.lines().filter(|tool| *tool != "busybox").fold(root, |root, tool| {
        // Some list themselves with a folder; what pods call is on one path.
        let tool = tool.rsplit('/').next().unwrap_or(tool);
        root.link(&format!("/bin/{tool}"), "busybox")
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::servers::Scratch;

    #[test]
    fn an_image_holds_the_program_its_libraries_and_a_user_and_no_more() {
        let scratch = Scratch::new("image-program").expect("a scratch folder");
        let own = std::env::current_exe().expect("a running program has a path");
        let image = build_program("localhost/own:dev", &own, "/usr/bin/own", scratch.path()).expect("it is built");
        let mut outer = tar::Archive::new(fs::File::open(&image.archive).expect("the archive is there"));
        let mut paths = Vec::new();
        for entry in outer.entries().expect("an archive") {
            let entry = entry.expect("an entry");
            if entry.path().expect("a path").ends_with("layer.tar") {
                let mut inner = tar::Archive::new(entry);
                for entry in inner.entries().expect("a layer") {
                    let entry = entry.expect("an entry");
                    if entry.header().entry_type() == tar::EntryType::Regular {
                        paths.push(format!("/{}", entry.path().expect("a path").display()));
                    }
                }
            }
        }
        let Ok(Libraries::At(libraries)) = libraries_of(&own) else { panic!("the tests are linked dynamically") };
        let mut wanted: Vec<String> = libraries.iter().map(|path| path.display().to_string()).collect();
        wanted.extend(["/usr/bin/own", "/etc/passwd", "/etc/group"].map(str::to_owned));
        if Path::new(CERTIFICATES).exists() {
            wanted.push(CERTIFICATES.to_owned());
        }
        wanted.sort();
        paths.sort();
        assert_eq!(paths, wanted);
    }

    #[test]
    fn a_program_that_was_not_built_is_asked_for() {
        let scratch = Scratch::new("image-missing").expect("a scratch folder");
        let error = build_program("localhost/x:dev", Path::new("/nowhere/x"), "/usr/bin/x", scratch.path());
        let text = error.expect_err("it is not there").to_string();
        assert!(text.contains("/nowhere/x") && text.contains("cargo build"), "{text}");
    }
}
