//! The commands: `rows` is the table, `table` what follows from it, and a file per family does what they do.
//!
//! Data commands read and write through a [`Context`] and know neither sockets nor shards: they run alone, within
//! EXEC, or on another shard for a connection elsewhere. Session commands, which change the connection or ask the
//! server about itself, are in `session`.

pub(crate) mod rows;
pub(crate) mod session;
pub(crate) mod table;

mod bitfield;
mod bits;
mod expiry;
mod hash_walks;
mod hashes;
mod keys;
mod lcs;
mod numbers;
mod ranges;
mod strings;
pub(crate) mod walks;

use std::rc::Rc;

use foreshard_engine::entry::Expiry;
use foreshard_engine::{Shard, Ticket};

use self::table::{Command, Group, Id};
use crate::data::fault::{Fault, NOT_AN_INTEGER, Result};
use crate::data::layout::Path;
use crate::data::tx::{Held, Tx, later};
use crate::data::value::{Value, string_row};
use crate::resp::{Args, Protocol, Reply};

/// What a data command works with.
pub(crate) struct Context<'a> {
    pub(crate) tx: &'a mut Tx,
    pub(crate) reply: Reply<'a>,
    /// The time it runs at, in milliseconds since 1970: the same for all of one EXEC.
    pub(crate) now_ms: u64,
    /// Bytes a string may have.
    pub(crate) string_bytes_max: usize,
    /// For what is to be picked at random.
    pub(crate) random: fastrand::Rng,
}

/// A string where it lies, if there is one.
pub(crate) struct StringAt {
    pub(crate) path: Path,
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) expiry: Expiry,
}

impl Command {
    /// Whether it runs through a [`Context`].
    pub(crate) const fn is_data(&self) -> bool {
        match self.group {
            Group::Bitmap | Group::Generic | Group::Hash | Group::String => true,
            Group::Connection | Group::Transactions => false,
            Group::Server => {
                self.keys.first > 0 || matches!(self.id, Id::Dbsize | Id::Flushall | Id::Flushdb)
            }
        }
    }
}

/// How often a command that lost to others is run again before its client is told. Each loss means that somebody else's
/// write went through.
pub(crate) const CONFLICTS_MAX: usize = 1000;

/// Runs a data command by itself. What must be committed before its reply, which is appended to `out`, may be told.
pub(crate) async fn run_alone(
    shard: &Rc<Shard>,
    id: Id,
    args: Args<'_>,
    protocol: Protocol,
    out: &mut Vec<u8>,
) -> Option<Ticket> {
    let mark = out.len();
    let mut ticket = None;
    for _ in 0..CONFLICTS_MAX {
        let mut tx = Tx::new(shard);
        let mut context = Context::new(&mut tx, Reply::new(out, protocol));
        let mut result = run(id, &mut context, args).await;
        if result.is_ok() {
            result = tx.commit().await;
        }
        ticket = later(ticket, tx.ticket());
        match result {
            Ok(()) => return ticket,
            Err(Fault::Conflict) => {
                out.truncate(mark);
                shard.runtime().yield_now().await;
            }
            Err(Fault::Moved(version)) => {
                out.truncate(mark);
                if let Err(e) = shard.knows(version).await {
                    Reply::new(out, protocol).error(&Fault::from(e).reply());
                    return ticket;
                }
            }
            Err(fault) => {
                out.truncate(mark);
                Reply::new(out, protocol).error(&fault.reply());
                return ticket;
            }
        }
    }
    Reply::new(out, protocol).error(&Fault::Conflict.reply());
    ticket
}

/// Runs a data command in a context, which may have run others.
pub(crate) async fn run(id: Id, context: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match table_group(id) {
        Group::String => strings::run(id, context, args).await,
        Group::Bitmap => bits::run(id, context, args).await,
        Group::Hash => hashes::run(id, context, args).await,
        Group::Generic | Group::Server => keys::run(id, context, args).await,
        Group::Connection | Group::Transactions => Err(Fault::text("ERR unknown command")),
    }
}

fn table_group(id: Id) -> Group {
    rows::COMMANDS[id as usize].group
}

impl<'a> Context<'a> {
    /// At this moment.
    pub(crate) fn new(tx: &'a mut Tx, reply: Reply<'a>) -> Self {
        let runtime = tx.shard().runtime();
        let (now_ms, random) = (runtime.wall_ms(), fastrand::Rng::with_seed(runtime.now().0));
        Self { tx, reply, now_ms, string_bytes_max: STRING_BYTES_MAX, random }
    }

    /// A key's meta row.
    pub(crate) async fn look_up(&mut self, key: &[u8]) -> Result<(Path, Option<Held>)> {
        let path = self.tx.path(key)?;
        let held = self.tx.get(path.home, &path.meta).await?;
        Ok((path, held))
    }

    /// The string at a key.
    pub(crate) async fn string(&mut self, key: &[u8]) -> Result<StringAt> {
        let (path, held) = self.look_up(key).await?;
        let Some(mut held) = held else {
            return Ok(StringAt { path, bytes: None, expiry: Expiry::NEVER });
        };
        Value::decode(&held.value)?.string()?;
        held.value.remove(0);
        Ok(StringAt { path, bytes: Some(held.value), expiry: held.expiry })
    }

    /// Makes a key a string.
    pub(crate) fn set_string(&mut self, path: Path, bytes: &[u8], expiry: Expiry) -> Result<()> {
        self.check_length(bytes.len())?;
        self.set_row(path, string_row(bytes), expiry);
        Ok(())
    }

    /// Sets a key's meta row; fields that lay below another one are out of reach.
    pub(crate) fn set_row(&mut self, path: Path, row: Vec<u8>, expiry: Expiry) {
        self.tx.forget_fields(&path.meta);
        self.tx.put(path.meta, row, expiry);
    }

    /// Deletes a key, whose meta row is `held`.
    pub(crate) fn delete(&mut self, path: Path, held: &Held) -> Result<()> {
        self.tx.forget_fields(&path.meta);
        if let Value::Hash(meta) = Value::decode(&held.value)? {
            let start = crate::data::layout::fields(&path.meta, meta.generation);
            let end = foreshard_engine::key::prefix_end(&start).unwrap_or_else(|| start.clone());
            self.tx.delete_range(start, end);
        }
        self.tx.delete(path.meta);
        Ok(())
    }

    /// Refuses a string over its limit.
    pub(crate) fn check_length(&self, bytes: usize) -> Result<()> {
        if bytes > self.string_bytes_max {
            return Err(Fault::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
        }
        Ok(())
    }
}

/// A string is one row, whose first byte says that it is one.
pub(crate) const STRING_BYTES_MAX: usize = foreshard_engine::limits::VALUE_BYTES_MAX - 1;

/// Whether an argument is this word, in any case.
pub(crate) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// An argument that is an integer.
pub(crate) fn integer(arg: &[u8]) -> Result<i64> {
    crate::data::number::parse_integer(arg).ok_or(NOT_AN_INTEGER)
}
