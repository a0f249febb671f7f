//! The record of one backup: which segments it is made of. `engine/FORMAT.md`, "Backup", owns the layout.
//!
//! Invariants:
//! - one checksum covers every byte; what is decoded is whole;
//! - a record's partitions are those of its table, which has no open moves: nobody is there to finish them.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};
use crate::ids::{PartitionId, TableVersion, Version};
use crate::io::buffer::{AlignedBuf, align_up};
use crate::io::disk::{Disk, OpenMode, Write};
use crate::limits::PARTITIONS_MAX;
use crate::manifest::{self, Edit, State};
use crate::superblock::StoreId;
use crate::table;
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
    /// Where everything is, as of the cut; none in a record that only says whose directory it is in.
    pub table: Option<table::State>,
    /// Ascending.
    pub partitions: Vec<PartitionRecord>,
}

/// One partition of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRecord {
    /// The partition.
    pub id: PartitionId,
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
        let mut table = Vec::new();
        if let Some(state) = &self.table {
            state.encode(0, &mut table);
        }
        let header = Header {
            base: Base {
                magic: MAGIC,
                version: U32::new(FORMAT_VERSION),
                checksum: U32::ZERO,
                store: self.store.0,
                number: U64::new(self.number),
                created_ms: U64::new(self.created_ms),
                cut: U64::new(self.version.0),
                partitions: length(self.partitions.len()),
                table_bytes: length(table.len()),
            },
            table_version: U64::new(self.table.as_ref().map_or(0, |table| table.version.0)),
            reserved: U64::ZERO,
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.append(&mut table);
        for partition in &self.partitions {
            let mut edit = Vec::new();
            partition.state.snapshot().encode(&mut edit);
            let place = Place { id: U32::new(partition.id.0), length: length(edit.len()) };
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
        let (base, rest) = Base::ref_from_prefix(bytes).map_err(|_| "too short for a record")?;
        if base.magic != MAGIC {
            return Err("no record of a backup");
        }
        if base.checksum.get() != checksum_without(bytes, CHECKSUM_AT) {
            return Err("checksum mismatch");
        }
        if base.partitions.get() as usize > PARTITIONS_MAX {
            return Err("a field out of its bounds");
        }
        let (table, mut partitions) = match base.version.get() {
            FORMAT_VERSION => {
                let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| "too short for a record")?;
                let table_bytes = base.table_bytes.get() as usize;
                let (table, rest) = rest.split_at_checked(table_bytes).ok_or("the table is cut off")?;
                (header.table(table)?, decode_partitions(base.partitions.get(), bytes, rest)?)
            }
            FORMAT_OF_RANGES if base.table_bytes.get() == 0 => {
                decode_ranges(base.partitions.get(), bytes, rest)?
            }
            FORMAT_OF_RANGES => return Err("a field out of its bounds"),
            _ => return Err("a format this program does not know"),
        };
        partitions.sort_by_key(|partition| partition.id);
        let of_table = table.iter().flat_map(|table| table.partitions.keys());
        if !of_table.eq(partitions.iter().map(|partition| &partition.id)) {
            return Err("partitions that are not the table's");
        }
        Ok(Self {
            store: StoreId(base.store),
            number: base.number.get(),
            created_ms: base.created_ms.get(),
            version: Version(base.cut.get()),
            table,
            partitions,
        })
    }
}

impl Header {
    /// The table in `bytes`, none where there are none.
    fn table(&self, bytes: &[u8]) -> Result<Option<table::State>, &'static str> {
        if self.reserved.get() != 0 || (self.table_version.get() == 0) != bytes.is_empty() {
            return Err("a field out of its bounds");
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let (state, reserved_bytes) = table::State::decode(TableVersion(self.table_version.get()), bytes)?;
        if reserved_bytes != 0 || !state.moves.is_empty() {
            return Err("a table with what no backup has");
        }
        Ok(Some(state))
    }
}

/// `count` partitions at `rest`, the end of `bytes`.
fn decode_partitions(
    count: u32,
    bytes: &[u8],
    mut rest: &[u8],
) -> Result<Vec<PartitionRecord>, &'static str> {
    let mut partitions: Vec<PartitionRecord> = Vec::new();
    for _ in 0..count {
        let (place, tail) = Place::ref_from_prefix(rest).map_err(|_| "a partition cut off")?;
        let (state, tail) = decode_state(place, manifest::FORMAT_VERSION, tail)?;
        let id = PartitionId(place.id.get());
        if partitions.last().is_some_and(|last| last.id >= id) {
            return Err("partitions out of order");
        }
        partitions.push(PartitionRecord { id, state });
        rest = tail;
    }
    check_end(bytes, rest)?;
    Ok(partitions)
}

/// The partitions of a record of [`FORMAT_OF_RANGES`], and the table that they make.
fn decode_ranges(
    count: u32,
    bytes: &[u8],
    mut rest: &[u8],
) -> Result<(Option<table::State>, Vec<PartitionRecord>), &'static str> {
    let (mut ranges, mut partitions) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (place, tail) = Place::ref_from_prefix(rest).map_err(|_| "a partition cut off")?;
        let (start, tail) = U64::ref_from_prefix(tail).map_err(|_| "a partition cut off")?;
        let (state, tail) = decode_state(place, manifest::FORMAT_VERSION_WHOLE, tail)?;
        let id = PartitionId(place.id.get());
        ranges.push((id, start.get()));
        partitions.push(PartitionRecord { id, state });
        rest = tail;
    }
    check_end(bytes, rest)?;
    if !ranges.is_sorted_by(|a, b| a.1 < b.1) {
        return Err("partitions out of order");
    }
    let table = if ranges.is_empty() { None } else { Some(table::State::first(&ranges, 1)?) };
    Ok((table, partitions))
}

