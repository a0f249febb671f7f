//! A state and a change as bytes: what the frames of the table's log carry. `engine/FORMAT.md`, "Table", owns the
//! layouts.

pub(super) mod old;

use std::collections::BTreeMap;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::change::{BeginMove, Change, Partitions};
use super::guests::{Guest, GuestRef, Guests};
use super::state::{Entry, OpenMove, Placed, State};
use crate::ids::{Epoch, MoveId, PartitionId, ShardId, TableVersion};
use crate::key::RoutingKey;

impl State {
    /// Appends its bytes, but for the version, which the frame has; `reserved_bytes` is what each of the log's files has
    /// at least.
    pub fn encode(&self, reserved_bytes: u64, out: &mut Vec<u8>) {
        self.encode_head(reserved_bytes, out);
        self.guests.iter().for_each(|guest| encode_guest(&guest, out));
    }

    /// Appends all of its bytes that come before its guests'.
    pub(super) fn encode_head(&self, reserved_bytes: u64, out: &mut Vec<u8>) {
        let head = RawState {
            reserved_bytes: U64::new(reserved_bytes),
            next_partition: U32::new(self.next_partition.0),
            partitions: length(self.partitions.len()),
            moves: length(self.moves.len()),
            guests: length(self.guests.len()),
            shards: U16::new(self.shards),
            reserved: [0; 6],
        };
        out.extend_from_slice(head.as_bytes());
        for (id, entry) in &self.partitions {
            let raw = RawEntry {
                placed: RawPlaced::of(*id, Some(&entry.placed)),
                version: U64::new(entry.version.0),
            };
            out.extend_from_slice(raw.as_bytes());
        }
        for (id, open) in &self.moves {
            let raw = RawMove {
                id: U64::new(id.0),
                from: U32::new(open.from.0),
                to: U32::new(open.to.0),
                from_epoch: U64::new(open.from_epoch.0),
                to_epoch: U64::new(open.to_epoch.0),
                length: name_length(&open.entity),
            };
            out.extend_from_slice(raw.as_bytes());
            out.extend_from_slice(&open.entity);
        }
    }

    /// The state of `version` in `bytes`, and what the log's files have at least.
    ///
    /// # Errors
    /// What is wrong, for any bytes that [`State::encode`] does not make.
    pub fn decode(version: TableVersion, bytes: &[u8]) -> Result<(Self, u64), &'static str> {
        let (head, rest) = RawState::ref_from_prefix(bytes).map_err(|_| "snapshot cut off")?;
        if head.reserved != [0; 6] {
            return Err("head of the snapshot");
        }
        let count = head.partitions.get() as usize;
        let (entries, mut rest) =
            <[RawEntry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| "entries cut off")?;
        let partitions = decode_entries(entries)?;
        let mut moves = BTreeMap::new();
        for _ in 0..head.moves.get() {
            let (id, open, tail) = decode_move(rest)?;
            if moves.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err("order of the moves");
            }
            moves.insert(id, open);
            rest = tail;
        }
        let (guests, rest) = decode_guests(head.guests.get(), rest)?;
        if !rest.is_empty() {
            return Err("bytes after the last guest");
        }
        let next_partition = PartitionId(head.next_partition.get());
        let state = Self { version, shards: head.shards.get(), next_partition, partitions, guests, moves };
        state.check()?;
        state.check_entities()?;
        Ok((state, head.reserved_bytes.get()))
    }

    /// The length of [`State::encode`].
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let moves = self.moves.values().map(|open| size_of::<RawMove>() + open.entity.len());
        size_of::<RawState>()
            + self.partitions.len() * size_of::<RawEntry>()
            + moves.sum::<usize>()
            + self.guests.len() * size_of::<RawGuest>()
            + self.guests.names_bytes()
    }
}

impl Change {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Partitions(change) => change.encode(out),
            Self::BeginMove(change) => change.encode(out),
            Self::CommitMove { id } => RawDecision::encode(COMMIT, *id, out),
            Self::AbortMove { id } => RawDecision::encode(ABORT, *id, out),
        }
    }

    /// The change in `bytes`; whether it can be made is the state's to say.
    ///
    /// # Errors
    /// What is wrong, for any bytes that [`Change::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        match bytes.first() {
            Some(&PARTITIONS) => Partitions::decode(bytes).map(Self::Partitions),
            Some(&BEGIN) => BeginMove::decode(bytes).map(Self::BeginMove),
            Some(&COMMIT) => RawDecision::decode(bytes).map(|id| Self::CommitMove { id }),
            Some(&ABORT) => RawDecision::decode(bytes).map(|id| Self::AbortMove { id }),
            Some(_) | None => Err("kind of change"),
        }
    }
}

