//! This project's engine: one shard on the core, one partition, its callers tasks of the shard, as a server built on it
//! runs them. `fill` has [`FILLERS`] of them side by side, since one that waits for the device between two puts would
//! measure the device; the other engines' single filler waits for nothing.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use foreshard_engine::shard::stats::ShardStats;
use foreshard_engine::{Durability, Options, Shard, Store};

use crate::Result;
use crate::peer::{Peer, PeerConfig, Phase, digest};
use crate::workload::Workload;

/// Callers of the fill: enough to cover the time a log batch takes to reach the device.
const FILLERS: u64 = 256;

/// An open store.
pub struct ForeshardStore {
    store: Store,
}

impl ForeshardStore {
    /// Opens, or makes, a store in `dir`.
    pub fn open(dir: &Path, config: &PeerConfig) -> Result<Self> {
        let memtable_bytes = usize::try_from(config.memtable_bytes)?;
        let options = Options {
            partitions: 1,
            memory_bytes: usize::try_from(config.cache_bytes)? + 2 * memtable_bytes + (24 << 20),
            memtables_bytes: 2 * memtable_bytes,
            memtable_bytes,
            durability: if config.is_durable { Durability::Always } else { Durability::None },
            ..Options::default()
        };
        Ok(Self { store: Store::open(dir, options)? })
    }

    fn stats(&self) -> Result<ShardStats> {
        Ok(self.store.on_shard(0, |shard| async move { shard.stats() })?)
    }

    /// Runs `callers` tasks on the shard and adds up what they did.
    fn run<F, W>(&self, callers: u64, work: W) -> Result<Phase>
    where
        W: Fn(Rc<Shard>, u64) -> F + Send + 'static,
        F: Future<Output = foreshard_engine::Result<Phase>> + 'static,
    {
        let phase = self.store.on_shard(0, move |shard| async move {
            let begin = Instant::now();
            let runtime = shard.runtime().clone();
            let tasks: Vec<_> =
                (0..callers).map(|caller| runtime.spawn(work(Rc::clone(&shard), caller))).collect();
            let mut all = Phase { elapsed: Duration::ZERO, longest: Duration::ZERO, digest: 0 };
            for task in tasks {
                let phase = task.await?;
                all.longest = all.longest.max(phase.longest);
                all.digest = all.digest.wrapping_add(phase.digest);
            }
            all.elapsed = begin.elapsed();
            Ok::<_, foreshard_engine::Error>(all)
        })??;
        Ok(phase)
    }

    fn put_all(&self, workload: &Workload, rows: u64, callers: u64) -> Result<Phase> {
        let workload = *workload;
        self.run(callers, move |shard, caller| async move {
            let mut stopwatch = Stopwatch::start();
            let mut number = caller;
            while number < rows {
                shard.put(&workload.key(number), b"", &workload.value(number)).await?;
                stopwatch.lap(0);
                number += callers;
            }
            Ok(stopwatch.phase())
        })
    }
}

impl Peer for ForeshardStore {
    fn fill(&mut self, workload: &Workload) -> Result<Phase> {
        self.put_all(workload, workload.rows, FILLERS)
    }

    fn settle(&mut self) -> Result<Instant> {
        self.store.on_shard(0, |shard| async move {
            shard.flush().await?;
            shard.settled().await
        })??;
        Ok(Instant::now())
    }

    fn read(&mut self, workload: &Workload, reads: u64, callers: u64) -> Result<Phase> {
        let workload = *workload;
        self.run(callers, move |shard, caller| async move {
            let mut draw = workload.draws(caller);
            let mut stopwatch = Stopwatch::start();
            for _ in 0..reads / callers {
                let key = workload.key(draw());
                let found = shard.read(&key, b"", |row| row.map(|r| digest(r.value))).await?;
                stopwatch.lap(found.expect("every row was put"));
            }
            Ok(stopwatch.phase())
        })
    }

    fn write_durably(&mut self, workload: &Workload, writes: u64, callers: u64) -> Result<Phase> {
        self.put_all(workload, writes, callers)
    }

    fn bytes_written(&self) -> Result<Option<u64>> {
        let stats = self.stats()?;
        Ok(Some(stats.flushed_bytes + stats.compaction_written_bytes))
    }

    fn turn_us_p999(&self) -> Result<Option<f64>> {
        Ok(Some(self.stats()?.turns.nanos_at(0.999) as f64 / 1e3))
    }
}

/// One look at the clock per operation: the end of one is the beginning of the next.
struct Stopwatch {
    last: Instant,
    longest: Duration,
    digest: u64,
}

impl Stopwatch {
    fn start() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO, digest: 0 }
    }

    fn lap(&mut self, digest: u64) {
        let end = Instant::now();
        self.longest = self.longest.max(end - self.last);
        self.last = end;
        self.digest = self.digest.wrapping_add(digest);
    }

    const fn phase(&self) -> Phase {
        Phase { elapsed: Duration::ZERO, longest: self.longest, digest: self.digest }
    }
}
