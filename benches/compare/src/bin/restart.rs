//! `restart`: how long a filled node that was killed with SIGKILL takes until it answers. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use foreshard_compare::filled::{Filled, ROW_BYTES};
use foreshard_compare::server::program;
use foreshard_compare::{Result, machine};

/// A node filled with rows, killed, and started again.
#[derive(Parser)]
struct Arguments {
    /// Bytes of rows, as keys and values count.
    #[arg(long, default_value_t = 10 << 30)]
    bytes: u64,
    /// Restarts: the first finds the log that filling left, the others one that is short.
    #[arg(long, default_value_t = 3)]
    restarts: u32,
    /// Shards of the node.
    #[arg(long, default_value_t = 2)]
    shards: u32,
    /// How the node is set up besides, as TOML. Filling is not measured: it need not wait for the device.
    #[arg(long, default_value = "durability = \"none\"")]
    settings: String,
    /// The disk that is used: a directory `store` in it is emptied before and removed after.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/restart"))]
    dir: PathBuf,
    /// Where restart.json goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/restart"))]
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
        arguments.bytes = 8 << 20;
    }
    let foreshard = program(arguments.foreshard.take())?;
    let keys = arguments.bytes / ROW_BYTES;
    let filled = Filled::new(foreshard, &arguments.dir, arguments.shards, &arguments.settings)?;
    let mut node = filled.start()?;
    let begin = Instant::now();
    filled.fill(keys)?;
    eprintln!("{keys} rows in {:.1?}", begin.elapsed());
    let mut restarts = Vec::new();
    println!("restart  store, MiB  log, MiB  PING, s  GET, s  load average");
    for restart in 1..=arguments.restarts {
        let (store_bytes, log_bytes) = filled.bytes()?;
        node.child().kill()?;
        let (begin, load_average) = (Instant::now(), machine::load_average()?);
        node = filled.start()?;
        filled.read(keys / 2)?;
        let (ping_s, get_s) = (node.started_in.as_secs_f64(), begin.elapsed().as_secs_f64());
        let mib = |bytes: u64| bytes >> 20;
        println!(
            "{restart:7}  {:10}  {:8}  {ping_s:7.3}  {get_s:6.3}  {load_average:12.2}",
            mib(store_bytes),
            mib(log_bytes)
        );
        restarts.push(serde_json::json!({
            "store_bytes": store_bytes, "log_bytes": log_bytes, "ping_s": ping_s, "get_s": get_s,
            "load_average": load_average,
        }));
    }
    drop(node);
    filled.remove()?;
    let report = serde_json::json!({
        "rows": keys, "shards": arguments.shards, "settings": arguments.settings, "restarts": restarts,
    });
    std::fs::create_dir_all(&arguments.out)?;
    std::fs::write(arguments.out.join("restart.json"), serde_json::to_string_pretty(&report)?)?;
    Ok(())
}
