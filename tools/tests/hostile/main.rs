//! Clients that do not behave, many of each kind at once, beside clients that do: nobody else is hurt, and what they made
//! the node hold is given back.
//!
//! `kinds` is what the hostile ones do, `modest` the one whose every answer is checked.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]
#![expect(clippy::print_stderr, reason = "what the node says belongs to a failure")]
#![expect(clippy::disallowed_methods, reason = "clients are other processes in life")]

mod kinds;
mod modest;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kinds::{Ground, KINDS};
use modest::Modest;

/// How long the hostile clients go on.
const HOSTILE_FOR: Duration = Duration::from_secs(12);
/// Every operation of a client that behaves is answered within this. It tells an answer from none, on a machine that
/// others use too: not a claim about speed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// What clients may make the node hold, all together.
const HELD_BYTES_MAX: u64 = 64 << 20;
/// What the node may have more of afterwards than before, beside its budget for caches and memtables, which it may fill
/// meanwhile: its receive buffers (two times 4 MiB, touched when they are first used), and what the allocator keeps of short
/// allocations. Much less than what clients could hold.
const KEPT_BYTES_MAX: u64 = 24 << 20;
/// Its budget for caches and memtables.
const BUDGET_BYTES: u64 = 24 << 20;
/// Within this it is back, on such a machine: connections linger for a second.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// A node as a process, so that its memory is its own.
struct Node {
    process: Child,
    address: SocketAddr,
}

impl Node {
    fn start(dir: &Path) -> Self {
        let config = dir.join("node.toml");
        let settings = format!(
            "memory_bytes = {}\nmemtables_bytes = {}\nmemtable_bytes = {}\nmaxmemory_clients = {HELD_BYTES_MAX}\n",
            BUDGET_BYTES,
            BUDGET_BYTES / 3,
            BUDGET_BYTES / 12
        );
        std::fs::write(&config, settings).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_foreshard"))
            .args(["node", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--shards", "2", "--partitions", "3"])
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(dir.join("data"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let marker = "serving Redis clients at ";
        let tell = |line: &String| eprintln!("node: {line}");
        let line = lines.by_ref().map_while(Result::ok).inspect(tell).find(|line| line.contains(marker));
        let line = line.expect("a node that serves");
        let address = line.rsplit_once(marker).unwrap().1.parse().unwrap();
        // What it says later is read on, so that it is never stuck saying it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("node: {line}")));
        Self { process, address }
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        kib.unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Gone already, after a failure.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

#[test]
fn hostile_clients_hurt_nobody_else_and_what_they_held_is_given_back() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let node = Node::start(dir.path());
    let mut modest = Modest::new(node.address, ANSWERED_WITHIN, 1);
    modest.fill();
    modest.work(100);
    let before = node.resident_bytes();
    let bound = before + BUDGET_BYTES + KEPT_BYTES_MAX;

    let ground = Ground::new(node.address);
    ground.prepare();
    let is_over = AtomicBool::new(false);
    let (mut most, mut operations) = (0, 0);
    let rounds: Vec<u64> = std::thread::scope(|scope| {
        let hostile = (1..).zip(&KINDS).map(|(seed, kind)| {
            let (ground, is_over) = (&ground, &is_over);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut rounds = 0;
                while !is_over.load(Ordering::Relaxed) {
                    (kind.round)(ground, &mut random);
                    rounds += 1;
                }
                rounds
            })
        });
        let hostile: Vec<_> = hostile.collect();
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let began = Instant::now();
            while began.elapsed() < HOSTILE_FOR {
                modest.work(5);
                operations += 5;
                most = node.resident_bytes().max(most);
            }
        }));
        // Also after a failure: nobody would end them.
        is_over.store(true, Ordering::Relaxed);
        let rounds = hostile.into_iter().map(|thread| thread.join().unwrap()).collect();
        watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        rounds
    });
    for (kind, rounds) in KINDS.iter().zip(&rounds) {
        eprintln!("{}: {rounds} rounds of {} connections", kind.name, kind.connections);
        assert!(*rounds > 0, "{}", kind.name);
    }
    eprintln!("beside them {operations} operations, the longest {:?}", modest.longest);

    modest.alone(BACK_WITHIN);
    modest.check_everything();
    let deadline = Instant::now() + BACK_WITHIN;
    while node.resident_bytes() > bound && Instant::now() < deadline {
        modest.work(20);
    }
    let after = node.resident_bytes();
    let mib = |bytes: u64| bytes >> 20;
    eprintln!("resident: {} MiB before, {} at most, {} after", mib(before), mib(most), mib(after));
    assert!(after <= bound, "{} MiB more than before", mib(after - before));
    assert!(modest.info("stats", "evicted_clients:") > 0, "together they held too much");
}
