//! `split`: a partition splits, changes cores and merges again while clients read and write it. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use foreshard_compare::child::{Program, Speaking};
use foreshard_compare::metrics::Metrics;
use foreshard_compare::probe::{Answer, Probe, longest, wrong};
use foreshard_compare::server::{Server, empty, free_address, program};
use foreshard_compare::{Result, admin, load, machine};
use serde_json::{Value, json};

/// Splits, hand-overs and merges under load that verifies, and how long whom they had wait.
#[derive(Parser)]
struct Arguments {
    /// What the partition holds, in GiB of values.
    #[arg(long, default_value_t = 5.0)]
    gib: f64,
    /// Rounds: each splits the partition, hands the upper part over to the next shard, and merges it again.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Requests a second to one entity that is always on its way.
    #[arg(long, default_value_t = 1000)]
    probe_rate: u32,
    /// Requests a second of everyone else; half of what the node takes unless given.
    #[arg(long)]
    rate: Option<f64>,
    /// Shards of the node.
    #[arg(long, default_value_t = 2)]
    shards: u32,
    /// How the node is set up besides, as TOML.
    #[arg(long, default_value = "")]
    settings: String,
    /// The disk that is used: a directory `store` in it is emptied before and removed after.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/split"))]
    dir: PathBuf,
    /// Where split.json goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/split"))]
    out: PathBuf,
    /// A `foreshard` to run, node and load generator; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
    /// Two rounds of a few megabytes: to see that it works. The numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

const VALUE_BYTES: u64 = 4000;
/// After a release, requests that it made wait count as long as this.
const AFTER: Duration = Duration::from_millis(100);
/// Between two changes: the window without one that the next one is compared with ends here.
const BETWEEN: Duration = Duration::from_millis(1000);
/// What nobody notices, whatever windows without a change are.
const UNNOTICED: Duration = Duration::from_millis(10);

/// A change as a client of what was on its way saw it.
struct Seen {
    kind: String,
    begin: Instant,
    took: Duration,
    pause: f64,
    linked_bytes: u64,
    /// Bytes that flushes and compactions wrote meanwhile, and in the same time before.
    written: [f64; 2],
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.gib, arguments.rounds, arguments.rate) = (0.02, 2, Some(2000.0));
    }
    let foreshard = program(arguments.foreshard.take())?;
    let node = Node::start(&foreshard, &arguments)?;
    let keys = (arguments.gib * f64::from(1 << 30) / VALUE_BYTES as f64).ceil();
    let capacity = node.fill(&foreshard, keys)?;
    let rate = arguments.rate.unwrap_or_else(|| (capacity / 2.0).floor());
    let stored =
        admin::ask(node.admin, "/partition?id=0", None)?["segment_bytes"].as_u64().unwrap_or_default();
    eprintln!(
        "{stored} bytes in partition 0; {rate} requests a second of others, {} probes",
        arguments.probe_rate
    );
    // Longer than everything takes; what is left over is waited for.
    let seconds = if arguments.smoke { 25.0 } else { arguments.rounds as f64 * 9.0 + 30.0 };
    let mut others = node.others(&foreshard, keys, rate, seconds)?;
    let probe_name = name_in_slot_above(16_000);
    let probe = Probe::start(node.listen, &probe_name, arguments.probe_rate)?;
    let mut seen = Vec::new();
    for round in 0..arguments.rounds {
        if others.has_ended()? {
            eprintln!("{round} of {} rounds in the time of the load", arguments.rounds);
            break;
        }
        node.round(&mut seen)?;
    }
    std::thread::sleep(BETWEEN);
    let answers = probe.end()?;
    let said = load::parse(&others.finish(load::limit(seconds))?)?;
    let errors = wrong(&answers, 0);
    if let Some(first) = errors.first() {
        return Err(format!("{} wrong answers to the probe, the first: {first}", errors.len()).into());
    }
    node.check(&probe_name, answers.len() as u64)?;
    tell(&arguments, rate, stored, &seen, &answers, &said)
}

