//! The command line: what is refused, and how it says so.

mod common;

use common::{Sample, lines, options, run};
use foreshard_engine::Store;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        &["--help"][..],
        &["node", "--help"],
        &["inspect", "--help"],
        &["inspect", "wal", "--help"],
        &["inspect", "segment", "--help"],
        &["inspect", "manifest", "--help"],
        &["inspect", "store", "--help"],
        &["repair", "--help"],
        &["load", "--help"],
        &["backup", "--help"],
        &["restore", "--help"],
        &["import", "--help"],
        &["forecast", "--help"],
        &["forecast", "backtest", "--help"],
        &["forecast", "hot", "--help"],
        &["forecast", "score", "--help"],
    ] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        let help = text(&output.stdout);
        let example = help.split_once("Example: ").or_else(|| help.split_once("Examples:"));
        assert!(
            example.is_some_and(|(_, example)| example.trim_start().starts_with("foreshard ")),
            "{command:?}"
        );
    }
}

#[test]
fn wrong_usage_and_missing_paths_exit_with_2() {
    for command in [
        &["inspect"][..],
        &["inspect", "store"],
        &["inspect", "store", "/no/such/store"],
        &["repair", "/no/such/store", "--into", "/tmp/x"],
        &["repair", "/tmp"],
        &["backup", "--to", "/tmp/x"],
        &["backup", "--list", "--to", "/no/such/backups"],
        &["backup", "--data", "/no/such/store", "--to", "/tmp/x"],
        &["backup", "--data", "x", "--to", "y", "--limit", "fast"],
        &["restore", "--from", "/no/such/backups"],
        &["import", "--from", "rediss://127.0.0.1:1"],
        &["import", "--from", "127.0.0.1:1"],
        &["frobnicate"],
    ] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(!output.stderr.is_empty(), "{command:?}");
    }
}

#[test]
fn an_open_store_is_not_looked_into() {
    let sample = Sample::new(10, 10);
    let store = Store::open(sample.path(), options()).unwrap();
    for (what, path) in [("store", sample.path().to_path_buf()), ("segment", sample.segment())] {
        let output = run(&["inspect", what, path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(said.contains("open in another process") && said.contains("stop that process"), "{said}");
    }
    store.close().unwrap();
}

#[test]
fn repair_refuses_a_target_that_is_not_empty_or_lies_in_the_source() {
    let sample = Sample::new(10, 10);
    let inner = sample.file("new");
    for into in [sample.path(), inner.as_path()] {
        let output = run(&["repair", sample.path().to_str().unwrap(), "--into", into.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("give a directory that does not exist or is empty"));
    }
    assert!(!inner.exists());
}

#[test]
fn a_dump_shows_records_edits_and_entries() {
    let sample = Sample::new(300, 5);
    let kinds = |what: &str, path: &str| {
        let output = run(&["inspect", what, path, "--json", "--dump"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        lines(&output).iter().map(|line| text(line["type"].as_str().unwrap().as_bytes())).collect::<Vec<_>>()
    };
    let wal = kinds("wal", sample.file("wal/1/0").to_str().unwrap());
    assert!(wal.iter().any(|k| k == "batch") && wal.iter().any(|k| k == "record"), "{wal:?}");
    let segment = sample.segment();
    let entries = kinds("segment", segment.to_str().unwrap());
    assert!(entries.iter().filter(|k| *k == "entry").count() > 100);
    let edits = kinds("manifest", segment.parent().unwrap().to_str().unwrap());
    assert!(edits.iter().filter(|k| *k == "edit").count() >= 2, "{edits:?}");
    let all = kinds("store", sample.path().to_str().unwrap());
    assert_eq!(all.last().map(String::as_str), Some("verdict"));
}
