//! Every kind of file of a real store, damaged at a known place: what `inspect` says of it, and what `repair` saves.
#![expect(clippy::disallowed_methods, reason = "damages real files behind the engine's back")]
#![expect(clippy::unwrap_used, reason = "also in helpers: a panic is a failed test")]

mod common;

use std::path::{Path, PathBuf};

use common::{Rows, Sample, damages, inspect_both_ways, lines, options, run};
use foreshard_engine::entry::Expiry;
use foreshard_engine::ids::{Epoch, MoveId, PartitionId, TableVersion};
use foreshard_engine::superblock::StoreId;
use foreshard_engine::table::frame::{Body, Frame, read_chain};
use foreshard_engine::table::{BeginMove, Change, State};
use foreshard_engine::{Store, WriteBatch, block_on};

const PAGE: u64 = 4096;

fn assert_damaged_at(sample: &Sample, path: &Path, offset: u64) {
    let (status, lines) = sample.inspect();
    assert_eq!(status, 1, "{lines:?}");
    let found = damages(&lines);
    assert!(found.contains(&(path.to_path_buf(), offset)), "{path:?} at {offset}, found {found:?}");
    let verdict = lines.last().unwrap();
    assert_eq!((&verdict["type"], &verdict["sound"]), (&"verdict".into(), &false.into()));
    let human = run(&["inspect", "store", sample.path().to_str().unwrap()]);
    assert_eq!(human.status.code(), Some(1));
    let text = String::from_utf8(human.stdout).unwrap();
    assert!(text.contains(&format!("damaged: {} at offset {offset}: ", path.display())), "{text}");
}

