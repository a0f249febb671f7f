//! Which keys of a file count.
//!
//! A segment's file is never written again, so what leaves a partition is hidden: the manifest says which key ranges of
//! the file are the partition's. Usually that is everything, and costs a look at a pointer.
//!
//! Invariants:
//! - ranges ascend, none is empty, and no two of them touch;
//! - everything is written in one way only, and so is nothing: a set has one form.

use std::fmt;

/// Keys from `start` on that are below `end`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// First key.
    pub start: Vec<u8>,
    /// First key after the range; none: it reaches to the end of all keys.
    pub end: Option<Vec<u8>>,
}

/// A set of keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyRanges(
    /// None: all keys.
    Option<Box<[KeyRange]>>,
);

/// Where keys of a set are, seen from one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next<'a> {
    /// The key is in it.
    Here,
    /// The key is not, and keys from this one on are.
    From(&'a [u8]),
    /// Neither the key nor any after it.
    Nowhere,
}

impl KeyRange {
    /// The keys from `start` on that are below `end`.
    #[must_use]
    pub fn new(start: impl Into<Vec<u8>>, end: Option<Vec<u8>>) -> Self {
        Self { start: start.into(), end }
    }

    /// All keys.
    #[must_use]
    pub const fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// The keys that begin with `prefix`: of an entity's, all its rows.
    #[must_use]
    pub fn of_prefix(prefix: &[u8]) -> Self {
        Self { start: prefix.to_vec(), end: crate::key::prefix_end(prefix) }
    }

    /// Whether `key` is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.ends_after(key)
    }

    /// Whether some key at or after `key` may be in it.
    #[must_use]
    pub fn ends_after(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }

    /// Whether no key is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.ends_after(&self.start)
    }

    /// The keys in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Self { start: self.start.clone().max(other.start.clone()), end }
    }
}

impl KeyRanges {
    /// All keys.
    #[must_use]
    pub const fn everything() -> Self {
        Self(None)
    }

    /// The keys of all `ranges`, which may overlap, in any order.
    #[must_use]
    pub fn of(mut ranges: Vec<KeyRange>) -> Self {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable();
        let mut joined: Vec<KeyRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                // They overlap or touch.
                Some(last) if last.end.as_ref().is_none_or(|end| range.start <= *end) => {
                    if range.end.is_none() || last.end.is_some() && range.end > last.end {
                        last.end = range.end;
                    }
                }
                Some(_) | None => joined.push(range),
            }
        }
        if joined == [KeyRange::all()] { Self(None) } else { Self(Some(joined.into())) }
    }

    /// The set whose ranges these are, if they are in its form.
    #[must_use]
    pub fn formed(ranges: Vec<KeyRange>) -> Option<Self> {
        let apart = |pair: &[KeyRange]| pair[0].end.as_ref().is_some_and(|end| *end < pair[1].start);
        let is_formed = !ranges.iter().any(KeyRange::is_empty) && ranges.windows(2).all(apart);
        (is_formed && ranges != [KeyRange::all()]).then(|| Self(Some(ranges.into())))
    }

    /// Whether all keys are in it.
    #[must_use]
    #[inline]
    pub const fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// Whether no key is in it.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0.as_ref().is_some_and(|ranges| ranges.is_empty())
    }

    /// The ranges, ascending; none where all keys are in it.
    #[must_use]
    pub fn parts(&self) -> Option<&[KeyRange]> {
        self.0.as_deref()
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn to_vec(&self) -> Vec<KeyRange> {
        self.0.as_ref().map_or_else(|| vec![KeyRange::all()], |ranges| ranges.to_vec())
    }

    /// Whether `key` is in it.
    #[must_use]
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|ranges| {
            ranges.get(Self::first_after(ranges, key)).is_some_and(|range| range.start.as_slice() <= key)
        })
    }

    /// Where its keys at or after `key` begin.
    #[must_use]
    pub fn next(&self, key: &[u8]) -> Next<'_> {
        let Some(ranges) = &self.0 else { return Next::Here };
        match ranges.get(Self::first_after(ranges, key)) {
            Some(range) if range.start.as_slice() <= key => Next::Here,
            Some(range) => Next::From(&range.start),
            None => Next::Nowhere,
        }
    }

    /// Of `ranges`, the first that does not end at or before `key`.
    pub(crate) fn first_after(ranges: &[KeyRange], key: &[u8]) -> usize {
        ranges.partition_point(|range| !range.ends_after(key))
    }

    /// The keys in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (Some(mine), Some(others)) = (&self.0, &other.0) else {
            return if self.is_everything() { other.clone() } else { self.clone() };
        };
        let mut both = Vec::new();
        for range in mine {
            let from = Self::first_after(others, &range.start);
            let inside = others[from..].iter().take_while(|other| range.ends_after(&other.start));
            both.extend(inside.map(|other| range.and(other)));
        }
        Self::of(both)
    }

    /// The keys that are not in it.
    #[must_use]
    pub fn inverted(&self) -> Self {
        let mut outside = Vec::new();
        let mut from = Some(Vec::new());
        for range in self.to_vec() {
            if let Some(start) = from {
                outside.push(KeyRange { start, end: Some(range.start) });
            }
            from = range.end;
        }
        outside.extend(from.map(|start| KeyRange { start, end: None }));
        Self::of(outside)
    }

    /// The keys of this set that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.and(&other.inverted())
    }
}

