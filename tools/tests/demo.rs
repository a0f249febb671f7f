//! `foreshard demo` at a small size: a node, a trace, forecasts, moves, and nothing that failed.

use std::process::Command;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_foreshard");

#[test]
fn moves_end_before_their_peaks_and_no_request_fails() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("demo.svg");
    let run = Command::new(PROGRAM)
        .args(["demo", "--json", "--hours", "16", "--hour-seconds", "1", "--rate", "300", "--out"])
        .arg(&picture)
        .output()
        .unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let told = String::from_utf8_lossy(&run.stderr);
    let answer: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said} {told}"));
    let live = &answer["live"];
    assert_eq!((live["failed"].as_u64(), live["violations"].as_u64()), (Some(0), Some(0)), "{live}");
    assert!(live["requests"].as_u64().unwrap() > 1000, "{live}");
    assert!(live["moves_ahead_of_peak"].as_u64().unwrap() > 0, "{live}");
    assert_eq!((run.status.code(), &answer["holds"]), (Some(0), &Value::Bool(true)));
    // Whatever is simulated, the oracle is at or below every policy.
    let simulated = answer["simulated"].as_array().unwrap();
    let seconds = |one: &Value| one["violation_seconds"].as_u64().unwrap();
    let oracle = simulated.iter().find(|one| one["policy"] == "oracle").unwrap();
    assert!(
        simulated.len() == 4 && simulated.iter().all(|one| seconds(oracle) <= seconds(one)),
        "{simulated:?}"
    );
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    assert!(svg.contains("class=\"capacity\"") && svg.contains("class=\"in\""), "a move is marked");
}

#[test]
fn the_trace_is_written_and_is_one_that_can_be_forecast() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("town.csv");
    let write = Command::new(PROGRAM).args(["demo", "--write-trace"]).arg(&trace).status().unwrap();
    assert!(write.success());
    let forecast = Command::new(PROGRAM)
        .args(["forecast", "--metric", "reads+writes", "--horizon", "24", "--model", "week-median", "--in"])
        .arg(&trace)
        .arg("--out")
        .arg(dir.path().join("forecast.csv"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&forecast.stderr);
    assert!(forecast.status.success(), "{told}");
    let rows = std::fs::read_to_string(dir.path().join("forecast.csv")).unwrap();
    assert_eq!(rows.matches("shop:35,").count(), 24, "{told}");
}
