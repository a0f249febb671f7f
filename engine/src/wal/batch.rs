//! A batch as it is read: header, checksums, and the records in it, borrowed.

use super::codec;
use super::format::{BATCH_HEADER_BYTES, BatchHeader, Invalid};
use super::record::Record;

/// A whole batch: both checksums have matched.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    header: BatchHeader,
    payload: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the front of `bytes`.
    ///
    /// # Errors
    /// [`Invalid`], for any bytes that no writer makes; the records inside are checked as they are read.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Invalid> {
        let header = BatchHeader::decode(bytes)?;
        let body = bytes.get(BATCH_HEADER_BYTES..header.batch_bytes()).ok_or(Invalid::Short)?;
        if crc32fast::hash(body) != header.payload_checksum {
            return Err(Invalid::Checksum("batch payload"));
        }
        let payload_bytes = usize::try_from(header.payload_bytes).map_err(|_| Invalid::Short)?;
        let (payload, padding) = body.split_at_checked(payload_bytes).ok_or(Invalid::Short)?;
        if padding.iter().any(|&b| b != 0) {
            return Err(Invalid::Field("padding"));
        }
        Ok(Self { header, payload })
    }

    /// The batch whose bytes have been decoded before.
    pub(super) fn decoded(header: BatchHeader, bytes: &'a [u8]) -> Self {
        let payload =
            bytes.get(BATCH_HEADER_BYTES..).and_then(|body| body.get(..header.payload_bytes as usize));
        Self { header, payload: payload.expect("decoded before, so they are all there") }
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Its records, in the order in which they were appended. An item is an error only if another program wrote
    /// the log.
    #[must_use]
    pub const fn records(&self) -> Records<'a> {
        Records { rest: self.payload, left: self.header.records }
    }
}

