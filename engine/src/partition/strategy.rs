//! What to compact next: a decision, taken from the shape of the levels alone; `compaction` carries it out.
//!
//! Leveled: level 0 holds flushed memtables, overlapping, newest first; every deeper level is one sorted run, at most
//! `fanout` times the one above. The most overfull level goes first. Level 0 is merged whole, with all that it overlaps in
//! level 1: it waits until it is worth that, or has many segments.
//!
//! Invariants of a choice:
//! - inputs of level 0 are its oldest ones, so that no older version of a row stays above a newer one;
//! - the inputs of a deeper level are all its segments that overlap the inputs from above.
//!
//! Levels are as large as what is visible of their segments. A file of which less than half is visible, in all its
//! segments here together, is rewritten where it is: that gives back more than it takes. A file of level 0, which cannot
//! keep its place under another number, goes down with all that is older.

use std::collections::BTreeMap;

use crate::ids::SegmentId;
use crate::segment::SegmentMeta;

/// Levels a partition can have, level 0 included. At fanout 10 and a 256 MiB base, level 6 holds 25 TiB.
pub const LEVELS: usize = 7;

/// Level 0 is worth merging when it holds this part of what it is merged with: three bytes are then written to bring one down.
const LEVEL0_PART: f64 = 0.5;
/// Times the trigger: so many segments are merged whatever they hold, for each read asks every one of them.
const LEVEL0_WAITS: usize = 2;

/// The shape that compaction steers to.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Segments in level 0 that start a compaction, if they hold half of what they would be merged with; twice as many do
    /// however little they hold.
    pub level0_trigger: usize,
    /// Target bytes of level 1.
    pub base_bytes: u64,
    /// Each level's target is this many times the one above's.
    pub fanout: u64,
    /// Target bytes of one segment in level 1 and below.
    pub segment_bytes: u64,
}

/// A compaction to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Level of the upper inputs.
    pub level: usize,
    /// Upper inputs; for level 0 from newest to oldest.
    pub upper: Vec<SegmentId>,
    /// Overlapping segments one level down.
    pub lower: Vec<SegmentId>,
    /// The level of what is made of them: the one below, or the same where hidden bytes are given back.
    pub target: usize,
    /// Nothing overlaps: the upper input may change its level without being rewritten.
    pub is_move: bool,
}

/// What the strategy looks at: per level the segments' facts; level 0 newest first, others by key.
pub type Levels<'a> = [Vec<&'a SegmentMeta>];

/// The most urgent compaction, or `None` when the shape is right. `cursor[level]` is where the last compaction of a
/// level ended, so that successive ones walk through the key space. A partition has one at a time.
#[must_use]
pub fn choose(levels: &Levels<'_>, shape: &Shape, cursor: &[Vec<u8>]) -> Option<Choice> {
    let mut order: Vec<(f64, usize)> = (0..levels.len().saturating_sub(1))
        .map(|level| (fullness(levels, shape, level), level))
        .filter(|(fullness, _)| *fullness >= 1.0)
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let by_size = order.into_iter().find_map(|(_, level)| {
        let upper: Vec<&SegmentMeta> = if level == 0 {
            levels[0].clone()
        } else {
            vec![pick(&levels[level], &levels[level + 1], cursor.get(level))?]
        };
        let lower = overlapping(&levels[level + 1], &upper);
        Some(Choice {
            level,
            is_move: lower.is_empty() && upper.len() == 1 && is_sortable(upper[0]),
            upper: upper.iter().map(|s| s.id).collect(),
            lower: lower.iter().map(|s| s.id).collect(),
            target: level + 1,
        })
    });
    by_size.or_else(|| reclaim(levels))
}

/// Whether a segment may lie in a level below 0.
fn is_sortable(segment: &SegmentMeta) -> bool {
    segment.visible.parts().is_none_or(|ranges| ranges.len() == 1)
}

/// The rewriting of a file of which less than half is visible.
fn reclaim(levels: &Levels<'_>) -> Option<Choice> {
    let (level, at) = *mostly_hidden(levels).first()?;
    if level > 0 {
        let (upper, lower) = (vec![levels[level][at].id], Vec::new());
        return Some(Choice { level, upper, lower, target: level, is_move: false });
    }
    let upper = &levels[0][at..];
    let lower = overlapping(&levels[1], upper);
    let ids = |segments: &[&SegmentMeta]| segments.iter().map(|s| s.id).collect();
    Some(Choice { level, upper: ids(upper), lower: ids(&lower), target: 1, is_move: false })
}

