//! The segments of a partition at one moment: immutable, replaced as a whole by every flush and compaction.
//!
//! Readers keep the `Rc` they began with; a segment that a later one no longer names stays readable through it.
//!
//! Invariants, asserted when a new one is made:
//! - level 0 is ordered newest first;
//! - deeper levels are sorted by first key and do not overlap; a range tombstone's end, which it does not cover, may
//!   be the next segment's first key.

use std::rc::Rc;

use super::strategy::LEVELS;
use crate::ids::SegmentId;
use crate::segment::{Segment, SegmentMeta};

/// Segments by level.
#[derive(Debug)]
pub(crate) struct Levels {
    levels: Vec<Vec<Rc<Segment>>>,
}

impl Levels {
    /// Of these segments, each in the level its meta names.
    pub(crate) fn new(segments: Vec<Rc<Segment>>) -> Self {
        let mut levels = vec![Vec::new(); LEVELS];
        for segment in segments {
            levels[usize::from(segment.meta().level)].push(segment);
        }
        for (level, segments) in levels.iter_mut().enumerate() {
            sort(level, segments);
        }
        Self { levels }
    }

    /// These with `added` in and `removed` out.
    pub(crate) fn edited(&self, added: &[Rc<Segment>], removed: &[SegmentId]) -> Self {
        let kept = self.all().filter(|s| !removed.contains(&s.meta().id)).map(Rc::clone);
        Self::new(kept.chain(added.iter().map(Rc::clone)).collect())
    }

    /// Every segment.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Rc<Segment>> {
        self.levels.iter().flatten()
    }

    /// The segments of one level.
    pub(crate) fn level(&self, level: usize) -> &[Rc<Segment>] {
        &self.levels[level]
    }

    /// The one with this id.
    pub(crate) fn find(&self, id: SegmentId) -> Option<&Rc<Segment>> {
        self.all().find(|s| s.meta().id == id)
    }

    /// What could hold `key`, newest first: all of level 0 that covers it, then one of each deeper level, or two where
    /// a range tombstone of one ends at the first key of the next.
    pub(crate) fn covering<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Rc<Segment>> {
        let level0 = self.levels[0].iter().filter(move |s| s.meta().may_cover(key));
        let deeper = self.levels[1..].iter().flat_map(move |level| {
            let at = level.partition_point(|s| s.meta().last.as_slice() < key);
            level[at..].iter().take_while(move |s| s.meta().first.as_slice() <= key)
        });
        level0.chain(deeper)
    }

    /// The sorted runs that reach into `start..end`, newest first: each segment of level 0, then each deeper level.
    pub(crate) fn runs(&self, start: &[u8], end: &[u8]) -> Vec<Rc<[Rc<Segment>]>> {
        let inside = |s: &&Rc<Segment>| s.meta().overlaps(start, end);
        let level0 = self.levels[0].iter().filter(inside).map(|s| Rc::from([Rc::clone(s)]));
        let deeper =
            self.levels[1..].iter().map(|level| level.iter().filter(inside).map(Rc::clone).collect());
        level0.chain(deeper).filter(|run: &Rc<[Rc<Segment>]>| !run.is_empty()).collect()
    }

    /// Whether no segment below `level` shares keys with `first..=last`.
    pub(crate) fn is_bottom(&self, level: usize, first: &[u8], last: &[u8]) -> bool {
        self.levels[level + 1..].iter().flatten().all(|s| !s.meta().overlaps(first, last))
    }

    /// The segments' facts by level, for the strategy.
    pub(crate) fn metas(&self) -> Vec<Vec<&SegmentMeta>> {
        self.levels.iter().map(|level| level.iter().map(|s| s.meta()).collect()).collect()
    }
}

fn sort(level: usize, segments: &mut [Rc<Segment>]) {
    if level == 0 {
        // Flushes are numbered in their order.
        segments.sort_by_key(|s| std::cmp::Reverse(s.meta().id));
        return;
    }
    segments.sort_by(|a, b| a.meta().first.cmp(&b.meta().first));
    let disjoint = segments.windows(2).all(|pair| pair[0].meta().last <= pair[1].meta().first);
    assert!(disjoint, "segments of level {level} overlap");
}
