//! The partition table: which routing keys are at home in which partition, and which shard owns that.
//!
//! `state` is what it says and which changes may be made, `image` what routing reads of it, `log` keeps it on this host
//! (`frame` and `codec` are its bytes), and `local` decides on changes with that log. Why anything is where it is, is
//! for whoever asks for the change to know.
//!
//! Every change is a compare-and-swap: it names the entries that it was made from, by the change that wrote each of
//! them, and is refused by name when one of them is another by then.

pub mod codec;
pub mod frame;
pub mod image;
pub mod local;
pub mod log;
pub mod state;

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

pub use self::frame::FRAME_HEADER_BYTES;
pub use self::image::{Home, Image};
pub use self::local::LocalTable;
pub use self::log::{Cut, Place, RESERVED_BYTES_MAX, RESERVED_BYTES_MIN, TableLog, paths};
pub use self::state::{Change, Entry, KEYS_END, Moved, Placed, Refusal, State};
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
    pub changes: Option<Vec<Arc<Change>>>,
}

/// The table as its host uses it, whoever decides: the log of this host, or a group of hosts.
pub trait Table: fmt::Debug {
    /// The table after the last change that is known here.
    fn image(&self) -> Arc<Image>;
    /// Asks for a change: made, it is durable and known here on return. It is decided even if nobody waits for that.
    fn change(&self, change: Change) -> LocalFuture<Decision>;
    /// Waits for what comes after version `seen`.
    fn news(&self, seen: TableVersion) -> LocalFuture<Result<News>>;
    /// Decides what was asked for, and nothing more.
    fn close(&self) -> LocalFuture<()>;
}

#[cfg(test)]
mod tests;
