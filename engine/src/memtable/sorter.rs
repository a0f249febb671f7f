//! Rows on their way into a memtable, many at a time and in order.
//!
//! Rows in random order find a cold leaf each, and leave records behind that a flush reads in random order again. Sorted
//! by the thousand, neighbours share their leaf and lie near each other. For whoever has many rows and no reader that
//! waits for them: a log being replayed.

use std::fmt;

use super::Memtable;
use super::tree::head;
use crate::entry::{self, Entry, Expiry, Kind};
use crate::ids::Version;

/// Part of a memtable that is sorted at a time: several rows for each of its leaves, and little beside it.
const MEMTABLE_PART: usize = 8;
/// At most so much, bytes: what is sorted stays in a processor's cache.
const SORTED_BYTES_MAX: usize = 16 << 20;

/// See the module.
pub(crate) struct Sorter {
    sorted_bytes: usize,
    rows: Vec<Row>,
    /// Their keys and values.
    bytes: Vec<u8>,
}

struct Row {
    /// The key's first bytes, which tell most keys apart.
    head: u64,
    version: Version,
    expiry: Expiry,
    start: usize,
    key_bytes: usize,
    value_bytes: usize,
    kind: Kind,
}

impl Sorter {
    /// For memtables of `memtable_bytes`.
    pub(crate) fn new(memtable_bytes: usize) -> Self {
        let sorted_bytes = (memtable_bytes / MEMTABLE_PART).min(SORTED_BYTES_MAX);
        Self { sorted_bytes, rows: Vec::new(), bytes: Vec::new() }
    }

    /// Takes a row.
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        self.rows.push(Row {
            head: head(0, entry.key, entry.version),
            version: entry.version,
            expiry: entry.expiry,
            start: self.bytes.len(),
            key_bytes: entry.key.len(),
            value_bytes: entry.value.len(),
            kind: entry.kind,
        });
        self.bytes.extend_from_slice(entry.key);
        self.bytes.extend_from_slice(entry.value);
    }

    /// Memory of what it holds.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes.len() + self.rows.len() * size_of::<Row>()
    }

    /// Whether there is enough to sort.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes() >= self.sorted_bytes
    }

    /// Moves everything into `memtable`.
    pub(crate) fn drain_into(&mut self, memtable: &Memtable) {
        let Self { rows, bytes, .. } = self;
        rows.sort_unstable_by(|a, b| {
            let key = |row: &Row| row.entry(bytes).key;
            a.head.cmp(&b.head).then_with(|| entry::order((key(a), a.version), (key(b), b.version)))
        });
        rows.drain(..).for_each(|row| memtable.insert(row.entry(bytes)));
        bytes.clear();
    }
}

impl Row {
    fn entry<'a>(&self, bytes: &'a [u8]) -> Entry<'a> {
        let (key, rest) = bytes[self.start..].split_at(self.key_bytes);
        let value = &rest[..self.value_bytes];
        Entry { key, version: self.version, kind: self.kind, expiry: self.expiry, value }
    }
}

impl fmt::Debug for Sorter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sorter({} rows, {} bytes)", self.rows.len(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn rows_come_out_as_if_each_had_been_inserted_when_it_came() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (sorted, plain) = (Rc::new(Memtable::new()), Rc::new(Memtable::new()));
            let mut sorter = Sorter::new(0);
            for version in 1..2000 {
                // Few bytes and lengths around a head's: ties, prefixes of each other, the empty key.
                let key: Vec<u8> = (0..rng.usize(0..12)).map(|_| rng.u8(0..2)).collect();
                let value = vec![rng.u8(..); rng.usize(0..40)];
                let kind = if rng.bool() { Kind::Put } else { Kind::Delete };
                let value: &[u8] = if kind == Kind::Put { &value } else { b"" };
                let expiry = Expiry(if kind == Kind::Put { rng.u64(0..3) } else { 0 });
                let entry = Entry { key: &key, version: Version(version), kind, expiry, value };
                sorter.push(&entry);
                plain.insert(entry);
                if rng.u8(..) == 0 {
                    sorter.drain_into(&sorted);
                }
            }
            sorter.drain_into(&sorted);
            assert_eq!(sorter.bytes(), 0);
            let (mut a, mut b) = (sorted.cursor(), plain.cursor());
            a.seek(b"", Version::MAX);
            b.seek(b"", Version::MAX);
            while let Some(entry) = b.entry() {
                assert_eq!(a.entry(), Some(entry), "seed {seed}");
                a.advance();
                b.advance();
            }
            assert_eq!(a.entry(), None, "seed {seed}");
        }
    }
}
