//! Segments on a memory disk, against naive models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::*;
use crate::entry::{Entry, Expiry, Kind, order};
use crate::hash::stable;
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::virtual_time::VirtualRuntime;
use crate::memtable::Memtable;
use crate::merge::{Merge, Source, Step};
use crate::tombstones::RangeTombstones;
use crate::visible::{View, Visible};

type Row = (Vec<u8>, Version, Kind, Expiry, Vec<u8>);

struct World {
    runtime: VirtualRuntime,
    disk: Rc<MemoryDisk>,
    cache: Rc<BlockCache>,
}

fn dir() -> PathBuf {
    PathBuf::from("p")
}

impl World {
    fn new(seed: u64) -> Self {
        let runtime = VirtualRuntime::new(seed);
        let config = MemoryConfig { latency_nanos: 0..50_000, ..MemoryConfig::default() };
        let disk = Rc::new(MemoryDisk::new(&runtime.runtime(), seed, config));
        runtime.block_on(disk.create_dir(&dir())).unwrap();
        runtime.block_on(disk.sync_dir(Path::new(""))).unwrap();
        Self { runtime, disk, cache: Rc::new(BlockCache::new(1 << 20)) }
    }

    fn build(&self, id: u64, rows: &[Row], options: BuildOptions) -> SegmentMeta {
        self.runtime.block_on(async {
            let disk: Rc<dyn Disk> = self.disk.clone();
            let mut builder = SegmentBuilder::create(disk, &dir(), SegmentId(id), options).await.unwrap();
            for row in rows {
                builder.add(entry(row)).await.unwrap();
            }
            builder.finish().await.unwrap()
        })
    }

    fn open(&self, meta: SegmentMeta) -> Result<Rc<Segment>> {
        let path = path_of(&dir(), meta.id);
        self.runtime.block_on(Segment::open(&*self.disk, &path, meta, self.cache.clone()))
    }

    fn segment(&self, id: u64, rows: &[Row], options: BuildOptions) -> Rc<Segment> {
        self.open(self.build(id, rows, options)).unwrap()
    }

    fn get(&self, segment: &Segment, key: &[u8], at: Version) -> Option<Row> {
        let found = self.runtime.block_on(segment.get(key, stable(key), at)).unwrap()?;
        Some((key.to_vec(), found.version, found.kind, found.expiry, found.value().to_vec()))
    }
}

fn entry(row: &Row) -> Entry<'_> {
    Entry { key: &row.0, version: row.1, kind: row.2, expiry: row.3, value: &row.4 }
}

fn row_of(entry: &Entry<'_>) -> Row {
    (entry.key.to_vec(), entry.version, entry.kind, entry.expiry, entry.value.to_vec())
}

fn small_blocks(codec: Codec) -> BuildOptions {
    BuildOptions { level: 3, codec, block_bytes: 300, created_ms: 77 }
}

/// Rows in storage order: shared prefixes, rows with many versions, long keys, large and empty values.
fn random_rows(rng: &mut fastrand::Rng, count: usize, version_max: u64) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    while rows.len() < count {
        let mut key = vec![b'a'; rng.usize(1..5)];
        key.extend((0..rng.usize(1..4)).map(|_| rng.u8(0..6)));
        if rng.u8(..) == 0 {
            key.extend(vec![7; rng.usize(300..3000)]);
        }
        let versions = if rng.u8(..20) == 0 { 30 } else { 1 };
        for _ in 0..versions {
            let version = rng.u64(1..=version_max);
            let put = rng.u8(..5) > 0;
            let expiry = if put && rng.bool() { Expiry(rng.u64(1..1000)) } else { Expiry::NEVER };
            let bytes = if rng.u8(..100) == 0 { rng.usize(..100_000) } else { rng.usize(..60) };
            let value = if put { vec![rng.u8(b'0'..b'5'); bytes] } else { Vec::new() };
            let kind = if put { Kind::Put } else { Kind::Delete };
            rows.insert((key.clone(), u64::MAX - version), (kind, expiry, value));
        }
    }
    let rows = rows.into_iter();
    rows.map(|((key, inverted), (kind, expiry, value))| {
        (key, Version(u64::MAX - inverted), kind, expiry, value)
    })
    .collect()
}

fn first_at_or_after<'a>(rows: &'a [Row], key: &[u8], at: Version) -> &'a [Row] {
    &rows[rows.partition_point(|row| order((&row.0, row.1), (key, at)).is_lt())..]
}

