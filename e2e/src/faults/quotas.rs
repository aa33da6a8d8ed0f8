//! A quota of the brokers on what one client may read: it is answered late, and never refused.

use std::process::Command;

use super::{Step, Undo};
use crate::LabError;
use crate::cluster::Cluster;
use crate::install::command::run;
use crate::install::installed_kafka;

/// Lets the client with the id `client` read so many bytes a second of the cluster's Kafka. Undone by taking the quota away.
///
/// # Errors
/// When the brokers do not take it.
pub fn throttle_reads(cluster: &Cluster, client: &str, bytes_a_second: u32) -> Result<Undo, LabError> {
    let site = cluster.site();
    let jars = installed_kafka(site.cache())?.jars;
    let configure = |change: &str, entry: &str| {
        let memory = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp"].map(str::to_owned);
        let program = [format!("{}/*", jars.display()), "kafka.admin.ConfigCommand".to_owned()];
        let server = ["--bootstrap-server".to_owned(), format!("127.0.0.1:{}", site.port("kafka")?)];
        let entity = ["--alter", "--entity-type", "clients", "--entity-name", client, change, entry].map(str::to_owned);
        Ok::<_, LabError>(memory.into_iter().chain(program).chain(server).chain(entity).collect::<Vec<_>>())
    };
    let lift = configure("--delete-config", "consumer_byte_rate")?;
    let undo = Undo::prepare(format!("{client} reads slowly"), &[Step::new(lift)])?;
    let impose = configure("--add-config", &format!("consumer_byte_rate={bytes_a_second}"))?;
    let [program, arguments @ ..] = impose.as_slice() else { return Ok(undo) };
    let (undo, ()) = undo.around(|| run(Command::new(program).args(arguments)).map(drop))?;
    Ok(undo)
}
