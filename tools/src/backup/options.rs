//! The command lines of `foreshard backup` and `foreshard restore`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::text::parse_bytes;

/// `foreshard backup ..`
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("source").required(true).args(["data", "admin", "list"])))]
#[command(
    after_help = "A backup is one moment of the whole store: everything acknowledged before it began is in it, and of every transaction \
all or nothing. A directory holds the backups of one store; each later one copies only segments that are not there yet.\n\
Examples:\n  \
    foreshard backup --admin 127.0.0.1:7381 --to daily --keep 7     of a running node, into a directory in its --backups\n  \
    foreshard backup --data /var/lib/foreshard --to /srv/backups    of a store that no node has open\n  \
    foreshard backup --list --to /srv/backups\n\
Exit status: 0 done, 1 the store is damaged, 2 it could not be done."
)]
pub(crate) struct Backup {
    /// Take it of the store in this directory, which no process has open.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Take it of a running node, asked at its admin address.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) admin: Option<String>,
    /// Take none: show the backups that are there.
    #[arg(long, conflicts_with_all = ["limit", "keep", "link"])]
    pub(super) list: bool,
    /// The directory of backups; with --admin, one in the node's own directory for backups.
    #[arg(long, value_name = "DIR")]
    pub(super) to: PathBuf,
    /// Copy at most so much a second: 50MiB.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(super) limit: Option<u64>,
    /// Afterwards remove all but the newest so many, and what only they need.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) keep: Option<u32>,
    /// Link segments instead of copying them: at once, on the same file system only. It does not help against a
    /// device that fails: store and backup share their bytes.
    #[arg(long)]
    pub(super) link: bool,
    /// One JSON object per line; the last one is the verdict.
    #[arg(long)]
    pub(super) json: bool,
}

/// `foreshard restore ..`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Every checksum is checked on the way. The new store has an identity of its own: its backups go to another directory.\n\
Examples:\n  \
    foreshard restore --from /srv/backups --data /var/lib/foreshard\n  \
    foreshard restore --from /srv/backups --backup 12 --data /tmp/look --limit 100MiB --json\n\
Exit status: 0 done, 1 the backup is damaged, 2 it could not be done."
)]
pub(crate) struct Restore {
    /// The directory of backups.
    #[arg(long, value_name = "DIR")]
    pub(super) from: PathBuf,
    /// The backup's number. [default: the newest]
    #[arg(long, value_name = "NUMBER")]
    pub(super) backup: Option<u64>,
    /// The directory of the store to make: new or empty.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Copy at most so much a second: 50MiB.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(super) limit: Option<u64>,
    /// One JSON object, the verdict.
    #[arg(long)]
    pub(super) json: bool,
}
