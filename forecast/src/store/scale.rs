//! Sixteen bits for an hour's value.
//!
//! A load is log1p in equal steps, so that a code stands for `1 + load` to within [`ERROR`], whatever the load's size, and
//! no load is exactly zero. Growth has a sign, hence half as many steps a side, and twice the error.

use super::Metric;
use crate::series::{to_load, to_log};

/// Nothing is known.
pub(super) const GAP: u16 = u16::MAX;
/// The largest load there is.
const TOP: u16 = u16::MAX - 1;
/// No growth.
const STILL: u16 = TOP / 2;
/// log1p of [`crate::series::LOAD_MAX`], a little more.
const LOG_MAX: f32 = 41.446_54;
const STEP: f32 = LOG_MAX / TOP as f32;
const GROWTH_STEP: f32 = LOG_MAX / STILL as f32;

/// By which share of itself `1 + load` may differ from what its code stands for: half a step, and rounding.
pub const ERROR: f64 = 0.000_33;

/// What an hour of `metric` is kept as; for stored bytes, `value` is the growth.
pub(super) fn code(metric: Metric, value: f64) -> u16 {
    if metric != Metric::StoredBytes {
        return steps(to_log(value), STEP, TOP);
    }
    match steps(to_log(value.abs()), GROWTH_STEP, STILL) {
        GAP => GAP,
        size if value < 0.0 => STILL - size,
        size => STILL + size,
    }
}

/// Back from [`code`]; NaN for a gap.
pub(super) fn value(metric: Metric, code: u16) -> f64 {
    if code == GAP {
        return f64::NAN;
    }
    if metric != Metric::StoredBytes {
        return to_load(log(code));
    }
    let size = to_load(f32::from(code.abs_diff(STILL)) * GROWTH_STEP);
    if code < STILL { -size } else { size }
}

/// log1p of the load that a code stands for; NaN for a gap.
pub(super) fn log(code: u16) -> f32 {
    if code == GAP { f32::NAN } else { f32::from(code) * STEP }
}

/// A distance between codes of `metric`, on the log1p scale.
pub(super) fn distance(metric: Metric, codes: u16) -> f32 {
    f32::from(codes) * if metric == Metric::StoredBytes { GROWTH_STEP } else { STEP }
}

fn steps(log: f32, step: f32, most: u16) -> u16 {
    if log.is_nan() {
        return GAP;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a log of a load lies within"
    )]
    let steps = (log / step).round() as u16;
    steps.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::LOAD_MAX;

    #[test]
    fn loads_of_every_size_come_back_within_the_error() {
        let mut load = 1e-6;
        while load < LOAD_MAX {
            let back = value(Metric::Reads, code(Metric::Reads, load));
            assert!(((1.0 + back) / (1.0 + load) - 1.0).abs() <= ERROR, "{load} came back as {back}");
            for growth in [load, -load] {
                let back = value(Metric::StoredBytes, code(Metric::StoredBytes, growth));
                assert!(back * growth >= 0.0, "{growth} came back as {back}");
                let share = (1.0 + back.abs()) / (1.0 + load) - 1.0;
                assert!(share.abs() <= 2.0 * ERROR, "{growth} came back as {back}");
            }
            load *= 1.37;
        }
    }

    #[test]
    fn zero_is_exact_and_what_is_no_load_is_a_gap() {
        for metric in [Metric::Reads, Metric::StoredBytes] {
            assert!(value(metric, code(metric, 0.0)).abs() < f64::MIN_POSITIVE);
            assert!(value(metric, code(metric, f64::NAN)).is_nan());
            assert!(value(metric, code(metric, f64::INFINITY)).is_nan());
            assert!(value(metric, code(metric, f64::MAX)) <= LOAD_MAX);
        }
        assert!(value(Metric::Reads, code(Metric::Reads, -1.0)).is_nan());
        assert!(value(Metric::StoredBytes, code(Metric::StoredBytes, -f64::MAX)) >= -LOAD_MAX);
    }
}
