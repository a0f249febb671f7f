//! A node filled with rows, killed, and started again: what `restart` and `memory` do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::child::Program;
use crate::load;
use crate::server::{Server, empty, free_address};

/// Keys have 24 bytes: this, and the twelve digits of the load generator's numbers.
const PREFIX: &str = "filled:rows:";
const VALUE_BYTES: u64 = 100;
/// Bytes of a key and of its value.
pub const ROW_BYTES: u64 = PREFIX.len() as u64 + 12 + VALUE_BYTES;
/// Compaction may hold writers up, and somebody the whole machine: no reason to give the fill up.
const PAUSE_MS_MAX: &str = "300000";
/// Filling is given as long as a slow device takes for all keys: 5,000 a second.
const KEYS_PER_SECOND_MIN: u64 = 5_000;
/// A read of a row that takes longer has failed.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A store in a directory, and how a node is started over it.
#[derive(Debug)]
pub struct Filled {
    foreshard: PathBuf,
    store: PathBuf,
    shards: u32,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Filled {
    /// An empty store in `dir`, for a node with `settings` (TOML).
    pub fn new(foreshard: PathBuf, dir: &Path, shards: u32, settings: &str) -> Result<Self> {
        let store = dir.join("store");
        empty(&store)?;
        std::fs::write(store.join("node.toml"), settings)?;
        Ok(Self { foreshard, store, shards, listen: free_address()?, admin: free_address()? })
    }

    /// Starts the node and waits for its first answer to a PING.
    pub fn start(&self) -> Result<Server> {
        let mut node = Program::new(&self.foreshard, None);
        node.arguments(["node", "--shards", &self.shards.to_string(), "--listen", &self.listen.to_string()]);
        node.arguments(["--admin", &self.admin.to_string(), "--config"])
            .argument(self.store.join("node.toml"));
        node.argument("--data").argument(self.store.join("data")).log(&self.store.join("said"))?;
        Server::start(&mut node, self.listen)
    }

    /// Puts `keys` rows, each once.
    pub fn fill(&self, keys: u64) -> Result<()> {
        let mut generator = load::generator(&self.foreshard, None, self.listen);
        generator.arguments(["--prefix", PREFIX, "--keys", &keys.to_string()]);
        generator.arguments(["--value-bytes", &VALUE_BYTES.to_string(), "--connections", "50"]);
        generator.arguments(["--pipeline", "16", "--fill", "--seconds", "0", "--timeout-ms", PAUSE_MS_MAX]);
        let said = load::run(&mut generator, (keys / KEYS_PER_SECOND_MIN) as f64)?;
        let done = said.phase("fill").map_or(0, |phase| phase.operations);
        if said.status != 0 || done != keys {
            return Err(format!("filled {done} of {keys} keys: {said:?}").into());
        }
        Ok(())
    }

    /// Reads row `number`; that there is none is an error.
    pub fn read(&self, number: u64) -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.listen, ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(format!("GET {PREFIX}{number:012}\r\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        if answer.trim_end() != format!("${VALUE_BYTES}") {
            return Err(format!("row {number}: {answer:?} is not a value of {VALUE_BYTES} bytes").into());
        }
        Ok(())
    }

    /// Bytes of all files of the store as the file system counts them, and of its logs.
    pub fn bytes(&self) -> Result<(u64, u64)> {
        let data = self.store.join("data");
        Ok((bytes_in(&data)?, bytes_in(&data.join("wal"))?))
    }

    /// Removes the store.
    pub fn remove(self) -> Result<()> {
        Ok(std::fs::remove_dir_all(&self.store)?)
    }
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_in(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
