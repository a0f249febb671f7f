//! The campaign of moves, splits, merges and hand-overs: `cargo run --release -p foreshard-engine --example change_campaign --
//! --changes 10000 --seed 1`.
//!
//! `--seed S --courses 1` runs one course of lives again. What fails is printed with the arguments that repeat it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program, which says now and then how far it is"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use common::campaign::MODES;
use common::changes::{Course, Tally};
use common::script;
use serde_json::json;

/// Between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Moves entities and splits, merges and hands over partitions under load, with crashes at random I/Os, and checks that
/// nothing is lost or done twice, and that every key's answers have one order.
#[derive(Parser)]
#[command(after_help = "Example: change_campaign --changes 10000 --seed 1 --json\n\
    Exit status: 0 nothing was wrong, 1 otherwise; what failed is printed with the arguments that repeat it.")]
struct Campaign {
    /// Moves and changes of partitions to begin, at least.
    #[arg(long, default_value_t = 10_000)]
    changes: u64,
    /// Of the first course of lives; each next one has the next seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends after so many courses, whatever was begun in them.
    #[arg(long)]
    courses: Option<u64>,
    /// Ends after so many seconds, with the course that is under way.
    #[arg(long)]
    seconds: Option<u64>,
    /// Lives of a course that are cut off.
    #[arg(long, default_value_t = 6)]
    crashes: usize,
    /// Callers at once, besides the four whose answers are put in order.
    #[arg(long, default_value_t = 2)]
    callers: usize,
    /// Operations of each caller in each life.
    #[arg(long, default_value_t = 60)]
    work: usize,
    /// Ends after so many failures.
    #[arg(long, default_value_t = 1)]
    failures: u64,
    /// Before that, stops one script of changes at each of its I/Os in turn, in each of the four ways a disk is left.
    #[arg(long)]
    every_boundary: bool,
    /// Prints the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let campaign = Campaign::parse();
    let (boundaries, mut failures) = if campaign.every_boundary { every_boundary() } else { (0, 0) };
    let (mut tally, mut seed) = (Tally::default(), campaign.seed);
    let began = Instant::now();
    let mut told = began;
    while tally.begun < campaign.changes
        && failures < campaign.failures
        && campaign.courses.is_none_or(|courses| seed - campaign.seed < courses)
        && campaign.seconds.is_none_or(|seconds| began.elapsed().as_secs() < seconds)
    {
        let Campaign { callers, work, crashes, .. } = campaign;
        let course = Course { seed, callers, work, crashes };
        match catch_unwind(AssertUnwindSafe(|| course.run())) {
            Ok(more) => tally.add(&more),
            Err(_panic) => {
                eprintln!(
                    "FAILED: --seed {seed} --courses 1 --crashes {crashes} --callers {callers} --work {work}"
                );
                failures += 1;
            }
        }
        seed += 1;
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            eprintln!(
                "{} of {} changes, {} crashes, {failures} failures, at seed {seed}, {} s",
                tally.begun,
                campaign.changes,
                tally.crashes,
                began.elapsed().as_secs()
            );
        }
    }
    let seeds = [campaign.seed, seed - 1];
    if campaign.json {
        print_json(&tally, seeds, failures, boundaries);
    } else {
        print(&tally, seeds, failures, boundaries);
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Stops the script at each of its I/Os; how often, and how often what was left was wrong.
fn every_boundary() -> (u64, u64) {
    let (mut stopped, mut failures) = (0, 0);
    let boundaries = script::boundaries();
    let mut told = Instant::now();
    for boundary in boundaries.clone() {
        for mode in MODES {
            stopped += 1;
            if catch_unwind(|| script::stop_at(boundary, mode)).is_err() {
                eprintln!("FAILED: the script, stopped at {boundary}, {mode:?}");
                failures += 1;
            }
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            eprintln!("the script at boundary {boundary} of {boundaries:?}, {failures} failures");
        }
    }
    (stopped, failures)
}

/// Begun, and cut off by a crash.
fn cut_off(tally: &Tally) -> u64 {
    let [done, undone, _] = tally.moves;
    tally.begun - done - undone - tally.reshapes.iter().sum::<u64>()
}

fn print(tally: &Tally, [first, last]: [u64; 2], failures: u64, boundaries: u64) {
    println!("where stores were stopped:\n{}", tally.boundaries);
    println!("what was under way then:");
    for ((what, phase), count) in &tally.cut_off {
        println!("{what:<10} {phase:<10} {count:>8}");
    }
    let [done, undone, refused] = tally.moves;
    println!("{done} moves done, {undone} undone, {refused} refused");
    let [done, undone] = tally.reshapes;
    println!("{done} splits, merges and hand-overs done, {undone} undone");
    println!("{} changes begun, {} cut off by crashes", tally.begun, cut_off(tally));
    println!("{} crashes, {} of them while a store was opened", tally.crashes, tally.opening);
    let [answered, unknown] = tally.told;
    println!(
        "{} writes acknowledged; {answered} answers put in order, {unknown} operations cut off",
        tally.acknowledged
    );
    println!("a script of changes stopped {boundaries} times, at each of its I/Os");
    println!("{} courses, seeds {first} to {last}: {failures} failures", tally.courses);
}

fn print_json(tally: &Tally, [first, last]: [u64; 2], failures: u64, boundaries: u64) {
    let cut_at: Vec<_> = tally.cut_off.iter().map(|((what, phase), n)| json!([what, phase, n])).collect();
    let summary = json!({
        "seeds": [first, last],
        "courses": tally.courses,
        "changes_begun": tally.begun,
        "changes_cut_off": cut_off(tally),
        "moves": { "done": tally.moves[0], "undone": tally.moves[1], "refused": tally.moves[2] },
        "partitions": { "done": tally.reshapes[0], "undone": tally.reshapes[1] },
        "crashes": tally.crashes,
        "crashes_while_opening": tally.opening,
        "under_way_at_crashes": cut_at,
        "writes_acknowledged": tally.acknowledged,
        "answers_ordered": tally.told[0],
        "operations_cut_off": tally.told[1],
        "script_stopped": boundaries,
        "failures": failures,
    });
    println!("{summary}");
}