#[test]
fn lookups_and_cursors_agree_with_a_sorted_list() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new(seed);
        let version_max = *rng.choice(&[20, 100_000, u64::MAX - 1]).unwrap();
        let rows = random_rows(&mut rng, 600, version_max);
        let codec = if seed % 2 == 0 { Codec::Lz4 } else { Codec::None };
        let segment = world.segment(seed, &rows, small_blocks(codec));
        for _ in 0..1500 {
            let mut key = rng.choice(&rows).unwrap().0.clone();
            match rng.u8(..4) {
                0 => key.push(rng.u8(..3)),
                1 => drop(key.pop()),
                _ => {}
            }
            let some = Version(rng.u64(1..=version_max));
            let at = *rng.choice(&[Version::MAX, some, Version(1)]).unwrap();
            let rest = first_at_or_after(&rows, &key, at);
            let expected = rest.first().filter(|row| row.0 == key);
            assert_eq!(world.get(&segment, &key, at).as_ref(), expected, "{}", key.escape_ascii());
            for mode in [ReadMode::Cached, ReadMode::Ahead] {
                let mut cursor = SegmentCursor::new(segment.clone(), mode);
                world.runtime.block_on(async {
                    if cursor.seek(&key, at) == Step::NeedsLoad {
                        cursor.load().await.unwrap();
                    }
                    for expected in rest.iter().take(5) {
                        assert_eq!(cursor.entry().map(|e| row_of(&e)).as_ref(), Some(expected));
                        if cursor.advance() == Step::NeedsLoad {
                            assert!(cursor.entry().is_none());
                            cursor.load().await.unwrap();
                        }
                    }
                    assert_eq!(cursor.entry().is_none(), rest.len() <= 5);
                });
            }
        }
    }
}

#[test]
fn meta_counts_and_bounds_are_those_of_the_entries() {
    let world = World::new(1);
    let mut rng = fastrand::Rng::with_seed(1);
    let rows = random_rows(&mut rng, 300, 1000);
    let meta = world.build(9, &rows, small_blocks(Codec::Lz4));
    assert_eq!((meta.id, meta.level, meta.created_ms), (SegmentId(9), 3, 77));
    assert_eq!(meta.rows, rows.len() as u64);
    assert_eq!(meta.deletes, rows.iter().filter(|r| r.2 == Kind::Delete).count() as u64);
    assert_eq!((&meta.first, &meta.last), (&rows[0].0, &rows[rows.len() - 1].0));
    assert_eq!(meta.version_min, rows.iter().map(|r| r.1).min().unwrap());
    assert_eq!(meta.version_max, rows.iter().map(|r| r.1).max().unwrap());
    let expiries = rows.iter().map(|r| r.3).filter(|&e| e != Expiry::NEVER);
    assert_eq!(meta.expiry_min, expiries.min().unwrap());
    let path = path_of(&dir(), meta.id);
    assert_eq!(meta.bytes, world.disk.durable_contents(&path).unwrap().len() as u64);
    let report = world.runtime.block_on(verify::verify(&*world.disk, &path)).unwrap();
    assert_eq!(report.meta, SegmentMeta { level: 0, ..meta });
    assert_eq!(report.value_bytes, rows.iter().map(|r| r.4.len() as u64).sum());
}

#[test]
fn a_segment_of_only_range_tombstones_opens_and_covers() {
    let world = World::new(2);
    let tombstones = [(b"b", b"d", 5), (b"c", b"f", 9)].map(|(start, end, version)| RangeTombstone {
        start: start.to_vec(),
        end: end.to_vec(),
        version: Version(version),
    });
    let meta = world.runtime.block_on(async {
        let disk: Rc<dyn Disk> = world.disk.clone();
        let mut builder =
            SegmentBuilder::create(disk, &dir(), SegmentId(4), BuildOptions::default()).await.unwrap();
        assert!(builder.is_empty());
        tombstones.iter().for_each(|t| builder.push_tombstone(t));
        builder.finish().await.unwrap()
    });
    assert_eq!((meta.rows, meta.range_tombstones), (0, 2));
    assert_eq!((&*meta.first, &*meta.last), (&b"b"[..], &b"f"[..]));
    assert_eq!((meta.version_min, meta.version_max), (Version(5), Version(9)));
    let report = world.runtime.block_on(verify::verify(&*world.disk, &path_of(&dir(), meta.id))).unwrap();
    assert_eq!(report.range_tombstones, tombstones);
    let segment = world.open(meta).unwrap();
    assert_eq!(segment.tombstones().covering(b"c", Version::MAX), Some(Version(9)));
    assert_eq!(world.get(&segment, b"c", Version::MAX), None);
    assert_eq!(SegmentCursor::new(segment.clone(), ReadMode::Cached).seek_first(), Step::Ready);
    assert_eq!(segment.bytes_between(b"", None), 0);
}

