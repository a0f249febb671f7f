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
//! A long batch under way when the fence closes is applied before its partition's cut, or built again above V.

use std::time::Duration;

use super::client::Client;
use super::open::on_each;
use crate::error::{Error, Result};
use crate::ids::{ShardId, Version};
use crate::shard::Shard;
use crate::shard::fence::Fence;

/// How far above all versions given out a cut's is: numbers that a shard gives out behind its fence (to a server's own
/// counters) stay below.
const VERSIONS_AHEAD: u64 = 1 << 20;
/// A fence that opened before the cut was taken makes it be tried again. So often means that threads are not run for
/// seconds.
const ATTEMPTS_MAX: usize = 50;

/// A cut that every shard has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) version: Version,
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
                return Ok(Taken { version, pause: pauses.into_iter().max().unwrap_or_default() });
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
        W: FnOnce(std::rc::Rc<Shard>) -> F + Send + 'static,
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
