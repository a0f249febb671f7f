//! `foreshard load` against a server in this process: what it sends, what it says, and what it finds.
#![expect(
    clippy::disallowed_methods,
    reason = "a server for tests has threads, and files of a test are real"
)]
#![expect(clippy::disallowed_types, reason = "the server's connections share its rows")]
#![expect(clippy::unwrap_used, reason = "also in helpers: a panic is a failed test")]

mod server;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use server::{Manners, Rows, Server};
use tempfile::TempDir;

/// Runs it against the server, quietly.
fn load(server: &Server, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshard"));
    command.args(["load", "--quiet", "--connect", &server.address.to_string()]);
    command.args(arguments.split_whitespace()).env_remove("FORESHARD_PASSWORD").output().unwrap()
}

/// As [`load`]: the exit status and the report.
fn report(server: &Server, arguments: &str) -> (i32, Value) {
    let output = load(server, &format!("--json {arguments}"));
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output.status.code().unwrap(), report)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn honest() -> Server {
    Server::start(Manners::default(), Rows::new())
}

fn phase<'a>(report: &'a Value, name: &str) -> &'a Value {
    let phases = report["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["name"] == name).unwrap_or_else(|| panic!("no phase {name}: {report}"))
}

fn journal(dir: &TempDir) -> (PathBuf, String) {
    let path = dir.path().join("journal");
    let option = format!("--journal {}", path.display());
    (path, option)
}

#[test]
fn a_closed_loop_does_what_was_asked_and_reports_it() {
    let server = honest();
    let arguments = "--fill --keys 500 --connections 7 --threads 2 --pipeline 3 --requests 2000 --workload f";
    let (status, report) = report(&server, arguments);
    assert_eq!(status, 0, "{report}");
    assert_eq!(phase(&report, "fill")["operations"], 500);
    assert_eq!(server.rows().len(), 500);
    let run = phase(&report, "run");
    assert_eq!((&run["operations"], &run["failed"], &run["unsent"]), (&2000.into(), &0.into(), &0.into()));
    let kinds = run["kinds"].as_object().unwrap();
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["read", "read_modify_write"]);
    for kind in kinds.values() {
        assert_eq!(kind["misses"], 0);
        let latency = &kind["latency_us"];
        let at = |name: &str| latency[name].as_f64().unwrap();
        let rising = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"].map(at);
        assert!(rising.is_sorted() && rising[0] > 0.0, "{latency}");
        assert_eq!(latency, &kind["service_us"], "in a closed loop nothing waits to be sent");
    }
    assert!(run["client"]["cpu_seconds"].as_f64().unwrap() > 0.0);
    assert!((0.0..=1.0).contains(&run["client"]["busy_fraction_max"].as_f64().unwrap()));
    assert_eq!(report["settings"]["mix"], "read=50,read_modify_write=50");
    assert_eq!(report["settings"]["loop"], "closed");
}

#[test]
fn one_that_is_asked_to_end_reads_back_and_reports_what_it_did() {
    let server = honest();
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshard"));
    command.args(["load", "--quiet", "--json", "--connect", &server.address.to_string()]);
    command
        .args("--fill --keys 50 --seconds 3600 --connections 2 --mix update=100 --verify".split_whitespace());
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    while server.rows().len() < 50 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // A moment later it is in its hour.
    std::thread::sleep(Duration::from_millis(300));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["was_interrupted"]), (Some(0), &true.into()), "{report}");
    let run = phase(&report, "run");
    assert!(run["operations"].as_u64().unwrap() > 0 && run["seconds"].as_f64().unwrap() < 60.0, "{run}");
    assert_eq!(phase(&report, "read_back")["operations"], 50);
    assert_eq!(report["verify"]["violations"], 0);
}

#[test]
fn hashes_are_scanned_and_grow() {
    let server = honest();
    let (status, report) =
        report(&server, "--fill --keys 20 --fields 30 --connections 3 --requests 600 --workload e");
    assert_eq!(status, 0, "{report}");
    let run = phase(&report, "run");
    assert_eq!((&run["operations"], &run["kinds"]["scan"]["misses"]), (&600.into(), &0.into()));
    let inserted = run["kinds"]["insert"]["operations"].as_u64().unwrap();
    assert!((10..60).contains(&inserted), "5 % of 600: {inserted}");
    assert_eq!(server.rows().len() as u64, 600 + inserted);
}

