//! What a planner sees of a node while clients are at it: entities that are named together, and a shard that becomes slow.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]
#![expect(clippy::disallowed_methods, reason = "a test in real time, with files of its own")]

#[path = "process/planning.rs"]
mod planning;
mod process;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use planning::write_config;
use process::{Node, ask};
use serde_json::{Value, json};

/// More requests a second than any of these tests makes: nothing moves because of its load.
const CAPACITY: f64 = 1e6;

/// Between two transactions of a group, whether they need one partition or two: a load that does not change with what is moved.
const PACE: Duration = Duration::from_millis(80);

/// A connection, and the answers that come over it, a line each.
struct Client {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Client {
    fn new(node: &Node) -> Self {
        let stream = TcpStream::connect(&node.redis).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { answers: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn lines(&mut self, request: &str, count: usize) -> Vec<String> {
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut line = || {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        (0..count).map(|_| line()).collect()
    }
}

/// A node of two partitions with hours of so many seconds, that knows nothing yet.
fn start(dir: &Path, hour_seconds: f64, more: &str) -> Node {
    let (config, rows) = (dir.join("node.toml"), dir.join("known.csv"));
    std::fs::write(&rows, "time,entity,reads,writes\n").unwrap();
    write_config(&config, &rows, (hour_seconds, CAPACITY), more);
    Node::start(&dir.join("data"), 2, &["--config", config.to_str().unwrap()])
}

/// The sum of a metric over all shards.
fn metric(node: &Node, name: &str) -> f64 {
    let text = node.metrics();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .filter(|rest| rest.starts_with(['{', ' ']))
        .map(|rest| rest.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum()
}

/// Three entities that are named together, two of them at home in one partition and one in the other.
fn torn_groups(node: &Node, count: usize) -> Vec<[String; 3]> {
    let mut homes: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for n in 0.. {
        let name = format!("member:{n}");
        let home = node.ctl(&["entity", &name])["home"].as_u64().unwrap();
        homes[usize::try_from(home).unwrap()].push(name);
        if homes.iter().all(|names| names.len() >= 2 * count) {
            break;
        }
    }
    let [mut here, mut there] = homes.map(Vec::into_iter);
    (0..count)
        .map(|n| {
            let (two, one) = if n % 2 == 0 { (&mut here, &mut there) } else { (&mut there, &mut here) };
            [two.next().unwrap(), two.next().unwrap(), one.next().unwrap()]
        })
        .collect()
}

/// Counts up all of a group in one transaction, again and again; says how often.
fn transact(node: &Node, group: &[String; 3], is_over: &AtomicBool) -> u64 {
    let mut client = Client::new(node);
    let mut done = 0;
    let one: String = group.iter().map(|name| format!("INCR {{{name}}}:n\r\n")).collect();
    let request = format!("MULTI\r\n{one}EXEC\r\n");
    while !is_over.load(Ordering::Relaxed) {
        let due = Instant::now() + PACE;
        let said = client.lines(&request, 8);
        done += 1;
        let count = format!(":{done}");
        assert_eq!(said[..5], ["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3"], "{said:?}");
        assert!(said[5..].iter().all(|one| *one == count), "{done}: {said:?}");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    done
}

#[test]
fn entities_that_are_named_together_come_together_and_their_transactions_need_one_partition() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), 1.5, "paused = true\nrest_hours = 1\n");
    let groups = torn_groups(&node, 8);
    let is_over = AtomicBool::new(false);
    // Of the transactions of some seconds, the part that was over both partitions.
    let share_over = || {
        let counted = || {
            ["foreshard_transactions_over_partitions_total", "foreshard_transactions_together_total"]
                .map(|name| metric(&node, name))
        };
        let before = counted();
        std::thread::sleep(Duration::from_secs(3));
        let [over, all] = counted();
        assert!(all > before[1], "nobody transacts");
        (over - before[0]) / (all - before[1])
    };
    let done: Vec<u64> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            groups.iter().map(|group| scope.spawn(|| transact(&node, group, &is_over))).collect();
        let run = || {
            let before = share_over();
            assert!(before > 0.9, "they are planted so: {before}");
            node.ctl(&["resume"]);
            let begin = Instant::now();
            while share_over() > before / 2.0 {
                assert!(begin.elapsed() < Duration::from_secs(180), "{}", node.ctl(&["plan", "--last"]));
            }
        };
        // They end also where it fails: the scope waits for them.
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        is_over.store(true, Ordering::Relaxed);
        let done = clients.into_iter().map(|client| client.join().unwrap()).collect();
        ran.unwrap();
        done
    });
    for (group, done) in groups.iter().zip(done) {
        for name in group {
            let value = done.to_string();
            ask(&node.redis, &format!("GET {{{name}}}:n\r\n"), &format!("${}\r\n{value}\r\n", value.len()));
        }
    }
    let ledger = node.ctl(&["ledger"]);
    let moves = ledger["moves"].as_array().unwrap();
    let joined = moves.iter().find(|one| one["kind"] == "joining" && one["outcome"] == "done");
    let joined = joined.unwrap_or_else(|| panic!("{ledger}"))["entity"].as_str().unwrap();
    // Whom it joined, and why, is told.
    let group = groups.iter().find(|group| group.iter().any(|name| name == joined)).unwrap();
    let others: Vec<&String> = group.iter().filter(|name| *name != joined).collect();
    let explained = node.ctl(&["explain", joined]);
    let together: Vec<&str> = explained["plan"]["together"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["entity"].as_str())
        .collect();
    assert!(others.iter().all(|name| together.contains(&name.as_str())), "{explained}");
    assert_eq!(explained["moves"][0]["kind"], "joining", "{explained}");
    let told = node.told(&["explain", joined]);
    assert!(
        told.contains("named together with ")
            && told.contains("it joins those that it is named together with"),
        "{told}"
    );
    assert!(told.lines().count() <= 45, "one screen: {told}");
    assert!(node.end("TERM").success());
}

/// Writes to entities of both shards until it is over.
fn write(node: &Node, names: &[String], is_over: &AtomicBool) {
    let mut client = Client::new(node);
    while !is_over.load(Ordering::Relaxed) {
        for name in names {
            assert_eq!(client.lines(&format!("SET {name} 1\r\n"), 1), ["+OK"]);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_shard_whose_disk_becomes_slow_loses_capacity_in_the_next_plan_and_gets_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), 3.0, "paused = true\n");
    let partitions = node.ctl(&["table"])["partitions"].clone();
    let shard = partitions[0]["shard"].as_u64().unwrap();
    let here = partitions[0]["partition"].as_u64().unwrap();
    let at_home = |name: &String| node.ctl(&["entity", name])["home"].as_u64() == Some(here);
    let names: Vec<String> = (0..200).map(|n| format!("shop:{n}")).filter(at_home).take(4).collect();
    // As the last plan has it.
    let planned = |explained: &Value| explained["plan"]["capacity"].as_f64();
    let share = |explained: &Value| explained["plan"]["capacity_share"].as_f64().unwrap_or(1.0);
    let is_over = AtomicBool::new(false);
    let slow = |ms: &str| node.ctl(&["drill", "--shard", &shard.to_string(), "--log-delay-ms", ms]);
    let explain = ["explain", names[0].as_str()];
    std::thread::scope(|scope| {
        scope.spawn(|| write(&node, &names, &is_over));
        let run = || {
            // Some hours are usual, and the plan knows the entity.
            let usual = |planner: &Value| planner["hour"].as_i64().unwrap() >= planning::START + 3;
            node.until(&["planner"], usual);
            let before = node.until(&explain, |one| one["plan"].is_object() && share(one) > 0.9);
            assert_eq!(slow("300"), json!({"shard": shard, "log_delay_ms": 300}));
            let during = node.until(&explain, |one| share(one) < 0.6);
            assert!(planned(&during) < planned(&before).map(|capacity| 0.75 * capacity), "{before} {during}");
            let told = node.told(&explain);
            assert!(told.contains(&format!("shard {shard} is slow (a flush of its log takes ")), "{told}");
            assert!(
                node.ctl(&["planner"])["slow_shards"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|one| one["shard"] == shard)
            );
            assert!(metric(&node, "foreshard_planner_capacity_share_min") < 0.7);
            let outlook = node.ctl(&["outlook"]);
            let mut told = outlook["partitions"].as_array().unwrap().iter();
            let this = told.find(|one| one["id"] == here).unwrap();
            assert!(this["capacity_share"].as_f64().unwrap() < 0.7, "{outlook}");
            slow("0");
            node.until(&explain, |one| share(one) > 0.9);
        };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        slow("0");
        is_over.store(true, Ordering::Relaxed);
        ran.unwrap();
    });
    assert!(node.end("TERM").success());
}
