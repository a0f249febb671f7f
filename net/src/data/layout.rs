//! Where a key's rows lie: `net/FORMAT.md`, "Rows".
//!
//! Invariants:
//! - a key's rows are contiguous, its meta row first, and no other key's row is among them;
//! - `key_of(encode(key)) == key`;
//! - the fields of one generation are ordered by their hash, so that a cursor of 32 bits says where to go on.

use foreshard_engine::key::{self, RoutingKey};
use foreshard_engine::limits::{ENTITY_BYTES_MAX, ROW_BYTES_MAX};
use foreshard_engine::{hash, table};

use super::fault::{Fault, Result};

/// Where a key is: its meta row's storage key, and the partition that has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    pub(crate) meta: Vec<u8>,
    pub(crate) home: table::Home,
}

/// Of which entity a key is: its hash tag, or all of it where it has none.
pub(crate) fn entity_of(key: &[u8]) -> &[u8] {
    if let Some(open) = key.iter().position(|&b| b == b'{')
        && let Some(len) = key[open + 1..].iter().position(|&b| b == b'}')
        && len > 0
    {
        return &key[open + 1..open + 1 + len];
    }
    // An entity has a name; this one is in the slot of the empty key.
    if key.is_empty() { b"\0" } else { key }
}

/// Whether a key is one that can be stored.
///
/// # Errors
/// When it is over its limit.
pub(crate) fn check(key: &[u8]) -> Result<()> {
    if key.len() > ENTITY_BYTES_MAX && (entity_of(key).len() > ENTITY_BYTES_MAX || key.len() > KEY_BYTES_MAX)
    {
        return Err(Fault::told(format!(
            "ERR key of {} bytes: at most {ENTITY_BYTES_MAX}, or {KEY_BYTES_MAX} around a hash tag of at most {ENTITY_BYTES_MAX}",
            key.len()
        )));
    }
    Ok(())
}

/// Appends the storage key of a key's meta row to `out`.
///
/// # Errors
/// When the key is over its limit.
pub(crate) fn encode(key: &[u8], out: &mut Vec<u8>) -> Result<()> {
    check(key)?;
    let entity = entity_of(key);
    key::encode_entity(entity, out)?;
    if entity.len() == key.len() {
        out.push(WHOLE);
        return Ok(());
    }
    out.push(TAGGED);
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&TERMINATOR);
    Ok(())
}

/// The key whose row this is, and what follows its meta row's storage key: nothing for the meta row itself. None where
/// it is not a row of a key.
pub(crate) fn key_of(storage: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (entity, row) = key::decode(storage)?;
    let (&marker, mut rest) = row.split_first()?;
    match marker {
        WHOLE => Some((entity, rest)),
        TAGGED => {
            let mut key = Vec::with_capacity(rest.len());
            loop {
                let zero = rest.iter().position(|&b| b == 0)?;
                key.extend_from_slice(&rest[..zero]);
                let (mark, tail) = rest[zero..].split_at_checked(2)?;
                rest = tail;
                if mark == TERMINATOR {
                    return Some((key, rest));
                }
                key.push(0);
            }
        }
        _ => None,
    }
}

/// The storage keys of all fields of a generation start with this.
pub(crate) fn fields(meta: &[u8], generation: u64) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(meta.len() + 8);
    prefix.extend_from_slice(meta);
    prefix.extend_from_slice(&generation.to_be_bytes());
    prefix
}

/// A field's storage key.
///
/// # Errors
/// When the field's name is over its limit.
pub(crate) fn field(meta: &[u8], generation: u64, name: &[u8]) -> Result<Vec<u8>> {
    if name.len() > FIELD_BYTES_MAX {
        return Err(Fault::told(format!("ERR field of {} bytes: at most {FIELD_BYTES_MAX}", name.len())));
    }
    let mut key = fields(meta, generation);
    key.extend_from_slice(&field_hash(name).to_be_bytes());
    key.extend_from_slice(name);
    Ok(key)
}

/// What orders the fields of a hash.
pub(crate) fn field_hash(name: &[u8]) -> u32 {
    (hash::stable(name) >> 32) as u32
}

