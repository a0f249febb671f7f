//! Loads to come: equally likely paths over the same hours, which belong together across entities.
//!
//! Path 7 of one entity and path 7 of another are of one world: sums over entities are taken path by path, so that what
//! rises together is seen to.

/// The part of an hour's deviation, as a ratio, that is left in the next one.
const STAYS: f32 = 0.7;
/// Whoever comes out of nothing is many times its forecast now; later it is taken to be e times as much at most.
const OFF_MAX: f32 = 1.0;
/// How much what is seen counts against what was foretold: a minute is not an hour.
const SEEN_TRUST: f32 = 0.9;

/// How many paths over how many hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Equally likely paths.
    pub paths: usize,
    /// Hours of each, the first of which is the one that begins.
    pub hours: usize,
}

impl Shape {
    /// Values of one load.
    #[must_use]
    pub const fn len(self) -> usize {
        self.paths * self.hours
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A load, path by path and hour by hour in each; empty: none at all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Paths(Vec<f32>);

impl Paths {
    /// Of values in that order.
    ///
    /// # Panics
    /// When they are not as many as `shape` says.
    #[must_use]
    pub fn new(values: Vec<f32>, shape: Shape) -> Self {
        assert_eq!(values.len(), shape.len(), "a value for every path and hour");
        Self(values)
    }

    /// Known for certain: every path is the same.
    #[must_use]
    pub fn certain(course: &[f32], shape: Shape) -> Self {
        assert_eq!(course.len(), shape.hours, "a value for every hour");
        Self(course.repeat(shape.paths))
    }

    /// No load.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// All values; empty where there is no load.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// The mean over paths of one hour.
    #[must_use]
    pub fn mean(&self, hour: usize, shape: Shape) -> f32 {
        if self.0.is_empty() {
            return 0.0;
        }
        let of_hour = self.0.iter().skip(hour).step_by(shape.hours);
        of_hour.sum::<f32>() / shape.paths as f32
    }

    /// With each hour of every path so many times as much.
    ///
    /// # Panics
    /// When there are no factors.
    #[must_use]
    pub fn times(mut self, factors: &[f32]) -> Self {
        for path in self.0.chunks_mut(factors.len()) {
            path.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
        }
        self
    }

    /// The value that the share `at` of all paths does not exceed in one hour.
    #[must_use]
    pub fn quantile(&self, hour: usize, at: f64, shape: Shape) -> f64 {
        let mut values: Vec<f64> =
            self.0.iter().skip(hour).step_by(shape.hours).map(|v| f64::from(*v)).collect();
        values.sort_unstable_by(f64::total_cmp);
        foreshard_forecast::measures::quantile(&values, at).unwrap_or(0.0)
    }

    /// Adds this load to a sum.
    pub(crate) fn add_to_sum(&self, sum: &mut [f32]) {
        sum.iter_mut().zip(&self.0).for_each(|(sum, value)| *sum += value);
    }

    /// Adds `times` this load to sums, and to variances what bursts of the part `burst` of it make.
    pub(crate) fn add_to(&self, sums: &mut [f32], variances: &mut [f32], burst: f32, times: f32) {
        let squared = times * burst * burst;
        for ((sum, variance), value) in sums.iter_mut().zip(variances).zip(&self.0) {
            *sum += times * value;
            *variance += squared * value * value;
        }
    }

    /// With what is seen of the first hour, while it lasts: `seen` is the load now. What each path is off by, as a ratio, it
    /// stays off by for some hours.
    #[must_use]
    pub fn with_seen(mut self, seen: f32, shape: Shape) -> Self {
        for path in self.0.chunks_mut(shape.hours.max(1)) {
            let Some(first) = path.first() else { continue };
            let mut off = SEEN_TRUST * (seen.ln_1p() - first.ln_1p());
            for value in path {
                *value = ((1.0 + *value) * off.exp() - 1.0).max(0.0);
                off = (off * STAYS).clamp(-OFF_MAX, OFF_MAX);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_counts_now_and_fades() {
        let shape = Shape { paths: 2, hours: 6 };
        let foretold = Paths::new([[10.0; 6], [20.0; 6]].concat(), shape);
        let seen = foretold.clone().with_seen(80.0, shape);
        let values = seen.values();
        assert!((65.0..80.0).contains(&values[0]) && (65.0..80.0).contains(&values[6]), "{values:?}");
        assert!(values[..6].is_sorted_by(|a, b| a > b) && values[5] < 15.0, "{values:?}");
        assert!(values[1] > values[7] / 2.0 && values[11] < 26.0, "{values:?}");
        assert!(foretold.with_seen(0.0, shape).values().iter().all(|value| *value >= 0.0));
        assert_eq!(Paths::none().with_seen(5.0, shape), Paths::none());
    }
}
