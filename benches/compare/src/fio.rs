//! What the device does by itself: fio, on a core, in a directory.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::Result;
use crate::child::Program;

/// Laying out its file, and ending.
const MORE_MAX: Duration = Duration::from_secs(300);
/// The second writer's writes: as large as a compaction's.
const STREAM_BLOCK: &str = "512k";

/// Reads of 4 KiB at random, past the page cache.
#[derive(Clone, Copy, Debug)]
pub struct RandomReads {
    /// On their way at once.
    pub depth: u32,
    /// Bytes they are spread over.
    pub file_bytes: u64,
}

/// 4 KiB written and then flushed, one after the other, while another job writes in a stream.
#[derive(Clone, Copy, Debug)]
pub struct FlushedWrites {
    /// Bytes per second of the stream; 0: none.
    pub beside: u64,
}

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    read: Direction,
    write: Direction,
    sync: Flush,
}

#[derive(Deserialize)]
struct Direction {
    iops: f64,
    clat_ns: Latency,
}

#[derive(Deserialize)]
struct Flush {
    lat_ns: Latency,
}

#[derive(Deserialize)]
struct Latency {
    #[serde(default)]
    percentile: std::collections::BTreeMap<String, f64>,
}

impl Latency {
    fn p99_9_us(&self) -> Result<f64> {
        let nanos = self.percentile.get("99.900000").ok_or("fio told no 99.9th percentile")?;
        Ok(nanos / 1000.0)
    }
}

impl RandomReads {
    /// Reads per second.
    pub fn measure(self, dir: &Path, core: usize, seconds: f64) -> Result<f64> {
        let job = ["--name=reads", "--rw=randread", "--bs=4k", "--ioengine=io_uring", "--randseed=1"];
        let sizes = [format!("--iodepth={}", self.depth), format!("--size={}", self.file_bytes)];
        let report = run(dir, core, seconds, job.map(str::to_owned).into_iter().chain(sizes))?;
        Ok(report.jobs.first().ok_or("fio reported no job")?.read.iops)
    }
}

impl FlushedWrites {
    /// The 99.9th percentile of a write and its flush, in microseconds: the longer of the two parts', for fio does not
    /// tell that of their sum, which is not below it.
    pub fn p99_9_us(self, dir: &Path, core: usize, seconds: f64) -> Result<f64> {
        let flushed = ["--name=flushed", "--rw=write", "--bs=4k", "--size=256m", "--fdatasync=1"];
        let mut jobs = flushed.map(str::to_owned).to_vec();
        jobs.extend(["--ioengine=psync", "--overwrite=1"].map(str::to_owned));
        if self.beside > 0 {
            jobs.extend(["--name=stream", "--rw=write", "--size=1g", "--overwrite=1"].map(str::to_owned));
            jobs.extend([format!("--bs={STREAM_BLOCK}"), format!("--rate={}", self.beside)]);
            jobs.push("--ioengine=io_uring".into());
        }
        let report = run(dir, core, seconds, jobs)?;
        let job = report.jobs.first().ok_or("fio reported no job")?;
        Ok(job.write.clat_ns.p99_9_us()?.max(job.sync.lat_ns.p99_9_us()?))
    }
}

/// Runs fio's jobs in a directory of its own below `dir`, which is gone afterwards.
fn run(dir: &Path, core: usize, seconds: f64, jobs: impl IntoIterator<Item = String>) -> Result<Report> {
    let files = dir.join("fio");
    crate::server::empty(&files)?;
    let mut fio = Program::new("fio", Some(core));
    // What comes before the first job's name is for all of them.
    fio.arguments(["--direct=1", "--thread", "--time_based", "--output-format=json"]);
    fio.argument(format!("--runtime={seconds}")).argument(format!("--directory={}", files.display()));
    let ran = fio.arguments(jobs).heard().run(MORE_MAX + Duration::from_secs_f64(seconds));
    std::fs::remove_dir_all(&files)?;
    let (status, said) = ran.map_err(|e| format!("fio: {e}; is it installed?"))?;
    if !status.success() {
        return Err(format!("fio: {status}: {said}").into());
    }
    parse(&said)
}

/// fio's JSON may be preceded by lines of notes.
fn parse(said: &str) -> Result<Report> {
    let start = said.find('{').ok_or("fio printed no JSON")?;
    Ok(serde_json::from_str(&said[start..]).map_err(|e| format!("fio's report: {e}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_before_the_report_are_skipped_and_missing_parts_are_errors() {
        let said = r#"note: both iodepth >= 1
            {"jobs": [{"read": {"iops": 12.5, "clat_ns": {}},
                       "write": {"iops": 0, "clat_ns": {"percentile": {"99.900000": 7000}}},
                       "sync": {"lat_ns": {}}}]}"#;
        let report = parse(said).unwrap();
        assert!((report.jobs[0].read.iops - 12.5).abs() < 1e-9);
        assert!((report.jobs[0].write.clat_ns.p99_9_us().unwrap() - 7.0).abs() < 1e-9);
        assert!(report.jobs[0].sync.lat_ns.p99_9_us().is_err());
        assert!(parse("nothing").is_err() && parse(r#"{"jobs": [{}]}"#).is_err());
    }
}
