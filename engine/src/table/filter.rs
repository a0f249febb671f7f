//! Which routing keys may be guests': a megabyte at most, so that keys at home, which nearly all are, are known to be
//! none from what a core has in its cache.
//!
//! A Bloom filter in blocks of a cache line (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters",
//! 2007), one for each Redis slot. Blocks are shared by versions in chunks; when a guest leaves, its slot's block is
//! made anew of those that stay.
//!
//! Invariant: it says of no guest that it is none.

use std::sync::Arc;

use crate::key::RoutingKey;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Filter {
    chunks: Vec<Option<Arc<[Block; CHUNK_BLOCKS]>>>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block([u64; BLOCK_WORDS]);

impl Filter {
    /// Whether there may be a guest with this routing key.
    #[inline]
    pub(super) fn may_have(&self, routing: RoutingKey) -> bool {
        let (chunk, block) = place(routing);
        // No chunk is there for what is no entity's routing key.
        let Some(Some(chunk)) = self.chunks.get(chunk) else { return false };
        let Block(words) = &chunk[block];
        bits(routing).iter().fold(1, |all, bit| all & words[bit / 64] >> (bit % 64)) == 1
    }

    /// From here on there may be one.
    pub(super) fn add(&mut self, routing: RoutingKey) {
        let Block(words) = self.block(routing);
        for bit in bits(routing) {
            words[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Leaves of the guests in `routing`'s slot those that `stay`.
    pub(super) fn reset(&mut self, routing: RoutingKey, stay: impl Iterator<Item = RoutingKey>) {
        *self.block(routing) = Block([0; BLOCK_WORDS]);
        stay.for_each(|routing| self.add(routing));
    }

    fn block(&mut self, routing: RoutingKey) -> &mut Block {
        let (chunk, block) = place(routing);
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let chunk =
            self.chunks[chunk].get_or_insert_with(|| Arc::new([Block([0; BLOCK_WORDS]); CHUNK_BLOCKS]));
        &mut Arc::make_mut(chunk)[block]
    }
}

/// The chunk and the block of a routing key's slot.
#[inline]
fn place(routing: RoutingKey) -> (usize, usize) {
    let slot = usize::from(routing.slot());
    (slot / CHUNK_BLOCKS, slot % CHUNK_BLOCKS)
}

/// The bits that stand for a routing key, from its hash: with sixty guests in a slot, which is a million of them, three bits
/// take one key in thirty-five for a guest's.
#[inline]
fn bits(routing: RoutingKey) -> [usize; 3] {
    let bits = |at: u32| {
        usize::from((routing.0 >> at).to_le_bytes()[0])
            | usize::from((routing.0 >> at).to_le_bytes()[1] & 1) << 8
    };
    [bits(0), bits(9), bits(18)]
}

const BLOCK_WORDS: usize = 8;
/// What a change copies: 16 KiB.
const CHUNK_BLOCKS: usize = 256;

const _: () = assert!(BLOCK_WORDS * 64 == 1 << 9, "nine bits choose a bit of a block");
