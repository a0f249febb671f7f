use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::*;
use crate::entry::Expiry;
use crate::ids::{Epoch, Index, SegmentId, TableVersion, Version};
use crate::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use crate::io::virtual_time::VirtualRuntime;
use crate::segment::{KeyRange, KeyRanges, SegmentMeta};

const DIR: &str = "/p";

fn place(disk: &MemoryDisk) -> Location {
    place_on(Rc::new(disk.clone()))
}

fn place_on(disk: Rc<dyn Disk>) -> Location {
    Location { disk, dir: PathBuf::from(DIR), partition: PartitionId(7), file_bytes: 16 << 10 }
}

fn path(number: u64) -> PathBuf {
    path_of(Path::new(DIR), number)
}

fn segment(id: u64) -> SegmentMeta {
    SegmentMeta {
        id: SegmentId(id),
        origin: SegmentId(id),
        level: 1,
        bytes: 2,
        rows: 3,
        checksum: 4,
        first: b"first".to_vec(),
        last: b"last".to_vec(),
        version_min: Version(5),
        version_max: Version(6),
        deletes: 7,
        range_tombstones: 8,
        created_ms: 9,
        expiry_min: Expiry(10),
        visible: KeyRanges::everything(),
        visible_bytes: 2,
    }
}

fn adds(id: u64) -> Edit {
    Edit { added: vec![segment(id)], next_segment: SegmentId(id + 1), ..Edit::default() }
}

fn after(state: &State, edit: &Edit) -> State {
    state.check(edit).unwrap();
    let mut state = state.clone();
    state.apply(edit.clone());
    state
}

/// A disk with the partition's directory on it.
fn on_disk<T>(body: impl AsyncFnOnce(MemoryDisk) -> T) -> T {
    let virtual_time = VirtualRuntime::new(1);
    let disk = MemoryDisk::new(&virtual_time.runtime(), 1, MemoryConfig::default());
    virtual_time.block_on(async {
        make_dir(&disk).await;
        body(disk).await
    })
}

async fn make_dir(disk: &MemoryDisk) {
    disk.create_dir(Path::new(DIR)).await.unwrap();
    disk.sync_dir(Path::new("/")).await.unwrap();
}

async fn reopen(disk: &MemoryDisk, witness: u64) -> Result<(Manifest, Vec<Cut>)> {
    Manifest::open(place(disk), EditNumber(witness)).await
}

#[track_caller]
fn corruption(result: Result<(Manifest, Vec<Cut>)>) -> (PathBuf, u64) {
    match result {
        Err(Error::Corrupt(found)) => (found.path.clone(), found.offset),
        other => panic!("corrupt expected: {other:?}"),
    }
}

fn edit() -> Edit {
    Edit {
        removed: vec![SegmentId(0x11)],
        flushed_index: Index(1),
        epoch: Epoch(2),
        version_max: Version(3),
        time_ms: 4,
        next_segment: SegmentId(0x22),
        added: vec![segment(0x21)],
        ..Edit::default()
    }
}

#[test]
fn an_edit_is_exactly_these_bytes() {
    let view = SegmentMeta {
        origin: SegmentId(0x1f),
        visible: KeyRanges::of(vec![KeyRange::new(b"g", Some(b"h".to_vec()))]),
        visible_bytes: 1,
        ..segment(0x21)
    };
    let edit = Edit {
        added: vec![view],
        restricted: TableVersion(5),
        departed: vec![b"out".to_vec()],
        arrived: vec![b"in".to_vec(), b"is".to_vec()],
        ..edit()
    };
    let (partition, kind) = (PartitionId(7), FrameKind::Edit);
    let frame = Frame { partition, number: EditNumber(5), kind, previous: 0xaabb_ccdd, edit };
    let (bytes, checksum) = frame.encode();
    assert_eq!(bytes.len(), 4096);
    let mut expected = b"FSMF\x02\0\x02\0\x07\0\0\0".to_vec();
    expected.extend(204_u32.to_le_bytes());
    expected.extend(b"\x05\0\0\0\0\0\0\0\xdd\xcc\xbb\xaa");
    expected.extend(checksum.to_le_bytes());
    for number in [1_u64, 2, 3, 4, 0x22] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend(b"\x01\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x11\0\0\0\0\0\0\0");
    for number in [0x21_u64, 2, 3, 5, 6, 7, 8, 9, 10] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend(b"\x04\0\0\0\x05\0\x04\0\x01\0\0\0\x01\0\0\0");
    expected.extend(b"\x1f\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0firstlast\x01\0g\x01\0h");
    expected.extend(b"\x03\0out\x02\0in\x02\0is");
    assert_eq!(bytes[..expected.len()], expected[..]);
    assert!(bytes[expected.len()..].iter().all(|&b| b == 0));
    assert_eq!(decode(&bytes), Found::Whole(Box::new(frame), checksum, 4096));
}

