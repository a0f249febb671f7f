//! What one manifest edit says, and its bytes.
//!
//! `engine/FORMAT.md`, "Manifest", owns the layout. Decoding allocates nothing before it knows that the bytes for it
//! are there, and refuses what an encoder cannot have written. Edits are written in one format, [`FORMAT_VERSION`], and
//! read in that and the one before, in which every segment was a whole file and nobody was a guest.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::entry::Expiry;
use crate::ids::{Epoch, Index, SegmentId, TableVersion, Version};
use crate::limits::STORAGE_KEY_BYTES_MAX;
use crate::segment::meta::SegmentMeta;
use crate::segment::ranges::{KeyRange, KeyRanges};

/// The format edits are written in.
pub const FORMAT_VERSION: u16 = 2;
/// The format without views and arrivals.
pub const FORMAT_VERSION_WHOLE: u16 = 1;

/// What a key takes at least: its length.
const KEY_BYTES_MIN: usize = size_of::<U16>();

/// A change of a partition's files and numbers, applied whole or not at all.
///
/// The numbers only ever rise: an edit lifts those of the partition that are below its own, so 0 leaves one as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// Segments that are gone; applied before `added`, so that a segment may change its level in one edit.
    pub removed: Vec<SegmentId>,
    /// Segments that are there from this edit on.
    pub added: Vec<SegmentMeta>,
    /// Records up to this one are in segments, and not needed in the log.
    pub flushed_index: Index,
    /// The partition's configuration.
    pub epoch: Epoch,
    /// The largest version given out at or below the flushed index.
    pub version_max: Version,
    /// Partition time (R6), in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Segment numbers below this one may have been used.
    pub next_segment: SegmentId,
    /// Nothing is here that the table, as of this version, places elsewhere, but for arrivals.
    pub restricted: TableVersion,
    /// Entities, by the prefix of their keys, of which something may be here from this edit on although they are not at
    /// home here, or are at home and were elsewhere.
    pub arrived: Vec<Vec<u8>>,
    /// Those of which nothing is here any more, or that are here as all others; before `arrived`.
    pub departed: Vec<Vec<u8>>,
}

impl Edit {
    /// Appends the edit's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fixed = Fixed {
            flushed_index: U64::new(self.flushed_index.0),
            epoch: U64::new(self.epoch.0),
            version_max: U64::new(self.version_max.0),
            time_ms: U64::new(self.time_ms),
            next_segment: U64::new(self.next_segment.0),
            removed: count(self.removed.len()),
            added: count(self.added.len()),
        };
        let more = More {
            restricted: U64::new(self.restricted.0),
            arrived: count(self.arrived.len()),
            departed: count(self.departed.len()),
        };
        out.extend_from_slice(fixed.as_bytes());
        out.extend_from_slice(more.as_bytes());
        for id in &self.removed {
            out.extend_from_slice(U64::new(id.0).as_bytes());
        }
        for meta in &self.added {
            encode_segment(meta, out);
        }
        for prefix in self.departed.iter().chain(&self.arrived) {
            encode_key(prefix, out);
        }
    }

    /// The edit that `bytes` are, all of them, in the format `version`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8], version: u16) -> Result<Self, &'static str> {
        let (fixed, mut rest) = Fixed::read_from_prefix(bytes).map_err(|_| "too short for an edit")?;
        let mut more = More::new_zeroed();
        match version {
            FORMAT_VERSION_WHOLE => {}
            FORMAT_VERSION => {
                (more, rest) = More::read_from_prefix(rest).map_err(|_| "too short for an edit")?;
            }
            _ => return Err("an edit of a format this program does not know"),
        }
        let removed = fixed.removed.get() as usize;
        let (ids, tail) =
            <[U64]>::ref_from_prefix_with_elems(rest, removed).map_err(|_| "removed segments cut off")?;
        rest = tail;
        let added = fixed.added.get() as usize;
        if added > rest.len() / size_of::<FixedSegment>() {
            return Err("more added segments than bytes for them");
        }
        let mut edit = Self {
            removed: ids.iter().map(|id| SegmentId(id.get())).collect(),
            added: Vec::with_capacity(added),
            flushed_index: Index(fixed.flushed_index.get()),
            epoch: Epoch(fixed.epoch.get()),
            version_max: Version(fixed.version_max.get()),
            time_ms: fixed.time_ms.get(),
            next_segment: SegmentId(fixed.next_segment.get()),
            restricted: TableVersion(more.restricted.get()),
            arrived: Vec::new(),
            departed: Vec::new(),
        };
        for _ in 0..added {
            let (meta, tail) = decode_segment(rest, version)?;
            edit.added.push(meta);
            rest = tail;
        }
        (edit.departed, rest) = decode_prefixes(more.departed.get(), rest)?;
        (edit.arrived, rest) = decode_prefixes(more.arrived.get(), rest)?;
        if rest.is_empty() { Ok(edit) } else { Err("bytes after the end of an edit") }
    }
}