#[test]
fn an_empty_section_may_begin_at_the_first_byte_of_a_page() {
    let world = World::new(2);
    let options = BuildOptions { codec: Codec::None, ..BuildOptions::default() };
    let mut value_bytes = 100;
    for id in 1..10 {
        let row = (b"key".to_vec(), Version(1), Kind::Put, Expiry::NEVER, vec![1; value_bytes]);
        let meta = world.build(id, std::slice::from_ref(&row), options);
        let file = world.disk.contents(&path_of(&dir(), meta.id)).unwrap();
        let footer = Footer::decode(&file[file.len() - FOOTER_BYTES..], meta.bytes).unwrap();
        assert_eq!(footer.tombstones.bytes.get(), 0);
        let missed = usize::try_from(footer.tombstones.offset.get()).unwrap() % ALIGNMENT;
        if missed == 0 {
            let segment = world.open(meta).unwrap();
            assert_eq!(world.get(&segment, b"key", Version::MAX), Some(row));
            return;
        }
        // A value longer by a byte moves what follows the block by one.
        value_bytes += ALIGNMENT - missed;
    }
    panic!("no value is as long as that");
}

#[test]
fn merged_sources_come_out_sorted_and_equal_entries_once() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new(seed);
        let mut model = BTreeMap::new();
        let mut sources: Vec<Source> = Vec::new();
        for id in 0..rng.u64(0..9) {
            let count = rng.usize(1..120);
            let rows = random_rows(&mut rng, count, 12);
            for row in &rows {
                model.entry((row.0.clone(), u64::MAX - row.1.0)).or_insert_with(|| row.clone());
            }
            if rng.u8(..4) == 0 {
                let memtable = Rc::new(Memtable::new());
                rows.iter().for_each(|row| memtable.insert(entry(row)));
                sources.push(memtable.cursor().into());
                continue;
            }
            // Cut into a run of segments at keys.
            let mut run = Vec::new();
            let mut rest = &rows[..];
            while !rest.is_empty() {
                let key = &rest[rng.usize(..rest.len())].0;
                let cut = rest.partition_point(|row| row.0 <= *key);
                run.push(world.segment(
                    id * 1000 + run.len() as u64,
                    &rest[..cut],
                    small_blocks(Codec::None),
                ));
                rest = &rest[cut..];
            }
            let mode = if rng.bool() { ReadMode::Cached } else { ReadMode::Ahead };
            sources.push(RunCursor::new(Rc::from(run), mode).into());
        }
        let expected: Vec<Row> = model.into_values().collect();
        let mut merge = Merge::new(sources);
        world.runtime.block_on(async {
            let mut rest = &expected[..];
            for round in 0..6 {
                let step = if round == 0 || expected.is_empty() {
                    merge.seek_first()
                } else {
                    let at = Version(rng.u64(..13));
                    let key = rng.choice(&expected).unwrap().0.clone();
                    rest = first_at_or_after(&expected, &key, at);
                    merge.seek(&key, at)
                };
                if step == Step::NeedsLoad {
                    assert!(merge.entry().is_none() && merge.needs_load());
                    merge.load().await.unwrap();
                }
                for row in rest {
                    assert_eq!(merge.entry().map(|e| row_of(&e)).as_ref(), Some(row));
                    if merge.advance() == Step::NeedsLoad {
                        merge.load().await.unwrap();
                    }
                }
                assert!(merge.entry().is_none() && merge.advance() == Step::Ready);
            }
        });
    }
}

/// Up to three ranges between random keys, in one set.
fn random_keys(rng: &mut fastrand::Rng, rows: &[Row]) -> KeyRanges {
    let ranges = (0..rng.usize(1..4)).map(|_| {
        let (a, b) = (rng.choice(rows).unwrap(), rng.choice(rows).unwrap());
        let end = (rng.u8(..5) > 0).then(|| a.0.clone().max(b.0.clone()));
        let start = if rng.u8(..5) == 0 { Vec::new() } else { a.0.clone().min(b.0.clone()) };
        KeyRange::new(start, end)
    });
    KeyRanges::of(ranges.collect())
}