/// An edit as format 1 had it, of its last version that wrote it.
fn edit_of_format_1() -> Vec<u8> {
    let mut bytes = b"FSMF\x01\0\x02\0\x07\0\0\0".to_vec();
    bytes.extend(153_u32.to_le_bytes());
    bytes.extend(b"\x05\0\0\0\0\0\0\0\xdd\xcc\xbb\xaa");
    bytes.extend(0xeb16_aaee_u32.to_le_bytes());
    for number in [1_u64, 2, 3, 4, 0x22] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"\x01\0\0\0\x01\0\0\0\x11\0\0\0\0\0\0\0");
    for number in [0x21_u64, 2, 3, 5, 6, 7, 8, 9, 10] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"\x04\0\0\0\x05\0\x04\0\x01\0\0\0\x00\0\0\0firstlast");
    bytes.resize(4096, 0);
    bytes
}

#[test]
fn an_edit_of_format_1_means_whole_files_and_no_guests() {
    let (partition, kind) = (PartitionId(7), FrameKind::Edit);
    let frame = Frame { partition, number: EditNumber(5), kind, previous: 0xaabb_ccdd, edit: edit() };
    assert_eq!(decode(&edit_of_format_1()), Found::Whole(Box::new(frame), 0xeb16_aaee, 4096));
    // What format 2 has where format 1 has zeros is damage.
    let mut bytes = edit_of_format_1();
    bytes[32 + 56 + 84] = 1;
    assert!(Edit::decode(&bytes[32..32 + 153], FORMAT_VERSION_WHOLE).is_err());
}

#[test]
fn what_no_view_can_be_is_refused() {
    let decoded = |change: &dyn Fn(&mut SegmentMeta)| {
        let mut meta = segment(1);
        change(&mut meta);
        let mut bytes = Vec::new();
        Edit { added: vec![meta], ..Edit::default() }.encode(&mut bytes);
        Edit::decode(&bytes, FORMAT_VERSION)
    };
    let two = || KeyRanges::of(vec![KeyRange::new(b"g", Some(b"h".to_vec())), KeyRange::new(b"j", None)]);
    assert!(decoded(&|_| ()).is_ok());
    assert!(decoded(&|meta| (meta.level, meta.visible) = (0, two())).is_ok());
    assert!(decoded(&|meta| meta.visible = two()).is_err(), "below level 0");
    assert!(decoded(&|meta| meta.visible_bytes = 3).is_err(), "of two bytes");
}

#[test]
fn random_and_mangled_bytes_are_refused_without_a_panic() {
    let mut rng = fastrand::Rng::with_seed(3);
    let frame = Frame {
        partition: PartitionId(7),
        number: EditNumber(1),
        kind: FrameKind::Snapshot,
        previous: 0,
        edit: Edit { removed: vec![SegmentId(1); 3], ..adds(4) },
    };
    let (whole, _) = frame.encode();
    let payload = &whole[32..32 + 201];
    assert_eq!(Edit::decode(payload, FORMAT_VERSION).as_ref(), Ok(&frame.edit));
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..rng.usize(..300)).map(|_| rng.u8(..4)).collect();
        let _ = (decode(&bytes), Edit::decode(&bytes, FORMAT_VERSION));
        bytes.clear();
        bytes.extend(payload);
        // Past the checksum's protection.
        for _ in 0..rng.u32(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(rng.usize(..=bytes.len()));
        let _ = Edit::decode(&bytes, FORMAT_VERSION);
    }
    for len in 0..payload.len() {
        assert!(Edit::decode(&payload[..len], FORMAT_VERSION).is_err(), "cut at {len}");
    }
}

