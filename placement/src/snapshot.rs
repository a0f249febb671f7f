//! What a plan is made from.
//!
//! Invariants, which [`Snapshot::check`] holds it to: indexes are of partitions and entities that there are, numbers are
//! finite and not negative, capacities are above zero, and loads have the snapshot's shape.

use crate::paths::{Paths, Shape};

/// In what a partition can be overloaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dimension {
    /// Cost units a second: what a core has to do.
    Cost,
    /// Bytes written a second.
    WriteBytes,
    /// Bytes stored.
    StoredBytes,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cost, Self::WriteBytes, Self::StoredBytes];
}

/// A load in each dimension, in the order of [`Dimension::ALL`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Loads(pub [Paths; Dimension::ALL.len()]);

/// Whether a partition may be given entities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It serves and takes entities.
    Serving,
    /// It serves, and is being emptied: it takes none.
    Draining,
    /// Its host is gone.
    Down,
}

/// A partition.
#[derive(Clone, PartialEq, Debug)]
pub struct Partition {
    /// Its number.
    pub id: u32,
    /// Which host it is on.
    pub host: u32,
    /// What it can do, in each dimension, as its shard is.
    pub capacity: [f64; Dimension::ALL.len()],
    /// Of what it could do in the first one, the part that is left of it in `capacity`, above 0 and up to 1: less than 1 while its
    /// shard answers more slowly than it used to.
    pub share: f64,
    /// Spread within an hour of what no entity stands for, as a part of the hour's mean: the standard deviation of seconds.
    pub burst: f64,
    /// Whether it takes entities.
    pub state: State,
    /// How far it is from those who ask, 0 (here) to 1: measured round trips and zones, by whoever makes the snapshot.
    pub distance: f64,
    /// What it is marked down by, 0..1: shadows that it was rejected by, a disk that is slow.
    pub penalty: f64,
}

/// Why an entity is left where it is, whatever would be gained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// The operator has pinned it.
    Pinned,
    /// The operator has excluded it from balancing.
    Excluded,
    /// It moved lately, and rests until this hour.
    Resting {
        /// The first hour in which it may move again.
        until: i64,
    },
    /// A move of it is under way.
    Moving,
}

/// An entity.
#[derive(Clone, PartialEq, Debug)]
pub struct Entity {
    /// Its number in the snapshot's own terms; names are for whoever made it.
    pub id: u64,
    /// Where it is: an index into the partitions.
    pub at: usize,
    /// Where it is at home.
    pub home: usize,
    /// Bytes to be copied.
    pub bytes: f64,
    /// Its loads to come.
    pub loads: Loads,
    /// Spread of its load within an hour, as a part of the hour's mean: the standard deviation of its seconds.
    pub burst: f64,
    /// Entities that are named together with it now and then.
    pub dependencies: u32,
    /// Why it stays, if so.
    pub hold: Option<Hold>,
}

/// Two entities that commands and transactions name together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CoAccess {
    /// An index into the entities.
    pub a: usize,
    /// Another.
    pub b: usize,
    /// Of the commands on the one that has fewer, the part that names the other too.
    pub share: f64,
}

/// What a target is weighed by; only their proportions matter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Weights {
    /// Room that is left at the busiest hour to come.
    pub headroom: f64,
    /// Room that is left in this hour.
    pub idle: f64,
    /// Nearness to those who ask.
    pub nearness: f64,
    /// Co-accessed entities that are there.
    pub together: f64,
}

/// How the planner decides.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// See [`Weights`].
    pub weights: Weights,
    /// A score below it moves nothing, in a cluster that is half full and well.
    pub threshold: f64,
    /// Moves that one plan begins at most.
    pub moves_max: usize,
    /// Bytes that one plan moves at most.
    pub bytes_max: f64,
    /// Bytes a second that a move copies.
    pub copy_bytes_per_s: f64,
    /// Part of a partition's capacity that a move takes while it lasts, at source and target.
    pub copy_share: f64,
    /// What a move costs besides copying, in overloaded hours: clients' requests are parked, caches are cold.
    pub move_hours: f64,
    /// What each dependency adds to that.
    pub dependency_hours: f64,
    /// How much an hour weighs against the one before it: what lies far ahead is planned again before it comes.
    pub discount: f64,
    /// A move has to avoid so much, in overloaded hours: less is within what a forecast can tell.
    pub improvement_min: f64,
    /// Likewise, of a plan that is made within an hour from what is seen: that is no guess.
    pub improvement_seen: f64,
    /// Hours before the first overload that a move is planned to have ended by.
    pub lead_hours: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weights: Weights { headroom: 1.0, idle: 0.25, nearness: 0.1, together: 0.25 },
            threshold: 0.02,
            moves_max: 8,
            bytes_max: 256e9,
            copy_bytes_per_s: 50e6,
            copy_share: 0.05,
            move_hours: 0.001,
            dependency_hours: 0.001,
            discount: 0.7,
            improvement_min: 0.05,
            improvement_seen: 0.02,
            lead_hours: 0,
        }
    }
}

