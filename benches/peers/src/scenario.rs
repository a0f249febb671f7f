//! The scenarios. Each runs in a process of its own, on one core, in an empty directory, and answers with numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::{self, Io};
use crate::peer::{Engine, PeerConfig, Phase};
use crate::workload::Workload;

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// All rows put in random order, the log on and unsynced, until no compaction is due; then point reads with
    /// everything in the cache.
    Fill,
    /// Durable puts from 64 callers.
    Durable,
    /// Point reads from 64 callers with data ten times the cache.
    Deep,
    /// The log alone takes full batches. Only foreshard's.
    Log,
    /// Opening a store that died with a full log. Only foreshard's.
    Recovery,
    /// Leaves such a store behind, and dies.
    #[value(name = "recovery-fill", hide = true)]
    RecoveryFill,
}

/// How much of everything.
#[derive(Clone, Copy, Debug, clap::Args, serde::Serialize)]
pub struct Size {
    /// Rows of the fill and deep scenarios.
    #[arg(long, global = true, default_value_t = 10_000_000)]
    pub rows: u64,
    /// Warm point reads.
    #[arg(long, global = true, default_value_t = 3_000_000)]
    pub warm_reads: u64,
    /// Durable puts.
    #[arg(long, global = true, default_value_t = 200_000)]
    pub durable_writes: u64,
    /// Point reads beyond the cache.
    #[arg(long, global = true, default_value_t = 1_000_000)]
    pub deep_reads: u64,
    /// Log that is recovered.
    #[arg(long, global = true, default_value_t = 1 << 30)]
    pub log_bytes: u64,
    /// Seconds for which the log takes batches.
    #[arg(long, global = true, default_value_t = 10)]
    pub log_seconds: u64,
    /// Memtable of every engine.
    #[arg(long, global = true, default_value_t = 64 << 20)]
    pub memtable_bytes: u64,
    /// Of the keys, the values and every draw.
    #[arg(long, global = true, default_value_t = 42)]
    pub seed: u64,
}

/// Callers at once in the durable and deep scenarios.
pub const CALLERS: u64 = 64;
/// Data is so many times the cache in the deep scenario.
const DEEP_FACTOR: u64 = 10;

impl Scenario {
    /// Whether it is a comparison of engines; otherwise only foreshard runs it.
    pub const fn is_for_all(self) -> bool {
        matches!(self, Self::Fill | Self::Durable | Self::Deep)
    }
}

impl Size {
    /// Seconds instead of minutes.
    pub fn smoke(self) -> Self {
        Self {
            rows: 200_000,
            warm_reads: 100_000,
            durable_writes: 2_000,
            deep_reads: 20_000,
            log_bytes: 32 << 20,
            log_seconds: 1,
            memtable_bytes: 4 << 20,
            ..self
        }
    }

    fn workload(&self, rows: u64) -> Workload {
        Workload { rows, seed: self.seed }
    }

    /// Twice the rows and their index: nothing that was read leaves it.
    fn cache_bytes(&self) -> u64 {
        (2 * self.workload(self.rows).bytes()).max(64 << 20)
    }
}

/// A run's numbers, by the names in [`crate::report::METRICS`].
pub type Numbers = BTreeMap<String, f64>;

/// Runs one scenario in `dir`, which exists and is empty.
pub fn run(engine: Engine, scenario: Scenario, dir: &Path, size: &Size) -> Result<Numbers> {
    let mut numbers = match scenario {
        Scenario::Fill => fill(engine, dir, size),
        Scenario::Durable => durable(engine, dir, size),
        Scenario::Deep => deep(engine, dir, size),
        Scenario::Log => crate::log::bandwidth(dir, size),
        Scenario::Recovery => crate::log::recovery(dir, size),
        Scenario::RecoveryFill => crate::log::fill_and_die(dir, size),
    }?;
    numbers.insert("resident_bytes_max".into(), machine::resident_bytes_max()? as f64);
    Ok(numbers)
}

