//! What a file is, and what an operation on it is: the kinds by which crash points and damage are counted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use foreshard_engine::io::disk::DiskOp;
use foreshard_engine::io::memory::{DiskEvent, Stage};

/// Directories end in `/`.
pub fn kind_of(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match &*name {
        _ if path.starts_with("/backups") => "backup",
        _ if path.to_string_lossy().starts_with("/restored") => "restored store",
        _ if path.starts_with("/store/table") && name != "table" => "table",
        name if name.starts_with("manifest-") => "manifest",
        name if name.ends_with(".wal") => "log",
        name if name.ends_with(".seg") => "segment",
        name if name.starts_with("reserve-") => "reserve",
        name if name.starts_with("SUPER") => "superblock",
        _ if path.starts_with("/store/wal") => "log's directory",
        _ if path.starts_with("/store/partitions") => "partition's directory",
        _ => "store's directory",
    }
}

/// An operation's issue or end: what a crash point is counted as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Boundary {
    pub what: &'static str,
    pub op: DiskOp,
    /// It had happened when the disk stopped; otherwise it had been asked for.
    pub is_done: bool,
}

impl Boundary {
    pub fn of(event: &DiskEvent) -> Self {
        Self { what: kind_of(&event.path), op: event.op, is_done: event.stage != Stage::Issued }
    }
}

/// How often each kind of boundary was the last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Census(pub BTreeMap<Boundary, u64>);

impl Census {
    pub fn count(&mut self, event: &DiskEvent) {
        *self.0.entry(Boundary::of(event)).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    pub fn of(&self, what: &str, op: DiskOp) -> u64 {
        self.0.iter().filter(|(kind, _)| kind.what == what && kind.op == op).map(|(_, n)| n).sum()
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: BTreeMap<(&str, DiskOp), [u64; 2]> = BTreeMap::new();
        for (kind, count) in &self.0 {
            lines.entry((kind.what, kind.op)).or_default()[usize::from(kind.is_done)] += count;
        }
        writeln!(f, "{:<22} {:<18} {:>8} {:>8}", "of", "operation", "asked", "done")?;
        for ((what, op), [asked, done]) in lines {
            let op = if op == DiskOp::Open { "create" } else { op.name() };
            writeln!(f, "{what:<22} {op:<18} {asked:>8} {done:>8}")?;
        }
        Ok(())
    }
}
