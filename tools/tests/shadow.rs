//! A move that proves itself, on a real node: clients read and write, `ctl` says what the shadow showed, metrics count it.

#[path = "process/ctl.rs"]
mod ctl;
mod process;

use std::sync::atomic::{AtomicBool, Ordering};

use ctl::ctl;
use process::{Node, ask};
use serde_json::Value;

#[test]
fn a_move_is_validated_while_clients_read_and_what_it_showed_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("data"), 2, &[]);
    let fill: String = (0..100).map(|n| format!("SET {{a}}:{n} {n}\r\nHSET {{a}}:h f{n} {n}\r\n")).collect();
    ask(&node.redis, &fill, &"+OK\r\n:1\r\n".repeat(100));
    let is_over = AtomicBool::new(false);
    let read = || {
        let mut n = 0;
        while !is_over.load(Ordering::Relaxed) {
            n = (n + 1) % 100;
            let get = format!("GET {{a}}:{n}\r\nHGET {{a}}:h f{n}\r\nSET {{a}}:{n} {n}\r\n");
            let (len, said) = (n.to_string().len(), format!("{n}"));
            ask(&node.redis, &get, &format!("${len}\r\n{said}\r\n${len}\r\n{said}\r\n+OK\r\n"));
        }
    };
    let (status, said) = ctl(&node, &["entity", "a", "--json"]);
    assert_eq!(status, 0, "{said}");
    let at = serde_json::from_str::<Value>(&said).unwrap()["partition"].as_u64().unwrap();
    let to = (1 - at).to_string();
    let (status, said) = std::thread::scope(|scope| {
        scope.spawn(read);
        let moved = ctl(&node, &["move", "a", "--to", &to, "--shadow", "always", "--json"]);
        is_over.store(true, Ordering::Relaxed);
        moved
    });
    assert_eq!(status, 0, "{said}");
    let moved: Value = serde_json::from_str(&said).unwrap();
    let shadow = &moved["shadow"];
    // A machine that is busy with other things may be too slow to tell in the time there is; it never differs.
    assert!(["accepted", "inconclusive"].contains(&shadow["verdict"].as_str().unwrap()), "{shadow}");
    assert!(shadow["equal"].as_u64().unwrap() > 0 && shadow["differing"] == 0, "{shadow}");
    assert_eq!(shadow["source_nanos"]["count"], shadow["shadow_nanos"]["count"]);
    let id = moved["move"].to_string();
    let (status, said) = ctl(&node, &["shadow", &id]);
    assert!(status == 0 && said.contains("source, time") && said.contains("0 differing"), "{said}");
    assert!(ctl(&node, &["moves"]).1.contains(shadow["verdict"].as_str().unwrap()));
    ask(&node.admin, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK");
    let (status, said) = ctl(&node, &["move", "a", "--home", "--shadow", "sometimes"]);
    assert!(status == 2 && said.contains("always, never or above:SIZE"), "{said}");
    let (status, said) = ctl(&node, &["shadow", "9999"]);
    assert!(status == 2 && said.contains("no move 9999"), "{said}");
    assert!(node.end("TERM").success());
}
