//! What routing through the partition table costs, without guests and with a million of them, and what a change costs.
//!
//! `cargo bench -p foreshard-engine --bench table [-- --smoke]`. Partitions are ranges; each guest is placed in another
//! one than its home. Keys are drawn uniformly: of entities that are at home, of guests, of both. Latency: a look-up
//! begins when the one before it has ended, and asks for another entity, so that what it touches is in the core's caches
//! by chance only. Throughput: look-ups are independent, and the core overlaps them. Ways take turns; time is the
//! thread's on its core; seeds are fixed.

#![expect(clippy::print_stdout, reason = "a bench reports on the terminal")]

use std::hint::black_box;
use std::time::Instant;

use foreshard_engine::hash;
use foreshard_engine::ids::{MoveId, PartitionId};
use foreshard_engine::key::{self, RoutingKey};
use foreshard_engine::table::{BeginMove, Change, Image, Partitions, State};

const PARTITIONS: u32 = 64;
const SHARDS: u16 = 4;
const ROUNDS: usize = 20;
/// Beginnings and commits whose median is told.
const CHANGES: usize = 2000;
const NAME_BYTES: usize = 24;
const KEY_BYTES: usize = 8 + NAME_BYTES + 2 + 6;

struct Size {
    guests: usize,
    /// Look-ups a round, each of another entity.
    lookups: usize,
}

fn main() {
    let smoke = std::env::args().any(|a| a == "--smoke");
    let size = if smoke {
        Size { guests: 10_000, lookups: 10_000 }
    } else {
        Size { guests: 1_000_000, lookups: 1_000_000 }
    };
    let without = State::first(&State::even_ranges(PARTITIONS as usize), SHARDS).expect("a first state");
    let names: Vec<[u8; NAME_BYTES]> = (0..size.guests + size.lookups).map(name).collect();
    let change = placing(&without, &names[..size.guests]);
    let before = resident_bytes();
    let with = without.after(&change).expect("a change that can be made");
    let bytes = resident_bytes().saturating_sub(before);
    drop(change);
    let each = bytes as f64 / size.guests as f64;
    println!("{} guests, {PARTITIONS} partitions, {each:.0} bytes resident a guest", with.guests.len());
    println!("a random read of as many bytes, ns: {:.1}", random_read(bytes, size.lookups));

    let (without, with) = (Image::of(without), Image::of(with));
    let mut random = fastrand::Rng::with_seed(17);
    let mut drawn = |names: &[[u8; NAME_BYTES]]| {
        let mut keys: Vec<[u8; KEY_BYTES]> = names.iter().map(storage_key).collect();
        random.shuffle(&mut keys);
        keys.truncate(size.lookups);
        keys
    };
    let homes = drawn(&names[size.guests..]);
    let guests = drawn(&names[..size.guests]);
    let both = drawn(&names);
    let ways = [
        ("no guests", &without, &homes),
        ("with guests: keys at home", &with, &homes),
        ("             keys of guests", &with, &guests),
        ("             keys of both", &with, &both),
    ];
    for (what, look_up) in [("latency", latency as Way), ("throughput", throughput as Way)] {
        println!("look-up, {what}, ns: median [quartiles]");
        let mut nanos = ways.map(|_| Vec::new());
        let mut hash = 0;
        for round in 0..=ROUNDS {
            for (n, (_, image, keys)) in ways.iter().enumerate() {
                let begin = now();
                hash ^= look_up(image, keys).wrapping_add(n as u64);
                let took = (now() - begin) / keys.len() as f64;
                // The first is not the steady state.
                if round > 0 {
                    nanos[n].push(took);
                }
            }
        }
        for ((name, ..), nanos) in ways.iter().zip(nanos) {
            println!("  {name:30} {}", Summary::of(nanos));
        }
        println!("  homes found: {hash:016x}");
    }
    println!("a move's beginning and commit, each with its image, us: median [quartiles]");
    for (what, image, names) in
        [("no guests", &without, &names[..]), ("with guests", &with, &names[..size.guests])]
    {
        println!("  {what:30} {}", Summary::of(changes(image, names)));
    }
}

type Way = fn(&Image, &[[u8; KEY_BYTES]]) -> u64;

