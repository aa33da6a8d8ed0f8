//! Small records (generations, births, pointers…): JSON that a person can read, sealed with a checksum.
//!
//! ```text
//! {"freshet":"generation","version":1,"body":{…}}
//! crc32c:8d2f0a11
//! ```

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::StateError;
use crate::store::Store;

const SEAL: &str = "\ncrc32c:";

/// A kind of record that is stored under a seal.
pub(crate) trait Sealed: Serialize + DeserializeOwned {
    /// What the record is, as it is written into it.
    const KIND: &'static str;
    /// The newest version of its format that this runtime reads, and the one that it writes. What is new in a version
    /// has a default for older ones.
    const VERSION: u32 = 1;
}

#[derive(Serialize)]
struct Written<'a, T> {
    freshet: &'a str,
    version: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Envelope {
    freshet: String,
    version: u32,
}

#[derive(Deserialize)]
struct Body<T> {
    body: T,
}

/// The record as it is stored.
pub(crate) fn seal<T: Sealed>(record: &T) -> Bytes {
    let written = Written { freshet: T::KIND, version: T::VERSION, body: record };
    let mut text = serde_json::to_string(&written).expect("records are plain data with string keys");
    let checksum = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("{SEAL}{checksum:08x}\n"));
    text.into()
}

/// The record in `bytes`, which were read from `path`.
pub(crate) fn unseal<T: Sealed>(path: &str, bytes: &[u8]) -> Result<T, StateError> {
    let corrupt = |at: usize, what: String| StateError::Corrupt { path: path.to_owned(), what, at: at as u64 };
    let seal_at = bytes.len().checked_sub(SEAL.len() + 9).filter(|at| bytes[*at..].starts_with(SEAL.as_bytes()));
    let seal_at = seal_at.ok_or_else(|| corrupt(bytes.len(), "it has no seal: it is cut short".to_owned()))?;
    let (text, seal) = bytes.split_at(seal_at);
    let wanted = format!("{SEAL}{:08x}\n", crc32c::crc32c(text));
    if seal != wanted.as_bytes() {
        return Err(corrupt(seal_at, "its checksum is not that of its text".to_owned()));
    }
    let parse_error = |e: serde_json::Error| corrupt(e.column().saturating_sub(1), e.to_string());
    let envelope: Envelope = serde_json::from_slice(text).map_err(parse_error)?;
    if envelope.freshet != T::KIND {
        let (found, wanted) = (envelope.freshet, T::KIND.to_owned());
        return Err(StateError::Foreign { path: path.to_owned(), field: "kind", found, wanted });
    }
    if envelope.version > T::VERSION {
        return Err(StateError::Newer { path: path.to_owned(), found: envelope.version, known: T::VERSION });
    }
    let body: Body<T> = serde_json::from_slice(text).map_err(parse_error)?;
    Ok(body.body)
}

/// The record at `path`, if there is one.
pub(crate) async fn read<T: Sealed>(store: &dyn Store, path: &str) -> Result<Option<T>, StateError> {
    match store.get(path).await? {
        Some(bytes) => unseal(path, &bytes).map(Some),
        None => Ok(None),
    }
}

/// Writes `record` at `path` if there is none, and gives back the one that is stored.
pub(crate) async fn create_or_read<T: Sealed>(store: &dyn Store, path: &str, record: T) -> Result<T, StateError> {
    use crate::store::Created;
    match store.create(path, seal(&record)).await? {
        Created::New => Ok(record),
        Created::Existed => read(store, path).await?.ok_or_else(|| StateError::Missing {
            path: path.to_owned(),
            named_by: "the store, which refused to create it because it exists,".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
        at_ms: i64,
    }

    impl Sealed for Note {
        const KIND: &'static str = "note";
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Other {
        text: String,
    }

    impl Sealed for Other {
        const KIND: &'static str = "other";
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_seen() {
        let note = Note { text: "überall\n".to_owned(), at_ms: i64::MIN };
        let whole = seal(&note);
        assert_eq!(unseal::<Note>("p", &whole), Ok(note));
        for at in 0..whole.len() {
            assert!(unseal::<Note>("p", &whole[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut damaged = whole.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(unseal::<Note>("p", &damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn another_kind_and_a_newer_version_are_named() {
        let note = seal(&Note { text: String::new(), at_ms: 0 });
        let error = unseal::<Other>("p", &note).expect_err("another kind").to_string();
        assert!(error.contains("kind note, wanted other"), "{error}");
        let text = "{\"freshet\":\"note\",\"version\":2}";
        let newer = format!("{text}{SEAL}{:08x}\n", crc32c::crc32c(text.as_bytes()));
        assert!(matches!(unseal::<Note>("p", newer.as_bytes()), Err(StateError::Newer { found: 2, .. })));
    }
}
