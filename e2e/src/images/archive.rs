//! The archive of an image, as `docker save` writes them and containerd imports them: `manifest.json`, the
//! configuration, and one layer that is not compressed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType};

use super::Root;
use super::root::header;
use crate::LabError;

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Its name with tag: `localhost/freshet:dev`.
    pub(super) reference: String,
    /// Its one layer.
    pub(super) root: Root,
    /// The numbers of its user and group.
    pub(super) user: u32,
    /// What runs; a container's `args` follow it.
    pub(super) entrypoint: Vec<String>,
    /// Labels, for whoever inspects it.
    pub(super) labels: Vec<(String, String)>,
}

/// An image in its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name with tag: `localhost/freshet:dev`.
    pub reference: String,
    /// The digest of its configuration, `sha256:…`: what Kubernetes shows as `imageID`.
    pub id: String,
    /// The archive.
    pub archive: PathBuf,
    /// Whether the archive was written just now; otherwise it was there, from the same input.
    pub fresh: bool,
}

/// A layer's digest and length, found without writing it anywhere.
struct Layer {
    digest: String,
    bytes: u64,
}

impl Recipe {
    /// Puts the image's archive into `folder`. Skipped when the one that is there comes from the same input.
    pub(super) fn build(&self, folder: &Path) -> Result<Image, LabError> {
        fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
        let mut measured = Measure::new(std::io::sink());
        self.root.write_tar(&mut measured)?;
        let layer = measured.finish();
        let config = self.config(&layer.digest).to_string();
        let id = digest_of(config.as_bytes());
        let name = self.reference.rsplit('/').next().unwrap_or_default().replace(':', "-");
        let (archive, note) = (folder.join(format!("{name}.tar")), folder.join(format!("{name}.id")));
        let image = Image { reference: self.reference.clone(), id: id.clone(), archive, fresh: true };
        if image.archive.exists() && fs::read_to_string(&note).is_ok_and(|there| there == id) {
            return Ok(Image { fresh: false, ..image });
        }
        // The note goes first and comes last: an archive beside its note is whole.
        fs::remove_file(&note).ok();
        let fresh = folder.join(format!(".{name}.{}", std::process::id()));
        self.write(&fresh, &layer, &config)?;
        fs::rename(&fresh, &image.archive).map_err(LabError::file("moving into place", &image.archive))?;
        fs::write(&note, &id).map_err(LabError::file("writing", &note))?;
        Ok(image)
    }

    fn config(&self, layer: &str) -> Value {
        let user = self.user;
        let labels: serde_json::Map<String, Value> =
            self.labels.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        json!({
            "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "config": {
                "User": format!("{user}:{user}"),
                "Env": ["PATH=/usr/bin:/bin"],
                "Entrypoint": self.entrypoint,
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created_by": "freshet-lab images"}],
        })
    }

    fn write(&self, path: &Path, layer: &Layer, config: &str) -> Result<(), LabError> {
        let failed = || LabError::file("writing", path);
        let file = File::create(path).map_err(failed())?;
        let mut outer = Builder::new(BufWriter::with_capacity(1 << 20, file));
        let config_name = format!("{}.json", digest_of(config.as_bytes()).trim_start_matches("sha256:"));
        let manifest = json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": ["layer.tar"]}]);
        for (name, text) in [("manifest.json", manifest.to_string()), (config_name.as_str(), config.to_owned())] {
            let mut head = header(EntryType::Regular, 0o644, text.len() as u64);
            outer.append_data(&mut head, name, text.as_bytes()).map_err(failed())?;
        }
        // The layer's length is known and the layer is not in memory: its bytes go straight behind its head.
        let mut head = header(EntryType::Regular, 0o644, layer.bytes);
        head.set_path("layer.tar").map_err(failed())?;
        head.set_cksum();
        outer.get_mut().write_all(head.as_bytes()).map_err(failed())?;
        let mut measured = Measure::new(outer.get_mut());
        self.root.write_tar(&mut measured)?;
        let written = measured.finish();
        if written.digest != layer.digest {
            return Err(LabError::Wrong(format!(
                "{}: a file of the image changed while it was written; run this again when the build is done",
                self.reference
            )));
        }
        let rest = (512 - layer.bytes % 512) % 512;
        outer.get_mut().write_all(&vec![0; rest as usize]).map_err(failed())?;
        outer.into_inner().and_then(|mut out| out.flush()).map_err(failed())
    }
}

