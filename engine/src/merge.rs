//! A k-way merge of sorted sources into one stream in storage order.
//!
//! A tournament of losers (Knuth, The Art of Computer Programming, vol. 3, 5.4.1): each step plays the winner's path
//! again, log2 k comparisons, most of them decided by the first eight bytes of the keys. Decides nothing about rows:
//! every version comes out, each (key, version) once.
//!
//! Invariants:
//! - entries come out in strictly ascending storage order;
//! - of equal entries the one of the first source comes out.

use std::cmp::Ordering;

use crate::entry::{Entry, order};
use crate::error::Result;
use crate::ids::Version;
use crate::memtable::MemtableCursor;
use crate::segment::RunCursor;
use crate::segment::index::head_of;

/// What a step along a source came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// The source stands where it should: at an entry or at its end.
    Ready,
    /// A block must be read first: `load().await`.
    NeedsLoad,
}

/// One input of a merge.
#[derive(Debug)]
pub enum Source {
    /// Segments that do not overlap.
    Run(Box<RunCursor>),
    /// A memtable, which never needs a load.
    Memtable(Box<MemtableCursor>),
}

impl From<RunCursor> for Source {
    fn from(cursor: RunCursor) -> Self {
        Self::Run(Box::new(cursor))
    }
}

impl From<MemtableCursor> for Source {
    fn from(cursor: MemtableCursor) -> Self {
        Self::Memtable(Box::new(cursor))
    }
}

impl Source {
    fn seek_first(&mut self) -> Step {
        match self {
            Self::Run(cursor) => cursor.seek_first(),
            Self::Memtable(cursor) => {
                cursor.seek(&[], Version::MAX);
                Step::Ready
            }
        }
    }

    fn seek(&mut self, key: &[u8], at: Version) -> Step {
        match self {
            Self::Run(cursor) => cursor.seek(key, at),
            Self::Memtable(cursor) => {
                cursor.seek(key, at);
                Step::Ready
            }
        }
    }

    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        match self {
            Self::Run(cursor) => cursor.entry(),
            Self::Memtable(cursor) => cursor.entry(),
        }
    }

    #[inline]
    fn advance(&mut self) -> Step {
        match self {
            Self::Run(cursor) => cursor.advance(),
            Self::Memtable(cursor) => {
                cursor.advance();
                Step::Ready
            }
        }
    }

    async fn load(&mut self) -> Result<()> {
        match self {
            Self::Run(cursor) => cursor.load().await,
            Self::Memtable(_) => Ok(()),
        }
    }
}

/// A source as the tournament sees it.
#[derive(Clone, Copy, Debug)]
struct Player {
    /// The first eight bytes of its key; the largest number also at its end.
    head: u64,
    ended: bool,
    /// An equal entry of a source before it comes out first.
    duplicate: bool,
}

/// Sources merged.
#[derive(Debug)]
pub struct Merge {
    sources: Vec<Source>,
    players: Vec<Player>,
    /// Who lost at each inner node of the tree; node 0 holds the winner.
    tree: Vec<usize>,
    pending: Pending,
}

/// What `load` has to complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    Nothing,
    /// Sources from this one on may still wait for a block; then the tournament begins.
    Start(usize),
    /// The winner waits for a block; then its path is played.
    Winner,
}

impl Merge {
    /// A merge of `sources`, of which earlier ones win ties. It stands at the end until it is sought.
    #[must_use]
    pub fn new(sources: Vec<Source>) -> Self {
        let ended = Player { head: u64::MAX, ended: true, duplicate: false };
        Self {
            players: vec![ended; sources.len()],
            tree: (0..sources.len()).collect(),
            sources,
            pending: Pending::Nothing,
        }
    }

    /// Moves to the first entry.
    pub fn seek_first(&mut self) -> Step {
        self.start(Source::seek_first)
    }

    /// Moves to the first entry at or after (`key`, `at`) in storage order.
    pub fn seek(&mut self, key: &[u8], at: Version) -> Step {
        self.start(|source| source.seek(key, at))
    }

