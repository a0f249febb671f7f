//! One socket: connecting, greeting, bytes out, answers in. Never waits.
//!
//! Where writes are verified, a connection that takes the place of a lost one first has the server close the lost one
//! (CLIENT KILL ADDR), so that nothing which was sent on it is executed after what follows.
//!
//! Invariants:
//! - memory for answers grows with what was received, never with what an answer claims;
//! - after `lost`, nothing of the old socket is left: no byte in, no byte out, no request on its way.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::client::Client;
use super::clock::{Nanos, SECOND};
use super::measure::Measure;
use super::reply::{Parsed, Reply, is_for_now, parse};
use super::request::command;

/// Two of the largest segments that loopback passes at once.
const INPUT_BYTES: usize = 128 << 10;
/// Between two attempts to connect.
const RETRY_PAUSE: Nanos = SECOND / 10;

/// What is said before the first request.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// The version of the protocol to ask for; none to ask for nothing.
    pub(crate) hello: Option<u8>,
    /// Lost connections are closed at the server too.
    pub(crate) fences: bool,
}

/// A connection and its conversation.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) state: State,
    /// It is among those that wait for a moment to come.
    pub(crate) is_queued: bool,
    pub(crate) ever_up: bool,
    /// Since when nothing works.
    pub(crate) down_since: Nanos,
    address: SocketAddr,
    token: u64,
    greeting: Arc<Greeting>,
    socket: Option<TcpStream>,
    /// The local address of a lost connection that the server may not have noticed.
    lost_address: Option<SocketAddr>,
    input: Vec<u8>,
    /// What was received and not yet taken lies here in `input`.
    input_from: usize,
    input_to: usize,
    /// There is no use in parsing fewer bytes.
    input_wanted: usize,
    output: Vec<u8>,
    output_from: usize,
    is_write_awaited: bool,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Down {
        retry_at: Nanos,
    },
    Connecting {
        since: Nanos,
    },
    /// So many greetings are not answered; the first `must` of them have to be granted.
    Greeting {
        since: Nanos,
        left: u32,
        must: u32,
    },
    Up,
    /// All is done, or it was lost and is not made again.
    Ended,
}

/// Why a connection is no more.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may be made again.
    Lost(String),
    /// Another attempt would end alike.
    Refused(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Lost(format!("connection lost: {error}"))
    }
}

