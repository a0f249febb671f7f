//! Writes the seed corpora: pieces of a real store's files, and operation lists of fixed seeds.
//!
//! `cargo run --bin seeds` from the folder of this package. The same run writes the same bytes.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use foreshard_engine::backup::Record;
use foreshard_engine::backup::record::PartitionRecord;
use foreshard_engine::entry::Expiry;
use foreshard_engine::ids::{Epoch, MoveId, PartitionId, TableVersion, Version};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{MemoryConfig, MemoryDisk};
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::key::RoutingKey;
use foreshard_engine::manifest::{self, read_chain};
use foreshard_engine::segment::footer::Footer;
use foreshard_engine::segment::index::Index;
use foreshard_engine::stream::{Opening, Sender};
use foreshard_engine::superblock::StoreId;
use foreshard_engine::table::frame::{Body, Frame};
use foreshard_engine::table::{BeginMove, Change, Partitions, Placed, State};
use foreshard_engine::wal::format::BATCH_HEADER_BYTES;
use foreshard_engine::wal::{Batch, RowOp, RowSet};
use foreshard_engine::{Options, SimulatedStore, WriteBatch};

const PAGE: usize = 4096;
/// Per target: enough kinds of structures, few KiB.
const SEEDS_MAX: usize = 6;
const SEED_BYTES_MAX: usize = 1500;

fn main() {
    moves();
    let disk = store();
    for path in disk.files() {
        let bytes = disk.contents(&path).unwrap_or_default();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "SUPER" {
            seed("superblock", &bytes[..64]);
        } else if path.parent() == Some(Path::new("/s/table")) {
            table(&bytes);
        } else if name.ends_with(".wal") {
            log(&bytes);
        } else if name.ends_with(".seg") {
            segment(&bytes);
        } else if name.starts_with("manifest") {
            manifest(&bytes);
            backup(&bytes);
        }
    }
    stream();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for target in foreshard_fuzz::TARGETS.iter().filter(|target| !target.decodes) {
        for bytes in [40, 200, 600, 1200] {
            let list: Vec<u8> = (0..bytes)
                .map(|_| {
                    // Xorshift (Marsaglia, "Xorshift RNGs", 2003).
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random.to_le_bytes()[7]
                })
                .collect();
            seed(target.name, &list);
        }
    }
}

/// A store that has flushed, compacted, deleted an entity, and written over several partitions.
fn store() -> MemoryDisk {
    let world = VirtualRuntime::new(1);
    let runtimes = [world.runtime(), world.runtime()];
    let disk = MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default());
    let shared: Rc<dyn Disk> = Rc::new(disk.clone());
    let mut options = Options {
        partitions: 3,
        memory_bytes: 4 << 20,
        memtables_bytes: 1 << 20,
        memtable_bytes: 64 << 10,
        wal_file_bytes: 256 << 10,
        wal_cap_bytes: 2 << 20,
        reserve_bytes: 1 << 20,
        block_bytes: 512,
        ..Options::default()
    };
    options.shape.base_bytes = 256 << 10;
    options.shape.segment_bytes = 64 << 10;
    world.block_on(async {
        let store = SimulatedStore::open(&runtimes, shared, Path::new("/s"), options.clone(), 1).await;
        let store = store.expect("opens");
        let client = store.client().expect("open");
        for round in 0..3_u8 {
            for n in 0..12_u8 {
                let entity = [b'e', n % 5];
                client.put(&entity, &[n, round], &vec![n; 20 + usize::from(n)]).await.expect("writes");
            }
            let mut batch = WriteBatch::new();
            for n in 0..5 {
                batch.put(&[b'e', n], b"batch", &[round; 9]).expect("small");
            }
            batch.delete(b"e\x01", &[1, 0]).expect("small");
            batch.delete_entity(b"e\x03").expect("small");
            client.write(batch).await.expect("writes");
            client.flush().await.expect("flushes");
        }
        drop(client);
        store.close().await.expect("closes");
        // With one shard less: a change of the table.
        let shared: Rc<dyn Disk> = Rc::new(disk.clone());
        let store = SimulatedStore::open(&runtimes[..1], shared, Path::new("/s"), options, 1).await;
        store.expect("opens").close().await.expect("closes");
    });
    disk
}