    /// The current entry, or `None` at the end, and while a step needs a load.
    #[must_use]
    #[inline]
    pub fn entry(&self) -> Option<Entry<'_>> {
        if self.pending != Pending::Nothing {
            return None;
        }
        self.sources.get(*self.tree.first()?)?.entry()
    }

    /// Whether the last step waits for [`Self::load`].
    #[must_use]
    pub fn needs_load(&self) -> bool {
        self.pending != Pending::Nothing
    }

    /// Moves to the next entry. At the end it stays.
    #[inline]
    pub fn advance(&mut self) -> Step {
        if self.pending != Pending::Nothing {
            return Step::NeedsLoad;
        }
        loop {
            let Some(&winner) = self.tree.first() else { return Step::Ready };
            if self.sources[winner].advance() == Step::NeedsLoad {
                self.pending = Pending::Winner;
                return Step::NeedsLoad;
            }
            self.replay(winner);
            if !self.at_duplicate() {
                return Step::Ready;
            }
        }
    }

    /// Gets what the last step needed, and completes that step.
    ///
    /// # Errors
    /// What a source says; the merge stays where it was and may try again.
    pub async fn load(&mut self) -> Result<()> {
        loop {
            match self.pending {
                Pending::Nothing => return Ok(()),
                Pending::Start(from) => {
                    for n in from..self.sources.len() {
                        self.pending = Pending::Start(n);
                        self.sources[n].load().await?;
                    }
                    self.pending = Pending::Nothing;
                    self.play_all();
                }
                Pending::Winner => {
                    let winner = self.tree[0];
                    self.sources[winner].load().await?;
                    self.pending = Pending::Nothing;
                    self.replay(winner);
                }
            }
            if self.at_duplicate() {
                let _ = self.advance();
            }
        }
    }

    fn start(&mut self, mut seek: impl FnMut(&mut Source) -> Step) -> Step {
        let mut step = Step::Ready;
        for source in &mut self.sources {
            if seek(source) == Step::NeedsLoad {
                step = Step::NeedsLoad;
            }
        }
        if step == Step::NeedsLoad {
            self.pending = Pending::Start(0);
            return step;
        }
        self.pending = Pending::Nothing;
        self.play_all();
        if self.at_duplicate() { self.advance() } else { Step::Ready }
    }

    fn at_duplicate(&self) -> bool {
        self.tree.first().is_some_and(|&winner| self.players[winner].duplicate)
    }

    /// Plays the whole tournament. Leaf `n` stands at node `k + n`; the parent of a node is half its number.
    fn play_all(&mut self) {
        let count = self.sources.len();
        for n in 0..count {
            self.refresh(n);
        }
        let mut winners = vec![0; 2 * count];
        for node in (1..2 * count).rev() {
            if node >= count {
                winners[node] = node - count;
            } else {
                let (a, b) = (winners[2 * node], winners[2 * node + 1]);
                let (winner, loser) = if self.beats(a, b) { (a, b) } else { (b, a) };
                winners[node] = winner;
                self.tree[node] = loser;
            }
        }
        if let Some(first) = self.tree.first_mut() {
            *first = winners.get(1).copied().unwrap_or(0);
        }
    }

    /// Plays the path of a source that moved, the last winner.
    #[inline]
    fn replay(&mut self, moved: usize) {
        self.refresh(moved);
        let mut winner = moved;
        let mut node = (self.sources.len() + moved) / 2;
        while node > 0 {
            let other = self.tree[node];
            if self.beats(other, winner) {
                self.tree[node] = winner;
                winner = other;
            }
            node /= 2;
        }
        self.tree[0] = winner;
    }

    #[inline]
    fn refresh(&mut self, n: usize) {
        self.players[n] = match self.sources[n].entry() {
            Some(entry) => Player { head: head_of(entry.key), ended: false, duplicate: false },
            None => Player { head: u64::MAX, ended: true, duplicate: false },
        };
    }

    /// Whether source `a` comes before source `b`; of equal ones, the later is marked.
    #[inline]
    fn beats(&mut self, a: usize, b: usize) -> bool {
        let (head_a, head_b) = (self.players[a].head, self.players[b].head);
        if head_a != head_b {
            return head_a < head_b;
        }
        self.beats_in_full(a, b)
    }

    fn beats_in_full(&mut self, a: usize, b: usize) -> bool {
        let (Some(x), Some(y)) = (self.sources[a].entry(), self.sources[b].entry()) else {
            // An ended source loses to one that is not.
            return self.players[b].ended && (!self.players[a].ended || a < b);
        };
        match order((x.key, x.version), (y.key, y.version)) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => {
                self.players[a.max(b)].duplicate = true;
                a < b
            }
        }
    }
}
