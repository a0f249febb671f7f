//! Compaction's verdicts: what each snapshot, and a reader of the latest, sees is the same before and after.
//!
//! Above the bottom level there is more below: rows and range tombstones older than every version judged.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use foreshard_engine::entry::{Expiry, Kind, RangeTombstone};
use foreshard_engine::ids::Version;
use foreshard_engine::partition::retention::{Retention, Verdict};
use foreshard_engine::tombstones::RangeTombstones;

use super::rows::{self, Rows, entry, visible};

const ROWS_MAX: usize = 60;
/// Versions of what lies below are at most this, of what is judged above it.
const BELOW_MAX: u64 = 300;

/// Compacts the rows that `data` is.
pub fn run(data: &[u8]) {
    let _ = compact(&mut Unstructured::new(data));
}

fn tombstones(input: &mut Unstructured<'_>) -> Result<Vec<RangeTombstone>> {
    let mut all = Vec::new();
    for _ in 0..input.int_in_range(0..=6)? {
        all.extend(rows::tombstone(input)?);
    }
    Ok(all)
}

fn lift(version: Version) -> Version {
    Version(version.0.saturating_add(BELOW_MAX).min(u64::MAX - 1))
}

fn compact(input: &mut Unstructured<'_>) -> Result<()> {
    let bottom: bool = input.arbitrary()?;
    let now_ms = input.int_in_range(0..=60)?;
    let mut snapshots = Vec::new();
    for _ in 0..input.int_in_range(0..=5)? {
        snapshots.push(lift(rows::version(input)?));
    }
    snapshots.sort_unstable();
    let upper: Rows = rows::rows(input, ROWS_MAX)?
        .into_iter()
        .map(|((key, version), stored)| ((key, std::cmp::Reverse(lift(version.0))), stored))
        .collect();
    let mut upper_tombstones = tombstones(input)?;
    upper_tombstones.iter_mut().for_each(|t| t.version = lift(t.version));
    let (mut below, mut below_tombstones) = (Rows::new(), Vec::new());
    if !bottom {
        below = rows::rows(input, ROWS_MAX / 2)?;
        below.retain(|(_, version), _| version.0.0 <= BELOW_MAX);
        below_tombstones = tombstones(input)?;
        below_tombstones.retain(|t| t.version.0 <= BELOW_MAX);
    }

    let (kept, kept_tombstones) = judged(&upper, &upper_tombstones, &snapshots, bottom, now_ms);
    let keys: BTreeSet<&[u8]> = upper.keys().chain(below.keys()).map(|(key, _)| key.as_slice()).collect();
    let before = (joined(&upper, &below), [upper_tombstones, below_tombstones.clone()].concat());
    let after = (joined(&kept, &below), [kept_tombstones, below_tombstones].concat());
    for key in keys {
        for at in snapshots.iter().copied().chain([Version::MAX]) {
            for now_ms in [now_ms, now_ms + 10] {
                assert_eq!(
                    visible(&after.0, &after.1, key, at, now_ms),
                    visible(&before.0, &before.1, key, at, now_ms),
                    "{key:?} at {at}, time {now_ms}"
                );
            }
        }
    }
    Ok(())
}

fn joined(upper: &Rows, below: &Rows) -> Rows {
    upper.iter().chain(below).map(|(key, stored)| (key.clone(), stored.clone())).collect()
}

/// What a compaction writes.
fn judged(
    upper: &Rows,
    tombstones: &[RangeTombstone],
    snapshots: &[Version],
    bottom: bool,
    now_ms: u64,
) -> (Rows, Vec<RangeTombstone>) {
    let mut set = RangeTombstones::default();
    tombstones.iter().for_each(|t| set.add(t.clone()));
    let mut retention = Retention::new(snapshots.to_vec(), bottom, now_ms);
    let mut kept = Rows::new();
    for (at, stored) in upper {
        let entry = entry(&at.0, at.1.0, stored);
        let stored = match retention.judge(&entry, |version| set.covering(&at.0, version)) {
            Verdict::Keep => stored.clone(),
            Verdict::KeepAsDelete => (Kind::Delete, Expiry::NEVER, Vec::new()),
            Verdict::Drop => continue,
        };
        kept.insert(at.clone(), stored);
    }
    let mut kept_tombstones = Vec::new();
    for fragment in set.fragments(b"", None) {
        for version in retention.tombstones_kept(fragment.versions) {
            let (start, end) = (fragment.start.to_vec(), fragment.end.to_vec());
            kept_tombstones.push(RangeTombstone { start, end, version });
        }
    }
    (kept, kept_tombstones)
}
