//! What one command, or one EXEC, reads and writes: a view of the store with its own writes on top.
//!
//! Writes stay here until [`Tx::commit`], which applies all of them or none. Where everything read and written lies in
//! one partition of this shard and nobody wrote there meanwhile, they go in at once; otherwise the engine's
//! transaction validates what was read, row by row, and a command that lost is run again.
//!
//! Invariants:
//! - what it read is current, all of it at one moment, when `commit` succeeds; replies made from it may be told once
//!   `ticket` is committed;
//! - its own writes are seen by its own reads;
//! - a key that is overwritten loses the fields that were written here before.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use foreshard_engine::entry::Expiry;
use foreshard_engine::ids::{TableVersion, Version};
use foreshard_engine::io::turns::Slice;
use foreshard_engine::shard::applied::{Moment, Stamp};
use foreshard_engine::table::Home;
use foreshard_engine::{Error, Op, OwnedRow, Page, PageLimit, Shard, Ticket, Transaction};

use super::fault::{Fault, Result};
use super::layout::{self, Path};

/// A row's value and expiry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) value: Vec<u8>,
    pub(crate) expiry: Expiry,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Tx {
    shard: Rc<Shard>,
    /// The partition table by which places were looked up. Where the shard has another one by then, they are looked up
    /// again.
    table: TableVersion,
    /// Local partitions read, each as it was before its first read.
    stamps: Vec<(Home, Stamp)>,
    /// Rows read, and what was seen.
    reads: Vec<(Vec<u8>, Option<Version>)>,
    /// Whether rows were scanned that are current, and not of a moment: what was read of their key has to hold for as long.
    is_scanned: bool,
    /// Whether some of it lies on another shard.
    is_remote: bool,
    writes: BTreeMap<Vec<u8>, Option<Held>>,
    /// Ranges that are gone, before any of the writes.
    dropped: Vec<(Vec<u8>, Vec<u8>)>,
    ticket: Option<Ticket>,
    /// What writes replaced since the first savepoint, newest last; none was asked for: none.
    undo: Option<Vec<Undo>>,
    /// Others are let run between reads when it is spent.
    slice: Slice,
}

/// How a write is taken back.
#[derive(Debug)]
enum Undo {
    /// What was written at a key before, if anything.
    Row(Vec<u8>, Option<Option<Held>>),
    /// A range was dropped.
    Range,
}

/// A place to go back to; see [`Tx::savepoint`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Savepoint(usize);

impl Tx {
    /// Nothing read, nothing written.
    pub(crate) fn new(shard: &Rc<Shard>) -> Self {
        Self {
            shard: Rc::clone(shard),
            table: shard.map().version(),
            stamps: Vec::new(),
            reads: Vec::new(),
            is_scanned: false,
            is_remote: false,
            writes: BTreeMap::new(),
            dropped: Vec::new(),
            ticket: None,
            undo: None,
            slice: shard.runtime().slice(),
        }
    }

    /// The shard it runs on.
    pub(crate) const fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    /// What must be committed before anything read here is told.
    pub(crate) const fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    /// Where a key is.
    ///
    /// # Errors
    /// When the key is over its limit.
    pub(crate) fn path(&self, key: &[u8]) -> Result<Path> {
        let mut meta = Vec::with_capacity(key.len() + 16);
        layout::encode(key, &mut meta)?;
        let home = self.shard.map().home_of(&meta);
        Ok(Path { meta, home })
    }

    /// Where a storage key is, which was at `home` by the table of the beginning.
    fn place(&self, home: Home, key: &[u8]) -> Home {
        let map = self.shard.map();
        if map.version() == self.table { home } else { map.home_of(key) }
    }

