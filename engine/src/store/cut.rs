//! One moment of the whole store.
//!
//! Three messages go to every shard: close a fence; take the cut at version V, above all that was given out; open the
//! fence. No write takes a version between the first and the last, so there is a moment T, when the last fence closed,
//! such that every write in the cut (version at or below V) took its version before T and every other one after T:
//! - what was acknowledged before the cut was asked for took its version before T: it is in;
//! - of two writes, the second sent after the first was acknowledged, the cut never has the second alone;
//! - a transaction commits at the largest of its participants' floors. If all prepared before T it commits at or below
//!   V everywhere, and is in whole once it is decided; if one prepared after T it commits above V everywhere, and is
//!   out whole.
//!
//! No entity changes its owner meanwhile, and until what the cut holds is kept: see `shard/exclusion.rs`.
//!
//! A long batch under way when the fence closes is applied before its partition's cut, or built again above V.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::open::on_each;
use crate::error::{Error, Result};
use crate::ids::{ShardId, Version};
use crate::shard::Shard;
use crate::shard::exclusion::Kind;
use crate::shard::fence::Fence;

/// How far above all versions given out a cut's is: numbers that a shard gives out behind its fence (to a server's own
/// counters) stay below.
const VERSIONS_AHEAD: u64 = 1 << 20;
/// A fence that opened before the cut was taken makes it be tried again. So often means that threads are not run for
/// seconds.
const ATTEMPTS_MAX: usize = 50;

/// A cut that every shard has taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) version: Version,
    /// As long as this lives no entity changes its owner.
    pub(crate) still: Arc<()>,
    /// The longest that a shard's writers waited.
    pub(crate) pause: Duration,
}

impl Client {
    /// Has every shard run `take` at one moment, which it is given the version of. After a failed attempt it runs
    /// again, with another version.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Io`] when threads are not run for seconds.
    pub(crate) async fn cut<W>(&self, take: W) -> Result<Taken>
    where
        W: Fn(&Shard, Version) + Clone + Send + 'static,
    {
        let still = Arc::new(());
        let kept = Arc::downgrade(&still);
        let exclude = move |shard: Rc<Shard>| async move { shard.exclude(Kind::Cut, kept).await };
        self.on(ShardId(0), exclude).await?;
        for _ in 0..ATTEMPTS_MAX {
            let fences = self.on_every(|_| |shard| async move { Ok(shard.close_fence()) }).await?;
            let above = fences.iter().map(|fence| fence.version).max().unwrap_or_default();
            let version = Version(above.0 + VERSIONS_AHEAD);
            let held = self
                .on_every(|n| {
                    let (fence, take): (Fence, W) = (fences[n], take.clone());
                    move |shard| async move {
                        Ok(shard.behind_fence(fence, version, |shard| take(shard, version)))
                    }
                })
                .await;
            let pauses = self
                .on_every(|n| {
                    let fence = fences[n];
                    move |shard| async move { Ok(shard.open_fence(fence)) }
                })
                .await?;
            if held?.iter().all(|held| *held) {
                let pause = pauses.into_iter().max().unwrap_or_default();
                return Ok(Taken { version, still, pause });
            }
        }
        Err(Error::io(
            "take a cut of",
            std::path::Path::new("all shards"),
            std::io::ErrorKind::TimedOut.into(),
        ))
    }

