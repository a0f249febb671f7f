//! How a shard is doing, told to whoever shows it: INFO, the metrics.

use std::rc::Rc;

use foreshard_engine::Shard;
use foreshard_engine::shard::stats::ShardStats;

use super::front::Front;
use super::stats::Counted;

/// One shard at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) shard: u16,
    pub(crate) counted: Counted,
    pub(crate) clients: usize,
    /// What they make it hold.
    pub(crate) clients_bytes: usize,
    pub(crate) engine: ShardStats,
    pub(crate) uptime_secs: u64,
    pub(crate) is_stopping: bool,
}

impl Report {
    /// Of this shard.
    pub(crate) fn of(shard: &Rc<Shard>, front: &Front) -> Self {
        Self {
            shard: shard.id().0,
            counted: front.stats.counted(),
            clients: front.clients.borrow().len(),
            clients_bytes: front.clients.borrow().values().map(|client| client.held_bytes.get()).sum(),
            engine: shard.stats(),
            uptime_secs: shard.runtime().now().0 / 1_000_000_000,
            is_stopping: front.is_stopping(),
        }
    }
}
