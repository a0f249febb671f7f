//! `moves`: entities move between cores while clients write to them and to others. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use foreshard_compare::live::{
    AFTER, Live, NOTICED_TIMES, OTHERS_TIMES, Others, UNNOTICED, expect, is_noticed, percentile,
};
use foreshard_compare::multi::{Done, Transactions};
use foreshard_compare::probe::{Probe, longest, wrong};
use foreshard_compare::server::program;
use foreshard_compare::timeline::Window;
use foreshard_compare::{Result, admin, load, machine};
use serde::Serialize;
use serde_json::json;

/// Moves under load that verifies, and how long whom they had wait.
///
/// One in ten is of an entity of --large-bytes, one in ten of one that takes --hot-rate writes a second, one in four of one whose
/// base is copied and not linked; the others are of --sizes by turns. A client pipelines transactions over several of them.
#[derive(Parser)]
#[command(after_help = "Examples:\n  moves\n  moves --moves 20 --large-bytes 100000000\n  moves --smoke")]
struct Arguments {
    /// Moves in all.
    #[arg(long, default_value_t = 200)]
    moves: usize,
    /// Bytes of the entities that are neither large nor hot nor copied, by turns.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000, 20_000_000])]
    sizes: Vec<u64>,
    /// Bytes of a large entity.
    #[arg(long, default_value_t = 1 << 30)]
    large_bytes: u64,
    /// Large entities, which move by turns.
    #[arg(long, default_value_t = 2)]
    large: usize,
    /// Writes a second to a hot entity.
    #[arg(long, default_value_t = 30_000)]
    hot_rate: u32,
    /// Bytes of an entity whose base is copied: each moves once, before it has segments of its own.
    #[arg(long, default_value_t = 200_000)]
    copied_bytes: u64,
    /// Requests a second to the entity that moves, unless it is hot.
    #[arg(long, default_value_t = 1000)]
    probe_rate: u32,
    /// Transactions a second over several entities that move.
    #[arg(long, default_value_t = 200)]
    transactions: u32,
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
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
    /// A few small moves of each kind: to see that it works. The numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

const PARTITIONS: u64 = 8;
const VALUE_BYTES: u64 = 1000;
/// Between two moves: the window without a move that the next one is compared with is from here.
const BETWEEN: Duration = Duration::from_millis(400);
/// A move that takes longer has failed.
const MOVE_MAX: Duration = Duration::from_secs(120);

/// An entity, and what is known of it.
struct Entity {
    kind: &'static str,
    name: String,
    bytes: u64,
    rate: u32,
    /// What its counter has to be.
    counted: u64,
}

/// A move as a client of its entity saw it.
struct Seen {
    kind: &'static str,
    took: Duration,
    /// What the node says that requests waited at most.
    pause: Duration,
    /// The longest delay from the fence to a moment after the release, and from the move's beginning on.
    fenced: Duration,
    during: Duration,
    /// The same of windows of the same lengths before.
    fenced_without: Duration,
    without: Duration,
    restarts: u64,
    is_copied: bool,
    /// When it copied and cut over, and a moment longer; and as long before it began, if that was long enough.
    moving: Window,
    before: Window,
}

/// Moves of one kind; milliseconds, p50 and p99 over the moves, unless said otherwise.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    moves: usize,
    copied: usize,
    restarts: u64,
    took_ms: [f64; 2],
    pause_ms: [f64; 2],
    fence_to_release_ms: [f64; 2],
    fence_to_release_ms_without: [f64; 2],
    longest_delay_ms: [f64; 2],
    longest_delay_ms_without: [f64; 2],
    /// Everyone else's, of their requests while these moved, and in the windows before.
    others_p99_us: f64,
    others_p99_us_without: f64,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.moves, arguments.sizes, arguments.rate) = (8, vec![10_000, 300_000], Some(2000.0));
        (arguments.large_bytes, arguments.large, arguments.hot_rate) = (2_000_000, 1, 4000);
    }
    let foreshard = program(arguments.foreshard.take())?;
    let (place, load) = ((arguments.shards, PARTITIONS), ["--keys", "20000"]);
    let node = Live::start(&foreshard, &arguments.dir.join("store"), place, &arguments.settings, &load)?;
    let (mut entities, order) = plan(&arguments);
    for entity in &entities {
        fill(&node, entity)?;
    }
    let most = node.fill(&foreshard)?;
    let rate = arguments.rate.unwrap_or_else(|| (most / 2.0).floor());
    eprintln!("{rate} requests a second of others, {} to the entity that moves", arguments.probe_rate);
    let calm = load::parse(&node.others(&foreshard, rate, Some(5.0))?.finish(load::limit(5.0))?)?;
    let mut others = node.others(&foreshard, rate, None)?;
    let keys: Vec<String> = together(&entities).map(|entity| format!("{{{}}}:multi", entity.name)).collect();
    let transactions = Transactions::start(node.listen, keys.clone(), arguments.transactions)?;
    let mut seen = Vec::new();
    for &n in &order {
        if others.has_ended()? {
            return Err(
                format!("the load ended by itself after {} of {} moves", seen.len(), order.len()).into()
            );
        }
        seen.push(one_move(&node, &mut entities[n])?);
    }
    let done = transactions.end()?;
    let said = load::parse(&others.end(load::limit(0.0))?)?;
    for entity in &entities {
        node.check(&format!("{{{}}}:count", entity.name), entity.counted)?;
    }
    keys.iter().try_for_each(|key| node.check(key, done.count))?;
    tell(&arguments, rate, &seen, &done, (&calm, &said))
}

