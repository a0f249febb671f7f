//! A shard: one core's thread, with a log, a cache and the partitions it owns.
//!
//! Everything here is single-threaded. Another core's partition is reached by sending it a job (`link`), never by
//! sharing state. This file holds the shard's parts and its public operations; `write` admits and applies local
//! writes, `pacing` slows them down, `route` finds whose they are, `applied` is for servers that answer many operations after one wait, `transact` commits over partitions, `background` flushes and compacts, `space` watches the device, `host`
//! is the thread itself.

pub mod applied;
pub mod attached;
pub(crate) mod background;
pub mod capacity;
pub mod census;
pub(crate) mod cut;
mod decision;
pub(crate) mod exclusion;
pub(crate) mod fence;
pub(crate) mod host;
pub(crate) mod link;
mod meter;
pub mod moves;
mod pacing;
pub mod reshape;
pub(crate) mod route;
pub(crate) mod space;
pub mod stats;
pub(crate) mod structure;
mod transact;
mod write;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use self::attached::Attached;
use self::capacity::Capacity;
use self::exclusion::Exclusion;
use self::link::Link;
use self::meter::{Meter, Service};
use self::moves::Moves;
use self::pacing::Pacing;
use self::reshape::Reshapes;
use self::route::Hops;
use self::space::Space;
use self::stats::Traffic;
use self::transact::Coordinated;
use crate::batch::{Op, WriteBatch, check_value};
use crate::counters::{Counters, Load, PartitionSlot, Tick};
use crate::entry::Expiry;
use crate::error::{Error, Result};
use crate::ids::{Incarnation, PartitionId, ShardId, Version};
use crate::io::ring::NetSource;
use crate::io::runtime::{Nanos, Runtime};
use crate::key::{self, RoutingKey};
use crate::memtable::Ahead;
use crate::partition::read::{OwnedRow, Page, PageLimit, Row};
use crate::partition::snapshots::Hold;
use crate::partition::{Common, Partition};
use crate::signal::Signal;
use crate::table::{Home, Image, Table};
use crate::transaction::Transaction;

/// One core's part of a store, and the way to all of it for code that runs on that core.
pub struct Shard {
    id: ShardId,
    pub(crate) common: Rc<Common>,
    /// Those that this shard serves; they come and go.
    partitions: RefCell<BTreeMap<PartitionId, Rc<Owned>>>,
    map: RefCell<Arc<Image>>,
    /// Told when that is another.
    learnt: Signal,
    /// To the other shards, by number; none to itself.
    links: OnceCell<Vec<Option<Link>>>,
    /// The same once more, for what ends the waiting of those that fill the others: changes of the table, moves, steps of
    /// transactions.
    control: OnceCell<Vec<Option<Link>>>,
    counters: RefCell<Counters>,
    /// When those began anew.
    counted_from: Cell<Nanos>,
    /// Of writes that are about to come.
    ahead: RefCell<Ahead>,
    meter: Meter,
    traffic: Traffic,
    space: Space,
    pacing: Pacing,
    capacity: Capacity,
    /// Told when there is something to flush or to compact, and when some of that is done.
    work: Signal,
    /// Told after each flush, once the log has been released.
    flushed: Signal,
    /// Told when writers may go on.
    relieved: Signal,
    /// A background failure that ends writing: reads go on.
    broken: OnceCell<Error>,
    incarnation: Incarnation,
    transactions: Cell<u64>,
    coordinated: Coordinated,
    /// Versions held for snapshots, as long as those live.
    held: RefCell<Vec<Held>>,
    /// Cuts that wait to be finished.
    cuts: RefCell<Vec<cut::Begun>>,
    /// Keys are built here, so that a point operation allocates nothing.
    scratch: RefCell<Vec<u8>>,
    moves: Moves,
    reshapes: Reshapes,
    /// Of the first shard: cuts and cut-overs, and the table.
    exclusion: Exclusion,
    table: RefCell<Option<Rc<dyn Table>>>,
    /// What a server on this thread keeps here.
    attached: Attached,
}

/// A partition and where it is counted.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) partition: Rc<Partition>,
    pub(crate) slot: PartitionSlot,
}

/// What a snapshot can see is kept.
struct Held {
    /// As long as this lives.
    alive: Weak<()>,
    version: Version,
    /// In each partition here.
    holds: Vec<Hold>,
}

/// What a shard is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) incarnation: Incarnation,
    pub(crate) partitions: BTreeMap<PartitionId, Rc<Owned>>,
    pub(crate) counters: Counters,
    pub(crate) space: Space,
    pub(crate) net: Option<NetSource>,
}

