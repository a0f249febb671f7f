//! Changes of the table, and which of them may be made of a state. No I/O.
//!
//! Each is a compare-and-swap: it names what it was made from, and is refused by name when that is something else by
//! then. Who may change what while something else is under way:
//! - a move begins from where its entity is, and nothing is held for it. It commits only while it is open, and both
//!   its partitions are in the epochs in which it began (R13);
//! - what a move relies on is not changed under it: neither the ranges of its partitions nor its entity's place. Their
//!   epochs may be raised, which makes its commit impossible;
//! - a partition that is removed, or whose range is no longer all of what it was, says for each of its guests where it is
//!   to be (R17); and so does one whose range comes to cover a guest that it has.

use std::sync::Arc;

use super::guests::{Guest, GuestRef};
use super::refusal::{Moved, Refusal};
use super::state::{Entry, OpenMove, Placed, State};
use crate::ids::{Epoch, MoveId, PartitionId, ShardId, TableVersion};
use crate::key::RoutingKey;
use crate::limits::{ENTITY_BYTES_MAX, GUESTS_MAX, MOVES_OPEN_MAX};

/// A change, all of which happens or nothing, and what it was made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Partitions are made, changed, removed.
    Partitions(Partitions),
    /// A move of an entity begins: nothing is elsewhere yet.
    BeginMove(BeginMove),
    /// The entity is where its move takes it.
    CommitMove {
        /// Which move.
        id: MoveId,
    },
    /// The move never was.
    AbortMove {
        /// Which move.
        id: MoveId,
    },
}

/// A change of partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Partitions {
    /// The entries that it was made from, by their versions; 0: there was none. It names every entry that is edited,
    /// and may name others that must not have changed. Ascending.
    pub seen: Vec<(PartitionId, TableVersion)>,
    /// What becomes of entries; none: the partition is no more. Ascending.
    pub edits: Vec<(PartitionId, Option<Placed>)>,
    /// Where entities are to be that are in an edited partition: in an edited one; none: at home, there too. Ascending.
    pub guests: Vec<(Vec<u8>, Option<PartitionId>)>,
    /// How many shards there are from here on; none: as before.
    pub shards: Option<u16>,
}

/// The beginning of a move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeginMove {
    /// Who is to move.
    pub entity: Vec<u8>,
    /// The version of its entry, as it was seen; 0: it was at home.
    pub entry: TableVersion,
    /// Where it is.
    pub from: PartitionId,
    /// Where it is to be; its home too.
    pub to: PartitionId,
    /// The epoch of `from`.
    pub from_epoch: Epoch,
    /// The epoch of `to`.
    pub to_epoch: Epoch,
}

impl State {
    /// The state after `change`.
    ///
    /// # Errors
    /// [`Refusal`]: what came in between, or what is wrong with it.
    pub fn after(&self, change: &Change) -> Result<Self, Refusal> {
        let version = TableVersion(self.version.0.checked_add(1).ok_or(Refusal::Impossible("version"))?);
        let next = Self { version, ..self.clone() };
        match change {
            Change::Partitions(change) => change.make(self, next),
            Change::BeginMove(change) => change.make(self, next),
            Change::CommitMove { id } => self.committed(next, *id),
            Change::AbortMove { id } => self.without_move(next, *id).map(|(next, _)| next),
        }
    }

    fn committed(&self, next: Self, id: MoveId) -> Result<Self, Refusal> {
        let (mut next, open) = self.without_move(next, id)?;
        self.expect_epoch(open.from, open.from_epoch)?;
        self.expect_epoch(open.to, open.to_epoch)?;
        if self.home(RoutingKey::of(&open.entity)) == open.to {
            next.guests.remove(&open.entity);
        } else {
            next.place(&open.entity, open.to)?;
        }
        Ok(next)
    }

    fn without_move(&self, mut next: Self, id: MoveId) -> Result<(Self, OpenMove), Refusal> {
        let open = next.moves.remove(&id).ok_or(Refusal::Decided { version: self.version, id })?;
        assert_eq!(self.owner(&open.entity), open.from, "an entity stays while it moves");
        Ok((next, open))
    }

    fn expect_epoch(&self, partition: PartitionId, seen: Epoch) -> Result<(), Refusal> {
        let found = self.partitions.get(&partition).map(|entry| entry.placed.epoch);
        if found == Some(seen) {
            return Ok(());
        }
        Err(Refusal::Epoch { version: self.version, partition, seen, found })
    }

    fn elsewhere(&self, entity: &[u8]) -> Refusal {
        Refusal::Elsewhere {
            version: self.version,
            entity: entity.to_vec(),
            partition: self.owner(entity),
            entry: self.entry_of(entity),
        }
    }

    fn under_way(&self, (id, open): (MoveId, &OpenMove)) -> Refusal {
        Refusal::UnderWay { version: self.version, id, entity: open.entity.to_vec() }
    }

