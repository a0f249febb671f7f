//! Everything that is whole of one partition, and what is not.

use std::path::Path;
use std::rc::Rc;

use foreshard_engine::cache::BlockCache;
use foreshard_engine::ids::{PartitionId, Version};
use foreshard_engine::merge::Source;
use foreshard_engine::partition::open::dir_of;
use foreshard_engine::segment::salvage::{Piece, Salvage};
use foreshard_engine::segment::{self, KeyRanges, ReadMode, RunCursor, Segment, SegmentMeta};
use foreshard_engine::tombstones::RangeTombstones;

use super::logs::Logs;
use super::scratch::Scratch;
use crate::finding::{Findings, Severity};
use crate::output::Output;
use crate::shell::{Failure, Tools};
use crate::survey;

/// Keys of which newer versions may be lost.
#[derive(Debug)]
struct Shadow {
    first: Vec<u8>,
    /// None: to the end.
    last: Option<Vec<u8>>,
    /// No lost version is larger.
    version_max: Version,
}

/// One partition's entries.
pub(super) struct Gathered {
    pub(super) scratch: Scratch,
    pub(super) sources: Vec<Source>,
    pub(super) tombstones: RangeTombstones,
    pub(super) time_ms: u64,
    /// Every row that the partition had is in it.
    pub(super) is_lossless: bool,
    shadows: Vec<Shadow>,
}

impl Gathered {
    /// Reads manifest, segments and log records of `id`.
    pub(super) async fn read(
        tools: &Tools,
        source: &Path,
        id: PartitionId,
        logs: &Logs,
        scratch_dir: &Path,
        findings: &mut Findings,
    ) -> Result<Self, Failure> {
        let dir = dir_of(source, id);
        let witness = logs.witnesses.get(&id).copied();
        let witness = if logs.are_whole { Some(witness.unwrap_or_default()) } else { witness };
        let mut silent = Output::silent();
        let manifest = survey::manifest::survey(tools, &dir, id, witness, findings, &mut silent).await?;
        let mut gathered = Self {
            scratch: Scratch::new(&tools.writable, scratch_dir),
            sources: Vec::new(),
            tombstones: RangeTombstones::default(),
            time_ms: manifest.state.time_ms,
            is_lossless: true,
            shadows: Vec::new(),
        };
        for meta in manifest.state.segments.values() {
            // What a damaged manifest says is old: a segment that is gone may have been compacted since.
            if manifest.is_whole || segment::path_of(&dir, meta.id).exists() {
                gathered.segment(tools, &dir, Some(meta), findings).await?;
            }
        }
        if !manifest.is_whole {
            gathered.unnamed(tools, &dir, &manifest, findings).await?;
        }
        let flushed = manifest.state.flushed_index;
        let replayed = logs.replay(tools, id, flushed, &mut gathered.scratch, findings).await?;
        gathered.time_ms = gathered.time_ms.max(replayed.time_ms);
        gathered.is_lossless = manifest.is_whole && gathered.shadows.is_empty() && !replayed.is_gapped;
        gathered.tombstones.merge(gathered.scratch.tombstones());
        let more = gathered.scratch.sources().await?;
        gathered.sources.extend(more);
        Ok(gathered)
    }

    /// Whether a newer version of this row, or a delete, may be lost.
    pub(super) fn is_doubtful(&self, key: &[u8], version: Version) -> bool {
        self.shadows.iter().any(|shadow| {
            version < shadow.version_max
                && shadow.first.as_slice() <= key
                && shadow.last.as_ref().is_none_or(|last| key <= last.as_slice())
        })
    }

    /// The segments that a damaged manifest does not name, and that it might have.
    async fn unnamed(
        &mut self,
        tools: &Tools,
        dir: &Path,
        manifest: &survey::manifest::Manifest,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let what = "the manifest is damaged: all segments in the directory are read; \
            rows deleted or replaced shortly before may be back";
        findings.add(Severity::Note, dir, 0, what);
        for name in tools.list(dir).await? {
            if let Some(id) = segment::id_of(&name).filter(|id| !manifest.state.segments.contains_key(id)) {
                self.segment_file(tools, &segment::path_of(dir, id), None, findings).await?;
            }
        }
        Ok(())
    }

    async fn segment(
        &mut self,
        tools: &Tools,
        dir: &Path,
        meta: Option<&SegmentMeta>,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let Some(id) = meta.map(|meta| meta.id) else { return Ok(()) };
        self.segment_file(tools, &segment::path_of(dir, id), meta, findings).await
    }

    /// A whole segment becomes a source; of a damaged one the whole blocks are copied.
    async fn segment_file(
        &mut self,
        tools: &Tools,
        path: &Path,
        meta: Option<&SegmentMeta>,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let before = findings.damages();
        survey::segment::survey(tools, path, meta, findings, &mut Output::silent()).await?;
        let meta_or_file = match meta {
            Some(meta) => Some(meta.clone()),
            None => verified_meta(tools, path).await,
        };
        if findings.damages() == before
            && let Some(meta) = meta_or_file
        {
            let cache = Rc::new(BlockCache::new(0));
            let segment = Segment::open(&*tools.disk, path, meta, cache).await?;
            self.tombstones.merge(segment.tombstones());
            self.sources.push(RunCursor::of(segment, ReadMode::Ahead).into());
            return Ok(());
        }
        self.blocks(tools, path, meta).await
    }

    async fn blocks(
        &mut self,
        tools: &Tools,
        path: &Path,
        meta: Option<&SegmentMeta>,
    ) -> Result<(), Failure> {
        let version_max = meta.map_or(Version::MAX, |meta| meta.version_max);
        let whole = || Shadow {
            first: meta.map(|meta| meta.first.clone()).unwrap_or_default(),
            last: meta.map(|meta| meta.last.clone()),
            version_max,
        };
        let Ok(mut salvage) = Salvage::open(&*tools.disk, path).await else {
            self.shadows.push(whole());
            return Ok(());
        };
        // What is hidden of a file has left the partition: it is neither gathered nor missed.
        let visible = meta.map_or_else(KeyRanges::everything, |meta| meta.visible.clone());
        match salvage.tombstones() {
            Some(tombstones) => {
                let mut all = RangeTombstones::default();
                tombstones.iter().cloned().for_each(|t| all.add(t));
                self.tombstones.merge(&all.within(&visible));
            }
            None if meta.is_some_and(|meta| meta.range_tombstones == 0) => {}
            None => self.shadows.push(whole()),
        }
        let mut rows = 0;
        while let Some(piece) = salvage.next().await {
            match piece {
                Piece::Block(block) => {
                    rows += u64::from(block.rows());
                    block.for_each(|entry| {
                        if visible.contains(entry.key) {
                            self.scratch.insert(entry);
                        }
                    });
                    self.scratch.spill_if_full().await?;
                }
                Piece::Lost(lost) => {
                    let last = lost.last.or_else(|| meta.map(|meta| meta.last.clone()));
                    self.shadows.push(Shadow { first: lost.first, last, version_max });
                }
            }
        }
        // Blocks followed without an index or a footer end where nothing more can be read.
        if !salvage.has_index() && meta.is_none_or(|meta| rows < meta.rows) {
            self.shadows.push(whole());
        }
        Ok(())
    }
}

async fn verified_meta(tools: &Tools, path: &Path) -> Option<SegmentMeta> {
    segment::verify::verify(&*tools.disk, path).await.ok().map(|report| report.meta)
}
