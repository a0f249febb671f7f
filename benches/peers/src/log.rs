//! The log by itself: how fast it takes full batches, and how fast a store comes back from one.
//!
//! Only this project's engine has its log measured so; what it is compared with is the disk.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use foreshard_engine::entry::Expiry;
use foreshard_engine::ids::{Epoch, Incarnation, Index, PartitionId, ShardId, Version};
use foreshard_engine::io::ring::{RingConfig, RingRuntime};
use foreshard_engine::superblock::StoreId;
use foreshard_engine::wal::config::{FILE_BYTES_DEFAULT, FILE_BYTES_MIN};
use foreshard_engine::wal::format::BLOCK_BYTES;
use foreshard_engine::wal::{Intent, LogId, RecordHeader, Wal, WalConfig};
use foreshard_engine::{Durability, Options, Store, block_on};

use crate::Result;
use crate::machine;
use crate::scenario::{Numbers, Size};
use crate::workload::Workload;

/// A batch with its header, as fio writes it.
const BATCH_BYTES: usize = 64 << 10;
/// What a batch of one record holds besides the record's value: its header and the record's, rounded up.
const OVERHEAD_BYTES: usize = 1 << 10;
/// A log as large as fio's file.
const LOG_BYTES: u64 = 1 << 30;
/// Tasks that put rows side by side.
const FILLERS: u64 = 256;
/// Rows put between two looks at the log's size.
const LOOK_EVERY: u64 = 1 << 10;
/// A log has at least so many files, so that its size is known to an eighth.
const FILES_MIN: u64 = 8;
/// Recovery lets as many partitions flush side by side.
const PARTITIONS: usize = 8;

/// Batches of 64 KiB, each written and flushed before the next, into a log that recycles its files.
pub fn bandwidth(dir: &Path, size: &Size) -> Result<Numbers> {
    let writing = Duration::from_secs(size.log_seconds);
    let ring = RingRuntime::new(&RingConfig::default())?;
    let config = WalConfig {
        id: LogId { store: StoreId([1; 16]), incarnation: Incarnation(1), shard: ShardId(0) },
        dir: dir.join("log"),
        file_bytes: FILE_BYTES_DEFAULT,
        cap_bytes: LOG_BYTES,
        batch_bytes_max: BATCH_BYTES / 2,
        durability: Durability::Always,
    };
    let bytes_per_second: Result<f64> = ring.run(async {
        let wal = Wal::create(&ring.runtime(), ring.disk(), config).await?;
        // Until every file has been written once: fio's is laid out before its clock starts, too.
        write_for(&wal, writing / 2).await?;
        let bytes_per_second = write_for(&wal, writing).await?;
        wal.close().await?;
        Ok(bytes_per_second)
    });
    Ok(Numbers::from([("log_bytes_per_s".into(), bytes_per_second?)]))
}

/// Bytes of batches that became durable per second.
async fn write_for(wal: &Rc<Wal>, limit: Duration) -> Result<f64> {
    let value = vec![b'v'; BATCH_BYTES - OVERHEAD_BYTES];
    let (begin, first) = (Instant::now(), wal.head_lsn());
    let mut index = 0;
    while begin.elapsed() < limit {
        index += 1;
        wal.ready(value.len()).await?;
        let header =
            RecordHeader { partition: PartitionId(1), epoch: Epoch(1), index: Index(index), time_ms: index };
        let ticket = wal.append(&header, &Intent::Write, |rows| {
            rows.put(b"row", &value, Expiry::NEVER, Version(index));
        })?;
        wal.durable(ticket).await?;
        // Nothing of it is needed: files are recycled all the time, as a busy shard does.
        wal.release(ticket.lsn);
    }
    Ok((wal.head_lsn().0 - first.0) as f64 / begin.elapsed().as_secs_f64())
}

/// A store whose process dies with `log_bytes` of log that no segment holds, opened again: until it serves.
pub fn recovery(dir: &Path, size: &Size) -> Result<Numbers> {
    let store_dir = dir.join("store");
    let died = Command::new(std::env::current_exe()?)
        .args(["one", "foreshard", "recovery-fill", "--dir"])
        .arg(&store_dir)
        .args(["--log-bytes", &size.log_bytes.to_string(), "--seed", &size.seed.to_string()])
        .output()?;
    if died.status.success() {
        return Err("the process that fills the log was to die".into());
    }
    let rows: u64 = String::from_utf8(died.stdout)?
        .trim()
        .parse()
        .map_err(|e| format!("rows put before the crash: {e}: {}", String::from_utf8_lossy(&died.stderr)))?;
    machine::forget_pages(&store_dir)?;
    let (begin, cpu) = (Instant::now(), machine::cpu_seconds()?);
    let store = Store::open(&store_dir, options(size))?;
    let elapsed = begin.elapsed();
    let busy = (machine::cpu_seconds()? - cpu) / elapsed.as_secs_f64();
    let workload = Workload { rows, seed: size.seed };
    let client = store.client()?;
    let mut draw = workload.draws(0);
    for number in (0..1000).map(|_| draw()).chain([0, rows - 1]) {
        if block_on(client.get(&workload.key(number), b""))?.as_deref() != Some(&workload.value(number)[..]) {
            return Err(format!("row {number} was acknowledged and is not there").into());
        }
    }
    drop(client);
    store.close()?;
    Ok(Numbers::from([
        ("recovery_s".into(), elapsed.as_secs_f64()),
        ("recovery_core_busy".into(), busy),
        ("recovery_rows".into(), rows as f64),
        ("recovery_log_bytes".into(), size.log_bytes as f64),
    ]))
}

/// Fills a log and dies, after printing how many rows were acknowledged. Returns only on failure.
pub fn fill_and_die(dir: &Path, size: &Size) -> Result<Numbers> {
    let store = Store::open(dir, options(size))?;
    let (seed, limit) = (size.seed, size.log_bytes);
    let rows = store.on_shard(0, move |shard| async move {
        let runtime = shard.runtime().clone();
        let mut rows = 0;
        while shard.stats().wal_bytes < limit {
            let tasks: Vec<_> = (0..FILLERS)
                .map(|filler| {
                    let (shard, workload) = (Rc::clone(&shard), Workload { rows: 0, seed });
                    runtime.spawn(async move {
                        for number in (rows + filler..rows + FILLERS * LOOK_EVERY).step_by(FILLERS as usize) {
                            shard.put(&workload.key(number), b"", &workload.value(number)).await?;
                        }
                        Ok::<_, foreshard_engine::Error>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await?;
            }
            rows += FILLERS * LOOK_EVERY;
        }
        Ok::<_, foreshard_engine::Error>(rows)
    })??;
    println!("{rows}");
    std::process::abort()
}

/// One shard on which nothing is flushed before the log is full.
fn options(size: &Size) -> Options {
    let file_bytes = (size.log_bytes / FILES_MIN).next_multiple_of(BLOCK_BYTES as u64);
    let memtables_bytes = usize::try_from(size.log_bytes).unwrap_or(usize::MAX).saturating_mul(4);
    Options {
        partitions: PARTITIONS,
        memory_bytes: memtables_bytes * 2,
        memtables_bytes,
        memtable_bytes: memtables_bytes / PARTITIONS,
        wal_file_bytes: file_bytes.clamp(FILE_BYTES_MIN, FILE_BYTES_DEFAULT),
        wal_cap_bytes: (size.log_bytes * 4).max(FILE_BYTES_MIN * FILES_MIN),
        durability: Durability::None,
        ..Options::default()
    }
}