#[test]
fn nothing_comes_out_of_a_view_that_is_not_visible_and_all_that_is() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new(seed);
        let count = rng.usize(1..400);
        let rows = random_rows(&mut rng, count, 50);
        let whole = world.segment(1, &rows, small_blocks(Codec::None));
        let (mut view, mut visible) = (Rc::clone(&whole), KeyRanges::everything());
        for cut in 0..3 {
            let keys = random_keys(&mut rng, &rows);
            visible = visible.and(&keys);
            let expected: Vec<&Row> = rows.iter().filter(|row| visible.contains(&row.0)).collect();
            let Some(meta) = view.within(&keys) else {
                assert!(expected.is_empty(), "cut {cut}");
                break;
            };
            assert!(expected.iter().all(|row| meta.may_cover(&row.0)), "cut {cut}");
            assert!(meta.visible_bytes <= meta.bytes && meta.first <= meta.last);
            view = if rng.bool() { view.view(meta) } else { world.open(meta).unwrap() };
            for row in &rows {
                let found = world.get(&view, &row.0, row.1);
                assert_eq!(found.as_ref(), visible.contains(&row.0).then_some(row), "cut {cut}");
            }
            assert_eq!(
                view.bytes_between(b"", None),
                if view.meta().is_whole() {
                    whole.bytes_between(b"", None)
                } else {
                    view.meta().visible_bytes
                }
            );
            let mode = if rng.bool() { ReadMode::Cached } else { ReadMode::Ahead };
            let mut cursor = RunCursor::of(Rc::clone(&view), mode);
            world.runtime.block_on(async {
                for round in 0..6 {
                    let (key, at) = (rng.choice(&rows).unwrap().0.clone(), Version(rng.u64(..51)));
                    let first = round == 0;
                    let step = if first { cursor.seek_first() } else { cursor.seek(&key, at) };
                    if step == Step::NeedsLoad {
                        cursor.load().await.unwrap();
                    }
                    let is_after = |row: &&&Row| first || order((&row.0, row.1), (&key, at)).is_ge();
                    for row in expected.iter().filter(is_after) {
                        assert_eq!(cursor.entry().map(|e| row_of(&e)).as_ref(), Some(*row), "cut {cut}");
                        if cursor.advance() == Step::NeedsLoad {
                            cursor.load().await.unwrap();
                        }
                    }
                    assert!(cursor.entry().is_none(), "cut {cut}");
                }
            });
        }
    }
}

#[test]
fn range_tombstones_of_a_view_end_where_it_does() {
    let world = World::new(1);
    let meta = world.runtime.block_on(async {
        let disk: Rc<dyn Disk> = world.disk.clone();
        let mut builder =
            SegmentBuilder::create(disk, &dir(), SegmentId(1), BuildOptions::default()).await.unwrap();
        builder.push_tombstone(&RangeTombstone {
            start: b"c".to_vec(),
            end: b"m".to_vec(),
            version: Version(7),
        });
        builder.finish().await.unwrap()
    });
    let whole = world.open(meta).unwrap();
    let hole = KeyRange::new(b"e", Some(b"g".to_vec()));
    let view = whole.view(whole.within(&KeyRanges::from(hole).inverted()).unwrap());
    let covered: Vec<u8> =
        (b'a'..=b'z').filter(|&c| view.tombstones().covering(&[c], Version::MAX).is_some()).collect();
    assert_eq!(covered, b"cdghijkl");
    assert!(whole.within(&KeyRanges::from(KeyRange::new(b"n", None))).is_none(), "nothing is left there");
    let right = whole.within(&KeyRanges::from(KeyRange::new(b"g", None))).unwrap();
    assert_eq!((right.first, right.last), (b"g".to_vec(), b"m".to_vec()));
}

