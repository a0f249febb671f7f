//! When a partition splits, because no move helps it, and when two merge, because both are cold.
//!
//! What a plan leaves overloaded is split, ahead of the first hour that needs it, where a new partition has a capacity of its own.
//! One entity that is too much for any partition is not helped by that, and told about instead. Two neighbours merge when
//! together they stay far below what one can do, in every hour to come.
//!
//! Invariant: there are never more partitions than the policy has it, nor fewer; what has changed rests.

use crate::overload::Carried;
use crate::plan::{Fate, Kept, Plan};
use crate::schedule;
use crate::score::OVERLOAD_MIN;
use crate::snapshot::{Entity, Hold, Snapshot, State};

/// How many partitions there may be, and when they change.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Policy {
    /// Not fewer.
    pub partitions_min: usize,
    /// Not more.
    pub partitions_max: usize,
    /// Overloaded hours that a partition keeps after all moves, by which it is split.
    pub split_overload: f64,
    /// Part of a capacity that two partitions together stay below for them to merge.
    pub merge_below: f64,
}

/// What is to be done about a partition.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Growth {
    /// It is split where half of its load lies below.
    Split {
        /// Index of the partition.
        partition: usize,
        /// The first overloaded hour that no move avoids, counted from the snapshot's.
        needed: usize,
        /// Overload that is left, in overloaded hours.
        overload: f64,
    },
    /// One takes in the other.
    Merge {
        /// Index of the one that stays.
        into: usize,
        /// Index of the one that is no more.
        from: usize,
        /// Part of a capacity that both use in the busiest hour to come.
        busiest: f64,
    },
    /// Nothing can be done: one entity alone is too much for a partition.
    Alone {
        /// Index of the partition.
        partition: usize,
        /// Index of the entity.
        entity: usize,
    },
}

/// What to do after `plan`, the most urgent first. `neighbours` are pairs of partitions whose ranges lie side by side on one
/// shard, `may_change` says which partitions do not rest.
#[must_use]
pub fn growth(
    snapshot: &Snapshot,
    plan: &Plan,
    neighbours: &[(usize, usize)],
    may_change: impl Fn(usize) -> bool,
    policy: &Policy,
) -> Vec<Growth> {
    let at = placed(snapshot, plan);
    let mut found = splits(snapshot, plan, &at, policy);
    let is_split = |one: &Growth| matches!(one, Growth::Split { .. });
    let room = policy.partitions_max.saturating_sub(snapshot.partitions.len());
    let mut taken = 0;
    found.retain(|one| match one {
        Growth::Split { partition, .. } => {
            let takes = taken < room && may_change(*partition);
            taken += usize::from(takes);
            takes
        }
        Growth::Merge { .. } | Growth::Alone { .. } => true,
    });
    if !found.iter().any(is_split) && snapshot.partitions.len() > policy.partitions_min {
        let free = neighbours.iter().filter(|(a, b)| may_change(*a) && may_change(*b));
        found.extend(coldest(snapshot, &at, free, policy));
    }
    found
}

/// Where entities are when the plan is carried out.
pub(crate) fn placed(snapshot: &Snapshot, plan: &Plan) -> Vec<usize> {
    let mut at: Vec<usize> = snapshot.entities.iter().map(|entity| entity.at).collect();
    for one in &plan.moves {
        one.entities.iter().for_each(|&entity| at[entity] = one.to);
    }
    at
}

/// Partitions that stay overloaded, those first that need it first.
fn splits(snapshot: &Snapshot, plan: &Plan, at: &[usize], policy: &Policy) -> Vec<Growth> {
    let mut found: Vec<(usize, f64, Growth)> = Vec::new();
    for (partition, outlook) in plan.outlook.iter().enumerate() {
        let overload: f64 = outlook.after.iter().sum();
        let serves = snapshot.partitions[partition].state == State::Serving;
        if !serves || overload < policy.split_overload || waits(snapshot, plan, partition) {
            continue;
        }
        let needed = schedule::needed(&outlook.after);
        let here = (0..at.len()).filter(|&entity| at[entity] == partition);
        let alone = here.map(|entity| (alone(snapshot, partition, entity), entity));
        let heaviest = alone.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(own, _)| *own > overload / 2.0);
        let growth = match heaviest {
            Some((_, entity)) => Growth::Alone { partition, entity },
            None => Growth::Split { partition, needed, overload },
        };
        found.push((needed, overload, growth));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    found.into_iter().map(|one| one.2).collect()
}

/// Whether an entity there would move if it could now: the next plan sees what is left then.
fn waits(snapshot: &Snapshot, plan: &Plan, partition: usize) -> bool {
    plan.fates.iter().any(|(entity, fate)| {
        let waits = matches!(
            fate,
            Fate::Stays(Kept::Budget { .. } | Kept::Held(Hold::Moving | Hold::Resting { .. }))
        );
        waits && snapshot.entities[*entity].at == partition
    })
}

