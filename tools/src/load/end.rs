//! When a phase ends, which whoever runs it may bring forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::clock::Nanos;

/// The moment, since the phase's beginning, from which nothing is begun. Threads share it.
#[derive(Debug)]
pub(crate) struct End {
    /// The largest there is: when its work is done.
    at: AtomicU64,
    /// Set by whoever wants it to end now.
    interrupt: Arc<AtomicBool>,
}

impl End {
    pub(crate) fn new(at: Option<Nanos>, interrupt: Arc<AtomicBool>) -> Self {
        Self { at: AtomicU64::new(at.unwrap_or(Nanos::MAX)), interrupt }
    }

    /// None: when its work is done.
    pub(crate) fn at(&self) -> Option<Nanos> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| *at < Nanos::MAX)
    }

    /// Ends it now, if somebody wants that.
    pub(crate) fn heed(&self, now: Nanos) {
        if self.interrupt.load(Ordering::Relaxed) {
            self.at.fetch_min(now, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_brings_the_end_forward_and_never_back() {
        let interrupt = Arc::new(AtomicBool::new(false));
        let end = End::new(None, Arc::clone(&interrupt));
        end.heed(5);
        assert_eq!(end.at(), None);
        interrupt.store(true, Ordering::Relaxed);
        end.heed(9);
        end.heed(11);
        assert_eq!(end.at(), Some(9));
        let over = End::new(Some(7), interrupt);
        over.heed(9);
        assert_eq!(over.at(), Some(7));
    }
}
