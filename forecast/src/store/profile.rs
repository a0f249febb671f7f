//! What an entity is like: a typical load for each hour of the day on weekdays, Saturdays and Sundays, and how far hours
//! lie from it. 1 KiB for all metrics, whatever the entity's age.
//!
//! Hours of the week would be 168: at 16 bits twice the room there is, and at 8 bits a step is 18 %, so that a slow mean
//! would not move at all; each would also be seen once a week, where an hour of weekdays is seen five times. Days are those
//! of UTC: far from there a weekend begins some hours early or late.
//!
//! A level is an exponentially forgetting mean on the log scale, plain at first: it is close to the median, and a burst
//! moves it little. It rests within half a step over the rate of a steady load, 0.13 %.

use super::ring::Codes;
use super::scale::{self, GAP};
use super::{EntityId, METRICS, Metric};
use crate::series::{DAY, to_load};

/// Of weekdays, Saturday, Sunday.
const CLASSES: usize = 3;
const SLOTS: usize = CLASSES * DAY;
/// Spreads are kept for so many hours of the day together.
const BLOCK_HOURS: usize = 6;
const BLOCKS: usize = DAY / BLOCK_HOURS;
/// A week's five weekdays leave a quarter of what was, a weekend half. Slower rates did worse on two traces' hours 63 to 42 days
/// before their end: forgetting by half in two weeks by a tenth.
const RATES: [f32; CLASSES] = [0.25, 0.5, 0.5];
/// Of spreads, which see six hours a day: about four days.
const SPREAD_RATE: f32 = 1.0 / 32.0;
/// No ring.
pub(super) const NO_RING: u32 = u32::MAX;

/// An entity's profile. Field by field so that it fills its 1 KiB, what an hour touches in three places.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Profile {
    pub(super) entity: EntityId,
    /// Stored bytes when they were last known; NaN if never.
    pub(super) stored: f64,
    /// When that was.
    pub(super) stored_hour: i64,
    /// The hour after the last one.
    pub(super) next: i64,
    /// Hours of which something was known.
    pub(super) known: u32,
    /// Where its ring is.
    pub(super) ring: u32,
    spreads: [Codes; BLOCKS],
    /// How often each slot was seen; no more than a rate can tell apart.
    seen: [u8; SLOTS],
    levels: [Codes; SLOTS],
}

/// What a profile may take.
pub(super) const BYTES: usize = 1024;
const _: () = assert!(size_of::<Profile>() == BYTES, "a tracked entity takes 1 KiB");

impl Profile {
    pub(super) const fn new(entity: EntityId) -> Self {
        Self {
            entity,
            stored: f64::NAN,
            stored_hour: 0,
            next: i64::MIN,
            known: 0,
            ring: NO_RING,
            spreads: [[GAP; METRICS]; BLOCKS],
            seen: [0; SLOTS],
            levels: [[GAP; METRICS]; SLOTS],
        }
    }

    /// Takes an hour.
    pub(super) fn learn(&mut self, hour: i64, codes: Codes) {
        self.next = hour + 1;
        if codes.iter().all(|&code| code == GAP) {
            return;
        }
        let (class, of_day) = place(hour);
        let slot = class * DAY + of_day;
        let rate = RATES[class].max(1.0 / (f32::from(self.seen[slot]) + 1.0));
        // Of the hours that a spread is of, a fourth of all.
        let spread_rate = SPREAD_RATE.max(1.0 / (1.0 + self.known as f32 / BLOCKS as f32));
        for (metric, &code) in codes.iter().enumerate().filter(|pair| *pair.1 != GAP) {
            let level = &mut self.levels[slot][metric];
            if *level == GAP {
                *level = code;
                continue;
            }
            let spread = &mut self.spreads[of_day / BLOCK_HOURS][metric];
            let distance = code.abs_diff(*level);
            *spread = if *spread == GAP { distance } else { towards(*spread, distance, spread_rate) };
            *level = towards(*level, code, rate);
        }
        self.seen[slot] = self.seen[slot].saturating_add(1);
        self.known = self.known.saturating_add(1);
    }

    pub(super) fn level(&self, metric: Metric, hour: i64) -> u16 {
        let (class, of_day) = place(hour);
        let own = self.levels[class * DAY + of_day][metric as usize];
        if own != GAP {
            return own;
        }
        // A day of the week that was not seen is like the others.
        let others = (0..CLASSES).map(|class| self.levels[class * DAY + of_day][metric as usize]);
        others.into_iter().find(|&level| level != GAP).unwrap_or(GAP)
    }

    fn spread(&self, metric: Metric, hour: i64) -> u16 {
        self.spreads[place(hour).1 / BLOCK_HOURS][metric as usize]
    }
}

/// What an entity is like.
#[derive(Clone, Copy, Debug)]
pub struct Typical<'a> {
    profile: &'a Profile,
}

impl<'a> Typical<'a> {
    pub(super) const fn new(profile: &'a Profile) -> Self {
        Self { profile }
    }

    /// The typical load of an hour like this one; for stored bytes the growth in it. None if no such hour was seen.
    #[must_use]
    pub fn level(&self, metric: Metric, hour: i64) -> Option<f64> {
        Some(scale::value(metric, self.profile.level(metric, hour))).filter(|level| !level.is_nan())
    }

