//! fjall: its defaults, but for what all engines are given alike (memtable, cache, lz4) and a Bloom filter of 10
//! bits on every level. It has no O_DIRECT: its reads beyond the cache come from the page cache if they are there.
//!
//! Its compaction debt is zero when no flush is queued and no compaction ran or ended for [`QUIET`]; the clock
//! stops where that silence began.

use std::path::Path;
use std::time::{Duration, Instant};

use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::Result;
use crate::peer::{Peer, PeerConfig, Phase, digest, run_alone, run_callers};
use crate::workload::Workload;

/// Long enough that a compaction which was due has begun.
const QUIET: Duration = Duration::from_millis(500);

/// An open fjall database.
pub struct FjallStore {
    db: Database,
    rows: Keyspace,
}

impl FjallStore {
    /// Opens, or makes, a store in `dir`.
    pub fn open(dir: &Path, config: &PeerConfig) -> Result<Self> {
        let db = Database::builder(dir).cache_size(config.cache_bytes).open()?;
        let rows = db.keyspace("rows", || {
            let bloom = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
            KeyspaceCreateOptions::default()
                .max_memtable_size(config.memtable_bytes)
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
                .filter_policy(FilterPolicy::all(bloom))
        })?;
        Ok(Self { db, rows })
    }
}

impl Peer for FjallStore {
    fn fill(&mut self, workload: &Workload) -> Result<Phase> {
        run_alone(0..workload.rows, |n| {
            self.rows.insert(workload.key(n), workload.value(n))?;
            Ok(0)
        })
    }

    fn settle(&mut self) -> Result<Instant> {
        self.rows.rotate_memtable_and_wait()?;
        let mut since = Instant::now();
        let mut completed = self.db.compactions_completed();
        while since.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(5));
            let is_busy = self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0;
            if is_busy || self.db.compactions_completed() != completed {
                since = Instant::now();
                completed = self.db.compactions_completed();
            }
        }
        Ok(since)
    }

    fn read(&mut self, workload: &Workload, reads: u64, callers: u64) -> Result<Phase> {
        let rows = &self.rows;
        run_callers(callers, |caller| {
            let mut draw = workload.draws(caller);
            run_alone(0..reads / callers, |_| {
                let found = rows.get(workload.key(draw()))?;
                Ok(digest(&found.ok_or("a row is missing")?))
            })
        })
    }

    fn write_durably(&mut self, workload: &Workload, writes: u64, callers: u64) -> Result<Phase> {
        let (db, rows) = (&self.db, &self.rows);
        run_callers(callers, |caller| {
            let share = writes / callers;
            run_alone(caller * share..(caller + 1) * share, |n| {
                rows.insert(workload.key(n), workload.value(n))?;
                db.persist(PersistMode::SyncData)?;
                Ok(0)
            })
        })
    }

    fn bytes_written(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}
