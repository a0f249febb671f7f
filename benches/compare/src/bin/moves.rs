//! `moves`: entities move between cores while clients write to them and to others. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use foreshard_compare::child::Program;
use foreshard_compare::probe::{Probe, longest, wrong};
use foreshard_compare::server::{Server, empty, free_address, program};
use foreshard_compare::{Result, admin, load, machine};
use serde_json::json;

/// Moves under load that verifies, and how long whom they had wait.
#[derive(Parser)]
struct Arguments {
    /// Moves, by turns of an entity of each size.
    #[arg(long, default_value_t = 200)]
    moves: usize,
    /// Bytes of the entities that move.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000, 20_000_000])]
    sizes: Vec<u64>,
    /// Requests a second to the entity that moves.
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
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/moves"))]
    dir: PathBuf,
    /// Where moves.json goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/moves"))]
    out: PathBuf,
    /// A `foreshard` to run, node and load generator; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
    /// A few small moves: to see that it works. The numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

const PARTITIONS: u64 = 8;
const VALUE_BYTES: u64 = 1000;
/// After a release, requests that it made wait count as long as this.
const AFTER: Duration = Duration::from_millis(100);
/// Between two moves: the window without a move that the next one is compared with is from here.
const BETWEEN: Duration = Duration::from_millis(400);
/// A move that takes longer has failed.
const MOVE_MAX: Duration = Duration::from_secs(120);

/// A move as a client of its entity saw it.
struct Seen {
    bytes: u64,
    took: Duration,
    /// What the node says that requests waited at most.
    pause: f64,
    /// The longest delay from the move's beginning to a moment after its end.
    during: Duration,
    /// The same of a window of the same length before.
    without: Duration,
    restarts: u64,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.moves, arguments.sizes, arguments.rate) = (6, vec![10_000, 300_000], Some(2000.0));
    }
    let foreshard = program(arguments.foreshard.take())?;
    let node = Node::start(&foreshard, &arguments)?;
    let entities: Vec<(String, u64)> =
        arguments.sizes.iter().enumerate().map(|(n, bytes)| (format!("moving:{n}"), *bytes)).collect();
    for (entity, bytes) in &entities {
        node.fill(entity, *bytes)?;
    }
    let rate = match arguments.rate {
        Some(rate) => rate,
        None => (node.capacity(&foreshard)? / 2.0).floor(),
    };
    eprintln!("{rate} requests a second of others, {} to the entity that moves", arguments.probe_rate);
    let calm = node.others(&foreshard, rate, 5.0)?.finish(load::limit(5.0))?;
    let calm = load::parse(&calm)?;
    // Longer than all moves take; it is ended by its own clock.
    let seconds = if arguments.smoke { 20.0 } else { 2.0 * arguments.moves as f64 + 30.0 };
    let mut others = node.others(&foreshard, rate, seconds)?;
    let begin = Instant::now();
    let mut seen = Vec::new();
    let mut counted = vec![0_u64; entities.len()];
    for n in 0..arguments.moves {
        if others.has_ended()? || begin.elapsed().as_secs_f64() > seconds - 5.0 {
            eprintln!("{n} of {} moves in the time of the load", arguments.moves);
            break;
        }
        let which = n % entities.len();
        let (entity, bytes) = &entities[which];
        seen.push(node.one_move(entity, *bytes, arguments.probe_rate, &mut counted[which])?);
    }
    let said = load::parse(&others.finish(load::limit(seconds))?)?;
    for ((entity, _), counted) in entities.iter().zip(&counted) {
        node.check(entity, *counted)?;
    }
    tell(&arguments, rate, &seen, &calm, &said)
}

