//! One life of a store: open, verify, work, close; or until the disk stops.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{CrashMode, DiskEvent, MemoryConfig, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::partition::strategy::Shape;
use foreshard_engine::shard::reshape::progress::Order;
use foreshard_engine::{Error, Options, Shard, SimulatedStore};

use super::history::Teller;
use super::model::Model;
use super::operator::Operator;
use super::workload::{Witness, Worker, verify};

pub const DIR: &str = "/store";
/// The operator does one thing for so many of each caller.
const OPERATED_EVERY: usize = 10;
/// Where changes are what it is about.
const CHANGED_EVERY: usize = 5;
/// Those who ask the keys whose histories are kept, at once.
const TELLERS: usize = 4;

/// A store so small that a few hundred operations flush, compact, recycle its log and rotate its manifests.
pub fn tiny() -> Options {
    Options {
        partitions: 4,
        memory_bytes: 1 << 20,
        memtable_bytes: 4 << 10,
        memtables_bytes: 256 << 10,
        wal_file_bytes: 64 << 10,
        wal_batch_bytes: 16 << 10,
        wal_cap_bytes: 256 << 10,
        manifest_file_bytes: 8 << 10,
        block_bytes: 512,
        reserve_bytes: 64 << 10,
        tracked_entities: 100,
        shape: Shape { level0_trigger: 2, base_bytes: 16 << 10, fanout: 4, segment_bytes: 8 << 10 },
        ..Options::default()
    }
}

/// How a life goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: usize,
    /// Things each caller does.
    pub work: usize,
    /// Boundary at which the disk stops, counted from this life's beginning.
    pub crash_after: Option<u64>,
    pub options: Options,
    /// Makes a store of its newest backup at its end.
    pub restores: bool,
    pub focus: Focus,
}

/// What is done to the store beside its callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Focus {
    /// All that an operator does.
    Everything,
    /// Moves of entities and changes of partitions, one after the other, while what every key answers is kept.
    Changes,
}

/// How it went.
#[derive(Debug)]
pub struct Lived {
    pub disk: MemoryDisk,
    /// The disk stopped before the store was closed.
    pub is_crashed: bool,
    /// Boundaries when it was open, and at the end.
    pub opened_at: u64,
    pub boundaries: u64,
    /// The boundary at which the disk stopped.
    pub stopped_by: Option<DiskEvent>,
    /// Moves and changes of partitions that were cut off then, by what each was doing.
    pub cut_off: Vec<(&'static str, &'static str)>,
}

/// The disk a life begins with.
#[derive(Debug, Clone, Copy)]
pub enum Birth<'a> {
    /// A store that does not exist yet.
    New,
    /// What a crash left of an earlier life's disk.
    After(&'a MemoryDisk, CrashMode),
}

impl Birth<'_> {
    pub fn disk(self, runtime: &Runtime, seed: u64) -> MemoryDisk {
        match self {
            Self::New => {
                let latency_nanos = if seed.is_multiple_of(3) { 0..1 } else { 5_000..200_000 };
                MemoryDisk::new(runtime, seed, MemoryConfig { latency_nanos, ..MemoryConfig::default() })
            }
            Self::After(disk, mode) => disk.crash(runtime, seed, mode),
        }
    }
}

/// Lives a life that must not meet an error.
pub fn live(birth: Birth<'_>, model: &Rc<Model>, plan: &Plan) -> Lived {
    live_watched(birth, model, plan, |_| None)
}

/// As [`live`], with a look at the disk after each acknowledgement.
pub fn live_watched(
    birth: Birth<'_>,
    model: &Rc<Model>,
    plan: &Plan,
    watch: impl FnOnce(&MemoryDisk) -> Option<Witness>,
) -> Lived {
    let world = VirtualRuntime::new(plan.seed);
    let runtimes: Vec<Runtime> = (0..plan.shards).map(|_| world.runtime()).collect();
    let disk = birth.disk(&runtimes[0], plan.seed);
    if let Some(boundary) = plan.crash_after {
        disk.crash_after(boundary);
    }
    if let Some(to) = std::env::var_os("CRASH_DUMP") {
        dump(&disk, &Path::new(&to).join(plan.seed.to_string()));
    }
    let witness = watch(&disk);
    let opened_at = std::cell::Cell::new(u64::MAX);
    let shards = std::cell::RefCell::new(Vec::new());
    let cut_off = std::cell::RefCell::new(Vec::new());
    let life = async {
        let result =
            whole_life((&world, &runtimes), &disk, model, plan, witness, (&opened_at, &shards)).await;
        if let Err(e) = result {
            panic!("{e}");
        }
        false
    };
    let stop = async {
        disk.stopped().await;
        *cut_off.borrow_mut() = under_way(&shards.borrow());
        true
    };
    let hang = async {
        // Nothing here takes more than seconds.
        runtimes[0].sleep(Duration::from_secs(3600)).await;
        panic!("an hour of virtual time, and the life is not over");
    };
    let is_crashed =
        match world.try_block_on(futures_lite::future::or(life, futures_lite::future::or(stop, hang))) {
            Ok(is_crashed) => is_crashed,
            Err(stuck) => panic!("deadlock at {} ns", stuck.at.0),
        };
    model.latest_ms.set(runtimes[0].wall_ms().max(model.latest_ms.get()));
    let (boundaries, stopped_by) = (disk.boundaries(), disk.stopped_by());
    Lived { disk, is_crashed, opened_at: opened_at.get(), boundaries, stopped_by, cut_off: cut_off.take() }
}

