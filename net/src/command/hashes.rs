//! Commands on fields of hashes.

use super::table::Id;
use super::{Context, integer};
use crate::data::fault::{Fault, NOT_A_FLOAT, Result};
use crate::data::hash::Hash;
use crate::data::number::{Decimal, parse_integer};
use crate::data::value::HashMeta;
use crate::resp::Args;

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Hset | Id::Hmset => set(id, cx, args).await,
        Id::Hsetnx => set_if_absent(cx, args).await,
        Id::Hget => {
            let value = get(cx, &args[1], &args[2]).await?;
            cx.reply.bulk_or_null(value.as_deref());
            Ok(())
        }
        Id::Hmget => get_many(cx, args).await,
        Id::Hdel => delete(cx, args).await,
        Id::Hlen => {
            let hash = find(cx, &args[1]).await?;
            let fields = hash.map_or(0, |hash| hash.meta.fields);
            cx.reply.integer(i64::try_from(fields).unwrap_or(i64::MAX));
            Ok(())
        }
        Id::Hexists => {
            let value = get(cx, &args[1], &args[2]).await?;
            cx.reply.integer(i64::from(value.is_some()));
            Ok(())
        }
        Id::Hstrlen => {
            let value = get(cx, &args[1], &args[2]).await?;
            cx.reply.count(value.map_or(0, |value| value.len()));
            Ok(())
        }
        Id::Hincrby => add(cx, args).await,
        Id::Hincrbyfloat => add_float(cx, args).await,
        _ => super::hash_walks::run(id, cx, args).await,
    }
}

/// The hash at a key, if there is one.
pub(super) async fn find(cx: &mut Context<'_>, key: &[u8]) -> Result<Option<Hash>> {
    let (path, held) = cx.look_up(key).await?;
    Hash::of(path, held.as_ref())
}

/// The hash at a key, or an empty one to be written there.
async fn find_or_begin(cx: &mut Context<'_>, key: &[u8]) -> Result<Hash> {
    let (path, held) = cx.look_up(key).await?;
    if let Some(hash) = Hash::of(path.clone(), held.as_ref())? {
        return Ok(hash);
    }
    let meta = HashMeta { generation: cx.tx.generation(&path).await?, fields: 0 };
    Ok(Hash { path, meta, expiry: foreshard_engine::entry::Expiry::NEVER })
}

async fn get(cx: &mut Context<'_>, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>> {
    match find(cx, key).await? {
        Some(hash) => hash.get(cx.tx, field).await,
        None => Ok(None),
    }
}

async fn set(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    if !args.len().is_multiple_of(2) {
        let name = if id == Id::Hset { "hset" } else { "hmset" };
        return Err(Fault::told(format!("ERR wrong number of arguments for '{name}' command")));
    }
    let mut hash = find_or_begin(cx, &args[1]).await?;
    let mut added = 0;
    for n in (2..args.len()).step_by(2) {
        added += i64::from(hash.set(cx.tx, &args[n], &args[n + 1]).await?);
    }
    hash.write(cx.tx);
    if id == Id::Hset {
        cx.reply.integer(added);
    } else {
        cx.reply.ok();
    }
    Ok(())
}

async fn set_if_absent(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let mut hash = find_or_begin(cx, &args[1]).await?;
    let is_new = hash.get(cx.tx, &args[2]).await?.is_none();
    if is_new {
        hash.set(cx.tx, &args[2], &args[3]).await?;
        hash.write(cx.tx);
    }
    cx.reply.integer(i64::from(is_new));
    Ok(())
}

async fn get_many(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let hash = find(cx, &args[1]).await?;
    cx.reply.array(args.len() - 2);
    for field in args.from(2) {
        let value = match &hash {
            Some(hash) => hash.get(cx.tx, field).await?,
            None => None,
        };
        cx.reply.bulk_or_null(value.as_deref());
    }
    Ok(())
}

async fn delete(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let mut deleted = 0;
    if let Some(mut hash) = find(cx, &args[1]).await? {
        for field in args.from(2) {
            deleted += i64::from(hash.remove(cx.tx, field).await?);
        }
        if deleted > 0 {
            hash.write(cx.tx);
        }
    }
    cx.reply.integer(deleted);
    Ok(())
}

async fn add(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let amount = integer(&args[3])?;
    let mut hash = find_or_begin(cx, &args[1]).await?;
    let before = match hash.get(cx.tx, &args[2]).await? {
        Some(value) => parse_integer(&value).ok_or(Fault::text("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = before.checked_add(amount).ok_or(super::numbers::OVERFLOW)?;
    hash.set(cx.tx, &args[2], itoa::Buffer::new().format(sum).as_bytes()).await?;
    hash.write(cx.tx);
    cx.reply.integer(sum);
    Ok(())
}

async fn add_float(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let amount = Decimal::parse(&args[3]).ok_or(NOT_A_FLOAT)?;
    if matches!(amount, Decimal::Float(amount) if amount.is_infinite()) {
        return Err(Fault::text("ERR value is NaN or Infinity"));
    }
    let mut hash = find_or_begin(cx, &args[1]).await?;
    let before = hash.get(cx.tx, &args[2]).await?;
    let before = Decimal::parse(before.as_deref().unwrap_or(b"0"));
    let before = before.ok_or(Fault::text("ERR hash value is not a float"))?;
    let sum = before.plus(amount).ok_or(Fault::text("ERR increment would produce NaN or Infinity"))?;
    let text = sum.to_string();
    hash.set(cx.tx, &args[2], text.as_bytes()).await?;
    hash.write(cx.tx);
    cx.reply.bulk(text.as_bytes());
    Ok(())
}