/// A whole stream, and pieces of it.
fn stream() {
    let opening = Opening {
        entity: b"customer:7".to_vec(),
        from: (PartitionId(1), Epoch(1)),
        to: (PartitionId(2), Epoch(1)),
    };
    let rows = || {
        let mut rows = RowSet::default();
        let (version, expiry) = (Version(3), Expiry(9));
        rows.push(&RowOp::Put { key: b"key", value: b"value", expiry, version });
        rows.push(&RowOp::Delete { key: b"key", version });
        rows.push(&RowOp::DeleteRange { start: b"a", end: b"b", version });
        rows
    };
    let (mut sender, first) = Sender::open(MoveId(5), opening);
    let frames = [
        first,
        sender.base(rows()),
        sender.base_end(Version(3), 7),
        sender.log(rows()),
        sender.last(Version(4), 8),
    ];
    let mut whole = Vec::new();
    for frame in frames {
        frame.encode(&mut whole);
        seed("stream", &whole);
    }
}

fn log(bytes: &[u8]) {
    seed("wal_slot", &bytes[..96]);
    let mut at = PAGE;
    while let Some(Ok(batch)) = bytes.get(at..).map(Batch::decode) {
        let used = BATCH_HEADER_BYTES + batch.header().payload_bytes as usize;
        seed("wal_batch", &bytes[at..at + used]);
        seed("wal_record", &bytes[at + BATCH_HEADER_BYTES..at + used]);
        at += batch.header().batch_bytes();
    }
}

fn segment(bytes: &[u8]) {
    let page = &bytes[bytes.len() - PAGE..];
    let footer = Footer::decode(page, bytes.len() as u64).expect("written by the engine");
    seed("footer", &page[..120]);
    let part = |offset: u64, length: u64| {
        let offset = usize::try_from(offset).expect("in memory");
        &bytes[offset..offset + usize::try_from(length).expect("in memory")]
    };
    let [index, filter, tombstones, properties] =
        footer.sections().map(|section| part(section.offset.get(), section.bytes.get()));
    seed("index", index);
    seed("filter", &[&[7; 8], filter].concat());
    seed("properties", tombstones);
    seed("properties", properties);
    let index = Index::parse(index).expect("written by the engine");
    for n in 0..index.block_count() {
        let place = index.place(n);
        let frame = part(place.offset, u64::from(place.bytes));
        seed("frame", frame);
        if frame[12] == 0 {
            seed("block", &frame[16..]);
        } else {
            let raw = u32::from_le_bytes(frame[8..12].try_into().expect("four bytes")) as usize;
            seed("block", &lz4_flex::block::decompress(&frame[16..], raw).expect("written by the engine"));
        }
    }
}

/// The edits without the padding after them.
fn manifest(mut bytes: &[u8]) {
    let mut edits = Vec::new();
    while let Some(head) = bytes.first_chunk::<32>().filter(|head| head[..4] == *b"FSMF") {
        let used = 32 + u32::from_le_bytes(head[12..16].try_into().expect("four bytes")) as usize;
        seed("manifest", &bytes[32..used]);
        edits.extend_from_slice(&bytes[..used]);
        bytes = &bytes[used.next_multiple_of(PAGE)..];
    }
    seed("manifest", &edits);
}

