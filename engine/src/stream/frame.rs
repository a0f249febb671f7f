//! What the two sides of a stream say, and its bytes. `engine/FORMAT.md`, "Stream", owns the layout.
//!
//! Refuses on reading whatever no writer writes: each frame has one encoding.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{Epoch, MoveId, PartitionId, Version};
use crate::limits::{BATCH_BYTES_MAX, ENTITY_BYTES_MAX};
use crate::wal::{Invalid, RowSet};

/// A frame of a stream.
#[derive(Debug)]
pub struct Frame {
    /// Whose stream.
    pub id: MoveId,
    /// Its number; an acknowledgement has that of the frame it acknowledges.
    pub number: u64,
    /// What it says.
    pub message: Message,
}

/// What a frame says.
#[derive(Debug)]
pub enum Message {
    /// The first: what comes.
    Open(Opening),
    /// Rows of the base, in storage order.
    Base(RowSet),
    /// There are no more of those; so many there were.
    BaseEnd {
        /// All rows of the base.
        rows: u64,
        /// None of them has a larger version.
        version: Version,
        /// The source's partition time.
        time_ms: u64,
    },
    /// Rows in the order in which they were applied.
    Log(RowSet),
    /// Nothing comes any more: make it durable, give out later versions and later times only.
    Last {
        /// The largest version that the source gave out.
        version: Version,
        /// Its partition time.
        time_ms: u64,
    },
    /// The receiver owns the entity.
    Done,
    /// It does not, and keeps nothing of it.
    Abort,
    /// Carried out.
    Ack,
}

/// What a stream brings, and between whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The entity's name.
    pub entity: Vec<u8>,
    /// Where it is, and in which configuration.
    pub from: (PartitionId, Epoch),
    /// Where it goes.
    pub to: (PartitionId, Epoch),
}

/// A frame of rows has about so many bytes of them, and at most one row more.
pub const FRAME_BYTES_MAX: usize = BATCH_BYTES_MAX + (64 << 10);

const MAGIC: [u8; 4] = *b"FSST";
const FORMAT: u8 = 1;

impl Message {
    const fn kind(&self) -> u8 {
        match self {
            Self::Open(_) => 1,
            Self::Base(_) => 2,
            Self::BaseEnd { .. } => 3,
            Self::Log(_) => 4,
            Self::Last { .. } => 5,
            Self::Done => 6,
            Self::Abort => 7,
            Self::Ack => 8,
        }
    }
}

