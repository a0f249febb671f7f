//! A manifest file: edits one after the other, each on 4 KiB blocks of its own, chained by their checksums.
//!
//! It reads bytes and does no I/O; what the end of a chain means, torn or corrupt, is decided where the witness is
//! known (`open`). `engine/FORMAT.md`, "Manifest", owns the layout.
//!
//! Invariants:
//! - every bit of an edit's blocks is covered: by its checksum, or by padding that must be zero;
//! - an edit is whole only if its number follows the one before it and it carries that one's checksum.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::edit::{self, Edit, FORMAT_VERSION};
use crate::ids::{EditNumber, PartitionId};
use crate::io::buffer::{ALIGNMENT, align_up};

/// What an edit is to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The whole state; the first edit of every file, and only that.
    Snapshot = 1,
    /// A change.
    Edit = 2,
}

/// An edit as it lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whose it is.
    pub partition: PartitionId,
    /// Its number.
    pub number: EditNumber,
    /// Snapshot or change.
    pub kind: FrameKind,
    /// Checksum of the edit before it; 0 for the partition's first.
    pub previous: u32,
    /// What it says.
    pub edit: Edit,
}

/// What lies at a place in a file where an edit may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An edit, its checksum, and the bytes of its blocks.
    Whole(Box<Frame>, u32, usize),
    /// Nothing was written there.
    Unused,
    /// Something that is no edit.
    Damaged(Damage),
}

/// Why an edit is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// An append that was cut short can look like this, and so can damage.
    Torn(&'static str),
    /// No crash leaves this behind: it was written by somebody else.
    Foreign(&'static str),
}

/// The edits of one file, up to the first that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// The edits, with their offsets.
    pub frames: Vec<(u64, Frame)>,
    /// Checksum of the last of them.
    pub checksum: u32,
    /// Where they end.
    pub end: u64,
    /// What is wrong at `end`, if anything was written there.
    pub damage: Option<Damage>,
}

impl Damage {
    /// It in words.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Torn(what) | Self::Foreign(what) => what,
        }
    }
}

impl Frame {
    /// The frame's blocks, and its checksum.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = vec![0; HEADER_BYTES];
        self.edit.encode(&mut out);
        let header = Header {
            magic: MAGIC,
            version: U16::new(FORMAT_VERSION),
            kind: self.kind as u8,
            reserved: 0,
            partition: U32::new(self.partition.0),
            length: U32::new(u32::try_from(out.len() - HEADER_BYTES).expect("an edit is below 4 GiB")),
            number: U64::new(self.number.0),
            previous: U32::new(self.previous),
            checksum: U32::new(0),
        };
        out[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        let checksum = checksum(&out);
        out[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(U32::new(checksum).as_bytes());
        out.resize(align_up(out.len()), 0);
        (out, checksum)
    }
}

/// What lies at the start of `bytes`, the rest of a manifest file from a multiple of 4 KiB on.
#[must_use]
pub fn decode(bytes: &[u8]) -> Found {
    match decode_frame(bytes) {
        Ok(Some((frame, checksum, len))) => Found::Whole(Box::new(frame), checksum, len),
        Ok(None) => Found::Unused,
        Err(damage) => Found::Damaged(damage),
    }
}

/// Follows the chain of edits in a file of `partition`.
#[must_use]
pub fn read_chain(bytes: &[u8], partition: PartitionId) -> Chain {
    let mut chain = Chain::default();
    let mut rest = bytes;
    loop {
        let (frame, checksum, len) = match decode(rest) {
            Found::Whole(frame, checksum, len) => (*frame, checksum, len),
            Found::Unused => break,
            Found::Damaged(damage) => {
                chain.damage = Some(damage);
                break;
            }
        };
        if let Err(damage) = follows(&chain, &frame, partition) {
            chain.damage = Some(damage);
            break;
        }
        chain.frames.push((chain.end, frame));
        chain.checksum = checksum;
        chain.end += len as u64;
        rest = rest.get(len..).unwrap_or(&[]);
    }
    chain
}

/// Whether `frame` goes on where `chain` ends.
fn follows(chain: &Chain, frame: &Frame, partition: PartitionId) -> Result<(), Damage> {
    if frame.partition != partition {
        return Err(Damage::Foreign("an edit of another partition"));
    }
    let Some((_, last)) = chain.frames.last() else {
        return match frame.kind {
            FrameKind::Snapshot => Ok(()),
            FrameKind::Edit => Err(Damage::Torn("the file does not begin with a snapshot")),
        };
    };
    if frame.kind == FrameKind::Snapshot {
        Err(Damage::Torn("a second snapshot"))
    } else if frame.number.0.checked_sub(1) != Some(last.number.0) {
        Err(Damage::Torn("edit number out of sequence"))
    } else if frame.previous != chain.checksum {
        Err(Damage::Torn("does not follow the edit before it"))
    } else {
        Ok(())
    }
}

fn decode_frame(bytes: &[u8]) -> Result<Option<(Frame, u32, usize)>, Damage> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let block = bytes.get(..ALIGNMENT).ok_or(Damage::Torn("less than a block"))?;
    if block.iter().all(|&b| b == 0) {
        return Ok(None);
    }
    let (header, payload) = Header::ref_from_prefix(bytes).map_err(|_| Damage::Torn("less than a header"))?;
    if header.magic != MAGIC {
        return Err(Damage::Torn("no edit begins here"));
    }
    let length = header.length.get() as usize;
    let payload = payload.get(..length).ok_or(Damage::Torn("longer than the rest of the file"))?;
    let (covered, rest) = bytes.split_at_checked(HEADER_BYTES + length).ok_or(Damage::Torn("cut off"))?;
    if checksum(covered) != header.checksum.get() {
        return Err(Damage::Torn("checksum mismatch"));
    }
    // Checked after the checksum, whose place and cover no version changes: a flipped bit here is damage, but a whole
    // edit of another format is not ours to cut.
    let version = header.version.get();
    if !(edit::FORMAT_VERSION_WHOLE..=FORMAT_VERSION).contains(&version) {
        return Err(Damage::Foreign("a manifest format this program does not know"));
    }
    let len = align_up(covered.len());
    let padding = rest.get(..len - covered.len()).ok_or(Damage::Torn("its last block is cut off"))?;
    if padding.iter().any(|&b| b != 0) {
        return Err(Damage::Torn("padding is not zero"));
    }
    if header.reserved != 0 {
        return Err(Damage::Torn("reserved byte is not zero"));
    }
    let kind = match header.kind {
        1 => FrameKind::Snapshot,
        2 => FrameKind::Edit,
        _ => return Err(Damage::Torn("unknown kind of edit")),
    };
    let frame = Frame {
        partition: PartitionId(header.partition.get()),
        number: EditNumber(header.number.get()),
        kind,
        previous: header.previous.get(),
        edit: Edit::decode(payload, version).map_err(Damage::Torn)?,
    };
    Ok(Some((frame, header.checksum.get(), len)))
}

/// Of a header, its own checksum apart, and what follows it.
pub(super) fn checksum(covered: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&covered[..CHECKSUM_AT]);
    crc.update(&covered[HEADER_BYTES..]);
    crc.finalize()
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: U16,
    kind: u8,
    reserved: u8,
    partition: U32,
    length: U32,
    number: U64,
    previous: U32,
    checksum: U32,
}

const MAGIC: [u8; 4] = *b"FSMF";
const HEADER_BYTES: usize = size_of::<Header>();
const CHECKSUM_AT: usize = HEADER_BYTES - 4;

const _: () = assert!(HEADER_BYTES == 32, "as FORMAT.md says");
