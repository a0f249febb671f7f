//! Decoders of what is on disk. Each target asserts three things of any input: the decoder does not panic, it allocates
//! no more than its input or a named limit accounts for, and what it accepts is encoded again to the same bytes.
//!
//! A fuzzer does not guess checksums. Where a structure carries its own, the target tries the input as it is, then
//! with the checksum put right, so that what lies behind the check is reached.

pub mod backup;
pub mod manifest;
pub mod resp;
pub mod segment;
pub mod stream;
pub mod superblock;
pub mod table;
pub mod wal;

/// CRC-32 of `bytes` but for the four of the checksum itself at `at`.
fn checksum_without(bytes: &[u8], at: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(&bytes[at + 4..]);
    hasher.finalize()
}

/// `bytes` with the right checksum at `at` over the first `covered` of them.
fn resealed(bytes: &[u8], at: usize, covered: usize) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let covered = bytes.get_mut(..covered).filter(|covered| covered.len() >= at + 4)?;
    let checksum = checksum_without(covered, at);
    covered[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}
