//! `kill`: a node on a real directory, killed with SIGKILL at random moments under load that verifies. See
//! benches/README.md.
//!
//! Exit status: 0 nothing acknowledged was lost and nothing half-applied, 1 the node broke its word, died by itself or
//! did not come back, 2 it could not be told.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use foreshard_compare::Result;
use foreshard_compare::child::Program;
use foreshard_compare::load::{self, Said};
use foreshard_compare::operator::Operator;
use foreshard_compare::server::{Server, empty, free_address, program};

/// What is written, by turns: each kind has keys and a journal of its own.
const KINDS: [&str; 3] = ["strings", "hashes", "transactions"];
/// One restart in so many is killed too, before it is known to have come back.
const KILLED_AGAIN_ONE_IN: u32 = 4;
/// How long that one has: about what an opening takes, so that it is hit in the middle.
const KILLED_AGAIN_WITHIN: Duration = Duration::from_millis(60);
/// The load runs on for so long after the last moment for a kill: as an opening takes on a busy machine, so that it is
/// seen to go on. Where the opening takes longer, the load does no more than read back.
const AFTERWARDS: Duration = Duration::from_millis(1500);
/// Small memtables and a small log: flushes, compactions and recycled log files are there to be hit. Moves begin to copy at
/// once: nobody asks how entities fared.
const CONFIG: &str = "durability = \"always\"\nmemtable_bytes = 262144\nwal_cap_bytes = 201326592\n[moves]\nbefore_seconds = 0.0\n";
/// Of what the node said, told after it broke its word.
const SAID_LINES: usize = 12;
/// Fields of a hash: few, so that there are many hashes.
const FIELDS: u64 = 10;

/// A node, killed over and over under load that verifies.
#[derive(Parser)]
struct Arguments {
    /// Rounds: each a load, and a kill at a random moment of it.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// The same seed kills at the same moments, as far as time can be the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of load in each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Keys of each kind.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Connections of the load.
    #[arg(long, default_value_t = 20)]
    connections: u32,
    /// The node has from 1 to so many shards: a number of its own after each restart.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// Begin no round after so many minutes: what was written until then is read back.
    #[arg(long)]
    minutes: Option<f64>,
    /// The disk that is used: a directory `store` in it is emptied before, and kept where something went wrong.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/kill"))]
    dir: PathBuf,
    /// A `foreshard` to run, node and load generator; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
    /// Meanwhile an operator has partitions split, merged and handed over, and entities moved, as fast as it can.
    #[arg(long)]
    operate: bool,
    /// Three short rounds with few keys: to see that it works.
    #[arg(long)]
    smoke: bool,
}

/// A campaign on its way.
struct Campaign {
    arguments: Arguments,
    foreshard: PathBuf,
    store: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    random: fastrand::Rng,
    tally: Tally,
}

/// What came out.
#[derive(Default)]
struct Tally {
    rounds: u32,
    /// Those whose load had not ended before the kill.
    rounds_hit: u32,
    kills: u32,
    acknowledged: u64,
    unanswered: u64,
    /// Why not, and how often.
    errors: BTreeMap<String, u64>,
    /// Rounds whose load had no answer before its time was over: killed at its begin, and back after its end.
    rounds_unanswered: u32,
    reconnects: u64,
    /// What an operator had done, and how often.
    orders: BTreeMap<&'static str, u64>,
    read_back: u64,
    restarts: Vec<Duration>,
    violations: u64,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.rounds, arguments.seconds, arguments.keys) = (3, 1.0, 300);
        arguments.operate = true;
    }
    let told = |e| {
        eprintln!("kill: {e}");
        ExitCode::from(2)
    };
    let mut campaign = match Campaign::new(arguments) {
        Ok(campaign) => campaign,
        Err(e) => return told(e),
    };
    let ended = campaign.run();
    println!("{}", campaign.tally.text());
    let kept = campaign.store.display();
    match ended {
        Ok(()) if campaign.tally.violations > 0 => {
            println!("the store and what the node said are kept in {kept}");
            ExitCode::FAILURE
        }
        Ok(()) => {
            std::fs::remove_dir_all(&campaign.store).map_or_else(|e| told(e.into()), |()| ExitCode::SUCCESS)
        }
        Err(e) => {
            eprintln!("the store and what the node said are kept in {kept}");
            told(e)
        }
    }
}

