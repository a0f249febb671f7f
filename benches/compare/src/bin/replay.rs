//! `replay`: hours of a trace against a live node that plans, with or without a kill in the middle. See benches/README.md.
//!
//! Exit status: 0 moves ended before their peaks, no request failed but those that a kill cut off, nothing was lost; 1 one of
//! these does not hold; 2 it could not be run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use foreshard_compare::load::{self, Said};
use foreshard_compare::replayed::{Cluster, Hours, Stage};
use foreshard_compare::server::Server;
use foreshard_compare::{Result, admin, machine};
use serde_json::Value;

/// Where in the replay the node is killed.
const KILL_AT: f64 = 0.45;
/// How often it is looked at its memory.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A trace replayed against a live node that counts, forecasts, plans and moves.
#[derive(Parser)]
struct Arguments {
    /// CSV with columns time, entity, reads and writes a second, plain or gzip; the demo's town if not given.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Its last hours, which are replayed; those before are known from the start.
    #[arg(long, default_value_t = 168)]
    hours: i64,
    /// Seconds that an hour takes.
    #[arg(long, default_value_t = 2.0)]
    hour_seconds: f64,
    /// Requests a second on average: the trace is scaled to it.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Percent of partition-hours that are over capacity if nothing moves.
    #[arg(long, default_value_t = 6.0)]
    overloaded: f64,
    /// Partitions of the node.
    #[arg(long, default_value_t = 4)]
    partitions: usize,
    /// Its shards.
    #[arg(long, default_value_t = 2)]
    shards: usize,
    /// Kill the node with SIGKILL before half of the hours are over, and start it again.
    #[arg(long)]
    kill: bool,
    /// The disk that is used: a directory `store` in it is emptied before, and kept where something went wrong.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/replay"))]
    dir: PathBuf,
    /// A `foreshard` to run, node and load generator; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
    /// A few short hours: to see that it works.
    #[arg(long)]
    smoke: bool,
}

struct Replay {
    arguments: Arguments,
    stage: Stage,
}

/// What came out.
struct Outcome {
    said: Said,
    ledger: Value,
    /// Resident bytes a quarter into the replay, or after the kill, and at its end.
    resident: [u64; 2],
    /// Of hours before the kill, those that are known after it.
    hours_kept: Option<(usize, usize)>,
}

fn main() -> ExitCode {
    let run = || -> Result<bool> {
        let mut replay = Replay::new(Arguments::parse())?;
        let outcome = replay.run()?;
        let holds = replay.tell(&outcome);
        if holds {
            std::fs::remove_dir_all(&replay.stage.store)?;
        } else {
            println!("the store and what the node said are kept in {}", replay.stage.store.display());
        }
        Ok(holds)
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("replay: {e}");
            ExitCode::from(2)
        }
    }
}

impl Replay {
    fn new(mut arguments: Arguments) -> Result<Self> {
        if arguments.smoke {
            (arguments.hours, arguments.hour_seconds, arguments.rate) = (16, 1.0, 300.0);
        }
        let a = &arguments;
        let hours = Hours { count: a.hours, seconds: a.hour_seconds, rate: a.rate };
        let cluster = Cluster { shards: a.shards, partitions: a.partitions, durability: "always" };
        let stage = Stage::new((a.foreshard.clone(), &a.dir), a.trace.as_deref(), hours, cluster)?;
        Ok(Self { arguments, stage })
    }

