//! What a memtable and a segment hold: one version of one row.
//!
//! Order: by storage key ascending, then by version descending, so that the newest version of a row comes first.

use std::cmp::Ordering;

use crate::ids::Version;

/// What an entry says of its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The row has this value.
    Put = 1,
    /// The row is gone.
    Delete = 2,
}

impl Kind {
    /// The kind of a stored byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Put),
            2 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// When a row stops being one, in milliseconds of partition time since the Unix epoch (R6). 0: never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Expiry(pub u64);

impl Expiry {
    /// Does not expire.
    pub const NEVER: Self = Self(0);

    /// Whether a row with this expiry is gone at partition time `now_ms`.
    #[must_use]
    pub const fn is_past(self, now_ms: u64) -> bool {
        self.0 != 0 && self.0 <= now_ms
    }
}

/// One version of one row, borrowed from where it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Storage key.
    pub key: &'a [u8],
    /// The write that made it.
    pub version: Version,
    /// Put or delete.
    pub kind: Kind,
    /// Only puts expire.
    pub expiry: Expiry,
    /// Empty for deletes.
    pub value: &'a [u8],
}

impl Entry<'_> {
    /// Storage order: key ascending, version descending.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        order((self.key, self.version), (other.key, other.version))
    }
}

/// Storage order of two (key, version) pairs.
#[must_use]
pub fn order(a: (&[u8], Version), b: (&[u8], Version)) -> Ordering {
    a.0.cmp(b.0).then_with(|| b.1.cmp(&a.1))
}

/// A range tombstone: every row in `start..end` with a version below `version` is gone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RangeTombstone {
    /// First storage key covered.
    pub start: Vec<u8>,
    /// First storage key not covered.
    pub end: Vec<u8>,
    /// The delete's version.
    pub version: Version,
}
