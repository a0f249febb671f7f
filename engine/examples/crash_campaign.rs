//! The crash campaign: `cargo run --release -p foreshard-engine --example crash_campaign -- --points 10000 --seed 1`.
//!
//! `--seed S --point P` runs one point again. What fails is printed with the arguments that repeat it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;

use common::campaign::{boundaries, crash_at};

/// Points of one seed before the next one's turn.
const POINTS_PER_SEED: u64 = 100;

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map(|value| value.parse().expect("a number"))
}

fn main() -> ExitCode {
    let mut seed = argument("--seed").unwrap_or(1);
    let points = argument("--points").unwrap_or(10_000);
    let callers = usize::try_from(argument("--callers").unwrap_or(3)).expect("a small number");
    let work = usize::try_from(argument("--work").unwrap_or(60)).expect("a small number");
    let stop_after = argument("--failures").unwrap_or(1);
    if let Some(point) = argument("--point") {
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
