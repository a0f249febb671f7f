//! What the counters cost: alone, and beside a cached read's stand-in, in alternated pairs.
//!
//! `cargo bench -p foreshard-engine --bench counters [-- --smoke]`. A million entities, zipf 0.99, 100,000 tracked.
//! The stand-in looks 24-byte keys up in a sorted map of a million rows and copies the 100-byte value.
//! Fixed seeds; the last line is a hash of what was counted and read, the same in every run of one size.

#![expect(clippy::print_stdout, reason = "a bench reports on the terminal")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use foreshard_engine::counters::{Counters, CountersConfig, Load, PartitionSlot, Tick};
use foreshard_engine::hash;
use foreshard_engine::ids::PartitionId;
use foreshard_engine::key::RoutingKey;

const PAIRS: usize = 20;
/// Operations between two turns: some milliseconds.
const SLICE: usize = 10_000;
const ZIPF_EXPONENT: f64 = 0.99;

struct Size {
    entities: usize,
    tracked: usize,
    operations: usize,
}

struct Workload {
    names: Vec<[u8; 24]>,
    routing: Vec<RoutingKey>,
    draws: Vec<u32>,
    rows: BTreeMap<[u8; 24], [u8; 100]>,
}

fn main() {
    let smoke = std::env::args().any(|a| a == "--smoke");
    let size = if smoke {
        Size { entities: 10_000, tracked: 1_000, operations: 20_000 }
    } else {
        Size { entities: 1_000_000, tracked: 100_000, operations: 2_000_000 }
    };
    let workload = Workload::new(&size);
    let mut counters = Counters::new(CountersConfig { entities_tracked: size.tracked, ..Default::default() });
    let slot = counters.open_partition(PartitionId(1));
    // The first touch of the table's pages is not the steady state; its price is in "first touches" below.
    workload.count(&workload.draws, &mut counters, slot);

    let beside = paired(
        &workload.draws,
        |draws| workload.read(draws, None),
        |draws| workload.read(draws, Some((&mut counters, slot))),
    );
    println!("cached read (stand-in), ns:    {}", Summary::of(beside.iter().map(|p| p.0)));
    println!("record beside it, ns:          {}", Summary::of(beside.iter().map(|p| p.1 - p.0)));
    println!(
        "share of the read, %:          {}",
        Summary::of(beside.iter().map(|p| 100.0 * (p.1 / p.0 - 1.0)))
    );
    let alone = paired(
        &workload.draws,
        |draws| workload.walk(draws),
        |draws| workload.walk(draws) ^ workload.count(draws, &mut counters, slot),
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
    println!("result hash: {:016x}", result_hash(&tick, &workload));
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
        let rows = names.iter().map(|&n| (n, [n[23]; 100])).collect();
        Self { names, routing, draws, rows }
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

    fn read(&self, draws: &[u32], mut counters: Option<(&mut Counters, PartitionSlot)>) -> u64 {
        let mut sum = 0;
        for &draw in draws {
            let entity = draw as usize;
            let name = &self.names[entity];
            let value = black_box(self.rows[name]);
            sum = black_box(sum ^ self.routing[entity].0 ^ u64::from(value[7]));
            if let Some((counters, slot)) = &mut counters {
                counters.record(*slot, self.routing[entity], name, &load(value.len() as u64));
            }
        }
        sum
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

/// Nanoseconds per operation of both, `PAIRS` times. Each pair goes through all draws slice by slice, once without
/// and once with, in turns, so that what disturbs the machine disturbs both.
fn paired(
    draws: &[u32],
    mut without: impl FnMut(&[u32]) -> u64,
    mut with: impl FnMut(&[u32]) -> u64,
) -> Vec<(f64, f64)> {
    let time = |f: &mut dyn FnMut(&[u32]) -> u64, slice: &[u32]| {
        let begin = now();
        black_box(f(slice));
        nanos_since(begin) / draws.len() as f64
    };
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let mut pair = (0.0, 0.0);
        for (turn, slice) in draws.chunks(SLICE).enumerate() {
            if turn % 2 == 0 {
                pair.0 += time(&mut without, slice);
                pair.1 += time(&mut with, slice);
            } else {
                pair.1 += time(&mut with, slice);
                pair.0 += time(&mut without, slice);
            }
        }
        pairs.push(pair);
    }
    pairs
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

fn result_hash(tick: &Tick, workload: &Workload) -> u64 {
    let mut bounds: Vec<_> =
        tick.entities().map(|e| (e.routing, e.load.lower.reads, e.load.upper.reads)).collect();
    bounds.sort_unstable();
    let mut bytes = workload.walk(&workload.draws).to_le_bytes().to_vec();
    for (routing, lower, upper) in bounds {
        bytes.extend([routing.0, lower, upper].iter().flat_map(|n| n.to_le_bytes()));
    }
    hash::stable(&bytes)
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
