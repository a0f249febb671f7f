//! RocksDB: its defaults, but for what all engines are given alike (memtable, cache, lz4) and a Bloom filter of 10
//! bits, without which its reads would be misjudged. Two background threads, its own minimum.
//!
//! It refuses a library built with assertions: `SyncPoint` is in the program only then.

use std::path::Path;
use std::time::{Duration, Instant};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WaitForCompactOptions,
    WriteOptions,
};

use crate::Result;
use crate::peer::{Peer, PeerConfig, Phase, digest, run_alone, run_callers};
use crate::workload::Workload;

/// An open RocksDB.
pub struct Rocks {
    db: DB,
}

impl Rocks {
    /// Opens, or makes, a store in `dir`.
    pub fn open(dir: &Path, config: &PeerConfig) -> Result<Self> {
        refuse_assertions()?;
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(usize::try_from(config.cache_bytes)?));
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(usize::try_from(config.memtable_bytes)?);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&table);
        options.set_use_direct_reads(config.is_direct);
        Ok(Self { db: DB::open(&options, dir)? })
    }

    fn property(&self, name: &str) -> Result<u64> {
        Ok(self.db.property_int_value(name)?.ok_or("RocksDB lacks a property")?)
    }
}

impl Peer for Rocks {
    fn fill(&mut self, workload: &Workload) -> Result<Phase> {
        let options = WriteOptions::default();
        run_alone(0..workload.rows, |n| {
            self.db.put_opt(workload.key(n), workload.value(n), &options)?;
            Ok(0)
        })
    }

    fn settle(&mut self) -> Result<Instant> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        self.db.wait_for_compact(&options)?;
        loop {
            let end = Instant::now();
            let pending = self.property("rocksdb.compaction-pending")?
                + self.property("rocksdb.num-running-compactions")?
                + self.property("rocksdb.num-running-flushes")?
                + self.property("rocksdb.mem-table-flush-pending")?;
            if pending == 0 {
                return Ok(end);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn read(&mut self, workload: &Workload, reads: u64, callers: u64) -> Result<Phase> {
        let db = &self.db;
        run_callers(callers, |caller| {
            let mut draw = workload.draws(caller);
            let options = ReadOptions::default();
            run_alone(0..reads / callers, |_| {
                let found = db.get_pinned_opt(workload.key(draw()), &options)?;
                Ok(digest(&found.ok_or("a row is missing")?))
            })
        })
    }

    fn write_durably(&mut self, workload: &Workload, writes: u64, callers: u64) -> Result<Phase> {
        let db = &self.db;
        run_callers(callers, |caller| {
            let mut options = WriteOptions::default();
            options.set_sync(true);
            let share = writes / callers;
            run_alone(caller * share..(caller + 1) * share, |n| {
                db.put_opt(workload.key(n), workload.value(n), &options)?;
                Ok(0)
            })
        })
    }

    fn bytes_written(&self) -> Result<Option<u64>> {
        let compaction = self.db.property_value("rocksdb.cfstats")?.unwrap_or_default();
        let log = self.db.property_value("rocksdb.dbstats")?.unwrap_or_default();
        let compacted = gigabytes(&compaction, "Cumulative compaction: ", " GB write");
        let logged = gigabytes(&log, "Cumulative WAL: ", " GB");
        Ok(compacted.zip(logged).map(|(a, b)| ((a + b) * f64::from(1 << 30)) as u64))
    }
}

/// The number before `unit` in the line that starts with `line`.
fn gigabytes(text: &str, line: &str, unit: &str) -> Option<f64> {
    let line = text.lines().find_map(|l| l.strip_prefix(line))?;
    let before = &line[..line.find(unit)?];
    before.rsplit([' ', ':']).next()?.parse().ok()
}

fn refuse_assertions() -> Result<()> {
    let program = std::fs::read("/proc/self/exe")?;
    let has = |symbol: &[u8]| program.windows(symbol.len()).any(|w| w == symbol);
    if !has(b"_ZN7rocksdb6DBImpl") {
        return Err(
            "the program has no symbols, so it cannot be told how RocksDB was built: do not strip it".into(),
        );
    }
    if has(b"_ZN7rocksdb9SyncPoint11GetInstanceEv") {
        return Err(
            "RocksDB was built with assertions (without NDEBUG): its numbers would mean nothing".into()
        );
    }
    if !cfg!(target_feature = "sse4.2") && cfg!(target_arch = "x86_64") {
        return Err("RocksDB was built without SSE4.2, its checksums are slow: build from inside benches/peers, or with RUSTFLAGS=-Ctarget-cpu=native".into());
    }
    Ok(())
}