/// The node, over a store of its own.
struct Node {
    _server: Server,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    fn start(foreshard: &Path, arguments: &Arguments) -> Result<Self> {
        let store = arguments.dir.join("store");
        empty(&store)?;
        std::fs::write(store.join("node.toml"), &arguments.settings)?;
        let (listen, admin) = (free_address()?, free_address()?);
        let mut program = Program::new(foreshard, None);
        program.arguments(["node", "--shards", &arguments.shards.to_string()]);
        program.arguments(["--partitions", &PARTITIONS.to_string(), "--listen", &listen.to_string()]);
        program.arguments(["--admin", &admin.to_string(), "--config"]).argument(store.join("node.toml"));
        program.argument("--data").argument(store.join("data")).log(&store.join("said"))?;
        Ok(Self { _server: Server::start(&mut program, listen)?, listen, admin })
    }

    /// Writes keys of an entity.
    fn fill(&self, entity: &str, bytes: u64) -> Result<()> {
        let mut stream = BufReader::new(TcpStream::connect(self.listen)?);
        let keys = bytes / VALUE_BYTES;
        let value = "v".repeat(usize::try_from(VALUE_BYTES)?);
        for key in 0..keys {
            stream.get_mut().write_all(format!("SET {{{entity}}}:{key} {value}\r\n").as_bytes())?;
            if key % 64 == 63 || key + 1 == keys {
                for _ in 0..=(key % 64) {
                    expect(&mut stream, "+OK")?;
                }
            }
        }
        Ok(())
    }

    /// What the node takes of the load of others, as fast as it answers.
    fn capacity(&self, foreshard: &Path) -> Result<f64> {
        let mut generator = load::generator(foreshard, None, self.listen);
        generator.arguments(["--fill", "--keys", "20000", "--seconds", "5", "--connections", "50"]);
        let said = load::run(&mut generator, 10.0)?;
        let phase = said.phase("run").ok_or("a load that did not run")?;
        Ok(phase.operations_per_second)
    }

    /// Everyone else, verified.
    fn others(
        &self,
        foreshard: &Path,
        rate: f64,
        seconds: f64,
    ) -> Result<foreshard_compare::child::Speaking> {
        let mut generator = load::generator(foreshard, None, self.listen);
        generator.arguments(["--verify", "--keys", "20000", "--connections", "50", "--rate"]);
        generator.arguments([&rate.to_string(), "--seconds", &seconds.to_string()]);
        generator.heard().start_read()
    }