#[test]
fn an_edit_that_contradicts_the_state_is_refused() {
    let mut state = State::default();
    state.apply(adds(3));
    let removes =
        |ids: &[u64]| Edit { removed: ids.iter().map(|&id| SegmentId(id)).collect(), ..Edit::default() };
    assert!(state.check(&removes(&[2])).is_err());
    assert!(state.check(&removes(&[3, 3])).is_err());
    assert!(state.check(&adds(3)).is_err());
    assert!(
        state
            .check(&Edit { added: vec![segment(4); 2], next_segment: SegmentId(5), ..removes(&[]) })
            .is_err()
    );
    assert!(state.check(&Edit { added: vec![segment(4)], ..removes(&[]) }).is_err(), "4 was not given out");
    let moved = Edit { added: vec![SegmentMeta { level: 2, ..segment(3) }], ..removes(&[3]) };
    assert_eq!(after(&state, &moved).segments[&SegmentId(3)].level, 2);
}

#[test]
fn a_full_file_is_replaced_and_removed_once_its_successor_is_witnessed() {
    on_disk(async |disk| {
        let manifest = Manifest::create(place(&disk), State::default()).await.unwrap();
        let mut model = State::default();
        for id in 0..20 {
            model = after(&model, &adds(id));
            manifest.append(adds(id)).await.unwrap();
            assert_eq!(*manifest.state(), model);
        }
        let files = disk.files();
        assert!(files.len() > 3, "{files:?}");
        let last = manifest.last();
        manifest.witnessed(EditNumber(4)).await.unwrap();
        assert_eq!(disk.files(), files, "the second file begins with edit 5");
        manifest.witnessed(EditNumber(5)).await.unwrap();
        assert_eq!(disk.files(), files[1..]);
        drop(manifest);
        let (manifest, cuts) = reopen(&disk, last.0).await.unwrap();
        assert_eq!((&*manifest.state(), manifest.last(), cuts), (&model, last, Vec::new()));
        assert_eq!(disk.files().len(), 1);
        // A snapshot larger than a file makes a larger file.
        let many =
            Edit { added: (20..400).map(segment).collect(), next_segment: SegmentId(400), ..Edit::default() };
        model = after(&model, &many);
        manifest.append(many).await.unwrap();
        for id in 400..405 {
            model = after(&model, &adds(id));
            manifest.append(adds(id)).await.unwrap();
        }
        let (again, _) = reopen(&disk, manifest.last().0).await.unwrap();
        assert_eq!(*again.state(), model);
    });
}

#[test]
fn a_manifest_is_not_created_over_another() {
    on_disk(async |disk| {
        assert_eq!(corruption(reopen(&disk, 0).await), (PathBuf::from(DIR), 0));
        Manifest::create(place(&disk), State::default()).await.unwrap();
        assert!(matches!(Manifest::create(place(&disk), State::default()).await, Err(Error::Misuse(_))));
        Manifest::remove_files(&place(&disk)).await.unwrap();
        Manifest::create(place(&disk), State::default()).await.unwrap();
    });
}