/// One look-up after the other: which key is next is known when the one before has its home.
fn latency(image: &Image, keys: &[[u8; KEY_BYTES]]) -> u64 {
    let (mut at, mut sum) = (0, 0);
    for _ in 0..keys.len() {
        let home = image.home_of(black_box(&keys[at]));
        let partition = u64::from(home.partition.0);
        sum += partition;
        // No partition has so large a number: it is the next key, and the core cannot know.
        at += 1 + usize::try_from(partition >> 31).unwrap_or(0);
    }
    sum
}

fn throughput(image: &Image, keys: &[[u8; KEY_BYTES]]) -> u64 {
    keys.iter().map(|key| u64::from(image.home_of(black_box(key)).partition.0)).sum()
}

/// Microseconds of moves begun and committed one after the other, each made into an image.
fn changes(image: &Image, names: &[[u8; NAME_BYTES]]) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(23);
    let mut image = Image::of(image.state().clone());
    let made = |image: &mut Image, change: &Change| {
        let begin = wall();
        let next = Image::of(image.state().after(change).expect("a change that can be made"));
        drop(std::mem::replace(image, next));
        begin.elapsed().as_secs_f64() * 1e6
    };
    let mut micros = Vec::new();
    while micros.len() < CHANGES {
        let entity = names[random.usize(..names.len())].to_vec();
        let state = image.state();
        let (from, to) = (state.owner(&entity), PartitionId(random.u32(..PARTITIONS)));
        if from == to {
            continue;
        }
        let epoch = |id| state.partitions[&id].placed.epoch;
        let entry = state.entry_of(&entity);
        let begin = BeginMove { entity, entry, from, to, from_epoch: epoch(from), to_epoch: epoch(to) };
        let begun = made(&mut image, &begin.into());
        let id = MoveId(image.version().0);
        micros.push(f64::midpoint(begun, made(&mut image, &Change::CommitMove { id })));
    }
    micros
}

/// What the machine needs for one read of a line of `bytes`, the next of which is known when it is done: no look-up that
/// has to read a guest's name is quicker.
fn random_read(bytes: u64, reads: usize) -> f64 {
    let lines = usize::try_from(bytes / 64).unwrap_or(0).max(2);
    let mut order: Vec<usize> = (0..lines).collect();
    fastrand::Rng::with_seed(29).shuffle(&mut order);
    let mut next = vec![[0_usize; 8]; lines];
    for (n, &line) in order.iter().enumerate() {
        next[line][0] = order[(n + 1) % lines];
    }
    let (begin, mut at) = (now(), 0);
    for _ in 0..reads {
        at = next[at][0];
    }
    black_box(at);
    (now() - begin) / reads as f64
}

/// The change that places each of `names` in the partition after its home.
fn placing(state: &State, names: &[[u8; NAME_BYTES]]) -> Change {
    let next = |id: PartitionId| PartitionId((id.0 + 1) % PARTITIONS);
    let place = |name: &[u8; NAME_BYTES]| (name.to_vec(), Some(next(state.home(RoutingKey::of(name)))));
    let mut guests: Vec<_> = names.iter().map(place).collect();
    guests.sort_unstable();
    let edits = state.partitions.iter().map(|(id, entry)| (*id, Some(entry.placed))).collect();
    let seen = state.partitions.iter().map(|(id, entry)| (*id, entry.version)).collect();
    Partitions { seen, edits, guests, shards: None }.into()
}

fn name(entity: usize) -> [u8; NAME_BYTES] {
    let mut name = *b"entity-................z";
    name[7..23].copy_from_slice(format!("{:016x}", hash::stable(&entity.to_le_bytes())).as_bytes());
    name
}

fn storage_key(name: &[u8; NAME_BYTES]) -> [u8; KEY_BYTES] {
    let mut key = Vec::with_capacity(KEY_BYTES);
    key::encode(name, b"\0field", &mut key).expect("a key within its limits");
    key.try_into().expect("a name without zero bytes")
}

/// What this process has in memory.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the kernel says what a process uses");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number is what is resident") * PAGE_BYTES
}

/// This thread's time on a core, in nanoseconds.
fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the machine's time")]
fn wall() -> Instant {
    Instant::now()
}

/// Median, and the values a quarter from each end.
struct Summary {
    median: f64,
    low: f64,
    high: f64,
}

impl Summary {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarters: usize| values[values.len() * quarters / 4];
        Self { median: at(2), low: at(1), high: at(3) }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.1} [{:.1} .. {:.1}]", self.median, self.low, self.high)
    }
}