#[test]
fn a_stall_is_charged_to_what_was_due_meanwhile() {
    let stall = Some((300, Duration::from_millis(500)));
    let server = Server::start(Manners { stall, ..Manners::default() }, Rows::new());
    let (status, report) = report(&server, "--keys 10 --connections 1 --rate 1000 --seconds 1");
    assert_eq!(status, 0, "{report}");
    let run = phase(&report, "run");
    assert_eq!(run["operations"], 1000, "every one that was due");
    let mean = |of: &str| run["kinds"]["read"][of]["mean"].as_f64().unwrap();
    // Half of them waited for up to 500 ms; one of them did so after it was sent.
    assert!(mean("latency_us") > 50_000.0 && mean("latency_us") > 5.0 * mean("service_us"), "{run}");
}

#[test]
fn one_seed_gives_one_sequence_of_commands() {
    let log = |seed: u32| {
        let server = Server::start(Manners { logs: true, ..Manners::default() }, Rows::new());
        let arguments = format!(
            "--keys 100 --connections 1 --requests 200 --value-bytes zipf:5-50 --mix read=1,update=1 --seed {seed}"
        );
        assert_eq!(load(&server, &arguments).status.code(), Some(0));
        server.log()
    };
    let first = log(1);
    assert_eq!(first.len(), 201, "a PING, and 200 requests");
    assert!(first == log(1));
    assert!(first != log(2));
}

#[test]
fn verification_outlives_cut_connections_and_a_server_that_loads() {
    for data in ["strings", "hashes --fields 5", "transactions"] {
        let manners = Manners { cut_every: Some(177), loading_greetings: 5, ..Manners::default() };
        let server = Server::start(manners, Rows::new());
        let arguments = format!(
            "--data {data} --keys 60 --connections 4 --pipeline 5 --fill --requests 3000 --verify --reconnect"
        );
        let (status, report) = report(&server, &arguments);
        assert_eq!(status, 0, "{report}");
        let run = phase(&report, "run");
        assert_eq!(
            run["kinds"]["read"]["misses"], 0,
            "what was lost of the fill was written again: {report}"
        );
        assert!(run["reconnects"].as_u64().unwrap() > 5, "{report}");
        let verify = &report["verify"];
        assert_eq!((&verify["violations"], &verify["was_read_back"]), (&0.into(), &true.into()), "{report}");
    }
}

#[test]
fn a_request_that_is_not_answered_in_time_costs_its_connection_and_the_server_is_told_to_close_it() {
    let manners = Manners { hang: Some(100), logs: true, ..Manners::default() };
    let server = Server::start(manners, Rows::new());
    let arguments = "--keys 20 --connections 2 --requests 200 --verify --reconnect --timeout-ms 300";
    let (status, report) = report(&server, arguments);
    assert_eq!(status, 0, "{report}");
    let run = phase(&report, "run");
    assert_eq!((&run["reconnects"], &run["errors"]["timed out after 300 ms"]), (&1.into(), &1.into()));
    let kills =
        server.log().into_iter().filter(|line| line.starts_with(b"CLIENT KILL ADDR 127.0.0.1:")).count();
    assert_eq!(kills, 1, "before its place is taken");
}

#[test]
fn a_forgotten_write_is_a_violation_with_its_key_and_exits_with_1() {
    for (data, what) in [("strings", "lost"), ("hashes --fields 5", "lost"), ("transactions", "torn")] {
        let manners = Manners { forget_every: Some(100), ..Manners::default() };
        let server = Server::start(manners, Rows::new());
        let arguments = format!("--data {data} --keys 60 --connections 4 --fill --requests 2000 --verify");
        let (status, report) = report(&server, &arguments);
        assert_eq!(status, 1, "{report}");
        let first = &report["verify"]["first_violations"][0];
        assert_eq!(first["what"], what, "{report}");
        assert!(first["key"].as_str().unwrap().starts_with("key:"));
        assert!(first["expected"].as_str().unwrap().contains("write"));
        let said = text(&load(&server, &arguments).stdout);
        assert!(said.contains(&format!("violation: {what}: key:")), "{said}");
    }
}

