//! An engine under measure. Its calls are whole phases, not single operations, so that an engine which runs its
//! callers on its own core is measured as it is used, and one of threads likewise.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::workload::Workload;

/// Which engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// This project's engine.
    Foreshard,
    /// RocksDB, by the `rocksdb` crate.
    #[cfg(feature = "rocksdb")]
    Rocksdb,
    /// fjall.
    Fjall,
}

/// What all engines are given alike.
#[derive(Clone, Copy, Debug)]
pub struct PeerConfig {
    /// A memtable's size.
    pub memtable_bytes: u64,
    /// The block cache's size.
    pub cache_bytes: u64,
    /// Writes are acknowledged from the device; otherwise the log is on and unsynced.
    pub is_durable: bool,
    /// Reads go past the page cache, where the engine can.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "fjall has no O_DIRECT"))]
    pub is_direct: bool,
}

/// An open store.
pub trait Peer {
    /// Puts every row once, in the order of their numbers, the log on and unsynced. One caller.
    fn fill(&mut self, workload: &Workload) -> Result<Phase>;

    /// Writes out what is in memory and waits until there is nothing to compact. Returns when that was the case,
    /// which may be earlier than it was found out.
    fn settle(&mut self) -> Result<Instant>;

    /// Reads `reads` random rows with `callers` at once; fails if one is missing.
    fn read(&mut self, workload: &Workload, reads: u64, callers: u64) -> Result<Phase>;

    /// Puts `writes` rows, each acknowledged when it is on the device, with `callers` at once.
    fn write_durably(&mut self, workload: &Workload, writes: u64, callers: u64) -> Result<Phase>;

    /// What the engine itself says it wrote, log included, in bytes; if it says.
    fn bytes_written(&self) -> Result<Option<u64>>;

    /// For an engine of one thread: the 99.9th percentile of the turns for which it held its core so far, in
    /// microseconds.
    fn turn_us_p999(&self) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// What a phase took.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// From the first operation's start to the last one's end.
    pub elapsed: Duration,
    /// The longest single operation.
    pub longest: Duration,
    /// A digest of what was read: the same for every engine.
    pub digest: u64,
}

impl Engine {
    /// Opens, or makes, a store in `dir`.
    pub fn open(self, dir: &Path, config: &PeerConfig) -> Result<Box<dyn Peer>> {
        match self {
            Self::Foreshard => Ok(Box::new(crate::foreshard_store::ForeshardStore::open(dir, config)?)),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Ok(Box::new(crate::rocks::Rocks::open(dir, config)?)),
            Self::Fjall => Ok(Box::new(crate::fjall_store::FjallStore::open(dir, config)?)),
        }
    }

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreshard => "foreshard",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "rocksdb",
            Self::Fjall => "fjall",
        }
    }
}

/// Runs `operation` once for each number in `numbers`, on this thread.
pub fn run_alone(
    numbers: impl Iterator<Item = u64>,
    mut operation: impl FnMut(u64) -> Result<u64>,
) -> Result<Phase> {
    let begin = Instant::now();
    let (mut last, mut longest, mut digest) = (begin, Duration::ZERO, 0_u64);
    for number in numbers {
        digest = digest.wrapping_add(operation(number)?);
        // One look at the clock per operation: the end of one is the beginning of the next.
        let end = Instant::now();
        longest = longest.max(end - last);
        last = end;
    }
    Ok(Phase { elapsed: last - begin, longest, digest })
}

/// Runs `caller(which)` on a thread for each of `callers`.
pub fn run_callers(callers: u64, caller: impl Fn(u64) -> Result<Phase> + Sync) -> Result<Phase> {
    let begin = Instant::now();
    let caller = &caller;
    let phases: Result<Vec<Phase>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|which| scope.spawn(move || caller(which))).collect();
        threads.into_iter().map(|t| t.join().map_err(|_| "a caller panicked")?).collect()
    });
    let (elapsed, phases) = (begin.elapsed(), phases?);
    let longest = phases.iter().map(|p| p.longest).max().unwrap_or_default();
    let digest = phases.iter().fold(0, |sum: u64, p| sum.wrapping_add(p.digest));
    Ok(Phase { elapsed, longest, digest })
}

/// What a read adds to the digest.
pub fn digest(value: &[u8]) -> u64 {
    value.iter().take(8).fold(value.len() as u64, |sum, &b| sum << 7 ^ u64::from(b))
}
