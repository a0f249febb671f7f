//! Runs the sweeps of a shard's partitions: one pass over all of them in a configured time, in steps that lie evenly.

use std::rc::Weak;
use std::time::Duration;

use foreshard_engine::Shard;
use foreshard_engine::table::Home;

use super::front::Front;
use super::stats::add;
use crate::data::sweep::Sweep;

/// Between two steps at least: a sweep never takes more of a core or a device than a few steps in this time would.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// And at most: a pass over little data is done early, and waits for the next.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After a failure: what failed is told elsewhere, and tried again.
const PAUSE_FAILED: Duration = Duration::from_secs(10);

/// Sweeps until the front is gone.
pub(super) async fn run(front: Weak<Front>, shard: Weak<Shard>) {
    while let Some(pass) = pass_time(&front) {
        let Some(strong) = shard.upgrade() else { return };
        let runtime = strong.runtime().clone();
        drop(strong);
        let deadline = runtime.now().after(pass);
        if !pass_over(&front, &shard, pass).await {
            return;
        }
        runtime.sleep_until(deadline).await;
    }
}

fn pass_time(front: &Weak<Front>) -> Option<Duration> {
    let front = front.upgrade()?;
    let secs = front.config.borrow().sweep_secs;
    Some(Duration::from_secs(secs.max(1)))
}

/// One pass over all partitions; false when the front is gone.
async fn pass_over(front: &Weak<Front>, shard: &Weak<Shard>, pass: Duration) -> bool {
    let Some(strong) = shard.upgrade() else { return false };
    let (id, runtime) = (strong.id(), strong.runtime().clone());
    let homes: Vec<Home> = {
        let map = strong.map();
        let all = map.state().partitions.keys().filter_map(|partition| map.place_of(*partition));
        all.filter(|home| home.shard == id).collect()
    };
    drop(strong);
    for home in homes {
        let Some(strong) = shard.upgrade() else { return false };
        let mut sweep = Sweep::new(&strong.map(), home);
        let stats = strong.stats();
        let stored = (stats.segment_bytes + stats.memtable_bytes as u64).max(1);
        drop(strong);
        loop {
            let Some(strong) = shard.upgrade() else { return false };
            let step = sweep.step(&strong).await;
            drop(strong);
            let Some(front) = front.upgrade() else { return false };
            let pause = match step {
                Ok(step) => {
                    add(&front.stats.swept, step.generations);
                    if step.is_last {
                        break;
                    }
                    share_of(pass, step.bytes, stored)
                }
                Err(e) => {
                    tracing::warn!("partition {} is not swept for {PAUSE_FAILED:?}: {e}", home.partition);
                    PAUSE_FAILED
                }
            };
            drop(front);
            runtime.sleep(pause).await;
        }
    }
    true
}

/// So much of a pass as the bytes of a step are of all bytes.
#[expect(clippy::cast_precision_loss, reason = "a share of time")]
fn share_of(pass: Duration, bytes: usize, stored: u64) -> Duration {
    pass.mul_f64((bytes as f64 / stored as f64).min(1.0)).clamp(PAUSE_MIN, PAUSE_MAX)
}
