//! TCP through the ring: each shard listens for itself (SO_REUSEPORT), and the kernel spreads the connections.
//!
//! One operation accepts many connections, one receives many buffers; where the kernel has no such operations (before
//! 6.0) each accept and receive is an operation of its own. A connection whose reader lags behind stops receiving
//! at a bound; a shard out of buffers receives on when one has come back.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use super::buffers::{GROUP, Received};
use super::fd::{Fd, adopt};
use super::operation::Request;
use super::queue::{Completion, Many, Ring};
use crate::error::{Error, Result};

/// A shard's sockets.
#[derive(Clone)]
pub struct RingNet {
    ring: Rc<Ring>,
    /// Whether the kernel is believed to have operations that complete many times.
    multishot: Rc<Cell<bool>>,
}

/// Makes the sockets of a ring reachable when somebody asks: the receive buffers are registered then, and only servers
/// need them.
#[derive(Clone)]
pub(crate) struct NetSource {
    ring: Rc<Ring>,
    multishot: bool,
}

impl NetSource {
    pub(super) fn new(ring: &Rc<Ring>, multishot: bool) -> Self {
        Self { ring: Rc::clone(ring), multishot }
    }

    /// The sockets.
    pub(crate) fn open(&self) -> RingNet {
        RingNet::new(&self.ring, self.multishot)
    }
}

impl fmt::Debug for NetSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetSource").field("multishot", &self.multishot).finish_non_exhaustive()
    }
}

impl RingNet {
    /// Registers the receive buffers, once a ring.
    pub(super) fn new(ring: &Rc<Ring>, multishot: bool) -> Self {
        let multishot = multishot && ring.provide_buffers(BUFFERS, BUFFER_BYTES).is_ok();
        Self { ring: Rc::clone(ring), multishot: Rc::new(Cell::new(multishot)) }
    }

    /// Listens at `address`; other shards may at the same one.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen(&self, address: SocketAddr) -> Result<Listener> {
        let error = |errno: rustix::io::Errno| socket_error("listen", address, errno.into());
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket: OwnedFd = socket.map_err(error)?;
        sockopt::set_socket_reuseaddr(&socket, true).map_err(error)?;
        sockopt::set_socket_reuseport(&socket, true).map_err(error)?;
        rustix::net::bind(&socket, &address).map_err(error)?;
        rustix::net::listen(&socket, BACKLOG).map_err(error)?;
        let bound = rustix::net::getsockname(&socket).map_err(error)?;
        let address = SocketAddr::try_from(bound).map_err(error)?;
        Ok(Listener {
            net: self.clone(),
            fd: Fd::new(socket, &self.ring),
            address,
            accepting: RefCell::default(),
        })
    }
}

/// Accepts connections. Dropping it stops that.
pub struct Listener {
    net: RingNet,
    fd: Rc<Fd>,
    address: SocketAddr,
    accepting: RefCell<Option<Many>>,
}

impl Listener {
    /// Where it listens, with the port it was given.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    ///
    /// # Errors
    /// When there are no descriptors or no memory for one; the listener stays usable.
    pub async fn accept(&self) -> Result<Connection> {
        loop {
            let result = if self.net.multishot.get() {
                poll_fn(|context| self.poll_accept(context)).await
            } else {
                let (result, _) = self.net.ring.start(Request::Accept { fd: Rc::clone(&self.fd) }).await;
                result.map(|fd| i32::try_from(fd).expect("a result is a positive i32"))
            };
            match result {
                Ok(fd) => {
                    let socket = adopt(fd);
                    // Replies are sent whole: waiting for more only delays them. Refused by nothing that is TCP.
                    let _ = sockopt::set_tcp_nodelay(&socket, true);
                    return Ok(Connection::new(self.net.clone(), socket, self.address));
                }
                Err(error) => match error.raw_os_error() {
                    Some(EINVAL) if self.net.multishot.get() => self.net.multishot.set(false),
                    // The peer gave up, or the kernel ended the operation: accept the next one.
                    Some(ECONNABORTED | EINTR | EAGAIN | ECANCELED) if !self.net.ring.has_ended() => {}
                    _ => return Err(socket_error("accept", self.address, error)),
                },
            }
        }
    }

    fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<i32>> {
        let again = || Request::AcceptMany { fd: Rc::clone(&self.fd) };
        let next = poll_many(&self.net.ring, &mut self.accepting.borrow_mut(), again, context);
        next.map(|completion| check(completion.result))
    }
}

/// A client's connection. Dropping it closes it, after what is being sent.
pub struct Connection {
    net: RingNet,
    fd: Rc<Fd>,
    local: SocketAddr,
    receiving: RefCell<Option<Many>>,
    /// The last buffer was filled, or there was none: the peer sends faster than is read. One operation that receives many
    /// times would take all buffers there are in one go, and those who send little would find none, over and over; so it
    /// receives once at a time, as everybody else in turn.
    is_greedy: Cell<bool>,
}

impl Connection {
    fn new(net: RingNet, socket: OwnedFd, local: SocketAddr) -> Self {
        let fd = Fd::new(socket, &net.ring);
        Self { net, fd, local, receiving: RefCell::default(), is_greedy: Cell::new(false) }
    }

    /// The bytes that arrived next; None: the peer sends no more. One task receives.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn receive(&self) -> Result<Option<Received>> {
        loop {
            let result = if self.net.multishot.get() {
                poll_fn(|context| self.poll_receive(context)).await
            } else {
                self.receive_once().await
            };
            match result {
                Ok(received) => return Ok(received),
                Err(error) => match error.raw_os_error() {
                    Some(EINVAL) if self.net.multishot.get() => self.net.multishot.set(false),
                    Some(ENOBUFS) => self.buffer_returned().await,
                    Some(EINTR | EAGAIN | ECANCELED) if !self.net.ring.has_ended() => {}
                    _ => return Err(socket_error("receive", self.local, error)),
                },
            }
        }
    }

    /// Sends all of `bytes` and gives them back. One task sends.
    ///
    /// # Errors
    /// When the connection broke; a part may have been sent.
    pub async fn send(&self, mut bytes: Vec<u8>) -> (Vec<u8>, Result<()>) {
        let mut sent = 0;
        while sent < bytes.len() {
            let request = Request::Send { fd: Rc::clone(&self.fd), bytes, from: sent };
            let (result, request) = self.net.ring.start(request).await;
            let Request::Send { bytes: back, .. } = request else { unreachable!("a send comes back as one") };
            bytes = back;
            match result {
                Ok(count) => sent += count as usize,
                Err(error) if matches!(error.raw_os_error(), Some(EINTR | EAGAIN)) => {}
                Err(error) => return (bytes, Err(socket_error("send", self.local, error))),
            }
        }
        (bytes, Ok(()))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// When the peer has gone already.
    pub fn peer(&self) -> Result<SocketAddr> {
        let error = |errno: rustix::io::Errno| socket_error("look at the peer", self.local, errno.into());
        let peer = rustix::net::getpeername(self.fd.borrow()).map_err(error)?;
        let peer = peer.ok_or_else(|| error(rustix::io::Errno::NOTCONN))?;
        SocketAddr::try_from(peer).map_err(error)
    }

    /// This end's address.
    ///
    /// # Errors
    /// As [`Connection::peer`].
    pub fn local(&self) -> Result<SocketAddr> {
        let error = |errno: rustix::io::Errno| socket_error("look at", self.local, errno.into());
        SocketAddr::try_from(rustix::net::getsockname(self.fd.borrow()).map_err(error)?).map_err(error)
    }

    /// The descriptor's number, as lists of connections show it.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Has the kernel ask a silent peer after `idle` whether it is there, and end the connection when it is not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_alive(&self, idle: Duration) -> Result<()> {
        let error = |errno: rustix::io::Errno| socket_error("keep alive", self.local, errno.into());
        let fd = self.fd.borrow();
        sockopt::set_socket_keepalive(fd, true).map_err(error)?;
        sockopt::set_tcp_keepidle(fd, idle).map_err(error)?;
        // Three unanswered probes end it, as Redis has it.
        sockopt::set_tcp_keepintvl(fd, (idle / 3).max(Duration::from_secs(1))).map_err(error)?;
        sockopt::set_tcp_keepcnt(fd, 3).map_err(error)
    }

    /// Ends the connection in both directions: whoever waits in `receive` or `send` is told.
    pub fn shutdown(&self) {
        // It fails only when the peer was faster, and then it is done.
        let _ = rustix::net::shutdown(self.fd.borrow(), Shutdown::Both);
    }

    /// Ends the connection as [`Connection::shutdown`] does, and has its closing reset it.
    ///
    /// For a peer that was not read from: its window is shut. Once the connection is shut down for reading the kernel never
    /// opens that window again, and where nothing is left unread it resets nothing either, so that the peer would probe
    /// until the kernel forgets the connection, a minute later. What was not sent is thrown away.
    pub fn reset(&self) {
        // Refused by nothing that is a socket; what it saves is a minute of the peer's.
        let _ = sockopt::set_socket_linger(self.fd.borrow(), Some(Duration::ZERO));
        self.shutdown();
    }

    /// Sends no more: the peer is told after what was sent.
    pub fn finish(&self) {
        // As above.
        let _ = rustix::net::shutdown(self.fd.borrow(), Shutdown::Write);
    }

    fn poll_receive(&self, context: &Context<'_>) -> Poll<io::Result<Option<Received>>> {
        let again = || {
            let fd = Rc::clone(&self.fd);
            if self.is_greedy.get() {
                Request::ReceiveOne { fd, group: GROUP, bytes_max: BUFFER_BYTES }
            } else {
                Request::ReceiveMany { fd, group: GROUP }
            }
        };
        let next = poll_many(&self.net.ring, &mut self.receiving.borrow_mut(), again, context);
        next.map(|completion| {
            if completion.result > 0 || completion.result == -ENOBUFS {
                let has_room = u32::try_from(completion.result).is_ok_and(|len| len < BUFFER_BYTES);
                self.is_greedy.set(!has_room);
            }
            check(completion.result)?;
            // Nothing received is the end, with or without a buffer.
            Ok(completion.received.filter(|received| !received.is_empty()))
        })
    }

    async fn receive_once(&self) -> io::Result<Option<Received>> {
        let buf = vec![0; BUFFER_BYTES as usize].into_boxed_slice();
        let (result, request) = self.net.ring.start(Request::Receive { fd: Rc::clone(&self.fd), buf }).await;
        let Request::Receive { buf, .. } = request else { unreachable!("a receive comes back as one") };
        let len = result? as usize;
        Ok((len > 0).then(|| Received::owned(buf, len)))
    }

    /// Waits until some connection has given a buffer back.
    async fn buffer_returned(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            if self.net.ring.buffers().wait(context.waker()) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

/// The next completion of an operation that is started (again) as needed.
fn poll_many(
    ring: &Rc<Ring>,
    many: &mut Option<Many>,
    again: impl Fn() -> Request,
    context: &Context<'_>,
) -> Poll<Completion> {
    loop {
        let current = many.get_or_insert_with(|| ring.start_many(again()));
        match current.poll_next(context) {
            Poll::Ready(Some(completion)) => return Poll::Ready(completion),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) if ring.has_ended() => {
                return Poll::Ready(Completion { result: -ECANCELED, received: None });
            }
            Poll::Ready(None) => *many = None,
        }
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

fn socket_error(operation: &'static str, address: SocketAddr, error: io::Error) -> Error {
    Error::io(operation, Path::new(&format!("tcp:{address}")), error)
}

impl fmt::Debug for RingNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingNet").field("multishot", &self.multishot).finish_non_exhaustive()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("fd", &self.fd.as_raw_fd()).finish_non_exhaustive()
    }
}

/// Receive buffers of a shard, 4 MiB in all; connections hold them only from arrival to parsing.
const BUFFERS: u16 = 256;
/// One is as large as a pipelined burst usually is.
const BUFFER_BYTES: u32 = 16 << 10;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EINVAL: i32 = 22;
const ECONNABORTED: i32 = 103;
const ENOBUFS: i32 = 105;
const ECANCELED: i32 = 125;
