//! One cluster for the many tests that only need some cluster.
//!
//! The first test that comes brings it up for all tests of the run, in a folder that every one of them finds; a
//! watcher takes it down when the runner is gone, however that ended. Whoever names a cluster in `FRESHET_CLUSTER`
//! lends that one: it stays up.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::LabError;
use crate::install::Cache;
use crate::scenario::sibling_binary;
use crate::servers::process::Undertaking;
use crate::servers::shared::{Shared, share};

use super::{Cluster, Extra, Site, Spec, up};

/// Ends the cluster in the folder `$2/site` with the lab program `$3` once process `$1` is gone, and removes `$2`.
const WATCHER: &str = r#"
while kill -0 "$1" 2>/dev/null; do sleep 1; done
FRESHET_CLUSTER="$2/site" "$3" cluster down && rm -rf -- "$2""#;

/// A cluster that this test shares with others: each owns its namespace, its topics and its prefix in the bucket, and
/// mends what it breaks.
#[derive(Debug)]
pub struct SharedCluster {
    _shared: Option<Shared<Cluster>>,
    cluster: Cluster,
}

impl SharedCluster {
    /// The shared cluster, brought up by whoever comes first.
    ///
    /// # Panics
    /// When it can't be brought up: no test that needs it can go on.
    #[must_use]
    pub fn get() -> &'static Cluster {
        static SHARED: OnceLock<SharedCluster> = OnceLock::new();
        let shared =
            SHARED.get_or_init(|| Self::find().unwrap_or_else(|error| panic!("the tests need a cluster: {error}")));
        &shared.cluster
    }

    /// The shared cluster, with `extras` besides what it had: they stay.
    ///
    /// # Panics
    /// When it can't be brought up so.
    #[must_use]
    pub fn with(extras: &[Extra]) -> Cluster {
        let spec = Spec { extras: extras.iter().copied().collect(), ..Spec::default() };
        let grown = up(Self::get().site(), &spec, &mut |_| {});
        grown.unwrap_or_else(|error| panic!("the tests need a cluster with {extras:?}: {error}"))
    }

    fn find() -> Result<Self, LabError> {
        if std::env::var_os("FRESHET_CLUSTER").is_some_and(|folder| !folder.is_empty()) {
            let cluster = up(&Site::from_environment()?, &Spec::default(), &mut |_| {})?;
            return Ok(Self { _shared: None, cluster });
        }
        let shared = share("cluster", start, |cluster| cluster.site().folder().display().to_string())?;
        let cluster = Cluster::at(site_in(&shared.folder)?)?;
        Ok(Self { _shared: Some(shared), cluster })
    }
}

fn site_in(folder: &Path) -> Result<Site, LabError> {
    Site::new(&folder.join("site"), Cache::from_environment())
}

fn start(folder: &Path, clear: &Undertaking) -> Result<Cluster, LabError> {
    let owner = clear.owner.unwrap_or_else(std::process::id);
    let mut watcher = Command::new("setsid");
    watcher.args(["sh", "-c", WATCHER, "watcher", &owner.to_string()]).arg(folder);
    watcher.arg(sibling_binary("freshet-lab"));
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Before there is anything to end: a start that is killed half-way is ended too.
    watcher.spawn().map_err(LabError::file("starting a watcher in", folder))?;
    up(&site_in(folder)?, &Spec::default(), &mut |_| {})
}
