//! The crash campaign: `cargo run --release -p foreshard-engine --example crash_campaign -- --points 10000 --seed 1`.
//!
//! `--seed S --point P` runs one point again. What fails is printed with the arguments that repeat it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use common::campaign::{Field, MODES, Tally, choose};
use common::faults::{Halted, any, live_faulty, live_unflushed};
use common::flips::{Report, Subject};
use common::lossy::{INTERVAL, Loss, Lossy};
use foreshard_engine::Durability;
use foreshard_engine::io::disk::DiskOp;
use foreshard_engine::io::fault::{Fault, Rule, When};

/// Points between two lines of progress.
const TOLD_EVERY: u64 = 500;
/// Of each seed's first life, where it is stopped before its reopening is, in eighths of its boundaries: from its first
/// opening, to what has logs, segments, a table and backups.
const REOPENED_AT: [u64; 4] = [1, 3, 5, 7];

/// Crashes a store at the boundaries of random lives, opens it again, and checks that nothing acknowledged is lost.
#[derive(Parser)]
#[command(after_help = "Example: crash_campaign --points 10000 --seed 1\n\
    Exit status: 0 nothing was lost, 1 otherwise; what failed is printed with the arguments that repeat it.")]
struct Campaign {
    /// Crash points in all: different pairs of seed and boundary.
    #[arg(long, default_value_t = 10_000)]
    points: u64,
    /// Of the first life; each next life has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Points of one seed (of one of its reopenings), at random; all of the boundaries unless given.
    #[arg(long)]
    per_seed: Option<u64>,
    /// Callers at once.
    #[arg(long, default_value_t = 3)]
    callers: usize,
    /// Operations of each caller.
    #[arg(long, default_value_t = 60)]
    work: usize,
    /// Ends after so many failures.
    #[arg(long, default_value_t = 1)]
    failures: u64,
    /// Which boundaries.
    #[arg(long, value_enum, default_value_t = Scene::Life)]
    scene: Scene,
    /// Runs this one point of the seed and prints what it saw.
    #[arg(long)]
    point: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scene {
    /// A store's life from its making to its end; some of the openings after it.
    Life,
    /// The opening of a store that was stopped in the middle of its life: all of its boundaries.
    Reopening,
    /// Lives under the durabilities that may lose something, and what they must not lose.
    Durability,
    /// Single bits of all files of a closed store and of one that was stopped.
    Damage,
    /// Devices that fail or are full, at any operation of an opening or a life.
    Faults,
}

#[derive(Default)]
struct Run {
    done: u64,
    failures: u64,
    tally: Tally,
    loss: Loss,
    damage: [Report; 2],
    /// Operations that failed while stores were opened and while they lived; shards that stopped.
    faults: [u64; 3],
}

fn main() -> ExitCode {
    let campaign = Campaign::parse();
    let field = |seed| Field { seed, callers: campaign.callers, work: campaign.work };
    if let Some(point) = campaign.point {
        println!("{:?}", field(campaign.seed).crash_at(point));
        return ExitCode::SUCCESS;
    }
    let mut run = Run::default();
    let mut seed = campaign.seed;
    while run.done < campaign.points && run.failures < campaign.failures {
        let left = campaign.points - run.done;
        match campaign.scene {
            Scene::Life => run.life(field(seed), campaign.per_seed.unwrap_or(left).min(left)),
            Scene::Reopening => run.reopening(field(seed), campaign.per_seed.unwrap_or(u64::MAX)),
            Scene::Durability => run.durability(seed, campaign.per_seed.unwrap_or(left).min(left)),
            Scene::Damage => run.damage(seed, left),
            Scene::Faults => run.faults(seed, left),
        }
        seed += 1;
    }
    run.tell(campaign.scene);
    println!("{} points of seeds {} to {}, {} failures", run.done, campaign.seed, seed - 1, run.failures);
    if run.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Run {
    fn life(&mut self, field: Field, count: u64) {
        let Some(whole) = self.point(0, || field.boundaries(), || arguments(field)) else { return };
        for point in choose(whole, count, field.seed) {
            let what = || format!("{} --point {point} of {whole}", arguments(field));
            if let Some(tally) = self.point(1, || field.crash_at(point), what) {
                self.tally.add(&tally);
            }
        }
    }

    fn reopening(&mut self, field: Field, count: u64) {
        let Some(whole) = self.point(0, || field.boundaries(), || arguments(field)) else { return };
        for (mode, eighths) in MODES.into_iter().cycle().zip(REOPENED_AT) {
            let what = || format!("{}, stopped at {}, {mode:?}", arguments(field), whole * eighths / 8);
            let stopped = || {
                let mut tally = Tally::default();
                field.crash_reopening(whole * eighths / 8, mode, count, &mut tally);
                tally
            };
            if let Some(tally) = self.point(0, stopped, what) {
                self.progress(tally.opening, what);
                self.tally.add(&tally);
            }
        }
    }

    fn durability(&mut self, seed: u64, count: u64) {
        let durability =
            if seed.is_multiple_of(2) { Durability::None } else { Durability::Interval(INTERVAL) };
        let lossy = Lossy { seed, durability, work: 80 };
        let what = || format!("{lossy:?}");
        let Some(whole) = self.point(0, || lossy.boundaries(), what) else { return };
        for point in choose(whole, count, seed) {
            let mode = MODES[usize::try_from(point % 4).unwrap_or(0)];
            let what = || format!("{lossy:?} at {point}, {mode:?}");
            if let Some(loss) = self.point(1, || lossy.crash_at(point, mode), what) {
                self.loss.acknowledged += loss.acknowledged;
                self.loss.lost += loss.lost;
                self.loss.census.add(&loss.census);
            }
        }
    }

    fn damage(&mut self, seed: u64, count: u64) {
        for is_closed in [true, false] {
            let what = || format!("--seed {seed}, closed: {is_closed}");
            let Some(subject) = self.point(0, || Subject::new(seed, 40, is_closed), what) else { return };
            let places = subject.places(seed);
            eprintln!("{} places, closed: {is_closed}", places.len());
            for n in choose(places.len() as u64, count.div_ceil(2), seed) {
                let place = &places[usize::try_from(n - 1).unwrap_or(0)];
                let report = self.damage[usize::from(is_closed)].clone();
                let flip = || {
                    let mut report = report;
                    subject.flip(place, &mut report);
                    report
                };
                if let Some(report) = self.point(1, flip, || format!("{} {place:?}", what())) {
                    self.damage[usize::from(is_closed)] = report;
                }
            }
        }
    }

    fn faults(&mut self, seed: u64, count: u64) {
        let end = self.done + count;
        for nth in 1..24 {
            let what = || format!("--seed {seed}, flush {nth} of a log fails");
            let struck = self.point(1, || live_unflushed(seed, nth), what);
            self.faults[1] += u64::from(struck == Some(true));
        }
        let Some(halted) = self.point(0, || Halted::new(seed), || format!("--seed {seed}")) else { return };
        for fault in [Fault::Failed, Fault::Short, Fault::NoSpace] {
            for chance in [0.003, 0.02, 0.1] {
                self.opening(seed, &halted, &any(When::Chance(chance), fault));
                self.living(seed, &any(When::Chance(chance / 3.0), fault));
            }
            for nth in 1.. {
                if !self.opening(seed, &halted, &any(When::Nth(nth), fault)) || self.done >= end {
                    break;
                }
            }
            for op in
                [DiskOp::Write, DiskOp::Sync, DiskOp::SyncDir, DiskOp::Open, DiskOp::Read, DiskOp::Remove]
            {
                for nth in 1..12 {
                    let rule = Rule { ops: vec![op], ..any(When::Nth(nth * nth), fault) };
                    self.living(seed, &rule);
                }
            }
        }
    }

    fn opening(&mut self, seed: u64, halted: &Halted, rule: &Rule) -> bool {
        let struck =
            self.point(1, || halted.open_faulty(rule), || format!("--seed {seed}, opening with {rule:?}"));
        self.faults[0] += struck.unwrap_or(1);
        struck != Some(0)
    }

    fn living(&mut self, seed: u64, rule: &Rule) {
        let what = || format!("--seed {seed}, living with {rule:?}");
        if let Some(struck) = self.point(1, || live_faulty(seed, std::slice::from_ref(rule)), what) {
            self.faults[1] += struck.faults;
            self.faults[2] += struck.stopped;
        }
    }

    /// Runs something that counts as `points`; none if it failed.
    fn point<T>(&mut self, points: u64, run: impl FnOnce() -> T, what: impl Fn() -> String) -> Option<T> {
        let ran = catch_unwind(AssertUnwindSafe(run));
        if ran.is_err() {
            eprintln!("FAILED: {}", what());
            self.failures += 1;
        }
        self.progress(points, what);
        ran.ok()
    }

    fn progress(&mut self, points: u64, what: impl Fn() -> String) {
        if self.done / TOLD_EVERY != (self.done + points) / TOLD_EVERY {
            eprintln!("{} points, {} failures, at {}", self.done + points, self.failures, what());
        }
        self.done += points;
    }

    fn tell(&self, scene: Scene) {
        match scene {
            Scene::Life | Scene::Reopening => {
                println!("where stores were stopped:\n{}", self.tally.first);
                println!(
                    "where they were stopped again, {} times before they were open:\n{}",
                    self.tally.opening, self.tally.later
                );
                let (crashes, acknowledged) = (self.tally.crashes(), self.tally.acknowledged);
                println!("{crashes} crashes, {acknowledged} acknowledged operations");
                let [done, undone, refused] = self.tally.moves;
                println!("{done} moves of entities done, {undone} undone, {refused} refused");
                let [done, undone] = self.tally.reshapes;
                println!("{done} changes of partitions done, {undone} undone");
            }
            Scene::Durability => {
                println!("{}", self.loss.census);
                println!("{} writes acknowledged, {} of them lost", self.loss.acknowledged, self.loss.lost);
            }
            Scene::Damage => {
                for (report, what) in self.damage.iter().zip(["stopped", "closed"]) {
                    for (kind, flips) in report {
                        println!("{what:<8} {kind:<12} {flips:?}");
                    }
                }
            }
            Scene::Faults => {
                let [opening, living, stopped] = self.faults;
                println!(
                    "{opening} failed operations of openings, {living} of lives; {stopped} shards stopped"
                );
            }
        }
    }
}

fn arguments(field: Field) -> String {
    format!("--seed {} --callers {} --work {}", field.seed, field.callers, field.work)
}
