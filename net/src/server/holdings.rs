//! What clients make the server hold: commands that are not complete, replies that are not read, what MULTI has queued.
//!
//! Each client has bounds of its own; here is the one for all of them together. Where it is exceeded, those that hold most
//! are closed, of those on the shard that noticed.
//!
//! A reply is counted when it is whole. So that commands which build long ones side by side do not hold many times the
//! bound meanwhile, they run so many at once as are expected to build a part of it; what is expected of a command is
//! what its replies were of late. Those whose replies are short never wait.
//!
//! Invariant: nobody is closed who holds no more than an equal share of half the bound, so that one who hoards on another
//! shard has nobody closed but himself. So all of them together never hold much more than one and a half times the bound.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use foreshard_engine::signal::Signal;

use super::clients::Client;
use super::front::Front;
use super::stats::add;
use crate::command::rows::COMMANDS;
use crate::command::table::Id;

/// Holdings are counted in steps of this: what an ordinary client holds is none, and costs nothing to count.
const STEP_BYTES: usize = 16 << 10;

/// All shards' replies that are being built may be expected to take this part of the bound; or one of each shard, whatever
/// it takes.
const BUILT_PART: usize = 2;
/// What is expected of a command falls by this part with each shorter reply.
const FORGOTTEN_PART: usize = 64;

/// Replies that are being built on a shard.
#[derive(Debug)]
pub(crate) struct Building {
    /// Of each command, what its replies took of late. 0: they are short; none: nobody knows before the first.
    expected: RefCell<Vec<Option<usize>>>,
    bytes: Cell<usize>,
    ended: Signal,
}

impl Default for Building {
    fn default() -> Self {
        Self {
            expected: RefCell::new(vec![None; COMMANDS.len()]),
            bytes: Cell::new(0),
            ended: Signal::default(),
        }
    }
}

/// Room for a reply while it is built.
#[derive(Debug)]
pub(super) struct Room {
    front: Rc<Front>,
    id: Id,
    bytes: usize,
}

impl Room {
    /// Waits for the room that a command's reply is expected to take.
    pub(super) async fn of(front: &Rc<Front>, id: Id) -> Self {
        let building = &front.building;
        let most = front.config.borrow().maxmemory_clients / BUILT_PART / front.shared.shards;
        let bytes = building.expected.borrow()[id as usize].unwrap_or(most);
        if bytes > 0 {
            let fits = || most == 0 || building.bytes.get() == 0 || building.bytes.get() + bytes <= most;
            building.ended.until(fits).await;
        }
        building.bytes.set(building.bytes.get() + bytes);
        Self { front: Rc::clone(front), id, bytes }
    }

    /// The reply is built, and counted from here on.
    pub(super) fn built(self, bytes: usize) {
        let mut all = self.front.building.expected.borrow_mut();
        let expected = &mut all[self.id as usize];
        let before = expected.unwrap_or(0);
        let next = bytes.max(before - before.div_ceil(FORGOTTEN_PART));
        *expected = Some(if next < STEP_BYTES { 0 } else { next });
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let building = &self.front.building;
            building.bytes.set(building.bytes.get() - self.bytes);
            building.ended.notify();
        }
    }
}

impl Front {
    /// `client` holds so many bytes. False when it has to go: its caller tells it so.
    pub(super) fn may_hold(&self, client: &Client, bytes: usize) -> bool {
        let (before, bytes) = (client.held_bytes.get(), bytes / STEP_BYTES * STEP_BYTES);
        if bytes == before || client.is_closing() {
            return true;
        }
        client.held_bytes.set(bytes);
        self.shared.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.held_bytes.fetch_sub(before, Ordering::Relaxed);
        bytes < before || !self.evict(client.id)
    }

    /// A client is gone, or going.
    pub(super) fn holds_nothing(&self, client: &Client) {
        self.shared.held_bytes.fetch_sub(client.held_bytes.take(), Ordering::Relaxed);
    }

    /// Closes clients until the others are within the bound; whether `asking` is one that has to go.
    fn evict(&self, asking: u64) -> bool {
        let most = self.config.borrow().maxmemory_clients;
        while most > 0 && self.shared.held_bytes.load(Ordering::Relaxed) > most {
            let share = most / 2 / self.shared.connected.load(Ordering::Relaxed).max(1);
            let Some(client) = self.largest(share) else { return false };
            add(&self.stats.evicted_clients, 1);
            tracing::debug!("client {} at {} is evicted", client.id, client.peer);
            self.holds_nothing(&client);
            client.evict(client.id == asking);
            if client.id == asking {
                return true;
            }
        }
        false
    }

    /// Who holds most, and more than `share`, of those that may be closed.
    fn largest(&self, share: usize) -> Option<Rc<Client>> {
        let clients = self.clients.borrow();
        let admitted = clients.values().filter(|client| {
            client.held_bytes.get() > share && !client.no_evict.get() && !client.is_closing()
        });
        admitted.max_by_key(|client| client.held_bytes.get()).cloned()
    }
}
