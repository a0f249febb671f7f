//! Transactions: batches over several partitions, and optimistic ones whose reads are validated.
//!
//! One partition: validated and written as one record. Several: two phases. The shard of the first partition
//! coordinates: it has every partition lock its rows and log them, in ascending order of partitions (so that no two
//! transactions wait for each other), waits until all of that is on disk, logs the decision in the first one's log,
//! and is done: the outcome stands. Then every partition resolves: the rows become visible at one version, the
//! locks go. Both phases are synced whatever the store's durability is, or a power loss could keep half.
//!
//! Its steps go over the control links: the others may be full of requests that wait for its locks. A shard coordinates so few
//! at a time that those links never are, though steps wait for other transactions' locks there.
//!
//! Invariants:
//! - rows read are locked before they are validated, and stay so until the outcome;
//! - a decision is logged after all its prepares are durable; no decision in the log means abort;
//! - when the decision's own log fails, nobody here knows the outcome: the rows stay locked, in doubt, until a
//!   restart reads the log.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Shard;
use super::link::LINK_JOBS_MAX;
use super::meter::Service;
use super::route::Hops;
use super::write::is_long;
use crate::batch::{Op, WriteBatch};
use crate::counters::Load;
use crate::error::{Error, Result};
use crate::ids::{PartitionId, TableVersion, Version};
use crate::key::{self, RoutingKey};
use crate::partition::Partition;
use crate::partition::locks::{Arrival, Holder, Locks, Span};
use crate::partition::parking::Departures;
use crate::signal::Signal;
use crate::table::Home;
use crate::transaction::{Seen, Transaction};
use crate::wal::{Outcome, Ticket, TxId};

/// A transaction's share in one partition.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    home: Home,
    /// The table by which it was found to lie there.
    table: TableVersion,
    rows: WriteBatch,
    reads: Vec<(Vec<u8>, Seen)>,
}

/// Transactions over partitions that one shard has under way, beyond which they wait with nothing locked. Each has one job on
/// its way at a time.
const COORDINATED_MAX: usize = LINK_JOBS_MAX / 4;

/// Entities of one transaction that are counted as named together: pairs grow with the square.
const TOGETHER_MAX: usize = 8;

impl Shard {
    /// Commits: all writes or none, wherever the rows live, also across a crash.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a row that was read has changed: nothing was written, run it again. Otherwise as
    /// [`Shard::put`].
    pub async fn commit(self: &Rc<Self>, transaction: Transaction) -> Result<()> {
        self.count_together(&transaction);
        let mut hops = Hops::default();
        loop {
            match self.commit_routed(self.split(&transaction)).await {
                Err(Error::Moved { version }) => self.follow(&transaction, &mut hops, version).await?,
                done => return done,
            }
        }
    }

    /// After a transaction was sent back: what covers more than one entity was made for those that were there, and is to
    /// be made anew.
    async fn follow(&self, transaction: &Transaction, hops: &mut Hops, version: TableVersion) -> Result<()> {
        if transaction.batch.ops().iter().any(is_wide) {
            return Err(Error::Conflict);
        }
        hops.next(self, version).await
    }

    async fn commit_routed(self: &Rc<Self>, parts: Vec<Part>) -> Result<()> {
        let Some(home) = parts.first().map(|first| first.home) else { return Ok(()) };
        // In a task of its own: a caller that goes away must not leave rows prepared and locked.
        self.on(home, move |shard| async move {
            let (done, outcome) = oneshot::async_channel();
            let here = Rc::clone(&shard);
            let work = async move {
                let result = if parts.len() == 1 {
                    here.commit_here(parts).await
                } else {
                    here.coordinate(parts).await
                };
                // A caller that went away does not want it.
                let _unwanted = done.send(result);
            };
            shard.runtime().spawn(work).detach();
            outcome.await.map_err(|_gone| Error::Closed)?
        })
        .await
    }

    /// Counts the entities that a transaction names together.
    fn count_together(&self, transaction: &Transaction) {
        let mut names: BTreeMap<RoutingKey, Vec<u8>> = BTreeMap::new();
        let written = transaction.batch.ops();
        for key in written.iter().map(Op::key).chain(transaction.reads.keys().map(Vec::as_slice)) {
            let routing = RoutingKey::of_key(key);
            if names.len() < TOGETHER_MAX && !names.contains_key(&routing) {
                let name = key::decode(key).map(|(entity, _)| entity).unwrap_or_default();
                names.insert(routing, name);
            }
        }
        if names.len() > 1 {
            let together: Vec<(RoutingKey, &[u8])> = names.iter().map(|(r, n)| (*r, n.as_slice())).collect();
            self.counters.borrow_mut().record_together(&together);
            self.traffic.named_together();
        }
    }

