//! The cluster as it is, with what is forecast of it: a [`Snapshot`], and what that says of each partition by the hour.

use std::collections::BTreeMap;

use foreshard_forecast::store::EntityId;

use crate::forecasts::{Forecasts, Subject};
use crate::gather;
use crate::history::History;
use crate::paths::Paths;
use crate::snapshot::{CoAccess, Entity, Hold, Loads, Partition, Settings, Snapshot};

/// Pairs that share less of their requests are neighbours by chance.
const SHARE_MIN: f64 = 0.05;
/// A guest goes home when its home has room for it in every hour ahead, and this part of its capacity besides.
const HOME_ROOM: f64 = 0.35;

/// An entity, to be placed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Placed {
    /// Which.
    pub entity: EntityId,
    /// The partition that it is in, an index.
    pub at: usize,
    /// And that it is at home in.
    pub home: usize,
    /// Bytes to be copied.
    pub bytes: f64,
    /// Spread of its load within an hour, as a part of its mean.
    pub burst: f64,
    /// Why it stays, if so.
    pub hold: Option<Hold>,
}

/// What may come of a partition in an hour, requests a second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Band {
    /// One in ten is less.
    pub q10: f64,
    /// Half is less.
    pub q50: f64,
    /// One in ten is more.
    pub q90: f64,
    /// How likely it is more than the capacity.
    pub over: f64,
}

/// What a plan is made from: `placed` are the snapshot's entities, in their order.
#[must_use]
pub fn snapshot(
    (partitions, placed): (Vec<Partition>, &[Placed]),
    forecasts: &Forecasts,
    history: &History,
    (wasted, settings): (f64, Settings),
) -> Snapshot {
    let loads = |paths: Option<Paths>| Loads([paths.unwrap_or_default(), Paths::none(), Paths::none()]);
    let index: BTreeMap<EntityId, usize> =
        placed.iter().enumerate().map(|(n, one)| (one.entity, n)).collect();
    let co_access = co_access(history, &index);
    let mut dependencies = vec![0_u32; placed.len()];
    for pair in &co_access {
        dependencies[pair.a] += 1;
        dependencies[pair.b] += 1;
    }
    let entities = placed.iter().zip(dependencies).map(|(one, dependencies)| Entity {
        id: one.entity.0,
        at: one.at,
        home: one.home,
        bytes: one.bytes,
        loads: loads(forecasts.paths(Subject::Entity(one.entity))),
        burst: one.burst,
        dependencies,
        hold: one.hold,
    });
    Snapshot {
        hour: history.hour(),
        left: 1.0,
        shape: Forecasts::shape(),
        entities: entities.collect(),
        rest: partitions.iter().map(|one| loads(forecasts.paths(Subject::Rest(one.id)))).collect(),
        partitions,
        co_access,
        failed: 0.0,
        wasted,
        settings,
    }
}

/// Puts what is seen of the hour under way on top of what was foretold of it, and has a plan act on less than it would for
/// what is only foretold: `seen` is the load that an entity has now.
pub fn see(snapshot: &mut Snapshot, seen: impl Fn(&Entity) -> f64) {
    snapshot.settings = snapshot.settings.when_seen();
    for entity in &mut snapshot.entities {
        let now = crate::narrow(seen(entity));
        let foretold = std::mem::take(&mut entity.loads.0[0]);
        entity.loads.0[0] = foretold.with_seen(now, snapshot.shape);
    }
}

/// Named together fewer times, lately, is chance.
const COUNT_MIN: f64 = 10.0;

/// Pairs of entities that are named together more often than by chance, by the share of the requests of the one that has
/// fewer: both counts fade alike, so that who has more to do since it joined the other is not taken for a stranger.
fn co_access(history: &History, index: &BTreeMap<EntityId, usize>) -> Vec<CoAccess> {
    let mut requests: BTreeMap<EntityId, Option<f64>> = BTreeMap::new();
    let mut requests_of = |entity| *requests.entry(entity).or_insert_with(|| history.faded_requests(entity));
    let mut pairs = Vec::new();
    for (a, b, count) in history.pairs() {
        let (Some(&at_a), Some(&at_b)) = (index.get(&a), index.get(&b)) else { continue };
        let (Some(of_a), Some(of_b)) = (requests_of(a), requests_of(b)) else { continue };
        let share = count / of_a.min(of_b).max(1.0);
        if share >= SHARE_MIN && count >= COUNT_MIN {
            pairs.push(CoAccess { a: at_a, b: at_b, share: share.min(1.0) });
        }
    }
    pairs
}