    /// How far such hours lie from it on average, on the log1p scale. None before an hour came again.
    #[must_use]
    pub fn spread(&self, metric: Metric, hour: i64) -> Option<f64> {
        let spread = self.profile.spread(metric, hour);
        (spread != GAP).then(|| f64::from(scale::distance(metric, spread)))
    }

    /// The load that the share `at` of such hours does not exceed, as if hours lay around the level as a Laplace
    /// distribution does on the log1p scale, whose mean distance the spread is. Not of stored bytes, whose growth has a sign.
    #[must_use]
    pub fn quantile(&self, metric: Metric, hour: i64, at: f64) -> Option<f64> {
        if metric == Metric::StoredBytes {
            return None;
        }
        let level = f64::from(scale::log(self.profile.level(metric, hour)));
        let from_median = at.clamp(QUANTILE_MIN, 1.0 - QUANTILE_MIN) - 0.5;
        let away = -from_median.signum() * (1.0 - 2.0 * from_median.abs()).ln();
        let log = level + away * self.spread(metric, hour).unwrap_or(0.0);
        (!level.is_nan()).then(|| to_load(crate::narrow(log.max(0.0))))
    }

    /// Hours of which something was known.
    #[must_use]
    pub const fn known_hours(&self) -> u32 {
        self.profile.known
    }

    /// Stored bytes when they were last known.
    #[must_use]
    pub fn stored_bytes(&self) -> Option<f64> {
        Some(self.profile.stored).filter(|stored| !stored.is_nan())
    }
}

/// A few weeks say nothing of what is rarer.
const QUANTILE_MIN: f64 = 0.001;

fn towards(from: u16, to: u16, rate: f32) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two codes")]
    let moved = (f32::from(from) + rate * (f32::from(to) - f32::from(from))).round() as u16;
    moved
}

/// Which kind of day an hour (Unix hours) belongs to, and which hour of it.
fn place(hour: i64) -> (usize, usize) {
    /// The first day of Unix time was a Thursday.
    const CLASS_OF_DAY: [usize; 7] = [0, 0, 1, 2, 0, 0, 0];
    let day = hour.div_euclid(DAY as i64).rem_euclid(7);
    let of_day = hour.rem_euclid(DAY as i64);
    (CLASS_OF_DAY[usize::try_from(day).unwrap_or(0)], usize::try_from(of_day).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(load: f64) -> Codes {
        let mut codes = [GAP; METRICS];
        codes[Metric::Reads as usize] = scale::code(Metric::Reads, load);
        codes
    }

    #[test]
    fn weekends_are_learnt_apart_from_weekdays() {
        // Hour 48 was a Saturday's first.
        let mut profile = Profile::new(EntityId(1));
        for hour in 0..28 * DAY as i64 {
            let weekend = matches!(hour.div_euclid(24).rem_euclid(7), 2 | 3);
            let load = if hour % 24 == 9 && !weekend { 1000.0 } else { 10.0 };
            profile.learn(hour, reads(load));
        }
        let typical = Typical::new(&profile);
        let at = |day: i64, hour: i64| typical.level(Metric::Reads, day * 24 + hour).unwrap();
        for (day, hour, load) in [(4, 9, 1000.0), (4, 8, 10.0), (2, 9, 10.0), (3, 9, 10.0), (8, 9, 1000.0)] {
            assert!((at(day, hour) / load - 1.0).abs() < 0.01, "day {day}, hour {hour}: {}", at(day, hour));
        }
        assert!(typical.spread(Metric::Reads, 9).unwrap() < 0.01);
    }

    #[test]
    fn a_week_leaves_a_quarter_of_weekdays_and_half_of_weekends() {
        let mut profile = Profile::new(EntityId(1));
        let change = 63 * DAY as i64;
        for hour in 0..change + 7 * DAY as i64 {
            profile.learn(hour, reads(if hour < change { 100.0 } else { 10_000.0 }));
        }
        for day in 0..7 {
            let left = if matches!(day, 2 | 3) { 0.5 } else { 0.237 };
            let level = Typical::new(&profile).level(Metric::Reads, change + day * 24 + 5).unwrap();
            let log = left * 101_f64.ln() + (1.0 - left) * 10_001_f64.ln();
            assert!((level.ln_1p() - log).abs() < 0.01, "day {day}: {level}");
        }
    }

    #[test]
    fn quantiles_hold_what_they_say_of_laplacian_noise() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut profile = Profile::new(EntityId(1));
        let mut within = 0;
        let (begin, end) = (40 * DAY as i64, 200 * DAY as i64);
        for hour in 0..end {
            let noise = -(1.0 - rng.f64()).ln() * if rng.bool() { 0.4 } else { -0.4 };
            let load = (6.0 + noise).exp_m1();
            let typical = Typical::new(&profile);
            if hour >= begin {
                let bound = |at| typical.quantile(Metric::Reads, hour, at).unwrap();
                within += u32::from((bound(0.1)..=bound(0.9)).contains(&load));
            }
            profile.learn(hour, reads(load));
        }
        let share = f64::from(within) / (end - begin) as f64;
        assert!((0.76..0.84).contains(&share), "{share}");
    }
}
