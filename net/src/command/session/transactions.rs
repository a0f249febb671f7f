//! MULTI, EXEC and WATCH: commands that take effect all at once, wherever their keys live.
//!
//! Queued commands run one after the other on one view of the store, each seeing what those before it wrote; then all
//! writes are committed as one. A key that is watched is remembered with its version, which the commit validates: where
//! it has changed, nothing happens. A command that fails at run time undoes its own writes only, as in Redis.

use std::collections::BTreeMap;
use std::rc::Rc;

use foreshard_engine::ids::{PartitionId, TableVersion, Version};
use foreshard_engine::table::{Home, Image};
use foreshard_engine::{Shard, Ticket};

use crate::command::table::{Command, Id};
use crate::command::{CONFLICTS_MAX, Context};
use crate::data::fault::{Fault, Result};
use crate::data::layout::Path;
use crate::data::tx::{Tx, later};
use crate::resp::decode::OwnedArgs;
use crate::resp::{Args, Protocol, Reply};
use crate::server::session::Session;

/// What a client has begun.
#[derive(Debug, Default)]
struct Multi {
    queued: Vec<(&'static Command, OwnedArgs)>,
    bytes: usize,
    /// A command could not be queued: EXEC will refuse.
    is_broken: bool,
}

/// Keys that are watched.
#[derive(Debug, Default)]
struct Watches {
    /// By the key of its meta row.
    keys: BTreeMap<Vec<u8>, Watched>,
    bytes: usize,
}

/// A key as it was when it was first watched.
#[derive(Debug)]
struct Watched {
    home: Home,
    owner: Owner,
    /// The version of its meta row, if it was there.
    version: Option<Version>,
}

/// Who has a key's entity, since when: a watch ends where another owner begins, also where the entity is back by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    /// The change that moved the entity there; 0: it is at home.
    entity: TableVersion,
    partition: PartitionId,
    /// The change that gave that partition its shard, its epoch and its range.
    placed: Option<TableVersion>,
}

impl Owner {
    fn of(image: &Image, meta: &[u8]) -> Self {
        let partition = image.home_of(meta).partition;
        let placed = image.state().partitions.get(&partition).map(|entry| entry.version);
        Self { entity: image.entry_of(meta), partition, placed }
    }
}

impl Watches {
    /// The first look at a key counts.
    fn add(&mut self, meta: Vec<u8>, watched: Watched) {
        self.bytes += meta.len() + size_of::<(Vec<u8>, Watched)>();
        self.keys.insert(meta, watched);
    }
}

/// Bytes of commands that one transaction queues: what its writes may take, several times over.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// What a queued command takes besides its arguments' bytes: its place in a list that doubles, two allocations.
const QUEUED_OVERHEAD: usize = 2 * size_of::<(&Command, OwnedArgs)>() + 2 * 16;
/// Keys that one client watches.
const WATCHED_MAX: usize = 1 << 16;

impl Multi {
    /// Queues a command.
    fn queue(&mut self, command: &'static Command, args: Args<'_>) -> Result<()> {
        let args = OwnedArgs::of(args);
        self.bytes += args.bytes() + QUEUED_OVERHEAD;
        if self.bytes > QUEUED_BYTES_MAX {
            self.is_broken = true;
            (self.queued, self.bytes) = (Vec::new(), 0);
            return Err(Fault::told(format!(
                "ERR more than {QUEUED_BYTES_MAX} bytes of commands queued since MULTI"
            )));
        }
        self.queued.push((command, args));
        Ok(())
    }
}

/// What a caller has begun: commands that wait for EXEC, keys that it watches.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    multi: Option<Multi>,
    watched: Watches,
}

/// Where the commands of this file run, and what they leave to be committed before their reply is told.
pub(crate) struct Stage<'a> {
    pub(crate) shard: &'a Rc<Shard>,
    pub(crate) protocol: Protocol,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) ticket: Option<Ticket>,
}

/// Runs one of them for a client.
pub(super) async fn run(id: Id, session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let shard = Rc::clone(session.shard());
    let mut begun = std::mem::take(&mut session.begun);
    let mut stage = Stage { shard: &shard, protocol: session.protocol(), out, ticket: None };
    let others = async |command, args: Args<'_>, out: &mut Vec<u8>| {
        // HELLO changes it for what comes after.
        Box::pin(super::run(command, session, args, out)).await.map(|()| session.protocol())
    };
    let result = begun.run(id, args, &mut stage, others).await;
    session.depends_on(stage.ticket);
    session.client().queued.set(begun.queued());
    session.begun = begun;
    result
}

