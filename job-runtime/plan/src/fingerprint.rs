//! Fingerprints and ids from meaning.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The first `digits` hexadecimal digits of the SHA-256 of a value's JSON.
///
/// # Panics
/// Never for the types of this crate: all of them serialise.
pub fn short_hash<T: Serialize + ?Sized>(value: &T, digits: usize) -> String {
    let json = serde_json::to_vec(value).expect("plan types serialise");
    let mut text: String = Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

impl crate::Plan {
    /// What two plans that compute the same share: 12 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        short_hash(self, 12)
    }
}
