//! Capacities of a real node: what is more than they allow waits, and is not refused; whoever is within them does not.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of a program: it fails by its panic, waits, and writes a file"
)]

#[path = "process/ctl.rs"]
mod ctl;
mod process;

use std::process::Command;
use std::time::{Duration, Instant};

use ctl::ctl;
use process::{Node, PROGRAM, ask};
use serde_json::Value;

fn capacity(node: &Node) -> Value {
    let (status, said) = ctl(node, &["capacity", "--json"]);
    assert_eq!(status, 0, "{said}");
    serde_json::from_str(&said).unwrap()
}

fn sum(answer: &Value, of: &str) -> f64 {
    answer["shards"].as_array().unwrap().iter().map(|shard| shard[of].as_f64().unwrap()).sum()
}

#[test]
fn what_is_more_than_a_partition_may_do_waits_on_either_core_and_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("data"), 2, &[]);
    let value = "x".repeat(10_000);
    let set = |keys: std::ops::Range<u32>| -> String {
        keys.map(|n| format!("SET {{a}}:{n} {value}\r\n")).collect()
    };
    let before = sum(&capacity(&node), "spent_on_rows");
    ask(&node.redis, &set(0..20), &"+OK\r\n".repeat(20));
    let spent = sum(&capacity(&node), "spent_on_rows") - before;
    assert!(spent > 500.0, "twenty values of 10,000 bytes for {spent} units");
    let (_, said) = ctl(&node, &["entity", "a", "--json"]);
    let at = serde_json::from_str::<Value>(&said).unwrap()["partition"].to_string();
    // As much again takes about two seconds; of it the burst, and the last command, are not waited for.
    let units = (spent / 2.0).ceil().to_string();
    let (status, said) = ctl(&node, &["capacity", "--partition", &at, "--units", &units]);
    assert!(status == 0 && said.contains(&units), "{said}");
    // Several connections: some of them are on the other core.
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (node, set) = (&node, &set);
            scope.spawn(move || {
                (5 * n..5 * n + 5).for_each(|key| ask(&node.redis, &set(key..key + 1), "+OK\r\n"));
            });
        }
    });
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(1000), "what takes two seconds took {took:?}");
    let after = capacity(&node);
    assert!(sum(&after, "paced") >= 10.0 && sum(&after, "paced_seconds") > 1.0, "{after}");
    ask(
        &node.redis,
        "MULTI\r\nSET {a}:1 x\r\nSET {b}:1 y\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n",
    );
    assert_eq!(ctl(&node, &["capacity", "--partition", &at, "--units", "0"]).0, 0);
    let paced = sum(&capacity(&node), "paced");
    ask(&node.redis, &set(0..20), &"+OK\r\n".repeat(20));
    assert!((sum(&capacity(&node), "paced") - paced).abs() < 0.5, "nothing is set, and nobody waits");
    let (status, said) = ctl(&node, &["capacity", "--partition", "9", "--units", "5"]);
    assert!(status == 2 && said.contains("no partition 9"), "{said}");
    let (status, said) = ctl(&node, &["capacity", "--units", "0.5"]);
    assert!(status == 2 && said.contains("between 1 and"), "{said}");
    assert!(node.end("TERM").success());
}

#[test]
fn capacities_are_configured_by_number_and_wrong_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let written = |text: &str| {
        let file = dir.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        (file, dir.path().join("data"))
    };
    let (file, data) = written(
        "[capacity]\npartition = 5000.0\n[capacity.partitions]\n1 = 700.0\n[capacity.shards]\n0 = 9000.0\n",
    );
    let node = Node::start(&data, 2, &["--config", file.to_str().unwrap()]);
    let told = capacity(&node);
    let set = |what: &str| -> Vec<Option<f64>> {
        told[what].as_array().unwrap().iter().map(|one| one["set"].as_f64()).collect()
    };
    assert_eq!(set("partitions"), [Some(5000.0), Some(700.0)]);
    assert_eq!(set("shards"), [Some(9000.0), None]);
    assert!(node.end("TERM").success());
    for (text, what) in [
        ("[capacity.partitions]\nx = 1.0\n", "capacity.partitions: \"x\" must be a number"),
        ("[capacity]\nshard = -1.0\n", "capacity of shard = -1"),
        ("[moves]\nshadow = \"sometimes\"\n", "moves.shadow = \"sometimes\""),
        ("[moves]\nshadow_share = 2.0\n", "moves.shadow_share = 2"),
        ("[moves]\nbandwidth_max = 5\n", "moves.bandwidth_max = 5"),
    ] {
        let (file, data) = written(text);
        let mut node = Command::new(PROGRAM);
        let output = node.arg("node").arg("--config").arg(file).arg("--data").arg(data).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(what), "{said}");
    }
}