#[test]
fn a_block_that_several_ranges_of_a_view_reach_into_counts_once() {
    let world = World::new(1);
    let meta = world.runtime.block_on(async {
        let disk: Rc<dyn Disk> = world.disk.clone();
        let mut builder =
            SegmentBuilder::create(disk, &dir(), SegmentId(1), BuildOptions::default()).await.unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        for key in b'a'..=b'z' {
            let (kind, expiry) = (Kind::Put, Expiry::NEVER);
            let value: Vec<u8> = (0..130).map(|_| random.u8(..)).collect();
            builder.push(Entry { key: &[key], version: Version(1), kind, expiry, value: &value });
        }
        builder.finish().await.unwrap()
    });
    let whole = world.open(meta).unwrap();
    let holes = (b'b'..b'z').step_by(2).map(|key| KeyRange::new([key], Some(vec![key + 1])));
    let left = whole.within(&KeyRanges::of(holes.collect()).inverted()).unwrap();
    assert!(left.visible.parts().unwrap().len() > 10, "{left:?}");
    assert!(left.visible_bytes <= left.bytes, "{} of {} bytes", left.visible_bytes, left.bytes);
}

#[test]
fn a_view_shows_of_each_row_the_newest_version_unless_it_is_gone() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new(seed);
        let rows = random_rows(&mut rng, 400, 500);
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        rows.iter().for_each(|row| parts[rng.usize(..3)].push(row.clone()));
        let mut tombstones = RangeTombstones::default();
        for _ in 0..rng.usize(..5) {
            let (a, b) = (rng.choice(&rows).unwrap(), rng.choice(&rows).unwrap());
            let (start, end) = (a.0.clone().min(b.0.clone()), a.0.clone().max(b.0.clone()));
            tombstones.add(RangeTombstone { start, end, version: Version(rng.u64(1..500)) });
        }
        let view = View { at: Version(rng.u64(1..=501)), now_ms: rng.u64(..1000), tombstones };
        let mut newest = BTreeMap::new();
        for row in rows.iter().filter(|row| row.1 <= view.at) {
            newest.entry(row.0.clone()).or_insert(row);
        }
        let start = rng.choice(&rows).unwrap().0.clone();
        let expected: Vec<Row> = newest
            .into_values()
            .filter(|row| {
                let covered = view.tombstones.covering(&row.0, view.at).is_some_and(|v| v > row.1);
                row.0 >= start && row.2 == Kind::Put && !row.3.is_past(view.now_ms) && !covered
            })
            .cloned()
            .collect();
        let sources = parts.iter().zip(0..).filter(|(part, _)| !part.is_empty()).map(|(part, id)| {
            let segment = world.segment(id, part, small_blocks(Codec::Lz4));
            RunCursor::of(segment, ReadMode::Cached).into()
        });
        let mut visible = Visible::new(Merge::new(sources.collect()), view);
        let shown = world.runtime.block_on(async {
            let mut shown = Vec::new();
            let mut more = visible.seek(&start).await.unwrap();
            while more {
                shown.extend(visible.entry().map(|e| row_of(&e)));
                more = visible.next().await.unwrap();
            }
            assert!(!visible.next().await.unwrap() && visible.entry().is_none());
            shown
        });
        assert_eq!(shown, expected);
    }
}

#[test]
fn every_flipped_bit_is_found_and_named() {
    let world = World::new(3);
    let mut rng = fastrand::Rng::with_seed(3);
    let rows = random_rows(&mut rng, 60, 1000);
    let mut builder_rows = rows;
    builder_rows.retain(|row| row.4.len() < 100);
    let meta = world.build(1, &builder_rows, small_blocks(Codec::Lz4));
    let path = path_of(&dir(), meta.id);
    for byte in 0..meta.bytes {
        let bit = byte * 8 + rng.u64(..8);
        assert!(world.disk.flip(&path, bit));
        let verified = world.runtime.block_on(verify::verify(&*world.disk, &path));
        let Err(Error::Corrupt(corruption)) = verified else { panic!("flip at {byte}: {verified:?}") };
        assert_eq!(corruption.path, path);
        assert!(corruption.offset <= byte, "flip at {byte} was called {corruption}");
        // A reader finds it when it opens the file or comes to the block; in padding it harms nobody.
        match world.open(meta.clone()) {
            Err(Error::Corrupt(_)) => {}
            Err(other) => panic!("flip at {byte}: {other}"),
            Ok(segment) => {
                let read: Vec<_> = world.runtime.block_on(async {
                    let mut read = Vec::new();
                    for number in 0..segment.index().block_count() {
                        read.push(segment.load(number).await.is_err());
                    }
                    read
                });
                let damaged = read.iter().filter(|&&failed| failed).count();
                let in_blocks = byte < segment.index().end();
                assert_eq!(damaged, usize::from(in_blocks), "flip at {byte}");
            }
        }
        assert!(world.disk.flip(&path, bit));
    }
    world.runtime.block_on(verify::verify(&*world.disk, &path)).unwrap();
}

