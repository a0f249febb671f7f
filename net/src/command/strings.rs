//! Commands that get and set whole strings.

use foreshard_engine::entry::Expiry;

use super::expiry::{Given, Unit, deadline};
use super::table::Id;
use super::{Context, StringAt, is};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::data::value::Value;
use crate::resp::Args;

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Get => {
            let found = cx.string(&args[1]).await?;
            cx.reply.bulk_or_null(found.bytes.as_deref());
            Ok(())
        }
        Id::Set => set(cx, args).await,
        Id::Setnx => set_if_absent(cx, args).await,
        Id::Setex => set_with_ttl(cx, args, Unit::Seconds, "setex"),
        Id::Psetex => set_with_ttl(cx, args, Unit::Milliseconds, "psetex"),
        Id::Getset => get_set(cx, args).await,
        Id::Getdel => get_delete(cx, args).await,
        Id::Getex => get_expire(cx, args).await,
        Id::Mget => get_many(cx, args).await,
        Id::Mset => {
            set_many(cx, args, "mset")?;
            cx.reply.ok();
            Ok(())
        }
        Id::Msetnx => set_many_if_absent(cx, args).await,
        Id::Append | Id::Strlen | Id::Getrange | Id::Setrange | Id::Substr => {
            super::ranges::run(id, cx, args).await
        }
        Id::Lcs => super::lcs::run(cx, args).await,
        _ => super::numbers::run(id, cx, args).await,
    }
}

/// SET's options.
#[derive(Clone, Copy, Default, Debug)]
struct SetOptions<'a> {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep_ttl: bool,
    expiry: Option<Given<'a>>,
}

fn set_options(args: Args<'_>) -> Result<SetOptions<'_>> {
    let mut options = SetOptions::default();
    let mut rest = args.from(3);
    while let Some(option) = rest.next() {
        let unit = Unit::of_option(option);
        // The same once more is no contradiction: the last one counts.
        let is_timed = options.keep_ttl || options.expiry.is_some_and(|given| Some(given.unit) != unit);
        if is(option, "NX") && !options.if_present {
            options.if_absent = true;
        } else if is(option, "XX") && !options.if_absent {
            options.if_present = true;
        } else if is(option, "GET") {
            options.get = true;
        } else if is(option, "KEEPTTL") && options.expiry.is_none() {
            options.keep_ttl = true;
        } else if let Some(unit) = unit
            && !is_timed
            && let Some(amount) = rest.next()
        {
            options.expiry = Some(Given { unit, amount });
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(options)
}

async fn set(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let options = set_options(args)?;
    let expiry = match options.expiry {
        Some(given) => deadline(given, cx.now_ms, "set")?,
        None => Expiry::NEVER,
    };
    if !(options.if_absent || options.if_present || options.get || options.keep_ttl) {
        let path = cx.tx.path(&args[1])?;
        cx.set_string(path, &args[2], expiry)?;
        cx.reply.ok();
        return Ok(());
    }
    let (path, held) = cx.look_up(&args[1]).await?;
    let before = match &held {
        Some(held) if options.get => Some(Value::decode(&held.value)?.string()?),
        _ => None,
    };
    let is_there = held.is_some();
    let sets = !(options.if_absent && is_there || options.if_present && !is_there);
    if options.get {
        cx.reply.bulk_or_null(before);
    } else if sets {
        cx.reply.ok();
    } else {
        cx.reply.null();
    }
    if sets {
        let kept = held.as_ref().map_or(Expiry::NEVER, |held| held.expiry);
        cx.set_string(path, &args[2], if options.keep_ttl { kept } else { expiry })?;
    }
    Ok(())
}

async fn set_if_absent(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let (path, held) = cx.look_up(&args[1]).await?;
    if held.is_none() {
        cx.set_string(path, &args[2], Expiry::NEVER)?;
    }
    cx.reply.integer(i64::from(held.is_none()));
    Ok(())
}

fn set_with_ttl(cx: &mut Context<'_>, args: Args<'_>, unit: Unit, name: &str) -> Result<()> {
    let expiry = deadline(Given { unit, amount: &args[2] }, cx.now_ms, name)?;
    let path = cx.tx.path(&args[1])?;
    cx.set_string(path, &args[3], expiry)?;
    cx.reply.ok();
    Ok(())
}

async fn get_set(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let StringAt { path, bytes, .. } = cx.string(&args[1]).await?;
    cx.reply.bulk_or_null(bytes.as_deref());
    cx.set_string(path, &args[2], Expiry::NEVER)
}

async fn get_delete(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let StringAt { path, bytes, .. } = cx.string(&args[1]).await?;
    cx.reply.bulk_or_null(bytes.as_deref());
    if bytes.is_some() {
        cx.tx.delete(path.meta);
    }
    Ok(())
}

async fn get_expire(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let given = match (args.get(2), args.get(3), args.len()) {
        (None, ..) => None,
        (Some(option), None, _) if is(option, "PERSIST") => Some(None),
        (Some(option), Some(amount), 4) => {
            let unit = Unit::of_option(option).ok_or(SYNTAX)?;
            Some(Some(Given { unit, amount }))
        }
        _ => return Err(SYNTAX),
    };
    let StringAt { path, bytes, expiry } = cx.string(&args[1]).await?;
    // Of a key that is not there no time is looked at.
    if let (Some(bytes), Some(given)) = (&bytes, given) {
        let change = given.map_or(Ok(Expiry::NEVER), |given| deadline(given, cx.now_ms, "getex"))?;
        if change != expiry {
            cx.set_string(path, bytes, change)?;
        }
    }
    cx.reply.bulk_or_null(bytes.as_deref());
    Ok(())
}

async fn get_many(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    cx.reply.array(args.len() - 1);
    for key in args.from(1) {
        let (_, held) = cx.look_up(key).await?;
        let value = held.as_ref().map(|held| Value::decode(&held.value)).transpose()?;
        cx.reply.bulk_or_null(value.and_then(|value| value.string().ok()));
    }
    Ok(())
}

/// Keys and values in turn; the last value of a key counts.
fn set_many(cx: &mut Context<'_>, args: Args<'_>, name: &str) -> Result<()> {
    if args.len().is_multiple_of(2) {
        return Err(Fault::told(format!("ERR wrong number of arguments for '{name}' command")));
    }
    for n in (1..args.len()).step_by(2) {
        let path = cx.tx.path(&args[n])?;
        cx.set_string(path, &args[n + 1], Expiry::NEVER)?;
    }
    Ok(())
}

async fn set_many_if_absent(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    if args.len().is_multiple_of(2) {
        return Err(Fault::text("ERR wrong number of arguments for 'msetnx' command"));
    }
    for n in (1..args.len()).step_by(2) {
        if cx.look_up(&args[n]).await?.1.is_some() {
            cx.reply.integer(0);
            return Ok(());
        }
    }
    set_many(cx, args, "msetnx")?;
    cx.reply.integer(1);
    Ok(())
}
