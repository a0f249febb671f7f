//! Backups in virtual time: what is in them while others write, and what a crash or a full device leaves.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foreshard_engine::backup::restore::Restore;
use foreshard_engine::backup::{Directory, Progress, Request, Summary};
use foreshard_engine::ids::{MoveId, PartitionId};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::superblock::StoreId;
use foreshard_engine::table::{BeginMove, Change};
use foreshard_engine::{Client, Error, Options, SimulatedStore, WriteBatch};

const STORE: &str = "/store";
const BACKUPS: &str = "/backups";
const ACCOUNTS: u32 = 16;
const OPENING: u64 = 1000;

/// So small that a few hundred transfers flush and compact.
fn tiny() -> Options {
    Options { partitions: 5, ..common::life::tiny() }
}

/// Shards of one virtual time, and their disk.
struct World {
    seed: u64,
    time: VirtualRuntime,
    /// Of no store.
    runtime: Runtime,
    disk: MemoryDisk,
}

impl World {
    fn new(seed: u64) -> Self {
        let time = VirtualRuntime::new(seed);
        let runtime = time.runtime();
        let config = MemoryConfig { latency_nanos: 5_000..200_000, ..MemoryConfig::default() };
        let disk = MemoryDisk::new(&runtime, seed, config);
        Self { seed, time, runtime, disk }
    }

    fn shared(&self) -> Rc<dyn Disk> {
        Rc::new(self.disk.clone())
    }

    async fn open(&self, dir: &str, shards: usize) -> SimulatedStore {
        // Each open store has threads of its own, and each new one a name.
        let seed = self.seed ^ foreshard_engine::hash::stable(dir.as_bytes());
        let runtimes: Vec<Runtime> = (0..shards).map(|_| self.time.runtime()).collect();
        SimulatedStore::open(&runtimes, self.shared(), Path::new(dir), tiny(), seed).await.unwrap()
    }

    fn run<T>(&self, body: impl Future<Output = T>) -> T {
        let hang = async {
            self.runtime.sleep(Duration::from_secs(3600)).await;
            panic!("seed {}: an hour of virtual time, and the test is not over", self.seed);
        };
        self.time.block_on(futures_lite::future::or(body, hang))
    }

    async fn restore(&self, number: Option<u64>, to: &str) -> Result<SimulatedStore, Error> {
        let disk = self.shared();
        disk.create_dir(Path::new(to)).await?;
        let name = StoreId([u8::try_from(self.seed % 251).unwrap(); 16]);
        let (from, to_path) = (PathBuf::from(BACKUPS), PathBuf::from(to));
        let restore = Restore { from, number, to: to_path, name, limit: 0 };
        restore.run(&disk, &self.runtime, &Progress::default()).await?;
        // Another number of shards than it was taken with.
        Ok(self.open(to, 2).await)
    }
}

fn request() -> Request {
    Request { to: PathBuf::from(BACKUPS), ..Request::default() }
}

async fn back_up(client: &Client, disk: &Rc<dyn Disk>) -> Result<Summary, Error> {
    disk.create_dir(Path::new(BACKUPS)).await?;
    // As `backup::lock` does on a real disk.
    disk.sync_dir(Path::new("/")).await?;
    client.back_up(request(), Arc::default()).await
}

fn account(n: u32) -> Vec<u8> {
    format!("account:{n}").into_bytes()
}

async fn number(client: &Client, entity: &[u8]) -> u64 {
    let value = client.get(entity, b"row").await.unwrap();
    value.map_or(0, |value| u64::from_le_bytes(value[..8].try_into().unwrap()))
}

/// A number, and enough behind it to fill memtables.
fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(100, 7);
    value
}

async fn fund(client: &Client) {
    for n in 0..ACCOUNTS {
        client.put(&account(n), b"row", &value(OPENING)).await.unwrap();
    }
}

