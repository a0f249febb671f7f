//! Many clients at once: what each command and each EXEC does is done whole, and nothing is lost.

mod common;

use common::{Client, Node, Reply, encode};
use foreshard_net::Config;

const CLIENTS: usize = 8;

#[expect(clippy::disallowed_methods, reason = "a client is another process in life")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(5));
}

/// One shard with several partitions, and several shards.
fn each(check: impl Fn(&Node)) {
    for (shards, partitions) in [(1, 5), (3, 7)] {
        let node = Node::start(shards, partitions, Config::default());
        check(&node);
        node.stop();
    }
}

/// Runs `work` for each of the clients at once.
fn together(node: &Node, work: impl Fn(usize, &mut Client) + Sync) {
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let work = &work;
            scope.spawn(move || work(n, &mut node.client()));
        }
    });
}

#[test]
fn increments_of_strings_and_fields_are_all_counted() {
    each(|node| {
        together(node, |_, client| {
            for round in 0..100 {
                // Pipelined: several of them are under way at once on each connection.
                let mut bytes = Vec::new();
                bytes.extend(encode(&["INCR", "counter"]));
                bytes.extend(encode(&["HINCRBY", "hash", "field", "1"]));
                bytes.extend(encode(&["HSET", "hash", &format!("f{round}"), "v"]));
                bytes.extend(encode(&["APPEND", "log", "x"]));
                client.raw(&bytes);
                (0..4).for_each(|_| drop(client.read().unwrap()));
            }
        });
        let mut client = node.client();
        let total = (CLIENTS * 100).to_string();
        assert_eq!(client.say("GET counter"), Reply::bulk(&total));
        assert_eq!(client.say("HGET hash field"), Reply::bulk(&total));
        assert_eq!(client.say("HLEN hash").integer(), 101);
        assert_eq!(client.say("HGETALL hash").elements().len(), 202);
        assert_eq!(client.say("STRLEN log").integer(), i64::try_from(CLIENTS * 100).unwrap());
    });
}

#[test]
fn transfers_over_partitions_keep_the_sum_and_nobody_sees_half_of_one() {
    const ACCOUNTS: usize = 6;
    each(|node| {
        let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("account:{n}")).collect();
        let mut first = node.client();
        for name in &names {
            first.ask(&["SET", name, "100"]);
        }
        let read: Vec<&str> = std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
        let sum = |client: &mut Client| -> i64 {
            client.ask(&read).elements().iter().map(|r| r.text().parse::<i64>().unwrap()).sum()
        };
        together(node, |n, client| {
            let mut random = fastrand::Rng::with_seed(n as u64);
            for _ in 0..40 {
                if n % 2 == 0 {
                    let (from, to) = (random.choice(&names).unwrap(), random.choice(&names).unwrap());
                    client.say("MULTI");
                    client.ask(&["DECRBY", from, "3"]);
                    client.ask(&["INCRBY", to, "3"]);
                    let done = client.say("EXEC");
                    assert_eq!(done.elements().len(), 2, "{done:?}");
                } else {
                    assert_eq!(sum(client), 600, "half of a transfer was seen");
                }
            }
        });
        assert_eq!(sum(&mut first), 600);
    });
}

#[test]
fn watched_keys_make_compare_and_set() {
    each(|node| {
        node.client().say("MSET value 0 other 0");
        together(node, |_, client| {
            let mut done = 0;
            while done < 20 {
                client.say("WATCH value");
                let next = client.say("GET value").text().parse::<i64>().unwrap() + 1;
                client.say("MULTI");
                client.say(&format!("SET value {next}"));
                client.say("INCR other");
                if client.say("EXEC") != Reply::Null {
                    done += 1;
                }
            }
        });
        let total = (CLIENTS * 20).to_string();
        let mut client = node.client();
        let both = client.say("MGET value other");
        assert_eq!(both.elements(), [Reply::bulk(&total), Reply::bulk(&total)]);
    });
}

#[test]
fn only_one_of_many_sets_a_key_that_is_not_there() {
    each(|node| {
        for round in 0..20 {
            let wins = std::sync::atomic::AtomicUsize::new(0);
            together(node, |n, client| {
                let reply = client.say(&format!("MSETNX a:{round} {n} b:{round} {n}"));
                wins.fetch_add(usize::from(reply.integer() == 1), std::sync::atomic::Ordering::Relaxed);
            });
            assert_eq!(wins.into_inner(), 1);
            let both = node.client().say(&format!("MGET a:{round} b:{round}"));
            assert_eq!(both.elements()[0], both.elements()[1]);
        }
    });
}

