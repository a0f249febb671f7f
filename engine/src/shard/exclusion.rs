//! Cuts of the whole store, and cut-overs of moves: never at the same time. Kept at the table's shard.
//!
//! A cut that saw half of a cut-over would have an entity twice, or not at all: the table that is kept with a backup is
//! of the moment of its cut, and what a partition drops after a cut-over must not be missing from a cut under way.
//!
//! Invariants:
//! - several cuts may be under way, or several cut-overs;
//! - a cut that waits lets no further cut-over begin: neither kind starves;
//! - whoever goes away gives its place up, also from another thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Weak;
use std::time::Duration;

use futures_lite::future;

use super::Shard;
use crate::error::{Error, Result};
use crate::signal::Signal;

/// What keeps the other kind away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A cut of all shards.
    Cut,
    /// An entity changes its owner.
    CutOver,
}

/// Whoever goes away on another thread tells nobody: so often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Exclusion {
    cuts: RefCell<Vec<Weak<()>>>,
    cut_overs: RefCell<Vec<Weak<()>>>,
    cuts_waiting: Cell<usize>,
    /// Told when something may have ended.
    pub(super) ended: Signal,
}

struct Waiting<'a>(&'a Exclusion);

impl Exclusion {
    fn may_begin(&self, kind: Kind) -> bool {
        let is_none = |list: &RefCell<Vec<Weak<()>>>| {
            list.borrow_mut().retain(|alive| alive.strong_count() > 0);
            list.borrow().is_empty()
        };
        match kind {
            Kind::Cut => is_none(&self.cut_overs),
            Kind::CutOver => self.cuts_waiting.get() == 0 && is_none(&self.cuts),
        }
    }
}

impl Shard {
    /// Returns when nothing of the other kind is under way; from then on it is kept away as long as `alive` lives. Of the
    /// first shard.
    ///
    /// # Errors
    /// [`Error::Closed`] when whoever asked has gone.
    pub(crate) async fn exclude(&self, kind: Kind, alive: Weak<()>) -> Result<()> {
        let exclusion = &self.exclusion;
        let _waiting = (kind == Kind::Cut).then(|| Waiting::new(exclusion));
        loop {
            let ended = exclusion.ended.changed();
            if alive.strong_count() == 0 {
                return Err(Error::Closed);
            }
            if exclusion.may_begin(kind) {
                let list = if kind == Kind::Cut { &exclusion.cuts } else { &exclusion.cut_overs };
                list.borrow_mut().push(alive);
                return Ok(());
            }
            future::or(ended, self.runtime().sleep(LOOK_EVERY)).await;
        }
    }

    /// Keeps cuts away as long as the answer lives.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) async fn exclude_cuts(self: &Rc<Self>) -> Result<std::sync::Arc<()>> {
        let alive = std::sync::Arc::new(());
        let kept = std::sync::Arc::downgrade(&alive);
        let wait = move |shard: Rc<Self>| async move { shard.exclude(Kind::CutOver, kept).await };
        self.on_control(crate::ids::ShardId(0), wait).await?;
        Ok(alive)
    }
}

impl<'a> Waiting<'a> {
    fn new(exclusion: &'a Exclusion) -> Self {
        exclusion.cuts_waiting.set(exclusion.cuts_waiting.get() + 1);
        Self(exclusion)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.cuts_waiting.set(self.0.cuts_waiting.get() - 1);
        self.0.ended.notify();
    }
}