/// Moves money about until told to stop. Accounts of one mover are its own, but lie in all partitions.
async fn transfer(client: Client, mover: u32, movers: u32, mut random: fastrand::Rng, stop: Rc<Cell<bool>>) {
    let mine: Vec<u32> = (0..ACCOUNTS).filter(|n| n % movers == mover).collect();
    let mut balances = vec![OPENING; mine.len()];
    while !stop.get() {
        let (from, to) = (random.usize(..mine.len()), random.usize(..mine.len()));
        if from == to || balances[from] == 0 {
            continue;
        }
        let amount = random.u64(1..=balances[from]);
        balances[from] -= amount;
        balances[to] += amount;
        let mut batch = WriteBatch::new();
        for n in [from, to] {
            batch.put(&account(mine[n]), b"row", &value(balances[n])).unwrap();
        }
        client.write(batch).await.unwrap();
    }
}

async fn total(client: &Client) -> u64 {
    let mut total = 0;
    for n in 0..ACCOUNTS {
        total += number(client, &account(n)).await;
    }
    total
}

/// Writes 1, 2, .. to one entity after the other, each after the one before was acknowledged.
async fn count_up(client: Client, counted: Rc<Cell<u64>>, stop: Rc<Cell<bool>>) {
    for n in 1.. {
        if stop.get() {
            return;
        }
        client.put(&counter(n), b"row", &value(n)).await.unwrap();
        counted.set(n);
    }
}

const COUNTERS: u64 = 7;

fn counter(n: u64) -> Vec<u8> {
    format!("counter:{}", n % COUNTERS).into_bytes()
}

/// The last write that is there; every earlier one is.
async fn counted_to(client: &Client, seed: u64) -> u64 {
    let mut found = Vec::new();
    for n in 0..COUNTERS {
        found.push(number(client, &counter(n)).await);
    }
    let last = *found.iter().max().unwrap();
    for n in last.saturating_sub(COUNTERS - 1).max(1)..=last {
        assert!(found.contains(&n), "seed {seed}: write {last} without the earlier {n}: {found:?}");
    }
    last
}

#[test]
fn every_backup_taken_under_load_is_one_moment_with_whole_transactions() {
    for seed in 0..30 {
        let world = World::new(seed);
        world.run(async {
            let store = world.open(STORE, 3).await;
            let client = store.client().unwrap();
            fund(&client).await;
            let (stop, counted) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
            let mut random = fastrand::Rng::with_seed(seed);
            let mut tasks = Vec::new();
            for mover in 0..4 {
                let work = transfer(store.client().unwrap(), mover, 4, random.fork(), Rc::clone(&stop));
                tasks.push(world.runtime.spawn(work));
            }
            let counting = count_up(store.client().unwrap(), Rc::clone(&counted), Rc::clone(&stop));
            tasks.push(world.runtime.spawn(counting));
            let mut before = Vec::new();
            for _ in 0..4 {
                world.runtime.sleep(Duration::from_millis(random.u64(0..40))).await;
                let acknowledged = counted.get();
                let summary = back_up(&client, &world.shared()).await.unwrap();
                assert_eq!(summary.untidy, None);
                before.push((summary.number, acknowledged));
            }
            stop.set(true);
            for task in tasks {
                task.await;
            }
            drop(client);
            store.close().await.unwrap();
            for (backup, acknowledged) in before {
                let restored = world.restore(Some(backup), &format!("/restored-{backup}")).await.unwrap();
                let client = restored.client().unwrap();
                assert_eq!(
                    total(&client).await,
                    u64::from(ACCOUNTS) * OPENING,
                    "seed {seed} backup {backup}"
                );
                let last = counted_to(&client, seed).await;
                assert!(last >= acknowledged, "seed {seed} backup {backup}: {last} < {acknowledged}");
                client.put(b"written", b"after", b"the restore").await.unwrap();
                drop(client);
                restored.close().await.unwrap();
            }
        });
    }
}

