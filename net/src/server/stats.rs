//! What a shard's front has counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::command::rows::COMMANDS;
use crate::command::table::Id;

/// Counts since the start, or since CONFIG RESETSTAT. Of one thread.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) connections: Cell<u64>,
    pub(crate) rejected_connections: Cell<u64>,
    /// Clients closed because all held too much.
    pub(crate) evicted_clients: Cell<u64>,
    pub(crate) commands: Cell<u64>,
    pub(crate) errors: Cell<u64>,
    pub(crate) bytes_in: Cell<u64>,
    pub(crate) bytes_out: Cell<u64>,
    pub(crate) hits: Cell<u64>,
    pub(crate) misses: Cell<u64>,
    pub(crate) forwarded: Cell<u64>,
    /// Generations of hashes that nobody could reach, deleted.
    pub(crate) swept: Cell<u64>,
    calls: Vec<Cell<Calls>>,
    slow: RefCell<VecDeque<Slow>>,
    slow_id: Cell<u64>,
    /// The waits for the log that were events: seconds since 1970, milliseconds.
    waits: RefCell<VecDeque<(u64, u64)>>,
}

/// How often a command was called, and what that took.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Calls {
    pub(crate) count: u64,
    pub(crate) nanos: u64,
    pub(crate) failed: u64,
}

/// An entry of the slow log.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    pub(crate) id: u64,
    pub(crate) unix_seconds: u64,
    pub(crate) micros: u64,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) peer: String,
    pub(crate) name: String,
}

/// All counts at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) connections: u64,
    pub(crate) rejected_connections: u64,
    pub(crate) evicted_clients: u64,
    pub(crate) commands: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) forwarded: u64,
    pub(crate) swept: u64,
    /// In the order of the table.
    pub(crate) calls: Vec<Calls>,
}

/// LATENCY keeps so many spikes of an event, as Redis does.
const WAITS_MAX: usize = 160;

impl Default for Stats {
    fn default() -> Self {
        Self {
            connections: Cell::default(),
            rejected_connections: Cell::default(),
            evicted_clients: Cell::default(),
            commands: Cell::default(),
            errors: Cell::default(),
            bytes_in: Cell::default(),
            bytes_out: Cell::default(),
            hits: Cell::default(),
            misses: Cell::default(),
            forwarded: Cell::default(),
            swept: Cell::default(),
            calls: vec![Cell::default(); COMMANDS.len()],
            slow: RefCell::default(),
            slow_id: Cell::default(),
            waits: RefCell::default(),
        }
    }
}

/// Adds to a count.
pub(crate) fn add(count: &Cell<u64>, n: u64) {
    count.set(count.get().wrapping_add(n));
}

impl Stats {
    /// A command ran.
    #[inline]
    pub(crate) fn called(&self, id: Id, nanos: u64, failed: bool) {
        add(&self.commands, 1);
        add(&self.errors, u64::from(failed));
        let calls = &self.calls[id as usize];
        let Calls { count, nanos: before, failed: failures } = calls.get();
        calls.set(Calls { count: count + 1, nanos: before + nanos, failed: failures + u64::from(failed) });
    }

    /// The counts so far.
    pub(crate) fn counted(&self) -> Counted {
        Counted {
            connections: self.connections.get(),
            rejected_connections: self.rejected_connections.get(),
            evicted_clients: self.evicted_clients.get(),
            commands: self.commands.get(),
            errors: self.errors.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            hits: self.hits.get(),
            misses: self.misses.get(),
            forwarded: self.forwarded.get(),
            swept: self.swept.get(),
            calls: self.calls.iter().map(Cell::get).collect(),
        }
    }

    /// Begins anew, slow log and latency aside.
    pub(crate) fn reset(&self) {
        for count in [
            &self.connections,
            &self.rejected_connections,
            &self.evicted_clients,
            &self.commands,
            &self.errors,
            &self.bytes_in,
            &self.bytes_out,
            &self.hits,
            &self.misses,
            &self.forwarded,
            &self.swept,
        ] {
            count.set(0);
        }
        self.calls.iter().for_each(|calls| calls.set(Calls::default()));
    }

    /// Keeps a slow command; `entries_max` of them.
    pub(crate) fn was_slow(&self, mut entry: Slow, entries_max: usize) {
        entry.id = self.slow_id.replace(self.slow_id.get() + 1);
        let mut slow = self.slow.borrow_mut();
        slow.push_front(entry);
        slow.truncate(entries_max);
    }

    /// The slow log, newest first.
    pub(crate) fn slow(&self) -> Vec<Slow> {
        self.slow.borrow().iter().cloned().collect()
    }

    /// Empties it.
    pub(crate) fn forget_slow(&self) {
        self.slow.borrow_mut().clear();
    }

    /// A wait for the log was long.
    pub(crate) fn waited(&self, unix_seconds: u64, millis: u64) {
        let mut waits = self.waits.borrow_mut();
        match waits.back_mut() {
            // One spike a second, the longest: as Redis has it.
            Some((second, longest)) if *second == unix_seconds => *longest = millis.max(*longest),
            _ => waits.push_back((unix_seconds, millis)),
        }
        if waits.len() > WAITS_MAX {
            waits.pop_front();
        }
    }

    /// The long waits, oldest first.
    pub(crate) fn waits(&self) -> Vec<(u64, u64)> {
        self.waits.borrow().iter().copied().collect()
    }

    /// Forgets them; whether there were any.
    pub(crate) fn forget_waits(&self) -> bool {
        let mut waits = self.waits.borrow_mut();
        let any = !waits.is_empty();
        waits.clear();
        any
    }
}
