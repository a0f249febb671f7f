//! What was acknowledged, as bytes, so that another process can check it later. No I/O.
//!
//! Little-endian. A header: magic (8 bytes), length of the description (4), CRC-32 of the description (4), the
//! description (JSON: run, layout). Then frames: kind (4), count of records (4), CRC-32 of kind, count and records (4),
//! records of 16 bytes: cell (8), last acknowledged write (4), last sent write (4). A frame of kind CLOSED is the last:
//! the writer ended in order, and every write it ever sent is told.
//!
//! A process that was killed leaves a beginning: frames up to the last whole one. What it says was acknowledged was;
//! what was sent after it is unknown, but bounded (`UNTOLD_WRITES_MAX`).
//!
//! Invariants:
//! - reading what `Journal` wrote, cut anywhere after its header, gives a state that was true once;
//! - no length in the bytes is believed before it was compared with what is there.

use serde::{Deserialize, Serialize};

use super::layout::{CELLS_MAX, Layout};
use super::ledger::{Ledger, Window};

const MAGIC: &[u8; 8] = b"fsloadj1";
const HEADER_BYTES: usize = 16;
const FRAME_HEADER_BYTES: usize = 12;
const RECORD_BYTES: usize = 16;
const KIND_RECORDS: u32 = 1;
const KIND_CLOSED: u32 = 2;
/// Large enough to be written with one call in a while, small enough to be told soon.
pub(crate) const FRAME_RECORDS_MAX: usize = 4096;
/// How many writes of one cell may have been sent after the last one that a killed process told of: 64 messages on the
/// way to the file, each with a frame and what one receive of 128 KiB can acknowledge beyond it, and the longest pipeline
/// come to 2.1 million. Every resumption of such a journal skips as many numbers, of 32 bits: a thousand are possible.
pub(crate) const UNTOLD_WRITES_MAX: u32 = 1 << 22;

/// What does not change while a journal is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) run: u64,
    pub(crate) layout: Layout,
}

/// What a cell's window became.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) cell: u64,
    pub(crate) window: Window,
}

/// A journal that was read.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) description: Description,
    /// By cell.
    pub(crate) ledger: Ledger,
    /// Its writer ended in order.
    pub(crate) is_closed: bool,
    /// Bytes at its end that are no whole frame.
    pub(crate) bytes_cut: usize,
}

/// Puts the header.
pub(crate) fn put_header(description: &Description, out: &mut Vec<u8>) {
    let text = serde_json::to_vec(description).expect("strings and numbers can be written as JSON");
    out.extend_from_slice(MAGIC);
    put_u32(out, text.len());
    out.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
    out.extend_from_slice(&text);
}

/// Puts records in a frame.
pub(crate) fn put_records(records: &[Record], out: &mut Vec<u8>) {
    for records in records.chunks(FRAME_RECORDS_MAX) {
        put_frame(KIND_RECORDS, records, out);
    }
}

/// Puts the last frame.
pub(crate) fn put_closed(out: &mut Vec<u8>) {
    put_frame(KIND_CLOSED, &[], out);
}

fn put_frame(kind: u32, records: &[Record], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    put_u32(out, records.len());
    out.extend_from_slice(&[0; 4]);
    for record in records {
        out.extend_from_slice(&record.cell.to_le_bytes());
        out.extend_from_slice(&record.window.acknowledged.to_le_bytes());
        out.extend_from_slice(&record.window.sent.to_le_bytes());
    }
    let checksum = frame_checksum(&out[start..]);
    out[start + 8..start + FRAME_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("descriptions and frames are short");
    out.extend_from_slice(&number.to_le_bytes());
}

fn frame_checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..8]);
    hasher.update(&frame[FRAME_HEADER_BYTES..]);
    hasher.finalize()
}

/// Reads a journal. What is wrong is told in words, without the file's name.
pub(crate) fn read(bytes: &[u8]) -> Result<Journal, String> {
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or("it is too short to be a journal")?;
    if !header.starts_with(MAGIC) {
        return Err("it is no journal of foreshard load, or of another version".into());
    }
    let length = usize::try_from(u32_at(header, 8)).unwrap_or(usize::MAX);
    let text = bytes[HEADER_BYTES..].get(..length).ok_or("it is shorter than its header says")?;
    if crc32fast::hash(text) != u32_at(header, 12) {
        return Err("the checksum of its header is wrong".into());
    }
    let description: Description =
        serde_json::from_slice(text).map_err(|error| format!("its header cannot be read: {error}"))?;
    let layout = &description.layout;
    let counts = [layout.entities, layout.fields, u64::from(layout.connections), u64::from(layout.members)];
    let is_named = layout.names.is_empty() || layout.names.len() as u64 == layout.entities;
    if !is_named || counts.contains(&0) || layout.entities.saturating_mul(layout.fields) > CELLS_MAX {
        return Err("its header has counts that no run has".into());
    }
    let mut journal = Journal { description, ledger: Ledger::default(), is_closed: false, bytes_cut: 0 };
    let mut rest = &bytes[HEADER_BYTES + length..];
    while let Some((kind, records, after)) = frame(rest) {
        journal.is_closed = kind == KIND_CLOSED;
        for record in records.chunks_exact(RECORD_BYTES) {
            let cell = u64_at(record);
            if cell >= CELLS_MAX {
                return Err(format!("a record names cell {cell}, which no run has"));
            }
            let window = Window { acknowledged: u32_at(record, 8), sent: u32_at(record, 12) };
            journal.ledger.learn(cell, window);
        }
        rest = after;
    }
    journal.bytes_cut = rest.len();
    if !journal.is_closed {
        journal.ledger.widen(UNTOLD_WRITES_MAX);
    }
    Ok(journal)
}

