//! A blocked Bloom filter: is a key surely not in this segment? One cache line is read per question.
//!
//! Register-blocked as in Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007): a key
//! picks a line of 512 bits by the upper half of its hash and one bit in each of the line's eight words by the lower.
//! At ten bits a key about 1 % of absent keys pass. `engine/FORMAT.md`, "Segment", owns the layout.

use futures_lite::future::yield_now;

/// Memory per key. Fewer bits cost more false block reads than they save memory: 8 bits pass 2.5 %, 12 pass 0.5 %.
const BITS_PER_KEY: usize = 10;
const LINE_BYTES: usize = 64;
const LINE_BITS: usize = LINE_BYTES * 8;
/// Hashes inserted between two yields: about 50 us of work, a quarter of a turn.
const INSERTS_PER_TURN: usize = 4096;
/// Odd 32-bit constants with well-spread bits, one per word; those of the Parquet format's split block filter.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// One line, aligned so that a question touches one cache line.
#[derive(Clone, Copy, Default, Debug)]
#[repr(align(64))]
struct Line([u64; 8]);

/// The filter of one segment.
#[derive(Debug)]
pub struct Filter {
    lines: Vec<Line>,
}

impl Filter {
    /// The filter that holds `hashes` of keys. Yields between slices of work.
    pub(crate) async fn build(hashes: &[u64]) -> Self {
        let line_count = (hashes.len() * BITS_PER_KEY).div_ceil(LINE_BITS);
        let mut lines = vec![Line::default(); line_count];
        for slice in hashes.chunks(INSERTS_PER_TURN) {
            for &hash in slice {
                let line = &mut lines[line_of(hash, line_count)];
                for (word, bit) in line.0.iter_mut().zip(bits(hash)) {
                    *word |= bit;
                }
            }
            yield_now().await;
        }
        Self { lines }
    }

    /// Reads a filter section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(section: &[u8]) -> Result<Self, &'static str> {
        if !section.len().is_multiple_of(LINE_BYTES) {
            return Err("filter is not whole lines");
        }
        let lines = section.chunks_exact(LINE_BYTES).map(|bytes| {
            let mut line = Line::default();
            for (word, chunk) in line.0.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*chunk);
            }
            line
        });
        Ok(Self { lines: lines.collect() })
    }

    /// The filter section's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes());
        for word in self.lines.iter().flat_map(|line| line.0) {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Whether a key with this [stable hash](crate::hash::stable) may be in the segment; false is certain.
    #[must_use]
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        let Some(line) = self.lines.get(line_of(hash, self.lines.len())) else {
            return false;
        };
        let missing = line.0.iter().zip(bits(hash)).fold(0, |missing, (word, bit)| missing | (!word & bit));
        missing == 0
    }

    /// Bytes of memory, and of the section.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }
}

/// A line by the upper 32 bits of the hash, without a division.
#[inline]
fn line_of(hash: u64, line_count: usize) -> usize {
    usize::try_from(((hash >> 32) * line_count as u64) >> 32).unwrap_or(0)
}

/// One bit per word of a line, by the lower 32 bits of the hash.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is meant")]
fn bits(hash: u64) -> impl Iterator<Item = u64> {
    let low = hash as u32;
    SALTS.into_iter().map(move |salt| 1 << (low.wrapping_mul(salt) >> 26))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn holds_every_key_and_few_others() {
        let hashes: Vec<u64> = (0..20_000_u64).map(|n| crate::hash::stable(&n.to_le_bytes())).collect();
        let filter = block_on(Filter::build(&hashes));
        let mut section = Vec::new();
        filter.encode(&mut section);
        let filter = Filter::parse(&section).unwrap();
        assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
        let others = (20_000..120_000_u64).map(|n| crate::hash::stable(&n.to_le_bytes()));
        let passed = others.filter(|&hash| filter.may_contain(hash)).count();
        assert!(passed < 2_000, "{passed} of 100000 absent keys passed");
    }

    #[test]
    fn pins_exact_bytes() {
        let filter = block_on(Filter::build(&[0x0123_4567_89ab_cdef]));
        let mut section = Vec::new();
        filter.encode(&mut section);
        assert_eq!(section.len(), LINE_BYTES);
        let bits: Vec<u32> = section
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word).trailing_zeros())
            .collect();
        assert_eq!(bits, [37, 38, 61, 46, 9, 32, 25, 48]);
    }

    #[test]
    fn no_keys_no_lines_and_nothing_contained() {
        let filter = block_on(Filter::build(&[]));
        assert_eq!(filter.bytes(), 0);
        assert!(!filter.may_contain(7));
        assert!(Filter::parse(&[0; 63]).is_err());
    }
}
