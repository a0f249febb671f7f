//! `cost`: what a node says that its work cost, in cost units, beside the processor time that it took, under YCSB's workloads; and
//! what each kind of work costs, by all of these. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Parser;
use foreshard_compare::fit::{Observed, nonnegative};
use foreshard_compare::load;
use foreshard_compare::metrics::Metrics;
use foreshard_compare::node::Node;
use foreshard_compare::site::{Choice, Site};
use foreshard_compare::{Result, machine};
use serde::{Deserialize, Serialize};

/// Partitions of the node's one shard.
const PARTITIONS: u32 = 8;
const WORKLOADS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Cost units beside processor time, under YCSB A to F.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  cost\n  cost --connections 5,50 --value-bytes 100,1000 --pipelines 1,4,16 --fit\n  cost --from target/cost/cost.json --fit"
)]
struct Arguments {
    /// Seconds of each cell.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often each cell is measured, all of them in turn; medians are told.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows.
    #[arg(long, default_value_t = 200_000)]
    keys: u64,
    /// Bytes of a value: cells of each.
    #[arg(long, value_delimiter = ',', default_value = "100")]
    value_bytes: Vec<u32>,
    /// Connections of the load: cells of each.
    #[arg(long, value_delimiter = ',', default_value = "50")]
    connections: Vec<u32>,
    /// Operations on their way on each: cells of each.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pipelines: Vec<u32>,
    /// Small memtables, so that what flushes and compaction cost is in it.
    #[arg(long, default_value_t = 4 << 20)]
    memtable_bytes: u64,
    /// Tells also what each kind of work costs, by least squares over all cells: the constants of `capacity/cost.rs`.
    #[arg(long)]
    fit: bool,
    /// Looks at cells that were measured before and measures nothing.
    #[arg(long)]
    from: Option<PathBuf>,
    #[command(flatten)]
    place: Choice,
    /// A directory `store` in it is emptied before and after; cost.json has what was measured.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/cost"))]
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Few keys, a second each: to see that it works. The numbers mean little.
    #[arg(long)]
    smoke: bool,
}

/// What is measured.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Cell {
    pipeline: u32,
    connections: u32,
    value_bytes: u32,
    workload: String,
}

/// One measurement of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    cell: Cell,
    operations: u64,
    /// Cost units.
    units: f64,
    /// Of all threads, the kernel's for its I/O too.
    cpu_us: f64,
    /// Of these, the kernel's.
    kernel_workers_us: f64,
    /// What was done, by its kind: what costs follow from.
    work: BTreeMap<String, f64>,
    /// Bytes that flushes and compactions wrote.
    segment_bytes: f64,
}

impl Measured {
    fn ratio(&self) -> f64 {
        self.units / self.cpu_us
    }
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.seconds, arguments.keys, arguments.rounds) = (1.0, 20_000, 1);
    }
    let measured = match &arguments.from {
        Some(path) => {
            serde_json::from_slice(&std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?)?
        }
        None => measure_all(&arguments)?,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
        return Ok(());
    }
    tell(&measured)?;
    if arguments.fit {
        tell_fit(&measured);
    }
    Ok(())
}

/// Every cell once, and again, so that whatever else the machine does is not in one of them alone.
fn measure_all(arguments: &Arguments) -> Result<Vec<Measured>> {
    machine::refuse_debug_build(arguments.smoke)?;
    let site = arguments.place.site(&arguments.dir)?;
    let mut measured = Vec::new();
    for round in 0..arguments.rounds {
        for cell in cells(arguments) {
            let one = measure(arguments, &site, &cell)?;
            eprintln!("{round}: {cell:?} {:.3}", one.ratio());
            measured.push(one);
            std::fs::write(arguments.dir.join("cost.json"), serde_json::to_string(&measured)?)?;
        }
    }
    std::fs::remove_dir_all(&site.store)?;
    Ok(measured)
}

fn cells(arguments: &Arguments) -> Vec<Cell> {
    let mut all = Vec::new();
    for &value_bytes in &arguments.value_bytes {
        for &connections in &arguments.connections {
            for &pipeline in &arguments.pipelines {
                let of = |workload: &str| Cell {
                    pipeline,
                    connections,
                    value_bytes,
                    workload: workload.to_owned(),
                };
                all.extend(WORKLOADS.iter().map(|workload| of(workload)));
            }
        }
    }
    all
}

