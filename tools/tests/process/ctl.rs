//! `foreshard ctl` of a node, as a process.
#![expect(clippy::unwrap_used, reason = "a helper of tests: a panic is a failed test")]

use std::process::Command;

use super::process::{Node, PROGRAM};

/// What `foreshard ctl` says: exit status, and standard output or error.
pub(crate) fn ctl(node: &Node, arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(PROGRAM).args(["ctl", "--admin", &node.admin]).args(arguments).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}
