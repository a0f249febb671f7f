//! A store in virtual time: all shards on one thread, on any disk, the same run for the same seed.
//!
//! The same hosts, links and opening as on threads; only the runtimes differ. For tests and fuzzers.

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::client::Client;
use super::map::PartitionMap;
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

/// An open store in virtual time. Dropping it without [`SimulatedStore::close`] is a crash.
pub struct SimulatedStore {
    map: Arc<PartitionMap>,
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
    pub fn map(&self) -> &PartitionMap {
        &self.map
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
