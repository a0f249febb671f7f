//! Whose turn it is to change partitions, and which partitions moves keep away from meanwhile. Kept at the table's shard.
//!
//! Invariants:
//! - one change of partitions at a time;
//! - from its turn on no move from or to its partitions is opened; it goes ahead when none is open, those included whose
//!   opening was asked for before;
//! - whoever goes away gives its turn up, also from another thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Weak;
use std::time::Duration;

use super::Shard;
use crate::error::{Error, Result};
use crate::ids::{PartitionId, ReshapeId, TableVersion};

/// Whoever goes away on another thread tells nobody: so often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Moves that are under way are waited for. One that copies for longer is cancelled by whoever wants the split more.
const MOVES_TIME_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    last: Cell<u64>,
    current: RefCell<Option<(Vec<PartitionId>, Weak<()>)>>,
    /// Moves whose opening the table has been asked for, and has not answered.
    beginning: Rc<Cell<usize>>,
}

/// A move whose opening the table is asked for.
#[derive(Debug)]
pub(in super::super) struct Beginning(Rc<Cell<usize>>);

impl Reservations {
    pub(super) fn number(&self) -> ReshapeId {
        self.last.set(self.last.get() + 1);
        ReshapeId(self.last.get())
    }

    fn is_free(&self) -> bool {
        let mut current = self.current.borrow_mut();
        if current.as_ref().is_some_and(|(_, alive)| alive.strong_count() == 0) {
            *current = None;
        }
        current.is_none()
    }

    fn has(&self, partition: PartitionId) -> bool {
        !self.is_free() && self.current.borrow().as_ref().is_some_and(|(all, _)| all.contains(&partition))
    }
}

impl super::Reshapes {
    /// A move is about to be opened, as long as the answer lives.
    ///
    /// # Errors
    /// [`Error::TryAgain`] while one of its partitions is about to change.
    pub(in super::super) fn begin_move(&self, from: PartitionId, to: PartitionId) -> Result<Beginning> {
        let reservations = &self.reservations;
        match [from, to].into_iter().find(|id| reservations.has(*id)) {
            Some(id) => {
                Err(Error::try_again(format!("partition {id} is being split, merged or handed over")))
            }
            None => Ok(Beginning::of(&reservations.beginning)),
        }
    }
}

impl Shard {
    /// Waits for the turn to change `partitions`, which lasts as long as `alive` lives, and until no move from or to them is
    /// open. The table's version then. Of the first shard.
    ///
    /// # Errors
    /// [`Error::Closed`] when whoever asked has gone; [`Error::TryAgain`] when a move does not end.
    pub(super) async fn reserve(
        self: &Rc<Self>,
        partitions: Vec<PartitionId>,
        alive: Weak<()>,
    ) -> Result<TableVersion> {
        let reservations = &self.reshapes.reservations;
        while !reservations.is_free() {
            if alive.strong_count() == 0 {
                return Err(Error::Closed);
            }
            self.runtime().sleep(LOOK_EVERY).await;
        }
        *reservations.current.borrow_mut() = Some((partitions.clone(), alive));
        let until = self.runtime().now().after(MOVES_TIME_MAX);
        loop {
            let image = self.table()?.image();
            let is_its = |id| partitions.contains(id);
            let open = image.open_moves().iter().find(|(_, open)| is_its(&open.from) || is_its(&open.to));
            let Some((id, open)) = open else {
                if reservations.beginning.get() == 0 {
                    return Ok(image.version());
                }
                self.runtime().sleep(LOOK_EVERY).await;
                continue;
            };
            if self.runtime().now() >= until {
                *reservations.current.borrow_mut() = None;
                let entity = open.entity.escape_ascii();
                return Err(Error::try_again(format!(
                    "move {id} of entity \"{entity}\" has not ended in {MOVES_TIME_MAX:?}: cancel it, or wait for it"
                )));
            }
            self.runtime().sleep(LOOK_EVERY).await;
        }
    }
}

impl Beginning {
    fn of(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
