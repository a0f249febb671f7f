//! `compare`: foreshard and Redis side by side, both durable, each alone on one core. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use foreshard_compare::child::Program;
use foreshard_compare::load::{self, Phase};
use foreshard_compare::metrics::Metrics;
use foreshard_compare::node::Node;
use foreshard_compare::report::{Numbers, Report, SERVERS};
use foreshard_compare::server::{Server, empty, free_address};
use foreshard_compare::site::{Choice, Site};
use foreshard_compare::{Result, machine};

/// What a server put off during a cell is waited for, and counted, for so long; beyond it, it never rests.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The same of a smoke run.
const SMOKE_SETTLE_MAX: Duration = Duration::from_secs(2);
/// Filling is given as long as the slowest durable write takes for all keys: 1,000 a second.
const FILL_KEYS_PER_SECOND_MIN: f64 = 1000.0;

/// foreshard and Redis side by side: the server on one core, the client on another, writes answered when they are
/// durable, runs alternated, medians.
#[derive(Parser)]
struct Arguments {
    /// Seconds of each cell.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Rows there are.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Length of their values.
    #[arg(long, default_value_t = 100)]
    value_bytes: u32,
    /// Connections of the client.
    #[arg(long, default_value_t = 50)]
    connections: u32,
    /// Partitions of foreshard's one shard.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// foreshard's memtables: small enough that each cell of SETs flushes many.
    #[arg(long, default_value_t = 16 << 20)]
    memtable_bytes: u64,
    /// Runs of each server.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    #[command(flatten)]
    place: Choice,
    /// The disk that is measured: stores are made in a directory `store` in it, emptied before and after each run.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/compare"))]
    dir: PathBuf,
    /// Where compare.json and compare.svg go.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/compare"))]
    out: PathBuf,
    /// The Redis to run.
    #[arg(long, default_value = "redis-server")]
    redis: PathBuf,
    /// Few keys, one run, one second a cell: to see that it works. The numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

/// A kind of load.
struct Cell {
    name: &'static str,
    title: &'static str,
    mix: &'static str,
    pipeline: u32,
}

/// In the order in which each run has them: reads find a store that was written over.
const CELLS: [Cell; 4] = [
    Cell { name: "set_1", title: "durable SET, pipeline 1", mix: "update=100", pipeline: 1 },
    Cell { name: "set_16", title: "durable SET, pipeline 16", mix: "update=100", pipeline: 16 },
    Cell { name: "get_1", title: "GET, pipeline 1", mix: "read=100", pipeline: 1 },
    Cell { name: "get_16", title: "GET, pipeline 16", mix: "read=100", pipeline: 16 },
];
/// Filling is not measured; this is fast with either.
const FILL_PIPELINE: u32 = 16;

/// Everything a run needs.
struct Bench {
    arguments: Arguments,
    site: Site,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    machine::refuse_debug_build(arguments.smoke)?;
    if arguments.smoke {
        (arguments.seconds, arguments.keys, arguments.runs) = (1.0, 5_000, 1);
    }
    let redis_version = version(&arguments.redis).map_err(|e| {
        let redis = arguments.redis.display();
        format!(
            "{redis} does not run ({e}): install it (apt-get install redis-server), or name one with --redis"
        )
    })?;
    let bench = Bench { site: arguments.place.site(&arguments.dir)?, arguments };
    let mut report = Report::of(bench.settings(&redis_version)?);
    for run in 0..bench.arguments.runs {
        let mut order = SERVERS;
        // Every other run goes backwards, so that none always has the disk's better hour.
        if run % 2 == 1 {
            order.reverse();
        }
        for server in order {
            report.load_averages.push(machine::load_average()?);
            bench.run(server, run, &mut report)?;
        }
    }
    std::fs::remove_dir_all(&bench.site.store)?;
    print!("{}", report.table());
    report.save(&bench.arguments.out)?;
    println!("drawn in {}", bench.arguments.out.join("compare.svg").display());
    Ok(())
}

impl Bench {
    /// All cells of one server, from an empty store.
    fn run(&self, name: &str, run: u32, report: &mut Report) -> Result<()> {
        let (mut server, admin) = self.start(name)?;
        self.fill(&server)?;
        machine::settle(server.child().id(), self.settle_max())?;
        for cell in &CELLS {
            let numbers = flushing(admin, || self.measure(&mut server, cell));
            let numbers = numbers.map_err(|e| format!("{name}, {}: {e}", cell.title))?;
            eprintln!("run {run}, {name}, {}: {numbers:.1?}", cell.title);
            report.add((cell.name, cell.title), name, &numbers);
        }
        Ok(())
    }

