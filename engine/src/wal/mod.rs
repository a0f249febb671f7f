//! A shard's log: one per shard, shared by its partitions. What is acknowledged is in it before it is anywhere else.
//!
//! `engine/FORMAT.md`, "WAL", owns the layouts, the crash argument and the table of what is torn and what is corrupt.
//! - [`writer`]: the open log: append, group commit, back-pressure, recycling ([`Wal`]);
//! - [`recover`]: reads a log back and decides where it ends ([`LogReader`]);
//! - [`format`](mod@format), [`batch`], [`record`]: headers and what is between them;
//! - `tail`, `space`: what is in memory, which file holds what; pure decisions, no I/O.
//!
//! Refuses: to know what rows mean, to repair, to write to a log that was read (recovery begins a new incarnation).

pub mod batch;
mod buffer;
pub mod config;
pub mod format;
mod progress;
pub mod record;
pub mod recover;
mod scan;
pub mod slots;
mod space;
mod tail;
mod window;
pub mod writer;
mod zeroes;

#[cfg(test)]
mod tests;

pub use self::batch::Batch;
pub use self::config::{Durability, WalConfig};
pub use self::format::{Invalid, LogId};
pub use self::record::{Body, Intent, Outcome, Record, RecordHeader, RowOp, RowWriter, Rows, TxId};
pub use self::recover::{LogEnd, LogReader};
pub use self::writer::{Ticket, Wal};
