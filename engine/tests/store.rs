//! A store through its public interface, on a real disk and in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::io::disk::{Disk, DiskOp};
use foreshard_engine::io::fault::{Fault, FaultDisk, Rule, When};
use foreshard_engine::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::key::{NODES_OWN, NODES_OWN_ROW, RoutingKey};
use foreshard_engine::shard::capacity::Capacities;
use foreshard_engine::{
    Client, Durability, Error, Options, PageLimit, SimulatedStore, Store, Transaction, WriteBatch, block_on,
};
use rustix::fs::OFlags;

const PAGE: PageLimit = PageLimit { rows: 100, bytes: 1 << 20 };

fn small() -> Options {
    let mut options = Options {
        partitions: 4,
        memory_bytes: 4 << 20,
        memtables_bytes: 1 << 20,
        memtable_bytes: 64 << 10,
        wal_file_bytes: 256 << 10,
        wal_cap_bytes: 2 << 20,
        reserve_bytes: 1 << 20,
        ..Options::default()
    };
    options.shape.base_bytes = 256 << 10;
    options.shape.segment_bytes = 64 << 10;
    options
}

fn entity(n: u32) -> Vec<u8> {
    format!("customer:{n}").into_bytes()
}

async fn fill(client: &Client, rows: u32) {
    for n in 0..rows {
        let value = format!("value {n}").repeat(20);
        client.put(&entity(n % 97), &n.to_be_bytes(), value.as_bytes()).await.unwrap();
    }
}

async fn check(client: &Client, rows: u32) {
    for n in 0..rows {
        let value = format!("value {n}").repeat(20);
        let got = client.get(&entity(n % 97), &n.to_be_bytes()).await.unwrap();
        assert_eq!(got.as_deref(), Some(value.as_bytes()), "row {n}");
    }
}

#[test]
fn rows_survive_reopening_with_other_numbers_of_shards() {
    let dir = tempfile::tempdir_in(".").unwrap();
    for (round, shards) in [1, 2, 1].into_iter().enumerate() {
        let store = Store::open(dir.path(), Options { shards, ..small() }).unwrap();
        let client = store.client().unwrap();
        block_on(async {
            if round == 0 {
                fill(&client, 3000).await;
            }
            check(&client, 3000).await;
            client.delete(&entity(5), &5_u32.to_be_bytes()).await.unwrap();
            assert_eq!(client.get(&entity(5), &5_u32.to_be_bytes()).await.unwrap(), None);
            client.put(&entity(5), &5_u32.to_be_bytes(), "value 5".repeat(20).as_bytes()).await.unwrap();
        });
        store.close().unwrap();
    }
}

#[test]
fn a_directory_is_open_once() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let error = Store::open(dir.path(), small()).unwrap_err();
    assert!(matches!(&error, Error::Misuse(what) if what.contains("another process")), "{error}");
    store.close().unwrap();
}

/// Flags of the open files in `dir` with that in their names, as the kernel tells them.
fn flags_of_open(dir: &Path, part: &str) -> Vec<OFlags> {
    let dir = dir.canonicalize().unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let link = entry.unwrap().path();
        let path = std::fs::read_link(&link).ok()?;
        let is_one = path.starts_with(&dir) && path.file_name()?.to_str()?.contains(part);
        let number = link.file_name()?.to_str()?.to_owned();
        let told = is_one.then(|| std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")))?.ok()?;
        let octal = told.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
        Some(OFlags::from_bits_retain(u32::from_str_radix(&octal, 8).unwrap()))
    });
    open.collect()
}

