//! All a shard's code knows of tasks and time: spawning, sleeping, yielding, being woken by another core.
//!
//! One `Runtime` is one shard's. Behind it is either the ring's loop or virtual time; the code above cannot tell.
//! It refuses to leave its thread: everything but [`Unpark`] is `!Send`.
//!
//! Invariants:
//! - tasks run in the order in which they were woken;
//! - one poll of one task is one *turn*; its measured length goes into [`Runtime::turns`];
//! - a timer never fires before its time.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_executor::LocalExecutor;
pub use async_executor::Task;

use super::long_turns::{KERNEL, LongTurn, LongTurns, UNNAMED};
use super::timers::{Sleep, Timers};
use super::turns::{SLICE_NANOS_MAX, Slice, TurnStats, YieldNow};
use super::unpark::{Bell, Unpark, Unparked};

/// Monotonic time since the runtime began, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The time `duration` later; saturates after 584 years.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long `earlier` was ago; zero if it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A shard's handle to its tasks and its time. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    core: Rc<Core>,
    bell: Rc<Bell>,
}

impl Runtime {
    pub(crate) fn new(core: Rc<Core>, bell: Bell) -> Self {
        let bell = Rc::new(bell);
        core.bells.borrow_mut().push(Rc::downgrade(&bell));
        Self { core, bell }
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(crate) fn bell(&self) -> &Rc<Bell> {
        &self.bell
    }

    /// Starts a task. Dropping the [`Task`] cancels it; `detach()` lets it run on. A task spawned when the runtime
    /// has ended never runs, and waiting for it panics.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        match &*self.core.executor.borrow() {
            Some(executor) => executor.spawn(future),
            None => LocalExecutor::new().spawn(future),
        }
    }

    /// Time since the runtime began.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.core.now()
    }

    /// Milliseconds since 1970, as the machine believes. May step in either direction.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.core.wall_ms()
    }

    /// Completes once `duration` has passed.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(&self.core, self.now().after(duration))
    }

    /// Completes once `deadline` has come.
    pub fn sleep_until(&self, deadline: Nanos) -> Sleep {
        Sleep::new(&self.core, deadline)
    }

    /// Goes to the back of the run queue once.
    pub fn yield_now(&self) -> YieldNow {
        YieldNow::default()
    }

    /// Starts measuring a slice of work: see [`Slice`].
    #[must_use]
    pub fn slice(&self) -> Slice {
        self.slice_of(Duration::from_nanos(SLICE_NANOS_MAX))
    }

    /// Starts measuring a slice of at most `limit`, for work that nobody waits for.
    #[must_use]
    pub(crate) fn slice_of(&self, limit: Duration) -> Slice {
        Slice::new(Rc::clone(&self.core), limit)
    }

    /// Completes when [`Unpark::unpark`] was called since it last completed. One task of a runtime waits so.
    pub fn unparked(&self) -> Unparked {
        Unparked::new(Rc::clone(&self.bell))
    }

    /// What another thread calls to make [`Runtime::unparked`] complete here.
    #[must_use]
    pub fn unpark_handle(&self) -> Unpark {
        self.bell.handle()
    }

    /// Hands the operations queued so far to the kernel at once rather than at the end of the round of ready tasks.
    pub fn submit(&self) {
        if let Some(submit) = self.core.submit.get() {
            submit();
        }
    }

    /// How often there was nothing to do and the driver waited. Never in virtual time.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.core.wakes.get()
    }

    /// Processor time that this thread has taken, the kernel's workers for its I/O aside, nanoseconds. None in virtual time.
    #[must_use]
    pub fn processor_nanos(&self) -> Option<u64> {
        match &self.core.clock {
            Clock::Real { .. } => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
                Some(seconds * 1_000_000_000 + nanos)
            }
            Clock::Virtual { .. } => None,
        }
    }

    /// Does `work`; a long turn in it is counted for `what`, unless something in it has another name.
    pub fn named<T, F: Future<Output = T> + Unpin>(
        &self,
        what: &'static str,
        mut work: F,
    ) -> impl Future<Output = T> + use<T, F> {
        let core = Rc::clone(&self.core);
        poll_fn(move |context| {
            core.long_turns.doing(what);
            Pin::new(&mut work).poll(context)
        })
    }

    /// Turns that were long, by what was done in them.
    #[must_use]
    pub fn long_turns(&self) -> Vec<(&'static str, LongTurn)> {
        self.core.long_turns.all()
    }

    /// Lengths of the turns so far. Empty in virtual time, in which turns take none.
    #[must_use]
    pub fn turns(&self) -> TurnStats {
        self.core.turns.borrow().clone()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// Waits for a task; dropped, lets it run on.
pub(crate) struct Uncancelled<T>(Option<Task<T>>);

impl<T> Uncancelled<T> {
    pub(crate) const fn new(task: Task<T>) -> Self {
        Self(Some(task))
    }
}

impl<T> Future for Uncancelled<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(self.0.as_mut().expect("it is there until the drop")).poll(context)
    }
}