/// All of `some` is in `all`; returns what is missing.
fn missing(all: &Rows, some: &Rows) -> Rows {
    for (key, value) in some {
        assert_eq!(all.get(key), Some(value), "a row that never was, or an old one: {key:?}");
    }
    all.iter().filter(|(key, _)| !some.contains_key(*key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn log_files(sample: &Sample) -> Vec<PathBuf> {
    let dir = sample.file("wal/1/0");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// Offsets of the batches in a log file, by their magic.
fn batches(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap();
    let blocks = bytes.chunks(4096).zip((0..).step_by(4096));
    blocks.filter(|(block, _)| block.starts_with(b"fsWALbat")).map(|(_, at)| at).collect()
}

#[test]
fn a_sound_store_is_sound_and_repaired_whole() {
    let sample = Sample::new(3000, 50);
    let before = sample.contents();
    let (status, lines) = sample.inspect();
    assert_eq!(status, 0, "{lines:?}");
    assert!(damages(&lines).is_empty());
    assert_eq!(lines.last().unwrap()["sound"], true);
    assert!(before == sample.contents(), "looking changes nothing");
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 0, "{lines:?}");
    assert!(rows == sample.rows);
    assert_eq!(lines.last().unwrap()["rows"].as_u64(), Some(sample.rows.len() as u64));
}

#[test]
fn a_damaged_superblock_copy_is_named_and_costs_nothing() {
    let sample = Sample::new(200, 10);
    sample.flip(&sample.file("SUPER"), PAGE + 40);
    assert_damaged_at(&sample, &sample.file("SUPER"), PAGE);
    let (status, _, rows) = sample.repair();
    assert_eq!(status, 0, "the other copy says the same");
    assert!(rows == sample.rows);
}

#[test]
fn without_any_superblock_partitions_and_logs_are_found_by_their_directories() {
    let sample = Sample::new(500, 20);
    sample.flip(&sample.file("SUPER"), 40);
    sample.flip(&sample.file("SUPER"), PAGE + 40);
    assert_damaged_at(&sample, &sample.file("SUPER"), 0);
    let (status, _, rows) = sample.repair();
    assert_eq!(status, 1);
    assert!(rows == sample.rows);
}

/// The store's table as `inspect` shows it.
fn table_of(lines: &[serde_json::Value]) -> serde_json::Value {
    lines.iter().find(|line| line["type"] == "table").expect("a store has a table").clone()
}

#[test]
fn the_partition_table_is_shown_and_its_damage_named() {
    let sample = Sample::new(500, 20);
    let (status, lines) = sample.inspect();
    assert_eq!(status, 0, "{lines:?}");
    let table = table_of(&lines);
    assert_eq!((&table["version"], table["partitions"].as_array().unwrap().len()), (&1.into(), 2));
    let output = inspect_both_ways("table", &sample.file("table"));
    assert_eq!(table_of(&common::lines(&output)), table);
    sample.flip(&sample.file("table/0"), 100);
    assert_damaged_at(&sample, &sample.file("table/0"), 0);
    assert_eq!(inspect_both_ways("table", &sample.file("table")).status.code(), Some(1));
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 1, "{lines:?}");
    assert!(rows == sample.rows, "rows say themselves where they belong");
}

/// Adds changes to the closed store's table.
fn change_table(sample: &Sample, changes: impl Fn(&State) -> Vec<Change>) {
    let file = sample.file("table/0");
    let mut bytes = std::fs::read(&file).unwrap();
    let store = StoreId(bytes[16..32].try_into().unwrap());
    let chain = read_chain(&bytes, store, |_, _| {});
    let (mut state, mut previous) = (chain.state.unwrap(), chain.checksum);
    let mut at = usize::try_from(chain.end).unwrap();
    let mut append = |version, body, previous| {
        let (frame, checksum) = Frame { store, version, previous, body }.encode();
        bytes[at..at + frame.len()].copy_from_slice(&frame);
        at += frame.len();
        checksum
    };
    for change in changes(&state) {
        state = state.after(&change).unwrap();
        previous = append(state.version, Body::Change(change), previous);
    }
    append(state.version, Body::Mark, previous);
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn guests_and_moves_are_shown_and_rows_left_where_the_table_has_nobody_are_not_salvaged() {
    let sample = Sample::new(500, 20);
    let begin = |state: &State, entity: &[u8]| {
        let from = state.owner(entity);
        let (entry, to, epoch) = (TableVersion(0), PartitionId(1 - from.0), Epoch(1));
        let (from_epoch, to_epoch, entity) = (epoch, epoch, entity.to_vec());
        BeginMove { entity, entry, from, to, from_epoch, to_epoch }.into()
    };
    change_table(&sample, |state| {
        vec![begin(state, b"e3"), Change::CommitMove { id: MoveId(2) }, begin(state, b"e5")]
    });
    let (status, lines) = sample.inspect();
    assert_eq!(status, 0, "{lines:?}");
    let table = table_of(&lines);
    assert_eq!((&table["version"], &table["guests"]), (&4.into(), &1.into()));
    assert_eq!((&table["moves"][0]["move"], &table["moves"][0]["entity"]), (&4.into(), &"e5".into()));
    let all = run(&["inspect", "table", sample.file("table").to_str().unwrap(), "--json", "--dump"]);
    let all = common::lines(&all);
    let guest = all.iter().find(|line| line["type"] == "guest").unwrap();
    assert_eq!((&guest["entity"], &guest["version"]), (&"e3".into(), &3.into()));
    let frames: Vec<_> = all.iter().filter(|line| line["type"] == "table_frame").collect();
    let [.., begins, commits, _] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((&begins["begins"], &commits["commits"]), (&"e3".into(), &2.into()));
    // What lies at the guest's home is what a move left behind; whoever is moving is where he was.
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 0, "{lines:?}");
    let missing = missing(&sample.rows, &rows);
    let of_guest = sample.rows.keys().filter(|(entity, _)| entity == b"e3");
    assert!(missing.keys().eq(of_guest), "{:?}", missing.keys());
    let left_out = lines.iter().filter_map(|line| line["rows_elsewhere"].as_u64()).sum::<u64>();
    assert_eq!(left_out, missing.len() as u64);
}

#[test]
fn a_lost_file_of_the_partition_table_is_named() {
    let sample = Sample::new(300, 0);
    std::fs::remove_file(sample.file("table/1")).unwrap();
    assert_damaged_at(&sample, &sample.file("table/1"), 0);
    let (status, _, rows) = sample.repair();
    assert_eq!((status, rows == sample.rows), (1, true));
}

#[test]
fn another_number_of_shards_deals_the_partitions_out_anew() {
    let sample = Sample::new(100, 0);
    for (shards, version, owners) in [(2, 2, [0, 1]), (2, 2, [0, 1]), (1, 3, [0, 0])] {
        let opened = Store::open(sample.path(), foreshard_engine::Options { shards, ..options() }).unwrap();
        opened.close().unwrap();
        let table = table_of(&sample.inspect().1);
        let found: Vec<u64> =
            table["partitions"].as_array().unwrap().iter().map(|p| p["shard"].as_u64().unwrap()).collect();
        assert_eq!((table["version"].as_u64(), &found[..]), (Some(version), &owners[..]));
    }
}

#[test]
fn a_log_damaged_in_its_middle_is_salvaged_up_to_there() {
    let sample = Sample::new(0, 60);
    let path = &log_files(&sample)[0];
    let places = batches(path);
    let middle = places[places.len() / 2];
    sample.flip(path, middle + 100);
    assert_damaged_at(&sample, path, middle);
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 1, "{lines:?}");
    let lost = missing(&sample.rows, &rows);
    assert!(!rows.is_empty() && !lost.is_empty());
    // Rows were written one by one: what is lost came after all that was found.
    let last_found = rows.keys().map(|(_, row)| row).max().unwrap();
    assert!(lost.keys().all(|(_, row)| row > last_found), "a prefix");
}

#[test]
fn a_torn_tail_is_no_damage() {
    let sample = Sample::new(100, 10);
    let path = &log_files(&sample)[0];
    sample.flip(path, *batches(path).last().unwrap() + 50);
    let (status, lines) = sample.inspect();
    assert_eq!(status, 0, "{lines:?}");
    assert!(lines.iter().any(|line| line["severity"] == "torn"), "{lines:?}");
    let (status, _, rows) = sample.repair();
    assert_eq!(status, 0);
    assert!(rows == sample.rows);
}

#[test]
fn a_witnessed_manifest_edit_that_is_damaged_is_named() {
    let sample = Sample::new(1000, 10);
    let path = sample.segment().with_file_name("manifest-0");
    // The second edit: the first segment.
    sample.flip(&path, PAGE + 40);
    assert_damaged_at(&sample, &path, PAGE);
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 1, "{lines:?}");
    assert!(rows == sample.rows, "all segments are still there");
}

