//! What the table says, and which changes follow from it. No I/O: the log, recovery and whoever comes to decide on
//! changes among several hosts all run this.
//!
//! Invariants, of every state that is made or decoded:
//! - the ranges that are not empty lie end to end from the first routing key to the last;
//! - every partition is on a shard that there is, in an epoch from 1 on, written by a change that there was;
//! - a partition's number is given out once, and its epoch never falls.

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::{Epoch, PartitionId, ShardId, TableVersion};
use crate::key::RoutingKey;
use crate::limits::{PARTITIONS_MAX, SHARDS_MAX};

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
}

/// A change, all of which happens or nothing, and what it was made from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// The entries that it was made from, by their versions; 0: there was none. It names every entry that is edited,
    /// and may name others that must not have changed. Ascending.
    pub seen: Vec<(PartitionId, TableVersion)>,
    /// What becomes of entries; none: the partition is no more. Ascending.
    pub edits: Vec<(PartitionId, Option<Placed>)>,
    /// How many shards there are from here on; none: as before.
    pub shards: Option<u16>,
}

/// An entry that is not what a change was made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Whose entry.
    pub partition: PartitionId,
    /// What the change was made from; 0: no entry.
    pub seen: TableVersion,
    /// What is there; 0: no entry.
    pub found: TableVersion,
}

/// Why a change was not made, and nothing happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Other changes came first. Look again, and plan anew.
    Stale {
        /// The table as it is.
        version: TableVersion,
        /// All entries that are not as they were seen.
        moved: Vec<Moved>,
    },
    /// It could never be made.
    Impossible(&'static str),
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
        let state = Self { version, shards, next_partition, partitions };
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
    pub fn dealt_to(&self, shards: u16) -> Change {
        let mut by_range: Vec<_> = self.partitions.iter().collect();
        by_range.sort_by_key(|(id, entry)| (entry.placed.start, entry.placed.end, **id));
        let placed = by_range
            .iter()
            .zip(0..)
            .map(|((id, entry), n)| (**id, Some(Placed { shard: deal(n, shards), ..entry.placed })));
        let mut edits: Vec<_> = placed.collect();
        edits.sort_unstable_by_key(|(id, _)| *id);
        let seen = self.partitions.iter().map(|(id, entry)| (*id, entry.version)).collect();
        Change { seen, edits, shards: Some(shards) }
    }

    /// The state after `change`.
    ///
    /// # Errors
    /// [`Refusal`]: what came in between, or what is wrong with it.
    pub fn after(&self, change: &Change) -> Result<Self, Refusal> {
        change.check().map_err(Refusal::Impossible)?;
        let moved: Vec<Moved> = change
            .seen
            .iter()
            .filter_map(|&(partition, seen)| {
                let found = self.version_of(partition);
                (found != seen).then_some(Moved { partition, seen, found })
            })
            .collect();
        if !moved.is_empty() {
            return Err(Refusal::Stale { version: self.version, moved });
        }
        let version = TableVersion(self.version.0.checked_add(1).ok_or(Refusal::Impossible("version"))?);
        let mut next = Self { version, shards: change.shards.unwrap_or(self.shards), ..self.clone() };
        for &(id, placed) in &change.edits {
            next.edit(id, placed).map_err(Refusal::Impossible)?;
        }
        next.check().map_err(Refusal::Impossible)?;
        Ok(next)
    }

    /// The version of a partition's entry; 0: there is none.
    #[must_use]
    pub fn version_of(&self, partition: PartitionId) -> TableVersion {
        self.partitions.get(&partition).map_or(TableVersion(0), |entry| entry.version)
    }

    /// Checks the invariants.
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

    fn edit(&mut self, id: PartitionId, placed: Option<Placed>) -> Result<(), &'static str> {
        let before = self.partitions.get(&id).map(|entry| entry.placed);
        let Some(placed) = placed else {
            return self.partitions.remove(&id).map(|_| ()).ok_or("removal of a partition that is not there");
        };
        match before {
            Some(before) if placed.epoch < before.epoch => return Err("epoch that falls"),
            None if id < self.next_partition => return Err("partition number that was given out before"),
            None => self.next_partition = PartitionId(id.0.checked_add(1).ok_or("partition number")?),
            Some(_) => {}
        }
        self.partitions.insert(id, Entry { placed, version: self.version });
        Ok(())
    }
}

impl Change {
    /// What is wrong with it whatever the table says.
    fn check(&self) -> Result<(), &'static str> {
        if self.edits.is_empty() && self.shards.is_none() {
            return Err("change of nothing");
        }
        if self.seen.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err("order of the entries seen");
        }
        if self.edits.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err("order of the edits");
        }
        let is_seen = |id| self.seen.binary_search_by_key(&id, |seen| seen.0).is_ok();
        if self.edits.iter().all(|(id, _)| is_seen(*id)) { Ok(()) } else { Err("edit of an entry not seen") }
    }
}