    fn place(&mut self, entity: &[u8], partition: PartitionId) -> Result<(), Refusal> {
        let guest = Guest { partition, version: self.version };
        self.guests.insert(entity, guest).map_err(|_| BAD_NAME)
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

impl BeginMove {
    fn make(&self, state: &State, mut next: State) -> Result<State, Refusal> {
        if !is_name(&self.entity) {
            return Err(BAD_NAME);
        }
        if self.from == self.to {
            return Err(Refusal::Impossible("move to where the entity is"));
        }
        if (state.entry_of(&self.entity), state.owner(&self.entity)) != (self.entry, self.from) {
            return Err(state.elsewhere(&self.entity));
        }
        if let Some(open) = state.move_of(&self.entity) {
            return Err(state.under_way(open));
        }
        state.expect_epoch(self.from, self.from_epoch)?;
        state.expect_epoch(self.to, self.to_epoch)?;
        if state.moves.len() >= MOVES_OPEN_MAX {
            return Err(Refusal::TooMany { what: "open moves", limit: MOVES_OPEN_MAX });
        }
        if state.guests.len() + state.moves.len() >= GUESTS_MAX {
            return Err(Refusal::TooMany { what: "guests", limit: GUESTS_MAX });
        }
        let open = OpenMove {
            entity: Arc::from(&*self.entity),
            from: self.from,
            to: self.to,
            from_epoch: self.from_epoch,
            to_epoch: self.to_epoch,
        };
        next.moves.insert(MoveId(next.version.0), open);
        Ok(next)
    }
}

impl Partitions {
    /// Gives the keys of `id` from `at` on to a partition of its own on `shard`, with the guests that `goes` says of. None:
    /// there is no such partition, or `at` is not inside its range.
    #[must_use]
    pub fn split(
        state: &State,
        id: PartitionId,
        at: RoutingKey,
        shard: ShardId,
        mut goes: impl FnMut(GuestRef<'_>) -> bool,
    ) -> Option<Self> {
        let whole = state.partitions.get(&id).map(|entry| entry.placed)?;
        if at <= whole.start || at >= whole.end {
            return None;
        }
        let new = state.next_partition;
        let upper = Placed { shard, epoch: Epoch(1), start: at, end: whole.end };
        let edits = vec![(id, Some(Placed { end: at, ..whole })), (new, Some(upper))];
        let to = |guest: GuestRef<'_>| (guest.entity(), Some(if goes(guest) { new } else { id }));
        Some(Self::of(state, edits, state.guests.in_partition(id).map(to).collect()))
    }

    /// Gives all that is in `from` to `into`. None: they are not two partitions, or neither their ranges lie side by side nor
    /// has `from` none.
    #[must_use]
    pub fn merge(state: &State, into: PartitionId, from: PartitionId) -> Option<Self> {
        let placed = |id| state.partitions.get(&id).map(|entry| entry.placed);
        let (taking, given) = (placed(into)?, placed(from)?);
        let (start, end) = match () {
            () if into == from => return None,
            () if given.start == given.end => (taking.start, taking.end),
            () if taking.start == taking.end || taking.start == given.end => {
                (given.start, given.end.max(taking.end))
            }
            () if taking.end == given.start => (taking.start, given.end),
            () => return None,
        };
        let merged = Placed { start, end, ..taking };
        let mut edits = vec![(into, Some(merged)), (from, None)];
        edits.sort_unstable_by_key(|edit| edit.0);
        let gone = state.guests.in_partition(from);
        let come_home = state.guests.in_partition_between(into, start, end);
        let to = |guest: GuestRef<'_>| {
            (guest.entity(), Some(into).filter(|_| !merged.is_home_to(guest.routing())))
        };
        Some(Self::of(state, edits, gone.chain(come_home).map(to).collect()))
    }

    /// These edits, made from what `state` says, with entities in any order.
    fn of(
        state: &State,
        edits: Vec<(PartitionId, Option<Placed>)>,
        mut guests: Vec<(Vec<u8>, Option<PartitionId>)>,
    ) -> Self {
        guests.sort_unstable();
        let seen = edits.iter().map(|(id, _)| (*id, state.version_of(*id))).collect();
        Self { seen, edits, guests, shards: None }
    }

    fn make(&self, state: &State, mut next: State) -> Result<State, Refusal> {
        self.check().map_err(Refusal::Impossible)?;
        self.expect_seen(state)?;
        self.expect_no_moves(state)?;
        for &(id, placed) in &self.edits {
            self.expect_all_named(state, id, placed)?;
        }
        next.shards = self.shards.unwrap_or(state.shards);
        for &(id, placed) in &self.edits {
            next.edit(id, placed).map_err(Refusal::Impossible)?;
        }
        for (entity, to) in &self.guests {
            self.send(state, &mut next, entity, *to)?;
        }
        if next.guests.len() + next.moves.len() > GUESTS_MAX {
            return Err(Refusal::TooMany { what: "guests", limit: GUESTS_MAX });
        }
        next.check().map_err(Refusal::Impossible)?;
        Ok(next)
    }

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
        if self.guests.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err("order of the guests");
        }
        let is_seen = |id| self.seen.binary_search_by_key(&id, |seen| seen.0).is_ok();
        if self.edits.iter().all(|(id, _)| is_seen(*id)) { Ok(()) } else { Err("edit of an entry not seen") }
    }