impl Begun {
    /// What EXEC would run.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static Command, Args<'_>)> {
        let queued = self.multi.iter().flat_map(|multi| &multi.queued);
        queued.map(|(command, args)| (*command, args.as_args()))
    }

    /// Commands queued since MULTI; none outside of one.
    pub(crate) fn queued(&self) -> Option<usize> {
        self.multi.as_ref().map(|multi| multi.queued.len())
    }

    /// Whether a command waits for EXEC.
    pub(crate) const fn is_queued(&self, id: Id) -> bool {
        self.multi.is_some()
            && !matches!(id, Id::Exec | Id::Discard | Id::Multi | Id::Watch | Id::Quit | Id::Reset)
    }

    /// Queues a command.
    ///
    /// # Errors
    /// When there is no room; EXEC will refuse.
    pub(crate) fn queue(&mut self, command: &'static Command, args: Args<'_>) -> Result<()> {
        self.multi.as_mut().map_or(Ok(()), |multi| multi.queue(command, args))
    }

    /// A command was refused: EXEC will refuse.
    pub(crate) const fn break_off(&mut self) {
        if let Some(multi) = &mut self.multi {
            multi.is_broken = true;
        }
    }

    /// Memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.multi.as_ref().map_or(0, |multi| multi.bytes) + self.watched.bytes
    }

    /// Runs MULTI, EXEC, DISCARD, WATCH or UNWATCH; `others` runs the commands in an EXEC that are not about data.
    pub(crate) async fn run(
        &mut self,
        id: Id,
        args: Args<'_>,
        stage: &mut Stage<'_>,
        others: impl AsyncFnMut(&'static Command, Args<'_>, &mut Vec<u8>) -> Result<Protocol>,
    ) -> Result<()> {
        match id {
            Id::Multi if self.multi.is_some() => {
                return Err(Fault::text("ERR MULTI calls can not be nested"));
            }
            Id::Multi => self.multi = Some(Multi::default()),
            Id::Discard => {
                self.multi.take().ok_or(Fault::text("ERR DISCARD without MULTI"))?;
                self.watched = Watches::default();
            }
            Id::Watch => self.watch(args, stage).await?,
            Id::Unwatch => self.watched = Watches::default(),
            _ => return self.exec(stage, others).await,
        }
        stage.reply().ok();
        Ok(())
    }

    async fn watch(&mut self, args: Args<'_>, stage: &mut Stage<'_>) -> Result<()> {
        if self.multi.is_some() {
            return Err(Fault::text("ERR WATCH inside MULTI is not allowed"));
        }
        if self.watched.keys.len() + args.len() > WATCHED_MAX {
            return Err(Fault::told(format!("ERR more than {WATCHED_MAX} keys watched")));
        }
        let mut tx = Tx::new(stage.shard);
        for key in args.from(1) {
            let path = tx.path(key)?;
            if !self.watched.keys.contains_key(&path.meta) {
                // The place before the version: a move in between is noticed later.
                let owner = Owner::of(&stage.shard.map(), &path.meta);
                let version = tx.version(&path).await?;
                self.watched.add(path.meta, Watched { home: path.home, owner, version });
            }
        }
        stage.ticket = later(stage.ticket, tx.ticket());
        Ok(())
    }

    async fn exec(
        &mut self,
        stage: &mut Stage<'_>,
        mut others: impl AsyncFnMut(&'static Command, Args<'_>, &mut Vec<u8>) -> Result<Protocol>,
    ) -> Result<()> {
        let multi = self.multi.take().ok_or(Fault::text("ERR EXEC without MULTI"))?;
        let watched = std::mem::take(&mut self.watched);
        if multi.is_broken {
            return Err(Fault::text("EXECABORT Transaction discarded because of previous errors."));
        }
        let mark = stage.out.len();
        for _ in 0..CONFLICTS_MAX {
            let mut tx = Tx::new(stage.shard);
            let result = attempt(&mut tx, &multi, &watched, stage, &mut others).await;
            stage.ticket = later(stage.ticket, tx.ticket());
            match result {
                Ok(Attempt::Done) => return Ok(()),
                Ok(Attempt::Refused) => {
                    stage.out.truncate(mark);
                    stage.reply().null_array();
                    return Ok(());
                }
                Err(Fault::Conflict) => {
                    stage.out.truncate(mark);
                    stage.shard.runtime().yield_now().await;
                }
                Err(Fault::Moved(version)) => {
                    stage.out.truncate(mark);
                    stage.shard.knows(version).await?;
                }
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::Conflict)
    }
}

impl Stage<'_> {
    fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.protocol)
    }
}

/// How an attempt ended that did not lose to others.
enum Attempt {
    Done,
    /// A watched key has changed.
    Refused,
}

async fn attempt(
    tx: &mut Tx,
    multi: &Multi,
    watched: &Watches,
    stage: &mut Stage<'_>,
    others: &mut impl AsyncFnMut(&'static Command, Args<'_>, &mut Vec<u8>) -> Result<Protocol>,
) -> Result<Attempt> {
    for (meta, Watched { home, owner, version }) in &watched.keys {
        // A watch ends where its row's owner does, also where the row is back with it.
        let is_here = Owner::of(&stage.shard.map(), meta) == *owner;
        let path = Path { meta: meta.clone(), home: *home };
        if !is_here || tx.version(&path).await? != *version {
            return Ok(Attempt::Refused);
        }
    }
    stage.reply().array(multi.queued.len());
    let now_ms = tx.shard().runtime().wall_ms();
    for (command, args) in &multi.queued {
        let (mark, savepoint) = (stage.out.len(), tx.savepoint());
        let result = if command.is_data() {
            let mut context = Context::new(tx, stage.reply());
            context.now_ms = now_ms;
            crate::command::run(command.id, &mut context, args.as_args()).await
        } else {
            others(command, args.as_args(), stage.out).await.map(|protocol| stage.protocol = protocol)
        };
        match result {
            Ok(()) => {}
            Err(fault @ (Fault::Conflict | Fault::Moved(_))) => return Err(fault),
            Err(fault) => {
                tx.undo(savepoint);
                stage.out.truncate(mark);
                stage.reply().error(&fault.reply());
            }
        }
    }
    tx.commit().await?;
    Ok(Attempt::Done)
}
