//! Commands without a connection: on a shard, in virtual time too. For tests and fuzzers.

use std::rc::Rc;

use foreshard_engine::{Result, Shard, Ticket};

use crate::command::session::transactions::{Begun, Stage};
use crate::command::table::{self, Command, Id};
use crate::data::fault::Fault;
use crate::resp::decode::OwnedArgs;
use crate::resp::{Args, Protocol, Reply};

/// Who sends commands and has no connection: what it has begun with MULTI and WATCH.
#[derive(Debug, Default)]
pub struct Caller {
    begun: Begun,
}

impl Caller {
    /// Runs one command on keys, or of a transaction on keys, as a connection of this shard would, and returns its reply in
    /// RESP2 once that may be told. A caller stays with one shard, as a connection does.
    ///
    /// # Errors
    /// When it is not known whether what the reply tells survives.
    pub async fn execute(&mut self, shard: &Rc<Shard>, line: &[&[u8]]) -> Result<Vec<u8>> {
        let args: OwnedArgs = line.iter().copied().collect();
        let args = args.as_args();
        let mut out = Vec::new();
        let known =
            table::find_called(args).filter(|command| is_on_keys(command) && command.admits(args.len()));
        let result = match known {
            None => {
                self.begun.break_off();
                Err(NOT_ON_KEYS)
            }
            Some(command) if self.begun.is_queued(command.id) => self.begun.queue(command, args).map(|()| {
                Reply::new(&mut out, Protocol::Resp2).status("QUEUED");
                None
            }),
            Some(command) if command.is_data() => {
                Ok(Box::pin(crate::command::run_alone(shard, command.id, args, Protocol::Resp2, &mut out))
                    .await)
            }
            Some(command) => self.transact(command.id, args, shard, &mut out).await,
        };
        match result {
            Ok(Some(ticket)) => shard.committed(ticket).await?,
            Ok(None) => {}
            Err(fault) => {
                out.clear();
                Reply::new(&mut out, Protocol::Resp2).error(&fault.reply());
            }
        }
        Ok(out)
    }

    async fn transact(
        &mut self,
        id: Id,
        args: Args<'_>,
        shard: &Rc<Shard>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ticket>, Fault> {
        let mut stage = Stage { shard, protocol: Protocol::Resp2, out, ticket: None };
        // What else is queued: UNWATCH, which changes nothing within EXEC.
        let others = async |_: &'static Command, _: Args<'_>, out: &mut Vec<u8>| {
            Reply::new(out, Protocol::Resp2).ok();
            Ok(Protocol::Resp2)
        };
        Box::pin(self.begun.run(id, args, &mut stage, others)).await?;
        Ok(stage.ticket)
    }
}

const NOT_ON_KEYS: Fault = Fault::text("ERR not a command on keys, or not so many arguments");

const fn is_on_keys(command: &Command) -> bool {
    command.is_data() || matches!(command.id, Id::Multi | Id::Exec | Id::Discard | Id::Watch | Id::Unwatch)
}
