//! Names of entities, kept once each in chunks of fixed size: never moved, never grown by copying, bounded.
//!
//! It refuses names when it is full: an entity without a name is known by its routing key, and gets another
//! chance in the next tick.

use zerocopy::FromZeros;

use crate::limits::ENTITY_BYTES_MAX;

/// A chunk is taken at once, and any name fits into one.
const CHUNK_BYTES: usize = 64 << 10;
/// 16 MiB: 100,000 names of 160 bytes each.
const CHUNKS_MAX: usize = 256;

const _: () = assert!(ENTITY_BYTES_MAX <= CHUNK_BYTES, "any name fits a chunk");
const _: () = assert!((CHUNKS_MAX * CHUNK_BYTES) as u64 <= u32::MAX as u64, "a position is a u32");
const _: () = assert!(ENTITY_BYTES_MAX <= u16::MAX as usize, "a name's length is a u16");

/// Where a name is. All zeroes: none is kept.
#[derive(Clone, Copy, FromZeros, Debug, Default)]
#[repr(C)]
pub(super) struct NameRef {
    position: u32,
    length: u16,
}

impl NameRef {
    pub(super) const fn is_none(self) -> bool {
        self.length == 0
    }
}

/// The kept names.
#[derive(Default)]
pub(super) struct Names {
    chunks: Vec<Vec<u8>>,
    refused: u64,
}

impl Names {
    /// Keeps `name`, or refuses: then the reference is none.
    pub(super) fn keep(&mut self, name: &[u8]) -> NameRef {
        let fits = self.chunks.last().is_some_and(|chunk| CHUNK_BYTES - chunk.len() >= name.len());
        if !fits && self.chunks.len() < CHUNKS_MAX {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES));
        }
        let last = self.chunks.len().saturating_sub(1);
        let (Some(chunk), Ok(length)) = (self.chunks.last_mut(), u16::try_from(name.len())) else {
            self.refused += 1;
            return NameRef::default();
        };
        if CHUNK_BYTES - chunk.len() < name.len() {
            self.refused += 1;
            return NameRef::default();
        }
        let position = u32::try_from(last * CHUNK_BYTES + chunk.len()).expect("bounded by CHUNKS_MAX");
        chunk.extend_from_slice(name);
        NameRef { position, length }
    }

    /// The name at `reference`, which this gave out.
    pub(super) fn get(&self, reference: NameRef) -> Option<&[u8]> {
        if reference.is_none() {
            return None;
        }
        let position = reference.position as usize;
        let chunk = &self.chunks[position / CHUNK_BYTES];
        chunk[position % CHUNK_BYTES..].get(..usize::from(reference.length))
    }

    /// How many names there was no room for.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_across_chunks() {
        let mut names = Names::default();
        let mut rng = fastrand::Rng::with_seed(3);
        let kept: Vec<(NameRef, Vec<u8>)> = (0..2000)
            .map(|_| {
                let name: Vec<u8> = (0..rng.usize(1..=ENTITY_BYTES_MAX)).map(|_| rng.u8(..)).collect();
                (names.keep(&name), name)
            })
            .collect();
        assert!(names.chunks.len() > 10);
        for (reference, name) in kept {
            assert_eq!(names.get(reference), Some(&name[..]));
        }
        assert_eq!(names.get(NameRef::default()), None);
    }

    #[test]
    fn a_full_store_of_names_refuses_and_counts() {
        let mut names = Names::default();
        let name = [7; ENTITY_BYTES_MAX];
        for _ in 0..CHUNKS_MAX * CHUNK_BYTES / ENTITY_BYTES_MAX {
            assert!(!names.keep(&name).is_none());
        }
        assert!(names.keep(&name).is_none());
        assert_eq!(names.refused(), 1);
        assert!(names.chunks.iter().all(|c| c.capacity() == CHUNK_BYTES), "no chunk was grown");
    }
}
