//! What the counters cost: alone, and in a store, beside cached reads and durable writes, in alternated pairs.
//!
//! `cargo bench -p foreshard-engine --bench counters [-- --smoke]`. A million entities of one row of 100 bytes, zipf
//! 0.99, 100,000 tracked; one store that tracks them and one that tracks none take turns on one core. A read is of a row
//! in memory; a write is one of 64 callers' that wait for the device. Time is the shard's thread's on its core.
//! Seeds are fixed. Stores are made below `target`, on whatever disk that is.

#![expect(clippy::print_stdout, reason = "a bench reports on the terminal")]

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use foreshard_engine::counters::{Counters, CountersConfig, Load, PartitionSlot, Tick};
use foreshard_engine::hash;
use foreshard_engine::ids::PartitionId;
use foreshard_engine::key::RoutingKey;
use foreshard_engine::{Options, Shard, Store};

const PAIRS: usize = 20;
/// Operations between two turns: some milliseconds.
const SLICE: usize = 10_000;
/// Writers at once.
const CALLERS: usize = 64;
const VALUE_BYTES: usize = 100;
const ZIPF_EXPONENT: f64 = 0.99;

struct Size {
    entities: usize,
    tracked: usize,
    operations: usize,
    /// Of the operations, so many are written in the stores: they wait for the device.
    writes: usize,
}

struct Workload {
    names: Vec<[u8; 24]>,
    routing: Vec<RoutingKey>,
    draws: Vec<u32>,
}

fn main() {
    let smoke = std::env::args().any(|a| a == "--smoke");
    let size = if smoke {
        Size { entities: 10_000, tracked: 1_000, operations: 20_000, writes: 5_000 }
    } else {
        Size { entities: 1_000_000, tracked: 100_000, operations: 400_000, writes: 100_000 }
    };
    let workload = Workload::new(&size);
    let mut counters = Counters::new(CountersConfig { entities_tracked: size.tracked, ..Default::default() });
    let slot = counters.open_partition(PartitionId(1));
    // The first touch of the table's pages is not the steady state; its price is in "first touches" below.
    workload.count(&workload.draws, &mut counters, slot);

    let alone = paired(
        &workload.draws,
        |draws| timed(|| workload.walk(draws)),
        |draws| timed(|| workload.walk(draws) ^ workload.count(draws, &mut counters, slot)),
    );
    println!("record alone, ns:              {}", Summary::of(alone.iter().map(|p| p.1 - p.0)));

    let mut exports = Vec::new();
    let mut first_touches = Vec::new();
    let mut last: Option<Tick> = None;
    for _ in 0..PAIRS {
        let begin = wall();
        let tick = counters.export();
        exports.push(wall().duration_since(begin).as_nanos() as f64);
        last = Some(tick);
        let begin = now();
        workload.count(&workload.draws, &mut counters, slot);
        first_touches.push(nanos_since(begin) / size.operations as f64);
    }
    println!("export, ns:                    {}", Summary::of(exports.into_iter()));
    println!("record with first touches, ns: {}", Summary::of(first_touches.into_iter()));
    let tick = last.expect("PAIRS is not zero");
    println!("entities of the last tick:     {:10}", tick.entities().count());
    let workload = Arc::new(workload);
    in_stores(&workload, &size);
}

/// Two stores take turns, slice by slice.
fn in_stores(workload: &Arc<Workload>, size: &Size) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory below target");
    let open = |name: &str, tracked_entities| {
        let options = Options { partitions: 8, tracked_entities, ..Options::default() };
        let store = Store::open(dir.path().join(name), options).expect("a store");
        for from in (0..size.entities).step_by(SLICE) {
            let to = (from + SLICE).min(size.entities);
            put(&store, workload, (from..to).collect());
        }
        store
    };
    let (without, with) = (open("without", 0), open("with", size.tracked));
    for (what, work, draws) in [
        ("cached read", get as fn(&Store, &Arc<Workload>, Vec<usize>) -> f64, &workload.draws[..]),
        ("durable write", put, &workload.draws[..size.writes]),
    ] {
        let run = |store: &Store, draws: &[u32]| {
            work(store, workload, draws.iter().map(|&draw| draw as usize).collect())
        };
        run(&without, draws);
        run(&with, draws);
        let pairs = paired(draws, |slice| run(&without, slice), |slice| run(&with, slice));
        let per = |f: fn(&(f64, f64)) -> f64| Summary::of(pairs.iter().map(f));
        println!("{:31}{}", format!("{what}, ns:"), per(|p| p.0));
        println!("  with counters, ns more:      {}", per(|p| p.1 - p.0));
        println!("  share, %:                    {}", per(|p| 100.0 * (p.1 / p.0 - 1.0)));
    }
    for store in [without, with] {
        store.close().expect("a store that is well");
    }
}

