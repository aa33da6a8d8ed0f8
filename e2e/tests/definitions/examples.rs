//! Every example is taken, by the strictest reading.

use std::path::{Path, PathBuf};

use freshet_e2e::scenario::cluster::{Manifest, Verdict};

use crate::api_server;

#[test]
fn every_example_is_accepted() {
    let kubernetes = api_server();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")) {
        for manifest in Manifest::split(&std::fs::read_to_string(&file).unwrap()) {
            if !manifest.api_version.starts_with("freshet.dev/") {
                continue;
            }
            seen += 1;
            let verdict = kubernetes.judge(&manifest).unwrap();
            if !matches!(verdict, Verdict::Accepted) {
                wrong.push(format!("{}: {}", file.display(), verdict.said()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 5, "only {seen} manifests were found");
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files
}
