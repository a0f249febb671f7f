//! Commands on keys of any kind.

use super::Context;
use super::table::Id;
use crate::data::fault::{Fault, Result};
use crate::resp::Args;

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Del | Id::Unlink => delete(cx, args).await,
        Id::Exists | Id::Touch => exists(cx, args).await,
        _ => Err(Fault::text("ERR unknown command")),
    }
}

async fn delete(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let mut deleted = 0;
    for key in args.from(1) {
        let (path, held) = cx.look_up(key).await?;
        if let Some(held) = held {
            cx.delete(path, &held)?;
            deleted += 1;
        }
    }
    cx.reply.integer(deleted);
    Ok(())
}

async fn exists(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let mut found = 0;
    for key in args.from(1) {
        found += i64::from(cx.look_up(key).await?.1.is_some());
    }
    cx.reply.integer(found);
    Ok(())
}
