//! CONFIG, SLOWLOG, LATENCY, TIME.

use crate::command::is;
use crate::command::table::{self, Id};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::data::glob;
use crate::data::number::parse_integer;
use crate::resp::Args;
use crate::server::config::PARAMETERS;
use crate::server::on_all;
use crate::server::session::Session;
use crate::server::stats::Slow;

/// The one event whose spikes are kept: waiting for the log to have a reply's writes on the device.
const WAIT_EVENT: &str = "commit-wait";

/// Runs one of them.
pub(super) async fn run(id: Id, session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    match id {
        Id::ConfigGet => get(session, args, out),
        Id::ConfigSet => return set(session, args, out).await,
        Id::ConfigResetstat => {
            on_all(session.shard(), session.front(), |_, front| front.stats.reset()).await?;
            session.reply(out).ok();
        }
        Id::ConfigHelp => table::help(&mut session.reply(out), "config"),
        Id::Time => {
            let micros = session.shard().runtime().wall_ms() * 1000;
            let mut reply = session.reply(out);
            reply.array(2);
            reply.bulk((micros / 1_000_000).to_string().as_bytes());
            reply.bulk((micros % 1_000_000).to_string().as_bytes());
        }
        Id::SlowlogGet => return slow(session, args, out).await,
        Id::SlowlogLen => {
            let lens = on_all(session.shard(), session.front(), |_, front| front.stats.slow().len()).await?;
            session.reply(out).count(lens.into_iter().sum());
        }
        Id::SlowlogReset => {
            on_all(session.shard(), session.front(), |_, front| front.stats.forget_slow()).await?;
            session.reply(out).ok();
        }
        Id::SlowlogHelp => table::help(&mut session.reply(out), "slowlog"),
        Id::LatencyHelp => table::help(&mut session.reply(out), "latency"),
        _ => return latency(id, session, args, out).await,
    }
    Ok(())
}

fn get(session: &Session, args: Args<'_>, out: &mut Vec<u8>) {
    let config = session.front().config.borrow();
    let wanted: Vec<_> = PARAMETERS
        .iter()
        .filter(|parameter| {
            args.from(2).any(|pattern| glob::matches(pattern, parameter.name.as_bytes(), true))
        })
        .collect();
    let mut reply = session.reply(out);
    reply.map(wanted.len());
    for parameter in wanted {
        reply.bulk(parameter.name.as_bytes());
        reply.bulk((parameter.get)(&config).as_bytes());
    }
}

/// All parameters or none, on every shard.
async fn set(session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    if !args.len().is_multiple_of(2) {
        return Err(Fault::text("ERR wrong number of arguments for 'config|set' command"));
    }
    let mut config = session.front().config.borrow().clone();
    let mut rest = args.from(2);
    while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
        let shown = String::from_utf8_lossy(name);
        let parameter = PARAMETERS.iter().find(|p| p.name.as_bytes().eq_ignore_ascii_case(name));
        let parameter = parameter.ok_or_else(|| {
            Fault::told(format!("ERR Unknown option or number of arguments for CONFIG SET - '{shown}'"))
        })?;
        let failed = |why: &str| {
            Fault::told(format!("ERR CONFIG SET failed (possibly related to argument '{shown}') - {why}"))
        };
        let value = std::str::from_utf8(value).map_err(|_| failed("argument is not text"))?;
        if (parameter.get)(&config) == value {
            continue;
        }
        let set = parameter.set.ok_or_else(|| failed("can't set immutable config"))?;
        set(&mut config, value).map_err(|why| failed(&why))?;
    }
    on_all(session.shard(), session.front(), move |_, front| {
        front.config.replace(config.clone());
    })
    .await?;
    session.reply(out).ok();
    Ok(())
}

async fn slow(session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    const OUT_OF_RANGE: Fault = Fault::text("ERR count should be greater than or equal to -1");
    let count = match args.get(2) {
        None => 10,
        Some(count) => match parse_integer(count).ok_or(OUT_OF_RANGE)? {
            -1 => usize::MAX,
            count => usize::try_from(count).map_err(|_| OUT_OF_RANGE)?,
        },
    };
    let entries = on_all(session.shard(), session.front(), |shard, front| (shard.id().0, front.stats.slow()));
    let shards = session.front().shared.shards as u64;
    // Each shard counts its own: made one sequence of numbers without repetition.
    let numbered = |(shard, entries): (u16, Vec<Slow>)| {
        entries.into_iter().map(move |entry| Slow { id: entry.id * shards + u64::from(shard), ..entry })
    };
    let mut entries: Vec<Slow> = entries.await?.into_iter().flat_map(numbered).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.unix_seconds, entry.id)));
    entries.truncate(count);
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut reply = session.reply(out);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(number(entry.id));
        reply.integer(number(entry.unix_seconds));
        reply.integer(number(entry.micros));
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(entry.peer.as_bytes());
        reply.bulk(entry.name.as_bytes());
    }
    Ok(())
}

async fn latency(id: Id, session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    if id == Id::LatencyReset {
        let named = args.len() == 2 || args.from(2).any(|event| is(event, WAIT_EVENT));
        let forgotten =
            on_all(session.shard(), session.front(), move |_, front| named && front.stats.forget_waits());
        let any = forgotten.await?.contains(&true);
        session.reply(out).integer(i64::from(any));
        return Ok(());
    }
    let waits = on_all(session.shard(), session.front(), |_, front| front.stats.waits()).await?;
    let mut waits: Vec<(u64, u64)> = waits.into_iter().flatten().collect();
    waits.sort_unstable();
    let mut reply = session.reply(out);
    match id {
        Id::LatencyLatest => match (waits.last(), waits.iter().map(|(_, ms)| *ms).max()) {
            (Some((second, ms)), Some(longest)) => {
                reply.array(1);
                reply.array(4);
                reply.bulk(WAIT_EVENT.as_bytes());
                reply.integer(number(*second));
                reply.integer(number(*ms));
                reply.integer(number(longest));
            }
            _ => reply.array(0),
        },
        Id::LatencyHistory => {
            let shown = if is(&args[2], WAIT_EVENT) { &waits[..] } else { &[] };
            reply.array(shown.len());
            for (second, ms) in shown {
                reply.array(2);
                reply.integer(number(*second));
                reply.integer(number(*ms));
            }
        }
        Id::LatencyDoctor => {
            let threshold = session.front().config.borrow().latency_monitor_threshold;
            reply.text(&diagnosis(threshold, &waits));
        }
        _ => return Err(SYNTAX),
    }
    Ok(())
}

fn diagnosis(threshold_ms: u64, waits: &[(u64, u64)]) -> String {
    if threshold_ms == 0 {
        return "Waits for the log are not watched. Set latency-monitor-threshold to the milliseconds above which one \
                counts.\n"
            .to_owned();
    }
    let Some(longest) = waits.iter().map(|(_, ms)| *ms).max() else {
        return format!("No reply waited {threshold_ms} ms or more for the log to be on the device.\n");
    };
    format!(
        "In {} seconds, replies waited {threshold_ms} ms or more for the log to be on the device, the longest {longest} \
         ms. Look at the device first: its flushes take as long as the writes that are acknowledged after them.\n",
        waits.len()
    )
}
