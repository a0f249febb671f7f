//! How much of the hours to come a partition is overloaded, in expectation.
//!
//! A load's forecast is of an hour's mean, and its seconds spread around it. The part of an hour's seconds above
//! capacity is therefore neither 0 nor 1 near it: it is taken as that of a bell curve around the mean, of the
//! partition's measured [burst](crate::Partition::burst). The busiest dimension counts.
//!
//! Unit: overloaded hours. One is an hour all of whose seconds are above capacity in every path.

use crate::paths::Shape;
use crate::snapshot::{Dimension, Partition};

/// What a partition carries: path by path, hour by hour, in each dimension.
#[derive(Clone, PartialEq, Debug)]
pub struct Carried {
    sums: Vec<f32>,
    shape: Shape,
}

/// Bursts below it are taken for it: no hour's load is known that well.
const BURST_MIN: f64 = 0.02;
/// The logistic curve that is nearest to the normal distribution's, by its slope (Bowling et al., 2009).
const LOGISTIC_SLOPE: f32 = 1.702;
/// Steps of the curve's table in one spread, and spreads to either side beyond which it is 0 or 1.
const TABLE_STEPS: usize = 32;
const TABLE_SPREADS: usize = 6;

impl Carried {
    /// Nothing.
    #[must_use]
    pub fn nothing(shape: Shape) -> Self {
        Self { sums: vec![0.0; shape.len() * Dimension::ALL.len()], shape }
    }

    /// Adds a load, `times` over: -1 takes it away.
    pub fn add(&mut self, loads: &crate::Loads, times: f32) {
        for (paths, sum) in loads.0.iter().zip(self.sums.chunks_exact_mut(self.shape.len().max(1))) {
            paths.add_to(sum, times);
        }
    }

    /// The expected overload in each hour.
    pub fn by_hour(&self, partition: &Partition, curve: &Curve, out: &mut [f64]) {
        out.fill(0.0);
        let (len, hours) = (self.shape.len(), self.shape.hours);
        if len == 0 {
            return;
        }
        // A dimension without a bound overloads nothing.
        let slopes = partition.capacity.map(|capacity| crate::narrow(1.0 / capacity));
        let bounded = slopes.iter().enumerate().filter(|(_, slope)| **slope > 0.0);
        let bounded: Vec<(&[f32], f32)> =
            bounded.map(|(dimension, slope)| (&self.sums[dimension * len..][..len], *slope)).collect();
        let spread = crate::narrow(1.0 / partition.burst.max(BURST_MIN));
        for path in 0..self.shape.paths {
            for (hour, out) in out.iter_mut().enumerate() {
                let used = bounded.iter().map(|(sums, slope)| sums[path * hours + hour] * slope);
                let busiest = used.fold(0.0_f32, f32::max);
                *out += f64::from(curve.above((busiest - 1.0) * spread));
            }
        }
        for out in out {
            *out /= self.shape.paths as f64;
        }
    }

    /// The part of capacity that is used in an hour, by the mean over paths of the busiest dimension.
    #[must_use]
    pub fn used(&self, partition: &Partition, hour: usize) -> f64 {
        let (len, hours) = (self.shape.len(), self.shape.hours);
        let used = partition.capacity.iter().enumerate().map(|(dimension, capacity)| {
            let of_hour = self.sums[dimension * len..][..len].iter().skip(hour).step_by(hours);
            f64::from(of_hour.sum::<f32>()) / self.shape.paths as f64 / capacity
        });
        used.fold(0.0, f64::max)
    }
}

/// The part of a bell curve that lies above zero, by where its middle lies, in spreads.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve(Vec<f32>);

impl Default for Curve {
    fn default() -> Self {
        let steps = 2 * TABLE_SPREADS * TABLE_STEPS;
        let at = |step: usize| step as f32 / TABLE_STEPS as f32 - TABLE_SPREADS as f32;
        Self((0..=steps).map(|step| 1.0 / (1.0 + (-LOGISTIC_SLOPE * at(step)).exp())).collect())
    }
}

impl Curve {
    /// See the type; within 0..=1, and rising.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in the table, clamped"
    )]
    pub fn above(&self, middle: f32) -> f32 {
        let last = self.0.len() - 1;
        let at = (middle + TABLE_SPREADS as f32) * TABLE_STEPS as f32;
        if at.is_nan() || at <= 0.0 {
            return 0.0;
        }
        let step = at as usize;
        if step >= last {
            return 1.0;
        }
        let part = at - step as f32;
        self.0[step] + part * (self.0[step + 1] - self.0[step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loads, Paths, State};

    fn partition(capacity: f64, burst: f64) -> Partition {
        let capacity = [capacity, f64::INFINITY, f64::INFINITY];
        Partition { id: 0, host: 0, capacity, burst, state: State::Serving, distance: 0.0, penalty: 0.0 }
    }

    #[test]
    fn an_hour_at_capacity_is_half_overloaded_and_far_from_it_all_or_nothing() {
        let shape = Shape { paths: 1, hours: 3 };
        let mut carried = Carried::nothing(shape);
        carried
            .add(&Loads([Paths::certain(&[50.0, 100.0, 200.0], shape), Paths::none(), Paths::none()]), 1.0);
        let mut out = [0.0; 3];
        carried.by_hour(&partition(100.0, 0.1), &Curve::default(), &mut out);
        assert!(out[0] < 0.001 && (out[1] - 0.5).abs() < 0.01 && out[2] > 0.999, "{out:?}");
    }

    #[test]
    fn the_busiest_dimension_counts() {
        let shape = Shape { paths: 1, hours: 1 };
        let mut carried = Carried::nothing(shape);
        carried
            .add(&Loads([Paths::certain(&[1.0], shape), Paths::certain(&[9.0], shape), Paths::none()]), 1.0);
        let slim = Partition { capacity: [100.0, 3.0, 1.0], ..partition(1.0, 0.1) };
        assert!((carried.used(&slim, 0) - 3.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_added_and_taken_away_is_gone() {
        let shape = Shape { paths: 2, hours: 2 };
        let loads = Loads([Paths::new(vec![1.0, 2.0, 3.0, 4.0], shape), Paths::none(), Paths::none()]);
        let mut carried = Carried::nothing(shape);
        carried.add(&loads, 1.0);
        carried.add(&loads, -1.0);
        assert_eq!(carried, Carried::nothing(shape));
    }

    #[test]
    fn the_curve_rises_from_zero_to_one() {
        let curve = Curve::default();
        let at: Vec<f32> = (-80..=80).map(|i| curve.above(i as f32 / 10.0)).collect();
        assert!(at.is_sorted() && at[0] == 0.0 && at[160] == 1.0);
        assert!(curve.above(f32::NAN) == 0.0 && curve.above(f32::INFINITY) == 1.0);
    }
}
