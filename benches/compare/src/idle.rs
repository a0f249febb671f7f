//! Connections that say something once and nothing any more.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Result;

/// An answer that takes longer is none.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Of what each says and hears when it connects: as much as makes a server take buffers, which it should not keep.
const SAID_BYTES: usize = 16 << 10;

/// Open connections.
#[derive(Debug)]
pub struct Idle {
    streams: Vec<TcpStream>,
}

impl Idle {
    /// Connects `count` times; each has a long PING answered.
    pub fn connect(server: SocketAddr, count: usize) -> Result<Self> {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        let mut streams = Vec::with_capacity(count);
        let said = "p".repeat(SAID_BYTES);
        for n in 0..count {
            let stream = TcpStream::connect_timeout(&server, ANSWER_MAX)
                .map_err(|e| format!("connection {n} of {count}: {e} (ulimit -n: {maximum:?})"))?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            streams.push(stream);
        }
        let mut idle = Self { streams };
        idle.ping(&said)?;
        Ok(idle)
    }

    /// Has every one of them answered once more: they are all there.
    pub fn ask(&mut self) -> Result<()> {
        self.ping("still there")
    }

    fn ping(&mut self, said: &str) -> Result<()> {
        let ask = format!("*2\r\n$4\r\nPING\r\n${}\r\n{said}\r\n", said.len());
        let expected = format!("${}\r\n{said}\r\n", said.len());
        let mut answer = vec![0; expected.len()];
        for (n, stream) in self.streams.iter_mut().enumerate() {
            let told = |e| format!("idle connection {n}: {e}");
            stream.write_all(ask.as_bytes()).map_err(told)?;
            stream.read_exact(&mut answer).map_err(told)?;
            if answer != expected.as_bytes() {
                return Err(format!("idle connection {n}: its PING was not answered as it should be").into());
            }
        }
        Ok(())
    }
}
