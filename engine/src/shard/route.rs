//! Where an operation goes, and where it goes next when its rows have moved.
//!
//! Every shard routes by the last table that it was told of. Whoever sends an operation says which that is; the receiver
//! first learns as much, then looks itself. What it does not have it sends back with the version by which it knows,
//! and the sender looks again once it has learnt that.
//!
//! Invariants:
//! - an operation is done by a partition that the owner's own table names, looked up in the turn in which the operation
//!   began there; what it then waits for, locks and room, ends with a look at whether anything has left since;
//! - an operation that was sent back was not done;
//! - the way is bounded in hops and in time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use super::{Owned, Shard};
use crate::error::{Error, Result};
use crate::ids::TableVersion;
use crate::table::{Home, Image};

/// Each hop means that the table has changed since the last one: an entity that moves so often while one operation is
/// on its way is not to be caught.
pub(crate) const HOPS_MAX: usize = 16;
/// Telling a shard of a change takes microseconds; one that has not been told for so long does not run.
const LEARN_TIME_MAX: Duration = Duration::from_secs(2);

impl Shard {
    /// From here on routes by `image`, which is the table after what this shard knew.
    pub(crate) fn learn(&self, image: Arc<Image>) {
        assert!(image.version() > self.map().version(), "changes are told in their order");
        self.map.replace(image);
        self.learnt.notify();
    }

    /// Returns when this shard routes by version `version` of the table, or a later one.
    ///
    /// # Errors
    /// [`Error::TryAgain`] when nobody tells it for seconds.
    pub async fn knows(&self, version: TableVersion) -> Result<()> {
        if self.map().version() >= version {
            return Ok(());
        }
        let told = async {
            self.learnt.until(|| self.map().version() >= version).await;
            Ok(())
        };
        let is_over = async {
            self.runtime().sleep(LEARN_TIME_MAX).await;
            Err(Error::try_again(format!(
                "shard {} was not told of version {version} of the partition table",
                self.id().0
            )))
        };
        future::or(told, is_over).await
    }

    /// Waits until this shard routes by `version`, however long: what follows would be lost on those who are sent by an older
    /// one. The table has decided, and its images are on their way.
    pub(super) async fn knows_surely(&self, version: TableVersion) {
        self.learnt.until(|| self.map().version() >= version).await;
    }

    /// Runs `work` where `key` lives, which is told that place, and again elsewhere when the key has moved. `work` begins
    /// in the turn in which the key was found there.
    ///
    /// # Errors
    /// What `work` says; [`Error::TryAgain`] when the bounds of the way are exceeded.
    pub(crate) async fn routed<T, W, F>(self: &Rc<Self>, key: &[u8], work: W) -> Result<T>
    where
        T: Send + 'static,
        W: Fn(Rc<Self>, Home) -> F + Clone + Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        let key: Arc<[u8]> = key.into();
        let mut hops = Hops::default();
        loop {
            let (owner, seen) = {
                let map = self.map();
                (map.home_of(&key).shard, map.version())
            };
            let (key, work) = (Arc::clone(&key), work.clone());
            let attempt = move |shard: Rc<Self>| async move {
                shard.knows(seen).await?;
                let home = shard.map().home_of(&key);
                shard.owned(home)?;
                work(shard, home).await
            };
            match self.on_shard(owner, attempt).await {
                Err(Error::Moved { version }) => hops.next(self, version).await?,
                done => return done,
            }
        }
    }

    /// A partition of this shard.
    ///
    /// # Errors
    /// [`Error::Moved`] when it is not one.
    pub(crate) fn owned(&self, home: Home) -> Result<Rc<Owned>> {
        self.local(home).ok_or_else(|| Error::Moved { version: self.map().version() })
    }
}

/// How far an operation has come.
#[derive(Debug, Default)]
pub(crate) struct Hops(usize);

impl Hops {
    /// After an operation was sent back: returns when `shard` knows where it goes next.
    ///
    /// # Errors
    /// [`Error::TryAgain`].
    pub(crate) async fn next(&mut self, shard: &Shard, version: TableVersion) -> Result<()> {
        self.0 += 1;
        if self.0 > HOPS_MAX {
            return Err(Error::try_again(format!(
                "its entity has moved {HOPS_MAX} times while it was looked for"
            )));
        }
        shard.knows(version).await
    }
}