    fn expect_seen(&self, state: &State) -> Result<(), Refusal> {
        let other = |&(partition, seen): &(PartitionId, TableVersion)| {
            let found = state.version_of(partition);
            (found != seen).then_some(Moved { partition, seen, found })
        };
        let moved: Vec<Moved> = self.seen.iter().filter_map(other).collect();
        if moved.is_empty() { Ok(()) } else { Err(Refusal::Stale { version: state.version, moved }) }
    }

    /// Refuses what would pull the ground away from under an open move.
    fn expect_no_moves(&self, state: &State) -> Result<(), Refusal> {
        let is_pulled = |id: PartitionId| {
            let (before, edit) = (state.partitions.get(&id), self.edit_of(id));
            before
                .zip(edit)
                .is_some_and(|(before, placed)| !placed.is_some_and(|p| leaves_moves(&before.placed, &p)))
        };
        for (&id, open) in &state.moves {
            let is_named = self.guests.binary_search_by(|named| (*named.0).cmp(&open.entity)).is_ok();
            if is_named || is_pulled(open.from) || is_pulled(open.to) {
                return Err(state.under_way((id, open)));
            }
        }
        Ok(())
    }

    /// Refuses to leave a guest of `id` unnamed that cannot stay as it is.
    fn expect_all_named(&self, state: &State, id: PartitionId, after: Option<Placed>) -> Result<(), Refusal> {
        let Some(before) = state.partitions.get(&id).map(|entry| entry.placed) else { return Ok(()) };
        let (start, end) = match after {
            Some(after) if after.start <= before.start && before.end <= after.end => (after.start, after.end),
            Some(_) | None => (RoutingKey(0), RoutingKey(u64::MAX)),
        };
        for guest in state.guests.in_partition_between(id, start, end) {
            let entity = guest.entity();
            if self.guests.binary_search_by(|named| named.0.cmp(&entity)).is_err() {
                return Err(Refusal::Unnamed { version: state.version, partition: id, entity });
            }
        }
        Ok(())
    }

    fn send(
        &self,
        state: &State,
        next: &mut State,
        entity: &[u8],
        to: Option<PartitionId>,
    ) -> Result<(), Refusal> {
        if !is_name(entity) {
            return Err(BAD_NAME);
        }
        let from = state.owner(entity);
        if self.edit_of(from).is_none() {
            return Err(state.elsewhere(entity));
        }
        let routing = RoutingKey::of(entity);
        let is_home =
            |(_, placed): &(PartitionId, Option<Placed>)| placed.is_some_and(|p| p.is_home_to(routing));
        let home = self.edits.iter().find(|edit| is_home(edit)).map(|edit| edit.0);
        match to {
            Some(to) if home == Some(to) => Err(Refusal::Impossible("guest that is at home")),
            Some(to) if self.edit_of(to).flatten().is_none() => {
                Err(Refusal::Impossible("guest of a partition that is not edited"))
            }
            // It stays, and its entry is the one that it was.
            Some(to) if to == from && state.guests.get(entity).is_some() => Ok(()),
            Some(to) => next.place(entity, to),
            None if home.is_none() => Err(Refusal::Impossible("home that is not edited")),
            None => {
                next.guests.remove(entity);
                Ok(())
            }
        }
    }

    fn edit_of(&self, id: PartitionId) -> Option<Option<Placed>> {
        let at = self.edits.binary_search_by_key(&id, |edit| edit.0).ok()?;
        self.edits.get(at).map(|edit| edit.1)
    }
}

/// Whether a partition may change so while entities move from it or to it: in nothing, or so that no such move can commit.
fn leaves_moves(before: &Placed, after: &Placed) -> bool {
    before == after || after.epoch > before.epoch && (after.start, after.end) == (before.start, before.end)
}

fn is_name(entity: &[u8]) -> bool {
    (1..=ENTITY_BYTES_MAX).contains(&entity.len())
}

impl From<Partitions> for Change {
    fn from(change: Partitions) -> Self {
        Self::Partitions(change)
    }
}

impl From<BeginMove> for Change {
    fn from(change: BeginMove) -> Self {
        Self::BeginMove(change)
    }
}

const BAD_NAME: Refusal = Refusal::Impossible("name of an entity: 1 to 1024 bytes");
const _: () = assert!(ENTITY_BYTES_MAX == 1024, "as the refusal says");

#[cfg(test)]
mod tests;
