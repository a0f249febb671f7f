//! `foreshard backup` and `foreshard restore`: of a node under load, and of a store that is not open.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]

mod process;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use process::{Node, PROGRAM, ask};
use serde_json::Value;

fn start(data: &Path, arguments: &[&str]) -> Node {
    Node::start(data, 5, arguments)
}

impl Node {
    fn say(&self, command: &str, answer: &str) {
        ask(&self.redis, &format!("{command}\r\n"), answer);
    }

    fn back_up(&self, arguments: &[&str]) -> Value {
        one_line(&run(&[&["backup", "--admin", &self.admin, "--json"], arguments].concat()))
    }

    fn stop(self) {
        assert!(self.end("TERM").success());
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn one_line(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(told: &Value, name: &str) -> u64 {
    told[name].as_u64().unwrap()
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Restores a backup, has a node serve it, and `load` compare it with a journal: its exit status.
fn verify(dir: &Path, from: &str, number: u64, journal: &str) -> Option<i32> {
    let data = path(dir, &format!("restored-{number}-{}", journal.rsplit('-').next().unwrap()));
    let number = number.to_string();
    let told = one_line(&run(&["restore", "--from", from, "--backup", &number, "--data", &data, "--json"]));
    assert!(count(&told, "bytes") > 0);
    let sound = run(&["inspect", "store", &data]);
    assert_eq!(sound.status.code(), Some(0), "{}", String::from_utf8_lossy(&sound.stdout));
    let node = start(Path::new(&data), &[]);
    node.say("GET marker", "$3\r\nset\r\n");
    let verified = run(&["load", "--connect", &node.redis, "--verify-only", "--journal", journal]);
    node.stop();
    let status = verified.status.code();
    assert!(
        matches!(status, Some(0 | 1)),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
    status
}

#[test]
fn backups_taken_under_load_restore_to_what_verify_accepts_and_later_ones_copy_what_changed() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = dir.path();
    let backups = path(dir, "backups");
    let node = start(&dir.join("data"), &["--backups", &backups]);
    let fill = ["load", "--connect", &node.redis, "--fill", "--keys", "20000", "--requests", "1"];
    assert!(run(&fill).status.success());
    let full = node.back_up(&["--to", "daily"]);
    assert_eq!(count(&full, "bytes_copied"), count(&full, "bytes"));
    node.say("SET marker set", "+OK\r\n");
    let changed = node.back_up(&["--to", "daily"]);
    assert_eq!((count(&changed, "backup"), count(&changed, "segments_new")), (2, 1), "{changed}");
    assert!(count(&changed, "bytes_copied") < count(&changed, "bytes") / 10, "{changed}");
    let same = node.back_up(&["--to", &path(dir, "backups/daily")]);
    assert_eq!((count(&same, "segments_new"), count(&same, "bytes_copied")), (0, 0), "{same}");

    let journal = path(dir, "journal");
    let mut load = Command::new(PROGRAM)
        .args(["load", "--connect", &node.redis, "--data", "transactions", "--verify", "--keys", "2000"])
        .args(["--connections", "16", "--seconds", "600", "--prefix", "moving:", "--journal", &journal])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut taken = Vec::new();
    for round in 0..2 {
        std::thread::park_timeout(Duration::from_secs(1));
        // What was acknowledged before the backup is in it; the journal says at least a part of that.
        let before = path(dir, &format!("journal-{round}"));
        std::fs::copy(&journal, &before).unwrap();
        let told = node.back_up(&["--to", "daily", "--limit", "200MiB"]);
        taken.push((count(&told, "backup"), before));
    }
    std::thread::park_timeout(Duration::from_secs(1));
    load.kill().unwrap();
    load.wait().unwrap();
    node.stop();
    let last = path(dir, "journal-last");
    std::fs::copy(&journal, &last).unwrap();
    let daily = path(dir, "backups/daily");
    for (number, before) in &taken {
        assert_eq!(verify(dir, &daily, *number, before), Some(0), "backup {number}");
    }
    let (first, _) = &taken[0];
    assert_eq!(verify(dir, &daily, *first, &last), Some(1), "what came after a backup is not in it");

    let data = path(dir, "data");
    let kept = one_line(&run(&["backup", "--data", &data, "--to", &daily, "--keep", "1", "--json"]));
    assert_eq!(kept["removed"].as_array().unwrap().len(), 5, "{kept}");
    assert_eq!(verify(dir, &daily, count(&kept, "backup"), &last), Some(0));
    let listed = one_line(&run(&["backup", "--list", "--to", &daily, "--json"]));
    assert_eq!((&listed["backup"], &listed["bytes"]), (&kept["backup"], &kept["bytes"]));
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = dir.path();
    let (data, backups) = (path(dir, "data"), path(dir, "backups"));
    let refused = |arguments: &[&str], why: &str| {
        let output = run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    };
    let node = start(Path::new(&data), &[]);
    node.say("SET a 1", "+OK\r\n");
    refused(&["backup", "--admin", &node.admin, "--to", "daily"], "--backups DIR");
    refused(&["backup", "--data", &data, "--to", &backups], "open in another process");
    node.stop();
    let node = start(Path::new(&data), &["--backups", &backups]);
    refused(&["backup", "--admin", &node.admin, "--to", "../x"], "must be a name in");
    node.back_up(&["--to", "daily", "--link"]);
    node.stop();
    let daily = path(dir, "backups/daily");
    refused(&["restore", "--from", &daily, "--data", &data], "holds");
    refused(&["restore", "--from", &data, "--data", &path(dir, "new")], "no backups are here");
    refused(&["restore", "--from", &daily, "--backup", "9", "--data", &path(dir, "new")], "there are [1]");
    refused(&["backup", "--data", &data, "--to", &data], "open in another process");
    refused(&["backup", "--data", &path(dir, "else"), "--to", &daily], "no store is here");
    assert!(!dir.join("else").exists());
    let text = run(&["restore", "--from", &daily, "--data", &path(dir, "new")]);
    assert!(String::from_utf8(text.stdout).unwrap().starts_with("backup 1 restored into "));
    let node = start(&dir.join("new"), &[]);
    node.say("GET a", "$1\r\n1\r\n");
    node.stop();
    let new = path(dir, "new");
    refused(&["backup", "--data", &new, "--to", &daily], "give another directory");
}
