//! The commands of one connection that have arrived together.
//!
//! They are decoded before the first of them runs, so that the rows that they will look at are fetched from memory
//! together: one after the other, each would wait for it several times.
//!
//! Invariants:
//! - commands stand in the order in which they came, at most [`COMMANDS_MAX`] of them;
//! - what a protocol error leaves before it is run.

use foreshard_engine::{Shard, hash};

use crate::command::table::{self, Command, flag};
use crate::data::layout;
use crate::resp::{Args, Decoder, Limits, ProtocolError, Step};

/// A row takes some four cache lines: of so many rows, all stay in the first-level cache until they are read.
const COMMANDS_MAX: usize = 32;
/// What a place keeps allocated from one command to the next.
const KEPT_BYTES: usize = 4 << 10;

/// Commands that were decoded and wait to be run. Used again, for whichever connection is next.
#[derive(Debug, Default)]
pub(crate) struct Round {
    places: Vec<Decoded>,
    len: usize,
    hashes: Vec<u64>,
}

/// A command.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    decoder: Decoder,
    start: usize,
    end: usize,
    /// Which it is; none if it is unknown.
    pub(crate) command: Option<&'static Command>,
    /// The storage key of its first key's meta row; empty if it has no key, or one over its limit.
    pub(crate) storage: Vec<u8>,
}

/// Why a round has no more commands.
#[derive(Debug)]
pub(crate) enum End {
    /// No other has arrived.
    Empty,
    /// It is full.
    Full,
    /// What follows is not the protocol.
    Broken(ProtocolError),
}

impl Round {
    /// Decodes commands from `input[*done..]` on, and advances `done` behind them. `decoder` is the connection's: it keeps
    /// what it has seen of a command that is not complete.
    pub(crate) fn gather(
        &mut self,
        decoder: &mut Decoder,
        input: &[u8],
        done: &mut usize,
        limits: &Limits,
    ) -> End {
        self.len = 0;
        // A client that has yet to authenticate may be another one after its next command.
        let commands = if limits.is_unauthenticated() { 1 } else { COMMANDS_MAX };
        while self.len < commands {
            match decoder.step(&input[*done..], limits) {
                Ok(Step::More) => return End::Empty,
                Ok(Step::Empty { len }) => *done += len,
                Ok(Step::Command { len }) => {
                    if self.len == self.places.len() {
                        self.places.push(Decoded::default());
                    }
                    let place = &mut self.places[self.len];
                    std::mem::swap(&mut place.decoder, decoder);
                    (place.start, place.end) = (*done, *done + len);
                    place.look_up(input);
                    self.len += 1;
                    *done += len;
                }
                Err(e) => return End::Broken(e),
            }
        }
        End::Full
    }

    /// Fetches the rows that the commands' first keys have here, and the places that those that write will put them in.
    pub(crate) fn touch(&mut self, shard: &Shard) {
        if self.len > 1 {
            let places = &self.places[..self.len];
            self.hashes.clear();
            self.hashes.extend(places.iter().map(|place| hash::stable(&place.storage)));
            shard.touch(&self.hashes);
            shard.touch_writes(places.iter().filter(|place| place.writes()).map(|place| &place.storage[..]));
        }
    }

    /// The commands.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &Decoded> {
        self.places[..self.len].iter()
    }

    /// Gives up the memory of commands that were larger than most.
    pub(crate) fn trim(&mut self) {
        for place in &mut self.places[..self.len] {
            place.decoder.release(KEPT_BYTES);
        }
    }
}

impl Decoded {
    fn look_up(&mut self, input: &[u8]) {
        let args = self.decoder.args(&input[self.start..self.end]);
        self.command = table::find_called(args);
        self.storage.clear();
        let first = self.command.and_then(|command| command.first_key(args));
        if first.is_some_and(|key| layout::encode(key, &mut self.storage).is_err()) {
            self.storage.clear();
        }
    }

    fn writes(&self) -> bool {
        !self.storage.is_empty() && self.command.is_some_and(|command| command.is(flag::WRITE))
    }

    /// Its arguments, which lie in the `input` that it was decoded from.
    pub(crate) fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        self.decoder.args(&input[self.start..self.end])
    }

    /// Whether nothing follows it in `input`.
    pub(crate) const fn is_last_of(&self, input: &[u8]) -> bool {
        self.end == input.len()
    }
}
