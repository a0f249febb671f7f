//! Clients that do not behave, and what the server does about its connections.

mod common;

use std::io::{ErrorKind, Read};
use std::time::Duration;

use common::{Node, Reply, encode};
use foreshard_engine::Options;
use foreshard_net::Config;

#[expect(clippy::disallowed_methods, reason = "a client is another process in life")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn what_is_not_the_protocol_is_answered_and_ends_only_its_own_connection() {
    let node = Node::start(1, 2, Config::default());
    let mut bystander = node.client();
    for bytes in [&b"*1\r\n$9999999999\r\n"[..], b"*99999999\r\n", b"*1\r\n+x\r\n", b"get \"x\r\n"] {
        let mut client = node.client();
        client.raw(&encode(&["SET", "k", "v"]));
        client.raw(bytes);
        assert_eq!(client.read(), Some(Reply::line("+OK")), "what came before it is answered");
        assert!(client.read().unwrap().text().starts_with("-ERR Protocol error: "));
        assert_eq!(client.read(), None, "and then it is over");
    }
    assert_eq!(bystander.say("GET k"), Reply::bulk("v"));
    node.stop();
}

#[test]
fn a_command_may_come_a_byte_at_a_time() {
    let node = Node::start(1, 2, Config::default());
    let mut client = node.client();
    for byte in encode(&["SET", "slow", "value"]) {
        client.raw(&[byte]);
    }
    assert_eq!(client.read(), Some(Reply::line("+OK")));
    client.raw(b"get slow\r\n");
    assert_eq!(client.read(), Some(Reply::bulk("value")));
    node.stop();
}

#[test]
fn values_up_to_their_limit_come_back_and_longer_ones_are_refused() {
    let options = Options { wal_file_bytes: 32 << 20, wal_cap_bytes: 128 << 20, ..common::options(2, 3) };
    let node = Node::start_in(tempfile::tempdir().unwrap(), options, Config::default());
    let mut client = node.client();
    for len in [0, 1, 16 << 10, (1 << 20) + 7, (8 << 20) - 1] {
        let value: Vec<u8> = (0..len).map(|n: u32| u8::try_from(n % 251).unwrap()).collect();
        for key in ["a", "b", "c"] {
            assert_eq!(client.ask(&[b"SET", key.as_bytes(), &value]), Reply::line("+OK"));
            assert_eq!(client.ask(&["GET", key]), Reply::Bulk(value.clone()));
        }
    }
    assert!(client.ask(&[&b"SET"[..], b"a", &vec![0; 8 << 20]]).text().starts_with("-ERR string exceeds"));
    assert!(client.ask(&["SET", &"k".repeat(1025), "v"]).text().starts_with("-ERR key of 1025 bytes"));
    assert_eq!(client.say("PING"), Reply::line("+PONG"));
    node.stop();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let node = Node::start(1, 2, Config::default());
    node.client().ask(&[&b"SET"[..], b"big", &vec![7; 1 << 20]]);
    let mut greedy = node.client();
    greedy.raw(&encode(&["GET", "big"]).repeat(200));
    for _ in 0..20 {
        assert_eq!(node.client().say("PING"), Reply::line("+PONG"));
    }
    let resident: u64 = node
        .client()
        .say("INFO memory")
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:")?.parse().ok())
        .unwrap();
    assert!(resident < 1 << 30, "the replies of one reader are not all kept: {resident}");
    for _ in 0..200 {
        assert_eq!(greedy.read(), Some(Reply::Bulk(vec![7; 1 << 20])));
    }
    node.stop();
}

#[test]
fn without_the_password_little_is_answered() {
    let node = Node::start(2, 3, Config { requirepass: "secret".into(), ..Config::default() });
    let mut client = node.client();
    assert_eq!(client.say("GET k"), Reply::line("-NOAUTH Authentication required."));
    assert!(client.say("AUTH wrong").text().starts_with("-WRONGPASS"));
    assert!(client.say("HELLO 3").text().starts_with("-NOAUTH"));
    assert_eq!(client.say("AUTH secret"), Reply::line("+OK"));
    assert_eq!(client.say("SET k v"), Reply::line("+OK"));
    let mut other = node.client();
    assert!(matches!(other.say("HELLO 3 AUTH default secret"), Reply::Many('%', _)));
    assert_eq!(other.say("GET k"), Reply::bulk("v"));
    let mut flood = node.client();
    flood.raw(b"*2\r\n$3\r\nGET\r\n$20000\r\n");
    assert_eq!(flood.read(), Some(Reply::line("-ERR Protocol error: unauthenticated bulk length")));
    node.stop();
}

