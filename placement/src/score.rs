//! The migration score: 0 (leave it) to 1 (nothing else matters), and the threshold that it has to reach.
//!
//! With `A` the overload that the move avoids at its source less what it brings to its target, over the horizon and
//! discounted, `S` the overload of the source, and `C` what the move costs, all in overloaded hours:
//!
//! ```text
//! score = A / S  *  A / (A + C)
//! ```
//!
//! The first factor is the entity's share of the overload that moving it would avoid, the second falls as the cost comes
//! near the gain. `C` is the overload that copying is expected to cause at both ends in the hours that it is scheduled for, plus
//! a constant for what clients and caches feel, plus one for each dependency.
//!
//! The threshold rises with the cluster's fullness (a full cluster has no room for mistakes), with failed hosts, and with
//! the part of recent moves that were wasted; it falls with headroom.

use crate::snapshot::{Settings, Snapshot};

/// A partition's overload below it is none: an outlier of a path or two.
pub const OVERLOAD_MIN: f64 = 1e-3;
/// Fullness at which the threshold is the settings' own.
const FULLNESS_USUAL: f64 = 0.5;
/// The threshold's part that is left in an empty cluster.
const HEADROOM_PART: f64 = 0.5;
/// By how much failed hosts, and wasted moves, raise it: all failed would be five times, all wasted three times.
const FAILED_RISE: f64 = 4.0;
const WASTED_RISE: f64 = 2.0;

/// What a move costs, in overloaded hours: `copying` is the overload that it causes while it copies, at both ends.
#[must_use]
pub fn cost(settings: &Settings, copying: f64, dependencies: u32) -> f64 {
    copying + settings.move_hours + settings.dependency_hours * f64::from(dependencies)
}

/// How long copying takes, in hours.
#[must_use]
pub fn hours_of_copying(settings: &Settings, bytes: f64) -> f64 {
    bytes / settings.copy_bytes_per_s.max(1.0) / 3600.0
}

/// The score; see the module. `source` is the overload there before, `avoided` may be negative.
#[must_use]
pub fn score(source: f64, avoided: f64, cost: f64) -> f64 {
    if avoided <= 0.0 || source < OVERLOAD_MIN {
        return 0.0;
    }
    (avoided / source).min(1.0) * avoided / (avoided + cost.max(0.0))
}

/// What a score has to reach. `fullness` is the part of all serving partitions' capacity that is used at the busiest
/// hour to come.
#[must_use]
pub fn threshold(snapshot: &Snapshot, fullness: f64) -> f64 {
    let fullness = fullness.clamp(0.0, 1.0);
    let by_fullness = if fullness > FULLNESS_USUAL {
        1.0 + (fullness - FULLNESS_USUAL) / (1.0 - FULLNESS_USUAL)
    } else {
        HEADROOM_PART + (1.0 - HEADROOM_PART) * fullness / FULLNESS_USUAL
    };
    let raised = (1.0 + FAILED_RISE * snapshot.failed) * (1.0 + WASTED_RISE * snapshot.wasted);
    (snapshot.settings.threshold * by_fullness * raised).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn snapshot(failed: f64, wasted: f64) -> Snapshot {
        Snapshot { failed, wasted, ..Snapshot::of(Shape { paths: 1, hours: 1 }, 0, Vec::new()) }
    }

    #[test]
    fn it_is_the_share_avoided_and_falls_with_the_cost() {
        assert!((score(2.0, 1.0, 0.0) - 0.5).abs() < 1e-12);
        assert!((score(2.0, 2.0, 2.0) - 0.5).abs() < 1e-12);
        assert_eq!((score(2.0, -1.0, 0.0), score(0.0, 1.0, 0.0)), (0.0, 0.0));
        assert!(score(1.0, 3.0, 0.0) <= 1.0, "what the target gains too does not lift it over one");
    }

    #[test]
    fn larger_and_entangled_entities_cost_more() {
        let settings = Settings::default();
        assert!(cost(&settings, 0.2, 0) > cost(&settings, 0.1, 0));
        assert!(cost(&settings, 0.1, 3) > cost(&settings, 0.1, 0));
        let settings = Settings { copy_bytes_per_s: 100e6, ..settings };
        assert!((hours_of_copying(&settings, 360e9) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_threshold_rises_with_fullness_failures_and_waste_and_falls_with_headroom() {
        let at = |fullness| threshold(&snapshot(0.0, 0.0), fullness);
        assert!(at(0.1) < at(0.5) && at(0.5) < at(0.9));
        assert!((at(0.5) - Settings::default().threshold).abs() < 1e-12);
        assert!(threshold(&snapshot(0.25, 0.0), 0.5) > at(0.5));
        assert!(threshold(&snapshot(0.0, 0.5), 0.5) > at(0.5));
        assert!(threshold(&snapshot(1.0, 1.0), 1.0) <= 1.0);
    }
}
