//! How rows are named, and which connection writes which. No I/O.
//!
//! A *cell* is what is written as one: a string; a field of a hash; or the keys of a transaction, which are always
//! written together. Cells are numbered. Those of one hash follow each other, and so belong to one connection.
//!
//! Invariants:
//! - a cell has one owner, the only connection that writes it where that matters, so that its writes have an order;
//! - an owner numbers its cells 0, 1, 2 ..: first those that were there, then those it inserts.

use serde::{Deserialize, Serialize};

use super::request::decimal;

/// What rows are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Data {
    /// SET and GET of keys.
    Strings,
    /// HSET, HGET and HSCAN of fields of hashes.
    Hashes,
    /// MULTI .. EXEC over several keys in different hash tags.
    Transactions,
}

/// Names and owners.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) data: Data,
    /// What every key begins with.
    pub(crate) prefix: String,
    /// Keys that are there from the beginning; groups of keys for transactions.
    pub(crate) entities: u64,
    /// Cells in each: a hash's fields, the keys of an entity that has a name, or 1.
    pub(crate) fields: u64,
    /// Keys in a cell: a transaction's, or 1.
    pub(crate) members: u16,
    pub(crate) connections: u32,
    /// What entities are called; none: by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<String>,
}

/// More are not named apart in the digits of a name, nor held in anyone's memory.
pub(crate) const CELLS_MAX: u64 = 1 << 36;
const KEY_DIGITS: usize = 12;
const FIELD_DIGITS: usize = 8;

impl Layout {
    /// Cells that are there from the beginning.
    pub(crate) const fn cells(&self) -> u64 {
        self.entities * self.fields
    }

    /// Who writes the cell, and its number there.
    pub(crate) fn owner(&self, cell: u64) -> (u32, u64) {
        let connections = u64::from(self.connections);
        let (entity, field) = (cell / self.fields, cell % self.fields);
        let owner = u32::try_from(entity % connections).expect("below the count of connections");
        (owner, entity / connections * self.fields + field)
    }

    /// The cell that `owner` has as its `local` one.
    pub(crate) fn cell(&self, owner: u32, local: u64) -> u64 {
        let entity = local / self.fields * u64::from(self.connections) + u64::from(owner);
        entity * self.fields + local % self.fields
    }

    /// How many of the cells from the beginning belong to `owner`.
    pub(crate) fn owned(&self, owner: u32) -> u64 {
        let connections = u64::from(self.connections);
        let more = u64::from(u64::from(owner) < self.entities % connections);
        (self.entities / connections + more) * self.fields
    }

    /// The cell that is `owner`'s and nearest to the given one. There are at least as many entities as connections.
    pub(crate) fn nearest_owned(&self, owner: u32, cell: u64) -> u64 {
        let connections = u64::from(self.connections);
        let (entity, field) = (cell / self.fields, cell % self.fields);
        let mut nearest = entity - entity % connections + u64::from(owner);
        if nearest >= self.entities {
            nearest -= connections;
        }
        nearest * self.fields + field
    }

    /// The key that the cell, or this member of it, is in.
    pub(crate) fn put_key(&self, cell: u64, member: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        if !self.names.is_empty() {
            let entity = usize::try_from(cell / self.fields).ok().and_then(|entity| self.names.get(entity));
            out.push(b'{');
            out.extend_from_slice(entity.map_or(&b""[..], |name| name.as_bytes()));
            out.push(b'}');
            if self.data == Data::Strings {
                out.push(b':');
                self.put_field(cell, out);
            }
            return;
        }
        if self.data == Data::Transactions {
            out.push(b'{');
            decimal(out, cell, KEY_DIGITS);
            out.push(b':');
            decimal(out, u64::from(member), 1);
            out.push(b'}');
        } else {
            decimal(out, cell / self.fields, KEY_DIGITS);
        }
    }

    /// The field that the cell is.
    pub(crate) fn put_field(&self, cell: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"f");
        decimal(out, cell % self.fields, FIELD_DIGITS);
    }

    /// The cell that a field of the hash of `cell` is; none for a name that no field has.
    pub(crate) fn sibling(&self, cell: u64, field: &[u8]) -> Option<u64> {
        let digits = field.strip_prefix(b"f").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (number < self.fields).then(|| cell - cell % self.fields + number)
    }

    /// The cell as people read it.
    pub(crate) fn name(&self, cell: u64, member: u16) -> String {
        let mut name = Vec::new();
        self.put_key(cell, member, &mut name);
        if self.data == Data::Hashes {
            name.push(b' ');
            self.put_field(cell, &mut name);
        }
        String::from_utf8_lossy(&name).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn layout(data: Data, entities: u64, fields: u64, connections: u32) -> Layout {
        Layout { data, prefix: "key:".into(), entities, fields, members: 3, connections, names: Vec::new() }
    }

    #[test]
    fn every_cell_has_one_owner_who_counts_without_a_gap() {
        for (entities, fields, connections) in [(10, 1, 3), (7, 4, 7), (100, 5, 8), (3, 2, 5), (1, 1, 1)] {
            let layout = layout(Data::Hashes, entities, fields, connections);
            let mut all = BTreeSet::new();
            for owner in 0..connections {
                for local in 0..layout.owned(owner) {
                    let cell = layout.cell(owner, local);
                    assert!(cell < layout.cells());
                    assert_eq!(layout.owner(cell), (owner, local));
                    all.insert(cell);
                }
                let inserted = layout.cell(owner, layout.owned(owner));
                assert!(inserted >= layout.cells(), "what is inserted was not there");
            }
            assert_eq!(all, (0..layout.cells()).collect());
        }
    }

    #[test]
    fn the_nearest_cell_is_owned_and_of_the_same_field() {
        let layout = layout(Data::Hashes, 11, 3, 4);
        for owner in 0..4 {
            for cell in 0..layout.cells() {
                let nearest = layout.nearest_owned(owner, cell);
                assert_eq!((layout.owner(nearest).0, nearest % 3), (owner, cell % 3));
                assert!(nearest < layout.cells() && nearest.abs_diff(cell) < 4 * 3 * 2);
            }
        }
    }

    #[test]
    fn names_are_these() {
        assert_eq!(layout(Data::Strings, 10, 1, 2).name(7, 0), "key:000000000007");
        assert_eq!(layout(Data::Hashes, 10, 4, 2).name(7, 0), "key:000000000001 f00000003");
        assert_eq!(layout(Data::Transactions, 10, 1, 2).name(7, 2), "key:{000000000007:2}");
        let names = ["shop:1", "shop:2"].map(str::to_owned).to_vec();
        let named = Layout { names: names.clone(), ..layout(Data::Hashes, 2, 4, 2) };
        assert_eq!(named.name(7, 0), "key:{shop:2} f00000003");
        let named = Layout { names, ..layout(Data::Strings, 2, 4, 2) };
        assert_eq!(named.name(7, 0), "key:{shop:2}:f00000003");
    }

    #[test]
    fn a_sibling_is_found_by_its_field() {
        let layout = layout(Data::Hashes, 10, 4, 2);
        assert_eq!(layout.sibling(9, b"f00000003"), Some(11));
        for field in [&b"f00000004"[..], b"g00000001", b"f", b"", b"f-1", b"f99999999999999999999999"] {
            assert_eq!(layout.sibling(9, field), None, "{}", field.escape_ascii());
        }
    }
}
