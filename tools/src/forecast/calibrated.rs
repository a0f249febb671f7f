//! How the forecasts of a table are recalibrated: by some of its entities, on several threads.

use foreshard_forecast::Series;
use foreshard_forecast::recalibration::{ENTITIES_MAX, Fallen, Rolling};
use foreshard_forecast::walk::Walk;

use super::given::Given;
use super::options::Load;
use super::work;

/// Learns for the origins from `first` to `last`; `walk` walks the entity of an index by
/// [`plan`](foreshard_forecast::recalibration::plan) with what is `given`.
pub(crate) fn calibrated(
    given: &Given,
    entities: &[(usize, &Series)],
    load: &Load,
    (first, last, horizon): (i64, i64, usize),
    seed: u64,
    walk: impl Fn(usize, &Series) -> Walk + Sync,
) -> Rolling {
    let stride = entities.len().div_ceil(ENTITIES_MAX).max(1);
    let sample: Vec<_> = entities.iter().step_by(stride).copied().collect();
    let fallen = work::map(&sample, load.threads, "looking at what was said", |&(index, series)| {
        let walk = walk(index, series);
        Fallen::new(series, &walk, given.events_of(index), first, &mut random(seed, index))
    });
    Rolling::learn(first, last, horizon, &fallen)
}

/// Draws of an entity's own, in whatever order entities are looked at.
pub(crate) fn random(seed: u64, entity: usize) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed ^ (entity as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