impl Partitions {
    fn encode(&self, out: &mut Vec<u8>) {
        let head = RawPartitions {
            kind: PARTITIONS,
            reserved: 0,
            shards: U16::new(self.shards.unwrap_or(0)),
            seen: length(self.seen.len()),
            edits: length(self.edits.len()),
            guests: length(self.guests.len()),
        };
        out.extend_from_slice(head.as_bytes());
        for (id, version) in &self.seen {
            out.extend_from_slice(RawSeen { id: U32::new(id.0), version: U64::new(version.0) }.as_bytes());
        }
        for (id, placed) in &self.edits {
            out.extend_from_slice(RawPlaced::of(*id, placed.as_ref()).as_bytes());
        }
        for (entity, to) in &self.guests {
            let kind = if to.is_some() { PUT } else { REMOVE };
            let partition = U32::new(to.map_or(0, |to| to.0));
            let raw = RawSend { partition, kind, reserved: 0, length: name_length(entity) };
            out.extend_from_slice(raw.as_bytes());
            out.extend_from_slice(entity);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = RawPartitions::ref_from_prefix(bytes).map_err(|_| "change cut off")?;
        let (seen, edits) = (head.seen.get() as usize, head.edits.get() as usize);
        let (seen, rest) =
            <[RawSeen]>::ref_from_prefix_with_elems(rest, seen).map_err(|_| "entries seen cut off")?;
        let (edits, mut rest) =
            <[RawPlaced]>::ref_from_prefix_with_elems(rest, edits).map_err(|_| "edits cut off")?;
        let mut guests = Vec::new();
        for _ in 0..head.guests.get() {
            let (raw, tail) = RawSend::ref_from_prefix(rest).map_err(|_| "guests cut off")?;
            let (entity, tail) = split_name(tail, raw.length)?;
            let to = match (raw.kind, raw.partition.get()) {
                (PUT, partition) => Some(PartitionId(partition)),
                (REMOVE, 0) => None,
                _ => return Err("kind of guest"),
            };
            if raw.reserved != 0 {
                return Err("reserved byte");
            }
            guests.push((entity.to_vec(), to));
            rest = tail;
        }
        if head.reserved != 0 || !rest.is_empty() {
            return Err("head of the change");
        }
        Ok(Self {
            seen: seen.iter().map(RawSeen::read).collect(),
            edits: edits.iter().map(RawPlaced::read).collect::<Result<_, _>>()?,
            guests,
            shards: Some(head.shards.get()).filter(|shards| *shards != 0),
        })
    }
}

impl BeginMove {
    fn encode(&self, out: &mut Vec<u8>) {
        let raw = RawBegin {
            kind: BEGIN,
            reserved: 0,
            length: name_length(&self.entity),
            from: U32::new(self.from.0),
            to: U32::new(self.to.0),
            entry: U64::new(self.entry.0),
            from_epoch: U64::new(self.from_epoch.0),
            to_epoch: U64::new(self.to_epoch.0),
        };
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(&self.entity);
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (raw, rest) = RawBegin::ref_from_prefix(bytes).map_err(|_| "change cut off")?;
        if raw.reserved != 0 || rest.len() != usize::from(raw.length.get()) {
            return Err("head of the change");
        }
        Ok(Self {
            entity: rest.to_vec(),
            entry: TableVersion(raw.entry.get()),
            from: PartitionId(raw.from.get()),
            to: PartitionId(raw.to.get()),
            from_epoch: Epoch(raw.from_epoch.get()),
            to_epoch: Epoch(raw.to_epoch.get()),
        })
    }
}

/// Partitions' entries, ascending.
pub(super) fn decode_entries(entries: &[RawEntry]) -> Result<BTreeMap<PartitionId, Entry>, &'static str> {
    if entries.windows(2).any(|pair| pair[0].placed.id.get() >= pair[1].placed.id.get()) {
        return Err("order of the entries");
    }
    let mut partitions = BTreeMap::new();
    for raw in entries {
        let (id, placed) = raw.placed.read()?;
        let placed = placed.ok_or("entry of no partition")?;
        partitions.insert(id, Entry { placed, version: TableVersion(raw.version.get()) });
    }
    Ok(partitions)
}

fn decode_move(bytes: &[u8]) -> Result<(MoveId, OpenMove, &[u8]), &'static str> {
    let (raw, rest) = RawMove::ref_from_prefix(bytes).map_err(|_| "moves cut off")?;
    let (entity, rest) = split_name(rest, raw.length)?;
    let open = OpenMove {
        entity: entity.into(),
        from: PartitionId(raw.from.get()),
        to: PartitionId(raw.to.get()),
        from_epoch: Epoch(raw.from_epoch.get()),
        to_epoch: Epoch(raw.to_epoch.get()),
    };
    Ok((MoveId(raw.id.get()), open, rest))
}

/// Appends a guest's bytes.
pub(crate) fn encode_guest(found: &GuestRef<'_>, out: &mut Vec<u8>) {
    let entity = found.entity();
    let raw = RawGuest {
        partition: U32::new(found.guest.partition.0),
        version: U64::new(found.guest.version.0),
        length: name_length(&entity),
    };
    out.extend_from_slice(raw.as_bytes());
    out.extend_from_slice(&entity);
}

