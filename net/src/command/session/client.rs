//! CLIENT: connections, looked at and closed.

use crate::command::is;
use crate::command::table::{self, Id};
use crate::data::fault::{Fault, Result, SYNTAX};
use crate::data::number::parse_integer;
use crate::resp::Args;
use crate::server::clients::{Filter, printable};
use crate::server::on_all;
use crate::server::session::{Replies, Session};

/// Runs one of them.
pub(super) async fn run(id: Id, session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    match id {
        Id::ClientId => {
            let id = i64::try_from(session.client().id).unwrap_or(i64::MAX);
            session.reply(out).integer(id);
        }
        Id::ClientGetname => {
            let name = session.client().name();
            session.reply(out).bulk_or_null((!name.is_empty()).then_some(name.as_bytes()));
        }
        Id::ClientSetname => {
            session.client().set_name(&args[2])?;
            session.reply(out).ok();
        }
        Id::ClientSetinfo => set_info(session, args, out)?,
        Id::ClientInfo => {
            let line = session.client().line(session.shard().runtime().now()) + "\n";
            session.reply(out).text(&line);
        }
        Id::ClientList => list(session, args, out).await?,
        Id::ClientKill => kill(session, args, out).await?,
        Id::ClientNoEvict => {
            session.client().no_evict.set(on_off(&args[2])?);
            session.reply(out).ok();
        }
        Id::ClientNoTouch => {
            session.client().no_touch.set(on_off(&args[2])?);
            session.reply(out).ok();
        }
        Id::ClientReply => {
            if is(&args[2], "ON") {
                session.replies_are(Replies::On);
                session.reply(out).ok();
            } else if is(&args[2], "OFF") {
                session.replies_are(Replies::Off);
            } else if is(&args[2], "SKIP") {
                session.skip_next_reply();
            } else {
                return Err(SYNTAX);
            }
        }
        Id::ClientHelp => table::help(&mut session.reply(out), "client"),
        _ => return Err(Fault::text("ERR unknown command")),
    }
    Ok(())
}

fn on_off(arg: &[u8]) -> Result<bool> {
    match arg.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(SYNTAX),
    }
}

fn set_info(session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let (what, place) = match args[2].to_ascii_lowercase().as_slice() {
        b"lib-name" => ("lib-name", &session.client().library),
        b"lib-ver" => ("lib-ver", &session.client().library_version),
        _ => {
            let option = String::from_utf8_lossy(&args[2]);
            return Err(Fault::told(format!("ERR Unrecognized option '{option}'")));
        }
    };
    let told = || Fault::told(format!("ERR {what} cannot contain spaces, newlines or special characters."));
    let value = printable(&args[3]).ok_or_else(told)?;
    place.replace(value);
    session.reply(out).ok();
    Ok(())
}

async fn list(session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut filter = Filter::default();
    match args.get(2) {
        None => {}
        Some(option) if is(option, "TYPE") && args.len() == 4 => filter.nobody = !is_normal(&args[3])?,
        Some(option) if is(option, "ID") && args.len() > 3 => {
            filter.ids = Some(args.from(3).map(client_id).collect::<Result<_>>()?);
        }
        Some(_) => return Err(SYNTAX),
    }
    let lines = on_all(session.shard(), session.front(), move |shard, front| {
        let now = shard.runtime().now();
        let mut lines = Vec::new();
        front.each(|client| {
            if filter.admits(client) {
                lines.push((client.id, client.line(now)));
            }
        });
        lines
    });
    let mut lines: Vec<(u64, String)> = lines.await?.into_iter().flatten().collect();
    lines.sort();
    let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
    session.reply(out).text(&text);
    Ok(())
}

fn client_id(arg: &[u8]) -> Result<u64> {
    let id = parse_integer(arg).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or(Fault::text("ERR Invalid client ID"))
}

/// Whether this type is the one that all clients here are of.
fn is_normal(kind: &[u8]) -> Result<bool> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => {
            let kind = String::from_utf8_lossy(kind);
            Err(Fault::told(format!("ERR Unknown client type '{kind}'")))
        }
    }
}

async fn kill(session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let by_address = args.len() == 3;
    let mut filter = Filter::default();
    if by_address {
        filter.peer = Some(String::from_utf8_lossy(&args[2]).into_owned());
    } else {
        filter = kill_filter(session, args)?;
    }
    let me = session.client().id;
    let counts = on_all(session.shard(), session.front(), move |_, front| {
        let mut killed = (0, false);
        front.each(|client| {
            if filter.admits(client) {
                killed = (killed.0 + 1, killed.1 || client.id == me);
                if client.id != me {
                    client.kill();
                }
            }
        });
        killed
    });
    let counts = counts.await?;
    if counts.iter().any(|(_, me)| *me) {
        session.close();
    }
    let killed = counts.into_iter().map(|(count, _)| count).sum();
    match (by_address, killed) {
        (true, 0) => return Err(Fault::text("ERR No such client")),
        (true, _) => session.reply(out).ok(),
        (false, _) => session.reply(out).integer(killed),
    }
    Ok(())
}

fn kill_filter(session: &Session, args: Args<'_>) -> Result<Filter> {
    let mut filter = Filter { spared: Some(session.client().id), ..Filter::default() };
    let mut rest = args.from(2);
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or(SYNTAX)?;
        let text = || String::from_utf8_lossy(value).into_owned();
        match option.to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = parse_integer(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                filter.ids = Some(vec![id.ok_or(Fault::text("ERR client-id should be greater than 0"))?]);
            }
            b"type" => filter.nobody = !is_normal(value)?,
            b"addr" => filter.peer = Some(text()),
            b"laddr" => filter.local = Some(text()),
            b"user" => {
                if value != b"default" {
                    return Err(Fault::told(format!("ERR No such user '{}'", text())));
                }
                filter.user = Some(text());
            }
            b"skipme" if is(value, "yes") => filter.spared = Some(session.client().id),
            b"skipme" if is(value, "no") => filter.spared = None,
            _ => return Err(SYNTAX),
        }
    }
    Ok(filter)
}
