//! Kinds of rows: what a row of an updating result says about the one before it.
//!
//! ```text
//! +I  a row is new                      −U  the row before a change, which is no more
//! −D  a row is gone                     +U  the row after it
//! ```
//! Rows without kinds are all +I. A −U stands directly before the +U that replaces it, in one batch of rows, unless a
//! filter between has dropped one of the two: then −U is a deletion, and +U an insertion.

use arrow::array::UInt8Array;

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    /// +I
    Insert = 0,
    /// −U
    UpdateBefore = 1,
    /// +U
    UpdateAfter = 2,
    /// −D
    Delete = 3,
}

impl RowKind {
    /// The kind of `row`; rows without kinds are new ones.
    #[must_use]
    pub fn of(kinds: Option<&UInt8Array>, row: usize) -> Self {
        match kinds.map(|kinds| kinds.value(row)) {
            None | Some(0) => Self::Insert,
            Some(1) => Self::UpdateBefore,
            Some(2) => Self::UpdateAfter,
            Some(_) => Self::Delete,
        }
    }

    /// As people and programs read it: `+I`, `-U`, `+U`, `-D`.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// Whether the row is no more.
    #[must_use]
    pub const fn is_retraction(self) -> bool {
        matches!(self, Self::UpdateBefore | Self::Delete)
    }
}
