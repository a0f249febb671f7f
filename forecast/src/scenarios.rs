//! What may come: whole paths, each the latest path plus the errors that were made from one earlier origin.
//!
//! No shape is assumed, and hours of a path belong together. Series that were walked on one grid have their errors from
//! the same origins in the same order, so that a sum over series is taken path by path and keeps their correlation.
//!
//! The median is the latest path itself: errors are taken from their median of each hour. Loads repeat values exactly,
//! zero above all, and a path that says one is worth more than the little that a median of a hundred errors knows better.
//!
//! Invariant: a value is finite and not negative.

use crate::events::EffectsOf;
use crate::recalibration::Recalibration;
use crate::series::{DAY, LOAD_MAX, Series, to_load, to_log};
use crate::walk::Walk;

/// How far back errors are taken from.
pub const MEMORY: usize = 28 * DAY;
/// With fewer paths a tail says nothing: the series' own hours are drawn from instead.
const PATHS_MIN: usize = 12;

/// How much further from the middle than the outermost path a recalibrated one may be: three times as rare.
const REACH_MAX: f64 = 1.25;
/// How far above the highest hour of that time a path may go, on the log scale: a factor of e. The error of a burst that
/// was missed, added to a burst that is forecast, would be as many times larger again.
const HEADROOM: f32 = 1.0;

/// Equally likely paths of loads.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenarios {
    /// Hour by hour, each hour's values sorted.
    sorted: Vec<f64>,
    /// Path by path.
    paths: Vec<f64>,
    horizon: usize,
    /// Whether recalibrations are of these: they are learnt from where loads fell among paths with errors.
    recalibrates: bool,
}

impl Scenarios {
    /// From the paths of `walk` at `origin`, and the errors of those before. What lies after the origin is not looked at.
    #[must_use]
    pub fn new(series: &Series, walk: &Walk, origin: i64) -> Self {
        Self::with_events(series, walk, origin, None)
    }

