//! A generated trace, for a look whether something runs: entities with a rhythm of the day, noise and bursts.

use std::fmt::Write as _;

/// In an hour of a few entities there is a burst.
const BURSTS: f64 = 0.02;

/// CSV of time (Unix seconds), entity, reads and writes. The same for the same arguments.
#[must_use]
pub fn trace(entities: usize, days: usize, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rows = "time,entity,reads,writes\n".to_owned();
    for entity in 0..entities {
        let (level, phase) = (10_f64.powf(1.0 + 2.0 * random.f64()), 24.0 * random.f64());
        let mut burst = 0.0;
        for hour in 0..days * 24 {
            burst = if random.f64() < BURSTS { 10.0 * random.f64() } else { burst * 0.5 };
            let day = 1.2 + ((hour as f64 + phase) / 24.0 * std::f64::consts::TAU).sin();
            let load = level * (day + burst) * (0.8 + 0.4 * random.f64());
            let time = 1_700_006_400 + hour * 3600;
            let _infallible =
                writeln!(rows, "{time},tenant:{entity},{:.1},{:.1}", load, load * (0.3 + 0.1 * random.f64()));
        }
    }
    rows
}