    /// Counts rows that a batch wrote, in slices.
    async fn count_rows(&self, home: Home, ops: &[Op<'_>]) {
        let Some(owned) = self.local(home) else { return };
        let mut slice = self.runtime().slice();
        for op in ops {
            let entity = key::decode(op.key()).map(|(entity, _)| entity).unwrap_or_default();
            let load = Load { writes: 1, bytes_in: op.payload_bytes(), ..Load::default() };
            let service = Service::of(self.meter.draw(self.runtime()));
            self.count(&owned, &entity, op.key(), (&load, service), &Ok(()));
            slice.pause().await;
        }
    }

    /// A transaction by partition, ascending.
    fn split(&self, transaction: &Transaction) -> Vec<Part> {
        let mut parts: BTreeMap<PartitionId, Part> = BTreeMap::new();
        let map = self.image();
        let part = |key: &[u8]| {
            let (home, table) = (map.home_of(key), map.version());
            (home.partition, Part { home, table, rows: WriteBatch::new(), reads: Vec::new() })
        };
        for op in transaction.batch.normalised() {
            let (id, empty) = part(op.key());
            parts.entry(id).or_insert(empty).rows.push_op(&op);
        }
        for (key, seen) in &transaction.reads {
            let (id, empty) = part(key);
            parts.entry(id).or_insert(empty).reads.push((key.clone(), *seen));
        }
        parts.into_values().collect()
    }

    /// As [`Shard::commit`], without the wait where one partition of this shard is all it touches: the ticket says when
    /// it is committed. None: it is.
    ///
    /// # Errors
    /// As [`Shard::commit`].
    pub async fn commit_applied(self: &Rc<Self>, transaction: Transaction) -> Result<Option<Ticket>> {
        self.count_together(&transaction);
        let mut hops = Hops::default();
        loop {
            let parts = self.split(&transaction);
            let done = match &parts[..] {
                [part] if part.home.shard == self.id => self.apply_here(part).await,
                _ => self.commit_routed(parts).await.map(|()| None),
            };
            match done {
                Err(Error::Moved { version }) => self.follow(&transaction, &mut hops, version).await?,
                done => return done,
            }
        }
    }

    /// A transaction of one partition, which is here.
    async fn commit_here(self: &Rc<Self>, mut parts: Vec<Part>) -> Result<()> {
        let Some(part) = parts.pop() else { return Ok(()) };
        match self.apply_here(&part).await? {
            Some(ticket) => self.common.wal().committed(ticket).await,
            None => Ok(()),
        }
    }

    /// Validates and applies a part of this shard; none when it only validated.
    async fn apply_here(&self, part: &Part) -> Result<Option<Ticket>> {
        let partition = self.found(part).await?;
        let ops = part.rows.ops();
        let ticket = if part.reads.is_empty() {
            self.apply(&partition, &ops).await?
        } else {
            let (bytes, departed) = (part.rows.bytes(), partition.departed());
            partition.wait_for_taps(&ops).await;
            self.admit(bytes, false).await?;
            let place = self.lock(&partition, part, departed).await?;
            if ops.is_empty() {
                return Ok(None);
            }
            self.ready_behind_locks(&partition, bytes).await?;
            // Its place in the queue keeps others away until the rows are in.
            let ticket = self.apply_unlocked(&partition, &ops).await?;
            drop(place);
            ticket
        };
        self.count_rows(part.home, &ops).await;
        Ok(Some(ticket))
    }

    /// Two phases over `parts`, the first of which is here.
    async fn coordinate(self: &Rc<Self>, parts: Vec<Part>) -> Result<()> {
        let place = Coordinating::begin(self).await;
        let tx = self.next_transaction();
        let participants: Vec<PartitionId> = parts.iter().map(|p| p.home.partition).collect();
        let homes: Vec<Home> = parts.iter().map(|p| p.home).collect();
        let version = match self.prepare_all(tx, parts, &participants).await {
            Ok(version) => version,
            Err((prepared, e)) => {
                self.resolve_all(tx, &homes[..prepared], Outcome::Abort).await;
                return Err(e);
            }
        };
        let first = self.partition(homes[0])?;
        let decided = match first.decide(tx, version, participants) {
            Ok(ticket) => self.common.wal().durable(ticket).await,
            Err(e) => Err(e),
        };
        if let Err(e) = decided {
            for home in homes {
                let doubt = move |shard: Rc<Self>| async move {
                    shard.doubt(home, tx);
                    Ok(())
                };
                // A shard that is gone has nobody to tell.
                let _gone = self.on_control(home.shard, doubt).await;
            }
            return Err(e);
        }
        self.traffic.committed_over();
        let here = Rc::clone(self);
        let resolution = self.runtime().spawn(async move {
            let _place = place;
            if here.resolve_all(tx, &homes, Outcome::Commit(version)).await {
                first.prepared.borrow_mut().forget(tx);
                first.unlocked.notify();
            }
        });
        resolution.detach();
        Ok(())
    }

    /// Has every partition lock, validate and log its part, then waits until all of it is durable. The version at
    /// which the transaction commits; or how many were asked to prepare, and what went wrong.
    async fn prepare_all(
        self: &Rc<Self>,
        tx: TxId,
        parts: Vec<Part>,
        participants: &[PartitionId],
    ) -> Result<Version, (usize, Error)> {
        let homes: Vec<Home> = parts.iter().map(|p| p.home).collect();
        let mut version = Version::ZERO;
        for (n, part) in parts.into_iter().enumerate() {
            let participants = participants.to_vec();
            let prepare = move |shard: Rc<Self>| async move { shard.prepare(tx, part, participants).await };
            let floor = self.on_control(homes[n].shard, prepare).await.map_err(|e| (n, e))?;
            version = version.max(floor);
        }
        for home in &homes {
            let home = *home;
            let durable = move |shard: Rc<Self>| async move { shard.prepared_durable(home, tx).await };
            self.on_control(home.shard, durable).await.map_err(|e| (homes.len(), e))?;
        }
        Ok(version)
    }

    /// Tells every partition the outcome; whether all have it durably.
    async fn resolve_all(self: &Rc<Self>, tx: TxId, homes: &[Home], outcome: Outcome) -> bool {
        let mut all = true;
        for home in homes.iter().copied() {
            let resolve = move |shard: Rc<Self>| async move { shard.resolve(home, tx, outcome).await };
            all &= self.on_control(home.shard, resolve).await.is_ok();
        }
        all
    }

    /// Locks and validates a part and appends it to the log; it is durable when the log says so. The lowest version
    /// it may commit at.
    async fn prepare(
        self: &Rc<Self>,
        tx: TxId,
        part: Part,
        participants: Vec<PartitionId>,
    ) -> Result<Version> {
        let partition = self.found(&part).await?;
        let (bytes, departed) = (part.rows.bytes(), partition.departed());
        partition.wait_for_taps(&part.rows.ops()).await;
        self.admit(bytes, false).await?;
        let place = self.lock(&partition, &part, departed).await?;
        self.ready_behind_locks(&partition, bytes).await?;
        let arrival = place.arrival;
        let floor = partition.prepare(tx, part.rows, participants, arrival);
        drop(place);
        floor
    }

    /// Returns when a transaction's rows here are on disk, whatever the store's durability is.
    async fn prepared_durable(self: &Rc<Self>, home: Home, tx: TxId) -> Result<()> {
        let ticket = self.partition(home)?.prepared.borrow().ticket_of(tx);
        match ticket {
            Some(ticket) => self.common.wal().durable(ticket).await,
            None => Ok(()),
        }
    }

    /// The partition of a part, all of whose rows are here by this shard's own table.
    async fn found(&self, part: &Part) -> Result<Rc<Partition>> {
        self.knows(part.table).await?;
        let partition = self.partition(part.home)?;
        let map = self.map();
        if map.version() == part.table {
            return Ok(partition);
        }
        let moved = || Error::Moved { version: map.version() };
        let mut keys =
            part.rows.ops().into_iter().map(|op| op.key()).chain(part.reads.iter().map(|r| r.0.as_slice()));
        // What covers more than one entity was made for those that were there.
        let is_wide = part.rows.ops().iter().any(is_wide);
        if keys.any(|key| map.home_of(key).partition != part.home.partition)
            || is_wide && partition.departed().latest > part.table
        {
            return Err(moved());
        }
        Ok(partition)
    }

    /// Waits for its turn at all rows of a part, and checks that they are still here, and what was read still stands.
    async fn lock<'a>(
        &self,
        partition: &'a Partition,
        part: &Part,
        departed: Departures,
    ) -> Result<Place<'a>> {
        let ops = part.rows.ops();
        let written = ops.iter().map(Span::of);
        let read = part.reads.iter().map(|(key, _)| Span { start: key.clone(), end: None, write: false });
        let place = Place::arrive(partition, written.chain(read).collect());
        let look = |locks: &Locks| locks.obstacle_for(place.arrival).or_gate(partition.is_gated());
        partition.clear(part.rows.bytes(), look).await?;
        partition.still_here(departed)?;
        partition.locks.borrow_mut().begin_turn(place.arrival);
        for (key, seen) in &part.reads {
            if partition.current_version(key).await? != *seen {
                return Err(Error::Conflict);
            }
        }
        Ok(place)
    }

    /// Waits, after the last look at rows, until the log takes `bytes` and no long batch is in the way. Its place in
    /// the queue keeps everybody else away meanwhile; log is released and gates open without it.
    async fn ready_behind_locks(&self, partition: &Partition, bytes: usize) -> Result<()> {
        loop {
            self.log_room(bytes, false).await?;
            if !partition.is_gated() {
                return Ok(());
            }
            partition.unlocked.until(|| !partition.is_gated()).await;
        }
    }

    /// Applies an outcome here, and returns when it is durable and the locks are free.
    async fn resolve(self: &Rc<Self>, home: Home, tx: TxId, outcome: Outcome) -> Result<()> {
        let partition = self.partition(home)?;
        let rows = partition.prepared.borrow().rows_of(tx);
        let Some(rows) = rows else { return Ok(()) };
        let aside = match outcome {
            Outcome::Abort => None,
            Outcome::Commit(version) if is_long(&rows.ops()) => {
                Some(self.build_aside(&rows.ops(), version).await)
            }
            Outcome::Commit(_) => None,
        };
        let resolved = match partition.resolve(tx, outcome, aside) {
            Ok(Some(ticket)) => self.common.wal().durable(ticket).await,
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        if resolved.is_ok() || outcome == Outcome::Abort {
            partition.locks.borrow_mut().release(Holder::Transaction(tx));
        } else {
            partition.locks.borrow_mut().doubt(tx);
        }
        partition.unlocked.notify();
        self.wrote(&partition, 0);
        if resolved.is_ok() && outcome != Outcome::Abort {
            self.count_rows(home, &rows.ops()).await;
        }
        resolved
    }

    fn doubt(&self, home: Home, tx: TxId) {
        if let Ok(partition) = self.partition(home) {
            partition.locks.borrow_mut().doubt(tx);
            partition.unlocked.notify();
        }
    }

    fn next_transaction(&self) -> TxId {
        let number = self.transactions.get() + 1;
        self.transactions.set(number);
        TxId { incarnation: self.incarnation, shard: self.id, number }
    }
}

