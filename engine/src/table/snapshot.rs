//! A snapshot's frame, written piece by piece: a table may be tens of megabytes, and its core has others to serve
//! between one piece and the next.
//!
//! Invariant: what is written is what [`super::frame::Frame::encode`] makes.

use super::codec::encode_guest;
use super::frame::{CHECKSUM_AT, snapshot_head};
use super::state::State;
use crate::error::Result;
use crate::io::buffer::{AlignedBuf, align_up};
use crate::io::disk::{File, Write};
use crate::superblock::StoreId;

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Written {
    /// Its blocks' bytes.
    pub(super) bytes: usize,
    /// Its checksum.
    pub(super) checksum: u32,
}

/// Writes a snapshot's frame to the start of `file` but for its first piece: that makes it whole, and is returned with where
/// the frame ends.
pub(super) async fn write_behind_first(
    file: &dyn File,
    store: StoreId,
    state: &State,
    reserved_bytes: u64,
) -> Result<(AlignedBuf, Written)> {
    let mut out = snapshot_head(store, state, reserved_bytes);
    let (mut guests, mut hasher) = (state.guests.iter(), crc32fast::Hasher::new());
    let (mut first, mut at) = (None, 0);
    loop {
        while out.len() < PIECE_BYTES
            && let Some(guest) = guests.next()
        {
            encode_guest(&guest, &mut out);
        }
        let piece = &out[..out.len().min(PIECE_BYTES)];
        if piece.is_empty() {
            break;
        }
        if first.is_some() {
            hasher.update(piece);
            let buf = AlignedBuf::from_slice(piece);
            file.write_at(buf, at as u64, Write::Plain).await.1?;
        } else {
            hasher.update(&piece[..CHECKSUM_AT]);
            hasher.update(&piece[CHECKSUM_AT + 4..]);
            first = Some(AlignedBuf::from_slice(piece));
        }
        let len = piece.len();
        at += align_up(len);
        out.drain(..len);
        // A piece that is not full was the last.
        if len < PIECE_BYTES {
            break;
        }
    }
    let checksum = hasher.finalize();
    let mut first = first.expect("a frame has a header");
    first[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    Ok((first, Written { bytes: at, checksum }))
}

/// Some hundred microseconds of a core. A multiple of a block.
const PIECE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ids::{PartitionId, TableVersion};
    use crate::io::disk::{Disk, OpenMode};
    use crate::io::memory::{MemoryConfig, MemoryDisk};
    use crate::io::virtual_time::VirtualRuntime;
    use crate::table::frame::{Body, Frame};
    use crate::table::guests::Guest;

    #[test]
    fn the_pieces_are_the_frame() {
        let world = VirtualRuntime::new(1);
        let disk = MemoryDisk::new(&world.runtime(), 1, MemoryConfig::default());
        let store = StoreId([5; 16]);
        let mut state = State::first(&State::even_ranges(2), 1).unwrap();
        world.block_on(async {
            let file = disk.open(Path::new("/snapshot"), OpenMode::Create).await.unwrap();
            let guest = Guest { partition: PartitionId(0), version: TableVersion(1) };
            let head = snapshot_head(store, &state, 7).len();
            // Ends before, at and behind the ends of pieces and blocks.
            let lens =
                [head, 4096, 4097, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 200_000];
            for len in lens {
                let mut n = 0;
                while snapshot_head(store, &state, 7).len()
                    + state.guests.names_bytes()
                    + 14 * state.guests.len()
                    < len
                {
                    let missing = len - head - state.guests.names_bytes() - 14 * state.guests.len();
                    let name = format!("{n:0width$}", width = missing.saturating_sub(14).clamp(1, 900));
                    // A rest that no name fills: a shorter one before it.
                    let name = if missing > 14 && missing < 40 { &name[..missing - 14] } else { &name };
                    state.guests.insert(name.as_bytes(), guest).unwrap();
                    n += 1;
                }
                let (first, written) = write_behind_first(&*file, store, &state, 7).await.unwrap();
                file.write_at(first, 0, Write::Plain).await.1.unwrap();
                let version = state.version;
                let frame = Frame { store, version, previous: 0, body: Body::Snapshot(state.clone(), 7) };
                let (expected, checksum) = frame.encode();
                assert_eq!(written, Written { bytes: expected.len(), checksum }, "{len}");
                let (found, count) = file.read_at(AlignedBuf::zeroed(expected.len()), 0).await;
                assert!(count.unwrap() == expected.len() && *found == *expected, "{len}");
            }
        });
    }
}