#[test]
fn a_lost_manifest_costs_no_rows() {
    let sample = Sample::new(1000, 10);
    let path = sample.segment().with_file_name("manifest-0");
    std::fs::remove_file(&path).unwrap();
    assert_damaged_at(&sample, &path, 0);
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 1, "{lines:?}");
    assert!(rows == sample.rows);
}

#[test]
fn a_damaged_block_costs_its_own_rows_only() {
    let sample = Sample::new(3000, 0);
    let path = sample.segment();
    sample.flip(&path, 20);
    assert_damaged_at(&sample, &path, 0);
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 1);
    let lost = missing(&sample.rows, &rows);
    assert!((1..200).contains(&lost.len()), "{} rows in a block of 4 KiB", lost.len());
    let told = lines.iter().filter_map(|line| line["what"].as_str()).any(|what| what.contains("keys from"));
    assert!(told, "{lines:?}");
}

#[test]
fn two_damaged_blocks_are_both_named() {
    let sample = Sample::new(3000, 0);
    let path = sample.segment();
    let all = run(&["inspect", "segment", path.to_str().unwrap(), "--json"]);
    let stored = lines(&all)[0]["stored_bytes"].as_u64().unwrap();
    sample.flip(&path, 20);
    sample.flip(&path, stored - 20);
    let output = inspect_both_ways("segment", &path);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(damages(&lines(&output)).len(), 2);
}

#[test]
fn a_damaged_footer_costs_no_rows() {
    let sample = Sample::new(3000, 0);
    let path = sample.segment();
    let size = std::fs::metadata(&path).unwrap().len();
    sample.flip(&path, size - PAGE + 30);
    assert_damaged_at(&sample, &path, size - PAGE);
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 0, "{lines:?}");
    assert!(rows == sample.rows);
}

#[test]
fn a_damaged_index_costs_no_rows() {
    let sample = Sample::new(3000, 0);
    let path = sample.segment();
    let report = lines(&run(&["inspect", "segment", path.to_str().unwrap(), "--json"]));
    let index_at = report[0]["stored_bytes"].as_u64().unwrap();
    sample.flip(&path, index_at + 12);
    assert_damaged_at(&sample, &path, index_at);
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 0, "{lines:?}");
    assert!(rows == sample.rows);
}

#[test]
fn a_lost_segment_is_named_and_the_rest_is_saved() {
    let sample = Sample::new(3000, 40);
    let path = sample.segment();
    std::fs::remove_file(&path).unwrap();
    assert_damaged_at(&sample, &path, 0);
    let (status, _, rows) = sample.repair();
    assert_eq!(status, 1);
    let lost = missing(&sample.rows, &rows);
    assert!(!lost.is_empty() && !rows.is_empty());
}

