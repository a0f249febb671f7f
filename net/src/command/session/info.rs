//! INFO: how the server is doing, all shards together.

use std::fmt::Write;

use crate::command::rows::COMMANDS;
use crate::command::{Context, walks};
use crate::data::fault::Result;
use crate::data::tx::Tx;
use crate::resp::{Args, Protocol, Reply};
use crate::server::report::Report;
use crate::server::session::Session;
use crate::server::{REDIS_VERSION, on_all};

/// Sections that INFO shows unasked.
const USUAL: &[&str] = &["server", "clients", "memory", "persistence", "stats", "replication", "cpu"];
/// What INFO ALL adds. Counting keys walks all of them: whoever wants that asks.
const MORE: &[&str] = &["commandstats", "keyspace"];

/// Writes a line: a name and a value.
type Line<'a> = dyn FnMut(&str, &dyn std::fmt::Display) + 'a;

/// Runs it.
pub(super) async fn run(session: &Session, args: Args<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut wanted: Vec<String> = Vec::new();
    for arg in args.from(1) {
        let section = String::from_utf8_lossy(arg).to_ascii_lowercase();
        match section.as_str() {
            "default" => wanted.extend(USUAL.iter().map(|&s| s.to_owned())),
            "all" | "everything" => wanted.extend(USUAL.iter().chain(MORE).map(|&s| s.to_owned())),
            _ => wanted.push(section),
        }
    }
    if args.len() == 1 {
        wanted.extend(USUAL.iter().map(|&s| s.to_owned()));
    }
    let told = on_all(session.shard(), session.front(), Report::of);
    let told = told.await?;
    let mut text = String::new();
    for section in USUAL.iter().chain(MORE).filter(|&&section| wanted.iter().any(|w| w == section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let mut title = (*section).to_owned();
        title[..1].make_ascii_uppercase();
        text.push_str(&format!("# {title}\r\n"));
        if *section == "keyspace" {
            keyspace(session, &mut text).await?;
        } else {
            show(section, session, &told, &mut text);
        }
    }
    session.reply(out).text(&text);
    Ok(())
}

fn show(section: &str, session: &Session, told: &[Report], text: &mut String) {
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = write!(text, "{name}:{value}\r\n");
    };
    let sum = |f: fn(&Report) -> u64| told.iter().map(f).sum::<u64>();
    let config = session.front().config.borrow();
    match section {
        "server" => {
            let uptime = told.iter().map(|t| t.uptime_secs).max().unwrap_or(0);
            line("redis_version", &REDIS_VERSION);
            line("redis_mode", &"standalone");
            line("foreshard_version", &env!("CARGO_PKG_VERSION"));
            line("os", &std::env::consts::OS);
            line("arch_bits", &usize::BITS);
            line("process_id", &std::process::id());
            line("tcp_port", &config.listen.port());
            line("uptime_in_seconds", &uptime);
            line("uptime_in_days", &(uptime / 86_400));
            line("shards", &told.len());
            line("partitions", &session.shard().map().homes().len());
        }
        "clients" => {
            line("connected_clients", &told.iter().map(|t| t.clients).sum::<usize>());
            line("maxclients", &config.maxclients);
            line("blocked_clients", &0);
        }
        "memory" => {
            let resident = resident_bytes();
            line("used_memory", &resident);
            line("used_memory_rss", &resident);
            line("mem_clients_normal", &told.iter().map(|t| t.clients_bytes).sum::<usize>());
            line("used_memory_memtables", &sum(|t| t.engine.memtable_bytes as u64));
            line("used_memory_segments", &sum(|t| t.engine.segment_memory_bytes as u64));
            line("maxmemory", &0);
            line("maxmemory_policy", &"noeviction");
        }
        "persistence" => {
            let failure = told.iter().find_map(|t| t.engine.failure.clone());
            line("loading", &0);
            line("aof_enabled", &1);
            line("aof_last_write_status", &if failure.is_some() { "err" } else { "ok" });
            line("durability", &config.durability);
            line("durability_may_lose", &may_lose(&config.durability));
            if let Some(failure) = failure {
                line("failure", &failure);
            }
            line("is_full", &u8::from(told.iter().any(|t| t.engine.is_full)));
            line("wal_bytes", &sum(|t| t.engine.wal_bytes));
            line("segments", &sum(|t| t.engine.segments as u64));
            line("segment_bytes", &sum(|t| t.engine.segment_bytes));
            line("compaction_debt_bytes", &sum(|t| t.engine.debt_bytes));
        }
        "stats" => traffic(told, &mut line),
        "replication" => {
            line("role", &"master");
            line("connected_slaves", &0);
        }
        "cpu" => {
            if let Some((user, system)) = cpu_seconds() {
                line("used_cpu_sys", &format!("{system:.6}"));
                line("used_cpu_user", &format!("{user:.6}"));
            }
        }
        _ => command_stats(told, &mut line),
    }
}

