//! Who joins those it is named together with: a transaction within a partition is cheaper than one over two.
//!
//! An entity's tie to a partition is the sum of its shares with whoever is there. It goes where its tie is clearly stronger than
//! where it is, if there is room for it in every hour ahead, and if copying hurts neither end now. Of two that would join each
//! other the one goes that has fewer dependencies, then the one with fewer bytes.
//!
//! Invariants: each joining makes the ties within partitions stronger, so that nobody goes round in circles; together with
//! the plan's moves they are within its budget.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::growth::placed;
use crate::overload::Carried;
use crate::plan::Plan;
use crate::score::OVERLOAD_MIN;
use crate::snapshot::{Entity, Snapshot, State};

/// A tie that is not stronger by it is not worth a move.
const GAIN_MIN: f64 = 0.3;
/// Part of a partition's capacity that is to be left in its busiest hour: who gathers makes no trouble.
const ROOM: f64 = 0.25;

/// An entity that joins others.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Joining {
    /// Index of the entity.
    pub entity: usize,
    /// Index of the partition that it goes to.
    pub to: usize,
    /// By how much its tie is stronger there, in shares of its commands.
    pub gain: f64,
}

/// Who joins whom when the plan is carried out, the strongest first.
#[must_use]
pub fn gather(snapshot: &Snapshot, plan: &Plan) -> Vec<Joining> {
    let mut at = placed(snapshot, plan);
    let mut carried = Carried::by_partition(snapshot, &at);
    let mut is_free: Vec<bool> = snapshot.entities.iter().map(|entity| entity.hold.is_none()).collect();
    plan.moves.iter().flat_map(|one| &one.entities).for_each(|&entity| is_free[entity] = false);
    let mut bytes: f64 = plan.moves.iter().map(|one| one.bytes).sum();
    let mut found: Vec<Joining> = Vec::new();
    let mut ties = Ties::new(snapshot, &at);
    while plan.moves.len() + found.len() < snapshot.settings.moves_max {
        let fits = |one: &Joining| {
            let entity = &snapshot.entities[one.entity];
            bytes + entity.bytes <= snapshot.settings.bytes_max
                && has_room(snapshot, &carried[one.to], one)
                && copies_unnoticed(snapshot, &carried, [at[one.entity], one.to])
        };
        let Some(joining) = candidates(snapshot, &ties, &at, &is_free).into_iter().find(fits) else { break };
        let entity = &snapshot.entities[joining.entity];
        carried[at[joining.entity]].add(&entity.loads, entity.burst, -1.0);
        carried[joining.to].add(&entity.loads, entity.burst, 1.0);
        ties.moved(joining.entity, at[joining.entity], joining.to);
        at[joining.entity] = joining.to;
        is_free[joining.entity] = false;
        bytes += entity.bytes;
        found.push(joining);
    }
    found
}

/// Of each entity, whether it is tied to where it is more than to its home.
#[must_use]
pub fn among_their_own(snapshot: &Snapshot) -> Vec<bool> {
    let at: Vec<usize> = snapshot.entities.iter().map(|entity| entity.at).collect();
    let ties = Ties::new(snapshot, &at);
    let is_tied = |(index, entity): (usize, &Entity)| {
        ties.tie(index, entity.at) >= ties.tie(index, entity.home) + GAIN_MIN
    };
    snapshot.entities.iter().enumerate().map(is_tied).collect()
}

