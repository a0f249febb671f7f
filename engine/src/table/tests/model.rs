//! Random changes of a state against a model that keeps names in plain maps and looks through all of them.

use std::collections::BTreeMap;

use super::{any_beginning, any_repartition};
use crate::ids::{MoveId, PartitionId, TableVersion};
use crate::key::{self, RoutingKey};
use crate::table::{Change, Image, OpenMove, Refusal, State};

/// Names that changes choose from; more are looked up.
const NAMES: u8 = 60;

/// Who is where, by name.
#[derive(Clone, Default, Debug)]
struct Model {
    /// With the change that placed it.
    guests: BTreeMap<Vec<u8>, (PartitionId, TableVersion)>,
    moves: BTreeMap<MoveId, OpenMove>,
}

impl Model {
    /// What it is after a change that was made of `before`.
    fn make(&mut self, before: &State, change: &Change, version: TableVersion) {
        match change {
            Change::Partitions(change) => {
                for (entity, to) in &change.guests {
                    match to {
                        Some(to) if self.guests.get(entity).is_some_and(|guest| guest.0 == *to) => {}
                        Some(to) => drop(self.guests.insert(entity.clone(), (*to, version))),
                        None => drop(self.guests.remove(entity)),
                    }
                }
            }
            Change::BeginMove(begin) => {
                let open = OpenMove {
                    entity: begin.entity.as_slice().into(),
                    from: begin.from,
                    to: begin.to,
                    from_epoch: begin.from_epoch,
                    to_epoch: begin.to_epoch,
                };
                self.moves.insert(MoveId(version.0), open);
            }
            Change::CommitMove { id } => {
                let open = self.moves.remove(id).expect("it was open");
                let name = open.entity.to_vec();
                if home(before, &name) == open.to {
                    self.guests.remove(&name);
                } else {
                    self.guests.insert(name, (open.to, version));
                }
            }
            Change::AbortMove { id } => assert!(self.moves.remove(id).is_some(), "it was open"),
        }
    }

    fn check(&self, state: &State) {
        assert_eq!((state.check(), state.check_entities()), (Ok(()), Ok(())));
        assert_eq!(state.moves, self.moves);
        let mut in_order: Vec<_> = self.guests.iter().map(|(name, guest)| (prefix(name), *guest)).collect();
        in_order.sort();
        let found = state.guests.iter().map(|g| (g.prefix.to_vec(), (g.guest.partition, g.guest.version)));
        assert!(found.eq(in_order.iter().cloned()));
        assert_eq!(state.guests.names_bytes(), self.guests.keys().map(Vec::len).sum::<usize>());
        let image = Image::of(state.clone());
        for n in 0..=2 * NAMES {
            let name = name(n);
            let at = self.guests.get(&name).map_or_else(|| home(state, &name), |guest| guest.0);
            let home = image.home_of(&[prefix(&name), b"row".to_vec()].concat());
            assert_eq!((home.partition, state.owner(&name)), (at, at), "{}", name.escape_ascii());
            assert_eq!(home.shard, state.partitions[&at].placed.shard);
        }
        for (&id, entry) in &state.partitions {
            let there = in_order.iter().filter(|(_, guest)| guest.0 == id).map(|(prefix, _)| prefix);
            assert!(image.guests_in(id).map(|guest| guest.prefix).eq(there.clone()), "{id:?}");
            assert_eq!(state.guests.has_any(id), there.count() > 0);
            let of_home =
                in_order.iter().filter(|(prefix, _)| entry.placed.is_home_to(RoutingKey::of_key(prefix)));
            assert!(image.guests_of_home(id).map(|guest| guest.prefix).eq(of_home.map(|(prefix, _)| prefix)));
        }
    }
}

fn home(state: &State, name: &[u8]) -> PartitionId {
    state.home(RoutingKey::of(name))
}

fn name(n: u8) -> Vec<u8> {
    format!("entity{n}").into_bytes()
}

fn prefix(name: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    key::encode_entity(name, &mut prefix).unwrap();
    prefix
}

fn any_change(state: &State, random: &mut fastrand::Rng) -> Change {
    match random.u8(..10) {
        0 | 1 => any_repartition(state, random).into(),
        2..6 => {
            let mut begin = any_beginning(state, NAMES, random);
            // Now and then not as it is.
            match random.u8(..16) {
                0 => begin.entry.0 += 1,
                1 => begin.from.0 += 1,
                2 => begin.from_epoch.0 += 1,
                3 => begin.to_epoch.0 += 1,
                _ => {}
            }
            begin.into()
        }
        choice => {
            // Of those that are open, or one that was, or never was.
            let id = MoveId(random.u64(..=state.version.0));
            let id = random.choice(state.moves.keys().copied()).filter(|_| choice > 6).unwrap_or(id);
            if choice == 9 { Change::AbortMove { id } } else { Change::CommitMove { id } }
        }
    }
}

/// What a refused change was refused for, seen by itself.
fn is_rightly_refused(model: &Model, state: &State, change: &Change, refusal: &Refusal) -> bool {
    let epoch = |id| state.partitions.get(&id).map(|entry| entry.placed.epoch);
    match change {
        Change::CommitMove { id } => match (model.moves.get(id), refusal) {
            (None, Refusal::Decided { .. }) => true,
            (Some(open), Refusal::Epoch { .. }) => {
                (epoch(open.from), epoch(open.to)) != (Some(open.from_epoch), Some(open.to_epoch))
            }
            _ => false,
        },
        Change::AbortMove { id } => !model.moves.contains_key(id),
        Change::BeginMove(begin) => {
            let at = model.guests.get(&begin.entity);
            let entry = at.map_or(TableVersion(0), |guest| guest.1);
            let from = at.map_or_else(|| home(state, &begin.entity), |guest| guest.0);
            let is_moving = model.moves.values().any(|open| *open.entity == *begin.entity);
            (entry, from) != (begin.entry, begin.from)
                || is_moving
                || begin.from == begin.to
                || (epoch(begin.from), epoch(begin.to)) != (Some(begin.from_epoch), Some(begin.to_epoch))
        }
        // Of these the tests of `change` have one for each refusal.
        Change::Partitions(_) => true,
    }
}

#[test]
fn a_state_is_what_a_model_says_after_every_change() {
    let mut made = [0; 4];
    for seed in 0..12 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut state = State::first(&State::even_ranges(4), 3).unwrap();
        let (mut model, mut refused) = (Model::default(), 0);
        for _ in 0..600 {
            let change = any_change(&state, &mut random);
            match state.after(&change) {
                Ok(next) => {
                    model.make(&state, &change, next.version);
                    state = next;
                    made[match change {
                        Change::Partitions(_) => 0,
                        Change::BeginMove(_) => 1,
                        Change::CommitMove { .. } => 2,
                        Change::AbortMove { .. } => 3,
                    }] += 1;
                    model.check(&state);
                }
                Err(refusal) => {
                    refused += 1;
                    assert!(is_rightly_refused(&model, &state, &change, &refusal), "{change:?}: {refusal}");
                }
            }
        }
        let mut bytes = Vec::new();
        state.encode(5, &mut bytes);
        assert_eq!(State::decode(state.version, &bytes), Ok((state, 5)));
        assert!(refused > 50, "{refused} refusals");
    }
    assert!(made.iter().all(|count| *count > 300), "{made:?}");
}