fn traffic(told: &[Report], line: &mut Line<'_>) {
    let sum = |f: fn(&Report) -> u64| told.iter().map(f).sum::<u64>();
    line("total_connections_received", &sum(|t| t.counted.connections));
    line("total_commands_processed", &sum(|t| t.counted.commands));
    line("total_net_input_bytes", &sum(|t| t.counted.bytes_in));
    line("total_net_output_bytes", &sum(|t| t.counted.bytes_out));
    line("rejected_connections", &sum(|t| t.counted.rejected_connections));
    line("evicted_clients", &sum(|t| t.counted.evicted_clients));
    line("total_error_replies", &sum(|t| t.counted.errors));
    line("keyspace_hits", &sum(|t| t.counted.hits));
    line("keyspace_misses", &sum(|t| t.counted.misses));
    line("forwarded_commands", &sum(|t| t.counted.forwarded));
    line("swept_generations", &sum(|t| t.counted.swept));
}

fn command_stats(told: &[Report], line: &mut Line<'_>) {
    for (n, command) in COMMANDS.iter().enumerate() {
        let calls = || told.iter().filter_map(|t| t.counted.calls.get(n));
        let (count, nanos) = (calls().map(|c| c.count).sum::<u64>(), calls().map(|c| c.nanos).sum::<u64>());
        let failed: u64 = calls().map(|c| c.failed).sum();
        if let Some(per_call) = nanos.checked_div(count) {
            let micros = nanos / 1000;
            let value = format!(
                "calls={count},usec={micros},usec_per_call={}.{:02},rejected_calls=0,failed_calls={failed}",
                per_call / 1000,
                per_call % 1000 / 10
            );
            line(&format!("cmdstat_{}", command.name), &value);
        }
    }
}

async fn keyspace(session: &Session, text: &mut String) -> Result<()> {
    let mut tx = Tx::new(session.shard());
    let mut unused = Vec::new();
    let mut context = Context::new(&mut tx, Reply::new(&mut unused, Protocol::Resp2));
    let (keys, expiring) = walks::count(&mut context).await?;
    if keys > 0 {
        text.push_str(&format!("db0:keys={keys},expires={expiring},avg_ttl=0\r\n"));
    }
    Ok(())
}

/// What a power cut, or a kill, can take of what was acknowledged.
fn may_lose(durability: &str) -> String {
    match durability {
        "always" => "nothing".to_owned(),
        "none" => "on a power cut, everything not yet in a segment; on a kill, nothing".to_owned(),
        _ => format!(
            "on a power cut, what was written since the last flush began ({durability} ms); on a kill, nothing"
        ),
    }
}

/// Memory of the process that is in RAM.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kilobytes.map_or(0, |kb: u64| kb * 1024)
}

/// Time of all threads, in user and in kernel mode.
fn cpu_seconds() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some((seconds()?, seconds()?))
}

/// In what Linux tells user space, on every architecture it runs io_uring on.
const TICKS_PER_SECOND: f64 = 100.0;
