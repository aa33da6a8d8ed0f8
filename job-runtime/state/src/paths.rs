//! The names of all objects of a lineage, written and read in one place.
//!
//! Numbers are padded with zeros so that listings sort by number. No name is a folder of another, which
//! some stores refuse.

use std::fmt;
use std::str::FromStr;

/// What a state object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// What one epoch changed. Its name's epoch is the one that it was written for.
    Delta,
    /// Several objects merged into one: a base, or a longer delta. Its name's epoch is the last one that
    /// may name it first (see [`crate::object`]).
    Merged,
}

/// The name of a state object: `g00000012/s0003/e000000000042-0123456789abcdef` (`m…` when merged).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The generation in which it was written.
    pub generation: u64,
    /// The slot that wrote it.
    pub slot: u32,
    /// What it is.
    pub kind: ObjectKind,
    /// The epoch that it is for, or the last that may name it first.
    pub epoch: u64,
    /// Random bits, so that two attempts at one epoch never share a name.
    pub random: u64,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ObjectKind::Delta => 'e',
            ObjectKind::Merged => 'm',
        };
        write!(f, "g{:08}/s{:04}/{kind}{:012}-{:016x}", self.generation, self.slot, self.epoch, self.random)
    }
}

/// The text is no object name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state object's name (like g00000012/s0003/e000000000042-0123456789abcdef)")]
pub struct BadObjectName(pub String);

impl FromStr for ObjectName {
    type Err = BadObjectName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(LineagePath::Object(name)) => Ok(name),
            _ => Err(BadObjectName(text.to_owned())),
        }
    }
}

/// Any object of a lineage, by its path relative to the lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LineagePath {
    /// Who owns the lineage, and the facts that never change.
    Birth,
    /// The lineage has ended.
    Ended,
    /// The start positions, resolved to numbers.
    Start,
    /// Tasks whose epoch 0 an incarnation has committed.
    Begun {
        /// The generation.
        generation: u64,
        /// The slot.
        slot: u32,
        /// The slot's incarnation.
        incarnation: u64,
    },
    /// The assignment of a generation.
    Generation(u64),
    /// "All generations before this one are fenced."
    Fenced(u64),
    /// The n-th start of a slot in a generation.
    Incarnation {
        /// The generation.
        generation: u64,
        /// The slot.
        slot: u32,
        /// Which start, from 1.
        incarnation: u64,
    },
    /// The last commit of an incarnation that stopped cleanly.
    Pointer {
        /// The generation.
        generation: u64,
        /// The slot.
        slot: u32,
        /// The slot's incarnation.
        incarnation: u64,
    },
    /// An incarnation goes on from where the slot's tasks stood: no pointer of an earlier one counts any more.
    Resumed {
        /// The generation.
        generation: u64,
        /// The slot.
        slot: u32,
        /// The slot's incarnation.
        incarnation: u64,
    },
    /// The n-th process that was started for a slot, whatever the generation.
    Process {
        /// The slot.
        slot: u32,
        /// Which one, from 1.
        rank: u64,
    },
    /// A state object.
    Object(ObjectName),
}

impl fmt::Display for LineagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Birth => f.write_str("birth"),
            Self::Ended => f.write_str("ended"),
            Self::Start => f.write_str("start"),
            Self::Begun { generation, slot, incarnation } => {
                write!(f, "{BEGUN}g{generation:08}-s{slot:04}-{incarnation:06}")
            }
            Self::Generation(generation) => write!(f, "{GENERATIONS}g{generation:08}"),
            Self::Fenced(generation) => write!(f, "{FENCED}g{generation:08}"),
            Self::Incarnation { generation, slot, incarnation } => {
                write!(f, "{}start-{incarnation:06}", slot_folder(generation, slot))
            }
            Self::Pointer { generation, slot, incarnation } => {
                write!(f, "{}pointer-{incarnation:06}", slot_folder(generation, slot))
            }
            Self::Resumed { generation, slot, incarnation } => {
                write!(f, "{}resumed-{incarnation:06}", slot_folder(generation, slot))
            }
            Self::Process { slot, rank } => write!(f, "{PROCESSES}s{slot:04}-{rank:06}"),
            Self::Object(name) => name.fmt(f),
        }
    }
}

/// The text is no path of a lineage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no object of a lineage")]
pub struct UnknownPath(pub String);

