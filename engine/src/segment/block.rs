//! A data block's payload: entries in storage order, prefix-compressed, with restart points.
//!
//! Knows nothing of files, checksums or compression ([`super::frame`]). `engine/FORMAT.md`, "Segment", owns the layout.
//!
//! Invariants:
//! - a [`Block`] was walked once by [`Block::parse`]: every length in it stays inside it, so that reading it
//!   afterwards cannot fail; only the order of its keys is taken on trust (`verify` checks it);
//! - an entry at a restart point stores its whole key; its *head*, the first eight bytes after the prefix common to all
//!   keys of the block, stands beside the others at the block's end, so that a lookup finds its restart point there
//!   without a walk through the entries' cache lines.

mod builder;

use std::fmt;
use std::rc::Rc;

pub use builder::{BlockBuilder, Relation};

use super::index::head_of;
use crate::entry::{Entry, Expiry, Kind};
use crate::ids::Version;
use crate::limits::{STORAGE_KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A restart point's offset (4) and the head of its key (8), which lie apart from each other.
const RESTART_BYTES: usize = 12;
/// Version base (8), entry count (4), restart count (2), length of the keys' common prefix (2). At least this much follows every entry, so that the
/// eight-byte loads of an entry's head stay inside the payload.
const TRAILER_BYTES: usize = 16;
/// Flags, shared and suffix length in one byte each, value length in two.
const HEAD_SHORT_BYTES: usize = 5;
/// Flags, shared and suffix length in two bytes each, value length in four.
const HEAD_LONG_BYTES: usize = 9;
const FLAG_KIND: u8 = 0b11;
const FLAG_EXPIRES: u8 = 1 << 2;
const FLAG_LONG: u8 = 1 << 3;
const FLAG_WIDTH_SHIFT: u8 = 4;
const FLAG_RESERVED: u8 = 1 << 7;

/// A checked payload, shared by the cache and its readers.
#[derive(Clone)]
pub struct Block(Rc<[u8]>);

/// An entry's place in a block: everything but its key's shared part.
#[derive(Clone, Copy, Debug)]
struct Slot {
    flags: u8,
    shared: usize,
    /// Where the version delta begins.
    version_at: usize,
    suffix_at: usize,
    value_at: usize,
    /// Where the next entry begins.
    end: usize,
}

/// The first entry at or after a sought (key, version).
#[derive(Clone, Copy, Debug)]
pub struct Position {
    at: usize,
    /// It has the sought key.
    pub same_key: bool,
}

/// A row's version found in a block, with its value where it lies.
#[derive(Clone)]
pub struct Found {
    block: Block,
    value_at: u32,
    value_end: u32,
    /// The write that made it.
    pub version: Version,
    /// Put or delete.
    pub kind: Kind,
    /// Only puts expire.
    pub expiry: Expiry,
}

impl Found {
    /// The value; empty for deletes.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.block.0[self.value_at as usize..self.value_end as usize]
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("expiry", &self.expiry)
            .field("value_bytes", &self.value().len())
            .finish()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} entries, {} bytes)", self.rows(), self.0.len())
    }
}

