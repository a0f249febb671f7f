//! Commands on keys of any kind.

use foreshard_engine::entry::Expiry;

use super::table::{self, Id};
use super::{Context, integer, is};
use crate::data::fault::{Fault, NO_SUCH_KEY, Result, SYNTAX};
use crate::data::hash::Hash;
use crate::data::layout::{self, Path};
use crate::data::tx::Held;
use crate::data::value::{HashMeta, Value};
use crate::resp::Args;

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Del | Id::Unlink => delete(cx, args).await,
        Id::Exists | Id::Touch => exists(cx, args).await,
        Id::Type => kind(cx, args).await,
        Id::Rename | Id::Renamenx => rename(id, cx, args).await,
        Id::Copy => copy(cx, args).await,
        Id::ObjectEncoding => encoding(cx, args).await,
        Id::ObjectRefcount => {
            let (_, held) = cx.look_up(&args[2]).await?;
            match held {
                Some(_) => cx.reply.integer(1),
                None => cx.reply.null(),
            }
            Ok(())
        }
        Id::ObjectIdletime => usage_unknown(cx, args, NO_IDLE_TIMES).await,
        Id::ObjectFreq => usage_unknown(cx, args, NO_FREQUENCIES).await,
        Id::ObjectHelp => help(cx, "object"),
        Id::MemoryHelp => help(cx, "memory"),
        Id::MemoryUsage => memory_usage(cx, args).await,
        Id::Expire
        | Id::Pexpire
        | Id::Expireat
        | Id::Pexpireat
        | Id::Persist
        | Id::Ttl
        | Id::Pttl
        | Id::Expiretime
        | Id::Pexpiretime => super::expiry::run(id, cx, args).await,
        _ => super::walks::run(id, cx, args).await,
    }
}

const NO_FREQUENCIES: Fault = Fault::text(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
     between policies at runtime LRU and LFU data will take some time to adjust.",
);
const NO_IDLE_TIMES: Fault =
    Fault::text("ERR idle times are not tracked: nothing is evicted here, and reads write nothing");

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

async fn kind(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let (_, held) = cx.look_up(&args[1]).await?;
    match held {
        Some(held) => cx.reply.status(Value::decode(&held.value)?.type_name()),
        None => cx.reply.status("none"),
    }
    Ok(())
}

async fn rename(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let (from, held) = cx.look_up(&args[1]).await?;
    let held = held.ok_or(NO_SUCH_KEY)?;
    let only_if_free = id == Id::Renamenx;
    let (to, target) = cx.look_up(&args[2]).await?;
    if only_if_free && target.is_some() {
        cx.reply.integer(0);
        return Ok(());
    }
    if from != to {
        if let Some(target) = target {
            cx.delete(to.clone(), &target)?;
        }
        put_copy(cx, &from, &held, to).await?;
        cx.delete(from, &held)?;
    }
    if only_if_free {
        cx.reply.integer(1);
    } else {
        cx.reply.ok();
    }
    Ok(())
}

async fn copy(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let mut replace = false;
    let mut rest = args.from(3);
    while let Some(option) = rest.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB")
            && let Some(index) = rest.next()
        {
            if integer(index)? != 0 {
                return Err(Fault::text("ERR DB index is out of range"));
            }
        } else {
            return Err(SYNTAX);
        }
    }
    if args[1] == args[2] {
        return Err(Fault::text("ERR source and destination objects are the same"));
    }
    let (from, held) = cx.look_up(&args[1]).await?;
    let (to, target) = cx.look_up(&args[2]).await?;
    let Some(held) = held.filter(|_| replace || target.is_none()) else {
        cx.reply.integer(0);
        return Ok(());
    };
    if let Some(target) = target {
        cx.delete(to.clone(), &target)?;
    }
    put_copy(cx, &from, &held, to).await?;
    cx.reply.integer(1);
    Ok(())
}

