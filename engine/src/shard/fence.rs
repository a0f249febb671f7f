//! Holding a shard's writers back while all shards agree on one moment.
//!
//! While a fence is closed no write of the shard takes a version, and no transaction is prepared; reads go on, and so
//! does what is prepared already. Whoever closes it may be gone before it opens it: it opens by itself.
//!
//! Invariants:
//! - a fence is closed for at most [`FENCE_TIME_MAX`];
//! - several may be closed; writers go on when all are open.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use crate::ids::Version;
use crate::io::runtime::Nanos;

/// Three messages to every shard take microseconds; one whose thread is not run for longer than this makes the others
/// try again rather than wait.
const FENCE_TIME_MAX: Duration = Duration::from_millis(100);

/// The closed fences of one shard.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    closed: RefCell<BTreeSet<u64>>,
    last: Cell<u64>,
    /// As many as `closed` has, for those who look at every write.
    count: Cell<usize>,
}

/// A fence when it was closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence {
    number: u64,
    closed_at: Nanos,
    /// The largest version given out on this shard before.
    pub(crate) version: Version,
}

impl Fences {
    /// Whether writers must wait.
    pub(crate) fn is_closed(&self) -> bool {
        self.count.get() > 0
    }

    fn close(&self) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.closed.borrow_mut().insert(number);
        self.count.set(self.closed.borrow().len());
        number
    }

    fn open(&self, number: u64) -> bool {
        let was_closed = self.closed.borrow_mut().remove(&number);
        self.count.set(self.closed.borrow().len());
        was_closed
    }
}

impl Shard {
    /// Closes a fence.
    pub(crate) fn close_fence(self: &Rc<Self>) -> Fence {
        let number = self.common.fences.close();
        let shard = Rc::clone(self);
        let expiry = async move {
            shard.runtime().sleep(FENCE_TIME_MAX).await;
            shard.open_fence_number(number);
        };
        self.runtime().spawn(expiry).detach();
        let version = self.partitions().map(|p| p.version()).max().unwrap_or_default();
        Fence { number, closed_at: self.runtime().now(), version }
    }

    /// Opens a fence, if it is still closed. How long it was.
    pub(crate) fn open_fence(&self, fence: Fence) -> Duration {
        self.open_fence_number(fence.number);
        self.runtime().now().since(fence.closed_at)
    }

    /// Runs `take` behind a fence that is still closed, at a version that no partition has passed. Whether it was.
    pub(crate) fn behind_fence(&self, fence: Fence, version: Version, take: impl FnOnce(&Self)) -> bool {
        let in_force = self.common.fences.closed.borrow().contains(&fence.number);
        let holds = in_force && self.partitions().all(|p| p.version() <= version);
        if holds {
            take(self);
        }
        holds
    }

    fn open_fence_number(&self, number: u64) {
        if self.common.fences.open(number) && !self.common.fences.is_closed() {
            self.partitions().for_each(|p| p.unlocked.notify());
        }
    }
}