impl Block {
    /// Takes a payload after walking all of it once.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(payload: &[u8]) -> Result<Self, &'static str> {
        check(payload)?;
        Ok(Self(Rc::from(payload)))
    }

    /// Its entries.
    #[must_use]
    pub fn rows(&self) -> u32 {
        u32_at(&self.0, self.0.len() - 8)
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len() + 2 * size_of::<usize>()
    }

    fn restart_count(&self) -> usize {
        usize::from(u16_at(&self.0, self.0.len() - 4))
    }

    fn base(&self) -> u64 {
        u64_at(&self.0, self.0.len() - TRAILER_BYTES)
    }

    /// Where the entries end and the restart points begin.
    fn entries_end(&self) -> usize {
        self.0.len() - TRAILER_BYTES - RESTART_BYTES * self.restart_count()
    }

    fn restart(&self, entries_end: usize, n: usize) -> usize {
        u32_at(&self.0, entries_end + 4 * n) as usize
    }

    /// The entry at `position`.
    pub fn get(&self, position: Position) -> Found {
        let slot = slot(&self.0, position.at);
        let offset = |n: usize| u32::try_from(n).expect("a block is far below 4 GiB");
        Found {
            value_at: offset(slot.value_at),
            value_end: offset(slot.end),
            version: slot.version(&self.0, self.base()),
            kind: slot.kind(),
            expiry: slot.expiry(&self.0),
            block: self.clone(),
        }
    }

    /// The first entry at or after (`key`, `at`) in storage order; `None` when all entries come before it.
    pub fn seek(&self, key: &[u8], at: Version) -> Option<Position> {
        let bytes: &[u8] = &self.0;
        let restart_count = self.restart_count();
        let entries_end = bytes.len() - TRAILER_BYTES - RESTART_BYTES * restart_count;
        let prefix = &whole_key(bytes, 0)[..usize::from(u16_at(bytes, bytes.len() - 2))];
        let common = common_prefix(prefix, key);
        if common < prefix.len() {
            // All of the block is on one side of the key.
            let before = key.get(common).is_some_and(|&b| b > prefix[common]);
            return if before { None } else { Some(Position { at: 0, same_key: false }) };
        }
        let (rest, heads_at) = (&key[common..], entries_end + 4 * restart_count);
        let head = head_of(rest);
        let (mut low, mut high) = (0, restart_count);
        while low < high {
            let middle = low.midpoint(high);
            let its_head = u64_at(bytes, heads_at + 8 * middle);
            let below = its_head < head
                || its_head == head && &whole_key(bytes, self.restart(entries_end, middle))[common..] < rest;
            if below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // From the last restart point below the key. `matched`: bytes the entry before has in common with the key.
        let mut at_offset = self.restart(entries_end, low.saturating_sub(1));
        let next_restart =
            if low == 0 || low == restart_count { usize::MAX } else { self.restart(entries_end, low) };
        let mut matched = 0;
        while at_offset < entries_end {
            if at_offset >= next_restart {
                // At or past the first restart point that is not below the key: whole keys again.
                return self.seek_versions(key, at, at_offset, entries_end);
            }
            let slot = slot(bytes, at_offset);
            if slot.shared < matched {
                return Some(Position { at: at_offset, same_key: false });
            }
            if slot.shared == matched {
                let suffix = &bytes[slot.suffix_at..slot.value_at];
                let wanted = &key[matched..];
                let common = common_prefix(suffix, wanted);
                matched += common;
                match (suffix.get(common), wanted.get(common)) {
                    (None, None) => return self.seek_versions(key, at, at_offset, entries_end),
                    (Some(_), None) => return Some(Position { at: at_offset, same_key: false }),
                    (Some(has), Some(wants)) if has > wants => {
                        return Some(Position { at: at_offset, same_key: false });
                    }
                    (Some(_), Some(_)) | (None, Some(_)) => {}
                }
            }
            at_offset = slot.end;
        }
        None
    }

    /// As [`Self::seek`], from an entry that is the first not below `key`.
    fn seek_versions(&self, key: &[u8], at: Version, from: usize, entries_end: usize) -> Option<Position> {
        let bytes: &[u8] = &self.0;
        let base = self.base();
        let mut at_offset = from;
        let mut first = true;
        while at_offset < entries_end {
            let slot = slot(bytes, at_offset);
            let suffix = &bytes[slot.suffix_at..slot.value_at];
            // The first one's shared part, if any, was matched on the way here; a restart point has it all.
            let same_key = if first || slot.shared == 0 {
                key.len() == slot.shared + suffix.len() && key[slot.shared..] == *suffix
            } else {
                slot.shared == key.len() && suffix.is_empty()
            };
            if !same_key || slot.version(bytes, base) <= at {
                return Some(Position { at: at_offset, same_key });
            }
            first = false;
            at_offset = slot.end;
        }
        None
    }
}

/// Walks a block's entries forward, with the key of the current one spelled out.
#[derive(Debug)]
pub struct BlockCursor {
    block: Block,
    entries_end: usize,
    base: u64,
    key: Vec<u8>,
    at: usize,
    slot: Slot,
}