impl Frame {
    /// Its bytes, appended to `out`.
    ///
    /// # Panics
    /// When it is over a limit, which its maker has checked.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + HEADER_BYTES, 0);
        match &self.message {
            Message::Open(opening) => {
                let raw = RawOpening {
                    from: U32::new(opening.from.0.0),
                    from_epoch: U64::new(opening.from.1.0),
                    to: U32::new(opening.to.0.0),
                    to_epoch: U64::new(opening.to.1.0),
                    entity_bytes: U16::new(
                        u16::try_from(opening.entity.len()).expect("a name within its limit"),
                    ),
                };
                out.extend_from_slice(raw.as_bytes());
                out.extend_from_slice(&opening.entity);
            }
            Message::Base(rows) | Message::Log(rows) => out.extend_from_slice(rows.rows().as_bytes()),
            Message::BaseEnd { rows, version, time_ms } => {
                [*rows, version.0, *time_ms].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            }
            Message::Last { version, time_ms } => {
                out.extend_from_slice(&version.0.to_le_bytes());
                out.extend_from_slice(&time_ms.to_le_bytes());
            }
            Message::Done | Message::Abort | Message::Ack => {}
        }
        let payload_bytes = out.len() - at - HEADER_BYTES;
        assert!(payload_bytes <= FRAME_BYTES_MAX, "a frame within its limit");
        let mut header = RawHeader {
            magic: MAGIC,
            format: FORMAT,
            kind: self.message.kind(),
            reserved: [0; 2],
            id: U64::new(self.id.0),
            number: U64::new(self.number),
            payload_bytes: U32::new(u32::try_from(payload_bytes).expect("within its limit")),
            checksum: U32::new(0),
        };
        header.checksum = U32::new(checksum(&header, &out[at + HEADER_BYTES..]));
        out[at..at + HEADER_BYTES].copy_from_slice(header.as_bytes());
    }

    /// The frame at the front of `bytes`, and what follows it.
    ///
    /// # Errors
    /// [`Invalid::Short`] when there is not all of it yet; otherwise what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), Invalid> {
        let (header, rest) = RawHeader::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
        if header.magic != MAGIC {
            return Err(Invalid::Field("magic"));
        }
        if header.format != FORMAT {
            return Err(Invalid::Field("format version"));
        }
        if header.reserved != [0; 2] {
            return Err(Invalid::Field("reserved bytes"));
        }
        let payload_bytes = usize::try_from(header.payload_bytes.get()).unwrap_or(usize::MAX);
        if payload_bytes > FRAME_BYTES_MAX {
            return Err(Invalid::Field("frame length"));
        }
        let (payload, rest) = rest.split_at_checked(payload_bytes).ok_or(Invalid::Short)?;
        if checksum(header, payload) != header.checksum.get() {
            return Err(Invalid::Field("checksum"));
        }
        let message = decode_message(header.kind, payload)?;
        Ok((Self { id: MoveId(header.id.get()), number: header.number.get(), message }, rest))
    }
}

fn decode_message(kind: u8, payload: &[u8]) -> Result<Message, Invalid> {
    let number = |at: usize| {
        let bytes = payload.get(at..).and_then(<[u8]>::first_chunk::<8>);
        bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Invalid::Short)
    };
    let exactly =
        |bytes: usize| if payload.len() == bytes { Ok(()) } else { Err(Invalid::Field("frame length")) };
    Ok(match kind {
        1 => Message::Open(decode_opening(payload)?),
        2 => Message::Base(RowSet::from_bytes(payload)?),
        3 => {
            exactly(24)?;
            Message::BaseEnd { rows: number(0)?, version: Version(number(8)?), time_ms: number(16)? }
        }
        4 => Message::Log(RowSet::from_bytes(payload)?),
        5 => {
            exactly(16)?;
            Message::Last { version: Version(number(0)?), time_ms: number(8)? }
        }
        6..=8 => {
            exactly(0)?;
            match kind {
                6 => Message::Done,
                7 => Message::Abort,
                _ => Message::Ack,
            }
        }
        _ => return Err(Invalid::Field("frame kind")),
    })
}

fn decode_opening(payload: &[u8]) -> Result<Opening, Invalid> {
    let (raw, entity) = RawOpening::ref_from_prefix(payload).map_err(|_| Invalid::Field("frame length"))?;
    let bytes = usize::from(raw.entity_bytes.get());
    if entity.len() != bytes || bytes == 0 || bytes > ENTITY_BYTES_MAX {
        return Err(Invalid::Field("entity name length"));
    }
    Ok(Opening {
        entity: entity.to_vec(),
        from: (PartitionId(raw.from.get()), Epoch(raw.from_epoch.get())),
        to: (PartitionId(raw.to.get()), Epoch(raw.to_epoch.get())),
    })
}

/// CRC-32 of all but the checksum itself.
fn checksum(header: &RawHeader, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header.as_bytes()[..CHECKSUM_AT]);
    hasher.update(payload);
    hasher.finalize()
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    format: u8,
    kind: u8,
    reserved: [u8; 2],
    id: U64,
    number: U64,
    payload_bytes: U32,
    checksum: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawOpening {
    from: U32,
    from_epoch: U64,
    to: U32,
    to_epoch: U64,
    entity_bytes: U16,
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const _: () = assert!(HEADER_BYTES == 32 && size_of::<RawOpening>() == 26);
