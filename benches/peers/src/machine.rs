//! The machine around a run: one core, what the process wrote, how busy others were.

use std::path::Path;

use rustix::fs::Advice;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// Bounds this process, and every thread it will start, to one core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|e| format!("core {core}: {e}"))?;
    Ok(())
}

/// Bytes this process had read from devices and had handed over to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Io {
    /// From devices.
    pub read_bytes: u64,
    /// Dirtied or written directly, whether or not the kernel has written it out.
    pub write_bytes: u64,
}

impl Io {
    /// Since the process began.
    pub fn of_this_process() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/self/io")?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
            Ok(line.ok_or("/proc/self/io lacks a field")?.trim().parse()?)
        };
        Ok(Self { read_bytes: field("read_bytes")?, write_bytes: field("write_bytes")? })
    }
}

/// Seconds of core time of all threads, user and kernel.
pub fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses that may hold blanks; times are the 14th and 15th.
    let rest = text.rsplit(") ").next().ok_or("/proc/self/stat is strange")?;
    let ticks: Vec<f64> = rest.split(' ').skip(11).take(2).map_while(|t| t.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds in which the core that this process is bound to was not idle, whoever used it: interrupts, and the kernel's own
/// threads that end this process's reads and writes, are nobody's time.
pub fn whole_core_seconds() -> Result<f64> {
    let set = sched_getaffinity(None)?;
    let core = (0..CpuSet::MAX_CPU).find(|&n| set.is_set(n)).ok_or("bound to no core")?;
    let text = std::fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|l| l.strip_prefix(&name)).ok_or("/proc/stat lacks the core")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|t| t.parse().ok()).collect();
    // user nice system (idle iowait) irq softirq; what a hypervisor gave to others is not this machine's.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&n: &usize| ticks.get(n)).sum();
    Ok(busy / rustix::param::clock_ticks_per_second() as f64)
}

/// Peak resident bytes.
pub fn resident_bytes_max() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

/// The load average of the last minute.
pub fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().ok_or("no load average")?.parse()?)
}

/// Writes out and forgets what the page cache holds of the files under `dir`. Returns their bytes on disk.
pub fn forget_pages(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            bytes += forget_pages(&path)?;
        } else {
            let file = std::fs::File::open(&path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
            bytes += file.metadata()?.len();
        }
    }
    Ok(bytes)
}
