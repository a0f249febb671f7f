//! Storage keys: routing key, entity (escaped), row.
//!
//! Sorted bytewise, so that an entity's rows are contiguous, a range of routing keys is contiguous, and rows of
//! one entity sort as their row keys do. `engine/FORMAT.md`, "Storage key", owns the layout.
//!
//! Invariants:
//! - `decode(encode(entity, row)) == (entity, row)`;
//! - no entity's encoding is a prefix of another's, so `EntityRange` covers one entity exactly.

use crate::error::{Error, Result};
use crate::limits::{ENTITY_BYTES_MAX, ROUTING_KEY_BYTES, ROW_BYTES_MAX};

const SLOT_COUNT: u16 = 16384;
/// Sixteen bytes a step: a byte a step costs more than the rest of a key.
static CRC16: crc::Crc<u16, crc::Table<16>> = crc::Crc::<u16, crc::Table<16>>::new(&crc::CRC_16_XMODEM);
/// A zero byte inside an entity's name is written as `00 ff`, so that the terminator sorts before it.
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xff];
const TERMINATOR: [u8; 2] = [0x00, 0x01];

/// The entity of what a node keeps of itself, in rows that begin with [`NODES_OWN_ROW`]: no client's row there does. They are
/// served like all others, and no partition's pace pays for them.
pub const NODES_OWN: &[u8] = b"\0foreshard";
/// What rows that a node keeps of itself begin with.
pub const NODES_OWN_ROW: u8 = 0xff;

/// Where an entity is at home: its Redis slot, then six bytes of its hash; big-endian, so that numbers sort as bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoutingKey(pub u64);

impl RoutingKey {
    /// The routing key of an entity's name.
    #[must_use]
    pub fn of(entity: &[u8]) -> Self {
        let slot = u64::from(CRC16.checksum(entity) % SLOT_COUNT);
        Self(slot << 48 | crate::hash::stable(entity) >> 16)
    }

    /// The routing key at the front of a storage key; that of no entity if there is none.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(key.first_chunk::<ROUTING_KEY_BYTES>().map_or(u64::MAX, |k| u64::from_be_bytes(*k)))
    }

    /// The Redis slot: 0..16384.
    #[must_use]
    pub const fn slot(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// As it stands at the front of a storage key.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; ROUTING_KEY_BYTES] {
        self.0.to_be_bytes()
    }
}

/// Whether a storage key of `entity` is of what the node keeps of itself.
pub(crate) fn is_nodes_own(entity: &[u8], key: &[u8]) -> bool {
    entity == NODES_OWN && decode(key).is_some_and(|(_, row)| row.first() == Some(&NODES_OWN_ROW))
}

/// Appends the prefix that all storage keys of `entity` share and no other entity's key has.
///
/// # Errors
/// [`Error::Misuse`] for a name that is empty or longer than [`ENTITY_BYTES_MAX`].
pub fn encode_entity(entity: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if entity.is_empty() || entity.len() > ENTITY_BYTES_MAX {
        return Err(Error::misuse(format!(
            "entity name of {} bytes: must have 1 to {ENTITY_BYTES_MAX}",
            entity.len()
        )));
    }
    out.extend_from_slice(&RoutingKey::of(entity).to_bytes());
    for piece in entity.split_inclusive(|&b| b == 0) {
        match piece.split_last() {
            Some((0, head)) => {
                out.extend_from_slice(head);
                out.extend_from_slice(&ESCAPED_ZERO);
            }
            Some(_) | None => out.extend_from_slice(piece),
        }
    }
    out.extend_from_slice(&TERMINATOR);
    Ok(())
}

/// Appends the storage key of `row` in `entity`.
///
/// # Errors
/// [`Error::Misuse`] as [`encode_entity`], or for a row key longer than [`ROW_BYTES_MAX`].
pub fn encode(entity: &[u8], row: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if row.len() > ROW_BYTES_MAX {
        return Err(Error::misuse(format!("row key of {} bytes: at most {ROW_BYTES_MAX}", row.len())));
    }
    encode_entity(entity, out)?;
    out.extend_from_slice(row);
    Ok(())
}

/// The two halves of a storage key, or `None` if the bytes are not one.
#[must_use]
pub fn decode(key: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = key.get(ROUTING_KEY_BYTES..)?;
    let mut entity = Vec::with_capacity(rest.len());
    loop {
        let zero = rest.iter().position(|&b| b == 0)?;
        let (head, tail) = rest.split_at(zero);
        entity.extend_from_slice(head);
        let (mark, tail) = tail.split_at_checked(2)?;
        rest = tail;
        if mark == TERMINATOR {
            return Some((entity, rest));
        }
        if mark != ESCAPED_ZERO {
            return None;
        }
        entity.push(0);
    }
}

/// The first key after every key that starts with `prefix`, or `None` when there is none (all bytes `ff`).
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_key_carries_the_redis_slot() {
        // CLUSTER KEYSLOT foo -> 12182, 123456789 -> 12739 (the Redis Cluster specification's example).
        assert_eq!(RoutingKey::of(b"foo").slot(), 12182);
        assert_eq!(RoutingKey::of(b"123456789").slot(), 12739);
    }

    #[test]
    fn names_with_zero_bytes_round_trip_and_stay_apart() {
        let names: [&[u8]; 7] = [b"a", b"a\0", b"a\0\0", b"\0", b"a\x01", b"a\0\x01", b"a\0\xff"];
        for name in names {
            let mut key = Vec::new();
            encode(name, b"\0row", &mut key).unwrap();
            assert_eq!(decode(&key), Some((name.to_vec(), &b"\0row"[..])));
            for other in names.iter().filter(|&&o| o != name) {
                let mut prefix = Vec::new();
                encode_entity(other, &mut prefix).unwrap();
                assert!(!key.starts_with(&prefix), "{other:?} must not cover {name:?}");
            }
        }
    }

    #[test]
    fn limits_are_errors_not_truncations() {
        let mut out = Vec::new();
        assert!(encode(b"", b"r", &mut out).is_err());
        assert!(encode(&vec![1; ENTITY_BYTES_MAX + 1], b"r", &mut out).is_err());
        assert!(encode(b"e", &vec![1; ROW_BYTES_MAX + 1], &mut out).is_err());
        assert!(encode(&vec![0; ENTITY_BYTES_MAX], &vec![1; ROW_BYTES_MAX], &mut out).is_ok());
        assert!(out.len() <= crate::limits::STORAGE_KEY_BYTES_MAX);
    }

    #[test]
    fn prefix_end_skips_trailing_ff() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff\xff"), None);
    }
}
