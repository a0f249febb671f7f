//! The Redis protocol in front of foreshard's shards.
//!
//! The map of the crate, from the outside in:
//! - [`server`]: listening on every shard's ring, connections, what the server knows of itself;
//! - [`admin`]: metrics and health over HTTP;
//! - `command`: the table of commands, and a file per family of them;
//! - `data`: what a Redis key is in rows of the engine, and how a command reads and changes rows;
//! - [`resp`]: the protocol's bytes.
//!
//! `net/FORMAT.md` owns the layout of keys in rows.

pub mod admin;
#[expect(clippy::wildcard_enum_match_arm, reason = "each family runs its own of a hundred commands")]
mod command;
pub mod data;
mod execute;
pub mod resp;
pub mod server;

pub use admin::{Admin, Gauges, Pages, Question, Said, argument};
pub use execute::Caller;
pub use server::Server;
pub use server::config::Config;
