//! How an entity fares before, during and after its move: time and errors of its operations where they are done, and whether
//! it became worse.
//!
//! The shard that has the entity watches it from the move's opening on, and for the option `watch_before` before anything is copied; when
//! the move is done it hands what it saw to the target's shard, which watches on for [`AFTER`] and judges each [`WINDOW`]
//! against what was before. What is timed is an operation from its beginning in its partition to its end there: waits for
//! rows, locks, room and the core are in it. The log's flush, which all of a core share, and the wait at the cut-over, which
//! the move itself tells, are not.
//!
//! Invariants:
//! - nothing here waits, and nothing waits for it: there is no task and no timer, a window ends when somebody comes, or asks;
//! - where nothing is watched, an operation costs one load more;
//! - what is kept is bounded in number, and each watch in size.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::Shard;
use crate::ids::{MoveId, PartitionId};
use crate::io::runtime::Nanos;

/// An entity is watched for so long after its move.
pub const AFTER: Duration = Duration::from_secs(3600);
/// So long a stretch is judged at a time: what becomes worse later does not drown in what was well.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Entities that a shard watches at once, some 6 KiB each; the one watched longest makes room.
const WATCHED_MAX: usize = 256;
/// Courses that have ended and are remembered: as many as moves are.
const ENDED_KEPT: usize = 1000;
/// Fewer operations than this say nothing.
const OPERATIONS_MIN: u64 = 100;
/// Worse is so many times as long, and longer by so much: a cached read in the place of another one is no regression.
const WORSE_TIMES: f64 = 2.0;
const WORSE_MEAN: Duration = Duration::from_micros(200);
const WORSE_P99: Duration = Duration::from_millis(1);
/// Or such a part more of all operations fails.
const WORSE_ERRORS: f64 = 0.01;
/// Times are told apart from a microsecond on, to a tenth.
const NANOS: std::ops::Range<u64> = 1_000..100_000_000_000;

/// Operations of a stretch of time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stretch {
    /// How many there were.
    pub operations: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How long one took: on average, half of them at most, ninety-nine of a hundred at most, the longest.
    pub mean: Duration,
    /// The median.
    pub p50: Duration,
    /// Of a hundred, one is longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// An entity's course through a move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Course {
    /// Which move.
    pub id: MoveId,
    /// Before anything was copied.
    pub before: Stretch,
    /// From then to the move's end.
    pub during: Stretch,
    /// Where it went.
    pub after: Stretch,
    /// How long that is.
    pub watched: Duration,
    /// Whether it is watched still.
    pub is_watched: bool,
    /// What became worse, when it was first seen.
    pub regression: Option<String>,
}

/// What is counted of a stretch.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    errors: u64,
    nanos: u64,
    times: Histogram<u32>,
}

/// A shard's part.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// By the prefix of the entity's keys: none is the beginning of another one.
    open: RefCell<BTreeMap<Vec<u8>, Rc<Watch>>>,
    ended: RefCell<VecDeque<Course>>,
    regressed: Cell<u64>,
}

/// One entity, watched.
#[derive(Debug)]
struct Watch {
    id: MoveId,
    entity: Vec<u8>,
    /// Where it came from, and is, when its move is done.
    moved: Option<(PartitionId, PartitionId)>,
    before: RefCell<Tally>,
    during: RefCell<Tally>,
    after: RefCell<Tally>,
    /// What is counted, of `after` only what is not judged yet.
    now: RefCell<Tally>,
    stage: Cell<Stage>,
    since: Cell<Nanos>,
    window_ends: Cell<Nanos>,
    regression: RefCell<Option<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Before,
    During,
    After,
}

/// What was seen at the source.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) id: MoveId,
    pub(super) entity: Vec<u8>,
    pub(super) from: PartitionId,
    pub(super) to: PartitionId,
    pub(super) before: Tally,
    pub(super) during: Tally,
}

impl Default for Tally {
    fn default() -> Self {
        let times = Histogram::new_with_bounds(NANOS.start, NANOS.end, 1);
        Self { errors: 0, nanos: 0, times: times.expect("the bounds are constants the histogram accepts") }
    }
}

impl Tally {
    fn note(&mut self, took: Duration, failed: bool) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.errors += u64::from(failed);
        self.nanos = self.nanos.saturating_add(nanos);
        self.times.saturating_record(nanos);
    }

    fn merge(&mut self, other: &Self) {
        self.errors += other.errors;
        self.nanos = self.nanos.saturating_add(other.nanos);
        let same_bounds = self.times.add(&other.times);
        assert!(same_bounds.is_ok(), "all are made alike");
    }

    fn stretch(&self) -> Stretch {
        let operations = self.times.len();
        if operations == 0 {
            return Stretch::default();
        }
        let at = |quantile| Duration::from_nanos(self.times.value_at_quantile(quantile));
        Stretch {
            operations,
            errors: self.errors,
            mean: Duration::from_nanos(self.nanos / operations),
            p50: at(0.5),
            p99: at(0.99),
            max: Duration::from_nanos(self.times.max()),
        }
    }
}

