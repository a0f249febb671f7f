//! `peers`: engines against each other and against the disk, in one run. See the README.

#[cfg(feature = "rocksdb")]
mod rocks;

mod disk;
mod fjall_store;
mod foreshard_store;
mod log;
mod machine;
mod peer;
mod report;
mod scenario;
mod workload;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};

use disk::{Pattern, measure};
use peer::Engine;
use report::Report;
use scenario::{CALLERS, Numbers, Scenario, Size};

/// A run of one scenario that takes longer has hung: ten times what the slowest engine took.
const RUN_MAX: Duration = Duration::from_secs(3600);
/// The same of a smoke run.
const SMOKE_RUN_MAX: Duration = Duration::from_secs(120);
/// Runs of an engine that may hang before that ends the comparison: fjall was seen to hang once in some hundred runs.
const HANGS_MAX: u32 = 2;

/// What may go wrong here is only told, never handled.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Engines against each other and against the disk: everything on one core, runs alternated, medians.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Run,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    size: Size,
}

#[derive(Subcommand, Clone, Copy)]
enum Run {
    /// Every scenario, and the disk.
    All,
    /// Fill, then warm point reads.
    Fill,
    /// Durable writes from 64 callers, beside fio's write+fdatasync.
    Durable,
    /// Point reads with data ten times the cache, beside fio's 4 KiB random reads.
    Deep,
    /// The log takes full batches, and a store comes back from a full log.
    Log,
    /// fio alone.
    Disk,
    /// One scenario once, in this process; the others use it.
    #[command(hide = true)]
    One { engine: Engine, scenario: Scenario },
}

#[derive(clap::Args)]
struct Common {
    /// Which engines, the one others are compared with first; all if none is named.
    #[arg(long, global = true, value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Runs of each engine.
    #[arg(long, global = true, default_value_t = 3)]
    runs: u64,
    /// The core everything runs on; the last one if not given.
    #[arg(long, global = true)]
    core: Option<usize>,
    /// Where stores are made; emptied before and after each run.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/data"))]
    dir: PathBuf,
    /// Where peers.json and peers.svg go.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers"))]
    out: PathBuf,
    /// Small sizes and one run: seconds, to see that it works.
    #[arg(long, global = true)]
    smoke: bool,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    let common = &mut arguments.common;
    common.core = Some(common.core.unwrap_or(std::thread::available_parallelism()?.get() - 1));
    machine::pin(common.core.unwrap_or(0))?;
    if common.smoke {
        common.runs = 1;
        arguments.size = arguments.size.smoke();
    }
    let scenarios: &[Scenario] = match arguments.command {
        Run::All => &[Scenario::Fill, Scenario::Durable, Scenario::Deep, Scenario::Log, Scenario::Recovery],
        Run::Fill => &[Scenario::Fill],
        Run::Durable => &[Scenario::Durable],
        Run::Deep => &[Scenario::Deep],
        Run::Log => &[Scenario::Log, Scenario::Recovery],
        Run::Disk => &[],
        Run::One { engine, scenario } => {
            let numbers = scenario::run(engine, scenario, &arguments.common.dir, &arguments.size)?;
            println!("{}", serde_json::to_string(&numbers)?);
            return Ok(());
        }
    };
    compare(&arguments, scenarios)
}