/// The entities, and which of them moves when: kinds by turns, so that none has the best or the worst of the machine.
fn plan(a: &Arguments) -> (Vec<Entity>, Vec<usize>) {
    let entity =
        |kind, n: usize, bytes, rate| Entity { kind, name: format!("{kind}:{n}"), bytes, rate, counted: 0 };
    let (tenth, quarter) = ((a.moves / 10).max(1), (a.moves / 4).max(1));
    let mut entities: Vec<Entity> = Vec::new();
    let mut turns: Vec<(f64, usize)> = Vec::new();
    let mut add = |of: Vec<Entity>, count: usize| {
        let first = entities.len();
        let places = of.len();
        entities.extend(of);
        turns.extend((0..count).map(|n| ((n as f64 + 0.5) / count as f64, first + n % places)));
    };
    add((0..a.large.max(1)).map(|n| entity("large", n, a.large_bytes, a.probe_rate)).collect(), tenth);
    add((0..2).map(|n| entity("hot", n, 1_000_000, a.hot_rate)).collect(), tenth);
    add((0..quarter).map(|n| entity("copied", n, a.copied_bytes, a.probe_rate)).collect(), quarter);
    let rest = a.moves.saturating_sub(2 * tenth + quarter);
    add(
        a.sizes.iter().enumerate().map(|(n, bytes)| entity("sized", n, *bytes, a.probe_rate)).collect(),
        rest,
    );
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    (entities, turns.into_iter().map(|(_, n)| n).collect())
}

/// One of each kind: what transactions go over.
fn together(entities: &[Entity]) -> impl Iterator<Item = &Entity> {
    ["large", "hot", "copied", "sized"]
        .into_iter()
        .filter_map(|kind| entities.iter().find(|entity| entity.kind == kind))
}

/// Writes keys of an entity.
fn fill(node: &Live, entity: &Entity) -> Result<()> {
    let mut stream = node.connect()?;
    let keys = entity.bytes / VALUE_BYTES;
    let value = "v".repeat(usize::try_from(VALUE_BYTES)?);
    for key in 0..keys {
        stream.get_mut().write_all(format!("SET {{{}}}:{key} {value}\r\n", entity.name).as_bytes())?;
        if key % 64 == 63 || key + 1 == keys {
            (0..=(key % 64)).try_for_each(|_| expect(&mut stream, "+OK"))?;
        }
    }
    Ok(())
}