impl Shard {
    /// A shard over recovered partitions; it does not serve before [`background::start`].
    pub(crate) fn new(id: ShardId, common: Rc<Common>, map: Arc<Image>, parts: Parts) -> Self {
        let (pacing, started) = (Pacing::new(&common.options), common.runtime.now());
        let capacity = Capacity::new(common.options.capacities.clone(), id);
        Self {
            id,
            common,
            partitions: RefCell::new(parts.partitions),
            map: RefCell::new(map),
            learnt: Signal::default(),
            links: OnceCell::new(),
            control: OnceCell::new(),
            counters: RefCell::new(parts.counters),
            counted_from: Cell::new(started),
            ahead: RefCell::default(),
            meter: Meter::new(u64::from(id.0)),
            traffic: Traffic::default(),
            space: parts.space,
            pacing,
            capacity,
            work: Signal::default(),
            flushed: Signal::default(),
            relieved: Signal::default(),
            broken: OnceCell::new(),
            incarnation: parts.incarnation,
            transactions: Cell::new(0),
            coordinated: Coordinated::default(),
            held: RefCell::default(),
            cuts: RefCell::default(),
            scratch: RefCell::default(),
            moves: Moves::default(),
            reshapes: Reshapes::default(),
            exclusion: Exclusion::default(),
            table: RefCell::default(),
            attached: Attached::new(parts.net),
        }
    }

