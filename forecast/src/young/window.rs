//! What is known of an entity from a few hours, as numbers that mean the same for every entity.
//!
//! Loads differ by orders of magnitude, rest at one value for most hours, and come in bursts. What they have in common is
//! where among an entity's own hours a coming one falls: its rank. An entity that is always zero is forecast to be zero
//! whatever others do, and one of two levels to be at either.

use super::shape::Shapes;
use crate::Series;
use crate::series::DAY;

/// What a coming hour is made of; see [`Window::features`].
pub(super) const FEATURES: usize = 12;
/// On the log scale: added to how restless a load is, so that a constant one has a scale too.
const SCALE_MIN: f32 = 0.01;
/// Log loads are a few of it.
const LEVEL_UNIT: f32 = 5.0;

/// The hours of one entity before an origin.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Ranks of the hours, oldest first.
    ranks: Vec<f32>,
    own: Own,
    level: f32,
    scale: f32,
    horizon: usize,
    /// For each hour ahead: the shape of alike entities, in units of the scale, and that of the week of all.
    alike: Vec<f32>,
    weekly: Vec<f32>,
}

impl Window {
    /// The `age` hours before `origin`; none if none of them is known, except at age zero, when nothing is of anybody.
    ///
    /// `donor`: that entity's own shape is not looked at.
    pub(super) fn new(
        series: &Series,
        origin: i64,
        age: usize,
        horizon: usize,
        shapes: &Shapes,
        donor: Option<usize>,
    ) -> Option<Self> {
        let first = origin - age as i64;
        let values: Vec<f32> = (first..origin).map(|hour| series.at(hour)).collect();
        let level = mean(&values).or_else(|| (age == 0).then_some(0.0))?;
        let distance = values.iter().map(|value| (value - level).abs());
        let scale = mean(&distance.collect::<Vec<f32>>()).unwrap_or(1.0) + SCALE_MIN;
        let differences: Vec<f32> = values.iter().map(|value| (value - level) / scale).collect();
        let alike = shapes.alike(first, &differences, donor);
        let alike = (origin..).take(horizon).map(|hour| alike[of_day(hour)]).collect();
        let weekly = (origin..).take(horizon).map(|hour| shapes.weekly(hour)).collect();
        let own = Own::new(&values, scale);
        let ranks = values.iter().map(|&value| own.rank(value)).collect();
        Some(Self { ranks, own, level, scale, horizon, alike, weekly })
    }

    pub(super) const fn level(&self) -> f32 {
        self.level
    }

    pub(super) const fn scale(&self) -> f32 {
        self.scale
    }

    /// See [`Own::rank`].
    pub(super) fn rank(&self, value: f32) -> f32 {
        self.own.rank(value)
    }

    /// Back from a rank; what lies outside of the own hours is measured in `scale`.
    pub(super) fn value(&self, rank: f32, scale: f32) -> f32 {
        self.own.value(rank, scale)
    }

    /// The shape of alike entities on the own level.
    pub(super) fn shape(&self, lead: usize) -> f32 {
        self.level + self.scale * self.alike[lead]
    }

    /// Of the hour that is `lead` after the first unknown one. What is not known is zero: nothing out of the ordinary.
    pub(super) fn features(&self, lead: usize) -> [f32; FEATURES] {
        debug_assert!(lead < self.horizon, "within the horizon");
        let mean = |ranks: &[f32]| mean(ranks).unwrap_or(0.0);
        let same = self.same_hour(lead, 0);
        let around = [self.same_hour(lead, -1), self.same_hour(lead, 1)].concat();
        [
            1.0,
            self.rank(self.shape(lead)),
            self.rank(self.level + self.weekly[lead]),
            mean(&same),
            same.last().copied().unwrap_or(0.0),
            mean(&around),
            mean(self.last(1)),
            mean(self.last(3)),
            mean(self.last(8)),
            mean(self.last(DAY)),
            self.level / LEVEL_UNIT,
            self.rank(self.level),
        ]
    }

    fn last(&self, hours: usize) -> &[f32] {
        &self.ranks[self.ranks.len().saturating_sub(hours)..]
    }

