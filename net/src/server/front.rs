//! What one shard keeps of its clients, and how it takes them in.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foreshard_engine::io::ring::{Connection, Listener};
use foreshard_engine::io::runtime::{Runtime, Task};
use foreshard_engine::signal::Signal;
use foreshard_engine::{Result, Shard};

use super::clients::Client;
use super::config::Config;
use super::holdings::Building;
use super::round::Round;
use super::stats::{Stats, add};
use super::{connection, sweeper};

/// What all shards of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) shards: usize,
    pub(crate) connected: AtomicUsize,
    /// What all clients make the server hold.
    pub(crate) held_bytes: AtomicUsize,
}

impl Shared {
    pub(crate) const fn new(shards: usize) -> Self {
        Self { shards, connected: AtomicUsize::new(0), held_bytes: AtomicUsize::new(0) }
    }
}

/// One shard's part of the server.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: RefCell<Config>,
    pub(crate) clients: RefCell<BTreeMap<u64, Rc<Client>>>,
    pub(crate) stats: Stats,
    pub(super) building: Building,
    rounds: RefCell<Vec<Round>>,
    next_client: Cell<u64>,
    /// Connections that are being told that they may not come.
    refused: Cell<usize>,
    /// Told when a client has gone.
    left: Signal,
    is_stopping: Cell<bool>,
    tasks: RefCell<Vec<Task<()>>>,
}

/// Idle connections are looked for this often: a timeout is given in seconds.
const SILENCE_LOOK: Duration = Duration::from_secs(1);
/// Rounds kept for the next commands: more are in use only where commands wait.
const ROUNDS_KEPT: usize = 8;
/// So many refused connections at once are told why; a flood of more is closed without a word.
const REFUSED_MAX: usize = 64;
/// Out of descriptors: some come back when clients leave.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Front {
    /// Listens on this shard, and says where.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(crate) fn start(shard: &Rc<Shard>, config: Config, shared: Arc<Shared>) -> Result<SocketAddr> {
        let listener = shard.listen(config.listen)?;
        let address = listener.address();
        let front = Rc::new(Self {
            shared,
            config: RefCell::new(Config { listen: address, ..config }),
            clients: RefCell::default(),
            stats: Stats::default(),
            building: Building::default(),
            rounds: RefCell::default(),
            next_client: Cell::new(1 + u64::from(shard.id().0)),
            refused: Cell::new(0),
            left: Signal::default(),
            is_stopping: Cell::new(false),
            tasks: RefCell::default(),
        });
        let accepting = shard.runtime().spawn(accept(Rc::clone(&front), Rc::clone(shard), listener));
        let watching = shard.runtime().spawn(end_silence(Rc::downgrade(&front), shard.runtime().clone()));
        let reclaiming = sweeper::run(Rc::downgrade(&front), Rc::downgrade(shard));
        let reclaiming = shard.runtime().spawn(reclaiming);
        *front.tasks.borrow_mut() = vec![accepting, watching, reclaiming];
        shard.attach(Some(front));
        Ok(address)
    }

    /// Accepts nobody any more.
    pub(crate) fn refuse(&self) {
        self.is_stopping.set(true);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
    }

    /// Whether connections end after the commands they have sent.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Closes all connections, the busy ones once they have their replies or `patience` is over.
    pub(crate) async fn drain(&self, runtime: &Runtime, patience: Duration) {
        let deadline = runtime.now().after(patience);
        self.each(|client| if client.is_busy.get() { client.close_after_replies() } else { client.kill() });
        while !self.clients.borrow().is_empty() && runtime.now() < deadline {
            let left = self.left.changed();
            futures_lite::future::or(left, runtime.sleep_until(deadline)).await;
        }
        self.each(|client| client.kill());
    }

    /// Looks at every client.
    pub(crate) fn each(&self, f: impl FnMut(&Rc<Client>)) {
        let clients: Vec<Rc<Client>> = self.clients.borrow().values().cloned().collect();
        clients.iter().for_each(f);
    }

    /// A round to gather commands in.
    pub(crate) fn take_round(&self) -> Round {
        self.rounds.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a round for the next who wants one.
    pub(crate) fn give_back_round(&self, mut round: Round) {
        let mut rounds = self.rounds.borrow_mut();
        if rounds.len() < ROUNDS_KEPT {
            round.trim();
            rounds.push(round);
        }
    }

    /// A connection is taken in, if there is room and it may come.
    fn admit(self: &Rc<Self>, shard: &Rc<Shard>, connection: Connection) {
        let connection = Rc::new(connection);
        let Ok(peer) = connection.peer() else { return };
        let config = self.config.borrow();
        let refusal = if config.protected_mode
            && config.requirepass.is_empty()
            && !peer.ip().to_canonical().is_loopback()
        {
            Some(PROTECTED)
        } else if self.shared.connected.load(Ordering::Relaxed) >= config.maxclients {
            Some(CROWDED)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            add(&self.stats.rejected_connections, 1);
            if self.refused.get() < REFUSED_MAX {
                self.refused.set(self.refused.get() + 1);
                let (front, runtime) = (Rc::clone(self), shard.runtime().clone());
                let tell = async move {
                    if connection.send(refusal.as_bytes().to_vec()).await.1.is_ok() {
                        connection::linger(&connection, &runtime).await;
                    }
                    front.refused.set(front.refused.get() - 1);
                };
                shard.runtime().spawn(tell).detach();
            }
            return;
        }
        if let Some(idle) = config.keep_alive()
            && let Err(e) = connection.keep_alive(idle)
        {
            tracing::debug!("{peer} is not probed: {e}");
        }
        drop(config);
        add(&self.stats.connections, 1);
        self.shared.connected.fetch_add(1, Ordering::Relaxed);
        let id = self.next_client.replace(self.next_client.get() + self.shared.shards as u64);
        let client = Rc::new(Client::new(id, Rc::clone(&connection), peer, shard.runtime().now()));
        self.clients.borrow_mut().insert(id, Rc::clone(&client));
        let guard = Place { front: Rc::clone(self), id };
        let serving = connection::serve(guard, Rc::clone(shard), connection, client);
        shard.runtime().spawn(shard.runtime().named("connection", Box::pin(serving))).detach();
    }
}

/// A client's place among the others, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) front: Rc<Front>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = self.front.clients.borrow_mut().remove(&self.id);
        gone.iter().for_each(|client| self.front.holds_nothing(client));
        drop(gone);
        self.front.shared.connected.fetch_sub(1, Ordering::Relaxed);
        self.front.left.notify();
    }
}

async fn accept(front: Rc<Front>, shard: Rc<Shard>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(connection) => front.admit(&shard, connection),
            Err(e) => {
                tracing::warn!("no connection is accepted for {ACCEPT_PAUSE:?}: {e}");
                shard.runtime().sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes connections that were silent for too long.
async fn end_silence(front: std::rc::Weak<Front>, runtime: Runtime) {
    loop {
        runtime.sleep(SILENCE_LOOK).await;
        let Some(front) = front.upgrade() else { return };
        let timeout = front.config.borrow().timeout;
        if timeout > 0 {
            let now = runtime.now();
            front.each(|client| {
                if !client.is_busy.get() && now.since(client.seen.get()) > Duration::from_secs(timeout) {
                    client.kill();
                }
            });
        }
    }
}

const CROWDED: &str = "-ERR max number of clients reached\r\n";
const PROTECTED: &str = "-DENIED foreshard runs in protected mode: it has no password, so that only clients of this machine may \
    connect. To serve others, set one (requirepass) or turn protected mode off.\r\n";
