//! Commands on strings.

use foreshard_engine::entry::Expiry;

use super::Context;
use super::table::Id;
use crate::data::fault::{Fault, Result};
use crate::resp::Args;

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Get => {
            let found = cx.string(&args[1]).await?;
            cx.reply.bulk_or_null(found.bytes.as_deref());
            Ok(())
        }
        Id::Set => {
            let path = cx.tx.path(&args[1])?;
            cx.set_string(path, &args[2], Expiry::NEVER)?;
            cx.reply.ok();
            Ok(())
        }
        _ => Err(Fault::text("ERR unknown command")),
    }
}
