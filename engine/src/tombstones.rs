//! Range tombstones, cut into fragments that do not overlap.
//!
//! It says which tombstones cover a key; it drops none, since a snapshot may need an old one: compaction decides.
//! Adding one costs as much as the fragments it overlaps, so who adds many nested ones pays for each: their memory is in
//! [`RangeTombstones::bytes`], and a memtable that holds too much is flushed.
//!
//! Invariants:
//! - a boundary's versions hold from it (inclusive) to the next boundary (exclusive), newest first, each once;
//! - the last boundary's versions are empty: nothing reaches to infinity.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::entry::RangeTombstone;
use crate::ids::Version;
use crate::segment::KeyRanges;

/// A set of range tombstones.
#[derive(Debug, Clone, Default)]
pub struct RangeTombstones {
    boundaries: BTreeMap<Vec<u8>, Vec<Version>>,
    bytes: usize,
}

/// A piece of the key space, and what deletes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// First storage key covered.
    pub start: &'a [u8],
    /// First storage key not covered.
    pub end: &'a [u8],
    /// The tombstones' versions, newest first; at least one.
    pub versions: &'a [Version],
}

impl RangeTombstones {
    /// Adds a tombstone. One that covers nothing (`start >= end`) is ignored, and so is one that is there.
    pub fn add(&mut self, tombstone: RangeTombstone) {
        let RangeTombstone { start, end, version } = tombstone;
        if start >= end {
            return;
        }
        self.cut_at(&end);
        self.cut_at(&start);
        for (_, versions) in self.boundaries.range_mut::<[u8], _>((Included(&start[..]), Excluded(&end[..])))
        {
            if let Err(at) = versions.binary_search_by(|v| version.cmp(v)) {
                versions.insert(at, version);
                self.bytes += size_of::<Version>();
            }
        }
    }

    /// Adds all of `other`'s.
    pub fn merge(&mut self, other: &Self) {
        self.merge_fragments(other.fragments(b"", None));
    }

    /// Adds what of `other`'s lies in `start..end`.
    pub fn merge_range(&mut self, other: &Self, start: &[u8], end: &[u8]) {
        if !other.is_empty() {
            self.merge_fragments(other.fragments(start, Some(end)));
        }
    }

    /// What of them lies in `keys`.
    #[must_use]
    pub fn within(&self, keys: &KeyRanges) -> Self {
        let Some(ranges) = keys.parts() else { return self.clone() };
        let mut inside = Self::default();
        for range in ranges {
            inside.merge_fragments(self.fragments(&range.start, range.end.as_deref()));
        }
        inside
    }

    fn merge_fragments(&mut self, fragments: Fragments<'_>) {
        for fragment in fragments {
            for &version in fragment.versions {
                self.add(RangeTombstone {
                    start: fragment.start.to_vec(),
                    end: fragment.end.to_vec(),
                    version,
                });
            }
        }
    }

    /// The largest version of at most `at` among the tombstones that cover `key`: every entry of the key with a
    /// smaller version is gone for a reader at `at`.
    #[must_use]
    pub fn covering(&self, key: &[u8], at: Version) -> Option<Version> {
        let (_, versions) = self.boundaries.range::<[u8], _>((Unbounded, Included(key))).next_back()?;
        versions.get(versions.partition_point(|&v| v > at)).copied()
    }

    /// The fragments within `start..end` (`None`: to the end of all keys) in order, those that stick out cut to it,
    /// neighbours with the same versions joined.
    pub fn fragments<'a>(&'a self, start: &'a [u8], end: Option<&'a [u8]>) -> Fragments<'a> {
        let inside = self.boundaries.range::<[u8], _>((Unbounded, Included(start))).next_back();
        Fragments { all: self, start, end, versions: inside.map_or(&[], |(_, versions)| versions) }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.boundaries.is_empty()
    }

    /// How many fragments a walk over all keys sees at most.
    #[must_use]
    pub fn fragment_count(&self) -> usize {
        self.boundaries.len().saturating_sub(1)
    }

    /// Memory in use.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes `key` a boundary.
    fn cut_at(&mut self, key: &[u8]) {
        let before = self.boundaries.range::<[u8], _>((Unbounded, Included(key))).next_back();
        let versions = match before {
            Some((boundary, _)) if boundary == key => return,
            Some((_, versions)) => versions.clone(),
            None => Vec::new(),
        };
        self.bytes += BOUNDARY_BYTES + key.len() + size_of_val(&versions[..]);
        self.boundaries.insert(key.to_vec(), versions);
    }
}

/// The fragments of a range, see [`RangeTombstones::fragments`].
#[derive(Debug, Clone)]
pub struct Fragments<'a> {
    all: &'a RangeTombstones,
    start: &'a [u8],
    end: Option<&'a [u8]>,
    /// What holds from `start`.
    versions: &'a [Version],
}

impl<'a> Iterator for Fragments<'a> {
    type Item = Fragment<'a>;

