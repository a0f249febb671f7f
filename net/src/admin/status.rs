//! The status, as JSON: what an operator looks at first.

use foreshard_engine::table::State;
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
    table: TableStatus,
}

/// The partition table as the first shard knows it.
#[derive(Serialize)]
struct TableStatus {
    version: u64,
    partitions: Vec<PartitionStatus>,
}

#[derive(Serialize)]
struct PartitionStatus {
    partition: u32,
    start: u64,
    end: u64,
    shard: u16,
    epoch: u64,
    version: u64,
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

/// All shards and their sums, and where the partitions are.
pub(super) fn show(reports: &[Report], table: &State) -> String {
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
        table: table_status(table),
    };
    // Numbers and text alone: there is nothing that JSON cannot hold.
    serde_json::to_string(&status).unwrap_or_default() + "\n"
}

fn table_status(table: &State) -> TableStatus {
    let partitions = table.partitions.iter().map(|(id, entry)| PartitionStatus {
        partition: id.0,
        start: entry.placed.start.0,
        end: entry.placed.end.0,
        shard: entry.placed.shard.0,
        epoch: entry.placed.epoch.0,
        version: entry.version.0,
    });
    TableStatus { version: table.version.0, partitions: partitions.collect() }
}
