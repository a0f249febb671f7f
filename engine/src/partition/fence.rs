//! The fence of what is about to leave a partition, an entity or part of its range: all requests for it wait there, while
//! the last of it is made durable where it goes, and the table says who owns it.
//!
//! It is a lock like a prepared transaction's, so that it waits for those and they for it, in order of arrival.
//!
//! Invariant: a fence that is dropped while nobody may know what the table decided stays closed.

use std::cell::Cell;
use std::rc::Rc;

use super::Partition;
use super::locks::{Arrival, Holder, Obstacle, Span, in_doubt};
use crate::error::Result;
use crate::ids::{TableVersion, Version};

/// A closed fence; it opens when it is dropped.
#[derive(Debug)]
pub(crate) struct Fence {
    partition: Rc<Partition>,
    holder: Holder,
    is_stuck: Cell<bool>,
}

/// A place in the queue, given up when dropped.
struct Queueing<'a>(&'a Partition, Arrival);

impl Fence {
    /// Closes a fence over `spans`, once whatever is prepared there is decided and no long batch is under way. `holder` has
    /// one in a partition at a time.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`] where a transaction is in doubt.
    pub(crate) async fn close(partition: &Rc<Partition>, holder: Holder, spans: Vec<Span>) -> Result<Self> {
        let arrival = partition.locks.borrow_mut().arrive_fence(spans);
        let place = Queueing(partition, arrival);
        loop {
            let changed = partition.unlocked.changed();
            let obstacle = partition.locks.borrow().obstacle_for(arrival);
            match obstacle {
                Obstacle::None if !partition.is_gated() => break,
                Obstacle::InDoubt => return Err(in_doubt()),
                Obstacle::None | Obstacle::Undecided | Obstacle::Fenced => changed.await,
            }
        }
        partition.locks.borrow_mut().acquire(arrival, holder, Version::ZERO);
        drop(place);
        Ok(Self { partition: Rc::clone(partition), holder, is_stuck: Cell::new(false) })
    }

    /// Opens it: it has left as of `version`, and whoever waits follows it.
    pub(crate) fn open_departed(self, version: TableVersion) {
        self.partition.depart(version);
    }

    /// Lets everybody through although it is closed: a bug.
    pub(crate) fn lift(&self) {
        self.partition.locks.borrow_mut().release(self.holder);
        self.partition.unlocked.notify();
    }

    /// From here on the outcome may be one that nobody here learns: it stays closed if it is dropped.
    pub(crate) fn hold(&self) {
        self.is_stuck.set(true);
    }

    /// The outcome is known.
    pub(crate) fn unhold(&self) {
        self.is_stuck.set(false);
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if !self.is_stuck.get() {
            self.partition.locks.borrow_mut().release(self.holder);
            self.partition.unlocked.notify();
        }
    }
}

impl Drop for Queueing<'_> {
    fn drop(&mut self) {
        self.0.locks.borrow_mut().leave(self.1);
        self.0.unlocked.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::error::Error;
    use crate::ids::MoveId;
    use crate::io::memory::{MemoryConfig, MemoryDisk};
    use crate::io::runtime::Runtime;
    use crate::io::virtual_time::VirtualRuntime;
    use crate::key;
    use crate::segment::KeyRange;
    use crate::{Options, SimulatedStore};

    /// A store of one partition, which is closed when the test is done with it.
    fn in_a_store(test: impl AsyncFnOnce(&Runtime, &SimulatedStore)) {
        let world = VirtualRuntime::new(1);
        let runtimes = [world.runtime()];
        let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
        world.block_on(async {
            let options = Options { partitions: 1, ..Options::default() };
            let store = SimulatedStore::open(&runtimes, disk, Path::new("/s"), options, 1).await.unwrap();
            test(&runtimes[0], &store).await;
            store.close().await.unwrap();
        });
    }

    fn prefix_of(entity: &[u8]) -> Vec<u8> {
        let mut prefix = Vec::new();
        key::encode_entity(entity, &mut prefix).unwrap();
        prefix
    }

    #[test]
    fn entities_that_leave_in_another_order_than_the_table_decided_are_followed_all_the_same() {
        in_a_store(async |runtime, store| {
            let partition = store.shard(0).unwrap().partitions().next().unwrap();
            let prefixes = [b"early", b"later"].map(|name| prefix_of(name));
            let close = async |n: usize, id: u64| {
                let spans = vec![Span::of_range(&KeyRange::of_prefix(&prefixes[n]))];
                Fence::close(&partition, Holder::Move(MoveId(id)), spans).await.unwrap()
            };
            let (early, later) = (close(0, 1).await, close(1, 2).await);
            let waits = |n: usize| {
                let (partition, key) = (Rc::clone(&partition), prefixes[n].clone());
                runtime.spawn(async move { partition.wait_for_locks(&key, None, Version::MAX).await })
            };
            let before = partition.departed();
            let (first, second) = (waits(0), waits(1));
            runtime.sleep(Duration::from_millis(1)).await;
            // The table decided on `early` at version 10, and on `later` at 12: who is told of it first is a matter of luck.
            later.open_departed(TableVersion(12));
            assert!(matches!(second.await, Err(Error::Moved { version: TableVersion(12) })));
            let between = partition.departed();
            let third = waits(0);
            runtime.sleep(Duration::from_millis(1)).await;
            early.open_departed(TableVersion(10));
            for waited in [first.await, third.await] {
                assert!(matches!(waited, Err(Error::Moved { version: TableVersion(12) })), "{waited:?}");
            }
            assert!(partition.still_here(before).is_err() && partition.still_here(between).is_err());
            assert!(partition.still_here(partition.departed()).is_ok());
            drop(partition);
        });
    }

    #[test]
    fn no_version_is_given_out_once_the_last_one_is_on_its_way() {
        in_a_store(async |runtime, store| {
            let shard = store.shard(0).unwrap();
            let partition = shard.partitions().next().unwrap();
            let take = |name: &[u8]| {
                let (shard, key) = (Rc::clone(&shard), prefix_of(name));
                let home = shard.map().home_of(&key);
                runtime.spawn(async move { shard.unique_version(home, &key).await })
            };
            let before = partition.version();
            assert_eq!(take(b"moves").await.unwrap(), before.next());
            let spans = vec![Span::of_range(&KeyRange::of_prefix(&prefix_of(b"moves")))];
            let fence = Fence::close(&partition, Holder::Move(MoveId(1)), spans).await.unwrap();
            // What is told to the target here, it has to lift its own above.
            let last = partition.version();
            let waits = take(b"moves");
            runtime.sleep(Duration::from_millis(1)).await;
            assert_eq!(partition.version(), last, "a number that the target gives out too");
            assert_eq!(take(b"stays").await.unwrap(), last.next(), "nobody else waits");
            fence.open_departed(TableVersion(7));
            assert!(matches!(waits.await, Err(Error::Moved { version: TableVersion(7) })));
            // Handed over: nothing of it is here any more.
            let last = partition.version();
            partition.retire();
            assert!(matches!(take(b"stays").await, Err(Error::Moved { .. })));
            assert_eq!(partition.version(), last);
            partition.reopen();
            drop(partition);
            drop(shard);
        });
    }
}
