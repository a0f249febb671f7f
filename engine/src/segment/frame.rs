//! A data block as it lies in the file: a header with its checksum, then its payload, compressed if that saves enough.
//!
//! `engine/FORMAT.md`, "Segment", owns the layout.

use std::path::Path;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::block::Block;
use crate::error::{Error, Result};
use crate::limits::{STORAGE_KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// How a payload is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    None = 0,
    /// LZ4's block format.
    #[default]
    Lz4 = 1,
}

/// Before every payload.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct FrameHeader {
    /// CRC-32 of the rest of the header and the stored payload.
    crc: U32,
    /// Bytes that follow the header.
    stored_bytes: U32,
    /// Bytes of the payload once decompressed.
    raw_bytes: U32,
    codec: u8,
    reserved: [u8; 3],
}

/// Bytes of a [`FrameHeader`].
pub(crate) const FRAME_HEADER_BYTES: usize = size_of::<FrameHeader>();
/// The largest target size of a block: what a point read of a small row decompresses at most.
pub const BLOCK_TARGET_BYTES_MAX: usize = 64 << 10;
/// No payload is larger: a block just below its target takes one more row, with its restart points and head.
pub(crate) const PAYLOAD_BYTES_MAX: usize =
    2 * BLOCK_TARGET_BYTES_MAX + VALUE_BYTES_MAX + STORAGE_KEY_BYTES_MAX;
/// A payload is stored compressed when that saves an eighth: less does not pay for decompressing it on each read.
const SAVING_MIN_SHIFT: u32 = 3;

const _: () = assert!(FRAME_HEADER_BYTES == 16);

/// After this many payloads in a row that did not compress, one in `2^BACKOFF_MAX` is tried: looking for repeats that are
/// not there costs more than all else that is done to a block.
const BACKOFF_MAX: u32 = 5;

/// Turns payloads into frames; keeps its memory between them.
pub struct FrameWriter {
    codec: Codec,
    table: CompressTable,
    /// Payloads in a row that were tried and did not compress, up to [`BACKOFF_MAX`].
    fruitless: u32,
    /// Payloads to store as they are before one is tried again.
    untried: u32,
    frame: Vec<u8>,
}

impl std::fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameWriter").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl FrameWriter {
    /// A writer that stores payloads with `codec` where that saves enough.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self { codec, table: CompressTable::small(), fruitless: 0, untried: 0, frame: Vec::new() }
    }

    /// The frame of `payload`, and its checksum.
    pub fn encode(&mut self, payload: &[u8]) -> (&[u8], u32) {
        let compressed = if self.is_worth_trying() { self.compress(payload) } else { None };
        let (codec, stored_bytes) = match compressed {
            Some(bytes) => (Codec::Lz4, bytes),
            None => (Codec::None, payload.len()),
        };
        let end = FRAME_HEADER_BYTES + stored_bytes;
        if codec == Codec::None {
            if self.frame.len() < end {
                self.frame.resize(end, 0);
            }
            self.frame[FRAME_HEADER_BYTES..end].copy_from_slice(payload);
        }
        let length = |n: usize| U32::new(u32::try_from(n).expect("payloads are limited"));
        let header = FrameHeader {
            crc: U32::ZERO,
            stored_bytes: length(stored_bytes),
            raw_bytes: length(payload.len()),
            codec: codec as u8,
            reserved: [0; 3],
        };
        self.frame[..FRAME_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let crc = crc32fast::hash(&self.frame[4..end]);
        self.frame[..4].copy_from_slice(&crc.to_le_bytes());
        (&self.frame[..end], crc)
    }

    const fn is_worth_trying(&mut self) -> bool {
        if self.untried > 0 {
            self.untried -= 1;
            return false;
        }
        matches!(self.codec, Codec::Lz4)
    }

    /// Compresses `payload` to behind the header; its length there, or none if it does not save enough.
    fn compress(&mut self, payload: &[u8]) -> Option<usize> {
        let room = FRAME_HEADER_BYTES + get_maximum_output_size(payload.len());
        if self.frame.len() < room {
            self.frame.resize(room, 0);
        }
        let output = &mut self.frame[FRAME_HEADER_BYTES..];
        let compressed = compress_into_with_table(payload, output, &mut self.table)
            .expect("the output has the room that the library asks for");
        if compressed <= payload.len() - (payload.len() >> SAVING_MIN_SHIFT) {
            self.fruitless = 0;
            return Some(compressed);
        }
        self.fruitless = (self.fruitless + 1).min(BACKOFF_MAX);
        self.untried = (1 << self.fruitless) - 1;
        None
    }
}

/// What the index says of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FramePlace {
    /// Its offset in the file.
    pub offset: u64,
    /// Its length, header included.
    pub bytes: u32,
    /// Its checksum.
    pub crc: u32,
}

/// Checks and decompresses the frame that lies at `place` in `path`. `scratch` is memory to use.
///
/// # Errors
/// [`Error::Corrupt`] when it is not what `place` describes.
pub fn decode(frame: &[u8], place: FramePlace, path: &Path, scratch: &mut Vec<u8>) -> Result<Block> {
    decode_frame(frame, place, scratch).map_err(|what| Error::corrupt(path, place.offset, what))
}

