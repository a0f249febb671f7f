//! Scripts of commands, each with what Redis answers: `scenarios/*.txt`, recorded by `scenarios/record.py`.
//!
//! Each is run against one shard, and against several shards and partitions, where most commands are forwarded and
//! those on several keys are transactions.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]

mod common;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use common::{Client, Node, Reply};
use foreshard_net::Config;

#[test]
fn connection() {
    check("connection");
}

#[test]
fn strings() {
    check("strings");
}

#[test]
fn bits() {
    check("bits");
}

#[test]
fn hashes() {
    check("hashes");
}

#[test]
fn keys() {
    check("keys");
}

#[test]
fn transactions() {
    check("transactions");
}

#[test]
fn server() {
    check("server");
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/scenarios/{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    for (shards, partitions) in [(1, 1), (2, 7)] {
        let node = Node::start(shards, partitions, Config::default());
        let got = play(&mut node.client(), &expected);
        for (n, (got, expected)) in got.lines().zip(expected.lines()).enumerate() {
            assert_eq!(got, expected, "{}:{} with {shards} shards", path.display(), n + 1);
        }
        assert_eq!(got.lines().count(), expected.lines().count(), "{} is cut short", path.display());
        node.stop();
    }
}

/// Runs the commands of a scenario; the scenario with the answers it got.
fn play(client: &mut Client, scenario: &str) -> String {
    let mut out = String::new();
    for line in scenario.lines() {
        let kept = ["#", "!", ">"].iter().any(|mark| line.starts_with(mark)) || line.is_empty();
        if !kept {
            continue;
        }
        writeln!(out, "{line}").unwrap();
        if let Some(millis) = line.strip_prefix("! sleep ") {
            sleep(Duration::from_millis(millis.parse().unwrap()));
        } else if let Some(version) = line.strip_prefix("! resp ") {
            client.ask(&["HELLO", version]);
        } else if line.starts_with('>') {
            let (mark, command) = line.split_once(' ').unwrap();
            let args = words(command);
            let mut reply = client.ask(&args);
            if mark == ">~" {
                let name = args[0].to_ascii_lowercase();
                sort(&mut reply, name == b"hgetall" || name == b"hscan");
            }
            render(&reply, 0, &mut out);
        }
    }
    out
}

#[expect(clippy::disallowed_methods, reason = "keys expire in real time here")]
fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Words apart by blanks; those in double quotes may have blanks and `\xNN` in them.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('"');
        let (word, tail) = match quoted {
            Some(inner) => inner.split_once('"').unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(unescape(word));
        rest = tail.trim_start();
    }
    words
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap());
        rest = &rest[at + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Sorts what has no order: elements, or pairs of them.
fn sort(reply: &mut Reply, in_pairs: bool) {
    let Reply::Many(sign, elements) = reply else { return };
    if let [_, inner @ Reply::Many(..)] = &mut elements[..] {
        sort(inner, in_pairs);
        return;
    }
    let step = if *sign == '%' || in_pairs { 2 } else { 1 };
    let mut groups: Vec<Vec<Reply>> = elements.chunks(step).map(<[Reply]>::to_vec).collect();
    groups.sort();
    *elements = groups.concat();
}

fn render(reply: &Reply, indent: usize, out: &mut String) {
    let blanks = " ".repeat(indent);
    match reply {
        Reply::Line(text) => writeln!(out, "{blanks}{text}").unwrap(),
        Reply::Null => writeln!(out, "{blanks}(nil)").unwrap(),
        Reply::Bulk(bytes) => {
            let mut text = String::new();
            for &byte in bytes {
                match byte {
                    b'"' | b'\\' => write!(text, "\\{}", char::from(byte)).unwrap(),
                    32..=126 => text.push(char::from(byte)),
                    _ => write!(text, "\\x{byte:02x}").unwrap(),
                }
            }
            writeln!(out, "{blanks}\"{text}\"").unwrap();
        }
        Reply::Many(sign, elements) => {
            writeln!(out, "{blanks}{sign}{}", elements.len()).unwrap();
            elements.iter().for_each(|element| render(element, indent + 2, out));
        }
    }
}