/// The node, over a store of its own.
struct Node {
    _server: Server,
    listen: SocketAddr,
    admin: SocketAddr,
    shards: u64,
}

impl Node {
    fn start(foreshard: &Path, arguments: &Arguments) -> Result<Self> {
        let store = arguments.dir.join("store");
        empty(&store)?;
        std::fs::write(store.join("node.toml"), &arguments.settings)?;
        let (listen, admin) = (free_address()?, free_address()?);
        let mut program = Program::new(foreshard, None);
        program.arguments(["node", "--shards", &arguments.shards.to_string(), "--partitions", "1"]);
        program.arguments(["--listen", &listen.to_string(), "--admin", &admin.to_string(), "--config"]);
        program.argument(store.join("node.toml")).argument("--data").argument(store.join("data"));
        program.log(&store.join("said"))?;
        let server = Server::start(&mut program, listen)?;
        Ok(Self { _server: server, listen, admin, shards: arguments.shards.into() })
    }

    /// Fills the partition, and finds what the node takes in a closed loop afterwards.
    fn fill(&self, foreshard: &Path, keys: f64) -> Result<f64> {
        let mut generator = load::generator(foreshard, None, self.listen);
        generator.arguments([
            "--fill",
            "--keys",
            &keys.to_string(),
            "--value-bytes",
            &VALUE_BYTES.to_string(),
        ]);
        generator.arguments(["--seconds", "5", "--connections", "50", "--distribution", "uniform"]);
        let said = load::run(&mut generator, 3600.0)?;
        let phase = said.phase("run").ok_or("a load that did not run")?;
        Ok(phase.operations_per_second)
    }

    /// Everyone else, verified.
    fn others(&self, foreshard: &Path, keys: f64, rate: f64, seconds: f64) -> Result<Speaking> {
        let mut generator = load::generator(foreshard, None, self.listen);
        generator.arguments(["--verify", "--keys", &keys.to_string(), "--connections", "50"]);
        generator.arguments(["--value-bytes", &VALUE_BYTES.to_string(), "--distribution", "uniform"]);
        generator.arguments(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()]);
        generator.heard().start_read()
    }

    /// Splits the partition, hands the upper part over, and merges it again.
    fn round(&self, seen: &mut Vec<Seen>) -> Result<()> {
        let split = self.change("/split", &json!({ "partition": 0 }), seen)?;
        let upper = &split["other"];
        if self.shards > 1 {
            self.change("/hand-over", &json!({ "partition": upper, "to": 1 }), seen)?;
            self.change("/hand-over", &json!({ "partition": upper, "to": 0 }), seen)?;
        }
        self.change("/merge", &json!({ "into": 0, "from": upper }), seen)?;
        Ok(())
    }

    fn change(&self, path: &str, order: &Value, seen: &mut Vec<Seen>) -> Result<Value> {
        let written = || -> Result<f64> {
            let metrics = Metrics::of(self.admin)?;
            Ok(metrics.get("flushed_bytes_total")? + metrics.get("compaction_written_bytes_total")?)
        };
        let before = written()?;
        std::thread::sleep(BETWEEN);
        let (begin, at_begin) = (Instant::now(), written()?);
        let ended = admin::change(self.admin, path, order)?;
        let took = begin.elapsed();
        let at_end = written()?;
        if ended["phase"] != "done" {
            return Err(format!("{path} {order}: {ended}").into());
        }
        eprintln!("{path} {order}: {took:.1?}, pause {} s", ended["pause_seconds"]);
        seen.push(Seen {
            kind: ended["kind"].as_str().unwrap_or_default().to_owned(),
            begin,
            took,
            pause: ended["pause_seconds"].as_f64().unwrap_or_default(),
            linked_bytes: ended["linked_bytes"].as_u64().unwrap_or_default(),
            written: [at_end - at_begin, (at_begin - before) / BETWEEN.as_secs_f64() * took.as_secs_f64()],
        });
        std::thread::sleep(AFTER * 2);
        Ok(ended)
    }

    /// Looks whether the probe's counter is what was counted.
    fn check(&self, key: &str, counted: u64) -> Result<()> {
        let mut stream = BufReader::new(TcpStream::connect(self.listen)?);
        stream.get_mut().write_all(format!("INCRBY {key} 0\r\n").as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let is_right = line.trim_end() == format!(":{counted}");
        if is_right { Ok(()) } else { Err(format!("counted {counted}, and found {line:?}").into()) }
    }
}

