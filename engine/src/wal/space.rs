//! Which file holds which slot of the log: live, spare, or yet to be made. Decides; does no I/O.
//!
//! Invariants:
//! - live slots are contiguous: none between the oldest needed and the newest is missing;
//! - a file is live or spare, never both; there are never more than `slots_max`;
//! - a slot's file becomes spare only when a durable batch says that nothing before a later slot is needed.

use std::collections::VecDeque;

use crate::ids::Lsn;

/// A file's number: its name is `<number>.wal`.
pub(super) type FileNumber = usize;

/// The files of a log.
#[derive(Debug)]
pub(super) struct Space {
    file_bytes: u64,
    slots_max: usize,
    /// Files with a durable name.
    files: usize,
    /// (slot's sequence number, its file), ascending.
    live: VecDeque<(u64, FileNumber)>,
    spares: VecDeque<FileNumber>,
}

impl Space {
    pub(super) const fn new(file_bytes: u64, slots_max: usize) -> Self {
        Self { file_bytes, slots_max, files: 0, live: VecDeque::new(), spares: VecDeque::new() }
    }

    /// A prepared file joins.
    pub(super) fn add(&mut self, file: FileNumber) {
        assert_eq!(file, self.files, "files are numbered without a gap");
        assert!(self.can_grow(), "the cap is never exceeded");
        self.files += 1;
        self.spares.push_back(file);
    }

    /// A spare file becomes slot `sequence`.
    pub(super) fn activate(&mut self, sequence: u64) -> Option<FileNumber> {
        let file = self.spares.pop_front()?;
        assert!(self.live.back().is_none_or(|(last, _)| last + 1 == sequence), "slots follow each other");
        self.live.push_back((sequence, file));
        Some(file)
    }

    /// Nothing before `start` is needed any more, durably. Returns how many files became spare. The newest slot stays.
    pub(super) fn retire(&mut self, start: Lsn) -> usize {
        let before = self.spares.len();
        while self.live.len() > 1 {
            let Some(&(sequence, file)) = self.live.front() else { break };
            if (sequence + 1) * self.file_bytes > start.0 {
                break;
            }
            self.live.pop_front();
            self.spares.push_back(file);
        }
        self.spares.len() - before
    }

    /// The position up to which batches have a place.
    pub(super) fn limit(&self) -> Lsn {
        let next = self.live.back().map_or(0, |(sequence, _)| sequence + 1);
        Lsn((next + self.spares.len() as u64) * self.file_bytes)
    }

    /// The end of the oldest slot: what must be released for its file to be used again.
    pub(super) fn oldest_end(&self) -> Lsn {
        Lsn(self.live.front().map_or(0, |(sequence, _)| (sequence + 1) * self.file_bytes))
    }

    /// The newest slot's file, and the one that the next slot will get.
    pub(super) fn current_and_next(&self) -> (Option<FileNumber>, Option<FileNumber>) {
        (self.live.back().map(|&(_, file)| file), self.spares.front().copied())
    }

    pub(super) const fn can_grow(&self) -> bool {
        self.files < self.slots_max
    }

    pub(super) const fn files_max(&self) -> usize {
        self.slots_max
    }

    pub(super) const fn files(&self) -> usize {
        self.files
    }

    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    pub(super) fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Bytes of the slots that are in use.
    pub(super) fn used_bytes(&self) -> u64 {
        self.live.len() as u64 * self.file_bytes
    }

    /// Whether the log should be released from its oldest end: three quarters of what it may have are in use.
    pub(super) fn is_pressed(&self) -> bool {
        self.live.len() > 1 && self.live.len() * 4 >= self.slots_max * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_live_or_spare_and_live_slots_have_no_gap() {
        const FILE: u64 = 1 << 16;
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut space = Space::new(FILE, 4);
            let (mut next, mut start) = (0, Lsn(0));
            for step in 0..500 {
                match rng.u8(..3) {
                    0 if space.can_grow() => space.add(space.files()),
                    1 => {
                        let had = space.spares();
                        assert_eq!(space.activate(next).is_some(), had > 0, "seed {seed} step {step}");
                        next += u64::from(had > 0);
                    }
                    _ if next > 0 => start = Lsn(rng.u64(start.0..=next * FILE)),
                    _ => {}
                }
                space.retire(start);
                assert_eq!(space.live() + space.spares(), space.files(), "seed {seed} step {step}");
                assert!(space.files() <= 4);
                let oldest = space.oldest_end();
                assert!(oldest > start || space.live() < 2, "seed {seed} step {step}");
                assert_eq!(space.limit().0, (next + space.spares() as u64) * FILE, "seed {seed} step {step}");
            }
        }
    }
}