    /// Which shard this is.
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// Tasks and time of this core.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.common.runtime
    }

    /// The value of a row, copied out.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a key over its limits; [`Error::Corrupt`] and [`Error::Io`] from the device;
    /// [`Error::Stopped`] for a row of a transaction left undecided by a failed log.
    pub async fn get(self: &Rc<Self>, entity: &[u8], row: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(entity, row, |found| found.map(|r| r.value.to_vec())).await
    }

    /// Calls `f` with a row, without copying it where this shard owns it.
    ///
    /// # Errors
    /// As [`Shard::get`].
    pub async fn read<R>(
        self: &Rc<Self>,
        entity: &[u8],
        row: &[u8],
        f: impl FnOnce(Option<Row<'_>>) -> R,
    ) -> Result<R> {
        let key = self.storage_key(entity, row)?;
        let (mut f, mut hops) = (Some(f), Hops::default());
        loop {
            let home = self.map().home_of(&key);
            let Some(owned) = self.local(home) else {
                let found = self.get_at(&key, Version::MAX).await?;
                let f = f.take().unwrap_or_else(|| unreachable!("a read answers once"));
                return Ok(f(found.as_ref().map(OwnedRow::as_row)));
            };
            let mut bytes_out = 0;
            let counted = |row: Option<Row<'_>>| {
                bytes_out = row.map_or(0, |r| r.value.len() as u64);
                f.take().map(|f| f(row))
            };
            let work = owned.partition.get(&key, Version::MAX, counted);
            let (result, service) = self.meter.run(self.runtime(), work).await;
            if let Err(Error::Moved { version }) = result {
                hops.next(self, version).await?;
                if f.is_none() {
                    return Err(Error::try_again("the row's partition went elsewhere while it was read"));
                }
                continue;
            }
            let load = Load { reads: 1, bytes_out, service_nanos: service.nanos, ..Load::default() };
            self.count(&owned, entity, &key, (&load, service), &result);
            self.give_back(key);
            return result.map(|answer| answer.unwrap_or_else(|| unreachable!("a read answers once")));
        }
    }

    /// Fetches rows that were read before, by the [stable hashes](crate::hash::stable) of their storage keys, into the
    /// core's caches: for a caller that is about to read several, here.
    pub fn touch(&self, hashes: &[u64]) {
        self.common.rows.touch(hashes);
    }

    /// Fetches what writes of the rows at these storage keys will look at into the core's caches: for a caller that is
    /// about to write several, here.
    pub fn touch_writes<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let map = self.map.borrow();
        let mut ahead = self.ahead.borrow_mut();
        for key in keys {
            if let Some(owned) = self.local(map.home_of(key)) {
                owned.partition.find_ahead(&mut ahead, key);
            }
        }
        ahead.fetch();
    }

    /// Sets a row.
    ///
    /// # Errors
    /// [`Error::Misuse`] for sizes over their limits; [`Error::Full`] when the device is full; [`Error::Stopped`] once
    /// the shard's log has failed: whether this write survives is then unknown.
    pub async fn put(self: &Rc<Self>, entity: &[u8], row: &[u8], value: &[u8]) -> Result<()> {
        self.put_until(entity, row, value, Expiry::NEVER).await
    }

    /// Sets a row that is gone from `expiry` on.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub async fn put_until(
        self: &Rc<Self>,
        entity: &[u8],
        row: &[u8],
        value: &[u8],
        expiry: Expiry,
    ) -> Result<()> {
        check_value(value)?;
        let key = self.storage_key(entity, row)?;
        let op = Op::Put { key: &key, value, expiry };
        let result = self.write_one(entity, &op).await;
        self.give_back(key);
        result
    }

    /// Removes a row.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub async fn delete(self: &Rc<Self>, entity: &[u8], row: &[u8]) -> Result<()> {
        let key = self.storage_key(entity, row)?;
        let result = self.write_one(entity, &Op::Delete { key: &key }).await;
        self.give_back(key);
        result
    }

    /// Applies a batch: all of it or nothing, whatever partitions it touches, also across a crash.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub async fn write(self: &Rc<Self>, batch: WriteBatch) -> Result<()> {
        self.commit(batch.into()).await
    }

    /// A page of an entity's rows in row order, from `from` (a row key, inclusive).
    ///
    /// # Errors
    /// As [`Shard::get`].
    pub async fn scan(self: &Rc<Self>, entity: &[u8], from: &[u8], limit: PageLimit) -> Result<Page> {
        self.scan_at(entity, from, Version::MAX, limit).await
    }

    /// A row's value as committed by others, remembered in `transaction`.
    ///
    /// # Errors
    /// As [`Shard::get`]; [`Error::Conflict`] when a row read before has changed since.
    pub async fn get_in(
        self: &Rc<Self>,
        transaction: &mut Transaction,
        entity: &[u8],
        row: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let mut key = Vec::new();
        key::encode(entity, row, &mut key)?;
        let found = self.get_at(&key, Version::MAX).await?;
        transaction.saw(key, found.as_ref().map(|r| r.version))?;
        Ok(found.map(|r| r.value))
    }

    /// What was counted here since the last call; nothing is counted twice or lost.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.counted_from.set(self.runtime().now());
        self.counters.borrow_mut().export()
    }

    /// A page of an entity's rows as of `at`.
    pub(crate) async fn scan_at(
        self: &Rc<Self>,
        entity: &[u8],
        from: &[u8],
        at: Version,
        limit: PageLimit,
    ) -> Result<Page> {
        let mut start = Vec::new();
        key::encode_entity(entity, &mut start)?;
        let end = key::prefix_end(&start).ok_or_else(|| Error::misuse("entity prefix without an end"))?;
        start.extend_from_slice(from);
        let (name, key): (Arc<[u8]>, _) = (entity.into(), start.clone());
        let range = Arc::new((start, end));
        self.routed(&key, move |shard, home| {
            let (range, name) = (Arc::clone(&range), Arc::clone(&name));
            async move {
                let owned = shard.owned(home)?;
                let work = owned.partition.scan(&range.0, &range.1, at, limit);
                let (page, service) = shard.meter.run(shard.runtime(), work).await;
                let bytes_out =
                    page.as_ref().map_or(0, |p| p.rows.iter().map(|r| r.value.len() as u64).sum());
                let load = Load { reads: 1, bytes_out, service_nanos: service.nanos, ..Load::default() };
                shard.count(&owned, &name, &range.0, (&load, service), &page);
                shard.spend_on_page(
                    &owned,
                    (&name, &range.0),
                    page.as_ref().map_or(0, |page| page.rows.len()),
                );
                page
            }
        })
        .await
    }

    /// The row at a storage key as of `at`, wherever it lives.
    pub(crate) async fn get_at(self: &Rc<Self>, key: &[u8], at: Version) -> Result<Option<OwnedRow>> {
        let wanted: Arc<[u8]> = key.into();
        self.routed(key, move |shard, home| {
            let key = Arc::clone(&wanted);
            async move {
                let owned = shard.owned(home)?;
                let work = owned.partition.get(&key, at, |row| row.map(|r| r.to_owned_at(&key)));
                let (found, service) = shard.meter.run(shard.runtime(), work).await;
                let bytes_out = found.as_ref().map_or(0, |r| r.as_ref().map_or(0, |r| r.value.len() as u64));
                let load = Load { reads: 1, bytes_out, service_nanos: service.nanos, ..Load::default() };
                let entity = key::decode(&key).map(|(entity, _)| entity).unwrap_or_default();
                shard.count(&owned, &entity, &key, (&load, service), &found);
                found
            }
        })
        .await
    }

    /// The row at a storage key, wherever it lives, once it may be told.
    ///
    /// # Errors
    /// As [`Shard::get`].
    pub async fn fetch(self: &Rc<Self>, key: &[u8]) -> Result<Option<OwnedRow>> {
        self.get_at(key, Version::MAX).await
    }

    /// Keeps what a reader at `version` can see as long as `alive` lives; every later write is newer. Runs behind a
    /// fence.
    pub(crate) fn hold(&self, version: Version, alive: Weak<()>) {
        let hold = |partition: Rc<Partition>| {
            partition.lift(version);
            partition.snapshots.hold(version)
        };
        let holds = self.partitions().map(hold).collect();
        self.held.borrow_mut().push(Held { alive, version, holds });
    }

    /// Returns when no transaction here can commit at or below `version` any more.
    pub(crate) async fn decided(&self, version: Version) -> Result<()> {
        for partition in self.partitions() {
            partition.wait_until_decided(version).await?;
        }
        Ok(())
    }

    /// Lets go what no snapshot needs any more.
    fn release_snapshots(&self) {
        self.held.borrow_mut().retain(|held| held.alive.strong_count() > 0);
    }

    /// Bytes of an entity in segments, exact to a block at each end.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a name over its limit, or one that lives on another shard.
    pub fn stored_bytes(&self, entity: &[u8]) -> Result<u64> {
        let mut start = Vec::new();
        key::encode_entity(entity, &mut start)?;
        let end = key::prefix_end(&start);
        let owned = self.owned(self.map().home_of(&start))?;
        Ok(owned.partition.levels().all().map(|s| s.bytes_between(&start, end.as_deref())).sum())
    }

    /// Runs `work` on the shard that owns a partition: here, or over a link.
    pub(crate) async fn on<T, W, F>(self: &Rc<Self>, home: Home, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Self>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        self.on_shard(home.shard, work).await
    }

    /// Runs `work` on another shard's thread, or here where it is this one. It must not wait for this caller.
    ///
    /// # Errors
    /// [`Error::Closed`] when that shard is gone; what `work` says.
    pub async fn on_shard<T, W, F>(self: &Rc<Self>, shard: ShardId, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Self>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        self.over(&self.links, shard, work).await
    }

    /// As [`Shard::on_shard`], past the operations that wait for what this is about.
    pub(crate) async fn on_control<T, W, F>(self: &Rc<Self>, shard: ShardId, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Self>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        self.over(&self.control, shard, work).await
    }

    async fn over<T, W, F>(
        self: &Rc<Self>,
        links: &OnceCell<Vec<Option<Link>>>,
        shard: ShardId,
        work: W,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Self>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        if shard == self.id {
            return work(Rc::clone(self)).await;
        }
        let links = links.get().map(Vec::as_slice).unwrap_or_default();
        let link = links.get(usize::from(shard.0)).and_then(Option::as_ref).ok_or(Error::Closed)?;
        let origin = self.runtime().unpark_handle();
        link.call(Some(origin), |host| async move { work(Rc::clone(host.shard()?)).await }).await?
    }

    pub(crate) fn connect(&self, links: Vec<Option<Link>>, control: Vec<Option<Link>>) {
        let connected = self.links.set(links).is_ok() && self.control.set(control).is_ok();
        assert!(connected, "a shard is connected once");
    }

    /// The partitions that are here at this moment.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Rc<Partition>> + use<> {
        let here: Vec<_> = self.partitions.borrow().values().map(|o| Rc::clone(&o.partition)).collect();
        here.into_iter()
    }

    /// A partition this shard owns.
    fn partition(&self, home: Home) -> Result<Rc<Partition>> {
        self.owned(home).map(|owned| Rc::clone(&owned.partition))
    }

    fn local(&self, home: Home) -> Option<Rc<Owned>> {
        if home.shard == self.id {
            self.partitions.borrow().get(&home.partition).map(Rc::clone)
        } else {
            None
        }
    }

    fn storage_key(&self, entity: &[u8], row: &[u8]) -> Result<Vec<u8>> {
        let mut key = std::mem::take(&mut *self.scratch.borrow_mut());
        key.clear();
        key::encode(entity, row, &mut key)?;
        Ok(key)
    }

    /// Keeps a key's allocation for the next one.
    fn give_back(&self, key: Vec<u8>) {
        *self.scratch.borrow_mut() = key;
    }

    /// Counts an operation; one whose rows have moved is counted where it is done.
    fn count<T>(
        &self,
        owned: &Owned,
        entity: &[u8],
        key: &[u8],
        (load, service): (&Load, Service),
        result: &Result<T>,
    ) {
        self.common.pace.operation();
        if matches!(result, Err(Error::Moved { .. })) {
            return;
        }
        self.spend_on_row(owned, (entity, key), load);
        if let Some(took) = service.took {
            self.moves.watches.note(self.runtime().now(), key, took, result.is_err());
        }
        let routing = RoutingKey::of_key(key);
        let mut counters = self.counters.borrow_mut();
        counters.record_sampled(owned.slot, routing, entity, load, service.sample);
        if result.is_err() {
            counters.record_error(owned.slot);
        }
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.id).finish_non_exhaustive()
    }
}
