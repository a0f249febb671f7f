//! Which changes are made, and what the others are told.

use super::*;
use crate::ids::ShardId;

fn first(partitions: usize, shards: u16) -> State {
    State::first(&State::even_ranges(partitions), shards).unwrap()
}

fn after(state: &State, change: &Partitions) -> Result<State, Refusal> {
    state.after(&change.clone().into())
}

fn seen(state: &State, ids: &[u32]) -> Vec<(PartitionId, TableVersion)> {
    ids.iter().map(|&id| (PartitionId(id), state.version_of(PartitionId(id)))).collect()
}

/// Gives the upper half of partition 1 to a partition `id` of its own.
fn split(state: &State, id: u32) -> Partitions {
    let whole = state.partitions[&PartitionId(1)].placed;
    let at = RoutingKey(u64::midpoint(whole.start.0, whole.end.0));
    let edits = vec![
        (PartitionId(1), Some(Placed { end: at, ..whole })),
        (PartitionId(id), Some(Placed { start: at, epoch: Epoch(1), ..whole })),
    ];
    Partitions { seen: seen(state, &[1, id]), edits, ..Partitions::default() }
}

#[test]
fn of_two_changes_made_from_one_entry_the_second_is_refused_by_name() {
    let state = first(3, 2);
    let (one, other) = (split(&state, 3), split(&state, 4));
    let state = after(&state, &one).unwrap();
    assert_eq!((state.version, state.partitions.len()), (TableVersion(2), 4));
    let refusal = after(&state, &other).unwrap_err();
    let text = "the table is at version 2: partition 1 was changed by change 2, after version 1; \
        look again and plan anew";
    assert_eq!(refusal.to_string(), text);
    // Changes of other entries do not get in each other's way.
    let elsewhere = Placed { epoch: Epoch(2), ..state.partitions[&PartitionId(2)].placed };
    let edits = vec![(PartitionId(2), Some(elsewhere))];
    let apart = Partitions { seen: vec![(PartitionId(2), TableVersion(1))], edits, ..Partitions::default() };
    assert_eq!(after(&state, &apart).unwrap().version_of(PartitionId(2)), TableVersion(3));
}

#[test]
fn an_entry_that_was_only_looked_at_must_be_as_it_was_too() {
    let state = first(3, 2);
    let mut change = split(&state, 3);
    change.seen.insert(0, (PartitionId(0), TableVersion(1)));
    let other = Placed { epoch: Epoch(2), ..state.partitions[&PartitionId(0)].placed };
    let edits = vec![(PartitionId(0), Some(other))];
    let raised = Partitions { seen: seen(&state, &[0]), edits, ..Partitions::default() };
    let state = after(&state, &raised).unwrap();
    let Err(Refusal::Stale { moved, .. }) = after(&state, &change) else { panic!("made") };
    let (partition, seen, found) = (PartitionId(0), TableVersion(1), TableVersion(2));
    assert_eq!(moved, [Moved { partition, seen, found }]);
}

#[test]
fn what_no_table_may_say_is_refused() {
    let state = after(&first(3, 2), &split(&first(3, 2), 3)).unwrap();
    let placed = |id: u32| state.partitions[&PartitionId(id)].placed;
    let one = |id: u32, placed: Option<Placed>| Partitions {
        seen: seen(&state, &[id]),
        edits: vec![(PartitionId(id), placed)],
        ..Partitions::default()
    };
    let raised = after(&state, &one(0, Some(Placed { epoch: Epoch(3), ..placed(0) }))).unwrap();
    let empty = Placed { end: placed(0).start, ..placed(0) };
    let merged = {
        let edits =
            vec![(PartitionId(1), Some(Placed { end: placed(3).end, ..placed(1) })), (PartitionId(3), None)];
        after(&state, &Partitions { seen: seen(&state, &[1, 3]), edits, ..Partitions::default() }).unwrap()
    };
    for (state, change, why) in [
        (&state, one(2, None), "ranges that overlap or leave keys out"),
        (&state, one(0, Some(placed(1))), "ranges that overlap or leave keys out"),
        (
            &state,
            one(0, Some(Placed { shard: ShardId(2), ..placed(0) })),
            "partition on a shard that there is not",
        ),
        (&state, one(0, Some(Placed { epoch: Epoch(0), ..placed(0) })), "epoch that falls"),
        (&raised, Partitions { seen: seen(&raised, &[0]), ..one(0, Some(placed(0))) }, "epoch that falls"),
        (&state, one(u32::MAX, Some(empty)), "partition number"),
        (
            &merged,
            Partitions { seen: seen(&merged, &[3]), ..one(3, Some(empty)) },
            "partition number that was given out before",
        ),
        (&state, one(9, None), "removal of a partition that is not there"),
        (&state, Partitions { seen: Vec::new(), ..one(0, Some(placed(0))) }, "edit of an entry not seen"),
        (&state, Partitions::default(), "change of nothing"),
        (
            &state,
            Partitions { shards: Some(1), ..Partitions::default() },
            "partition on a shard that there is not",
        ),
        (&state, Partitions { shards: Some(0), ..Partitions::default() }, "shard count"),
    ] {
        assert_eq!(after(state, &change), Err(Refusal::Impossible(why)), "{change:?}");
    }
    // A partition without a range is one that only has guests.
    assert!(after(&state, &one(9, Some(empty))).is_ok());
}