    /// A server over an empty store; of foreshard, its admin address too.
    fn start(&self, name: &str) -> Result<(Server, Option<SocketAddr>)> {
        let a = &self.arguments;
        let started = if name == SERVERS[0] {
            let settings = format!("durability = \"always\"\nmemtable_bytes = {}\n", a.memtable_bytes);
            let node = Node::start(
                &self.site.foreshard,
                self.site.server_core,
                &self.site.store,
                a.partitions,
                &settings,
            );
            node.map(|node| (node.server, Some(node.admin)))
        } else {
            empty(&self.site.store)?;
            let address = free_address()?;
            let mut program = Program::new(&a.redis, Some(self.site.server_core));
            program.arguments(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
            program
                .arguments(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
                .argument(&self.site.store);
            Server::start_heard(&mut program, address, &self.site.store.join("said"))
                .map(|server| (server, None))
        };
        Ok(started.map_err(|e| format!("{name}: {e}"))?)
    }

    fn generator(&self, server: &Server, pipeline: u32) -> Program {
        let (a, mut program) = (
            &self.arguments,
            load::generator(&self.site.foreshard, Some(self.site.client_core), server.address()),
        );
        program.arguments(["--keys", &a.keys.to_string(), "--value-bytes", &a.value_bytes.to_string()]);
        program.arguments(["--connections", &a.connections.to_string(), "--pipeline", &pipeline.to_string()]);
        program
    }

    fn fill(&self, server: &Server) -> Result<()> {
        let mut generator = self.generator(server, FILL_PIPELINE);
        let seconds = self.arguments.keys as f64 / FILL_KEYS_PER_SECOND_MIN;
        let said = load::run(generator.arguments(["--fill", "--seconds", "0"]), seconds)?;
        let done = said.phase("fill").map_or(0, |p| p.operations);
        if said.status != 0 || done != self.arguments.keys {
            return Err(format!("filled {done} of {} keys: {said:?}", self.arguments.keys).into());
        }
        Ok(())
    }

    fn measure(&self, server: &mut Server, cell: &Cell) -> Result<Numbers> {
        let id = server.child().id();
        let mut generator = self.generator(server, cell.pipeline);
        generator.arguments(["--mix", cell.mix, "--distribution", "uniform"]);
        generator.arguments(["--seconds", &self.arguments.seconds.to_string()]);
        let begin = Instant::now();
        let before = (machine::process_cpu_seconds(id)?, machine::core_busy_seconds(self.site.server_core)?);
        let said = load::run(&mut generator, self.arguments.seconds)?;
        let during = (machine::process_cpu_seconds(id)?, machine::core_busy_seconds(self.site.server_core)?);
        let elapsed = begin.elapsed();
        machine::settle(id, self.settle_max())?;
        let after = machine::process_cpu_seconds(id)?;
        let phase = said.phase("run").ok_or("foreshard load did not run")?;
        let misses: u64 = phase.kinds.values().map(|k| k.misses).sum();
        if said.status != 0 || phase.failed + misses > 0 || phase.operations == 0 {
            return Err(format!("{} failed, {misses} found no row: {said:?}", phase.failed).into());
        }
        let mut numbers = numbers(phase, before, during, after);
        // The load generator's start and end are in it, which is why it is not the time of the operations.
        numbers.insert("core_busy", (during.1 - before.1) / elapsed.as_secs_f64());
        Ok(numbers)
    }

    fn settle_max(&self) -> Duration {
        if self.arguments.smoke { SMOKE_SETTLE_MAX } else { SETTLE_MAX }
    }

    fn settings(&self, redis_version: &str) -> Result<serde_json::Value> {
        let a = &self.arguments;
        Ok(serde_json::json!({
            "foreshard": version(&self.site.foreshard)?,
            "redis": redis_version,
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
            "server_core": self.site.server_core,
            "client_core": self.site.client_core,
            "seconds": a.seconds,
            "keys": a.keys,
            "value_bytes": a.value_bytes,
            "connections": a.connections,
            "partitions": a.partitions,
            "memtable_bytes": a.memtable_bytes,
            "runs": a.runs,
        }))
    }
}

/// What `measure` says, and of a node how many memtables it flushed meanwhile.
fn flushing(admin: Option<SocketAddr>, measure: impl FnOnce() -> Result<Numbers>) -> Result<Numbers> {
    let Some(admin) = admin else { return measure() };
    let flushes = || Metrics::of(admin)?.get("flushes_total");
    let before = flushes()?;
    let mut numbers = measure()?;
    numbers.insert("memtables_flushed", flushes()? - before);
    Ok(numbers)
}

/// Of a cell: processor times as (process, core) before and right after it, and the process's when it was settled.
fn numbers(phase: &Phase, before: (f64, f64), during: (f64, f64), after: f64) -> Numbers {
    let operations = phase.operations as f64;
    Numbers::from([
        ("operations_per_s", phase.operations_per_second),
        ("latency_us_p50", phase.latency_us.p50),
        ("latency_us_p99", phase.latency_us.p99),
        ("latency_us_p99_9", phase.latency_us.p99_9),
        // What was put off belongs to the operations that made it.
        ("server_us_per_operation", (after - before.0) * 1e6 / operations),
        ("core_us_per_operation", (during.1 - before.1) * 1e6 / operations),
        ("client_busy", phase.client.busy_fraction_max),
        ("settle_cpu_s", after - during.0),
    ])
}

fn version(program: &Path) -> Result<String> {
    /// It only prints a line.
    const VERSION_MAX: Duration = Duration::from_secs(10);
    let (status, said) = Program::new(program, None).argument("--version").run(VERSION_MAX)?;
    if status.success() { Ok(said.trim().to_owned()) } else { Err(status.to_string().into()) }
}
