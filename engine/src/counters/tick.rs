//! What a shard counted in one tick, owned: it may be sent to, and dropped on, another thread.

use std::fmt;

use super::{Bounds, Load, PartitionLoad, Tracked};
use crate::ids::PartitionId;
use crate::key::RoutingKey;

/// One tick's counts.
pub struct Tick {
    /// Exact but for the service time, which is sampled; one for each partition that was open in the tick.
    pub partitions: Vec<(PartitionId, PartitionLoad)>,
    pub(super) tracked: Tracked,
    pub(super) sampled_one_in: u32,
}

/// A tracked entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntityLoad<'a> {
    /// Who.
    pub routing: RoutingKey,
    /// By name, if it was heavy enough to earn one and there was room.
    pub name: Option<&'a [u8]>,
    /// The partition that last served it.
    pub partition: PartitionId,
    /// How much; [`Tick::sampled_one_in`] says of what.
    pub load: Bounds<Load>,
}

/// Two entities named together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairLoad<'a> {
    /// Who, in order.
    pub routing: [RoutingKey; 2],
    /// By name, as for [`EntityLoad::name`].
    pub names: [Option<&'a [u8]>; 2],
    /// How often.
    pub count: Bounds<u64>,
}

impl Tick {
    /// The tracked entities, in no order that means anything.
    pub fn entities(&self) -> impl Iterator<Item = EntityLoad<'_>> {
        self.tracked.entities.iter().map(|(key, load, label)| EntityLoad {
            routing: RoutingKey(key),
            name: self.tracked.names.get(label.name),
            partition: PartitionId(label.partition),
            load,
        })
    }

    /// The bounds of one entity, tracked or not.
    #[must_use]
    pub fn entity(&self, routing: RoutingKey) -> Bounds<Load> {
        self.tracked.entities.bounds(routing.0)
    }

    /// The tracked pairs, in no order that means anything.
    pub fn pairs(&self) -> impl Iterator<Item = PairLoad<'_>> {
        self.tracked.pairs.iter().map(|(_, count, label)| PairLoad {
            routing: label.entities.map(RoutingKey),
            names: label.names.map(|name| self.tracked.names.get(name)),
            count: Bounds { lower: count.lower.0, upper: count.upper.0 },
        })
    }

    /// One operation was counted for at most so many when it came to entities: 1 where everything was counted, and then
    /// all bounds are hard. Otherwise they are of an unbiased estimate: of `n` operations, the standard error is at most
    /// `sqrt(n * (sampled_one_in - 1))`.
    #[must_use]
    pub const fn sampled_one_in(&self) -> u32 {
        self.sampled_one_in
    }

    /// How often there was no room for a name.
    #[must_use]
    pub const fn names_refused(&self) -> u64 {
        self.tracked.names.refused()
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tick").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}
