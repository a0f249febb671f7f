//! Entities that move, and partitions that split, merge and change shards, under clients that go on: what SCAN, WATCH,
//! FLUSHALL, pipelines and expiries promise holds all the same.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by its panic, and sleeps while a node goes on that has threads of its own"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Node, Reply, encode};
use foreshard_engine::ids::{PartitionId, ShardId};
use foreshard_engine::key::{self, RoutingKey};
use foreshard_engine::shard::moves::progress::Phase as MovePhase;
use foreshard_engine::shard::moves::shadow::ShadowPolicy;
use foreshard_engine::shard::reshape::progress::{Order, Phase};
use foreshard_engine::table::{Home, Image};
use foreshard_engine::{Shard, block_on};
use foreshard_net::Config;

const SHARDS: usize = 2;

fn node() -> Node {
    Node::start(SHARDS, 4, Config::default())
}

/// Runs `work` on the first shard's thread.
fn on_first<T, F>(node: &Node, work: impl FnOnce(std::rc::Rc<Shard>) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = foreshard_engine::Result<T>> + 'static,
{
    on(node, ShardId(0), work)
}

fn on<T, F>(node: &Node, shard: ShardId, work: impl FnOnce(std::rc::Rc<Shard>) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = foreshard_engine::Result<T>> + 'static,
{
    let client = node.store.as_ref().unwrap().client().unwrap();
    block_on(client.on(shard, work)).unwrap()
}

fn image(node: &Node) -> std::sync::Arc<Image> {
    on_first(node, |shard| async move { Ok(shard.image()) })
}

fn home(node: &Node, entity: &str) -> Home {
    let mut prefix = Vec::new();
    key::encode_entity(entity.as_bytes(), &mut prefix).unwrap();
    image(node).home_of(&prefix)
}

/// Moves an entity; it is done on return.
fn move_to(node: &Node, entity: &str, to: Option<PartitionId>) {
    let (from, name) = (home(node, entity).shard, entity.as_bytes().to_vec());
    let status = on(node, from, move |shard| async move {
        let id = shard.begin_move_with(&name, to, ShadowPolicy::Never).await?;
        Ok(shard.moved(id).await)
    });
    let status = status.expect("remembered");
    assert_eq!(status.phase, MovePhase::Done, "{status:?}");
}

/// To another partition, of the other shard if there is one.
fn move_away(node: &Node, entity: &str) {
    let from = home(node, entity);
    let image = image(node);
    let others = || image.homes().iter().filter(|to| to.partition != from.partition);
    let to = others().find(|to| to.shard != from.shard).or_else(|| others().next()).unwrap();
    move_to(node, entity, Some(to.partition));
}

/// Changes partitions; it is done on return.
fn reshape(node: &Node, order: Order) {
    let driver = image(node).place_of(order.partition()).unwrap().shard;
    let status = on(node, driver, move |shard| async move {
        let id = shard.begin_reshape(order).await?;
        Ok(shard.reshaped(id).await)
    });
    let status = status.expect("remembered");
    assert_eq!(status.phase, Phase::Done, "{status:?}");
}

fn hand_over(node: &Node, entity: &str) {
    let home = home(node, entity);
    reshape(node, Order::HandOver { partition: home.partition, to: ShardId(1 - home.shard.0) });
}

/// The partition that an entity is in becomes part of its neighbour.
fn merge_away(node: &Node, entity: &str) {
    let (at, image) = (home(node, entity), image(node));
    let homes = image.homes();
    let n = homes.iter().position(|home| home.partition == at.partition).unwrap();
    let into = homes[if n == 0 { 1 } else { n - 1 }].partition;
    reshape(node, Order::Merge { into, from: at.partition });
}

fn split_away(node: &Node, entity: &str) {
    let at = Some(RoutingKey::of(entity.as_bytes()));
    reshape(node, Order::Split { partition: home(node, entity).partition, at });
}

type Change = (&'static str, fn(&Node, &str));

const CHANGES: [Change; 4] =
    [("move", move_away), ("split", split_away), ("merge", merge_away), ("hand-over", hand_over)];

#[test]
fn scan_returns_every_key_that_was_there_from_before_a_change_to_after_it() {
    const KEYS: usize = 300;
    for (what, change) in CHANGES {
        let node = node();
        let mut client = node.client();
        let names: Vec<String> = (0..KEYS)
            .map(|n| if n % 3 == 0 { format!("{{moves}}:{n}") } else { format!("key:{n}") })
            .collect();
        for name in &names {
            client.ask(&["SET", name, "v"]);
        }
        // The change comes after every number of steps, so that the cursor is before it, in it and behind it.
        let mut changed = 0;
        for after in (0..30).step_by(5) {
            let (mut cursor, mut found, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
            loop {
                if steps == after {
                    if what == "merge" || what == "split" {
                        // What was cut off before is put together again, or the other way round.
                        let is_one = image(&node).homes().len() <= 2;
                        if is_one { split_away(&node, "moves") } else { merge_away(&node, "moves") }
                    } else {
                        change(&node, "moves");
                    }
                    changed += 1;
                }
                client.ask(&["SET", &format!("new:{after}:{steps}"), "v"]);
                let page = client.ask(&["SCAN", &cursor, "COUNT", "10"]);
                let page = page.elements().to_vec();
                cursor = page[0].text();
                found.extend(page[1].elements().iter().map(Reply::text));
                steps += 1;
                if cursor == "0" {
                    break;
                }
            }
            let missed: Vec<&String> = names.iter().filter(|name| !found.contains(*name)).collect();
            assert!(missed.is_empty(), "{what} after {after} of {steps} steps: SCAN missed {missed:?}");
        }
        assert_eq!(changed, 6, "{what}");
        node.stop();
    }
}

#[test]
fn a_watched_key_that_changes_its_owner_makes_exec_answer_nil_also_when_it_is_back() {
    for (what, change) in CHANGES {
        for is_there in [true, false] {
            let node = node();
            let mut client = node.client();
            if is_there {
                client.say("SET {moves}:k v");
            }
            let exec = |client: &mut Client| {
                client.say("MULTI");
                client.say("SET other done");
                client.say("EXEC")
            };
            client.say("WATCH {moves}:k");
            assert_ne!(exec(&mut client), Reply::Null, "{what}: nothing happened");
            client.say("DEL other");
            client.say("WATCH {moves}:k");
            change(&node, "moves");
            assert_eq!(exec(&mut client), Reply::Null, "{what}: another owner");
            // There and back again: whoever had it meanwhile may have set it and taken it away.
            if what == "move" || what == "hand-over" {
                client.say("WATCH {moves}:k");
                change(&node, "moves");
                if what == "move" {
                    move_to(&node, "moves", None)
                } else {
                    change(&node, "moves")
                }
                assert_eq!(exec(&mut client), Reply::Null, "{what}: there and back");
            }
            assert_eq!(client.say("EXISTS other").integer(), 0, "{what}");
            client.say("WATCH {moves}:k");
            assert_ne!(exec(&mut client), Reply::Null, "{what}: nothing happened since");
            node.stop();
        }
    }
}

#[test]
fn flushall_while_an_entity_is_on_its_way_leaves_nothing_of_it_and_takes_nothing_written_after() {
    for round in 0..6 {
        let node = node();
        let mut client = node.client();
        for n in 0..400 {
            let value = "v".repeat(300);
            client.raw(
                &[
                    encode(&["SET", &format!("{{moves}}:{n}"), &value]),
                    encode(&["SET", &format!("k:{n}"), "v"]),
                ]
                .concat(),
            );
        }
        (0..800).for_each(|_| drop(client.read().unwrap()));
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| move_away(&node, "moves"));
            std::thread::sleep(Duration::from_micros(round * 1500));
            assert_eq!(client.say("FLUSHALL"), Reply::line("+OK"));
            assert_eq!(client.say("SET {moves}:after 1"), Reply::line("+OK"));
            assert_eq!(client.say("HSET {moves}:hash f v").integer(), 1);
            moving.join().unwrap();
        });
        let left = client.say("KEYS *");
        let left: BTreeSet<String> = left.elements().iter().map(Reply::text).collect();
        let expected = ["{moves}:after", "{moves}:hash"].map(str::to_owned);
        assert_eq!(left, BTreeSet::from(expected), "round {round}");
        assert_eq!(client.say("GET {moves}:after"), Reply::bulk("1"), "round {round}");
        move_to(&node, "moves", None);
        assert_eq!(client.say("DBSIZE").integer(), 2, "round {round}: nothing is back");
        node.stop();
    }
}

/// Ends the work of others when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn hashes_that_are_made_and_dropped_while_they_move_never_show_an_old_field() {
    let node = node();
    let is_over = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (node, is_over, rounds) = (&node, &is_over, &rounds);
            scope.spawn(move || {
                let mut client = node.client();
                let key = format!("{{moves}}:hash:{n}");
                let mut round = 0_u64;
                while !is_over.load(Ordering::Relaxed) {
                    // A generation of its own each time: a number that was given out twice would show fields of another.
                    let field = format!("f{round}");
                    assert_eq!(client.ask(&["HSET", &key, &field, "v"]).integer(), 1);
                    let all = client.ask(&["HKEYS", &key]);
                    assert_eq!(all.elements(), [Reply::bulk(&field)], "round {round} of client {n}");
                    assert_eq!(client.ask(&["DEL", &key]).integer(), 1);
                    round += 1;
                }
                rounds.fetch_add(round, Ordering::Relaxed);
            });
        }
        // Also where something is wrong.
        let _over = Over(&is_over);
        for _ in 0..15 {
            move_away(&node, "moves");
            hand_over(&node, "moves");
            move_to(&node, "moves", None);
        }
    });
    assert!(rounds.into_inner() > 100);
    node.stop();
}

#[test]
fn expiries_are_kept_over_every_kind_of_change() {
    for (what, change) in CHANGES {
        let node = node();
        let mut client = node.client();
        let began = Instant::now();
        client.say("SET {moves}:long v PX 600000");
        client.say("SET {moves}:short v PX 1500");
        client.say("HSET {moves}:hash f v");
        client.say("PEXPIRE {moves}:hash 600000");
        client.say("SET {moves}:ever v");
        change(&node, "moves");
        for key in ["{moves}:long", "{moves}:hash"] {
            let left = client.ask(&["PTTL", key]).integer();
            let passed = i64::try_from(began.elapsed().as_millis()).unwrap();
            assert!((600_000 - passed - 50..=600_000).contains(&left), "{what}: {key} has {left} ms");
        }
        assert_eq!(client.say("PTTL {moves}:ever").integer(), -1, "{what}");
        std::thread::sleep(Duration::from_millis(1600).saturating_sub(began.elapsed()));
        assert_eq!(client.say("GET {moves}:short"), Reply::Null, "{what}");
        node.stop();
    }
}
