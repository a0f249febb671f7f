//! What a client says about its connection.

use crate::command::table::Id;
use crate::data::fault::{Fault, Result};
use crate::resp::{Args, Protocol};
use crate::server::session::Session;

/// Runs one of them.
pub(super) fn run(id: Id, session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    match id {
        Id::Ping => {
            if args.len() > 2 {
                return Err(Fault::text("ERR wrong number of arguments for 'ping' command"));
            }
            match args.get(1) {
                Some(message) => session.reply(out).bulk(message),
                None => session.reply(out).status("PONG"),
            }
        }
        Id::Echo => session.reply(out).bulk(&args[1]),
        Id::Hello => return hello(session, args, out),
        Id::Auth => return auth(session, args, out),
        Id::Select => match crate::command::integer(&args[1])? {
            0 => session.reply(out).ok(),
            _ => return Err(Fault::text("ERR DB index is out of range")),
        },
        Id::Quit => {
            session.reply(out).ok();
            session.close();
        }
        Id::Reset => {
            session.reset();
            session.reply(out).status("RESET");
        }
        _ => return Err(Fault::text("ERR unknown command")),
    }
    Ok(())
}

const WRONG_PASSWORD: Fault = Fault::text("WRONGPASS invalid username-password pair or user is disabled.");

fn auth(session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let (user, password) = match args.len() {
        2 => (&b"default"[..], &args[1]),
        3 => (&args[1], &args[2]),
        _ => return Err(crate::data::fault::SYNTAX),
    };
    if args.len() == 2 && session.front().config.borrow().requirepass.is_empty() {
        return Err(Fault::text(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        ));
    }
    if !session.authenticate(user, password) {
        return Err(WRONG_PASSWORD);
    }
    session.reply(out).ok();
    Ok(())
}

fn hello(session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let version = match args.get(1) {
        None => None,
        Some(text) => match crate::data::number::parse_integer(text) {
            Some(2) => Some(Protocol::Resp2),
            Some(3) => Some(Protocol::Resp3),
            Some(_) => return Err(Fault::text("NOPROTO unsupported protocol version")),
            None => {
                return Err(Fault::text("ERR Protocol version is not an integer or out of range"));
            }
        },
    };
    let mut name = None;
    let mut n = 2;
    while let Some(option) = args.get(n) {
        if option.eq_ignore_ascii_case(b"AUTH") && n + 2 < args.len() {
            if !session.authenticate(&args[n + 1], &args[n + 2]) {
                return Err(WRONG_PASSWORD);
            }
            n += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && n + 1 < args.len() {
            name = Some(&args[n + 1]);
            n += 2;
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(Fault::told(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if !session.is_authenticated() {
        return Err(Fault::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
             the same time",
        ));
    }
    if let Some(name) = name {
        session.client().set_name(name)?;
    }
    if let Some(version) = version {
        session.set_protocol(version);
    }
    let (id, version) = (session.client().id, session.protocol());
    let mut reply = session.reply(out);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(crate::server::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if version == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(i64::try_from(id).unwrap_or(i64::MAX));
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}
