//! The record of one backup: which segments it is made of. `engine/FORMAT.md`, "Backup", owns the layout.
//!
//! Invariant: one checksum covers every byte; what is decoded is whole.

use std::path::Path;
use std::rc::Rc;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};
use crate::ids::{PartitionId, Version};
use crate::io::buffer::{AlignedBuf, align_up};
use crate::io::disk::{Disk, OpenMode, Write};
use crate::key::RoutingKey;
use crate::limits::PARTITIONS_MAX;
use crate::manifest::{self, Edit, State};
use crate::superblock::StoreId;
use crate::wal::format::checksum_without;

/// A record names some hundred bytes a segment: more than this is ten million segments.
const BYTES_MAX: u64 = 1 << 30;

/// What a backup is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Whose it is.
    pub store: StoreId,
    /// Its number in its directory.
    pub number: u64,
    /// When it was taken, milliseconds since 1970.
    pub created_ms: u64,
    /// Every row in it has this version or an older one.
    pub version: Version,
    /// By their ranges.
    pub partitions: Vec<PartitionRecord>,
}

/// One partition of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRecord {
    /// The partition.
    pub id: PartitionId,
    /// First routing key it is home to; the next partition's is the first after it.
    pub start: RoutingKey,
    /// Its segments and numbers.
    pub state: State,
}

impl Record {
    /// Segments in it.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.partitions.iter().map(|p| p.state.segments.len() as u64).sum()
    }

    /// Bytes of its segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|p| p.state.segments.values()).map(|meta| meta.bytes).sum()
    }

    /// Its bytes, whole blocks.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let header = Header {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            checksum: U32::ZERO,
            store: self.store.0,
            number: U64::new(self.number),
            created_ms: U64::new(self.created_ms),
            cut: U64::new(self.version.0),
            partitions: length(self.partitions.len()),
            reserved: [0; 4],
        };
        let mut bytes = header.as_bytes().to_vec();
        for partition in &self.partitions {
            let mut edit = Vec::new();
            partition.state.snapshot().encode(&mut edit);
            let place = Place {
                id: U32::new(partition.id.0),
                length: length(edit.len()),
                start: U64::new(partition.start.0),
            };
            bytes.extend_from_slice(place.as_bytes());
            bytes.extend_from_slice(&edit);
        }
        bytes.resize(align_up(bytes.len()), 0);
        let checksum = checksum_without(&bytes, CHECKSUM_AT);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The record that `bytes` are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, mut rest) = Header::ref_from_prefix(bytes).map_err(|_| "too short for a record")?;
        if header.magic != MAGIC {
            return Err("no record of a backup");
        }
        if header.checksum.get() != checksum_without(bytes, CHECKSUM_AT) {
            return Err("checksum mismatch");
        }
        let edits = match header.version.get() {
            FORMAT_VERSION => manifest::FORMAT_VERSION,
            FORMAT_VERSION_WHOLE => manifest::FORMAT_VERSION_WHOLE,
            _ => return Err("a format this program does not know"),
        };
        let count = header.partitions.get() as usize;
        if count > PARTITIONS_MAX || header.reserved != [0; 4] {
            return Err("a field out of its bounds");
        }
        let mut partitions = Vec::new();
        for _ in 0..count {
            let (place, tail) = Place::ref_from_prefix(rest).map_err(|_| "a partition cut off")?;
            let (edit, tail) =
                tail.split_at_checked(place.length.get() as usize).ok_or("a partition cut off")?;
            let edit = Edit::decode(edit, edits)?;
            if !edit.added.is_sorted_by(|a, b| a.id < b.id) {
                return Err("segments out of order");
            }
            let mut state = State::default();
            state.check(&edit)?;
            state.apply(edit);
            let (id, start) = (PartitionId(place.id.get()), RoutingKey(place.start.get()));
            partitions.push(PartitionRecord { id, start, state });
            rest = tail;
        }
        // Whole blocks, and no more of them than it takes.
        if bytes.len() != align_up(bytes.len() - rest.len()) || rest.iter().any(|&b| b != 0) {
            return Err("bytes after the last partition");
        }
        if !partitions.is_sorted_by(|a: &PartitionRecord, b| a.start < b.start) {
            return Err("partitions out of order");
        }
        Ok(Self {
            store: StoreId(header.store),
            number: header.number.get(),
            created_ms: header.created_ms.get(),
            version: Version(header.cut.get()),
            partitions,
        })
    }
}