fn encode_segment(meta: &SegmentMeta, out: &mut Vec<u8>) {
    // No ranges stand for everything.
    assert!(!meta.visible.is_nothing(), "a segment of which nothing is visible is removed");
    let ranges = meta.visible.parts().unwrap_or_default();
    let fixed = FixedSegment {
        id: U64::new(meta.id.0),
        bytes: U64::new(meta.bytes),
        rows: U64::new(meta.rows),
        version_min: U64::new(meta.version_min.0),
        version_max: U64::new(meta.version_max.0),
        deletes: U64::new(meta.deletes),
        range_tombstones: U64::new(meta.range_tombstones),
        created_ms: U64::new(meta.created_ms),
        expiry_min: U64::new(meta.expiry_min.0),
        checksum: U32::new(meta.checksum),
        first: key_length(&meta.first),
        last: key_length(&meta.last),
        level: meta.level,
        reserved: [0; 3],
        ranges: count(ranges.len()),
    };
    out.extend_from_slice(fixed.as_bytes());
    let view = FixedView { origin: U64::new(meta.origin.0), visible_bytes: U64::new(meta.visible_bytes) };
    out.extend_from_slice(view.as_bytes());
    out.extend_from_slice(&meta.first);
    out.extend_from_slice(&meta.last);
    for range in ranges {
        encode_key(&range.start, out);
        encode_key(range.end.as_deref().unwrap_or_default(), out);
    }
}

fn decode_segment(bytes: &[u8], version: u16) -> Result<(SegmentMeta, &[u8]), &'static str> {
    let (fixed, mut rest) = FixedSegment::read_from_prefix(bytes).map_err(|_| "added segment cut off")?;
    let (id, bytes) = (SegmentId(fixed.id.get()), fixed.bytes.get());
    let mut view = FixedView { origin: fixed.id, visible_bytes: fixed.bytes };
    if version == FORMAT_VERSION {
        (view, rest) = FixedView::read_from_prefix(rest).map_err(|_| "added segment cut off")?;
    }
    let (first_len, last_len) = (usize::from(fixed.first.get()), usize::from(fixed.last.get()));
    if fixed.reserved != [0; 3] || (version == FORMAT_VERSION_WHOLE && fixed.ranges.get() != 0) {
        return Err("reserved bytes of a segment are not zero");
    }
    if first_len.max(last_len) > STORAGE_KEY_BYTES_MAX {
        return Err("a segment's key is longer than any key");
    }
    let (first, rest) = rest.split_at_checked(first_len).ok_or("a segment's first key cut off")?;
    let (last, rest) = rest.split_at_checked(last_len).ok_or("a segment's last key cut off")?;
    if first > last {
        return Err("a segment's first key is after its last");
    }
    let (visible, rest) = decode_ranges(fixed.ranges.get(), rest)?;
    if fixed.level > 0 && visible.parts().is_some_and(|ranges| ranges.len() > 1) {
        return Err("a segment below level 0 with several ranges");
    }
    if view.visible_bytes.get() > bytes {
        return Err("more bytes of a segment visible than there are");
    }
    let meta = SegmentMeta {
        id,
        origin: SegmentId(view.origin.get()),
        level: fixed.level,
        bytes,
        rows: fixed.rows.get(),
        checksum: fixed.checksum.get(),
        first: first.to_vec(),
        last: last.to_vec(),
        version_min: Version(fixed.version_min.get()),
        version_max: Version(fixed.version_max.get()),
        deletes: fixed.deletes.get(),
        range_tombstones: fixed.range_tombstones.get(),
        created_ms: fixed.created_ms.get(),
        expiry_min: Expiry(fixed.expiry_min.get()),
        visible,
        visible_bytes: view.visible_bytes.get(),
    };
    Ok((meta, rest))
}

