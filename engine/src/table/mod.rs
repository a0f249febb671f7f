//! The entity-partition table: which routing keys are at home in which partition, which entities are placed elsewhere by
//! name, which of them are moving, and which shard owns a partition.
//!
//! `state` is what it says (`guests` and the `tree` that they are kept in), `change` which changes may be made of it,
//! `refusal` why not, `image` what routing reads of it, `log` keeps it on this host (`frame` and `codec` are its bytes), and
//! `local` decides on changes with that log. Why anything is where it is, is for whoever asks for the change to know.
//!
//! Every change is a compare-and-swap: it names the entries that it was made from, by the change that wrote each of
//! them, and is refused by name when one of them is another by then.

pub mod change;
pub mod codec;
mod filter;
pub mod frame;
pub mod guests;
pub mod image;
pub mod local;
pub mod log;
pub mod refusal;
mod snapshot;
pub mod state;
mod tree;

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

pub use self::change::{BeginMove, Change, Partitions};
pub use self::frame::FRAME_HEADER_BYTES;
pub use self::guests::{Guest, GuestRef, Guests};
pub use self::image::{Home, Image};
pub use self::local::LocalTable;
pub use self::log::{Cut, Place, RESERVED_BYTES_MAX, RESERVED_BYTES_MIN, TableLog, paths};
pub use self::refusal::{Moved, Refusal};
pub use self::state::{Entry, KEYS_END, OpenMove, Placed, State};
use crate::error::Result;
use crate::ids::TableVersion;
use crate::io::disk::{Disk, LocalFuture};
use crate::superblock::StoreId;

/// Its directory, in the store's.
pub const DIR_NAME: &str = "table";

/// Where the table of the store in `dir` is kept.
pub(crate) fn place(disk: &Rc<dyn Disk>, dir: &Path, store: StoreId) -> Place {
    Place { disk: Rc::clone(disk), dir: dir.join(DIR_NAME), store, reserved_bytes: RESERVED_BYTES_MIN }
}

/// What became of a change: the version that it made, or why it was refused; an error when it cannot be decided.
pub type Decision = Result<Result<TableVersion, Refusal>>;

/// What happened since a version.
#[derive(Clone, Debug)]
pub struct News {
    /// The table after it.
    pub image: Arc<Image>,
    /// The changes that led there, in order; none when they are too many to be told one by one.
    pub changes: Option<Vec<Arc<Made>>>,
}

/// A change that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// The version that it made.
    pub version: TableVersion,
    /// What it was.
    pub change: Change,
    /// The move that it committed or aborted, which is open no more.
    pub decided: Option<OpenMove>,
}

/// The table as its host uses it, whoever decides: the log of this host, or a group of hosts.
pub trait Table: fmt::Debug {
    /// The table after the last change that is known here.
    fn image(&self) -> Arc<Image>;
    /// Asks for a change: made, it is durable and known here on return. It is decided even if nobody waits for that. An
    /// error does not say that it was not made ([`Table::outcome`]), unless it is [`crate::Error::Misuse`], or that the
    /// device is full: then nothing was written.
    fn change(&self, change: Change) -> LocalFuture<Decision>;
    /// What came of a change that was asked for after version `seen`, and answered by an error: the version that it made;
    /// none: it was not made, and will not be. Everything that was asked for before is decided on return.
    ///
    /// # Errors
    /// [`crate::Error::TryAgain`] when that is not known yet; otherwise only a restart can tell.
    fn outcome(&self, change: Change, seen: TableVersion) -> LocalFuture<Result<Option<TableVersion>>>;
    /// Waits for what comes after version `seen`.
    fn news(&self, seen: TableVersion) -> LocalFuture<Result<News>>;
    /// Decides what was asked for, and nothing more.
    fn close(&self) -> LocalFuture<()>;
}

#[cfg(test)]
mod tests;
