//! A store in virtual time: all shards on one thread, on any disk, the same run for the same seed.
//!
//! The same hosts, links and opening as on threads; only the runtimes differ. For tests and fuzzers.

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::client::Client;
use super::open::{self, Request};
use super::{ARRIVALS_MAX, Door, connect};
use crate::error::Result;
use crate::ids::ShardId;
use crate::io::disk::Disk;
use crate::io::runtime::Runtime;
use crate::options::Options;
use crate::shard::Shard;
use crate::shard::host::{self, Host};
use crate::shard::link::{Inbox, Link};
use crate::superblock::StoreId;
use crate::table::{Image, Table};

/// An open store in virtual time. Dropping it without [`SimulatedStore::close`] is a crash.
pub struct SimulatedStore {
    map: Arc<Image>,
    doors: Vec<Door>,
    hosts: Vec<Rc<Host>>,
}

impl SimulatedStore {
    /// Opens or creates the store in `dir` of `disk`; `runtimes` are those of its shards, all of one virtual runtime.
    ///
    /// # Errors
    /// As [`super::Store::open`].
    pub async fn open(
        runtimes: &[Runtime],
        disk: Rc<dyn Disk>,
        dir: &Path,
        options: Options,
        seed: u64,
    ) -> Result<Self> {
        let options = Options { shards: runtimes.len(), ..options };
        options.check()?;
        disk.create_dir(dir).await?;
        let (mut doors, mut hosts) = (Vec::new(), Vec::new());
        for (n, runtime) in runtimes.iter().enumerate() {
            let id = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
            let host = Rc::new(Host::new(id, runtime.clone(), Rc::clone(&disk), None));
            let (arrivals, inboxes): (SyncSender<Inbox>, _) = sync_channel(ARRIVALS_MAX);
            runtime.spawn(host::serve(Rc::clone(&host), inboxes)).detach();
            doors.push(Door { unpark: runtime.unpark_handle(), arrivals });
            hosts.push(host);
        }
        let links: Vec<Link> = doors.iter().map(Door::enter).collect::<Result<_>>()?;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fresh_id = StoreId([0; 16]);
        random.fill(&mut fresh_id.0);
        let request = Request { dir: dir.to_path_buf(), options, fresh_id };
        let opened = open::open(&links, request).await;
        if opened.is_err() {
            hosts.iter().for_each(|host| host.close());
        }
        let map = opened?;
        connect(&links, &doors).await?;
        Ok(Self { map, doors, hosts })
    }

    /// A way in for one caller.
    ///
    /// # Errors
    /// As [`super::Store::client`].
    pub fn client(&self) -> Result<Client> {
        let links = self.doors.iter().map(Door::enter).collect::<Result<_>>()?;
        Ok(Client::new(Arc::clone(&self.map), links))
    }

    /// A shard, for what is measured or done on its own core.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn shard(&self, n: usize) -> Result<Rc<Shard>> {
        self.hosts[n].shard().cloned()
    }

    /// Its partitions and their shards.
    #[must_use]
    pub fn map(&self) -> &Image {
        &self.map
    }

    /// The partition table, for what decides where partitions are.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn table(&self) -> Result<Rc<dyn Table>> {
        self.hosts[0].table()
    }

    /// Closes the store: what was acknowledged is durable on return.
    ///
    /// # Errors
    /// As [`super::Store::close`].
    pub async fn close(self) -> Result<()> {
        let links: Vec<Link> = self.doors.iter().map(Door::enter).collect::<Result<_>>()?;
        open::close(&links).await
    }
}

impl Drop for SimulatedStore {
    fn drop(&mut self) {
        self.hosts.iter().for_each(|host| host.close());
    }
}

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedStore({} shards)", self.hosts.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{Epoch, MoveId, PartitionId, TableVersion};
    use crate::io::memory::{MemoryConfig, MemoryDisk};
    use crate::io::virtual_time::VirtualRuntime;
    use crate::table::{BeginMove, Change, Partitions, Placed};

    #[test]
    fn every_shard_learns_of_the_tables_changes_and_finds_them_after_a_restart() {
        let world = VirtualRuntime::new(1);
        let runtimes: Vec<Runtime> = (0..3).map(|_| world.runtime()).collect();
        let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
        let options = Options {
            partitions: 6,
            wal_file_bytes: 64 << 10,
            wal_cap_bytes: 1 << 20,
            reserve_bytes: 64 << 10,
            ..Options::default()
        };
        world.block_on(async {
            let open = |n: usize| {
                SimulatedStore::open(&runtimes[..n], Rc::clone(&disk), Path::new("/s"), options.clone(), 1)
            };
            let store = open(3).await.unwrap();
            let table = store.table().unwrap();
            for epoch in 2..20 {
                let image = table.image();
                let (id, entry) = (PartitionId(4), image.state().partitions[&PartitionId(4)]);
                let raised = Placed { epoch: Epoch(epoch), ..entry.placed };
                let (seen, edits) = (vec![(id, entry.version)], vec![(id, Some(raised))]);
                let change = Partitions { seen, edits, ..Partitions::default() };
                table.change(change.into()).await.unwrap().unwrap();
            }
            runtimes[0].sleep(Duration::from_secs(1)).await;
            for n in 0..3 {
                let shard = store.shard(n).unwrap();
                assert_eq!(shard.image(), table.image(), "shard {n}");
                assert_eq!(shard.map().version(), TableVersion(19));
            }
            let last = table.image();
            store.close().await.unwrap();
            let store = open(3).await.unwrap();
            assert_eq!(store.map(), &*last);
            store.close().await.unwrap();
            let store = open(2).await.unwrap();
            let state = store.map().state();
            assert_eq!((state.version, state.shards), (TableVersion(20), 2));
            assert_eq!(state.partitions[&PartitionId(4)].placed.epoch, Epoch(19));
            store.close().await.unwrap();
        });
    }

    #[test]
    fn moves_that_nobody_is_there_to_finish_are_aborted_when_the_store_is_opened() {
        let world = VirtualRuntime::new(1);
        let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
        let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
        let options = Options { partitions: 4, reserve_bytes: 64 << 10, ..Options::default() };
        world.block_on(async {
            let open =
                || SimulatedStore::open(&runtimes, Rc::clone(&disk), Path::new("/s"), options.clone(), 1);
            let store = open().await.unwrap();
            let table = store.table().unwrap();
            let names: Vec<Vec<u8>> = (0..5).map(|n| format!("entity{n}").into_bytes()).collect();
            for (entity, is_committed) in names.iter().zip([true, false, false, true, false]) {
                let from = table.image().state().owner(entity);
                let to = PartitionId((from.0 + 1) % 4);
                let (entry, epoch) = (TableVersion(0), Epoch(1));
                let (from_epoch, to_epoch) = (epoch, epoch);
                let begin = BeginMove { entity: entity.clone(), entry, from, to, from_epoch, to_epoch };
                let id = MoveId(table.change(begin.into()).await.unwrap().unwrap().0);
                if is_committed {
                    table.change(Change::CommitMove { id }).await.unwrap().unwrap();
                }
            }
            let last = table.image();
            assert_eq!(last.open_moves().len(), 3);
            store.close().await.unwrap();
            for _ in 0..2 {
                let store = open().await.unwrap();
                assert!(store.map().open_moves().is_empty());
                assert_eq!(store.map().state().guests, last.state().guests);
                // Once.
                assert_eq!(store.map().version(), TableVersion(last.version().0 + 3));
                store.close().await.unwrap();
            }
        });
    }
}
