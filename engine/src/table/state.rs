//! What the table says. No I/O: the log, recovery and whoever comes to decide on changes among several hosts all run this.
//!
//! Invariants, of every state that is made or decoded:
//! - the ranges that are not empty lie end to end from the first routing key to the last;
//! - every partition is on a shard that there is, in an epoch from 1 on, written by a change that there was;
//! - a partition's number is given out once, and its epoch never falls;
//! - a guest is placed in a partition that there is and that is not its home;
//! - an entity has one open move at most, from where it is to another partition that there is, in epochs that there were.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::Partitions;
use super::guests::{Guest, Guests};
use crate::ids::{Epoch, MoveId, PartitionId, ShardId, TableVersion};
use crate::key::RoutingKey;
use crate::limits::{ENTITY_BYTES_MAX, GUESTS_MAX, MOVES_OPEN_MAX, PARTITIONS_MAX, SHARDS_MAX};

/// Where the last range ends: after the routing key of every entity.
pub const KEYS_END: RoutingKey = RoutingKey(u64::MAX);

/// Where a partition is and what it is home to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The shard that owns it.
    pub shard: ShardId,
    /// Its configuration.
    pub epoch: Epoch,
    /// First routing key.
    pub start: RoutingKey,
    /// First routing key after it; the same as `start` for a partition that is home to none.
    pub end: RoutingKey,
}

/// A partition's entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it says.
    pub placed: Placed,
    /// The change that wrote it.
    pub version: TableVersion,
}

/// Everything that the table says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// How many changes led here; the first state is 1.
    pub version: TableVersion,
    /// The shards that partitions are dealt out to.
    pub shards: u16,
    /// The first partition number that was never given out.
    pub next_partition: PartitionId,
    /// All partitions.
    pub partitions: BTreeMap<PartitionId, Entry>,
    /// Entities that are not at home.
    pub guests: Guests,
    /// Moves under way, by the versions that opened them.
    pub moves: BTreeMap<MoveId, OpenMove>,
}

/// A move of an entity under way: begun, and neither committed nor aborted. Where the entity is, it stays meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenMove {
    /// Who moves.
    pub entity: Arc<[u8]>,
    /// Where it is.
    pub from: PartitionId,
    /// Where it is to be.
    pub to: PartitionId,
    /// The epoch of `from` when it began; it commits in no other.
    pub from_epoch: Epoch,
    /// The epoch of `to` when it began; it commits in no other.
    pub to_epoch: Epoch,
}

