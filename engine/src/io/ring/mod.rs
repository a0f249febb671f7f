//! The production shell: a ring, the loop that drives a shard's tasks with it, and the disk and sockets behind it.
//!
//! The loop: poll ready tasks up to a bound, then one system call that submits what they asked for and takes in what
//! has completed; it waits in that call only when no task is ready, until the next timer. `unsafe` lives here and
//! nowhere else in the engine, in `queue`, `fd` and `buffers`, each block with its proof.

mod buffers;
mod disk;
mod fd;
mod net;
mod operation;
mod probe;
mod queue;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

pub use self::buffers::Received;
pub use self::disk::RingDisk;
pub(crate) use self::net::NetSource;
pub use self::net::{Connection, Listener, RingNet};
use self::operation::Request;
pub use self::probe::Setup;
use self::queue::{Operation, Ring};
use super::disk::Disk;
use super::runtime::{Clock, Core, Runtime};
use super::unpark::Bell;
use super::virtual_time::Flag;
use crate::error::{Error, Result};

/// How a ring is made.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Operations queued before they must be submitted.
    pub entries: u32,
    /// The best setup to use; lower ones are for tests of what older kernels do.
    pub setup: Setup,
    /// Whether to use operations that complete many times, where the kernel has them; off only in tests.
    pub multishot: bool,
    /// Whether to use O_DIRECT, where the file system has it; off only in tests.
    pub direct: bool,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { entries: 256, setup: Setup::Deferred, multishot: true, direct: true }
    }
}

/// Drives a shard's tasks, its ring and its timers. Belongs to the thread that made it.
pub struct RingRuntime {
    runtime: Runtime,
    ring: Rc<Ring>,
    setup: Setup,
    multishot: bool,
    disk: RingDisk,
    /// The pending read of the eventfd.
    event: RefCell<Option<Operation>>,
}

impl RingRuntime {
    /// Sets up a ring for this thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names what this machine lacks or forbids, and what to do.
    pub fn new(config: &RingConfig) -> Result<Self> {
        let (uring, setup) = probe::open(config.entries, config.setup)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|error| Error::Unsupported(format!("cannot make an eventfd: {error}").into()))?;
        let ring = Ring::new(uring);
        let core = Core::new(Clock::real());
        let submitting = Rc::clone(&ring);
        core.on_submit(move || submitting.submit());
        let runtime = Runtime::new(core, Bell::new(Some(event)));
        let disk = RingDisk::new(&ring, config.direct);
        Ok(Self { runtime, ring, setup, multishot: config.multishot, disk, event: RefCell::default() })
    }

    /// The shard's tasks and time.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        self.runtime.clone()
    }

    /// The machine's files through this ring.
    #[must_use]
    pub fn disk(&self) -> Rc<dyn Disk> {
        Rc::new(self.disk.clone())
    }

    /// The machine's sockets through this ring. Registers receive buffers at the first call.
    #[must_use]
    pub fn net(&self) -> RingNet {
        RingNet::new(&self.ring, self.multishot)
    }

    /// Makes [`RingRuntime::net`] when it is needed, for code that has no hold of the runtime.
    pub(crate) fn net_source(&self) -> NetSource {
        NetSource::new(&self.ring, self.multishot)
    }

    /// The setup in use.
    #[must_use]
    pub const fn setup(&self) -> Setup {
        self.setup
    }

    /// Runs all tasks until `future` is done. Other tasks and operations may be left, and go on in the next `run`;
    /// dropping the runtime drops the tasks and waits for the operations.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let core = self.runtime.core();
        loop {
            if woken.0.swap(false, Ordering::Relaxed)
                && let Poll::Ready(value) = future.as_mut().poll(&mut context)
            {
                self.ring.submit();
                return value;
            }
            let left = core.run_ready(ROUND_MAX, ROUND_TASKS_MAX);
            let rung = core.answer_bells();
            let due = self.fire_timers();
            if left || rung || due || woken.0.load(Ordering::Relaxed) {
                let begin = core.now();
                if self.ring.turn() {
                    core.entered(begin);
                }
            } else {
                self.sleep();
            }
        }
    }

    fn fire_timers(&self) -> bool {
        let core = self.runtime.core();
        let mut timers = core.timers.borrow_mut();
        timers.next().is_some() && timers.fire(core.now())
    }

    /// Waits for a completion, a timer or another thread.
    fn sleep(&self) {
        self.arm_event();
        let bell = self.runtime.bell();
        if bell.fall_asleep() {
            let core = self.runtime.core();
            let deadline = core.timers.borrow().next();
            self.ring.wait(deadline.map(|deadline| deadline.since(core.now())));
            core.woke();
            bell.wake_up();
        }
    }

    /// Keeps a read of the eventfd in flight.
    fn arm_event(&self) {
        let mut event = self.event.borrow_mut();
        let mut context = Context::from_waker(Waker::noop());
        let ended = event.as_mut().is_none_or(|event| Pin::new(event).poll(&mut context).is_ready());
        if ended {
            let unpark = self.runtime.unpark_handle();
            *event = Some(self.ring.start(Request::Event { unpark, out: Box::default() }));
        }
    }
}

impl Drop for RingRuntime {
    fn drop(&mut self) {
        self.runtime.core().end();
        self.ring.end();
    }
}

impl fmt::Debug for RingRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingRuntime").field("setup", &self.setup).finish_non_exhaustive()
    }
}

/// Ready tasks are polled this long before the ring gets a look: half a slice, so that a completed read waits for
/// no more than that and one slice.
const ROUND_MAX: Duration = Duration::from_micros(100);
/// And this many: what a ring of default size can queue at once.
const ROUND_TASKS_MAX: usize = 256;