/// Who gets the `n`-th partition when each shard gets one in turn.
fn deal(n: usize, shards: u16) -> ShardId {
    ShardId(u16::try_from(n % usize::from(shards.max(1))).unwrap_or(u16::MAX))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(what) => write!(f, "a table change that can never be made: {what}"),
            Self::Stale { version, moved } => {
                write!(f, "the table is at version {version}:")?;
                for (n, Moved { partition, seen, found }) in moved.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(f, "{comma} partition {partition} was ")?;
                    match (seen.0, found.0) {
                        (_, 0) => write!(f, "removed since version {seen}")?,
                        (0, found) => write!(f, "made by change {found}")?,
                        (seen, found) => write!(f, "changed by change {found}, after version {seen}")?,
                    }
                }
                f.write_str("; look again and plan anew")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(partitions: usize, shards: u16) -> State {
        State::first(&State::even_ranges(partitions), shards).unwrap()
    }

    fn seen(state: &State, ids: &[u32]) -> Vec<(PartitionId, TableVersion)> {
        ids.iter().map(|&id| (PartitionId(id), state.version_of(PartitionId(id)))).collect()
    }

    /// Gives the upper half of partition 1 to a partition `id` of its own.
    fn split(state: &State, id: u32) -> Change {
        let whole = state.partitions[&PartitionId(1)].placed;
        let at = RoutingKey(u64::midpoint(whole.start.0, whole.end.0));
        let edits = vec![
            (PartitionId(1), Some(Placed { end: at, ..whole })),
            (PartitionId(id), Some(Placed { start: at, epoch: Epoch(1), ..whole })),
        ];
        Change { seen: seen(state, &[1, id]), edits, shards: None }
    }

    #[test]
    fn of_two_changes_made_from_one_entry_the_second_is_refused_by_name() {
        let state = first(3, 2);
        let (one, other) = (split(&state, 3), split(&state, 4));
        let state = state.after(&one).unwrap();
        assert_eq!((state.version, state.partitions.len()), (TableVersion(2), 4));
        let refusal = state.after(&other).unwrap_err();
        let text = "the table is at version 2: partition 1 was changed by change 2, after version 1; \
            look again and plan anew";
        assert_eq!(refusal.to_string(), text);
        // Changes of other entries do not get in each other's way.
        let elsewhere = Placed { epoch: Epoch(2), ..state.partitions[&PartitionId(2)].placed };
        let edits = vec![(PartitionId(2), Some(elsewhere))];
        let apart = Change { seen: vec![(PartitionId(2), TableVersion(1))], edits, shards: None };
        assert_eq!(state.after(&apart).unwrap().version_of(PartitionId(2)), TableVersion(3));
    }

    #[test]
    fn an_entry_that_was_only_looked_at_must_be_as_it_was_too() {
        let state = first(3, 2);
        let mut change = split(&state, 3);
        change.seen.insert(0, (PartitionId(0), TableVersion(1)));
        let other = Placed { epoch: Epoch(2), ..state.partitions[&PartitionId(0)].placed };
        let edits = vec![(PartitionId(0), Some(other))];
        let state = state.after(&Change { seen: seen(&state, &[0]), edits, shards: None }).unwrap();
        let Err(Refusal::Stale { moved, .. }) = state.after(&change) else { panic!("made") };
        let (partition, seen, found) = (PartitionId(0), TableVersion(1), TableVersion(2));
        assert_eq!(moved, [Moved { partition, seen, found }]);
    }

    #[test]
    fn what_no_table_may_say_is_refused() {
        let state = first(3, 2).after(&split(&first(3, 2), 3)).unwrap();
        let placed = |id: u32| state.partitions[&PartitionId(id)].placed;
        let one = |id: u32, placed: Option<Placed>| Change {
            seen: seen(&state, &[id]),
            edits: vec![(PartitionId(id), placed)],
            shards: None,
        };
        let raised = state.after(&one(0, Some(Placed { epoch: Epoch(3), ..placed(0) }))).unwrap();
        let empty = Placed { end: placed(0).start, ..placed(0) };
        let merged = {
            let edits = vec![
                (PartitionId(1), Some(Placed { end: placed(3).end, ..placed(1) })),
                (PartitionId(3), None),
            ];
            state.after(&Change { seen: seen(&state, &[1, 3]), edits, shards: None }).unwrap()
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
            (&raised, Change { seen: seen(&raised, &[0]), ..one(0, Some(placed(0))) }, "epoch that falls"),
            (&state, one(u32::MAX, Some(empty)), "partition number"),
            (
                &merged,
                Change { seen: seen(&merged, &[3]), ..one(3, Some(empty)) },
                "partition number that was given out before",
            ),
            (&state, one(9, None), "removal of a partition that is not there"),
            (&state, Change { seen: Vec::new(), ..one(0, Some(placed(0))) }, "edit of an entry not seen"),
            (&state, Change::default(), "change of nothing"),
            (
                &state,
                Change { shards: Some(1), ..Change::default() },
                "partition on a shard that there is not",
            ),
            (&state, Change { shards: Some(0), ..Change::default() }, "shard count"),
        ] {
            assert_eq!(state.after(&change), Err(Refusal::Impossible(why)), "{change:?}");
        }
        // A partition without a range is one that only has guests.
        assert!(state.after(&one(9, Some(empty))).is_ok());
    }

    #[test]
    fn partitions_are_dealt_out_in_turn_by_range() {
        let state = first(5, 1);
        let state = state.after(&split(&state, 5)).unwrap();
        let state = state.after(&state.dealt_to(3)).unwrap();
        let shards: Vec<u16> = state.partitions.values().map(|entry| entry.placed.shard.0).collect();
        assert_eq!((state.shards, shards), (3, vec![0, 1, 0, 1, 2, 2]), "5 lies between 1 and 2");
    }

    #[test]
    fn ranges_that_do_not_cover_everything_are_refused() {
        for ranges in [&[(PartitionId(0), 5)][..], &[(PartitionId(0), 0), (PartitionId(0), 5)], &[]] {
            assert!(State::first(ranges, 1).is_err(), "{ranges:?}");
        }
        assert!(State::first(&State::even_ranges(2), 0).is_err());
    }
}