#[test]
fn the_log_goes_past_the_page_cache_where_its_batches_are_flushed_and_only_there() {
    let is_direct = |durability| {
        let dir = tempfile::tempdir_in(".").unwrap();
        let store = Store::open(dir.path(), Options { durability, ..small() }).unwrap();
        let client = store.client().unwrap();
        block_on(client.put(b"customer", b"row", b"value")).unwrap();
        let (logs, manifests) = (flags_of_open(dir.path(), ".wal"), flags_of_open(dir.path(), "manifest-"));
        store.close().unwrap();
        assert!(!logs.is_empty() && !manifests.is_empty(), "{durability:?}");
        let direct = |flags: &[OFlags]| flags.iter().all(|flags| flags.contains(OFlags::DIRECT));
        (direct(&logs), direct(&manifests))
    };
    let (log, manifest) = is_direct(Durability::Always);
    assert_eq!(log, manifest, "as all files, where the file system can");
    for durability in [Durability::Interval(Duration::from_millis(100)), Durability::None] {
        assert!(!is_direct(durability).0, "{durability:?}");
    }
}

fn simulated<T>(seed: u64, shards: usize, run: impl AsyncFnOnce(&SimulatedStore, &Client) -> T) -> T {
    let world = VirtualRuntime::new(seed);
    let runtimes: Vec<_> = (0..shards).map(|_| world.runtime()).collect();
    let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], seed, MemoryConfig::default()));
    let life = async {
        let store = SimulatedStore::open(&runtimes, disk, Path::new("/store"), small(), seed).await.unwrap();
        let client = store.client().unwrap();
        let result = run(&store, &client).await;
        drop(client);
        store.close().await.unwrap();
        result
    };
    let hang = async {
        // Nothing here takes more than seconds.
        runtimes[0].sleep(Duration::from_secs(3600)).await;
        panic!("an hour of virtual time, and the test is not over");
    };
    world.block_on(futures_lite::future::or(life, hang))
}

#[test]
fn rows_are_found_while_they_are_flushed_and_compacted() {
    simulated(1, 2, async |store, client| {
        fill(client, 12_000).await;
        check(client, 12_000).await;
        let segments: usize = (0..2).map(|n| store.shard(n).unwrap().stats().segments).sum();
        assert!(segments > 0, "this must have been flushed");
        let compacted: u64 = (0..2).map(|n| store.shard(n).unwrap().stats().compaction_written_bytes).sum();
        assert!(compacted > 0, "and compacted");
    });
}

#[test]
fn what_fits_into_memory_is_read_from_the_device_once() {
    simulated(11, 1, async |store, client| {
        // More than half of what the caches have, and less than all of it.
        const ROWS: u32 = 9_000;
        fill(client, ROWS).await;
        let shard = store.shard(0).unwrap();
        shard.flush().await.unwrap();
        shard.settled().await.unwrap();
        check(client, ROWS).await;
        let caches = || (shard.stats().cache, shard.stats().rows);
        let (before, _) = caches();
        check(client, ROWS).await;
        let (after, rows) = caches();
        assert!(2 * after.bytes > after.bytes_max + rows.bytes_max, "{after:?} {rows:?}: too little to tell");
        assert_eq!(after.misses, before.misses, "{after:?} {rows:?}");
    });
}

#[test]
fn segments_are_synced_in_parts_where_the_log_is_not() {
    let syncs = |durability| {
        let world = VirtualRuntime::new(12);
        let runtime = world.runtime();
        let faults =
            FaultDisk::new(Rc::new(MemoryDisk::new(&runtime, 12, MemoryConfig::default())), &runtime, 12);
        faults.add(Rule {
            ops: vec![DiskOp::Sync],
            path_contains: ".seg".to_owned(),
            when: When::From(1),
            fault: Fault::Slow(Duration::from_micros(1)),
        });
        world.block_on(async {
            let options = Options {
                memory_bytes: 128 << 20,
                memtables_bytes: 80 << 20,
                memtable_bytes: 40 << 20,
                wal_file_bytes: 8 << 20,
                wal_cap_bytes: 128 << 20,
                durability,
                partitions: 1,
                compression: false,
                ..small()
            };
            let disk: Rc<dyn Disk> = Rc::new(faults.clone());
            let store = SimulatedStore::open(&[runtime], disk, Path::new("/s"), options, 12).await.unwrap();
            let client = store.client().unwrap();
            for n in 0..300_u32 {
                client.put(b"a", &n.to_be_bytes(), &vec![7; 60_000]).await.unwrap();
            }
            store.shard(0).unwrap().flush().await.unwrap();
            drop(client);
            store.close().await.unwrap();
        });
        faults.struck()
    };
    // 18 MB in one segment: after each 8 MiB, and in the end.
    assert_eq!((syncs(Durability::Interval(Duration::from_millis(100))), syncs(Durability::None)), (1, 3));
}

