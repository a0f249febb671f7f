//! When keys expire.
//!
//! A key's meta row carries the time; the engine decides by partition time whether it has come (R6).

use foreshard_engine::entry::Expiry;

use super::table::Id;
use super::{Context, integer};
use crate::data::fault::{Fault, Result};
use crate::resp::Args;

/// How a time is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

/// A time as a client gave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) unit: Unit,
    pub(super) amount: &'a [u8],
}

impl Unit {
    /// What EX, PX, EXAT and PXAT stand for.
    pub(super) fn of_option(option: &[u8]) -> Option<Self> {
        match option.to_ascii_uppercase().as_slice() {
            b"EX" => Some(Self::Seconds),
            b"PX" => Some(Self::Milliseconds),
            b"EXAT" => Some(Self::UnixSeconds),
            b"PXAT" => Some(Self::UnixMilliseconds),
            _ => None,
        }
    }

    /// Milliseconds since 1970; none where there are too many.
    fn unix_ms(self, amount: i64, now_ms: u64) -> Option<i64> {
        let now_ms = i64::try_from(now_ms).ok()?;
        match self {
            Self::Seconds => amount.checked_mul(1000)?.checked_add(now_ms),
            Self::Milliseconds => amount.checked_add(now_ms),
            Self::UnixSeconds => amount.checked_mul(1000),
            Self::UnixMilliseconds => Some(amount),
        }
    }
}

/// The expiry that an option of `command` gives: later than 1970.
pub(super) fn deadline(given: Given<'_>, now_ms: u64, command: &str) -> Result<Expiry> {
    let invalid = || Fault::told(format!("ERR invalid expire time in '{command}' command"));
    let amount = integer(given.amount)?;
    if amount <= 0 {
        return Err(invalid());
    }
    let unix_ms = given.unit.unix_ms(amount, now_ms).ok_or_else(invalid)?;
    u64::try_from(unix_ms).map(Expiry).map_err(|_| invalid())
}

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Expire => expire(cx, args, Unit::Seconds, "expire").await,
        Id::Pexpire => expire(cx, args, Unit::Milliseconds, "pexpire").await,
        Id::Expireat => expire(cx, args, Unit::UnixSeconds, "expireat").await,
        Id::Pexpireat => expire(cx, args, Unit::UnixMilliseconds, "pexpireat").await,
        Id::Persist => persist(cx, args).await,
        _ => tell(id, cx, args).await,
    }
}

/// Under which condition on its present expiry a key gets another.
#[derive(Clone, Copy, Default, Debug)]
struct Condition {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_earlier: bool,
}

impl Condition {
    fn of(args: Args<'_>) -> Result<Self> {
        let mut condition = Self::default();
        for option in args.from(3) {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" => condition.if_none = true,
                b"XX" => condition.if_some = true,
                b"GT" => condition.if_later = true,
                b"LT" => condition.if_earlier = true,
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(Fault::told(format!("ERR Unsupported option {option}")));
                }
            }
        }
        if condition.if_none && (condition.if_some || condition.if_later || condition.if_earlier) {
            return Err(Fault::text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if condition.if_later && condition.if_earlier {
            return Err(Fault::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    fn admits(self, present: Expiry, unix_ms: i64) -> bool {
        // A key that never expires does so later than every other.
        let present = (present != Expiry::NEVER).then(|| i64::try_from(present.0).unwrap_or(i64::MAX));
        let is_later = present.is_some_and(|present| unix_ms > present);
        let is_earlier = present.is_none_or(|present| unix_ms < present);
        !(self.if_none && present.is_some()
            || self.if_some && present.is_none()
            || self.if_later && !is_later
            || self.if_earlier && !is_earlier)
    }
}

async fn expire(cx: &mut Context<'_>, args: Args<'_>, unit: Unit, name: &str) -> Result<()> {
    let condition = Condition::of(args)?;
    let amount = integer(&args[2])?;
    let unix_ms = unit.unix_ms(amount, cx.now_ms);
    let unix_ms =
        unix_ms.ok_or_else(|| Fault::told(format!("ERR invalid expire time in '{name}' command")))?;
    let (path, held) = cx.look_up(&args[1]).await?;
    let Some(held) = held.filter(|held| condition.admits(held.expiry, unix_ms)) else {
        cx.reply.integer(0);
        return Ok(());
    };
    match u64::try_from(unix_ms) {
        Ok(expiry) if expiry > cx.now_ms => cx.tx.put(path.meta, held.value, Expiry(expiry)),
        // In the past: it is gone.
        _ => cx.delete(path, &held)?,
    }
    cx.reply.integer(1);
    Ok(())
}

async fn persist(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let (path, held) = cx.look_up(&args[1]).await?;
    let held = held.filter(|held| held.expiry != Expiry::NEVER);
    cx.reply.integer(i64::from(held.is_some()));
    if let Some(held) = held {
        cx.tx.put(path.meta, held.value, Expiry::NEVER);
    }
    Ok(())
}

async fn tell(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let (_, held) = cx.look_up(&args[1]).await?;
    let told = match held.map(|held| held.expiry) {
        None => -2,
        Some(Expiry::NEVER) => -1,
        Some(expiry) => {
            let left =
                if matches!(id, Id::Ttl | Id::Pttl) { expiry.0.saturating_sub(cx.now_ms) } else { expiry.0 };
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            if matches!(id, Id::Ttl | Id::Expiretime) { left.saturating_add(500) / 1000 } else { left }
        }
    };
    cx.reply.integer(told);
    Ok(())
}
