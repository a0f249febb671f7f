//! Asking the table for a change, until it is known what came of it. The first shard asks; it has the table.
//!
//! An answer that is an error does not say that nothing happened: the log may have failed behind the write, a group of hosts
//! may decide late. The table is asked again then, what became of that change, until one outcome is certain (R14).
//!
//! Invariants:
//! - what is called refused was not made, and will not be;
//! - what is called unknown stays so until a restart: whoever asked does nothing any more, and opens no fence.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use crate::error::{Error, Result};
use crate::ids::{ShardId, TableVersion};
use crate::table::{Change, Table};

/// How often it is asked for: requests may wait for the answer behind a fence.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// What came of a change.
#[derive(Debug)]
pub(super) enum Decided {
    /// It was made: the table has it at this version.
    Made(TableVersion),
    /// It was not, and never will be.
    Refused(Error),
    /// Only a restart can tell.
    Unknown(Error),
}

impl Shard {
    /// Has the table decide on a change.
    pub(super) async fn ask_table(self: &Rc<Self>, change: Change) -> Decided {
        let ask = move |first: Rc<Self>| async move { Ok(first.ask_table_here(change).await) };
        // Of a first shard that is gone nobody knows how far it came.
        self.on_control(ShardId(0), ask).await.unwrap_or_else(Decided::Unknown)
    }

    async fn ask_table_here(&self, change: Change) -> Decided {
        // No move begins from or to a partition that is about to change.
        let beginning = match &change {
            Change::BeginMove(begin) => self.reshapes.begin_move(begin.from, begin.to).map(Some),
            Change::CommitMove { .. } | Change::AbortMove { .. } | Change::Partitions(_) => Ok(None),
        };
        let (_beginning, table) = match beginning.and_then(|beginning| Ok((beginning, self.table()?))) {
            Ok(ready) => ready,
            Err(e) => return Decided::Refused(e),
        };
        let seen = table.image().version();
        let doubt = match table.change(change.clone()).await {
            Ok(Ok(version)) => return Decided::Made(version),
            Ok(Err(refusal)) => return Decided::Refused(Error::misuse(refusal.to_string())),
            // Found before anything was written.
            Err(e) if e.is_no_space() || matches!(e, Error::Misuse(_)) => return Decided::Refused(e),
            Err(e) => e,
        };
        tracing::warn!("a change of the partition table has no known outcome yet: {doubt}");
        loop {
            match table.outcome(change.clone(), seen).await {
                Ok(Some(version)) => return Decided::Made(version),
                Ok(None) => return Decided::Refused(doubt),
                Err(Error::TryAgain(_)) => self.runtime().sleep(ASK_EVERY).await,
                Err(e) => return Decided::Unknown(e),
            }
        }
    }

    /// Lets this shard, the first one, ask for changes.
    pub(crate) fn keep_table(&self, table: Rc<dyn Table>) {
        let before = self.table.borrow_mut().replace(table);
        assert!(before.is_none(), "a store has one table");
    }

    pub(crate) fn table(&self) -> Result<Rc<dyn Table>> {
        self.table.borrow().clone().ok_or(Error::Closed)
    }

    /// Has changes asked for by way of another table.
    #[cfg(test)]
    pub(super) fn wrap_table<T: Table + 'static>(&self, wrap: impl FnOnce(Rc<dyn Table>) -> Rc<T>) -> Rc<T> {
        let inner = self.table().expect("an open store");
        let wrapped = wrap(inner);
        *self.table.borrow_mut() = Some(Rc::clone(&wrapped) as Rc<dyn Table>);
        wrapped
    }
}
