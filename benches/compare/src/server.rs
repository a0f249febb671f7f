//! A server under test: where it listens, how it is started, since when it answers.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::child::{Child, Program};
use crate::{Result, machine};

/// The largest store used here opens in seconds; longer is a hang.
const START_MAX: Duration = Duration::from_secs(60);
/// Between two tries to reach a server that is starting: what a restart time is exact to.
const TRY_EVERY: Duration = Duration::from_millis(1);
/// The whole workspace from nothing takes some minutes on two cores.
const BUILD_MAX: Duration = Duration::from_secs(1800);
/// An answer to a PING that takes longer is none, and is asked for again.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Below the ports that the kernel gives to clients: one of those that reconnect could be given the port of a server
/// that is down, and would then be connected with itself.
const PORTS: std::ops::Range<u16> = 21_000..29_000;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// From its start to its first answer.
    pub started_in: Duration,
}

impl Server {
    /// Starts it and waits until it answers at `address`.
    pub fn start(program: &mut Program, address: SocketAddr) -> Result<Self> {
        let begin = Instant::now();
        let mut child = program.start()?;
        loop {
            if is_answering(address) {
                return Ok(Self { child, address, started_in: begin.elapsed() });
            }
            if let Some(status) = child.ended()? {
                return Err(format!("the server ended before it answered: {status}").into());
            }
            if begin.elapsed() > START_MAX {
                return Err(format!("the server did not answer at {address} within {START_MAX:?}").into());
            }
            std::thread::sleep(TRY_EVERY);
        }
    }

    /// As [`Server::start`]; what it says goes to `log`, and into the error where it does not come to answer.
    pub fn start_heard(program: &mut Program, address: SocketAddr, log: &Path) -> Result<Self> {
        Self::start(program.log(log)?, address).map_err(|e| {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            format!("{e}\n{said}").into()
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

/// Whether there is one that serves: Redis says -LOADING while it does not, and a PING is +PONG from then on.
fn is_answering(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ask().unwrap_or(false)
}

/// An address of this machine that nobody listens at, and that was not given before.
pub fn free_address() -> Result<SocketAddr> {
    // How many this process has asked for: a server that was killed may close its port a little after it ended, and whoever
    // comes next must not be taken for it.
    static ASKED: AtomicU16 = AtomicU16::new(0);
    // Runs beside each other begin at different places, so that they do not race for one port.
    let width = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() % u32::from(width))?;
    for _ in 0..width {
        let nth = ASKED.fetch_add(1, Ordering::Relaxed) % width;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + (first + nth) % width));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(format!("every port of {PORTS:?} is taken").into())
}

/// The `foreshard` to run: the one that was `given`, or else one built here.
pub fn program(given: Option<PathBuf>) -> Result<PathBuf> {
    given.map_or_else(build, Ok)
}

/// Builds the `foreshard` program, beside this one and in its profile; cargo does nothing where nothing has changed.
fn build() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("foreshard");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut cargo = Program::new("cargo", None);
    cargo.arguments(["build", "--profile", machine::PROFILE, "--package", "foreshard", "--manifest-path"]);
    cargo.argument(manifest);
    let (status, _nothing) = cargo.heard().run(BUILD_MAX)?;
    if !status.success() || !path.exists() {
        return Err(format!(
            "cargo build --profile {} --package foreshard: {status}; {} is what is run, name another with --foreshard",
            machine::PROFILE,
            path.display()
        )
        .into());
    }
    Ok(path)
}

/// Empties a directory, making it if it is not there.
pub fn empty(dir: &Path) -> Result<()> {
    let told = |e: std::io::Error| format!("{}: {e}", dir.display());
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(told)?;
    }
    Ok(std::fs::create_dir_all(dir).map_err(told)?)
}