#[test]
fn concurrent_appends_take_turns() {
    let virtual_time = VirtualRuntime::new(2);
    let runtime = virtual_time.runtime();
    let config = MemoryConfig { latency_nanos: 10..1000, ..MemoryConfig::default() };
    let disk = MemoryDisk::new(&runtime, 2, config);
    virtual_time.block_on(async {
        make_dir(&disk).await;
        let start = State { next_segment: SegmentId(100), ..State::default() };
        let manifest = Rc::new(Manifest::create(place(&disk), start).await.unwrap());
        let tasks: Vec<_> = (0..30)
            .map(|id| {
                let manifest = Rc::clone(&manifest);
                runtime.spawn(async move { manifest.append(adds(id)).await.unwrap() })
            })
            .collect();
        let mut numbers = Vec::new();
        for task in tasks {
            numbers.push(task.await);
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 30);
        let (again, _) = reopen(&disk, manifest.last().0).await.unwrap();
        assert_eq!(again.state().segments.len(), 30);
    });
}

#[test]
fn no_room_for_the_next_file_is_not_final() {
    on_disk(async |disk| {
        let manifest = Manifest::create(place(&disk), State::default()).await.unwrap();
        for id in 0..3 {
            manifest.append(adds(id)).await.unwrap();
        }
        disk.set_capacity(20 << 10);
        for _ in 0..3 {
            let error = manifest.append(adds(3)).await.unwrap_err();
            assert!(error.is_no_space(), "{error}");
            assert_eq!(disk.files(), [path(0)]);
        }
        assert!(manifest.failed().is_none());
        disk.set_capacity(1 << 30);
        manifest.append(adds(3)).await.unwrap();
        let (again, _) = reopen(&disk, manifest.last().0).await.unwrap();
        assert_eq!(again.state().segments.len(), 4);
    });
}

#[test]
fn an_abandoned_append_is_the_last() {
    on_disk(async |disk| {
        let manifest = Manifest::create(place(&disk), State::default()).await.unwrap();
        {
            let append = manifest.append(adds(0));
            assert!(futures_lite::future::poll_once(append).await.is_none(), "it is under way");
        }
        assert!(matches!(manifest.append(adds(0)).await, Err(Error::Stopped(_))));
        assert!(manifest.failed().is_some());
    });
}

/// Three edits, the last of them not witnessed, and a block that was never used.
#[test]
fn every_flipped_bit_is_detected_cut_or_in_unused_space() {
    let virtual_time = VirtualRuntime::new(1);
    let runtime = virtual_time.runtime();
    let disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
    virtual_time.block_on(async {
        make_dir(&disk).await;
        let manifest = Manifest::create(place(&disk), State::default()).await.unwrap();
        manifest.append(adds(0)).await.unwrap();
        let witnessed = manifest.state().clone();
        manifest.append(adds(1)).await.unwrap();
        let all = manifest.state().clone();
        for bit in 0..8 * (16 << 10) {
            let damaged = disk.crash(&runtime, 1, CrashMode::Keep);
            assert!(damaged.flip(&path(0), bit));
            let (block, result) = (bit / 8 / 4096, reopen(&damaged, 2).await);
            if block < 2 {
                assert_eq!(corruption(result), (path(0), block * 4096), "bit {bit}");
                continue;
            }
            let (expected, number) = if block == 2 { (&witnessed, 2) } else { (&all, 3) };
            let (opened, cuts) = result.unwrap();
            assert_eq!((&*opened.state(), opened.last()), (expected, EditNumber(number)), "bit {bit}");
            let offsets: Vec<u64> = cuts.iter().map(|cut| cut.offset).collect();
            // A whole edit's end is where the unused space is cut.
            assert_eq!(offsets, [block * 4096], "bit {bit}");
            if bit % 4096 == 1 {
                opened.append(adds(5)).await.unwrap();
                let (again, cuts) = reopen(&damaged, number + 1).await.unwrap();
                assert_eq!((again.state().segments.len(), cuts.len()), (expected.segments.len() + 1, 0));
            }
        }
    });
}