/// What is forecast of each partition, hour by hour, as things are.
#[must_use]
pub fn outlook(snapshot: &Snapshot) -> Vec<Vec<Band>> {
    let shape = snapshot.shape;
    let mut sums = vec![vec![0.0_f32; shape.len()]; snapshot.partitions.len()];
    for (sum, rest) in sums.iter_mut().zip(&snapshot.rest) {
        rest.0[0].add_to_sum(sum);
    }
    for entity in &snapshot.entities {
        entity.loads.0[0].add_to_sum(&mut sums[entity.at]);
    }
    let partitions = snapshot.partitions.iter().zip(sums);
    partitions
        .map(|(partition, sum)| {
            let capacity = partition.capacity[0];
            let paths = Paths::new(sum, shape);
            let over = |hour: usize| {
                let values = paths.values().iter().skip(hour).step_by(shape.hours);
                values.filter(|value| f64::from(**value) > capacity).count() as f64 / shape.paths as f64
            };
            let band = |hour| Band {
                q10: paths.quantile(hour, 0.1, shape),
                q50: paths.quantile(hour, 0.5, shape),
                q90: paths.quantile(hour, 0.9, shape),
                over: over(hour),
            };
            (0..shape.hours).map(band).collect()
        })
        .collect()
}

/// Whether a partition has room for an entity of another one in every hour ahead, and the part `besides` of its capacity.
#[must_use]
pub fn has_room(
    snapshot: &Snapshot,
    outlook: &[Vec<Band>],
    entity: usize,
    partition: usize,
    besides: f64,
) -> bool {
    let room = snapshot.partitions[partition].capacity[0] * (1.0 - besides);
    let load = |hour| snapshot.entities[entity].loads.0[0].quantile(hour, 0.9, snapshot.shape);
    (0..snapshot.shape.hours).all(|hour| outlook[partition][hour].q90 + load(hour) <= room)
}

/// Guests whose home has room for them again in every hour ahead, the lightest first; at most one for each home. Who is among
/// those that it is named together with stays.
#[must_use]
pub fn homeward(snapshot: &Snapshot, outlook: &[Vec<Band>]) -> Vec<usize> {
    let shape = snapshot.shape;
    let load = |entity: &Entity, hour| entity.loads.0[0].quantile(hour, 0.9, shape);
    let fits = |index: usize| has_room(snapshot, outlook, index, snapshot.entities[index].home, HOME_ROOM);
    let stays = gather::among_their_own(snapshot);
    let mut guests: Vec<(f64, usize)> = snapshot
        .entities
        .iter()
        .enumerate()
        .filter(|(_, entity)| entity.at != entity.home && entity.hold.is_none())
        .filter(|(index, _)| !stays[*index] && fits(*index))
        .map(|(index, entity)| ((0..shape.hours).map(|hour| load(entity, hour)).fold(0.0, f64::max), index))
        .collect();
    guests.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut homes = Vec::new();
    guests.retain(|(_, index)| {
        let home = snapshot.entities[*index].home;
        let is_first = !homes.contains(&home);
        homes.push(home);
        is_first
    });
    guests.into_iter().map(|guest| guest.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn entity(at: usize, home: usize, load: f32, shape: Shape) -> Entity {
        Entity {
            id: 0,
            at,
            home,
            bytes: 1.0,
            loads: Loads([Paths::certain(&vec![load; shape.hours], shape), Paths::none(), Paths::none()]),
            burst: 0.1,
            dependencies: 0,
            hold: None,
        }
    }

    fn cluster(entities: impl Fn(Shape) -> Vec<Entity>) -> Snapshot {
        let shape = Shape { paths: 4, hours: 3 };
        Snapshot::of(shape, 2, entities(shape))
    }

    #[test]
    fn a_partition_may_have_what_its_entities_have_path_by_path() {
        let snapshot = cluster(|shape| vec![entity(0, 0, 80.0, shape), entity(0, 0, 30.0, shape)]);
        let outlook = outlook(&snapshot);
        assert_eq!(outlook[0][2], Band { q10: 110.0, q50: 110.0, q90: 110.0, over: 1.0 });
        assert_eq!(outlook[1][0], Band { q10: 0.0, q50: 0.0, q90: 0.0, over: 0.0 });
    }

    #[test]
    fn guests_go_home_where_there_is_room_one_at_a_time() {
        let guests =
            |shape| vec![entity(0, 0, 30.0, shape), entity(1, 0, 20.0, shape), entity(1, 0, 10.0, shape)];
        let snapshot = cluster(guests);
        assert_eq!(homeward(&snapshot, &outlook(&snapshot)), [2]);
        let mut together = cluster(guests);
        together.co_access.push(CoAccess { a: 1, b: 2, share: 0.9 });
        assert!(homeward(&together, &outlook(&together)).is_empty(), "they are named together here");
        let crowded = cluster(|shape| vec![entity(0, 0, 60.0, shape), entity(1, 0, 20.0, shape)]);
        assert!(homeward(&crowded, &outlook(&crowded)).is_empty());
    }
}
