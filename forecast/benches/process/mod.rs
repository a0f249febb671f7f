//! What a measuring program has used of the machine, as the kernel counts it.

use std::time::Duration;

pub(crate) type Failure = Box<dyn std::error::Error>;

/// What the first thread has had of a processor.
pub(crate) fn processor_time() -> Result<Duration, Failure> {
    let times = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = times.split_whitespace().next().ok_or("no times in /proc/self/schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// The most memory that was resident, MiB.
pub(crate) fn resident_mib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("VmHWM has no number")?.parse()?;
    Ok(kib / 1024)
}
