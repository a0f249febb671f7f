//! `predictive`: hours of a trace against a live node with set capacities, under one policy after the other; in how many seconds
//! its clients had to wait. See benches/README.md.
//!
//! Exit status: 0 nothing failed and nothing was lost under any policy, whatever they are worth; 1 something was; 2 it could
//! not be run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use foreshard_compare::load::{self, Second};
use foreshard_compare::metrics::Metrics;
use foreshard_compare::replayed::{Cluster, Hours, Stage};
use foreshard_compare::{Result, admin};
use serde::Serialize;
use serde_json::Value;

/// In the order in which they are run and told.
const POLICIES: [&str; 4] = ["static", "reactive", "predictive", "oracle"];
/// Everybody at home, and no capacity set: what a request costs, and how long it takes where nobody waits.
const UNLIMITED: &str = "unlimited";
/// The rule for seconds, the net under the plans too: as quick as it may be, since hours are seconds here.
const RULE: &str = "reactive_window_s = 1.0\nreactive_hold_s = 1\nreactive_rest_s = 2\n";
/// Nobody gives up: what waits for its partition's pace is answered late, and late is what is measured.
const PATIENCE_MS: &str = "3600000";
/// What is measured is where entities are: nobody waits for the device.
const DURABILITY: &str = "interval:100";

/// A trace replayed against a live node that holds its partitions to a capacity: static, reactive, predictive, and one that knows the
/// future.
#[derive(Parser)]
struct Arguments {
    /// CSV with columns time, entity, reads and writes a second, plain or gzip; the demo's town if not given.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Its last hours, which are replayed; those before are known from the start.
    #[arg(long, default_value_t = 48)]
    hours: i64,
    /// Seconds that an hour takes.
    #[arg(long, default_value_t = 4.0)]
    hour_seconds: f64,
    /// Requests a second on average: the trace is scaled to it.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Percent of partition-hours that are over capacity if nothing moves.
    #[arg(long, default_value_t = 10.0)]
    overloaded: f64,
    /// A second whose p99 is above it is a violation, milliseconds.
    #[arg(long, default_value_t = 100.0)]
    target_ms: f64,
    /// Partitions of the node.
    #[arg(long, default_value_t = 4)]
    partitions: usize,
    /// Its shards.
    #[arg(long, default_value_t = 2)]
    shards: usize,
    /// Where what came out goes, as JSON and drawn; a directory `store` in it is emptied before.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/predictive"))]
    dir: PathBuf,
    /// A `foreshard` to run, node and load generator; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
    /// A few short hours: to see that it works.
    #[arg(long)]
    smoke: bool,
}