#[test]
fn a_second_backup_copies_what_changed_and_nothing_else() {
    let world = World::new(1);
    world.run(async {
        let store = world.open(STORE, 2).await;
        let client = store.client().unwrap();
        for n in 0..2000_u32 {
            client.put(&account(n), b"row", &value(u64::from(n))).await.unwrap();
        }
        for n in 0..2 {
            store.shard(n).unwrap().settled().await.unwrap();
        }
        let first = back_up(&client, &world.shared()).await.unwrap();
        assert_eq!((first.number, first.segments), (1, first.segments_new));
        assert_eq!(first.bytes, first.bytes_copied);
        for n in 0..2 {
            store.shard(n).unwrap().settled().await.unwrap();
        }
        let settled = back_up(&client, &world.shared()).await.unwrap();
        let same = back_up(&client, &world.shared()).await.unwrap();
        assert_eq!((same.number, same.segments_new, same.bytes_copied), (3, 0, 0));
        assert_eq!(same.bytes, settled.bytes);
        client.put(&account(1), b"row", &value(5)).await.unwrap();
        let changed = back_up(&client, &world.shared()).await.unwrap();
        assert_eq!(changed.segments_new, 1, "one row's partition has one new segment");
        assert!(changed.bytes_copied < same.bytes / 10, "{changed:?}");
        drop(client);
        store.close().await.unwrap();
        for (backup, row) in [(3, 1), (4, 5)] {
            let restored = world.restore(Some(backup), &format!("/restored-{backup}")).await.unwrap();
            let client = restored.client().unwrap();
            assert_eq!(number(&client, &account(1)).await, row);
            assert_eq!(number(&client, &account(1999)).await, 1999);
            restored.close().await.unwrap();
        }
    });
}

#[test]
fn pruned_backups_are_gone_and_the_others_whole() {
    let world = World::new(2);
    world.run(async {
        let store = world.open(STORE, 2).await;
        let client = store.client().unwrap();
        world.shared().create_dir(Path::new(BACKUPS)).await.unwrap();
        for round in 1..=6_u64 {
            for n in 0..300_u32 {
                client.put(&account(n), b"row", &value(round)).await.unwrap();
            }
            let keep = Some(2);
            let summary = client.back_up(Request { keep, ..request() }, Arc::default()).await.unwrap();
            assert_eq!(summary.removed, if round > 2 { vec![round - 2] } else { vec![] });
        }
        let directory = Directory::new(&world.shared(), Path::new(BACKUPS));
        assert_eq!(directory.numbers().await.unwrap(), [5, 6]);
        let mut needed = std::collections::BTreeSet::new();
        for backup in [5, 6] {
            for partition in directory.read(Some(backup)).await.unwrap().partitions {
                let metas = partition.state.segments.values();
                needed.extend(metas.map(|meta| directory.segment_path(partition.id, meta)));
            }
        }
        let is_segment = |path: &PathBuf| path.starts_with("/backups/segments");
        let there: std::collections::BTreeSet<PathBuf> =
            world.disk.files().into_iter().filter(is_segment).collect();
        assert_eq!(there, needed, "no segment is missing or left over");
        for backup in [5, 6] {
            let restored = world.restore(Some(backup), &format!("/restored-{backup}")).await.unwrap();
            assert_eq!(number(&restored.client().unwrap(), &account(7)).await, backup);
            restored.close().await.unwrap();
        }
        let gone = world.restore(Some(1), "/restored-1").await.unwrap_err();
        assert!(gone.to_string().contains("no backup 1 is here; there are [5, 6]"), "{gone}");
        store.close().await.unwrap();
    });
}