/// Moves an entity to the next partition while it is counted up.
fn one_move(node: &Live, entity: &mut Entity) -> Result<Seen> {
    let name = &entity.name;
    let at = admin::ask(node.admin, &format!("/entity?name={name}"), None)?;
    let from = at["partition"].as_u64().ok_or("an entity that is nowhere")?;
    let to = (from + 1) % PARTITIONS;
    let probe = Probe::start(node.listen, &format!("{{{name}}}:count"), entity.rate)?;
    std::thread::sleep(BETWEEN);
    let (begin, begin_at) = (Instant::now(), SystemTime::now());
    let begun = admin::ask(node.admin, "/move", Some(&json!({ "entity": name, "to": to })))?;
    let asked = begin.elapsed();
    // Of this one alone: all of them, a hundred times a second, would cost the node more than the move does.
    let asks = format!("/moves?move={}", begun["move"]);
    let ended = loop {
        match admin::ask(node.admin, &asks, None)?["moves"]
            .as_array()
            .and_then(|all| all.iter().find(|m| m["move"] == begun["move"]))
        {
            Some(one) if one["is_over"] == true => break one.clone(),
            _ if begin.elapsed() > MOVE_MAX => return Err(format!("no end of move {begun}").into()),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let end = Instant::now() + AFTER;
    std::thread::sleep(AFTER * 2);
    let answers = probe.end()?;
    if ended["phase"] != "done" {
        return Err(format!("move of {name}: {ended}").into());
    }
    let errors = wrong(&answers, entity.counted);
    if let Some(first) = errors.first() {
        return Err(format!("{} wrong answers while {name} moved, the first: {first}", errors.len()).into());
    }
    entity.counted += answers.len() as u64;
    let span = |what: &str| {
        ended[what]
            .as_f64()
            .map(Duration::from_secs_f64)
            .ok_or_else(|| format!("a move without {what}: {ended}"))
    };
    let (fenced_after, pause) = (span("fenced_after_seconds")?, span("pause_seconds")?);
    // The node began while it was asked: between the one moment and the other.
    let (fence, release) = (begin + fenced_after, begin + asked + fenced_after + pause + AFTER);
    let most = |from: Instant, to: Instant| longest(&answers, from, to).unwrap_or_default();
    let before = |length: Duration| most(begin.checked_sub(length.min(BETWEEN)).unwrap_or(begin), begin);
    let copying_after = span("copying_after_seconds")?;
    let length = (end - begin).saturating_sub(copying_after);
    let window = length.min(BETWEEN);
    Ok(Seen {
        kind: entity.kind,
        moving: Window::since(begin_at + copying_after, length)?,
        before: Window::since(begin_at - window, window)?,
        took: end - AFTER - begin,
        pause,
        fenced: most(fence, release),
        during: most(begin, end),
        fenced_without: before(release - fence),
        without: before(end - begin),
        restarts: ended["restarts"].as_u64().unwrap_or_default(),
        is_copied: ended["linked_bytes"] == 0 && ended["base_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
    })
}

/// One kind, or all of them.
fn row(kind: &'static str, seen: &[Seen], said: &load::Said) -> Result<Row> {
    let of: Vec<&Seen> = seen.iter().filter(|s| kind == "all" || s.kind == kind).collect();
    let both = |f: fn(&Seen) -> Duration| [50, 99].map(|p| percentile(of.iter().map(|s| f(s)), p));
    let others = |f: fn(&Seen) -> Window| -> Result<f64> {
        let windows: Vec<Window> = of.iter().map(|s| f(s)).collect();
        Ok(said.within(&windows)?.thousandths(990))
    };
    Ok(Row {
        kind,
        moves: of.len(),
        copied: of.iter().filter(|s| s.is_copied).count(),
        restarts: of.iter().map(|s| s.restarts).sum(),
        took_ms: both(|s| s.took),
        pause_ms: both(|s| s.pause),
        fence_to_release_ms: both(|s| s.fenced),
        fence_to_release_ms_without: both(|s| s.fenced_without),
        longest_delay_ms: both(|s| s.during),
        longest_delay_ms_without: both(|s| s.without),
        others_p99_us: others(|s| s.moving)?,
        others_p99_us_without: others(|s| s.before)?,
    })
}

fn tell(
    arguments: &Arguments,
    rate: f64,
    seen: &[Seen],
    done: &Done,
    (calm, said): (&load::Said, &load::Said),
) -> Result<()> {
    let kinds = ["large", "hot", "copied", "sized", "all"];
    let rows = kinds.into_iter().map(|kind| row(kind, seen, said)).collect::<Result<Vec<_>>>()?;
    let (quiet, others) = (Others::of(calm)?, Others::of(said)?);
    let load_average = machine::load_average()?;
    let report = json!({
        "rate": rate, "probe_rate": arguments.probe_rate, "hot_rate": arguments.hot_rate, "large_bytes": arguments.large_bytes,
        "shards": arguments.shards, "moves": rows, "transactions": done.count,
        "transactions_longest_ms": done.longest.as_secs_f64() * 1e3,
        "load_average": load_average,
        "others": {
            "p99_us": others.p99_us, "p99_us_alone": quiet.p99_us, "p999_us": others.p999_us, "p999_us_alone": quiet.p999_us,
            "failed": others.failed, "violations": others.violations,
        },
    });
    std::fs::create_dir_all(&arguments.out)?;
    std::fs::write(arguments.out.join("moves.json"), serde_json::to_string_pretty(&report)?)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&rows);
        println!(
            "over all of it, everyone else: p99 {:.0} us ({:.0} in five seconds with nobody beside them), p99.9 {:.0} us ({:.0})",
            others.p99_us, quiet.p99_us, others.p999_us, quiet.p999_us
        );
        println!(
            "{} transactions over several that moved, the longest pipeline {:.1?}; {} failed requests, {} violations, load average {load_average:.2}",
            done.count, done.longest, others.failed, others.violations,
        );
    }
    std::fs::remove_dir_all(arguments.dir.join("store"))?;
    others.check(said)
}

fn show(rows: &[Row]) {
    println!(
        "kind    moves  copied  took, ms p50     p99  pause p50     p99  fence to release + 100 ms p50     p99  without     p99  all of it p99  without  others' p99  without"
    );
    for row in rows {
        println!(
            "{:6}  {:5}  {:6}  {:12.1} {:7.1}  {:9.2} {:7.2}  {:29.2} {:7.2}  {:7.2} {:7.2}  {:13.2}  {:7.2}  {:11.2}  {:7.2}",
            row.kind,
            row.moves,
            row.copied,
            row.took_ms[0],
            row.took_ms[1],
            row.pause_ms[0],
            row.pause_ms[1],
            row.fence_to_release_ms[0],
            row.fence_to_release_ms[1],
            row.fence_to_release_ms_without[0],
            row.fence_to_release_ms_without[1],
            row.longest_delay_ms[1],
            row.longest_delay_ms_without[1],
            row.others_p99_us / 1e3,
            row.others_p99_us_without / 1e3,
        );
    }
    let noticed =
        rows.iter().filter(|row| is_noticed(row.fence_to_release_ms[1], row.fence_to_release_ms_without[1]));
    let noticed: Vec<&str> = noticed.map(|row| row.kind).collect();
    println!(
        "from fence to release + 100 ms, p99 is to be under {UNNOTICED:?} or {NOTICED_TIMES} times that of equal windows without: {}",
        if noticed.is_empty() { "it is".to_owned() } else { format!("it is not for {}", noticed.join(", ")) }
    );
    for row in rows {
        let times = row.others_p99_us / row.others_p99_us_without;
        let is = if times <= OTHERS_TIMES { "at most" } else { "NOT at most" };
        println!(
            "everyone else's p99 while {} moved: {times:.2} times that of the time before, {is} {OTHERS_TIMES}",
            row.kind
        );
    }
}
