//! All keys, in the order of their homes: slot, then hash.

use foreshard_engine::entry::Expiry;
use foreshard_engine::key::{RoutingKey, prefix_end};
use foreshard_engine::table::{Home, Image, KEYS_END};
use foreshard_engine::{Page, PageLimit};

use super::fault::{Fault, Result};
use super::layout::{self, END};
use super::tx::Tx;
use super::value::Value;

/// A walk over all keys. Keys of one entity come together; keys that are there all along are met once.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Where to go on; none at the end.
    next: Option<Vec<u8>>,
}

/// A key met on the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Met {
    pub(crate) routing: RoutingKey,
    pub(crate) key: Vec<u8>,
    pub(crate) kind: &'static str,
    pub(crate) expiry: Expiry,
}

/// A page that is not begun before somebody moves again, so often in a row, is not to be had.
const LOOKS_MAX: usize = 100;
/// Rows of a page: a turn's work. Fields of hashes are among them.
const ROWS_MAX: usize = 1024;
const BYTES_MAX: usize = 1 << 20;

impl Keys {
    /// From the first key at or after `routing` on.
    pub(crate) fn from(routing: RoutingKey) -> Self {
        Self { next: Some(layout::start_of(routing)) }
    }

    /// The keys of the next page of about `rows` rows; none at the end.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn next(&mut self, tx: &mut Tx, rows: usize) -> Result<Option<Vec<Met>>> {
        let Some(start) = self.next.take() else { return Ok(None) };
        let limit = PageLimit { rows: rows.clamp(16, ROWS_MAX), bytes: BYTES_MAX };
        let (page, end) = page_from(tx, &start, limit).await?;
        let mut keys = Vec::new();
        let mut behind_fields = None;
        for row in &page.rows {
            let Some((key, rest)) = layout::key_of(&row.key) else { continue };
            if !rest.is_empty() {
                behind_fields =
                    Some(row.key.len() - rest.len()).and_then(|meta| prefix_end(&row.key[..meta]));
                continue;
            }
            behind_fields = None;
            keys.push(Met {
                routing: RoutingKey::of_key(&row.key),
                key,
                kind: Value::decode(&row.value)?.type_name(),
                expiry: row.expiry,
            });
        }
        self.next = match page.resume {
            // A page that ends within a hash goes on behind it: its other fields need not be read.
            Some(resume) => Some(behind_fields.filter(|behind| *behind > resume).unwrap_or(resume)),
            None if end.as_slice() < END.as_slice() => Some(end),
            None => None,
        };
        Ok(Some(keys))
    }
}

/// The rows from `start` on that one partition has, and where those end that it has.
async fn page_from(tx: &mut Tx, start: &[u8], limit: PageLimit) -> Result<(Page, Vec<u8>)> {
    for _ in 0..LOOKS_MAX {
        let (home, end) = piece(&tx.shard().map(), start);
        match tx.scan(home, start, &end, limit).await {
            // Something moved while the page was begun: who has it is another one, perhaps.
            Err(Fault::Moved(version)) => tx.shard().knows(version).await?,
            page => return Ok((page?, end)),
        }
    }
    Err(Fault::text("TRYAGAIN the keys move too often"))
}

/// Which partition has the rows from `start` on, and where the next one's begin: a guest's partition its keys, and the
/// partition of the range what lies between two guests.
pub(crate) fn piece(map: &Image, start: &[u8]) -> (Home, Vec<u8>) {
    let home = map.home_of(start);
    let routing = RoutingKey::of_key(start);
    let range = map.home_by_range(routing);
    let mut end = end_of(range);
    for guest in map.guests_between(routing, range.end) {
        match prefix_end(guest.prefix) {
            Some(behind) if start.starts_with(guest.prefix) => return (home, behind),
            Some(_) if guest.prefix > start => {
                end = end.min(guest.prefix.to_vec());
                break;
            }
            Some(_) | None => {}
        }
    }
    (range, end)
}

/// Where a partition's range ends.
pub(crate) fn end_of(home: Home) -> Vec<u8> {
    if home.end == KEYS_END { END.to_vec() } else { layout::start_of(home.end) }
}
