//! What the logs of a damaged store still say.
//!
//! Read twice: first what became of transactions, which any log may tell, and how far each log is whole; then, for each
//! partition, its rows. A log that breaks off says nothing of what came after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use foreshard_engine::entry::{Entry, Expiry, Kind, RangeTombstone};
use foreshard_engine::ids::{EditNumber, Index, PartitionId, Version};
use foreshard_engine::wal::{Body, LogId, LogReader, Outcome, Record, RowOp, Rows, TxId};

use super::scratch::Scratch;
use crate::finding::{Findings, Severity};
use crate::output::Output;
use crate::shell::{Failure, Tools};
use crate::survey::log::survey;
use crate::text::count;

/// All logs of the last incarnation.
#[derive(Debug)]
pub(super) struct Logs {
    places: Vec<Place>,
    /// The newest manifest edit of each partition that a log proves durable.
    pub(super) witnesses: BTreeMap<PartitionId, EditNumber>,
    /// Every log was read to an end that no damage made.
    pub(super) are_whole: bool,
    commits: BTreeMap<TxId, Version>,
    /// Where a transaction's outcome has reached a partition.
    resolved: BTreeMap<(PartitionId, TxId), Index>,
    prepared: BTreeSet<TxId>,
    aborted: BTreeSet<TxId>,
}

/// A log's directory, what identifies it, and the partitions it has records of.
type Place = (PathBuf, (LogId, u64), BTreeSet<PartitionId>);

/// What the logs say of one partition.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Replayed {
    pub(super) time_ms: u64,
    /// Records before the first one found are missing.
    pub(super) is_gapped: bool,
    first: Option<Index>,
}

impl Logs {
    /// Reads all logs once.
    pub(super) async fn read(
        tools: &Tools,
        places: &[(PathBuf, Option<(LogId, u64)>)],
        findings: &mut Findings,
        output: &mut Output,
    ) -> Result<Self, Failure> {
        let mut logs = Self {
            places: Vec::new(),
            witnesses: BTreeMap::new(),
            are_whole: true,
            commits: BTreeMap::new(),
            resolved: BTreeMap::new(),
            prepared: BTreeSet::new(),
            aborted: BTreeSet::new(),
        };
        for (dir, id) in places {
            let Some(id) = *id else {
                findings.add(
                    Severity::Damaged,
                    dir,
                    0,
                    "no file of this log has a whole header: the log is lost",
                );
                logs.are_whole = false;
                continue;
            };
            let log = survey(tools, dir, id, findings, output).await?;
            logs.are_whole &= log.is_whole;
            for (partition, edit) in log.witnesses {
                let known = logs.witnesses.entry(partition).or_default();
                *known = edit.max(*known);
            }
            logs.places.push((dir.clone(), id, log.partitions.into_keys().collect()));
            logs.outcomes(tools, dir, id).await?;
        }
        Ok(logs)
    }

    /// Notes what became of transactions, as far as the log in `dir` says.
    async fn outcomes(
        &mut self,
        tools: &Tools,
        dir: &Path,
        (id, file_bytes): (LogId, u64),
    ) -> Result<(), Failure> {
        let Ok(mut reader) = LogReader::salvage(&tools.disk, dir, id, file_bytes).await else {
            return Ok(());
        };
        while let Ok(Some(batch)) = reader.next_batch().await {
            batch.records().flatten().for_each(|record| self.note(&record));
        }
        Ok(())
    }

    /// Counts the transactions that are left out because no decision was found.
    pub(super) fn undecided(&self, findings: &mut Findings) -> u64 {
        let is_open = |tx: &&TxId| !self.commits.contains_key(tx) && !self.aborted.contains(tx);
        let open = self.prepared.iter().filter(is_open).count() as u64;
        if open > 0
            && let Some((dir, ..)) = self.places.first()
        {
            let what =
                format!("{} without a decision: left out, as recovery does", count(open, "transaction"));
            // With whole logs there never was one, and nothing was acknowledged.
            let severity = if self.are_whole { Severity::Note } else { Severity::Damaged };
            findings.add(severity, dir.parent().unwrap_or(dir), 0, what);
        }
        open
    }

