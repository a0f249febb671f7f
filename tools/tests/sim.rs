//! `foreshard sim` on a small trace: every cell and policy is told, nothing beats the oracle, and threads change nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]
#![expect(clippy::disallowed_methods, reason = "a test with files of its own")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const HOURS: i64 = 16 * 24;

/// Twelve shops, busy in the day, each at hours of its own; two of them ten times as large.
fn trace() -> String {
    let mut text = String::from("time,entity,reads,writes\n");
    for shop in 0..12_i64 {
        for hour in 0..HOURS {
            let is_open = (hour + 2 * shop).rem_euclid(24) < 8;
            let size = if shop < 2 { 100 } else { 10 };
            // Days differ a little, so that capacities lie between loads.
            let load = if is_open { 5 * size } else { size } + (7 * hour + 13 * shop).rem_euclid(5);
            writeln!(text, "{hour},shop:{shop},{load},{}", load / 4).unwrap();
        }
    }
    text
}

fn sim(trace: &Path, more: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_foreshard"))
        .args(["sim", "--trace", trace.to_str().unwrap(), "--days", "2", "--partitions", "4", "--coarse"])
        .args(["--overloaded", "10,20", "--median-bytes", "1000000000"])
        .args(more)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn every_cell_is_told_and_nothing_beats_the_oracle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.csv");
    std::fs::write(&path, trace()).unwrap();
    let told = sim(&path, &["--json"]);
    assert_eq!(told, sim(&path, &["--json", "--threads", "2"]), "threads change nothing");
    let told: Value = serde_json::from_str(&told).unwrap();
    let cells = told["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2 * 3 * 4, "capacities, spreads, policies");
    for cell in cells.chunks(4) {
        let seconds = |at: usize| cell[at]["violation_seconds"].as_u64().unwrap();
        let policies: Vec<&str> = cell.iter().map(|one| one["policy"].as_str().unwrap()).collect();
        assert_eq!(policies, ["static", "reactive", "predictive", "oracle"]);
        assert!((0..3).all(|at| seconds(at) >= seconds(3)), "{cell:?}");
        assert!(cell[1]["rule"]["high"].is_f64() && cell[0]["moves"] == 0, "{cell:?}");
    }
    let hot = told["hot"]["cases"].as_array().unwrap();
    assert_eq!(hot.len(), 2, "capacities");
    for case in hot {
        let count = |of: &str| case["judged"][of].as_u64().unwrap();
        assert!(count("hot") > 0 && count("hot") >= count("emerging"), "{case}");
        for by in ["forecast", "seasonal_naive"] {
            let share = |of: &str| case["judged"][by][of].as_f64().unwrap();
            assert!(
                (0.0..=1.0).contains(&share("precision")) && (0.0..=1.0).contains(&share("recall")),
                "{case}"
            );
        }
    }
    for (at, total) in told["totals"].as_array().unwrap().iter().enumerate() {
        let of_policy = cells.iter().skip(at).step_by(4);
        let sum: u64 = of_policy.map(|cell| cell["violation_seconds"].as_u64().unwrap()).sum();
        assert_eq!(total["violation_seconds"], sum, "{total}");
    }
    let idle: u64 = told["totals"][0]["violation_seconds"].as_u64().unwrap();
    assert!(idle > 1000, "a cluster that has no trouble tells nothing: {idle}");

    let table = sim(&path, &["--one-spread"]);
    assert!(table.contains("predictive:") && table.contains("reactive at high"), "{table}");
}
