//! Commands about the connection and the server: they need no key.

mod connection;
mod introspect;

use super::table::{Command, Group};
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
        Group::Connection => connection::run(command.id, session, args, out),
        Group::Server => introspect::run(command.id, session, args, out),
        Group::Bitmap | Group::Generic | Group::Hash | Group::String | Group::Transactions => {
            Err(Fault::text("ERR unknown command"))
        }
    }
}