/// Who would join others, the strongest gain first.
fn candidates(snapshot: &Snapshot, ties: &Ties, at: &[usize], is_free: &[bool]) -> Vec<Joining> {
    let takes = |partition: usize| {
        let facts = &snapshot.partitions[partition];
        facts.state == State::Serving && facts.penalty < 1.0
    };
    let mut all: Vec<Joining> = Vec::new();
    for entity in (0..at.len()).filter(|entity| is_free[*entity]) {
        let here = ties.tie(entity, at[entity]);
        let others = ties.of(entity).filter(|(partition, _)| *partition != at[entity] && takes(*partition));
        if let Some((to, tie)) =
            others.max_by(|x, y| x.1.total_cmp(&y.1).then(Reverse(x.0).cmp(&Reverse(y.0))))
            && tie - here >= GAIN_MIN
        {
            all.push(Joining { entity, to, gain: tie - here });
        }
    }
    all.sort_by(|x, y| {
        let [a, b] = [x, y].map(|one| &snapshot.entities[one.entity]);
        let heavier = a.dependencies.cmp(&b.dependencies).then(a.bytes.total_cmp(&b.bytes));
        y.gain.total_cmp(&x.gain).then(heavier).then(x.entity.cmp(&y.entity))
    });
    all
}

/// How strongly entities are tied to partitions.
struct Ties {
    /// Of each entity, those that it is named together with, and its shares with them.
    others: Vec<Vec<(usize, f64)>>,
    /// Of each entity, its tie to each partition that has, or had, one of those.
    partitions: Vec<BTreeMap<usize, f64>>,
}

impl Ties {
    fn new(snapshot: &Snapshot, at: &[usize]) -> Self {
        let mut ties =
            Self { others: vec![Vec::new(); at.len()], partitions: vec![BTreeMap::new(); at.len()] };
        for pair in &snapshot.co_access {
            for (one, other) in [(pair.a, pair.b), (pair.b, pair.a)] {
                ties.others[one].push((other, pair.share));
                *ties.partitions[one].entry(at[other]).or_insert(0.0) += pair.share;
            }
        }
        ties
    }

    fn of(&self, entity: usize) -> impl Iterator<Item = (usize, f64)> {
        self.partitions[entity].iter().map(|(partition, tie)| (*partition, *tie))
    }

    fn tie(&self, entity: usize, partition: usize) -> f64 {
        self.partitions[entity].get(&partition).copied().unwrap_or(0.0)
    }

    /// An entity is somewhere else now.
    fn moved(&mut self, entity: usize, from: usize, to: usize) {
        for (other, share) in &self.others[entity] {
            let ties = &mut self.partitions[*other];
            *ties.entry(from).or_insert(0.0) -= share;
            *ties.entry(to).or_insert(0.0) += share;
        }
    }
}

fn has_room(snapshot: &Snapshot, carried: &Carried, joining: &Joining) -> bool {
    let (entity, target) = (&snapshot.entities[joining.entity], &snapshot.partitions[joining.to]);
    let mut with = carried.clone();
    with.add(&entity.loads, entity.burst, 1.0);
    (0..snapshot.shape.hours).all(|hour| with.used(target, hour) <= 1.0 - ROOM)
}

