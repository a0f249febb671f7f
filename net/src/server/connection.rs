//! The loop of one connection: bytes in, commands, one wait, bytes out.
//!
//! All complete commands that have arrived are run in their order, their replies gathered, and everything is sent after
//! one wait for the latest commit that any of them depends on (R4, R5). Nothing more is received meanwhile, so that a
//! client which does not read its replies is not read from either.
//!
//! Invariants:
//! - no byte is sent before what it tells is committed;
//! - input kept is at most one command and one receive, in a buffer a quarter larger; output kept is at most [`OUTPUT_BYTES`] and one reply.

use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::Shard;
use foreshard_engine::io::ring::Connection;
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::shard::capacity::work::Work;

use super::clients::{Client, Ending};
use super::config::LIMITS;
use super::front::Place;
use super::round::{Decoded, End};
use super::session::Session;
use super::stats::add;
use crate::command::session::transactions::Begun;
use crate::resp::decode::kept;
use crate::resp::{Decoder, Limits, Reply};

/// Replies are sent when they are this many, though more commands wait: a long pipeline is answered in parts.
const OUTPUT_BYTES: usize = 256 << 10;
/// What an idle connection keeps of its buffers: ten thousand of them shall not hold the memory of a burst.
const KEPT_BYTES: usize = 2 << 10;
/// A peer that has nothing wrong with it reads its last reply, and closes, within this.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a client until it leaves, is told to go, or breaks the protocol.
pub(crate) async fn serve(place: Place, shard: Rc<Shard>, connection: Rc<Connection>, client: Rc<Client>) {
    let front = Rc::clone(&place.front);
    let mut loops = Loop {
        session: Session::new(Rc::clone(&front), Rc::clone(&shard), Rc::clone(&client)),
        connection,
        decoder: Decoder::default(),
        input: Vec::new(),
        output: Vec::new(),
        has_sent: false,
    };
    loop {
        // Otherwise the client has gone, in one way or the other: nobody is there to be told.
        let Ok(Some(received)) = loops.connection.receive().await else { break };
        add(&front.stats.bytes_in, received.len() as u64);
        append(&mut loops.input, &received);
        drop(received);
        client.is_busy.set(true);
        let now = shard.runtime().now();
        client.seen.set(now);
        loops.session.begin(now);
        let goes_on = loops.turn().await;
        client.is_busy.set(false);
        client.input_bytes.set(loops.input.len());
        // Sending lets others run. What has no answer may come as fast as it is run.
        if !std::mem::take(&mut loops.has_sent) {
            shard.runtime().yield_now().await;
        }
        if !goes_on || client.is_closing() || front.is_stopping() {
            end(&loops.connection, client.ending.get(), shard.runtime()).await;
            break;
        }
    }
    drop(place);
}

async fn end(connection: &Connection, ending: Option<Ending>, runtime: &Runtime) {
    match ending {
        None | Some(Ending::AfterReplies) => {
            linger(connection, runtime).await;
        }
        Some(Ending::AfterRefusal) => {
            if !linger(connection, runtime).await {
                connection.reset();
            }
        }
        // Shut down in both directions: nothing is told, and what was sent is not looked at.
        Some(Ending::Now) => {}
    }
}

/// Ends a connection so that the peer can read what it was told last: one that is closed with bytes unread is reset, and
/// the peer loses what it has not read either. So what still comes is received, and thrown away. Whether the peer has
/// ended it too.
pub(super) async fn linger(connection: &Connection, runtime: &Runtime) -> bool {
    connection.finish();
    let throw_away = async {
        while matches!(connection.receive().await, Ok(Some(_))) {}
        true
    };
    let patience = async {
        runtime.sleep(LINGER).await;
        false
    };
    futures_lite::future::or(throw_away, patience).await
}

/// Appends to a buffer that grows by a quarter at a time: a command of 64 MiB shall not take 128.
fn append(buffer: &mut Vec<u8>, bytes: &[u8]) {
    if buffer.capacity() - buffer.len() < bytes.len() {
        buffer.reserve_exact(bytes.len().max(buffer.len() / 4));
    }
    buffer.extend_from_slice(bytes);
}

/// One connection's parts.
struct Loop {
    session: Session,
    connection: Rc<Connection>,
    decoder: Decoder,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Something was sent in this turn.
    has_sent: bool,
}

