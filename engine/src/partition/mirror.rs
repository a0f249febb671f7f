//! Reads of a range that are noted, a share of them, with what they found and how long that took: whoever asks another
//! copy of the range the same knows what it ought to say.
//!
//! Invariants:
//! - who reads waits for nobody here: what finds no room is dropped, and counted;
//! - what waits to be looked at is bounded in number and in bytes; values are kept as hashes;
//! - a noted read names the place in the log up to which a copy has to have come before it may be asked;
//! - where there is no mirror, a read costs one load more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::Partition;
use super::read::{Observed, Page, Row};
use super::tap::Tap;
use crate::entry::Expiry;
use crate::error::Result;
use crate::ids::Version;

/// Reads that wait: what a core answers in about ten milliseconds, so that a slice of other work costs none of them.
const NOTED_MAX: usize = 4096;
/// Rows of a page that are noted: a page is one read, and is not to outweigh many.
const PAGE_ROWS_NOTED: usize = 4;
/// Bytes of their keys.
const NOTED_BYTES_MAX: usize = 1 << 20;

/// The mirrors of one partition.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    open: RefCell<Vec<Weak<Mirror>>>,
    /// As many as `open` has, for those who look at every read.
    count: Cell<usize>,
}

/// Reads of one range, noted until it is dropped.
#[derive(Debug)]
pub(crate) struct Mirror {
    start: Vec<u8>,
    end: Vec<u8>,
    /// What a copy of the range is fed from; when that is no more, nothing is noted either.
    tap: Weak<Tap>,
    share: Cell<f64>,
    random: RefCell<fastrand::Rng>,
    noted: RefCell<VecDeque<Noted>>,
    bytes: Cell<usize>,
    totals: Cell<Drawn>,
}

/// How many reads there were, and what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Drawn {
    /// Reads of the range.
    pub(crate) reads: u64,
    /// Of these, those that were noted.
    pub(crate) noted: u64,
    /// And those that there was no room for.
    pub(crate) dropped: u64,
}

/// One read.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) key: Vec<u8>,
    pub(crate) answer: Answer,
    /// None: it was one of many rows of a page, whose time says nothing of one row.
    pub(crate) took: Option<Duration>,
    /// The partition's version when it began: no later write is in the answer for sure.
    pub(crate) from: Version,
    /// Rows that the tap had been given when it ended: everything in the answer is among them.
    pub(crate) tapped: u64,
}

/// What a read found, without its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// A row, and its value's hash.
    Row {
        /// The write that made it.
        version: Version,
        /// When it expires.
        expiry: Expiry,
        /// Of its value.
        hash: u64,
    },
    /// None, or one that was deleted at this version.
    Absent(Version),
    /// One that is past its time: another core's clock may see it a little longer.
    Expired,
}

/// How two copies' answers compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Agreement {
    /// They are the same.
    Equal,
    /// The other copy has a later write: there is nothing to compare.
    Later,
    /// The same write, with another value: nothing that may happen meanwhile makes that right.
    Altered,
    /// They differ; a write that was under way may be the reason.
    Differs,
}

impl Answer {
    fn of(row: Option<Self>, observed: &Observed) -> Self {
        match row {
            Some(row) => row,
            None if observed.expired.is_some() => Self::Expired,
            None => Self::Absent(observed.version),
        }
    }

    fn of_row(row: &Row<'_>) -> Self {
        Self::Row { version: row.version, expiry: row.expiry, hash: crate::hash::stable(row.value) }
    }

    /// Compares what was found in a read that began at version `from` with what a copy says that has everything of that
    /// read.
    pub(crate) fn compare(self, from: Version, copy: Self) -> Agreement {
        match (self, copy) {
            (Self::Expired, _) | (_, Self::Expired) => Agreement::Later,
            (Self::Absent(_), Self::Absent(_)) => Agreement::Equal,
            (Self::Row { version, .. }, Self::Row { version: other, .. }) if version == other => {
                if self == copy { Agreement::Equal } else { Agreement::Altered }
            }
            (_, Self::Row { version, .. } | Self::Absent(version)) if version > from => Agreement::Later,
            (_, Self::Row { .. } | Self::Absent(_)) => Agreement::Differs,
        }
    }
}

impl Mirror {
    /// From here on this share, 0..=1, of reads is noted.
    pub(crate) fn set_share(&self, share: f64) {
        self.share.set(share);
    }

    /// The share that is noted.
    pub(crate) fn share(&self) -> f64 {
        self.share.get()
    }

    pub(crate) fn totals(&self) -> Drawn {
        self.totals.get()
    }

    /// Rows that the tap was given so far.
    pub(crate) fn given(&self) -> u64 {
        self.tap.upgrade().map_or(0, |tap| tap.given())
    }

    /// The oldest reads, at most so many, that a copy with `tapped` rows of the tap may be asked.
    pub(crate) fn take(&self, most: usize, tapped: u64) -> Vec<Noted> {
        let mut noted = self.noted.borrow_mut();
        let ready = noted.iter().take(most).take_while(|read| read.tapped <= tapped).count();
        let taken: Vec<Noted> = noted.drain(..ready).collect();
        self.bytes.set(self.bytes.get() - taken.iter().map(|read| read.key.len()).sum::<usize>());
        taken
    }

    fn count(&self, f: impl FnOnce(&mut Drawn)) {
        let mut totals = self.totals.get();
        f(&mut totals);
        self.totals.set(totals);
    }

    fn covers(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && key < self.end.as_slice()
    }

