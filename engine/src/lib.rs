//! foreshard's storage engine: one single-threaded shard per core, LSM partitions behind a write-ahead log on
//! io_uring, and nothing acknowledged is ever lost.
//!
//! Start with [`Store`] and [`Client`]. The map of the crate, from the top down:
//! - [`store`]: a directory and its shards' threads; opening, recovery, clients;
//! - [`shard`]: one core: admission, transactions, background work, links to other cores;
//! - [`partition`]: one LSM tree: writes, reads, flush, compaction, locks;
//! - [`wal`], [`superblock`], [`manifest`]: what makes it durable;
//! - [`segment`], [`cache`], [`merge`], [`visible`]: sorted files and walking them;
//! - [`row_cache`]: rows as they were last read, before all of that;
//! - [`memtable`], [`tombstones`]: what is not in segments yet;
//! - [`backup`]: a cut of the whole store on another directory, and a store made of it;
//! - [`counters`]: who causes how much load;
//! - [`io`]: the ring, the disks, the runtimes;
//! - [`key`], [`entry`], [`batch`], [`transaction`]: what is stored, in what order, and how it is given.
//!
//! `engine/FORMAT.md` owns the bytes on disk. The rules R1 to R6 that comments name are those of ARCHITECTURE.md.

// Tests of the crate share files with those beside it, which name it so.
#[cfg(test)]
extern crate self as foreshard_engine;

pub mod backup;
pub mod batch;
pub mod cache;
pub mod counters;
pub mod entry;
pub mod error;
pub mod hash;
pub mod ids;
pub mod io;
pub mod key;
pub mod limits;
pub mod manifest;
pub mod memtable;
pub mod merge;
pub mod options;
pub mod partition;
pub mod row_cache;
pub mod segment;
pub mod shard;
pub mod signal;
pub mod store;
pub mod stream;
pub mod superblock;
pub mod table;
pub mod tombstones;
pub mod transaction;
mod turn;
pub mod visible;
pub mod wal;

pub use batch::{Op, WriteBatch};
pub use error::{Error, Result};
pub use futures_lite::future::block_on;
pub use options::Options;
pub use partition::read::{OwnedRow, Page, PageLimit, Row};
pub use shard::Shard;
pub use store::Store;
pub use store::client::{Client, Snapshot};
pub use store::simulated::SimulatedStore;
pub use transaction::Transaction;
pub use wal::{Durability, Ticket};