    /// Likewise of an entity with events, which the walk was given: a path may go as much higher as they lift its hour.
    #[must_use]
    pub fn with_events(series: &Series, walk: &Walk, origin: i64, events: Option<EffectsOf<'_>>) -> Self {
        let horizon = walk.plan().horizon;
        let earlier: Vec<i64> = walk.earlier_origins(origin, MEMORY, horizon).collect();
        let known = series.before(origin);
        let recent = &known[known.len().saturating_sub(MEMORY)..];
        let highest = recent.iter().copied().fold(0.0, f32::max);
        let lift = |hour| events.map_or(0.0, |events| events.effect(hour, origin).max(0.0));
        let ceilings: Vec<f32> =
            (origin..).take(horizon).map(|hour| highest + HEADROOM + lift(hour)).collect();
        match walk.path(origin).and_then(|path| with_errors(series, walk, &earlier, path, &ceilings)) {
            Some(paths) => Self::of_paths(paths, horizon),
            None => Self {
                recalibrates: false,
                ..Self::of_paths(own_hours(series, origin, horizon, earlier.len()), horizon)
            },
        }
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
            // Loads are not negative: their bits sort as they do, in half of the time.
            sorted[hour * count..].sort_unstable_by_key(|load| load.to_bits());
        }
        Self { sorted, paths, horizon, recalibrates: true }
    }

    /// The sum over series, path by path: what moved together in the past does so in the sum.
    ///
    /// None without series, or when their paths are not of one grid: walked by one plan and asked at one origin.
    #[must_use]
    pub fn sum(of: &[Self]) -> Option<Self> {
        let (first, others) = of.split_first()?;
        let mut paths = first.paths.clone();
        for other in others {
            if other.horizon != first.horizon || other.paths.len() != paths.len() {
                return None;
            }
            paths.iter_mut().zip(&other.paths).for_each(|(sum, load)| *sum += load);
        }
        Some(Self::of_paths(paths, first.horizon))
    }

    /// The same values of each hour, each hour's in an order of its own: what is left of paths when only quantiles are
    /// known. Sums, over hours or with others, are then as if nothing went together.
    #[must_use]
    pub fn shuffled(&self, random: &mut fastrand::Rng) -> Self {
        let mut paths = vec![0.0; self.paths.len()];
        let mut order: Vec<usize> = (0..self.count()).collect();
        for hour in 0..self.horizon {
            random.shuffle(&mut order);
            for (path, &from) in order.iter().enumerate() {
                paths[path * self.horizon + hour] = self.paths[from * self.horizon + hour];
            }
        }
        Self { paths, ..self.clone() }
    }

    /// One hour in place of all: the sum of those that are chosen, path by path.
    ///
    /// # Panics
    /// When the choice is not of as many hours.
    #[must_use]
    pub fn total(&self, chosen: &[bool]) -> Self {
        assert_eq!(chosen.len(), self.horizon, "a choice for each hour");
        let total = |path: &[f64]| path.iter().zip(chosen).filter(|hour| *hour.1).map(|hour| hour.0).sum();
        Self::of_paths(self.paths.chunks_exact(self.horizon).map(total).collect(), 1)
    }

    /// With each hour's values moved to where experience says that such shares of paths belong; a path keeps its rank in
    /// every hour (Schefzik, Thorarinsdottir and Gneiting, "Ensemble copula coupling", Statistical Science 2013).
    ///
    /// Own hours that stand in for paths stay as they are: what the errors of methods are worth says nothing of them.
    #[must_use]
    pub fn recalibrated(&self, recalibration: &Recalibration) -> Self {
        if !self.recalibrates {
            return self.clone();
        }
        self.moved(|hour, at| self.beyond(hour, recalibration.level(hour, at)))
    }

    /// The loads `of(hour, share)` in place of each hour's, rank by rank.
    fn moved(&self, of: impl Fn(usize, f64) -> f64) -> Self {
        let count = self.count();
        let mut sorted = Vec::with_capacity(self.sorted.len());
        let mut paths = vec![0.0; self.paths.len()];
        let mut order: Vec<(u64, usize)> = Vec::with_capacity(count);
        for hour in 0..self.horizon {
            order.clear();
            order.extend((0..count).map(|path| (self.paths[path * self.horizon + hour].to_bits(), path)));
            order.sort_unstable();
            // Rounded on the log scale, a further place may come out a hair nearer.
            let mut highest = 0.0_f64;
            for (rank, &(_, path)) in order.iter().enumerate() {
                let at = (rank + 1) as f64 / (count + 1) as f64;
                let load = of(hour, at).max(highest);
                highest = load;
                sorted.push(load);
                paths[path * self.horizon + hour] = load;
            }
        }
        Self { sorted, paths, ..*self }
    }

    /// A quantile; where it is rarer than one in as many paths as there are, on an exponential tail through the outermost one,
    /// on the log scale. Otherwise what fell outside of all paths could be within no interval.
    fn beyond(&self, hour: usize, at: f64) -> f64 {
        let values = self.hour(hour);
        let outermost = 1.0 / (values.len() + 1) as f64;
        let rarity = at.min(1.0 - at);
        if rarity >= outermost || values.len() < PATHS_MIN {
            return self.quantile(hour, at);
        }
        let further = ((2.0 * rarity).ln() / (2.0 * outermost).ln()).min(REACH_MAX);
        let middle = self.quantile(hour, 0.5).ln_1p();
        let outer = if at < 0.5 { values[0] } else { values[values.len() - 1] };
        (middle + further * (outer.ln_1p() - middle)).exp_m1().clamp(0.0, LOAD_MAX)
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

    /// Quantile by quantile between the two on the log scale, `share` of the way from `other` to `self`; what goes together is
    /// as in [`Self::mixed`].
    ///
    /// Where two ways know different things, each is as wide as it ought to be, and a mixture wider (Lichtendahl,
    /// Grushka-Cockayne and Winkler, "Is It Better to Average Probabilities or Quantiles?", Management Science 2013). A burst of
    /// thousands that one of them expects is as rare as before, and no longer of thousands.
    ///
    /// # Panics
    /// When the horizons differ.
    #[must_use]
    pub fn averaged(&self, other: &Self, share: f64) -> Self {
        let mixed = self.mixed(other, share);
        if share >= 1.0 {
            return mixed;
        }
        mixed.moved(|hour, at| {
            let [one, two] = [self, other].map(|of| of.quantile(hour, at));
            // Equal loads are common, and are said exactly.
            if one.to_bits() == two.to_bits() {
                return one;
            }
            let (low, high) = (one.min(two), one.max(two));
            (share * one.ln_1p() + (1.0 - share) * two.ln_1p()).exp_m1().clamp(low, high)
        })
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
        between(values, at)
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

/// The load that the share `at` of the `sorted` ones does not exceed, on the line between neighbours on the log scale: half-way
/// from nothing to one burst of thousands is no load that anybody expects.
fn between(sorted: &[f64], at: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = at.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the last index")]
    let below = place as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    let part = place - below as f64;
    // Equal loads are common, and are said exactly.
    if low.to_bits() == high.to_bits() || part <= 0.0 {
        return low;
    }
    (low.ln_1p() + (high.ln_1p() - low.ln_1p()) * part).exp_m1().clamp(low, high)
}

/// A path for each earlier origin, in their order; those without errors of their own have another one's. None when too few
/// have.
fn with_errors(
    series: &Series,
    walk: &Walk,
    earlier: &[i64],
    path: &[f32],
    ceilings: &[f32],
) -> Option<Vec<f64>> {
    let horizon = path.len();
    let mut errors = Vec::with_capacity(earlier.len() * horizon);
    let mut rows = Vec::with_capacity(earlier.len());
    for &origin in earlier {
        let begin = errors.len();
        let mut error = f32::NAN;
        for (hour, said) in (origin..).zip(walk.path(origin).unwrap_or(&[])) {
            let was = series.at(hour);
            // In a gap, the error of the hour before goes on.
            error = if was.is_nan() { error } else { was - said };
            errors.push(if error.is_nan() { 0.0 } else { error });
        }
        if error.is_nan() {
            errors.truncate(begin);
        }
        rows.push((errors.len() > begin).then_some(begin));
    }
    let own: Vec<usize> = rows.iter().flatten().copied().collect();
    if own.len() < PATHS_MIN {
        return None;
    }
    let middles = middles(&errors, horizon);
    let mut paths = Vec::with_capacity(rows.len() * horizon);
    for (index, row) in rows.iter().enumerate() {
        let errors = &errors[row.unwrap_or(own[index % own.len()])..][..horizon];
        let hours = path.iter().zip(errors).zip(&middles).zip(ceilings);
        paths.extend(
            hours.map(|(((value, error), middle), ceiling)| to_load((value + error - middle).min(*ceiling))),
        );
    }
    Some(paths)
}

/// The median error of each hour.
fn middles(errors: &[f32], horizon: usize) -> Vec<f32> {
    let mut of_hour = Vec::with_capacity(errors.len() / horizon);
    let hours = (0..horizon).map(|hour| {
        of_hour.clear();
        of_hour.extend(errors[hour..].iter().step_by(horizon).copied());
        let middle = of_hour.len() / 2;
        let (below, &mut upper, _) = of_hour.select_nth_unstable_by(middle, f32::total_cmp);
        let lower = below.iter().copied().max_by(f32::total_cmp);
        // Of an even number, between the middle two.
        lower
            .filter(|_| (errors.len() / horizon).is_multiple_of(2))
            .map_or(upper, |lower| f32::midpoint(lower, upper))
    });
    hours.collect()
}

/// As if any known hour could come again, all day, in so many paths; nothing at all of a series of which nothing is known.
fn own_hours(series: &Series, origin: i64, horizon: usize, count: usize) -> Vec<f64> {
    let known = series.before(origin).iter().rev().take(MEMORY).filter(|value| !value.is_nan());
    let known: Vec<f32> = known.copied().collect();
    // A walk that has only begun says nothing of how many there should be.
    let count = if count < PATHS_MIN { known.len().max(1) } else { count };
    let chosen = (0..count).map(|path| known.get(path * known.len() / count).copied().unwrap_or(0.0));
    chosen.flat_map(|value| std::iter::repeat_n(to_load(value), horizon)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_paths(values: [f64; 4]) -> Scenarios {
        Scenarios::of_paths(values.to_vec(), 2)
    }

    #[test]
    fn a_sum_keeps_paths_together() {
        let (rises, falls) = (two_paths([1.0, 5.0, 9.0, 9.0]), two_paths([9.0, 0.0, 1.0, 2.0]));
        let sum = Scenarios::sum(&[rises, falls]).unwrap();
        assert_eq!(
            (sum.quantile(0, 0.0), sum.quantile(0, 1.0)),
            (10.0, 10.0),
            "one is high when the other is low"
        );
        assert_eq!((sum.quantile(1, 0.0), sum.quantile(1, 1.0)), (5.0, 11.0));
    }

    #[test]
    fn shuffled_paths_keep_each_hour_and_nothing_of_what_goes_together() {
        let paths: Vec<f64> = (0..200_u8).flat_map(|path| [f64::from(path); 4]).collect();
        let linked = Scenarios::of_paths(paths, 4);
        let unlinked = linked.shuffled(&mut fastrand::Rng::with_seed(1));
        assert_eq!(linked.sorted, unlinked.sorted);
        let width = |scenarios: &Scenarios| {
            let total = scenarios.total(&[true, true, false, true]);
            total.quantile(0, 0.9) - total.quantile(0, 0.1)
        };
        // Of three hours alike, three times as wide as one; of three that are independent, the root of that.
        assert!((width(&linked) - 3.0 * 0.8 * 200.0).abs() < 10.0, "{}", width(&linked));
        assert!((200.0..350.0).contains(&width(&unlinked)), "{}", width(&unlinked));
    }

    #[test]
    fn half_way_to_a_lone_burst_is_on_the_log_scale_and_equal_loads_are_said_exactly() {
        let idle = 0.3;
        let scenarios = Scenarios::of_paths([vec![idle; 3], vec![9999.0]].concat(), 1);
        // Three quarters of the way from the third to the fourth of the four, as (4 + 1) * 0.75 = 3.75.
        let expected = ((1.0 + idle).ln() * 0.25 + 10_000.0_f64.ln() * 0.75).exp() - 1.0;
        assert!((scenarios.quantile(0, 0.75) - expected).abs() < 1e-6 * expected);
        assert_eq!((scenarios.quantile(0, 0.5), scenarios.quantile(0, 1.0)), (idle, 9999.0));
        let huge = Scenarios::of_paths(vec![0.0, LOAD_MAX], 1);
        assert!((0..=100).all(|at| (0.0..=LOAD_MAX).contains(&huge.quantile(0, f64::from(at) / 100.0))));
    }

    #[test]
    fn paths_of_different_grids_have_no_sum() {
        let (two, one) = (two_paths([1.0; 4]), Scenarios::of_paths(vec![1.0; 2], 2));
        assert_eq!(Scenarios::sum(&[two, one]), None);
        assert_eq!(Scenarios::sum(&[]), None);
    }

    #[test]
    fn recalibrated_paths_keep_their_ranks_and_their_median() {
        let wide: Vec<f64> = (0..99_u16).map(|value| f64::from((value * 37) % 99)).collect();
        let scenarios = Scenarios::of_paths(wide, 1);
        // Half of what was, was in the middle fifth.
        let places = (0..10_000).map(|i| {
            let draw = f64::from(i) / 10_000.0;
            if i % 2 == 0 { 0.4 + 0.2 * draw } else { draw }
        });
        let recalibration = Recalibration::learn(places.map(|place| (0, place)));
        let narrow = scenarios.recalibrated(&recalibration);
        assert!((narrow.quantile(0, 0.5) - scenarios.quantile(0, 0.5)).abs() < 1.0);
        assert!(narrow.quantile(0, 0.7) < scenarios.quantile(0, 0.7) - 5.0);
        for (one, other) in [(3, 50), (70, 12), (98, 0)] {
            let order = |s: &Scenarios| s.paths[one].total_cmp(&s.paths[other]);
            assert_eq!(order(&scenarios), order(&narrow));
        }
    }

    #[test]
    fn a_lone_burst_is_averaged_down_and_no_rarer_and_what_both_say_is_said() {
        let burst = |load: f64| Scenarios::of_paths([vec![0.0; 58], vec![load; 2]].concat(), 1);
        let averaged = burst(9999.0).averaged(&burst(99.0), 0.5);
        assert_eq!((averaged.quantile(0, 0.9), averaged.quantile(0, 1.0).round()), (0.0, 999.0));
        // One in thirty, and what lies between the last path at rest and the first that is not.
        let bursts = averaged.paths.iter().filter(|&&load| load > 0.0).count() as f64;
        assert!((0.03..0.05).contains(&(bursts / averaged.count() as f64)), "{bursts}");
        assert_eq!(burst(7.3).averaged(&burst(7.3), 0.2).quantile(0, 1.0), 7.3);
        assert_eq!(burst(7.0).averaged(&burst(9.0), 1.0), burst(7.0));
    }

    #[test]
    fn own_hours_are_not_moved_by_what_errors_were_worth() {
        let mut young = Series::new(0);
        (0..48_u8).for_each(|hour| young.set(i64::from(hour), f64::from(hour)).unwrap());
        let plan = crate::auto::plan(48, 48, 24);
        let walk = Walk::run(&crate::SeasonalNaive::DAILY, &young, &crate::walk::NoRegressors, plan);
        let said = Scenarios::new(&young, &walk, 48);
        let places = (0..10_000).map(|i| (0, 0.45 + 0.1 * f64::from(i) / 10_000.0));
        let narrow = Recalibration::learn(places);
        assert_eq!(said.recalibrated(&narrow), said);
        assert!(said.quantile(3, 0.9) > 40.0, "{}", said.quantile(3, 0.9));
    }

    #[test]
    fn what_fell_outside_of_all_paths_is_within_a_recalibrated_interval() {
        let scenarios = Scenarios::of_paths((100..199_u8).map(f64::from).collect(), 1);
        // A tenth fell below and above all of them.
        let places = (0..10_000).map(|i| match (i % 20, f64::from(i) / 10_000.0) {
            (0, draw) => 0.005 * draw,
            (1, draw) => 1.0 - 0.005 * draw,
            (_, draw) => draw,
        });
        let wide = scenarios.recalibrated(&Recalibration::learn(places.map(|place| (0, place))));
        assert!(wide.quantile(0, 0.02) < 100.0 && wide.quantile(0, 0.98) > 198.0, "{wide:?}");
        assert!(wide.sorted.is_sorted() && (wide.quantile(0, 0.5) - 149.0).abs() < 1.0);
    }
}