    /// Whether a read of `key` is to be noted.
    fn draws(&self, key: &[u8]) -> bool {
        if !self.covers(key) {
            return false;
        }
        self.count(|totals| totals.reads += 1);
        self.random.borrow_mut().f64() < self.share.get()
    }

    fn note(&self, read: Noted) {
        let mut noted = self.noted.borrow_mut();
        let bytes = self.bytes.get() + read.key.len();
        if noted.len() >= NOTED_MAX || bytes > NOTED_BYTES_MAX {
            self.count(|totals| totals.dropped += 1);
            return;
        }
        self.count(|totals| totals.noted += 1);
        self.bytes.set(bytes);
        noted.push_back(read);
    }
}

impl Partition {
    /// Notes `share` of the reads of `start..end` from this turn on, as long as it is held; `tap` follows the same range.
    pub(crate) fn mirror(
        &self,
        start: &[u8],
        end: &[u8],
        tap: &Rc<Tap>,
        share: f64,
        seed: u64,
    ) -> Rc<Mirror> {
        let mirror = Rc::new(Mirror {
            start: start.to_vec(),
            end: end.to_vec(),
            tap: Rc::downgrade(tap),
            share: Cell::new(share),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            noted: RefCell::default(),
            bytes: Cell::new(0),
            totals: Cell::default(),
        });
        self.mirrors.open.borrow_mut().push(Rc::downgrade(&mirror));
        self.mirrors.count.set(self.mirrors.open.borrow().len());
        mirror
    }

    /// Where a read of `key` is to be noted, if it is.
    #[inline]
    pub(super) fn mirror_of(&self, key: &[u8]) -> Option<Rc<Mirror>> {
        if self.mirrors.count.get() == 0 { None } else { self.mirrors.draw(key) }
    }

    /// As `find` of the newest row, and noted.
    pub(super) async fn find_noted<R>(
        &self,
        mirror: Rc<Mirror>,
        key: &[u8],
        f: impl FnOnce(Option<Row<'_>>) -> R,
    ) -> Result<(R, Observed)> {
        let (began, from) = (self.common.runtime.now(), self.version());
        let mut row = None;
        let work = self.find(key, Version::MAX, |found| {
            row = found.as_ref().map(Answer::of_row);
            f(found)
        });
        let (result, observed) = work.await?;
        let took = self.common.runtime.now().since(began);
        let answer = Answer::of(row, &observed);
        mirror.note(Noted { key: key.to_vec(), answer, took: Some(took), from, tapped: mirror.given() });
        Ok((result, observed))
    }

    /// A page of `start..` was read as of version `from`: some of its rows are compared, if it is drawn.
    #[inline]
    pub(super) fn note_page(&self, start: &[u8], page: &Page, from: Version) {
        let Some(mirror) = self.mirror_of(start) else { return };
        // A page may go on behind the range.
        let rows = page.rows.iter().step_by(page.rows.len().div_ceil(PAGE_ROWS_NOTED).max(1));
        for row in rows.filter(|row| mirror.covers(&row.key)) {
            let (answer, tapped) = (Answer::of_row(&row.as_row()), mirror.given());
            mirror.note(Noted { key: row.key.clone(), answer, took: None, from, tapped });
        }
    }

    /// The newest row at `key`, for comparison and for nobody's eyes: it may be uncommitted, and of an entity that is not
    /// here yet. With the version at which it was begun to be looked for.
    pub(crate) async fn answer_of(&self, key: &[u8]) -> Result<(Answer, Version)> {
        let from = self.version();
        let (row, observed) = self.find(key, Version::MAX, |row| row.as_ref().map(Answer::of_row)).await?;
        Ok((Answer::of(row, &observed), from))
    }
}

impl Mirrors {
    #[cold]
    fn draw(&self, key: &[u8]) -> Option<Rc<Mirror>> {
        let mut open = self.open.borrow_mut();
        let is_fed = |mirror: Rc<Mirror>| mirror.tap.strong_count() > 0;
        open.retain(|mirror| mirror.upgrade().is_some_and(is_fed));
        self.count.set(open.len());
        // An entity leaves once at a time: its ranges do not overlap.
        open.iter().filter_map(Weak::upgrade).find(|mirror| mirror.draws(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: u64, hash: u64) -> Answer {
        Answer::Row { version: Version(version), expiry: Expiry::NEVER, hash }
    }

    fn absent(version: u64) -> Answer {
        Answer::Absent(Version(version))
    }

    #[test]
    fn answers_of_equal_versions_are_equal_and_later_ones_say_nothing() {
        let cases = [
            (row(5, 1), row(5, 1), Agreement::Equal),
            (row(5, 1), row(5, 2), Agreement::Altered),
            (row(5, 1), row(11, 2), Agreement::Later),
            (row(5, 1), absent(11), Agreement::Later),
            (absent(0), row(11, 2), Agreement::Later),
            (absent(3), absent(0), Agreement::Equal),
            (row(5, 1), Answer::Expired, Agreement::Later),
            // What the copy has to have is lost, or old.
            (row(5, 1), absent(0), Agreement::Differs),
            (row(5, 1), absent(9), Agreement::Differs),
            (row(5, 1), row(4, 1), Agreement::Differs),
            (absent(7), row(5, 1), Agreement::Differs),
        ];
        for (source, copy, expected) in cases {
            assert_eq!(source.compare(Version(10), copy), expected, "{source:?} {copy:?}");
        }
    }
}
