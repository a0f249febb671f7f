//! What was written, what of it was acknowledged, and whether what is read fits. No I/O.
//!
//! A cell's writes are numbered from 1 and sent by one connection, whose answers keep their order. So two numbers are
//! enough for a cell: the last write that was acknowledged, and the last that was sent. A write in between was refused,
//! cut off or not answered in time: whether it happened is unknown, and a read may find it or not. What a read may
//! never find is a write before the last acknowledged one, or one that was never sent.
//!
//! Invariants:
//! - acknowledged <= sent, of every cell;
//! - eight bytes a cell, whatever is written.

use std::fmt;

use super::numbers::index;
use super::value::Found;

/// What may be found of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Window {
    /// The last write that was acknowledged; 0 for none.
    pub(crate) acknowledged: u32,
    /// The last write that was sent; 0 for none.
    pub(crate) sent: u32,
}

/// The windows of cells `0..`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Ledger {
    cells: Vec<Window>,
}

/// What is wrong with what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    /// A write that was acknowledged is not there, nor a later one.
    Lost,
    /// A write that was never sent.
    NeverSent,
    /// Keys written in one transaction are not of one transaction.
    Torn,
    /// Bytes are not as they were written.
    Damaged,
    /// The value of another key.
    Misplaced,
}

impl Ledger {
    /// For so many cells, none of them written.
    pub(crate) fn new(cells: u64) -> Self {
        Self { cells: vec![Window::default(); index(cells)] }
    }

    /// How many cells there are.
    pub(crate) fn len(&self) -> u64 {
        self.cells.len() as u64
    }

    /// The cell's; nothing was written to one that is not here.
    pub(crate) fn window(&self, cell: u64) -> Window {
        usize::try_from(cell).ok().and_then(|cell| self.cells.get(cell)).copied().unwrap_or_default()
    }

    /// The number of a write that is about to be sent; none once a cell's numbers are used up.
    pub(crate) fn send(&mut self, cell: u64) -> Option<u32> {
        let window = self.at(cell);
        window.sent = window.sent.checked_add(1)?;
        Some(window.sent)
    }

    /// The write was answered, and with it every earlier one of the cell is past.
    pub(crate) fn acknowledge(&mut self, cell: u64, sequence: u32) {
        let window = self.at(cell);
        assert!(sequence <= window.sent, "acknowledged before it was sent");
        window.acknowledged = window.acknowledged.max(sequence);
    }

    /// Takes what somebody else knows of a cell.
    pub(crate) fn learn(&mut self, cell: u64, known: Window) {
        let window = self.at(cell);
        window.acknowledged = window.acknowledged.max(known.acknowledged);
        window.sent = window.sent.max(known.sent).max(window.acknowledged);
    }

    /// Widens every window by writes that may have been sent without anybody's knowing.
    pub(crate) fn widen(&mut self, writes: u32) {
        for window in &mut self.cells {
            window.sent = window.sent.saturating_add(writes);
        }
    }

    /// All cells that were ever written to.
    pub(crate) fn written(&self) -> impl Iterator<Item = (u64, Window)> {
        (0..).zip(&self.cells).filter(|(_, window)| window.sent > 0).map(|(cell, window)| (cell, *window))
    }

    fn at(&mut self, cell: u64) -> &mut Window {
        let cell = index(cell);
        if cell >= self.cells.len() {
            self.cells.resize(cell + 1, Window::default());
        }
        &mut self.cells[cell]
    }
}

