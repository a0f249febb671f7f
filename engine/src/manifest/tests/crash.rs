//! Lives of a manifest that end badly.

use super::*;
use crate::io::disk::DiskOp;
use crate::io::fault::{Fault, FaultDisk, Rule, When};

/// What a run may claim after a crash.
#[derive(Default, Clone, Debug)]
struct Log {
    created: bool,
    acknowledged: EditNumber,
    before: State,
    /// The state with the append that was under way, if one was.
    under_way: Option<State>,
}

/// Opens or creates the manifest, checks it against `log`, and edits it until the disk stops or enough is done.
async fn live(disk: Rc<dyn Disk>, log: &RefCell<Log>, seed: u64) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    disk.create_dir(Path::new(DIR)).await?;
    disk.sync_dir(Path::new("/")).await?;
    let previous = log.borrow().clone();
    let manifest = if previous.created {
        let (manifest, _) = Manifest::open(place_on(disk), previous.acknowledged).await?;
        manifest
    } else {
        Manifest::remove_files(&place_on(Rc::clone(&disk))).await?;
        Manifest::create(place_on(disk), State::default()).await?
    };
    let state = manifest.state().clone();
    assert!(
        state == previous.before || Some(&state) == previous.under_way.as_ref(),
        "{state:?} after {previous:?}"
    );
    assert!(manifest.last() >= previous.acknowledged);
    *log.borrow_mut() = Log { created: true, acknowledged: manifest.last(), before: state, under_way: None };
    for _ in 0..12 {
        let before = log.borrow().before.clone();
        let mut edit = adds(before.next_segment.0);
        edit.flushed_index = Index(rng.u64(..100));
        edit.removed = before.segments.keys().filter(|_| rng.u8(..4) == 0).copied().collect();
        log.borrow_mut().under_way = Some(after(&before, &edit));
        let number = append(&manifest, edit).await?;
        let state = log.borrow_mut().under_way.take().unwrap();
        *log.borrow_mut() = Log { created: true, acknowledged: number, before: state, under_way: None };
        if rng.u8(..3) == 0 {
            manifest.witnessed(number).await?;
        }
    }
    Ok(())
}

#[test]
fn whatever_was_acknowledged_survives_a_crash_at_every_boundary_of_two_lives() {
    let boundaries = {
        let virtual_time = VirtualRuntime::new(1);
        let disk = MemoryDisk::new(&virtual_time.runtime(), 1, MemoryConfig::default());
        virtual_time.block_on(live(Rc::new(disk.clone()), &RefCell::default(), 1)).unwrap();
        disk.boundaries()
    };
    assert!(boundaries > 60, "{boundaries} boundaries");
    for boundary in 1..=boundaries {
        for (mode, seeds) in [(CrashMode::Lose, 2), (CrashMode::Keep, 2), (CrashMode::Scramble, 12)] {
            for seed in 0..seeds {
                println!("boundary {boundary} mode {mode:?} seed {seed}");
                crash_twice(boundary, mode, seed);
            }
        }
    }
}

/// Crashes at `boundary`, then at a random one of the second life, then lives to the end.
fn crash_twice(boundary: u64, mode: CrashMode, seed: u64) {
    let log = RefCell::default();
    let virtual_time = VirtualRuntime::new(seed);
    let runtime = virtual_time.runtime();
    let mut disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
    for (life, stop) in
        [Some(boundary), Some(1 + (boundary * 7 + seed * 13) % 60), None].into_iter().enumerate()
    {
        if let Some(stop) = stop {
            disk.crash_after(stop);
        }
        // The first life is the same for all seeds, so that every boundary is met.
        let edits = if life == 0 { 1 } else { seed + life as u64 };
        match virtual_time.try_block_on(live(Rc::new(disk.clone()), &log, edits)) {
            Ok(done) => done.unwrap(),
            Err(_) => assert!(disk.is_stopped(), "only a stopped disk leaves anybody waiting"),
        }
        disk = disk.crash(&runtime, seed + life as u64, mode);
    }
}

/// Appends, once more if there was no room the first time.
async fn append(manifest: &Manifest, edit: Edit) -> Result<EditNumber> {
    match manifest.append(edit.clone()).await {
        Err(error) if error.is_no_space() => {
            assert!(manifest.failed().is_none());
            manifest.append(edit).await
        }
        Err(error) => {
            assert!(matches!(error, Error::Stopped(_)), "{error}");
            assert!(matches!(manifest.append(edit).await, Err(Error::Stopped(_))), "final");
            Err(error)
        }
        appended => appended,
    }
}

