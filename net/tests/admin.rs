//! The admin endpoint, asked as a scraper asks.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::Node;
use foreshard_net::{Admin, Config};

fn get(admin: &Admin, request: &str) -> String {
    let mut stream = TcpStream::connect(admin.address()).unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_health_and_status_are_told() {
    let node = Node::start(2, 3, Config::default());
    let admin =
        Admin::start(node.store.as_ref().unwrap(), "127.0.0.1:0".parse().unwrap(), None, None).unwrap();
    let mut client = node.client();
    (0..7).for_each(|n| drop(client.say(&format!("SET k{n} v"))));
    assert!(get(&admin, "GET /healthz").ends_with("\r\n\r\nok\n"));
    assert!(get(&admin, "GET /readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(&admin, "GET /metrics");
    let sets: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("foreshard_command_calls_total{") && line.contains("command=\"set\""))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(sets, 7);
    let samples = metrics.lines().filter(|line| line.starts_with("foreshard_wal_bytes{"));
    assert_eq!(samples.count(), 2, "a sample a shard");
    let status = get(&admin, "GET /status");
    let json: serde_json::Value = serde_json::from_str(status.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json["clients"], 1);
    assert_eq!(json["shards"].as_array().unwrap().len(), 2);
    let partitions = json["table"]["partitions"].as_array().unwrap();
    let shards: Vec<u64> = partitions.iter().map(|p| p["shard"].as_u64().unwrap()).collect();
    assert_eq!((&json["table"]["version"], shards), (&1.into(), vec![0, 1, 0]), "dealt out in turn");
    assert!(get(&admin, "GET /else").starts_with("HTTP/1.1 404"));
    assert!(get(&admin, "POST /metrics").starts_with("HTTP/1.1 405"));
    drop(admin);
    node.stop();
}

#[test]
fn a_server_that_is_stopping_is_not_ready() {
    let mut node = Node::start(2, 3, Config::default());
    let store = node.store.take().unwrap();
    let admin = Admin::start(&store, "127.0.0.1:0".parse().unwrap(), None, None).unwrap();
    node.server.stop(&store, std::time::Duration::ZERO).unwrap();
    assert!(get(&admin, "GET /readyz").starts_with("HTTP/1.1 503"));
    drop(admin);
    store.close().unwrap();
}

#[test]
fn a_backup_that_a_web_page_might_ask_for_or_that_has_nowhere_to_go_is_refused() {
    let mut node = Node::start(1, 2, Config::default());
    let store = node.store.take().unwrap();
    let admin = Admin::start(&store, "127.0.0.1:0".parse().unwrap(), None, None).unwrap();
    let post = |headers: &str, body: &str| {
        let mut stream = TcpStream::connect(admin.address()).unwrap();
        let length = body.len();
        let request = format!("POST /backup HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let json = "Content-Type: application/json\r\n";
    assert!(post("", "{}").starts_with("HTTP/1.0 403"));
    assert!(post(&format!("{json}Origin: http://example.com\r\n"), "{}").starts_with("HTTP/1.0 403"));
    assert!(post(json, "{\"too\": 1}").starts_with("HTTP/1.0 400"));
    assert!(post(json, &" ".repeat(20 << 10)).starts_with("HTTP/1.0 400"));
    let refused = post(json, "{\"to\": \"daily\"}");
    assert!(refused.starts_with("HTTP/1.0 403") && refused.contains("--backups DIR"), "{refused}");
    assert!(get(&admin, "GET /backup").starts_with("HTTP/1.1 405"));
    node.server.stop(&store, std::time::Duration::ZERO).unwrap();
    drop(admin);
    store.close().unwrap();
}
