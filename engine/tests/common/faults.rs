//! Devices that fail or are full, at any point: a clear error, reads go on, nothing acknowledged is lost, and writes
//! resume where there is room again.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::io::disk::{Disk, DiskOp};
use foreshard_engine::io::fault::{Fault, FaultDisk, Rule, When};
use foreshard_engine::io::memory::{CrashMode, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::{Client, Durability, Error, Options, SimulatedStore};

use super::kinds::kind_of;
use super::life::{Birth, DIR, Focus, Plan, live, tiny, work};
use super::model::Model;
use super::workload::verify;

pub const CALLERS: usize = 2;
const SHARDS: usize = 2;
/// How long a full device stays so.
const FULL_FOR: Duration = Duration::from_secs(30);
/// Between two flushes of a log, where it flushes by itself.
const FLUSH_INTERVAL: Duration = Duration::from_millis(4);
/// With a pause after each: some forty flushes.
const UNFLUSHED_WRITES: usize = 160;
/// Openings that are tried on a device that fails by chance before it is replaced.
const OPENINGS_MAX: usize = 4;

pub fn plan(seed: u64, work: usize) -> Plan {
    Plan {
        seed,
        shards: SHARDS,
        work,
        crash_after: None,
        options: tiny(),
        restores: false,
        focus: Focus::Everything,
    }
}

pub fn rule(op: DiskOp, path: &str, when: When, fault: Fault) -> Rule {
    Rule { ops: vec![op], path_contains: path.into(), when, fault }
}

/// Any operation of any file.
pub fn any(when: When, fault: Fault) -> Rule {
    Rule { ops: Vec::new(), path_contains: String::new(), when, fault }
}

/// A failing disk, and the memory disk below it.
struct Device {
    world: VirtualRuntime,
    runtimes: Vec<Runtime>,
    memory: MemoryDisk,
    faulty: FaultDisk,
}

impl Device {
    fn after(disk: &MemoryDisk, seed: u64) -> Self {
        let world = VirtualRuntime::new(seed);
        let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
        let memory = Birth::After(disk, CrashMode::Keep).disk(&runtimes[0], seed);
        let faulty = FaultDisk::new(Rc::new(memory.clone()), &runtimes[0], seed);
        let below = memory.clone();
        faulty.on_failed_sync(move |path| below.lose_unsynced(path));
        Self { world, runtimes, memory, faulty }
    }

    async fn open(&self, seed: u64) -> Result<SimulatedStore, Error> {
        let shared: Rc<dyn Disk> = Rc::new(self.faulty.clone());
        // Each open store has threads of its own.
        let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| self.world.runtime()).collect();
        SimulatedStore::open(&runtimes, shared, Path::new(DIR), tiny(), seed).await
    }

    fn run(&self, life: impl Future<Output = ()>) {
        let hang = async {
            self.runtimes[0].sleep(Duration::from_secs(3600)).await;
            panic!("an hour of virtual time, and the life is not over");
        };
        self.world.block_on(futures_lite::future::or(life, hang));
    }
}

/// What a device did in the middle of a store's life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Struck {
    /// Operations that failed.
    pub faults: u64,
    /// Shards that took no more writes in the end.
    pub stopped: u64,
}