impl State {
    /// The first state of a store: `ranges` (partition and first routing key, from 0, ascending) dealt out to `shards`
    /// in turn.
    ///
    /// # Errors
    /// What is impossible about them.
    pub fn first(ranges: &[(PartitionId, u64)], shards: u16) -> Result<Self, &'static str> {
        let version = TableVersion(1);
        let ends = ranges.iter().skip(1).map(|r| RoutingKey(r.1)).chain([KEYS_END]);
        let placed = ranges.iter().zip(ends).zip(0_usize..).map(|((&(id, start), end), n)| {
            let shard = deal(n, shards);
            let placed = Placed { shard, epoch: Epoch(1), start: RoutingKey(start), end };
            (id, Entry { placed, version })
        });
        let partitions: BTreeMap<_, _> = placed.collect();
        let last = partitions.last_key_value().map_or(0, |(id, _)| id.0);
        let next_partition = PartitionId(last.checked_add(1).ok_or("partition number")?);
        let (guests, moves) = Default::default();
        let state = Self { version, shards, next_partition, partitions, guests, moves };
        if state.partitions.len() != ranges.len() {
            return Err("partition number given twice");
        }
        state.check().map(|()| state)
    }

    /// `count` equal ranges, numbered from 0.
    #[must_use]
    pub fn even_ranges(count: usize) -> Vec<(PartitionId, u64)> {
        // Routing keys start with a slot below 16384: the top two bits of the 16 are zero.
        const KEYS: u128 = 1 << 62;
        (0..count)
            .map(|n| {
                let start = KEYS * n as u128 / count as u128;
                (PartitionId(u32::try_from(n).unwrap_or(u32::MAX)), u64::try_from(start).unwrap_or(u64::MAX))
            })
            .collect()
    }

    /// The change that deals all partitions out to `shards` in turn, by range.
    #[must_use]
    pub fn dealt_to(&self, shards: u16) -> Partitions {
        let mut by_range: Vec<_> = self.partitions.iter().collect();
        by_range.sort_by_key(|(id, entry)| (entry.placed.start, entry.placed.end, **id));
        let placed = by_range
            .iter()
            .zip(0..)
            .map(|((id, entry), n)| (**id, Some(Placed { shard: deal(n, shards), ..entry.placed })));
        let mut edits: Vec<_> = placed.collect();
        edits.sort_unstable_by_key(|(id, _)| *id);
        let seen = self.partitions.iter().map(|(id, entry)| (*id, entry.version)).collect();
        Partitions { seen, edits, guests: Vec::new(), shards: Some(shards) }
    }

    /// The version of a partition's entry; 0: there is none.
    #[must_use]
    pub fn version_of(&self, partition: PartitionId) -> TableVersion {
        self.partitions.get(&partition).map_or(TableVersion(0), |entry| entry.version)
    }

    /// The partition that a routing key is at home in.
    ///
    /// # Panics
    /// Where ranges leave it out, which no state's do.
    #[must_use]
    pub fn home(&self, routing: RoutingKey) -> PartitionId {
        let mut partitions = self.partitions.iter();
        // Behind the last range lies what is no entity's.
        let routing = routing.min(RoutingKey(KEYS_END.0 - 1));
        let home = partitions.find(|(_, entry)| entry.placed.is_home_to(routing));
        *home.expect("ranges lie end to end").0
    }

    /// Where an entity is.
    #[must_use]
    pub fn owner(&self, entity: &[u8]) -> PartitionId {
        let guest = self.guests.get(entity);
        guest.map_or_else(|| self.home(RoutingKey::of(entity)), |guest| guest.partition)
    }

    /// The version of an entity's entry; 0: it is at home.
    #[must_use]
    pub fn entry_of(&self, entity: &[u8]) -> TableVersion {
        self.guests.get(entity).map_or(TableVersion(0), |guest| guest.version)
    }

    /// An entity's open move.
    #[must_use]
    pub fn move_of(&self, entity: &[u8]) -> Option<(MoveId, &OpenMove)> {
        self.moves.iter().find(|(_, open)| &*open.entity == entity).map(|(id, open)| (*id, open))
    }

    /// Checks the invariants but for those of each guest and move, which only a change of it touches, and which
    /// [`State::check_entities`] checks.
    ///
    /// # Errors
    /// The one that does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.shards == 0 || usize::from(self.shards) > SHARDS_MAX {
            return Err("shard count");
        }
        if self.partitions.len() > PARTITIONS_MAX {
            return Err("partition count");
        }
        if self.partitions.last_key_value().is_some_and(|(id, _)| *id >= self.next_partition) {
            return Err("partition number that was not given out");
        }
        if self.moves.len() > MOVES_OPEN_MAX {
            return Err("count of open moves");
        }
        // Each may yet make one of its own.
        if self.guests.len() + self.moves.len() > GUESTS_MAX {
            return Err("guest count");
        }
        for entry in self.partitions.values() {
            let Placed { shard, epoch, start, end } = entry.placed;
            if shard.0 >= self.shards {
                return Err("partition on a shard that there is not");
            }
            if epoch == Epoch(0) {
                return Err("partition in epoch 0");
            }
            if start > end {
                return Err("range that ends before it starts");
            }
            if entry.version == TableVersion(0) || entry.version > self.version {
                return Err("entry written by a change that there was not");
            }
        }
        let mut ranges: Vec<_> = self.partitions.values().map(|e| (e.placed.start, e.placed.end)).collect();
        ranges.retain(|(start, end)| start < end);
        ranges.sort_unstable();
        let ends = std::iter::once(RoutingKey(0)).chain(ranges.iter().map(|r| r.1));
        let starts = ranges.iter().map(|r| r.0).chain([KEYS_END]);
        if ends.ne(starts) { Err("ranges that overlap or leave keys out") } else { Ok(()) }
    }

    /// Checks the invariants of every guest and move, of a state that passes [`State::check`].
    ///
    /// # Errors
    /// The one that does not hold.
    pub fn check_entities(&self) -> Result<(), &'static str> {
        for found in self.guests.iter() {
            let Guest { partition, version } = found.guest;
            let host = self.partitions.get(&partition).ok_or("guest of no partition")?;
            if host.placed.is_home_to(found.routing()) {
                return Err("guest that is at home");
            }
            if version == TableVersion(0) || version > self.version {
                return Err("guest placed by a change that there was not");
            }
        }
        let mut movers: Vec<_> = self.moves.values().map(|open| &open.entity).collect();
        movers.sort_unstable();
        if movers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("entity with two open moves");
        }
        for (id, open) in &self.moves {
            if id.0 == 0 || id.0 > self.version.0 {
                return Err("move opened by a change that there was not");
            }
            if open.entity.is_empty() || open.entity.len() > ENTITY_BYTES_MAX {
                return Err("name of a moving entity");
            }
            for (partition, epoch) in [(open.from, open.from_epoch), (open.to, open.to_epoch)] {
                let entry = self.partitions.get(&partition).ok_or("move of no partition")?;
                if epoch == Epoch(0) || epoch > entry.placed.epoch {
                    return Err("move in an epoch that there was not");
                }
            }
            if open.from == open.to || self.owner(&open.entity) != open.from {
                return Err("move from where the entity is not");
            }
        }
        Ok(())
    }
}

impl Placed {
    /// Whether a routing key is in its range.
    #[must_use]
    pub fn is_home_to(&self, routing: RoutingKey) -> bool {
        self.start <= routing && routing < self.end
    }
}

/// Who gets the `n`-th partition when each shard gets one in turn.
fn deal(n: usize, shards: u16) -> ShardId {
    ShardId(u16::try_from(n % usize::from(shards.max(1))).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_do_not_cover_everything_are_refused() {
        for ranges in [&[(PartitionId(0), 5)][..], &[(PartitionId(0), 0), (PartitionId(0), 5)], &[]] {
            assert!(State::first(ranges, 1).is_err(), "{ranges:?}");
        }
        assert!(State::first(&State::even_ranges(2), 0).is_err());
    }
}
