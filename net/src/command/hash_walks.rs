//! Commands that look at many fields of a hash.

use super::hashes::find;
use super::table::Id;
use super::walks::ScanOptions;
use super::{Context, integer, is};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::data::glob;
use crate::data::hash::{Field, Hash};
use crate::resp::{Args, Protocol, Reply};

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Hgetall => all(cx, args, true, true).await,
        Id::Hkeys => all(cx, args, true, false).await,
        Id::Hvals => all(cx, args, false, true).await,
        Id::Hscan => scan(cx, args).await,
        _ => random(cx, args).await,
    }
}

async fn all(cx: &mut Context<'_>, args: Args<'_>, names: bool, values: bool) -> Result<()> {
    // The replies are counted before they are announced: what is there decides, not what the meta row says.
    let (mut count, mut body) = (0, Vec::new());
    if let Some(mut hash) = find(cx, &args[1]).await?
        && let Some(mut walk) = hash.walk(cx.tx, 0).await?
    {
        loop {
            let fields = walk.next(cx.tx, &hash, usize::MAX).await?;
            if fields.is_empty() {
                break;
            }
            count += fields.len();
            let mut reply = Reply::new(&mut body, cx.reply.protocol());
            for field in &fields {
                if names {
                    reply.bulk(&field.name);
                }
                if values {
                    reply.bulk(&field.value);
                }
            }
        }
    }
    if names && values {
        cx.reply.map(count);
    } else {
        cx.reply.array(count);
    }
    cx.reply.raw(&body);
    Ok(())
}

/// A cursor is the place of the field to go on with, plus one. Fields of one place come together.
async fn scan(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let cursor = super::walks::cursor(&args[2])?;
    let options = ScanOptions::parse(args, 3)?;
    if options.kind.is_some() {
        return Err(SYNTAX);
    }
    let (mut found, mut next) = (Vec::new(), 0);
    let place = u32::try_from(cursor.saturating_sub(1));
    if let (Some(mut hash), Ok(place)) = (find(cx, &args[1]).await?, place)
        && let Some(mut walk) = hash.walk(cx.tx, place).await?
    {
        let mut looked_at = 0;
        let mut last = None;
        'walk: loop {
            let fields = walk.next(cx.tx, &hash, options.count + 1).await?;
            if fields.is_empty() {
                break;
            }
            for field in fields {
                if looked_at >= options.count && last != Some(field.place) {
                    next = u64::from(field.place) + 1;
                    break 'walk;
                }
                (looked_at, last) = (looked_at + 1, Some(field.place));
                if options.pattern.is_none_or(|pattern| glob::matches(pattern, &field.name, false)) {
                    found.push(field);
                }
            }
        }
    }
    cx.reply.array(2);
    cx.reply.bulk(next.to_string().as_bytes());
    cx.reply.array(2 * found.len());
    for field in found {
        cx.reply.bulk(&field.name);
        cx.reply.bulk(&field.value);
    }
    Ok(())
}

/// HRANDFIELD gathers so many fields at once; with repetition, each is looked up by itself.
const RANDOM_FIELDS_MAX: u64 = 1 << 20;

async fn random(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let Some(count) = args.get(2) else {
        let field = match find(cx, &args[1]).await? {
            Some(mut hash) => some(cx, &mut hash, 1).await?.into_iter().next(),
            None => None,
        };
        cx.reply.bulk_or_null(field.as_ref().map(|field| field.name.as_slice()));
        return Ok(());
    };
    let count = integer(count)?;
    let with_values = match args.get(3) {
        None => false,
        Some(option) if is(option, "WITHVALUES") && args.len() == 4 => true,
        Some(_) => return Err(SYNTAX),
    };
    if count.unsigned_abs() > RANDOM_FIELDS_MAX && (count < 0 || with_values && count > i64::MAX / 2) {
        return Err(Fault::text("ERR value is out of range"));
    }
    let mut fields = Vec::new();
    if let Some(mut hash) = find(cx, &args[1]).await? {
        fields = some(cx, &mut hash, count).await?;
    }
    let in_pairs = with_values && cx.reply.protocol() == Protocol::Resp3;
    cx.reply.array(if with_values && !in_pairs { 2 * fields.len() } else { fields.len() });
    for field in fields {
        if in_pairs {
            cx.reply.array(2);
        }
        cx.reply.bulk(&field.name);
        if with_values {
            cx.reply.bulk(&field.value);
        }
    }
    Ok(())
}

/// Fields at random: so many different ones, or, below zero, so many in all. Of a hash that is read at once each is as likely as
/// every other; of a larger one they are found by place, which is less even.
async fn some(cx: &mut Context<'_>, hash: &mut Hash, count: i64) -> Result<Vec<Field>> {
    if hash.is_short()
        && let Some(mut walk) = hash.walk(cx.tx, 0).await?
    {
        let read = walk.next(cx.tx, hash, usize::MAX).await?;
        if read.len() as u64 == hash.meta.fields {
            return Ok(evenly(cx, read, count));
        }
    }
    if count >= 0 {
        return distinct(cx, hash, count.unsigned_abs()).await;
    }
    let mut picked = Vec::new();
    for _ in 0..count.unsigned_abs() {
        picked.extend(pick(cx, hash).await?);
    }
    Ok(picked)
}

fn evenly(cx: &mut Context<'_>, mut all: Vec<Field>, count: i64) -> Vec<Field> {
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        return (0..wanted).filter_map(|_| cx.random.choice(&all).cloned()).collect();
    }
    cx.random.shuffle(&mut all);
    all.truncate(wanted);
    all
}

/// A field picked at random: the first one from a random place on. Places are hashes, so that they lie evenly.
async fn pick(cx: &mut Context<'_>, hash: &mut Hash) -> Result<Option<Field>> {
    let from = cx.random.u32(..);
    for place in [from, 0] {
        if let Some(mut walk) = hash.walk(cx.tx, place).await?
            && let Some(field) = walk.next(cx.tx, hash, 1).await?.into_iter().next()
        {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

/// So many different fields, or all where there are fewer: those that follow a random place.
async fn distinct(cx: &mut Context<'_>, hash: &mut Hash, count: u64) -> Result<Vec<Field>> {
    let count = usize::try_from(count.min(hash.meta.fields)).unwrap_or(usize::MAX);
    let from = cx.random.u32(..);
    let mut picked: Vec<Field> = Vec::new();
    for place in [from, 0] {
        let Some(mut walk) = hash.walk(cx.tx, place).await? else { break };
        while picked.len() < count {
            let fields = walk.next(cx.tx, hash, count - picked.len()).await?;
            // Round again, up to where it began.
            let behind = place == 0 && from > 0;
            let fresh: Vec<Field> =
                fields.iter().take_while(|field| !behind || field.place < from).cloned().collect();
            let ended = fresh.len() < fields.len() || fields.is_empty();
            picked.extend(fresh);
            if ended {
                break;
            }
        }
    }
    picked.truncate(count);
    Ok(picked)
}