#[test]
fn what_an_opening_cuts_is_overwritten_and_stays_so_after_a_crash() {
    let virtual_time = VirtualRuntime::new(1);
    let runtime = virtual_time.runtime();
    let disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
    virtual_time.block_on(async {
        make_dir(&disk).await;
        let manifest = Manifest::create(place(&disk), State::default()).await.unwrap();
        manifest.append(adds(0)).await.unwrap();
        // Of two blocks: when the first is torn, the second is not written over by the next edit.
        let added = (1..60).map(segment).collect();
        manifest.append(Edit { added, next_segment: SegmentId(60), ..Edit::default() }).await.unwrap();
        let torn = disk.crash(&runtime, 1, CrashMode::Keep);
        assert!(torn.flip(&path(0), 8 * (2 * 4096 + 40)));
        let after = |disk: &MemoryDisk| disk.durable_contents(&path(0)).unwrap()[2 * 4096..].to_vec();
        assert!(after(&torn)[4096..].iter().any(|byte| *byte != 0), "the edit has a second block");
        let (opened, cuts) = reopen(&torn, 2).await.unwrap();
        assert_eq!((opened.last(), cuts.len()), (EditNumber(2), 1));
        drop(opened);
        let crashed = torn.crash(&runtime, 1, CrashMode::Lose);
        assert!(after(&crashed).iter().all(|byte| *byte == 0), "nothing follows the last edit");
    });
}

#[test]
fn a_flipped_bit_in_the_newest_snapshot_is_cut_until_it_is_witnessed() {
    let virtual_time = VirtualRuntime::new(1);
    let runtime = virtual_time.runtime();
    let disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
    virtual_time.block_on(async {
        make_dir(&disk).await;
        let manifest = Manifest::create(place(&disk), State::default()).await.unwrap();
        for id in 0..3 {
            manifest.append(adds(id)).await.unwrap();
        }
        let before = manifest.state().clone();
        manifest.append(adds(3)).await.unwrap();
        assert_eq!(disk.files(), [path(0), path(1)]);
        for bit in (0..8 * 4096).step_by(7) {
            for witness in [0, 4, 5, 6] {
                let damaged = disk.crash(&runtime, 1, CrashMode::Keep);
                assert!(damaged.flip(&path(1), bit));
                let result = reopen(&damaged, witness).await;
                if witness > 4 {
                    assert_eq!(corruption(result), (path(1), 0), "bit {bit} witness {witness}");
                    continue;
                }
                let (opened, cuts) = result.unwrap();
                assert_eq!((&*opened.state(), opened.last()), (&before, EditNumber(4)));
                assert_eq!((cuts.len(), damaged.files()), (1, vec![path(0)]));
                opened.append(adds(3)).await.unwrap();
                assert_eq!(damaged.files(), [path(0), path(1)]);
                let (again, cuts) = reopen(&damaged, 6).await.unwrap();
                assert_eq!((again.state().segments.len(), cuts.len()), (4, 0));
            }
        }
    });
}

#[test]
fn a_lost_file_and_a_stranger_s_are_corruption() {
    on_disk(async |disk| {
        let manifest = Manifest::create(place(&disk), State::default()).await.unwrap();
        for id in 0..4 {
            manifest.append(adds(id)).await.unwrap();
        }
        let stranger = Location { partition: PartitionId(8), ..place(&disk) };
        let opened = Manifest::open(stranger, EditNumber(0)).await;
        assert_eq!(corruption(opened), (path(1), 0), "even where it could be cut");
        let frame = Frame {
            partition: PartitionId(7),
            number: EditNumber(7),
            kind: FrameKind::Edit,
            previous: 0,
            edit: adds(9),
        };
        let (mut later_format, _) = frame.encode();
        later_format[4] = 3;
        let checksum = frame::checksum(&later_format[..32 + 153 - 8 + 32]);
        later_format[28..32].copy_from_slice(&checksum.to_le_bytes());
        assert!(disk.overwrite(&path(1), 2 * 4096, &later_format));
        assert_eq!(corruption(reopen(&disk, 0).await), (path(1), 2 * 4096), "not ours to cut");
        assert!(disk.lose(&path(1)));
        assert_eq!(corruption(reopen(&disk, 6).await), (path(0), 4 * 4096));
    });
}

mod crash;