/// Reads one row after the other; nanoseconds of the shard's thread.
fn get(store: &Store, workload: &Arc<Workload>, entities: Vec<usize>) -> f64 {
    let workload = Arc::clone(workload);
    let read = move |shard: Rc<Shard>| async move {
        let begin = now();
        for entity in entities {
            let found = shard.read(&workload.names[entity], b"", |row| row.map(|r| r.value[0])).await;
            black_box(found.expect("a read").expect("every row was put"));
        }
        nanos_since(begin)
    };
    store.on_shard(0, read).expect("a shard")
}

/// Writes rows from [`CALLERS`] tasks; nanoseconds of the shard's thread.
fn put(store: &Store, workload: &Arc<Workload>, entities: Vec<usize>) -> f64 {
    let (workload, entities) = (Arc::clone(workload), Arc::new(entities));
    let write = move |shard: Rc<Shard>| async move {
        let begin = now();
        let callers = (0..CALLERS).map(|caller| {
            let (shard, workload, entities) =
                (Rc::clone(&shard), Arc::clone(&workload), Arc::clone(&entities));
            let runtime = shard.runtime().clone();
            runtime.spawn(async move {
                for &entity in entities.iter().skip(caller).step_by(CALLERS) {
                    let put = shard.put(&workload.names[entity], b"", &[7; VALUE_BYTES]).await;
                    put.expect("a write");
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await;
        }
        nanos_since(begin)
    };
    store.on_shard(0, write).expect("a shard")
}

impl Workload {
    fn new(size: &Size) -> Self {
        let mut rng = fastrand::Rng::with_seed(17);
        let names: Vec<[u8; 24]> = (0..size.entities).map(name).collect();
        let routing = names.iter().map(|n| RoutingKey::of(n)).collect();
        let mut total = 0.0;
        let cumulated: Vec<f64> = (1..=size.entities)
            .map(|rank| {
                total += (rank as f64).powf(-ZIPF_EXPONENT);
                total
            })
            .collect();
        let draws = (0..size.operations)
            .map(|_| {
                let at = rng.f64() * total;
                u32::try_from(cumulated.partition_point(|&c| c < at)).expect("a rank is a u32")
            })
            .collect();
        Self { names, routing, draws }
    }

    /// What a request has at hand anyway: its routing key and its entity's name.
    fn walk(&self, draws: &[u32]) -> u64 {
        draws.iter().fold(0, |sum, &draw| {
            let entity = draw as usize;
            black_box(sum ^ self.routing[entity].0 ^ u64::from(self.names[entity][20]))
        })
    }

    fn count(&self, draws: &[u32], counters: &mut Counters, slot: PartitionSlot) -> u64 {
        for &draw in draws {
            let entity = draw as usize;
            counters.record(slot, self.routing[entity], &self.names[entity], &load(100));
        }
        0
    }
}

fn load(bytes_out: u64) -> Load {
    Load { reads: 1, writes: 0, bytes_in: 30, bytes_out, service_nanos: black_box(1000) }
}

fn name(entity: usize) -> [u8; 24] {
    let mut name = *b"entity-................z";
    name[7..23].copy_from_slice(format!("{:016x}", hash::stable(&entity.to_le_bytes())).as_bytes());
    name
}

/// Nanoseconds per operation of both, `PAIRS` times, from closures that return their nanoseconds. Each pair goes through
/// all draws slice by slice, once without and once with, in turns, so that what disturbs the machine disturbs both.
fn paired(
    draws: &[u32],
    mut without: impl FnMut(&[u32]) -> f64,
    mut with: impl FnMut(&[u32]) -> f64,
) -> Vec<(f64, f64)> {
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let mut pair = (0.0, 0.0);
        for (turn, slice) in draws.chunks(SLICE).enumerate() {
            if turn % 2 == 0 {
                pair.0 += without(slice);
                pair.1 += with(slice);
            } else {
                pair.1 += with(slice);
                pair.0 += without(slice);
            }
        }
        pairs.push((pair.0 / draws.len() as f64, pair.1 / draws.len() as f64));
    }
    pairs
}

/// What `f` takes.
fn timed(f: impl FnOnce() -> u64) -> f64 {
    let begin = now();
    black_box(f());
    nanos_since(begin)
}

/// This thread's time on a core, in nanoseconds: what others run on the machine is not counted, though their use
/// of the shared caches shows.
fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the machine's time")]
fn wall() -> Instant {
    Instant::now()
}

fn nanos_since(begin: f64) -> f64 {
    now() - begin
}

/// Median, and the interval that holds the true median with 95 % certainty: of 20 sorted, the 6th to the 15th.
struct Summary {
    median: f64,
    low: f64,
    high: f64,
}

impl Summary {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(sorted.len(), 20, "the interval's ranks are for 20");
        Self { median: f64::midpoint(sorted[9], sorted[10]), low: sorted[5], high: sorted[14] }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:10.2} [{:.2} .. {:.2}]", self.median, self.low, self.high)
    }
}
