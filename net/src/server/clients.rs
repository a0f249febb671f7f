//! A shard's clients, as CLIENT LIST shows them.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use foreshard_engine::io::ring::Connection;
use foreshard_engine::io::runtime::Nanos;

use crate::data::fault::{Fault, Result};
use crate::resp::Protocol;

/// One connection, as others may look at it.
pub(crate) struct Client {
    /// Its number: never given twice by this server.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    connection: Rc<Connection>,
    name: RefCell<String>,
    pub(crate) library: RefCell<String>,
    pub(crate) library_version: RefCell<String>,
    since: Nanos,
    pub(crate) seen: Cell<Nanos>,
    /// The last command's name.
    pub(crate) command: Cell<&'static str>,
    pub(crate) protocol: Cell<Protocol>,
    pub(crate) no_evict: Cell<bool>,
    pub(crate) no_touch: Cell<bool>,
    /// Commands queued by MULTI; none outside of one.
    pub(crate) queued: Cell<Option<usize>>,
    pub(crate) input_bytes: Cell<usize>,
    pub(crate) output_bytes: Cell<usize>,
    /// What it makes the server hold, as it is counted for all clients together.
    pub(crate) held_bytes: Cell<usize>,
    /// Whether it has commands under way.
    pub(crate) is_busy: Cell<bool>,
    /// How its connection is to end, if it is.
    pub(crate) ending: Cell<Option<Ending>>,
}

/// How a client's connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// Once its replies are sent: it reads them, and then that there are no more.
    AfterReplies,
    /// The same, but a peer that sends on is reset: it is one that makes the server hold too much.
    AfterRefusal,
    /// At once. Where it is not read from, or holds too much, it is reset.
    Now,
}

/// Which clients CLIENT KILL or CLIENT LIST means.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) ids: Option<Vec<u64>>,
    pub(crate) peer: Option<String>,
    pub(crate) local: Option<String>,
    pub(crate) user: Option<String>,
    /// Whether the caller, by its number, is spared.
    pub(crate) spared: Option<u64>,
    /// Nobody: a type of client that there is not.
    pub(crate) nobody: bool,
}

impl Client {
    pub(crate) fn new(id: u64, connection: Rc<Connection>, peer: SocketAddr, now: Nanos) -> Self {
        let local = connection.local().unwrap_or(peer);
        Self {
            id,
            peer,
            local,
            connection,
            name: RefCell::default(),
            library: RefCell::default(),
            library_version: RefCell::default(),
            since: now,
            seen: Cell::new(now),
            command: Cell::new("NULL"),
            protocol: Cell::new(Protocol::Resp2),
            no_evict: Cell::new(false),
            no_touch: Cell::new(false),
            queued: Cell::new(None),
            input_bytes: Cell::new(0),
            output_bytes: Cell::new(0),
            held_bytes: Cell::new(0),
            is_busy: Cell::new(false),
            ending: Cell::new(None),
        }
    }

    /// The name it gave itself.
    pub(crate) fn name(&self) -> String {
        self.name.borrow().clone()
    }

    /// Names it.
    ///
    /// # Errors
    /// For a name that would break a line of the list.
    pub(crate) fn set_name(&self, name: &[u8]) -> Result<()> {
        let name = printable(name)
            .ok_or(Fault::text("ERR Client names cannot contain spaces, newlines or special characters."))?;
        *self.name.borrow_mut() = name;
        Ok(())
    }

    /// Whether it is to be closed.
    pub(crate) const fn is_closing(&self) -> bool {
        self.ending.get().is_some()
    }

    /// Whether nothing is sent to it any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.ending.get() == Some(Ending::Now)
    }

    /// Closes it when it has its replies.
    pub(crate) fn close_after_replies(&self) {
        if !self.is_closing() {
            self.ending.set(Some(Ending::AfterReplies));
        }
    }

    /// Closes it at once.
    pub(crate) fn kill(&self) {
        self.ending.set(Some(Ending::Now));
        if self.is_busy.get() {
            // It is not read from while it is: see `Connection::reset`.
            self.connection.reset();
        } else {
            self.connection.shutdown();
        }
    }

    /// Closes it because it holds too much: at once, unless it is the one that is being told so.
    pub(crate) fn evict(&self, is_told: bool) {
        if is_told {
            self.ending.set(Some(Ending::AfterRefusal));
        } else {
            self.ending.set(Some(Ending::Now));
            self.connection.reset();
        }
    }

    /// Its line in the list, without a line end.
    pub(crate) fn line(&self, now: Nanos) -> String {
        let mut flags = String::new();
        if self.queued.get().is_some() {
            flags.push('x');
        }
        if self.no_evict.get() {
            flags.push('e');
        }
        if self.no_touch.get() {
            flags.push('T');
        }
        if self.is_closing() {
            flags.push('c');
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let mut line = String::new();
        let multi = self.queued.get().map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
        // Writing to a string does not fail.
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi={multi} \
             qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem=0 tot-mem={} events=r cmd={} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            self.connection.number(),
            self.name.borrow(),
            now.since(self.since).as_secs(),
            now.since(self.seen.get()).as_secs(),
            self.input_bytes.get(),
            self.output_bytes.get(),
            self.input_bytes.get() + self.output_bytes.get(),
            self.command.get(),
            if self.protocol.get() == Protocol::Resp3 { 3 } else { 2 },
            self.library.borrow(),
            self.library_version.borrow(),
        );
        line
    }
}

impl Filter {
    /// Whether it means this client.
    pub(crate) fn admits(&self, client: &Client) -> bool {
        !self.nobody
            && self.spared != Some(client.id)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
            && self.peer.as_ref().is_none_or(|peer| *peer == client.peer.to_string())
            && self.local.as_ref().is_none_or(|local| *local == client.local.to_string())
            && self.user.as_ref().is_none_or(|user| user == "default")
    }
}

/// Text that fits between two blanks.
pub(crate) fn printable(text: &[u8]) -> Option<String> {
    text.iter().all(|b| b.is_ascii_graphic()).then(|| String::from_utf8_lossy(text).into_owned())
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}
