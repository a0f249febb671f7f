//! What is known of an entity from a few hours, as numbers that mean the same for every entity: differences from its level.

use super::shape::Shapes;
use crate::Series;
use crate::series::DAY;

/// What a coming hour is made of; see [`Window::features`].
pub(super) const FEATURES: usize = 12;
/// On the log scale: added to how restless a load is, so that a constant one has a scale too.
const SCALE_MIN: f32 = 0.05;

/// The hours of one entity before an origin.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Oldest first.
    values: Vec<f32>,
    level: f32,
    scale: f32,
    highest: f32,
    horizon: usize,
    /// For each hour ahead: the shape of alike entities, in units of the scale, and that of the week of all.
    alike: Vec<f32>,
    weekly: Vec<f32>,
}

impl Window {
    /// The `age` hours before `origin`; none if there is none, except at age zero, when nothing is known of anybody.
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
        let highest = values.iter().copied().fold(level, f32::max);
        let differences: Vec<f32> = values.iter().map(|value| (value - level) / scale).collect();
        let alike = shapes.alike(first, &differences, donor);
        let alike = (origin..).take(horizon).map(|hour| alike[of_day(hour)]).collect();
        let weekly = (origin..).take(horizon).map(|hour| shapes.weekly(hour)).collect();
        Some(Self { values, level, scale, highest, horizon, alike, weekly })
    }

    pub(super) const fn level(&self) -> f32 {
        self.level
    }

    pub(super) const fn scale(&self) -> f32 {
        self.scale
    }

    /// A value's difference from the level, in units of the scale.
    pub(super) fn deviation(&self, value: f32) -> f32 {
        (value - self.level) / self.scale
    }

    /// Back from [`Self::deviation`].
    pub(super) fn value(&self, deviation: f32) -> f32 {
        self.level + self.scale * deviation
    }

    /// The shape of alike entities on the own level.
    pub(super) fn shape(&self, lead: usize) -> f32 {
        self.value(self.alike[lead])
    }

    /// Of the hour that is `lead` after the first unknown one. What is not known is zero: nothing out of the ordinary.
    pub(super) fn features(&self, lead: usize) -> [f32; FEATURES] {
        debug_assert!(lead < self.horizon, "within the horizon");
        let same = self.same_hour(lead, 0);
        let around = [self.same_hour(lead, -1), self.same_hour(lead, 1)].concat();
        [
            1.0,
            self.alike[lead],
            self.weekly[lead] / self.scale,
            self.deviation_of(&same),
            same.last().map_or(0.0, |&last| self.deviation(last)),
            self.deviation_of(&around),
            self.deviation_of(self.last(1)),
            self.deviation_of(self.last(3)),
            self.deviation_of(self.last(8)),
            self.deviation_of(self.last(DAY)),
            self.level / self.scale,
            self.deviation(self.highest),
        ]
    }

    /// Of the mean of what is known.
    fn deviation_of(&self, values: &[f32]) -> f32 {
        mean(values).map_or(0.0, |mean| self.deviation(mean))
    }

    fn last(&self, hours: usize) -> &[f32] {
        &self.values[self.values.len().saturating_sub(hours)..]
    }

    /// The known values at the same hour of the day, oldest first; `shift` hours after it.
    fn same_hour(&self, lead: usize, shift: isize) -> Vec<f32> {
        let at = (self.values.len() + lead).saturating_add_signed(shift);
        let hours = (at % DAY..self.values.len()).step_by(DAY);
        hours.map(|hour| self.values[hour]).filter(|value| !value.is_nan()).collect()
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
