//! The rows a reader sees: of each row the newest version at its snapshot, unless it is a delete, covered by a range
//! tombstone, or expired.
//!
//! Works on a merge of everything that may hold the rows' versions, newest sources first or not: versions decide.

use futures_lite::future::yield_now;

use crate::entry::{Entry, Expiry, Kind};
use crate::error::Result;
use crate::ids::Version;
use crate::merge::{Merge, Step};
use crate::tombstones::RangeTombstones;

/// Entries passed over between two yields: about 50 us of walking through what is deleted.
const HIDDEN_PER_TURN: u32 = 1024;

/// What a reader sees.
#[derive(Debug)]
pub struct View {
    /// Later versions do not exist for it.
    pub at: Version,
    /// Partition time: rows that expire at or before it are gone (R6).
    pub now_ms: u64,
    /// All range tombstones that may cover its rows.
    pub tombstones: RangeTombstones,
}

impl View {
    /// Whether the newest version of a row at this view's snapshot says that there is such a row.
    #[must_use]
    pub fn shows(&self, entry: &Entry<'_>) -> bool {
        entry.kind == Kind::Put
            && !entry.expiry.is_past(self.now_ms)
            && (self.tombstones.is_empty()
                || self
                    .tombstones
                    .covering(entry.key, self.at)
                    .is_none_or(|version| version <= entry.version))
    }
}

/// A walk over live rows in key order.
#[derive(Debug)]
pub struct Visible {
    merge: Merge,
    view: View,
    /// The row decided last: its older versions are passed over.
    key: Vec<u8>,
    place: Place,
    /// The latest expiry that hid a row: what partition time must not fall behind again (R6).
    expired: Expiry,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The merge stands at an entry not looked at yet.
    Undecided,
    /// The merge stands at a row to be shown.
    Shown,
    End,
}

/// How far a step got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walked {
    /// To a row, or to the end.
    There,
    NeedsLoad,
    /// Through as many hidden entries as fit a turn.
    Spent,
}

impl Visible {
    /// The rows of `merge` that `view` shows. Seek first.
    #[must_use]
    pub fn new(merge: Merge, view: View) -> Self {
        Self { merge, view, key: Vec::new(), place: Place::End, expired: Expiry::NEVER }
    }

    /// Goes to the first row at or after `key`; false if there is none.
    ///
    /// # Errors
    /// What a source says.
    pub async fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.key.clear();
        self.place = Place::Undecided;
        if self.merge.seek(key, Version::MAX) == Step::NeedsLoad {
            self.merge.load().await?;
        }
        self.settle().await
    }

    /// Goes to the next row; false at the end.
    ///
    /// # Errors
    /// What a source says; the walk may try again.
    pub async fn next(&mut self) -> Result<bool> {
        if self.place == Place::Shown {
            self.place = Place::Undecided;
            if self.merge.advance() == Step::NeedsLoad {
                self.merge.load().await?;
            }
        }
        self.settle().await
    }

    /// The row it stands at.
    #[must_use]
    pub fn entry(&self) -> Option<Entry<'_>> {
        if self.place == Place::Shown { self.merge.entry() } else { None }
    }

    /// The latest expiry that hid a row so far.
    #[must_use]
    pub fn expired(&self) -> Option<Expiry> {
        (self.expired != Expiry::NEVER).then_some(self.expired)
    }

    async fn settle(&mut self) -> Result<bool> {
        if self.place == Place::End {
            return Ok(false);
        }
        loop {
            match self.walk() {
                Walked::There => return Ok(self.place == Place::Shown),
                Walked::NeedsLoad => self.merge.load().await?,
                Walked::Spent => yield_now().await,
            }
        }
    }

    fn walk(&mut self) -> Walked {
        for _ in 0..HIDDEN_PER_TURN {
            match self.merge.entry() {
                None if self.merge.needs_load() => return Walked::NeedsLoad,
                None => {
                    self.place = Place::End;
                    return Walked::There;
                }
                // Storage keys are never empty, so that an empty `key` is no row.
                Some(entry) if entry.version <= self.view.at && entry.key != self.key => {
                    self.key.clear();
                    self.key.extend_from_slice(entry.key);
                    if self.view.shows(&entry) {
                        self.place = Place::Shown;
                        return Walked::There;
                    }
                    if entry.kind == Kind::Put && entry.expiry.is_past(self.view.now_ms) {
                        self.expired = self.expired.max(entry.expiry);
                    }
                }
                Some(_) => {}
            }
            if self.merge.advance() == Step::NeedsLoad {
                return Walked::NeedsLoad;
            }
        }
        Walked::Spent
    }
}