/// What became worse from one stretch to the other, if both say enough.
fn worse(before: &Stretch, after: &Stretch) -> Option<String> {
    if before.operations.min(after.operations) < OPERATIONS_MIN {
        return None;
    }
    let is_longer =
        |was: Duration, is: Duration, by: Duration| is > was.mul_f64(WORSE_TIMES) && is > was + by;
    let failing = |one: &Stretch| ratio(one.errors, one.operations);
    if failing(after) > failing(before) + WORSE_ERRORS {
        let percent = |one| 100.0 * failing(one);
        return Some(format!(
            "{:.1} % of operations fail, {:.1} % did before",
            percent(after),
            percent(before)
        ));
    }
    if is_longer(before.p99, after.p99, WORSE_P99) {
        return Some(format!("p99 {:.1?}, before {:.1?}", after.p99, before.p99));
    }
    is_longer(before.mean, after.mean, WORSE_MEAN)
        .then(|| format!("{:.1?} on average, before {:.1?}", after.mean, before.mean))
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all as f64
}

impl Shard {
    /// Has operations timed while anything is watched, and only then.
    pub(super) fn watch(&self) {
        self.meter.watch(self.moves.watches.any());
    }
}

impl Watches {
    /// Whether anything is watched.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.open.borrow().is_empty()
    }

    /// A move has been opened: its entity, whose keys begin with `prefix`, is watched from here on.
    pub(super) fn begin(&self, now: Nanos, id: MoveId, entity: &[u8], prefix: &[u8]) {
        self.insert(now, prefix, Watch::new(now, id, entity.to_vec()));
    }

    /// It begins to copy.
    pub(super) fn copying(&self, prefix: &[u8]) {
        if let Some(watch) = self.open.borrow().get(prefix) {
            watch.enter(Stage::During);
        }
    }

    /// The move has come to its end, and the entity stays.
    pub(super) fn stays(&self, now: Nanos, id: MoveId, prefix: &[u8]) {
        if self.is_of(id, prefix) {
            self.end(now, prefix);
        }
    }

    /// The move is done: what was seen, for the target's shard.
    pub(super) fn hand_over(
        &self,
        id: MoveId,
        prefix: &[u8],
        (from, to): (PartitionId, PartitionId),
    ) -> Option<Handed> {
        if !self.is_of(id, prefix) {
            return None;
        }
        let watch = self.open.borrow_mut().remove(prefix)?;
        watch.enter(Stage::After);
        let (before, during) = (watch.before.take(), watch.during.take());
        Some(Handed { id, entity: watch.entity.clone(), from, to, before, during })
    }

    /// The entity has come here.
    pub(super) fn take_over(&self, now: Nanos, prefix: &[u8], handed: Handed) {
        let Handed { id, entity, from, to, before, during } = handed;
        let mut watch = Watch::new(now, id, entity);
        watch.moved = Some((from, to));
        (watch.before, watch.during) = (RefCell::new(before), RefCell::new(during));
        watch.stage.set(Stage::After);
        self.insert(now, prefix, watch);
    }

    /// An operation on `key` has ended.
    #[cold]
    pub(crate) fn note(&self, now: Nanos, key: &[u8], took: Duration, failed: bool) {
        let watch = {
            let open = self.open.borrow();
            let below = open.range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)));
            below.last().filter(|(prefix, _)| key.starts_with(prefix)).map(|(_, watch)| Rc::clone(watch))
        };
        let Some(watch) = watch else { return };
        self.look(now, &watch);
        watch.now.borrow_mut().note(took, failed);
    }

    /// Everything that is watched here, or was.
    pub(super) fn courses(&self, now: Nanos) -> Vec<Course> {
        self.expire(now);
        let mut all: Vec<Course> = self.ended.borrow().iter().cloned().collect();
        let open: Vec<Rc<Watch>> = self.open.borrow().values().map(Rc::clone).collect();
        for watch in open {
            self.look(now, &watch);
            all.push(watch.course(now, true));
        }
        all
    }

    /// What became worse, of those that are watched here or were.
    pub(super) fn regressions(&self, now: Nanos) -> Vec<(MoveId, String)> {
        self.expire(now);
        let open: Vec<Rc<Watch>> = self.open.borrow().values().map(Rc::clone).collect();
        open.iter().for_each(|watch| self.look(now, watch));
        let seen = open.iter().filter_map(|watch| Some((watch.id, watch.regression.borrow().clone()?)));
        let ended = self.ended.borrow();
        seen.chain(ended.iter().filter_map(|course| Some((course.id, course.regression.clone()?)))).collect()
    }

    /// Of one move.
    pub(super) fn course(&self, now: Nanos, id: MoveId) -> Option<Course> {
        self.expire(now);
        let open = self.open.borrow().values().find(|watch| watch.id == id).map(Rc::clone);
        let Some(watch) = open else {
            return self.ended.borrow().iter().rev().find(|course| course.id == id).cloned();
        };
        self.look(now, &watch);
        Some(watch.course(now, true))
    }

    /// Moves after which something became worse.
    pub(super) fn regressed(&self) -> u64 {
        self.regressed.get()
    }

    fn is_of(&self, id: MoveId, prefix: &[u8]) -> bool {
        self.open.borrow().get(prefix).is_some_and(|watch| watch.id == id)
    }

    fn insert(&self, now: Nanos, prefix: &[u8], watch: Watch) {
        // Of an earlier move, whose time is over with this one.
        self.end(now, prefix);
        self.expire(now);
        if self.open.borrow().len() >= WATCHED_MAX {
            let longest = {
                let open = self.open.borrow();
                open.iter().min_by_key(|(_, watch)| watch.since.get()).map(|(prefix, _)| prefix.clone())
            };
            longest.iter().for_each(|prefix| self.end(now, prefix));
        }
        self.open.borrow_mut().insert(prefix.to_vec(), Rc::new(watch));
    }

    /// Ends what was watched for long enough.
    fn expire(&self, now: Nanos) {
        let is_over =
            |watch: &Watch| watch.stage.get() == Stage::After && now.since(watch.since.get()) >= AFTER;
        let over: Vec<Vec<u8>> = {
            let open = self.open.borrow();
            open.iter().filter(|(_, watch)| is_over(watch)).map(|(prefix, _)| prefix.clone()).collect()
        };
        over.iter().for_each(|prefix| self.end(now, prefix));
    }

    fn end(&self, now: Nanos, prefix: &[u8]) {
        let Some(watch) = self.open.borrow_mut().remove(prefix) else { return };
        self.judge(&watch);
        let mut ended = self.ended.borrow_mut();
        if ended.len() == ENDED_KEPT {
            ended.pop_front();
        }
        ended.push_back(watch.course(now, false));
    }

    /// Judges a window that has ended, and has the next begin.
    fn look(&self, now: Nanos, watch: &Watch) {
        if watch.stage.get() == Stage::After && now >= watch.window_ends.get() {
            self.judge(watch);
            watch.window_ends.set(now.after(WINDOW));
        }
    }

    fn judge(&self, watch: &Watch) {
        let window = watch.now.take();
        let (Some((from, to)), Stage::After) = (watch.moved, watch.stage.get()) else {
            watch.of_stage().borrow_mut().merge(&window);
            return;
        };
        watch.after.borrow_mut().merge(&window);
        if watch.regression.borrow().is_some() {
            return;
        }
        let Some(what) = worse(&watch.before.borrow().stretch(), &window.stretch()) else { return };
        let name = watch.entity.escape_ascii();
        tracing::warn!(
            "move {}: entity \"{name}\" fares worse in partition {to} than in {from}: {what}; `foreshard ctl move '{name}' --back` \
             takes it back",
            watch.id
        );
        *watch.regression.borrow_mut() = Some(what);
        self.regressed.set(self.regressed.get() + 1);
    }
}