#[test]
fn an_entity_is_scanned_in_row_order_page_by_page() {
    simulated(2, 2, async |_, client| {
        fill(client, 3000).await;
        let expected: Vec<u32> = (0..3000).filter(|n| n % 97 == 11).collect();
        let mut rows = Vec::new();
        let mut from = Vec::new();
        loop {
            let limit = PageLimit { rows: 7, ..PAGE };
            let page = client.scan(&entity(11), &from, limit).await.unwrap();
            assert!(page.rows.len() <= 7);
            rows.extend(page.rows.iter().map(|r| {
                let (_, row) = foreshard_engine::key::decode(&r.key).unwrap();
                u32::from_be_bytes(row.try_into().unwrap())
            }));
            let Some(resume) = page.resume else { break };
            from = foreshard_engine::key::decode(&resume).unwrap().1.to_vec();
        }
        assert_eq!(rows, expected);
    });
}

#[test]
fn a_batch_over_partitions_is_all_or_nothing_for_readers() {
    simulated(3, 3, async |store, client| {
        let names: Vec<Vec<u8>> = (0..8).map(entity).collect();
        let write = async |round: u32| {
            let mut batch = WriteBatch::new();
            for name in &names {
                batch.put(name, b"row", &round.to_be_bytes()).unwrap();
            }
            client.write(batch).await.unwrap();
        };
        write(0).await;
        let reader = store.client().unwrap();
        let writes = async {
            for round in 1..50 {
                write(round).await;
            }
        };
        let reads = async {
            for _ in 0..50 {
                let snapshot = reader.snapshot().await.unwrap();
                let mut seen = Vec::new();
                for name in &names {
                    seen.push(reader.get_at(&snapshot, name, b"row").await.unwrap().unwrap());
                }
                assert!(seen.iter().all(|s| s == &seen[0]), "{seen:?}");
            }
        };
        futures_lite::future::zip(writes, reads).await;
    });
}

#[test]
fn a_scan_that_waits_for_a_transaction_shows_it() {
    simulated(9, 3, async |_, client| {
        // Partitions whose versions are far apart: a transaction commits above all that the lower ones gave out.
        for round in 0..20_u32 {
            for n in 0..round {
                client.put(&entity(n), b"other", b"1").await.unwrap();
            }
            let mut batch = WriteBatch::new();
            (0..8).for_each(|n| batch.put(&entity(n), b"row", &round.to_be_bytes()).unwrap());
            client.write(batch).await.unwrap();
            // It stands, and its partitions are told of it while they are scanned.
            for n in (0..8).rev() {
                let page = client.scan(&entity(n), b"row", PAGE).await.unwrap();
                let value = page.rows.first().map(|row| row.value.clone());
                assert_eq!(value, Some(round.to_be_bytes().to_vec()), "entity {n}, round {round}");
            }
        }
    });
}

#[test]
fn room_promised_to_transactions_is_given_back_whether_they_commit_or_not() {
    simulated(10, 2, async |_, client| {
        // What all of them together are promised is many times the log.
        let value = vec![7; 8 << 10];
        for round in 0..300_u32 {
            let mut transaction = Transaction::new();
            client.get_in(&mut transaction, &entity(7), b"row").await.unwrap();
            for n in 0..8 {
                transaction.put(&entity(n), b"row", &value).unwrap();
            }
            let conflicts = round % 2 == 1;
            if conflicts {
                client.put(&entity(7), b"row", &round.to_be_bytes()).await.unwrap();
            }
            let result = client.commit(transaction).await;
            assert_eq!(matches!(result, Err(Error::Conflict)), conflicts, "{result:?}");
        }
    });
}

