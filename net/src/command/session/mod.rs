//! Commands about the connection and the server: they need no key.

mod client;
mod config;
mod connection;
mod info;
mod introspect;
pub(crate) mod transactions;

use super::table::{self, Command, Group, Id};
use crate::data::fault::{Fault, Result};
use crate::resp::Args;
use crate::server::session::Session;

/// Runs one of them; its reply is appended to `out`.
pub(crate) async fn run(
    command: &'static Command,
    session: &mut Session,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    match command.group {
        Group::Connection if command.parent() == Some("client") => {
            client::run(command.id, session, args, out).await
        }
        Group::Connection => connection::run(command.id, session, args, out),
        Group::Transactions => transactions::run(command.id, session, args, out).await,
        Group::Server => match command.id {
            Id::Info => info::run(session, args, out).await,
            Id::Command
            | Id::CommandCount
            | Id::CommandDocs
            | Id::CommandInfo
            | Id::CommandList
            | Id::CommandGetkeys => introspect::run(command.id, session, args, out),
            Id::CommandHelp => {
                table::help(&mut session.reply(out), "command");
                Ok(())
            }
            _ => config::run(command.id, session, args, out).await,
        },
        Group::Bitmap | Group::Generic | Group::Hash | Group::String => {
            Err(Fault::text("ERR unknown command"))
        }
    }
}
