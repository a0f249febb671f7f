//! `foreshard inspect`: which structures are looked at, in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use foreshard_engine::ids::{EditNumber, Incarnation, PartitionId, ShardId};
use foreshard_engine::partition::open::dir_of;
use foreshard_engine::segment;
use foreshard_engine::superblock::{FILE_NAME, State};
use foreshard_engine::table;
use foreshard_engine::wal::LogId;
use serde_json::json;

use crate::Verdict;
use crate::cli::{Inspect, Target};
use crate::finding::{Findings, Severity};
use crate::lock;
use crate::output::Output;
use crate::shell::{self, Failure, Reads, Tools};
use crate::survey;

/// Runs the command.
pub(crate) fn run(what: &Inspect) -> Result<Verdict, Failure> {
    let (Inspect::Wal(target)
    | Inspect::Segment(target)
    | Inspect::Manifest(target)
    | Inspect::Table(target)
    | Inspect::Store(target)) = what;
    let path = lock::resolve(&target.path)?;
    let store = lock::store_of(&path);
    let closed = store.as_deref().map(lock::keep_closed).transpose()?.flatten().map(Rc::new);
    let reads = match &closed {
        Some(closed) if !target.unmapped => Reads::Mapped(Rc::clone(closed)),
        // Without a lock nothing says that a file stays as it is while it is mapped.
        Some(_) | None => Reads::Ring,
    };
    shell::run(reads, async |tools| {
        let mut view = View::new(tools, target);
        match what {
            Inspect::Wal(_) => view.wal(&path).await?,
            Inspect::Segment(_) => view.segment(&path).await?,
            Inspect::Manifest(_) => view.manifest(&path, store.as_deref()).await?,
            Inspect::Table(_) => view.table(&path).await?,
            Inspect::Store(_) => view.store(&path).await?,
        }
        view.finish(matches!(what, Inspect::Store(_)), &path)
    })
}

/// One look: what was found, and where it goes.
#[derive(Debug)]
struct View<'a> {
    tools: &'a Tools,
    findings: Findings,
    output: Output,
}

impl<'a> View<'a> {
    fn new(tools: &'a Tools, target: &Target) -> Self {
        let output = Output::new(target.json, target.dump);
        Self { tools, findings: Findings::default(), output }
    }

    fn finish(self, is_store: bool, path: &Path) -> Result<Verdict, Failure> {
        let verdict = self.findings.verdict();
        let text = match verdict {
            Verdict::Sound => "sound".to_owned(),
            Verdict::Damaged if is_store => {
                format!("damaged: `foreshard repair {} --into NEW` salvages what is whole", path.display())
            }
            Verdict::Damaged => "damaged".to_owned(),
            Verdict::Unreadable => {
                "unreadable in part: the device refuses; copy it to another one first".to_owned()
            }
        };
        let summary = json!({"path": path.display().to_string()});
        self.output.verdict(&self.findings, verdict, (summary, &text))
    }

    async fn wal(&mut self, path: &Path) -> Result<(), Failure> {
        let dir = directory_of(path);
        let Some(id) = survey::log::identify(self.tools, &dir).await? else {
            let files = self.tools.list(&dir).await?;
            if files.iter().any(|name| name.ends_with(".wal")) {
                self.findings.add(
                    Severity::Damaged,
                    &dir,
                    0,
                    "no file in this directory has a whole header of a log",
                );
                return Ok(());
            }
            let what = format!("{}: no log is here; give a directory like STORE/wal/7/0", dir.display());
            return Err(Failure::told(what));
        };
        survey::log::survey(self.tools, &dir, id, &mut self.findings, &mut self.output).await.map(|_| ())
    }

    async fn segment(&mut self, path: &Path) -> Result<(), Failure> {
        if !path.is_file() {
            let what = format!(
                "{}: give a segment's file, as STORE/partitions/3/0000000000000001.seg",
                path.display()
            );
            return Err(Failure::told(what));
        }
        survey::segment::survey(self.tools, path, None, &mut self.findings, &mut self.output).await
    }

