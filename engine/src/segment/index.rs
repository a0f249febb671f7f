//! The block index: which block a key can be in, and where that block lies. Wholly in memory while a segment is open,
//! about 30 bytes a block.
//!
//! A block's *separator* is the shortest prefix of its first key that is above every key before it, or the whole key
//! when the block continues the versions of the row that the block before ends with. Separators are searched by eight
//! bytes after the prefix common to all of them, then in full. `engine/FORMAT.md`, "Segment", owns the layout.
//!
//! Invariants:
//! - separators ascend; only those of continuing blocks repeat;
//! - blocks lie back to back from offset 0, in order.

use futures_lite::future::yield_now;

use super::block::common_prefix;
use super::frame::{FRAME_HEADER_BYTES, FramePlace, PAYLOAD_BYTES_MAX};
use crate::limits::STORAGE_KEY_BYTES_MAX;

/// In an entry's separator length: the block continues the row that the block before ends with.
const CONTINUES: u16 = 1 << 15;
/// Stored bytes (4), checksum (4), separator length (2).
const ENTRY_HEAD_BYTES: usize = 10;
/// Block count (4), common prefix length (2), reserved (2).
const HEADER_BYTES: usize = 8;

/// Blocks encoded or parsed between two yields: about 50 us of work.
const BLOCKS_PER_TURN: usize = 2048;

const _: () = assert!(STORAGE_KEY_BYTES_MAX < CONTINUES as usize, "the flag's bit is free");

/// Collects the index of a segment being built.
#[derive(Default, Debug)]
pub struct IndexBuilder {
    entries: Vec<(FramePlace, u16)>,
    separators: Vec<u8>,
}

impl IndexBuilder {
    /// Adds the next block. `first` is its first key, or as much of it as sets it apart from the key before.
    pub fn push(&mut self, place: FramePlace, separator: &[u8], continues: bool) {
        let flag = if continues { CONTINUES } else { 0 };
        let length = u16::try_from(separator.len()).expect("keys are limited");
        self.entries.push((place, length | flag));
        self.separators.extend_from_slice(separator);
    }

    /// Whether it has no block.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first block's separator, which is the segment's first key.
    pub fn first_separator(&self) -> Option<&[u8]> {
        let &(_, flagged) = self.entries.first()?;
        Some(&self.separators[..usize::from(flagged & !CONTINUES)])
    }

    /// Bytes that the section will take at most.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.entries.len() * ENTRY_HEAD_BYTES + self.separators.len()
    }

    /// The index section's bytes. Yields between slices of work.
    pub async fn encode(&self, out: &mut Vec<u8>) {
        let length = |flagged: u16| usize::from(flagged & !CONTINUES);
        let first = self.entries.first().map_or(0, |&(_, n)| length(n));
        let last = self.entries.last().map_or(0, |&(_, n)| length(n));
        let common =
            common_prefix(&self.separators[..first], &self.separators[self.separators.len() - last..]);
        let count = u32::try_from(self.entries.len()).expect("a segment has far fewer blocks");
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&u16::try_from(common).expect("keys are limited").to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.separators[..common]);
        let mut at = 0;
        for (n, &(place, flagged)) in self.entries.iter().enumerate() {
            if n % BLOCKS_PER_TURN == BLOCKS_PER_TURN - 1 {
                yield_now().await;
            }
            out.extend_from_slice(&place.bytes.to_le_bytes());
            out.extend_from_slice(&place.crc.to_le_bytes());
            let rest = u16::try_from(length(flagged) - common).expect("fits as the whole did");
            out.extend_from_slice(&(rest | flagged & CONTINUES).to_le_bytes());
            out.extend_from_slice(&self.separators[at + common..at + length(flagged)]);
            at += length(flagged);
        }
    }
}

/// The index of an open segment.
#[derive(Debug, Default)]
pub struct Index {
    /// What all separators begin with.
    common: Vec<u8>,
    /// The first eight bytes of each separator after the common prefix, big-endian, zero-padded: sort as they do.
    heads: Vec<u64>,
    radix: Radix,
    /// Each block's offset, then the end of the last.
    offsets: Vec<u64>,
    crcs: Vec<u32>,
    /// Where each separator's bytes after the common prefix begin, then their end.
    separator_ends: Vec<u32>,
    separators: Vec<u8>,
    /// Blocks that continue the row before them; ascending, mostly none.
    continuing: Vec<u32>,
}

/// Entries of an index section not parsed yet.
struct Entries<'a> {
    bytes: &'a [u8],
    left: u32,
}

/// A block's place in its segment's order.
pub type BlockNumber = u32;

