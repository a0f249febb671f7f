//! Segments: what is built is what is read, by lookup, by cursor, by a merge of several, and by `verify`.

use std::cmp::Reverse;
use std::path::Path;
use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use foreshard_engine::cache::BlockCache;
use foreshard_engine::entry::{Entry, RangeTombstone};
use foreshard_engine::hash::stable;
use foreshard_engine::ids::{SegmentId, Version};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{MemoryConfig, MemoryDisk};
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::merge::{Merge, Source, Step};
use foreshard_engine::segment::{
    BuildOptions, Codec, ReadMode, RunCursor, Segment, SegmentBuilder, SegmentCursor, path_of, verify,
};
use foreshard_engine::tombstones::RangeTombstones;
use foreshard_engine::visible::{View, Visible};

use super::rows::{self, Rows, entry, visible};

const ROWS_MAX: usize = 120;

/// What one segment was built of.
struct Built {
    rows: Rows,
    tombstones: Vec<RangeTombstone>,
    segment: Rc<Segment>,
}

/// Builds the segments that `data` is, and reads them.
pub fn run(data: &[u8]) {
    let world = VirtualRuntime::new(1);
    let disk = Rc::new(MemoryDisk::new(&world.runtime(), 1, MemoryConfig::default()));
    world.block_on(async {
        disk.create_dir(Path::new("p")).await.expect("a fresh disk");
        let _ = build_and_read(&mut Unstructured::new(data), &disk).await;
    });
}

async fn build_and_read(input: &mut Unstructured<'_>, disk: &Rc<MemoryDisk>) -> Result<()> {
    let cache = Rc::new(BlockCache::new(input.choose(&[1 << 20, 1 << 12]).copied()?));
    let mut all = Vec::new();
    for id in 1..=input.int_in_range(1..=3)? {
        if let Some(built) = build(input, disk, &cache, SegmentId(id)).await? {
            check_segment(input, &built).await;
            all.push(built);
        }
    }
    check_merged(input, &all).await
}

async fn build(
    input: &mut Unstructured<'_>,
    disk: &Rc<MemoryDisk>,
    cache: &Rc<BlockCache>,
    id: SegmentId,
) -> Result<Option<Built>> {
    let options = BuildOptions {
        level: 1,
        codec: *input.choose(&[Codec::None, Codec::Lz4])?,
        block_bytes: *input.choose(&[1, 100, 300, 4096])?,
        created_ms: 5,
    };
    let mut tombstones = Vec::new();
    for _ in 0..input.int_in_range(0..=4)? {
        tombstones.extend(rows::tombstone(input)?);
    }
    let rows = rows::rows(input, ROWS_MAX)?;
    if rows.is_empty() && tombstones.is_empty() {
        return Ok(None);
    }
    let shared: Rc<dyn Disk> = disk.clone();
    let mut builder = SegmentBuilder::create(shared, Path::new("p"), id, options).await.expect("a new name");
    for ((key, version), stored) in &rows {
        builder.add(entry(key, version.0, stored)).await.expect("no faults");
    }
    tombstones.iter().for_each(|t| builder.push_tombstone(t));
    let meta = builder.finish().await.expect("no faults");
    let path = path_of(Path::new("p"), id);
    let report = verify::verify(&**disk, &path).await.expect("built just before");
    assert_eq!(report.meta.rows, rows.len() as u64);
    assert_eq!((&report.meta.first, &report.meta.last), (&meta.first, &meta.last));
    let segment = Segment::open(&**disk, &path, meta, Rc::clone(cache)).await.expect("built just before");
    Ok(Some(Built { rows, tombstones, segment }))
}

/// Keys that are there, next to one that is, or not at all.
fn probes(rows: &Rows, input: &mut Unstructured<'_>) -> Vec<(Vec<u8>, Version)> {
    let mut probes = vec![(Vec::new(), Version::MAX), (vec![0xff; 9], Version::MAX)];
    for (key, version) in rows.keys() {
        probes.push((key.clone(), version.0));
        probes.push((key.clone(), Version(version.0.0 - 1)));
    }
    for _ in 0..8 {
        let (Ok(key), Ok(version)) = (rows::key(input), rows::version(input)) else { break };
        probes.push((key, version));
    }
    probes
}

async fn check_segment(input: &mut Unstructured<'_>, built: &Built) {
    let Built { rows, segment, .. } = built;
    for (key, at) in probes(rows, input) {
        let found = segment.get(&key, stable(&key), at).await.expect("no faults");
        let expected = rows::newest(rows, &key, at);
        assert_eq!(
            found.as_ref().map(|f| (f.version, f.kind, f.expiry, f.value())),
            expected.map(|(version, (kind, expiry, value))| (version, *kind, *expiry, value.as_slice())),
            "{key:?} at {at}"
        );
        for mode in [ReadMode::Cached, ReadMode::Ahead] {
            let mut cursor = SegmentCursor::new(Rc::clone(segment), mode);
            if cursor.seek(&key, at) == Step::NeedsLoad {
                cursor.load().await.expect("no faults");
            }
            for ((key, version), stored) in rows.range((key.clone(), Reverse(at))..).take(4) {
                assert_eq!(cursor.entry(), Some(entry(key, version.0, stored)));
                if cursor.advance() == Step::NeedsLoad {
                    cursor.load().await.expect("no faults");
                }
            }
        }
    }
    assert!(segment.bytes_between(b"", None) <= segment.meta().bytes);
}

/// All segments as one: every entry once, then what readers see.
async fn check_merged(input: &mut Unstructured<'_>, all: &[Built]) -> Result<()> {
    let mut rows = Rows::new();
    let mut set = RangeTombstones::default();
    let mut tombstones = Vec::new();
    for built in all {
        for (key, stored) in &built.rows {
            rows.entry(key.clone()).or_insert_with(|| stored.clone());
        }
        set.merge(built.segment.tombstones());
        tombstones.extend_from_slice(&built.tombstones);
    }
    let merged = |mode| {
        Merge::new(all.iter().map(|b| Source::from(RunCursor::of(Rc::clone(&b.segment), mode))).collect())
    };
    let mut merge = merged(ReadMode::Ahead);
    if merge.seek_first() == Step::NeedsLoad {
        merge.load().await.expect("no faults");
    }
    for ((key, version), stored) in &rows {
        assert_eq!(merge.entry(), Some(entry(key, version.0, stored)));
        if merge.advance() == Step::NeedsLoad {
            merge.load().await.expect("no faults");
        }
    }
    assert_eq!(merge.entry(), None);
    for at in [Version::MAX, rows::version(input)?] {
        let now_ms = input.int_in_range(0..=60)?;
        let mut view = Visible::new(merged(ReadMode::Cached), View { at, now_ms, tombstones: set.clone() });
        let mut there = view.seek(b"").await.expect("no faults");
        let mut keys: Vec<&[u8]> = rows.keys().map(|(key, _)| key.as_slice()).collect();
        keys.dedup();
        for key in keys {
            let Some((version, value)) = visible(&rows, &tombstones, key, at, now_ms) else { continue };
            let seen = view.entry().map(|e: Entry<'_>| (e.key, e.version, e.value));
            assert_eq!((there, seen), (true, Some((key, version, value))), "at {at}, time {now_ms}");
            there = view.next().await.expect("no faults");
        }
        assert!(!there);
    }
    Ok(())
}