fn compare(arguments: &Arguments, scenarios: &[Scenario]) -> Result<()> {
    let common = &arguments.common;
    if cfg!(debug_assertions) && !common.smoke {
        return Err(
            "built with debug assertions, its numbers would mean nothing: build with --release".into()
        );
    }
    let engines = if common.engines.is_empty() { Engine::value_variants() } else { &common.engines };
    let mut report = Report::default();
    report.settings = serde_json::to_value(arguments.size)?;
    for run in 0..common.runs {
        for &scenario in scenarios {
            // Every other run goes through the engines backwards, so that none always has the disk's better hour.
            let mut order = if scenario.is_for_all() { engines.to_vec() } else { vec![Engine::Foreshard] };
            if run % 2 == 1 {
                order.reverse();
            }
            for engine in order {
                report.load_averages.push(machine::load_average()?);
                let numbers = run_apart(arguments, engine, scenario)?;
                eprintln!("run {run}, {}: {numbers:.1?}", engine.name());
                report.add(engine.name(), &numbers);
            }
        }
        let numbers = run_disk(arguments)?;
        eprintln!("run {run}, disk: {numbers:.1?}");
        report.add("disk", &numbers);
    }
    report.check_digests()?;
    print!("{}", report.table());
    report.save(&common.out)?;
    println!("drawn in {}", common.out.join("peers.svg").display());
    Ok(())
}

/// In a process of its own: its memory, threads and written bytes are the engine's alone. One that hangs is killed,
/// told, and run again.
fn run_apart(arguments: &Arguments, engine: Engine, scenario: Scenario) -> Result<Numbers> {
    let (common, size) = (&arguments.common, &arguments.size);
    let limit = if common.smoke { SMOKE_RUN_MAX } else { RUN_MAX };
    for _ in 0..HANGS_MAX {
        let dir = empty(&common.dir)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["one", &said(engine), &said(scenario)])
            .args(["--core", &common.core.unwrap_or(0).to_string(), "--dir"])
            .arg(dir)
            .args(["--rows", &size.rows.to_string()])
            .args(["--warm-reads", &size.warm_reads.to_string()])
            .args(["--durable-writes", &size.durable_writes.to_string()])
            .args(["--deep-reads", &size.deep_reads.to_string()])
            .args(["--log-bytes", &size.log_bytes.to_string()])
            .args(["--log-seconds", &size.log_seconds.to_string()])
            .args(["--memtable-bytes", &size.memtable_bytes.to_string()])
            .args(["--seed", &size.seed.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let ended = wait(child, limit)?;
        std::fs::remove_dir_all(dir)?;
        match ended {
            Some((status, output)) if status.success() => return Ok(serde_json::from_str(&output)?),
            Some(_) => return Err(format!("{} failed at {scenario:?}", engine.name()).into()),
            None => eprintln!("{} did not end at {scenario:?} within {limit:?}: killed", engine.name()),
        }
    }
    Err(format!("{} hung at {scenario:?} {HANGS_MAX} times", engine.name()).into())
}

/// How a child ended, and its one line of output, which fits a pipe; None if it had to be killed at the limit.
fn wait(mut child: Child, limit: Duration) -> Result<Option<(ExitStatus, String)>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            let mut output = String::new();
            child.stdout.take().ok_or("its output is piped")?.read_to_string(&mut output)?;
            return Ok(Some((status, output)));
        }
        if begin.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The disk's part: what an engine of 64 callers could reach at best, were each sync theirs alone.
fn run_disk(arguments: &Arguments) -> Result<Numbers> {
    let dir = empty(&arguments.common.dir)?;
    let (bytes, seconds) = if arguments.common.smoke { (64 << 20, 1) } else { (1 << 30, 10) };
    let synced = measure(Pattern::SyncedWrites, dir, bytes, seconds)?;
    let random = measure(Pattern::RandomReads, dir, bytes, seconds)?;
    let log = measure(Pattern::LogWrites, dir, bytes, seconds)?;
    std::fs::remove_dir_all(dir)?;
    Ok(Numbers::from([
        ("durable_writes_per_s".into(), synced.operations * CALLERS as f64),
        ("deep_reads_per_s".into(), random.operations),
        ("deep_device_bytes_per_read".into(), random.bytes / random.operations),
        ("log_bytes_per_s".into(), log.bytes),
    ]))
}

fn empty(dir: &Path) -> Result<&Path> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    Ok(dir)
}

/// As it is said on the command line.
fn said<T: ValueEnum>(value: T) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}
