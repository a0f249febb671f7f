//! From the logs of the last opening to partitions that need no log.
//!
//! Two passes over every log. The first reads and verifies all of it, syncs it, and changes nothing: only when every
//! chain is known to be whole (R1, R2) and to stay does anything happen. The second replays what is not in segments yet, and flushes it.
//! Logs are read in parallel by the shards; logs that share a partition are replayed by one.
//!
//! Invariants:
//! - nothing is written before every log has been verified, and is durable as it was read: a decision that a crash in the
//!   middle of this takes back must not have been carried out by some of its partitions;
//! - a transaction counts if its decision is in some log; all that knew of it resolve it alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::replays::Replays;
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::ids::{EditNumber, Lsn, PartitionId, ShardId, Version};
use crate::options::Options;
use crate::partition::Common;
use crate::shard::host::Host;
use crate::superblock;
use crate::wal::format::Invalid;
use crate::wal::{Body, LogEnd, LogId, LogReader, Outcome, TxId};

/// What one log holds, as its first reading tells.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) shard: ShardId,
    partitions: BTreeSet<PartitionId>,
    witnesses: BTreeMap<PartitionId, EditNumber>,
    /// Commits, by their decisions and by resolutions elsewhere.
    decisions: BTreeMap<TxId, Version>,
    /// Those of its files that can be used again.
    pub(crate) files: Vec<PathBuf>,
    end: LogEnd,
}

/// What all surveys say together.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The partitions that the table names; what logs hold of others is in those that took them in, or nowhere.
    pub(crate) named: BTreeSet<PartitionId>,
    pub(crate) witnesses: BTreeMap<PartitionId, EditNumber>,
    pub(crate) decisions: BTreeMap<TxId, Version>,
    /// Logs that share no partition with logs of another group.
    pub(crate) groups: Vec<Vec<ShardId>>,
    pub(crate) files: Vec<PathBuf>,
    ends: BTreeMap<ShardId, LogEnd>,
}

/// Reads and verifies one log, and makes it durable.
///
/// # Errors
/// [`Error::Corrupt`] by the table of R1 and R2; [`Error::Io`].
pub(crate) async fn survey(
    host: &Host,
    store: &Path,
    state: &superblock::State,
    shard: ShardId,
) -> Result<Survey> {
    let mut reader = open_log(host, store, state, shard).await?;
    let mut survey = Survey {
        shard,
        partitions: BTreeSet::new(),
        witnesses: BTreeMap::new(),
        decisions: BTreeMap::new(),
        files: Vec::new(),
        end: reader.end().clone(),
    };
    let dir = state.wal_dir(store, shard);
    let mut slice = host.runtime.slice();
    while let Some(batch) = reader.next_batch().await? {
        let place = (batch.header().lsn, batch.header().number);
        for record in batch.records() {
            let record = record.map_err(|what| damaged(&dir, place, what))?;
            survey.note(&record.body, record.header.partition);
        }
        slice.pause().await;
    }
    if let Some(torn) = &reader.end().torn {
        tracing::warn!(
            "log {}: the batch at offset {} was being written when the store stopped, and is cut: {}",
            torn.path.display(),
            torn.offset,
            torn.what
        );
    }
    reader.sync(&*host.disk).await?;
    survey.files = reader.written_files();
    survey.end = reader.end().clone();
    Ok(survey)
}

impl Survey {
    fn note(&mut self, body: &Body<'_>, partition: PartitionId) {
        match *body {
            Body::Witness(witnesses) => {
                for (partition, edit) in witnesses.iter() {
                    let known = self.witnesses.entry(partition).or_default();
                    *known = edit.max(*known);
                }
                return;
            }
            Body::Decide { tx, version, .. } | Body::Resolve { tx, outcome: Outcome::Commit(version) } => {
                self.decisions.insert(tx, version);
            }
            Body::Write(_) | Body::Prepare { .. } | Body::Resolve { .. } | Body::Time => {}
        }
        self.partitions.insert(partition);
    }
}

impl Findings {
    /// Puts the surveys of all logs together.
    pub(crate) fn of(surveys: Vec<Survey>) -> Self {
        let mut findings = Self::default();
        let mut groups: Vec<(BTreeSet<PartitionId>, Vec<ShardId>)> = Vec::new();
        for survey in surveys {
            for (partition, edit) in survey.witnesses {
                let known = findings.witnesses.entry(partition).or_default();
                *known = edit.max(*known);
            }
            findings.decisions.extend(survey.decisions);
            findings.files.extend(survey.files);
            findings.ends.insert(survey.shard, survey.end);
            let mut joined = (survey.partitions, vec![survey.shard]);
            let (shared, apart) = groups.into_iter().partition(|(p, _)| !p.is_disjoint(&joined.0));
            groups = apart;
            for (partitions, shards) in Vec::from_iter::<Vec<(BTreeSet<PartitionId>, Vec<ShardId>)>>(shared) {
                joined.0.extend(partitions);
                joined.1.extend(shards);
            }
            groups.push(joined);
        }
        findings.groups = groups.into_iter().map(|(_, shards)| shards).collect();
        findings
    }
}

/// Replays a group of logs into its partitions and makes everything in them durable in segments.
///
/// # Errors
/// [`Error::Corrupt`] for damaged or missing records, manifests or segments; what writing segments says.
pub(crate) async fn replay(
    host: &Host,
    store: &Path,
    state: &superblock::State,
    options: &Options,
    group: Vec<ShardId>,
    findings: Arc<Findings>,
) -> Result<()> {
    let cache = Rc::new(BlockCache::new(0));
    let common =
        Common::new(host.runtime.clone(), Rc::clone(&host.disk), store.to_path_buf(), cache, options.clone());
    let mut replays = Replays::new(Rc::new(common), store, Arc::clone(&findings));
    let mut slice = host.runtime.slice();
    for shard in group {
        let mut reader = open_log(host, store, state, shard).await?;
        if let Some(end) = findings.ends.get(&shard) {
            reader = reader.until(end);
        }
        let dir = state.wal_dir(store, shard);
        while let Some(batch) = reader.next_batch().await? {
            let place = (batch.header().lsn, batch.header().number);
            let bytes = batch.header().batch_bytes();
            for record in batch.records() {
                replays.record(&record.map_err(|what| damaged(&dir, place, what))?).await?;
            }
            replays.relieve(bytes).await?;
            slice.pause().await;
        }
    }
    replays.finish().await
}

async fn open_log(host: &Host, store: &Path, state: &superblock::State, shard: ShardId) -> Result<LogReader> {
    let id = LogId { store: state.store, incarnation: state.incarnation, shard };
    LogReader::open(&host.disk, &state.wal_dir(store, shard), id, state.wal_file_bytes).await
}

/// A whole batch holds a record that no writer writes.
fn damaged(log: &Path, (lsn, number): (Lsn, u64), what: Invalid) -> Error {
    Error::corrupt(log, lsn.0, format!("batch {number} at log position {lsn}: {what}"))
}
