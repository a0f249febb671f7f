//! What may come: whole paths, each the latest path plus the errors that were made from one earlier origin.
//!
//! No shape is assumed, and hours of a path belong together. Series that were walked on one grid have their errors from
//! the same origins, so that a sum over series is taken path by path and keeps their correlation.
//!
//! Invariant: a value is finite and not negative.

use crate::measures::quantile;
use crate::series::{DAY, Series, to_load, to_log};
use crate::walk::Walk;

/// How far back errors are taken from.
pub const MEMORY: usize = 28 * DAY;
/// With fewer paths a tail says nothing: the series' own hours are drawn from instead.
const PATHS_MIN: usize = 12;

/// Equally likely paths of loads.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenarios {
    /// Hour by hour, each hour's values sorted.
    sorted: Vec<f64>,
    /// Path by path.
    paths: Vec<f64>,
    horizon: usize,
}

impl Scenarios {
    /// From the paths of `walk` at `origin`, and the errors of those before. What lies after the origin is not looked at.
    #[must_use]
    pub fn new(series: &Series, walk: &Walk, origin: i64) -> Self {
        let horizon = walk.plan().horizon;
        let paths = walk.path(origin).map(|path| with_errors(series, walk, origin, path)).unwrap_or_default();
        let paths =
            if paths.len() < PATHS_MIN * horizon { own_hours(series, origin, horizon) } else { paths };
        Self::of_paths(paths, horizon)
    }

    /// Of loads, path by path.
    ///
    /// # Panics
    /// When there is no path, or not a whole number of them.
    #[must_use]
    pub fn of_paths(paths: Vec<f64>, horizon: usize) -> Self {
        let count = paths.len() / horizon;
        assert!(count > 0 && count * horizon == paths.len(), "{} loads are no paths", paths.len());
        let mut sorted = Vec::with_capacity(paths.len());
        for hour in 0..horizon {
            sorted.extend((0..count).map(|path| paths[path * horizon + hour]));
            sorted[hour * count..].sort_unstable_by(f64::total_cmp);
        }
        Self { sorted, paths, horizon }
    }

    /// With so much added to each hour, on the log scale.
    ///
    /// # Panics
    /// When there are fewer or more hours.
    #[must_use]
    pub fn shifted(&self, effects: &[f32]) -> Self {
        assert_eq!(effects.len(), self.horizon, "an effect for each hour");
        let effects = effects.iter().cycle();
        let paths = self.paths.iter().zip(effects).map(|(&load, effect)| to_load(to_log(load) + effect));
        Self::of_paths(paths.collect(), self.horizon)
    }

    /// One of `self`'s paths with the probability `share`, else one of `other`'s: wider than either where they differ.
    ///
    /// # Panics
    /// When the horizons differ.
    #[must_use]
    pub fn mixed(&self, other: &Self, share: f64) -> Self {
        assert_eq!(self.horizon, other.horizon, "of the same hours");
        if share >= 1.0 {
            return self.clone();
        }
        let mut paths = self.some(share);
        paths.extend(other.some(1.0 - share));
        Self::of_paths(paths, self.horizon)
    }

    /// Paths in number proportional to `share`, spread over all there are.
    fn some(&self, share: f64) -> Vec<f64> {
        /// Of two mixed together.
        const MIXED: f64 = 200.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 200")]
        let wanted = (share.clamp(0.0, 1.0) * MIXED).round() as usize;
        let chosen = (0..wanted).map(|index| index * self.count() / wanted);
        chosen.flat_map(|path| &self.paths[path * self.horizon..][..self.horizon]).copied().collect()
    }

    /// Hours of each path.
    #[must_use]
    pub const fn horizon(&self) -> usize {
        self.horizon
    }

    /// The load of an hour that the share `at` of paths does not exceed.
    ///
    /// # Panics
    /// When the hour is past the horizon.
    #[must_use]
    pub fn quantile(&self, hour: usize, at: f64) -> f64 {
        let values = self.hour(hour);
        // The next value is as likely to fall between any two of them, and outside of them: (n + 1) places.
        let places = values.len() as f64;
        let at = if places > 1.0 { ((places + 1.0) * at - 1.0) / (places - 1.0) } else { at };
        quantile(values, at).unwrap_or(0.0)
    }

    /// The mean load of an hour.
    #[must_use]
    pub fn mean(&self, hour: usize) -> f64 {
        let values = self.hour(hour);
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Where among the paths a load of an hour falls, in 0..=1: `draw`, uniform in 0..1, breaks ties, so that it is uniform
    /// for a forecast that is right (the randomised probability integral transform).
    #[must_use]
    pub fn place(&self, hour: usize, load: f64, draw: f64) -> f64 {
        let values = self.hour(hour);
        let below = values.partition_point(|&value| value < load);
        let equal = values[below..].partition_point(|&value| value <= load);
        (below as f64 + draw * (equal + 1) as f64) / (values.len() + 1) as f64
    }

    /// The share of paths whose highest load in the hours exceeds `limit`.
    #[must_use]
    pub fn exceeds(&self, hours: std::ops::Range<usize>, limit: f64) -> f64 {
        let above = self.peaks(hours).filter(|&peak| peak > limit).count();
        above as f64 / self.count() as f64
    }

    /// By how much the highest load in the hours exceeds `limit`, on average.
    #[must_use]
    pub fn excess(&self, hours: std::ops::Range<usize>, limit: f64) -> f64 {
        self.peaks(hours).map(|peak| (peak - limit).max(0.0)).sum::<f64>() / self.count() as f64
    }

    fn peaks(&self, hours: std::ops::Range<usize>) -> impl Iterator<Item = f64> {
        self.paths
            .chunks_exact(self.horizon)
            .map(move |path| path[hours.clone()].iter().copied().fold(0.0, f64::max))
    }

    fn count(&self) -> usize {
        self.paths.len() / self.horizon
    }

    fn hour(&self, hour: usize) -> &[f64] {
        assert!(hour < self.horizon, "hour {hour} of {}", self.horizon);
        let count = self.count();
        &self.sorted[hour * count..(hour + 1) * count]
    }
}

fn with_errors(series: &Series, walk: &Walk, origin: i64, path: &[f32]) -> Vec<f64> {
    let mut paths = Vec::new();
    for (earlier, earlier_path) in walk.earlier(origin, MEMORY, path.len()) {
        let mut error = f32::NAN;
        let begin = paths.len();
        for ((hour, said), value) in (earlier..).zip(earlier_path).zip(path) {
            let was = series.at(hour);
            // In a gap, the error of the hour before goes on.
            error = if was.is_nan() { error } else { was - said };
            paths.push(to_load(value + if error.is_nan() { 0.0 } else { error }));
        }
        if error.is_nan() {
            paths.truncate(begin);
        }
    }
    paths
}

/// As if any known hour could come again, all day; nothing at all of a series of which nothing is known.
fn own_hours(series: &Series, origin: i64, horizon: usize) -> Vec<f64> {
    let known = series.before(origin).iter().rev().take(MEMORY).filter(|value| !value.is_nan());
    let mut paths: Vec<f64> = known.flat_map(|&value| std::iter::repeat_n(to_load(value), horizon)).collect();
    if paths.is_empty() {
        paths.resize(horizon, 0.0);
    }
    paths
}
