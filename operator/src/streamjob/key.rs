//! Pure but for reading a file once: the operator's key, and the control tokens of jobs.
//!
//! A token is HMAC-SHA-256(key, UID of the StreamJob), in hexadecimal. The operator computes it whenever it needs
//! it and never reads a Secret back; a job that is deleted and made again has another UID, and so another token.

use std::fmt;
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Fewer bytes could be guessed.
const FEWEST_BYTES: usize = 32;

/// The operator's key. It never appears in a text.
#[derive(Clone)]
pub struct ControlKey(Vec<u8>);

/// Why the key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("the control key {} can't be read: {source}; --control-key-file names a file of 32 random bytes or more", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The key is too short to keep anybody out.
    #[error("the control key {} has {bytes} bytes, fewer than {FEWEST_BYTES}: anybody could guess it", file.display())]
    Short {
        /// Which file.
        file: PathBuf,
        /// How many bytes there are.
        bytes: usize,
    },
}

impl ControlKey {
    /// The key in `file`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        let key = std::fs::read(file).map_err(|source| KeyError::Read { file: file.to_owned(), source })?;
        if key.len() < FEWEST_BYTES {
            return Err(KeyError::Short { file: file.to_owned(), bytes: key.len() });
        }
        Ok(Self(key))
    }

    /// The control token of the StreamJob with this UID: 64 hexadecimal digits.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    #[must_use]
    pub fn token(&self, uid: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(uid.as_bytes());
        super::names::hex(&mac.finalize().into_bytes())
    }
}

impl fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_hangs_on_key_and_uid_and_is_never_the_key() {
        let (one, other) = (ControlKey(vec![1; 32]), ControlKey(vec![2; 32]));
        // RFC 4231's construction with these inputs, computed with OpenSSL:
        // printf uid-1 | openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf '01%.0s' {1..32})
        assert_eq!(one.token("uid-1"), "f4f92dbe055bbdc3172e8ead99b4167f3047a372e21fd60e792962108607a175");
        assert_ne!(one.token("uid-1"), one.token("uid-2"));
        assert_ne!(one.token("uid-1"), other.token("uid-1"));
        assert_eq!(format!("{one:?}"), "ControlKey(…)");
    }
}
