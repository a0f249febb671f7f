//! Guests: entities that are placed by name, outside of the partition that their routing key is at home in.
//!
//! They are kept in home order, by the prefix that all storage keys of an entity share, so that a row's key alone says
//! whether it belongs to one; and a second time by partition, as routing keys. A filter before them answers for most keys
//! at home. A version of all this shares with the one before it what a change left as it was.
//!
//! Invariant: a routing key is listed at a partition exactly when a guest with that routing key is placed there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::filter::Filter;
use super::tree::{Item, Tree};
use crate::error::Result;
use crate::ids::{PartitionId, TableVersion};
use crate::key::{self, RoutingKey};
use crate::limits::ROUTING_KEY_BYTES;

/// A guest's entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guest {
    /// Where it is placed.
    pub partition: PartitionId,
    /// The change that wrote it.
    pub version: TableVersion,
}

/// A guest as it stands among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestRef<'a> {
    /// What all storage keys of the entity begin with, and no other's.
    pub prefix: &'a [u8],
    /// Its entry.
    pub guest: Guest,
}

/// All guests; see the module.
#[derive(Clone, Default)]
pub struct Guests {
    filter: Filter,
    by_home: Tree<Record>,
    by_partition: BTreeMap<PartitionId, Tree<Listed>>,
    names_bytes: usize,
}

impl Guests {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.by_home.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all their names.
    #[must_use]
    pub const fn names_bytes(&self) -> usize {
        self.names_bytes
    }

    /// The entry of the guest that a storage key belongs to; none: its entity is at home.
    #[inline]
    #[must_use]
    pub fn covering(&self, key: &[u8]) -> Option<Guest> {
        if !self.filter.may_have(RoutingKey::of_key(key)) {
            return None;
        }
        self.by_home.covering(key).map(Record::guest)
    }

    /// An entity's entry; none: it is at home, or no name of an entity.
    #[must_use]
    pub fn get(&self, entity: &[u8]) -> Option<Guest> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES_USUAL);
        key::encode_entity(entity, &mut prefix).ok()?;
        self.covering(&prefix)
    }

    /// All of them, in home order.
    pub fn iter(&self) -> impl Iterator<Item = GuestRef<'_>> {
        self.by_home.iter().map(Record::as_ref)
    }

    /// Those whose home is in `start..end`, in home order.
    pub fn between(&self, start: RoutingKey, end: RoutingKey) -> impl Iterator<Item = GuestRef<'_>> {
        let of_range = move |record: &&Record| RoutingKey::of_key(record.key()) < end;
        self.by_home.from(&start.to_bytes()).take_while(of_range).map(Record::as_ref)
    }

    /// Those placed in `partition`, in home order.
    pub fn in_partition(&self, partition: PartitionId) -> impl Iterator<Item = GuestRef<'_>> {
        self.in_partition_between(partition, RoutingKey(0), RoutingKey(u64::MAX))
    }

    /// Those placed in `partition` whose home is in `start..end`, in home order.
    pub(super) fn in_partition_between(
        &self,
        partition: PartitionId,
        start: RoutingKey,
        end: RoutingKey,
    ) -> impl Iterator<Item = GuestRef<'_>> {
        let listed = self.by_partition.get(&partition).map(|listed| listed.from(&start.to_bytes()));
        let routing = listed.into_iter().flatten().map(|listed| RoutingKey::of_key(&listed.0));
        routing
            .take_while(move |routing| *routing < end)
            .flat_map(|routing| self.between(routing, RoutingKey(routing.0 + 1)))
            .filter(move |found| found.guest.partition == partition)
    }

    /// Whether any is placed in `partition`.
    #[must_use]
    pub fn has_any(&self, partition: PartitionId) -> bool {
        self.by_partition.contains_key(&partition)
    }

    /// Places an entity.
    ///
    /// # Errors
    /// [`crate::Error::Misuse`] for a name that is empty or over its limit.
    pub(super) fn insert(&mut self, entity: &[u8], guest: Guest) -> Result<()> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES_USUAL);
        key::encode_entity(entity, &mut prefix)?;
        let listed = Listed::of(&prefix);
        let record =
            Record { prefix: Prefix::of(&prefix), version: guest.version, partition: guest.partition };
        match self.by_home.insert(record) {
            Some(before) if before.partition == guest.partition => return Ok(()),
            Some(before) => self.strike(before.partition, listed),
            None => {
                self.names_bytes += entity.len();
                self.filter.add(RoutingKey::of_key(&prefix));
            }
        }
        self.by_partition.entry(guest.partition).or_default().insert(listed);
        Ok(())
    }

    /// Sends an entity home; its entry, if it had one.
    pub(super) fn remove(&mut self, entity: &[u8]) -> Option<Guest> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES_USUAL);
        key::encode_entity(entity, &mut prefix).ok()?;
        let removed = self.by_home.remove(&prefix)?;
        self.names_bytes -= entity.len();
        self.strike(removed.partition, Listed::of(&prefix));
        let routing = RoutingKey::of_key(&prefix);
        let of_slot = |slot: u16| RoutingKey(u64::from(slot) << 48);
        let slot = (of_slot(routing.slot()), of_slot(routing.slot() + 1));
        let stay: Vec<RoutingKey> = self.between(slot.0, slot.1).map(|guest| guest.routing()).collect();
        self.filter.reset(routing, stay.into_iter());
        Some(removed.guest())
    }

    /// Takes a routing key off a partition's list, if no guest with it is left there.
    fn strike(&mut self, partition: PartitionId, listed: Listed) {
        let routing = RoutingKey::of_key(&listed.0);
        let is_there = |other: GuestRef<'_>| other.guest.partition == partition;
        if self.between(routing, RoutingKey(routing.0 + 1)).any(is_there) {
            return;
        }
        if let Some(list) = self.by_partition.get_mut(&partition) {
            list.remove(&listed.0);
            if list.len() == 0 {
                self.by_partition.remove(&partition);
            }
        }
    }
}

