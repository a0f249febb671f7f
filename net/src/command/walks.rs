//! Commands over all keys.

use foreshard_engine::entry::Expiry;
use foreshard_engine::key::{RoutingKey, prefix_end};
use foreshard_engine::table::KEYS_END;

use super::table::Id;
use super::{Context, integer, is};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::data::keyspace::{Keys, end_of};
use crate::data::{glob, layout};
use crate::resp::{Args, Reply};

/// Runs one of them.
pub(super) async fn run(id: Id, cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match id {
        Id::Keys => keys(cx, args).await,
        Id::Scan => scan(cx, args).await,
        Id::Randomkey => random_key(cx).await,
        Id::Dbsize => {
            let (keys, _) = count(cx).await?;
            cx.reply.count(keys);
            Ok(())
        }
        Id::Flushall | Id::Flushdb => flush(cx, args),
        _ => Err(Fault::text("ERR unknown command")),
    }
}

/// How many keys there are, and how many of them expire.
pub(crate) async fn count(cx: &mut Context<'_>) -> Result<(usize, usize)> {
    let mut walk = Keys::from(RoutingKey(0));
    let (mut keys, mut expiring) = (0, 0);
    while let Some(met) = walk.next(cx.tx, usize::MAX).await? {
        keys += met.len();
        expiring += met.iter().filter(|met| met.expiry != Expiry::NEVER).count();
    }
    Ok((keys, expiring))
}

async fn keys(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let mut walk = Keys::from(RoutingKey(0));
    let (mut count, mut body) = (0, Vec::new());
    while let Some(met) = walk.next(cx.tx, usize::MAX).await? {
        let mut reply = Reply::new(&mut body, cx.reply.protocol());
        for met in met.iter().filter(|met| glob::matches(&args[1], &met.key, false)) {
            reply.bulk(&met.key);
            count += 1;
        }
    }
    cx.reply.array(count);
    cx.reply.raw(&body);
    Ok(())
}

/// What SCAN and HSCAN may be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanOptions<'a> {
    pub(super) pattern: Option<&'a [u8]>,
    /// At least one.
    pub(super) count: usize,
    pub(super) kind: Option<&'a [u8]>,
}

/// Elements looked at for one call: more of them than this are not gathered at once.
const COUNT_MAX: i64 = 1 << 20;

impl<'a> ScanOptions<'a> {
    /// The options from an argument on.
    pub(super) fn parse(args: Args<'a>, from: usize) -> Result<Self> {
        let mut options = Self { pattern: None, count: 10, kind: None };
        let mut rest = args.from(from);
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or(SYNTAX)?;
            if is(option, "MATCH") {
                options.pattern = Some(value);
            } else if is(option, "COUNT") {
                let count = integer(value)?;
                if count < 1 {
                    return Err(SYNTAX);
                }
                options.count = usize::try_from(count.min(COUNT_MAX)).unwrap_or(1);
            } else if is(option, "TYPE") {
                options.kind = Some(value);
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(options)
    }
}

/// A cursor as a client sends it back.
pub(super) fn cursor(arg: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(arg).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Fault::text("ERR invalid cursor"))
}

/// Cursors are routing keys without their last bits: below 2^53, for there are clients that keep numbers as floats.
const CURSOR_SHIFT: u32 = 9;
const CURSOR_MAX: u64 = (1 << 53) - 1;

/// A cursor is where to go on: routing keys that have it in common, all keys of one entity with them, come together.
async fn scan(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    let cursor = cursor(&args[1])?;
    let options = ScanOptions::parse(args, 2)?;
    let mut walk = Keys::from(RoutingKey(cursor.min(CURSOR_MAX) << CURSOR_SHIFT));
    let (mut found, mut looked_at, mut last, mut next) = (Vec::new(), 0, None, 0);
    'walk: while let Some(met) = walk.next(cx.tx, options.count + 1).await? {
        for met in met {
            let at = met.routing.0 >> CURSOR_SHIFT;
            if looked_at >= options.count && last != Some(at) {
                next = at;
                break 'walk;
            }
            (looked_at, last) = (looked_at + 1, Some(at));
            let is_kind = options.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(met.kind.as_bytes()));
            if is_kind && options.pattern.is_none_or(|pattern| glob::matches(pattern, &met.key, false)) {
                found.push(met.key);
            }
        }
    }
    cx.reply.array(2);
    cx.reply.bulk(next.to_string().as_bytes());
    cx.reply.array(found.len());
    found.iter().for_each(|key| cx.reply.bulk(key));
    Ok(())
}

async fn random_key(cx: &mut Context<'_>) -> Result<()> {
    // Routing keys lie evenly, those of one entity together: the first entity from a random place on, any key of it.
    for from in [cx.random.u64(..u64::MAX >> 2), 0] {
        let mut walk = Keys::from(RoutingKey(from));
        while let Some(met) = walk.next(cx.tx, 64).await? {
            let Some(first) = met.first() else { continue };
            let of_entity = met.iter().take_while(|met| met.routing == first.routing).count();
            cx.reply.bulk(&met[cx.random.usize(..of_entity)].key);
            return Ok(());
        }
    }
    cx.reply.null();
    Ok(())
}

fn flush(cx: &mut Context<'_>, args: Args<'_>) -> Result<()> {
    match args.get(1) {
        None => {}
        Some(how) if args.len() == 2 && (is(how, "ASYNC") || is(how, "SYNC")) => {}
        Some(_) => return Err(SYNTAX),
    }
    let image = cx.tx.shard().image();
    for home in image.homes() {
        cx.tx.delete_range(layout::start_of(home.start), end_of(*home));
    }
    for guest in image.guests_between(RoutingKey(0), KEYS_END) {
        if let Some(end) = prefix_end(guest.prefix) {
            cx.tx.delete_range(guest.prefix.to_vec(), end);
        }
    }
    cx.reply.ok();
    Ok(())
}
