//! `connections`: what many connections cost: idle ones in memory and in others' throughput, busy ones in latency at the
//! same load. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::path::PathBuf;

use clap::Parser;
use foreshard_compare::child::Program;
use foreshard_compare::idle::Idle;
use foreshard_compare::load::{self, Phase};
use foreshard_compare::node::Node;
use foreshard_compare::server::Server;
use foreshard_compare::site::{Choice, Site};
use foreshard_compare::{Result, machine};
use serde::Serialize;

const EXAMPLES: &str = "Examples:\n  \
    cargo run --release -p foreshard-compare --bin connections\n  \
    cargo run --release -p foreshard-compare --bin connections -- --idle 1000 --seconds 5 --json";

/// Partitions of the node\'s one shard.
const PARTITIONS: u32 = 8;

/// What many connections cost a node: idle ones beside none, and many busy ones beside few at the same rate.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// Connections that were busy once and say nothing any more.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Busy connections: many.
    #[arg(long, default_value_t = 1000)]
    many: u32,
    /// And few, which are also those whose throughput is measured beside the idle ones.
    #[arg(long, default_value_t = 50)]
    few: u32,
    /// Part of what few connections reach in a closed loop that the open loop asks for.
    #[arg(long, default_value_t = 0.5)]
    load: f64,
    /// Kinds of operations, by weight.
    #[arg(long, default_value = "read=50,update=50")]
    mix: String,
    /// Seconds of each measurement. Short, so that a stall of the device is in one of many, and not in most.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Runs of each, alternated; medians count.
    #[arg(long, default_value_t = 11)]
    runs: u32,
    /// Rows there are.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[command(flatten)]
    place: Choice,
    /// The disk that is used: a directory `store` in it is emptied before and removed after.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/connections"))]
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Few keys and connections, one run, one second: to see that it works. The numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

/// Throughput beside idle connections, and without them.
#[derive(Debug, Serialize)]
struct IdleRun {
    /// What the node's resident memory grew by when they came.
    idle_bytes: u64,
    without_per_s: f64,
    with_per_s: f64,
    ratio: f64,
}

/// Latency of many connections and of few, at one rate: a part of what few reached in a closed loop just before.
#[derive(Debug, Serialize)]
struct BusyRun {
    rate: f64,
    few: Side,
    many: Side,
}

/// One open loop.
#[derive(Clone, Copy, Debug, Serialize)]
struct Side {
    p50_us: f64,
    p99_us: f64,
    /// It did less than [`RATE_PART_MIN`] of its rate: its latencies are of a queue that grew. They count, as they are long.
    is_behind: bool,
    /// Of the load generator's thread: near 1, it is what is measured.
    client_busy: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    idle_connections: usize,
    busy_connections: [u32; 2],
    mix: String,
    seconds: f64,
    idle: Vec<IdleRun>,
    busy: Vec<BusyRun>,
}

struct Bench {
    arguments: Arguments,
    site: Site,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    machine::refuse_debug_build(arguments.smoke)?;
    if arguments.smoke {
        (arguments.idle, arguments.many, arguments.few) = (500, 100, 10);
        (arguments.seconds, arguments.keys, arguments.runs) = (1.0, 5_000, 1);
    }
    let bench = Bench { site: arguments.place.site(&arguments.dir)?, arguments };
    let report = bench.measure()?;
    std::fs::remove_dir_all(&bench.site.store)?;
    if bench.arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.tell();
    }
    Ok(())
}

impl Bench {
    fn measure(&self) -> Result<Report> {
        let a = &self.arguments;
        let mut node = self.start()?;
        let mut fill = self.generator(&node, a.few);
        fill.arguments(["--fill", "--seconds", "0", "--pipeline", "16"]);
        load::run(&mut fill, a.keys as f64 / FILL_KEYS_PER_SECOND_MIN)?;
        machine::settle(node.child().id(), load::limit(0.0))?;
        // Caches and memtables are as full as they get before anything counts.
        self.run(&node, a.few, None)?;
        let mut report = Report {
            idle_connections: a.idle,
            busy_connections: [a.few, a.many],
            mix: a.mix.clone(),
            seconds: a.seconds,
            idle: Vec::new(),
            busy: Vec::new(),
        };
        for run in 0..a.runs {
            // Every other run goes backwards, so that none always has the machine's better hour.
            let is_backwards = run % 2 == 1;
            let idle = self.beside_idle(&mut node, is_backwards)?;
            eprintln!("run {run}: {idle:.2?}");
            // What the machine gives now: a rate that it gave an hour ago may be one that nobody reaches.
            let rate = idle.without_per_s * a.load;
            report.idle.push(idle);
            let busy = self.at_rate(&node, rate, is_backwards)?;
            eprintln!("run {run}: {busy:.2?}");
            report.busy.push(busy);
        }
        Ok(report)
    }

    fn beside_idle(&self, node: &mut Server, is_backwards: bool) -> Result<IdleRun> {
        let few = self.arguments.few;
        let mut idle_bytes = 0;
        let mut per_s = [0.0; 2];
        for is_beside in [is_backwards, !is_backwards] {
            let process = node.child().id();
            let before = machine::resident_bytes(process)?;
            let count = if is_beside { self.arguments.idle } else { 0 };
            let mut idle = Idle::connect(node.address(), count)?;
            if is_beside {
                idle_bytes = machine::resident_bytes(process)?.saturating_sub(before);
            }
            per_s[usize::from(is_beside)] = self.run(node, few, None)?.operations_per_second;
            idle.ask()?;
        }
        let [without_per_s, with_per_s] = per_s;
        Ok(IdleRun { idle_bytes, without_per_s, with_per_s, ratio: with_per_s / without_per_s })
    }

