//! MULTI, EXEC and WATCH: commands that take effect all at once, wherever their keys live.
//!
//! Queued commands run one after the other on one view of the store, each seeing what those before it wrote; then all
//! writes are committed as one. A key that is watched is remembered with its version, which the commit validates: where
//! it has changed, nothing happens. A command that fails at run time undoes its own writes only, as in Redis.

use foreshard_engine::ids::Version;

use crate::command::table::{Command, Id};
use crate::command::{CONFLICTS_MAX, Context};
use crate::data::fault::{Fault, Result};
use crate::data::layout::Path;
use crate::data::tx::Tx;
use crate::resp::decode::OwnedArgs;
use crate::resp::{Args, Reply};
use crate::server::session::Session;

/// What a client has begun.
#[derive(Debug, Default)]
pub(crate) struct Multi {
    queued: Vec<(&'static Command, OwnedArgs)>,
    bytes: usize,
    /// A command could not be queued: EXEC will refuse.
    is_broken: bool,
}

/// A watched key: where it is, and the version it had, if it was there.
pub(crate) type Watched = (Path, Option<Version>);

/// Bytes of commands that one transaction queues: what its writes may take, several times over.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Keys that one client watches.
const WATCHED_MAX: usize = 1 << 16;

impl Multi {
    /// Queues a command.
    ///
    /// # Errors
    /// When there is no room; EXEC will refuse.
    pub(crate) fn queue(&mut self, command: &'static Command, args: Args<'_>) -> Result<()> {
        let args = OwnedArgs::of(args);
        self.bytes += args.bytes();
        if self.bytes > QUEUED_BYTES_MAX {
            self.is_broken = true;
            self.queued = Vec::new();
            return Err(Fault::told(format!(
                "ERR more than {QUEUED_BYTES_MAX} bytes of commands queued since MULTI"
            )));
        }
        self.queued.push((command, args));
        Ok(())
    }

    /// How many commands are queued.
    pub(crate) const fn len(&self) -> usize {
        self.queued.len()
    }

    /// A command was refused: EXEC will refuse.
    pub(crate) const fn break_off(&mut self) {
        self.is_broken = true;
    }
}

/// Runs one of them.
pub(super) async fn run(id: Id, session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    match id {
        Id::Multi => {
            if session.multi.is_some() {
                return Err(Fault::text("ERR MULTI calls can not be nested"));
            }
            session.begin_multi();
            session.reply(out).ok();
            Ok(())
        }
        Id::Discard => {
            session.end_multi().ok_or(Fault::text("ERR DISCARD without MULTI"))?;
            session.watched.clear();
            session.reply(out).ok();
            Ok(())
        }
        Id::Watch => watch(session, args, out).await,
        Id::Unwatch => {
            session.watched.clear();
            session.reply(out).ok();
            Ok(())
        }
        _ => exec(session, out).await,
    }
}

async fn watch(session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    if session.multi.is_some() {
        return Err(Fault::text("ERR WATCH inside MULTI is not allowed"));
    }
    if session.watched.len() + args.len() > WATCHED_MAX {
        return Err(Fault::told(format!("ERR more than {WATCHED_MAX} keys watched")));
    }
    let mut tx = Tx::new(session.shard());
    for key in args.from(1) {
        let path = tx.path(key)?;
        if !session.watched.iter().any(|(watched, _)| *watched == path) {
            let version = tx.version(&path).await?;
            session.watched.push((path, version));
        }
    }
    session.depends_on(tx.ticket());
    session.reply(out).ok();
    Ok(())
}

/// How one attempt ended.
enum Attempt {
    Done,
    /// A watched key has changed.
    Refused,
    Lost,
}

async fn exec(session: &mut Session, out: &mut Vec<u8>) -> Result<()> {
    let multi = session.end_multi().ok_or(Fault::text("ERR EXEC without MULTI"))?;
    let watched = std::mem::take(&mut session.watched);
    if multi.is_broken {
        return Err(Fault::text("EXECABORT Transaction discarded because of previous errors."));
    }
    let mark = out.len();
    for _ in 0..CONFLICTS_MAX {
        match attempt(session, &multi, &watched, out).await? {
            Attempt::Done => return Ok(()),
            Attempt::Refused => {
                out.truncate(mark);
                session.reply(out).null_array();
                return Ok(());
            }
            Attempt::Lost => {
                out.truncate(mark);
                session.shard().runtime().yield_now().await;
            }
        }
    }
    Err(Fault::Conflict)
}

async fn attempt(
    session: &mut Session,
    multi: &Multi,
    watched: &[Watched],
    out: &mut Vec<u8>,
) -> Result<Attempt> {
    let mut tx = Tx::new(&session.shard().clone());
    let result = attempt_in(&mut tx, session, multi, watched, out).await;
    session.depends_on(tx.ticket());
    match result {
        Err(Fault::Conflict) => Ok(Attempt::Lost),
        result => result,
    }
}

async fn attempt_in(
    tx: &mut Tx,
    session: &mut Session,
    multi: &Multi,
    watched: &[Watched],
    out: &mut Vec<u8>,
) -> Result<Attempt> {
    for (path, version) in watched {
        if tx.version(path).await? != *version {
            return Ok(Attempt::Refused);
        }
    }
    session.reply(out).array(multi.queued.len());
    let now_ms = tx.shard().runtime().wall_ms();
    for (command, args) in &multi.queued {
        let (mark, savepoint) = (out.len(), tx.savepoint());
        let result = if command.is_data() {
            let mut context = Context::new(tx, Reply::new(out, session.protocol()));
            context.now_ms = now_ms;
            crate::command::run(command.id, &mut context, args.as_args()).await
        } else {
            Box::pin(super::run(command, session, args.as_args(), out)).await
        };
        match result {
            Ok(()) => {}
            Err(Fault::Conflict) => return Err(Fault::Conflict),
            Err(fault) => {
                tx.undo(savepoint);
                out.truncate(mark);
                session.reply(out).error(&fault.reply());
            }
        }
    }
    tx.commit().await?;
    Ok(Attempt::Done)
}
