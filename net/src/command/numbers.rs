//! Commands that take a string for a number.

use super::table::Id;
use super::{Context, StringAt, integer};
use crate::data::fault::{Fault, NOT_A_FLOAT, NOT_AN_INTEGER, Result};
use crate::data::number::{Decimal, parse_integer};
use crate::resp::Args;

pub(super) const OVERFLOW: Fault = Fault::text("ERR increment or decrement would overflow");

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Incr => add(cx, args, 1).await,
        Id::Decr => add(cx, args, -1).await,
        Id::Incrby => add(cx, args, integer(&args[2])?).await,
        Id::Decrby => {
            let amount = integer(&args[2])?.checked_neg();
            add(cx, args, amount.ok_or(Fault::text("ERR decrement would overflow"))?).await
        }
        _ => add_float(cx, args).await,
    }
}

async fn add(cx: &mut Context<'_>, args: Args<'_>, amount: i64) -> Result<()> {
    let StringAt { path, bytes, expiry } = cx.string(&args[1]).await?;
    let before = match bytes {
        Some(bytes) => parse_integer(&bytes).ok_or(NOT_AN_INTEGER)?,
        None => 0,
    };
    let sum = before.checked_add(amount).ok_or(OVERFLOW)?;
    cx.reply.integer(sum);
    cx.set_string(path, itoa::Buffer::new().format(sum).as_bytes(), expiry)
}

async fn add_float(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let StringAt { path, bytes, expiry } = cx.string(&args[1]).await?;
    let before = Decimal::parse(bytes.as_deref().unwrap_or(b"0")).ok_or(NOT_A_FLOAT)?;
    let amount = Decimal::parse(&args[2]).ok_or(NOT_A_FLOAT)?;
    let sum = before.plus(amount).ok_or(Fault::text("ERR increment would produce NaN or Infinity"))?;
    let text = sum.to_string();
    cx.reply.bulk(text.as_bytes());
    cx.set_string(path, text.as_bytes(), expiry)
}
