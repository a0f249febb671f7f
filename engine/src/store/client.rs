//! A caller's way into a store from any thread.
//!
//! Each client has a ring of its own to every shard, so callers do not contend; it may move between threads but is
//! used by one at a time. Every operation is a future that any executor can wait for, [`crate::block_on`] included.
//! Code that runs on a shard's own thread ([`super::Store::on_shard`]) saves the way.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::batch::{WriteBatch, check_value};
use crate::counters::Tick;
use crate::entry::Expiry;
use crate::error::{Error, Result};
use crate::ids::{ShardId, Version};
use crate::key;
use crate::partition::read::{Page, PageLimit};
use crate::shard::Shard;
use crate::shard::link::Link;
use crate::table::Image;
use crate::transaction::{Seen, Transaction};

/// One caller of a store.
pub struct Client {
    map: Arc<Image>,
    links: Vec<Link>,
}

/// All rows as of one moment: everything acknowledged before it was taken is in it, and of every transaction all rows
/// or none. What it can see is kept until its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: Version,
    alive: Arc<()>,
}

impl Client {
    pub(crate) const fn new(map: Arc<Image>, links: Vec<Link>) -> Self {
        Self { map, links }
    }

    /// The value of a row.
    ///
    /// # Errors
    /// As [`Shard::read`]; [`Error::Closed`] once the store is closed.
    pub async fn get(&self, entity: &[u8], row: &[u8]) -> Result<Option<Vec<u8>>> {
        let shard = self.shard_of(entity)?;
        let (entity, row) = (entity.to_vec(), row.to_vec());
        self.on(shard, move |shard| async move { shard.get(&entity, &row).await }).await
    }

