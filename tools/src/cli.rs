//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::backup::{Backup, Restore};
use crate::ctl::Ctl;
use crate::demo::Demo;
use crate::forecast::Forecast;
use crate::import::Import;
use crate::load::Load;
use crate::node::Arguments;
use crate::sim::Sim;

/// A durable store that speaks the Redis protocol: serves it, backs it up, puts load on it, looks into it, salvages it.
#[derive(Parser, Debug)]
#[command(name = "foreshard", version, arg_required_else_help = true)]
#[command(
    after_help = "Examples:\n  foreshard node --data /var/lib/foreshard\n  foreshard inspect store /var/lib/foreshard"
)]
pub(crate) struct Cli {
    /// Say more about what is done, on stderr.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Verify a store, or one of its files, and show what is in it. Changes nothing.
    #[command(after_help = "Exit status: 0 sound, 1 damaged, 2 it could not be told.\n\
        Killed by SIGBUS: the device could not read a sector of a mapped file; use --unmapped.\n\
        Example: foreshard inspect store /var/lib/foreshard")]
    Inspect {
        #[command(subcommand)]
        what: Inspect,
    },
    /// Serve a store to Redis clients.
    Node(Arguments),
    /// Salvage what is whole of a damaged store into a new one, and say what was lost.
    Repair(Repair),
    /// Take a backup of a store, open or not; a later one copies only what changed.
    Backup(Backup),
    /// Make a store of a backup.
    Restore(Restore),
    /// Copy the strings and hashes of a running Redis.
    Import(Import),
    /// Forecast load: its course, how likely it exceeds a limit, and how good such forecasts were.
    Forecast(Box<Forecast>),
    /// Ask a running node where things are, and move entities.
    #[command(
        after_help = "Examples:\n  foreshard ctl table\n  foreshard ctl move customer:7 --to 3\n  foreshard ctl moves --json"
    )]
    Ctl(Ctl),
    /// Show it all on this machine: a node, a trace, forecasts, and moves that come before the load.
    Demo(Demo),
    /// Compare policies of placement on a trace, in a modelled cluster.
    Sim(Box<Sim>),
    /// Put load on a Redis-compatible server, measure it, and check what it acknowledged.
    Load(Box<Load>),
}

/// What to look at.
#[derive(Subcommand, Debug)]
pub(crate) enum Inspect {
    /// A shard's log: its directory, or any file in it (the whole log is read).
    #[command(after_help = "Example: foreshard inspect wal /var/lib/foreshard/wal/7/0 --dump")]
    Wal(Target),
    /// A segment file.
    #[command(
        after_help = "Example: foreshard inspect segment /var/lib/foreshard/partitions/3/000000000000002a.seg"
    )]
    Segment(Target),
    /// A partition's manifest: its directory, or one of its files (all are read).
    #[command(after_help = "Example: foreshard inspect manifest /var/lib/foreshard/partitions/3 --json")]
    Manifest(Target),
    /// The partition table: its directory, or one of its files (both are read).
    #[command(after_help = "Example: foreshard inspect table /var/lib/foreshard/table --dump")]
    Table(Target),
    /// A whole store: superblock, table, logs, manifests, segments, and files that belong to none.
    #[command(after_help = "Example: foreshard inspect store /var/lib/foreshard --json")]
    Store(Target),
}

/// Where to look, and how to tell.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The file or directory.
    pub(crate) path: PathBuf,
    /// One JSON object per line; the last one is the verdict.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show every record, edit and entry too.
    #[arg(long)]
    pub(crate) dump: bool,
    /// Read through the disk interface, for a device that may have bad sectors.
    ///
    /// A store's files are mapped into memory otherwise, which is faster, but a sector that the device cannot read
    /// then kills the process (SIGBUS), and what the page cache holds is read from there and not from the device. With
    /// this flag such a sector is an error that names the file, and the device is asked for every byte, where the
    /// file system has O_DIRECT. Files around which there is no lock to take are read this way always.
    #[arg(long)]
    pub(crate) unmapped: bool,
}

/// From where to where.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit status: 0 nothing was lost, 1 something was or may have been, 2 it could not be done.\n\
    Example: foreshard repair /var/lib/foreshard --into /var/lib/foreshard.repaired"
)]
pub(crate) struct Repair {
    /// The damaged store. It is not changed.
    pub(crate) source: PathBuf,
    /// The directory of the store to make: it must not exist, or be empty.
    #[arg(long)]
    pub(crate) into: PathBuf,
    /// One JSON object per line; the last one is the verdict.
    #[arg(long)]
    pub(crate) json: bool,
}
