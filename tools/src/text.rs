//! Bytes and keys as people read them.

use foreshard_engine::key;
use serde_json::{Value, json};

/// A size in the unit that suits it.
pub(crate) fn bytes(count: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        if count >> shift >= 10 || (count >> shift > 0 && count.trailing_zeros() >= shift) {
            return format!("{} {unit}", count >> shift);
        }
    }
    format!("{count} bytes")
}

/// `count` of `what`, in the plural if need be.
pub(crate) fn count(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// A storage key as `entity/row`, what is not ASCII escaped; as bytes if it is no storage key.
pub(crate) fn key(key: &[u8]) -> String {
    match key::decode(key) {
        Some((entity, row)) => format!("{}/{}", entity.escape_ascii(), row.escape_ascii()),
        None => format!("key {}", hex(key)),
    }
}

/// A storage key as an object: entity and row, and all of its bytes.
pub(crate) fn key_json(key: &[u8]) -> Value {
    match key::decode(key) {
        Some((entity, row)) => json!({
            "entity": entity.escape_ascii().to_string(),
            "row": row.escape_ascii().to_string(),
            "bytes": hex(key),
        }),
        None => json!({ "bytes": hex(key) }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
