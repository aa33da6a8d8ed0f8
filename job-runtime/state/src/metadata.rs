//! What is committed beside an offset: the link from Kafka's transaction to the state in the store.
//!
//! `v1|<generation>|<epoch>|<slot>|<object>`: short, since a broker takes at most 4096 bytes and keeps it
//! in memory for each partition.

use std::fmt;
use std::str::FromStr;

use crate::paths::ObjectName;

/// The metadata of a committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitMetadata {
    /// The generation that committed.
    pub generation: u64,
    /// The slot's epoch: grows with each commit of a slot in a generation.
    pub epoch: u64,
    /// The slot that committed.
    pub slot: u32,
    /// The state object that holds the task's manifest, relative to the lineage; `None` while the task has
    /// no state.
    pub object: Option<String>,
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object.as_deref().unwrap_or_default();
        write!(f, "v1|{}|{}|{}|{object}", self.generation, self.epoch, self.slot)
    }
}

/// The metadata of a committed offset was not written by this kind of runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the committed offset's metadata {text:?} can't be read: {what}; wanted v1|generation|epoch|slot|object")]
pub struct BadMetadata {
    /// The metadata.
    pub text: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl FromStr for CommitMetadata {
    type Err = BadMetadata;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |what| BadMetadata { text: text.to_owned(), what };
        if text.is_empty() {
            return Err(bad("it is empty: another kind of consumer committed this offset"));
        }
        let mut parts = text.split('|');
        let mut next = |what| parts.next().ok_or_else(|| bad(what));
        if next("it has no version")? != "v1" {
            return Err(bad(
                "its version is not v1: a newer runtime or another kind of consumer committed this offset",
            ));
        }
        let generation = next("it has no generation")?.parse().map_err(|_| bad("its generation is no number"))?;
        let epoch = next("it has no epoch")?.parse().map_err(|_| bad("its epoch is no number"))?;
        let slot = next("it has no slot")?.parse().map_err(|_| bad("its slot is no number"))?;
        let object = next("it has no object")?;
        if parts.next().is_some() {
            return Err(bad("it has more than five parts"));
        }
        if !object.is_empty() && object.parse::<ObjectName>().is_err() {
            return Err(bad("its object is no state object's name"));
        }
        let object = (!object.is_empty()).then(|| object.to_owned());
        Ok(Self { generation, epoch, slot, object })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::ObjectKind;

    #[test]
    fn it_reads_back_what_it_wrote_and_stays_small() {
        let longest = ObjectName {
            generation: u64::MAX,
            slot: u32::MAX,
            kind: ObjectKind::Delta,
            epoch: u64::MAX,
            random: u64::MAX,
        };
        for object in [None, Some(longest.to_string())] {
            let metadata = CommitMetadata { generation: u64::MAX, epoch: u64::MAX, slot: u32::MAX, object };
            let text = metadata.to_string();
            assert!(text.len() < 256, "{} bytes", text.len());
            assert_eq!(text.parse(), Ok(metadata));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("", "empty"),
            ("v2|1|2|3|", "version"),
            ("v1|x|2|3|", "generation"),
            ("v1|1|-2|3|", "epoch"),
            ("v1|1|2", "no slot"),
            ("v1|1|2|3", "no object"),
            ("v1|1|2|3|somewhere", "state object"),
            ("v1|1|2|3||", "more than five"),
        ] {
            let error = text.parse::<CommitMetadata>().expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