#[test]
fn a_journal_lets_another_process_find_what_a_restart_lost() {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (_, journal) = journal(&dir);
    let server = honest();
    let arguments = format!("--keys 50 --connections 4 --fill --requests 1000 --verify {journal}");
    assert_eq!(report(&server, &arguments).0, 0);
    let older = server.rows();

    // A second run goes on where the first one ended, and finds its values as they were left.
    let (status, again) = report(&server, &arguments);
    assert_eq!(status, 0, "{again}");
    let rows = server.rows();
    assert!(rows != older);

    let check =
        |rows: Rows| report(&Server::start(Manners::default(), rows), &format!("--verify-only {journal}"));
    let (status, whole) = check(rows.clone());
    assert_eq!((status, &whole["verify"]["cells_read_back"]), (0, &50.into()), "{whole}");
    let (status, lost) = check(older);
    assert_eq!(status, 1, "{lost}");
    let mut without = rows;
    without.pop_first();
    let (status, lost) = check(without);
    assert_eq!((status, &lost["verify"]["violations"]), (1, &1.into()), "{lost}");
    let first = &lost["verify"]["first_violations"][0];
    assert_eq!((&first["key"], &first["found"]), (&"key:000000000000".into(), &"nothing".into()));
}

#[test]
fn a_journal_of_other_keys_is_refused_and_a_damaged_one_too() {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (path, journal) = journal(&dir);
    let server = honest();
    let arguments = format!("--connections 4 --requests 100 --verify {journal}");
    assert_eq!(report(&server, &format!("--keys 50 {arguments}")).0, 0);
    let other = load(&server, &format!("--keys 51 {arguments}"));
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("the journal is of other keys"), "{}", text(&other.stderr));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = load(&server, &format!("--verify-only {journal}"));
    assert_eq!(damaged.status.code(), Some(2));
    assert!(text(&damaged.stderr).contains("checksum of its header"), "{}", text(&damaged.stderr));
}

#[test]
fn without_reconnect_a_server_that_goes_away_ends_the_run() {
    let server = Server::start(Manners { cut_every: Some(500), ..Manners::default() }, Rows::new());
    let (status, report) = report(&server, "--keys 50 --connections 1 --requests 5000 --verify");
    assert_eq!(status, 2, "{report}");
    assert!(report["incomplete"].as_str().unwrap().contains("every connection was lost"));
    assert_eq!(report["verify"]["was_read_back"], false);
}

#[test]
fn passwords_are_given_and_refusals_are_told() {
    let manners = || Manners { password: Some("secret".into()), ..Manners::default() };
    let server = Server::start(manners(), Rows::new());
    for arguments in ["--password secret", "--user someone --password secret"] {
        let output = load(&server, &format!("--keys 10 --requests 10 --json {arguments}"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains("secret"));
    }
    for (arguments, expected) in [("", "NOAUTH"), ("--password wrong", "WRONGPASS")] {
        let output = load(&server, &format!("--keys 10 --requests 10 {arguments}"));
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
    let output = load(&honest(), "--hello 2 --keys 10 --requests 10");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn where_nobody_listens_it_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for more in [&[][..], &["--reconnect", "--give-up-seconds", "1"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreshard"));
        let output = command.args(["load", "--quiet", "--connect", &address.to_string()]).args(more).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(&address.to_string()), "{}", text(&output.stderr));
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let server = honest();
    for (arguments, expected) in [
        ("--connections 0", "--connections 0 is not between"),
        ("--workload e --data strings", "HSCAN"),
        ("--verify --value-bytes 10", "--value-bytes of at least 44"),
        ("--verify --keys 10 --connections 11", "keys of its own"),
        ("--rate 1..2 --requests 5", "needs --seconds"),
        ("--seconds 0", "does nothing"),
        ("--theta 0", "--theta 0"),
        ("--distribution hotspot --hotspot 80", "two percentages"),
        ("--journal x", "--journal is for"),
        ("--verify-only --journal /no/such/journal", "there is no such journal"),
        ("--verify-only", "--journal"),
        ("--mix read=x", "weight of read"),
        ("--workload a --mix read=1", "cannot be used with"),
        ("--user somebody", "--user needs a password"),
    ] {
        let output = load(&server, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text(&output.stderr).contains(expected), "{arguments}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn percentiles_and_progress_go_where_they_should() {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.path().join("latency.hgrm");
    let server = honest();
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshard"));
    command.args(["load", "--connect", &server.address.to_string(), "--rate", "500", "--seconds", "1.5"]);
    let output = command.args(["--hgrm", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let progress = text(&output.stderr);
    assert!(
        progress.lines().count() == 1 && progress.starts_with("run: 1 s: "),
        "a line a second: {progress}"
    );
    assert!(!progress.contains('\r'), "no terminal");
    let said = text(&output.stdout);
    assert!(said.contains("read, since due") && said.contains("read, since sent"), "{said}");
    for name in ["latency.hgrm", "latency.hgrm.read", "latency.hgrm.update"] {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text.contains("1/(1-Percentile)") && text.contains("#[Max"), "{text}");
    }
}