#[test]
fn a_hash_read_whole_is_of_one_moment() {
    each(|node| {
        // Every write changes all fields at once; there are more of them than a page holds.
        let write = |round: usize| -> Vec<String> {
            let fields = (0..400).flat_map(|n| [format!("field:{n}"), round.to_string()]);
            ["HSET".to_owned(), "whole".to_owned()].into_iter().chain(fields).collect()
        };
        node.client().ask(&write(0));
        together(node, |n, client| {
            for round in 0..15 {
                if n % 4 == 0 {
                    client.ask(&write(n * 100 + round));
                } else {
                    let values = client.say("HVALS whole");
                    assert_eq!(values.elements().len(), 400);
                    let same = values.elements().windows(2).all(|pair| pair[0] == pair[1]);
                    assert!(same, "fields of two writes in one reply");
                }
            }
        });
    });
}

#[test]
fn replies_of_a_pipeline_over_all_shards_keep_their_order() {
    each(|node| {
        together(node, |n, client| {
            let mut bytes = Vec::new();
            for round in 0..300 {
                bytes.extend(encode(&["SET", &format!("{n}:{}", round % 37), &round.to_string()]));
                bytes.extend(encode(&["GET", &format!("{n}:{}", round % 37)]));
                bytes.extend(encode(&["ECHO", &round.to_string()]));
            }
            client.raw(&bytes);
            for round in 0..300 {
                assert_eq!(client.read(), Some(Reply::line("+OK")));
                assert_eq!(client.read(), Some(Reply::bulk(&round.to_string())));
                assert_eq!(client.read(), Some(Reply::bulk(&round.to_string())));
            }
        });
    });
}

#[test]
fn a_transaction_that_reads_a_large_hash_still_loses_no_increment() {
    each(|node| {
        let fields = (0..400).flat_map(|n| [format!("field:{n}"), "v".to_owned()]);
        let write: Vec<String> = ["HSET".to_owned(), "large".to_owned()].into_iter().chain(fields).collect();
        node.client().ask(&write);
        together(node, |_, client| {
            for _ in 0..25 {
                client.raw(
                    &[&["MULTI"][..], &["HGETALL", "large"], &["INCR", "a"], &["INCR", "b"]]
                        .map(encode)
                        .concat(),
                );
                let done = client.say("EXEC");
                assert_eq!(done, Reply::line("+OK"));
                let queued: Vec<Reply> = (0..3).map(|_| client.read().unwrap()).collect();
                assert!(queued.iter().all(|reply| *reply == Reply::line("+QUEUED")));
                assert_eq!(client.read().unwrap().elements()[0].elements().len(), 800);
            }
        });
        let total = (CLIENTS * 25).to_string();
        let both = node.client().say("MGET a b");
        assert_eq!(both.elements(), [Reply::bulk(&total), Reply::bulk(&total)]);
    });
}

#[test]
fn a_large_hash_is_read_of_one_moment_by_a_transaction_that_only_reads() {
    const FIELDS: usize = 400;
    each(|node| {
        let write = |value: &str| {
            let fields = (0..FIELDS).flat_map(|n| [format!("field:{n}"), value.to_owned()]);
            ["HSET".to_owned(), "large".to_owned()].into_iter().chain(fields).collect::<Vec<String>>()
        };
        node.client().ask(&write("none"));
        together(node, |n, client| {
            for round in 0..20 {
                if n == 0 {
                    client.ask(&write(&round.to_string()));
                    // Readers are to find moments between writes.
                    pause();
                    continue;
                }
                client.raw(&[&["MULTI"][..], &["HGETALL", "large"], &["EXEC"]].map(encode).concat());
                let [begun, queued, done] = [0, 1, 2].map(|_| client.read().unwrap());
                assert_eq!((begun, queued), (Reply::line("+OK"), Reply::line("+QUEUED")));
                let pairs = done.elements()[0].elements();
                assert_eq!(pairs.len(), 2 * FIELDS);
                let values = || pairs.iter().skip(1).step_by(2);
                assert!(values().all(|value| value == &pairs[1]), "fields of two moments: {:?}", values());
            }
        });
    });
}