/// The segments, by level and place in it, of files of which less than half is visible here.
fn mostly_hidden(levels: &Levels<'_>) -> Vec<(usize, usize)> {
    let views = || {
        let placed = levels
            .iter()
            .enumerate()
            .flat_map(|(l, level)| level.iter().enumerate().map(move |(n, s)| (l, n, *s)));
        placed.filter(|(_, _, s)| !s.is_whole())
    };
    let file = |s: &SegmentMeta| (s.origin, s.checksum, s.bytes);
    let mut visible: BTreeMap<_, u64> = BTreeMap::new();
    for (_, _, segment) in views() {
        *visible.entry(file(segment)).or_default() += segment.visible_bytes;
    }
    let is_hidden =
        |s: &SegmentMeta| visible.get(&file(s)).is_some_and(|bytes| bytes.saturating_mul(2) < s.bytes);
    views().filter(|(_, _, s)| is_hidden(s)).map(|(level, n, _)| (level, n)).collect()
}

/// Bytes that compaction has yet to move until every level is within its target: what paces it.
#[must_use]
pub fn debt_bytes(levels: &Levels<'_>, shape: &Shape) -> u64 {
    let targets = targets(levels, shape);
    let mut carried = 0;
    let mut debt = 0;
    for (level, segments) in levels.iter().enumerate() {
        let bytes = bytes(segments) + carried;
        let excess = if level == 0 {
            if fullness(levels, shape, 0) < 1.0 { 0 } else { bytes }
        } else {
            bytes.saturating_sub(targets[level])
        };
        carried = excess;
        if level + 1 < levels.len() && excess > 0 {
            // Moving bytes down rewrites what they overlap: the ratio of the two levels.
            let below: u64 = self::bytes(&levels[level + 1]);
            let ratio = below.checked_div(bytes.max(1)).unwrap_or(0).min(shape.fanout);
            debt += excess * (1 + ratio);
        }
    }
    let hidden = mostly_hidden(levels).into_iter().map(|(level, n)| levels[level][n].visible_bytes.max(1));
    debt + hidden.sum::<u64>()
}

/// How overfull a level is; from 1.0 on it wants compaction.
#[expect(clippy::cast_precision_loss, reason = "a ratio for ranking")]
fn fullness(levels: &Levels<'_>, shape: &Shape, level: usize) -> f64 {
    if level == 0 {
        let merged_with = bytes(&overlapping(&levels[1], &levels[0]));
        let worth = bytes(&levels[0]) as f64 / (LEVEL0_PART * merged_with as f64).max(1.0);
        let count = levels[0].len() as f64 / shape.level0_trigger as f64;
        return count.min(worth).max(count / LEVEL0_WAITS as f64);
    }
    bytes(&levels[level]) as f64 / targets(levels, shape)[level] as f64
}

/// Target bytes per level. Level 1 has `base_bytes`, each deeper one `fanout` times more.
fn targets(levels: &Levels<'_>, shape: &Shape) -> Vec<u64> {
    let mut target = shape.base_bytes;
    let mut targets = vec![0; levels.len()];
    for slot in targets.iter_mut().skip(1) {
        *slot = target;
        target = target.saturating_mul(shape.fanout);
    }
    targets
}

/// The segment of a level to push down: of the next few in key order after the cursor, the one that overlaps least.
fn pick<'a>(
    level: &[&'a SegmentMeta],
    below: &[&SegmentMeta],
    cursor: Option<&Vec<u8>>,
) -> Option<&'a SegmentMeta> {
    /// Looking at all would always pick the same corner of the key space; at one, the dear ones too.
    const LOOKED_AT: usize = 8;
    let from = cursor.map_or(0, |c| level.partition_point(|s| s.first.as_slice() <= c.as_slice()));
    let round = level[from..].iter().chain(&level[..from]);
    round.take(LOOKED_AT).copied().min_by_key(|s| {
        let rewritten = bytes(&overlapping(below, &[*s]));
        rewritten.saturating_mul(1024) / s.visible_bytes.max(1)
    })
}