/// A key in one of the last slots: in the upper part, wherever the partition is split.
fn name_in_slot_above(slot: u16) -> String {
    let names = (0_u32..).map(|n| format!("probe:{n}"));
    names.into_iter().find(|name| crc16(name.as_bytes()) % 16384 >= slot).unwrap_or_default()
}

/// CRC16 as Redis Cluster computes slots by: XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

fn tell(
    arguments: &Arguments,
    rate: f64,
    stored: u64,
    seen: &[Seen],
    answers: &[Answer],
    said: &load::Said,
) -> Result<()> {
    let mut kinds: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    seen.iter().for_each(|one| kinds.entry(&one.kind).or_default().push(one));
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "kind       count  took, ms: most  pause, ms: most  longest delay, ms: most  without: most  MiB linked  MiB written  without"
    );
    let mut rows = Vec::new();
    let mut is_noticed = false;
    for (kind, of) in kinds {
        let most = |f: &dyn Fn(&Seen) -> f64| of.iter().map(|one| f(one)).fold(0.0, f64::max);
        let window = |one: &Seen| one.took + AFTER;
        let delay = |from: Instant, to: Instant| millis(longest(answers, from, to).unwrap_or_default());
        let during = most(&|one| delay(one.begin, one.begin + window(one)));
        let without = most(&|one| delay(one.begin - window(one).min(BETWEEN), one.begin));
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let took = most(&|one| millis(one.took));
        let pause = most(&|one| one.pause * 1e3);
        let linked = mib(most(&|one| one.linked_bytes as f64));
        let written = [0, 1].map(|n| mib(of.iter().map(|one| one.written[n]).sum::<f64>() / of.len() as f64));
        println!(
            "{kind:9}  {:5}  {took:14.1}  {pause:15.2}  {during:24.2}  {without:13.2}  {linked:10.1}  {:11.1}  {:7.1}",
            of.len(),
            written[0],
            written[1]
        );
        is_noticed |= during > millis(UNNOTICED).max(3.0 * without);
        rows.push(json!({
            "kind": kind, "count": of.len(), "took_ms_max": took, "pause_ms_max": pause,
            "longest_delay_ms": during, "longest_delay_ms_without": without, "linked_mib_max": linked,
            "written_mib_mean": written[0], "written_mib_mean_without": written[1],
        }));
    }
    let phase = said.phase("run").ok_or("a load that did not run")?;
    let violations = said.verify.as_ref().map_or(0, |verified| verified.violations);
    println!(
        "everyone else: {} requests, p99 {:.0} us, p99.9 {:.0} us, {} failed, {violations} violations; load average {:.2}",
        phase.operations,
        phase.latency_us.p99,
        phase.latency_us.p99_9,
        phase.failed,
        machine::load_average()?
    );
    println!(
        "{} longer than {UNNOTICED:?} and three times that of equal windows without",
        if is_noticed { "delays" } else { "no delay was" }
    );
    let report = json!({
        "bytes": stored, "rate": rate, "probe_rate": arguments.probe_rate, "shards": arguments.shards, "changes": rows,
        "probes": answers.len(),
        "others": {"p99_us": phase.latency_us.p99, "failed": phase.failed, "violations": violations},
    });
    std::fs::create_dir_all(&arguments.out)?;
    std::fs::write(arguments.out.join("split.json"), serde_json::to_string_pretty(&report)?)?;
    std::fs::remove_dir_all(arguments.dir.join("store"))?;
    if phase.failed > 0 || violations > 0 || said.status != 0 {
        return Err(format!("{} failed requests, {violations} violations: {said:?}", phase.failed).into());
    }
    Ok(())
}