/// Whether an operation may touch more than one entity.
fn is_wide(op: &Op<'_>) -> bool {
    matches!(op, Op::DeleteRange { start, .. } if key::decode(start).is_none())
}

/// A place among the transactions that a shard coordinates: free when dropped.
struct Coordinating(Rc<Shard>);

impl Coordinating {
    /// Waits for one.
    async fn begin(shard: &Rc<Shard>) -> Self {
        let coordinated = &shard.coordinated;
        coordinated.less.until(|| coordinated.count.get() < COORDINATED_MAX).await;
        coordinated.count.set(coordinated.count.get() + 1);
        Self(Rc::clone(shard))
    }
}

impl Drop for Coordinating {
    fn drop(&mut self) {
        let coordinated = &self.0.coordinated;
        coordinated.count.set(coordinated.count.get() - 1);
        coordinated.less.notify();
    }
}

/// The transactions that a shard coordinates.
#[derive(Debug, Default)]
pub(super) struct Coordinated {
    count: Cell<usize>,
    /// Told when there are fewer.
    less: Signal,
}

/// A place in a partition's lock queue: given up when dropped, unless it became a lock.
#[derive(Debug)]
struct Place<'a> {
    partition: &'a Partition,
    arrival: Arrival,
}

impl<'a> Place<'a> {
    fn arrive(partition: &'a Partition, spans: Vec<Span>) -> Self {
        let arrival = partition.locks.borrow_mut().arrive(spans);
        Self { partition, arrival }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.partition.locks.borrow_mut().leave(self.arrival);
        self.partition.unlocked.notify();
    }
}
