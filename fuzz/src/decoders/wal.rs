//! The log: records, batches, slot headers.

use foreshard_engine::wal::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, SlotHeader};
use foreshard_engine::wal::{Batch, Body, Record, codec};

use super::resealed;
use crate::memory::bounded;

/// Where the headers keep their own checksum, and a batch's that of its payload.
const CHECKSUM_AT: usize = 12;
const PAYLOAD_CHECKSUM_AT: usize = 88;
const PAYLOAD_BYTES_AT: usize = 76;

/// Records one after the other, as in a batch.
pub fn record(data: &[u8]) {
    let mut rest = data;
    // Decoding borrows: it allocates nothing.
    while let Ok((record, after)) = bounded(0, || codec::decode(rest)) {
        let read = &rest[..rest.len() - after.len()];
        assert!(!read.is_empty(), "decoding goes on");
        check(&record, read);
        rest = after;
    }
}

/// Walks all of a record; its encoding must be the bytes it came from.
fn check(record: &Record<'_>, read: &[u8]) {
    match record.body {
        Body::Write(rows) | Body::Prepare { rows, .. } => {
            let count = bounded(0, || rows.count());
            assert!(count <= read.len(), "a row takes bytes");
        }
        Body::Decide { participants, .. } => assert!(4 * participants.iter().len() <= read.len()),
        Body::Witness(witnesses) => assert!(12 * witnesses.iter().len() <= read.len()),
        Body::Resolve { .. } | Body::Time => {}
    }
    if let Ok(again) = record.to_bytes() {
        assert_eq!(again, read, "a record has one encoding");
    }
}

/// A whole batch, as it lies in a log file.
pub fn batch(data: &[u8]) {
    decode_batch(data);
    if let Some(sealed) = seal_batch(data) {
        decode_batch(&sealed);
    }
}

/// The input with both of a batch's checksums put right.
fn seal_batch(data: &[u8]) -> Option<Vec<u8>> {
    let payload_bytes = super::u32_at(data, PAYLOAD_BYTES_AT)?;
    let end = (BATCH_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES);
    // Corpora are small: the zeros up to the next block need not be in the input.
    let mut bytes = data.to_vec();
    if bytes.len() < end && end - bytes.len() <= BLOCK_BYTES {
        bytes.resize(end, 0);
    }
    let checksum = crc32fast::hash(bytes.get(BATCH_HEADER_BYTES..end)?);
    bytes[PAYLOAD_CHECKSUM_AT..PAYLOAD_CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    resealed(&bytes, CHECKSUM_AT, BATCH_HEADER_BYTES)
}

fn decode_batch(bytes: &[u8]) {
    let Ok(batch) = bounded(0, || Batch::decode(bytes)) else { return };
    let header = *batch.header();
    assert_eq!(BatchHeader::decode(bytes), Ok(header));
    let mut again = bytes[..header.batch_bytes()].to_vec();
    again[..BATCH_HEADER_BYTES].fill(0);
    assert_eq!(header.seal(&mut again), header.link());
    assert_eq!(again, &bytes[..again.len()], "a batch has one encoding");
    let (mut payload, mut whole) = (Vec::new(), true);
    for record in batch.records() {
        match record.and_then(|record| record.to_bytes()) {
            Ok(bytes) => payload.extend_from_slice(&bytes),
            Err(_) => whole = false,
        }
    }
    if whole {
        let end = BATCH_HEADER_BYTES + usize::try_from(header.payload_bytes).expect("it was decoded");
        assert_eq!(payload, &bytes[BATCH_HEADER_BYTES..end], "records fill their batch");
    }
}

/// A slot's first block.
pub fn slot(data: &[u8]) {
    decode_slot(data);
    let mut block = data.to_vec();
    block.resize(block.len().max(BLOCK_BYTES), 0);
    if let Some(sealed) = resealed(&block, CHECKSUM_AT, BLOCK_BYTES) {
        decode_slot(&sealed);
    }
}

fn decode_slot(bytes: &[u8]) {
    let Ok(header) = bounded(0, || SlotHeader::decode(bytes)) else { return };
    let mut again = vec![0xff; BLOCK_BYTES];
    header.encode(&mut again);
    assert_eq!(again, &bytes[..BLOCK_BYTES], "a slot header has one encoding");
}
