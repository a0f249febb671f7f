//! Building a data block's payload.

use super::{
    FLAG_EXPIRES, FLAG_LONG, FLAG_WIDTH_SHIFT, HEAD_LONG_BYTES, HEAD_SHORT_BYTES, RESTART_BYTES,
    TRAILER_BYTES, common_prefix, whole_key, zigzag,
};
use crate::entry::{Entry, Expiry};
use crate::ids::Version;
use crate::segment::index::head_of;

/// Entries between two restart points: a lookup decodes half as many on average, and each restart costs a whole key.
const RESTART_INTERVAL: u32 = 8;

/// Builds payloads, one after the other. The last key is kept from block to block, so that order is asserted, and the
/// prefix shared with it is known, across their borders too.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    rows: u32,
    base: u64,
    last_key: Vec<u8>,
    last_version: Version,
}

/// How an entry's key relates to the key before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relation {
    /// Leading bytes in common with the key before.
    pub shared: usize,
    /// Another version of the same row.
    pub same_key: bool,
}

impl BlockBuilder {
    /// Where `e` stands after the last entry added.
    ///
    /// # Panics
    /// When it does not sort after it.
    pub fn relation(&self, e: &Entry<'_>) -> Relation {
        let shared = common_prefix(&self.last_key, e.key);
        let ordered = match (self.last_key.get(shared), e.key.get(shared)) {
            (Some(last), Some(key)) => last < key,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => e.version < self.last_version,
        };
        assert!(ordered || self.last_version == Version::ZERO, "entries are added in storage order");
        Relation { shared, same_key: shared == e.key.len() && shared == self.last_key.len() }
    }

    /// Appends `e`, whose relation to the last entry is given.
    pub fn push(&mut self, e: &Entry<'_>, relation: Relation) {
        let shared = if self.rows.is_multiple_of(RESTART_INTERVAL) {
            self.restarts.push(u32::try_from(self.bytes.len()).expect("a block is far below 4 GiB"));
            0
        } else {
            relation.shared
        };
        if self.rows == 0 {
            self.base = e.version.0;
        }
        let suffix = &e.key[shared..];
        let (head, head_len) = encode_head(e, shared, self.base);
        self.bytes.reserve(head_len + suffix.len() + e.value.len());
        self.bytes.extend_from_slice(&head[..head_len]);
        self.bytes.extend_from_slice(suffix);
        self.bytes.extend_from_slice(e.value);
        self.rows += 1;
        self.last_version = e.version;
        if !relation.same_key {
            self.last_key.truncate(relation.shared);
            self.last_key.extend_from_slice(&e.key[relation.shared..]);
        }
    }

    /// Bytes the payload would have.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.restarts.len() * RESTART_BYTES + TRAILER_BYTES
    }

    /// Whether nothing was added since the last [`Self::clear`].
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The last key added, also in an earlier block.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// The payload. [`Self::clear`] comes next.
    pub fn finish(&mut self) -> &[u8] {
        let common = common_prefix(whole_key(&self.bytes, 0), &self.last_key);
        for restart in &self.restarts {
            self.bytes.extend_from_slice(&restart.to_le_bytes());
        }
        for &restart in &self.restarts {
            let head = head_of(&whole_key(&self.bytes, restart as usize)[common..]);
            self.bytes.extend_from_slice(&head.to_le_bytes());
        }
        let short = |n: usize| u16::try_from(n).expect("a block has few restarts, and keys are limited");
        self.bytes.extend_from_slice(&self.base.to_le_bytes());
        self.bytes.extend_from_slice(&self.rows.to_le_bytes());
        self.bytes.extend_from_slice(&short(self.restarts.len()).to_le_bytes());
        self.bytes.extend_from_slice(&short(common).to_le_bytes());
        &self.bytes
    }

    /// Begins the next block.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.restarts.clear();
        self.rows = 0;
    }
}

/// The bytes before an entry's key, and how many of them count.
fn encode_head(e: &Entry<'_>, shared: usize, base: u64) -> ([u8; HEAD_LONG_BYTES + 16], usize) {
    let mut head = [0; HEAD_LONG_BYTES + 16];
    let suffix = e.key.len() - shared;
    let delta = zigzag(e.version.0.wrapping_sub(base));
    let width = (64 - (delta | 1).leading_zeros()).div_ceil(8);
    let width_flag = u8::try_from(width - 1).expect("1 to 8") << FLAG_WIDTH_SHIFT;
    head[0] = e.kind as u8 | width_flag;
    let mut at = match (u8::try_from(shared), u8::try_from(suffix), u16::try_from(e.value.len())) {
        (Ok(shared), Ok(suffix), Ok(value)) => {
            head[1] = shared;
            head[2] = suffix;
            head[3..5].copy_from_slice(&value.to_le_bytes());
            HEAD_SHORT_BYTES
        }
        _ => {
            head[0] |= FLAG_LONG;
            let short = |n: usize| u16::try_from(n).expect("keys are limited").to_le_bytes();
            head[1..3].copy_from_slice(&short(shared));
            head[3..5].copy_from_slice(&short(suffix));
            let value = u32::try_from(e.value.len()).expect("values are limited");
            head[5..9].copy_from_slice(&value.to_le_bytes());
            HEAD_LONG_BYTES
        }
    };
    head[at..at + 8].copy_from_slice(&delta.to_le_bytes());
    at += width as usize;
    if e.expiry != Expiry::NEVER {
        head[0] |= FLAG_EXPIRES;
        head[at..at + 8].copy_from_slice(&e.expiry.0.to_le_bytes());
        at += 8;
    }
    (head, at)
}
