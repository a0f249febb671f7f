//! At opening: what is not this partition's any more, or was on its way here, is taken out (R15).
//!
//! What is here is what the table placed here when the partition was last restricted, and what came since. So only that is
//! looked at which the table has changed since, and the arrivals, which the manifest lists: an opening costs what happened
//! since the last one, not what there is.

use std::collections::{BTreeMap, BTreeSet};

use super::Partition;
use super::excise::Changed;
use crate::error::Result;
use crate::ids::{TableVersion, Version};
use crate::manifest::Edit;
use crate::merge::{Merge, Step};
use crate::segment::{KeyRange, KeyRanges, ReadMode, RunCursor};

/// What the table says of a partition, as of `version`. Entities are named by the prefix of their keys.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    /// The table's version.
    pub(crate) version: TableVersion,
    /// The keys that are at home here.
    pub(crate) range: KeyRange,
    /// The change that last said so.
    pub(crate) range_version: TableVersion,
    /// Entities that are here and at home elsewhere.
    pub(crate) guests: BTreeSet<Vec<u8>>,
    /// Entities that are at home here and are elsewhere, with the change that said so.
    pub(crate) away: BTreeMap<Vec<u8>, TableVersion>,
}

impl Assigned {
    /// Whether the entity is here as the table says.
    fn is_here(&self, prefix: &[u8]) -> bool {
        self.guests.contains(prefix) || (self.range.contains(prefix) && !self.away.contains_key(prefix))
    }

    /// All keys that may be here.
    pub(crate) fn keys(&self) -> KeyRanges {
        let away: Vec<KeyRange> = self.away.keys().map(|prefix| KeyRange::of_prefix(prefix)).collect();
        let home = KeyRanges::from(self.range.clone()).without(&KeyRanges::of(away));
        let mut keys = home.to_vec();
        keys.extend(self.guests.iter().map(|prefix| KeyRange::of_prefix(prefix)));
        KeyRanges::of(keys)
    }
}

impl Partition {
    /// Takes out whatever the table does not place here. Everything is in segments; nobody reads or writes yet. Durable on
    /// return; the changes that were made.
    ///
    /// # Errors
    /// As [`Partition::purge`], and what reading says.
    pub(crate) async fn restrict(&self, assigned: &Assigned) -> Result<Vec<Changed>> {
        let (before, arrivals) = {
            let state = self.manifest.state();
            (state.restricted, state.arrivals.clone())
        };
        // The prefix of every key.
        let anything: &[u8] = b"";
        let is_unknown = arrivals.contains(anything);
        let (stay, leave): (Vec<_>, Vec<_>) = arrivals
            .into_iter()
            .filter(|prefix| prefix != anything)
            .partition(|prefix| assigned.is_here(prefix));
        let mut suspect: Vec<KeyRange> = leave.iter().map(|prefix| KeyRange::of_prefix(prefix)).collect();
        let away = assigned.away.iter().filter(|(_, version)| **version > before);
        suspect.extend(away.map(|(prefix, _)| KeyRange::of_prefix(prefix)));
        if assigned.range_version > before || is_unknown {
            suspect.extend(assigned.keys().inverted().to_vec());
        }
        if suspect.is_empty() && !is_unknown && stay.iter().all(|prefix| assigned.guests.contains(prefix)) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for range in KeyRanges::of(suspect).to_vec() {
            if self.holds(&range).await? {
                found.push(range);
            }
        }
        let mut changes = Vec::new();
        if !found.is_empty() {
            let keys = KeyRanges::of(found);
            tracing::info!(partition = self.id.0, ?keys, "taking out what the table places elsewhere");
            changes.extend(self.purge(&keys).await?);
        }
        // Who is at home here is here as all others; a guest stays listed until it leaves.
        let settled = stay.into_iter().filter(|prefix| !assigned.guests.contains(prefix));
        let unknown = is_unknown.then(|| anything.to_vec());
        let mut departed: Vec<Vec<u8>> = settled.chain(leave).chain(unknown).collect();
        departed.retain(|prefix| self.manifest.state().arrivals.contains(prefix));
        departed.sort_unstable();
        let edit = Edit { restricted: assigned.version, departed, ..Edit::default() };
        self.record(edit).await?;
        Ok(changes)
    }

    /// Whether a segment has an entry or a range tombstone in `range`.
    async fn holds(&self, range: &KeyRange) -> Result<bool> {
        let levels = self.levels();
        let keys = KeyRanges::from(range.clone());
        let touched = levels.all().filter(|segment| segment.meta().within(&keys).is_some());
        let mut runs = Vec::new();
        for segment in touched {
            if segment.tombstones().fragments(&range.start, range.end.as_deref()).next().is_some() {
                return Ok(true);
            }
            runs.push(RunCursor::of(segment.clone(), ReadMode::Cached).into());
        }
        let mut merge = Merge::new(runs);
        if merge.seek(&range.start, Version::MAX) == Step::NeedsLoad {
            merge.load().await?;
        }
        Ok(merge.entry().is_some_and(|entry| range.ends_after(entry.key)))
    }
}