#[test]
fn partitions_are_dealt_out_in_turn_by_range() {
    let state = first(5, 1);
    let state = after(&state, &split(&state, 5)).unwrap();
    let state = after(&state, &state.dealt_to(3)).unwrap();
    let shards: Vec<u16> = state.partitions.values().map(|entry| entry.placed.shard.0).collect();
    assert_eq!((state.shards, shards), (3, vec![0, 1, 0, 1, 2, 2]), "5 lies between 1 and 2");
}

/// An entity that is at home in `partition`.
fn at_home_in(state: &State, partition: u32) -> Vec<u8> {
    let mut names = (0..1000).map(|n| format!("entity{n}").into_bytes());
    names.find(|name| state.owner(name) == PartitionId(partition)).unwrap()
}

fn begin(state: &State, entity: &[u8], to: u32) -> BeginMove {
    let (from, to) = (state.owner(entity), PartitionId(to));
    let epoch = |id| state.partitions.get(&id).map_or(Epoch(1), |entry| entry.placed.epoch);
    BeginMove {
        entity: entity.to_vec(),
        entry: state.entry_of(entity),
        from,
        to,
        from_epoch: epoch(from),
        to_epoch: epoch(to),
    }
}

/// With a move of `entity` to `to` begun, and its number.
fn begun(state: &State, entity: &[u8], to: u32) -> (State, MoveId) {
    let state = state.after(&begin(state, entity, to).into()).unwrap();
    let id = MoveId(state.version.0);
    (state, id)
}

fn moved(state: &State, entity: &[u8], to: u32) -> State {
    let (state, id) = begun(state, entity, to);
    state.after(&Change::CommitMove { id }).unwrap()
}

/// Raises a partition's epoch.
fn raise(state: &State, id: u32) -> Partitions {
    let placed = state.partitions[&PartitionId(id)].placed;
    let raised = Placed { epoch: placed.epoch.next(), ..placed };
    let edits = vec![(PartitionId(id), Some(raised))];
    Partitions { seen: seen(state, &[id]), edits, ..Partitions::default() }
}

#[test]
fn a_move_changes_nothing_until_it_commits_and_one_home_leaves_no_entry() {
    let state = first(3, 2);
    let entity = at_home_in(&state, 0);
    let (open, id) = begun(&state, &entity, 2);
    assert_eq!((open.owner(&entity), open.entry_of(&entity)), (PartitionId(0), TableVersion(0)));
    assert_eq!((id, open.move_of(&entity).unwrap().0), (MoveId(2), id));
    let there = open.after(&Change::CommitMove { id }).unwrap();
    assert_eq!((there.owner(&entity), there.entry_of(&entity)), (PartitionId(2), TableVersion(3)));
    assert_eq!((there.guests.len(), there.moves.len()), (1, 0));
    let back = moved(&moved(&there, &entity, 1), &entity, 0);
    assert_eq!((back.owner(&entity), back.entry_of(&entity)), (PartitionId(0), TableVersion(0)));
    assert!(back.guests.is_empty() && !back.guests.has_any(PartitionId(1)));
    let never = open.after(&Change::AbortMove { id }).unwrap();
    assert_eq!((never.owner(&entity), never.moves.len()), (PartitionId(0), 0));
}

#[test]
fn of_commit_and_abort_the_first_decides() {
    let state = first(3, 2);
    let entity = at_home_in(&state, 0);
    let (open, id) = begun(&state, &entity, 2);
    let decisions = [Change::CommitMove { id }, Change::AbortMove { id }];
    for one in &decisions {
        let decided = open.after(one).unwrap();
        for other in &decisions {
            let refusal = decided.after(other).unwrap_err();
            assert_eq!(refusal, Refusal::Decided { version: TableVersion(3), id });
        }
    }
}

