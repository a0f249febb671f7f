//! The status, as JSON: what an operator looks at first.

use serde::Serialize;

use crate::server::REDIS_VERSION;
use crate::server::report::Report;

#[derive(Serialize)]
struct Status<'a> {
    version: &'a str,
    redis_version: &'a str,
    uptime_secs: u64,
    clients: usize,
    commands: u64,
    shards: Vec<ShardStatus<'a>>,
}

#[derive(Serialize)]
struct ShardStatus<'a> {
    shard: u16,
    clients: usize,
    segments: usize,
    segment_bytes: u64,
    memtable_bytes: usize,
    wal_bytes: u64,
    compaction_debt_bytes: u64,
    write_pressure: f64,
    is_full: bool,
    is_stopping: bool,
    failure: Option<&'a str>,
}

/// All shards, and their sums.
pub(super) fn show(reports: &[Report]) -> String {
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        redis_version: REDIS_VERSION,
        uptime_secs: reports.iter().map(|r| r.uptime_secs).max().unwrap_or(0),
        clients: reports.iter().map(|r| r.clients).sum(),
        commands: reports.iter().map(|r| r.counted.commands).sum(),
        shards: reports
            .iter()
            .map(|r| ShardStatus {
                shard: r.shard,
                clients: r.clients,
                segments: r.engine.segments,
                segment_bytes: r.engine.segment_bytes,
                memtable_bytes: r.engine.memtable_bytes,
                wal_bytes: r.engine.wal_bytes,
                compaction_debt_bytes: r.engine.debt_bytes,
                write_pressure: r.engine.pressure,
                is_full: r.engine.is_full,
                is_stopping: r.is_stopping,
                failure: r.engine.failure.as_deref(),
            })
            .collect(),
    };
    // Numbers and text alone: there is nothing that JSON cannot hold.
    serde_json::to_string(&status).unwrap_or_default() + "\n"
}