fn decode_frame(frame: &[u8], place: FramePlace, scratch: &mut Vec<u8>) -> Result<Block, String> {
    let (header, stored) =
        FrameHeader::ref_from_prefix(frame).map_err(|_| "block shorter than its header")?;
    if frame.len() != place.bytes as usize || stored.len() != header.stored_bytes.get() as usize {
        return Err(format!(
            "block of {} bytes where the index says {} and its header {}",
            frame.len(),
            place.bytes,
            header.stored_bytes
        ));
    }
    let crc = crc32fast::hash(&frame[4..]);
    if crc != header.crc.get() || crc != place.crc {
        return Err(format!(
            "block checksum {crc:08x}, its header says {:08x}, the index {:08x}",
            header.crc, place.crc
        ));
    }
    if header.reserved != [0; 3] {
        return Err("reserved bytes of a block header are not zero".into());
    }
    let raw_bytes = header.raw_bytes.get() as usize;
    if raw_bytes > PAYLOAD_BYTES_MAX {
        return Err(format!("block of {raw_bytes} bytes decompressed: at most {PAYLOAD_BYTES_MAX}"));
    }
    if header.codec == Codec::None as u8 && raw_bytes == stored.len() {
        return Ok(Block::parse(stored)?);
    }
    if header.codec != Codec::Lz4 as u8 {
        return Err(format!("block with codec {} and {raw_bytes} bytes raw", header.codec));
    }
    if scratch.len() < raw_bytes {
        scratch.resize(raw_bytes, 0);
    }
    let out = scratch.get_mut(..raw_bytes).ok_or("no room to decompress")?;
    match decompress_into(stored, out) {
        Ok(bytes) if bytes == raw_bytes => Ok(Block::parse(out)?),
        Ok(bytes) => Err(format!("block decompressed to {bytes} bytes where its header says {raw_bytes}")),
        Err(e) => Err(format!("block does not decompress: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::BlockBuilder;
    use super::*;
    use crate::entry::{Entry, Expiry, Kind};
    use crate::ids::Version;

    fn frame(codec: Codec, value: &[u8]) -> (Vec<u8>, FramePlace) {
        let mut builder = BlockBuilder::default();
        let entry = Entry { key: b"key", version: Version(1), kind: Kind::Put, expiry: Expiry::NEVER, value };
        let relation = builder.relation(&entry);
        builder.push(&entry, relation);
        let mut writer = FrameWriter::new(codec);
        let (frame, crc) = writer.encode(builder.finish());
        let place = FramePlace { offset: 0, bytes: u32::try_from(frame.len()).unwrap(), crc };
        (frame.to_vec(), place)
    }

    fn read(frame: &[u8], place: FramePlace) -> Result<Block> {
        decode(frame, place, Path::new("s"), &mut Vec::new())
    }

    #[test]
    fn compressed_only_where_it_saves() {
        let (small, place) = frame(Codec::Lz4, &[7; 1000]);
        assert!(small.len() < 200 && small[12] == Codec::Lz4 as u8);
        assert_eq!(read(&small, place).unwrap().rows(), 1);
        let noise: Vec<u8> = std::iter::repeat_with({
            let mut rng = fastrand::Rng::with_seed(1);
            move || rng.u8(..)
        })
        .take(1000)
        .collect();
        let (raw, place) = frame(Codec::Lz4, &noise);
        assert!(raw.len() > 1000 && raw[12] == Codec::None as u8);
        assert_eq!(read(&raw, place).unwrap().rows(), 1);
    }

    #[test]
    fn what_does_not_compress_is_seldom_tried_and_what_does_again_is_found() {
        let mut rng = fastrand::Rng::with_seed(2);
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(1000).collect();
        let mut writer = FrameWriter::new(Codec::Lz4);
        let mut is_compressed = |payload: &[u8]| writer.encode(payload).0[12] == Codec::Lz4 as u8;
        assert!((0..100).all(|_| is_compressed(&[7; 1000])));
        assert!((0..1000).all(|_| !is_compressed(&noise)));
        let until = (0..1000).position(|_| is_compressed(&[7; 1000])).unwrap();
        assert!(until < 1 << BACKOFF_MAX, "{until} payloads stored as they were");
        assert!((0..100).all(|_| is_compressed(&[7; 1000])), "once it compresses, each is tried");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for codec in [Codec::None, Codec::Lz4] {
            let (good, place) = frame(codec, &[7; 100]);
            read(&good, place).unwrap();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&bad, place).is_err(), "bit {bit}");
            }
            for len in 0..good.len() {
                assert!(read(&good[..len], place).is_err(), "{len} bytes");
            }
        }
    }

    #[test]
    fn no_payload_with_a_right_checksum_makes_decoding_panic() {
        let seed = 5;
        let mut rng = fastrand::Rng::with_seed(seed);
        let (good, _) = frame(Codec::Lz4, &[7; 300]);
        for _ in 0..30_000 {
            let mut bad = good.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(4..bad.len());
                bad[at] = rng.u8(..);
            }
            let crc = crc32fast::hash(&bad[4..]);
            bad[..4].copy_from_slice(&crc.to_le_bytes());
            let place = FramePlace { offset: 0, bytes: u32::try_from(bad.len()).unwrap(), crc };
            let _ = read(&bad, place);
        }
    }
}