#[test]
fn a_fault_at_any_operation_loses_nothing_acknowledged() {
    let mut struck = 0;
    for nth in 1..80 {
        for fault in [Fault::Failed, Fault::Short, Fault::NoSpace] {
            for mode in [CrashMode::Lose, CrashMode::Keep, CrashMode::Scramble] {
                println!("operation {nth} {fault:?} {mode:?}");
                struck += fail_then_reopen(nth, fault, mode);
            }
        }
    }
    assert!(struck > 300, "{struck} faults");
}

/// Fails the `nth` operation of the second life; the third must find what the second acknowledged.
fn fail_then_reopen(nth: u64, fault: Fault, mode: CrashMode) -> u64 {
    let virtual_time = VirtualRuntime::new(nth);
    let runtime = virtual_time.runtime();
    let disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
    let log = RefCell::default();
    virtual_time.block_on(live(Rc::new(disk.clone()), &log, 1)).unwrap();
    let faulty = FaultDisk::new(Rc::new(disk.clone()), &runtime, nth);
    let below = disk.clone();
    faulty.on_failed_sync(move |path| below.lose_unsynced(path));
    faulty.add(Rule { ops: Vec::new(), path_contains: String::new(), when: When::Nth(nth), fault });
    // An error is for its caller; what it leaves behind is what counts.
    let _ = virtual_time.block_on(live(Rc::new(faulty.clone()), &log, 2));
    let disk = disk.crash(&runtime, nth, mode);
    virtual_time.block_on(live(Rc::new(disk), &log, 3)).unwrap();
    faulty.struck()
}

#[test]
fn an_edit_refused_for_want_of_room_is_written_over_also_before_the_next_file() {
    for before in 0..4 {
        let virtual_time = VirtualRuntime::new(1);
        let runtime = virtual_time.runtime();
        let disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
        virtual_time.block_on(async {
            make_dir(&disk).await;
            let faulty = FaultDisk::new(Rc::new(disk.clone()), &runtime, 1);
            let start = State { next_segment: SegmentId(200), ..State::default() };
            let manifest = Manifest::create(place_on(Rc::new(faulty.clone())), start).await.unwrap();
            for id in 0..before {
                manifest.append(adds(id)).await.unwrap();
            }
            // Two blocks, of which the second could be left behind by a shorter edit.
            let long = Edit { added: (10..60).map(segment).collect(), ..Edit::default() };
            let write = vec![DiskOp::Write];
            let rule =
                Rule { ops: write, path_contains: String::new(), when: When::Nth(1), fault: Fault::NoSpace };
            faulty.add(rule);
            assert!(manifest.append(long).await.unwrap_err().is_no_space());
            // As if it had been written nonetheless.
            if before < 2 {
                let at = usize::try_from(4096 * (before + 1)).unwrap();
                assert!(disk.overwrite(&path(0), at, &[7; 8192]));
            }
            manifest.append(adds(100)).await.unwrap();
            let (again, cuts) = reopen(&disk, manifest.last().0).await.unwrap();
            assert_eq!((&*again.state(), cuts.len()), (&*manifest.state(), 0));
        });
    }
}

#[test]
fn what_a_refused_edit_left_is_gone_before_the_next_file_takes_its_number() {
    let virtual_time = VirtualRuntime::new(1);
    let runtime = virtual_time.runtime();
    let disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
    virtual_time.block_on(async {
        make_dir(&disk).await;
        let faulty = FaultDisk::new(Rc::new(disk.clone()), &runtime, 1);
        let start = State { next_segment: SegmentId(200), ..State::default() };
        let manifest = Manifest::create(place_on(Rc::new(faulty.clone())), start).await.unwrap();
        manifest.append(adds(0)).await.unwrap();
        manifest.append(adds(1)).await.unwrap();
        let (ops, when) = (vec![DiskOp::Write], When::Nth(1));
        faulty.add(Rule { ops, path_contains: String::new(), when, fault: Fault::NoSpace });
        assert!(manifest.append(adds(2)).await.unwrap_err().is_no_space());
        assert!(disk.overwrite(&path(0), 3 * 4096, &[7; 4096]), "written nonetheless");
        let long = Edit { added: (10..60).map(segment).collect(), ..Edit::default() };
        manifest.append(long).await.unwrap();
        assert_eq!(disk.files(), [path(0), path(1)]);
        assert!(disk.durable_contents(&path(0)).unwrap()[3 * 4096..].iter().all(|&b| b == 0));
    });
}
