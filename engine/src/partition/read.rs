//! Reading a partition: one row, or a page of a range.
//!
//! A read looks at the row cache, at the memtables, then at the segments from newest to oldest, and stops at the first entry of the
//! row at or below its version: a row's versions ascend with the age of what holds them. What it observed is
//! committed before it returns (R4); after a failed log it sees committed versions only (R3).

use std::rc::Rc;
use std::time::Duration;

use super::levels::Levels;
use super::locks::{Obstacle, in_doubt};
use super::{Partition, Sealed};
use crate::entry::{Entry, Expiry, Kind};
use crate::error::{Error, Result};
use crate::ids::{Index, Version};
use crate::memtable::Memtable;
use crate::merge::{Merge, Source};
use crate::segment::{Found, ReadMode, RunCursor};
use crate::tombstones::RangeTombstones;
use crate::visible::{View, Visible};
use crate::wal::Ticket;

/// How often a device without room is looked at.
const ROOM_EVERY: Duration = Duration::from_millis(10);

/// A live row, borrowed from where it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its value.
    pub value: &'a [u8],
    /// The write that made it.
    pub version: Version,
    /// When it expires.
    pub expiry: Expiry,
}

/// What a read must not tell before it is committed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    pub(super) version: Version,
    pub(super) expired: Option<Expiry>,
}

/// How much of a range one page may hold.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes of keys and values; exceeded by at most one row.
    pub bytes: usize,
}

/// Some rows of a range, in storage order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<OwnedRow>,
    /// Where the next page starts; `None` at the end of the range.
    pub resume: Option<Vec<u8>>,
}

/// A live row, copied out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedRow {
    /// Storage key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The write that made it.
    pub version: Version,
    /// When it expires.
    pub expiry: Expiry,
}

impl OwnedRow {
    /// The row, borrowed.
    #[must_use]
    pub fn as_row(&self) -> Row<'_> {
        Row { value: &self.value, version: self.version, expiry: self.expiry }
    }
}

impl Row<'_> {
    /// A copy of the row at `key`.
    #[must_use]
    pub fn to_owned_at(&self, key: &[u8]) -> OwnedRow {
        OwnedRow { key: key.to_vec(), value: self.value.to_vec(), version: self.version, expiry: self.expiry }
    }
}

