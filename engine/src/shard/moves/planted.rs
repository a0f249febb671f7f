//! Bugs that tests plant, so that it is seen that their checks find them. Outside of tests there is none.

#[cfg(test)]
use std::cell::Cell;

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// The fence opens when it has been closed for a while, before the table has decided.
    FenceLifted,
    /// The source removes what it has before the table has decided.
    DroppedBeforeCommit,
    /// The table decides before the target has everything.
    VisibleEarly,
    /// Whoever waited for the fence is forgotten.
    ParkedForgotten,
    /// The target writes a byte of a row's value as another.
    FlippedByte,
    /// The source keeps what it had, and takes no care of it when the entity comes back.
    OldRowsKept,
}

/// The bug of one shard.
#[derive(Debug, Default)]
pub(crate) struct Planted {
    #[cfg(test)]
    bug: Cell<Option<Bug>>,
}

impl Planted {
    #[cfg(test)]
    pub(crate) fn plant(&self, bug: Option<Bug>) {
        self.bug.set(bug);
    }

    #[cfg(test)]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug.get() == Some(bug)
    }

    /// Whether it is there.
    #[cfg(not(test))]
    pub(crate) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
