//! A node that plans: it counts, forecasts and moves, is told and asked by `foreshard ctl`, and forgets nothing when it is
//! killed.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]
#![expect(clippy::disallowed_methods, reason = "a test in real time, with files of its own")]

#[path = "process/planning.rs"]
mod planning;
mod process;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use planning::{START, write_config};
use process::{Node, PROGRAM, ask};
use serde_json::Value;

/// What a partition is planned to do, requests a second.
const CAPACITY: f64 = 260.0;

fn start(data: &Path, config: &Path) -> Node {
    Node::start(data, 2, &["--config", config.to_str().unwrap()])
}

impl Node {
    fn kill(self) {
        assert!(!self.end("KILL").success());
    }
}

/// Three weeks of shops at home in one partition: quiet at night, together too much for it from six in the morning on.
fn known(names: &[String]) -> String {
    let mut text = String::from("time,entity,reads,writes\n");
    for name in names {
        for hour in START - 21 * 24..START {
            let load = if (6..20).contains(&hour.rem_euclid(24)) { 40 } else { 4 };
            writeln!(text, "{},{name},{load},{}", hour * 3600, load / 4).unwrap();
        }
    }
    text
}

/// Names of entities that are at home in the first of two partitions, found by asking.
fn at_home(node: &Node, partition: u64, count: usize) -> Vec<String> {
    let names = (0..200).map(|n| format!("shop:{n}"));
    names.filter(|name| node.ctl(&["entity", name])["home"].as_u64() == Some(partition)).take(count).collect()
}

fn set(node: &Node, key: &str) {
    ask(&node.redis, &format!("SET {key} 1\r\n"), "+OK\r\n");
}

/// A directory with a store, what is known of its shops, and a node's configuration.
fn stage() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (config, rows) = (dir.path().join("node.toml"), dir.path().join("known.csv"));
    std::fs::write(&rows, "time,entity,reads,writes\n").unwrap();
    write_config(&config, &rows, (1.0, CAPACITY), "");
    let node = start(&dir.path().join("data"), &config);
    // Six shops at 50 requests a second: 300 of the 260 that a partition can do.
    let names = at_home(&node, 0, 6);
    names.iter().for_each(|name| set(&node, name));
    node.kill();
    std::fs::write(&rows, known(&names)).unwrap();
    (dir, names)
}

#[test]
fn what_is_forecast_to_be_too_much_moves_before_it_comes_unless_it_is_held_or_paused() {
    let (dir, names) = stage();
    let (config, rows) = (dir.path().join("node.toml"), dir.path().join("known.csv"));
    // Paused: it plans, and moves nothing.
    // Six hours to an overload: time enough on a busy machine too.
    write_config(&config, &rows, (3.0, CAPACITY), "paused = true\n");
    let node = start(&dir.path().join("data"), &config);
    assert_eq!(node.ctl(&["pin", &names[0]])["hold"], "pinned");
    let plan = node.ctl(&["plan"]);
    let moves = plan["moves"].as_array().unwrap();
    assert!(!moves.is_empty(), "an overload is foreseen: {plan}");
    let overloaded = |name: &str| plan[name].as_f64().unwrap();
    assert!(overloaded("overloaded_hours_after") < overloaded("overloaded_hours_before"));
    let goes = |name: &String| moves.iter().any(|one| one["entities"][0] == **name);
    assert!(!goes(&names[0]) && names.iter().any(goes), "{plan}");
    let explained = node.told(&["explain", &names[0]]);
    assert!(
        explained.contains("held by an operator: pinned") && explained.contains("it is pinned"),
        "{explained}"
    );
    assert!(node.told(&["outlook"]).contains("busiest hour"));
    node.until(&["planner"], |planner| planner["hour"].as_i64().unwrap() >= START + 2);
    assert!(node.metrics().contains("\nforeshard_planner_paused 1\n"));
    assert_eq!(node.ctl(&["ledger"])["moves"].as_array().unwrap().len(), 0, "it is paused");
    assert_eq!(node.ctl(&["resume"])["paused"], false);
    let is_done = |one: &Value| one["kind"] == "planned" && one["outcome"] == "done";
    let ledger = node.until(&["ledger"], |ledger| ledger["moves"].as_array().unwrap().iter().any(is_done));
    let one = ledger["moves"].as_array().unwrap().iter().find(|one| is_done(one)).unwrap().clone();
    assert!(one["ended"].as_f64().unwrap() < one["peak_hour"].as_f64().unwrap(), "before its peak: {one}");
    let entity = node.ctl(&["entity", one["entity"].as_str().unwrap()]);
    assert_eq!(
        (entity["partition"].as_u64(), entity["is_guest"].as_bool()),
        (Some(1), Some(true)),
        "{entity}"
    );
    assert_eq!(node.ctl(&["entity", &names[0]])["partition"], 0, "it is pinned");
    node.kill();
}