#[test]
fn another_segments_file_a_cut_one_and_a_lost_one_are_refused() {
    let world = World::new(4);
    let mut rng = fastrand::Rng::with_seed(4);
    let rows = random_rows(&mut rng, 50, 1000);
    let meta = world.build(1, &rows, BuildOptions::default());
    let path = path_of(&dir(), meta.id);
    for wrong in [
        SegmentMeta { origin: SegmentId(2), ..meta.clone() },
        SegmentMeta { checksum: meta.checksum ^ 1, ..meta.clone() },
        SegmentMeta { bytes: meta.bytes + 4096, ..meta.clone() },
    ] {
        let opened = world.runtime.block_on(Segment::open(&*world.disk, &path, wrong, world.cache.clone()));
        assert!(matches!(opened, Err(Error::Corrupt(_))), "{opened:?}");
    }
    for len in [0, 100, 4096, usize::try_from(meta.bytes).unwrap() - 4096] {
        assert!(world.disk.truncate(&path, len));
        let verified = world.runtime.block_on(verify::verify(&*world.disk, &path));
        assert!(matches!(verified, Err(Error::Corrupt(_))), "{verified:?}");
    }
    assert!(world.disk.lose(&path));
    assert!(matches!(world.open(meta), Err(Error::Io { .. })));
}

#[test]
fn an_unfinished_segment_is_removed_when_given_up_dropped_or_failed() {
    let world = World::new(5);
    let path = path_of(&dir(), SegmentId(1));
    let create = || {
        let disk: Rc<dyn Disk> = world.disk.clone();
        SegmentBuilder::create(disk, Path::new("p"), SegmentId(1), BuildOptions::default())
    };
    let row: Row = (b"k".to_vec(), Version(1), Kind::Put, Expiry::NEVER, vec![1; 100]);
    world.runtime.block_on(async {
        let mut builder = create().await.unwrap();
        builder.push(entry(&row));
        assert!(world.disk.exists(&path).await.unwrap());
        builder.abandon().await;
        assert!(!world.disk.exists(&path).await.unwrap());

        drop(create().await.unwrap());
        world.runtime.runtime().sleep(std::time::Duration::from_millis(1)).await;
        assert!(!world.disk.exists(&path).await.unwrap());

        let mut builder = create().await.unwrap();
        builder.push(entry(&row));
        world.disk.set_capacity(0);
        assert!(builder.finish().await.unwrap_err().is_no_space());
        assert!(!world.disk.exists(&path).await.unwrap());
    });
}

#[test]
fn a_finished_segment_survives_a_crash() {
    let world = World::new(6);
    let mut rng = fastrand::Rng::with_seed(6);
    let meta = world.build(1, &random_rows(&mut rng, 50, 1000), BuildOptions::default());
    let runtime = VirtualRuntime::new(7);
    let after = world.disk.crash(&runtime.runtime(), 7, crate::io::memory::CrashMode::Lose);
    let report = runtime.block_on(verify::verify(&after, &path_of(&dir(), meta.id))).unwrap();
    assert_eq!(report.meta.checksum, meta.checksum);
}

#[test]
fn stored_bytes_of_a_range_are_those_of_its_blocks() {
    let world = World::new(8);
    let mut rng = fastrand::Rng::with_seed(8);
    let rows = random_rows(&mut rng, 500, 1 << 30);
    let segment = world.segment(1, &rows, small_blocks(Codec::None));
    let index = segment.index();
    assert_eq!(segment.bytes_between(b"", None), index.end());
    assert_eq!(segment.bytes_between(b"z", Some(b"y")), 0);
    // The first key of each block, by walking.
    let firsts: Vec<(Vec<u8>, Vec<u8>)> = (0..index.block_count())
        .map(|number| {
            let block = world.runtime.block_on(segment.load(number)).unwrap();
            let mut cursor = block::BlockCursor::first(block, Vec::new());
            let first = cursor.entry().key.to_vec();
            while cursor.advance() {}
            (first, cursor.entry_before_end().key.to_vec())
        })
        .collect();
    for _ in 0..2000 {
        let start = rng.choice(&rows).unwrap().0.clone();
        let end = rng.choice(&rows).unwrap().0.clone();
        let blocks = firsts.iter().zip(0..).filter(|((first, last), _)| *last >= start && *first < end);
        let held: Vec<u32> = blocks.map(|(_, number)| number).collect();
        let bytes = |number: u32| u64::from(index.place(number).bytes);
        let expected = held.iter().map(|&number| bytes(number)).sum::<u64>();
        let counted = segment.bytes_between(&start, Some(&end));
        if start >= end {
            assert_eq!(counted, 0);
            continue;
        }
        // The start is a key that is there, so its side is exact; the end may fall between a separator and its block.
        let one_more = held.last().map_or(0, |last| last + 1);
        let most = expected + if one_more < index.block_count() { bytes(one_more) } else { 0 };
        assert!(counted == expected || counted == most, "{counted} is neither {expected} nor {most}");
    }
}

