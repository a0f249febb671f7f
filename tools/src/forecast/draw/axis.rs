//! Axes: where a load lies, round numbers, and dates.

use foreshard_forecast::DAY;

/// The axis of loads, from zero up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Axis {
    top: f64,
    /// Log1p, so that zero has a place: beside a burst, usual hours would not be seen on an even axis.
    is_log: bool,
}

/// A load so many times the usual one makes an axis logarithmic.
const BURST: f64 = 30.0;
/// Values that are written beside an axis, at most and about.
const TICKS: usize = 6;

impl Axis {
    /// For loads up to `highest`, of which `usual` is the median.
    pub(super) fn new(highest: f64, usual: f64) -> Self {
        let top = round_up(highest);
        Self { top, is_log: top > BURST * (1.0 + usual) }
    }

    pub(super) const fn is_log(self) -> bool {
        self.is_log
    }

    /// How high a load lies, of the axis' height; more than one above it.
    pub(super) fn share(self, load: f64) -> f64 {
        let load = load.max(0.0);
        if self.is_log { load.ln_1p() / self.top.ln_1p() } else { load / self.top }
    }

    /// Round loads to be written beside it, from zero up.
    pub(super) fn ticks(self) -> Vec<f64> {
        if !self.is_log {
            return (0..TICKS).map(|tick| self.top * tick as f64 / (TICKS - 1) as f64).collect();
        }
        let powers: Vec<f64> =
            (0..).map(|power| 10_f64.powi(power)).take_while(|load| *load <= self.top).collect();
        let step = powers.len().div_ceil(TICKS);
        std::iter::once(0.0).chain(powers.into_iter().step_by(step)).collect()
    }
}

/// The least round number that is not below: 1, 2, 2.5, 5 or 10 times a power of ten.
fn round_up(load: f64) -> f64 {
    if load <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(load.log10().floor());
    let digit = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|digit| digit * power >= load);
    digit.unwrap_or(10.0) * power
}

/// A load in as few characters as tell it: 0, 0.25, 40, 2.5k, 10M.
pub(super) fn short(load: f64) -> String {
    let units = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (divisor, unit) = units.into_iter().find(|unit| load >= unit.0).unwrap_or((1.0, ""));
    let text = format!("{:.3}", load / divisor);
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The day that an hour begins, as month and day of a calendar or as a number; none within a day.
pub(super) fn day(hour: i64, is_dated: bool) -> Option<String> {
    if hour.rem_euclid(DAY as i64) != 0 {
        return None;
    }
    let day = hour.div_euclid(DAY as i64);
    if !is_dated {
        return Some(format!("day {day}"));
    }
    let (month, of_month) = month_and_day(day);
    Some(format!("{month:02}-{of_month:02}"))
}

/// Of days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March, so that leap days are last.
fn month_and_day(days: i64) -> (i64, i64) {
    let from_march = days + 719_468;
    let of_era = from_march.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 }, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (day, date) in
            [(0, (1, 1)), (58, (2, 28)), (59, (3, 1)), (789, (2, 29)), (15_887, (7, 1)), (-1, (12, 31))]
        {
            assert_eq!(month_and_day(day), date, "day {day}");
        }
        assert_eq!(
            (day(24, true).as_deref(), day(25, true), day(48, false).as_deref()),
            (Some("01-02"), None, Some("day 2"))
        );
    }

    #[test]
    fn numbers_are_round_and_short() {
        for (load, up, text) in [
            (0.0, 1.0, "1"),
            (3.0, 5.0, "5"),
            (2100.0, 2500.0, "2.5k"),
            (1e9, 1e9, "1G"),
            (0.21, 0.25, "0.25"),
        ] {
            assert!((round_up(load) / up - 1.0).abs() < 1e-9, "{load}: {}", round_up(load));
            assert_eq!(short(up), text);
        }
        assert_eq!(short(0.0), "0");
    }
}
