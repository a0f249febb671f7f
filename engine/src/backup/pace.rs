//! Copying no faster than a bound.

use std::cell::Cell;
use std::time::Duration;

use crate::io::runtime::{Nanos, Runtime};

/// One copier's share of the bound.
#[derive(Debug)]
pub(super) struct Pace {
    runtime: Runtime,
    /// 0: no bound.
    bytes_per_second: u64,
    next: Cell<Nanos>,
}

impl Pace {
    pub(super) fn new(runtime: Runtime, bytes_per_second: u64) -> Self {
        let next = Cell::new(runtime.now());
        Self { runtime, bytes_per_second, next }
    }

    /// After `bytes` were copied: waits until as many may be.
    pub(super) async fn spent(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            self.runtime.yield_now().await;
            return;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let took = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // Time that was not used is not saved up: a device that was slow is not flooded afterwards.
        let next = self.next.get().max(self.runtime.now()).after(took);
        self.next.set(next);
        self.runtime.sleep_until(next).await;
    }
}
