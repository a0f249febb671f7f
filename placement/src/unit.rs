//! What moves together: an entity, or a few that are always named together and live in one partition.
//!
//! Splitting such a group would turn their transactions into ones over partitions, so it moves whole or not at all.

use crate::overload::Carried;
use crate::snapshot::{Entity, Hold, Snapshot};

/// Pairs below it are neighbours by chance.
const TOGETHER_SHARE: f64 = 0.3;
/// A larger group is not moved as one: it would be most of a partition.
const MEMBERS_MAX: usize = 8;

/// Entities of one partition that move together.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Unit {
    /// Indexes of entities, ascending.
    pub(crate) members: Vec<usize>,
    /// Where all of them are.
    pub(crate) at: usize,
    pub(crate) bytes: f64,
    pub(crate) dependencies: u32,
    /// Why it stays, if one of them does.
    pub(crate) hold: Option<Hold>,
}

impl Unit {
    /// All units of a snapshot, in the order of their first members.
    pub(crate) fn all(snapshot: &Snapshot, at: &[usize]) -> Vec<Self> {
        let leaders = leaders(snapshot, at);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); snapshot.entities.len()];
        for (entity, leader) in leaders.into_iter().enumerate() {
            members[leader].push(entity);
        }
        let groups = members.into_iter().filter(|members| !members.is_empty());
        groups.map(|members| Self::of(&snapshot.entities, members, at)).collect()
    }

    fn of(entities: &[Entity], members: Vec<usize>, at: &[usize]) -> Self {
        let held = members.iter().filter_map(|&m| entities[m].hold);
        Self {
            at: at[members[0]],
            bytes: members.iter().map(|&m| entities[m].bytes).sum(),
            dependencies: members.iter().map(|&m| entities[m].dependencies).sum(),
            hold: held.max_by_key(|hold| severity(*hold)),
            members,
        }
    }

    /// Adds its load to what a partition carries, `times` over.
    pub(crate) fn add_to(&self, carried: &mut Carried, entities: &[Entity], times: f32) {
        for &member in &self.members {
            let Entity { loads, burst, .. } = &entities[member];
            carried.add(loads, *burst, times);
        }
    }
}

/// Of each entity, the first one of its group.
fn leaders(snapshot: &Snapshot, at: &[usize]) -> Vec<usize> {
    let mut leader: Vec<usize> = (0..snapshot.entities.len()).collect();
    let mut size = vec![1; leader.len()];
    let mut pairs: Vec<_> = snapshot.co_access.iter().filter(|p| p.share >= TOGETHER_SHARE).collect();
    // The strongest first: a group that is full leaves the weakest out.
    pairs.sort_by(|x, y| y.share.total_cmp(&x.share).then((x.a, x.b).cmp(&(y.a, y.b))));
    for pair in pairs {
        let (a, b) = (find(&mut leader, pair.a), find(&mut leader, pair.b));
        if a != b && at[a] == at[b] && size[a] + size[b] <= MEMBERS_MAX {
            let (first, second) = (a.min(b), a.max(b));
            leader[second] = first;
            size[first] += size[second];
        }
    }
    (0..leader.len()).map(|entity| find(&mut leader, entity)).collect()
}

fn find(leader: &mut [usize], entity: usize) -> usize {
    let mut at = entity;
    while leader[at] != at {
        leader[at] = leader[leader[at]];
        at = leader[at];
    }
    at
}

/// Which of two reasons is told.
const fn severity(hold: Hold) -> u8 {
    match hold {
        Hold::Pinned => 3,
        Hold::Excluded => 2,
        Hold::Moving => 1,
        Hold::Resting { .. } => 0,
    }
}