    /// Gives the rows of `id` above `flushed` to `scratch`.
    pub(super) async fn replay(
        &self,
        tools: &Tools,
        id: PartitionId,
        flushed: Index,
        scratch: &mut Scratch,
        findings: &mut Findings,
    ) -> Result<Replayed, Failure> {
        let mut replayed = Replayed::default();
        for (dir, (log, file_bytes), partitions) in &self.places {
            if !partitions.contains(&id) {
                continue;
            }
            // What breaks it off was told when it was read the first time.
            let Ok(mut reader) = LogReader::salvage(&tools.disk, dir, *log, *file_bytes).await else {
                continue;
            };
            while let Ok(Some(batch)) = reader.next_batch().await {
                for record in batch.records().flatten() {
                    if record.header.partition == id && !matches!(record.body, Body::Witness(_)) {
                        self.apply(&record, flushed, scratch, &mut replayed)?;
                    }
                }
                scratch.spill_if_full().await?;
            }
        }
        if let Some(first) = replayed.first.filter(|first| first.0 > flushed.0 + 1) {
            let what = format!(
                "partition {id}: records {} to {} are neither in segments that can be read nor in the log",
                flushed.0 + 1,
                first.0 - 1
            );
            let dir = self.places.first().map_or(Path::new(""), |(dir, ..)| dir);
            findings.add(Severity::Damaged, dir, 0, what);
            replayed.is_gapped = true;
        }
        Ok(replayed)
    }

    fn note(&mut self, record: &Record<'_>) {
        match record.body {
            Body::Prepare { tx, .. } => {
                self.prepared.insert(tx);
            }
            Body::Decide { tx, version, .. } => {
                self.commits.insert(tx, version);
            }
            Body::Resolve { tx, outcome } => {
                self.resolved.insert((record.header.partition, tx), record.header.index);
                match outcome {
                    Outcome::Commit(version) => {
                        self.commits.insert(tx, version);
                    }
                    Outcome::Abort => {
                        self.aborted.insert(tx);
                    }
                }
            }
            Body::Write(_) | Body::Time | Body::Witness(_) => {}
        }
    }

    fn apply(
        &self,
        record: &Record<'_>,
        flushed: Index,
        scratch: &mut Scratch,
        replayed: &mut Replayed,
    ) -> Result<(), Failure> {
        let header = record.header;
        replayed.time_ms = replayed.time_ms.max(header.time_ms);
        let is_copy =
            matches!(record.body, Body::Prepare { copy: true, .. } | Body::Decide { copy: true, .. });
        if header.index > flushed && !is_copy {
            replayed.first = Some(replayed.first.map_or(header.index, |first| first.min(header.index)));
        }
        match record.body {
            Body::Write(rows) if header.index > flushed => insert(rows, None, scratch),
            Body::Prepare { tx, rows, .. } => {
                let is_flushed = self.resolved.get(&(header.partition, tx)).is_some_and(|&at| at <= flushed);
                match self.commits.get(&tx) {
                    Some(&version) if !is_flushed => insert(rows, Some(version), scratch),
                    Some(_) | None => Ok(()),
                }
            }
            Body::Write(_) | Body::Decide { .. } | Body::Resolve { .. } | Body::Time | Body::Witness(_) => {
                Ok(())
            }
        }
    }
}

/// Rows of a record; a transaction's get the version it committed with.
fn insert(rows: Rows<'_>, committed: Option<Version>, scratch: &mut Scratch) -> Result<(), Failure> {
    for row in rows {
        let row = row.map_err(|what| Failure::told(format!("a row of a whole log batch: {what}")))?;
        match row {
            RowOp::Put { key, value, expiry, version } => {
                let version = committed.unwrap_or(version);
                scratch.insert(Entry { key, version, kind: Kind::Put, expiry, value });
            }
            RowOp::Delete { key, version } => {
                let version = committed.unwrap_or(version);
                scratch.insert(Entry { key, version, kind: Kind::Delete, expiry: Expiry::NEVER, value: b"" });
            }
            RowOp::DeleteRange { start, end, version } => {
                let version = committed.unwrap_or(version);
                scratch.delete_range(RangeTombstone { start: start.to_vec(), end: end.to_vec(), version });
            }
        }
    }
    Ok(())
}