impl Index {
    /// Reads an index section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(section: &[u8]) -> Result<Self, &'static str> {
        let (mut index, mut entries) = Self::begin(section)?;
        while !entries.bytes.is_empty() || entries.left > 0 {
            index.parse_entries(&mut entries)?;
        }
        Ok(index.complete())
    }

    /// As [`Self::parse`], yielding between slices of work.
    pub(crate) async fn parse_in_turns(section: &[u8]) -> Result<Self, &'static str> {
        let (mut index, mut entries) = Self::begin(section)?;
        while !entries.bytes.is_empty() || entries.left > 0 {
            index.parse_entries(&mut entries)?;
            yield_now().await;
        }
        Ok(index.complete())
    }

    fn begin(section: &[u8]) -> Result<(Self, Entries<'_>), &'static str> {
        let (header, rest) = section.split_at_checked(HEADER_BYTES).ok_or("index shorter than its header")?;
        let count = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let common_len = usize::from(u16::from_le_bytes([header[4], header[5]]));
        if header[6..] != [0; 2] {
            return Err("reserved bytes of the index are not zero");
        }
        let (common, rest) = rest.split_at_checked(common_len).ok_or("index ends in its prefix")?;
        if rest.len() / ENTRY_HEAD_BYTES < count as usize {
            return Err("index shorter than its blocks");
        }
        Ok((Self::with_capacity(count as usize, common.to_vec()), Entries { bytes: rest, left: count }))
    }

    /// Parses as many entries as fit a turn.
    fn parse_entries(&mut self, entries: &mut Entries<'_>) -> Result<(), &'static str> {
        if entries.left == 0 {
            return Err("index longer than its blocks");
        }
        for _ in 0..BLOCKS_PER_TURN.min(entries.left as usize) {
            let number = self.block_count();
            entries.bytes = self.parse_entry(number, entries.bytes)?;
            entries.left -= 1;
        }
        Ok(())
    }

    fn complete(mut self) -> Self {
        self.separators.shrink_to_fit();
        self.radix = Radix::of(&self.heads);
        self
    }

    fn with_capacity(count: usize, common: Vec<u8>) -> Self {
        let mut index = Self {
            common,
            heads: Vec::with_capacity(count),
            offsets: Vec::with_capacity(count + 1),
            crcs: Vec::with_capacity(count),
            separator_ends: Vec::with_capacity(count + 1),
            ..Self::default()
        };
        index.offsets.push(0);
        index.separator_ends.push(0);
        index
    }

    fn parse_entry<'a>(&mut self, number: BlockNumber, rest: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let (head, rest) = rest.split_first_chunk::<ENTRY_HEAD_BYTES>().ok_or("index ends in an entry")?;
        let bytes = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let flagged = u16::from_le_bytes([head[8], head[9]]);
        let separator_len = usize::from(flagged & !CONTINUES);
        let (separator, rest) = rest.split_at_checked(separator_len).ok_or("index ends in a separator")?;
        if (bytes as usize) <= FRAME_HEADER_BYTES || bytes as usize > FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX {
            return Err("index names a block of impossible length");
        }
        if self.common.len() + separator_len > STORAGE_KEY_BYTES_MAX {
            return Err("separator longer than any key");
        }
        let continues = flagged & CONTINUES != 0;
        if let Some(before) = number.checked_sub(1) {
            let before = self.separator(before);
            let ordered = if continues { before <= separator } else { before < separator };
            if !ordered {
                return Err("separators out of order");
            }
        } else if continues {
            return Err("the first block continues another");
        }
        self.push(FramePlace { offset: 0, bytes, crc }, separator, continues.then_some(number));
        Ok(rest)
    }

    fn push(&mut self, place: FramePlace, separator: &[u8], continuing: Option<BlockNumber>) {
        self.heads.push(head_of(separator));
        self.crcs.push(place.crc);
        self.offsets.push(self.end() + u64::from(place.bytes));
        self.separators.extend_from_slice(separator);
        let end = u32::try_from(self.separators.len()).expect("an index section is below 4 GiB");
        self.separator_ends.push(end);
        self.continuing.extend(continuing);
    }

    /// Blocks.
    #[must_use]
    pub fn block_count(&self) -> BlockNumber {
        u32::try_from(self.heads.len()).expect("the count was read from four bytes")
    }

    /// Where the last block ends in the file.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Where a block lies.
    ///
    /// # Panics
    /// For a number at or above [`Self::block_count`].
    #[must_use]
    pub fn place(&self, number: BlockNumber) -> FramePlace {
        let n = number as usize;
        let bytes = u32::try_from(self.offsets[n + 1] - self.offsets[n]).expect("read from four bytes");
        FramePlace { offset: self.offsets[n], bytes, crc: self.crcs[n] }
    }

    /// Where a block begins in the file; the end of the last one for a number past it.
    #[must_use]
    pub fn offset(&self, number: BlockNumber) -> u64 {
        self.offsets.get(number as usize).copied().unwrap_or_else(|| self.end())
    }

    /// The block that lies across `offset`, or the count of blocks for one past the last.
    #[must_use]
    pub fn block_at(&self, offset: u64) -> BlockNumber {
        if offset >= self.end() {
            return self.block_count();
        }
        let after = self.offsets.partition_point(|&o| o <= offset);
        u32::try_from(after.saturating_sub(1)).expect("the count was read from four bytes")
    }

    /// The block in which the first entry at or after `key` lies, or whose end comes before it. `None` for a key
    /// before the first block.
    #[must_use]
    pub fn block_of(&self, key: &[u8]) -> Option<BlockNumber> {
        let common = common_prefix(&self.common, key);
        if common < self.common.len() {
            // Every separator is on the same side of the key.
            let after = key.get(common).is_some_and(|&b| b > self.common[common]);
            return if after { self.block_count().checked_sub(1) } else { None };
        }
        let rest = &key[common..];
        let head = head_of(rest);
        let bucket = self.radix.bucket(head);
        let from = bucket.start;
        let below = self.heads[bucket].partition_point(|&h| h < head);
        // Among equal heads, the whole separators decide; seldom more than one.
        let mut low = from + below;
        let mut high = low;
        if self.heads.get(low) == Some(&head) {
            high += self.heads[low..].partition_point(|&h| h == head);
        }
        while low < high {
            let middle = low.midpoint(high);
            if self.separator_at(middle) < rest {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // `low` is the first separator not below the key.
        let number = u32::try_from(low).expect("the count was read from four bytes");
        let begins_here =
            self.heads.get(low) == Some(&head) && self.separator_at(low) == rest && !self.continues(number);
        if begins_here { Some(number) } else { number.checked_sub(1) }
    }

    /// Whether block `number` begins with another version of `key`, with which the block before ends.
    #[must_use]
    pub fn continues_with(&self, number: BlockNumber, key: &[u8]) -> bool {
        self.continues(number)
            && key.strip_prefix(self.common.as_slice()).is_some_and(|rest| rest == self.separator(number))
    }

    /// A key at the border of block `number`: above all keys of earlier blocks, not above its first.
    #[must_use]
    pub fn border(&self, number: BlockNumber) -> Vec<u8> {
        [self.common.as_slice(), self.separator(number)].concat()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.radix.bytes() + self.heads.len() * (8 + 8 + 4 + 4) + self.separators.len() + self.common.len()
    }

    fn continues(&self, number: BlockNumber) -> bool {
        !self.continuing.is_empty() && self.continuing.binary_search(&number).is_ok()
    }

    fn separator(&self, number: BlockNumber) -> &[u8] {
        self.separator_at(number as usize)
    }

    fn separator_at(&self, n: usize) -> &[u8] {
        &self.separators[self.separator_ends[n] as usize..self.separator_ends[n + 1] as usize]
    }
}

/// Where in the sorted heads to search: buckets of equal width over their span. Routing keys are hashes, so that a bucket
/// holds a few heads, on one or two cache lines, where a binary search over all of them would miss a dozen; where keys
/// are skewed the search inside a bucket is longer, never wrong.
#[derive(Debug, Default)]
struct Radix {
    first: u64,
    shift: u32,
    /// Heads below each bucket, then the count of all.
    starts: Vec<u32>,
}

/// Heads per bucket when they are spread evenly: half a cache line.
const HEADS_PER_BUCKET_SHIFT: u32 = 2;

impl Radix {
    fn of(heads: &[u64]) -> Self {
        let (Some(&first), Some(&last)) = (heads.first(), heads.last()) else { return Self::default() };
        // At least two buckets: heads that differ in their first bit leave no number to shift by for one.
        let bits = usize::BITS - heads.len().leading_zeros();
        let bucket_bits = bits.saturating_sub(HEADS_PER_BUCKET_SHIFT).max(1);
        let span_bits = u64::BITS - (last - first).leading_zeros();
        let shift = span_bits.saturating_sub(bucket_bits);
        let mut starts = Vec::with_capacity((1 << bucket_bits) + 2);
        for (n, head) in (0..).zip(heads) {
            let bucket = usize::try_from((head - first) >> shift).expect("as many as buckets at most");
            starts.resize(starts.len().max(bucket + 1), n);
        }
        starts.push(u32::try_from(heads.len()).expect("the count was read from four bytes"));
        Self { first, shift, starts }
    }

    /// The heads among which the first one not below `head` is, or just before which it would be.
    #[inline]
    fn bucket(&self, head: u64) -> std::ops::Range<usize> {
        let number = usize::try_from(head.saturating_sub(self.first) >> self.shift).unwrap_or(usize::MAX);
        let end = self.starts.last().copied().unwrap_or(0);
        let start = |n: usize| self.starts.get(n).copied().unwrap_or(end) as usize;
        start(number)..start(number.saturating_add(1))
    }

    fn bytes(&self) -> usize {
        self.starts.len() * 4
    }
}

/// The first eight bytes as a number that sorts as they do.
#[inline]
pub(crate) fn head_of(bytes: &[u8]) -> u64 {
    if let Some(head) = bytes.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    fn index_of(separators: &[(&[u8], bool)]) -> Index {
        let mut builder = IndexBuilder::default();
        for (n, &(separator, continues)) in separators.iter().enumerate() {
            let crc = u32::try_from(n).unwrap();
            builder.push(FramePlace { offset: 0, bytes: 100 + crc, crc }, separator, continues);
        }
        let mut section = Vec::new();
        block_on(builder.encode(&mut section));
        assert!(section.len() <= builder.bytes());
        Index::parse(&section).unwrap()
    }

    #[test]
    fn few_blocks_whose_heads_differ_in_their_first_bit_are_told_apart() {
        let index = index_of(&[(b"a\x00", false), (b"a\xff", false)]);
        let cases: [(&[u8], Option<u32>); 5] =
            [(b"a", None), (b"a\x00", Some(0)), (b"a\xfe", Some(0)), (b"a\xff", Some(1)), (b"b", Some(1))];
        for (key, block) in cases {
            assert_eq!(index.block_of(key), block, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_key_is_in_the_last_block_that_begins_at_or_before_it() {
        let index =
            index_of(&[(b"user:aaaaaaaaaa", false), (b"user:b", false), (b"user:bbbbbbbbbbbb", false)]);
        let cases: [(&[u8], Option<u32>); 10] = [
            (b"a", None),
            (b"user", None),
            (b"user:", None),
            (b"user:aaaaaaaaaa", Some(0)),
            (b"user:az", Some(0)),
            (b"user:b", Some(1)),
            (b"user:bbbbbbbbbbba", Some(1)),
            (b"user:bbbbbbbbbbbb", Some(2)),
            (b"user:z", Some(2)),
            (b"v", Some(2)),
        ];
        for (key, block) in cases {
            assert_eq!(index.block_of(key), block, "{}", key.escape_ascii());
        }
        assert_eq!(index.place(2), FramePlace { offset: 201, bytes: 102, crc: 2 });
        assert_eq!(index.end(), 303);
        assert_eq!(index.border(1), b"user:b");
    }

    #[test]
    fn a_row_whose_versions_span_blocks_begins_in_the_block_before() {
        let index = index_of(&[(b"a", false), (b"k", true), (b"k", true), (b"l", false), (b"m", false)]);
        assert_eq!(index.block_of(b"k"), Some(0));
        assert_eq!(index.block_of(b"l"), Some(3));
        assert_eq!(index.block_of(b"kk"), Some(2));
        assert!(index.continues_with(1, b"k") && index.continues_with(2, b"k"));
        assert!(!index.continues_with(2, b"kk") && !index.continues_with(3, b"l"));
    }

    #[test]
    fn heads_padded_with_zeros_are_told_from_zeros() {
        let index = index_of(&[(b"a", false), (b"b", false), (b"b\0", false), (b"b\0\0", false)]);
        assert_eq!(index.block_of(b"b"), Some(1));
        assert_eq!(index.block_of(b"b\0"), Some(2));
        assert_eq!(index.block_of(b"b\0\0"), Some(3));
        assert_eq!(index.block_of(b"b\0\0\0"), Some(3));
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        let index = index_of(&[]);
        assert_eq!(index.block_of(b"k"), None);
        assert_eq!(index.end(), 0);
    }

    #[test]
    fn pins_exact_bytes() {
        let mut builder = IndexBuilder::default();
        builder.push(FramePlace { offset: 0, bytes: 0x0102, crc: 0xaabb_ccdd }, b"pre:fix", false);
        builder.push(FramePlace { offset: 0, bytes: 0x20, crc: 1 }, b"pre:g", true);
        let mut section = Vec::new();
        block_on(builder.encode(&mut section));
        let expected: &[u8] = b"\x02\0\0\0\x04\0\0\0pre:\
            \x02\x01\0\0\xdd\xcc\xbb\xaa\x03\0fix\
            \x20\0\0\0\x01\0\0\0\x01\x80g";
        assert_eq!(section, expected);
    }

    #[test]
    fn no_input_makes_parsing_panic() {
        let seed = 7;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut section = Vec::new();
        let mut builder = IndexBuilder::default();
        for n in 0..20_u32 {
            builder.push(FramePlace { offset: 0, bytes: 100, crc: n }, &(n * 3).to_be_bytes(), false);
        }
        block_on(builder.encode(&mut section));
        for _ in 0..20_000 {
            let mut bytes = section.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(..=bytes.len()));
            if let Ok(index) = Index::parse(&bytes) {
                let _ = index.block_of(&rng.u32(..).to_be_bytes());
            }
        }
    }
}
