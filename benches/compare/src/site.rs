//! Where a measurement is made: the program, a core for its server, another for its client, and a store's directory.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::server::program;
use crate::{Result, machine};

/// Which cores and which program, as the command line says.
#[derive(Args, Debug)]
pub struct Choice {
    /// The server's core; the last one if not given.
    #[arg(long)]
    server_core: Option<usize>,
    /// The client's; the one before the server's if not given.
    #[arg(long)]
    client_core: Option<usize>,
    /// A `foreshard` to run, server and load generator; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
}

/// Where a measurement is made.
#[derive(Debug)]
pub struct Site {
    /// The program.
    pub foreshard: PathBuf,
    /// The server's core.
    pub server_core: usize,
    /// The client's.
    pub client_core: usize,
    /// Whoever starts a server empties it.
    pub store: PathBuf,
}

impl Choice {
    /// What was chosen, or is by default, with the store in `dir`.
    ///
    /// # Errors
    /// When server and client cannot have a core each, or the program cannot be built.
    pub fn site(&self, dir: &Path) -> Result<Site> {
        let (server_core, client_core) = machine::cores(self.server_core, self.client_core)?;
        let foreshard = program(self.foreshard.clone())?;
        Ok(Site { foreshard, server_core, client_core, store: dir.join("store") })
    }
}
