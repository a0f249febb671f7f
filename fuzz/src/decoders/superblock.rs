//! One copy of the superblock.

use foreshard_engine::superblock;

use super::{resealed, u32_at};
use crate::memory::bounded;

const CHECKSUM_AT: usize = 12;
const PARTITIONS_AT: usize = 56;
const HEADER_BYTES: usize = 64;
const RANGE_BYTES: usize = 20;

/// One copy's bytes.
pub fn superblock(data: &[u8]) {
    decode(data);
    let covered = u32_at(data, PARTITIONS_AT)
        .and_then(|count| count.checked_mul(RANGE_BYTES))
        .and_then(|bytes| bytes.checked_add(HEADER_BYTES));
    if let Some(sealed) = covered.and_then(|covered| resealed(data, CHECKSUM_AT, covered)) {
        decode(&sealed);
    }
}

fn decode(bytes: &[u8]) {
    // A range takes 20 bytes on disk, 24 in the state, and 16 while overlaps are looked for.
    let Ok((sequence, state)) = bounded(8 * bytes.len() + 256, || superblock::decode(bytes)) else { return };
    let again = superblock::encode(sequence, &state);
    assert_eq!(again, &bytes[..again.len()], "a superblock has one encoding");
}
