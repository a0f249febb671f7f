//! What clients make the server hold: commands that are not complete, replies that are not read, what MULTI has queued.
//!
//! Each client has bounds of its own; here is the one for all of them together. Where it is exceeded, those that hold most
//! are closed, of those on the shard that noticed.
//!
//! Invariant: nobody is closed who holds no more than an equal share of half the bound, so that one who hoards on another
//! shard has nobody closed but himself. So all of them together never hold much more than one and a half times the bound.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::clients::Client;
use super::front::Front;
use super::stats::add;

/// Holdings are counted in steps of this: what an ordinary client holds is none, and costs nothing to count.
const STEP_BYTES: usize = 16 << 10;

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