    fn next(&mut self) -> Option<Fragment<'a>> {
        loop {
            if self.end.is_some_and(|end| self.start >= end) {
                return None;
            }
            let (start, versions) = (self.start, self.versions);
            let change = self
                .all
                .boundaries
                .range::<[u8], _>((Excluded(start), Unbounded))
                .find(|(_, next)| &next[..] != versions);
            // Past the last boundary nothing is covered.
            let (boundary, next) = change?;
            self.start = boundary;
            self.versions = next;
            if !versions.is_empty() {
                let end = self.end.map_or(&boundary[..], |end| end.min(boundary));
                return Some(Fragment { start, end, versions });
            }
        }
    }
}

/// What a boundary costs beside its key and versions: two vectors, and its share of a B-tree node.
const BOUNDARY_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(start: &[u8], end: &[u8], version: u64) -> RangeTombstone {
        RangeTombstone { start: start.to_vec(), end: end.to_vec(), version: Version(version) }
    }

    fn naive(all: &[RangeTombstone], key: &[u8], at: Version) -> Option<Version> {
        let covers = |t: &&RangeTombstone| &t.start[..] <= key && key < &t.end[..] && t.version <= at;
        all.iter().filter(covers).map(|t| t.version).max()
    }

    fn random(rng: &mut fastrand::Rng, version: u64) -> RangeTombstone {
        let key = |rng: &mut fastrand::Rng| (0..rng.usize(..3)).map(|_| rng.u8(..6)).collect::<Vec<u8>>();
        RangeTombstone { start: key(rng), end: key(rng), version: Version(version) }
    }

    fn every_key() -> Vec<Vec<u8>> {
        let mut keys = vec![vec![]];
        for a in 0..6 {
            keys.push(vec![a]);
            keys.extend((0..6).map(|b| vec![a, b]));
            keys.push(vec![a, 2, 0]);
        }
        keys
    }

    #[test]
    fn covers_as_a_list_of_ranges_does() {
        for seed in 0..200 {
            println!("seed {seed}");
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut set, mut other, mut all) =
                (RangeTombstones::default(), RangeTombstones::default(), vec![]);
            for _ in 0..rng.u64(1..20) {
                let version = rng.u64(1..12);
                let tombstone = random(&mut rng, version);
                all.push(tombstone.clone());
                if rng.bool() { set.add(tombstone) } else { other.add(tombstone) }
            }
            set.merge(&other);
            for key in every_key() {
                for at in 0..13 {
                    let at = Version(at);
                    assert_eq!(set.covering(&key, at), naive(&all, &key, at), "{key:?} at {at}");
                }
            }
            check_fragments(&set, &all, &random(&mut rng, 1));
        }
    }

    fn check_fragments(set: &RangeTombstones, all: &[RangeTombstone], clip: &RangeTombstone) {
        let whole: Vec<Fragment<'_>> = set.fragments(b"", None).collect();
        for pair in whole.windows(2) {
            assert!(pair[0].end <= pair[1].start);
            assert!(pair[0].end < pair[1].start || pair[0].versions != pair[1].versions, "joined");
        }
        assert!(whole.len() <= set.fragment_count());
        let clipped: Vec<Fragment<'_>> = set.fragments(&clip.start, Some(&clip.end)).collect();
        for (fragments, range) in [(&whole, None), (&clipped, Some(clip))] {
            assert!(fragments.iter().all(|f| f.start < f.end && !f.versions.is_empty()));
            for key in every_key() {
                let inside = range.is_none_or(|r| r.start <= key && key < r.end);
                let found = fragments.iter().find(|f| f.start <= &key[..] && &key[..] < f.end);
                let mut expected: Vec<Version> = all
                    .iter()
                    .filter(|t| inside && t.start <= key && key < t.end)
                    .map(|t| t.version)
                    .collect();
                expected.sort_unstable_by(|a, b| b.cmp(a));
                expected.dedup();
                assert_eq!(found.map_or(&[][..], |f| f.versions), expected, "{key:?}");
            }
        }
    }

    #[test]
    fn an_empty_or_reversed_range_covers_nothing() {
        let mut set = RangeTombstones::default();
        set.add(tombstone(b"b", b"b", 1));
        set.add(tombstone(b"c", b"b", 1));
        assert!(set.is_empty());
        assert_eq!(set.bytes(), 0);
    }

    #[test]
    fn the_end_is_not_covered_and_an_older_snapshot_sees_the_older_tombstone() {
        let mut set = RangeTombstones::default();
        set.add(tombstone(b"a", b"m", 3));
        set.add(tombstone(b"f", b"z", 7));
        assert_eq!(set.covering(b"f", Version::MAX), Some(Version(7)));
        assert_eq!(set.covering(b"f", Version(6)), Some(Version(3)));
        assert_eq!(set.covering(b"f", Version(2)), None);
        assert_eq!(set.covering(b"z", Version::MAX), None);
        let versions = [Version(7), Version(3)];
        let middle = Fragment { start: b"g", end: b"h", versions: &versions };
        assert_eq!(set.fragments(b"g", Some(b"h")).collect::<Vec<_>>(), [middle]);
    }
}
