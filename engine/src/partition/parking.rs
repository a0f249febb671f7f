//! Waiting for rows: for transactions that will be decided, and for fences of moves, which is bounded.
//!
//! Whoever waits here may find afterwards that the rows have left: the partition counts the table's changes that took
//! something from it, and whoever awaited is told to look again when there was one. Changes are decided in one order, and
//! what they took may leave in another: those who are to be told of each are told side by side. So it is counted how often
//! something left: the latest version alone would hide an earlier change that comes after it.
//!
//! Invariants:
//! - what waits for a fence is bounded in number, bytes and time; what exceeds a bound was not done;
//! - nobody gets past a fence: it ends, or the wait for it does.

use std::cell::Cell;
use std::time::Duration;

use futures_lite::future;

use super::Partition;
use super::locks::{Locks, Obstacle, in_doubt};
use crate::error::{Error, Result};
use crate::ids::TableVersion;
use crate::io::runtime::Nanos;
use crate::shard::moves::planted::Bug;
use crate::signal::Changed;

/// Requests that wait for the fences of one partition: what a million operations a second bring in the 10 ms that a
/// fence takes, and a few megabytes of tasks.
const PARKED_MAX: usize = 10_000;
/// Bytes that they want to write: a quarter of what a small shard has for its memtables.
const PARKED_BYTES_MAX: usize = 32 << 20;
/// Longer than a fence is ever closed whose outcome is known, shorter than clients wait for an answer.
const PARKED_TIME_MAX: Duration = Duration::from_secs(5);

/// What waits for fences of one partition.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    count: Cell<usize>,
    bytes: Cell<usize>,
    /// All that ever waited.
    total: Cell<u64>,
    refused: Cell<u64>,
    departures: Cell<Departures>,
}

/// What has left a partition until some moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Departures {
    /// How often something did.
    count: u64,
    /// The latest of the table's changes by which something did.
    pub(crate) latest: TableVersion,
}

/// A place among those that wait.
struct Parked<'a> {
    partition: &'a Partition,
    bytes: usize,
    until: Nanos,
}

impl Parking {
    /// Requests that have waited for a fence, and those that were refused over it.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.total.get(), self.refused.get())
    }
}

impl Partition {
    /// What has left so far.
    pub(crate) fn departed(&self) -> Departures {
        self.parking.departures.get()
    }

    /// Something left as of `version`, which this shard knows: whoever waits looks again where its rows are.
    pub(crate) fn depart(&self, version: TableVersion) {
        let Departures { count, latest } = self.departed();
        self.parking.departures.set(Departures { count: count + 1, latest: latest.max(version) });
        self.unlocked.notify();
    }

    /// That nothing has left since `before`.
    ///
    /// # Errors
    /// [`Error::Moved`].
    pub(crate) fn still_here(&self, before: Departures) -> Result<()> {
        match self.departed() {
            now if now == before => Ok(()),
            now => Err(Error::Moved { version: now.latest }),
        }
    }

    /// Waits until `look` finds nothing in the way of something that brings `bytes`.
    ///
    /// # Errors
    /// [`Error::Stopped`] for rows of a transaction in doubt; [`Error::TryAgain`] when the bounds of waiting for a
    /// fence are exceeded; [`Error::Moved`] when something has left meanwhile.
    pub(crate) async fn clear(&self, bytes: usize, mut look: impl FnMut(&Locks) -> Obstacle) -> Result<()> {
        let before = self.departed();
        let mut parked: Option<Parked<'_>> = None;
        loop {
            let changed = self.unlocked.changed();
            let obstacle = look(&self.locks.borrow());
            match obstacle {
                Obstacle::None => {
                    if parked.is_some() && self.common.planted.has(Bug::ParkedForgotten) {
                        future::pending::<()>().await;
                    }
                    return self.still_here(before);
                }
                Obstacle::InDoubt => return Err(in_doubt()),
                Obstacle::Undecided => changed.await,
                Obstacle::Fenced => {
                    let place = match parked.take() {
                        Some(place) => place,
                        None => Parked::take(self, bytes)?,
                    };
                    place.wait(changed).await?;
                    parked = Some(place);
                }
            }
        }
    }
}

impl<'a> Parked<'a> {
    fn take(partition: &'a Partition, bytes: usize) -> Result<Self> {
        let parking = &partition.parking;
        let (count, all) = (parking.count.get() + 1, parking.bytes.get() + bytes);
        if count > PARKED_MAX || all > PARKED_BYTES_MAX {
            parking.refused.set(parking.refused.get() + 1);
            let what = format!(
                "{PARKED_MAX} requests, or {PARKED_BYTES_MAX} bytes of them, wait for an entity that moves"
            );
            return Err(Error::try_again(what));
        }
        parking.count.set(count);
        parking.bytes.set(all);
        parking.total.set(parking.total.get() + 1);
        let until = partition.common.runtime.now().after(PARKED_TIME_MAX);
        Ok(Self { partition, bytes, until })
    }

    async fn wait(&self, changed: Changed<'_>) -> Result<()> {
        let Partition { common, parking, .. } = self.partition;
        let is_over = async {
            common.runtime.sleep_until(self.until).await;
            true
        };
        let is_changed = async {
            changed.await;
            false
        };
        if future::or(is_changed, is_over).await {
            parking.refused.set(parking.refused.get() + 1);
            return Err(Error::try_again(format!("the entity moves, for more than {PARKED_TIME_MAX:?}")));
        }
        Ok(())
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let parking = &self.partition.parking;
        parking.count.set(parking.count.get() - 1);
        parking.bytes.set(parking.bytes.get() - self.bytes);
    }
}