/// The first frame: its kind, its records, what follows it. None where no whole frame is.
fn frame(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    let count = usize::try_from(u32_at(header, 4)).ok().filter(|count| *count <= FRAME_RECORDS_MAX)?;
    let (frame, after) = bytes.split_at_checked(FRAME_HEADER_BYTES + count * RECORD_BYTES)?;
    (frame_checksum(frame) == u32_at(header, 8))
        .then(|| (u32_at(header, 0), &frame[FRAME_HEADER_BYTES..], after))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

fn u64_at(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| bytes[n]))
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::super::layout::Data;
    use super::*;

    fn description() -> Description {
        let layout = Layout {
            data: Data::Hashes,
            prefix: "key:".into(),
            entities: 10,
            fields: 3,
            members: 1,
            connections: 2,
            names: Vec::new(),
        };
        Description { run: u64::MAX - 5, layout }
    }

    fn record(cell: u64, acknowledged: u32, sent: u32) -> Record {
        Record { cell, window: Window { acknowledged, sent } }
    }

    #[test]
    fn a_closed_journal_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        put_header(&description(), &mut bytes);
        put_records(&[record(3, 1, 1), record(29, 5, 9)], &mut bytes);
        put_records(&[record(3, 2, 2)], &mut bytes);
        put_closed(&mut bytes);
        let journal = read(&bytes).unwrap();
        assert_eq!(journal.description, description());
        assert!(journal.is_closed);
        assert_eq!(journal.bytes_cut, 0);
        let cells: Vec<_> = journal.ledger.written().collect();
        let expected = [(3, Window { acknowledged: 2, sent: 2 }), (29, Window { acknowledged: 5, sent: 9 })];
        assert_eq!(cells, expected);
    }

    #[test]
    fn a_frame_is_these_bytes() {
        let mut bytes = Vec::new();
        put_records(&[record(3, 1, 2)], &mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0100000001000000a6e8e80803000000000000000100000002000000");
    }

    /// The model is the list of records: a journal cut anywhere knows those whose frames are whole.
    #[test]
    fn a_journal_that_was_cut_knows_a_beginning() {
        let mut random = Rng::with_seed(31);
        let mut bytes = Vec::new();
        put_header(&description(), &mut bytes);
        let mut states = vec![(bytes.len(), Ledger::default())];
        for n in 0..20 {
            let cell = random.u64(0..30);
            let mut ledger = states.last().unwrap().1.clone();
            let records: Vec<Record> =
                (0..random.u32(1..4)).map(|more| record(cell, n + more, n + more)).collect();
            records.iter().for_each(|record| ledger.learn(record.cell, record.window));
            put_records(&records, &mut bytes);
            states.push((bytes.len(), ledger));
        }
        for length in 0..bytes.len() {
            let Some((whole, expected)) = states.iter().rev().find(|(end, _)| *end <= length) else {
                assert!(read(&bytes[..length]).is_err(), "cut to {length}");
                continue;
            };
            let journal = read(&bytes[..length]).unwrap();
            assert_eq!((journal.is_closed, journal.bytes_cut), (false, length - whole));
            let mut expected = expected.clone();
            expected.widen(UNTOLD_WRITES_MAX);
            assert_eq!(journal.ledger, expected, "cut to {length}");
        }
    }

    #[test]
    fn changed_bytes_are_an_error_or_an_end_and_never_a_panic() {
        let mut bytes = Vec::new();
        put_header(&description(), &mut bytes);
        let header = bytes.len();
        put_records(&[record(3, 1, 1)], &mut bytes);
        put_closed(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match read(&changed) {
                Err(_) => assert!(bit / 8 < header, "bit {bit}"),
                Ok(journal) => assert!(!journal.is_closed && journal.bytes_cut > 0, "bit {bit}"),
            }
        }
    }
}
