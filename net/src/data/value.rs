//! What a meta row says of its key: `net/FORMAT.md`, "Meta row".

use super::fault::{Fault, Result, WRONG_TYPE};

/// A meta row's value, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    /// A string, in the row itself.
    String(&'a [u8]),
    /// A hash, whose fields are rows of their own.
    Hash(HashMeta),
}

/// A hash without its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HashMeta {
    /// Under which number its fields lie; a key's generations are never used again.
    pub(crate) generation: u64,
    /// How many there are.
    pub(crate) fields: u64,
}

impl<'a> Value<'a> {
    /// Of a meta row.
    ///
    /// # Errors
    /// When a later version of the format wrote it, or nobody did.
    pub(crate) fn decode(row: &'a [u8]) -> Result<Self> {
        match row.split_first() {
            Some((&STRING, bytes)) => Ok(Self::String(bytes)),
            Some((&HASH, rest)) => {
                let (generation, count) = rest.split_first_chunk().ok_or_else(|| unknown(row))?;
                let count = count.try_into().map_err(|_| unknown(row))?;
                Ok(Self::Hash(HashMeta {
                    generation: u64::from_le_bytes(*generation),
                    fields: u64::from_le_bytes(count),
                }))
            }
            _ => Err(unknown(row)),
        }
    }

    /// The string.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn string(self) -> Result<&'a [u8]> {
        match self {
            Self::String(bytes) => Ok(bytes),
            Self::Hash(_) => Err(WRONG_TYPE),
        }
    }

    /// As TYPE names it.
    pub(crate) const fn type_name(self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Hash(_) => "hash",
        }
    }
}

/// Appends a string's meta row.
pub(crate) fn encode_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(STRING);
    out.extend_from_slice(bytes);
}

/// A string's meta row.
pub(crate) fn string_row(bytes: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + bytes.len());
    encode_string(bytes, &mut row);
    row
}

impl HashMeta {
    /// Its meta row.
    pub(crate) fn row(self) -> Vec<u8> {
        [&[HASH][..], &self.generation.to_le_bytes(), &self.fields.to_le_bytes()].concat()
    }
}

fn unknown(row: &[u8]) -> Fault {
    Fault::told(format!(
        "ERR the key's first row begins with {:02x?}, which this version of foreshard does not know",
        &row[..row.len().min(4)]
    ))
}

const STRING: u8 = 1;
const HASH: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_meta_rows_are_pinned() {
        assert_eq!(string_row(b"abc"), b"\x01abc");
        let meta = HashMeta { generation: 0x0102, fields: 3 };
        assert_eq!(meta.row(), b"\x02\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
    }

    #[test]
    fn rows_come_back_and_others_are_refused() {
        let meta = HashMeta { generation: 9, fields: 1 };
        assert_eq!(Value::decode(&meta.row()).unwrap(), Value::Hash(meta));
        assert_eq!(Value::decode(b"\x01").unwrap(), Value::String(b""));
        for row in [&b""[..], b"\x00", b"\x03abc", b"\x02short", b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0long"]
        {
            assert!(Value::decode(row).is_err(), "{row:?}");
        }
    }
}