    /// The row at a storage key of `home`.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn get(&mut self, home: Home, key: &[u8]) -> Result<Option<Held>> {
        self.slice.pause().await;
        if let Some(written) = self.written(key) {
            return Ok(written);
        }
        let home = self.place(home, key);
        let (held, version) = if home.shard == self.shard.id() {
            self.stamp(home)?;
            let entity = entity_name(key);
            let copy = |row: Option<foreshard_engine::Row<'_>>| {
                row.map(|r| (Held { value: r.value.to_vec(), expiry: r.expiry }, r.version))
            };
            let (row, ticket) = self.shard.observe(home, &entity, key, copy).await?;
            self.saw(ticket);
            row.unzip()
        } else {
            self.is_remote = true;
            let row = self.shard.fetch(key).await?;
            row.map(|r| (Held { value: r.value, expiry: r.expiry }, r.version)).unzip()
        };
        self.reads.push((key.to_vec(), version));
        Ok(held)
    }

    /// The version of a row, as WATCH remembers it and EXEC validates it.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn version(&mut self, path: &Path) -> Result<Option<Version>> {
        self.get(path.home, &path.meta).await?;
        let read = self.reads.iter().rev().find(|(key, _)| *key == path.meta);
        Ok(read.and_then(|(_, version)| *version))
    }

    /// Rows of `start..end`, which lies in one partition, with the writes made here.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn scan(
        &mut self,
        home: Home,
        start: &[u8],
        end: &[u8],
        limit: PageLimit,
    ) -> Result<Page> {
        self.is_scanned = true;
        let home = self.place(home, start);
        let mut page = if home.shard == self.shard.id() {
            self.stamp(home)?;
            let (page, ticket) = self.shard.scan_observe(home, start, end, limit).await?;
            self.saw(ticket);
            page
        } else {
            self.is_remote = true;
            let (from, to, seen) = (start.to_vec(), end.to_vec(), self.shard.map().version());
            let work = move |shard: Rc<Shard>| async move {
                shard.knows(seen).await?;
                let version = shard.map().version();
                if version != seen {
                    return Err(Error::Moved { version });
                }
                let (page, ticket) = shard.scan_observe(home, &from, &to, limit).await?;
                if let Some(ticket) = ticket {
                    shard.committed(ticket).await?;
                }
                Ok(page)
            };
            self.shard.on_shard(home.shard, work).await?
        };
        self.lay_over(&mut page, start, end);
        Ok(page)
    }

    /// As [`Tx::scan`], of a moment.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn scan_at(
        &mut self,
        at: &Moment,
        start: &[u8],
        end: &[u8],
        limit: PageLimit,
    ) -> Result<Page> {
        let (mut page, ticket) = self.shard.scan_observe_at(at, start, end, limit).await?;
        self.saw(ticket);
        self.lay_over(&mut page, start, end);
        Ok(page)
    }

    /// A local partition held as it is, and a key's meta row as it is then: all of a key is read of one moment. That the
    /// key has not changed since it was first looked up is validated like every read. None where the partition is on
    /// another shard or this already wrote something.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn moment(&mut self, path: &Path) -> Result<Option<(Moment, Option<Held>)>> {
        let home = self.place(path.home, &path.meta);
        if home.shard != self.shard.id() || !self.writes.is_empty() || self.is_remote {
            return Ok(None);
        }
        let moment = self.shard.moment(home).await?;
        let (row, ticket) = self.shard.observe_at(&moment, &path.meta).await?;
        self.saw(ticket);
        let held = row.map(|r: OwnedRow| Held { value: r.value, expiry: r.expiry });
        Ok(Some((moment, held)))
    }

    /// Sets a row.
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>, expiry: Expiry) {
        self.write(key, Some(Some(Held { value, expiry })));
    }

    /// Removes a row.
    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.write(key, Some(None));
    }

    /// Removes all rows of a range, which lies in one partition.
    pub(crate) fn delete_range(&mut self, start: Vec<u8>, end: Vec<u8>) {
        let gone: Vec<Vec<u8>> =
            self.writes.range(start.clone()..end.clone()).map(|(k, _)| k.clone()).collect();
        for key in gone {
            self.write(key, None);
        }
        self.dropped.push((start, end));
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Range);
        }
    }

    /// A key gets another kind of value or is gone: fields written here before do not come back with it.
    pub(crate) fn forget_fields(&mut self, meta: &[u8]) {
        let after = (Bound::Excluded(meta.to_vec()), Bound::Excluded(layout::end_of(meta)));
        let gone: Vec<Vec<u8>> = self.writes.range(after).map(|(k, _)| k.clone()).collect();
        for key in gone {
            self.write(key, None);
        }
    }

    /// From here on writes can be taken back.
    pub(crate) fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.undo.get_or_insert_default().len())
    }

    /// Takes back what was written since.
    pub(crate) fn undo(&mut self, to: Savepoint) {
        let since = self.undo.as_mut().map(|undo| undo.split_off(to.0)).unwrap_or_default();
        for step in since.into_iter().rev() {
            match step {
                Undo::Row(key, Some(before)) => drop(self.writes.insert(key, before)),
                Undo::Row(key, None) => drop(self.writes.remove(&key)),
                Undo::Range => drop(self.dropped.pop()),
            }
        }
    }

    /// Writes a row, a deletion, or, with none, nothing in place of what was written here.
    fn write(&mut self, key: Vec<u8>, what: Option<Option<Held>>) {
        let name = self.undo.is_some().then(|| key.clone());
        let before = match what {
            Some(held) => self.writes.insert(key, held),
            None => self.writes.remove(&key),
        };
        if let (Some(undo), Some(name)) = (&mut self.undo, name) {
            undo.push(Undo::Row(name, before));
        }
    }

    /// A generation for a hash that is about to be made at `path`: one that no row of its partition ever carried.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn generation(&mut self, path: &Path) -> Result<u64> {
        let Path { home, ref meta } = *path;
        let seen = self.shard.map().version();
        if seen != self.table {
            // The key may be in another partition by now.
            return Err(Fault::Moved(seen));
        }
        if home.shard != self.shard.id() {
            self.is_remote = true;
            let meta = meta.clone();
            let take = move |shard: Rc<Shard>| async move {
                shard.knows(seen).await?;
                let version = shard.map().version();
                if version != seen {
                    return Err(Error::Moved { version });
                }
                shard.unique_version(home, &meta).await
            };
            return Ok(self.shard.on_shard(home.shard, take).await?.0);
        }
        // Taking a number looks like a write: what was unchanged before it is so after it. Where it has to wait, nothing was.
        let known = self.stamps.iter().position(|(h, stamp)| *h == home && self.shard.is_unchanged(*stamp));
        let version = self.shard.unique_version(home, meta).await?;
        if let Some(known) = known {
            self.stamps[known].1 = self.shard.stamp(home)?;
        }
        Ok(version.0)
    }

    /// What drops whole partitions was made for those that were there.
    fn still_these(&self) -> Result<()> {
        let version = self.shard.map().version();
        let is_wide = || self.dropped.iter().any(|(start, _)| entity_name(start).is_empty());
        if version != self.table && is_wide() { Err(Fault::Moved(version)) } else { Ok(()) }
    }

    /// Applies everything written, if everything read still stands.
    ///
    /// # Errors
    /// [`Fault::Conflict`]: nothing was written, run the command again. Otherwise what the engine says.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        if self.writes.is_empty() && self.dropped.is_empty() {
            return self.validate().await;
        }
        let ranges = self.dropped.iter().map(|(start, end)| Op::DeleteRange { start, end });
        let rows = self.writes.iter().map(|(key, held)| match held {
            Some(held) => Op::Put { key, value: &held.value, expiry: held.expiry },
            None => Op::Delete { key },
        });
        let ops: Vec<Op<'_>> = ranges.chain(rows).collect();
        self.still_these()?;
        if let Some(stamp) = self.only_partition(&ops)? {
            let entity = ops.first().map(|op| entity_name(op.key())).unwrap_or_default();
            if let Some(ticket) = self.shard.apply_since(stamp, &entity, &ops).await? {
                self.saw(Some(ticket));
                return Ok(());
            }
            self.still_these()?;
        }
        let mut transaction = Transaction::new();
        for op in &ops {
            transaction.push(op)?;
        }
        for (key, version) in &self.reads {
            transaction.saw(key.clone(), *version)?;
        }
        let ticket = self.shard.commit_applied(transaction).await?;
        self.saw(ticket);
        Ok(())
    }

    /// Whether what was read was there at one moment. Rows that were scanned were if their key's first row is what it was: every
    /// change of a key writes it.
    async fn validate(&mut self) -> Result<()> {
        let unchanged = || self.stamps.iter().all(|(_, stamp)| self.shard.is_unchanged(*stamp));
        let is_one_read = self.reads.len() <= 1 && !self.is_scanned;
        if is_one_read || !self.is_remote && unchanged() {
            return Ok(());
        }
        // Everything is as it was when it was read: so it was all there between the last read and the first look here.
        let reads = std::mem::take(&mut self.reads);
        for (key, version) in &reads {
            let home = self.shard.map().home_of(key);
            let path = Path { meta: key.clone(), home };
            if self.version(&path).await? != *version {
                return Err(Fault::Conflict);
            }
        }
        Ok(())
    }

    /// The stamp of the partition that everything lies in, if there is one, and it is here.
    fn only_partition(&self, ops: &[Op<'_>]) -> Result<Option<Stamp>> {
        let Some(first) = ops.first() else { return Ok(None) };
        let home = self.shard.map().home_of(first.key());
        let elsewhere = self.is_remote
            || home.shard != self.shard.id()
            || self.stamps.iter().any(|(h, _)| *h != home)
            || ops.iter().any(|op| self.shard.map().home_of(op.key()) != home);
        if elsewhere {
            return Ok(None);
        }
        match self.stamps.first() {
            Some((_, stamp)) => Ok(Some(*stamp)),
            None => Ok(Some(self.shard.stamp(home)?)),
        }
    }

    fn stamp(&mut self, home: Home) -> Result<()> {
        if !self.stamps.iter().any(|(h, _)| *h == home) {
            self.stamps.push((home, self.shard.stamp(home)?));
        }
        Ok(())
    }

    fn saw(&mut self, ticket: Option<Ticket>) {
        self.ticket = later(self.ticket, ticket);
    }

    /// What was written here at a key, if anything.
    fn written(&self, key: &[u8]) -> Option<Option<Held>> {
        if let Some(held) = self.writes.get(key) {
            return Some(held.clone());
        }
        self.is_dropped(key).then_some(None)
    }

    fn is_dropped(&self, key: &[u8]) -> bool {
        self.dropped.iter().any(|(start, end)| start.as_slice() <= key && key < end.as_slice())
    }

    fn lay_over(&self, page: &mut Page, start: &[u8], end: &[u8]) {
        if self.writes.is_empty() && self.dropped.is_empty() {
            return;
        }
        page.rows.retain(|row| !self.writes.contains_key(&row.key) && !self.is_dropped(&row.key));
        let end = page.resume.as_deref().unwrap_or(end);
        if start >= end {
            return;
        }
        for (key, held) in self.writes.range(start.to_vec()..end.to_vec()) {
            if let Some(held) = held {
                let (value, expiry) = (held.value.clone(), held.expiry);
                page.rows.push(OwnedRow { key: key.clone(), value, version: Version::MAX, expiry });
            }
        }
        page.rows.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

/// The ticket to wait for of two.
pub(crate) fn later(a: Option<Ticket>, b: Option<Ticket>) -> Option<Ticket> {
    a.into_iter().chain(b).max_by_key(|ticket| ticket.batch)
}

fn entity_name(key: &[u8]) -> Vec<u8> {
    foreshard_engine::key::decode(key).map(|(entity, _)| entity).unwrap_or_default()
}
