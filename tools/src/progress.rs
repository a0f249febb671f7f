//! Says on stderr how far a long command is.

use std::cell::Cell;
use std::io::Write;
use std::time::Duration;

use foreshard_engine::io::runtime::{Nanos, Runtime};

use crate::text::bytes;

/// Short commands say nothing; long ones something this often.
const PERIOD: Duration = Duration::from_secs(2);

/// How far a command is.
#[derive(Debug)]
pub(crate) struct Progress {
    runtime: Runtime,
    told: Cell<Nanos>,
    read: Cell<u64>,
}

impl Progress {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { told: Cell::new(runtime.now()), runtime, read: Cell::new(0) }
    }

    /// `count` more bytes of `what` are done.
    pub(crate) fn step(&self, what: &str, count: u64) {
        self.read.set(self.read.get() + count);
        let now = self.runtime.now();
        if now.since(self.told.get()) >= PERIOD {
            self.told.set(now);
            let so_far = bytes(self.read.get());
            // Progress that nobody can see is no failure.
            let _unheard = writeln!(std::io::stderr(), "foreshard: {what} ({so_far} so far)");
        }
    }
}