    async fn manifest(&mut self, path: &Path, store: Option<&Path>) -> Result<(), Failure> {
        let dir = directory_of(path);
        let Some(id) = survey::manifest::identify(self.tools, &dir).await? else {
            let what =
                format!("{}: no manifest is here; give a directory like STORE/partitions/3", dir.display());
            return Err(Failure::told(what));
        };
        let witness = match store {
            Some(store) => self.witnesses(store).await?.map(|all| all.get(&id).copied().unwrap_or_default()),
            None => None,
        };
        let View { tools, findings, output } = self;
        survey::manifest::survey(tools, &dir, id, witness, findings, output).await.map(|_| ())
    }

    async fn table(&mut self, path: &Path) -> Result<(), Failure> {
        let dir = directory_of(path);
        let View { tools, findings, output } = self;
        if let Some(store) = survey::table::identify(tools, &dir).await? {
            return survey::table::survey(tools, &dir, store, findings, output).await.map(|_| ());
        }
        if !table::paths(&dir).iter().any(|path| path.is_file()) {
            let what = format!("{}: no table is here; give a directory like STORE/table", dir.display());
            return Err(Failure::told(what));
        }
        findings.add(
            Severity::Damaged,
            &dir,
            0,
            "no file in this directory begins with a whole frame of a table",
        );
        Ok(())
    }

    /// What the logs around say of manifests, nothing shown; none when they cannot be read to their end.
    async fn witnesses(&self, store: &Path) -> Result<Option<BTreeMap<PartitionId, EditNumber>>, Failure> {
        let (mut findings, mut silent) = (Findings::default(), Output::silent());
        let Some(state) = survey::superblock::survey(self.tools, store, &mut findings).await? else {
            return Ok(None);
        };
        let logs = logs(self.tools, store, &state, &mut findings, &mut silent).await?;
        Ok((logs.iter().all(|log| log.is_whole)).then(|| witnesses_of(&logs)))
    }

    async fn store(&mut self, dir: &Path) -> Result<(), Failure> {
        if !["partitions", "wal", FILE_NAME].iter().any(|name| dir.join(name).exists()) {
            return Err(Failure::told(format!("{}: no store is here", dir.display())));
        }
        let View { tools, findings, output } = self;
        let state = survey::superblock::survey(tools, dir, findings).await?;
        let Some(state) = state else {
            return self.store_without_superblock(dir).await;
        };
        survey::superblock::show(&state, output)?;
        let place = dir.join(table::DIR_NAME);
        let table = survey::table::survey(tools, &place, state.store, findings, output).await?;
        let partitions = match &table {
            Some(table) => table.partitions.keys().copied().collect(),
            None => partition_dirs(tools, dir).await?,
        };
        let logs = logs(tools, dir, &state, findings, output).await?;
        let witnesses = witnesses_of(&logs);
        let is_witnessed = logs.iter().all(|log| log.is_whole);
        for &id in &partitions {
            let witness = witnesses.get(&id).copied();
            // What a damaged log would have said is not known.
            let witness = if is_witnessed { Some(witness.unwrap_or_default()) } else { witness };
            self.partition(dir, id, witness).await?;
        }
        self.strangers(dir, &state, &partitions).await
    }

    /// Everything that can be told without knowing which logs and partitions there should be.
    async fn store_without_superblock(&mut self, dir: &Path) -> Result<(), Failure> {
        for log in survey_dirs(self.tools, dir).await? {
            self.wal(&log).await?;
        }
        for id in partition_dirs(self.tools, dir).await? {
            self.partition(dir, id, None).await?;
        }
        Ok(())
    }

    async fn partition(
        &mut self,
        dir: &Path,
        id: PartitionId,
        witness: Option<EditNumber>,
    ) -> Result<(), Failure> {
        let View { tools, findings, output } = self;
        let place = dir_of(dir, id);
        let manifest = survey::manifest::survey(tools, &place, id, witness, findings, output).await?;
        for meta in manifest.state.segments.values() {
            let path = segment::path_of(&place, meta.id);
            survey::segment::survey(tools, &path, Some(meta), findings, output).await?;
        }
        for name in tools.list(&place).await? {
            let named = match segment::id_of(&name) {
                Some(id) => manifest.state.segments.contains_key(&id),
                None => survey::manifest::file_number(&name).is_some(),
            };
            if !named {
                let what = if manifest.is_whole {
                    "no manifest names this file: it is removed when the store is opened"
                } else {
                    "what is whole of the manifest does not name this file"
                };
                findings.add(Severity::Note, &place.join(name), 0, what);
            }
        }
        Ok(())
    }