impl Campaign {
    fn new(mut arguments: Arguments) -> Result<Self> {
        let foreshard = program(arguments.foreshard.take())?;
        let store = arguments.dir.join("store");
        empty(&store)?;
        std::fs::write(store.join("node.toml"), CONFIG)?;
        let random = fastrand::Rng::with_seed(arguments.seed);
        let (listen, admin, tally) = (free_address()?, free_address()?, Tally::default());
        Ok(Self { arguments, foreshard, store, listen, admin, random, tally })
    }

    /// All rounds, then everything once more. Ends at the first violation: what follows one says little.
    fn run(&mut self) -> Result<()> {
        let Some(mut node) = self.start()? else { return Ok(()) };
        let begin = Instant::now();
        for round in 0..self.arguments.rounds {
            if self.arguments.minutes.is_some_and(|minutes| begin.elapsed().as_secs_f64() >= minutes * 60.0) {
                break;
            }
            let Some(next) = self.round(node, round)? else { return Ok(()) };
            node = next;
        }
        // What is read in the end comes from the disk.
        node.child().kill()?;
        self.tally.kills += 1;
        let Some(_node) = self.start()? else { return Ok(()) };
        for kind in KINDS.iter().take(usize::try_from(self.tally.rounds)?) {
            let mut generator = load::generator(&self.foreshard, None, self.listen);
            generator.argument("--verify-only").argument("--journal").argument(self.store.join(kind));
            let said = load::run(&mut generator, 0.0)?;
            if !self.judge(&said, &format!("{kind}, read back in the end"))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A load, a kill, a restart, and the load to its end. None after a violation.
    fn round(&mut self, mut node: Server, round: u32) -> Result<Option<Server>> {
        let kind = KINDS[usize::try_from(round)? % KINDS.len()];
        let begin = Instant::now();
        let mut load = self.generator(kind, round).heard().start_read()?;
        let operator = self.operator(kind, round)?;
        let moment = Duration::from_secs_f64(self.random.f64() * self.arguments.seconds);
        std::thread::sleep(moment);
        if let Some(status) = node.child().ended()? {
            return self.violated(&format!("round {round}: the node ended by itself: {status}"));
        }
        let is_hit = !load.has_ended()?;
        node.child().kill()?;
        self.tally.kills += 1;
        if let Some(operator) = operator {
            for (order, count) in operator.end()? {
                *self.tally.orders.entry(order).or_default() += count;
            }
        }
        let Some(node) = self.start()? else { return Ok(None) };
        let said = load::parse(&load.finish(load::limit(self.arguments.seconds))?)?;
        if !self.judge(&said, &format!("round {round}, {kind}"))? {
            return Ok(None);
        }
        self.tally.rounds += 1;
        self.tally.rounds_hit += u32::from(is_hit);
        eprintln!(
            "round {round}: {kind}, killed after {moment:.2?}, back in {:.1?}, {:.1?} in all",
            node.started_in,
            begin.elapsed()
        );
        Ok(Some(node))
    }

    /// Who gives orders about what this round writes.
    fn operator(&self, kind: &'static str, round: u32) -> Result<Option<Operator>> {
        if !self.arguments.operate {
            return Ok(None);
        }
        let keys = self.arguments.keys.max(1);
        let name = move |random: &mut fastrand::Rng| format!("{kind}:{}", random.u64(..keys));
        Operator::start(self.admin, self.arguments.seed + u64::from(round), name).map(Some)
    }

    /// Starts the node; some of the time it is killed while it opens, and started again. None after a violation.
    fn start(&mut self) -> Result<Option<Server>> {
        if self.tally.kills > 0 && self.random.u32(0..KILLED_AGAIN_ONE_IN) == 0 {
            let mut node = self.node()?.start()?;
            std::thread::sleep(KILLED_AGAIN_WITHIN.mul_f64(self.random.f64()));
            if let Some(status) = node.ended()? {
                return self.violated(&format!("the node ended by itself while it opened: {status}"));
            }
            node.kill()?;
            self.tally.kills += 1;
        }
        match Server::start(&mut self.node()?, self.listen) {
            Ok(server) => {
                if self.tally.kills > 0 {
                    self.tally.restarts.push(server.started_in);
                }
                Ok(Some(server))
            }
            Err(e) if self.tally.kills > 0 => self.violated(&format!("the node did not come back: {e}")),
            Err(e) => Err(e),
        }
    }

    fn node(&mut self) -> Result<Program> {
        let shards = self.random.u32(1..=self.arguments.shards);
        let mut node = Program::new(&self.foreshard, None);
        node.arguments(["node", "--shards", &shards.to_string(), "--listen", &self.listen.to_string()]);
        node.arguments(["--admin", &self.admin.to_string(), "--config"])
            .argument(self.store.join("node.toml"));
        node.argument("--data").argument(self.store.join("data")).log(&self.store.join("said"))?;
        Ok(node)
    }

    fn generator(&self, kind: &str, round: u32) -> Program {
        let a = &self.arguments;
        let mut generator = load::generator(&self.foreshard, None, self.listen);
        generator.arguments([
            "--verify",
            "--reconnect",
            "--distribution",
            "uniform",
            "--mix",
            "update=3,read=1",
        ]);
        generator.arguments(["--data", kind, "--prefix", &format!("{kind}:"), "--pipeline", "4"]);
        let hashes = kind == "hashes";
        let (keys, fields) =
            if hashes { ((a.keys / FIELDS).max(a.connections.into()), FIELDS) } else { (a.keys, 1) };
        generator.arguments(["--keys", &keys.to_string(), "--fields", &fields.to_string()]);
        generator.arguments(["--connections", &a.connections.to_string()]);
        generator.arguments(["--seed", &(a.seed + u64::from(round)).to_string()]);
        generator.arguments(["--seconds", &(a.seconds + AFTERWARDS.as_secs_f64()).to_string()]);
        generator.argument("--journal").argument(self.store.join(kind));
        if usize::try_from(round).is_ok_and(|round| round < KINDS.len()) {
            generator.argument("--fill");
        }
        generator
    }

    /// Counts what a load said; false if the node broke its word.
    fn judge(&mut self, said: &Said, what: &str) -> Result<bool> {
        for phase in &said.phases {
            if phase.name == "read_back" {
                self.tally.read_back += phase.operations;
            } else {
                self.tally.acknowledged += phase.operations;
                self.tally.unanswered += phase.failed;
                self.tally.rounds_unanswered += u32::from(phase.operations == 0);
                for (why, count) in &phase.errors {
                    *self.tally.errors.entry(why.clone()).or_default() += count;
                }
            }
            self.tally.reconnects += phase.reconnects;
        }
        let verified = said.verify.as_ref().ok_or("foreshard load did not verify")?;
        if verified.violations > 0 {
            self.tally.violations += verified.violations;
            println!("{what}: {} violations", verified.violations);
            for violation in &verified.first_violations {
                println!("  {violation}");
            }
            return Ok(false);
        }
        if !verified.was_read_back {
            return Err(format!(
                "{what}: {}",
                said.incomplete.as_deref().unwrap_or("not everything was read back")
            )
            .into());
        }
        Ok(true)
    }

    fn violated(&mut self, what: &str) -> Result<Option<Server>> {
        self.tally.violations += 1;
        let said = std::fs::read_to_string(self.store.join("said"))?;
        let last: Vec<&str> = said.lines().rev().take(SAID_LINES).collect();
        println!("{what}; the last it said:");
        for line in last.iter().rev() {
            println!("  {line}");
        }
        Ok(None)
    }
}

impl Tally {
    fn text(&mut self) -> String {
        self.restarts.sort_unstable();
        let median = self.restarts.get(self.restarts.len() / 2).copied().unwrap_or_default();
        let longest = self.restarts.last().copied().unwrap_or_default();
        format!(
            "{} rounds, {} of them killed under load, {} without any answer in time; {} kills; {} operations \
            acknowledged, {} without an answer {:?}, {} connections made again; orders taken: {:?}; {} rows, fields and transactions \
            read back; restarts: median {median:.1?}, \
            longest {longest:.1?}; {} violations",
            self.rounds,
            self.rounds_hit,
            self.rounds_unanswered,
            self.kills,
            self.acknowledged,
            self.unanswered,
            self.errors,
            self.reconnects,
            self.orders,
            self.read_back,
            self.violations
        )
    }
}
