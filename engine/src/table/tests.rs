//! The table's log against a state in memory: in peace, crashed at every boundary, on devices that fail or are full.

mod model;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::error::Error;
use crate::ids::{Epoch, MoveId, PartitionId, ShardId};
use crate::io::buffer::AlignedBuf;
use crate::io::disk::{Disk, OpenMode, Write};
use crate::io::fault::{Fault, FaultDisk, Rule, When};
use crate::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key::RoutingKey;
use crate::superblock::StoreId;

const DIR: &str = "/table";

/// Room for a snapshot and two changes: every third change turns to the other file.
fn place(disk: Rc<dyn Disk>) -> Place {
    Place { disk, dir: DIR.into(), store: StoreId([5; 16]), reserved_bytes: 4 * 4096 }
}

fn first() -> State {
    State::first(&State::even_ranges(3), 2).unwrap()
}

/// A change that can be made: of partitions, or of an entity's place.
fn any_change(state: &State, random: &mut fastrand::Rng) -> Change {
    let is_made = |change: &Change| state.after(change).is_ok();
    loop {
        let change = match random.u8(..5) {
            0 | 1 => any_repartition(state, random).into(),
            2 | 3 => any_beginning(state, 20, random).into(),
            _ => {
                let Some(id) = random.choice(state.moves.keys().copied()) else { continue };
                if random.bool() { Change::CommitMove { id } } else { Change::AbortMove { id } }
            }
        };
        if is_made(&change) {
            return change;
        }
    }
}

/// An epoch, an owner, a split, a merge. Guests are sent anywhere that was edited.
fn any_repartition(state: &State, random: &mut fastrand::Rng) -> Partitions {
    let mut ids: Vec<PartitionId> = state.partitions.keys().copied().collect();
    ids.sort_by_key(|id| state.partitions[id].placed.start);
    let at = random.usize(..ids.len());
    let (id, placed) = (ids[at], state.partitions[&ids[at]].placed);
    let mut edits = match random.u8(..4) {
        0 => vec![(id, Some(Placed { epoch: Epoch(placed.epoch.0 + 1), ..placed }))],
        1 => vec![(id, Some(Placed { shard: ShardId(random.u16(..state.shards)), ..placed }))],
        2 if at + 1 < ids.len() => {
            let next = state.partitions[&ids[at + 1]].placed;
            vec![(id, Some(Placed { end: next.end, ..placed })), (ids[at + 1], None)]
        }
        _ => {
            let middle = RoutingKey(u64::midpoint(placed.start.0, placed.end.0));
            let half = Placed { start: middle, ..placed };
            vec![(id, Some(Placed { end: middle, ..placed })), (state.next_partition, Some(half))]
        }
    };
    edits.sort_by_key(|edit| edit.0);
    let seen = edits.iter().map(|(id, _)| (*id, state.version_of(*id))).collect();
    let here = edits.iter().flat_map(|(id, _)| state.guests.in_partition(*id)).map(|guest| guest.entity());
    let mut guests: Vec<_> = here
        .map(|entity| {
            let routing = RoutingKey::of(&entity);
            let left: Vec<_> = edits.iter().filter_map(|(id, placed)| Some((*id, (*placed)?))).collect();
            let (to, placed) = left[random.usize(..left.len())];
            let is_home = placed.is_home_to(routing);
            (entity, Some(to).filter(|_| !is_home))
        })
        .collect();
    guests.sort();
    Partitions { seen, edits, guests, shards: None }
}

fn any_beginning(state: &State, names: u8, random: &mut fastrand::Rng) -> BeginMove {
    let entity = format!("entity{}", random.u8(..names)).into_bytes();
    let (from, ids) = (state.owner(&entity), state.partitions.keys());
    let to = random.choice(ids.copied()).unwrap();
    let epoch = |id| state.partitions[&id].placed.epoch;
    let entry = state.entry_of(&entity);
    BeginMove { entity, entry, from, to, from_epoch: epoch(from), to_epoch: epoch(to) }
}

fn world(seed: u64) -> (VirtualRuntime, Runtime, MemoryDisk) {
    let time = VirtualRuntime::new(seed);
    let runtime = time.runtime();
    let disk = MemoryDisk::new(&runtime, seed, MemoryConfig::default());
    (time, runtime, disk)
}

async fn created(disk: &MemoryDisk) -> TableLog {
    TableLog::create(place(Rc::new(disk.clone())), first()).await.unwrap()
}

