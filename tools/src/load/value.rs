//! Values that can be checked: who wrote them, when, and whether they are whole. No I/O.
//!
//! All numbers little-endian: magic (8 bytes), run (8), cell (8), connection (4), sequence (4), member (2), zero (2),
//! length of the whole (4), CRC-32 of all else (4); then filling.
//!
//! Invariant: the checksum covers every byte but its own.

use std::fmt;

const MAGIC: [u8; 8] = *b"fsload/1";
const CHECKSUM_OFFSET: usize = 40;
const FILLING_OFFSET: usize = 44;
/// Shorter ones have no room for what is checked.
pub(crate) const VALUE_BYTES_MIN: u32 = 44;

/// What a value says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Of which run, so that what an earlier one left is not taken for this one's.
    pub(crate) run: u64,
    pub(crate) cell: u64,
    pub(crate) connection: u32,
    /// Counts the writes of the cell, from 1.
    pub(crate) sequence: u32,
    /// Which of a transaction's keys.
    pub(crate) member: u16,
}

/// What was found where a value was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Absent,
    /// Something that no verifying run wrote.
    Foreign,
    /// Something that one wrote, and that is not as it was written.
    Garbled(&'static str),
    Stamped(Stamp),
}

/// Bytes to fill values with. They do not compress.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    bytes: Vec<u8>,
}

/// Longer than any cache line run a device or a compressor could profit from.
const FILLING_BYTES: usize = 1 << 20;

impl Filling {
    pub(crate) fn new(mut random: fastrand::Rng) -> Self {
        let mut bytes = vec![0; FILLING_BYTES];
        random.fill(&mut bytes);
        Self { bytes }
    }

    /// Puts `length` bytes, beginning anywhere in the filling.
    pub(crate) fn put(&self, mut length: usize, anywhere: u64, out: &mut Vec<u8>) {
        let mut from = usize::try_from(anywhere % FILLING_BYTES as u64).unwrap_or(0);
        while length > 0 {
            let piece = length.min(FILLING_BYTES - from);
            out.extend_from_slice(&self.bytes[from..from + piece]);
            length -= piece;
            from = 0;
        }
    }
}

/// Puts a value of `length` bytes.
pub(crate) fn put(stamp: Stamp, length: u32, filling: &Filling, out: &mut Vec<u8>) {
    assert!(length >= VALUE_BYTES_MIN);
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&stamp.run.to_le_bytes());
    out.extend_from_slice(&stamp.cell.to_le_bytes());
    out.extend_from_slice(&stamp.connection.to_le_bytes());
    out.extend_from_slice(&stamp.sequence.to_le_bytes());
    out.extend_from_slice(&stamp.member.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let anywhere = stamp.cell.wrapping_mul(31).wrapping_add(u64::from(stamp.sequence)).wrapping_mul(4099);
    let rest = usize::try_from(length).expect("32 bits") - FILLING_OFFSET;
    filling.put(rest, anywhere, out);
    let checksum = checksum(&out[start..]);
    out[start + CHECKSUM_OFFSET..start + FILLING_OFFSET].copy_from_slice(&checksum.to_le_bytes());
}

/// What the bytes are.
pub(crate) fn read(bytes: &[u8]) -> Found {
    if !bytes.starts_with(&MAGIC) {
        return Found::Foreign;
    }
    let Some(fields) = bytes.first_chunk::<FILLING_OFFSET>() else {
        return Found::Garbled("it is too short");
    };
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| fields[at + n]));
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| fields[at + n]));
    let u16_at = |at: usize| u16::from_le_bytes(std::array::from_fn(|n| fields[at + n]));
    if u64::from(u32_at(36)) != bytes.len() as u64 {
        return Found::Garbled("it is not as long as it says");
    }
    if u32_at(CHECKSUM_OFFSET) != checksum(bytes) {
        return Found::Garbled("its checksum is wrong");
    }
    if u16_at(34) != 0 {
        return Found::Garbled("reserved bytes are not zero");
    }
    Found::Stamped(Stamp {
        run: u64_at(8),
        cell: u64_at(16),
        connection: u32_at(24),
        sequence: u32_at(28),
        member: u16_at(32),
    })
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CHECKSUM_OFFSET]);
    hasher.update(&bytes[FILLING_OFFSET..]);
    hasher.finalize()
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Foreign => f.write_str("a value that no verifying run wrote"),
            Self::Garbled(what) => write!(f, "a damaged value: {what}"),
            Self::Stamped(stamp) => write!(
                f,
                "write {} of cell {} member {} by connection {} of run {:016x}",
                stamp.sequence, stamp.cell, stamp.member, stamp.connection, stamp.run
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    const STAMP: Stamp = Stamp { run: 0x1122_3344, cell: 77, connection: 5, sequence: 9, member: 2 };

    fn value(length: u32) -> Vec<u8> {
        let mut out = b"before".to_vec();
        put(STAMP, length, &Filling::new(Rng::with_seed(1)), &mut out);
        out.split_off(6)
    }

    #[test]
    fn a_value_says_what_it_was_given_at_every_length() {
        for length in (44..200).chain([4096, 1 << 20, (2 << 20) + 1]) {
            let value = value(length);
            assert_eq!(value.len() as u64, u64::from(length));
            assert_eq!(read(&value), Found::Stamped(STAMP));
        }
    }

    #[test]
    fn a_value_is_these_bytes() {
        let hex: String = value(44).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "66736c6f61642f3144332211000000004d000000000000000500000009000000020000002c00000080ced36b"
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let value = value(60);
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let found = read(&changed);
            assert!(matches!(found, Found::Garbled(_) | Found::Foreign), "bit {bit}: {found:?}");
        }
        for length in 0..value.len() {
            assert!(!matches!(read(&value[..length]), Found::Stamped(_)), "cut to {length}");
        }
        assert!(!matches!(read(&[&value[..], b"x"].concat()), Found::Stamped(_)), "a byte more");
    }
}
