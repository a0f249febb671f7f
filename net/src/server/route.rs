//! Which shard runs a command, and how it gets there.
//!
//! A command whose keys all lie on another shard is run there, as a job with a copy of its arguments; its reply comes
//! back with the ticket of what it tells. A command whose keys lie on several shards is run here, on rows fetched from
//! each.

use std::rc::Rc;

use foreshard_engine::ids::ShardId;
use foreshard_engine::{Shard, Ticket};

use crate::command::table::Command;
use crate::data::fault::{Fault, Result};
use crate::data::layout;
use crate::resp::decode::OwnedArgs;
use crate::resp::{Args, Protocol};

/// The shard that owns all keys of a command; none where they lie on several, or there are none.
pub(crate) fn owner_of(shard: &Shard, command: &Command, args: Args<'_>) -> Option<ShardId> {
    let mut owner = None;
    let mut storage = Vec::new();
    for key in command.keys(args) {
        storage.clear();
        // A key over its limit is refused where it is used.
        layout::encode(key, &mut storage).ok()?;
        let shard = shard.map().home_of(&storage).shard;
        if owner.is_some_and(|owner| owner != shard) {
            return None;
        }
        owner = Some(shard);
    }
    owner
}

/// Runs a command on another shard; its reply, and what must be committed there before that is told. With `settled`,
/// it is when this returns.
pub(crate) async fn forward(
    shard: &Rc<Shard>,
    owner: ShardId,
    command: &'static Command,
    args: Args<'_>,
    protocol: Protocol,
    settled: bool,
) -> Result<(Vec<u8>, Option<Ticket>)> {
    let (args, seen) = (OwnedArgs::of(args), shard.map().version());
    let work = move |shard: Rc<Shard>| async move {
        // As far as whoever sent it here: what it finds not to be here it looks for further on.
        shard.knows(seen).await?;
        let mut out = Vec::new();
        let run = crate::command::run_alone(&shard, command.id, args.as_args(), protocol, &mut out);
        let ticket = Box::pin(run).await;
        match ticket {
            Some(ticket) if settled => {
                shard.committed(ticket).await?;
                Ok((out, None))
            }
            ticket => Ok((out, ticket)),
        }
    };
    shard.on_shard(owner, work).await.map_err(Fault::from)
}