/// A record of a backup with one partition, as this manifest describes it, without the padding after it.
fn backup(bytes: &[u8]) {
    let Some(partition) = bytes.get(8..12).and_then(<[u8]>::first_chunk) else { return };
    let id = PartitionId(u32::from_le_bytes(*partition));
    let mut state = manifest::State::default();
    for (_, frame) in read_chain(bytes, id).frames {
        state.apply(frame.edit);
    }
    let partitions = vec![PartitionRecord { id, state }];
    let table = State::first(&[(id, 0)], 1).ok();
    let record =
        Record { store: StoreId([7; 16]), number: 1, created_ms: 2, version: Version(3), table, partitions };
    let mut bytes = record.encode();
    bytes.truncate(bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
    seed("backup", &bytes);
}

/// The log of a table with guests and moves: each kind of change, between snapshots.
fn moves() {
    let store = StoreId([7; 16]);
    let mut state = State::first(&State::even_ranges(2), 2).expect("two ranges");
    let mut bytes = Vec::new();
    let mut previous = 0;
    let mut append = |body: Body, version: TableVersion| {
        let (frame, checksum) = Frame { store, version, previous, body }.encode();
        previous = checksum;
        bytes.extend_from_slice(&frame);
    };
    append(Body::Snapshot(state.clone(), 1 << 20), state.version);
    let mut make = |state: &mut State, change: Change| {
        *state = state.after(&change).expect("a change that can be made");
        append(Body::Change(change), state.version);
    };
    let begin = |state: &State, entity: &[u8], to: u32| {
        let (from, to) = (state.owner(entity), PartitionId(to));
        let entry = state.entry_of(entity);
        let (from_epoch, to_epoch) = (Epoch(1), Epoch(1));
        Change::BeginMove(BeginMove { entity: entity.to_vec(), entry, from, to, from_epoch, to_epoch })
    };
    let other = |state: &State, entity: &[u8]| 1 - state.owner(entity).0;
    for entity in [b"a".as_slice(), b"b\0", b"c"] {
        let change = begin(&state, entity, other(&state, entity));
        make(&mut state, change);
        let id = MoveId(state.version.0);
        make(&mut state, if entity == b"c" { Change::AbortMove { id } } else { Change::CommitMove { id } });
    }
    let whole = state.partitions[&PartitionId(1)].placed;
    let at = RoutingKey(u64::midpoint(whole.start.0, whole.end.0 >> 2));
    let (lower, upper) = (Placed { end: at, ..whole }, Placed { start: at, ..whole });
    let guests =
        state.guests.in_partition(PartitionId(1)).map(|guest| (guest.entity(), Some(PartitionId(2))));
    let split = Partitions {
        seen: vec![(PartitionId(1), state.version_of(PartitionId(1))), (PartitionId(2), TableVersion(0))],
        edits: vec![(PartitionId(1), Some(lower)), (PartitionId(2), Some(upper))],
        guests: guests.collect(),
        shards: None,
    };
    make(&mut state, split.into());
    let change = begin(&state, b"d", other(&state, b"d") % 2);
    make(&mut state, change);
    let frames: Vec<&[u8]> = frames(&bytes).collect();
    seed("table", &frames.concat());
    let mut snapshot = Vec::new();
    state.encode(0, &mut snapshot);
    seed("table", &snapshot);
}

/// The frames, one by one without their headers, and all together.
fn table(bytes: &[u8]) {
    frames(bytes).for_each(|frame| seed("table", &frame[64..]));
    let frames: Vec<&[u8]> = frames(bytes).collect();
    seed("table", &frames.concat());
}

/// The frames of a table's file without the padding after them.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<64>().filter(|head| head[..8] == *b"fsTABLEf")?;
        let used = 64 + u32::from_le_bytes(head[44..48].try_into().expect("four bytes")) as usize;
        let frame = &bytes[..used];
        bytes = &bytes[used.next_multiple_of(PAGE)..];
        Some(frame)
    })
}

/// Keeps `bytes` as a seed of `target`, unless it has enough, or they are many.
#[expect(clippy::disallowed_methods, reason = "a program that writes what git keeps")]
fn seed(target: &str, bytes: &[u8]) {
    let dir = PathBuf::from("corpus").join(target);
    std::fs::create_dir_all(&dir).expect("a writable folder");
    let name = format!("{:08x}", crc32fast::hash(bytes));
    let count = std::fs::read_dir(&dir).expect("made above").count();
    if bytes.is_empty() || bytes.len() > SEED_BYTES_MAX || count >= SEEDS_MAX {
        return;
    }
    std::fs::write(dir.join(name), bytes).expect("a writable folder");
}