/// A cell on a store that was filled for it. What the node has left to do when it ends is part of it.
fn measure(a: &Arguments, site: &Site, cell: &Cell) -> Result<Measured> {
    let settings = format!("memtable_bytes = {}\n[planner]\nenabled = false\n", a.memtable_bytes);
    let mut node = Node::start(&site.foreshard, site.server_core, &site.store, PARTITIONS, &settings)?;
    let address = node.server.address();
    let generator = || {
        let mut program = load::generator(&site.foreshard, Some(site.client_core), address);
        program.arguments(["--keys", &a.keys.to_string(), "--value-bytes", &cell.value_bytes.to_string()]);
        program.arguments(["--workload", &cell.workload]);
        program
    };
    let mut fill = generator();
    fill.arguments(["--fill", "--seconds", "0", "--connections", "50", "--pipeline", "32"]);
    load::run(&mut fill, a.keys as f64 / 1000.0)?;
    let process = node.server.child().id();
    machine::settle(process, load::limit(0.0))?;
    let cpu = || -> Result<[f64; 2]> {
        Ok([machine::process_cpu_seconds(process)?, machine::kernel_workers_cpu_seconds(process)?])
    };
    let (before, spent) = (Metrics::of(node.admin)?, cpu()?);
    let mut run = generator();
    run.arguments(["--connections", &cell.connections.to_string(), "--pipeline", &cell.pipeline.to_string()]);
    run.arguments(["--seconds", &a.seconds.to_string()]);
    let said = load::run(&mut run, a.seconds)?;
    let phase = said.phase("run").ok_or("foreshard load did not run")?;
    if said.status != 0 || phase.failed > 0 || phase.operations == 0 {
        return Err(format!("{} of {} operations failed: {said:?}", phase.failed, phase.operations).into());
    }
    machine::settle(process, load::limit(0.0))?;
    let (after, [cpu, workers]) = (Metrics::of(node.admin)?, cpu()?);
    let more = |name: &str| -> Result<f64> { Ok(after.get(name)? - before.get(name)?) };
    let already = before.by_what("work_total");
    let work = after.by_what("work_total").into_iter();
    Ok(Measured {
        cell: cell.clone(),
        operations: phase.operations,
        units: more("cost_units_total")?,
        cpu_us: 1e6 * (cpu - spent[0]),
        kernel_workers_us: 1e6 * (workers - spent[1]),
        work: work.map(|(of, n)| (of.clone(), n - already.get(&of).copied().unwrap_or(0.0))).collect(),
        segment_bytes: more("flushed_bytes_total")? + more("compaction_written_bytes_total")?,
    })
}

fn tell(measured: &[Measured]) -> Result<()> {
    let all: BTreeSet<&Cell> = measured.iter().map(|one| &one.cell).collect();
    println!(
        "pipeline  connections  bytes  workload  operations   ratio  spread   units each   CPU us each  factored"
    );
    let ratios: Vec<(&Cell, Vec<&Measured>, f64)> = all
        .into_iter()
        .map(|cell| {
            let mut of: Vec<&Measured> = measured.iter().filter(|one| one.cell == *cell).collect();
            of.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
            let ratio = of[of.len() / 2].ratio();
            (cell, of, ratio)
        })
        .collect();
    // One factor for the machine: what is left is between workloads.
    let factor = (ratios.iter().map(|(_, _, ratio)| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let mut worst = 0.0_f64;
    for (cell, of, ratio) in &ratios {
        let median = of[of.len() / 2];
        let each = |what: f64| what / median.operations as f64;
        let off = ratio / factor - 1.0;
        worst = worst.max(off.abs());
        println!(
            "{:8}  {:11}  {:5}  {:<8}  {:10}  {ratio:6.3}  {:5.1} %  {:10.2}  {:12.2}  {:+7.1} %",
            cell.pipeline,
            cell.connections,
            cell.value_bytes,
            cell.workload,
            median.operations,
            100.0 * (of[of.len() - 1].ratio() / of[0].ratio() - 1.0),
            each(median.units),
            each(median.cpu_us),
            100.0 * off,
        );
    }
    println!(
        "one factor for this machine: {factor:.3} units a microsecond; the farthest cell is {:.1} % off it; load average {:.1}",
        100.0 * worst,
        machine::load_average()?
    );
    Ok(())
}

fn tell_fit(measured: &[Measured]) {
    let names: Vec<&String> =
        measured.iter().flat_map(|one| one.work.keys()).collect::<BTreeSet<_>>().into_iter().collect();
    let counts = |one: &Measured| {
        names.iter().map(|name| one.work.get(*name).copied().unwrap_or(0.0)).collect::<Vec<_>>()
    };
    let observed: Vec<Observed> =
        measured.iter().map(|one| Observed { counts: counts(one), cost: 1000.0 * one.cpu_us }).collect();
    let found = nonnegative(&observed);
    println!("\nof             thousandths of a unit each   part of all");
    let all: f64 = observed.iter().map(|one| one.cost).sum();
    for (n, (name, cost)) in names.iter().zip(&found).enumerate() {
        let part: f64 = observed.iter().map(|one| one.counts[n] * cost).sum();
        println!("{name:<13}  {cost:26.3}  {:10.1} %", 100.0 * part / all);
    }
    let off = observed.iter().map(|one| {
        let told: f64 = one.counts.iter().zip(&found).map(|(c, each)| c * each).sum();
        (told / one.cost - 1.0).abs()
    });
    println!("the farthest measurement is {:.1} % off", 100.0 * off.fold(0.0, f64::max));
    let workers: Vec<Observed> = measured
        .iter()
        .filter_map(|one| {
            let batches = one.work.get("log_batches").copied().filter(|n| *n > 0.0)?;
            (one.kernel_workers_us > 0.0).then(|| Observed {
                counts: vec![batches, one.segment_bytes],
                cost: 1000.0 * one.kernel_workers_us,
            })
        })
        .collect();
    if let [batch, byte] = nonnegative(&workers)[..] {
        println!(
            "of these, in the kernel's workers: {batch:.0} a batch of the log, {byte:.3} a byte of segments"
        );
    }
}
