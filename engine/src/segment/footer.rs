//! A segment's last page, and its properties: what the file is, where its sections lie, and their checksums.
//!
//! The footer's own checksum stands for the whole file: it covers the sections' checksums, one of which covers the
//! index, which holds every block's. `engine/FORMAT.md`, "Segment", owns the layout.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::meta::SegmentMeta;
use super::ranges::KeyRanges;
use crate::entry::{Expiry, RangeTombstone};
use crate::ids::{SegmentId, Version};
use crate::io::buffer::ALIGNMENT;
use crate::limits::STORAGE_KEY_BYTES_MAX;

/// "fshrdseg", first in the footer.
const MAGIC: [u8; 8] = *b"fshrdseg";
/// The format this code writes, and the only one it reads.
pub const FORMAT_VERSION: u16 = 1;
/// The footer takes the file's last page.
pub(crate) const FOOTER_BYTES: usize = ALIGNMENT;

/// A section's place and checksum.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Section {
    /// Offset in the file.
    pub offset: U64,
    /// Length in bytes.
    pub bytes: U64,
    /// CRC-32 of its bytes.
    pub crc: U32,
    reserved: [u8; 4],
}

/// The footer page's used part.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Footer {
    magic: [u8; 8],
    format_version: U16,
    reserved: [u8; 2],
    /// CRC-32 of the whole page, this field taken as zero.
    crc: U32,
    id: U64,
    /// The block index.
    pub index: Section,
    /// The Bloom filter.
    pub filter: Section,
    /// Range tombstones.
    pub tombstones: Section,
    /// Counts and bounds.
    pub properties: Section,
}

const _: () = assert!(size_of::<Footer>() == 120 && size_of::<Footer>() <= FOOTER_BYTES);

impl Section {
    /// Where `bytes` lie when they begin at `offset`.
    pub(crate) fn of(bytes: &[u8], offset: u64) -> Self {
        Self {
            offset: U64::new(offset),
            bytes: U64::new(bytes.len() as u64),
            crc: U32::new(crc32fast::hash(bytes)),
            reserved: [0; 4],
        }
    }

    /// Where the section ends, if that is a number.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.offset.get().checked_add(self.bytes.get())
    }

    /// Checks its bytes against its checksum.
    ///
    /// # Errors
    /// What they are and should be.
    pub fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let crc = crc32fast::hash(bytes);
        if crc == self.crc.get() {
            return Ok(());
        }
        Err(format!("checksum {crc:08x}, the footer says {:08x}", self.crc))
    }
}

impl Footer {
    pub(crate) fn new(id: SegmentId, sections: [Section; 4]) -> Self {
        let [index, filter, tombstones, properties] = sections;
        Self {
            magic: MAGIC,
            format_version: U16::new(FORMAT_VERSION),
            reserved: [0; 2],
            crc: U32::ZERO,
            id: U64::new(id.0),
            index,
            filter,
            tombstones,
            properties,
        }
    }

    /// Fills a zeroed page; returns the checksum that stands for the file.
    pub fn encode(mut self, page: &mut [u8]) -> u32 {
        self.crc = U32::ZERO;
        page[..size_of::<Self>()].copy_from_slice(self.as_bytes());
        let crc = crc32fast::hash(page);
        self.crc = U32::new(crc);
        page[..size_of::<Self>()].copy_from_slice(self.as_bytes());
        crc
    }

    /// Reads a file's last page. `file_bytes` is the file's length.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(page: &[u8], file_bytes: u64) -> Result<Self, String> {
        if page.len() != FOOTER_BYTES {
            return Err(format!("footer of {} bytes", page.len()));
        }
        let (footer, _) = Self::read_from_prefix(page).map_err(|_| "footer shorter than its fields")?;
        if footer.magic != MAGIC {
            return Err("not a segment: the magic number is missing".into());
        }
        if footer.format_version.get() != FORMAT_VERSION {
            return Err(format!("segment format {}: only {FORMAT_VERSION} is known", footer.format_version));
        }
        let mut zeroed = footer;
        zeroed.crc = U32::ZERO;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(zeroed.as_bytes());
        hasher.update(&page[size_of::<Self>()..]);
        let crc = hasher.finalize();
        if crc != footer.crc.get() {
            return Err(format!("footer checksum {crc:08x}, it says {:08x}", footer.crc));
        }
        let unused = page[size_of::<Self>()..].iter().chain(&footer.reserved);
        if unused.chain(footer.sections().iter().flat_map(|s| &s.reserved)).any(|&b| b != 0) {
            return Err("reserved bytes of the footer are not zero".into());
        }
        footer.check_sections(file_bytes)?;
        Ok(footer)
    }

    /// Sections lie back to back, and what follows the last one is less than a page, then the footer.
    fn check_sections(&self, file_bytes: u64) -> Result<(), String> {
        let mut end = self.index.offset.get();
        for section in self.sections() {
            if section.offset.get() != end {
                return Err(format!("section at {} where the one before ends at {end}", section.offset));
            }
            end = section.end().ok_or("section longer than any file")?;
        }
        if end.checked_next_multiple_of(ALIGNMENT as u64) != file_bytes.checked_sub(FOOTER_BYTES as u64) {
            return Err(format!("sections end at {end} in a file of {file_bytes} bytes"));
        }
        Ok(())
    }

    /// Index, filter, tombstones, properties: in file order.
    #[must_use]
    pub fn sections(&self) -> [Section; 4] {
        [self.index, self.filter, self.tombstones, self.properties]
    }

    /// The segment's number.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        SegmentId(self.id.get())
    }

    /// The checksum that stands for the whole file.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc.get()
    }
}

