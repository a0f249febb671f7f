//! `split`: a partition splits, changes cores and merges again while clients read and write it. See benches/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use foreshard_compare::live::{AFTER, Live, Others, UNNOTICED, is_noticed};
use foreshard_compare::metrics::Metrics;
use foreshard_compare::probe::{Answer, Probe, longest, wrong};
use foreshard_compare::server::program;
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
const VALUE_BYTES_TEXT: &str = "4000";
/// Between two changes: the window without one that the next one is compared with ends here.
const BETWEEN: Duration = Duration::from_millis(1000);
/// So much beside flushes and compactions may be one of these that is under way, and has not told yet what it wrote: a
/// memtable, or a compaction's outputs. More, and more than a tenth of what is stored, is data written anew.
const UNDER_WAY_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
const ITSELF_SHARE_MAX: f64 = 0.1;

/// A change as a client of what was on its way saw it.
struct Seen {
    kind: String,
    begin: Instant,
    took: Duration,
    pause: f64,
    linked_bytes: u64,
    /// Bytes that flushes and compactions wrote meanwhile, and in the same time before.
    background: [f64; 2],
    /// Bytes of segments that neither of them wrote.
    itself: f64,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.gib, arguments.rounds, arguments.rate) = (0.02, 2, Some(2000.0));
    }
    let foreshard = program(arguments.foreshard.take())?;
    let keys = (arguments.gib * f64::from(1 << 30) / VALUE_BYTES as f64).ceil().to_string();
    let (store, place) = (arguments.dir.join("store"), (arguments.shards, 1));
    let load = ["--keys", &keys, "--value-bytes", VALUE_BYTES_TEXT, "--distribution", "uniform"];
    let live = Live::start(&foreshard, &store, place, &arguments.settings, &load)?;
    let node = Node { live, segments: store.join("data/partitions"), shards: arguments.shards.into() };
    let capacity = node.live.fill(&foreshard)?;
    let rate = arguments.rate.unwrap_or_else(|| (capacity / 2.0).floor());
    let stored =
        admin::ask(node.live.admin, "/partition?id=0", None)?["segment_bytes"].as_u64().unwrap_or_default();
    eprintln!(
        "{stored} bytes in partition 0; {rate} requests a second of others, {} probes",
        arguments.probe_rate
    );
    let mut others = node.live.others(&foreshard, rate, None)?;
    let probe_name = name_in_slot_above(16_000);
    let probe = Probe::start(node.live.listen, &probe_name, arguments.probe_rate)?;
    let mut seen = Vec::new();
    for round in 0..arguments.rounds {
        if others.has_ended()? {
            return Err(
                format!("the load ended by itself after {round} of {} rounds", arguments.rounds).into()
            );
        }
        node.round(&mut seen)?;
    }
    std::thread::sleep(BETWEEN);
    let answers = probe.end()?;
    let said = load::parse(&others.end(load::limit(0.0))?)?;
    let errors = wrong(&answers, 0);
    if let Some(first) = errors.first() {
        return Err(format!("{} wrong answers to the probe, the first: {first}", errors.len()).into());
    }
    node.live.check(&probe_name, answers.len() as u64)?;
    tell(&arguments, rate, stored, &seen, &answers, &said)
}

/// The node, and what is asked of it.
struct Node {
    live: Live,
    segments: PathBuf,
    shards: u64,
}

/// What has been written to segments, by why.
#[derive(Clone, Debug)]
struct Written {
    flushed: f64,
    compacted: f64,
    /// Files, by their inodes, whatever they are called: a second name is none.
    files: BTreeMap<u64, u64>,
}