/// `count` guests in home order at the front of `bytes`, and what follows them.
pub(crate) fn decode_guests(count: u32, bytes: &[u8]) -> Result<(Guests, &[u8]), &'static str> {
    let (mut guests, mut rest, mut last) = (Guests::default(), bytes, None);
    for _ in 0..count {
        let (raw, tail) = RawGuest::ref_from_prefix(rest).map_err(|_| "guests cut off")?;
        let (entity, tail) = split_name(tail, raw.length)?;
        let guest =
            Guest { partition: PartitionId(raw.partition.get()), version: TableVersion(raw.version.get()) };
        let at = Some((RoutingKey::of(entity), entity));
        if last >= at {
            return Err("order of the guests");
        }
        guests.insert(entity, guest).map_err(|_| "name of a guest")?;
        (last, rest) = (at, tail);
    }
    Ok((guests, rest))
}

fn split_name(bytes: &[u8], length: U16) -> Result<(&[u8], &[u8]), &'static str> {
    bytes.split_at_checked(usize::from(length.get())).ok_or("name of an entity cut off")
}

fn name_length(entity: &[u8]) -> U16 {
    U16::new(u16::try_from(entity.len()).expect("names are bounded"))
}

impl RawDecision {
    fn encode(kind: u8, id: MoveId, out: &mut Vec<u8>) {
        out.extend_from_slice(Self { kind, reserved: [0; 7], id: U64::new(id.0) }.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<MoveId, &'static str> {
        let raw = Self::ref_from_bytes(bytes).map_err(|_| "length of the change")?;
        if raw.reserved == [0; 7] { Ok(MoveId(raw.id.get())) } else { Err("head of the change") }
    }
}

impl RawSeen {
    pub(super) fn read(&self) -> (PartitionId, TableVersion) {
        (PartitionId(self.id.get()), TableVersion(self.version.get()))
    }
}

impl RawPlaced {
    fn of(id: PartitionId, placed: Option<&Placed>) -> Self {
        let (kind, placed) = match placed {
            Some(placed) => (PUT, *placed),
            None => (REMOVE, NOWHERE),
        };
        Self {
            id: U32::new(id.0),
            shard: U16::new(placed.shard.0),
            kind,
            reserved: 0,
            epoch: U64::new(placed.epoch.0),
            start: U64::new(placed.start.0),
            end: U64::new(placed.end.0),
        }
    }

    pub(super) fn read(&self) -> Result<(PartitionId, Option<Placed>), &'static str> {
        let placed = Placed {
            shard: ShardId(self.shard.get()),
            epoch: Epoch(self.epoch.get()),
            start: RoutingKey(self.start.get()),
            end: RoutingKey(self.end.get()),
        };
        let placed = match self.kind {
            PUT => Some(placed),
            REMOVE if placed == NOWHERE => None,
            _ => return Err("kind of entry"),
        };
        if self.reserved == 0 { Ok((PartitionId(self.id.get()), placed)) } else { Err("reserved byte") }
    }
}

fn length(len: usize) -> U32 {
    U32::new(u32::try_from(len).expect("partitions and guests are bounded, and so are changes"))
}

const PARTITIONS: u8 = 1;
const BEGIN: u8 = 2;
const COMMIT: u8 = 3;
const ABORT: u8 = 4;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
/// What stands in the entry of a partition that is removed.
const NOWHERE: Placed =
    Placed { shard: ShardId(0), epoch: Epoch(0), start: RoutingKey(0), end: RoutingKey(0) };

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawState {
    reserved_bytes: U64,
    next_partition: U32,
    partitions: U32,
    moves: U32,
    guests: U32,
    shards: U16,
    reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawPlaced {
    id: U32,
    shard: U16,
    kind: u8,
    reserved: u8,
    epoch: U64,
    start: U64,
    end: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawEntry {
    placed: RawPlaced,
    version: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawMove {
    id: U64,
    from: U32,
    to: U32,
    from_epoch: U64,
    to_epoch: U64,
    length: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawGuest {
    partition: U32,
    version: U64,
    length: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPartitions {
    kind: u8,
    reserved: u8,
    shards: U16,
    seen: U32,
    edits: U32,
    guests: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawSeen {
    id: U32,
    version: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSend {
    partition: U32,
    kind: u8,
    reserved: u8,
    length: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBegin {
    kind: u8,
    reserved: u8,
    length: U16,
    from: U32,
    to: U32,
    entry: U64,
    from_epoch: U64,
    to_epoch: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDecision {
    kind: u8,
    reserved: [u8; 7],
    id: U64,
}

const _: () = assert!(size_of::<RawState>() == 32 && size_of::<RawEntry>() == 40, "as FORMAT.md says");
const _: () = assert!(size_of::<RawMove>() == 34 && size_of::<RawGuest>() == 14, "as FORMAT.md says");
const _: () = assert!(size_of::<RawPartitions>() == 16 && size_of::<RawPlaced>() == 32, "as FORMAT.md says");
const _: () = assert!(size_of::<RawSeen>() == 12 && size_of::<RawSend>() == 8, "as FORMAT.md says");
const _: () = assert!(size_of::<RawBegin>() == 36 && size_of::<RawDecision>() == 16, "as FORMAT.md says");

#[cfg(test)]
mod tests;
