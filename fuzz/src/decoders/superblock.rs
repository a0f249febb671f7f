//! One copy of the superblock.

use foreshard_engine::superblock;

use super::resealed;
use crate::memory::bounded;

const CHECKSUM_AT: usize = 12;
const HEADER_BYTES: usize = 64;

/// One copy's bytes.
pub fn superblock(data: &[u8]) {
    decode(data);
    if let Some(sealed) = resealed(data, CHECKSUM_AT, HEADER_BYTES) {
        decode(&sealed);
    }
}

fn decode(bytes: &[u8]) {
    let Ok((sequence, state)) = bounded(0, || superblock::decode(bytes)) else { return };
    let again = superblock::encode(sequence, &state);
    assert_eq!(again, &bytes[..again.len()], "a superblock has one encoding");
}
