//! `disk`: the node beside the device it stands on: reads of more data than its caches hold, and the latency of durable
//! writes at half load while it compacts. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::path::PathBuf;

use clap::Parser;
use foreshard_compare::bare_log::BareLog;
use foreshard_compare::child::Program;
use foreshard_compare::fio::{FlushedWrites, RandomReads};
use foreshard_compare::load::{self, Phase};
use foreshard_compare::metrics::Metrics;
use foreshard_compare::node::Node;
use foreshard_compare::server::empty;
use foreshard_compare::site::{Choice, Site};
use foreshard_compare::{Result, machine};
use serde::Serialize;

/// Partitions of the node\'s one shard.
const PARTITIONS: u32 = 8;

/// The node beside the device: reads of data ten times its caches, and durable writes at half load.
#[derive(Parser)]
struct Arguments {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Rows, of the reads' store.
    #[arg(long, default_value_t = 10_000_000)]
    keys: u64,
    /// The node's memory for the reads.
    #[arg(long, default_value_t = 192 << 20)]
    memory_bytes: u64,
    /// Reads on their way at once, and connections of the load.
    #[arg(long, default_value_t = 64)]
    depth: u32,
    /// Memtables under durable writes: small ones, so that it flushes and compacts all the time.
    #[arg(long, default_value_t = 4 << 20)]
    memtable_bytes: u64,
    /// Runs of each; medians count.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    #[command(flatten)]
    place: Choice,
    /// The disk that is measured: a directory `store` in it is emptied before and after.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/disk"))]
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Few keys, one run, one second: to see that it works. The numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

/// A run of the reads.
#[derive(Debug, Serialize)]
struct Reads {
    node_per_s: f64,
    fio_per_s: f64,
    ratio: f64,
    /// Bytes in segments for each byte that the caches hold.
    data_per_cache: f64,
}

/// A run of the writes.
#[derive(Debug, Serialize)]
struct Writes {
    /// As fast as it can.
    closed_per_s: f64,
    /// At half of that.
    open_per_s: f64,
    p99_9_us: f64,
    /// Bytes per second that flushes and compactions wrote meanwhile.
    background_bytes_per_s: f64,
    /// fio beside a stream of as many bytes.
    fio_p99_9_us: f64,
    ratio: f64,
    /// A log that does nothing else, at the same rate, beside the same stream.
    bare_p99_9_us: f64,
    ratio_to_bare: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    seconds: f64,
    reads: Vec<Reads>,
    writes: Vec<Writes>,
}

struct Bench {
    arguments: Arguments,
    site: Site,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    machine::refuse_debug_build(arguments.smoke)?;
    if arguments.smoke {
        (arguments.seconds, arguments.keys, arguments.runs) = (1.0, 50_000, 1);
        (arguments.memory_bytes, arguments.memtable_bytes) = (4 << 20, 256 << 10);
    }
    let bench = Bench { site: arguments.place.site(&arguments.dir)?, arguments };
    let mut report = Report { seconds: bench.arguments.seconds, reads: Vec::new(), writes: Vec::new() };
    for run in 0..bench.arguments.runs {
        let reads = bench.reads()?;
        eprintln!("run {run}: {reads:.1?}");
        report.reads.push(reads);
        let writes = bench.writes()?;
        eprintln!("run {run}: {writes:.1?}");
        report.writes.push(writes);
    }
    std::fs::remove_dir_all(&bench.site.store)?;
    if bench.arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.tell(bench.arguments.depth);
    }
    Ok(())
}

impl Bench {
    /// GETs of uniformly drawn keys from a store that is larger than the caches, and fio on the same core.
    fn reads(&self) -> Result<Reads> {
        let a = &self.arguments;
        let memory = a.memory_bytes;
        let mut node = self.start(&format!(
            "memory_bytes = {memory}\nmemtables_bytes = {}\nmemtable_bytes = {}\n",
            memory / 4,
            memory / 16
        ))?;
        let mut fill = self.generator(&node);
        fill.arguments(["--fill", "--seconds", "0", "--connections", "50", "--pipeline", "32"]);
        load::run(&mut fill, a.keys as f64 / 1000.0)?;
        machine::settle(node.server.child().id(), load::limit(0.0))?;
        // The caches fill first, from other draws than those that are measured.
        self.get(&node, 1)?;
        let phase = self.get(&node, 2)?;
        let metrics = Metrics::of(node.admin)?;
        let cached = metrics.get("block_cache_bytes")? + metrics.get("row_cache_bytes")?;
        let data = metrics.get("segment_bytes")?;
        drop(node);
        empty(&self.site.store)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes on a disk")]
        let fio = RandomReads { depth: a.depth, file_bytes: (data as u64).next_multiple_of(1 << 20) };
        let fio_per_s = fio.measure(&self.site.store, self.site.server_core, a.seconds)?;
        let node_per_s = phase.operations_per_second;
        Ok(Reads { node_per_s, fio_per_s, ratio: node_per_s / fio_per_s, data_per_cache: data / cached })
    }

