//! Payloads of format 1, which knew partitions only. They are read; what is written is of the present format.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{RawEntry, RawPlaced, RawSeen, decode_entries};
use crate::ids::{PartitionId, TableVersion};
use crate::table::change::{Change, Partitions};
use crate::table::state::State;

/// As [`State::decode`].
pub(in crate::table) fn decode_state(
    version: TableVersion,
    bytes: &[u8],
) -> Result<(State, u64), &'static str> {
    let (head, rest) = RawState::ref_from_prefix(bytes).map_err(|_| "snapshot cut off")?;
    let entries = <[RawEntry]>::ref_from_bytes(rest).map_err(|_| "entries cut off")?;
    if entries.len() != head.count.get() as usize || head.reserved != [0; 6] {
        return Err("head of the snapshot");
    }
    let partitions = decode_entries(entries)?;
    let next_partition = PartitionId(head.next_partition.get());
    let (guests, moves) = Default::default();
    let state = State { version, shards: head.shards.get(), next_partition, partitions, guests, moves };
    state.check()?;
    Ok((state, head.reserved_bytes.get()))
}

/// As [`Change::decode`].
pub(in crate::table) fn decode_change(bytes: &[u8]) -> Result<Change, &'static str> {
    let (head, rest) = RawChange::ref_from_prefix(bytes).map_err(|_| "change cut off")?;
    let seen = head.seen.get() as usize;
    let (seen, rest) =
        <[RawSeen]>::ref_from_prefix_with_elems(rest, seen).map_err(|_| "entries seen cut off")?;
    let edits = <[RawPlaced]>::ref_from_bytes(rest).map_err(|_| "edits cut off")?;
    if edits.len() != head.edits.get() as usize || head.reserved != [0; 6] {
        return Err("head of the change");
    }
    Ok(Change::Partitions(Partitions {
        seen: seen.iter().map(RawSeen::read).collect(),
        edits: edits.iter().map(RawPlaced::read).collect::<Result<_, _>>()?,
        guests: Vec::new(),
        shards: Some(head.shards.get()).filter(|shards| *shards != 0),
    }))
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawState {
    reserved_bytes: U64,
    next_partition: U32,
    count: U32,
    shards: U16,
    reserved: [u8; 6],
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawChange {
    seen: U32,
    edits: U32,
    shards: U16,
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<RawState>() == 24 && size_of::<RawChange>() == 16, "as FORMAT.md says");
