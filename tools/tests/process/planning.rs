//! A node that plans: its configuration, and what it says of its plans.
#![expect(clippy::unwrap_used, reason = "a helper of tests: a panic is a failed test")]
#![expect(clippy::disallowed_methods, reason = "a helper of tests in real time, with files of their own")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::{Node, PROGRAM};

/// A Monday at midnight, in Unix hours.
pub(crate) const START: i64 = 491_664;
/// Something that is to happen in a few hours of a replay; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

impl Node {
    /// What `foreshard ctl` says, as JSON.
    pub(crate) fn ctl(&self, words: &[&str]) -> Value {
        let out = Command::new(PROGRAM)
            .args(["ctl", "--json", "--admin", &self.admin])
            .args(words)
            .output()
            .unwrap();
        let (said, told) =
            (String::from_utf8(out.stdout).unwrap(), String::from_utf8_lossy(&out.stderr).into_owned());
        assert!(out.status.success(), "{words:?}: {told}");
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{words:?}: {e}: {said}"))
    }

    /// What it says to people.
    pub(crate) fn told(&self, words: &[&str]) -> String {
        let out = Command::new(PROGRAM).args(["ctl", "--admin", &self.admin]).args(words).output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Asks until it is so.
    pub(crate) fn until(&self, words: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let answer = self.ctl(words);
            if is_so(&answer) {
                return answer;
            }
            assert!(begin.elapsed() < PATIENCE, "{words:?}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A planner of hours of so many seconds, to which so many requests a second are what a partition can do.
pub(crate) fn write_config(path: &Path, known: &Path, (hour_seconds, capacity): (f64, f64), more: &str) {
    let text = format!(
        "[planner]\nhour_seconds = {hour_seconds:.1}\nstart_hour = {START}\ncapacity = {capacity:.1}\nreactive = false\nimport = {:?}\n{more}",
        known.display().to_string()
    );
    std::fs::write(path, text).unwrap();
}