impl FromStr for LineagePath {
    type Err = UnknownPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = parse(text).filter(|path| path.to_string() == text);
        parsed.ok_or_else(|| UnknownPath(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<LineagePath> {
    if let Some(rest) = text.strip_prefix(GENERATIONS) {
        return Some(LineagePath::Generation(number(rest, "g")?));
    }
    if let Some(rest) = text.strip_prefix(FENCED) {
        return Some(LineagePath::Fenced(number(rest, "g")?));
    }
    if let Some(rest) = text.strip_prefix(BEGUN) {
        let mut parts = rest.splitn(3, '-');
        let generation = number(parts.next()?, "g")?;
        let slot = u32::try_from(number(parts.next()?, "s")?).ok()?;
        return Some(LineagePath::Begun { generation, slot, incarnation: number(parts.next()?, "")? });
    }
    if let Some(rest) = text.strip_prefix(PROCESSES) {
        let (slot, rank) = rest.split_once('-')?;
        let slot = u32::try_from(number(slot, "s")?).ok()?;
        return Some(LineagePath::Process { slot, rank: number(rank, "")? });
    }
    let mut parts = text.split('/');
    let (first, second, third, rest) = (parts.next()?, parts.next(), parts.next(), parts.next());
    match (first, second, third, rest) {
        ("birth", None, ..) => Some(LineagePath::Birth),
        ("ended", None, ..) => Some(LineagePath::Ended),
        ("start", None, ..) => Some(LineagePath::Start),
        (generation, Some(slot), Some(file), None) => {
            let generation = number(generation, "g")?;
            let slot = u32::try_from(number(slot, "s")?).ok()?;
            if let Some(n) = file.strip_prefix("start-") {
                return Some(LineagePath::Incarnation { generation, slot, incarnation: number(n, "")? });
            }
            if let Some(n) = file.strip_prefix("pointer-") {
                return Some(LineagePath::Pointer { generation, slot, incarnation: number(n, "")? });
            }
            if let Some(n) = file.strip_prefix("resumed-") {
                return Some(LineagePath::Resumed { generation, slot, incarnation: number(n, "")? });
            }
            let (epoch, random) = file.split_once('-')?;
            let (kind, letter) =
                if epoch.starts_with('m') { (ObjectKind::Merged, "m") } else { (ObjectKind::Delta, "e") };
            let random = u64::from_str_radix(random, 16).ok()?;
            Some(LineagePath::Object(ObjectName { generation, slot, kind, epoch: number(epoch, letter)?, random }))
        }
        _ => None,
    }
}

fn number(text: &str, letter: &str) -> Option<u64> {
    text.strip_prefix(letter)?.parse().ok()
}

/// Folder of generation objects, relative to the lineage.
pub const GENERATIONS: &str = "generations/";
/// Folder of fence marks, relative to the lineage.
pub const FENCED: &str = "fenced/";
/// Folder of the marks of tasks that have begun, relative to the lineage.
pub const BEGUN: &str = "begun/";
/// Folder of the numbered processes of all slots, relative to the lineage.
pub const PROCESSES: &str = "processes/";
/// Folder of the numbered lineages of a job, relative to the job.
pub const LINEAGES: &str = "lineages/";
/// Folder of objects that only try the store out, relative to the job.
pub const PROBE: &str = "probe/";

/// The folder of a slot in a generation, relative to the lineage.
#[must_use]
pub fn slot_folder(generation: u64, slot: u32) -> String {
    format!("g{generation:08}/s{slot:04}/")
}

/// The record of a job's n-th lineage, relative to the job.
#[must_use]
pub fn lineage_record(number: u64) -> String {
    format!("{LINEAGES}{number:08}")
}

/// The folder of a job, relative to the store's root: `<namespace>/<name>/`.
#[must_use]
pub fn job_root(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}/")
}

/// The folder of a lineage, relative to the store's root. Ends in `/`.
#[must_use]
pub fn lineage_prefix(job_root: &str, lineage: &str) -> String {
    format!("{job_root}{lineage}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_reads_back_and_nothing_else_does() {
        let name = |kind| ObjectName { generation: 12, slot: 3, kind, epoch: 42, random: 0x0123_4567_89ab_cdef };
        let (generation, slot, incarnation) = (12, 3, 7);
        let all = [
            (LineagePath::Birth, "birth"),
            (LineagePath::Ended, "ended"),
            (LineagePath::Start, "start"),
            (LineagePath::Begun { generation, slot, incarnation }, "begun/g00000012-s0003-000007"),
            (LineagePath::Generation(12), "generations/g00000012"),
            (LineagePath::Fenced(12), "fenced/g00000012"),
            (LineagePath::Incarnation { generation, slot, incarnation }, "g00000012/s0003/start-000007"),
            (LineagePath::Pointer { generation, slot, incarnation }, "g00000012/s0003/pointer-000007"),
            (LineagePath::Resumed { generation, slot, incarnation }, "g00000012/s0003/resumed-000007"),
            (LineagePath::Process { slot, rank: 7 }, "processes/s0003-000007"),
            (LineagePath::Object(name(ObjectKind::Delta)), "g00000012/s0003/e000000000042-0123456789abcdef"),
            (LineagePath::Object(name(ObjectKind::Merged)), "g00000012/s0003/m000000000042-0123456789abcdef"),
        ];
        for (path, text) in all {
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse::<LineagePath>(), Ok(path));
        }
        for text in ["", "birth/x", "g12/s3/e42-1", "generations/12", "g00000012/s0003/e000000000042", "probe/1", "x"] {
            assert!(text.parse::<LineagePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_beyond_the_padding_still_read_back() {
        let name =
            ObjectName { generation: u64::MAX, slot: u32::MAX, kind: ObjectKind::Delta, epoch: u64::MAX, random: 0 };
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn listings_sort_by_number() {
        let mut paths: Vec<_> = [9, 10, 100].map(|g| LineagePath::Generation(g).to_string()).to_vec();
        let sorted = paths.clone();
        paths.sort();
        assert_eq!(paths, sorted);
    }
}
