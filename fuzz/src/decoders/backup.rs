//! The record of a backup: which segments it is made of.

use foreshard_engine::backup::Record;

use super::resealed;
use crate::memory::bounded;

const CHECKSUM_AT: usize = 12;
const BLOCK_BYTES: usize = 4096;
/// Where a record says its format, and the one that is written.
const FORMAT_AT: usize = 8;
const FORMAT: u8 = 2;

/// Tries the input as a record; and in whole blocks, as records are, with its checksum put right.
pub fn record(data: &[u8]) {
    decode(data);
    let mut blocks = data.to_vec();
    blocks.resize(data.len().next_multiple_of(BLOCK_BYTES), 0);
    if let Some(sealed) = resealed(&blocks, CHECKSUM_AT, blocks.len()) {
        decode(&sealed);
    }
}

fn decode(bytes: &[u8]) {
    // A segment takes some hundred bytes on disk, and its keys are allocated; a partition is a few times its 16 bytes, in a
    // list that doubles; a guest's name of a byte takes 3 on disk, 25 in the edit, and three times that in sets, one of which
    // checks the other.
    let Ok(record) = bounded(96 * bytes.len() + 1024, || Record::decode(bytes)) else { return };
    let encoded = record.encode();
    if bytes[FORMAT_AT] == FORMAT {
        assert_eq!(encoded, bytes, "a record has one encoding");
    } else {
        assert_eq!(Record::decode(&encoded), Ok(record), "one of an older format says the same in this one");
    }
}