#[test]
fn a_new_store_survives_a_crash_with_its_directory() {
    let world = VirtualRuntime::new(11);
    let runtimes = [world.runtime()];
    let disk = MemoryDisk::new(&runtimes[0], 11, MemoryConfig::default());
    world.block_on(async {
        let shared: Rc<dyn Disk> = Rc::new(disk.clone());
        let dir = Path::new("/store");
        let store = SimulatedStore::open(&runtimes, shared, dir, small(), 11).await.unwrap();
        store.client().unwrap().put(b"entity", b"row", b"kept").await.unwrap();
        // Nothing but what was flushed, names included.
        let left: Rc<dyn Disk> = Rc::new(disk.crash(&runtimes[0], 11, CrashMode::Lose));
        let store = SimulatedStore::open(&runtimes, left, dir, small(), 11).await.unwrap();
        let got = store.client().unwrap().get(b"entity", b"row").await.unwrap();
        assert_eq!(got.as_deref(), Some(&b"kept"[..]));
    });
}

#[test]
fn an_opening_that_is_cut_short_anywhere_leaves_nothing_behind_in_the_end() {
    let dir = Path::new("/store");
    let world = VirtualRuntime::new(12);
    let runtime = world.runtime();
    let disk = MemoryDisk::new(&runtime, 12, MemoryConfig::default());
    // A store that was cut short leaves its hosts behind: each has runtimes of its own.
    let open = async |disk: &MemoryDisk, shards: usize| {
        let runtimes: Vec<_> = (0..shards).map(|_| world.runtime()).collect();
        SimulatedStore::open(&runtimes, Rc::new(disk.clone()), dir, small(), 12).await.unwrap()
    };
    world.block_on(async {
        let store = open(&disk, 2).await;
        fill(&store.client().unwrap(), 200).await;
        drop(store);
        let left = disk.crash(&runtime, 12, CrashMode::Lose);
        for boundary in 0.. {
            let disk = left.crash(&runtime, boundary, CrashMode::Lose);
            disk.crash_after(disk.boundaries() + boundary);
            futures_lite::future::or(async { drop(open(&disk, 2).await) }, disk.stopped()).await;
            let is_last = !disk.is_stopped();
            let disk = disk.crash(&runtime, boundary, CrashMode::Lose);
            let store = open(&disk, 1).await;
            if boundary % 16 == 0 {
                check(&store.client().unwrap(), 200).await;
            }
            let incarnations = disk.list(&dir.join("wal")).await.unwrap();
            assert_eq!(incarnations.len(), 1, "boundary {boundary}: {incarnations:?}");
            let logs = disk.list(&dir.join("wal").join(&incarnations[0])).await.unwrap();
            assert_eq!(logs, ["0"], "boundary {boundary}");
            if is_last {
                assert!(boundary > 100, "an opening changes the disk more often than {boundary} times");
                return;
            }
        }
    });
}

#[test]
fn restarts_do_not_add_log_files_over_and_over() {
    let dir = Path::new("/store");
    let world = VirtualRuntime::new(13);
    let runtimes = [world.runtime()];
    let disk = MemoryDisk::new(&runtimes[0], 13, MemoryConfig::default());
    let shared: Rc<dyn Disk> = Rc::new(disk.clone());
    let log_files = || disk.files().iter().filter(|file| file.starts_with("/store/wal")).count();
    world.block_on(async {
        let mut counts = Vec::new();
        for round in 0..6 {
            let store = SimulatedStore::open(&runtimes, Rc::clone(&shared), dir, small(), 13).await.unwrap();
            if round == 0 {
                fill(&store.client().unwrap(), 3000).await;
            }
            // The log makes its files ahead of need.
            runtimes[0].sleep(Duration::from_secs(1)).await;
            counts.push(log_files());
            store.close().await.unwrap();
        }
        assert!(counts[0] > 3, "{counts:?}");
        // One may be made while the old ones are taken over.
        assert!(counts[1] <= counts[0] + 1, "{counts:?}");
        assert!(counts[1..].iter().all(|count| *count == counts[1]), "{counts:?}");
    });
}

