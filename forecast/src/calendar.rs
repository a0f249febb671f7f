//! Where an hour stands in its day and its week, as smooth periodic columns.

use std::f64::consts::TAU;

use crate::{DAY, WEEK};

/// How finely the day and the week are drawn: each harmonic is a sine and a cosine.
///
/// Harmonics of the week that are multiples of seven are the day's, and are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Harmonics {
    /// Sine and cosine pairs over 24 hours; 12 draws every hour apart.
    pub daily: usize,
    /// Sine and cosine pairs over 168 hours.
    pub weekly: usize,
}

impl Harmonics {
    pub(crate) fn columns(self) -> usize {
        2 * (self.daily + self.weekly)
    }

    /// Writes the columns of the hour with this index (Unix hours).
    pub(crate) fn fill(self, hour: i64, row: &mut [f64]) {
        debug_assert_eq!(row.len(), self.columns());
        let (daily, weekly) = row.split_at_mut(2 * self.daily);
        let weekly_orders = (1..).filter(|order| order % 7 != 0);
        fill_period(hour, DAY, 1.., daily);
        fill_period(hour, WEEK, weekly_orders, weekly);
    }
}

fn fill_period(hour: i64, period: usize, orders: impl Iterator<Item = i64>, row: &mut [f64]) {
    let period = period as i64;
    for (pair, order) in row.chunks_exact_mut(2).zip(orders) {
        // Reduced in whole numbers, so that the angle is exact however large the hour is.
        let angle = TAU * (hour.rem_euclid(period) * order % period) as f64 / period as f64;
        pair.copy_from_slice(&[angle.sin(), angle.cos()]);
    }
}