/// Writes what is at `from` to `to`, where nothing is, with its expiry.
async fn put_copy(cx: &mut Context<'_>, from: &Path, held: &Held, to: Path) -> Result<()> {
    let Some(mut hash) = Hash::of(from.clone(), Some(held)).or_else(string_is_none)? else {
        cx.set_row(to, held.value.clone(), held.expiry);
        return Ok(());
    };
    let meta = HashMeta { generation: cx.tx.generation(&to).await?, ..hash.meta };
    let Some(mut walk) = hash.walk(cx.tx, 0).await? else { return Err(Fault::Conflict) };
    let mut fields = 0;
    loop {
        let page = walk.next(cx.tx, &hash, usize::MAX).await?;
        if page.is_empty() {
            break;
        }
        for field in page {
            let key = layout::field(&to.meta, meta.generation, &field.name)?;
            cx.tx.put(key, field.value, Expiry::NEVER);
            fields += 1;
        }
    }
    let copied = HashMeta { fields, ..meta };
    cx.tx.put(to.meta, copied.row(), held.expiry);
    Ok(())
}

/// A string has no fields to copy.
fn string_is_none(fault: Fault) -> Result<Option<Hash>> {
    match fault {
        Fault::Reply(text) if text.starts_with("WRONGTYPE") => Ok(None),
        Fault::Reply(_) | Fault::Conflict | Fault::Moved(_) | Fault::Engine(_) => Err(fault),
    }
}

/// The encoding that Redis would choose for a value of this content.
async fn encoding(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    /// Redis's defaults: longer strings are not embedded, and hashes with more or longer fields are tables.
    const EMBEDDED_BYTES_MAX: usize = 44;
    const PACKED_FIELDS_MAX: u64 = 128;
    const PACKED_BYTES_MAX: usize = 64;
    let (path, held) = cx.look_up(&args[2]).await?;
    let Some(held) = held else {
        cx.reply.null();
        return Ok(());
    };
    let encoding = match Value::decode(&held.value)? {
        Value::String(bytes) if crate::data::number::parse_integer(bytes).is_some() => "int",
        Value::String(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => "embstr",
        Value::String(_) => "raw",
        Value::Hash(meta) if meta.fields > PACKED_FIELDS_MAX => "hashtable",
        Value::Hash(_) => {
            let mut longest = 0;
            if let Some(mut hash) = Hash::of(path, Some(&held))?
                && let Some(mut walk) = hash.walk(cx.tx, 0).await?
            {
                let fields = walk.next(cx.tx, &hash, usize::MAX).await?;
                longest = fields.iter().map(|f| f.name.len().max(f.value.len())).max().unwrap_or(0);
            }
            if longest > PACKED_BYTES_MAX { "hashtable" } else { "listpack" }
        }
    };
    cx.reply.bulk(encoding.as_bytes());
    Ok(())
}

async fn usage_unknown(cx: &mut Context<'_>, args: Args<'_>, told: Fault) -> Result<()> {
    match cx.look_up(&args[2]).await?.1 {
        Some(_) => Err(told),
        None => {
            cx.reply.null();
            Ok(())
        }
    }
}

/// What a row costs beside its key and value: version, expiry, lengths, its place in an index.
const ROW_OVERHEAD_BYTES: usize = 48;

async fn memory_usage(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let samples = match args.len() {
        3 => 5,
        5 if is(&args[3], "SAMPLES") => usize::try_from(integer(&args[4])?).map_err(|_| SYNTAX)?,
        _ => return Err(SYNTAX),
    };
    let (path, held) = cx.look_up(&args[2]).await?;
    let Some(held) = held else {
        cx.reply.null();
        return Ok(());
    };
    let key_bytes = path.meta.len();
    let mut bytes = key_bytes + held.value.len() + ROW_OVERHEAD_BYTES;
    if let Value::Hash(meta) = Value::decode(&held.value)?
        && let Some(mut hash) = Hash::of(path, Some(&held))?
        && let Some(mut walk) = hash.walk(cx.tx, 0).await?
    {
        let fields = usize::try_from(meta.fields).unwrap_or(usize::MAX);
        let sampled = walk.next(cx.tx, &hash, if samples == 0 { usize::MAX } else { samples }).await?;
        let of_sampled: usize =
            sampled.iter().map(|f| key_bytes + 12 + f.name.len() + f.value.len() + ROW_OVERHEAD_BYTES).sum();
        bytes += of_sampled.saturating_mul(fields) / sampled.len().max(1);
    }
    cx.reply.count(bytes);
    Ok(())
}

/// What a command's subcommands are, from the table.
fn help(cx: &mut Context<'_>, command: &str) -> Result<()> {
    table::help(&mut cx.reply, command);
    Ok(())
}