async fn reopened(disk: &MemoryDisk) -> Result<(TableLog, Option<Cut>)> {
    TableLog::open(place(Rc::new(disk.clone()))).await
}

/// What a life may claim after a crash.
#[derive(Default, Clone, Debug)]
struct Claim {
    made: Option<State>,
    /// With the change that was under way.
    under_way: Option<State>,
}

/// Opens or creates the table, checks it against `claim`, and changes it until the disk stops or enough is done.
async fn live(disk: Rc<dyn Disk>, claim: &RefCell<Claim>, seed: u64) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let before = claim.borrow().clone();
    let mut log = match &before.made {
        None => TableLog::create(place(disk.clone()), first()).await?,
        Some(_) => TableLog::open(place(disk.clone())).await?.0,
    };
    // The store's own directory, whose names the caller makes durable.
    disk.sync_dir(Path::new("/")).await?;
    let state = log.state().clone();
    let known = before.made.is_none()
        || before.made.as_ref() == Some(&state)
        || before.under_way.as_ref() == Some(&state);
    assert!(known, "{state:?} after {before:?}");
    *claim.borrow_mut() = Claim { made: Some(state), under_way: None };
    for _ in 0..10 {
        let change = any_change(log.state(), &mut random);
        let next = log.state().after(&change).unwrap();
        claim.borrow_mut().under_way = Some(next.clone());
        let made = log.change(&change).await?;
        assert_eq!((made, log.state()), (Ok(next.version), &next));
        *claim.borrow_mut() = Claim { made: Some(next), under_way: None };
        let mut stale = any_repartition(log.state(), &mut random);
        stale.seen[0].1.0 += 1000;
        assert!(matches!(log.change(&stale.into()).await?, Err(Refusal::Stale { .. })));
        if random.bool() {
            log.settle().await?;
        }
    }
    log.settle().await
}

#[test]
fn whatever_was_made_survives_a_crash_at_every_boundary_of_two_lives() {
    let boundaries = {
        let (time, _, disk) = world(1);
        time.block_on(live(Rc::new(disk.clone()), &RefCell::default(), 1)).unwrap();
        disk.boundaries()
    };
    assert!(boundaries > 60, "{boundaries} boundaries");
    for boundary in 1..=boundaries {
        for (mode, seeds) in [(CrashMode::Lose, 2), (CrashMode::Keep, 2), (CrashMode::Scramble, 8)] {
            for seed in 0..seeds {
                println!("boundary {boundary} mode {mode:?} seed {seed}");
                crash_twice(boundary, mode, seed);
            }
        }
    }
}

/// Crashes at `boundary`, then at one of the second life, then lives to the end.
fn crash_twice(boundary: u64, mode: CrashMode, seed: u64) {
    let claim = RefCell::default();
    let (time, runtime, mut disk) = world(seed);
    let second = 1 + (boundary * 7 + seed * 13) % 50;
    for (life, stop) in [Some(boundary), Some(second), None].into_iter().enumerate() {
        if let Some(stop) = stop {
            disk.crash_after(stop);
        }
        // The first life is the same for all seeds, so that every boundary is met.
        let changes = if life == 0 { 1 } else { seed + life as u64 };
        match time.try_block_on(live(Rc::new(disk.clone()), &claim, changes)) {
            Ok(done) => done.unwrap(),
            Err(_) => assert!(disk.is_stopped(), "only a stopped disk leaves anybody waiting"),
        }
        disk = disk.crash(&runtime, seed + life as u64, mode);
    }
}

#[test]
fn a_fault_at_any_operation_loses_nothing_made_and_is_final() {
    let mut struck = 0;
    for nth in 1..60 {
        for fault in [Fault::Failed, Fault::Short, Fault::NoSpace] {
            for mode in [CrashMode::Lose, CrashMode::Keep, CrashMode::Scramble] {
                println!("operation {nth} {fault:?} {mode:?}");
                let (time, runtime, disk) = world(nth);
                let claim = RefCell::default();
                time.block_on(live(Rc::new(disk.clone()), &claim, 1)).unwrap();
                let faulty = FaultDisk::new(Rc::new(disk.clone()), &runtime, nth);
                let below = disk.clone();
                faulty.on_failed_sync(move |path| below.lose_unsynced(path));
                faulty.add(Rule {
                    ops: Vec::new(),
                    path_contains: String::new(),
                    when: When::Nth(nth),
                    fault,
                });
                // An error is for its caller; what it leaves behind is what counts.
                let _ = time.block_on(live(Rc::new(faulty.clone()), &claim, 2));
                let disk = disk.crash(&runtime, nth, mode);
                time.block_on(live(Rc::new(disk), &claim, 3)).unwrap();
                struck += faulty.struck();
            }
        }
    }
    assert!(struck > 200, "{struck} faults");
}

