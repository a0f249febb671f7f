//! Keys that leave and arrive, against a naive model of each partition: rows by key, whatever happens to segments.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::Partition;
use super::ingest::{Ingest, Linked};
use super::read::PageLimit;
use super::strategy::Shape;
use crate::batch::Op;
use crate::entry::{Expiry, RangeTombstone};
use crate::ids::{PartitionId, TableVersion, Version};
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::virtual_time::VirtualRuntime;
use crate::key;
use crate::merge::{Merge, Step};
use crate::segment::{
    BuildOptions, KeyRange, KeyRanges, ReadMode, RunCursor, SegmentBuilder, SegmentMeta, path_of,
};
use crate::store::open::assigned;
use crate::tombstones::RangeTombstones;
use crate::{Options, Shard, SimulatedStore};

const ENTITIES: u32 = 12;
const ROWS: u32 = 40;

/// Rows as they should be, by partition.
type Model = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

struct World {
    shard: Rc<Shard>,
    partitions: [Rc<Partition>; 2],
    rng: fastrand::Rng,
    model: Model,
    written: u64,
}

fn options() -> Options {
    let shape = Shape { level0_trigger: 3, base_bytes: 30_000, fanout: 3, segment_bytes: 4096 };
    Options { partitions: 2, shards: 1, shape, block_bytes: 512, compression: false, ..Options::default() }
}

fn prefix_of(entity: u32) -> Vec<u8> {
    let mut prefix = Vec::new();
    key::encode_entity(&entity.to_be_bytes(), &mut prefix).unwrap();
    prefix
}

fn range_of(entity: u32) -> KeyRange {
    KeyRange::of_prefix(&prefix_of(entity))
}

fn row_key(entity: u32, row: u32) -> Vec<u8> {
    [prefix_of(entity), row.to_be_bytes().to_vec()].concat()
}

/// Which write a value is of.
fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(*value.first_chunk().unwrap())
}

impl World {
    async fn open(store: &SimulatedStore, rng: fastrand::Rng, model: Model) -> Self {
        let shard = store.shard(0).unwrap();
        let partitions: Vec<_> = shard.partitions().collect();
        let partitions = partitions.try_into().unwrap();
        let world = Self { shard, partitions, rng, model, written: 0 };
        world.check().await;
        world
    }

    async fn step(&mut self) {
        let at = self.rng.usize(..2);
        let entity = self.rng.u32(..ENTITIES);
        match self.rng.u32(..100) {
            0..60 => self.put(at, entity).await,
            60..70 => self.delete(at, entity),
            70..74 => self.delete_range(at, entity),
            74..84 => {
                self.partitions[at].seal();
                self.shard.look();
            }
            84..90 => self.shard.settled().await.unwrap(),
            90..94 => self.purge(at, entity).await,
            94..98 => self.carry(at, entity).await,
            _ => self.check().await,
        }
    }

    async fn put(&mut self, at: usize, entity: u32) {
        let prefix = prefix_of(entity);
        let partition = &self.partitions[at];
        let is_known = partition.manifest.state().arrivals.contains(&prefix);
        if self.shard.map().home_of(&prefix).partition != partition.id && !is_known {
            partition.expect(&prefix).await.unwrap();
        }
        for _ in 0..self.rng.u32(1..12) {
            let key = row_key(entity, self.rng.u32(..ROWS));
            self.written += 1;
            let value = [self.written.to_be_bytes().to_vec(), vec![b'.'; self.rng.usize(..300)]].concat();
            let op = Op::Put { key: &key, value: &value, expiry: Expiry::NEVER };
            self.partitions[at].write(&[op]).unwrap();
            self.model[at].insert(key, value);
        }
    }

    fn delete(&mut self, at: usize, entity: u32) {
        let key = row_key(entity, self.rng.u32(..ROWS));
        self.partitions[at].write(&[Op::Delete { key: &key }]).unwrap();
        self.model[at].remove(&key);
    }

    /// Of an entity's rows, or of all entities between two.
    fn delete_range(&mut self, at: usize, entity: u32) {
        let other = if self.rng.bool() { entity } else { self.rng.u32(..ENTITIES) };
        let (a, b) = (row_key(entity, self.rng.u32(..ROWS)), row_key(other, self.rng.u32(..ROWS)));
        let (start, end) = (a.clone().min(b.clone()), a.max(b));
        self.partitions[at].write(&[Op::DeleteRange { start: &start, end: &end }]).unwrap();
        self.model[at].retain(|key, _| *key < start || *key >= end);
    }

