//! What a flush or a compaction writes: entries in, segments out, cut where a segment is full.
//!
//! Invariants:
//! - all versions of a row lie in one segment;
//! - an output covers the keys from its predecessor's end to its own: range tombstones are clipped to that;
//! - until the manifest names them, the files are nobody's: a failure removes them.

use std::rc::Rc;

use super::Partition;
use super::open::open_segment;
use super::pace::{ENTRIES_PER_LOOK, Pace, Work};
use super::retention::{Retention, Verdict};
use crate::entry::{Entry, Expiry, Kind, RangeTombstone};
use crate::error::Result;
use crate::merge::{Merge, Step};
use crate::segment::{BuildOptions, Codec, Segment, SegmentBuilder, SegmentMeta};
use crate::tombstones::RangeTombstones;
use crate::wal::Durability;

/// Where the log is not flushed, nobody empties the device's cache but segments when they are whole, and a device that is busy
/// with all of one does nothing else for as long: a tenth of a second or two for 64 MiB.
const SYNC_BYTES: u64 = 8 << 20;

/// What is merged, and where it goes.
pub(crate) struct Plan {
    pub(crate) merge: Merge,
    pub(crate) tombstones: RangeTombstones,
    pub(crate) retention: Retention,
    pub(crate) level: u8,
    pub(crate) segment_bytes: u64,
    /// As what it shares the core.
    pub(crate) work: Work,
}

/// Segments being written, one at a time.
struct Output<'a> {
    partition: &'a Partition,
    plan_level: u8,
    segment_bytes: u64,
    open: Option<SegmentBuilder>,
    /// Where the open segment's share of the key space begins.
    from: Vec<u8>,
    done: Vec<SegmentMeta>,
}

impl Partition {
    /// Carries a plan out: durable segments that no manifest names yet, none if nothing is left.
    pub(crate) async fn build(&self, mut plan: Plan) -> Result<Vec<SegmentMeta>> {
        let mut output = Output {
            partition: self,
            plan_level: plan.level,
            segment_bytes: plan.segment_bytes,
            open: None,
            from: Vec::new(),
            done: Vec::new(),
        };
        let result = match output.fill(&mut plan).await {
            Ok(()) => output.close(None, &plan.tombstones, &plan.retention).await,
            Err(e) => Err(e),
        };
        match result {
            Ok(()) => Ok(output.done),
            Err(e) => {
                output.remove().await;
                Err(e)
            }
        }
    }

    /// A segment's file, to be written.
    pub(super) async fn begin_segment(&self, level: u8) -> Result<SegmentBuilder> {
        let common = &self.common;
        let options = BuildOptions {
            level,
            codec: if common.options.compression { Codec::Lz4 } else { Codec::None },
            block_bytes: common.options.block_bytes,
            created_ms: self.time_ms(),
        };
        let builder =
            SegmentBuilder::create(Rc::clone(&common.disk), &self.dir, self.next_segment(), options).await?;
        Ok(match common.options.durability {
            Durability::None => builder.synced_each(SYNC_BYTES),
            Durability::Always | Durability::Interval(_) => builder,
        })
    }

    /// Opens what was built.
    pub(crate) async fn open_segments(&self, metas: &[SegmentMeta]) -> Result<Vec<Rc<Segment>>> {
        let mut segments = Vec::with_capacity(metas.len());
        for meta in metas {
            segments.push(open_segment(&self.common, &self.dir, meta).await?);
        }
        Ok(segments)
    }
}

impl Output<'_> {
    async fn fill(&mut self, plan: &mut Plan) -> Result<()> {
        let common = &self.partition.common;
        let mut slice = Pace::slice(&common.runtime);
        if plan.merge.seek_first() == Step::NeedsLoad {
            plan.merge.load().await?;
        }
        let mut entries: u32 = 0;
        while let Some(entry) = plan.merge.entry() {
            let tombstones = &plan.tombstones;
            let covering = |at| if tombstones.is_empty() { None } else { tombstones.covering(entry.key, at) };
            let verdict = plan.retention.judge(&entry, covering);
            if verdict != Verdict::Drop {
                if self.is_full(entry.key) {
                    let end = entry.key.to_vec();
                    self.close(Some(&end), &plan.tombstones, &plan.retention).await?;
                }
                if self.open.is_none() {
                    self.open = Some(self.partition.begin_segment(self.plan_level).await?);
                }
                if let Some(builder) = &mut self.open {
                    builder.push(kept(entry, verdict));
                    if builder.is_due() {
                        builder.flush().await?;
                    }
                }
            }
            if plan.merge.advance() == Step::NeedsLoad {
                plan.merge.load().await?;
            }
            entries += 1;
            if entries.is_multiple_of(ENTRIES_PER_LOOK) && slice.is_spent() {
                common.pace.give_way(plan.work, &common.runtime).await;
                slice.pause().await;
            }
        }
        Ok(())
    }

    /// Whether the open segment ends before `key`.
    fn is_full(&self, key: &[u8]) -> bool {
        self.open.as_ref().is_some_and(|b| b.estimated_bytes() >= self.segment_bytes && b.last_key() != key)
    }

    /// Ends the open segment before `end` (`None`: the end of all keys), range tombstones included.
    async fn close(
        &mut self,
        end: Option<&[u8]>,
        tombstones: &RangeTombstones,
        retention: &Retention,
    ) -> Result<()> {
        let mut kept = Vec::new();
        for fragment in tombstones.fragments(&self.from, end) {
            for version in retention.tombstones_kept(fragment.versions) {
                let (start, end) = (fragment.start.to_vec(), fragment.end.to_vec());
                kept.push(RangeTombstone { start, end, version });
            }
        }
        if self.open.is_none() && !kept.is_empty() {
            self.open = Some(self.partition.begin_segment(self.plan_level).await?);
        }
        if let Some(mut builder) = self.open.take() {
            for tombstone in &kept {
                builder.push_tombstone(tombstone);
            }
            self.done.push(builder.finish().await?);
        }
        self.from = end.unwrap_or_default().to_vec();
        Ok(())
    }

    /// After a failure: what was written is nobody's. Files that cannot be removed are found and removed when the
    /// partition is next opened.
    async fn remove(&mut self) {
        if let Some(builder) = self.open.take() {
            builder.abandon().await;
        }
        for meta in self.done.drain(..) {
            self.partition.remove_segment_file(meta.id).await;
        }
    }
}

fn kept(entry: Entry<'_>, verdict: Verdict) -> Entry<'_> {
    match verdict {
        Verdict::KeepAsDelete => Entry { kind: Kind::Delete, expiry: Expiry::NEVER, value: b"", ..entry },
        Verdict::Keep | Verdict::Drop => entry,
    }
}
