//! What one manifest edit says, and its bytes.
//!
//! `engine/FORMAT.md`, "Manifest", owns the layout. Decoding allocates nothing before it knows that the bytes for it
//! are there, and refuses what an encoder cannot have written.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::entry::Expiry;
use crate::ids::{Epoch, Index, SegmentId, Version};
use crate::limits::STORAGE_KEY_BYTES_MAX;
use crate::segment::meta::SegmentMeta;

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
        out.extend_from_slice(fixed.as_bytes());
        for id in &self.removed {
            out.extend_from_slice(U64::new(id.0).as_bytes());
        }
        for meta in &self.added {
            encode_segment(meta, out);
        }
    }

    /// The edit that `bytes` are, all of them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (fixed, mut rest) = Fixed::read_from_prefix(bytes).map_err(|_| "too short for an edit")?;
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
        };
        for _ in 0..added {
            let (meta, tail) = decode_segment(rest)?;
            edit.added.push(meta);
            rest = tail;
        }
        if rest.is_empty() { Ok(edit) } else { Err("bytes after the last added segment") }
    }
}

fn encode_segment(meta: &SegmentMeta, out: &mut Vec<u8>) {
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
        reserved: [0; 7],
    };
    out.extend_from_slice(fixed.as_bytes());
    out.extend_from_slice(&meta.first);
    out.extend_from_slice(&meta.last);
}

fn decode_segment(bytes: &[u8]) -> Result<(SegmentMeta, &[u8]), &'static str> {
    let (fixed, rest) = FixedSegment::read_from_prefix(bytes).map_err(|_| "added segment cut off")?;
    let (first_len, last_len) = (usize::from(fixed.first.get()), usize::from(fixed.last.get()));
    if fixed.reserved != [0; 7] {
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
    let meta = SegmentMeta {
        id: SegmentId(fixed.id.get()),
        level: fixed.level,
        bytes: fixed.bytes.get(),
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
    };
    Ok((meta, rest))
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
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<Fixed>() == 48 && size_of::<FixedSegment>() == 88, "as FORMAT.md says");