#[test]
fn a_planner_that_is_killed_knows_every_hour_that_was_over_and_all_that_it_was_told() {
    let (dir, names) = stage();
    let (config, rows) = (dir.path().join("node.toml"), dir.path().join("known.csv"));
    write_config(&config, &rows, (1.0, CAPACITY), "");
    let data = dir.path().join("data");
    let node = start(&data, &config);
    let seconds = |hour: i64| (hour * 3600).to_string();
    let (from, to) = (seconds(START + 30), seconds(START + 34));
    node.ctl(&["event", "add", "sale", "--entities", "shop:*", "--from", &from, "--to", &to]);
    node.ctl(&["exclude", &names[1]]);
    node.ctl(&["pause"]);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        set(&node, &names[2]);
    }
    let over = node.until(&["planner"], |planner| planner["hour"].as_i64().unwrap() >= START + 3);
    let over = over["hour"].as_i64().unwrap() - 1;
    let hours = |node: &Node| -> Vec<(i64, f64)> {
        let answer = node.ctl(&["forecast", &names[2]]);
        let all = answer["history"].as_array().unwrap().clone();
        all.iter().map(|one| (one["hour"].as_i64().unwrap(), one["value"].as_f64().unwrap())).collect()
    };
    // The last hour that is over may be on its way to the store still.
    let before: Vec<(i64, f64)> = hours(&node).into_iter().filter(|one| one.0 < over).collect();
    assert!(before.iter().any(|one| one.0 >= START && one.1 > 0.0), "{before:?}");
    node.kill();
    // Its clock goes on behind the last hour that was kept.
    std::fs::write(&rows, "time,entity,reads,writes\n").unwrap();
    let node = start(&data, &config);
    let after = hours(&node);
    for (hour, load) in &before {
        let kept = after.iter().find(|one| one.0 == *hour).map_or(f64::NAN, |one| one.1);
        let is_alike = *hour < START || (kept - load).abs() < 0.05 * (1.0 + load);
        assert!(is_alike, "hour {hour}: {load} before, {kept} after");
    }
    assert!(after.iter().any(|one| one.0 == over - 1), "{after:?}");
    assert_eq!(node.ctl(&["event", "list"])["events"][0]["name"], "sale");
    assert_eq!(node.ctl(&["planner"])["paused"], true);
    assert_eq!(node.ctl(&["explain", &names[1]])["held"], "excluded");
    // Nobody else sees what it keeps.
    ask(&node.redis, "DBSIZE\r\nEXISTS \"\\x00foreshard\"\r\n", ":6\r\n:0\r\n");
    node.kill();
}

#[test]
fn hours_that_are_imported_and_whatever_was_told_outlive_an_emptied_store_and_a_kill() {
    let (dir, _) = stage();
    let (config, rows) = (dir.path().join("node.toml"), dir.path().join("known.csv"));
    std::fs::write(&rows, "time,entity,reads,writes\n").unwrap();
    write_config(&config, &rows, (1.0, CAPACITY), "");
    let data = dir.path().join("data");
    let node = start(&data, &config);
    let more = dir.path().join("more.csv");
    std::fs::write(&more, known(&["late:1".to_owned()])).unwrap();
    assert_eq!(node.ctl(&["history", "import", more.to_str().unwrap()])["refused"], 0);
    node.ctl(&["pin", "late:1"]);
    // It is kept at once.
    node.kill();
    let node = start(&data, &config);
    let hours = |node: &Node| node.ctl(&["forecast", "late:1"])["history"].as_array().unwrap().len();
    assert!(hours(&node) >= 40 && node.ctl(&["explain", "late:1"])["held"] == "pinned");
    let hour = |node: &Node| node.ctl(&["planner"])["hour"].as_i64().unwrap();
    let begun = hour(&node);
    node.until(&["planner"], |planner| planner["hour"].as_i64().unwrap() > begun);
    ask(&node.redis, "FLUSHALL\r\n", "+OK\r\n");
    let emptied = hour(&node);
    // The hour in which it was emptied is over, and another one, whose end may be on its way.
    node.until(&["planner"], |planner| planner["hour"].as_i64().unwrap() > emptied + 2);
    node.kill();
    let node = start(&data, &config);
    assert!(hours(&node) >= 40 && node.ctl(&["explain", "late:1"])["held"] == "pinned");
    node.kill();
}

