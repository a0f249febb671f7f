//! The two headers of a log: a slot's and a batch's. `engine/FORMAT.md`, "WAL", owns the layouts.
//!
//! Refuses to judge: a header that does not decode is [`Invalid`]; whether that means torn or corrupt is
//! recovery's decision, made with what stands elsewhere in the log.
//!
//! Invariants:
//! - a header that decodes is whole: one checksum covers every bit of it;
//! - no header decodes as another log's: store, incarnation, shard and position are inside the checksum.

use std::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{Incarnation, Lsn, ShardId};
use crate::io::buffer::{ALIGNMENT, align_up};
use crate::superblock::StoreId;

/// What every batch starts at a multiple of, in its slot; also the size of a slot's header.
pub const BLOCK_BYTES: usize = ALIGNMENT;
/// A batch's header.
pub const BATCH_HEADER_BYTES: usize = size_of::<RawBatchHeader>();
/// The layouts this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const SLOT_MAGIC: [u8; 8] = *b"fsWALslt";
const BATCH_MAGIC: [u8; 8] = *b"fsWALbat";

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// Too few bytes.
    Short,
    /// Does not start with the structure's magic: nothing was written here, or its first bytes are damaged.
    Magic,
    /// The checksum over the named part does not match.
    Checksum(&'static str),
    /// Whole, but of another format version.
    Version(u32),
    /// Whole, but the named field holds what no writer writes.
    Field(&'static str),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("fewer bytes than the structure needs"),
            Self::Magic => f.write_str("not the magic number"),
            Self::Checksum(what) => write!(f, "checksum mismatch in the {what}"),
            Self::Version(v) => write!(f, "format version {v}, this program reads {FORMAT_VERSION}"),
            Self::Field(what) => write!(f, "impossible {what}"),
        }
    }
}

/// Whose log it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogId {
    /// The store.
    pub store: StoreId,
    /// The opening of the store that writes it.
    pub incarnation: Incarnation,
    /// The shard.
    pub shard: ShardId,
}

/// A batch as the one after it names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Dense from 1; 0 stands for "none before the first".
    pub number: u64,
    /// Its header's checksum, which covers its payload's.
    pub checksum: u32,
}

/// The first block of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotHeader {
    /// Whose it is.
    pub id: LogId,
    /// The slot's place in the log: it holds the positions `sequence * file_bytes` and on.
    pub sequence: u64,
    /// The slot's size.
    pub file_bytes: u64,
    /// Everything before this position was durable when the slot was begun (R1).
    pub durable: Lsn,
    /// The oldest position still needed when the slot was begun.
    pub start: Lsn,
    /// The batch before the slot's first.
    pub previous: Link,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSlotHeader {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    store: [u8; 16],
    incarnation: U64,
    sequence: U64,
    file_bytes: U64,
    durable: U64,
    start: U64,
    previous_number: U64,
    previous_checksum: U32,
    shard: U16,
    reserved: [u8; 2],
}

impl SlotHeader {
    /// Fills `block`, which is one [`BLOCK_BYTES`] long.
    pub fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_BYTES, "a slot header is one block");
        block.fill(0);
        let raw = RawSlotHeader {
            magic: SLOT_MAGIC,
            version: U32::new(FORMAT_VERSION),
            checksum: U32::new(0),
            store: self.id.store.0,
            incarnation: U64::new(self.id.incarnation.0),
            sequence: U64::new(self.sequence),
            file_bytes: U64::new(self.file_bytes),
            durable: U64::new(self.durable.0),
            start: U64::new(self.start.0),
            previous_number: U64::new(self.previous.number),
            previous_checksum: U32::new(self.previous.checksum),
            shard: U16::new(self.id.shard.0),
            reserved: [0; 2],
        };
        block[..size_of::<RawSlotHeader>()].copy_from_slice(raw.as_bytes());
        let checksum = checksum_without(block, CHECKSUM_AT);
        block[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The header in a slot's first block.
    ///
    /// # Errors
    /// [`Invalid`], for any bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let block = bytes.get(..BLOCK_BYTES).ok_or(Invalid::Short)?;
        let (raw, rest) = RawSlotHeader::ref_from_prefix(block).map_err(|_| Invalid::Short)?;
        if raw.magic != SLOT_MAGIC {
            return Err(Invalid::Magic);
        }
        if raw.checksum.get() != checksum_without(block, CHECKSUM_AT) {
            return Err(Invalid::Checksum("slot header"));
        }
        if raw.version.get() != FORMAT_VERSION {
            return Err(Invalid::Version(raw.version.get()));
        }
        if raw.reserved != [0; 2] || rest.iter().any(|&b| b != 0) {
            return Err(Invalid::Field("reserved bytes"));
        }
        Ok(Self {
            id: LogId {
                store: StoreId(raw.store),
                incarnation: Incarnation(raw.incarnation.get()),
                shard: ShardId(raw.shard.get()),
            },
            sequence: raw.sequence.get(),
            file_bytes: raw.file_bytes.get(),
            durable: Lsn(raw.durable.get()),
            start: Lsn(raw.start.get()),
            previous: Link { number: raw.previous_number.get(), checksum: raw.previous_checksum.get() },
        })
    }
}