impl From<KeyRange> for KeyRanges {
    fn from(range: KeyRange) -> Self {
        Self::of(vec![range])
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.start.escape_ascii())?;
        self.end.as_ref().map_or(Ok(()), |end| write!(f, "{}", end.escape_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of up to two of four letters: every one of them is asked for.
    fn every_key() -> Vec<Vec<u8>> {
        let mut keys = vec![vec![]];
        for a in 0..4_u8 {
            keys.push(vec![a]);
            keys.extend((0..4_u8).map(|b| vec![a, b]));
        }
        keys
    }

    fn random_ranges(rng: &mut fastrand::Rng) -> Vec<KeyRange> {
        let key = |rng: &mut fastrand::Rng| (0..rng.usize(..3)).map(|_| rng.u8(..4)).collect::<Vec<u8>>();
        (0..rng.usize(..4))
            .map(|_| {
                let start = key(rng);
                KeyRange { start, end: rng.bool().then(|| key(rng)) }
            })
            .collect()
    }

    #[test]
    fn sets_are_those_of_their_keys_and_have_one_form() {
        for seed in 0..3000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (a, b) = (random_ranges(&mut rng), random_ranges(&mut rng));
            let (set, other) = (KeyRanges::of(a.clone()), KeyRanges::of(b.clone()));
            let within = |ranges: &[KeyRange], key: &[u8]| ranges.iter().any(|range| range.contains(key));
            for key in every_key() {
                let (in_a, in_b) = (within(&a, &key), within(&b, &key));
                assert_eq!(set.contains(&key), in_a, "seed {seed} {key:?}");
                assert_eq!(set.and(&other).contains(&key), in_a && in_b, "seed {seed} {key:?}");
                assert_eq!(set.without(&other).contains(&key), in_a && !in_b, "seed {seed} {key:?}");
                assert_eq!(set.inverted().contains(&key), !in_a, "seed {seed} {key:?}");
            }
            for formed in [&set, &set.and(&other), &set.without(&other), &set.inverted()] {
                assert_eq!(KeyRanges::of(formed.to_vec()), *formed, "seed {seed}");
                let ranges = formed.to_vec();
                assert!(ranges.iter().all(|range| !range.is_empty()), "seed {seed}");
                let apart = |pair: &[KeyRange]| pair[0].end.as_ref().is_some_and(|end| *end < pair[1].start);
                assert!(ranges.windows(2).all(apart), "seed {seed}: {ranges:?}");
                let again = KeyRanges::formed(ranges);
                assert_eq!(again, Some(formed.clone()).filter(|set| !set.is_everything()), "seed {seed}");
            }
            assert_eq!(set.inverted().inverted(), set, "seed {seed}");
            let is_form = set.parts() == Some(&a);
            assert_eq!(KeyRanges::formed(a.clone()), is_form.then_some(set), "seed {seed}: {a:?}");
        }
    }

    #[test]
    fn a_prefix_covers_what_begins_with_it() {
        let range = KeyRange::of_prefix(b"ab");
        assert!(range.contains(b"ab") && range.contains(b"ab\xff\xff") && !range.contains(b"ac"));
        assert!(KeyRanges::from(KeyRange::of_prefix(b"")).is_everything());
        assert!(KeyRanges::of(vec![]).is_nothing() && !KeyRanges::of(vec![]).is_everything());
    }
}