impl Watch {
    fn new(now: Nanos, id: MoveId, entity: Vec<u8>) -> Self {
        Self {
            id,
            entity,
            moved: None,
            before: RefCell::default(),
            during: RefCell::default(),
            after: RefCell::default(),
            now: RefCell::default(),
            stage: Cell::new(Stage::Before),
            since: Cell::new(now),
            window_ends: Cell::new(now.after(WINDOW)),
            regression: RefCell::default(),
        }
    }

    fn of_stage(&self) -> &RefCell<Tally> {
        match self.stage.get() {
            Stage::Before => &self.before,
            Stage::During => &self.during,
            Stage::After => &self.after,
        }
    }

    /// Puts what was counted where it belongs, and goes on to the next stage.
    fn enter(&self, stage: Stage) {
        let counted = self.now.take();
        self.of_stage().borrow_mut().merge(&counted);
        self.stage.set(stage);
    }

    fn course(&self, now: Nanos, is_watched: bool) -> Course {
        let with_now = |stage: Stage, tally: &RefCell<Tally>| {
            let mut tally = tally.borrow().clone();
            if self.stage.get() == stage {
                tally.merge(&self.now.borrow());
            }
            tally.stretch()
        };
        let is_after = self.stage.get() == Stage::After;
        Course {
            id: self.id,
            before: with_now(Stage::Before, &self.before),
            during: with_now(Stage::During, &self.during),
            after: with_now(Stage::After, &self.after),
            watched: if is_after { now.since(self.since.get()).min(AFTER) } else { Duration::ZERO },
            is_watched,
            regression: self.regression.borrow().clone(),
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