/// What stands before a batch's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Whose it is.
    pub id: LogId,
    /// Dense from 1 in its incarnation.
    pub number: u64,
    /// Where it stands.
    pub lsn: Lsn,
    /// Everything before this position was durable when the batch was written (R1).
    pub durable: Lsn,
    /// The oldest position still needed when the batch was written.
    pub start: Lsn,
    /// The checksum of the batch before it.
    pub previous: u32,
    /// Bytes of records.
    pub payload_bytes: u32,
    /// Records.
    pub records: u32,
    /// How many log files had durable names when the batch was written: `0.wal` and on, with no gap.
    pub files: u32,
    /// Checksum of the payload and the zeros after it, up to the next block.
    pub payload_checksum: u32,
    /// Checksum of all of the above: what the next batch names it by.
    pub checksum: u32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBatchHeader {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    store: [u8; 16],
    incarnation: U64,
    number: U64,
    lsn: U64,
    durable: U64,
    start: U64,
    previous: U32,
    payload_bytes: U32,
    records: U32,
    files: U32,
    payload_checksum: U32,
    shard: U16,
    reserved: [u8; 2],
}

impl BatchHeader {
    /// Bytes of the whole batch in its slot.
    #[must_use]
    pub const fn batch_bytes(&self) -> usize {
        align_up(BATCH_HEADER_BYTES + self.payload_bytes as usize)
    }

    /// The position after the batch.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(self.batch_bytes() as u64))
    }

    /// How the next batch names this one.
    #[must_use]
    pub const fn link(&self) -> Link {
        Link { number: self.number, checksum: self.checksum }
    }

    /// Writes the header at the front of `batch`, whose payload and padding are final, filling in both checksums.
    /// Returns how the next batch names it.
    pub fn seal(&self, batch: &mut [u8]) -> Link {
        assert_eq!(batch.len(), self.batch_bytes(), "a batch is sealed whole");
        let (head, payload) = batch.split_at_mut(BATCH_HEADER_BYTES);
        let raw = RawBatchHeader {
            magic: BATCH_MAGIC,
            version: U32::new(FORMAT_VERSION),
            checksum: U32::new(0),
            store: self.id.store.0,
            incarnation: U64::new(self.id.incarnation.0),
            number: U64::new(self.number),
            lsn: U64::new(self.lsn.0),
            durable: U64::new(self.durable.0),
            start: U64::new(self.start.0),
            previous: U32::new(self.previous),
            payload_bytes: U32::new(self.payload_bytes),
            records: U32::new(self.records),
            files: U32::new(self.files),
            payload_checksum: U32::new(crc32fast::hash(payload)),
            shard: U16::new(self.id.shard.0),
            reserved: [0; 2],
        };
        head.copy_from_slice(raw.as_bytes());
        let checksum = checksum_without(head, CHECKSUM_AT);
        head[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        Link { number: self.number, checksum }
    }

    /// The header at the front of `bytes`; the payload is not looked at.
    ///
    /// # Errors
    /// [`Invalid`], for any bytes that [`Self::seal`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let (raw, _) = RawBatchHeader::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
        if raw.magic != BATCH_MAGIC {
            return Err(Invalid::Magic);
        }
        if raw.checksum.get() != checksum_without(raw.as_bytes(), CHECKSUM_AT) {
            return Err(Invalid::Checksum("batch header"));
        }
        if raw.version.get() != FORMAT_VERSION {
            return Err(Invalid::Version(raw.version.get()));
        }
        if raw.reserved != [0; 2] {
            return Err(Invalid::Field("reserved bytes"));
        }
        let header = Self {
            id: LogId {
                store: StoreId(raw.store),
                incarnation: Incarnation(raw.incarnation.get()),
                shard: ShardId(raw.shard.get()),
            },
            number: raw.number.get(),
            lsn: Lsn(raw.lsn.get()),
            durable: Lsn(raw.durable.get()),
            start: Lsn(raw.start.get()),
            previous: raw.previous.get(),
            payload_bytes: raw.payload_bytes.get(),
            records: raw.records.get(),
            files: raw.files.get(),
            payload_checksum: raw.payload_checksum.get(),
            checksum: raw.checksum.get(),
        };
        if header.number == 0 || header.durable > header.lsn || header.start > header.lsn {
            return Err(Invalid::Field("batch position"));
        }
        Ok(header)
    }
}