    fn run(&mut self) -> Result<Outcome> {
        // Filled before the planner's clock begins.
        self.stage.fill()?;
        let a = &self.arguments;
        let start = self.stage.start();
        let mut node = self.node(start)?;
        let hours = a.hours.to_string();
        let mut load = self.stage.load();
        load.arguments(["--hours", &hours, "--verify", "--journal"])
            .argument(self.stage.store.join("journal"));
        if a.kill {
            load.argument("--reconnect");
        }
        let begin = Instant::now();
        let mut load = load.heard().start_read()?;
        let seconds = a.hours as f64 * a.hour_seconds;
        let (mut early, mut hours_kept, mut late) = (0, None, 0);
        while !load.has_ended()? {
            std::thread::sleep(LOOK_EVERY);
            let share = begin.elapsed().as_secs_f64() / seconds;
            if a.kill && hours_kept.is_none() && share >= KILL_AT {
                let before = self.known(start)?;
                node.child().kill()?;
                #[expect(clippy::cast_possible_truncation, reason = "hours of a replay")]
                let hour = start + (begin.elapsed().as_secs_f64() / a.hour_seconds).floor() as i64;
                node = self.node(hour)?;
                let after = self.known(start)?;
                // The hour that was over last may have been on its way to the store.
                let older: Vec<_> = before.iter().filter(|row| row.0 < hour - 1).collect();
                let forgotten: Vec<_> = older.iter().filter(|row| !after.contains(row)).collect();
                if let Some((hour, name)) = forgotten.first() {
                    eprintln!(
                        "forgotten: {} hours of entities, hour {hour} of {name} first",
                        forgotten.len()
                    );
                }
                hours_kept = Some((older.len() - forgotten.len(), older.len()));
                early = 0;
            }
            let now = machine::resident_bytes(node.child().id())?;
            if early == 0 && share >= if a.kill { KILL_AT + 0.15 } else { 0.25 } {
                early = now;
            }
            if share < 1.0 {
                late = now;
            }
        }
        let said = load::parse(&load.finish(load::limit(seconds))?)?;
        let ledger = serde_json::from_str(&admin::get(self.stage.admin, "/ledger")?)?;
        Ok(Outcome { said, ledger, resident: [early, late], hours_kept })
    }

    /// Entities' hours from `start` on that the node knows, as hour and name.
    fn known(&self, start: i64) -> Result<Vec<(i64, String)>> {
        let text = admin::get(self.stage.admin, "/history")?;
        let mut rows = Vec::new();
        for row in csv::Reader::from_reader(text.as_bytes()).records() {
            let row = row?;
            let hour = row.get(0).unwrap_or_default().parse::<i64>()? / 3600;
            if hour >= start {
                rows.push((hour, row.get(1).unwrap_or_default().to_owned()));
            }
        }
        Ok(rows)
    }

    fn node(&self, start: i64) -> Result<Server> {
        let capacity = self.stage.capacity(self.arguments.overloaded / 100.0);
        self.stage.node(Some(start), &format!("capacity = {capacity:.3}\n"))
    }

    /// Tells what came out; whether it holds.
    fn tell(&self, outcome: &Outcome) -> bool {
        let Outcome { said, ledger, resident, hours_kept } = outcome;
        let moves = ledger["moves"].as_array().map(Vec::as_slice).unwrap_or_default();
        let planned = moves.iter().filter(|one| one["kind"] == "planned");
        let is_ahead = |one: &&Value| {
            one["outcome"] == "done"
                && one["ended"].as_f64().zip(one["peak_hour"].as_f64()).is_some_and(|(e, p)| e < p)
        };
        let ahead = planned.clone().filter(is_ahead).count();
        let needed = moves.iter().filter(|one| one["judged"]["was_needed"] == true).count();
        let judged = moves.iter().filter(|one| one["judged"].is_object()).count();
        let pauses = moves.iter().filter_map(|one| one["pause_ms"].as_f64()).fold(0.0, f64::max);
        let run = said.phase("run");
        let (operations, failed) = run.map_or((0, 0), |run| (run.operations, run.failed));
        let verify = said.verify.as_ref();
        let violations = verify.map_or(u64::MAX, |verify| verify.violations);
        println!(
            "{} entities, {} hours of {} s, {} requests, {failed} failed, {violations} wrong answers",
            self.stage.loads.entities(),
            self.arguments.hours,
            self.arguments.hour_seconds,
            operations
        );
        println!(
            "moves told: {}; planned {}, {ahead} of them ended before their peaks; {needed} of {judged} judged were needed; \
             longest pause {pauses:.1} ms",
            moves.len(),
            planned.count()
        );
        let record = &ledger["forecasts"];
        println!(
            "forecasts six hours ahead: error {} of the day before's, {} within the inner 80 %",
            record["ratio"], record["inside_80"]
        );
        let growth = resident[1] as f64 / resident[0].max(1) as f64;
        println!(
            "resident: {} MiB, at the end {} MiB ({growth:.2} times)",
            resident[0] >> 20,
            resident[1] >> 20
        );
        if let Some((kept, all)) = hours_kept {
            println!(
                "killed with SIGKILL: {kept} of {all} hours of entities that were over are known after it"
            );
        }
        let is_whole = verify.is_some_and(|verify| verify.was_read_back) && said.status == 0;
        let nothing_failed = failed == 0 || self.arguments.kill;
        let hours_whole = hours_kept.is_none_or(|(kept, all)| kept == all);
        violations == 0 && is_whole && nothing_failed && hours_whole && ahead > 0
    }
}
