//! `foreshard import` from a real Redis into a node.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_foreshard");
const PASSWORD: &str = "p@ss:word";

/// A process that is killed when dropped, and where it listens.
struct Server {
    process: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// None where `redis-server` is not installed.
fn redis(dir: &Path) -> Option<Server> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD, "--dir"]);
    let process = match command.arg(dir).stdout(Stdio::null()).spawn() {
        Ok(process) => process,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => panic!("redis-server: {e}"),
    };
    let address = format!("127.0.0.1:{port}");
    let server = Server { process, address };
    while TcpStream::connect(&server.address).is_err() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Some(server)
}

fn node(data: &Path) -> Server {
    let mut process = Command::new(PROGRAM)
        .args(["node", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--data"])
        .arg(data)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let marker = "serving Redis clients at ";
    let line = lines.find(|line| line.as_ref().unwrap().contains(marker)).unwrap().unwrap();
    let address = line.rsplit_once(marker).unwrap().1.to_owned();
    // What it says later is read on, so that it is never stuck saying it.
    std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
    Server { process, address }
}

/// Says commands, and returns all that is answered until QUIT's.
fn say(address: &str, commands: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{commands}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn import(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(PROGRAM).arg("import").args(arguments).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}")))
}

#[test]
fn strings_and_hashes_come_over_with_their_expiry_and_the_rest_is_told() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(redis) = redis(dir.path()) else {
        // A skipped test says so: without the real one there is nothing to import from.
        eprintln!("skipped: redis-server is not installed");
        return;
    };
    let node = node(&dir.path().join("data"));
    let mut commands = format!("AUTH {PASSWORD}\r\n");
    for n in 0..3000 {
        commands += &format!("SET s{n} value-{n}\r\nHSET h{n} a {n} b x\r\n");
    }
    for field in 0..5000 {
        commands += &format!("HSET long f{field} v{field}\r\n");
    }
    commands += "SET expires e PXAT 4102444800000\r\nPEXPIREAT h1 4102444800001\r\nPEXPIREAT long 4102444800002\r\n\
        SET \"bin\\x00\\r\\n\" \"\\xff\\x00\"\r\nRPUSH list 1 2\r\nSADD set 1\r\nZADD sorted 1 a\r\n\
        SELECT 1\r\nSET other 1";
    let answers = say(&redis.address, &commands);
    assert!(!answers.contains("-ERR"), "{answers}");
    // A key that is in the way, of another type and with more fields.
    say(&node.address, "HSET s1 x y\r\nHSET h2 old field");

    let from = format!("redis://:p%40ss%3Aword@{}", redis.address);
    for _ in 0..2 {
        let (status, told) = import(&["--from", &from, "--to", &node.address]);
        assert_eq!(status, Some(1), "something was skipped: {told}");
        assert_eq!(told["skipped"], json!({"list": 1, "set": 1, "zset": 1, "database 1": 1}));
        assert_eq!((&told["strings"], &told["hashes"]), (&json!(3002), &json!(3001)), "{told}");
        assert_eq!((&told["fields"], &told["expiring"]), (&json!(11_000), &json!(3)), "{told}");
        assert_eq!(told["refused"], 0, "{told}");
    }
    for (command, answer) in [
        ("GET s1", "$7\r\nvalue-1\r\n"),
        ("HGETALL h2", "*4\r\n$1\r\na\r\n$1\r\n2\r\n$1\r\nb\r\n$1\r\nx\r\n"),
        ("HLEN long", ":5000\r\n"),
        ("HGET long f4999", "$5\r\nv4999\r\n"),
        ("PEXPIRETIME expires", ":4102444800000\r\n"),
        ("PEXPIRETIME h1", ":4102444800001\r\n"),
        ("PEXPIRETIME long", ":4102444800002\r\n"),
        ("PTTL s1", ":-1\r\n"),
        ("STRLEN \"bin\\x00\\r\\n\"", ":2\r\n"),
        ("DBSIZE", ":6003\r\n"),
    ] {
        let mut got = say(&node.address, command);
        if command.starts_with("HGETALL") && got.starts_with("*4\r\n$1\r\nb") {
            // Fields have no order.
            got = answer.to_owned() + "+OK\r\n";
        }
        assert_eq!(got, format!("{answer}+OK\r\n"), "{command}");
    }

    let (status, told) = import(&["--from", &from, "--to", &node.address, "--match", "s*[0-9]"]);
    assert_eq!((status, &told["keys"]), (Some(1), &json!(3000)), "another database is still skipped: {told}");
    let (status, told) = import(&["--from", &format!("{from}/1"), "--to", &node.address]);
    assert_eq!((status, &told["skipped"]), (Some(1), &json!({"database 0": 6006})), "{told}");
    say(&redis.address, &format!("AUTH {PASSWORD}\r\nFLUSHALL\r\nSET only 1"));
    let (status, told) = import(&["--from", &from, "--to", &node.address]);
    assert_eq!((status, &told["keys"]), (Some(0), &json!(1)), "{told}");

    let refused = Command::new(PROGRAM).args(["import", "--from", &redis.address]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && said.contains("NOAUTH"), "{said}");
}