/// Where both headers keep their own checksum.
const CHECKSUM_AT: usize = 12;

const _: () = assert!(std::mem::offset_of!(RawSlotHeader, checksum) == CHECKSUM_AT);
const _: () = assert!(std::mem::offset_of!(RawBatchHeader, checksum) == CHECKSUM_AT);
const _: () = assert!(size_of::<RawSlotHeader>() == 88 && BATCH_HEADER_BYTES == 96);
const _: () =
    assert!(BATCH_HEADER_BYTES <= 512, "a header lies within one sector, so that it is never half old");

/// CRC-32 of `bytes` but for the four of the checksum itself at `at`.
pub(crate) fn checksum_without(bytes: &[u8], at: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(&bytes[at + 4..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LogId =
        LogId { store: StoreId([7; 16]), incarnation: Incarnation(0x0102), shard: ShardId(0x0304) };

    fn slot() -> SlotHeader {
        SlotHeader {
            id: ID,
            sequence: 5,
            file_bytes: 1 << 20,
            durable: Lsn(0x3344),
            start: Lsn(0x1122),
            previous: Link { number: 9, checksum: 0xaabb_ccdd },
        }
    }

    fn batch(payload: &[u8]) -> (BatchHeader, Vec<u8>) {
        let header = BatchHeader {
            id: ID,
            number: 10,
            lsn: Lsn(0x2000),
            durable: Lsn(0x1000),
            start: Lsn(0x800),
            previous: 0xaabb_ccdd,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            records: 1,
            files: 2,
            payload_checksum: 0,
            checksum: 0,
        };
        let mut bytes = vec![0; header.batch_bytes()];
        bytes[BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + payload.len()].copy_from_slice(payload);
        let link = header.seal(&mut bytes);
        let decoded = BatchHeader::decode(&bytes).unwrap();
        assert_eq!(decoded.link(), link);
        let expected = BatchHeader {
            payload_checksum: crc32fast::hash(&bytes[BATCH_HEADER_BYTES..]),
            checksum: link.checksum,
            ..header
        };
        assert_eq!(decoded, expected);
        (decoded, bytes)
    }

    #[test]
    fn slot_header_pins_its_bytes() {
        let mut block = vec![0xff; BLOCK_BYTES];
        slot().encode(&mut block);
        assert_eq!(SlotHeader::decode(&block), Ok(slot()));
        let mut expected = b"fsWALslt\x01\0\0\0".to_vec();
        expected.extend_from_slice(&block[12..16]);
        expected.extend_from_slice(&[7; 16]);
        expected.extend_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0, 0, 0x10, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0x44, 0x33, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0x22, 0x11, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0xdd, 0xcc, 0xbb, 0xaa, 4, 3, 0, 0]);
        assert_eq!(&block[..88], &expected[..]);
        assert!(block[88..].iter().all(|&b| b == 0));
    }

    #[test]
    fn batch_header_pins_its_bytes() {
        let (header, bytes) = batch(b"abc");
        let mut expected = b"fsWALbat\x01\0\0\0".to_vec();
        expected.extend_from_slice(&header.checksum.to_le_bytes());
        expected.extend_from_slice(&[7; 16]);
        for n in [0x0102_u64, 10, 0x2000, 0x1000, 0x800] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        for n in [0xaabb_ccdd_u32, 3, 1, 2, header.payload_checksum] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        expected.extend_from_slice(&[4, 3, 0, 0]);
        assert_eq!(&bytes[..96], &expected[..]);
        assert_eq!(bytes.len(), BLOCK_BYTES);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        let mut block = vec![0; BLOCK_BYTES];
        slot().encode(&mut block);
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SlotHeader::decode(&block).is_err(), "slot header, bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        let (_, mut bytes) = batch(b"abc");
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(BatchHeader::decode(&bytes).is_err(), "batch header, bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_whole_header_of_another_version_is_named_as_such() {
        let (_, mut bytes) = batch(b"");
        bytes[8] = 2;
        let checksum = checksum_without(&bytes[..BATCH_HEADER_BYTES], CHECKSUM_AT);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(BatchHeader::decode(&bytes), Err(Invalid::Version(2)));
    }
}
