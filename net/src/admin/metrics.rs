//! The metrics, as Prometheus reads them.

use std::fmt::Write;

use foreshard_engine::io::long_turns::LongTurn;
use foreshard_engine::io::turns::TurnStats;

use crate::command::rows::COMMANDS;
use crate::server::report::Report;

/// A metric: its name, what kind it is, what it says, and its value of a shard.
type Metric = (&'static str, &'static str, &'static str, fn(&Report) -> f64);

/// All metrics of shards.
pub(super) fn show(reports: &[Report]) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in METRICS {
        head(&mut text, name, kind, help);
        for report in reports {
            // Writing to a string does not fail.
            let _ = writeln!(text, "foreshard_{name}{{shard=\"{}\"}} {}", report.shard, value(report));
        }
    }
    lengths(&mut text, reports);
    long_turns(&mut text, reports);
    commands(&mut text, reports);
    work(&mut text, reports);
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP foreshard_{name} {help}\n# TYPE foreshard_{name} {kind}\n");
}

/// How long turns took, and the log's writes: what a client waits behind at most.
fn lengths(text: &mut String, reports: &[Report]) {
    let mut say = |name: &str, help: &str, of: fn(&Report) -> &TurnStats| {
        head(text, name, "summary", help);
        for report in reports {
            for quantile in [0.5, 0.99, 0.999] {
                let (shard, seconds) = (report.shard, nanos(of(report).nanos_at(quantile)));
                let _ =
                    writeln!(text, "foreshard_{name}{{shard=\"{shard}\",quantile=\"{quantile}\"}} {seconds}");
            }
        }
    };
    say("turn_seconds", "Lengths of the turns of a shard's tasks.", |r| &r.engine.turns);
    say("log_write_seconds", "How long the device took for a batch of the log, and its flush.", |r| {
        &r.engine.log_writes
    });
}

/// What costs follow from.
fn work(text: &mut String, reports: &[Report]) {
    head(text, "work_total", "counter", "What was done, by what costs follow from.");
    for report in reports {
        for (of, count) in report.engine.capacity.work.counts() {
            let _ = writeln!(text, "foreshard_work_total{{shard=\"{}\",of=\"{of}\"}} {count}", report.shard);
        }
    }
}

/// Turns that others waited for.
fn long_turns(text: &mut String, reports: &[Report]) {
    let mut say = |name: &str, kind: &str, help: &str, value: fn(&LongTurn) -> f64| {
        head(text, name, kind, help);
        for report in reports {
            for (of, one) in &report.engine.long_turns {
                let shard = report.shard;
                let _ = writeln!(text, "foreshard_{name}{{shard=\"{shard}\",of=\"{of}\"}} {}", value(one));
            }
        }
    };
    say("long_turns_total", "counter", "Turns of 2 ms and more, by what was done.", |one| float(one.count));
    say("long_turns_seconds_total", "counter", "How long they were.", |one| nanos(one.nanos));
    say("long_turn_seconds_max", "gauge", "The longest of them.", |one| nanos(one.nanos_max));
}

