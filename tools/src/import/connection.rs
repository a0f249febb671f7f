//! A connection to a Redis-compatible server: commands out in batches, answers in one at a time.
//!
//! Invariants:
//! - answers come in the order of their commands; whoever sends counts them;
//! - memory is bounded by one batch out and by the largest answer in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::options::Address;
use crate::load::reply::{Parsed, Reply, parse};
use crate::load::request::command;
use crate::shell::Failure;

/// A server that is silent for longer is gone: a large value from a slow disk takes seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What is asked for at once.
const RECEIVE_BYTES: usize = 256 << 10;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    host: String,
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    /// Where in `input` the next answer begins.
    at: usize,
}

impl Connection {
    /// Connects, and is let in.
    pub(super) fn open(address: &Address, password_variable: &str) -> Result<Self, Failure> {
        let host = address.host.clone();
        let told = |e: std::io::Error| Failure::told(format!("connect to {host}: {e}"));
        let stream = TcpStream::connect(&address.host).map_err(told)?;
        stream.set_read_timeout(Some(SILENCE_MAX)).map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        let mut connection = Self { host: host.clone(), stream, out: Vec::new(), input: Vec::new(), at: 0 };
        if let Some(password) = address.password.clone().or_else(|| std::env::var(password_variable).ok()) {
            match &address.user {
                Some(user) => connection.must(&[b"AUTH", user.as_bytes(), password.as_bytes()])?,
                None => connection.must(&[b"AUTH", password.as_bytes()])?,
            }
        }
        if address.database != 0 {
            connection.must(&[b"SELECT", address.database.to_string().as_bytes()])?;
        }
        connection.must(&[b"PING"])?;
        Ok(connection)
    }

    /// Where it goes to.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Puts a command into the next batch.
    pub(super) fn put(&mut self, words: &[&[u8]]) {
        command(&mut self.out, words);
    }

    /// Bytes of the next batch so far.
    pub(super) fn pending_bytes(&self) -> usize {
        self.out.len()
    }

    /// Sends the batch.
    pub(super) fn send(&mut self) -> Result<(), Failure> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        sent.map_err(|e| Failure::told(format!("write to {}: {e}", self.host)))
    }

    /// The next answer, given to `take`.
    pub(super) fn next<T>(&mut self, take: impl FnOnce(Reply<'_>) -> T) -> Result<T, Failure> {
        let mut wanted = 1;
        loop {
            if self.input.len() - self.at >= wanted {
                match parse(&self.input[self.at..]) {
                    Ok(Parsed::Whole { bytes, .. }) => {
                        let end = self.at + bytes;
                        // Parsed again: the borrow of a reply cannot outlive the branch that returns it.
                        let taken = match parse(&self.input[self.at..end]) {
                            Ok(Parsed::Whole { reply, .. }) => take(reply),
                            Ok(Parsed::Partial { .. }) | Err(_) => unreachable!("it was whole"),
                        };
                        self.at = end;
                        return Ok(taken);
                    }
                    Ok(Parsed::Partial { bytes_min }) => wanted = bytes_min,
                    Err(e) => return Err(Failure::told(format!("not understood from {}: {e}", self.host))),
                }
            }
            self.receive()?;
        }
    }

    /// The answer to one command.
    pub(super) fn ask<T>(
        &mut self,
        words: &[&[u8]],
        take: impl FnOnce(Reply<'_>) -> T,
    ) -> Result<T, Failure> {
        self.put(words);
        self.send()?;
        self.next(take)
    }

    /// Sends one command that must not be refused.
    fn must(&mut self, words: &[&[u8]]) -> Result<(), Failure> {
        let refusal = self.ask(words, refusal)?;
        match refusal {
            None => Ok(()),
            Some(why) => {
                let name = words.first().copied().unwrap_or_default().escape_ascii();
                Err(Failure::told(format!("{} refused {name}: {why}", self.host)))
            }
        }
    }

    fn receive(&mut self) -> Result<(), Failure> {
        self.input.drain(..self.at);
        self.at = 0;
        let before = self.input.len();
        self.input.resize(before + RECEIVE_BYTES, 0);
        let read = self.stream.read(&mut self.input[before..]);
        self.input.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Failure::told(format!("{} closed the connection", self.host))),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(Failure::told(format!("read from {}: {e}", self.host))),
        }
    }
}

/// Why an answer is a refusal.
pub(super) fn refusal(reply: Reply<'_>) -> Option<String> {
    match reply {
        Reply::Error(why) => Some(String::from_utf8_lossy(why).into_owned()),
        Reply::Simple(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Null | Reply::Array(_) => None,
    }
}