#[test]
fn connections_over_their_number_are_told() {
    let node = Node::start(1, 1, Config { maxclients: 2, ..Config::default() });
    let (mut first, mut second) = (node.client(), node.client());
    assert_eq!((first.say("PING"), second.say("PING")), (Reply::line("+PONG"), Reply::line("+PONG")));
    assert_eq!(node.client().read(), Some(Reply::line("-ERR max number of clients reached")));
    drop(first);
    pause();
    assert_eq!(node.client().say("PING"), Reply::line("+PONG"));
    node.stop();
}

#[test]
fn who_makes_the_server_hold_most_goes_where_all_hold_too_much() {
    let node = Node::start(1, 1, Config { maxmemory_clients: 4 << 20, ..Config::default() });
    let part = vec![b'x'; 1 << 20];
    let argument = [format!("${}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat();
    let half = |count: usize| [&b"*6\r\n$4\r\nMSET\r\n"[..], &argument.repeat(count)].concat();
    let (mut most, mut less) = (node.client(), node.client());
    most.raw(&half(3));
    // In this order also where the machine is slow.
    let mut looks = 0..LOOKS;
    while held_bytes(&mut less) < 3 << 20 {
        looks.next().expect("three megabytes have arrived by then");
        pause();
    }
    less.raw(&half(2));
    // Told why where its own bytes were those too many, and closed in any case.
    if let Some(refusal) = most.read() {
        assert!(refusal.text().starts_with("-ERR clients hold more than "), "{refusal:?}");
        assert_eq!(most.read(), None, "closed");
    }
    less.raw(&encode(&["v", "k", "v"])[4..]);
    assert!(less.read().unwrap().text().starts_with("-ERR wrong number of arguments"), "the other goes on");
    let mut alone = node.client();
    alone.raw(&half(5));
    let told = alone.read().unwrap().text();
    assert!(told.starts_with("-ERR clients hold more than 4194304 bytes"), "{told}");
    assert_eq!(alone.read(), None);
    assert!(less.say("INFO stats").text().contains("evicted_clients:2\r\n"));
    assert!(less.say("INFO memory").text().contains("mem_clients_normal:0\r\n"));
    node.stop();
}

/// Looks at what is to come, with a pause after each: a bound for a machine that has much else to do.
const LOOKS: usize = 400;

/// What all clients together make the server hold.
fn held_bytes(client: &mut common::Client) -> usize {
    let info = client.say("INFO memory").text();
    let told = info.lines().find_map(|line| line.strip_prefix("mem_clients_normal:")?.parse().ok());
    told.expect("INFO tells it")
}

/// Whether a client, by its number, has a reply of megabytes that waits.
fn is_stuck(list: &str, id: i64) -> bool {
    let line = list.lines().find(|line| line.starts_with(&format!("id={id} ")));
    let waiting = line.and_then(|line| line.split(' ').find_map(|field| field.strip_prefix("obl=")));
    waiting.and_then(|bytes| bytes.parse::<usize>().ok()).is_some_and(|bytes| bytes > 1 << 20)
}

/// Where the connection is ended otherwise, nothing tells a peer that writes: it waits for the window to open, as long as
/// the kernel remembers the connection.
#[test]
fn who_is_evicted_or_killed_while_it_does_not_read_is_reset() {
    for is_killed in [false, true] {
        let node = Node::start(1, 1, Config { maxmemory_clients: 6 << 20, ..Config::default() });
        let mut other = node.client();
        other.ask(&[&b"SET"[..], b"big", &vec![7; 2 << 20]]);
        let mut hoarder = node.client();
        let id = hoarder.say("CLIENT ID").integer();
        hoarder.raw(&encode(&["MGET", "big", "big"]).repeat(10));
        let mut looks = 0..LOOKS;
        while !is_stuck(&other.say("CLIENT LIST").text(), id) {
            looks.next().expect("it is stuck by then");
            pause();
        }
        if is_killed {
            assert_eq!(other.say(&format!("CLIENT KILL ID {id}")).integer(), 1);
        } else {
            // Now both hold too much together, and the hoarder more.
            let part = vec![b'x'; 1 << 20];
            let argument = [format!("${}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat();
            other.raw(&[&b"*6\r\n$4\r\nMSET\r\n"[..], &argument.repeat(3)].concat());
            other.raw(&encode(&["k", "v"])[4..]);
            assert!(other.read().unwrap().text().starts_with("-ERR wrong number of arguments"));
            assert!(other.say("INFO stats").text().contains("evicted_clients:1\r\n"));
        }
        // Who reads before the node has let go of the socket may still be told all, and then of an end in order.
        while other.say("CLIENT LIST").text().contains(&format!("id={id} ")) {
            looks.next().expect("it is gone by then");
            pause();
        }
        pause();
        let ended = std::io::copy(&mut hoarder.stream, &mut std::io::sink());
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
        node.stop();
    }
}

#[test]
fn who_is_closed_in_order_reads_every_reply_though_more_was_sent_and_none_of_it_read() {
    let node = Node::start(1, 2, Config::default());
    node.client().ask(&[&b"SET"[..], b"big", &vec![7; 1 << 20]]);
    for farewell in [&b"QUIT\r\n"[..], b"*1\r\n+x\r\n", b"CLIENT KILL TYPE normal SKIPME no\r\n"] {
        let mut client = node.client();
        client.raw(&encode(&["GET", "big"]).repeat(20));
        client.raw(farewell);
        client.raw(&encode(&["SET", "k", "v"]).repeat(1000));
        for _ in 0..20 {
            assert_eq!(client.read(), Some(Reply::Bulk(vec![7; 1 << 20])));
        }
        assert!(client.read().is_some(), "the answer to {:?}", farewell.escape_ascii().to_string());
        let mut byte = [0];
        assert_eq!(client.stream.read(&mut byte).unwrap(), 0, "closed, not reset");
    }
    node.stop();
}

#[test]
fn a_reply_over_its_bound_is_an_error_and_the_connection_goes_on() {
    let node = Node::start(1, 2, Config::default());
    let mut client = node.client();
    client.ask(&[&b"SET"[..], b"big", &vec![7; 1 << 20]]);
    let all: Vec<&str> = std::iter::once("MGET").chain(["big"; 260]).collect();
    assert!(client.ask(&all).text().starts_with("-ERR the reply is longer than "));
    assert_eq!(client.ask(&all[..3]).elements().len(), 2);
    node.stop();
}

#[test]
fn clients_are_listed_and_killed_on_whatever_shard_they_are() {
    let node = Node::start(3, 3, Config::default());
    let mut me = node.client();
    let mut others: Vec<_> = (0..12).map(|_| node.client()).collect();
    for (n, other) in others.iter_mut().enumerate() {
        other.say(&format!("CLIENT SETNAME other-{n}"));
    }
    let list = me.say("CLIENT LIST").text();
    assert_eq!(list.lines().count(), 13);
    assert!((0..12).all(|n| list.contains(&format!("name=other-{n} "))));
    let id = others[5].say("CLIENT ID").integer();
    assert_eq!(me.say(&format!("CLIENT KILL ID {id}")).integer(), 1);
    assert_eq!(others[5].read(), None);
    assert_eq!(me.say("CLIENT KILL TYPE normal").integer(), 11);
    assert_eq!(me.say("CLIENT LIST").text().lines().count(), 1);
    assert_eq!(me.say("CLIENT KILL TYPE normal SKIPME no").integer(), 1);
    assert_eq!(me.read(), None);
    node.stop();
}

#[test]
fn silent_connections_are_closed_after_their_time() {
    let node = Node::start(1, 1, Config { timeout: 1, ..Config::default() });
    let mut client = node.client();
    client.say("PING");
    let mut byte = [0];
    assert_eq!(client.stream.read(&mut byte).unwrap(), 0, "closed by the server");
    node.stop();
}

#[test]
fn replies_may_be_turned_off() {
    let node = Node::start(1, 1, Config::default());
    let mut client = node.client();
    client.raw(b"CLIENT REPLY OFF\r\nSET k v\r\nGET k\r\nCLIENT REPLY ON\r\n");
    assert_eq!(client.read(), Some(Reply::line("+OK")));
    client.raw(b"CLIENT REPLY SKIP\r\nSET k w\r\nGET k\r\n");
    assert_eq!(client.read(), Some(Reply::bulk("w")));
    node.stop();
}

#[test]
fn a_stopped_server_keeps_what_it_acknowledged() {
    let node = Node::start(2, 4, Config::default());
    let mut client = node.client();
    for n in 0..500 {
        client.raw(&encode(&["HSET", &format!("h{}", n % 9), &format!("f{n}"), "v"]));
    }
    (0..500).for_each(|_| drop(client.read().unwrap()));
    let dir = node.stop();
    assert_eq!(client.read(), None, "an idle connection is closed");
    let node = Node::start_in(dir, common::options(1, 4), Config::default());
    let mut client = node.client();
    let fields: i64 = (0..9).map(|n| client.say(&format!("HLEN h{n}")).integer()).sum();
    assert_eq!(fields, 500);
    assert_eq!(client.say("DBSIZE").integer(), 9);
    node.stop();
}

#[test]
fn slow_commands_are_kept_and_configuration_reaches_all_shards() {
    let node = Node::start(3, 3, Config::default());
    let mut clients: Vec<_> = (0..6).map(|_| node.client()).collect();
    assert_eq!(clients[0].say("CONFIG SET slowlog-log-slower-than 0 maxclients 77"), Reply::line("+OK"));
    for client in &mut clients {
        let got = client.say("CONFIG GET maxclients");
        assert_eq!(got.elements(), [Reply::bulk("maxclients"), Reply::bulk("77")]);
        client.say("SET k v");
    }
    let entries = clients[0].say("SLOWLOG GET -1");
    let sets = entries.elements().iter().filter(|e| e.elements()[3].elements()[0] == Reply::bulk("SET"));
    assert_eq!(sets.count(), 6);
    let mut ids: Vec<i64> = entries.elements().iter().map(|e| e.elements()[0].integer()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), entries.elements().len(), "no number twice");
    node.stop();
}

#[test]
fn fields_that_no_hash_has_any_more_are_swept_and_others_stay() {
    let node = Node::start(2, 5, Config { sweep_secs: 1, ..Config::default() });
    let mut client = node.client();
    for n in 0..20 {
        for field in 0..300 {
            client.raw(&encode(&["HSET", &format!("h{n}"), &format!("f{field}"), "v"]));
        }
        (0..300).for_each(|_| drop(client.read().unwrap()));
    }
    // Overwritten, expired, deleted, made anew, kept: five of each kind of end.
    for n in 0..5 {
        client.say(&format!("SET h{n} string"));
        client.say(&format!("PEXPIRE h{} 1", n + 5));
        client.say(&format!("SET h{} string", n + 10));
        client.say(&format!("DEL h{}", n + 10));
        client.say(&format!("HSET h{} again v", n + 10));
    }
    let swept = |client: &mut common::Client| -> u64 {
        let info = client.say("INFO stats").text();
        info.lines().find_map(|line| line.strip_prefix("swept_generations:")?.parse().ok()).unwrap()
    };
    for _ in 0..400 {
        if swept(&mut client) == 15 {
            break;
        }
        pause();
    }
    assert_eq!(swept(&mut client), 15, "what was overwritten blindly and what expired");
    for n in 0..5 {
        assert_eq!(client.say(&format!("HLEN h{}", n + 10)).integer(), 1);
        assert_eq!(client.say(&format!("HGETALL h{}", n + 10)).elements().len(), 2);
        assert_eq!(client.say(&format!("HGETALL h{}", n + 15)).elements().len(), 600);
    }
    node.stop();
}

#[test]
fn an_address_that_is_served_is_not_shared_with_another_server() {
    let node = Node::start(2, 3, Config::default());
    let dir = tempfile::tempdir().unwrap();
    let other = foreshard_engine::Store::open(dir.path(), common::options(1, 1)).unwrap();
    let config = Config { listen: node.server.address(), ..Config::default() };
    let refused = foreshard_net::Server::start(&other, 1, config).unwrap_err();
    assert!(refused.to_string().contains(&node.server.address().to_string()), "{refused}");
    other.close().unwrap();
    node.stop();
}

#[test]
fn an_http_request_runs_nothing_and_is_not_answered() {
    let node = Node::start(1, 2, Config::default());
    for request in [
        "POST / HTTP/1.1\r\nHost: x\r\n\r\nSET csrf 1\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\nSET csrf 1\r\n",
    ] {
        let mut client = node.client();
        client.raw(request.as_bytes());
        while let Some(reply) = client.read() {
            assert!(reply.text().starts_with('-'), "{reply:?}");
        }
    }
    assert_eq!(node.client().say("EXISTS csrf").integer(), 0);
    node.stop();
}

#[test]
fn the_slow_log_keeps_no_passwords() {
    let node = Node::start(1, 2, Config::default());
    let mut client = node.client();
    client.say("CONFIG SET slowlog-log-slower-than 0");
    client.say("CONFIG SET requirepass hidden1 timeout 0");
    client.say("AUTH hidden1");
    client.say("AUTH default hidden1");
    client.say("HELLO 2 AUTH default hidden1 SETNAME shown");
    client.raw(&[&["MULTI"][..], &["SET", "k", "v"], &["EXEC"]].map(encode).concat());
    (0..3).for_each(|_| drop(client.read().unwrap()));
    let log = format!(
        "{:?}",
        client
            .say("SLOWLOG GET -1")
            .elements()
            .iter()
            .map(|e| { e.elements()[3].elements().iter().map(Reply::text).collect::<Vec<_>>().join(" ") })
            .collect::<Vec<_>>()
    );
    assert!(!log.contains("hidden1"), "{log}");
    for kept in [
        "AUTH (redacted)",
        "HELLO 2 AUTH (redacted) (redacted) SETNAME shown",
        "requirepass (redacted) timeout 0",
        "EXEC",
    ] {
        assert!(log.contains(kept), "{kept} in {log}");
    }
    node.stop();
}

#[test]
fn a_reply_is_skipped_only_where_there_are_replies() {
    let node = Node::start(1, 2, Config::default());
    let mut client = node.client();
    let lines = [&["CLIENT", "REPLY", "OFF"][..], &["CLIENT", "REPLY", "SKIP"], &["PING"], &["PING"]];
    client.raw(&lines.map(encode).concat());
    client.raw(&encode(&["CLIENT", "REPLY", "ON"]));
    assert_eq!(client.read(), Some(Reply::line("+OK")));
    client.raw(&[&["CLIENT", "REPLY", "SKIP"][..], &["PING"], &["ECHO", "x"]].map(encode).concat());
    assert_eq!(client.read(), Some(Reply::bulk("x")));
    node.stop();
}

#[test]
fn hello_in_a_transaction_counts_for_what_follows_in_it() {
    let node = Node::start(1, 2, Config::default());
    let mut client = node.client();
    client.say("HSET h f v");
    client.raw(&[&["MULTI"][..], &["HELLO", "3"], &["HGETALL", "h"], &["EXEC"]].map(encode).concat());
    (0..3).for_each(|_| drop(client.read().unwrap()));
    let done = client.read().unwrap();
    assert!(matches!(done.elements()[1], Reply::Many('%', _)), "{done:?}");
    node.stop();
}

#[test]
fn cursors_of_a_scan_fit_the_numbers_of_any_client_and_miss_no_key() {
    let node = Node::start(2, 5, Config::default());
    let mut client = node.client();
    let names: std::collections::BTreeSet<String> = (0..500).map(|n| format!("key:{n}")).collect();
    for name in &names {
        client.ask(&["SET", name, "v"]);
    }
    let (mut cursor, mut found) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let page = client.ask(&["SCAN", &cursor, "COUNT", "7"]);
        cursor = page.elements()[0].text();
        found.extend(page.elements()[1].elements().iter().map(Reply::text));
        assert!(cursor.parse::<u64>().unwrap() < 1 << 53, "{cursor}");
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found, names);
    node.stop();
}

#[test]
fn fields_of_a_small_hash_are_picked_evenly() {
    let node = Node::start(1, 2, Config::default());
    let mut client = node.client();
    client.say("HSET h a 1 b 2 c 3");
    let picks = client.say("HRANDFIELD h -30000");
    let of_a = picks.elements().iter().filter(|field| **field == Reply::bulk("a")).count();
    // Ten times the spread of a fair draw.
    assert!((9200..10_800).contains(&of_a), "{of_a} of 30000");
    let mut pairs = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let mut pair: Vec<String> = client.say("HRANDFIELD h 2").elements().iter().map(Reply::text).collect();
        pair.sort();
        pairs.insert(pair.concat());
    }
    assert_eq!(pairs.into_iter().collect::<Vec<_>>(), ["ab", "ac", "bc"]);
    assert_eq!(client.say("HRANDFIELD h 9").elements().len(), 3);
    // More than is read at once: found by place.
    for n in 0..5 {
        client.ask(&["HSET", "long", &n.to_string(), &"v".repeat(1 << 20)]);
    }
    assert_eq!(client.say("HRANDFIELD long 5").elements().len(), 5);
    assert_eq!(client.say("HRANDFIELD long -7").elements().len(), 7);
    assert!(matches!(client.say("HRANDFIELD long"), Reply::Bulk(name) if name.len() == 1));
    node.stop();
}

#[test]
fn the_common_length_of_long_strings_is_told() {
    let node = Node::start(1, 2, Config::default());
    let mut client = node.client();
    client.ask(&["SET", "{l}a", &"ab".repeat(3000)]);
    client.ask(&["SET", "{l}b", &"b".repeat(5000)]);
    assert_eq!(client.say("LCS {l}a {l}b LEN").integer(), 3000);
    assert!(client.say("LCS {l}a {l}b").text().starts_with("-ERR Insufficient memory"));
    node.stop();
}
