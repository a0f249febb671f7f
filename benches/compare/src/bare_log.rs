//! What the device leaves of an open loop: a log that does nothing but write and flush.
//!
//! Operations are due at a steady rate. Whatever is due when the log is free is written, 4 KiB, and flushed, together;
//! an operation's latency is from when it was due to the end of its flush. fio's percentiles count a stall of the device
//! once; an open loop counts it once for each operation that was due in it, and so does this.

use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;

/// The log's file, written over again and again.
const LOG_BYTES: u64 = 256 << 20;
/// The stream's file likewise.
const STREAM_BYTES: u64 = 1 << 30;
const PAGE_BYTES: usize = 4 << 10;
const STREAM_BLOCK_BYTES: usize = 512 << 10;

/// Operations per second, and bytes per second of a stream beside them.
#[derive(Clone, Copy, Debug)]
pub struct BareLog {
    /// Operations due in a second.
    pub rate: f64,
    /// Bytes per second of the stream; 0: none.
    pub beside: f64,
}

/// Memory as O_DIRECT wants it.
#[repr(align(4096))]
#[derive(Clone, Copy)]
struct Page([u8; PAGE_BYTES]);

/// Pages that are written together.
struct Block(Vec<Page>);

impl Block {
    fn new() -> Self {
        Self(vec![Page([0; PAGE_BYTES]); STREAM_BLOCK_BYTES / PAGE_BYTES])
    }

    /// Writes some of it, and says how many bytes.
    fn write(&self, file: &File, at: u64) -> Result<u64> {
        let slices: Vec<IoSlice<'_>> = self.0.iter().map(|page| IoSlice::new(&page.0)).collect();
        Ok(rustix::io::pwritev(file, &slices, at)? as u64)
    }
}

impl BareLog {
    /// The 99.9th percentile of the operations' latencies, in microseconds, all of it on one core.
    pub fn p99_9_us(self, dir: &Path, core: usize, seconds: f64) -> Result<f64> {
        let files = dir.join("bare_log");
        crate::server::empty(&files)?;
        let (log, stream) =
            (zeroed(&files.join("log"), LOG_BYTES)?, zeroed(&files.join("stream"), STREAM_BYTES)?);
        let (begin, length) = (Instant::now(), Duration::from_secs_f64(seconds));
        let latencies = std::thread::scope(|scope| {
            let streaming = scope.spawn(|| write_stream(&stream, self.beside, core, begin, length));
            let latencies = scope.spawn(|| self.write_log(&log, core, begin, length)).join();
            streaming.join().map_err(|_| "the stream's thread panicked")??;
            latencies.map_err(|_| "the log's thread panicked")?
        });
        std::fs::remove_dir_all(&files)?;
        let mut latencies = latencies?;
        let at = latencies.len() * 999 / 1000;
        if at >= latencies.len() {
            return Err("no operation was due".into());
        }
        let (_, p99_9, _) = latencies.select_nth_unstable_by(at, f64::total_cmp);
        Ok(*p99_9)
    }

    /// The latency of each operation.
    fn write_log(self, log: &File, core: usize, begin: Instant, length: Duration) -> Result<Vec<f64>> {
        bind(core)?;
        let page = Box::new(Page([0; PAGE_BYTES]));
        let (mut latencies, mut offset) = (Vec::new(), 0);
        let due = |operation: usize| operation as f64 / self.rate;
        loop {
            let start = begin.elapsed();
            if start >= length {
                return Ok(latencies);
            }
            let next = Duration::from_secs_f64(due(latencies.len()));
            if next > start {
                std::thread::sleep(next - start);
                continue;
            }
            log.write_all_at(&page.0, offset)?;
            log.sync_data()?;
            offset = (offset + PAGE_BYTES as u64) % LOG_BYTES;
            let end = begin.elapsed().as_secs_f64();
            while due(latencies.len()) <= start.as_secs_f64() {
                latencies.push((end - due(latencies.len())) * 1e6);
            }
        }
    }
}

fn write_stream(stream: &File, rate: f64, core: usize, begin: Instant, length: Duration) -> Result<()> {
    bind(core)?;
    let block = Block::new();
    let mut written = 0_u64;
    while begin.elapsed() < length {
        let due = if rate > 0.0 { Duration::from_secs_f64(written as f64 / rate) } else { length };
        match due.checked_sub(begin.elapsed()) {
            Some(early) if !early.is_zero() => {
                std::thread::sleep(early.min(length.saturating_sub(begin.elapsed())));
            }
            _ => {
                let at = written % STREAM_BYTES;
                written += block.write(stream, at)?;
            }
        }
    }
    Ok(())
}

/// A file of zeroes that are on the device, written past the page cache.
fn zeroed(path: &Path, bytes: u64) -> Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits())?;
    let file = File::options().write(true).create_new(true).custom_flags(flags).open(path)?;
    let block = Block::new();
    let mut at = 0;
    while at < bytes {
        at += block.write(&file, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn bind(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_that_was_due_has_a_latency_and_a_busy_log_has_longer_ones() {
        let dir = std::env::temp_dir().join(format!("bare-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = File::options().write(true).create_new(true).open(dir.join("log")).unwrap();
        let length = Duration::from_millis(300);
        for rate in [50.0, 5000.0] {
            let latencies = BareLog { rate, beside: 0.0 }.write_log(&log, 0, Instant::now(), length).unwrap();
            assert!(latencies.iter().all(|&latency| latency > 0.0));
            // What is due after the last flush began has none.
            assert!(latencies.len() as f64 <= rate * 0.3 + 1.0);
            assert!(!latencies.is_empty());
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