impl GuestRef<'_> {
    /// The entity's name.
    #[must_use]
    pub fn entity(&self) -> Vec<u8> {
        key::decode(self.prefix).map(|(entity, _)| entity).unwrap_or_default()
    }

    /// Where it is at home.
    #[must_use]
    pub fn routing(&self) -> RoutingKey {
        RoutingKey::of_key(self.prefix)
    }
}

impl PartialEq for Guests {
    fn eq(&self, other: &Self) -> bool {
        self.by_home == other.by_home
    }
}

impl Eq for Guests {}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A guest in the tree: a cache line, if its name is of usual length.
#[derive(Clone, PartialEq, Eq)]
#[repr(align(64))]
struct Record {
    prefix: Prefix,
    version: TableVersion,
    partition: PartitionId,
}

/// A routing key in a partition's list.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Listed([u8; ROUTING_KEY_BYTES]);

#[derive(Clone)]
enum Prefix {
    Inline(u8, [u8; PREFIX_BYTES_INLINE]),
    Shared(Arc<[u8]>),
}

impl Record {
    const fn guest(&self) -> Guest {
        Guest { partition: self.partition, version: self.version }
    }

    fn as_ref(&self) -> GuestRef<'_> {
        GuestRef { prefix: self.prefix.bytes(), guest: self.guest() }
    }
}

impl Item for Record {
    #[inline]
    fn key(&self) -> &[u8] {
        self.prefix.bytes()
    }
}

impl Item for Listed {
    fn key(&self) -> &[u8] {
        &self.0
    }
}

impl Listed {
    fn of(prefix: &[u8]) -> Self {
        Self(RoutingKey::of_key(prefix).to_bytes())
    }
}

impl Prefix {
    fn of(prefix: &[u8]) -> Self {
        match u8::try_from(prefix.len()) {
            Ok(len) if prefix.len() <= PREFIX_BYTES_INLINE => {
                let mut inline = [0; PREFIX_BYTES_INLINE];
                inline[..prefix.len()].copy_from_slice(prefix);
                Self::Inline(len, inline)
            }
            _ => Self::Shared(prefix.into()),
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(len, inline) => &inline[..usize::from(*len)],
            Self::Shared(shared) => shared,
        }
    }
}

impl PartialEq for Prefix {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Prefix {}

/// Names of up to 36 bytes: what is left of a cache line beside version and partition.
const PREFIX_BYTES_INLINE: usize = 46;
/// A first guess at a prefix's length.
const PREFIX_BYTES_USUAL: usize = 64;

const _: () = assert!(size_of::<Option<Record>>() == 64, "a cache line");
