//! Moves that are taken back, and entities that are held, by a planner on a store of its own.
#![expect(clippy::disallowed_methods, reason = "a test in real time, with files of its own")]

use std::time::{Duration, Instant};

use foreshard_engine::ids::PartitionId;
use foreshard_engine::{Options, Store, block_on};
use foreshard_placement::history::Counted;
use foreshard_placement::ledger::{Ended, Entry, Why};

use super::made::Basis;
use super::memory::Held;
use super::mind::{Mind, entity_of};
use super::settings::PlannerSettings;

const NAME: &[u8] = b"shop:1";

/// A planner of two partitions that has moved an entity to the one where it is not at home.
fn moved(store: &Store) -> (Mind, u64, PartitionId) {
    let client = store.client().unwrap();
    block_on(client.put(NAME, b"row", b"value")).unwrap();
    let settings = PlannerSettings { capacity: 100.0, reactive: false, ..PlannerSettings::default() };
    let mut mind = Mind::new(client, settings).unwrap();
    let load = Counted { reads: 5.0, writes: 1.0, ..Counted::default() };
    let hour = mind.history.hour();
    let known = (hour - 14 * 24..hour).map(|hour| (NAME, entity_of(NAME), hour, load));
    assert_eq!(mind.history.import(known), 0);
    mind.forecast();
    mind.tick().unwrap();
    let home = mind.partition_of(entity_of(NAME)).unwrap();
    let away = PartitionId(1 - home.0);
    let begun = mind.client.on(foreshard_engine::ids::ShardId(0), move |shard| async move {
        let id = shard.begin_move(NAME, Some(away)).await?;
        Ok(id)
    });
    let id = block_on(begun).unwrap().0;
    let (entity, name) = (entity_of(NAME), NAME.to_vec());
    let (began, why) = (mind.hours.now(), Why::Reactive);
    let (from, to) = (home.0, away.0);
    mind.ledger.begin(Entry {
        id,
        entity,
        name,
        from,
        to,
        why,
        began,
        ended: None,
        judged: None,
        worse: None,
    });
    until(&mut mind, |mind| mind.ledger.open().count() == 0);
    assert_eq!(mind.partition_of(entity), Some(away));
    // It has moved in this hour: it does not go home by itself.
    mind.moved.insert(entity, mind.history.hour());
    mind.made = Some(mind.plan(Basis::Foretold).unwrap());
    (mind, id, home)
}

/// Turns pass until it is so.
fn until(mind: &mut Mind, is_so: impl Fn(&Mind) -> bool) {
    let begin = Instant::now();
    while !is_so(mind) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", mind.ledger.moves().collect::<Vec<_>>());
        mind.tick().unwrap();
        mind.act().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn store(dir: &tempfile::TempDir) -> Store {
    Store::open(dir.path(), Options { shards: 2, partitions: 2, ..Options::default() }).unwrap()
}

#[test]
fn an_entity_that_fares_worse_goes_back_once_and_rests() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let (mut mind, id, home) = moved(&store);
    let entity = entity_of(NAME);
    // Nothing was seen yet.
    mind.act().unwrap();
    assert_eq!(mind.ledger.moves().count(), 1);
    assert!(mind.ledger.worsened(id, "p99 9 ms, before 1 ms"));
    until(&mut mind, |mind| mind.ledger.moves().count() == 2 && mind.ledger.open().count() == 0);
    let back = mind.ledger.moves().last().unwrap().clone();
    assert_eq!((back.why, back.to), (Why::Back { of: id }, home.0));
    assert_eq!(mind.partition_of(entity), Some(home));
    let rests = mind.rests_until(entity).unwrap();
    assert_eq!(rests, mind.history.hour() + mind.settings.back_rest_hours);
    // It fares no better at home: it stays there all the same.
    mind.ledger.worsened(back.id, "p99 9 ms, before 1 ms");
    for _ in 0..20 {
        mind.tick().unwrap();
        mind.act().unwrap();
    }
    assert_eq!(mind.ledger.moves().count(), 2);
    drop(mind);
    store.close().unwrap();
}

#[test]
fn who_is_held_or_paused_or_finds_no_room_is_not_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let (mut mind, id, _) = moved(&store);
    mind.ledger.worsened(id, "p99 9 ms, before 1 ms");
    let stays = |mind: &mut Mind| {
        for _ in 0..5 {
            mind.tick().unwrap();
            mind.act().unwrap();
        }
        mind.ledger.moves().count() == 1
    };
    mind.memory.hold("shop:1", Some(Held::Pinned)).unwrap();
    assert!(stays(&mut mind), "it is pinned");
    mind.memory.hold("shop:1", None).unwrap();
    mind.memory.paused = true;
    assert!(stays(&mut mind), "it is paused");
    mind.memory.paused = false;
    let room = |mind: &mut Mind, capacity: f64| {
        let made = mind.made.as_mut().unwrap();
        made.snapshot.partitions.iter_mut().for_each(|one| one.capacity[0] = capacity);
        // Of an entity that is not forecast nobody knows how much it needs.
        assert!(!made.placed.is_empty(), "it is");
    };
    room(&mut mind, -1.0);
    assert!(stays(&mut mind), "no room");
    room(&mut mind, 100.0);
    until(&mut mind, |mind| mind.ledger.moves().count() == 2);
    // A move under way keeps a store from closing in order.
    until(&mut mind, |mind| mind.ledger.open().count() == 0);
    assert_eq!(
        mind.ledger.moves().filter(|entry| entry.ended.as_ref().is_some_and(Ended::is_done)).count(),
        2
    );
    drop(mind);
    store.close().unwrap();
}

#[test]
fn who_is_pinned_after_the_plan_was_made_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let (mut mind, _, home) = moved(&store);
    let entity = entity_of(NAME);
    mind.moved.remove(&entity);
    let made = mind.made.as_mut().unwrap();
    let index = made.placed.iter().position(|placed| placed.entity == entity).unwrap();
    made.homeward = vec![index];
    mind.memory.hold("shop:1", Some(Held::Pinned)).unwrap();
    for _ in 0..5 {
        mind.tick().unwrap();
        mind.act().unwrap();
    }
    assert_eq!(mind.ledger.moves().count(), 1, "it is pinned");
    mind.memory.hold("shop:1", None).unwrap();
    until(&mut mind, |mind| mind.ledger.moves().count() == 2 && mind.ledger.open().count() == 0);
    assert_eq!(mind.partition_of(entity), Some(home), "as was planned");
    drop(mind);
    store.close().unwrap();
}