/// What is visible of a segment: everything, where no range says otherwise.
fn decode_ranges(count: u32, mut rest: &[u8]) -> Result<(KeyRanges, &[u8]), &'static str> {
    if count == 0 {
        return Ok((KeyRanges::everything(), rest));
    }
    let mut ranges = Vec::with_capacity((count as usize).min(rest.len() / (2 * KEY_BYTES_MIN)));
    for _ in 0..count {
        let (start, tail) = decode_key(rest)?;
        let (end, tail) = decode_key(tail)?;
        // No range ends before the first key of all: no bytes are the end of all keys.
        ranges.push(KeyRange::new(start, (!end.is_empty()).then(|| end.to_vec())));
        rest = tail;
    }
    KeyRanges::formed(ranges).map(|visible| (visible, rest)).ok_or("visible ranges out of order")
}

fn decode_prefixes(count: u32, mut rest: &[u8]) -> Result<(Vec<Vec<u8>>, &[u8]), &'static str> {
    let mut prefixes: Vec<Vec<u8>> = Vec::with_capacity((count as usize).min(rest.len() / KEY_BYTES_MIN));
    for _ in 0..count {
        let (prefix, tail) = decode_key(rest)?;
        if prefixes.last().is_some_and(|last| last.as_slice() >= prefix) {
            return Err("entities out of order");
        }
        prefixes.push(prefix.to_vec());
        rest = tail;
    }
    Ok((prefixes, rest))
}

/// A key with its length before it.
fn encode_key(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key_length(key).as_bytes());
    out.extend_from_slice(key);
}

fn decode_key(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (length, rest) = U16::read_from_prefix(bytes).map_err(|_| "a key's length cut off")?;
    let length = usize::from(length.get());
    if length > STORAGE_KEY_BYTES_MAX {
        return Err("a key longer than any key");
    }
    rest.split_at_checked(length).ok_or("a key cut off")
}

fn count(len: usize) -> U32 {
    U32::new(u32::try_from(len).expect("an edit's bytes are bounded, and so are its segments"))
}

fn key_length(key: &[u8]) -> U16 {
    assert!(key.len() <= STORAGE_KEY_BYTES_MAX, "a segment holds storage keys");
    U16::new(u16::try_from(key.len()).expect("checked by a const assert of the limit"))
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    flushed_index: U64,
    epoch: U64,
    version_max: U64,
    time_ms: U64,
    next_segment: U64,
    removed: U32,
    added: U32,
}

/// What follows it from format 2 on.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct More {
    restricted: U64,
    arrived: U32,
    departed: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FixedSegment {
    id: U64,
    bytes: U64,
    rows: U64,
    version_min: U64,
    version_max: U64,
    deletes: U64,
    range_tombstones: U64,
    created_ms: U64,
    expiry_min: U64,
    checksum: U32,
    first: U16,
    last: U16,
    level: u8,
    reserved: [u8; 3],
    /// Reserved in format 1.
    ranges: U32,
}

/// What follows it from format 2 on.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FixedView {
    origin: U64,
    visible_bytes: U64,
}

const _: () = assert!(size_of::<Fixed>() == 48 && size_of::<FixedSegment>() == 88, "as FORMAT.md says");
const _: () = assert!(size_of::<More>() == 16 && size_of::<FixedView>() == 16, "as FORMAT.md says");