/// A life on a device that fails as `rules` say from the moment the store is open; then a crash and a look at what is
/// left.
pub fn live_faulty(seed: u64, rules: &[Rule]) -> Struck {
    let model = Rc::new(Model::new(CALLERS));
    let first = live(Birth::New, &model, &plan(seed, 20));
    let device = Device::after(&first.disk, seed);
    let Device { runtimes, faulty, .. } = &device;
    let struck = Cell::new(Struck::default());
    device.run(async {
        let store = device.open(seed).await.expect("it does not fail yet");
        for rule in rules {
            faulty.add(rule.clone());
        }
        let is_full = rules.iter().all(|rule| rule.fault == Fault::NoSpace);
        let room = is_full.then(|| {
            let (runtime, faulty) = (runtimes[0].clone(), faulty.clone());
            runtimes[0].spawn(async move {
                // Who waits for room waits for somebody to make some.
                runtime.sleep(FULL_FOR).await;
                faulty.heal();
            })
        });
        work(&store, runtimes, &model, &plan(seed, 60), None, true).await.expect("the store is open");
        drop(room);
        let faults = faulty.struck();
        faulty.heal();
        let stopped = (0..SHARDS).map(|n| store.shard(n).expect("open").stats().failure);
        struck.set(Struck { faults, stopped: stopped.flatten().count() as u64 });
        let client = store.client().expect("the store is open");
        if is_full {
            // It comes back by itself.
            runtimes[0].sleep(Duration::from_secs(10)).await;
            verify(&client, &model, &runtimes[0]).await.expect("a full device ends no reads");
            client.put(b"after", b"row", b"again").await.expect("there is room again");
            work(&store, runtimes, &model, &plan(seed + 1, 20), None, false).await.expect("open");
            return;
        }
        // What is in doubt may come out otherwise at the next opening: looked at, not settled.
        match verify(&client, &(*model).clone(), &runtimes[0]).await {
            Ok(()) => {}
            Err(e) => assert!(is_clear(&e), "reads go on but for rows in doubt: {e}"),
        }
        failure_is_final(&store, &client).await;
        // May fail again, or not.
        let _closed = store.close().await;
    });
    model.latest_ms.set(runtimes[0].wall_ms().max(model.latest_ms.get()));
    live(Birth::After(&device.memory, CrashMode::Lose), &model, &plan(seed, 10));
    struck.get()
}

/// A life in which one flush of the first shard's log fails, and takes with it what it was to make durable. Logs flush by
/// themselves under an interval only: always, a write is its own flush. From that moment on the shard acknowledges nothing,
/// though every later flush succeeds: that it does would say nothing of what the first one lost (R3). Whether one failed.
pub fn live_unflushed(seed: u64, nth: u64) -> bool {
    let model = Rc::new(Model::new(CALLERS));
    let device = Device::after(&live(Birth::New, &model, &plan(seed, 5)).disk, seed);
    let Device { runtimes, faulty, memory, .. } = &device;
    let options = Options { durability: Durability::Interval(FLUSH_INTERVAL), ..tiny() };
    let struck = Cell::new(false);
    device.run(async {
        let shared: Rc<dyn Disk> = Rc::new(faulty.clone());
        let store =
            SimulatedStore::open(runtimes, shared, Path::new(DIR), options, seed).await.expect("opens");
        let client = store.client().expect("open");
        let logs = memory.files().into_iter().filter(|file| kind_of(file) == "log");
        let dirs: BTreeSet<String> =
            logs.filter_map(|file| Some(file.parent()?.display().to_string())).collect();
        // The newest incarnation's.
        let log = dirs.iter().rfind(|dir| dir.ends_with("/0")).expect("the first shard has a log");
        faulty.add(rule(DiskOp::Sync, log, When::Nth(nth), Fault::Failed));
        let homes: Vec<([u8; 2], usize)> =
            (0..16).map(|n| ([b'u', n], shard_of(&store, &[b'u', n]))).collect();
        for n in 0..UNFLUSHED_WRITES {
            let (entity, shard) = homes[n % homes.len()];
            let had_failed = faulty.struck() > 0;
            let written = client.put(&entity, b"row", &n.to_le_bytes()).await;
            match written {
                Ok(_) => assert!(
                    !(had_failed && shard == 0),
                    "seed {seed}: a flush failed, and its log acknowledges"
                ),
                Err(e) => assert!(faulty.struck() > 0 && is_clear(&e), "seed {seed}: {e}"),
            }
            runtimes[0].sleep(FLUSH_INTERVAL / 4).await;
        }
        struck.set(faulty.struck() > 0);
        if struck.get() {
            assert!(store.shard(0).expect("open").stats().failure.is_some(), "seed {seed}: it says so");
            faulty.heal();
            failure_is_final(&store, &client).await;
        }
        let _closed = store.close().await;
    });
    model.latest_ms.set(runtimes[0].wall_ms().max(model.latest_ms.get()));
    // What the flush lost is gone, and what is left opens.
    live(Birth::After(memory, CrashMode::Lose), &model, &plan(seed, 0));
    struck.get()
}

