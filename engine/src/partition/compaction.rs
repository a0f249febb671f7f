//! Segment to segment: carries out what `strategy` chose.
//!
//! Invariants:
//! - inputs stay readable, and their files stay, until the manifest's edit is durable and the log carries its number (R2);
//! - what it reads does not go through the block cache.

use std::rc::Rc;

use super::Partition;
use super::excise::Changed;
use super::output::Plan;
use super::pace::Work;
use super::retention::Retention;
use super::strategy::{self, Choice};
use crate::error::Result;
use crate::ids::SegmentId;
use crate::manifest::Edit;
use crate::merge::Merge;
use crate::segment::{ReadMode, RunCursor, Segment, SegmentMeta};
use crate::tombstones::RangeTombstones;

/// What a compaction did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) changed: Changed,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

impl Partition {
    /// The most urgent compaction of this partition; none once it is closed, for its files are then another's.
    pub(crate) fn choose_compaction(&self) -> Option<Choice> {
        if self.is_closed.get() {
            return None;
        }
        let levels = self.levels();
        strategy::choose(&levels.metas(), &self.common.options.shape, &self.compaction_cursor.borrow())
    }

    /// Bytes compaction has yet to move.
    pub(crate) fn compaction_debt(&self) -> u64 {
        strategy::debt_bytes(&self.levels().metas(), &self.common.options.shape)
    }

    /// Carries out the most urgent compaction there is when its turn comes; none if there is none any more. On an error
    /// nothing has changed.
    pub(crate) async fn compact(&self) -> Result<Option<Done>> {
        let _turn = self.structure.enter().await;
        let Some(choice) = self.choose_compaction() else { return Ok(None) };
        self.carry_out(&choice).await.map(Some)
    }

    async fn carry_out(&self, choice: &Choice) -> Result<Done> {
        let levels = self.levels();
        let find = |ids: &[SegmentId]| -> Vec<Rc<Segment>> {
            ids.iter().filter_map(|id| levels.find(*id).cloned()).collect()
        };
        let (upper, lower) = (find(&choice.upper), find(&choice.lower));
        assert_eq!(upper.len() + lower.len(), choice.upper.len() + choice.lower.len(), "inputs are current");
        let inputs: Vec<Rc<Segment>> = upper.iter().chain(&lower).cloned().collect();
        let built = if choice.is_move {
            vec![SegmentMeta { level: level_byte(choice.target), ..upper[0].meta().clone() }]
        } else {
            self.build(self.plan_compaction(choice, &inputs)).await?
        };
        let removed: Vec<SegmentId> = inputs.iter().map(|s| s.meta().id).collect();
        let opened = if choice.is_move {
            built.iter().map(|meta| upper[0].view(meta.clone())).collect()
        } else {
            self.open_segments(&built).await?
        };
        // Numbers of an edit only rise: zeros leave what the last flush said.
        let next_segment = self.next_segment.get();
        let edit = Edit { added: built.clone(), removed: removed.clone(), next_segment, ..Edit::default() };
        let edit = self.record(edit).await?;
        *self.levels.borrow_mut() = Rc::new(self.levels().edited(&opened, &removed));
        if let Some(last) = upper.last().filter(|_| choice.target > choice.level) {
            self.compaction_cursor.borrow_mut()[choice.level].clone_from(&last.meta().last);
        }
        let (obsolete, bytes_read) = if choice.is_move {
            (Vec::new(), 0)
        } else {
            (removed, inputs.iter().map(|s| s.meta().visible_bytes).sum())
        };
        let bytes_written = if choice.is_move { 0 } else { built.iter().map(|m| m.bytes).sum() };
        Ok(Done { changed: Changed { edit, obsolete }, bytes_read, bytes_written })
    }

    fn plan_compaction(&self, choice: &Choice, inputs: &[Rc<Segment>]) -> Plan {
        let first = inputs.iter().map(|s| s.meta().first.as_slice()).min().unwrap_or_default();
        let last = inputs.iter().map(|s| s.meta().last.as_slice()).max().unwrap_or_default();
        let bottom = self.levels().is_bottom(choice.target, first, last);
        let mut tombstones = RangeTombstones::default();
        for segment in inputs {
            tombstones.merge(segment.tombstones());
        }
        let runs =
            runs_of(inputs, choice.level).into_iter().map(|run| RunCursor::new(run, ReadMode::Ahead).into());
        Plan {
            merge: Merge::new(runs.collect()),
            tombstones,
            retention: Retention::new(self.snapshots.versions(), bottom, self.committed_time_ms()),
            level: level_byte(choice.target),
            segment_bytes: self.common.options.shape.segment_bytes,
            work: Work::Compaction,
        }
    }
}

/// Inputs as sorted runs: each segment of level 0 is one, those of a deeper level are one together.
fn runs_of(inputs: &[Rc<Segment>], upper: usize) -> Vec<Rc<[Rc<Segment>]>> {
    let (mut above, below): (Vec<_>, Vec<_>) =
        inputs.iter().cloned().partition(|s| usize::from(s.meta().level) == upper);
    let mut runs: Vec<Rc<[Rc<Segment>]>> =
        if upper == 0 { above.drain(..).map(|s| Rc::from([s])).collect() } else { vec![above.into()] };
    runs.push(below.into());
    runs.retain(|run| !run.is_empty());
    runs
}

fn level_byte(level: usize) -> u8 {
    u8::try_from(level).unwrap_or_else(|_| unreachable!("there are {} levels", strategy::LEVELS))
}