    async fn purge(&mut self, at: usize, entity: u32) {
        let range = range_of(entity);
        self.shard.purge(&self.partitions[at], &range.clone().into()).await.unwrap();
        self.model[at].retain(|key, _| !range.contains(key));
        let levels = self.partitions[at].levels();
        let keys = KeyRanges::from(range);
        assert!(levels.all().all(|s| s.meta().within(&keys).is_none()), "nothing of it is in any segment");
    }

    /// Has the other partition take an entity as it is here, in place of what it has of it, and takes it out here.
    async fn carry(&mut self, from: usize, entity: u32) {
        let range = range_of(entity);
        let (source, target) = (Rc::clone(&self.partitions[from]), Rc::clone(&self.partitions[1 - from]));
        target.expect(&prefix_of(entity)).await.unwrap();
        self.shard.flush_now(&source).await.unwrap();
        let base = source.base_of(&range);
        let built = build(&target, &base.copied, &range).await;
        let linked = base.linked.iter().map(|segment| Linked {
            path: path_of(&source.dir, segment.meta().id),
            meta: segment.meta().clone(),
        });
        let ingest = Ingest {
            keys: range.clone(),
            linked: linked.collect(),
            built,
            version_max: source.version(),
            time_ms: source.time_ms(),
        };
        self.shard.ingest(&target, ingest).await.unwrap();
        drop(base);
        self.model[1 - from].retain(|key, _| !range.contains(key));
        let rows: Vec<_> = self.model[from].range(range.start.clone()..).collect();
        let rows: Vec<_> = rows.into_iter().filter(|(key, _)| range.contains(key)).collect();
        let rows: Vec<_> = rows.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        self.model[1 - from].extend(rows);
        self.purge(from, entity).await;
    }

    async fn check(&self) {
        for (partition, model) in self.partitions.iter().zip(&self.model) {
            let limit = PageLimit { rows: usize::MAX, bytes: usize::MAX };
            let page = partition.scan(b"", &[0xff; 9], Version::MAX, limit).await.unwrap();
            let found: BTreeMap<_, _> = page.rows.into_iter().map(|row| (row.key, row.value)).collect();
            for key in found.keys().chain(model.keys()) {
                let (found, expected) =
                    (found.get(key).map(|v| number(v)), model.get(key).map(|v| number(v)));
                assert_eq!(found, expected, "scan of {partition:?} at {}", key.escape_ascii());
            }
            for entity in 0..ENTITIES {
                for row in 0..ROWS {
                    let key = row_key(entity, row);
                    let got =
                        partition.get(&key, Version::MAX, |r| r.map(|r| r.value.to_vec())).await.unwrap();
                    let expected = model.get(&key);
                    assert_eq!(
                        got.map(|v| number(&v)),
                        expected.map(|v| number(v)),
                        "{partition:?} {entity} {row}"
                    );
                }
            }
        }
    }

    /// What is left after the store was closed and opened: the table knows of no guests.
    fn at_home(&self) -> Model {
        let map = self.shard.map();
        let mut model = self.model.clone();
        for (number, rows) in model.iter_mut().enumerate() {
            rows.retain(|key, _| map.home_of(key).partition == PartitionId(u32::try_from(number).unwrap()));
        }
        model
    }
}

/// A segment of level 0 at `target` of what of `range` is in `runs`; none if nothing is.
async fn build(
    target: &Partition,
    runs: &[Rc<[Rc<crate::segment::Segment>]>],
    range: &KeyRange,
) -> Option<SegmentMeta> {
    let common = &target.common;
    let options = BuildOptions { block_bytes: 512, ..BuildOptions::default() };
    let id = target.next_segment();
    let mut builder =
        SegmentBuilder::create(Rc::clone(&common.disk), &target.dir, id, options).await.unwrap();
    let mut tombstones = RangeTombstones::default();
    runs.iter().flat_map(|run| run.iter()).for_each(|segment| tombstones.merge(segment.tombstones()));
    for fragment in tombstones.within(&KeyRanges::from(range.clone())).fragments(b"", None) {
        for &version in fragment.versions {
            let (start, end) = (fragment.start.to_vec(), fragment.end.to_vec());
            builder.push_tombstone(&RangeTombstone { start, end, version });
        }
    }
    let cursors = runs.iter().map(|run| RunCursor::new(Rc::clone(run), ReadMode::Ahead).into());
    let mut merge = Merge::new(cursors.collect());
    if merge.seek(&range.start, Version::MAX) == Step::NeedsLoad {
        merge.load().await.unwrap();
    }
    while let Some(entry) = merge.entry().filter(|entry| range.ends_after(entry.key)) {
        builder.add(entry).await.unwrap();
        if merge.advance() == Step::NeedsLoad {
            merge.load().await.unwrap();
        }
    }
    if builder.is_empty() {
        builder.abandon().await;
        return None;
    }
    Some(builder.finish().await.unwrap())
}