#[test]
fn names_round_trip_and_others_are_not_segments() {
    let path = path_of(Path::new("d"), SegmentId(0xabc));
    assert_eq!(path, Path::new("d/0000000000000abc.seg"));
    assert_eq!(id_of("0000000000000abc.seg"), Some(SegmentId(0xabc)));
    for other in ["abc.seg", "0000000000000ABC.seg", "+000000000000abc.seg", "0000000000000abc", "manifest-1"]
    {
        assert_eq!(id_of(other), None, "{other}");
    }
}

/// All that comes out of a damaged segment, and whether something is named as lost or damaged.
fn salvaged(world: &World, path: &Path) -> (Vec<Row>, bool, bool) {
    world.runtime.block_on(async {
        let mut salvage = salvage::Salvage::open(&*world.disk, path).await.unwrap();
        let is_damaged = !salvage.damages().is_empty();
        let (mut rows, mut is_lost) = (Vec::new(), false);
        while let Some(piece) = salvage.next().await {
            match piece {
                salvage::Piece::Block(block) => block.for_each(|entry| rows.push(row_of(&entry))),
                salvage::Piece::Lost(_) => is_lost = true,
            }
        }
        (rows, is_lost, is_damaged)
    })
}

#[test]
fn a_flipped_bit_costs_one_block_at_most_and_what_is_lost_is_named() {
    let world = World::new(31);
    let mut rng = fastrand::Rng::with_seed(31);
    let mut rows = random_rows(&mut rng, 60, 1000);
    rows.retain(|row| row.4.len() < 100);
    let meta = world.build(1, &rows, small_blocks(Codec::Lz4));
    let path = path_of(&dir(), meta.id);
    assert_eq!(salvaged(&world, &path), (rows.clone(), false, false));
    let data_end = world.runtime.block_on(verify::verify(&*world.disk, &path)).unwrap().stored_bytes;
    for byte in 0..meta.bytes {
        let bit = byte * 8 + rng.u64(..8);
        assert!(world.disk.flip(&path, bit));
        let (found, is_lost, is_damaged) = salvaged(&world, &path);
        if byte < data_end {
            assert!(is_lost && found.len() < rows.len(), "flip at {byte}");
            assert!(found.iter().all(|row| rows.contains(row)), "flip at {byte}");
            let block_rows_max = 60;
            assert!(
                rows.len() - found.len() <= block_rows_max,
                "flip at {byte}: more than its block is lost"
            );
        } else {
            assert_eq!(found, rows, "flip at {byte}");
            assert!(!is_lost, "flip at {byte}");
            let in_footer = byte >= meta.bytes - FOOTER_BYTES as u64;
            assert!(is_damaged || !in_footer, "flip at {byte}");
        }
        assert!(world.disk.flip(&path, bit));
    }
}

#[test]
fn without_a_footer_a_damaged_block_is_passed_over_if_its_length_is_whole() {
    let world = World::new(32);
    let mut rng = fastrand::Rng::with_seed(32);
    let mut rows = random_rows(&mut rng, 80, 1000);
    rows.retain(|row| row.4.len() < 100);
    let meta = world.build(1, &rows, small_blocks(Codec::None));
    let path = path_of(&dir(), meta.id);
    assert!(world.disk.flip(&path, (meta.bytes - 4090) * 8));
    assert_eq!(salvaged(&world, &path), (rows.clone(), false, true));
    assert!(world.disk.flip(&path, 20 * 8));
    let (found, is_lost, _) = salvaged(&world, &path);
    assert!(is_lost && !found.is_empty() && found.len() < rows.len());
    assert!(rows.ends_with(&found), "all but the first block's");
}