#[test]
fn a_restored_table_has_its_guests_and_no_open_move() {
    let world = World::new(3);
    world.run(async {
        let store = world.open(STORE, 2).await;
        let table = store.table().unwrap();
        let begin = async |entity: Vec<u8>| {
            let image = table.image();
            let state = image.state();
            let (from, entry) = (state.owner(&entity), state.entry_of(&entity));
            let to = PartitionId((from.0 + 1) % 5);
            let epoch = |id| state.partitions[&id].placed.epoch;
            let (from_epoch, to_epoch) = (epoch(from), epoch(to));
            let begin = BeginMove { entity, entry, from, to, from_epoch, to_epoch };
            (MoveId(table.change(begin.into()).await.unwrap().unwrap().0), to)
        };
        let (id, to) = begin(account(1)).await;
        table.change(Change::CommitMove { id }).await.unwrap().unwrap();
        begin(account(2)).await;
        // Every shard has learnt of it.
        world.runtime.sleep(Duration::from_secs(1)).await;
        let client = store.client().unwrap();
        fund(&client).await;
        back_up(&client, &world.shared()).await.unwrap();
        let restored = world.restore(None, "/restored").await.unwrap();
        let state = restored.map().state();
        assert_eq!((state.owner(&account(1)), state.guests.len(), state.moves.len()), (to, 1, 0));
        assert_eq!(state.partitions, table.image().state().partitions);
        for n in 0..ACCOUNTS {
            assert_eq!(number(&restored.client().unwrap(), &account(n)).await, OPENING, "account {n}");
        }
        restored.close().await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn a_crash_during_a_backup_leaves_the_earlier_one_and_is_gone_on_from() {
    let life = |crash_after: Option<u64>| {
        let world = World::new(3);
        let backed_up = world.run(async {
            let store = world.open(STORE, 2).await;
            let client = store.client().unwrap();
            for n in 0..300_u32 {
                client.put(&account(n), b"row", &value(1)).await.unwrap();
            }
            back_up(&client, &world.shared()).await.unwrap();
            for n in 0..300_u32 {
                client.put(&account(n), b"row", &value(2)).await.unwrap();
            }
            let begun = world.disk.boundaries();
            if let Some(after) = crash_after {
                world.disk.crash_after(after);
            }
            let second = async { Some(back_up(&client, &world.shared()).await.unwrap()) };
            let stopped = async {
                world.disk.stopped().await;
                None
            };
            let done = futures_lite::future::or(second, stopped).await;
            (begun, world.disk.boundaries(), done.is_some())
        });
        (world, backed_up)
    };
    let (_, (begun, ended, _)) = life(None);
    assert!(ended - begun > 30, "a backup is more than {} steps", ended - begun);
    // All of them take a minute; these are enough to meet each step of a backup.
    for boundary in (begun + 1..ended).step_by(usize::try_from((ended - begun) / 80).unwrap().max(1)) {
        let (crashed, (_, _, is_done)) = life(Some(boundary));
        let modes = [CrashMode::Lose, CrashMode::Keep, CrashMode::Scramble];
        let mode = modes[usize::try_from(boundary % 3).unwrap()];
        let world = World::new(boundary);
        let disk = crashed.disk.crash(&world.runtime, boundary, mode);
        let world = World { disk, ..world };
        world.run(async {
            let directory = Directory::new(&world.shared(), Path::new(BACKUPS));
            let numbers = directory.numbers().await.unwrap();
            assert!(numbers == [1, 2] || numbers == [1] && !is_done, "boundary {boundary}: {numbers:?}");
            for backup in numbers {
                let restored = world.restore(Some(backup), &format!("/restored-{backup}")).await.unwrap();
                assert_eq!(
                    number(&restored.client().unwrap(), &account(9)).await,
                    backup,
                    "boundary {boundary}"
                );
                restored.close().await.unwrap();
            }
            let store = world.open(STORE, 2).await;
            let client = store.client().unwrap();
            let next = back_up(&client, &world.shared()).await.unwrap();
            let restored = world.restore(Some(next.number), "/restored-next").await.unwrap();
            assert_eq!(number(&restored.client().unwrap(), &account(9)).await, 2, "boundary {boundary}");
            restored.close().await.unwrap();
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_restore_that_a_crash_ends_is_no_store_and_one_that_ended_is() {
    let taken = |seed| {
        let world = World::new(seed);
        world.run(async {
            let store = world.open(STORE, 2).await;
            let client = store.client().unwrap();
            for n in 0..100_u32 {
                client.put(&account(n), b"row", &value(1)).await.unwrap();
            }
            back_up(&client, &world.shared()).await.unwrap();
            store.close().await.unwrap();
        });
        world
    };
    let restored = |world: &World, crash_after: Option<u64>| {
        world.run(async {
            let begun = world.disk.boundaries();
            if let Some(after) = crash_after {
                world.disk.crash_after(begun + after);
            }
            let disk = world.shared();
            let restore = async {
                disk.create_dir(Path::new("/new")).await.unwrap();
                let (from, to) = (PathBuf::from(BACKUPS), PathBuf::from("/new"));
                let restore = Restore { from, number: None, to, name: StoreId([1; 16]), limit: 0 };
                restore.run(&disk, &world.runtime, &Progress::default()).await.unwrap();
                true
            };
            let stopped = async {
                world.disk.stopped().await;
                false
            };
            let is_done = futures_lite::future::or(restore, stopped).await;
            (world.disk.boundaries() - begun, is_done)
        })
    };
    let (steps, _) = restored(&taken(5), None);
    for after in 1..steps {
        let world = taken(5);
        let (_, is_done) = restored(&world, Some(after));
        let next = World::new(after);
        let disk = world.disk.crash(&next.runtime, after, CrashMode::Scramble);
        let next = World { disk, ..next };
        next.run(async {
            let shared = next.shared();
            let opened = SimulatedStore::open(
                std::slice::from_ref(&next.runtime),
                Rc::clone(&shared),
                Path::new("/new"),
                tiny(),
                1,
            )
            .await;
            match opened {
                Ok(store) => {
                    // The whole store, or nothing of one: the directory or its first file was lost.
                    let found = number(&store.client().unwrap(), &account(99)).await;
                    let is_fresh = found == 0 && !is_done;
                    assert!(found == 1 || is_fresh, "after {after}: {found}, done {is_done}");
                    store.close().await.unwrap();
                }
                Err(Error::Misuse(what)) => {
                    assert!(!is_done && what.contains("did not finish here"), "after {after}: {what}");
                }
                Err(other) => panic!("after {after}: {other}"),
            }
        });
    }
}

#[test]
fn damage_anywhere_in_a_backup_is_found_by_its_restore() {
    let world = World::new(6);
    world.run(async {
        let store = world.open(STORE, 2).await;
        let client = store.client().unwrap();
        for n in 0..200_u32 {
            client.put(&account(n), b"row", &value(1)).await.unwrap();
        }
        back_up(&client, &world.shared()).await.unwrap();
        store.close().await.unwrap();
        let mut random = fastrand::Rng::with_seed(6);
        let files: Vec<PathBuf> =
            world.disk.files().into_iter().filter(|path| path.starts_with("/backups")).collect();
        let segments = files.iter().filter(|path| path.starts_with("/backups/segments"));
        for (n, path) in segments.chain([&PathBuf::from("/backups/backup-1")]).enumerate() {
            let bytes = world.disk.contents(path).unwrap();
            for round in 0..20 {
                // Padding is covered by no checksum.
                let covered: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
                let bit = covered[random.usize(..covered.len())] as u64 * 8 + random.u64(..8);
                assert!(world.disk.flip(path, bit));
                let refused = world.restore(None, &format!("/restored-{n}-{round}")).await.unwrap_err();
                assert!(matches!(&refused, Error::Corrupt(c) if c.path == *path), "{refused}");
                assert!(world.disk.flip(path, bit));
            }
        }
        world.restore(None, "/restored").await.unwrap().close().await.unwrap();
    });
}

#[test]
fn a_directory_without_room_or_of_somebody_else_is_refused_and_the_store_goes_on() {
    let world = World::new(7);
    world.run(async {
        let store = world.open(STORE, 2).await;
        let client = store.client().unwrap();
        for n in 0..500_u32 {
            client.put(&account(n), b"row", &value(1)).await.unwrap();
        }
        let other = world.open("/other", 2).await;
        back_up(&other.client().unwrap(), &world.shared()).await.unwrap();
        let refused = back_up(&client, &world.shared()).await.unwrap_err();
        assert!(refused.to_string().contains("has backups of store"), "{refused}");
        let to = |dir: &str| Request { to: PathBuf::from(dir), ..Request::default() };
        let refused = client.back_up(to(STORE), Arc::default()).await.unwrap_err();
        assert!(refused.to_string().contains("is no directory of backups"), "{refused}");
        world.shared().create_dir(Path::new("/full")).await.unwrap();
        // What compaction frees while the backup is taken would be room for it: so nothing is left to compact or to remove.
        client.flush().await.unwrap();
        for n in 0..2 {
            store.shard(n).unwrap().settled().await.unwrap();
        }
        world.runtime.sleep(Duration::from_secs(1)).await;
        let free = world.shared().free_bytes(Path::new("/full")).await.unwrap();
        // Less than what any shard has to copy.
        world.disk.set_capacity((1 << 40) - free + (8 << 10));
        let refused = client.back_up(to("/full"), Arc::default()).await.unwrap_err();
        assert!(refused.to_string().contains("bytes free, and"), "{refused}");
        world.disk.set_capacity(1 << 40);
        // The log looks for room now and then.
        world.runtime.sleep(Duration::from_secs(1)).await;
        client.put(&account(1), b"row", &value(2)).await.unwrap();
        let summary = client.back_up(to("/full"), Arc::default()).await.unwrap();
        assert_eq!((summary.number, summary.segments), (1, summary.segments_new));
        store.close().await.unwrap();
        other.close().await.unwrap();
    });
}

#[test]
fn links_share_bytes_with_the_store_and_restore_like_copies() {
    let world = World::new(8);
    world.run(async {
        let store = world.open(STORE, 2).await;
        let client = store.client().unwrap();
        for n in 0..500_u32 {
            client.put(&account(n), b"row", &value(3)).await.unwrap();
        }
        world.shared().create_dir(Path::new(BACKUPS)).await.unwrap();
        // What compaction replaces before it is linked has no name to link: so that nothing is left to compact.
        client.flush().await.unwrap();
        for n in 0..2 {
            store.shard(n).unwrap().settled().await.unwrap();
        }
        let summary = client.back_up(Request { link: true, ..request() }, Arc::default()).await.unwrap();
        assert!(summary.bytes_copied < summary.bytes / 2, "{summary:?}");
        store.close().await.unwrap();
        let restored = world.restore(None, "/restored").await.unwrap();
        assert_eq!(number(&restored.client().unwrap(), &account(499)).await, 3);
        restored.close().await.unwrap();
    });
}

#[test]
fn a_backup_that_nobody_waits_for_is_given_up_and_a_bound_is_kept() {
    let world = World::new(9);
    world.run(async {
        let store = world.open(STORE, 1).await;
        let client = store.client().unwrap();
        for n in 0..500_u32 {
            client.put(&account(n), b"row", &value(3)).await.unwrap();
        }
        world.shared().create_dir(Path::new(BACKUPS)).await.unwrap();
        let runtime = &world.runtime;
        let slow = Request { limit: 4096, ..request() };
        let progress = Arc::new(Progress::default());
        let given_up = futures_lite::future::or(
            async { Some(client.back_up(slow, Arc::clone(&progress)).await) },
            async {
                runtime.sleep(Duration::from_secs(5)).await;
                None
            },
        )
        .await;
        assert!(given_up.is_none());
        let done = progress.bytes_done();
        runtime.sleep(Duration::from_secs(60)).await;
        assert!(progress.bytes_done() <= done + (256 << 10), "it goes on for one piece at most");
        let begun = runtime.now();
        let limit = 100 << 10;
        let summary = client.back_up(Request { limit, ..request() }, Arc::default()).await.unwrap();
        let least = Duration::from_secs_f64(summary.bytes_copied as f64 / limit as f64);
        assert!(runtime.now().since(begun) >= least, "{summary:?} in {:?}", runtime.now().since(begun));
        store.close().await.unwrap();
    });
}