impl Partition {
    /// Calls `f` with the row at `key` as of version `at`, and returns what it returned once that may be told.
    pub(crate) async fn get<R>(
        &self,
        key: &[u8],
        at: Version,
        f: impl FnOnce(Option<Row<'_>>) -> R,
    ) -> Result<R> {
        let (result, ticket) = self.observe(key, at, f).await?;
        self.told(ticket).await?;
        Ok(result)
    }

    /// As [`Partition::get`], without the wait: what must be committed before the result may be told (R4); none if it
    /// is.
    pub(crate) async fn observe<R>(
        &self,
        key: &[u8],
        at: Version,
        f: impl FnOnce(Option<Row<'_>>) -> R,
    ) -> Result<(R, Option<Ticket>)> {
        let at = self.readable(at);
        self.wait_for_locks(key, None, at).await?;
        let (result, observed) = match self.mirror_of(key) {
            None => self.find(key, at, f).await?,
            // A read of the past is not what the other copy would be asked.
            Some(_) if at < self.version() => self.find(key, at, f).await?,
            Some(mirror) => Box::pin(self.find_noted(mirror, key, f)).await?,
        };
        self.room_for_time(&observed).await?;
        Ok((result, self.commit_of_observed(observed)?))
    }

    /// The rows of `start..end` as of `at`, as many as `limit` admits, once they may be told.
    pub(crate) async fn scan(&self, start: &[u8], end: &[u8], at: Version, limit: PageLimit) -> Result<Page> {
        let (page, ticket) = self.scan_observe(start, end, at, limit).await?;
        self.told(ticket).await?;
        Ok(page)
    }

    /// As [`Partition::scan`], without the wait: what must be committed before the page may be told (R4).
    pub(crate) async fn scan_observe(
        &self,
        start: &[u8],
        end: &[u8],
        at: Version,
        limit: PageLimit,
    ) -> Result<(Page, Option<Ticket>)> {
        self.wait_for_locks(start, Some(end), self.readable(at)).await?;
        // A page is one moment: writes that come while it is read are after it. The moment is now, not before the
        // wait: a transaction waited for may have committed above every version given out until then.
        let at = self.readable(at).min(self.version());
        let _hold = self.snapshots.hold(at);
        let levels = self.levels();
        let view = View { at, now_ms: self.time_ms(), tombstones: self.tombstones_in(&levels, start, end) };
        let mut visible = Visible::new(Merge::new(self.sources(&levels, start, end)), view);
        visible.seek(start).await?;
        let mut slice = self.common.runtime.slice();
        let mut page = Page::default();
        let mut bytes = 0;
        while let Some(entry) = visible.entry().filter(|e| e.key < end) {
            if page.rows.len() == limit.rows || bytes >= limit.bytes {
                page.resume = Some(entry.key.to_vec());
                break;
            }
            bytes += entry.key.len() + entry.value.len();
            page.rows.push(OwnedRow {
                key: entry.key.to_vec(),
                value: entry.value.to_vec(),
                version: entry.version,
                expiry: entry.expiry,
            });
            visible.next().await?;
            slice.pause().await;
        }
        self.note_page(start, &page, at);
        // Everything at or below `at` may have shaped the page, absences included.
        let observed = Observed { version: at, expired: visible.expired() };
        self.room_for_time(&observed).await?;
        let ticket = self.commit_of_observed(observed)?;
        Ok((page, ticket))
    }

    /// The version of the newest write of a row; none if there is no row. For validation: the caller holds its lock.
    pub(crate) async fn current_version(&self, key: &[u8]) -> Result<Option<Version>> {
        let (version, _) = self.find(key, Version::MAX, |row| row.map(|r| r.version)).await?;
        Ok(version)
    }

    /// The version a read sees: all, or only what is committed once the log has failed (R3).
    fn readable(&self, at: Version) -> Version {
        let failed = self.common.wal().failed().is_some();
        if failed { at.min(self.committed_version()) } else { at }
    }

    /// Waits until no undecided transaction, and no fence, could change what a read of these rows at `at` sees.
    pub(crate) async fn wait_for_locks(&self, start: &[u8], end: Option<&[u8]>, at: Version) -> Result<()> {
        if self.locks.borrow().is_idle() {
            return Ok(());
        }
        self.clear(0, |locks| locks.obstacle(start, end, at)).await
    }

    /// Waits until no undecided transaction could commit at or below `at`.
    pub(crate) async fn wait_until_decided(&self, at: Version) -> Result<()> {
        loop {
            let changed = self.unlocked.changed();
            let obstacle = self.locks.borrow().undecided_at(at);
            match obstacle {
                Obstacle::None | Obstacle::Fenced => return Ok(()),
                Obstacle::InDoubt => return Err(in_doubt()),
                Obstacle::Undecided => changed.await,
            }
        }
    }

    /// Where something was seen expired, returns when the log has room for saying so: what flushes need to release log is not
    /// taken by readers, however many rows expire meanwhile.
    async fn room_for_time(&self, observed: &Observed) -> Result<()> {
        let wal = self.common.wal();
        if observed.expired.is_none() || wal.has_reserve() {
            return Ok(());
        }
        let before = self.departed();
        while !wal.has_reserve() && wal.failed().is_none() {
            // A device without room is waited for, and what else is wrong the record itself will say.
            match wal.ready(0).await {
                Err(Error::Full(_)) => self.common.runtime.sleep(ROOM_EVERY).await,
                Ok(()) | Err(_) => break,
            }
        }
        self.still_here(before)
    }

    /// R4: what must be committed before a reply that observed this; the later of two where time passed too.
    fn commit_of_observed(&self, observed: Observed) -> Result<Option<Ticket>> {
        let row = self.commit_of(observed.version);
        let time = match observed.expired {
            Some(expiry) => self.commit_of_expiry(expiry)?,
            None => None,
        };
        Ok(row.into_iter().chain(time).max_by_key(|ticket| ticket.batch))
    }

    /// Returns when what `ticket` stands for is committed.
    async fn told(&self, ticket: Option<Ticket>) -> Result<()> {
        match ticket {
            Some(ticket) => self.common.wal().committed(ticket).await,
            None => Ok(()),
        }
    }

    /// The row at `key` as of `at`, from wherever it is.
    pub(super) async fn find<R>(
        &self,
        key: &[u8],
        at: Version,
        f: impl FnOnce(Option<Row<'_>>) -> R,
    ) -> Result<(R, Observed)> {
        let hash = crate::hash::stable(key);
        let mut search =
            Search { partition: self, key, hash, at, hidden: Version::ZERO, began: None, f: Some(f) };
        if let Some(found) = search.cached_row() {
            return Ok(found);
        }
        if at >= self.version() {
            search.began = Some((self.index(), self.owner.borrow().erasures()));
        }
        match self.search_memtables(&mut search) {
            Some(found) => Ok(found),
            None => search_segments(&self.levels(), &mut search).await,
        }
    }

    fn search_memtables<R, F>(&self, search: &mut Search<'_, F>) -> Option<(R, Observed)>
    where
        F: FnOnce(Option<Row<'_>>) -> R,
    {
        let active = self.active.borrow();
        search.memtable(&active.memtable).or_else(|| {
            let sealed = self.sealed.borrow();
            sealed.iter().find_map(|s: &Rc<Sealed>| search.memtable(&s.memtable))
        })
    }

    /// Everything a scan of `start..end` merges, newest first.
    fn sources(&self, levels: &Levels, start: &[u8], end: &[u8]) -> Vec<Source> {
        let mut sources = vec![Source::from(self.active.borrow().memtable.cursor())];
        sources.extend(self.sealed.borrow().iter().map(|s| Source::from(s.memtable.cursor())));
        let runs = levels.runs(start, end);
        sources.extend(runs.into_iter().map(|run| Source::from(RunCursor::new(run, ReadMode::Cached))));
        sources
    }

    /// All range tombstones that reach into `start..end`.
    pub(super) fn tombstones_in(&self, levels: &Levels, start: &[u8], end: &[u8]) -> RangeTombstones {
        let mut all = RangeTombstones::default();
        let mut add = |tombstones: &RangeTombstones| all.merge_range(tombstones, start, end);
        add(&self.active.borrow().memtable.tombstones());
        self.sealed.borrow().iter().for_each(|s| add(&s.memtable.tombstones()));
        levels.all().for_each(|s| add(s.tombstones()));
        all
    }
}

/// A point read under way.
struct Search<'a, F> {
    /// Asked for the time only where a row expires: a look at the clock costs as much as a cached block.
    partition: &'a Partition,
    key: &'a [u8],
    /// The key's stable hash.
    hash: u64,
    at: Version,
    /// Newest range tombstone met so far that covers the key.
    hidden: Version,
    /// When everything was to be seen: the partition's index, and its owner's erasures. If the one is the same when the
    /// row is found, what was found is the row's newest version, and may be kept.
    began: Option<(Index, u64)>,
    /// Taken when the answer is known.
    f: Option<F>,
}

impl<F> Search<'_, F> {
    fn cached_row<R>(&mut self) -> Option<(R, Observed)>
    where
        F: FnOnce(Option<Row<'_>>) -> R,
    {
        let Partition { common, owner, .. } = self.partition;
        let (key, at) = ((self.key, self.hash), self.at);
        common.rows.get(&owner.borrow(), key, at, |entry| self.answer(Some(entry)))
    }

    fn memtable<R>(&mut self, memtable: &Memtable) -> Option<(R, Observed)>
    where
        F: FnOnce(Option<Row<'_>>) -> R,
    {
        self.hide(memtable.tombstones().covering(self.key, self.at));
        let (key, at) = (self.key, self.at);
        memtable.get(key, at, |entry| self.answer(Some(entry)))
    }

    fn hide(&mut self, tombstone: Option<Version>) {
        self.hidden = self.hidden.max(tombstone.unwrap_or(Version::ZERO));
    }

    /// Keeps a row for the next who asks, if nothing was written since the search began.
    fn keep(&self, entry: &Entry<'_>) {
        let Partition { common, owner, .. } = self.partition;
        if let Some((index, erasures)) = self.began
            && index == self.partition.index()
        {
            let more = common.rows.insert(&owner.borrow(), erasures, self.hash, entry);
            common.cache.give_up(more);
        }
    }

    /// The answer, from the newest entry of the row or from there being none.
    fn answer<R>(&mut self, entry: Option<Entry<'_>>) -> (R, Observed)
    where
        F: FnOnce(Option<Row<'_>>) -> R,
    {
        let f = self.f.take().unwrap_or_else(|| unreachable!("a search answers once"));
        let Some(entry) = entry.filter(|e| e.version >= self.hidden) else {
            return (f(None), Observed { version: self.hidden, expired: None });
        };
        let observed = Observed { version: entry.version, expired: None };
        match entry.kind {
            Kind::Delete => (f(None), observed),
            Kind::Put if entry.expiry != Expiry::NEVER && entry.expiry.is_past(self.partition.time_ms()) => {
                (f(None), Observed { expired: Some(entry.expiry), ..observed })
            }
            Kind::Put => {
                self.keep(&entry);
                let row = Row { value: entry.value, version: entry.version, expiry: entry.expiry };
                (f(Some(row)), observed)
            }
        }
    }
}

async fn search_segments<R, F>(levels: &Levels, search: &mut Search<'_, F>) -> Result<(R, Observed)>
where
    F: FnOnce(Option<Row<'_>>) -> R,
{
    let (key, hash) = (search.key, search.hash);
    for segment in levels.covering(key) {
        search.hide(segment.tombstones().covering(key, search.at));
        if let Some(found) = segment.get(key, hash, search.at).await? {
            let Found { version, kind, expiry, .. } = found;
            return Ok(search.answer(Some(Entry { key, version, kind, expiry, value: found.value() })));
        }
    }
    Ok(search.answer(None))
}