    /// Moves an entity to the next partition while it is counted up.
    fn one_move(&self, entity: &str, bytes: u64, rate: u32, counted: &mut u64) -> Result<Seen> {
        let at = admin::ask(self.admin, &format!("/entity?name={entity}"), None)?;
        let from = at["partition"].as_u64().ok_or("an entity that is nowhere")?;
        let to = (from + 1) % PARTITIONS;
        let probe = Probe::start(self.listen, &format!("{{{entity}}}:count"), rate)?;
        std::thread::sleep(BETWEEN);
        let begin = Instant::now();
        let begun = admin::ask(self.admin, "/move", Some(&json!({ "entity": entity, "to": to })))?;
        let ended = loop {
            let moves = admin::ask(self.admin, "/moves", None)?;
            let one =
                moves["moves"].as_array().and_then(|all| all.iter().find(|m| m["move"] == begun["move"]));
            match one {
                Some(one) if one["is_over"] == true => break one.clone(),
                _ if begin.elapsed() > MOVE_MAX => return Err(format!("no end of move {begun}").into()),
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let end = Instant::now() + AFTER;
        std::thread::sleep(AFTER * 2);
        let answers = probe.end()?;
        if ended["phase"] != "done" {
            return Err(format!("move of {entity}: {ended}").into());
        }
        let errors = wrong(&answers, *counted);
        if let Some(first) = errors.first() {
            return Err(
                format!("{} wrong answers while {entity} moved, the first: {first}", errors.len()).into()
            );
        }
        *counted += answers.len() as u64;
        let (took, length) = (end - AFTER - begin, (end - begin).min(BETWEEN));
        Ok(Seen {
            bytes,
            took,
            pause: ended["pause_seconds"].as_f64().unwrap_or_default(),
            during: longest(&answers, begin, end).unwrap_or_default(),
            without: longest(&answers, begin - length, begin).unwrap_or_default(),
            restarts: ended["restarts"].as_u64().unwrap_or_default(),
        })
    }

    /// Looks whether an entity has all of its keys, and its count.
    fn check(&self, entity: &str, counted: u64) -> Result<()> {
        let mut stream = BufReader::new(TcpStream::connect(self.listen)?);
        stream.get_mut().write_all(format!("INCRBY {{{entity}}}:count 0\r\n").as_bytes())?;
        expect(&mut stream, &format!(":{counted}"))
    }
}

fn expect(stream: &mut BufReader<TcpStream>, wanted: &str) -> Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if line.trim_end() == wanted { Ok(()) } else { Err(format!("{line:?}, not {wanted:?}").into()) }
}

/// The value that so many in a hundred of `values` do not exceed, in milliseconds.
fn percentile(values: impl Iterator<Item = Duration>, hundredths: usize) -> f64 {
    let mut millis: Vec<f64> = values.map(|v| v.as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    let at = (millis.len() * hundredths).div_ceil(100).max(1) - 1;
    millis.get(at).copied().unwrap_or_default()
}

fn tell(arguments: &Arguments, rate: f64, seen: &[Seen], calm: &load::Said, said: &load::Said) -> Result<()> {
    println!(
        "bytes       moves  took, ms p50     p99  pause, ms p50     p99  longest delay, ms p50     p99  without: p50     p99"
    );
    let mut rows = Vec::new();
    for bytes in &arguments.sizes {
        let of: Vec<&Seen> = seen.iter().filter(|s| s.bytes == *bytes).collect();
        let both = |f: fn(&Seen) -> Duration| {
            [50, 99].map(|hundredths| percentile(of.iter().map(|s| f(s)), hundredths))
        };
        let took = both(|s| s.took);
        let pause = both(|s| Duration::from_secs_f64(s.pause));
        let (during, without) = (both(|s| s.during), both(|s| s.without));
        println!(
            "{bytes:10}  {:5}  {:12.1} {:7.1}  {:13.2} {:7.2}  {:21.2} {:7.2}  {:12.2} {:7.2}",
            of.len(),
            took[0],
            took[1],
            pause[0],
            pause[1],
            during[0],
            during[1],
            without[0],
            without[1]
        );
        let restarts: u64 = of.iter().map(|s| s.restarts).sum();
        rows.push(json!({
            "bytes": bytes, "moves": of.len(), "took_ms": took, "pause_ms": pause, "longest_delay_ms": during,
            "longest_delay_without_ms": without, "restarts": restarts,
        }));
    }
    let run = |said: &load::Said| -> Result<(f64, f64, u64)> {
        let phase = said.phase("run").ok_or("a load that did not run")?;
        Ok((phase.latency_us.p99, phase.latency_us.p99_9, phase.failed))
    };
    let ((calm_p99, calm_p999, _), (p99, p999, failed)) = (run(calm)?, run(said)?);
    let violations = said.verify.as_ref().map_or(0, |verified| verified.violations);
    println!(
        "everyone else: p99 {p99:.0} us ({calm_p99:.0} without moves), p99.9 {p999:.0} us ({calm_p999:.0})"
    );
    println!(
        "{failed} failed requests, {violations} violations, load average {:.2}",
        machine::load_average()?
    );
    let report = json!({
        "rate": rate, "probe_rate": arguments.probe_rate, "shards": arguments.shards, "moves": rows,
        "others": {"p99_us": p99, "p99_us_without": calm_p99, "failed": failed, "violations": violations},
    });
    std::fs::create_dir_all(&arguments.out)?;
    std::fs::write(arguments.out.join("moves.json"), serde_json::to_string_pretty(&report)?)?;
    std::fs::remove_dir_all(arguments.dir.join("store"))?;
    if failed > 0 || violations > 0 || said.status != 0 {
        return Err(format!("{failed} failed requests, {violations} violations: {said:?}").into());
    }
    Ok(())
}