/// Whether copying now overloads neither end.
fn copies_unnoticed(snapshot: &Snapshot, carried: &[Carried], ends: [usize; 2]) -> bool {
    let mut by_hour = vec![0.0; snapshot.shape.hours];
    ends.into_iter().all(|end| {
        carried[end].by_hour(&snapshot.partitions[end], snapshot.settings.copy_share, &mut by_hour);
        by_hour.first().is_none_or(|overload| *overload < OVERLOAD_MIN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CoAccess, Hold, Loads, Paths, Shape, plan};

    const SHAPE: Shape = Shape { paths: 2, hours: 6 };

    fn entity(at: usize, load: f32) -> Entity {
        Entity {
            id: 0,
            at,
            home: at,
            bytes: 1e6,
            loads: Loads([Paths::certain(&[load; 6], SHAPE), Paths::none(), Paths::none()]),
            burst: 0.05,
            dependencies: 1,
            hold: None,
        }
    }

    fn pair(a: usize, b: usize, share: f64) -> CoAccess {
        CoAccess { a, b, share }
    }

    fn joinings(snapshot: &Snapshot) -> Vec<Joining> {
        gather(snapshot, &plan(snapshot).unwrap())
    }

    #[test]
    fn one_of_two_joins_the_other_and_stays() {
        let mut snapshot = Snapshot::of(SHAPE, 2, vec![entity(0, 5.0), entity(1, 5.0)]);
        snapshot.co_access = vec![pair(0, 1, 0.8)];
        snapshot.entities[1].bytes = 5e5;
        assert_eq!(joinings(&snapshot), [Joining { entity: 1, to: 0, gain: 0.8 }], "the smaller one goes");
        snapshot.entities[1].at = 0;
        assert_eq!(joinings(&snapshot), []);
        assert_eq!(among_their_own(&snapshot), [false, true]);
        snapshot.co_access[0].share = 0.2;
        assert_eq!(among_their_own(&snapshot), [false, false]);
    }

    #[test]
    fn ties_are_the_same_after_a_joining_as_looked_up_anew() {
        let snapshot = planted(6, 4);
        let mut at: Vec<usize> = snapshot.entities.iter().map(|entity| entity.at).collect();
        let mut ties = Ties::new(&snapshot, &at);
        for (entity, to) in [(0, 3), (5, 1), (0, 2), (23, 0)] {
            ties.moved(entity, at[entity], to);
            at[entity] = to;
            let anew = Ties::new(&snapshot, &at);
            for one in 0..at.len() {
                for partition in 0..4 {
                    let (known, found) = (ties.tie(one, partition), anew.tie(one, partition));
                    assert!((known - found).abs() < 1e-12, "{one} to {partition}: {known} {found}");
                }
            }
        }
    }

    #[test]
    fn nobody_joins_without_room_or_against_a_hold() {
        let full = |load| {
            let mut snapshot = Snapshot::of(SHAPE, 2, vec![entity(0, load), entity(1, 40.0)]);
            snapshot.co_access = vec![pair(0, 1, 0.9)];
            snapshot
        };
        assert_eq!(joinings(&full(30.0)).len(), 1);
        assert_eq!(joinings(&full(40.0)), [], "together they leave no room");
        let mut held = full(30.0);
        held.entities.iter_mut().for_each(|entity| entity.hold = Some(Hold::Pinned));
        assert_eq!(joinings(&held), []);
        let mut marked = full(30.0);
        marked.partitions.iter_mut().for_each(|partition| partition.penalty = 1.0);
        assert_eq!(joinings(&marked), []);
    }

    /// Groups of four, dealt out over all partitions; each member names every other.
    fn planted(groups: usize, partitions: u32) -> Snapshot {
        let all = 4 * groups;
        let count = usize::try_from(partitions).unwrap();
        let entities = (0..all).map(|index| entity((index * 7 + index / 4) % count, 1.0)).collect();
        let mut snapshot = Snapshot::of(SHAPE, partitions, entities);
        for first in (0..all).step_by(4) {
            for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
                snapshot.co_access.push(pair(first + a, first + b, 0.5));
            }
        }
        snapshot
    }

    #[test]
    fn of_planted_groups_the_transactions_over_partitions_halve_and_more() {
        let mut snapshot = planted(24, 8);
        let over = |snapshot: &Snapshot| {
            let at = |index: usize| snapshot.entities[index].at;
            snapshot
                .co_access
                .iter()
                .filter(|pair| at(pair.a) != at(pair.b))
                .map(|pair| pair.share)
                .sum::<f64>()
        };
        let before = over(&snapshot);
        let mut last = before;
        for _ in 0..16 {
            for one in joinings(&snapshot) {
                snapshot.entities[one.entity].at = one.to;
            }
            assert!(over(&snapshot) <= last, "never more than before");
            last = over(&snapshot);
        }
        assert!(before > 60.0 && last <= before / 2.0, "{before} {last}");
        assert_eq!(joinings(&snapshot), [], "and then everyone stays");
    }
}