/// Writes what a life begins with below `to`, for `foreshard inspect`.
#[allow(clippy::disallowed_methods, reason = "for whoever looks at it, outside of the simulation")]
fn dump(disk: &MemoryDisk, to: &Path) {
    for path in disk.files() {
        let file = to.join(path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, disk.contents(&path).unwrap()).unwrap();
    }
}

/// What is not over, and what it is doing.
fn under_way(shards: &[Rc<Shard>]) -> Vec<(&'static str, &'static str)> {
    let moves = shards.iter().flat_map(|shard| shard.moves());
    let moves = moves.filter(|status| !status.phase.is_over()).map(|status| ("move", status.phase.name()));
    let reshapes = shards.iter().flat_map(|shard| shard.reshapes());
    let reshapes = reshapes.filter(|status| !status.phase.is_over());
    moves.chain(reshapes.map(|status| (kind_of(status.order), status.phase.name()))).collect()
}

const fn kind_of(order: Order) -> &'static str {
    match order {
        Order::Split { .. } => "split",
        Order::Merge { .. } => "merge",
        Order::HandOver { .. } => "hand-over",
    }
}

async fn whole_life(
    (world, runtimes): (&VirtualRuntime, &[Runtime]),
    disk: &MemoryDisk,
    model: &Rc<Model>,
    plan: &Plan,
    witness: Option<Witness>,
    (opened_at, shards): (&std::cell::Cell<u64>, &std::cell::RefCell<Vec<Rc<Shard>>>),
) -> Result<(), Error> {
    let shared: Rc<dyn Disk> = Rc::new(disk.clone());
    let store =
        SimulatedStore::open(runtimes, shared, Path::new(DIR), plan.options.clone(), plan.seed).await?;
    opened_at.set(disk.boundaries());
    *shards.borrow_mut() = (0..plan.shards).map(|n| store.shard(n)).collect::<Result<_, _>>()?;
    let client = store.client()?;
    let operator = Operator { store: &store, runtime: &runtimes[0], disk, model };
    verify(&client, model, &runtimes[0]).await?;
    operator.verify().await?;
    let random = fastrand::Rng::with_seed(plan.seed ^ 0x0b5);
    let working = work(&store, runtimes, model, plan, witness, false);
    match plan.focus {
        Focus::Everything => {
            let operating = operator.work(random, plan.work / OPERATED_EVERY);
            let (worked, operated) = futures_lite::future::zip(working, operating).await;
            worked.and(operated)?;
        }
        Focus::Changes => {
            let telling = tell(&store, runtimes, model, plan);
            let changing = operator.change(random, plan.work / CHANGED_EVERY);
            let both = futures_lite::future::zip(telling, changing);
            let (worked, (told, changed)) = futures_lite::future::zip(working, both).await;
            worked.and(told).and(changed)?;
            model.histories.check().unwrap_or_else(|what| panic!("{what}"));
        }
    }
    verify(&client, model, &runtimes[0]).await?;
    operator.verify().await?;
    if plan.restores {
        // A life that was stopped may have left half of one.
        let to = format!("/restored-{:x}", plan.seed);
        operator.verify_restored(world.runtime(), &plan.options, Path::new(&to)).await?;
    }
    drop(client);
    store.close().await
}

/// Lets all callers work side by side.
///
/// # Errors
/// That the store is closed.
pub async fn work(
    store: &SimulatedStore,
    runtimes: &[Runtime],
    model: &Rc<Model>,
    plan: &Plan,
    witness: Option<Witness>,
    is_faulty: bool,
) -> Result<(), Error> {
    let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
    let mut tasks = Vec::new();
    for number in 0..model.callers.len() {
        let mut worker = Worker {
            number,
            client: store.client()?,
            model: Rc::clone(model),
            runtime: runtimes[0].clone(),
            random: random.fork(),
            witness: witness.clone(),
            is_faulty,
        };
        let count = plan.work;
        tasks.push(runtimes[0].spawn(async move { worker.work(count).await }));
    }
    for task in tasks {
        task.await;
    }
    Ok(())
}

/// Lets those ask who keep what each key answers.
async fn tell(
    store: &SimulatedStore,
    runtimes: &[Runtime],
    model: &Rc<Model>,
    plan: &Plan,
) -> Result<(), Error> {
    let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x7e11);
    let mut tasks = Vec::new();
    for _ in 0..TELLERS {
        let (client, runtime, random) = (store.client()?, runtimes[0].clone(), random.fork());
        let mut teller = Teller { client, runtime, random, histories: Rc::clone(&model.histories) };
        let count = plan.work;
        tasks.push(runtimes[0].spawn(async move { teller.work(count).await }));
    }
    for task in tasks {
        task.await;
    }
    Ok(())
}
