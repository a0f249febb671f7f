//! Where a memtable's entries lie: records back to back in chunks, addressed by 4-byte handles.
//!
//! It never moves, changes or frees a record; all go when the arena goes. Nothing here comes from outside, so a
//! handle that names no record is a bug and panics.
//!
//! Invariants:
//! - a record lies in one chunk and starts at a multiple of [`UNIT_BYTES`];
//! - a chunk's buffer is never reallocated: growth costs no copy, and memory not yet written is not resident;
//! - a record above [`SHARED_RECORD_BYTES_MAX`] has a chunk of its own, shared by reference with who reads it.

use std::fmt;
use std::hint::black_box;
use std::rc::Rc;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::entry::{Entry, Expiry, Kind};
use crate::ids::Version;

/// Names a record of one arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Handle(u32);

impl Handle {
    /// Fills what is not yet used; names a record too, so it is never followed.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// It as a number, which means nothing outside.
    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// Records of entries, appended and read.
#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// The shared chunk that takes the next record.
    open: usize,
    bytes: usize,
}

enum Chunk {
    Shared(Vec<u8>),
    Own(Rc<Vec<u8>>),
}

/// A record's bytes, kept by a reader beyond its borrow of the arena.
#[derive(Debug)]
pub(super) enum Held {
    /// Small: copied, into a buffer that is used again.
    Copied(Vec<u8>),
    /// Large: shared.
    Shared(Rc<Vec<u8>>),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version: U64,
    expiry: U64,
    value_bytes: U32,
    key_bytes: U16,
    kind: u8,
    reserved: u8,
}

impl Arena {
    /// Appends `entry`.
    pub(super) fn push(&mut self, entry: &Entry<'_>) -> Handle {
        let header = Header {
            version: U64::new(entry.version.0),
            expiry: U64::new(entry.expiry.0),
            value_bytes: U32::new(u32::try_from(entry.value.len()).expect("values are at most 8 MiB")),
            key_bytes: U16::new(u16::try_from(entry.key.len()).expect("keys are at most 64 KiB")),
            kind: entry.kind as u8,
            reserved: 0,
        };
        let len = size_of::<Header>() + entry.key.len() + entry.value.len();
        self.bytes += len.next_multiple_of(UNIT_BYTES);
        if len > SHARED_RECORD_BYTES_MAX {
            let mut record = Vec::with_capacity(len);
            write(&mut record, &header, entry);
            self.chunks.push(Chunk::Own(Rc::new(record)));
            return handle(self.chunks.len() - 1, 0);
        }
        let (index, chunk) = self.room(len);
        let start = chunk.len();
        write(chunk, &header, entry);
        chunk.resize(chunk.len().next_multiple_of(UNIT_BYTES), 0);
        handle(index, start)
    }

    /// The entry at `handle`.
    pub(super) fn entry(&self, handle: Handle) -> Entry<'_> {
        decode(self.record(handle))
    }

    /// Reads a byte of each of a record's first cache lines; a longer one is read in order, which the core sees.
    pub(super) fn touch(&self, handle: Handle) -> u8 {
        let lines = self.record(handle).iter().step_by(LINE_BYTES);
        lines.take(TOUCHED_LINES).fold(0, |seen, byte| seen ^ byte)
    }

    /// Reads where records begin, so that their cache misses overlap.
    pub(super) fn touch_headers(&self, handles: &[Handle]) {
        black_box(handles.iter().fold(0, |seen, &handle| seen ^ self.record(handle)[0]));
    }

    /// Puts the record at `handle` into `held`.
    pub(super) fn hold(&self, handle: Handle, held: &mut Held) {
        match &self.chunks[chunk_of(handle)] {
            Chunk::Own(record) => *held = Held::Shared(Rc::clone(record)),
            Chunk::Shared(_) => {
                let record = self.record(handle);
                let entry = decode(record);
                let record = &record[..size_of::<Header>() + entry.key.len() + entry.value.len()];
                match held {
                    Held::Copied(buffer) => {
                        buffer.clear();
                        buffer.extend_from_slice(record);
                    }
                    Held::Shared(_) => *held = Held::Copied(record.to_vec()),
                }
            }
        }
    }

    /// Bytes of all records.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frees the last chunk; false when none is left. The arena may then only be freed further.
    pub(super) fn free_chunk(&mut self) -> bool {
        self.chunks.pop().is_some()
    }

    /// The chunk's bytes from the record's start.
    fn record(&self, handle: Handle) -> &[u8] {
        match &self.chunks[chunk_of(handle)] {
            Chunk::Shared(bytes) => &bytes[start_of(handle)..],
            Chunk::Own(bytes) => bytes,
        }
    }

    /// A shared chunk with room for `len` bytes, and its index.
    fn room(&mut self, len: usize) -> (usize, &mut Vec<u8>) {
        let fits = match self.chunks.get(self.open) {
            Some(Chunk::Shared(bytes)) => bytes.capacity() - bytes.len() >= len.next_multiple_of(UNIT_BYTES),
            Some(Chunk::Own(_)) | None => false,
        };
        if !fits {
            self.open = self.chunks.len();
            self.chunks.push(Chunk::Shared(Vec::with_capacity(CHUNK_BYTES)));
        }
        match &mut self.chunks[self.open] {
            Chunk::Shared(bytes) => (self.open, bytes),
            Chunk::Own(_) => unreachable!("the open chunk is a shared one"),
        }
    }
}

