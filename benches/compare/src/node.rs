//! A node on a core, over a store of its own: what most programs here measure.

use std::net::SocketAddr;
use std::path::Path;

use crate::Result;
use crate::child::Program;
use crate::server::{Server, empty, free_address};

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
        let (address, admin) = (free_address()?, free_address()?);
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