/// The segments of a sorted level that share keys with any of `upper`.
fn overlapping<'a>(level: &[&'a SegmentMeta], upper: &[&SegmentMeta]) -> Vec<&'a SegmentMeta> {
    let first = upper.iter().map(|s| s.first.as_slice()).min();
    let last = upper.iter().map(|s| s.last.as_slice()).max();
    let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
    level.iter().filter(|s| s.first.as_slice() <= last && s.last.as_slice() >= first).copied().collect()
}

fn bytes(segments: &[&SegmentMeta]) -> u64 {
    segments.iter().map(|s| s.visible_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Expiry;
    use crate::ids::Version;
    use crate::segment::{KeyRange, KeyRanges};

    const SHAPE: Shape = Shape { level0_trigger: 4, base_bytes: 1000, fanout: 10, segment_bytes: 100 };

    fn segment(id: u64, level: u8, bytes: u64, first: &[u8], last: &[u8]) -> SegmentMeta {
        SegmentMeta {
            id: SegmentId(id),
            origin: SegmentId(id),
            level,
            bytes,
            rows: 1,
            checksum: 0,
            first: first.to_vec(),
            last: last.to_vec(),
            version_min: Version(1),
            version_max: Version(1),
            deletes: 0,
            range_tombstones: 0,
            created_ms: 0,
            expiry_min: Expiry::NEVER,
            visible: KeyRanges::everything(),
            visible_bytes: bytes,
        }
    }

    fn choose_from(segments: &[SegmentMeta], cursor: &[Vec<u8>]) -> Option<Choice> {
        let mut levels: Vec<Vec<&SegmentMeta>> = vec![Vec::new(); LEVELS];
        segments.iter().for_each(|s| levels[usize::from(s.level)].push(s));
        choose(&levels, &SHAPE, cursor)
    }

    fn level0(count: u64) -> Vec<SegmentMeta> {
        (0..count).rev().map(|n| segment(n, 0, 100, b"a", b"m")).collect()
    }

    #[test]
    fn nothing_is_compacted_before_a_level_is_full() {
        let mut segments = level0(3);
        segments.push(segment(9, 1, 999, b"a", b"z"));
        assert_eq!(choose_from(&segments, &[]), None);
    }

    #[test]
    fn level_0_goes_down_whole_with_all_it_overlaps() {
        let mut segments = level0(4);
        segments.push(segment(10, 1, 100, b"a", b"f"));
        segments.push(segment(11, 1, 100, b"g", b"m"));
        segments.push(segment(12, 1, 100, b"n", b"z"));
        let choice = choose_from(&segments, &[]).unwrap();
        assert_eq!((choice.level, choice.is_move), (0, false));
        assert_eq!(choice.upper, [3, 2, 1, 0].map(SegmentId));
        assert_eq!(choice.lower, [10, 11].map(SegmentId));
    }

    #[test]
    fn level_0_waits_until_merging_it_is_worth_its_while_or_it_is_long() {
        let below = |bytes| segment(20, 1, bytes, b"f", b"z");
        let is_due = |count, bytes| {
            let (upper, lower) = (level0(count), below(bytes));
            let levels = [upper.iter().collect(), vec![&lower], Vec::new()];
            fullness(&levels, &SHAPE, 0) >= 1.0
        };
        assert!(is_due(4, 800), "400 bytes for 800");
        assert!(!is_due(4, 801) && !is_due(3, 0));
        assert!(is_due(5, 801) && !is_due(7, 2000));
        assert!(is_due(8, 1_000_000), "each read asks them all");
        // What it does not overlap does not count.
        let beside = vec![segment(20, 1, 900, b"n", b"z")];
        assert!(choose_from(&[level0(4), beside].concat(), &[]).is_some());
    }

    #[test]
    fn a_segment_that_overlaps_nothing_below_moves_without_being_rewritten() {
        let segments =
            [segment(1, 1, 600, b"a", b"f"), segment(2, 1, 600, b"g", b"m"), segment(3, 2, 500, b"a", b"c")];
        let choice = choose_from(&segments, &[]).unwrap();
        assert_eq!((choice.level, choice.is_move, choice.upper), (1, true, vec![SegmentId(2)]));
    }

    #[test]
    fn a_file_is_rewritten_once_less_than_half_of_it_is_visible() {
        let view = |id, level, visible_bytes, first: &[u8], end: &[u8]| SegmentMeta {
            origin: SegmentId(1),
            visible: KeyRange::new(first, Some(end.to_vec())).into(),
            visible_bytes,
            ..segment(id, level, 100, first, end)
        };
        let halves = [view(1, 2, 30, b"a", b"c"), view(2, 2, 20, b"f", b"h")];
        assert_eq!(choose_from(&halves, &[]), None, "half of the file is visible");
        let less = [view(1, 2, 30, b"a", b"c"), view(2, 2, 19, b"f", b"h"), segment(7, 3, 100, b"a", b"z")];
        let choice = choose_from(&less, &[]).unwrap();
        assert_eq!((choice.level, choice.target, choice.is_move), (2, 2, false), "in its place");
        assert_eq!((choice.upper, choice.lower), (vec![SegmentId(1)], vec![]));
        // In level 0 with all that is older, and nothing that is newer.
        let mut level0 = level0(3);
        level0[1] = SegmentMeta { origin: SegmentId(1), ..view(1, 0, 10, b"a", b"b") };
        level0.push(segment(9, 1, 100, b"a", b"z"));
        let choice = choose_from(&level0, &[]).unwrap();
        assert_eq!((choice.level, choice.target), (0, 1));
        assert_eq!((choice.upper, choice.lower), (vec![SegmentId(1), SegmentId(0)], vec![SegmentId(9)]));
    }

    #[test]
    fn a_segment_with_holes_is_not_moved_below_level_0_as_it_is() {
        let shape = Shape { level0_trigger: 1, ..SHAPE };
        let mut only = segment(1, 0, 100, b"a", b"z");
        let choose =
            |only: &SegmentMeta| choose(&[vec![only], Vec::new(), Vec::new()], &shape, &[]).unwrap().is_move;
        assert!(choose(&only));
        only.visible = KeyRanges::from(KeyRange::new(b"f", Some(b"g".to_vec()))).inverted();
        assert!(!choose(&only));
    }

    #[test]
    fn successive_compactions_walk_through_the_keys() {
        let segments: Vec<SegmentMeta> =
            (0..30_u8).map(|n| segment(u64::from(n), 1, 100, &[n, 0], &[n, 9])).collect();
        let mut cursor = vec![Vec::new(); LEVELS];
        let mut seen = Vec::new();
        for _ in 0..3 {
            let choice = choose_from(&segments, &cursor).unwrap();
            seen.push(choice.upper[0].0);
            cursor[1] = vec![u8::try_from(choice.upper[0].0).unwrap(), 9];
        }
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn debt_is_zero_exactly_when_nothing_is_chosen() {
        let seed = 11;
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..2000 {
            let mut segments = level0(random.u64(0..7));
            if random.bool() {
                segments.push(SegmentMeta {
                    visible: KeyRange::new(b"a", Some(b"b".to_vec())).into(),
                    visible_bytes: random.u64(..100),
                    ..segment(900, 4, 100, b"a", b"b")
                });
            }
            for level in 1..4_u8 {
                let share = random.u64(0..1500) * 10_u64.pow(u32::from(level - 1)) / 4;
                segments.extend((0..4_u8).map(|n| {
                    segment(100 * u64::from(level) + u64::from(n), level, share.max(1), &[n, 0], &[n, 9])
                }));
            }
            let mut levels: Vec<Vec<&SegmentMeta>> = vec![Vec::new(); LEVELS];
            segments.iter().for_each(|s| levels[usize::from(s.level)].push(s));
            let debt = debt_bytes(&levels, &SHAPE);
            let chosen = choose(&levels, &SHAPE, &[]);
            // A level filled to the byte is chosen and owes nothing yet.
            let exact = (1..4).any(|l| bytes(&levels[l]) == targets(&levels, &SHAPE)[l]);
            if !exact && chosen.is_none() {
                assert_eq!(debt, 0, "seed {seed} round {round}");
            }
            if chosen.is_none() {
                assert!(levels[0].len() < SHAPE.level0_trigger * LEVEL0_WAITS, "seed {seed} round {round}");
            }
        }
    }
}