    /// Files that belong to nothing.
    async fn strangers(
        &mut self,
        dir: &Path,
        state: &State,
        partitions: &[PartitionId],
    ) -> Result<(), Failure> {
        let View { tools, findings, .. } = self;
        for name in tools.list(dir).await? {
            let known = ["LOCK", FILE_NAME, "wal", "partitions", table::DIR_NAME].contains(&name.as_str())
                || name.starts_with("reserve-");
            if !known {
                findings.add(Severity::Note, &dir.join(name), 0, "nothing in this store is named so");
            }
        }
        let partitions: BTreeSet<String> = partitions.iter().map(PartitionId::to_string).collect();
        for name in tools.list(&dir.join("partitions")).await? {
            if !partitions.contains(&name) {
                let what = "the table has no such partition";
                findings.add(Severity::Note, &dir.join("partitions").join(name), 0, what);
            }
        }
        for name in tools.list(&dir.join("wal")).await? {
            let old = dir.join("wal").join(&name);
            if name != state.incarnation.to_string() && !is_hollow(tools, &old).await? {
                findings.add(
                    Severity::Note,
                    &old,
                    0,
                    "logs of another incarnation: their files are used again, or removed",
                );
            }
        }
        Ok(())
    }
}

/// The partitions whose directories are here.
pub(crate) async fn partition_dirs(tools: &Tools, dir: &Path) -> Result<Vec<PartitionId>, Failure> {
    let names = tools.list(&dir.join("partitions")).await?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).map(PartitionId).collect())
}

/// The logs that the superblock names.
pub(crate) async fn logs(
    tools: &Tools,
    dir: &Path,
    state: &State,
    findings: &mut Findings,
    output: &mut Output,
) -> Result<Vec<survey::log::Log>, Failure> {
    let mut logs = Vec::new();
    if state.incarnation == Incarnation(0) {
        return Ok(logs);
    }
    for shard in (0..state.shards).map(ShardId) {
        let id = LogId { store: state.store, incarnation: state.incarnation, shard };
        let place = state.wal_dir(dir, shard);
        logs.push(survey::log::survey(tools, &place, (id, state.wal_file_bytes), findings, output).await?);
    }
    Ok(logs)
}

/// The newest edit of each partition that some log proves durable.
pub(crate) fn witnesses_of(logs: &[survey::log::Log]) -> BTreeMap<PartitionId, EditNumber> {
    let mut all: BTreeMap<PartitionId, EditNumber> = BTreeMap::new();
    for (&id, &edit) in logs.iter().flat_map(|log| &log.witnesses) {
        let known = all.entry(id).or_default();
        *known = edit.max(*known);
    }
    all
}

/// The directories of the latest incarnation's logs, as the names in a store say.
pub(crate) async fn survey_dirs(tools: &Tools, dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let wal = dir.join("wal");
    let incarnations = tools.list(&wal).await?.into_iter().filter_map(|name| name.parse::<u64>().ok());
    let Some(last) = incarnations.max() else { return Ok(Vec::new()) };
    let of_last = wal.join(last.to_string());
    let shards = tools.list(&of_last).await?;
    Ok(shards.into_iter().filter(|name| name.parse::<u16>().is_ok()).map(|name| of_last.join(name)).collect())
}

/// Whether nothing but empty directories is in it.
async fn is_hollow(tools: &Tools, dir: &Path) -> Result<bool, Failure> {
    for name in tools.list(dir).await? {
        let inner = dir.join(name);
        if !inner.is_dir() || !tools.list(&inner).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn directory_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_path_buf() } else { path.parent().unwrap_or(path).to_path_buf() }
}