#[test]
fn of_two_transactions_over_the_same_rows_one_conflicts() {
    simulated(4, 2, async |_, client| {
        client.put(b"a", b"balance", b"10").await.unwrap();
        client.put(b"b", b"balance", b"0").await.unwrap();
        let mut first = Transaction::new();
        let mut second = Transaction::new();
        for transaction in [&mut first, &mut second] {
            assert_eq!(
                client.get_in(transaction, b"a", b"balance").await.unwrap().as_deref(),
                Some(&b"10"[..])
            );
            transaction.put(b"a", b"balance", b"0").unwrap();
            transaction.put(b"b", b"balance", b"10").unwrap();
        }
        client.commit(first).await.unwrap();
        assert!(matches!(client.commit(second).await, Err(Error::Conflict)));
        assert_eq!(client.get(b"b", b"balance").await.unwrap().as_deref(), Some(&b"10"[..]));
    });
}

#[test]
fn an_entity_is_deleted_with_all_its_rows_and_can_be_filled_again() {
    simulated(5, 2, async |_, client| {
        fill(client, 2000).await;
        let mut batch = WriteBatch::new();
        batch.delete_entity(&entity(3)).unwrap();
        batch.put(&entity(3), b"again", b"1").unwrap();
        client.write(batch).await.unwrap();
        client.flush().await.unwrap();
        let page = client.scan(&entity(3), b"", PAGE).await.unwrap();
        assert_eq!(page.rows.len(), 1);
        assert_eq!(client.scan(&entity(4), b"", PAGE).await.unwrap().rows.len(), 21);
    });
}

#[test]
fn a_batch_too_long_for_a_turn_is_applied_whole() {
    simulated(6, 2, async |_, client| {
        let mut batch = WriteBatch::new();
        for n in 0..400_u32 {
            batch.put(b"one", &n.to_be_bytes(), &[7; 100]).unwrap();
            batch.put(b"two", &n.to_be_bytes(), &[7; 100]).unwrap();
        }
        client.write(batch).await.unwrap();
        let limit = PageLimit { rows: 1000, bytes: 1 << 20 };
        assert_eq!(client.scan(b"one", b"", limit).await.unwrap().rows.len(), 400);
        assert_eq!(client.scan(b"two", b"", limit).await.unwrap().rows.len(), 400);
    });
}

#[test]
fn a_row_that_was_read_is_read_as_a_long_batch_left_it() {
    simulated(6, 1, async |_, client| {
        for round in 0..3_u8 {
            let mut batch = WriteBatch::new();
            (0..400_u32).for_each(|n| batch.put(b"one", &n.to_be_bytes(), &[round; 100]).unwrap());
            client.write(batch).await.unwrap();
            for n in 0..400_u32 {
                let got = client.get(b"one", &n.to_be_bytes()).await.unwrap();
                assert_eq!(got, Some(vec![round; 100]), "row {n} in round {round}");
            }
        }
    });
}