impl Loop {
    /// Runs the commands that have arrived and sends their replies; false when the connection is to end.
    async fn turn(&mut self) -> bool {
        let (mut done, mut commands) = (0, 0);
        loop {
            let limits = if self.session.is_authenticated() { &LIMITS } else { &Limits::UNAUTHENTICATED };
            let mut round = self.session.front().take_round();
            let end = round.gather(&mut self.decoder, &self.input, &mut done, limits);
            round.touch(self.session.shard());
            for decoded in round.commands() {
                if self.session.shard().is_paced() && !self.pace(decoded).await {
                    return false;
                }
                self.session.execute(decoded, &self.input, &mut self.output).await;
                commands += 1;
                if self.session.is_closing() {
                    self.flush().await;
                    return false;
                }
                if self.output.len() >= OUTPUT_BYTES {
                    if !self.flush().await {
                        return false;
                    }
                    self.session.begin(self.session.shard().runtime().now());
                }
            }
            self.session.front().give_back_round(round);
            match end {
                End::Empty => break,
                End::Full => {}
                End::Broken(e) => {
                    Reply::new(&mut self.output, self.session.protocol()).error(&format!("ERR {e}"));
                    self.session.replied();
                    self.flush().await;
                    return false;
                }
            }
        }
        let bytes = (done + self.output.len()) as u64;
        self.session.shard().spend(&Work::of_commands(commands, bytes));
        self.input.drain(..done);
        let goes_on = self.flush().await;
        self.release();
        goes_on && self.may_stay().await
    }

    /// Waits until a command may run, with the replies to those before it sent and nothing received; false when the
    /// connection broke.
    async fn pace(&mut self, decoded: &Decoded) -> bool {
        let Some(due) = Box::pin(self.session.due(decoded, &self.input)).await else { return true };
        if !self.output.is_empty() && !self.flush().await {
            return false;
        }
        self.session.shard().pace(due).await;
        // Its own time, in the slow log, begins here.
        self.session.begin(self.session.shard().runtime().now());
        true
    }

    /// Gives up memory that long commands and replies took.
    fn release(&mut self) {
        if self.input.is_empty() {
            self.input = kept(std::mem::take(&mut self.input), KEPT_BYTES);
        } else if self.input.capacity() > KEPT_BYTES.max(2 * self.input.len()) {
            self.input.shrink_to_fit();
        }
        self.output = kept(std::mem::take(&mut self.output), KEPT_BYTES);
        self.decoder.release(KEPT_BYTES);
        self.session.release(KEPT_BYTES);
    }

    /// Counts what is held for the client; false when that is too much, which it was told.
    async fn may_stay(&mut self) -> bool {
        let buffers = self.input.capacity() + self.output.capacity() + self.decoder.held_bytes();
        let held = buffers + self.session.held_bytes();
        let front = self.session.front();
        if front.may_hold(self.session.client(), held) {
            return true;
        }
        let most = front.config.borrow().maxmemory_clients;
        // What it held is free before it is told: it may never read that.
        (self.input, self.output, self.decoder) = (Vec::new(), Vec::new(), Decoder::default());
        self.session.begun = Begun::default();
        let text =
            format!("ERR clients hold more than {most} bytes (maxmemory-clients), and this one most of all");
        Reply::new(&mut self.output, self.session.protocol()).error(&text);
        let runtime = self.session.shard().runtime().clone();
        let patience = async {
            runtime.sleep(LINGER).await;
            false
        };
        futures_lite::future::or(self.send(), patience).await;
        false
    }

    /// Sends the replies once what they tell is committed; false when the connection broke.
    async fn flush(&mut self) -> bool {
        // Counted before anything is waited for.
        if !self.may_stay().await {
            return false;
        }
        self.session.settle(&mut self.output).await;
        self.output.is_empty() || self.send().await
    }

    async fn send(&mut self) -> bool {
        self.has_sent = true;
        add(&self.session.front().stats.bytes_out, self.output.len() as u64);
        self.session.client().output_bytes.set(self.output.len());
        let (bytes, sent) = self.connection.send(std::mem::take(&mut self.output)).await;
        self.session.client().output_bytes.set(0);
        self.output = bytes;
        self.output.clear();
        sent.is_ok()
    }
}
