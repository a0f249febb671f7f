//! A partition's manifest: its chain of edits, judged by what the log witnesses, and the state that they make.
//!
//! The table of what is torn and what is corrupt is that of the engine's `manifest/open`; here nothing is cut.

use std::path::{Path, PathBuf};

use foreshard_engine::Error;
use foreshard_engine::ids::{EditNumber, PartitionId};
use foreshard_engine::manifest::{Chain, Damage, Found, FrameKind, State, decode, read_chain};
use serde_json::json;

use crate::finding::{Findings, Severity};
use crate::output::Output;
use crate::shell::{Failure, Tools};
use crate::text::count;

/// Nothing writes a longer manifest file.
const FILE_BYTES_MAX: u64 = 256 << 20;
const PREFIX: &str = "manifest-";

/// What a partition's manifest says.
#[derive(Default, Debug)]
pub(crate) struct Manifest {
    pub(crate) state: State,
    pub(crate) last: EditNumber,
    /// It ends where it should: the state is the partition's.
    pub(crate) is_whole: bool,
}

struct File {
    path: PathBuf,
    chain: Chain,
    /// Something stands after the last edit.
    trails: bool,
}

/// The number in a manifest file's name.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
}

/// Whose manifest lies in `dir`: as its directory's name says, or else its first edit.
pub(crate) async fn identify(tools: &Tools, dir: &Path) -> Result<Option<PartitionId>, Error> {
    if let Some(id) = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) {
        return Ok(Some(PartitionId(id)));
    }
    for name in tools.list(dir).await? {
        if file_number(&name).is_some()
            && let Found::Whole(frame, _, _) = decode(&tools.read(&dir.join(name), FILE_BYTES_MAX).await?)
        {
            return Ok(Some(frame.partition));
        }
    }
    Ok(None)
}

/// Reads the manifest in `dir`. `witness` is the last edit that the logs prove durable; none when no log was read.
pub(crate) async fn survey(
    tools: &Tools,
    dir: &Path,
    id: PartitionId,
    witness: Option<EditNumber>,
    findings: &mut Findings,
    output: &mut Output,
) -> Result<Manifest, Failure> {
    let mut numbers: Vec<u64> = match tools.list(dir).await {
        Ok(names) => names.iter().filter_map(|name| file_number(name)).collect(),
        Err(error) => {
            findings.add_error(&error, dir);
            return Ok(Manifest::default());
        }
    };
    numbers.sort_unstable();
    let mut unfinished: Vec<File> = Vec::new();
    for number in numbers.into_iter().rev() {
        let path = dir.join(format!("{PREFIX}{number}"));
        let file = match read(tools, &path, id).await {
            Ok(file) => file,
            Err(error) => {
                findings.add_error(&error, &path);
                return Ok(Manifest::default());
            }
        };
        if let Some(Damage::Foreign(what)) = file.chain.damage {
            findings.add(Severity::Damaged, &file.path, file.chain.end, what);
            return Ok(file.replay(id, findings, output)?.not_whole());
        }
        if file.chain.frames.is_empty() {
            unfinished.push(file);
            continue;
        }
        let manifest = file.replay(id, findings, output)?;
        let is_whole = judge(&file, &unfinished, manifest.last, witness, findings) && manifest.is_whole;
        return Ok(Manifest { is_whole, ..manifest });
    }
    match unfinished.first() {
        Some(file) => {
            let what = file.chain.damage.map_or("no edit", Damage::what);
            findings.add(Severity::Damaged, &file.path, 0, format!("no manifest file is whole: {what}"));
        }
        None => {
            findings.add(Severity::Damaged, &dir.join("manifest-0"), 0, "the partition's manifest is lost")
        }
    }
    Ok(Manifest::default())
}

