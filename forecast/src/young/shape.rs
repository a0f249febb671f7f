//! How the days of older entities go, and whose go like those of a young one.

use super::window::{mean, of_day};
use crate::series::{DAY, Series, WEEK};

/// Days that shapes are taken from.
const SHAPE_DAYS: i64 = 28;
/// Of how many entities the shape is averaged: those most alike.
const ALIKE: usize = 20;
/// Hours of the window below which nobody is more alike than others.
const HOURS_MIN: usize = 6;
/// On the log scale: added to how restless a load is.
const SCALE_MIN: f32 = 0.05;

/// The daily shape of each entity, and the weekly one of all.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    /// Differences from the entity's level, in units of its scale.
    daily: Vec<[f32; DAY]>,
    /// Differences on the log scale, averaged over entities.
    weekly: Vec<f32>,
}

impl Shapes {
    pub(super) fn learn(donors: &[&Series], origin: i64) -> Self {
        let first = origin - SHAPE_DAYS * DAY as i64;
        let mut daily = Vec::with_capacity(donors.len());
        let mut weekly = vec![(0.0, 0.0_f32); WEEK];
        for series in donors {
            let values: Vec<f32> = (first..origin).map(|hour| series.at(hour)).collect();
            let level = mean(&values).unwrap_or(0.0);
            let distances: Vec<f32> = values.iter().map(|value| (value - level).abs()).collect();
            let scale = mean(&distances).unwrap_or(0.0) + SCALE_MIN;
            let mut sums = [(0.0, 0.0_f32); DAY];
            for (hour, value) in (first..).zip(&values).filter(|hour| !hour.1.is_nan()) {
                for (sum, count) in [&mut sums[of_day(hour)], &mut weekly[of_week(hour)]] {
                    *sum += value - level;
                    *count += 1.0;
                }
            }
            daily.push(sums.map(|(sum, count)| sum / count.max(1.0) / scale));
        }
        Self { daily, weekly: weekly.into_iter().map(|(sum, count)| sum / count.max(1.0)).collect() }
    }

    /// The mean shape of those whose days go most like `differences`, hours from `first` on; `but` is not looked at.
    pub(super) fn alike(&self, first: i64, differences: &[f32], but: Option<usize>) -> [f32; DAY] {
        let mut days = [(0.0, 0.0_f32); DAY];
        for (hour, difference) in (first..).zip(differences).filter(|hour| !hour.1.is_nan()) {
            let (sum, count) = &mut days[of_day(hour)];
            *sum += difference;
            *count += 1.0;
        }
        let known = days.iter().filter(|day| day.1 > 0.0).count();
        let distance = |shape: &[f32; DAY]| -> f32 {
            let hours = days.iter().zip(shape).filter(|hour| hour.0.1 > 0.0);
            hours.map(|((sum, count), shape)| (sum / count - shape).abs()).sum()
        };
        // Of one of whom too little is known, it is that of all; all windows of that age are then equally like it.
        let tells = known >= HOURS_MIN;
        let others = self.daily.iter().enumerate().filter(|(donor, _)| !tells || Some(*donor) != but);
        let mut others: Vec<(f32, &[f32; DAY])> = others.map(|(_, shape)| (distance(shape), shape)).collect();
        if tells && others.len() > ALIKE {
            others.select_nth_unstable_by(ALIKE, |a, b| a.0.total_cmp(&b.0));
            others.truncate(ALIKE);
            // The order of those kept is unspecified, and sums depend on it.
            others.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let mut shape = [0.0; DAY];
        for (_, of) in &others {
            for (sum, value) in shape.iter_mut().zip(*of) {
                *sum += value / others.len() as f32;
            }
        }
        shape
    }

    pub(super) fn weekly(&self, hour: i64) -> f32 {
        self.weekly[of_week(hour)]
    }
}

fn of_week(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(WEEK as i64)).unwrap_or(0)
}