#[test]
fn at_opening_what_the_table_places_elsewhere_is_taken_out_and_nothing_else_is_looked_at() {
    let world = VirtualRuntime::new(1);
    let runtimes = [world.runtime()];
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
    world.block_on(async {
        let store = SimulatedStore::open(&runtimes, disk, Path::new("/store"), options(), 1).await.unwrap();
        let shard = store.shard(0).unwrap();
        let partition = shard.partitions().next().unwrap();
        let is_home = |entity: &u32| shard.map().home_of(&prefix_of(*entity)).partition == partition.id;
        let home: Vec<u32> = (0..100).filter(is_home).take(3).collect();
        let others: Vec<u32> = (0..100).filter(|entity| !is_home(entity)).take(2).collect();
        let ([stays, away, high], [guest, stranger]) =
            (home[..].try_into().unwrap(), others[..].try_into().unwrap());
        for entity in [guest, stranger] {
            partition.expect(&prefix_of(entity)).await.unwrap();
        }
        for entity in [stays, away, high, guest, stranger] {
            let op = Op::Put { key: &row_key(entity, 1), value: b"v", expiry: Expiry::NEVER };
            partition.write(&[op]).unwrap();
        }
        shard.flush_now(&partition).await.unwrap();
        let mut assigned = assigned(&shard.map(), partition.id).unwrap();
        assigned.version = TableVersion(9);
        assigned.guests.insert(prefix_of(guest));
        assigned.away.insert(prefix_of(away), TableVersion(8));
        let here = async |entities: [u32; 5]| {
            let mut found = Vec::new();
            for entity in entities {
                let key = row_key(entity, 1);
                if partition.get(&key, Version::MAX, |row| row.is_some()).await.unwrap() {
                    found.push(entity);
                }
            }
            found
        };
        let all = [stays, away, high, guest, stranger];
        assert_eq!(here(all).await, all);
        assert_eq!(partition.restrict(&assigned).await.unwrap().len(), 1);
        assert_eq!(here(all).await, [stays, high, guest]);
        {
            let state = partition.manifest.state();
            assert_eq!(state.restricted, TableVersion(9));
            assert_eq!(state.arrivals, [prefix_of(guest)].into());
        }
        let edits = partition.manifest.last();
        assert!(partition.restrict(&assigned).await.unwrap().is_empty());
        assert_eq!(partition.manifest.last(), edits, "the table has changed nothing since");
        // The range ends before one of them.
        let (first, second) = (prefix_of(stays).min(prefix_of(high)), prefix_of(stays).max(prefix_of(high)));
        let kept = if first == prefix_of(stays) { stays } else { high };
        assigned.range.end = Some(second);
        (assigned.version, assigned.range_version) = (TableVersion(11), TableVersion(10));
        partition.restrict(&assigned).await.unwrap();
        assert_eq!(here(all).await.into_iter().filter(|e| *e != guest).collect::<Vec<_>>(), [kept]);
        partition.expect(b"").await.unwrap();
        partition.restrict(&assigned).await.unwrap();
        assert_eq!(partition.manifest.state().arrivals, [prefix_of(guest)].into(), "all was looked at");
        store.close().await.unwrap();
    });
}

#[test]
fn partitions_hold_what_a_model_does_while_entities_leave_and_arrive() {
    for seed in 0..5 {
        println!("seed {seed}");
        let world = VirtualRuntime::new(seed);
        let runtimes = [world.runtime()];
        let disk = Rc::new(MemoryDisk::new(&runtimes[0], seed, MemoryConfig::default()));
        world.block_on(async {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut model = Model::default();
            for _ in 0..3 {
                let disk = Rc::clone(&disk);
                let store = SimulatedStore::open(&runtimes, disk, Path::new("/store"), options(), 1).await;
                let store = store.unwrap();
                let mut world = World::open(&store, rng.fork(), model).await;
                for _ in 0..200 {
                    world.step().await;
                }
                world.check().await;
                model = world.at_home();
                drop(world);
                store.close().await.unwrap();
            }
        });
    }
}