/// A field's place and name, from its storage key.
pub(crate) fn field_of<'a>(meta: &[u8], storage: &'a [u8]) -> Option<(u32, &'a [u8])> {
    let tail = storage.get(meta.len() + 8..)?;
    let (place, name) = tail.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*place), name))
}

/// The first storage key after all rows of a key.
pub(crate) fn end_of(meta: &[u8]) -> Vec<u8> {
    key::prefix_end(meta).unwrap_or_else(|| vec![u8::MAX])
}

/// The first storage key of all entities with this routing key or a later one.
pub(crate) fn start_of(routing: RoutingKey) -> Vec<u8> {
    routing.to_bytes().to_vec()
}

/// After every storage key: routing keys begin with a slot below 16384.
pub(crate) const END: [u8; 1] = [0x40];

/// The key is the entity's name.
const WHOLE: u8 = 0;
/// The key follows, escaped.
const TAGGED: u8 = 1;
const TERMINATOR: [u8; 2] = [0x00, 0x01];

/// A key with a hash tag; escaped, it takes up to half of a row key, which leaves the other half to fields.
pub(crate) const KEY_BYTES_MAX: usize = 4 << 10;
/// A field's name.
pub(crate) const FIELD_BYTES_MAX: usize = 7 << 10;

const _: () = assert!(1 + 2 * KEY_BYTES_MAX + 2 + 8 + 4 + FIELD_BYTES_MAX <= ROW_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(key, &mut out).unwrap();
        out
    }

    #[test]
    fn entities_are_hash_tags_as_redis_cluster_has_them() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"{user1000}.following", b"user1000"),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"foo{bar", b"foo{bar"),
            (b"", b"\0"),
        ];
        for (key, entity) in cases {
            assert_eq!(entity_of(key), entity, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn keys_come_back_and_their_rows_lie_apart() {
        let keys: [&[u8]; 9] =
            [b"", b"\0", b"a", b"{a}", b"{a}b", b"{a}b\0", b"{a}b\0\x01", b"x{a}", b"{a}b\0\xff"];
        for key in keys {
            let meta = encoded(key);
            assert_eq!(key_of(&meta), Some((key.to_vec(), &b""[..])));
            let row = field(&meta, 7, b"f\0").unwrap();
            assert_eq!(key_of(&row).unwrap().0, key);
            assert_eq!(field_of(&meta, &row), Some((field_hash(b"f\0"), &b"f\0"[..])));
            assert!(meta < row && row < end_of(&meta) && end_of(&meta).as_slice() < &END[..]);
            for other in keys.iter().filter(|&&other| other != key) {
                assert!(!encoded(other).starts_with(&meta), "{key:?} covers {other:?}");
            }
        }
    }

    #[test]
    fn bytes_of_rows_are_pinned() {
        // The worked example of net/FORMAT.md.
        let slot_and_hash = RoutingKey::of(b"7").to_bytes();
        let whole = [&slot_and_hash[..], b"7\0\x01\0"].concat();
        assert_eq!(encoded(b"7"), whole);
        let tagged = [&slot_and_hash[..], b"7\0\x01\x01cart:{7}\0\x01"].concat();
        assert_eq!(encoded(b"cart:{7}"), tagged);
        let place = field_hash(b"sku").to_be_bytes();
        let row = [&tagged[..], &[0, 0, 0, 0, 0, 0, 1, 2], &place, b"sku"].concat();
        assert_eq!(field(&tagged, 0x102, b"sku").unwrap(), row);
    }

    #[test]
    fn keys_over_their_limits_are_refused() {
        let mut out = Vec::new();
        assert!(encode(&[b'k'; ENTITY_BYTES_MAX], &mut out).is_ok());
        assert!(encode(&[b'k'; ENTITY_BYTES_MAX + 1], &mut out).is_err());
        let tagged = [&b"{t}"[..], &[0; KEY_BYTES_MAX - 3]].concat();
        out.clear();
        assert!(encode(&tagged, &mut out).is_ok());
        assert!(field(&out, 1, &[0; FIELD_BYTES_MAX]).is_ok());
        assert!(field(&out, 1, &[0; FIELD_BYTES_MAX + 1]).is_err());
        assert!(encode(&[&tagged[..], b"x"].concat(), &mut out).is_err());
    }
}
