//! The memtable against a sorted map: inserts, range deletes, lookups at snapshots, cursors that live through inserts.

use std::cmp::Reverse;
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use foreshard_engine::entry::RangeTombstone;
use foreshard_engine::ids::Version;
use foreshard_engine::memtable::{Memtable, MemtableCursor};

use super::rows::{self, Rows, entry};

/// More add nothing but time.
const OPERATIONS_MAX: usize = 2000;

struct World {
    table: Rc<Memtable>,
    rows: Rows,
    tombstones: Vec<RangeTombstone>,
    cursor: MemtableCursor,
    /// Where the cursor must be.
    at: Option<(Vec<u8>, Reverse<Version>)>,
}

/// Runs the operations that `data` is.
pub fn run(data: &[u8]) {
    let table = Rc::new(Memtable::new());
    let cursor = table.cursor();
    let mut world = World { cursor, table, rows: Rows::new(), tombstones: Vec::new(), at: None };
    let mut input = Unstructured::new(data);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() || world.step(&mut input).is_err() {
            break;
        }
    }
    world.check_all();
}

impl World {
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=9)? {
            0..=4 => {
                let (key, version, stored) = (rows::key(input)?, rows::version(input)?, rows::stored(input)?);
                self.table.insert(entry(&key, version, &stored));
                self.rows.entry((key, Reverse(version))).or_insert(stored);
            }
            5 => {
                if let Some(tombstone) = rows::tombstone(input)?.filter(|_| self.tombstones.len() < 30) {
                    self.table.delete_range(tombstone.clone());
                    self.tombstones.push(tombstone);
                }
            }
            6 | 7 => self.check_get(&rows::key(input)?, rows::version(input)?),
            8 => {
                let (key, version) = (rows::key(input)?, rows::version(input)?);
                self.cursor.seek(&key, version);
                self.at = self.rows.range((key, Reverse(version))..).next().map(|(at, _)| at.clone());
                self.check_cursor();
            }
            _ => {
                self.cursor.advance();
                if let Some(at) = self.at.take() {
                    self.at = self.rows.range((Excluded(at), Unbounded)).next().map(|(at, _)| at.clone());
                }
                self.check_cursor();
            }
        }
        Ok(())
    }

    fn check_get(&self, key: &[u8], at: Version) {
        let found = self.table.get(key, at, |e| (e.version, (e.kind, e.expiry, e.value.to_vec())));
        let expected = rows::newest(&self.rows, key, at).map(|(version, stored)| (version, stored.clone()));
        assert_eq!(found, expected, "{key:?} at {at}");
        let covering =
            |t: &&RangeTombstone| t.start.as_slice() <= key && key < t.end.as_slice() && t.version <= at;
        let covered = self.tombstones.iter().filter(covering).map(|t| t.version).max();
        assert_eq!(self.table.tombstones().covering(key, at), covered);
    }

    fn check_cursor(&self) {
        let expected = self.at.as_ref().map(|at| entry(&at.0, at.1.0, &self.rows[at]));
        assert_eq!(self.cursor.entry(), expected);
    }

    fn check_all(&self) {
        let mut cursor = self.table.cursor();
        cursor.seek(b"", Version::MAX);
        for ((key, version), stored) in &self.rows {
            assert_eq!(cursor.entry(), Some(entry(key, version.0, stored)));
            self.check_get(key, version.0);
            cursor.advance();
        }
        assert_eq!(cursor.entry(), None);
        // What was put in twice counts until it was looked at.
        assert_eq!(self.table.rows(), self.rows.len());
    }
}