impl Node {
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
        let before = self.written()?;
        std::thread::sleep(BETWEEN);
        let (begin, at_begin) = (Instant::now(), self.written()?);
        let ended = admin::change(self.live.admin, path, order)?;
        let took = begin.elapsed();
        let at_end = self.written()?;
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
            background: [
                at_end.background_since(&at_begin),
                at_begin.background_since(&before) / BETWEEN.as_secs_f64() * took.as_secs_f64(),
            ],
            itself: at_end.by_itself_since(&at_begin),
        });
        std::thread::sleep(AFTER * 2);
        Ok(ended)
    }

    /// What there is by now. Files first: what is counted by then is in no file that is not seen yet.
    fn written(&self) -> Result<Written> {
        let mut files = BTreeMap::new();
        for partition in std::fs::read_dir(&self.segments)? {
            // Partitions and files come and go meanwhile.
            for file in std::fs::read_dir(partition?.path()).into_iter().flatten().flatten() {
                if file.file_name().to_string_lossy().ends_with(".seg")
                    && let Ok(metadata) = file.metadata()
                {
                    files.insert(metadata.ino(), metadata.len());
                }
            }
        }
        let metrics = Metrics::of(self.live.admin)?;
        let (flushed, compacted) =
            (metrics.get("flushed_bytes_total")?, metrics.get("compaction_written_bytes_total")?);
        Ok(Written { flushed, compacted, files })
    }
}

impl Written {
    /// By flushes and compactions, which go on whether partitions change or not.
    fn background_since(&self, before: &Self) -> f64 {
        self.flushed - before.flushed + self.compacted - before.compacted
    }

    /// Bytes in files that were not there, beyond what flushes and compactions say they wrote: what the change itself wrote, and
    /// what a flush or a compaction has written that has not ended.
    fn by_itself_since(&self, before: &Self) -> f64 {
        let fresh = self.files.iter().filter(|(inode, _)| !before.files.contains_key(inode));
        let fresh: u64 = fresh.map(|(_, bytes)| bytes).sum();
        (fresh as f64 - self.background_since(before)).max(0.0)
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
        "kind       count  took, ms: most  pause, ms: most  longest delay, ms: most  without: most  MiB linked  MiB of flushes and compactions  without  MiB besides"
    );
    let mut rows = Vec::new();
    let (mut noticed, mut is_rewritten) = (false, false);
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
        let mean = |f: &dyn Fn(&Seen) -> f64| mib(of.iter().map(|one| f(one)).sum::<f64>() / of.len() as f64);
        let written = [0, 1].map(|n| mean(&|one| one.background[n]));
        let itself = mib(most(&|one| one.itself));
        is_rewritten |=
            of.iter().any(|one| one.itself > UNDER_WAY_BYTES.max(ITSELF_SHARE_MAX * stored as f64));
        println!(
            "{kind:9}  {:5}  {took:14.1}  {pause:15.2}  {during:24.2}  {without:13.2}  {linked:10.1}  {:30.1}  {:7.1}  {itself:11.1}",
            of.len(),
            written[0],
            written[1]
        );
        noticed |= is_noticed(during, without);
        rows.push(json!({
            "kind": kind, "count": of.len(), "took_ms_max": took, "pause_ms_max": pause,
            "longest_delay_ms": during, "longest_delay_ms_without": without, "linked_mib_max": linked,
            "background_mib_mean": written[0], "background_mib_mean_without": written[1], "besides_mib_max": itself,
        }));
    }
    let others = Others::of(said)?;
    println!(
        "everyone else: {} requests, p99 {:.0} us, p99.9 {:.0} us, {} failed, {} violations; load average {:.2}",
        others.operations,
        others.p99_us,
        others.p999_us,
        others.failed,
        others.violations,
        machine::load_average()?
    );
    println!(
        "{} longer than {UNNOTICED:?} and three times that of equal windows without",
        if noticed { "delays" } else { "no delay was" }
    );
    println!(
        "beside flushes and compactions, {}",
        if is_rewritten { "data was written anew" } else { "nothing was written anew" }
    );
    let report = json!({
        "bytes": stored, "rate": rate, "probe_rate": arguments.probe_rate, "shards": arguments.shards, "changes": rows,
        "probes": answers.len(),
        "others": {"p99_us": others.p99_us, "failed": others.failed, "violations": others.violations},
    });
    std::fs::create_dir_all(&arguments.out)?;
    std::fs::write(arguments.out.join("split.json"), serde_json::to_string_pretty(&report)?)?;
    std::fs::remove_dir_all(arguments.dir.join("store"))?;
    others.check(said)
}
