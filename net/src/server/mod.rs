//! The server: connections on every shard's own ring.
//!
//! Each shard listens at the same address, and the kernel spreads the clients. `front` is what a shard keeps of its
//! clients, `holdings` bounds what they make it hold, `connection` is the loop of one of them, `round` the commands that
//! arrived together, `session` what happens to each, `route` how it reaches the
//! shard that owns its keys. Shards share a few atomic counts and send each other jobs; nothing else.

pub(crate) mod clients;
pub mod config;
pub(crate) mod connection;
pub(crate) mod front;
mod holdings;
pub(crate) mod report;
mod round;
pub(crate) mod route;
pub(crate) mod session;
pub(crate) mod stats;
mod sweeper;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foreshard_engine::ids::ShardId;
use foreshard_engine::{Error, Result, Shard, Store};

use self::config::Config;
use self::front::{Front, Shared};

/// What clients take us for: the version whose replies these are.
pub(crate) const REDIS_VERSION: &str = "7.2.0";

/// A store that is being served.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shards: usize,
}

impl Server {
    /// Listens on all shards of `store`.
    ///
    /// # Errors
    /// When the address cannot be had: nothing listens then.
    pub fn start(store: &Store, shards: usize, config: Config) -> Result<Self> {
        probe(config.listen)?;
        let shared = Arc::new(Shared::new(shards));
        let mut server = Self { address: config.listen, shards: 0 };
        for n in 0..shards {
            let (shared, config) = (Arc::clone(&shared), Config { listen: server.address, ..config.clone() });
            let started = store.on_shard(n, move |shard| async move { Front::start(&shard, config, shared) });
            match started.flatten() {
                Ok(address) => server = Self { address, shards: n + 1 },
                Err(e) => {
                    server.stop(store, Duration::ZERO)?;
                    return Err(e);
                }
            }
        }
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nobody any more, lets clients have their answers to what they sent, for at most `patience`, and closes
    /// their connections.
    ///
    /// # Errors
    /// [`Error::Closed`] when the store is closed.
    pub fn stop(&self, store: &Store, patience: Duration) -> Result<()> {
        // All stop accepting before any waits.
        for n in 0..self.shards {
            store.on_shard(n, |shard| async move { with_front(&shard, |front| front.refuse()) })?;
        }
        for n in 0..self.shards {
            store.on_shard(n, move |shard| async move {
                if let Some(front) = shard.attached::<Front>() {
                    front.drain(shard.runtime(), patience).await;
                }
                shard.attach(None);
            })?;
        }
        Ok(())
    }
}

/// Refuses an address that another process listens at: shards share theirs (SO_REUSEPORT), and so would two servers of
/// one user, each getting a part of the clients.
fn probe(address: SocketAddr) -> Result<()> {
    match std::net::TcpListener::bind(address) {
        Ok(_closed) => Ok(()),
        Err(e) => Err(Error::io("listen", Path::new(&format!("tcp:{address}")), e)),
    }
}

fn with_front(shard: &Rc<Shard>, f: impl FnOnce(&Front)) {
    if let Some(front) = shard.attached::<Front>() {
        f(&front);
    }
}

/// Asks every shard's front, in their order.
///
/// # Errors
/// When a shard is not served any more.
pub(crate) async fn on_all<T: Send + 'static>(
    shard: &Rc<Shard>,
    front: &Front,
    ask: impl Fn(&Rc<Shard>, &Front) -> T + Clone + Send + 'static,
) -> Result<Vec<T>> {
    let mut answers = Vec::with_capacity(front.shared.shards);
    for n in 0..front.shared.shards {
        let ask = ask.clone();
        let work = move |shard: Rc<Shard>| async move { Ok(ask(&shard, &*front_of(&shard)?)) };
        let id = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
        answers.push(shard.on_shard(id, work).await?);
    }
    Ok(answers)
}

/// The front of this shard.
///
/// # Errors
/// [`Error::Closed`] when it is not served any more.
pub(crate) fn front_of(shard: &Shard) -> Result<Rc<Front>> {
    shard.attached::<Front>().ok_or(Error::Closed)
}