impl BlockCursor {
    /// At the first entry. `key` is memory to use for keys.
    pub fn first(block: Block, key: Vec<u8>) -> Self {
        Self::at(block, key, 0, &[])
    }

    /// At `position`, found by seeking `sought` in this block.
    pub fn at_position(block: Block, key: Vec<u8>, position: Position, sought: &[u8]) -> Self {
        Self::at(block, key, position.at, sought)
    }

    fn at(block: Block, mut key: Vec<u8>, at: usize, sought: &[u8]) -> Self {
        let slot = slot(&block.0, at);
        key.clear();
        key.extend_from_slice(&sought[..slot.shared]);
        key.extend_from_slice(&block.0[slot.suffix_at..slot.value_at]);
        Self { entries_end: block.entries_end(), base: block.base(), key, at, slot, block }
    }

    /// Moves to the next entry; false, and no further, at the end.
    #[inline]
    pub fn advance(&mut self) -> bool {
        self.at = self.slot.end;
        if self.at >= self.entries_end {
            return false;
        }
        self.slot = slot(&self.block.0, self.at);
        self.key.truncate(self.slot.shared);
        self.key.extend_from_slice(&self.block.0[self.slot.suffix_at..self.slot.value_at]);
        true
    }

    /// The current entry. Only while the last [`Self::advance`] was true.
    #[inline]
    pub fn entry(&self) -> Entry<'_> {
        let bytes: &[u8] = &self.block.0;
        Entry {
            key: &self.key,
            version: self.slot.version(bytes, self.base),
            kind: self.slot.kind(),
            expiry: self.slot.expiry(bytes),
            value: &bytes[self.slot.value_at..self.slot.end],
        }
    }

    /// The last entry, once [`Self::advance`] was false.
    #[cfg(test)]
    pub(crate) fn entry_before_end(&self) -> Entry<'_> {
        self.entry()
    }

    /// The memory for keys, to be used for the next block.
    pub fn into_key(self) -> Vec<u8> {
        self.key
    }
}

impl Slot {
    fn kind(&self) -> Kind {
        if self.flags & FLAG_KIND == Kind::Delete as u8 { Kind::Delete } else { Kind::Put }
    }

    fn version(&self, bytes: &[u8], base: u64) -> Version {
        let width = u32::from(self.flags >> FLAG_WIDTH_SHIFT & 0b111) + 1;
        let delta = u64_at(bytes, self.version_at) & u64::MAX >> (64 - 8 * width);
        Version(base.wrapping_add(unzigzag(delta)))
    }

    fn expiry(&self, bytes: &[u8]) -> Expiry {
        if self.flags & FLAG_EXPIRES == 0 {
            return Expiry::NEVER;
        }
        Expiry(u64_at(bytes, self.suffix_at - 8))
    }
}

/// The entry at `at`. Whether it lies inside the payload is for the caller to check or to know.
#[inline]
fn slot(bytes: &[u8], at: usize) -> Slot {
    let head = u64_at(bytes, at).to_le_bytes();
    let flags = head[0];
    let width = usize::from(flags >> FLAG_WIDTH_SHIFT & 0b111) + 1;
    let expiry = if flags & FLAG_EXPIRES == 0 { 0 } else { 8 };
    let (version_at, shared, suffix, value) = if flags & FLAG_LONG == 0 {
        let value = usize::from(u16::from_le_bytes([head[3], head[4]]));
        (at + HEAD_SHORT_BYTES, usize::from(head[1]), usize::from(head[2]), value)
    } else {
        let shared = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let suffix = usize::from(u16::from_le_bytes([head[3], head[4]]));
        (at + HEAD_LONG_BYTES, shared, suffix, u32_at(bytes, at + HEAD_SHORT_BYTES) as usize)
    };
    let suffix_at = version_at + width + expiry;
    let value_at = suffix_at + suffix;
    Slot { flags, shared, version_at, suffix_at, value_at, end: value_at + value }
}

