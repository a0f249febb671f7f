//! The clocks of the load generator. Nothing else in it reads one; all else is given the time.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since some moment.
pub(crate) type Nanos = u64;

/// A second.
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Time that passes evenly.
pub(crate) fn now() -> Nanos {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Since 1970.
pub(crate) fn wall() -> Nanos {
    nanos(clock_gettime(ClockId::Realtime))
}

/// What this thread has had of a processor.
pub(crate) fn thread_cpu() -> Nanos {
    nanos(clock_gettime(ClockId::ThreadCPUTime))
}

/// What this process has had of all processors.
pub(crate) fn process_cpu() -> Nanos {
    nanos(clock_gettime(ClockId::ProcessCPUTime))
}

fn nanos(time: Timespec) -> Nanos {
    let seconds = u64::try_from(time.tv_sec).expect("clocks begin at 0");
    let rest = u64::try_from(time.tv_nsec).expect("clocks begin at 0");
    seconds * SECOND + rest
}
