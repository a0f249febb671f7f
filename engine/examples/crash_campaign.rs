//! The crash campaign: `cargo run --release -p foreshard-engine --example crash_campaign -- --points 10000 --seed 1`.
//!
//! `--seed S --point P` runs one point again. What fails is printed with the arguments that repeat it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;

use clap::Parser;
use common::campaign::{boundaries, crash_at};

/// Points of one seed before the next one's turn.
const POINTS_PER_SEED: u64 = 100;

/// Crashes a store at random boundaries of random lives, opens it again, and checks that nothing acknowledged is lost.
#[derive(Parser)]
#[command(after_help = "Example: crash_campaign --points 10000 --seed 1\n\
    Exit status: 0 nothing was lost, 1 otherwise; what failed is printed with the arguments that repeat it.")]
struct Campaign {
    /// Crash points in all.
    #[arg(long, default_value_t = 10_000)]
    points: u64,
    /// Of the first life; each next life has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Callers at once.
    #[arg(long, default_value_t = 3)]
    callers: usize,
    /// Operations of each caller.
    #[arg(long, default_value_t = 60)]
    work: usize,
    /// Ends after so many failures.
    #[arg(long, default_value_t = 1)]
    failures: u64,
    /// Runs this one point of the seed and prints what it saw.
    #[arg(long)]
    point: Option<u64>,
}

fn main() -> ExitCode {
    let Campaign { points, mut seed, callers, work, failures: stop_after, point } = Campaign::parse();
    if let Some(point) = point {
        println!("{:?}", crash_at(seed, callers, work, point));
        return ExitCode::SUCCESS;
    }
    let (mut done, mut crashes, mut acknowledged, mut failures) = (0, 0, 0, 0);
    while done < points {
        let whole = match std::panic::catch_unwind(|| boundaries(seed, callers, work)) {
            Ok(lived) => lived.boundaries,
            Err(_panic) => {
                eprintln!(
                    "FAILED without a crash: --seed {seed} --callers {callers} --work {work} --point 100000000"
                );
                failures += 1;
                1000
            }
        };
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..POINTS_PER_SEED {
            let point = random.u64(1..=whole);
            match std::panic::catch_unwind(|| crash_at(seed, callers, work, point)) {
                Ok(tally) => {
                    crashes += tally.crashes;
                    acknowledged += tally.acknowledged;
                }
                Err(_panic) => {
                    eprintln!("FAILED: --seed {seed} --callers {callers} --work {work} --point {point}");
                    failures += 1;
                }
            }
            done += 1;
        }
        if failures >= stop_after {
            break;
        }
        seed += 1;
    }
    println!("{done} points, {crashes} crashes, {acknowledged} acknowledged operations, {failures} failures");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
