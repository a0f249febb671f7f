//! The store and tracking at full size: what they take of memory, and what an hour costs.
//!
//! `cargo bench -p foreshard-forecast --bench store`; `-- --smoke` is a hundredth of it. Prints a hash of the results.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program: it prints, and reads a clock"
)]

use std::time::Instant;

use foreshard_forecast::store::{Capacity, EntityId, Loads, Metric, Store};
use foreshard_forecast::tracking::{Estimate, Limits, Tracking};

/// What all entities together may take.
const BYTES_MAX: f64 = 1.6 * GIB;
const GIB: f64 = (1 << 30) as f64;
/// Rings fill, slots are seen again, and every hour of a day has its turn.
const HOURS: usize = 48;

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let divisor = if smoke { 100 } else { 1 };
    let full = Capacity::default();
    let capacity = Capacity { entities: full.entities / divisor, hourly: full.hourly / divisor, ..full };
    let mut rng = fastrand::Rng::with_seed(1);
    let mut ids: Vec<u64> = (0..capacity.entities).map(|_| rng.u64(..)).collect();
    ids.sort_unstable();
    ids.dedup();
    println!("{} entities, {} of them hour by hour for {} hours", ids.len(), capacity.hourly, capacity.hours);
    let base = resident_bytes();

    let mut store = Store::new(capacity);
    let limits = Limits { tracked: capacity.entities, hourly: capacity.hourly, ..Limits::DEFAULT };
    let mut tracking = Tracking::new(limits);
    let weight = |id: u64| 2.0 + 1e6 / (1.0 + (id >> 44) as f64);
    for hour in 0..2 {
        let began = Instant::now();
        let estimates = ids.iter().map(|&id| (EntityId(id), Estimate { weight: weight(id), error: 0.5 }));
        let changes = tracking.hour(hour, estimates, 1.0);
        changes.apply(&mut store).expect("limits are the capacity");
        per("tracking, an entity-hour", began, ids.len());
    }

    for order in ["in order", "shuffled"] {
        if order == "shuffled" {
            rng.shuffle(&mut ids);
        }
        let begin = store.end().unwrap_or(0);
        let loads: Vec<Loads> = (0..1024).map(|_| random_loads(&mut rng)).collect();
        let began = Instant::now();
        for (round, hour) in (begin..).take(HOURS / 2).enumerate() {
            for (index, &id) in ids.iter().enumerate() {
                let loads = &loads[(index + round) % loads.len()];
                store.record(hour, EntityId(id), loads).expect("tracked, and hours rise");
            }
        }
        per(&format!("record {order}, an entity-hour"), began, ids.len() * HOURS / 2);
    }

    let sum = series_and_profiles(&mut store);
    let counted = store.bytes() as f64;
    let resident = resident_bytes() - base;
    println!(
        "counted {:.3} GiB; resident with tracking {:.3} GiB; limit {:.1} GiB",
        counted / GIB,
        resident / GIB,
        BYTES_MAX / GIB
    );
    println!("result {sum:.3}");
    assert!(smoke || counted.max(resident) < BYTES_MAX, "it takes more than it may");
    assert_eq!((store.count(), store.hourly_count()), (ids.len(), capacity.hourly), "everything is taken up");
}

/// Fills the rings, and reads all there is.
fn series_and_profiles(store: &mut Store) -> f64 {
    let hourly: Vec<EntityId> = store.hourly().collect();
    let begin = store.end().expect("hours were recorded");
    let began = Instant::now();
    for hour in begin..begin + Capacity::default().hours as i64 {
        for (index, &entity) in hourly.iter().enumerate() {
            let loads = Loads::IDLE.with(Metric::Reads, (hour % 24) as f64 * index as f64);
            store.record(hour, entity, &loads).expect("tracked, and hours rise");
        }
    }
    per("record of those with hours, an entity-hour", began, hourly.len() * Capacity::default().hours);
    let (mut sum, began) = (0.0, Instant::now());
    for &entity in &hourly {
        for metric in Metric::ALL {
            let series = store.series(entity, metric).expect("hours are kept");
            sum += f64::from(series.before(i64::MAX).iter().copied().filter(|v| !v.is_nan()).sum::<f32>());
        }
    }
    per("series of 840 hours, an entity and metric", began, hourly.len() * Metric::ALL.len());
    let began = Instant::now();
    for entity in store.entities() {
        let typical = store.typical(entity).expect("tracked");
        sum += typical.level(Metric::Reads, HOURS as i64).unwrap_or(0.0).ln_1p();
    }
    per("typical load", began, store.count());
    sum
}

fn random_loads(rng: &mut fastrand::Rng) -> Loads {
    Metric::ALL.iter().fold(Loads::UNKNOWN, |loads, &metric| loads.with(metric, 10_f64.powf(6.0 * rng.f64())))
}

fn per(what: &str, began: Instant, count: usize) {
    println!("{what}: {:.3} us", 1e6 * began.elapsed().as_secs_f64() / count as f64);
}

/// Zero where the kernel does not say.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<f64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0.0) * 1024.0
}