/// The key of an entry at a restart point.
#[inline]
fn whole_key(bytes: &[u8], at: usize) -> &[u8] {
    let slot = slot(bytes, at);
    &bytes[slot.suffix_at..slot.value_at]
}

/// Walks a payload; afterwards no length in it can lead outside it.
fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let trailer_at = bytes.len().checked_sub(TRAILER_BYTES).ok_or("block shorter than its trailer")?;
    let rows = u32_at(bytes, trailer_at + 8);
    let restart_count = usize::from(u16_at(bytes, trailer_at + 12));
    let common = usize::from(u16_at(bytes, trailer_at + 14));
    let entries_end = trailer_at.checked_sub(restart_count * RESTART_BYTES);
    let entries_end = entries_end.ok_or("more restart points than bytes")?;
    let heads_at = entries_end + 4 * restart_count;
    let mut prefix: &[u8] = &[];
    let (mut at, mut count, mut restart, mut key_len) = (0, 0, 0, 0);
    while at < entries_end {
        let slot = slot(bytes, at);
        if slot.end > entries_end {
            return Err("entry reaches past the block's entries");
        }
        if restart < restart_count && u32_at(bytes, entries_end + 4 * restart) as usize == at {
            let key = bytes.get(slot.suffix_at..slot.value_at).unwrap_or(&[]);
            if restart == 0 {
                prefix = key.get(..common).ok_or("common prefix longer than the first key")?;
            }
            let rest = key.strip_prefix(prefix).ok_or("key without the common prefix")?;
            if u64_at(bytes, heads_at + 8 * restart) != head_of(rest) {
                return Err("head of a restart point is not its key's");
            }
            restart += 1;
            key_len = 0;
        }
        if slot.shared > key_len || (key_len == 0 && slot.shared != 0) {
            return Err("entry shares more key than there is before it");
        }
        key_len = slot.shared + slot.value_at - slot.suffix_at;
        if key_len > STORAGE_KEY_BYTES_MAX || slot.end - slot.value_at > VALUE_BYTES_MAX {
            return Err("key or value over its limit");
        }
        let kind = Kind::from_byte(slot.flags & FLAG_KIND).ok_or("unknown kind of entry")?;
        if slot.flags & FLAG_RESERVED != 0 {
            return Err("reserved flag set");
        }
        if kind == Kind::Delete && (slot.end != slot.value_at || slot.flags & FLAG_EXPIRES != 0) {
            return Err("delete with a value or an expiry");
        }
        at = slot.end;
        count += 1;
    }
    if count != rows || rows == 0 {
        return Err("entry count differs from the block's trailer");
    }
    if restart != restart_count || restart_count == 0 || u32_at(bytes, entries_end) != 0 {
        return Err("restart point is not at an entry");
    }
    Ok(())
}

/// Leading bytes that `a` and `b` have in common.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut n = 0;
    while let (Some(x), Some(y)) =
        (a.get(n..).and_then(<[u8]>::first_chunk), b.get(n..).and_then(<[u8]>::first_chunk))
    {
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return n + (differing.trailing_zeros() / 8) as usize;
        }
        n += 8;
    }
    n + a[n..].iter().zip(&b[n..]).take_while(|(x, y)| x == y).count()
}

/// The eight bytes at `at`; 0 where they are not all inside.
#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// The two bytes at `at`; 0 where they are not both inside.
#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u16::from_le_bytes(*chunk))
}

/// The four bytes at `at`; 0 where they are not all inside.
#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// Small for differences of either sign.
const fn zigzag(difference: u64) -> u64 {
    let sign = 0_u64.wrapping_sub(difference >> 63);
    difference << 1 ^ sign
}