impl<T> Drop for Uncancelled<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// What a driver (ring loop or virtual time) and its runtimes share.
pub(crate) struct Core {
    /// None once the driver is gone: dropping the tasks breaks the cycle core -> task -> runtime -> core.
    executor: RefCell<Option<LocalExecutor<'static>>>,
    clock: Clock,
    pub(crate) timers: RefCell<Timers>,
    turns: RefCell<TurnStats>,
    bells: RefCell<Vec<Weak<Bell>>>,
    submit: OnceCell<Box<dyn Fn()>>,
    /// How often the driver waited.
    wakes: Cell<u64>,
    long_turns: LongTurns,
}

/// Where time comes from.
pub(crate) enum Clock {
    /// The cycle counter, calibrated.
    Real { clock: quanta::Clock, start: u64 },
    /// Moved only by its driver; the seed decides how many checks spend a slice.
    Virtual { now: Cell<u64>, random: RefCell<fastrand::Rng> },
}

impl Clock {
    pub(crate) fn real() -> Self {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        Self::Real { clock, start }
    }
}

impl Core {
    pub(crate) fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            executor: RefCell::new(Some(LocalExecutor::new())),
            clock,
            timers: RefCell::default(),
            turns: RefCell::default(),
            bells: RefCell::default(),
            submit: OnceCell::new(),
            wakes: Cell::default(),
            long_turns: LongTurns::default(),
        })
    }

    /// Installs what [`Runtime::submit`] calls.
    pub(crate) fn on_submit(&self, submit: impl Fn() + 'static) {
        let installed = self.submit.set(Box::new(submit));
        assert!(installed.is_ok(), "one driver a core");
    }

    pub(crate) fn now(&self) -> Nanos {
        match &self.clock {
            Clock::Real { clock, start } => Nanos(clock.delta_as_nanos(*start, clock.raw())),
            Clock::Virtual { now, .. } => Nanos(now.get()),
        }
    }

    fn wall_ms(&self) -> u64 {
        match &self.clock {
            Clock::Real { .. } => real_wall_ms(),
            Clock::Virtual { now, .. } => VIRTUAL_EPOCH_MS + now.get() / 1_000_000,
        }
    }

    /// In virtual time, how many checks spend a slice: drawn anew for each; None when time is measured.
    pub(crate) fn slice_checks(&self) -> Option<u32> {
        match &self.clock {
            Clock::Real { .. } => None,
            Clock::Virtual { random, .. } => Some(random.borrow_mut().u32(1..=VIRTUAL_SLICE_CHECKS_MAX)),
        }
    }

    /// The driver has waited for something to do.
    pub(crate) fn woke(&self) {
        self.wakes.set(self.wakes.get() + 1);
    }

    /// The driver made a system call that waited for nothing.
    pub(crate) fn entered(&self, began: Nanos) {
        let now = self.now();
        self.long_turns.doing(KERNEL);
        self.long_turns.ended(now, now.since(began));
    }

    /// Moves virtual time to `to`.
    pub(crate) fn advance(&self, to: Nanos) {
        match &self.clock {
            Clock::Real { .. } => unreachable!("only virtual time is moved by hand"),
            Clock::Virtual { now, .. } => now.set(now.get().max(to.0)),
        }
    }

    /// Polls one ready task, if there is one.
    pub(crate) fn tick(&self) -> bool {
        match &*self.executor.borrow() {
            Some(executor) => executor.try_tick(),
            None => false,
        }
    }

    /// Polls ready tasks until none is left or `limit` has passed or `count` were polled, each turn measured.
    /// Returns whether some may be left.
    pub(crate) fn run_ready(&self, limit: Duration, count: usize) -> bool {
        let begin = self.now();
        let mut last = begin;
        for _ in 0..count {
            self.long_turns.doing(UNNAMED);
            if !self.tick() {
                return false;
            }
            let now = self.now();
            self.long_turns.ended(now, now.since(last));
            self.turns.borrow_mut().record(now.since(last));
            if now.since(begin) >= limit {
                return true;
            }
            last = now;
        }
        true
    }

    /// Wakes the tasks whose other cores rang. Returns whether there was one.
    pub(crate) fn answer_bells(&self) -> bool {
        let mut any = false;
        self.bells.borrow_mut().retain(|bell| {
            let Some(bell) = bell.upgrade() else { return false };
            any |= bell.answer();
            true
        });
        any
    }

    /// Drops every task. Their destructors may still spawn (to no effect), sleep and start I/O.
    pub(crate) fn end(&self) {
        let executor = self.executor.borrow_mut().take();
        drop(executor);
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
fn real_wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Wall time when virtual time is zero: 2024-01-01, so that expiry arithmetic meets realistic numbers.
const VIRTUAL_EPOCH_MS: u64 = 1_704_067_200_000;
/// A virtual slice is spent after 1 to this many checks: enough variety to interleave at different points.
const VIRTUAL_SLICE_CHECKS_MAX: u32 = 32;
