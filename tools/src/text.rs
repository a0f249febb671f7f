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

/// A size as people write it: a number, and the unit if it is not bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("must be a number, with KiB, MiB or GiB behind it or nothing".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "must begin with a number".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "is too large".to_owned())
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
