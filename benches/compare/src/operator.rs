//! An operator who has partitions split, merged and handed over, and entities moved, as fast as the node does it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{Result, admin};

/// Between two orders: several of them are under way at once.
const ORDER_EVERY: Duration = Duration::from_millis(5);

/// One at work.
#[derive(Debug)]
pub struct Operator {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<&'static str, u64>>,
}

impl Operator {
    /// Begins to give orders to the node at `address`. Those that it refuses, or cannot answer, are not counted.
    pub fn start(
        address: SocketAddr,
        seed: u64,
        mut names: impl FnMut(&mut fastrand::Rng) -> String + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::Builder::new().spawn(move || {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut taken = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                let order = admin::any_order(address, &mut random, &mut names);
                // Refused as things are, or killed.
                if let Ok((path, order)) = order
                    && admin::ask(address, path, Some(&order)).is_ok()
                {
                    *taken.entry(path).or_default() += 1;
                }
                std::thread::sleep(ORDER_EVERY);
            }
            taken
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it: how many orders of each kind the node took.
    pub fn end(self) -> Result<BTreeMap<&'static str, u64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| "the operator panicked".into())
    }
}