fn commands(text: &mut String, reports: &[Report]) {
    head(text, "command_calls_total", "counter", "Commands run, by name, on the shard of their connection.");
    for report in reports {
        for (command, calls) in
            COMMANDS.iter().zip(&report.counted.calls).filter(|(_, calls)| calls.count > 0)
        {
            let (shard, name, count) = (report.shard, command.name, calls.count);
            let _ = writeln!(
                text,
                "foreshard_command_calls_total{{shard=\"{shard}\",command=\"{name}\"}} {count}"
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
fn float(n: u64) -> f64 {
    n as f64
}

fn nanos(n: u64) -> f64 {
    float(n) / 1e9
}

const METRICS: &[Metric] = &[
    ("connected_clients", "gauge", "Connections.", |r| float(r.clients as u64)),
    ("connections_total", "counter", "Connections accepted.", |r| float(r.counted.connections)),
    ("connections_rejected_total", "counter", "Connections refused.", |r| {
        float(r.counted.rejected_connections)
    }),
    (
        "clients_bytes",
        "gauge",
        "Memory of commands that are not complete and of replies that are not read.",
        |r| float(r.clients_bytes as u64),
    ),
    ("clients_evicted_total", "counter", "Connections closed because all clients held too much.", |r| {
        float(r.counted.evicted_clients)
    }),
    ("commands_total", "counter", "Commands run.", |r| float(r.counted.commands)),
    ("command_errors_total", "counter", "Commands answered with an error.", |r| float(r.counted.errors)),
    ("commands_forwarded_total", "counter", "Commands sent to another shard.", |r| {
        float(r.counted.forwarded)
    }),
    ("net_input_bytes_total", "counter", "Bytes received.", |r| float(r.counted.bytes_in)),
    ("net_output_bytes_total", "counter", "Bytes sent.", |r| float(r.counted.bytes_out)),
    ("keyspace_hits_total", "counter", "GETs that found a string.", |r| float(r.counted.hits)),
    ("keyspace_misses_total", "counter", "GETs that found none.", |r| float(r.counted.misses)),
    ("swept_generations_total", "counter", "Unreachable generations of hashes deleted.", |r| {
        float(r.counted.swept)
    }),
    ("memtable_bytes", "gauge", "Bytes in memtables.", |r| float(r.engine.memtable_bytes as u64)),
    ("segments", "gauge", "Segment files.", |r| float(r.engine.segments as u64)),
    ("segment_bytes", "gauge", "Bytes of segment files.", |r| float(r.engine.segment_bytes)),
    ("segment_memory_bytes", "gauge", "Memory of open segments.", |r| {
        float(r.engine.segment_memory_bytes as u64)
    }),
    ("row_cache_hits_total", "counter", "Reads that found their row in the row cache.", |r| {
        float(r.engine.rows.hits)
    }),
    ("row_cache_misses_total", "counter", "Reads that did not.", |r| float(r.engine.rows.misses)),
    ("row_cache_bytes", "gauge", "Memory of cached rows.", |r| float(r.engine.rows.bytes)),
    ("block_cache_hits_total", "counter", "Blocks found in the block cache.", |r| float(r.engine.cache.hits)),
    ("block_cache_misses_total", "counter", "Blocks read from the disk.", |r| float(r.engine.cache.misses)),
    ("block_cache_bytes", "gauge", "Memory of cached blocks.", |r| float(r.engine.cache.bytes)),
    ("level0_segments_max", "gauge", "Segments in level 0 of the partition with the most.", |r| {
        float(r.engine.level0_max as u64)
    }),
    ("compaction_debt_bytes", "gauge", "Bytes that compaction has yet to move.", |r| {
        float(r.engine.debt_bytes)
    }),
    ("flushes_total", "counter", "Memtables flushed.", |r| float(r.engine.flushes)),
    ("flushed_bytes_total", "counter", "Bytes written by flushes.", |r| float(r.engine.flushed_bytes)),
    ("compaction_read_bytes_total", "counter", "Bytes read by compaction.", |r| {
        float(r.engine.compaction_read_bytes)
    }),
    ("compaction_written_bytes_total", "counter", "Bytes written by compaction.", |r| {
        float(r.engine.compaction_written_bytes)
    }),
    ("log_flushes_total", "counter", "Flushes of the log.", |r| float(r.engine.log_flushes.count)),
    ("log_flush_seconds_total", "counter", "How long they took, together.", |r| {
        nanos(r.engine.log_flushes.nanos)
    }),
    ("transactions_together_total", "counter", "Transactions that named more than one entity.", |r| {
        float(r.engine.transactions_together)
    }),
    ("transactions_over_partitions_total", "counter", "Transactions over more than one partition.", |r| {
        float(r.engine.transactions_over)
    }),
    ("wal_bytes", "gauge", "Bytes of log files in use.", |r| float(r.engine.wal_bytes)),
    ("write_pressure", "gauge", "How hard writers are held back: 0 not at all, 1 stopped.", |r| {
        r.engine.pressure
    }),
    ("is_full", "gauge", "Whether writes are refused for lack of room.", |r| {
        float(u64::from(r.engine.is_full))
    }),
    ("cost_units_total", "counter", "What was done, in cost units: about microseconds of a core.", |r| {
        float(r.engine.capacity.spent) / 1000.0
    }),
    ("cost_units_rows_total", "counter", "Of these, those of operations on rows.", |r| {
        float(r.engine.capacity.spent_on_rows) / 1000.0
    }),
    ("cost_unit_microseconds", "gauge", "What a cost unit takes here, the kernel's workers aside.", |r| {
        r.engine.capacity_factor
    }),
    ("paced_total", "counter", "Commands that waited because of a capacity that is set.", |r| {
        float(r.engine.capacity.paced)
    }),
    ("paced_seconds_total", "counter", "How long they did, together.", |r| {
        nanos(r.engine.capacity.paced_nanos)
    }),
    ("moves_open", "gauge", "Moves of entities under way from this shard.", |r| float(r.engine.moves.open)),
    ("moves_done_total", "counter", "Moves of entities from this shard that are done.", |r| {
        float(r.engine.moves.done)
    }),
    ("moves_cancelled_total", "counter", "Moves that were cancelled.", |r| float(r.engine.moves.cancelled)),
    ("moves_failed_total", "counter", "Moves that failed.", |r| float(r.engine.moves.failed)),
    ("moves_rejected_total", "counter", "Moves that their shadow did not bear out.", |r| {
        float(r.engine.moves.rejected)
    }),
    ("moves_accepted_total", "counter", "Moves that their shadow bore out.", |r| {
        float(r.engine.moves.accepted)
    }),
    ("moves_inconclusive_total", "counter", "Moves of which their shadow could not tell.", |r| {
        float(r.engine.moves.inconclusive)
    }),
    ("moves_mirrored_total", "counter", "Reads mirrored to shadows, of moves that have ended.", |r| {
        float(r.engine.moves.mirrored)
    }),
    ("moves_mirrored_dropped_total", "counter", "Reads that there was no room to mirror.", |r| {
        float(r.engine.moves.mirrored_dropped)
    }),
    ("moves_regressed_total", "counter", "Moves to here after which the entity fared worse.", |r| {
        float(r.engine.moves.regressed)
    }),
    ("moves_bytes_total", "counter", "Bytes copied by moves that have ended.", |r| {
        float(r.engine.moves.bytes)
    }),
    ("moves_pause_seconds_total", "counter", "Time in which requests waited at cut-overs.", |r| {
        nanos(r.engine.moves.pause_nanos)
    }),
    ("moves_pause_seconds_max", "gauge", "The longest of those.", |r| nanos(r.engine.moves.pause_nanos_max)),
    ("moves_parked_total", "counter", "Requests that waited for a cut-over.", |r| {
        float(r.engine.moves.parked)
    }),
    ("moves_refused_total", "counter", "Requests that were refused because a cut-over took too long.", |r| {
        float(r.engine.moves.refused)
    }),
    ("changes_open", "gauge", "Splits, merges and hand-overs of partitions under way.", |r| {
        float(r.engine.reshapes.open)
    }),
    ("changes_done_total", "counter", "Changes of partitions that are done.", |r| {
        float(r.engine.reshapes.done)
    }),
    ("changes_cancelled_total", "counter", "Changes of partitions that were cancelled.", |r| {
        float(r.engine.reshapes.cancelled)
    }),
    ("changes_failed_total", "counter", "Changes of partitions that failed.", |r| {
        float(r.engine.reshapes.failed)
    }),
    (
        "changes_linked_bytes_total",
        "counter",
        "Bytes that changed hands with partitions, and were not written.",
        |r| float(r.engine.reshapes.linked_bytes),
    ),
    (
        "changes_pause_seconds_total",
        "counter",
        "Time in which requests waited for partitions that changed.",
        |r| nanos(r.engine.reshapes.pause_nanos),
    ),
    ("changes_pause_seconds_max", "gauge", "The longest of those.", |r| {
        nanos(r.engine.reshapes.pause_nanos_max)
    }),
    ("has_failed", "gauge", "Whether the shard takes no writes.", |r| {
        float(u64::from(r.engine.failure.is_some()))
    }),
    ("uptime_seconds", "gauge", "Time since the start.", |r| float(r.uptime_secs)),
];
