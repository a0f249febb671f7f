//! What is left of a shard's capacity while it answers more slowly than it used to: its disk is failing, or others use its core.
//!
//! A delay is measured once a tick. What it *is*, is the median of the last [`WINDOW`] ticks in which there was anything to
//! measure: a few spikes change nothing. What is *usual* is learnt from the medians of hours, downwards at once and upwards
//! slowly, so that a disk that becomes slow is not taken for a slow disk within a week. As long as the delay is some times the
//! usual one, capacity is less in proportion: whoever takes twice as long as may be, does half.
//!
//! Invariants: the share is within [`SHARE_MIN`]..=1, and 1 before anything is usual; it falls with the tick that shows it,
//! and comes back by half of what is missing each hour; memory is bounded by [`WINDOW`] and `HOUR_TICKS_MAX`.

use std::collections::VecDeque;

/// Ticks that are looked at: more than half of them have to be slow.
pub const WINDOW: usize = 9;
/// So many times the usual delay is within what load makes of it.
const SLACK: f64 = 3.0;
/// A shorter delay is none that a client would notice, seconds.
const UNNOTICED: f64 = 0.005;
/// A shard that answers at all is not taken for less: everybody would leave it at once.
pub const SHARE_MIN: f64 = 0.25;
/// What comes back of what is missing, by hour.
const RECOVERY: f64 = 0.5;
/// How much of a longer delay becomes usual, by hour: half of it in a week.
const USUAL_RISE: f64 = 0.004;
/// An hour with fewer ticks says nothing of what is usual.
const HOUR_TICKS_MIN: usize = 4;
/// Ticks of an hour that are remembered: all, were each ten seconds long.
const HOUR_TICKS_MAX: usize = 360;

/// One delay of a shard, as it was and as it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Delay {
    recent: VecDeque<f64>,
    /// Of the hour under way.
    hour: Vec<f64>,
    usual: Option<f64>,
    share: f64,
}

impl Default for Delay {
    fn default() -> Self {
        Self { recent: VecDeque::new(), hour: Vec::new(), usual: None, share: 1.0 }
    }
}

impl Delay {
    /// A tick's delay, seconds.
    pub fn take(&mut self, seconds: f64) {
        self.recent.push_back(seconds);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        if self.hour.len() < HOUR_TICKS_MAX {
            self.hour.push(seconds);
        }
        self.share = self.share.min(self.wanted());
    }

    /// An hour is over.
    pub fn end_hour(&mut self) {
        let hour = std::mem::take(&mut self.hour);
        if hour.is_empty() {
            // Nobody came: whether it is slow still is not known, and it is tried again.
            self.recent.clear();
        }
        let wanted = self.wanted();
        if wanted > self.share {
            self.share += RECOVERY * (wanted - self.share);
        }
        if hour.len() >= HOUR_TICKS_MIN
            && let Some(median) = median(hour)
        {
            self.usual = Some(match self.usual {
                Some(usual) if median > usual => usual + USUAL_RISE * (median - usual),
                Some(_) | None => median,
            });
        }
    }

    /// What it is, seconds; none before there are enough ticks to say so.
    #[must_use]
    pub fn now(&self) -> Option<f64> {
        (self.recent.len() > WINDOW / 2).then(|| median(self.recent.iter().copied().collect()))?
    }

    /// What is usual, seconds; none before an hour was over.
    #[must_use]
    pub const fn usual(&self) -> Option<f64> {
        self.usual
    }

    /// Part of its capacity that a shard has with it.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    fn wanted(&self) -> f64 {
        let Some((now, usual)) = self.now().zip(self.usual) else { return 1.0 };
        let may_be = (SLACK * usual).max(UNNOTICED);
        (may_be / now.max(may_be)).max(SHARE_MIN)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of it.
    fn hour(delay: &mut Delay, seconds: f64) {
        (0..12).for_each(|_| delay.take(seconds));
        delay.end_hour();
    }

    fn settled() -> Delay {
        let mut delay = Delay::default();
        hour(&mut delay, 0.002);
        assert_eq!((delay.usual(), delay.share()), (Some(0.002), 1.0));
        delay
    }

    #[test]
    fn spikes_change_nothing_and_what_lasts_takes_capacity_in_proportion_down_to_a_floor() {
        let mut delay = settled();
        for seconds in [9.0, 9.0, 9.0, 9.0, 0.002, 0.002, 0.002, 0.002, 0.002] {
            delay.take(seconds);
            assert_eq!(delay.share(), 1.0);
        }
        (0..12).for_each(|_| delay.take(0.012));
        assert!((delay.share() - 0.5).abs() < 1e-12, "three times 2 ms may be, and it is twice that");
        (0..12).for_each(|_| delay.take(5.0));
        assert_eq!(delay.share(), SHARE_MIN);
    }

    #[test]
    fn capacity_comes_back_by_half_an_hour_once_the_delay_is_gone() {
        let mut delay = settled();
        hour(&mut delay, 5.0);
        let slow = delay.share();
        (0..12).for_each(|_| delay.take(0.002));
        assert_eq!(delay.share(), slow, "not within the hour");
        let course: Vec<f64> = (0..4)
            .map(|_| {
                hour(&mut delay, 0.002);
                delay.share()
            })
            .collect();
        assert!((course[0] - (slow + 1.0) / 2.0).abs() < 1e-12, "{course:?}");
        assert!(course.is_sorted() && course[3] > 0.95, "{course:?}");
    }

    #[test]
    fn what_is_usual_follows_at_once_downwards_and_in_weeks_upwards() {
        let mut delay = settled();
        hour(&mut delay, 0.001);
        assert_eq!(delay.usual(), Some(0.001));
        for _ in 0..24 {
            hour(&mut delay, 0.1);
        }
        assert!(delay.usual() < Some(0.011) && delay.share() < 0.35, "{delay:?}");
        for _ in 0..24 * 14 {
            hour(&mut delay, 0.1);
        }
        assert!(delay.usual() > Some(0.05) && delay.share() > 0.99, "{delay:?}");
    }

    #[test]
    fn a_shard_that_nobody_asks_is_tried_again() {
        let mut delay = settled();
        hour(&mut delay, 5.0);
        for _ in 0..4 {
            delay.end_hour();
        }
        assert!(delay.share() > 0.95 && delay.now().is_none());
    }

    #[test]
    fn nothing_is_usual_before_an_hour_and_what_nobody_notices_lowers_nothing() {
        let mut delay = Delay::default();
        (0..12).for_each(|_| delay.take(7.0));
        assert_eq!(delay.share(), 1.0);
        let mut quick = Delay::default();
        hour(&mut quick, 1e-5);
        (0..12).for_each(|_| quick.take(0.004));
        assert_eq!(quick.share(), 1.0);
    }
}
