//! Commands without a connection: on a shard, in virtual time too. For tests and fuzzers.

use std::rc::Rc;

use foreshard_engine::{Result, Shard};

use crate::command::table;
use crate::resp::decode::OwnedArgs;
use crate::resp::{Protocol, Reply};

/// Runs one command on keys as a connection of this shard would, and returns its reply in RESP2 once that may be told.
///
/// # Errors
/// When it is not known whether what the reply tells survives.
pub async fn execute(shard: &Rc<Shard>, line: &[&[u8]]) -> Result<Vec<u8>> {
    let args: OwnedArgs = line.iter().copied().collect();
    let args = args.as_args();
    let mut reply = Vec::new();
    let command = table::find_called(args).filter(|command| command.is_data() && command.admits(args.len()));
    let Some(command) = command else {
        Reply::new(&mut reply, Protocol::Resp2).error("ERR not a command on keys, or not so many arguments");
        return Ok(reply);
    };
    let run = crate::command::run_alone(shard, command.id, args, Protocol::Resp2, &mut reply);
    if let Some(ticket) = Box::pin(run).await {
        shard.committed(ticket).await?;
    }
    Ok(reply)
}
