//! Which entries a compaction keeps: pure, one verdict per entry in storage order.
//!
//! Registered snapshots cut the versions into stripes; readers in one stripe see the same version of a row, so one
//! entry per row and stripe is enough. Nothing a registered snapshot or a later reader could see is dropped.
//!
//! Invariants:
//! - of a row's entries in one stripe only the newest survives;
//! - a delete (or an expired row, which is one: R6) disappears only at the bottom, and only from the oldest stripe:
//!   anywhere else it still hides something.

use crate::entry::{Entry, Kind};
use crate::ids::Version;

/// What becomes of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// An expired row that may still hide an older one.
    KeepAsDelete,
    /// Nobody can see it.
    Drop,
}

/// Judges the entries of one compaction.
#[derive(Debug)]
pub struct Retention {
    /// Ascending.
    snapshots: Vec<Version>,
    /// No older entry of any row judged here exists below the output level.
    bottom: bool,
    /// Committed partition time, ms.
    now_ms: u64,
    key: Vec<u8>,
    stripe: Option<usize>,
}

impl Retention {
    /// `snapshots` ascending, as registered when the compaction began; later ones only see what it keeps anyway.
    pub fn new(snapshots: Vec<Version>, bottom: bool, now_ms: u64) -> Self {
        assert!(snapshots.is_sorted());
        Self { snapshots, bottom, now_ms, key: Vec::new(), stripe: None }
    }

    /// The verdict on the next entry. `covering(at)` is the largest version at or below `at` of a range tombstone
    /// over the entry's key; it is asked only when there are any.
    pub fn judge(&mut self, entry: &Entry<'_>, covering: impl FnOnce(Version) -> Option<Version>) -> Verdict {
        let stripe = self.stripe_of(entry.version);
        let same_key = self.stripe.is_some() && self.key == entry.key;
        if same_key && self.stripe == Some(stripe) {
            return Verdict::Drop;
        }
        if !same_key {
            self.key.clear();
            self.key.extend_from_slice(entry.key);
        }
        self.stripe = Some(stripe);
        if covering(self.stripe_end(stripe)).is_some_and(|t| t > entry.version) {
            // The tombstone does this entry's hiding; older entries of the stripe are hidden too.
            return Verdict::Drop;
        }
        let hides_nothing = self.bottom && stripe == 0;
        let expired = entry.kind == Kind::Put && entry.expiry.is_past(self.now_ms);
        match (entry.kind, expired) {
            (Kind::Put, false) => Verdict::Keep,
            (Kind::Delete, _) | (Kind::Put, true) if hides_nothing => Verdict::Drop,
            (Kind::Delete, _) => Verdict::Keep,
            (Kind::Put, true) => Verdict::KeepAsDelete,
        }
    }

    /// Of the tombstones over one range, newest first, those that still hide something after this compaction: the
    /// newest of each stripe, and at the bottom none in the oldest.
    pub fn tombstones_kept(&self, versions: &[Version]) -> Vec<Version> {
        let mut kept: Vec<Version> = versions.to_vec();
        kept.dedup_by_key(|v| self.stripe_of(*v));
        kept.retain(|v| !(self.bottom && self.stripe_of(*v) == 0));
        kept
    }

    /// Readers at `version` and those in the same stripe see the same.
    fn stripe_of(&self, version: Version) -> usize {
        if self.snapshots.is_empty() {
            return 0;
        }
        self.snapshots.partition_point(|s| *s < version)
    }

    fn stripe_end(&self, stripe: usize) -> Version {
        self.snapshots.get(stripe).copied().unwrap_or(Version::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Expiry;

    const NONE: fn(Version) -> Option<Version> = |_| None;

    fn put(key: &'static [u8], version: u64) -> Entry<'static> {
        Entry { key, version: Version(version), kind: Kind::Put, expiry: Expiry::NEVER, value: b"v" }
    }

    fn delete(key: &'static [u8], version: u64) -> Entry<'static> {
        Entry { kind: Kind::Delete, value: b"", ..put(key, version) }
    }

    fn verdicts(retention: &mut Retention, entries: &[Entry<'_>]) -> Vec<Verdict> {
        entries.iter().map(|e| retention.judge(e, NONE)).collect()
    }

    #[test]
    fn without_snapshots_only_the_newest_entry_of_a_row_stays() {
        let mut retention = Retention::new(vec![], false, 0);
        let got = verdicts(&mut retention, &[put(b"a", 9), put(b"a", 5), delete(b"a", 2), put(b"b", 1)]);
        assert_eq!(got, [Verdict::Keep, Verdict::Drop, Verdict::Drop, Verdict::Keep]);
    }

    #[test]
    fn each_snapshot_keeps_the_version_it_sees() {
        let mut retention = Retention::new(vec![Version(3), Version(6)], false, 0);
        let got =
            verdicts(&mut retention, &[put(b"a", 9), put(b"a", 7), put(b"a", 6), put(b"a", 4), put(b"a", 3)]);
        assert_eq!(got, [Verdict::Keep, Verdict::Drop, Verdict::Keep, Verdict::Drop, Verdict::Keep]);
    }

    #[test]
    fn a_delete_above_a_kept_older_row_stays_even_at_the_bottom() {
        let mut retention = Retention::new(vec![Version(3)], true, 0);
        let got = verdicts(&mut retention, &[delete(b"a", 5), put(b"a", 2), delete(b"b", 3), put(b"b", 1)]);
        assert_eq!(got, [Verdict::Keep, Verdict::Keep, Verdict::Drop, Verdict::Drop]);
    }

    #[test]
    fn an_expired_row_is_a_tombstone_until_the_bottom() {
        let expired = Entry { expiry: Expiry(100), ..put(b"a", 5) };
        assert_eq!(Retention::new(vec![], false, 100).judge(&expired, NONE), Verdict::KeepAsDelete);
        assert_eq!(Retention::new(vec![], true, 100).judge(&expired, NONE), Verdict::Drop);
        assert_eq!(Retention::new(vec![], true, 99).judge(&expired, NONE), Verdict::Keep);
    }

    #[test]
    fn a_range_tombstone_hides_only_within_its_stripe() {
        let covering = |t: u64| move |at: Version| (Version(t) <= at).then_some(Version(t));
        let mut retention = Retention::new(vec![Version(4)], false, 0);
        // Tombstone at 6, row at 5: nobody can tell them apart. Row at 3: the snapshot at 4 still sees it.
        assert_eq!(retention.judge(&put(b"a", 5), covering(6)), Verdict::Drop);
        assert_eq!(retention.judge(&put(b"a", 3), covering(6)), Verdict::Keep);
        assert_eq!(retention.judge(&put(b"b", 7), covering(6)), Verdict::Keep);
        assert_eq!(
            retention.tombstones_kept(&[Version(7), Version(6), Version(3)]),
            [Version(7), Version(3)]
        );
        assert!(Retention::new(vec![], true, 0).tombstones_kept(&[Version(6)]).is_empty());
    }
}