/// What one policy came to.
#[derive(Debug, Serialize)]
struct Outcome {
    policy: &'static str,
    /// Seconds whose p99 was above the target, or in which a request failed.
    violation_seconds: usize,
    seconds: usize,
    operations: u64,
    failed: u64,
    /// Answers that contradict what was acknowledged, those of reading back in the end among them.
    wrong: u64,
    moves: usize,
    bytes_moved: u64,
    /// What a request cost its partition, those of reading back included.
    units_per_request: f64,
    p99_ms: f64,
    /// Second by second, milliseconds.
    p99_ms_by_second: Vec<f64>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("predictive: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(mut a: Arguments) -> Result<bool> {
    if a.smoke {
        (a.hours, a.hour_seconds, a.rate) = (12, 1.0, 400.0);
    }
    let hours = Hours { count: a.hours, seconds: a.hour_seconds, rate: a.rate };
    let cluster = Cluster { shards: a.shards, partitions: a.partitions, durability: DURABILITY };
    let mut stage = Stage::new((a.foreshard.take(), &a.dir), a.trace.as_deref(), hours, cluster)?;
    let free = play(&mut stage, &a, UNLIMITED, |_| Ok("paused = true\n".to_owned()))?;
    let cost = free.units_per_request;
    if !(cost.is_finite() && cost > 0.0) {
        return Err("nothing was asked that costs anything".into());
    }
    let requests = stage.capacity(a.overloaded / 100.0);
    println!(
        "{} entities, {} hours of {} s, {} requests a second; a partition may do {requests:.0} requests a second, of {cost:.1} \
         cost units each",
        stage.loads.entities(),
        a.hours,
        a.hour_seconds,
        a.rate
    );
    let mut outcomes = vec![free];
    for policy in POLICIES {
        let settings = |stage: &Stage| Ok(settings(policy, requests * cost, &stage.to_come()?));
        outcomes.push(play(&mut stage, &a, policy, settings)?);
    }
    tell(&outcomes, a.target_ms);
    let told = serde_json::json!({
        "hours": a.hours, "hour_seconds": a.hour_seconds, "rate": a.rate, "overloaded_percent": a.overloaded,
        "target_ms": a.target_ms, "partitions": a.partitions, "shards": a.shards, "capacity_requests_per_s": requests,
        "units_per_request": cost, "outcomes": outcomes,
    });
    std::fs::write(a.dir.join("predictive.json"), serde_json::to_string_pretty(&told)?)?;
    std::fs::write(a.dir.join("predictive.svg"), drawn(&outcomes, a.target_ms))?;
    println!("{}", a.dir.join("predictive.svg").display());
    Ok(outcomes.iter().all(|one| one.failed == 0 && one.wrong == 0))
}

/// What the planner is told: the hours to come are in `to_come`.
fn settings(policy: &str, units: f64, to_come: &Path) -> String {
    let planner = match policy {
        "static" => "paused = true\n".to_owned(),
        // It makes no plan, and sends nobody home.
        "reactive" => format!("moves_per_plan = 0\nhome_hours = 1000000\n{RULE}"),
        "oracle" => format!("foreseen = {:?}\n{RULE}", to_come.display().to_string()),
        _ => RULE.to_owned(),
    };
    format!("{planner}[capacity]\npartition = {units:.1}\n")
}

/// One policy over all hours; `settings` are the planner's.
fn play(
    stage: &mut Stage,
    a: &Arguments,
    policy: &'static str,
    settings: impl FnOnce(&Stage) -> Result<String>,
) -> Result<Outcome> {
    stage.empty()?;
    stage.fill()?;
    let settings = settings(stage)?;
    let mut node = stage.node(Some(stage.start()), &settings)?;
    let cost_units = || Metrics::of(stage.admin)?.get("cost_units_rows_total");
    let before = cost_units()?;
    let hours = a.hours.to_string();
    let seconds = a.hours as f64 * a.hour_seconds;
    let mut load = stage.load();
    load.arguments(["--hours", &hours, "--verify", "--timeout-ms", PATIENCE_MS]);
    let said = load::run(&mut load, seconds)?;
    let ledger: Value = serde_json::from_str(&admin::get(stage.admin, "/ledger")?)?;
    #[expect(clippy::cast_precision_loss, reason = "requests of some minutes")]
    let requests = said.phases.iter().map(|phase| phase.operations).sum::<u64>() as f64;
    let units_per_request = (cost_units()? - before) / requests;
    let spent = Metrics::of(stage.admin)?;
    node.child().kill()?;
    let run = said.phase("run").ok_or_else(|| format!("the load did not run: {:?}", said.incomplete))?;
    let wrong = match &said.verify {
        Some(verify) if verify.was_read_back => verify.violations,
        _ => return Err(format!("{policy}: it could not be read back: {:?}", said.incomplete).into()),
    };
    let moves = ledger["moves"].as_array().map_or(0, Vec::len);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let bytes_moved = spent.get("moves_bytes_total")? as u64;
    Ok(Outcome {
        policy,
        violation_seconds: run.per_second.iter().filter(|one| is_violation(one, a.target_ms)).count(),
        seconds: run.per_second.len(),
        operations: run.operations,
        failed: run.failed,
        wrong,
        moves,
        bytes_moved,
        units_per_request,
        p99_ms: run.latency_us.p99 / 1e3,
        p99_ms_by_second: run.per_second.iter().map(|one| one.latency_us_p99 / 1e3).collect(),
    })
}

fn is_violation(second: &Second, target_ms: f64) -> bool {
    second.failed > 0 || second.latency_us_p99 > 1e3 * target_ms
}

fn tell(outcomes: &[Outcome], target_ms: f64) {
    println!(
        "{:<12}{:>22}{:>10}{:>12}{:>10}{:>8}{:>14}",
        "policy", "violation-seconds", "p99, ms", "requests", "failed", "moves", "bytes moved"
    );
    for one in outcomes {
        let violations = format!("{} of {}", one.violation_seconds, one.seconds);
        println!(
            "{:<12}{violations:>22}{:>10.1}{:>12}{:>10}{:>8}{:>14}",
            one.policy, one.p99_ms, one.operations, one.failed, one.moves, one.bytes_moved
        );
    }
    println!("a violation: a second whose p99, since requests were due, is above {target_ms} ms");
}

const WIDTH: f64 = 900.0;
/// Of a policy's plot, and the space above it.
const HEIGHT: f64 = 110.0;
const GAP: f64 = 36.0;
/// A p99 so many times the target is at the top.
const TOP_TIMES: f64 = 10.0;

/// Each policy's p99 over time, its logarithm from a tenth of the target to ten times that.
fn drawn(outcomes: &[Outcome], target_ms: f64) -> String {
    let height = outcomes.len() as f64 * (HEIGHT + GAP) + GAP;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, one) in outcomes.iter().enumerate() {
        let top = GAP + index as f64 * (HEIGHT + GAP);
        let y = |ms: f64| {
            let times = (ms.max(1e-3) / target_ms).log(TOP_TIMES).clamp(-1.0, 1.0);
            top + HEIGHT * (1.0 - times) / 2.0
        };
        let step = WIDTH / one.p99_ms_by_second.len().max(1) as f64;
        let points = one.p99_ms_by_second.iter().enumerate();
        let points: Vec<String> =
            points.map(|(second, ms)| format!("{:.1},{:.1}", second as f64 * step, y(*ms))).collect();
        let _infallible = writeln!(
            out,
            "<text x=\"4\" y=\"{:.0}\">{}: {} of {} seconds above {target_ms} ms</text>\n\
             <line x1=\"0\" x2=\"{WIDTH}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#b02a2a\" stroke-dasharray=\"5 4\"/>\n\
             <polyline fill=\"none\" stroke=\"#2f6f4f\" points=\"{}\"/>",
            top - 8.0,
            one.policy,
            one.violation_seconds,
            one.seconds,
            points.join(" "),
            middle = y(target_ms),
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_violates_by_its_p99_or_by_a_failure() {
        let second = |failed, latency_us_p99| Second { second: 0, failed, latency_us_p99 };
        assert!(!is_violation(&second(0, 99_000.0), 100.0));
        assert!(is_violation(&second(0, 101_000.0), 100.0) && is_violation(&second(1, 1.0), 100.0));
    }

    #[test]
    fn each_policy_is_told_its_own_way() {
        let settings = |policy| settings(policy, 5.0, Path::new("a file.csv"));
        assert!(settings("static").starts_with("paused = true\n[capacity]\npartition = 5.0\n"));
        assert!(settings("reactive").contains("moves_per_plan = 0"));
        assert!(
            !settings("predictive").contains("moves_per_plan")
                && !settings("predictive").contains("foreseen")
        );
        assert!(settings("oracle").starts_with("foreseen = \"a file.csv\"\n"));
    }
}