/// What is left of `bytes` fills its last block with zeros, and there is no other one.
fn check_end(bytes: &[u8], rest: &[u8]) -> Result<(), &'static str> {
    let is_end = bytes.len() == align_up(bytes.len() - rest.len()) && rest.iter().all(|&b| b == 0);
    if is_end { Ok(()) } else { Err("bytes after the last partition") }
}

/// The state of the partition at `place`, in edits of the manifest's format `edits`, and what follows it.
fn decode_state<'a>(place: &Place, edits: u16, bytes: &'a [u8]) -> Result<(State, &'a [u8]), &'static str> {
    let (edit, rest) = bytes.split_at_checked(place.length.get() as usize).ok_or("a partition cut off")?;
    let edit = Edit::decode(edit, edits)?;
    if !edit.added.is_sorted_by(|a, b| a.id < b.id) {
        return Err("segments out of order");
    }
    let mut state = State::default();
    state.check(&edit)?;
    state.apply(edit);
    Ok((state, rest))
}

/// The table of a backup, from the one that the store has.
pub(super) fn table_of(image: &table::Image) -> table::State {
    table::State { moves: BTreeMap::new(), ..image.state().clone() }
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
struct Base {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    store: [u8; 16],
    number: U64,
    created_ms: U64,
    cut: U64,
    partitions: U32,
    table_bytes: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    base: Base,
    table_version: U64,
    reserved: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Place {
    id: U32,
    length: U32,
}

const MAGIC: [u8; 8] = *b"fsBACKUP";
const FORMAT_VERSION: u32 = 2;
/// Without a table: partitions came with the first routing keys of their ranges, and segments were whole files. Records of it
/// are read.
const FORMAT_OF_RANGES: u32 = 1;
const CHECKSUM_AT: usize = 12;

const _: () = assert!(std::mem::offset_of!(Base, checksum) == CHECKSUM_AT);
const _: () = assert!(size_of::<Base>() == 64 && size_of::<Header>() == 80 && size_of::<Place>() == 8);

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
        let partitions = vec![PartitionRecord { id: PartitionId(7), state }];
        let table = table::State::first(&[(PartitionId(7), 0)], 1).ok();
        let (store, version) = (StoreId([9; 16]), Version(12));
        Record { store, number: 10, created_ms: 11, version, table, partitions }
    }

    /// With its checksum put right, and zeros up to a block's end.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(4096, 0);
        let checksum = checksum_without(&bytes, CHECKSUM_AT);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn pins_its_bytes() {
        let mut expected = b"fsBACKUP\x02\0\0\0\0\0\0\0".to_vec();
        expected.extend_from_slice(&[9; 16]);
        for n in [10_u64, 11, 12, 1 | 72 << 32, 1, 0] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        record().table.unwrap().encode(0, &mut expected);
        for n in [7_u64 | 64 << 32, 1, 2, 3, 4, 5, 0, 0, 0] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        let bytes = record().encode();
        assert_eq!(bytes, sealed(expected));
        assert_eq!(Record::decode(&bytes), Ok(record()));
    }

    #[test]
    fn a_record_of_the_format_without_a_table_is_read() {
        let mut old = b"fsBACKUP\x01\0\0\0\0\0\0\0".to_vec();
        old.extend_from_slice(&[9; 16]);
        for n in [10_u64, 11, 12, 1, 7 | 48 << 32, 0, 1, 2, 3, 4, 5, 0] {
            old.extend_from_slice(&n.to_le_bytes());
        }
        assert_eq!(Record::decode(&sealed(old.clone())), Ok(record()));
        old[72] = 1;
        assert!(
            Record::decode(&sealed(old.clone())).is_err(),
            "a range that does not begin with the first key"
        );
        // Whose directory it is.
        old.truncate(56);
        let owner = Record { table: None, partitions: Vec::new(), ..record() };
        assert_eq!(Record::decode(&sealed(old)), Ok(owner.clone()));
        assert_eq!(Record::decode(&owner.encode()), Ok(owner));
    }

    #[test]
    fn a_record_has_one_length() {
        let bytes = record().encode();
        for len in [bytes.len() - 4096 + 300, bytes.len() + 4096] {
            let mut other = bytes.clone();
            other.resize(len, 0);
            let checksum = checksum_without(&other, CHECKSUM_AT);
            other[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(Record::decode(&other), Err("bytes after the last partition"), "{len} bytes");
        }
    }

    #[test]
    fn partitions_are_those_of_the_table() {
        let mut other = record();
        other.partitions[0].id = PartitionId(8);
        assert!(Record::decode(&other.encode()).is_err());
        other.partitions.clear();
        assert!(Record::decode(&other.encode()).is_err());
        assert!(Record::decode(&Record { table: None, ..record() }.encode()).is_err());
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
