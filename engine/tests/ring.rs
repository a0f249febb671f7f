//! The ring's loop: time, other threads, and an end with operations in flight.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foreshard_engine::io::buffer::AlignedBuf;
use foreshard_engine::io::disk::{OpenMode, Write};
use foreshard_engine::io::ring::{RingConfig, RingRuntime, Setup};

fn each_setup(check: impl Fn(&RingRuntime)) {
    for setup in [Setup::Deferred, Setup::Cooperative, Setup::Plain] {
        check(&RingRuntime::new(&RingConfig { setup, ..RingConfig::default() }).expect("a ring"));
    }
}

#[test]
fn sleepers_wake_in_order_and_never_early() {
    each_setup(|ring| {
        let runtime = ring.runtime();
        let begin = runtime.now();
        let woken = Rc::new(Cell::new(0));
        let sleepers: Vec<_> = [3u64, 1, 2]
            .into_iter()
            .map(|ms| {
                let (runtime, woken) = (runtime.clone(), Rc::clone(&woken));
                runtime.clone().spawn(async move {
                    runtime.sleep(Duration::from_millis(ms)).await;
                    woken.set(woken.get() + 1);
                    (ms, woken.get(), runtime.now())
                })
            })
            .collect();
        for sleeper in sleepers {
            let (ms, place, at) = ring.run(sleeper);
            assert_eq!(ms, place);
            assert!(at.since(begin) >= Duration::from_millis(ms));
        }
        assert!(runtime.turns().count() >= 6);
    });
}

#[test]
fn another_thread_wakes_a_sleeping_and_a_busy_shard_and_no_ring_is_lost() {
    each_setup(|ring| {
        let runtime = ring.runtime();
        let (unpark, sent) = (runtime.unpark_handle(), Arc::new(AtomicU64::new(0)));
        let sending = Arc::clone(&sent);
        #[expect(clippy::disallowed_methods, reason = "the other shard")]
        let other = std::thread::spawn(move || {
            for message in 1..=20_000 {
                sending.store(message, Ordering::Release);
                unpark.unpark();
                if message % 100 == 0 {
                    // Long enough for the shard to fall asleep now and then.
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        });
        ring.run(async {
            while sent.load(Ordering::Acquire) < 20_000 {
                runtime.unparked().await;
            }
        });
        other.join().expect("the other thread");
    });
}

#[test]
fn more_operations_than_either_queue_holds_complete() {
    let config = RingConfig { entries: 2, ..RingConfig::default() };
    let ring = RingRuntime::new(&config).expect("a ring");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("f");
    ring.run(async {
        let disk = ring.disk();
        let file = disk.open(&path, OpenMode::Create).await.expect("a file");
        let synced = |block: u64| if block.is_multiple_of(3) { Write::Synced } else { Write::Plain };
        let writes: Vec<_> = (0..500)
            .map(|block| file.write_at(AlignedBuf::zeroed(4096), block * 4096, synced(block)))
            .collect();
        for write in writes {
            write.await.1.expect("a write");
        }
        assert_eq!(file.size().await.expect("a size"), 500 * 4096);
    });
}

#[test]
fn the_end_waits_for_what_the_kernel_still_writes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("f");
    for round in 0..20 {
        let ring = RingRuntime::new(&RingConfig::default()).expect("a ring");
        let (runtime, disk) = (ring.runtime(), ring.disk());
        let mode = if round == 0 { OpenMode::Create } else { OpenMode::ReadWrite };
        let file = ring.run(disk.open(&path, mode)).expect("the file");
        for block in 0..64 {
            drop(file.write_at(AlignedBuf::zeroed(65536), block * 65536, Write::Plain));
            let (reader, waiting) = (Rc::clone(&file), runtime.clone());
            runtime
                .spawn(async move {
                    reader.read_at(AlignedBuf::zeroed(1 << 20), 0).await.1.expect("a read");
                    waiting.sleep(Duration::from_secs(1000)).await;
                })
                .detach();
        }
        ring.run(runtime.yield_now());
        drop(ring);
        let refused = futures_lite::future::block_on(file.size()).expect_err("the ring has ended");
        assert!(refused.to_string().contains("ask for the size of"), "{refused}");
    }
    let size = std::fs::metadata(&path).expect("the file").len();
    assert_eq!(size, 64 * 65536, "what was begun was done");
}

#[test]
fn descriptors_are_closed_also_of_dropped_operations() {
    let ring = RingRuntime::new(&RingConfig::default()).expect("a ring");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let disk = ring.disk();
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd").expect("descriptors");
        let targets = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(dir.path())).count()
    };
    ring.run(async {
        let path = dir.path().join("f");
        drop(disk.open(&path, OpenMode::Create).await.expect("a file"));
        for _ in 0..100 {
            drop(disk.open(&path, OpenMode::Read));
            drop(disk.open(&path, OpenMode::Read).await.expect("the file"));
        }
        disk.sync_dir(dir.path()).await.expect("a sync");
        for _ in 0..1000 {
            if open() == 0 {
                return;
            }
            disk.exists(Path::new("/")).await.expect("a root");
        }
        panic!("{} descriptors are left open", open());
    });
}