#[test]
fn a_row_written_while_an_older_version_is_read_from_disk_stays_written() {
    for pause in 0..12 {
        simulated(pause, 1, async |store, client| {
            let shard = store.shard(0).unwrap();
            // A block each: whoever reads one first waits for the disk.
            let (old, new) = (vec![1; 4000], vec![2; 4000]);
            for n in 0..60_u8 {
                client.put(b"one", &[n], &old).await.unwrap();
            }
            client.flush().await.unwrap();
            for n in 0..60_u8 {
                let reader = Rc::clone(&shard);
                let read = shard.runtime().spawn(async move { reader.get(b"one", &[n]).await });
                for _ in 0..pause {
                    futures_lite::future::yield_now().await;
                }
                client.put(b"one", &[n], &new).await.unwrap();
                if n.is_multiple_of(2) {
                    client.flush().await.unwrap();
                }
                let read = read.await.unwrap();
                assert!(read.as_ref() == Some(&old) || read.as_ref() == Some(&new), "row {n}");
                assert_eq!(client.get(b"one", &[n]).await.unwrap().as_ref(), Some(&new), "row {n}");
            }
        });
    }
}

#[test]
fn a_caller_that_goes_away_in_the_middle_of_a_transaction_leaves_no_locks() {
    simulated(7, 2, async |store, client| {
        let batch = |round: u8| {
            let mut batch = WriteBatch::new();
            (0..8).for_each(|n| batch.put(&entity(n), b"row", &[round]).unwrap());
            batch
        };
        for polls in 0..40 {
            let shard = store.shard(0).unwrap();
            let mut abandoned = Box::pin(async move { shard.write(batch(1)).await });
            for _ in 0..polls {
                let _unfinished = futures_lite::future::poll_once(&mut abandoned).await;
                futures_lite::future::yield_now().await;
            }
            drop(abandoned);
            client.write(batch(2)).await.unwrap();
            assert_eq!(client.get(&entity(3), b"row").await.unwrap(), Some(vec![2]));
        }
    });
}

#[test]
fn requests_that_wait_for_a_transactions_locks_do_not_hold_up_its_steps() {
    // More than a link to another shard takes.
    const REQUESTS: usize = 1500;
    simulated(12, 2, async |store, client| {
        let shard = store.shard(0).unwrap();
        let home = |n: u32| {
            let mut prefix = Vec::new();
            foreshard_engine::key::encode_entity(&entity(n), &mut prefix).unwrap();
            store.map().home_of(&prefix).shard.0
        };
        let [here, there] = [0, 1].map(|shard| (0..100).find(|n| home(*n) == shard).map(entity).unwrap());
        let transactions = async {
            for round in 0..20_u8 {
                let mut batch = WriteBatch::new();
                batch.put(&here, b"row", &[round]).unwrap();
                batch.put(&there, b"row", &[round]).unwrap();
                shard.write(batch).await.unwrap();
            }
        };
        let requests = (0..REQUESTS).map(|_| {
            let (shard, there) = (store.shard(0).unwrap(), there.clone());
            shard.runtime().clone().spawn(async move {
                for n in 0..4_u8 {
                    shard.put(&there, b"row", &[n]).await.unwrap();
                }
            })
        });
        let requests: Vec<_> = requests.collect();
        transactions.await;
        for request in requests {
            request.await;
        }
        assert!(client.get(&there, b"row").await.unwrap().is_some());
    });
}

#[test]
fn counters_are_exact_for_partitions_and_name_entities_written_together() {
    simulated(8, 2, async |_, client| {
        client.ticks().await.unwrap();
        fill(client, 500).await;
        check(client, 200).await;
        let mut batch = WriteBatch::new();
        batch.put(&entity(1), b"x", b"1").unwrap();
        batch.put(&entity(2), b"x", b"1").unwrap();
        for _ in 0..30 {
            client.write(batch.clone()).await.unwrap();
        }
        // Rows of a transaction are counted when it is resolved, which its caller does not wait for.
        client.get(&entity(1), b"x").await.unwrap();
        client.get(&entity(2), b"x").await.unwrap();
        let ticks = client.ticks().await.unwrap();
        let partitions = || ticks.iter().flat_map(|t| &t.partitions).map(|(_, load)| load);
        assert_eq!(partitions().map(|p| p.load.writes).sum::<u64>(), 500 + 60);
        assert_eq!(partitions().map(|p| p.load.reads).sum::<u64>(), 200 + 2);
        let together: u64 = ticks.iter().flat_map(|t| t.pairs()).map(|pair| pair.count.upper).sum();
        assert_eq!(together, 30);
    });
}

