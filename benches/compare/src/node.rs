//! A node on a core, over a store of its own: what most programs here measure.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::Result;
use crate::child::Program;
use crate::server::{Server, empty, free_address};

/// Nodes that this process has started.
static STARTED: AtomicU16 = AtomicU16::new(0);
/// How far their admin ports lie behind those for clients.
const ADMIN_PORTS: u16 = 500;

/// A node that runs, and its admin address.
#[derive(Debug)]
pub struct Node {
    /// The process, and where it serves clients.
    pub server: Server,
    /// Where it says how it is.
    pub admin: SocketAddr,
}

impl Node {
    /// Empties `store` and starts `foreshard` over it: one shard on `core`, with `settings` (TOML).
    pub fn start(
        foreshard: &Path,
        core: usize,
        store: &Path,
        partitions: u32,
        settings: &str,
    ) -> Result<Self> {
        empty(store)?;
        // A killed node's ports close a little after it: whoever heard an answer there would have heard the wrong one.
        let nth = STARTED.fetch_add(1, Ordering::Relaxed) % ADMIN_PORTS;
        let (address, admin) = (free_address(nth)?, free_address(ADMIN_PORTS + nth)?);
        let config = store.join("node.toml");
        std::fs::write(&config, settings)?;
        let mut program = Program::new(foreshard, Some(core));
        program.arguments(["node", "--shards", "1", "--partitions", &partitions.to_string()]);
        program.arguments(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        program.argument("--config").argument(config).argument("--data").argument(store.join("data"));
        let server = Server::start_heard(&mut program, address, &store.join("said"))?;
        Ok(Self { server, admin })
    }
}