/// Overload that an entity would have in a partition of its own.
fn alone(snapshot: &Snapshot, partition: usize, entity: usize) -> f64 {
    let Entity { loads, burst, .. } = &snapshot.entities[entity];
    let mut carried = Carried::nothing(snapshot.shape);
    carried.add(loads, *burst, 1.0);
    let mut hours = vec![0.0; snapshot.shape.hours];
    carried.by_hour(&snapshot.partitions[partition], 0.0, &mut hours);
    hours.iter().sum()
}

/// The pair that is coldest together, if it is cold enough.
fn coldest<'a>(
    snapshot: &Snapshot,
    at: &[usize],
    pairs: impl Iterator<Item = &'a (usize, usize)>,
    policy: &Policy,
) -> Option<Growth> {
    let carried = Carried::by_partition(snapshot, at);
    let together = |&(into, from): &(usize, usize)| {
        let both = carried[into].clone().with(&carried[from]);
        let facts = &snapshot.partitions[into];
        let mut hours = vec![0.0; snapshot.shape.hours];
        both.by_hour(facts, 0.0, &mut hours);
        let busiest = (0..hours.len()).map(|hour| both.used(facts, hour)).fold(0.0, f64::max);
        let is_cold = busiest <= policy.merge_below && hours.iter().sum::<f64>() < OVERLOAD_MIN;
        is_cold.then_some(Growth::Merge { into, from, busiest })
    };
    let busiest = |one: &Growth| match one {
        Growth::Merge { busiest, .. } => *busiest,
        Growth::Split { .. } | Growth::Alone { .. } => f64::INFINITY,
    };
    pairs.filter_map(together).min_by(|a, b| busiest(a).total_cmp(&busiest(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loads, Paths, Shape, plan};

    const SHAPE: Shape = Shape { paths: 2, hours: 6 };
    const POLICY: Policy =
        Policy { partitions_min: 1, partitions_max: 3, split_overload: 0.1, merge_below: 0.3 };

    fn entity(at: usize, usual: f32, later: f32) -> Entity {
        let course = [usual, usual, usual, later, later, usual];
        Entity {
            id: 0,
            at,
            home: at,
            bytes: 1e6,
            loads: Loads([Paths::certain(&course, SHAPE), Paths::none(), Paths::none()]),
            burst: 0.05,
            dependencies: 0,
            hold: None,
        }
    }

    fn cluster(partitions: u32, entities: Vec<Entity>) -> Snapshot {
        Snapshot::of(SHAPE, partitions, entities)
    }

    fn what(snapshot: &Snapshot, neighbours: &[(usize, usize)], policy: &Policy) -> Vec<Growth> {
        growth(snapshot, &plan(snapshot).unwrap(), neighbours, |_| true, policy)
    }

    #[test]
    fn a_partition_that_will_have_too_much_of_many_splits_before_it_does() {
        let snapshot = cluster(1, (0..10).map(|_| entity(0, 2.0, 40.0)).collect());
        let found = what(&snapshot, &[], &POLICY);
        assert!(matches!(found[..], [Growth::Split { partition: 0, needed: 3, overload }] if overload > 1.9));
        let full = Policy { partitions_max: 1, ..POLICY };
        assert_eq!(what(&snapshot, &[], &full), [], "there may be no more");
        let rests = growth(&snapshot, &plan(&snapshot).unwrap(), &[], |_| false, &POLICY);
        assert_eq!(rests, [], "it has just changed");
    }

    #[test]
    fn what_moves_can_help_splits_nothing() {
        let snapshot = cluster(2, (0..4).map(|_| entity(0, 2.0, 40.0)).collect());
        assert_eq!(what(&snapshot, &[], &POLICY), []);
    }

    #[test]
    fn one_entity_that_is_too_much_is_told_about() {
        let snapshot = cluster(1, vec![entity(0, 2.0, 300.0), entity(0, 1.0, 1.0)]);
        assert_eq!(what(&snapshot, &[], &POLICY), [Growth::Alone { partition: 0, entity: 0 }]);
    }

    #[test]
    fn the_coldest_neighbours_merge_and_not_below_the_least_number() {
        let entities = vec![entity(0, 10.0, 12.0), entity(1, 5.0, 10.0), entity(2, 1.0, 2.0)];
        let snapshot = cluster(3, entities);
        let found = what(&snapshot, &[(0, 1), (1, 2)], &POLICY);
        assert!(matches!(found[..], [Growth::Merge { into: 1, from: 2, busiest }] if busiest < 0.13));
        assert_eq!(what(&snapshot, &[(0, 1), (1, 2)], &Policy { partitions_min: 3, ..POLICY }), []);
        let colder = Policy { merge_below: 0.1, ..POLICY };
        assert_eq!(what(&snapshot, &[(0, 1), (1, 2)], &colder), [], "an hour to come is too busy");
    }
}
