//! A walk through a level: segments whose keys do not overlap, one after the other, as one source of a merge.

use std::rc::Rc;

use super::Segment;
use super::cursor::{ReadMode, SegmentCursor};
use crate::entry::Entry;
use crate::error::Result;
use crate::ids::Version;
use crate::merge::Step;

/// A place in a sorted run of segments.
#[derive(Debug)]
pub struct RunCursor {
    segments: Rc<[Rc<Segment>]>,
    mode: ReadMode,
    number: usize,
    cursor: Option<SegmentCursor>,
}

impl RunCursor {
    /// A cursor over `segments`, which ascend and do not overlap in their entries. It stands at the end until it is
    /// sought.
    #[must_use]
    pub fn new(segments: Rc<[Rc<Segment>]>, mode: ReadMode) -> Self {
        Self { number: segments.len(), segments, mode, cursor: None }
    }

    /// A cursor over one segment.
    #[must_use]
    pub fn of(segment: Rc<Segment>, mode: ReadMode) -> Self {
        Self::new(Rc::from([segment]), mode)
    }

    /// Moves to the first entry.
    pub fn seek_first(&mut self) -> Step {
        match self.open(0) {
            Some(cursor) => {
                let step = cursor.seek_first();
                self.skip_ended(step)
            }
            None => Step::Ready,
        }
    }

    /// Moves to the first entry at or after (`key`, `at`) in storage order.
    pub fn seek(&mut self, key: &[u8], at: Version) -> Step {
        let number = self.segments.partition_point(|segment| segment.meta().last.as_slice() < key);
        match self.open(number) {
            Some(cursor) => {
                let step = cursor.seek(key, at);
                self.skip_ended(step)
            }
            None => Step::Ready,
        }
    }

    /// The current entry.
    #[must_use]
    #[inline]
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.cursor.as_ref()?.entry()
    }

    /// Moves to the next entry. At the end it stays.
    #[inline]
    pub fn advance(&mut self) -> Step {
        let Some(cursor) = &mut self.cursor else { return Step::Ready };
        let step = cursor.advance();
        if step == Step::Ready && cursor.entry().is_some() {
            return Step::Ready;
        }
        self.skip_ended(step)
    }

    /// Gets the block that the last step needed, and completes that step.
    ///
    /// # Errors
    /// As [`Segment::load`].
    pub async fn load(&mut self) -> Result<()> {
        while let Some(cursor) = &mut self.cursor {
            cursor.load().await?;
            if self.skip_ended(Step::Ready) == Step::Ready {
                break;
            }
        }
        Ok(())
    }

    /// While the segment's cursor is at its end, goes on with the next segment.
    fn skip_ended(&mut self, mut step: Step) -> Step {
        while step == Step::Ready {
            match &self.cursor {
                Some(cursor) if cursor.entry().is_none() => {}
                Some(_) | None => break,
            }
            let next = self.number + 1;
            let Some(cursor) = self.open(next) else { break };
            step = cursor.seek_first();
        }
        step
    }

    fn open(&mut self, number: usize) -> Option<&mut SegmentCursor> {
        self.number = number;
        self.cursor = self.segments.get(number).map(|s| SegmentCursor::new(s.clone(), self.mode));
        self.cursor.as_mut()
    }
}
