//! The last hours of one entity, all metrics of an hour side by side: one more hour touches one line of the cache.
//!
//! Invariant: a span's hours are as many as there is room for at most; codes outside of it are never read.

use std::ops::Range;

use super::scale::GAP;
use super::{METRICS, Metric};
use crate::series::offset;

/// An hour's codes.
pub(super) type Codes = [u16; METRICS];

#[derive(Clone, Debug)]
pub(super) struct Ring {
    codes: Box<[Codes]>,
    /// The hours that are kept; none before the first came.
    span: Range<i64>,
}

impl Ring {
    /// Room for so many hours.
    pub(super) fn new(hours: usize) -> Self {
        assert!(hours > 0, "a ring of no hours");
        Self { codes: vec![[GAP; METRICS]; hours].into_boxed_slice(), span: 0..0 }
    }

    /// Puts an hour in, which is none of those that were; hours left out are gaps.
    pub(super) fn push(&mut self, hour: i64, codes: Codes) {
        if self.span.is_empty() {
            self.span = hour..hour;
        }
        assert!(hour >= self.span.end, "hour {hour} comes after {:?}", self.span);
        let room = self.codes.len();
        // More gaps than there is room for would only be written over.
        for gap in 1..=offset(self.span.end, hour).min(room) {
            let at = self.place(hour - signed(gap));
            self.codes[at] = [GAP; METRICS];
        }
        let at = self.place(hour);
        self.codes[at] = codes;
        self.span = self.span.start.max(hour + 1 - signed(room))..hour + 1;
    }

    /// The first hour that is kept; none before the first came.
    pub(super) fn begin(&self) -> Option<i64> {
        (!self.span.is_empty()).then_some(self.span.start)
    }

    /// The codes of `metric`, from the first kept hour on.
    pub(super) fn codes(&self, metric: Metric) -> impl DoubleEndedIterator<Item = u16> {
        let (wrapped, first) = self.codes.split_at(self.place(self.span.start));
        let hours = offset(self.span.start, self.span.end);
        let codes =
            first[..hours.min(first.len())].iter().chain(&wrapped[..hours.saturating_sub(first.len())]);
        codes.map(move |codes| codes[metric as usize])
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.codes)
    }

    fn place(&self, hour: i64) -> usize {
        usize::try_from(hour.rem_euclid(signed(self.codes.len()))).unwrap_or(0)
    }
}

fn signed(hours: usize) -> i64 {
    i64::try_from(hours).unwrap_or(i64::MAX)
}