    fn at_rate(&self, node: &Server, rate: f64, is_backwards: bool) -> Result<BusyRun> {
        let measure = |connections| -> Result<Side> {
            let phase = self.run(node, connections, Some(rate))?;
            Ok(Side {
                p50_us: phase.latency_us.p50,
                p99_us: phase.latency_us.p99,
                is_behind: phase.operations_per_second < RATE_PART_MIN * rate,
                client_busy: phase.client.busy_fraction_max,
            })
        };
        let (first, second) = if is_backwards {
            (self.arguments.many, self.arguments.few)
        } else {
            (self.arguments.few, self.arguments.many)
        };
        let (first, second) = (measure(first)?, measure(second)?);
        let (few, many) = if is_backwards { (second, first) } else { (first, second) };
        Ok(BusyRun { rate, few, many })
    }

    /// Runs a load to its end; one with a failed operation is an error.
    fn run(&self, node: &Server, connections: u32, rate: Option<f64>) -> Result<Phase> {
        let mut generator = self.generator(node, connections);
        generator.arguments(["--seconds", &self.arguments.seconds.to_string()]);
        if let Some(rate) = rate {
            generator.arguments(["--rate", &format!("{rate:.0}"), "--arrivals", "poisson"]);
        }
        let mut said = load::run(&mut generator, self.arguments.seconds)?;
        let at = said.phases.iter().position(|p| p.name == "run").ok_or("foreshard load did not run")?;
        let phase = said.phases.swap_remove(at);
        if said.status != 0 || phase.failed > 0 || phase.operations == 0 {
            return Err(
                format!("{} of {} operations failed: {said:?}", phase.failed, phase.operations).into()
            );
        }
        Ok(phase)
    }

    fn start(&self) -> Result<Server> {
        let clients = self.arguments.idle + self.arguments.many as usize + CLIENTS_BESIDES;
        let settings = format!("maxclients = {clients}\n");
        Ok(Node::start(&self.site.foreshard, self.site.server_core, &self.site.store, PARTITIONS, &settings)?
            .server)
    }

    fn generator(&self, node: &Server, connections: u32) -> Program {
        let a = &self.arguments;
        let mut program = load::generator(&self.site.foreshard, Some(self.site.client_core), node.address());
        program.arguments(["--keys", &a.keys.to_string(), "--value-bytes", "100", "--mix", &a.mix]);
        program.arguments(["--distribution", "uniform", "--connections", &connections.to_string()]);
        program
    }
}

impl Report {
    fn tell(&self) {
        let idle = |f: fn(&IdleRun) -> f64| middle(self.idle.iter().map(f));
        let busy = |f: fn(&BusyRun) -> f64| middle(self.busy.iter().map(f));
        let [few, many] = self.busy_connections;
        let bytes = self.idle.iter().map(|run| run.idle_bytes).max().unwrap_or_default();
        println!(
            "{} idle connections: {:.1} MiB at most; {few} busy ones {:.0}/s beside them, {:.0}/s without; {:.3} of it",
            self.idle_connections,
            bytes as f64 / MIB,
            idle(|r| r.with_per_s),
            idle(|r| r.without_per_s),
            idle(|r| r.ratio),
        );
        let (many_us, few_us) = (busy(|r| r.many.p99_us), busy(|r| r.few.p99_us));
        println!(
            "{:.0}/s over {many} connections: p50 {:.0} us, p99 {many_us:.0} us; over {few}: {:.0} us, {few_us:.0} us; p99 is \
             {:.2} times it, and {:.2} times in the middle pair",
            busy(|r| r.rate),
            busy(|r| r.many.p50_us),
            busy(|r| r.few.p50_us),
            many_us / few_us,
            busy(|r| r.many.p99_us / r.few.p99_us),
        );
        let behind = |side: fn(&BusyRun) -> Side| self.busy.iter().filter(|run| side(run).is_behind).count();
        let (many_behind, few_behind) = (behind(|r| r.many), behind(|r| r.few));
        println!(
            "{many_behind} and {few_behind} of {} runs were behind their rate; the client's core was {:.2} and {:.2} busy",
            self.busy.len(),
            busy(|r| r.many.client_busy),
            busy(|r| r.few.client_busy),
        );
        println!("{}; medians of {} runs of {} s", self.mix, self.idle.len(), self.seconds);
        if 2 * few_behind.max(many_behind) >= self.busy.len() {
            println!(
                "NOT ESTABLISHED: half of the runs or more were behind their rate; give less --load, or a quieter machine"
            );
        }
    }
}

fn middle(all: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = all.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Filling is given as long as a slow device takes for all keys.
const FILL_KEYS_PER_SECOND_MIN: f64 = 1000.0;
/// An open loop that does less than this part of its rate measures how far behind it is. One such run in many is a stall of
/// the machine, and medians bear it; where it is half of them, there is nothing to compare.
const RATE_PART_MIN: f64 = 0.97;
/// Those that ask whether the node answers.
const CLIENTS_BESIDES: usize = 50;
const MIB: f64 = (1 << 20) as f64;
