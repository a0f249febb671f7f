//! A state and a change as bytes: what the frames of the table's log carry. `engine/FORMAT.md`, "Table", owns the
//! layouts.

use std::collections::BTreeMap;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::state::{Change, Entry, Placed, State};
use crate::ids::{Epoch, PartitionId, ShardId, TableVersion};
use crate::key::RoutingKey;

impl State {
    /// Appends its bytes, but for the version, which the frame has; `reserved_bytes` is what each of the log's files has
    /// at least.
    pub fn encode(&self, reserved_bytes: u64, out: &mut Vec<u8>) {
        let head = RawState {
            reserved_bytes: U64::new(reserved_bytes),
            next_partition: U32::new(self.next_partition.0),
            count: length(self.partitions.len()),
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
    }

    /// The state of `version` in `bytes`, and what the log's files have at least.
    ///
    /// # Errors
    /// What is wrong, for any bytes that [`State::encode`] does not make.
    pub fn decode(version: TableVersion, bytes: &[u8]) -> Result<(Self, u64), &'static str> {
        let (head, rest) = RawState::ref_from_prefix(bytes).map_err(|_| "snapshot cut off")?;
        let entries = <[RawEntry]>::ref_from_bytes(rest).map_err(|_| "entries cut off")?;
        if entries.len() != head.count.get() as usize || head.reserved != [0; 6] {
            return Err("head of the snapshot");
        }
        if entries.windows(2).any(|pair| pair[0].placed.id.get() >= pair[1].placed.id.get()) {
            return Err("order of the entries");
        }
        let mut partitions = BTreeMap::new();
        for raw in entries {
            let (id, placed) = raw.placed.read()?;
            let placed = placed.ok_or("entry of no partition")?;
            partitions.insert(id, Entry { placed, version: TableVersion(raw.version.get()) });
        }
        let next_partition = PartitionId(head.next_partition.get());
        let state = Self { version, shards: head.shards.get(), next_partition, partitions };
        state.check()?;
        Ok((state, head.reserved_bytes.get()))
    }

    /// The length of [`State::encode`].
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        size_of::<RawState>() + self.partitions.len() * size_of::<RawEntry>()
    }
}

impl Change {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let head = RawChange {
            seen: length(self.seen.len()),
            edits: length(self.edits.len()),
            shards: U16::new(self.shards.unwrap_or(0)),
            reserved: [0; 6],
        };
        out.extend_from_slice(head.as_bytes());
        for (id, version) in &self.seen {
            out.extend_from_slice(RawSeen { id: U32::new(id.0), version: U64::new(version.0) }.as_bytes());
        }
        for (id, placed) in &self.edits {
            out.extend_from_slice(RawPlaced::of(*id, placed.as_ref()).as_bytes());
        }
    }

    /// The change in `bytes`; whether it can be made is the state's to say.
    ///
    /// # Errors
    /// What is wrong, for any bytes that [`Change::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = RawChange::ref_from_prefix(bytes).map_err(|_| "change cut off")?;
        let seen = head.seen.get() as usize;
        let (seen, rest) =
            <[RawSeen]>::ref_from_prefix_with_elems(rest, seen).map_err(|_| "entries seen cut off")?;
        let edits = <[RawPlaced]>::ref_from_bytes(rest).map_err(|_| "edits cut off")?;
        if edits.len() != head.edits.get() as usize || head.reserved != [0; 6] {
            return Err("head of the change");
        }
        Ok(Self {
            seen: seen
                .iter()
                .map(|raw| (PartitionId(raw.id.get()), TableVersion(raw.version.get())))
                .collect(),
            edits: edits.iter().map(RawPlaced::read).collect::<Result<_, _>>()?,
            shards: Some(head.shards.get()).filter(|shards| *shards != 0),
        })
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

    fn read(&self) -> Result<(PartitionId, Option<Placed>), &'static str> {
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
    U32::new(u32::try_from(len).expect("partitions are bounded, and so are changes"))
}

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
    count: U32,
    shards: U16,
    reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPlaced {
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
struct RawEntry {
    placed: RawPlaced,
    version: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawChange {
    seen: U32,
    edits: U32,
    shards: U16,
    reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSeen {
    id: U32,
    version: U64,
}

const _: () = assert!(size_of::<RawState>() == 24 && size_of::<RawEntry>() == 40, "as FORMAT.md says");
const _: () =
    assert!(size_of::<RawChange>() == 16 && size_of::<RawSeen>() == 12 && size_of::<RawPlaced>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_its_bytes() {
        let state = State::first(&[(PartitionId(3), 0)], 2).unwrap();
        let mut bytes = Vec::new();
        state.encode(1 << 20, &mut bytes);
        let mut expected = (1_u64 << 20).to_le_bytes().to_vec();
        expected.extend_from_slice(&[4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[3, 0, 0, 0, 0, 0, 1, 0]);
        for n in [1, 0, u64::MAX, 1] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        assert_eq!(bytes, expected);
        assert_eq!(
            (bytes.len(), State::decode(TableVersion(1), &bytes)),
            (state.encoded_bytes(), Ok((state, 1 << 20)))
        );

        let placed = Placed { shard: ShardId(1), epoch: Epoch(9), start: RoutingKey(5), end: RoutingKey(6) };
        let seen = vec![(PartitionId(3), TableVersion(7))];
        let change = Change {
            seen,
            edits: vec![(PartitionId(3), Some(placed)), (PartitionId(4), None)],
            shards: Some(2),
        };
        let mut bytes = Vec::new();
        change.encode(&mut bytes);
        let mut expected = vec![1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0];
        expected.extend_from_slice(&7_u64.to_le_bytes());
        expected.extend_from_slice(&[3, 0, 0, 0, 1, 0, 1, 0]);
        for n in [9_u64, 5, 6] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        expected.extend_from_slice(&[4, 0, 0, 0, 0, 0, 2, 0]);
        expected.extend_from_slice(&[0; 24]);
        assert_eq!(bytes, expected);
        assert_eq!(Change::decode(&bytes), Ok(change));
        for len in 0..bytes.len() {
            assert!(Change::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }
}