#[test]
fn after_a_failed_write_nothing_more_is_written() {
    let (time, runtime, disk) = world(1);
    time.block_on(async {
        created(&disk).await;
        let faulty = FaultDisk::new(Rc::new(disk.clone()), &runtime, 1);
        let (mut log, _) = TableLog::open(place(Rc::new(faulty.clone()))).await.unwrap();
        let change = any_change(log.state(), &mut fastrand::Rng::with_seed(1));
        let (path_contains, when) = ("table".to_owned(), When::Nth(1));
        faulty.add(Rule { ops: Vec::new(), path_contains, when, fault: Fault::Failed });
        assert!(matches!(log.change(&change).await, Err(Error::Stopped(_))));
        disk.record();
        assert!(matches!(log.change(&change).await, Err(Error::Stopped(_))), "not tried again");
        assert!(matches!(log.settle().await, Err(Error::Stopped(_))));
        assert_eq!(disk.events(), []);
        assert_eq!(log.state(), &first(), "as before");
    });
}

#[test]
fn a_full_device_keeps_no_change_from_being_made_until_the_table_outgrows_its_files() {
    let (time, _, disk) = world(1);
    time.block_on(async {
        let mut log = created(&disk).await;
        disk.set_capacity(0);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20 {
            let id = PartitionId(random.u32(..3));
            let raised = log.state().partitions[&id].placed;
            let raised = Placed { epoch: Epoch(raised.epoch.0 + 1), ..raised };
            let seen = vec![(id, log.state().version_of(id))];
            let change = Partitions { seen, edits: vec![(id, Some(raised))], ..Partitions::default() };
            log.change(&change.into()).await.unwrap().unwrap();
            log.settle().await.unwrap();
        }
        let empty = Placed { end: RoutingKey(0), ..log.state().partitions[&PartitionId(0)].placed };
        let more = |state: &State| {
            let id = state.next_partition;
            let (seen, edits) = (vec![(id, TableVersion(0))], vec![(id, Some(empty))]);
            Change::from(Partitions { seen, edits, ..Partitions::default() })
        };
        let refused = loop {
            match log.change(&more(log.state())).await {
                Ok(made) => made.unwrap(),
                Err(e) => break e,
            };
        };
        assert!(refused.is_no_space(), "{refused}");
        assert!(log.state().partitions.len() > 100);
        let (again, cut) = reopened(&disk).await.unwrap();
        assert_eq!((again.state(), cut), (log.state(), None));
        disk.set_capacity(1 << 30);
        for _ in 0..1000 {
            log.change(&more(log.state())).await.unwrap().unwrap();
            log.settle().await.unwrap();
        }
        assert_eq!(reopened(&disk).await.unwrap().0.state(), log.state());
    });
}

#[test]
fn a_flipped_bit_anywhere_is_named_or_changes_nothing() {
    let (time, runtime, disk) = world(1);
    time.block_on(async {
        let mut log = created(&disk).await;
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..4 {
            let change = any_change(log.state(), &mut random);
            log.change(&change).await.unwrap().unwrap();
        }
        log.settle().await.unwrap();
        let mut named = 0;
        for file in paths(Path::new(DIR)) {
            for bit in (0..4 * 4096 * 8).filter(|bit| bit % 4096 < 1024 || bit % 37 == 0) {
                let disk = disk.crash(&runtime, 1, CrashMode::Keep);
                assert!(disk.flip(&file, bit));
                match reopened(&disk).await {
                    Ok((again, _)) => {
                        assert_eq!(again.state(), log.state(), "bit {bit} of {}", file.display())
                    }
                    Err(Error::Corrupt(what)) => {
                        assert_eq!(what.path, file, "bit {bit}: {what}");
                        named += 1;
                    }
                    Err(other) => panic!("bit {bit}: {other}"),
                }
            }
        }
        assert!(named > 1000, "{named} flips were damage");
    });
}

