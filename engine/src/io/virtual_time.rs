//! Virtual time: many shards on one thread, in an order that depends on nothing but the seed.
//!
//! Time stands still while any task is ready; then it jumps to the next timer. Nothing here reads a clock.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::runtime::{Clock, Core, Nanos, Runtime};
use super::unpark::Bell;

/// Drives the tasks of all its runtimes in virtual time. Dropping it drops their tasks.
pub struct VirtualRuntime {
    core: Rc<Core>,
}

/// Nothing is ready, no timer is set, and what was waited for is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// When everything stood still.
    pub at: Nanos,
}

impl VirtualRuntime {
    /// Time zero. The seed decides when slices are spent.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = RefCell::new(fastrand::Rng::with_seed(seed));
        Self { core: Core::new(Clock::Virtual { now: Cell::new(0), random }) }
    }

    /// A shard's runtime. Several may be made; they share time and run queue, each is unparked for itself.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        Runtime::new(Rc::clone(&self.core), Bell::new(None))
    }

    /// Runs all tasks until `future` is done.
    ///
    /// # Panics
    /// On deadlock: `future` waits and nothing can ever wake it.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self.try_block_on(future) {
            Ok(value) => value,
            Err(stuck) => panic!(
                "deadlock at {} ns of virtual time: no task is ready, no timer is set, and what was waited for \
                 is not done",
                stuck.at.0
            ),
        }
    }

    /// Runs all tasks until `future` is done, or nothing can ever wake it: a stopped disk leaves its callers so.
    ///
    /// # Errors
    /// [`Stuck`] on deadlock.
    pub fn try_block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, Stuck> {
        let mut future = pin!(future);
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        loop {
            if woken.0.swap(false, Ordering::Relaxed)
                && let Poll::Ready(value) = future.as_mut().poll(&mut context)
            {
                return Ok(value);
            }
            let busy = self.core.answer_bells() | self.core.tick() | woken.0.load(Ordering::Relaxed);
            if !busy && !self.step() {
                return Err(Stuck { at: self.core.now() });
            }
        }
    }

    /// Jumps to the next timer. Returns false if there is none.
    fn step(&self) -> bool {
        let next = self.core.timers.borrow().next();
        let Some(next) = next else { return false };
        self.core.advance(next);
        self.core.timers.borrow_mut().fire(self.core.now())
    }
}

impl Drop for VirtualRuntime {
    fn drop(&mut self) {
        self.core.end();
    }
}

impl fmt::Debug for VirtualRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualRuntime").field("now", &self.core.now()).finish_non_exhaustive()
    }
}

/// Says that the blocked future was woken.
pub(crate) struct Flag(pub(crate) AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_fire_in_order_and_time_jumps() {
        let virtual_time = VirtualRuntime::new(1);
        let runtime = virtual_time.runtime();
        let order = Rc::new(RefCell::new(Vec::new()));
        let sleepers = [30u64, 10, 20, 10].map(|ms| {
            let (runtime, order) = (runtime.clone(), Rc::clone(&order));
            let task = runtime.clone();
            task.spawn(async move {
                runtime.sleep(Duration::from_millis(ms)).await;
                order.borrow_mut().push((ms, runtime.now().0));
            })
        });
        virtual_time.block_on(async {
            for sleeper in sleepers {
                sleeper.await;
            }
        });
        let ms = 1_000_000;
        assert_eq!(*order.borrow(), [(10, 10 * ms), (10, 10 * ms), (20, 20 * ms), (30, 30 * ms)]);
    }

    #[test]
    fn a_dropped_sleep_leaves_no_timer() {
        let virtual_time = VirtualRuntime::new(1);
        let runtime = virtual_time.runtime();
        virtual_time.block_on(async {
            let long = runtime.sleep(Duration::from_secs(100));
            let short = runtime.sleep(Duration::from_secs(1));
            futures_lite::future::or(long, short).await;
        });
        assert_eq!(virtual_time.core.timers.borrow().next(), None);
        assert_eq!(runtime.now(), Nanos(1_000_000_000));
    }

    #[test]
    #[should_panic(expected = "deadlock at 0 ns")]
    fn a_deadlock_panics() {
        VirtualRuntime::new(1).block_on(futures_lite::future::pending::<()>());
    }

    #[test]
    fn a_ring_before_the_wait_is_not_lost_and_is_answered_once() {
        let virtual_time = VirtualRuntime::new(1);
        let (here, there) = (virtual_time.runtime(), virtual_time.runtime());
        here.unpark_handle().unpark();
        here.unpark_handle().unpark();
        virtual_time.block_on(here.unparked());
        assert!(virtual_time.try_block_on(here.unparked()).is_err(), "two rings before the wait are one");
        let unpark = here.unpark_handle();
        let task = there.spawn(async move { unpark.unpark() });
        virtual_time.block_on(here.unparked());
        assert!(virtual_time.try_block_on(there.unparked()).is_err(), "each runtime has its own bell");
        assert!(task.is_finished());
    }

    #[test]
    fn dropping_the_driver_drops_its_tasks_and_later_spawns_never_run() {
        let virtual_time = VirtualRuntime::new(1);
        let runtime = virtual_time.runtime();
        let alive = Rc::new(());
        let (held, inner) = (Rc::clone(&alive), runtime.clone());
        runtime
            .spawn(async move {
                inner.sleep(Duration::from_secs(1)).await;
                drop(held);
            })
            .detach();
        assert!(virtual_time.try_block_on(futures_lite::future::yield_now()).is_ok());
        drop(virtual_time);
        assert_eq!(Rc::strong_count(&alive), 1);
        let held = Rc::clone(&alive);
        runtime.spawn(async move { drop(held) }).detach();
        assert_eq!(Rc::strong_count(&alive), 1, "a task spawned too late is dropped at once");
    }

    #[test]
    fn slices_are_spent_by_checks_the_same_for_the_same_seed() {
        let spend = |seed| {
            let virtual_time = VirtualRuntime::new(seed);
            let mut slice = virtual_time.runtime().slice();
            (0..20)
                .map(|_| {
                    let mut checks = 1;
                    while !slice.is_spent() {
                        checks += 1;
                    }
                    slice.restart();
                    checks
                })
                .collect::<Vec<u32>>()
        };
        assert_eq!(spend(7), spend(7));
        assert_ne!(spend(7), spend(8));
    }
}
