//! The `foreshard` program: serves a store, puts load on a server, takes backups and restores them, looks into a store
//! that is not open, and salvages a damaged one.
//!
//! `inspect` and `repair` read through [`read_only::ReadOnly`], which refuses whatever changes a file, and hold
//! the store's lock while they read. Exit status: 0 sound (or nothing lost), 1 damaged (or something lost), 2 it could not be told.

mod backup;
mod cli;
mod ctl;
mod demo;
mod finding;
mod forecast;
mod import;
mod inspect;
mod interrupt;
mod load;
mod lock;
mod mapped;
mod node;
mod output;
mod planner;
mod progress;
mod read_only;
mod repair;
mod shell;
mod sim;
mod survey;
mod text;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::shell::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let usual = match cli.command {
        Command::Node(_) => tracing::Level::INFO,
        Command::Inspect { .. }
        | Command::Repair(_)
        | Command::Load(_)
        | Command::Forecast(_)
        | Command::Sim(_)
        | Command::Demo(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Ctl(_)
        | Command::Import(_) => tracing::Level::WARN,
    };
    let level = if cli.verbose { tracing::Level::DEBUG } else { usual };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_target(false).init();
    let result = match cli.command {
        Command::Inspect { what } => inspect::run(&what),
        Command::Repair(request) => repair::run(&request),
        Command::Load(options) => load::run(&options),
        Command::Forecast(what) => forecast::run(&what),
        Command::Sim(options) => sim::run(&options).map(|()| Verdict::Sound),
        Command::Demo(options) => demo::run(&options),
        Command::Backup(options) => backup::run(&options),
        Command::Restore(options) => backup::restore(&options),
        Command::Import(options) => import::run(&options),
        Command::Ctl(options) => ctl::run(&options),
        Command::Node(arguments) => node::run(&arguments).map(|()| Verdict::Sound),
    };
    match result {
        Ok(verdict) => ExitCode::from(verdict.status()),
        Err(Failure::Closed) => ExitCode::from(2),
        Err(Failure::Told(what)) => {
            // Nothing is left to tell it to when stderr is closed too.
            let _unheard = writeln!(std::io::stderr(), "foreshard: {what}");
            ExitCode::from(2)
        }
    }
}

/// What a command found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Everything is as it was written; or all of it was salvaged.
    Sound,
    /// Something is damaged; or something was lost.
    Damaged,
    /// Something could not be read, so that nobody knows.
    Unreadable,
}

impl Verdict {
    const fn status(self) -> u8 {
        match self {
            Self::Sound => 0,
            Self::Damaged => 1,
            Self::Unreadable => 2,
        }
    }
}
