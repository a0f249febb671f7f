//! What was spent, as the kernel tells it: processor time of a process and of a core, load of the machine.

use std::time::{Duration, Instant};

use crate::Result;

/// A process that uses less than this part of a core has nothing left to do: Redis' timers take half a percent.
const QUIET_BUSY: f64 = 0.05;
/// It is quiet when it was so for as long as this: two dozen ticks of the kernel's clock.
const QUIET_FOR: Duration = Duration::from_millis(250);

/// Cargo's profile with which this program was built: what it builds itself is built alike.
pub const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// Refuses to measure with a program that was built with debug assertions. A smoke measures nothing.
pub fn refuse_debug_build(smoke: bool) -> Result<()> {
    if cfg!(debug_assertions) && !smoke {
        return Err(
            "built with debug assertions, its numbers would mean nothing: build with --release".into()
        );
    }
    Ok(())
}

/// The cores of a server and of its client, as named or chosen: the last one, and the one before it.
pub fn cores(server: Option<usize>, client: Option<usize>) -> Result<(usize, usize)> {
    let cores = std::thread::available_parallelism()?.get();
    let server = server.unwrap_or(cores - 1);
    let client = client.or(server.checked_sub(1)).unwrap_or(server + 1);
    if cores < 2 || server == client {
        return Err("the server and the client need a core each (--server-core, --client-core)".into());
    }
    Ok((server, client))
}

/// Seconds of processor time of a process: all its threads, the kernel's workers for its I/O among them (they are
/// threads of the process), and the processes it started, alive or not.
pub fn process_cpu_seconds(id: u32) -> Result<f64> {
    let stat = |id: u32| -> Result<Vec<f64>> {
        let path = format!("/proc/{id}/stat");
        Ok(times(&std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?))
    };
    // Its own, then that of the children it waited for.
    let mut ticks: f64 = stat(id)?.iter().sum();
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        // Threads and children come and go meanwhile: those that went are in the sums of who waited for them.
        let children = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
            ticks += stat(child).unwrap_or_default().iter().sum::<f64>();
        }
    }
    Ok(ticks / ticks_per_second())
}

/// Seconds of processor time of the kernel's workers for a process' I/O, those that are there: they go after some seconds without
/// work, and their time is in the process' own from then on.
pub fn kernel_workers_cpu_seconds(id: u32) -> Result<f64> {
    let mut ticks = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        if stat.contains("(iou-wrk-") {
            ticks += times(&stat).iter().take(2).sum::<f64>();
        }
    }
    Ok(ticks / ticks_per_second())
}

/// The four times of a process in ticks: user, system, the same of its children.
fn times(stat: &str) -> Vec<f64> {
    // The second field is a name in parentheses that may hold anything; times are the 14th to the 17th.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    after.split_whitespace().skip(11).take(4).map_while(|t| t.parse().ok()).collect()
}

/// Seconds in which a core was not idle since the machine began: whoever used it, interrupts too.
pub fn core_busy_seconds(core: usize) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|l| l.strip_prefix(&name));
    let line = line.ok_or_else(|| format!("/proc/stat has no core {core}"))?;
    Ok(busy_ticks(line) / ticks_per_second())
}

/// user nice system (idle iowait) irq softirq; what a hypervisor gave to others is not this machine's.
fn busy_ticks(line: &str) -> f64 {
    let ticks: Vec<f64> = line.split_whitespace().map_while(|t| t.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|&n: &usize| ticks.get(n)).sum()
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Waits until a process has done what it put off; at most `limit`, which is no error: some never rest.
pub fn settle(id: u32, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        let (before, from) = (process_cpu_seconds(id)?, Instant::now());
        std::thread::sleep(QUIET_FOR);
        if process_cpu_seconds(id)? - before < QUIET_BUSY * from.elapsed().as_secs_f64() {
            return Ok(());
        }
    }
    Ok(())
}

/// The most memory a process has had resident so far, bytes.
pub fn resident_bytes_max(id: u32) -> Result<u64> {
    status_bytes(id, "VmHWM:")
}

/// The memory a process has resident, bytes.
pub fn resident_bytes(id: u32) -> Result<u64> {
    status_bytes(id, "VmRSS:")
}

fn status_bytes(id: u32, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"));
    Ok(line.ok_or_else(|| format!("/proc/{id}/status has no {name}"))?.trim().parse::<u64>()? * 1024)
}

/// The load average of the last minute.
pub fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().ok_or("/proc/loadavg is empty")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_times() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 10 20 30 40 5 6 7 8 20 0 3 0 100";
        assert_eq!(times(stat), [5.0, 6.0, 7.0, 8.0]);
        assert!(times("").is_empty());
    }

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        assert_eq!(busy_ticks("1 2 4 1000 1000 8 16 1000 1000 1000"), 31.0);
    }

    #[test]
    fn work_of_this_process_and_of_its_children_is_seen() {
        let me = std::process::id();
        let before = process_cpu_seconds(me).unwrap();
        let mut child =
            crate::child::Program::new("sh", None).arguments(["-c", "while :; do :; done"]).start().unwrap();
        let begin = Instant::now();
        while process_cpu_seconds(me).unwrap() < before + 0.1 {
            assert!(begin.elapsed() < Duration::from_secs(60), "a child that works is not seen");
        }
        let alive = process_cpu_seconds(me).unwrap();
        child.kill().unwrap();
        assert!(process_cpu_seconds(me).unwrap() >= alive - 0.05, "a child that ended is forgotten");
    }
}