    /// The known ranks at the same hour of the day, oldest first; `shift` hours after it.
    fn same_hour(&self, lead: usize, shift: isize) -> Vec<f32> {
        let at = (self.ranks.len() + lead).saturating_add_signed(shift);
        let hours = (at % DAY..self.ranks.len()).step_by(DAY);
        hours.map(|hour| self.ranks[hour]).filter(|rank| !rank.is_nan()).collect()
    }
}

/// The distribution of an entity's own hours.
#[derive(Clone, Debug)]
struct Own {
    sorted: Vec<f32>,
    /// What lies outside is measured in it.
    scale: f32,
}

impl Own {
    fn new(values: &[f32], scale: f32) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        Self { sorted, scale }
    }

    /// Where among the own hours a value lies: -0.5 is the lowest, 0.5 the highest, and beyond them a unit of the scale
    /// is one. A value that is there several times is in the middle of them. NaN of NaN.
    fn rank(&self, value: f32) -> f32 {
        let (Some(&low), Some(&high)) = (self.sorted.first(), self.sorted.last()) else {
            return value / self.scale;
        };
        let last = (self.sorted.len() - 1).max(1) as f32;
        if value < low {
            (value - low) / self.scale - 0.5
        } else if value > high {
            (value - high) / self.scale + 0.5
        } else if value.is_nan() {
            value
        } else if low >= high {
            0.0
        } else {
            let below = self.sorted.partition_point(|&other| other < value);
            let upto = self.sorted.partition_point(|&other| other <= value);
            if upto > below {
                (below + upto - 1) as f32 / 2.0 / last - 0.5
            } else {
                let (before, after) = (self.sorted[below - 1], self.sorted[below]);
                ((below - 1) as f32 + (value - before) / (after - before)) / last - 0.5
            }
        }
    }

    /// Back from [`Self::rank`], where a unit outside is `scale`.
    fn value(&self, rank: f32, scale: f32) -> f32 {
        let (Some(&low), Some(&high)) = (self.sorted.first(), self.sorted.last()) else {
            return rank * scale;
        };
        if rank < -0.5 {
            low + (rank + 0.5) * scale
        } else if rank > 0.5 {
            high + (rank - 0.5) * scale
        } else {
            let place = (rank + 0.5) * (self.sorted.len() - 1) as f32;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to the last index"
            )]
            let below = place.floor().max(0.0) as usize;
            let above = (below + 1).min(self.sorted.len() - 1);
            self.sorted[below] + (self.sorted[above] - self.sorted[below]) * (place - below as f32)
        }
    }
}

pub(super) fn of_day(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(DAY as i64)).unwrap_or(0)
}

/// Of the known values.
pub(super) fn mean(values: &[f32]) -> Option<f32> {
    let known = values.iter().filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0.0_f32), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::Own;

    #[test]
    fn ranks_and_values_go_back_and_forth() {
        let own = Own::new(&[3.0, f32::NAN, 1.0, 1.0, 5.0, 1.0, 4.0], 2.0);
        for (value, rank) in [(1.0, -0.3), (3.0, 0.1), (3.5, 0.2), (5.0, 0.5), (7.0, 1.5), (0.0, -1.0)] {
            assert!((own.rank(value) - rank).abs() < 1e-6, "{value}: {}", own.rank(value));
            assert!((own.value(rank, 2.0) - value).abs() < 1e-6, "{rank}: {}", own.value(rank, 2.0));
        }
        assert_eq!(own.value(-0.15, 2.0), 1.0, "among equal values");
        assert!(own.rank(f32::NAN).is_nan());
        let constant = Own::new(&[7.0; 5], 0.5);
        assert_eq!((constant.rank(7.0), constant.rank(8.0), constant.rank(6.0)), (0.0, 2.5, -2.5));
        assert_eq!((constant.value(0.3, 0.5), constant.value(1.5, 0.5)), (7.0, 7.5));
        let nothing = Own::new(&[], 1.0);
        assert_eq!((nothing.rank(2.0), nothing.value(2.0, 1.0)), (2.0, 2.0));
    }
}