const fn unzigzag(n: u64) -> u64 {
    (n >> 1) ^ 0_u64.wrapping_sub(n & 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static [u8], u64, Kind, u64, &'static [u8]);

    const ROWS: [Row; 3] = [
        (b"apple", 300, Kind::Put, 0, b"red"),
        (b"apple", 2, Kind::Delete, 0, b""),
        (b"apricot", 299, Kind::Put, 5, b"!"),
    ];

    fn payload(rows: &[Row]) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        for &(key, version, kind, expiry, value) in rows {
            let entry = Entry { key, version: Version(version), kind, expiry: Expiry(expiry), value };
            let relation = builder.relation(&entry);
            builder.push(&entry, relation);
        }
        let len = builder.len();
        let payload = builder.finish();
        assert_eq!(payload.len(), len);
        payload.to_vec()
    }

    #[test]
    fn pins_exact_bytes() {
        let expected: &[u8] = b"\x01\x00\x05\x03\x00\x00applered\
            \x12\x05\x00\x00\x00\x53\x02\
            \x05\x02\x05\x01\x00\x01\x05\0\0\0\0\0\0\0ricot!\
            \0\0\0\0\0\0\0\0\0elp\x2c\x01\0\0\0\0\0\0\x03\0\0\0\x01\0\x02\0";
        assert_eq!(payload(&ROWS).escape_ascii().to_string(), expected.escape_ascii().to_string());
        let mut cursor = BlockCursor::first(Block::parse(expected).unwrap(), Vec::new());
        for (n, row) in ROWS.iter().enumerate() {
            let e = cursor.entry();
            assert_eq!((e.key, e.version.0, e.kind, e.expiry.0, e.value), *row);
            assert_eq!(cursor.advance(), n < 2);
        }
    }

    #[test]
    fn lengths_at_the_borders_of_the_short_head_round_trip() {
        let mut builder = BlockBuilder::default();
        let mut rows = Vec::new();
        for (n, key_len) in [255, 256, 257, 600, 16_000].into_iter().enumerate() {
            for value_len in [0, 65_535, 65_536] {
                let mut key = vec![u8::try_from(n).unwrap(); key_len];
                key.push(u8::from(value_len > 0) + u8::from(value_len > 65_535));
                rows.push((key, vec![1; value_len]));
            }
        }
        for (key, value) in &rows {
            let entry =
                Entry { key, version: Version(u64::MAX), kind: Kind::Put, expiry: Expiry::NEVER, value };
            let relation = builder.relation(&entry);
            builder.push(&entry, relation);
        }
        let block = Block::parse(builder.finish()).unwrap();
        for (key, value) in &rows {
            let position = block.seek(key, Version::MAX).unwrap();
            assert!(position.same_key);
            assert_eq!(block.get(position).value(), value);
        }
    }

    #[test]
    #[should_panic(expected = "storage order")]
    fn out_of_order_is_our_bug() {
        payload(&[ROWS[2], ROWS[0]]);
    }

    #[test]
    #[should_panic(expected = "storage order")]
    fn the_same_version_twice_is_our_bug() {
        payload(&[ROWS[0], ROWS[0]]);
    }

    #[test]
    fn no_input_makes_reading_panic() {
        let seed = 11;
        let mut rng = fastrand::Rng::with_seed(seed);
        let good = payload(&ROWS);
        for round in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                bytes[at] = if rng.bool() { rng.u8(..) } else { bytes[at] ^ 1 << rng.u8(..8) };
            }
            if round % 4 == 0 {
                bytes.truncate(rng.usize(..=bytes.len()));
            }
            let Ok(block) = Block::parse(&bytes) else { continue };
            if let Some(position) = block.seek(b"apple", Version(rng.u64(..400))) {
                let _ = block.get(position).value().len();
                let mut cursor = BlockCursor::at_position(block.clone(), Vec::new(), position, b"apple");
                while cursor.advance() {}
            }
            let mut cursor = BlockCursor::first(block, Vec::new());
            while cursor.advance() {}
        }
    }

    #[test]
    fn versions_far_apart_survive_the_delta() {
        for (base, version) in [(0, u64::MAX), (u64::MAX, 0), (1, 1 << 63), (1 << 63, 1), (5, 5)] {
            assert_eq!(base.wrapping_add(unzigzag(zigzag(version.wrapping_sub(base)))), version, "{base}");
        }
        assert_eq!([zigzag(0), zigzag(u64::MAX), zigzag(1), zigzag(2)], [0, 1, 2, 4]);
    }
}