#[test]
fn a_lost_or_short_file_is_named() {
    let (time, runtime, disk) = world(1);
    time.block_on(async {
        created(&disk).await.settle().await.unwrap();
        for file in paths(Path::new(DIR)) {
            for len in [None, Some(0), Some(4096), Some(3 * 4096)] {
                let disk = disk.crash(&runtime, 1, CrashMode::Keep);
                match len {
                    None => assert!(disk.lose(&file)),
                    Some(len) => assert!(disk.truncate(&file, len)),
                }
                let Err(Error::Corrupt(what)) = reopened(&disk).await else {
                    panic!("{len:?} is not missed")
                };
                assert_eq!(what.path, file, "{len:?}: {what}");
            }
        }
    });
}

#[test]
fn competing_changes_are_made_one_at_a_time_and_told_in_order() {
    let (time, runtime, disk) = world(3);
    time.block_on(async {
        let table: Rc<dyn Table> = Rc::new(LocalTable::new(&runtime, created(&disk).await));
        // Everyone raises the epoch of one partition, and tries again when somebody else was first.
        let raise = |table: Rc<dyn Table>| async move {
            let (id, mut refused) = (PartitionId(1), 0);
            for _ in 0..10 {
                loop {
                    let image = table.image();
                    let entry = image.state().partitions[&id];
                    let raised = Placed { epoch: Epoch(entry.placed.epoch.0 + 1), ..entry.placed };
                    let (seen, edits) = (vec![(id, entry.version)], vec![(id, Some(raised))]);
                    let change = Partitions { seen, edits, ..Partitions::default() };
                    match table.change(change.into()).await.unwrap() {
                        Ok(version) => break assert!(table.image().version() >= version),
                        Err(Refusal::Stale { moved, .. }) => {
                            assert_eq!((moved[0].partition, moved[0].seen), (id, entry.version));
                            refused += 1;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            refused
        };
        let listener = Rc::clone(&table);
        let listening = runtime.spawn(async move {
            let (mut state, mut told) = (first(), 0);
            while let Ok(news) = listener.news(state.version).await {
                let changes = news.changes.expect("never far behind");
                told += changes.len();
                for made in changes {
                    state = state.after(&made.change).expect("in the order in which they were made");
                    assert_eq!(state.version, made.version);
                }
                assert_eq!(&state, news.image.state());
            }
            told
        });
        let raisers: Vec<_> = (0..4).map(|_| runtime.spawn(raise(Rc::clone(&table)))).collect();
        let mut refused = 0;
        for raiser in raisers {
            refused += raiser.await;
        }
        let image = table.image();
        assert_eq!(image.state().partitions[&PartitionId(1)].placed.epoch, Epoch(41));
        assert!(refused > 10, "{refused} refusals");
        table.close().await;
        assert_eq!(listening.await, 40);
        assert!(matches!(table.change(Partitions::default().into()).await, Err(Error::Closed)));
        let (again, cut) = reopened(&disk).await.unwrap();
        assert_eq!((again.state(), cut), (image.state(), None));
    });
}

#[test]
fn a_change_whose_caller_went_away_is_made_and_leaves_the_log_open() {
    let (time, runtime, disk) = world(3);
    time.block_on(async {
        let table = LocalTable::new(&runtime, created(&disk).await);
        let mut random = fastrand::Rng::with_seed(1);
        let mut asked = table.change(any_change(&first(), &mut random));
        assert!(futures_lite::future::poll_once(&mut asked).await.is_none());
        drop(asked);
        assert_eq!(table.news(TableVersion(1)).await.unwrap().image.version(), TableVersion(2));
        let next = any_change(table.image().state(), &mut random);
        assert_eq!(table.change(next).await.unwrap(), Ok(TableVersion(3)));
    });
}

/// Places so many entities, of which `first` is the first, in partitions 0 to 2, where they are not at home.
fn many_guests(state: &State, first: usize, count: usize) -> Change {
    let edits: Vec<_> = (0..3).map(PartitionId).map(|id| (id, Some(state.partitions[&id].placed))).collect();
    let place = |n: usize| {
        let entity = format!("a guest whose name is of usual length {n:08}").into_bytes();
        let to = PartitionId((state.owner(&entity).0 + 1) % 3);
        (entity, Some(to))
    };
    let guests = (first..first + count).map(place).collect();
    let seen = edits.iter().map(|(id, _)| (*id, state.version_of(*id))).collect();
    Partitions { seen, edits, guests, shards: None }.into()
}

#[test]
fn files_grow_with_the_guests_and_a_change_that_finds_no_room_is_refused_and_can_be_tried_again() {
    let (time, _, disk) = world(1);
    time.block_on(async {
        let mut log = created(&disk).await;
        let mut count = 0;
        for n in [10, 300, 3000] {
            log.change(&many_guests(log.state(), count, n)).await.unwrap().unwrap();
            log.settle().await.unwrap();
            count += n;
        }
        assert_eq!(log.state().guests.len(), count);
        assert!(log.state().encoded_bytes() > 10 * 4 * 4096, "far more than the files had");
        assert_eq!(reopened(&disk).await.unwrap().0.state(), log.state());
        disk.set_capacity(0);
        let mut random = fastrand::Rng::with_seed(1);
        // Room that was made ahead suffices for whatever moves one by one.
        for _ in 0..100 {
            let mut begin = any_beginning(log.state(), 20, &mut random);
            begin.to = PartitionId((begin.from.0 + 1) % 3);
            let begun = log.change(&begin.into()).await.unwrap().unwrap();
            log.change(&Change::CommitMove { id: MoveId(begun.0) }).await.unwrap().unwrap();
            log.settle().await.unwrap();
        }
        let too_many = many_guests(log.state(), count, 20_000);
        let before = log.state().clone();
        for _ in 0..2 {
            let refused = log.change(&too_many).await.unwrap_err();
            assert!(refused.is_no_space(), "{refused}");
            assert_eq!(log.state(), &before);
        }
        let (mut again, cut) = reopened(&disk).await.unwrap();
        assert_eq!((again.state(), cut), (&before, None));
        disk.set_capacity(1 << 30);
        again.change(&too_many).await.unwrap().unwrap();
        assert_eq!(reopened(&disk).await.unwrap().0.state(), again.state());
    });
}

#[test]
fn a_log_of_the_old_format_goes_on_in_the_present_one() {
    let (time, _, disk) = world(1);
    time.block_on(async {
        disk.create_dir(Path::new(DIR)).await.unwrap();
        let old = include_bytes!("fixtures/format-1");
        for (path, bytes) in paths(Path::new(DIR)).iter().zip([&old[..], &[]]) {
            let file = disk.open(path, OpenMode::Create).await.unwrap();
            let mut buf = AlignedBuf::zeroed(1 << 20);
            buf[..bytes.len()].copy_from_slice(bytes);
            file.write_at(buf, 0, Write::Synced).await.1.unwrap();
        }
        let place = || Place { store: StoreId(*b"a store of old. "), ..place(Rc::new(disk.clone())) };
        let (mut log, cut) = TableLog::open(place()).await.unwrap();
        assert_eq!((log.state().version, cut), (TableVersion(5), None));
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..5 {
            log.change(&any_change(log.state(), &mut random)).await.unwrap().unwrap();
        }
        assert_eq!(TableLog::open(place()).await.unwrap().0.state(), log.state());
        for _ in 0..300 {
            log.change(&any_change(log.state(), &mut random)).await.unwrap().unwrap();
        }
        assert_eq!(TableLog::open(place()).await.unwrap().0.state(), log.state(), "in the other file");
    });
}

#[test]
fn whoever_waits_for_news_learns_what_was_decided_about_whom() {
    let (time, runtime, disk) = world(3);
    time.block_on(async {
        let table = LocalTable::new(&runtime, created(&disk).await);
        let mut random = fastrand::Rng::with_seed(1);
        let mut expected = Vec::new();
        for n in 0..6 {
            let state = table.image().state().clone();
            let mut begin = any_beginning(&state, 20, &mut random);
            begin.to = PartitionId((begin.from.0 + 1) % 3);
            let begun = table.change(begin.clone().into()).await.unwrap().unwrap();
            let id = MoveId(begun.0);
            let open = table.image().open_moves()[&id].clone();
            assert_eq!((&*open.entity, open.from, open.to), (&*begin.entity, begin.from, begin.to));
            let decision = if n % 2 == 0 { Change::CommitMove { id } } else { Change::AbortMove { id } };
            let decided = table.change(decision.clone()).await.unwrap().unwrap();
            let change = begin.into();
            expected.push(Made { version: begun, change, decided: None });
            expected.push(Made { version: decided, change: decision, decided: Some(open) });
        }
        let news = table.news(TableVersion(1)).await.unwrap();
        let told: Vec<Made> = news.changes.unwrap().iter().map(|made| (**made).clone()).collect();
        assert_eq!(told, expected);
    });
}