#[test]
fn a_move_commits_in_the_epochs_only_in_which_it_began() {
    let state = first(3, 2);
    let entity = at_home_in(&state, 0);
    let (open, id) = begun(&state, &entity, 2);
    for partition in [0, 2] {
        let raised = after(&open, &raise(&open, partition)).unwrap();
        let refusal = raised.after(&Change::CommitMove { id }).unwrap_err();
        let (partition, version) = (PartitionId(partition), TableVersion(3));
        assert_eq!(refusal, Refusal::Epoch { version, partition, seen: Epoch(1), found: Some(Epoch(2)) });
        assert!(raised.after(&Change::AbortMove { id }).is_ok());
    }
    let elsewhere = after(&open, &raise(&open, 1)).unwrap();
    assert!(elsewhere.after(&Change::CommitMove { id }).is_ok());
}

#[test]
fn a_move_begins_only_from_what_is_so() {
    let state = first(3, 2);
    let entity = at_home_in(&state, 0);
    let guest = moved(&state, &entity, 1);
    let (version, partition, entry) = (guest.version, PartitionId(1), TableVersion(3));
    let elsewhere = Refusal::Elsewhere { version, entity: entity.clone(), partition, entry };
    let text = format!(
        "the table is at version 3: entity \"{}\" is in partition 1, placed there by change 3; look again and plan anew",
        entity.escape_ascii()
    );
    assert_eq!(elsewhere.to_string(), text);
    let right = begin(&guest, &entity, 2);
    let no_partition = Refusal::Epoch { version, partition: PartitionId(9), seen: Epoch(1), found: None };
    let other_epoch =
        |partition| Refusal::Epoch { version, partition, seen: Epoch(9), found: Some(Epoch(1)) };
    for (begin, why) in [
        (BeginMove { entry: TableVersion(0), ..right.clone() }, elsewhere.clone()),
        (BeginMove { from: PartitionId(0), ..right.clone() }, elsewhere),
        (BeginMove { from_epoch: Epoch(9), ..right.clone() }, other_epoch(PartitionId(1))),
        (BeginMove { to_epoch: Epoch(9), ..right.clone() }, other_epoch(PartitionId(2))),
        (BeginMove { to: PartitionId(9), ..right.clone() }, no_partition),
        (
            BeginMove { to: PartitionId(1), ..right.clone() },
            Refusal::Impossible("move to where the entity is"),
        ),
        (BeginMove { entity: Vec::new(), ..right.clone() }, BAD_NAME),
        (BeginMove { entity: vec![1; ENTITY_BYTES_MAX + 1], ..right }, BAD_NAME),
    ] {
        assert_eq!(guest.after(&begin.clone().into()), Err(why), "{begin:?}");
    }
    let (open, id) = begun(&guest, &entity, 2);
    let under_way = Refusal::UnderWay { version: open.version, id, entity: entity.clone() };
    assert_eq!(open.after(&begin(&open, &entity, 2).into()), Err(under_way));
}

#[test]
fn what_a_move_relies_on_is_not_changed_under_it() {
    let state = first(3, 2);
    let entity = at_home_in(&state, 0);
    let (open, id) = begun(&state, &entity, 1);
    let under_way = Refusal::UnderWay { version: open.version, id, entity: entity.clone() };
    assert_eq!(after(&open, &split(&open, 3)), Err(under_way.clone()), "the target splits");
    let mut handed = raise(&open, 1);
    handed.edits[0].1.as_mut().unwrap().shard = ShardId(0);
    assert!(after(&open, &handed).is_ok(), "a partition that goes to another shard in a new epoch");
    handed.edits[0].1.as_mut().unwrap().epoch = Epoch(1);
    assert_eq!(after(&open, &handed), Err(under_way.clone()), "in the same epoch");
    let mut pulled = raise(&open, 0);
    pulled.seen = seen(&open, &[0, 2]);
    pulled.edits.push((PartitionId(2), Some(open.partitions[&PartitionId(2)].placed)));
    pulled.guests = vec![(entity, Some(PartitionId(2)))];
    assert_eq!(after(&open, &pulled), Err(under_way), "its entity is placed");
}

#[test]
fn a_split_names_where_every_guest_is_to_be() {
    let state = first(3, 2);
    let (stays, goes) = (at_home_in(&state, 0), at_home_in(&state, 2));
    let state = moved(&moved(&state, &stays, 1), &goes, 1);
    let whole = split(&state, 3);
    let unnamed = |entity: &[u8]| {
        let (version, partition) = (state.version, PartitionId(1));
        Err(Refusal::Unnamed { version, partition, entity: entity.to_vec() })
    };
    assert_eq!(after(&state, &whole), unnamed(&stays), "in home order");
    let named = |guests: &[(&[u8], Option<u32>)]| {
        let mut guests: Vec<_> =
            guests.iter().map(|(entity, to)| (entity.to_vec(), to.map(PartitionId))).collect();
        guests.sort();
        Partitions { guests, ..whole.clone() }
    };
    assert_eq!(after(&state, &named(&[(&stays, Some(1))])), unnamed(&goes));
    let split = after(&state, &named(&[(&stays, Some(1)), (&goes, Some(3))])).unwrap();
    assert_eq!((split.owner(&stays), split.entry_of(&stays)), (PartitionId(1), TableVersion(3)), "as it was");
    assert_eq!((split.owner(&goes), split.entry_of(&goes)), (PartitionId(3), split.version));
    for (guests, why) in [
        (named(&[(&stays, Some(1)), (&goes, Some(2))]), "guest of a partition that is not edited"),
        (named(&[(&stays, None), (&goes, Some(3))]), "home that is not edited"),
    ] {
        assert_eq!(after(&state, &guests), Err(Refusal::Impossible(why)));
    }
    let away = moved(&state, &goes, 0);
    let refusal = after(&away, &named(&[(&stays, Some(1)), (&goes, Some(3))])).unwrap_err();
    assert_eq!(refusal, away.elsewhere(&goes), "it moved after the split was planned");
}