/// The fixed part of the properties section; the first and the last key follow.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Properties {
    rows: U64,
    deletes: U64,
    range_tombstones: U64,
    version_min: U64,
    version_max: U64,
    created_ms: U64,
    expiry_min: U64,
    first_bytes: U16,
    last_bytes: U16,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<Properties>() == 64);

/// The properties section for `meta`. What a manifest alone knows (level) or the footer holds is left out.
pub fn encode_properties(meta: &SegmentMeta, out: &mut Vec<u8>) {
    let length = |key: &[u8]| U16::new(u16::try_from(key.len()).expect("keys are limited"));
    let properties = Properties {
        rows: U64::new(meta.rows),
        deletes: U64::new(meta.deletes),
        range_tombstones: U64::new(meta.range_tombstones),
        version_min: U64::new(meta.version_min.0),
        version_max: U64::new(meta.version_max.0),
        created_ms: U64::new(meta.created_ms),
        expiry_min: U64::new(meta.expiry_min.0),
        first_bytes: length(&meta.first),
        last_bytes: length(&meta.last),
        reserved: [0; 4],
    };
    out.extend_from_slice(properties.as_bytes());
    out.extend_from_slice(&meta.first);
    out.extend_from_slice(&meta.last);
}

/// Reads a properties section back into the meta of a whole file whose level, lengths and checksum are zero.
///
/// # Errors
/// What is wrong with it.
pub fn decode_properties(section: &[u8], id: SegmentId) -> Result<SegmentMeta, &'static str> {
    let (properties, keys) =
        Properties::ref_from_prefix(section).map_err(|_| "properties shorter than their fields")?;
    let (first, last) = keys
        .split_at_checked(usize::from(properties.first_bytes.get()))
        .ok_or("properties end in the first key")?;
    if last.len() != usize::from(properties.last_bytes.get()) || properties.reserved != [0; 4] {
        return Err("properties end with something else than the last key");
    }
    Ok(SegmentMeta {
        id,
        origin: id,
        level: 0,
        bytes: 0,
        rows: properties.rows.get(),
        checksum: 0,
        first: first.to_vec(),
        last: last.to_vec(),
        version_min: Version(properties.version_min.get()),
        version_max: Version(properties.version_max.get()),
        deletes: properties.deletes.get(),
        range_tombstones: properties.range_tombstones.get(),
        created_ms: properties.created_ms.get(),
        expiry_min: Expiry(properties.expiry_min.get()),
        visible: KeyRanges::everything(),
        visible_bytes: 0,
    })
}

/// Appends one range tombstone to the section that holds them.
pub fn encode_tombstone(tombstone: &RangeTombstone, out: &mut Vec<u8>) {
    out.extend_from_slice(&tombstone.version.0.to_le_bytes());
    for key in [&tombstone.start, &tombstone.end] {
        out.extend_from_slice(&u16::try_from(key.len()).expect("keys are limited").to_le_bytes());
        out.extend_from_slice(key);
    }
}

/// Reads the range tombstone section.
///
/// # Errors
/// What is wrong with it.
pub fn decode_tombstones(mut section: &[u8]) -> Result<Vec<RangeTombstone>, &'static str> {
    let mut tombstones = Vec::new();
    while !section.is_empty() {
        let (version, rest) = section.split_first_chunk().ok_or("range tombstone ends in its version")?;
        let (start, rest) = decode_key(rest)?;
        let (end, rest) = decode_key(rest)?;
        if start >= end {
            return Err("range tombstone over nothing");
        }
        tombstones.push(RangeTombstone { start, end, version: Version(u64::from_le_bytes(*version)) });
        section = rest;
    }
    Ok(tombstones)
}

fn decode_key(bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let (length, rest) = bytes.split_first_chunk().ok_or("range tombstone ends in a length")?;
    let length = usize::from(u16::from_le_bytes(*length));
    if length > STORAGE_KEY_BYTES_MAX {
        return Err("range tombstone with a key over its limit");
    }
    let (key, rest) = rest.split_at_checked(length).ok_or("range tombstone ends in a key")?;
    Ok((key.to_vec(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<u8> {
        let section = |offset: u64, bytes: &[u8]| Section::of(bytes, offset);
        let sections = [section(100, b"ind"), section(103, b""), section(103, b"t"), section(104, b"prop")];
        let mut page = vec![0; FOOTER_BYTES];
        let crc = Footer::new(SegmentId(0x0102), sections).encode(&mut page);
        assert_eq!(page[12..16], crc.to_le_bytes());
        page
    }

    #[test]
    fn pins_exact_bytes() {
        let page = page();
        assert_eq!(&page[..12], b"fshrdseg\x01\0\0\0");
        assert_eq!(
            page[16..44],
            *b"\x02\x01\0\0\0\0\0\0\x64\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\xd5\xca\xe6\x09"
        );
        let footer = Footer::decode(&page, 8192).unwrap();
        assert_eq!(footer.id(), SegmentId(0x0102));
        assert_eq!(footer.sections().map(|s| s.end()), [103, 103, 104, 108].map(Some));
        assert!(Footer::decode(&page, 12288).is_err() && Footer::decode(&page, 4096).is_err());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = page();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&bad, 8192).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn no_input_makes_the_decoders_panic() {
        let seed = 3;
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..rng.usize(..90)).map(|_| rng.u8(..4)).collect();
            let _ = decode_tombstones(&bytes);
            let _ = decode_properties(&bytes, SegmentId(1));
        }
    }
}