/// Judges what a read of a cell found; `found` has what each of its members held, in order.
pub(crate) fn judge(
    (run, cell): (u64, u64),
    window: Window,
    found: impl Iterator<Item = Found>,
) -> Result<(), Wrong> {
    let mut agreed = None;
    for (member, found) in (0_u16..).zip(found) {
        let sequence = match found {
            Found::Garbled(_) => return Err(Wrong::Damaged),
            // What another run left: as if nothing was written.
            Found::Absent | Found::Foreign => 0,
            Found::Stamped(stamp) if stamp.run != run => 0,
            Found::Stamped(stamp) if (stamp.cell, stamp.member) != (cell, member) => {
                return Err(Wrong::Misplaced);
            }
            Found::Stamped(stamp) => stamp.sequence,
        };
        if *agreed.get_or_insert(sequence) != sequence {
            return Err(Wrong::Torn);
        }
    }
    let sequence = agreed.unwrap_or_default();
    if sequence < window.acknowledged {
        Err(Wrong::Lost)
    } else if sequence > window.sent {
        Err(Wrong::NeverSent)
    } else {
        Ok(())
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::NeverSent => "never_sent",
            Self::Torn => "torn",
            Self::Damaged => "damaged",
            Self::Misplaced => "misplaced",
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.acknowledged, self.sent) {
            (0, 0) => f.write_str("nothing of this run"),
            (0, sent) => write!(f, "nothing, or any of writes 1 to {sent}"),
            (acknowledged, sent) if acknowledged == sent => write!(f, "write {sent}"),
            (acknowledged, sent) => write!(f, "any of writes {acknowledged} to {sent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fastrand::Rng;

    use super::super::value::Stamp;
    use super::*;

    const RUN: u64 = 99;

    fn stamped(cell: u64, sequence: u32, member: u16) -> Found {
        Found::Stamped(Stamp { run: RUN, cell, connection: 0, sequence, member })
    }

    /// The model keeps, for every cell, the set of all that may be found.
    #[test]
    fn a_window_allows_what_the_set_of_all_possible_values_has() {
        for seed in 0..50 {
            let mut random = Rng::with_seed(seed);
            let mut ledger = Ledger::new(3);
            let mut possible: BTreeMap<u64, BTreeSet<u32>> =
                (0..6).map(|cell| (cell, BTreeSet::from([0]))).collect();
            for _ in 0..200 {
                let cell = random.u64(0..6);
                let sequence = ledger.send(cell).unwrap();
                let allowed = possible.get_mut(&cell).unwrap();
                if random.u8(0..3) == 0 {
                    allowed.insert(sequence); // Unknown: the old ones and this one.
                } else {
                    ledger.acknowledge(cell, sequence);
                    *allowed = BTreeSet::from([sequence]);
                }
                for (cell, allowed) in &possible {
                    for found in 0..sequence + 3 {
                        let seen = if found == 0 { Found::Absent } else { stamped(*cell, found, 0) };
                        let verdict = judge((RUN, *cell), ledger.window(*cell), [seen].into_iter());
                        assert_eq!(
                            verdict.is_ok(),
                            allowed.contains(&found),
                            "seed {seed} cell {cell} {found}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn each_wrong_has_its_name() {
        let window = Window { acknowledged: 3, sent: 5 };
        let verdict = |found: &[Found]| judge((RUN, 7), window, found.iter().copied());
        let other_run = Found::Stamped(Stamp { run: 1, cell: 7, connection: 0, sequence: 4, member: 0 });
        assert_eq!(verdict(&[stamped(7, 4, 0), stamped(7, 4, 1)]), Ok(()));
        assert_eq!(verdict(&[stamped(7, 4, 0), stamped(7, 5, 1)]), Err(Wrong::Torn));
        assert_eq!(verdict(&[stamped(7, 4, 0), Found::Absent]), Err(Wrong::Torn));
        assert_eq!(verdict(&[stamped(7, 2, 0)]), Err(Wrong::Lost));
        assert_eq!(verdict(&[Found::Foreign]), Err(Wrong::Lost));
        assert_eq!(verdict(&[other_run]), Err(Wrong::Lost));
        assert_eq!(verdict(&[stamped(7, 6, 0)]), Err(Wrong::NeverSent));
        assert_eq!(verdict(&[stamped(8, 4, 0)]), Err(Wrong::Misplaced));
        assert_eq!(verdict(&[stamped(7, 4, 1)]), Err(Wrong::Misplaced));
        assert_eq!(verdict(&[Found::Garbled("")]), Err(Wrong::Damaged));
    }

    #[test]
    fn what_another_run_left_is_nothing_where_nothing_is_expected() {
        let other_run = Found::Stamped(Stamp { run: 1, cell: 9, connection: 0, sequence: 4, member: 3 });
        for found in [Found::Absent, Found::Foreign, other_run] {
            assert_eq!(judge((RUN, 7), Window::default(), [found].into_iter()), Ok(()));
        }
    }

    #[test]
    fn numbers_that_are_used_up_are_not_used_again() {
        let mut ledger = Ledger::new(1);
        ledger.learn(0, Window { acknowledged: u32::MAX - 1, sent: u32::MAX - 1 });
        assert_eq!(ledger.send(0), Some(u32::MAX));
        assert_eq!(ledger.send(0), None);
        assert_eq!(ledger.window(0), Window { acknowledged: u32::MAX - 1, sent: u32::MAX });
    }
}
