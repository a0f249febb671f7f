//! COMMAND: the table, shown to clients.

use crate::command::table::{self, Command, Id, flag};
use crate::data::fault::{Fault, Result};
use crate::resp::{Args, Reply};
use crate::server::session::Session;

/// Runs one of them.
pub(super) fn run(id: Id, session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut reply = session.reply(out);
    match id {
        Id::Command => {
            reply.array(table::top_level().len());
            table::top_level().for_each(|command| info(&mut reply, command));
        }
        Id::CommandCount => reply.count(table::top_level().len()),
        Id::CommandInfo if args.len() == 2 => {
            reply.array(table::top_level().len());
            table::top_level().for_each(|command| info(&mut reply, command));
        }
        Id::CommandInfo => {
            reply.array(args.len() - 2);
            for name in args.from(2) {
                match table::find(name) {
                    Some(command) => info(&mut reply, command),
                    None => reply.null_array(),
                }
            }
        }
        Id::CommandDocs => {
            let named: Vec<&Command> = if args.len() == 2 {
                table::top_level().collect()
            } else {
                args.from(2).filter_map(table::find).collect()
            };
            reply.map(named.len());
            named.into_iter().for_each(|command| docs(&mut reply, command));
        }
        Id::CommandList => list(&mut reply, args)?,
        Id::CommandGetkeys => get_keys(&mut reply, args)?,
        _ => return Err(Fault::text("ERR unknown command")),
    }
    Ok(())
}

fn info(reply: &mut Reply<'_>, command: &Command) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(i64::from(command.arity));
    let flags = command.flag_names();
    reply.set(flags.len());
    flags.iter().for_each(|name| reply.status(name));
    let keys = command.keys;
    reply.count(keys.first);
    reply.integer(i64::from(keys.last));
    reply.count(keys.step);
    let categories = command.categories();
    reply.set(categories.len());
    categories.iter().for_each(|name| reply.status(name));
    reply.array(0);
    key_specs(reply, command);
    reply.array(command.subcommands().count());
    command.subcommands().for_each(|sub| info(reply, sub));
}

/// One range of keys, where there are any.
fn key_specs(reply: &mut Reply<'_>, command: &Command) {
    let keys = command.keys;
    if keys.first == 0 {
        reply.array(0);
        return;
    }
    reply.array(1);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.status(if command.is(flag::WRITE) { "RW" } else { "RO" });
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.count(keys.first);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    let first = i64::try_from(keys.first).unwrap_or(0);
    reply.integer(if keys.last < 0 { i64::from(keys.last) } else { i64::from(keys.last) - first });
    reply.bulk(b"keystep");
    reply.count(keys.step);
    reply.bulk(b"limit");
    reply.integer(0);
}

fn docs(reply: &mut Reply<'_>, command: &Command) {
    reply.bulk(command.name.as_bytes());
    let subcommands = command.subcommands().count();
    reply.map(3 + usize::from(subcommands > 0));
    reply.bulk(b"summary");
    reply.bulk(command.summary.as_bytes());
    reply.bulk(b"since");
    reply.bulk(command.since.as_bytes());
    reply.bulk(b"group");
    reply.bulk(command.group.name().as_bytes());
    if subcommands > 0 {
        reply.bulk(b"subcommands");
        reply.map(subcommands);
        command.subcommands().for_each(|sub| docs(reply, sub));
    }
}

fn list(reply: &mut Reply<'_>, args: Args<'_>) -> Result<()> {
    let filtered: Vec<&Command> = match args.len() {
        2 => table::top_level().collect(),
        5 if args[2].eq_ignore_ascii_case(b"FILTERBY") => {
            let wanted = &args[4];
            match args[3].to_ascii_lowercase().as_slice() {
                b"module" => Vec::new(),
                b"aclcat" => {
                    let name = [b"@", wanted].concat().to_ascii_lowercase();
                    table::top_level()
                        .filter(|c| c.categories().iter().any(|x| x.as_bytes() == name))
                        .collect()
                }
                b"pattern" => table::top_level()
                    .filter(|c| crate::data::glob::matches(wanted, c.name.as_bytes(), true))
                    .collect(),
                _ => return Err(crate::data::fault::SYNTAX),
            }
        }
        _ => return Err(crate::data::fault::SYNTAX),
    };
    reply.array(filtered.len());
    filtered.iter().for_each(|command| reply.bulk(command.name.as_bytes()));
    Ok(())
}

fn get_keys(reply: &mut Reply<'_>, args: Args<'_>) -> Result<()> {
    let line = args.after(2);
    let command = table::find_called(line).ok_or(Fault::text("ERR Invalid command specified"))?;
    if command.keys.first == 0 {
        return Err(Fault::text("ERR The command has no key arguments"));
    }
    if !command.admits(line.len()) {
        return Err(Fault::text("ERR Invalid number of arguments specified for command"));
    }
    let keys: Vec<&[u8]> = command.keys(line).collect();
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}