/// Iterates over a batch's records.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(left) = self.left.checked_sub(1) else {
            let surplus = !std::mem::take(&mut self.rest).is_empty();
            return surplus.then_some(Err(Invalid::Field("record count")));
        };
        self.left = left;
        match codec::decode(self.rest) {
            Ok((record, rest)) => {
                self.rest = rest;
                Some(Ok(record))
            }
            Err(invalid) => {
                (self.left, self.rest) = (0, &[]);
                Some(Err(invalid))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Buffer;
    use super::super::codec::{encode, encode_witnesses};
    use super::super::format::LogId;
    use super::super::record::{Body, Intent, Outcome, RecordHeader, TxId};
    use super::super::row::RowOp;
    use super::*;
    use crate::entry::Expiry;
    use crate::ids::{EditNumber, Epoch, Incarnation, Index, Lsn, PartitionId, ShardId, Version};
    use crate::superblock::StoreId;

    const HEADER: RecordHeader =
        RecordHeader { partition: PartitionId(3), epoch: Epoch(1), index: Index(7), time_ms: 1000 };
    const TX: TxId = TxId { incarnation: Incarnation(2), shard: ShardId(1), number: 5 };

    fn seal(out: Buffer, records: u32) -> Vec<u8> {
        let payload_bytes = u32::try_from(out.len() - BATCH_HEADER_BYTES).unwrap();
        let header = BatchHeader {
            id: LogId { store: StoreId([1; 16]), incarnation: Incarnation(2), shard: ShardId(0) },
            number: 1,
            lsn: Lsn(4096),
            durable: Lsn(0),
            start: Lsn(0),
            previous: 0,
            payload_bytes,
            records,
            files: 1,
            payload_checksum: 0,
            checksum: 0,
        };
        let mut bytes = out.finish();
        header.seal(&mut bytes);
        bytes.to_vec()
    }

    fn buffer() -> Buffer {
        let mut out = Buffer::with_capacity(4096);
        out.skip(BATCH_HEADER_BYTES);
        out
    }

    fn rows() -> [RowOp<'static>; 4] {
        [
            RowOp::Put { key: b"k", value: b"value", expiry: Expiry::NEVER, version: Version(9) },
            RowOp::Put { key: b"", value: b"", expiry: Expiry(77), version: Version(10) },
            RowOp::Delete { key: b"gone", version: Version(11) },
            RowOp::DeleteRange { start: b"a", end: b"b", version: Version(12) },
        ]
    }

    fn every_kind() -> Vec<u8> {
        let mut out = buffer();
        let participants = &[PartitionId(3), PartitionId(4)][..];
        let intents = [
            Intent::Write,
            Intent::Prepare { tx: TX, participants, copy: false },
            Intent::Prepare { tx: TX, participants, copy: true },
            Intent::Decide { tx: TX, version: Version(8), participants, copy: false },
            Intent::Decide { tx: TX, version: Version(8), participants, copy: true },
            Intent::Resolve { tx: TX, outcome: Outcome::Commit(Version(8)) },
            Intent::Resolve { tx: TX, outcome: Outcome::Abort },
            Intent::Time,
        ];
        for intent in &intents {
            encode(&mut out, &HEADER, intent, |w| rows().iter().for_each(|row| w.push(row)));
        }
        encode_witnesses(&mut out, [(PartitionId(3), EditNumber(4))].into_iter());
        seal(out, 9)
    }

    #[test]
    fn every_kind_round_trips() {
        let bytes = every_kind();
        let batch = Batch::decode(&bytes).unwrap();
        let records: Vec<_> = batch.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 9);
        let ids = [PartitionId(3), PartitionId(4)];
        for (at, record) in records.iter().enumerate() {
            match record.body {
                Body::Write(r) => {
                    assert_eq!(at, 0);
                    assert!(r.map(Result::unwrap).eq(rows()));
                }
                Body::Prepare { tx, participants, rows: r, copy } => {
                    assert_eq!((tx, copy), (TX, at == 2));
                    assert!(participants.iter().eq(ids));
                    assert!(r.map(Result::unwrap).eq(rows()));
                }
                Body::Decide { tx, version, participants, copy } => {
                    assert_eq!((tx, version, copy), (TX, Version(8), at == 4));
                    assert!(participants.iter().eq(ids));
                }
                Body::Resolve { tx, outcome } => {
                    let commit = Outcome::Commit(Version(8));
                    assert_eq!((tx, outcome), (TX, if at == 5 { commit } else { Outcome::Abort }));
                }
                Body::Time => assert_eq!(at, 7),
                Body::Witness(w) => {
                    assert_eq!(at, 8);
                    assert!(w.iter().eq([(PartitionId(3), EditNumber(4))]));
                }
            }
            assert_eq!(record.header, if at == 8 { RecordHeader::default() } else { HEADER });
        }
        let again: Vec<u8> = records.iter().flat_map(|record| record.to_bytes().unwrap()).collect();
        assert_eq!(again, batch.payload);
    }

    #[test]
    fn a_write_record_pins_its_bytes() {
        let mut out = buffer();
        let length = encode(&mut out, &HEADER, &Intent::Write, |w| {
            w.put(b"k", b"v", Expiry::NEVER, Version(9));
            w.delete(b"k", Version(10));
        });
        let mut expected = vec![65, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0];
        for n in [1_u64, 7, 1000] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        expected.extend_from_slice(&[1, 1, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, b'k', b'v']);
        expected.extend_from_slice(&[3, 1, 0, 10, 0, 0, 0, 0, 0, 0, 0, b'k']);
        assert_eq!(length, expected.len());
        assert_eq!(&out.as_slice()[BATCH_HEADER_BYTES..], &expected[..]);
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_refused() {
        let mut bytes = every_kind();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert!(Batch::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn random_records_never_panic_and_end() {
        let whole = every_kind();
        let payload = &whole[BATCH_HEADER_BYTES..];
        for seed in 0..2000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = payload.to_vec();
            for _ in 0..rng.usize(1..8) {
                let at = rng.usize(..600);
                bytes[at] = rng.u8(..);
            }
            let mut rest = &bytes[..];
            while let Ok((record, after)) = codec::decode(rest) {
                assert!(after.len() < rest.len(), "seed {seed}: decoding goes on");
                if let Body::Write(rows) | Body::Prepare { rows, .. } = record.body {
                    assert!(rows.count() <= bytes.len(), "seed {seed}");
                }
                rest = after;
            }
        }
    }

    #[test]
    fn a_record_count_that_is_off_is_refused() {
        for (claimed, items, errors) in [(1, 1, 0), (0, 1, 1), (2, 2, 1)] {
            let mut out = buffer();
            encode(&mut out, &HEADER, &Intent::Time, |_| {});
            let bytes = seal(out, claimed);
            let records: Vec<_> = Batch::decode(&bytes).unwrap().records().collect();
            assert_eq!(records.len(), items);
            assert_eq!(records.iter().filter(|r| r.is_err()).count(), errors);
        }
    }
}
