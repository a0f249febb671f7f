//! Operations that return before they are committed, for servers on the shard's own thread: many of them are answered
//! after one wait.
//!
//! A write returns when it is applied: in the log's buffer and in the memtable. A read returns what it found. Each
//! comes with the ticket of what must be committed before anybody outside may be told of it (R4): the caller keeps
//! the latest of them, and awaits [`Shard::committed`] before it lets go of its replies. All speak storage keys
//! ([`crate::key`]) of partitions that this shard owns.
//!
//! Invariant: what is decided on rows read since a [`Stamp`] is applied only if no write has touched the partition
//! since; otherwise nothing happens and the caller commits a [`crate::Transaction`], which validates row by row.

use std::cell::Ref;
use std::sync::Arc;

use super::Shard;
use crate::batch::Op;
use crate::counters::Load;
use crate::error::{Error, Result};
use crate::ids::Version;
use crate::partition::locks::{Locks, Span};
use crate::partition::parking::Departures;
use crate::partition::read::{OwnedRow, Page, PageLimit, Row};
use crate::partition::snapshots::Hold;
use crate::table::{Home, Image};
use crate::wal::Ticket;

/// A local partition at one moment: as long as it [`Shard::is_unchanged`], what was read since is current.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    home: Home,
    version: Version,
    departed: Departures,
}

/// A partition as it was at one moment; what can be seen of it is kept until this is dropped.
#[derive(Debug)]
pub struct Moment {
    home: Home,
    version: Version,
    departed: Departures,
    _hold: Hold,
}