/// Whether the chain ends where it should.
fn judge(
    file: &File,
    unfinished: &[File],
    last: EditNumber,
    witness: Option<EditNumber>,
    findings: &mut Findings,
) -> bool {
    let (path, offset, what) = match unfinished.first() {
        Some(newer) => (&newer.path, 0, newer.chain.damage.map_or("no edit", Damage::what)),
        None => (&file.path, file.chain.end, file.chain.damage.map_or("nothing follows", Damage::what)),
    };
    let is_torn = !unfinished.is_empty() || file.trails;
    match witness {
        Some(witness) if last < witness => {
            let what =
                format!("the manifest ends with edit {last}, the log proves edit {witness} durable: {what}");
            findings.add(Severity::Damaged, path, offset, what);
            return false;
        }
        Some(_) if is_torn => {
            let what = format!("an edit was being written when the store stopped: {what}");
            findings.add(Severity::Torn, path, offset, what);
        }
        None if is_torn => {
            let what =
                format!("{what}: without the log nobody can tell whether this was torn or damaged later");
            findings.add(Severity::Damaged, path, offset, what);
            return false;
        }
        Some(_) | None => {}
    }
    true
}

async fn read(tools: &Tools, path: &Path, id: PartitionId) -> Result<File, Error> {
    let bytes = tools.read(path, FILE_BYTES_MAX).await?;
    let chain = read_chain(&bytes, id);
    let rest = usize::try_from(chain.end).ok().and_then(|end| bytes.get(end..)).unwrap_or(&[]);
    let trails = rest.iter().any(|&b| b != 0);
    Ok(File { path: path.to_path_buf(), chain, trails })
}

impl Manifest {
    fn not_whole(self) -> Self {
        Self { is_whole: false, ..self }
    }
}

impl File {
    /// The state that its edits make, up to one that contradicts those before it.
    fn replay(
        &self,
        id: PartitionId,
        findings: &mut Findings,
        output: &mut Output,
    ) -> Result<Manifest, Failure> {
        let mut manifest = Manifest { is_whole: true, ..Manifest::default() };
        for (offset, frame) in &self.chain.frames {
            if let Err(what) = manifest.state.check(&frame.edit) {
                findings.add(Severity::Damaged, &self.path, *offset, format!("edit {} {what}", frame.number));
                manifest.is_whole = false;
                break;
            }
            output.detail("edit", || {
                let kind = if frame.kind == FrameKind::Snapshot { "snapshot" } else { "edit" };
                let ids = |ids: Vec<u64>| ids.iter().map(|id| format!("{id:016x}")).collect::<Vec<_>>();
                let added = ids(frame.edit.added.iter().map(|meta| meta.id.0).collect());
                let removed = ids(frame.edit.removed.iter().map(|id| id.0).collect());
                let text = format!(
                    "{kind} {} in {} at offset {offset}: adds [{}], removes [{}], flushed index {}, version {}",
                    frame.number,
                    self.path.display(),
                    added.join(" "),
                    removed.join(" "),
                    frame.edit.flushed_index,
                    frame.edit.version_max
                );
                let value = json!({
                    "file": self.path.display().to_string(), "offset": offset, "kind": kind,
                    "number": frame.number.0, "added": added, "removed": removed,
                    "flushed_index": frame.edit.flushed_index.0, "version_max": frame.edit.version_max.0,
                    "time_ms": frame.edit.time_ms,
                });
                (value, text)
            })?;
            manifest.state.apply(frame.edit.clone());
            manifest.last = frame.number;
        }
        manifest.show(id, &self.path, output)?;
        Ok(manifest)
    }
}

impl Manifest {
    fn show(&self, id: PartitionId, path: &Path, output: &mut Output) -> Result<(), Failure> {
        let state = &self.state;
        let rows: u64 = state.segments.values().map(|meta| meta.rows).sum();
        let value = json!({
            "partition": id.0,
            "file": path.display().to_string(),
            "last_edit": self.last.0,
            "flushed_index": state.flushed_index.0,
            "epoch": state.epoch.0,
            "version_max": state.version_max.0,
            "time_ms": state.time_ms,
            "segments": state.segments.values().map(|meta| json!({
                "segment": format!("{:016x}", meta.id.0), "level": meta.level, "bytes": meta.bytes, "rows": meta.rows,
                "checksum": format!("{:08x}", meta.checksum),
            })).collect::<Vec<_>>(),
            "entries": rows,
        });
        let text = format!(
            "partition {id}: {} ends with edit {}: {} with {} entries, log flushed up to index {}",
            path.display(),
            self.last,
            count(state.segments.len() as u64, "segment"),
            rows,
            state.flushed_index
        );
        output.item("manifest", value, &text)
    }
}