fn fill(engine: Engine, dir: &Path, size: &Size) -> Result<Numbers> {
    let workload = size.workload(size.rows);
    let config = PeerConfig {
        memtable_bytes: size.memtable_bytes,
        cache_bytes: size.cache_bytes(),
        is_durable: false,
        is_direct: false,
    };
    let mut peer = engine.open(dir, &config)?;
    let (io, begin) = (Io::of_this_process()?, Instant::now());
    let phase = peer.fill(&workload)?;
    let settled = peer.settle()?;
    let written = Io::of_this_process()?.write_bytes - io.write_bytes;
    let elapsed = settled.duration_since(begin);
    let mut numbers = Numbers::from([
        ("fill_rows_per_s".into(), per_second(workload.rows, elapsed)),
        ("fill_unsettled_rows_per_s".into(), per_second(workload.rows, phase.elapsed)),
        ("fill_stall_ms_max".into(), phase.longest.as_secs_f64() * 1e3),
        ("write_amplification".into(), written as f64 / workload.bytes() as f64),
    ]);
    if let Some(bytes) = peer.bytes_written()? {
        numbers.insert("write_amplification_own".into(), bytes as f64 / workload.bytes() as f64);
    }
    if let Some(turn) = peer.turn_us_p999()? {
        numbers.insert("fill_turn_us_p999".into(), turn);
    }
    // Once through as many draws as there are rows: no block is left out.
    peer.read(&workload, workload.rows, 1)?;
    let reads = peer.read(&workload, size.warm_reads, 1)?;
    numbers.insert("warm_reads_per_s".into(), per_second(size.warm_reads, reads.elapsed));
    numbers.insert("warm_digest".into(), digest(&reads));
    drop(peer);
    numbers.insert("disk_bytes".into(), machine::forget_pages(dir)? as f64);
    Ok(numbers)
}

fn durable(engine: Engine, dir: &Path, size: &Size) -> Result<Numbers> {
    let writes = size.durable_writes / CALLERS * CALLERS;
    let config = PeerConfig {
        memtable_bytes: size.memtable_bytes,
        cache_bytes: 64 << 20,
        is_durable: true,
        is_direct: false,
    };
    let mut peer = engine.open(dir, &config)?;
    let (cpu, core) = (machine::cpu_seconds()?, machine::whole_core_seconds()?);
    let phase = peer.write_durably(&size.workload(writes), writes, CALLERS)?;
    let busy = (machine::cpu_seconds()? - cpu) / phase.elapsed.as_secs_f64();
    let whole = (machine::whole_core_seconds()? - core) / phase.elapsed.as_secs_f64();
    Ok(Numbers::from([
        ("durable_writes_per_s".into(), per_second(writes, phase.elapsed)),
        ("durable_core_busy".into(), busy),
        ("durable_whole_core_busy".into(), whole),
        ("durable_latency_ms_max".into(), phase.longest.as_secs_f64() * 1e3),
    ]))
}

fn deep(engine: Engine, dir: &Path, size: &Size) -> Result<Numbers> {
    let workload = size.workload(size.rows);
    let config = PeerConfig {
        memtable_bytes: size.memtable_bytes,
        cache_bytes: workload.bytes() / DEEP_FACTOR,
        is_durable: false,
        is_direct: true,
    };
    let mut peer = engine.open(dir, &config)?;
    peer.fill(&workload)?;
    peer.settle()?;
    drop(peer);
    machine::forget_pages(dir)?;
    let mut peer = engine.open(dir, &config)?;
    let reads = size.deep_reads / CALLERS * CALLERS;
    peer.read(&Workload { ..workload }, reads / 4 / CALLERS * CALLERS, CALLERS)?;
    let (io, cpu) = (Io::of_this_process()?, machine::cpu_seconds()?);
    let phase = peer.read(&workload, reads, CALLERS)?;
    let read = Io::of_this_process()?.read_bytes - io.read_bytes;
    Ok(Numbers::from([
        ("deep_reads_per_s".into(), per_second(reads, phase.elapsed)),
        ("deep_device_bytes_per_read".into(), read as f64 / reads as f64),
        ("deep_core_busy".into(), (machine::cpu_seconds()? - cpu) / phase.elapsed.as_secs_f64()),
        ("deep_digest".into(), digest(&phase)),
    ]))
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// The part of a digest that a double holds exactly.
fn digest(phase: &Phase) -> f64 {
    (phase.digest & ((1 << 52) - 1)) as f64
}
