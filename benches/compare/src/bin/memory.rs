//! `memory`: what a node holds in memory while it is filled with many times as much. See benches/README.md.
#![expect(clippy::print_stdout, reason = "a program")]

use std::path::PathBuf;

use clap::Parser;
use foreshard_compare::Result;
use foreshard_compare::filled::{Filled, ROW_BYTES};
use foreshard_compare::machine;
use foreshard_compare::server::program;

/// A node filled with many times its memory.
#[derive(Parser)]
struct Arguments {
    /// The node's `memory_bytes`; a quarter of it is for memtables.
    #[arg(long, default_value_t = 256 << 20)]
    budget_bytes: u64,
    /// Bytes of rows, as keys and values count, in budgets.
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// Shards of the node.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// How the node is set up besides, as TOML.
    #[arg(long, default_value = "durability = \"none\"")]
    settings: String,
    /// The disk that is used: a directory `store` in it is emptied before and removed after.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/memory"))]
    dir: PathBuf,
    /// Where memory.json goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/memory"))]
    out: PathBuf,
    /// A `foreshard` to run, node and load generator; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
    /// A few megabytes: to see that it works. The numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.budget_bytes, arguments.times) = (16 << 20, 1);
    }
    let foreshard = program(arguments.foreshard.take())?;
    let budget = arguments.budget_bytes;
    let settings = format!(
        "memory_bytes = {budget}\nmemtables_bytes = {}\nmemtable_bytes = {}\n{}\n",
        budget / 4,
        budget / 16,
        arguments.settings
    );
    let rows = budget * arguments.times / ROW_BYTES;
    let filled = Filled::new(foreshard, &arguments.dir, arguments.shards, &settings)?;
    let mut node = filled.start()?;
    let idle = machine::resident_bytes_max(node.child().id())?;
    filled.fill(rows)?;
    let peak = machine::resident_bytes_max(node.child().id())?;
    node.child().kill()?;
    filled.remove()?;
    let ratio = peak as f64 / budget as f64;
    println!("budget, MiB  rows, MiB  idle, MiB  peak, MiB  peak / budget");
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{:11}  {:9}  {:9}  {:9}  {ratio:13.3}",
        mib(budget),
        mib(rows * ROW_BYTES),
        mib(idle),
        mib(peak)
    );
    let report = serde_json::json!({
        "budget_bytes": budget, "rows": rows, "row_bytes": ROW_BYTES, "shards": arguments.shards,
        "settings": arguments.settings, "idle_resident_bytes": idle, "peak_resident_bytes": peak,
        "peak_per_budget": ratio,
    });
    std::fs::create_dir_all(&arguments.out)?;
    std::fs::write(arguments.out.join("memory.json"), serde_json::to_string_pretty(&report)?)?;
    Ok(())
}
