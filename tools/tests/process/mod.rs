//! `foreshard node` as a process.
#![expect(clippy::unwrap_used, reason = "a helper of tests: a panic is a failed test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_foreshard");

/// A node with two shards, and where it said that it serves clients and takes orders. Killed when dropped.
pub(crate) struct Node {
    process: Child,
    pub(crate) redis: String,
    pub(crate) admin: String,
}

impl Node {
    pub(crate) fn start(data: &Path, partitions: u32, arguments: &[&str]) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["node", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--shards", "2", "--partitions", &partitions.to_string(), "--data"])
            .arg(data)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut address = |marker: &str| -> String {
            let line = lines.find(|line| line.as_ref().unwrap().contains(marker)).unwrap().unwrap();
            line.rsplit_once(marker).unwrap().1.to_owned()
        };
        let redis = address("serving Redis clients at ");
        let admin = address("metrics and health at http://");
        // What it says later is read on, so that it is never stuck saying it.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
        Self { process, redis, admin }
    }

    /// Sends it a signal, and waits until it has ended.
    pub(crate) fn end(mut self, signal: &str) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        self.process.wait().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Sends `request` to a node's address, and wants `answer` to come first.
pub(crate) fn ask(address: &str, request: &str, answer: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut got = vec![0; answer.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), answer);
}
