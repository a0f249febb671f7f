//! `foreshard node` as a process: served, stopped by a signal, started again.

#[path = "process/ctl.rs"]
mod ctl;
mod process;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use ctl::ctl;
use process::{Node, PROGRAM, ask};

fn start(data: &Path) -> Node {
    Node::start(data, 3, &[])
}

#[test]
fn what_is_acknowledged_is_there_after_a_clean_stop_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = start(&data);
    ask(&node.redis, "SET a 1\r\nHSET h f 2\r\n", "+OK\r\n:1\r\n");
    ask(&node.admin, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK");
    assert!(node.end("TERM").success());
    let node = start(&data);
    ask(&node.redis, "GET a\r\nHGET h f\r\nSET b 3\r\n", "$1\r\n1\r\n$1\r\n2\r\n+OK\r\n");
    assert!(!node.end("KILL").success());
    let node = start(&data);
    ask(&node.redis, "MGET a b\r\n", "*2\r\n$1\r\n1\r\n$1\r\n3\r\n");
    assert!(node.end("INT").success());
}

#[test]
fn entities_are_moved_by_ctl_and_stay_where_they_were_moved() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = start(&data);
    ask(&node.redis, "SET {a}:1 x\r\nHSET {a}:2 f y\r\nINCR {a}:3\r\n", "+OK\r\n:1\r\n:1\r\n");
    let json = |node: &Node, arguments: &[&str]| -> serde_json::Value {
        let (status, said) = ctl(node, &[arguments, &["--json"]].concat());
        assert_eq!(status, 0, "{said}");
        serde_json::from_str(&said).unwrap()
    };
    let home = json(&node, &["entity", "a"])["home"].as_u64().unwrap();
    for to in (0..3).filter(|to| *to != home) {
        let moved = json(&node, &["move", "a", "--to", &to.to_string()]);
        assert_eq!((&moved["phase"], &moved["to"]), (&"done".into(), &to.into()));
        assert!(
            moved["course"]["before"].is_object(),
            "what is told of one move is what is told of all: {moved}"
        );
        ask(&node.redis, "GET {a}:1\r\nHGET {a}:2 f\r\nINCR {a}:3\r\n", "$1\r\nx\r\n$1\r\ny\r\n:");
        let entity = json(&node, &["entity", "a"]);
        assert_eq!((entity["partition"].as_u64(), &entity["is_guest"]), (Some(to), &true.into()));
    }
    assert!(ctl(&node, &["table"]).1.contains("1 of 1 guests"));
    assert_eq!(ctl(&node, &["moves"]).1.lines().count(), 3);
    // Back to where the second move took it from, which is how the third is told.
    let second = json(&node, &["moves"])["moves"][1].clone();
    let course = &second["course"];
    assert!(course["after"]["operations"].as_u64() >= Some(3) && course["is_watched"] == true, "{second}");
    assert!(second["copying_after_seconds"].as_f64() >= Some(0.25), "{second}");
    assert!(second["fenced_after_seconds"].as_f64() >= second["copying_after_seconds"].as_f64(), "{second}");
    let back = json(&node, &["move", "a", "--back"]);
    assert_eq!(
        (&back["phase"], &back["to"], &back["from"]),
        (&"done".into(), &second["from"], &second["to"])
    );
    assert_eq!(json(&node, &["moves"])["moves"][1]["course"]["is_watched"], false);
    assert_eq!(json(&node, &["move", "a", "--back"])["to"], second["to"]);
    let (status, said) = ctl(&node, &["move", "b", "--back"]);
    assert!(status == 2 && said.contains("no move of entity \"b\" is remembered"), "{said}");
    let (status, said) = ctl(&node, &["move", "a", "--back", "--to", "1"]);
    assert!(status == 2 && said.contains("cannot be used with"), "{said}");
    let (status, said) = ctl(&node, &["move", "a", "--to", "99"]);
    assert!(status == 2 && said.contains("no partition 99"), "{said}");
    let (status, said) = ctl(&node, &["cancel", "1"]);
    assert!(status == 2 && said.contains("no move 1"), "{said}");
    let (status, said) = ctl(&node, &["partition", "x"]);
    assert!(status == 2 && said.contains("invalid value"), "{said}");
    ask(&node.redis, "SCAN 0 COUNT 100\r\nDBSIZE\r\n", "*2\r\n$1\r\n0\r\n*3\r\n");
    assert!(node.end("TERM").success());
    let node = start(&data);
    assert_eq!(json(&node, &["entity", "a"])["is_guest"], true);
    ask(&node.redis, "INCR {a}:3\r\nDBSIZE\r\n", ":4\r\n:3\r\n");
    let (status, said) = ctl(&node, &["move", "a", "--home"]);
    assert!(status == 0 && said.contains("done"), "{said}");
    ask(&node.redis, "INCR {a}:3\r\nFLUSHALL\r\nDBSIZE\r\n", ":5\r\n+OK\r\n:0\r\n");
    assert!(node.end("KILL").code().is_none());
}

#[test]
fn the_configuration_that_is_printed_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let print = |args: &[&str]| {
        let output = Command::new(PROGRAM).arg("node").args(args).arg("--print-config").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = print(&["--listen", "127.0.0.1:1234", "--shards", "3"]);
    assert!(first.contains("listen = \"127.0.0.1:1234\"") && first.contains("shards = 3"));
    let file = dir.path().join("config.toml");
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)
        .unwrap()
        .write_all(first.as_bytes())
        .unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(print(&["--config", path]), first);
    assert!(
        print(&["--config", path, "--shards", "1"]).contains("shards = 1"),
        "the command line goes first"
    );
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let refused = |args: &[&str]| {
        let output = Command::new(PROGRAM).arg("node").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--config", "/nonexistent.toml"]).contains("/nonexistent.toml"));
    assert!(refused(&["--partitions", "0", "--data", "/nonexistent/x"]).contains("partitions"));
}