impl Shard {
    /// Which partition each key belongs to, and which shard owns that; not to be kept over an await.
    #[must_use]
    pub fn map(&self) -> Ref<'_, Image> {
        Ref::map(self.map.borrow(), |image| &**image)
    }

    /// The same, to be kept or handed on.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.map.borrow())
    }

    /// Returns when what a ticket of this shard stands for is committed.
    ///
    /// # Errors
    /// [`Error::Stopped`]: whether it survives is not known.
    pub async fn committed(&self, ticket: Ticket) -> Result<()> {
        self.common.wal().committed(ticket).await
    }

    /// Whether that is so already.
    #[must_use]
    pub fn is_committed(&self, ticket: Ticket) -> bool {
        ticket.batch <= self.common.wal().committed_batch()
    }

    /// Calls `f` with the row of `entity` at `key`.
    ///
    /// # Errors
    /// As [`Shard::get`]; [`Error::Moved`] when the partition, or the row, is not here.
    pub async fn observe<R>(
        &self,
        home: Home,
        entity: &[u8],
        key: &[u8],
        f: impl FnOnce(Option<Row<'_>>) -> R,
    ) -> Result<(R, Option<Ticket>)> {
        let owned = self.owned(home)?;
        let mut bytes_out = 0;
        let counted = |row: Option<Row<'_>>| {
            bytes_out = row.map_or(0, |r| r.value.len() as u64);
            f(row)
        };
        let work = owned.partition.observe(key, Version::MAX, counted);
        let (result, service) = self.meter.run(self.runtime(), work).await;
        let load = Load { reads: 1, bytes_out, service_nanos: service.nanos, ..Load::default() };
        self.count(&owned, entity, key, (&load, service), &result);
        result
    }

    /// Writes one row of `entity` without looking at it.
    ///
    /// # Errors
    /// As [`Shard::put`]; [`Error::Moved`] when the partition, or the row, is not here.
    pub async fn apply_one(&self, home: Home, entity: &[u8], op: &Op<'_>) -> Result<Ticket> {
        op.check()?;
        let owned = self.owned(home)?;
        let work = self.apply(&owned.partition, std::slice::from_ref(op));
        let (result, service) = self.meter.run(self.runtime(), work).await;
        let load =
            Load { writes: 1, bytes_in: op.payload_bytes(), service_nanos: service.nanos, ..Load::default() };
        self.count(&owned, entity, op.key(), (&load, service), &result);
        result
    }

    /// This moment of a local partition: take it before the rows are read.
    ///
    /// # Errors
    /// [`Error::Moved`] when the partition, or the row, is not here.
    pub fn stamp(&self, home: Home) -> Result<Stamp> {
        let partition = self.partition(home)?;
        Ok(Stamp { home, version: partition.version(), departed: partition.departed() })
    }

    /// Whether everything read since the stamp is current, no transaction being under way there.
    #[must_use]
    pub fn is_unchanged(&self, stamp: Stamp) -> bool {
        let partition = self.partition(stamp.home);
        partition.is_ok_and(|p| p.version() == stamp.version && p.departed() == stamp.departed && p.is_open())
    }

    /// Writes rows of one local partition, all or none, if nothing has touched it since `stamp`. None: something has,
    /// and nothing was done. At most one operation per row.
    ///
    /// # Errors
    /// As [`Shard::put`]; [`Error::Misuse`] for more than one record of the log takes.
    pub async fn apply_since(&self, stamp: Stamp, entity: &[u8], ops: &[Op<'_>]) -> Result<Option<Ticket>> {
        let owned = self.owned(stamp.home)?;
        let (mut bytes, mut payload, mut frees) = (0, 0, true);
        for op in ops {
            op.check()?;
            bytes += op.bytes();
            payload += op.payload_bytes();
            frees &= !matches!(op, Op::Put { .. });
        }
        if bytes > self.common.options.batch_bytes_max() {
            return Err(Error::misuse(format!(
                "{bytes} bytes to be written at once: at most {}",
                self.common.options.batch_bytes_max()
            )));
        }
        owned.partition.wait_for_taps(ops).await;
        self.admit(bytes, frees).await?;
        if !self.is_unchanged(stamp) {
            return Ok(None);
        }
        let work = self.apply_unlocked(&owned.partition, ops);
        let (result, service) = self.meter.run(self.runtime(), work).await;
        if let Some(first) = ops.first() {
            let load = Load {
                writes: ops.len() as u64,
                bytes_in: payload,
                service_nanos: service.nanos,
                ..Load::default()
            };
            self.count(&owned, entity, first.key(), (&load, service), &result);
        }
        result.map(Some)
    }

    /// A number for a row at `key` that its partition gives out once: larger than every version in it so far, and less than
    /// that of everything written later, here or where the row goes. It waits as a write of the row would: who leaves takes
    /// the last version along, and a number given out after that would be given out there again.
    ///
    /// # Errors
    /// [`Error::Moved`] when the partition, or the row, is not here; otherwise as [`Shard::put`] of a row that is locked.
    pub async fn unique_version(&self, home: Home, key: &[u8]) -> Result<Version> {
        let partition = self.partition(home)?;
        if !partition.is_open() {
            let span = [Span { start: key.to_vec(), end: None, write: true }];
            let latest = partition.locks.borrow().latest();
            let look = |locks: &Locks| locks.obstacle_to_write(&span, latest).or_gate(partition.is_gated());
            partition.clear(0, look).await?;
        }
        partition.take_version()
    }

    /// Holds a partition as it is, for reads that take more than one turn.
    ///
    /// # Errors
    /// [`Error::Moved`] when the partition, or the row, is not here; [`Error::Stopped`] when a transaction there is in doubt.
    pub async fn moment(&self, home: Home) -> Result<Moment> {
        let partition = self.partition(home)?;
        let departed = partition.departed();
        // The version of a long batch being built is given out already.
        partition.unlocked.until(|| !partition.gate.get()).await;
        let version = partition.version();
        let hold = partition.snapshots.hold(version);
        partition.wait_until_decided(version).await?;
        Ok(Moment { home, version, departed, _hold: hold })
    }

    /// The row at `key` as it was at a moment.
    ///
    /// # Errors
    /// As [`Shard::observe`].
    pub async fn observe_at(&self, at: &Moment, key: &[u8]) -> Result<(Option<OwnedRow>, Option<Ticket>)> {
        let owned = self.owned(at.home)?;
        owned.partition.still_here(at.departed)?;
        let work = owned.partition.observe(key, at.version, |row| row.map(|r| r.to_owned_at(key)));
        let (found, service) = self.meter.run(self.runtime(), work).await;
        let bytes_out = found.as_ref().map_or(0, |(row, _)| row.as_ref().map_or(0, |r| r.value.len() as u64));
        let load = Load { reads: 1, bytes_out, service_nanos: service.nanos, ..Load::default() };
        let entity = crate::key::decode(key).map(|(entity, _)| entity).unwrap_or_default();
        self.count(&owned, &entity, key, (&load, service), &found);
        found
    }

    /// A page of the rows in `start..end` of one partition, as it was at a moment.
    ///
    /// # Errors
    /// As [`Shard::observe`].
    pub async fn scan_observe_at(
        &self,
        at: &Moment,
        start: &[u8],
        end: &[u8],
        limit: PageLimit,
    ) -> Result<(Page, Option<Ticket>)> {
        self.owned(at.home)?.partition.still_here(at.departed)?;
        self.scan_page(at.home, start, end, at.version, limit).await
    }

    /// A page of the rows in `start..end` of one local partition.
    ///
    /// # Errors
    /// As [`Shard::observe`].
    pub async fn scan_observe(
        &self,
        home: Home,
        start: &[u8],
        end: &[u8],
        limit: PageLimit,
    ) -> Result<(Page, Option<Ticket>)> {
        self.scan_page(home, start, end, Version::MAX, limit).await
    }

    async fn scan_page(
        &self,
        home: Home,
        start: &[u8],
        end: &[u8],
        at: Version,
        limit: PageLimit,
    ) -> Result<(Page, Option<Ticket>)> {
        let owned = self.owned(home)?;
        let work = owned.partition.scan_observe(start, end, at, limit);
        let (page, service) = self.meter.run(self.runtime(), work).await;
        let bytes_out =
            page.as_ref().map_or(0, |(page, _)| page.rows.iter().map(|r| r.value.len() as u64).sum());
        let load = Load { reads: 1, bytes_out, service_nanos: service.nanos, ..Load::default() };
        let entity = crate::key::decode(start).map(|(entity, _)| entity).unwrap_or_default();
        self.count(&owned, &entity, start, (&load, service), &page);
        self.spend_on_page(&owned, (&entity, start), page.as_ref().map_or(0, |(page, _)| page.rows.len()));
        page
    }
}