impl Settings {
    /// For a plan that is made within an hour, from what is seen of it.
    #[must_use]
    pub const fn when_seen(self) -> Self {
        Self { improvement_min: self.improvement_seen, ..self }
    }
}

/// Everything that a plan is made from.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// The hour that begins: the first of all paths. Unix hours.
    pub hour: i64,
    /// The part of that hour that is still to come: 1 when it begins.
    pub left: f64,
    /// Of all loads.
    pub shape: Shape,
    /// All partitions.
    pub partitions: Vec<Partition>,
    /// The entities that have a forecast.
    pub entities: Vec<Entity>,
    /// What is not in any of them, partition by partition.
    pub rest: Vec<Loads>,
    /// Pairs of entities.
    pub co_access: Vec<CoAccess>,
    /// Hosts that are gone, as a part of all.
    pub failed: f64,
    /// Of the moves of the last days, the part that turned out to avoid nothing.
    pub wasted: f64,
    /// How to decide.
    pub settings: Settings,
}

/// What is wrong with a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} of {whose} {index} cannot be")]
pub struct Invalid {
    /// Which number.
    pub what: &'static str,
    /// A partition's or an entity's.
    pub whose: &'static str,
    /// Its index.
    pub index: usize,
}

impl Snapshot {
    /// Checks the invariants.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn check(&self) -> Result<(), Invalid> {
        let sound = |value: f64| value.is_finite() && value >= 0.0;
        for (index, partition) in self.partitions.iter().enumerate() {
            let wrong = |what| Err(Invalid { what, whose: "partition", index });
            if !partition.capacity.iter().all(|c| *c > 0.0 && !c.is_nan()) {
                return wrong("the capacity");
            }
            if !(partition.share > 0.0 && partition.share <= 1.0) {
                return wrong("the share");
            }
            if !sound(partition.burst) || !sound(partition.distance) || !sound(partition.penalty) {
                return wrong("the burst, distance or penalty");
            }
        }
        for (index, entity) in self.entities.iter().enumerate() {
            let wrong = |what| Err(Invalid { what, whose: "entity", index });
            if entity.at.max(entity.home) >= self.partitions.len() {
                return wrong("the place");
            }
            if !sound(entity.bytes) {
                return wrong("the size");
            }
            if !sound(entity.burst) {
                return wrong("the burst");
            }
            if !self.holds(&entity.loads) {
                return wrong("the load");
            }
        }
        for (index, pair) in self.co_access.iter().enumerate() {
            if pair.a.max(pair.b) >= self.entities.len() || !sound(pair.share) {
                return Err(Invalid { what: "an end", whose: "pair", index });
            }
        }
        if !(0.0..=1.0).contains(&self.left) {
            return Err(Invalid { what: "what is left", whose: "hour", index: 0 });
        }
        let rest = self.rest.iter().position(|rest| !self.holds(rest));
        if let Some(index) = rest.or((self.rest.len() > self.partitions.len()).then_some(self.rest.len())) {
            return Err(Invalid { what: "the other load", whose: "partition", index });
        }
        Ok(())
    }

    fn holds(&self, loads: &Loads) -> bool {
        loads.0.iter().all(|paths| {
            let values = paths.values();
            let shaped = values.is_empty() || values.len() == self.shape.len();
            shaped && values.iter().all(|v| v.is_finite() && *v >= 0.0)
        })
    }
}

#[cfg(test)]
impl Snapshot {
    /// Partitions that can do a hundred, on one host, and entities in them; nothing besides.
    pub(crate) fn of(shape: Shape, partitions: u32, entities: Vec<Entity>) -> Self {
        let partition = |id| Partition {
            id,
            host: 0,
            capacity: [100.0, f64::INFINITY, f64::INFINITY],
            share: 1.0,
            burst: 0.1,
            state: State::Serving,
            distance: 0.0,
            penalty: 0.0,
        };
        Self {
            hour: 0,
            left: 1.0,
            shape,
            partitions: (0..partitions).map(partition).collect(),
            entities,
            rest: Vec::new(),
            co_access: Vec::new(),
            failed: 0.0,
            wasted: 0.0,
            settings: Settings::default(),
        }
    }
}