impl Connection {
    pub(crate) fn new(client: Client, address: SocketAddr, token: u64, greeting: Arc<Greeting>) -> Self {
        Self {
            client,
            state: State::Down { retry_at: 0 },
            is_queued: false,
            ever_up: false,
            down_since: 0,
            address,
            token,
            greeting,
            socket: None,
            lost_address: None,
            input: vec![0; INPUT_BYTES],
            input_from: 0,
            input_to: 0,
            input_wanted: 1,
            output: Vec::new(),
            output_from: 0,
            is_write_awaited: false,
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self, epoll: &OwnedFd, now: Nanos) -> Result<(), Trouble> {
        let family = if self.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
        sockopt::set_tcp_nodelay(&socket, true).map_err(io::Error::from)?;
        match connect(&socket, &self.address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(Trouble::from(io::Error::from(error))),
        }
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::add(epoll, socket.as_fd(), epoll::EventData::new_u64(self.token), interest)
            .map_err(io::Error::from)?;
        self.is_write_awaited = true;
        self.socket = Some(TcpStream::from(socket));
        self.state = State::Connecting { since: now };
        Ok(())
    }

    /// Something happened at the socket: takes what is there to take.
    pub(crate) fn ready(&mut self, now: Nanos, measure: &mut Measure) -> Result<(), Trouble> {
        let Some(socket) = &self.socket else { return Ok(()) };
        if matches!(self.state, State::Connecting { .. }) {
            sockopt::socket_error(socket).map_err(io::Error::from)?.map_err(io::Error::from)?;
            if socket.peer_addr().is_err() {
                return Ok(()); // Not yet.
            }
            self.greet(now);
        }
        self.receive(measure)?;
        self.take_answers(now, measure)
    }

    fn greet(&mut self, now: Nanos) {
        let greeting = &*self.greeting;
        let out = &mut self.output;
        let user = greeting.user.as_deref().unwrap_or("default").as_bytes();
        let mut must = 1;
        match (greeting.hello, &greeting.password) {
            (Some(version), Some(password)) => {
                command(out, &[b"HELLO", version.to_string().as_bytes(), b"AUTH", user, password.as_bytes()]);
            }
            (Some(version), None) => command(out, &[b"HELLO", version.to_string().as_bytes()]),
            (None, Some(password)) if greeting.user.is_some() => {
                command(out, &[b"AUTH", user, password.as_bytes()]);
            }
            (None, Some(password)) => command(out, &[b"AUTH", password.as_bytes()]),
            (None, None) => must = 0,
        }
        // Refused while a server loads its data: then it is too early for anything else.
        command(out, &[b"PING"]);
        must += 1;
        let mut left = must;
        if let (true, Some(address)) = (greeting.fences, self.lost_address) {
            command(out, &[b"CLIENT", b"KILL", b"ADDR", address.to_string().as_bytes()]);
            left += 1;
        }
        self.state = State::Greeting { since: now, left, must };
    }

    fn receive(&mut self, measure: &mut Measure) -> Result<(), Trouble> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        if self.input_from == self.input_to {
            (self.input_from, self.input_to) = (0, 0);
        } else if self.input_to == self.input.len() {
            self.input.copy_within(self.input_from..self.input_to, 0);
            (self.input_from, self.input_to) = (0, self.input_to - self.input_from);
            if self.input_to == self.input.len() {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        match socket.read(&mut self.input[self.input_to..]) {
            Ok(0) => Err(Trouble::Lost("connection lost: the server closed it".into())),
            Ok(bytes) => {
                self.input_to += bytes;
                measure.bytes_received += bytes as u64;
                Ok(())
            }
            Err(error) if is_later(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take_answers(&mut self, now: Nanos, measure: &mut Measure) -> Result<(), Trouble> {
        while self.input_to - self.input_from >= self.input_wanted {
            let parsed = parse(&self.input[self.input_from..self.input_to]);
            match parsed.map_err(|malformed| Trouble::Lost(format!("not a Redis server: {malformed}")))? {
                Parsed::Partial { bytes_min } => self.input_wanted = bytes_min,
                Parsed::Whole { reply, bytes } => {
                    self.input_from += bytes;
                    self.input_wanted = 1;
                    if let State::Greeting { since, left, must } = self.state {
                        self.state = greeted(reply, since, left, must)?;
                        if self.state == State::Up {
                            self.ever_up = true;
                            self.lost_address = None;
                        }
                    } else {
                        let taken = self.client.reply(reply, now, &mut self.output, measure);
                        taken.map_err(|what| Trouble::Lost(format!("not a Redis server: {what}")))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts requests that are due, and sends what fits. Returns when more will be due.
    pub(crate) fn top_up(&mut self, now: Nanos) -> Option<Nanos> {
        if self.state == State::Up { self.client.top_up(now, &mut self.output) } else { None }
    }

    /// Sends what fits.
    pub(crate) fn send(&mut self, epoll: &OwnedFd, measure: &mut Measure) -> Result<(), Trouble> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while self.output_from < self.output.len() {
            match socket.write(&self.output[self.output_from..]) {
                Ok(bytes) => {
                    self.output_from += bytes;
                    measure.bytes_sent += bytes as u64;
                }
                Err(error) if is_later(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.output_from == self.output.len() {
            self.output.clear();
            self.output_from = 0;
        }
        let awaits = !self.output.is_empty() || matches!(self.state, State::Connecting { .. });
        if awaits != self.is_write_awaited {
            let mut interest = epoll::EventFlags::IN;
            interest.set(epoll::EventFlags::OUT, awaits);
            epoll::modify(epoll, &*socket, epoll::EventData::new_u64(self.token), interest)
                .map_err(io::Error::from)?;
            self.is_write_awaited = awaits;
        }
        Ok(())
    }

    /// Since when the server owes an answer.
    pub(crate) fn waiting_since(&self) -> Option<Nanos> {
        match self.state {
            State::Connecting { since } | State::Greeting { since, .. } => Some(since),
            State::Up => self.client.oldest(),
            State::Down { .. } | State::Ended => None,
        }
    }

    /// Gives the socket up. `state` is what comes then.
    pub(crate) fn lost(&mut self, why: &str, (now, again): (Nanos, bool), measure: &mut Measure) {
        if let (State::Up, Some(socket)) = (self.state, &self.socket) {
            self.lost_address = socket.local_addr().ok();
        }
        self.socket = None;
        if self.state == State::Up {
            self.down_since = now;
        }
        self.client.lost(why, measure);
        self.input_from = 0;
        self.input_to = 0;
        self.input_wanted = 1;
        self.output.clear();
        self.output_from = 0;
        self.state = if again { State::Down { retry_at: now + RETRY_PAUSE } } else { State::Ended };
    }

    /// Whether all is done, and nothing that was lost can still be executed.
    pub(crate) fn is_settled(&self) -> bool {
        self.client.is_finished() && !(self.greeting.fences && self.lost_address.is_some())
    }

    /// Nothing is left to do.
    pub(crate) fn end(&mut self) {
        self.socket = None;
        self.state = State::Ended;
    }
}

fn greeted(reply: Reply<'_>, since: Nanos, left: u32, must: u32) -> Result<State, Trouble> {
    if let (Reply::Error(text), true) = (reply, must > 0) {
        let told = String::from_utf8_lossy(text).into_owned();
        return Err(if is_for_now(text) { Trouble::Lost(told) } else { Trouble::Refused(told) });
    }
    let left = left - 1;
    Ok(if left == 0 { State::Up } else { State::Greeting { since, left, must: must.saturating_sub(1) } })
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