#[test]
fn a_range_that_comes_to_cover_a_guest_is_its_home_and_the_change_says_so() {
    let state = first(3, 2);
    let entity = at_home_in(&state, 1);
    let state = moved(&state, &entity, 0);
    let placed = |id: u32| state.partitions[&PartitionId(id)].placed;
    let merged = Placed { end: placed(1).end, ..placed(0) };
    let edits = vec![(PartitionId(0), Some(merged)), (PartitionId(1), None)];
    let merge = Partitions { seen: seen(&state, &[0, 1]), edits, ..Partitions::default() };
    let unnamed =
        Refusal::Unnamed { version: state.version, partition: PartitionId(0), entity: entity.clone() };
    assert_eq!(after(&state, &merge), Err(unnamed));
    let away = Partitions { guests: vec![(entity.clone(), Some(PartitionId(0)))], ..merge.clone() };
    assert_eq!(after(&state, &away), Err(Refusal::Impossible("guest that is at home")));
    let home = Partitions { guests: vec![(entity.clone(), None)], ..merge };
    let merged = after(&state, &home).unwrap();
    assert_eq!((merged.owner(&entity), merged.guests.len()), (PartitionId(0), 0));
    assert_eq!(merged.check_entities(), Ok(()));
}

#[test]
fn an_entity_gets_a_partition_of_its_own() {
    let state = first(3, 2);
    let entity = at_home_in(&state, 1);
    let whole = state.partitions[&PartitionId(1)].placed;
    let own = Placed { end: whole.start, epoch: Epoch(1), ..whole };
    let edits = vec![(PartitionId(1), Some(whole)), (PartitionId(3), Some(own))];
    let guests = vec![(entity.clone(), Some(PartitionId(3)))];
    let change = Partitions { seen: seen(&state, &[1, 3]), edits, guests, shards: None };
    let state = after(&state, &change).unwrap();
    assert_eq!((state.owner(&entity), state.home(RoutingKey::of(&entity))), (PartitionId(3), PartitionId(1)));
    assert_eq!(state.check_entities(), Ok(()));
}

#[test]
fn a_split_and_a_merge_name_whom_they_have_to() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut state = first(4, 2);
    for n in 0..200 {
        let entity = format!("entity{n}").into_bytes();
        let to = random.u32(..4);
        if state.owner(&entity) != PartitionId(to) {
            state = moved(&state, &entity, to);
        }
    }
    let (mut splits, mut merges) = (0, 0);
    for _ in 0..300 {
        let ids: Vec<PartitionId> = state.partitions.keys().copied().collect();
        let [one, other] = [ids[random.usize(..ids.len())], ids[random.usize(..ids.len())]];
        let placed = state.partitions[&one].placed;
        let change = if ids.len() < 12 && random.bool() {
            let at = RoutingKey(random.u64(placed.start.0..placed.end.0.max(placed.start.0 + 1)));
            let goes = |guest: GuestRef<'_>| guest.prefix.len().is_multiple_of(2);
            Partitions::split(&state, one, at, ShardId(0), goes).inspect(|_| splits += 1)
        } else {
            Partitions::merge(&state, one, other).inspect(|_| merges += 1)
        };
        let Some(change) = change else { continue };
        state = after(&state, &change).unwrap();
        assert_eq!(state.check_entities(), Ok(()));
    }
    assert!(splits > 20 && merges > 20, "{splits} splits, {merges} merges");
    let state = first(3, 2);
    let (whole, id) = (state.partitions[&PartitionId(1)].placed, PartitionId);
    for at in [whole.start, whole.end] {
        assert_eq!(Partitions::split(&state, id(1), at, ShardId(0), |_| true), None);
    }
    for (into, from) in [(1, 1), (0, 2), (2, 0), (1, 9), (9, 1)] {
        assert_eq!(Partitions::merge(&state, id(into), id(from)), None, "{into} {from}");
    }
}