#[test]
fn what_makes_no_sense_is_refused_and_says_what_to_do() {
    let (dir, names) = stage();
    let (config, rows) = (dir.path().join("node.toml"), dir.path().join("known.csv"));
    write_config(&config, &rows, (1.0, CAPACITY), "");
    let node = start(&dir.path().join("data"), &config);
    let refused = |words: &[&str]| {
        let out = Command::new(PROGRAM).args(["ctl", "--admin", &node.admin]).args(words).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{words:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(refused(&["forecast", "nobody"]).contains("nothing is known of"));
    assert!(refused(&["event", "remove", "x"]).contains("there is no event"));
    let times = ["--from", "7200", "--to", "3600"];
    let event = [&["event", "add", "x", "--entities", "*"][..], &times].concat();
    assert!(refused(&event).contains("not after its begin"));
    let broken = dir.path().join("broken.csv");
    std::fs::write(&broken, "time,entity,reads,writes\n7,a,1,1\n").unwrap();
    assert!(refused(&["history", "import", broken.to_str().unwrap()]).contains("start of an hour"));
    let exported = node.told(&["history", "export"]);
    assert!(exported.starts_with("time,entity,reads,writes\n") && exported.contains(&names[0]));
    node.kill();
    std::fs::write(&config, "[planner]\nhour_seconds = 0.001\n").unwrap();
    let out = Command::new(PROGRAM)
        .args(["node", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
        .arg(&config)
        .arg("--data")
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("planner.hour_seconds = 0.001"));
}

#[test]
fn a_partition_splits_ahead_of_a_growth_that_is_foretold_and_merges_when_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (config, rows) = (dir.path().join("node.toml"), dir.path().join("known.csv"));
    let names: Vec<String> = (0..12).map(|n| format!("shop:{n}")).collect();
    let mut text = String::from("time,entity,reads,writes\n");
    for name in &names {
        for hour in START - 21 * 24..START {
            writeln!(text, "{},{name},4,1", hour * 3600).unwrap();
        }
    }
    std::fs::write(&rows, text).unwrap();
    write_config(
        &config,
        &rows,
        (1.0, CAPACITY),
        "paused = true\npartitions_min = 1\npartitions_max = 8\nrest_hours = 1\nmerge_below = 0.5\n",
    );
    let node = Node::start(&dir.path().join("data"), 1, &["--config", config.to_str().unwrap()]);
    names.iter().for_each(|name| set(&node, name));
    let partitions = |node: &Node| node.ctl(&["table"])["partitions"].as_array().unwrap().len();
    assert_eq!(partitions(&node), 1);
    let quiet = node.ctl(&["plan", "--dry-run"]);
    assert_eq!(quiet["growth"], serde_json::json!([]), "60 requests a second of 260: {quiet}");

    // Twenty times as much, in some hours: 1,200 of the 260 that a partition can do. No move can help.
    let now = quiet["hour"].as_i64().unwrap();
    let (from, to) = (now + 12, now + 16);
    let hours = [from, to].map(|hour| (hour * 3600).to_string());
    node.ctl(&[
        "event",
        "add",
        "launch",
        "--entities",
        "shop:*",
        "--from",
        &hours[0],
        "--to",
        &hours[1],
        "--factor",
        "20",
    ]);
    let plan = node.ctl(&["plan", "--dry-run"]);
    assert_eq!(plan["growth"][0]["what"], "split", "{plan}");
    let needed = plan["growth"][0]["needed_hour"].as_i64().unwrap();
    assert!((from - 1..to).contains(&needed), "{plan}");
    node.ctl(&["resume"]);

    let grown = node.until(&["plan"], |plan| {
        let changes = plan["changes"].as_array().unwrap();
        changes.iter().any(|change| change["phase"] == "done" && change["hour"].as_i64().unwrap() < from)
    });
    assert!(partitions(&node) > 1, "before hour {from}: {grown}");
    // Behind it they are cold again.
    let merged = node.until(&["plan"], |plan| plan["hour"].as_i64().unwrap() > to && partitions(&node) == 1);
    assert!(merged["changes"].as_array().unwrap().len() >= 2, "{merged}");
    let told = node.told(&["plan"]);
    assert!(told.contains("overloaded hours that no move avoids"), "{told}");
    for name in &names {
        ask(&node.redis, &format!("GET {name}\r\n"), "$1\r\n1\r\n");
    }
}