/// Writes a record's bytes to `path`, durable but for its name.
pub(super) async fn write(disk: &Rc<dyn Disk>, path: &Path, bytes: &[u8]) -> Result<()> {
    /// No device queue is held up by one write.
    const PIECE_BYTES: usize = 1 << 20;
    let file = disk.open(path, OpenMode::Create).await?;
    for (n, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        let offset = (n * PIECE_BYTES) as u64;
        file.write_at(AlignedBuf::from_slice(piece), offset, Write::Plain).await.1?;
    }
    file.sync().await
}

/// Reads the record at `path`.
pub(super) async fn read(disk: &Rc<dyn Disk>, path: &Path) -> Result<Record> {
    let file = disk.open(path, OpenMode::Read).await?;
    let size = file.size().await?;
    let len = usize::try_from(size).ok().filter(|_| (1..=BYTES_MAX).contains(&size));
    let Some(len) = len else {
        return Err(Error::corrupt(path, 0, format!("{size} bytes: no record of a backup is that long")));
    };
    let (buf, count) = file.read_at(AlignedBuf::zeroed(len), 0).await;
    let bytes = buf.get(..count?).unwrap_or_default();
    Record::decode(bytes).map_err(|what| Error::corrupt(path, 0, what))
}

fn length(len: usize) -> U32 {
    U32::new(u32::try_from(len).expect("a partition names fewer than 2^32 bytes of segments"))
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    store: [u8; 16],
    number: U64,
    created_ms: U64,
    cut: U64,
    partitions: U32,
    reserved: [u8; 4],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Place {
    id: U32,
    length: U32,
    start: U64,
}

const MAGIC: [u8; 8] = *b"fsBACKUP";
const FORMAT_VERSION: u32 = 2;
/// Its segments are whole files: it says so in the manifest's format of that time.
const FORMAT_VERSION_WHOLE: u32 = 1;
const CHECKSUM_AT: usize = 12;

const _: () = assert!(std::mem::offset_of!(Header, checksum) == CHECKSUM_AT);
const _: () = assert!(size_of::<Header>() == 64 && size_of::<Place>() == 16, "as FORMAT.md says");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Index, SegmentId};

    fn record() -> Record {
        let state = State {
            flushed_index: Index(1),
            epoch: Epoch(2),
            version_max: Version(3),
            time_ms: 4,
            next_segment: SegmentId(5),
            ..State::default()
        };
        let partitions = vec![PartitionRecord { id: PartitionId(7), start: RoutingKey(8), state }];
        Record { store: StoreId([9; 16]), number: 10, created_ms: 11, version: Version(12), partitions }
    }

    /// `numbers` follow magic, format, checksum and store.
    fn bytes_of(format: u8, checksum: &[u8], numbers: &[u64]) -> Vec<u8> {
        let mut bytes = b"fsBACKUP".to_vec();
        bytes.extend([format, 0, 0, 0]);
        bytes.extend(checksum);
        bytes.extend([9; 16]);
        bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        bytes.resize(4096, 0);
        bytes
    }

    #[test]
    fn pins_its_bytes() {
        let bytes = record().encode();
        let expected = bytes_of(2, &bytes[12..16], &[10, 11, 12, 1, 7 | 64 << 32, 8, 1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(bytes, expected);
        assert_eq!(Record::decode(&bytes), Ok(record()));
    }

    #[test]
    fn a_record_of_format_1_is_read() {
        let mut bytes = bytes_of(1, &[0; 4], &[10, 11, 12, 1, 7 | 48 << 32, 8, 1, 2, 3, 4, 5, 0]);
        let checksum = checksum_without(&bytes, CHECKSUM_AT);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Record::decode(&bytes), Ok(record()));
        bytes[8] = 3;
        let checksum = checksum_without(&bytes, CHECKSUM_AT);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        assert!(Record::decode(&bytes).is_err());
    }

    #[test]
    fn a_record_has_one_length() {
        let bytes = record().encode();
        for len in [bytes.len() - 4096 + 200, bytes.len() + 4096] {
            let mut other = bytes.clone();
            other.resize(len, 0);
            let checksum = checksum_without(&other, CHECKSUM_AT);
            other[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(Record::decode(&other), Err("bytes after the last partition"), "{len} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_and_random_bytes_never_panic() {
        let mut bytes = record().encode();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let mut noise = bytes[..random.usize(..200)].to_vec();
            noise.iter_mut().skip(16).for_each(|b| *b = random.u8(..));
            if noise.len() >= 16 {
                let checksum = checksum_without(&noise, CHECKSUM_AT);
                noise[12..16].copy_from_slice(&checksum.to_le_bytes());
            }
            // Past its checksum, so that the fields behind it are reached.
            let _refused = Record::decode(&noise);
        }
    }
}