    /// Runs a job on every shard, side by side; the first error, once all have ended.
    pub(crate) async fn on_every<T, W, F>(&self, job: impl Fn(usize) -> W) -> Result<Vec<T>>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        let shards: Vec<ShardId> = self.shards().collect();
        on_each(shards.len(), |n| {
            let work = self.on(shards[n], job(n));
            async move { Ok(work.await) }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;
    use std::rc::Rc;

    use super::*;
    use crate::batch::WriteBatch;
    use crate::io::disk::Disk;
    use crate::io::memory::{MemoryConfig, MemoryDisk};
    use crate::io::runtime::Runtime;
    use crate::io::virtual_time::VirtualRuntime;
    use crate::key;
    use crate::options::Options;
    use crate::store::simulated::SimulatedStore;

    const SHARDS: u16 = 2;
    const A_WHILE: Duration = Duration::from_millis(5);

    /// A store of two shards with a partition each, and the name of an entity of either.
    fn simulated(body: impl AsyncFnOnce(&SimulatedStore, &Runtime, [Vec<u8>; 2])) {
        let world = VirtualRuntime::new(1);
        let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
        let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
        let options = Options { partitions: 2, reserve_bytes: 1 << 16, ..Options::default() };
        world.block_on(async {
            let store = SimulatedStore::open(&runtimes, disk, Path::new("/s"), options, 1).await.unwrap();
            let entity_of = |shard: u16| {
                let names = (0..).map(|n: u32| n.to_be_bytes().to_vec());
                names
                    .filter(|name| store.map().home_of(&key_of(name)).shard.0 == shard)
                    .find(|_| true)
                    .unwrap()
            };
            body(&store, &runtimes[0], [entity_of(0), entity_of(1)]).await;
            store.close().await.unwrap();
        });
    }

    fn key_of(entity: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        key::encode(entity, b"row", &mut out).unwrap();
        out
    }

    /// Writes to the entities, all or nothing; tells when it is acknowledged.
    fn write(store: &SimulatedStore, runtime: &Runtime, row: &[u8], entities: &[Vec<u8>]) -> Rc<Cell<bool>> {
        let (client, done) = (store.client().unwrap(), Rc::new(Cell::new(false)));
        let mut batch = WriteBatch::new();
        entities.iter().for_each(|entity| batch.put(entity, row, b"1").unwrap());
        let told = Rc::clone(&done);
        runtime.spawn(async move { client.write(batch).await.map(|()| told.set(true)).unwrap() }).detach();
        done
    }

    #[test]
    fn no_write_takes_a_version_between_the_fences_and_the_cut_of_its_shard() {
        simulated(async |store, runtime, entities| {
            let shards = [store.shard(0).unwrap(), store.shard(1).unwrap()];
            let fences = [shards[0].close_fence(), shards[1].close_fence()];
            let single = [
                write(store, runtime, b"row", &entities[..1]),
                write(store, runtime, b"row", &entities[1..]),
            ];
            let both = write(store, runtime, b"both", &entities);
            runtime.sleep(A_WHILE).await;
            assert!(!single[0].get() && !single[1].get() && !both.get());
            let version = Version(1000);
            assert!(
                shards[0].behind_fence(fences[0], version, |s| s.begin_cut(version, std::sync::Weak::new()))
            );
            shards[0].open_fence(fences[0]);
            runtime.sleep(A_WHILE).await;
            assert!(single[0].get() && !single[1].get() && !both.get(), "the other shard has not cut yet");
            assert!(
                shards[1].behind_fence(fences[1], version, |s| s.begin_cut(version, std::sync::Weak::new()))
            );
            shards[1].open_fence(fences[1]);
            runtime.sleep(A_WHILE).await;
            assert!(single[1].get() && both.get());
            for (shard, entity) in shards.iter().zip(&entities) {
                let row = shard.fetch(&key_of(entity)).await.unwrap().unwrap();
                assert!(row.version > version, "{:?} is in the cut", row.version);
            }
        });
    }

    #[test]
    fn a_fence_that_nobody_opens_opens_by_itself_and_no_cut_is_taken_behind_it() {
        simulated(async |store, runtime, entities| {
            let shard = store.shard(0).unwrap();
            let (abandoned, other) = (shard.close_fence(), shard.close_fence());
            let done = write(store, runtime, b"row", &entities[..1]);
            shard.open_fence(other);
            runtime.sleep(A_WHILE).await;
            assert!(!done.get(), "one fence is still closed");
            runtime.sleep(Duration::from_secs(1)).await;
            assert!(done.get());
            assert!(!shard.behind_fence(abandoned, Version::MAX, |_| panic!("too late")));
        });
    }

    #[test]
    fn a_cut_in_the_past_of_a_partition_is_not_taken() {
        simulated(async |store, runtime, entities| {
            let shard = store.shard(0).unwrap();
            let done = write(store, runtime, b"row", &entities[..1]);
            runtime.sleep(A_WHILE).await;
            assert!(done.get());
            let fence = shard.close_fence();
            assert!(!shard.behind_fence(fence, Version::ZERO, |_| panic!("a row is newer")));
            shard.open_fence(fence);
        });
    }
}