#[test]
fn a_lost_log_file_is_named() {
    let sample = Sample::new(300, 20);
    let path = log_files(&sample).into_iter().next().unwrap();
    std::fs::remove_file(&path).unwrap();
    let (status, lines) = sample.inspect();
    assert_eq!(status, 1);
    let found = damages(&lines);
    assert!(found.iter().any(|(file, _)| path.starts_with(file)), "{found:?}");
    let (status, _, rows) = sample.repair();
    assert_eq!(status, 1);
    let lost = missing(&sample.rows, &rows);
    assert!(lost.len() <= 20, "what was flushed is saved");
}

/// Empty, and cut to less than readers ask for: the file is named, and nothing faults.
fn assert_named_when_cut(sample: &Sample, path: &Path) {
    let whole = std::fs::read(path).unwrap();
    for len in [0, 1, PAGE - 1, PAGE + 1] {
        sample.set_len(path, len);
        let (status, lines) = sample.inspect();
        assert_eq!(status, 1, "{path:?} cut to {len}: {lines:?}");
        let found = damages(&lines);
        assert!(found.iter().any(|(file, _)| path.starts_with(file)), "{path:?} cut to {len}: {found:?}");
    }
    std::fs::write(path, whole).unwrap();
    assert_eq!(sample.inspect().0, 0, "it is as it was");
}

#[test]
fn files_that_end_early_are_named() {
    let sample = Sample::new(1000, 0);
    let segment = sample.segment();
    for path in [sample.file("SUPER"), sample.file("table/0"), segment.with_file_name("manifest-0"), segment]
    {
        assert_named_when_cut(&sample, &path);
    }
}

#[test]
fn a_log_file_that_ends_early_is_named() {
    let sample = Sample::new(0, 60);
    assert_named_when_cut(&sample, &log_files(&sample)[0]);
}

#[test]
fn without_a_lock_to_take_nothing_is_mapped() {
    let sample = Sample::new(300, 0);
    std::fs::remove_file(sample.file("LOCK")).unwrap();
    let output = run(&["inspect", "store", sample.path().to_str().unwrap(), "--verbose"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("through the ring"));
}

#[test]
fn deletes_and_expiry_are_kept_and_the_newest_version_wins() {
    let sample = Sample::new(200, 0);
    let far = 1 << 45;
    let store = Store::open(sample.path(), options()).unwrap();
    let client = store.client().unwrap();
    block_on(async {
        let mut batch = WriteBatch::new();
        batch.delete_entity(b"e3").unwrap();
        batch.put(b"e3", b"again", b"1").unwrap();
        batch.put(b"e4", b"row 000004", b"newer").unwrap();
        batch.put_until(b"e5", b"expires", b"2", Expiry(far)).unwrap();
        batch.put_until(b"e5", b"expired", b"2", Expiry(1)).unwrap();
        client.write(batch).await.unwrap();
    });
    drop(client);
    store.close().unwrap();
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 0, "{lines:?}");
    let of = |entity: &[u8]| rows.iter().filter(|((e, _), _)| e == entity).count();
    assert_eq!(of(b"e3"), 1);
    assert_eq!(rows[&(b"e4".to_vec(), b"row 000004".to_vec())], b"newer");
    assert!(rows.contains_key(&(b"e5".to_vec(), b"expires".to_vec())));
    assert!(!rows.contains_key(&(b"e5".to_vec(), b"expired".to_vec())));
}

#[test]
fn a_row_whose_newer_version_may_be_lost_is_kept_and_counted() {
    let sample = Sample::new(100, 0);
    let store = Store::open(sample.path(), options()).unwrap();
    let client = store.client().unwrap();
    block_on(async {
        client.put(b"e1", b"row 000001", b"newer").await.unwrap();
        client.flush().await.unwrap();
    });
    drop(client);
    store.close().unwrap();
    let key = (b"e1".to_vec(), b"row 000001".to_vec());
    let (_, _, rows) = sample.repair();
    assert_eq!(rows[&key], b"newer");
    // Only that row's partition has a second segment.
    let segments = sample.contents().into_keys().filter(|path| path.extension().is_some_and(|e| e == "seg"));
    let newest = segments.max_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned)).unwrap();
    sample.flip(&newest, 20);
    let (status, lines, rows) = sample.repair();
    assert_eq!(status, 1);
    assert_eq!(rows[&key], sample.rows[&key], "the older version, which is whole");
    assert_eq!(lines.last().unwrap()["rows_possibly_stale"].as_u64(), Some(1), "{lines:?}");
}