    /// Durable SETs at half of what the node takes, and fio beside as many background bytes.
    fn writes(&self) -> Result<Writes> {
        let a = &self.arguments;
        let node = self.start(&format!("memtable_bytes = {}\n", a.memtable_bytes))?;
        let closed = self.set(&node, None)?;
        let before = Metrics::of(node.admin)?;
        let open = self.set(&node, Some(closed.operations_per_second / 2.0))?;
        let after = Metrics::of(node.admin)?;
        drop(node);
        empty(&self.site.store)?;
        let mut written = 0.0;
        for name in ["flushed_bytes_total", "compaction_written_bytes_total"] {
            written += after.get(name)? - before.get(name)?;
        }
        let background_bytes_per_s = written / a.seconds;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes per second")]
        let fio = FlushedWrites { beside: background_bytes_per_s as u64 };
        let fio_p99_9_us = fio.p99_9_us(&self.site.store, self.site.server_core, a.seconds)?;
        let (rate, p99_9_us) = (open.operations_per_second, open.latency_us.p99_9);
        let bare = BareLog { rate, beside: background_bytes_per_s };
        let bare_p99_9_us = bare.p99_9_us(&self.site.store, self.site.server_core, a.seconds)?;
        Ok(Writes {
            closed_per_s: closed.operations_per_second,
            open_per_s: rate,
            p99_9_us,
            background_bytes_per_s,
            fio_p99_9_us,
            ratio: p99_9_us / fio_p99_9_us,
            bare_p99_9_us,
            ratio_to_bare: p99_9_us / bare_p99_9_us,
        })
    }

    fn get(&self, node: &Node, seed: u32) -> Result<Phase> {
        let a = &self.arguments;
        let mut generator = self.generator(node);
        generator.arguments(["--mix", "read=100", "--connections", &a.depth.to_string(), "--pipeline", "1"]);
        generator.arguments(["--seconds", &a.seconds.to_string(), "--seed", &seed.to_string()]);
        self.run(&mut generator)
    }

    fn set(&self, node: &Node, rate: Option<f64>) -> Result<Phase> {
        let mut generator = self.generator(node);
        generator.arguments(["--mix", "update=100", "--connections", "50", "--pipeline", "1"]);
        generator.arguments(["--seconds", &self.arguments.seconds.to_string()]);
        if let Some(rate) = rate {
            generator.arguments(["--rate", &format!("{rate:.0}")]);
        }
        self.run(&mut generator)
    }

    /// Runs a load to its end; one with a failed operation is an error.
    fn run(&self, generator: &mut Program) -> Result<Phase> {
        let mut said = load::run(generator, self.arguments.seconds)?;
        let at = said.phases.iter().position(|p| p.name == "run").ok_or("foreshard load did not run")?;
        let phase = said.phases.swap_remove(at);
        if said.status != 0 || phase.failed > 0 || phase.operations == 0 {
            return Err(
                format!("{} of {} operations failed: {said:?}", phase.failed, phase.operations).into()
            );
        }
        Ok(phase)
    }

    fn start(&self, settings: &str) -> Result<Node> {
        let settings = format!("durability = \"always\"\n{settings}");
        Node::start(&self.site.foreshard, self.site.server_core, &self.site.store, PARTITIONS, &settings)
    }

    fn generator(&self, node: &Node) -> Program {
        let mut program =
            load::generator(&self.site.foreshard, Some(self.site.client_core), node.server.address());
        program.arguments(["--keys", &self.arguments.keys.to_string(), "--value-bytes", "100"]);
        program.arguments(["--distribution", "uniform"]);
        program
    }
}

impl Report {
    fn tell(&self, depth: u32) {
        let middle = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let reads = |f: fn(&Reads) -> f64| middle(self.reads.iter().map(f).collect());
        let writes = |f: fn(&Writes) -> f64| middle(self.writes.iter().map(f).collect());
        println!(
            "GET of data {:.1} times the caches, depth {depth}: {:.0}/s; fio {:.0}/s; {:.2} of it",
            reads(|r| r.data_per_cache),
            reads(|r| r.node_per_s),
            reads(|r| r.fio_per_s),
            reads(|r| r.ratio),
        );
        println!(
            "durable SET at {:.0}/s of {:.0}: p99.9 {:.0} us; fio beside {:.1} MB/s: {:.0} us, {:.2} times it; a bare log: {:.0} us, {:.2} times it",
            writes(|w| w.open_per_s),
            writes(|w| w.closed_per_s),
            writes(|w| w.p99_9_us),
            writes(|w| w.background_bytes_per_s) / 1e6,
            writes(|w| w.fio_p99_9_us),
            writes(|w| w.ratio),
            writes(|w| w.bare_p99_9_us),
            writes(|w| w.ratio_to_bare),
        );
        println!("medians of {} runs of {} s", self.reads.len(), self.seconds);
    }
}