    /// Sets a row.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub async fn put(&self, entity: &[u8], row: &[u8], value: &[u8]) -> Result<()> {
        self.put_until(entity, row, value, Expiry::NEVER).await
    }

    /// Sets a row that is gone from `expiry` on.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub async fn put_until(&self, entity: &[u8], row: &[u8], value: &[u8], expiry: Expiry) -> Result<()> {
        check_value(value)?;
        let shard = self.shard_of(entity)?;
        let (entity, row, value) = (entity.to_vec(), row.to_vec(), value.to_vec());
        self.on(shard, move |shard| async move { shard.put_until(&entity, &row, &value, expiry).await }).await
    }

    /// Removes a row.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub async fn delete(&self, entity: &[u8], row: &[u8]) -> Result<()> {
        let shard = self.shard_of(entity)?;
        let (entity, row) = (entity.to_vec(), row.to_vec());
        self.on(shard, move |shard| async move { shard.delete(&entity, &row).await }).await
    }

    /// Applies a batch: all of it or nothing, whatever partitions it touches, also across a crash.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub async fn write(&self, batch: WriteBatch) -> Result<()> {
        self.commit(batch.into()).await
    }

    /// A page of an entity's rows in row order, from row key `from` on.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn scan(&self, entity: &[u8], from: &[u8], limit: PageLimit) -> Result<Page> {
        self.scan_version(entity, from, Version::MAX, limit).await
    }

    /// A row's value as committed by others, remembered in `transaction`.
    ///
    /// # Errors
    /// As [`Client::get`]; [`Error::Conflict`] when a row read before has changed since.
    pub async fn get_in(
        &self,
        transaction: &mut Transaction,
        entity: &[u8],
        row: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let (seen, value) = self.get_version(entity, row, Version::MAX).await?;
        let mut key = Vec::new();
        key::encode(entity, row, &mut key)?;
        transaction.saw(key, seen)?;
        Ok(value)
    }

    /// Commits: all writes or none.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a row that was read has changed: nothing was written, run it again. Otherwise as
    /// [`Client::put`].
    pub async fn commit(&self, transaction: Transaction) -> Result<()> {
        // The first partition's shard coordinates; from anywhere else it would be asked to.
        let first = transaction.first_key().map(|key| self.map.home_of(key).shard);
        let Some(shard) = first else { return Ok(()) };
        self.on(shard, move |shard| async move { shard.commit(transaction).await }).await
    }

    /// Takes a snapshot of the whole store.
    ///
    /// # Errors
    /// [`Error::Stopped`] when a transaction is in doubt after a failed log.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let alive = Arc::new(());
        let kept = Arc::downgrade(&alive);
        let taken = self.cut(move |shard, version| shard.hold(version, kept.clone())).await?;
        let version = taken.version;
        self.on_every(|_| move |shard| async move { shard.decided(version).await }).await?;
        Ok(Snapshot { version, alive })
    }

    /// The value of a row as of a snapshot.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_at(&self, at: &Snapshot, entity: &[u8], row: &[u8]) -> Result<Option<Vec<u8>>> {
        let (_, value) = self.get_version(entity, row, at.version).await?;
        Ok(value)
    }

    /// A page of an entity's rows as of a snapshot.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn scan_at(&self, at: &Snapshot, entity: &[u8], from: &[u8], limit: PageLimit) -> Result<Page> {
        self.scan_version(entity, from, at.version, limit).await
    }

    /// What was counted since the last call, by shard; nothing is counted twice or lost.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn ticks(&self) -> Result<Vec<Tick>> {
        let mut ticks = Vec::new();
        for shard in self.shards() {
            ticks.push(self.on(shard, |shard| async move { Ok(shard.tick()) }).await?);
        }
        Ok(ticks)
    }

    /// Bytes an entity takes in segments, from their indexes: exact to a block at each end.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a name over its limit, [`Error::Closed`].
    pub async fn stored_bytes(&self, entity: &[u8]) -> Result<u64> {
        let shard = self.shard_of(entity)?;
        let entity = entity.to_vec();
        self.on(shard, move |shard| async move { shard.stored_bytes(&entity) }).await
    }

    /// Writes every memtable to segments.
    ///
    /// # Errors
    /// What ended writing.
    pub async fn flush(&self) -> Result<()> {
        for shard in self.shards() {
            self.on(shard, |shard| async move { shard.flush().await }).await?;
        }
        Ok(())
    }

    async fn get_version(&self, entity: &[u8], row: &[u8], at: Version) -> Result<(Seen, Option<Vec<u8>>)> {
        let shard = self.shard_of(entity)?;
        let mut key = Vec::new();
        key::encode(entity, row, &mut key)?;
        let found = self.on(shard, move |shard| async move { shard.get_at(key, at).await }).await?;
        Ok((found.as_ref().map(|r| r.version), found.map(|r| r.value)))
    }

    async fn scan_version(&self, entity: &[u8], from: &[u8], at: Version, limit: PageLimit) -> Result<Page> {
        let shard = self.shard_of(entity)?;
        let (entity, from) = (entity.to_vec(), from.to_vec());
        self.on(shard, move |shard| async move { shard.scan_at(&entity, &from, at, limit).await }).await
    }

    fn shard_of(&self, entity: &[u8]) -> Result<ShardId> {
        let mut key = Vec::new();
        key::encode_entity(entity, &mut key)?;
        Ok(self.map.home_of(&key).shard)
    }

    /// All shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..u16::try_from(self.links.len()).unwrap_or(u16::MAX)).map(ShardId)
    }

    /// Runs `work` on a shard's own thread, for what is measured or asked there.
    ///
    /// # Errors
    /// [`Error::Closed`]; what `work` says.
    pub async fn on<T, W, F>(&self, shard: ShardId, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        let link = self.links.get(usize::from(shard.0)).ok_or(Error::Closed)?;
        link.call(None, |host| async move { work(Rc::clone(host.shard()?)).await }).await?
    }
}

impl Snapshot {
    /// The version it was taken at: every row in it has this version or an older one.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// How many clones hold it.
    #[must_use]
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.alive)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} shards)", self.links.len())
    }
}