impl Held {
    /// What is held. Nothing may be held only before the first `hold`.
    pub(super) fn entry(&self) -> Entry<'_> {
        match self {
            Self::Copied(bytes) => decode(bytes),
            Self::Shared(bytes) => decode(bytes),
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} bytes in {} chunks)", self.bytes, self.chunks.len())
    }
}

fn write(out: &mut Vec<u8>, header: &Header, entry: &Entry<'_>) {
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(entry.key);
    out.extend_from_slice(entry.value);
}

fn decode(record: &[u8]) -> Entry<'_> {
    let (header, rest) = Header::ref_from_prefix(record).expect("a handle names a record");
    let (key, rest) = rest.split_at(usize::from(header.key_bytes.get()));
    Entry {
        key,
        version: Version(header.version.get()),
        kind: Kind::from_byte(header.kind).expect("a record has a kind"),
        expiry: Expiry(header.expiry.get()),
        value: &rest[..header.value_bytes.get() as usize],
    }
}

fn handle(chunk: usize, start: usize) -> Handle {
    let unit = start / UNIT_BYTES;
    let number = chunk << UNIT_BITS | unit;
    Handle(u32::try_from(number).expect("a memtable is flushed long before it has 32768 chunks"))
}

const fn chunk_of(handle: Handle) -> usize {
    (handle.0 >> UNIT_BITS) as usize
}

const fn start_of(handle: Handle) -> usize {
    (handle.0 as usize & ((1 << UNIT_BITS) - 1)) * UNIT_BYTES
}

/// Records start at multiples of this, so that 17 bits name a place in a chunk and 15 are left for the chunk.
const UNIT_BYTES: usize = 8;
const UNIT_BITS: u32 = 17;
/// Large enough that allocating is rare, small enough that freeing one is far below a slice (a page table walk
/// over 256 pages).
const CHUNK_BYTES: usize = 1 << 20;
const LINE_BYTES: usize = 64;
const TOUCHED_LINES: usize = 3;
/// A record above this gets a chunk of its own. Bounds what the end of a shared chunk can waste to 6 %.
const SHARED_RECORD_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(CHUNK_BYTES / UNIT_BYTES <= 1 << UNIT_BITS, "every unit of a chunk has a handle");
const _: () = assert!(size_of::<Header>() == 24, "no padding");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_all_sizes_come_back_from_the_arena_and_from_what_was_held() {
        let mut arena = Arena::default();
        let sizes =
            [0, 1, 7, 100, SHARED_RECORD_BYTES_MAX - 64, SHARED_RECORD_BYTES_MAX, CHUNK_BYTES, 8 << 20];
        let values: Vec<Vec<u8>> =
            (0..200).map(|i| vec![u8::try_from(i).unwrap(); sizes[i % sizes.len()]]).collect();
        let entry = |i: usize| Entry {
            key: &[1, 2, 3],
            version: Version(i as u64),
            kind: if i.is_multiple_of(2) { Kind::Put } else { Kind::Delete },
            expiry: Expiry(7),
            value: &values[i],
        };
        let handles: Vec<Handle> = (0..values.len()).map(|i| arena.push(&entry(i))).collect();
        let mut held = Held::Copied(Vec::new());
        for (i, &handle) in handles.iter().enumerate() {
            assert_eq!(arena.entry(handle), entry(i));
            arena.hold(handle, &mut held);
            assert_eq!(held.entry(), entry(i));
        }
        assert!(arena.bytes() >= values.iter().map(Vec::len).sum());
    }
}