#[test]
fn what_a_node_keeps_of_itself_takes_nothing_of_what_a_partition_may_do() {
    simulated(9, 1, async |store, client| {
        let shard = store.shard(0).unwrap();
        shard.set_capacities(Capacities { partition: 100.0, ..Capacities::default() }).unwrap();
        let home = shard.image().home_by_range(RoutingKey::of(NODES_OWN));
        let waits = async || shard.due(&[home]).await.unwrap().is_some();
        let large = vec![7; 100_000];
        for n in 0..10 {
            client.put(NODES_OWN, &[NODES_OWN_ROW, n], &large).await.unwrap();
            client.scan(NODES_OWN, &[NODES_OWN_ROW], PAGE).await.unwrap();
        }
        assert!(!waits().await, "nobody waits behind the node itself");
        assert_eq!(shard.capacity_totals().spent_on_rows, 0);
        // Who has the same name is a client all the same.
        client.put(NODES_OWN, b"x", &large).await.unwrap();
        assert!(waits().await);
    });
}

#[test]
fn whoever_waits_for_a_partition_goes_when_its_limit_is_lifted() {
    simulated(10, 1, async |store, client| {
        let shard = store.shard(0).unwrap();
        shard.set_capacities(Capacities { partition: 1.0, ..Capacities::default() }).unwrap();
        client.put(b"a", b"x", &vec![7; 100_000]).await.unwrap();
        let due = shard.due(&[shard.image().home_by_range(RoutingKey::of(b"a"))]).await.unwrap().unwrap();
        let now = || shard.runtime().now();
        assert!(due.since(now()) > Duration::from_secs(60));
        let lifted = async {
            shard.runtime().sleep(Duration::from_secs(5)).await;
            assert_eq!(shard.capacity_totals().paced, 0, "it waits");
            shard.set_capacities(Capacities::default()).unwrap();
        };
        let begun = now();
        futures_lite::future::zip(shard.pace(due), lifted).await;
        assert!(now().since(begun) < Duration::from_secs(6) && shard.capacity_totals().paced == 1);
    });
}

#[test]
fn a_store_that_stopped_on_a_full_device_opens_on_it_and_its_reserves_follow_its_shards() {
    for seed in 9..17 {
        let world = VirtualRuntime::new(seed);
        let runtimes: Vec<_> = (0..2).map(|_| world.runtime()).collect();
        let config = MemoryConfig { capacity_bytes: 15 << 20, ..MemoryConfig::default() };
        let memory = MemoryDisk::new(&runtimes[0], seed, config);
        let disk: Rc<dyn Disk> = Rc::new(memory.clone());
        let dir = Path::new("/store");
        let value = |n: u32| [n.to_le_bytes(); 64].concat();
        world.block_on(async {
            let store = SimulatedStore::open(&runtimes, Rc::clone(&disk), dir, small(), seed).await.unwrap();
            let client = store.client().unwrap();
            let mut written = 0;
            while written < 100_000 {
                match client.put(&entity(written), b"row", &value(written)).await {
                    Ok(()) => written += 1,
                    Err(Error::Full(_)) => break,
                    Err(e) => panic!("after {written} rows: {e}"),
                }
            }
            assert!((1000..100_000).contains(&written), "{written} rows fill the device");
            drop(client);
            drop(store);
            let opened = SimulatedStore::open(&runtimes[..1], disk, dir, small(), seed).await;
            let store = opened.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let client = store.client().unwrap();
            for n in 0..written {
                assert_eq!(
                    client.get(&entity(n), b"row").await.unwrap(),
                    Some(value(n)),
                    "seed {seed}, row {n}"
                );
            }
            assert!(!memory.files().iter().any(|path| path.ends_with("reserve-1")), "seed {seed}");
            drop(client);
            store.close().await.unwrap();
        });
    }
}