/// Counts and digests what passes through.
struct Measure<W> {
    out: W,
    sum: Sha256,
    bytes: u64,
}

impl<W: Write> Measure<W> {
    fn new(out: W) -> Self {
        Self { out, sum: Sha256::new(), bytes: 0 }
    }

    fn finish(self) -> Layer {
        Layer { digest: format!("sha256:{}", hexadecimal(&self.sum.finalize())), bytes: self.bytes }
    }
}

impl<W: Write> Write for Measure<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.sum.update(&bytes[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(&Sha256::digest(bytes)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;
    use crate::servers::Scratch;

    fn recipe(program: &Path) -> Recipe {
        Recipe {
            reference: "localhost/thing:dev".to_owned(),
            root: Root::new().program("/usr/bin/thing", program).text("/etc/passwd", "thing:x:65532:65532::/:/none\n"),
            user: 65532,
            entrypoint: vec!["/usr/bin/thing".to_owned()],
            labels: vec![("about".to_owned(), "a test".to_owned())],
        }
    }

    fn files(archive: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut outer = tar::Archive::new(File::open(archive).expect("the archive is there"));
        let read = outer.entries().expect("an archive").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("it can be read");
            (entry.path().expect("a path").display().to_string(), bytes)
        });
        read.collect()
    }

    #[test]
    fn manifest_configuration_and_layer_name_each_other() {
        let scratch = Scratch::new("image-archive").expect("a scratch folder");
        let program = scratch.path().join("program");
        // Not a multiple of a block: the padding is seen too.
        fs::write(&program, vec![7; 1000]).expect("it can be written");
        let image = recipe(&program).build(&scratch.path().join("images")).expect("it is built");
        let files = files(&image.archive);
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).expect("JSON");
        assert_eq!(manifest[0]["RepoTags"], json!(["localhost/thing:dev"]));
        let config = &files[manifest[0]["Config"].as_str().expect("a name")];
        assert_eq!(image.id, digest_of(config));
        let config: Value = serde_json::from_slice(config).expect("JSON");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/thing"]));
        let layer = &files["layer.tar"];
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest_of(layer)]));
        let mut inner = tar::Archive::new(&layer[..]);
        let paths: Vec<_> = inner.entries().expect("a layer").map(|entry| entry.expect("an entry")).collect();
        assert_eq!(paths.len(), 5, "etc, its file, usr, bin, the program");
    }

    #[test]
    fn the_same_input_is_skipped_and_another_is_not() {
        let scratch = Scratch::new("image-again").expect("a scratch folder");
        let (program, images) = (scratch.path().join("program"), scratch.path().join("images"));
        fs::write(&program, "one").expect("it can be written");
        let first = recipe(&program).build(&images).expect("it is built");
        let bytes = fs::read(&first.archive).expect("the archive is there");
        assert!(first.fresh);
        // A new file of the same bytes, as a build that changed nothing leaves it.
        fs::remove_file(&program).expect("it is there");
        fs::write(&program, "one").expect("it can be written");
        let again = recipe(&program).build(&images).expect("it is there");
        assert_eq!((again.fresh, &again.id), (false, &first.id));
        let elsewhere = recipe(&program).build(&scratch.path().join("elsewhere")).expect("it is built");
        assert_eq!(fs::read(&elsewhere.archive).expect("the archive is there"), bytes, "not the same bytes");
        fs::write(&program, "two").expect("it can be written");
        let other = recipe(&program).build(&images).expect("it is built");
        assert!(other.fresh && other.id != first.id);
    }

    #[test]
    fn half_an_archive_is_made_anew() {
        let scratch = Scratch::new("image-half").expect("a scratch folder");
        let (program, images) = (scratch.path().join("program"), scratch.path().join("images"));
        fs::write(&program, "one").expect("it can be written");
        let first = recipe(&program).build(&images).expect("it is built");
        fs::remove_file(images.join("thing-dev.id")).expect("the note is there");
        fs::write(&first.archive, "half").expect("it can be written");
        assert!(recipe(&program).build(&images).expect("it is built").fresh);
        assert!(files(&first.archive).contains_key("layer.tar"));
    }
}
