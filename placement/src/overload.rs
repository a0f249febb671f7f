//! How much of the hours to come a partition is overloaded, in expectation.
//!
//! A load's forecast is of an hour's mean, and its seconds spread around it. The part of an hour's seconds above
//! capacity is therefore neither 0 nor 1 near it: seconds are taken to lie around the mean as under a parabola (Epanechnikov's
//! kernel: near a bell curve, with an end). Its spread is made of the measured bursts of all that is carried, as if they were
//! independent. The busiest dimension counts.
//!
//! What is far above capacity in any case would be as far above without any one entity, and no single move would seem worth it:
//! the extent of the overload counts too, a little.
//!
//! Unit: overloaded hours. One is an hour all of whose seconds are above capacity in every path, or that has four times its
//! capacity besides.

use crate::paths::Shape;
use crate::snapshot::{Dimension, Partition, Snapshot};

/// What a partition carries: path by path, hour by hour, in each dimension.
#[derive(Clone, PartialEq, Debug)]
pub struct Carried {
    sums: Vec<f32>,
    /// Variances within the hour.
    variances: Vec<f32>,
    shape: Shape,
}

/// Bursts below it are taken for it: no hour's load is known that well.
const BURST_MIN: f32 = 0.02;
/// What a capacity that is asked for beyond the one that there is counts, against seconds that are above it.
const EXTENT: f32 = 0.25;
/// Where the parabola ends, in standard deviations of it.
const REACH: f32 = 2.236_068;

impl Carried {
    /// Nothing.
    #[must_use]
    pub fn nothing(shape: Shape) -> Self {
        let all = shape.len() * Dimension::ALL.len();
        Self { sums: vec![0.0; all], variances: vec![0.0; all], shape }
    }

    /// What each partition carries, in the order of the snapshot's, with its entities where `at` says.
    #[must_use]
    pub fn by_partition(snapshot: &Snapshot, at: &[usize]) -> Vec<Self> {
        let mut carried = vec![Self::nothing(snapshot.shape); snapshot.partitions.len()];
        for ((rest, carried), partition) in snapshot.rest.iter().zip(&mut carried).zip(&snapshot.partitions) {
            carried.add(rest, partition.burst, 1.0);
        }
        for (entity, &at) in snapshot.entities.iter().zip(at) {
            carried[at].add(&entity.loads, entity.burst, 1.0);
        }
        carried
    }

    /// What both carry.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        let add = |mine: &mut [f32], theirs: &[f32]| {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        };
        add(&mut self.sums, &other.sums);
        add(&mut self.variances, &other.variances);
        self
    }

    /// Adds a load, `times` over: -1 takes it away. `burst` is the standard deviation of its seconds, as a part of the hour's
    /// mean.
    pub fn add(&mut self, loads: &crate::Loads, burst: f64, times: f32) {
        let (len, burst) = (self.shape.len().max(1), crate::narrow(burst));
        let carried = self.sums.chunks_exact_mut(len).zip(self.variances.chunks_exact_mut(len));
        for (paths, (sums, variances)) in loads.0.iter().zip(carried) {
            paths.add_to(sums, variances, burst, times);
        }
    }

    /// The expected overload in each hour, were the part `extra` of each capacity used besides.
    pub fn by_hour(&self, partition: &Partition, extra: f64, out: &mut [f64]) {
        let (len, hours) = (self.shape.len(), self.shape.hours);
        out.fill(0.0);
        // A dimension without a bound overloads nothing.
        let slopes = partition.capacity.map(|capacity| crate::narrow(1.0 / capacity));
        let bounded: Vec<(usize, f32)> =
            slopes.into_iter().enumerate().filter(|(_, slope)| *slope > 0.0).collect();
        let free = 1.0 - crate::narrow(extra);
        let (mut beyond, mut sums) = (vec![0.0_f32; hours], vec![0.0_f32; hours]);
        let mut excess = vec![0.0_f32; hours];
        for path in 0..self.shape.paths {
            beyond.fill(-REACH);
            excess.fill(0.0);
            for &(dimension, slope) in &bounded {
                let at = dimension * len + path * hours;
                let carried = self.sums[at..][..hours].iter().zip(&self.variances[at..][..hours]);
                let measured = beyond.iter_mut().zip(&mut excess);
                for ((beyond, excess), (sum, variance)) in measured.zip(carried) {
                    let spread = (variance.max(0.0).sqrt() * slope).max(BURST_MIN);
                    let above = sum * slope - free;
                    *beyond = beyond.max(above / spread);
                    *excess = excess.max(above);
                }
            }
            for (sum, (beyond, excess)) in sums.iter_mut().zip(beyond.iter().zip(&excess)) {
                *sum += above(*beyond) + EXTENT * excess;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = f64::from(sum) / self.shape.paths.max(1) as f64;
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

/// The part of seconds above a bound, whose middle lies so many standard deviations beyond it: 0..=1, and rising.
fn above(beyond: f32) -> f32 {
    let at = (0.5 + beyond * (0.5 / REACH)).clamp(0.0, 1.0);
    at * at * (3.0 - 2.0 * at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loads, Paths, State};

    fn partition(capacity: f64) -> Partition {
        let capacity = [capacity, f64::INFINITY, f64::INFINITY];
        Partition {
            id: 0,
            host: 0,
            capacity,
            share: 1.0,
            burst: 0.0,
            state: State::Serving,
            distance: 0.0,
            penalty: 0.0,
        }
    }

    #[test]
    fn an_hour_at_capacity_is_half_overloaded_and_far_from_it_all_or_nothing() {
        let shape = Shape { paths: 1, hours: 3 };
        let mut carried = Carried::nothing(shape);
        carried.add(
            &Loads([Paths::certain(&[50.0, 100.0, 200.0], shape), Paths::none(), Paths::none()]),
            0.1,
            1.0,
        );
        let mut out = [0.0; 3];
        carried.by_hour(&partition(100.0), 0.0, &mut out);
        assert!(out[0] < 0.001 && (out[1] - 0.5).abs() < 0.01 && (out[2] - 1.25).abs() < 1e-6, "{out:?}");
    }

    #[test]
    fn the_busiest_dimension_counts() {
        let shape = Shape { paths: 1, hours: 1 };
        let mut carried = Carried::nothing(shape);
        carried.add(
            &Loads([Paths::certain(&[1.0], shape), Paths::certain(&[9.0], shape), Paths::none()]),
            0.1,
            1.0,
        );
        let slim = Partition { capacity: [100.0, 3.0, 1.0], ..partition(1.0) };
        assert!((carried.used(&slim, 0) - 3.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_added_and_taken_away_is_gone() {
        let shape = Shape { paths: 2, hours: 2 };
        let loads = Loads([Paths::new(vec![1.0, 2.0, 3.0, 4.0], shape), Paths::none(), Paths::none()]);
        let mut carried = Carried::nothing(shape);
        carried.add(&loads, 0.5, 1.0);
        carried.add(&loads, 0.5, -1.0);
        assert_eq!(carried, Carried::nothing(shape));
    }

    #[test]
    fn the_part_above_rises_from_zero_to_one() {
        let at: Vec<f32> = (-80..=80).map(|i| above(i as f32 / 10.0)).collect();
        assert!(at.is_sorted() && at[0] == 0.0 && at[160] >= 1.0);
        // A bell curve has 0.159 above one standard deviation.
        assert!((above(-1.0) - 0.159).abs() < 0.03, "{}", above(-1.0));
        assert!(above(f32::INFINITY) >= 1.0 && above(f32::NEG_INFINITY) == 0.0);
    }
}
