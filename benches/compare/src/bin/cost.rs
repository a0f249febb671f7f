//! `cost`: what a node says that its work cost, in cost units, beside the processor time that it took, under YCSB's workloads.
//! See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::path::PathBuf;

use clap::Parser;
use foreshard_compare::load;
use foreshard_compare::metrics::Metrics;
use foreshard_compare::node::Node;
use foreshard_compare::site::{Choice, Site};
use foreshard_compare::{Result, machine};
use serde::Serialize;

/// Partitions of the node's one shard.
const PARTITIONS: u32 = 8;
const WORKLOADS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Cost units beside processor time, under YCSB A to F.
#[derive(Parser)]
struct Arguments {
    /// Seconds of each workload.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rows.
    #[arg(long, default_value_t = 200_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: u32,
    /// Connections of the load.
    #[arg(long, default_value_t = 50)]
    connections: u32,
    /// Operations on their way on each: one table each.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pipelines: Vec<u32>,
    /// Small memtables, so that what flushes and compaction cost is in it.
    #[arg(long, default_value_t = 4 << 20)]
    memtable_bytes: u64,
    #[command(flatten)]
    place: Choice,
    /// A directory `store` in it is emptied before and after.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/cost"))]
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Few keys, a second each: to see that it works. The numbers mean little.
    #[arg(long)]
    smoke: bool,
}

/// One workload.
#[derive(Debug, Serialize)]
struct Cell {
    workload: &'static str,
    pipeline: u32,
    operations: u64,
    /// Cost units, and of these, those of operations on rows.
    units: f64,
    units_of_rows: f64,
    cpu_us: f64,
    /// Units a microsecond.
    ratio: f64,
    /// Rows read and written, and bytes that crossed its sockets: what the costs follow from.
    rows: f64,
    net_bytes: f64,
}

fn main() -> Result<()> {
    machine::refuse_debug_build()?;
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.seconds, arguments.keys) = (1.0, 20_000);
    }
    let site = arguments.place.site(&arguments.dir)?;
    let mut cells = Vec::new();
    for pipeline in arguments.pipelines.clone() {
        for workload in WORKLOADS {
            let cell = measure(&arguments, &site, workload, pipeline)?;
            eprintln!("{cell:.1?}");
            cells.push(cell);
        }
    }
    std::fs::remove_dir_all(&site.store)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&cells)?);
        return Ok(());
    }
    println!("workload  pipeline  operations       units      CPU us   ratio   per operation");
    for cell in &cells {
        println!(
            "{:<8}  {:>8}  {:>10}  {:>10.0}  {:>10.0}  {:>6.3}   {:.2} units, {:.2} us",
            cell.workload,
            cell.pipeline,
            cell.operations,
            cell.units,
            cell.cpu_us,
            cell.ratio,
            cell.units / cell.operations as f64,
            cell.cpu_us / cell.operations as f64,
        );
    }
    let (units, cpu) = cells.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.units, sum.1 + cell.cpu_us));
    println!("all: {:.3} units a microsecond; load average {:.1}", units / cpu, machine::load_average()?);
    Ok(())
}

/// A workload on a store that was filled for it. What the node has left to do when it ends is part of it.
fn measure(a: &Arguments, site: &Site, workload: &'static str, pipeline: u32) -> Result<Cell> {
    let settings = format!("memtable_bytes = {}\n[planner]\nenabled = false\n", a.memtable_bytes);
    let mut node = Node::start(&site.foreshard, site.server_core, &site.store, PARTITIONS, &settings)?;
    let address = node.server.address();
    let generator = || {
        let mut program = load::generator(&site.foreshard, Some(site.client_core), address);
        program.arguments(["--keys", &a.keys.to_string(), "--value-bytes", &a.value_bytes.to_string()]);
        program.arguments(["--workload", workload]);
        program
    };
    let mut fill = generator();
    fill.arguments(["--fill", "--seconds", "0", "--connections", "50", "--pipeline", "32"]);
    load::run(&mut fill, a.keys as f64 / 1000.0)?;
    let process = node.server.child().id();
    machine::settle(process, load::limit(0.0))?;
    let (before, cpu) = (Metrics::of(node.admin)?, machine::process_cpu_seconds(process)?);
    let mut run = generator();
    run.arguments(["--connections", &a.connections.to_string(), "--pipeline", &pipeline.to_string()]);
    run.arguments(["--seconds", &a.seconds.to_string()]);
    let said = load::run(&mut run, a.seconds)?;
    let phase = said.phase("run").ok_or("foreshard load did not run")?;
    if said.status != 0 || phase.failed > 0 || phase.operations == 0 {
        return Err(format!("{} of {} operations failed: {said:?}", phase.failed, phase.operations).into());
    }
    machine::settle(process, load::limit(0.0))?;
    let cpu_us = 1e6 * (machine::process_cpu_seconds(process)? - cpu);
    let after = Metrics::of(node.admin)?;
    let more = |name: &str| -> Result<f64> { Ok(after.get(name)? - before.get(name)?) };
    let units = more("cost_units_total")?;
    Ok(Cell {
        workload,
        pipeline,
        operations: phase.operations,
        units,
        units_of_rows: more("cost_units_rows_total")?,
        cpu_us,
        ratio: units / cpu_us,
        rows: more("rows_total")?,
        net_bytes: more("net_input_bytes_total")? + more("net_output_bytes_total")?,
    })
}
