//! A shard's log: one per shard, shared by its partitions. What is acknowledged is in it before it is anywhere else.
//!
//! `engine/FORMAT.md`, "WAL", owns the layouts, the crash argument and the table of what is torn and what is corrupt.
//! - [`log`]: the open log as callers see it ([`Wal`]); `writer`, `flusher`, `room`, `slots`: its tasks, group commit,
//!   back-pressure, its files; `shared`: what they share;
//! - [`recover`]: reads a log back and decides where it ends ([`LogReader`]);
//! - [`format`](mod@format), [`batch`], [`record`], [`row`]: headers and what is between them; [`codec`] reads and
//!   writes records;
//! - `tail`, `space`: what is in memory, which file holds what; pure decisions, no I/O.
//!
//! Refuses: to know what rows mean, to repair, to write to a log that was read (recovery begins a new incarnation).

pub mod batch;
mod buffer;
pub mod codec;
pub mod config;
mod flusher;
pub mod format;
mod latch;
pub mod log;
mod progress;
pub mod record;
pub mod recover;
mod room;
pub mod row;
mod scan;
mod shared;
pub mod slots;
mod space;
mod tail;
mod window;
mod writer;
mod zeroes;

#[cfg(test)]
mod tests;

pub use self::batch::Batch;
pub use self::config::{Durability, WalConfig};
pub use self::flusher::{Flushes, LOG_DELAY_MAX};
pub use self::format::{Invalid, LogId};
pub use self::log::{Ticket, Wal};
pub use self::record::{Body, Intent, Outcome, Record, RecordHeader, TxId};
pub use self::recover::{LogEnd, LogReader};
pub use self::row::{RowOp, RowSet, RowWriter, Rows};