fn shard_of(store: &SimulatedStore, entity: &[u8]) -> usize {
    let mut key = Vec::new();
    foreshard_engine::key::encode(entity, b"row", &mut key).expect("within limits");
    usize::from(store.map().home_of(&key).shard.0)
}

/// A shard whose log failed acknowledges nothing any more, whatever the device does since (R3).
async fn failure_is_final(store: &SimulatedStore, client: &Client) {
    for n in 0..u8::try_from(SHARDS * 8).expect("few") {
        let entity = [b'f', n];
        let shard = shard_of(store, &entity);
        let is_failed = store.shard(shard).expect("open").stats().failure.is_some();
        let written = client.put(&entity, b"row", b"1").await;
        assert!(!(is_failed && written.is_ok()), "shard {shard} failed, and acknowledges");
    }
}

/// Whether an error says where, or that a restart decides.
fn is_clear(error: &Error) -> bool {
    let text = error.to_string();
    match error {
        Error::Io { path, .. } => path.starts_with(DIR),
        Error::Stopped(_) => text.contains(DIR) || text.contains("only a restart can tell"),
        Error::Full(path) => path.starts_with(DIR),
        Error::TryAgain(_) => true,
        Error::Corrupt(_)
        | Error::Misuse(_)
        | Error::Conflict
        | Error::Moved { .. }
        | Error::Closed
        | Error::Unsupported(_) => false,
    }
}

/// Disks of stores in the middle of their lives, and what they promised.
pub struct Halted {
    seed: u64,
    disk: MemoryDisk,
    model: Rc<Model>,
}

impl Halted {
    pub fn new(seed: u64) -> Self {
        let whole = live(Birth::New, &Rc::new(Model::new(CALLERS)), &plan(seed, 40)).boundaries;
        let model = Rc::new(Model::new(CALLERS));
        let stopped = Plan { crash_after: Some(whole * 3 / 4), ..plan(seed, 40) };
        let lived = live(Birth::New, &model, &stopped);
        Self { seed, disk: lived.disk, model }
    }

    /// Opens it on a device that fails as `rule` says from the first operation on, as often as an operator would; then on
    /// one that does not fail. How many operations failed.
    pub fn open_faulty(&self, rule: &Rule) -> u64 {
        let model = Rc::new((*self.model).clone());
        let device = Device::after(&self.disk, self.seed);
        device.faulty.add(rule.clone());
        device.run(async {
            for _ in 0..OPENINGS_MAX {
                match device.open(self.seed).await {
                    Ok(store) => {
                        let client = store.client().expect("the store is open");
                        if let Err(e) = verify(&client, &(*model).clone(), &device.runtimes[0]).await {
                            assert!(is_clear(&e), "{e}");
                        }
                        if let Err(e) = store.close().await {
                            assert!(is_clear(&e), "{e}");
                        }
                        return;
                    }
                    Err(e) => assert!(is_clear(&e), "an opening fails with: {e}"),
                }
                if !matches!(rule.when, When::Chance(_)) {
                    return;
                }
            }
        });
        let struck = device.faulty.struck();
        model.latest_ms.set(device.runtimes[0].wall_ms().max(model.latest_ms.get()));
        live(Birth::After(&device.memory, CrashMode::Lose), &model, &plan(self.seed, 5));
        struck
    }
}
