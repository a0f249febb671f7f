//! What the device does by itself: fio, on the same core, in the same directory.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Result;

/// A pattern, and what it stands for.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// 4 KiB written and fdatasynced, one after the other: the floor of a durable write.
    SyncedWrites,
    /// 4 KiB read at random, 64 at a time.
    RandomReads,
    /// 64 KiB written and fdatasynced, one after the other: a log in full flow.
    LogWrites,
}

/// Operations and bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Operations per second.
    pub operations: f64,
    /// Bytes per second.
    pub bytes: f64,
}

/// Runs fio for `seconds` on a file of `file_bytes` in `dir`, which it lays out first and removes after.
pub fn measure(pattern: Pattern, dir: &Path, file_bytes: u64, seconds: u64) -> Result<Rate> {
    let file = dir.join("fio.data");
    let (direction, arguments): (&str, &[&str]) = match pattern {
        Pattern::SyncedWrites => {
            ("write", &["--rw=write", "--bs=4k", "--fdatasync=1", "--ioengine=psync", "--overwrite=1"])
        }
        Pattern::RandomReads => {
            ("read", &["--rw=randread", "--bs=4k", "--ioengine=io_uring", "--iodepth=64"])
        }
        Pattern::LogWrites => {
            ("write", &["--rw=write", "--bs=64k", "--fdatasync=1", "--ioengine=psync", "--overwrite=1"])
        }
    };
    let output = Command::new("fio")
        .args([
            "--name=peers",
            "--direct=1",
            "--thread",
            "--time_based",
            "--randseed=1",
            "--output-format=json",
        ])
        .args(arguments)
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--size={file_bytes}"))
        .arg(format!("--runtime={seconds}"))
        .output()
        .map_err(|e| format!("fio: {e}; is it installed?"))?;
    std::fs::remove_file(&file).ok();
    if !output.status.success() {
        return Err(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    parse(&output.stdout, direction)
}

/// fio's JSON may be preceded by lines of notes.
fn parse(output: &[u8], direction: &str) -> Result<Rate> {
    let start = output.iter().position(|&b| b == b'{').ok_or("fio printed no JSON")?;
    let report: Value = serde_json::from_slice(&output[start..])?;
    let job = &report["jobs"][0][direction];
    let number = |name: &str| job[name].as_f64().ok_or(format!("fio's report lacks {name}"));
    Ok(Rate { operations: number("iops")?, bytes: number("bw_bytes")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_before_the_report_are_skipped_and_a_report_without_a_job_is_an_error() {
        let text = br#"note: both iodepth >= 1
            {"jobs": [{"read": {"iops": 12.5, "bw_bytes": 51200}}]}"#;
        let rate = parse(text, "read").unwrap();
        assert!((rate.operations - 12.5).abs() < 1e-9 && (rate.bytes - 51200.0).abs() < 1e-9);
        assert!(parse(text, "write").is_err());
        assert!(parse(b"nothing", "read").is_err());
    }
}
