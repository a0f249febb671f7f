//! Which operations are looked at closely: all while they are few, one of 2, 4, .. 128 when they are many.
//!
//! What an operation costs is counted exactly per partition, but timing it and finding its entity's place cost more than
//! a cached read may pay. Operations come in *strata* of as many as one stands for; one of each is drawn, at random,
//! and counts for all of them. So each operation has the same chance, whatever pattern it comes in, and the sums have no
//! bias. (Stratified sampling; Cochran, "Sampling Techniques", chapter 5.)
//!
//! How far off they are: of an entity's `n` operations in a tick the standard error is at most `sqrt(n (k - 1))`, where
//! one stood for `k`; it is zero as long as one stands for one. As `k` follows the rate, an entity with a part `s` of a
//! shard's operations has them counted to within `0.0078 / sqrt(s T)` of their number after `T` seconds, however busy the
//! shard is: a thousandth of them to 0.4 % after an hour. Bytes and time are further off by as much as operations differ.
//!
//! It refuses to read a clock: the time is an argument.
//!
//! Invariants:
//! - how much an operation stands for is decided before it comes, by operations before it;
//! - what operations stand for sums to how many there were, but for two strata at most.

use std::time::Duration;

use crate::io::runtime::Nanos;

/// Drawn per second at most, but for what comes before the rate is known: at 150 ns each, half a hundredth of a core.
const DRAWN_PER_SECOND: u64 = 1 << 15;
/// The rate is taken anew after this long: a burst is over the limit no longer.
const WINDOW: Duration = Duration::from_millis(10);
/// Four million operations per second: more than a core serves.
const STRATUM_MAX: u32 = 128;

/// How one operation is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    stands_for: u32,
}

impl Sample {
    /// Counted for itself.
    pub const ITSELF: Self = Self { stands_for: 1 };
    /// Another one of its stratum is counted for it.
    pub(crate) const NOT_DRAWN: Self = Self { stands_for: 0 };

    /// How many operations it is counted for.
    #[must_use]
    pub const fn stands_for(self) -> u32 {
        self.stands_for
    }

    /// Whether it is to be timed and counted.
    pub(crate) const fn is_drawn(self) -> bool {
        self.stands_for > 0
    }
}

/// Draws operations.
#[derive(Debug)]
pub(crate) struct Sampler {
    random: fastrand::Rng,
    /// Operations up to the next one that is drawn, and it.
    left: u32,
    /// Size of that one's stratum, and what comes in it behind that one.
    stratum: u32,
    behind: u32,
    /// Operations in the window so far, and when it began.
    operations: u64,
    began: Nanos,
}

impl Sampler {
    /// One that draws every operation at first.
    pub(crate) fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { random, left: 1, stratum: 1, behind: 0, operations: 0, began: Nanos::default() }
    }

    /// The next operation; `now` is asked where it is drawn.
    #[inline]
    pub(crate) fn draw(&mut self, now: impl FnOnce() -> Nanos) -> Sample {
        self.left -= 1;
        if self.left > 0 { Sample::NOT_DRAWN } else { self.drawn(now()) }
    }

    fn drawn(&mut self, now: Nanos) -> Sample {
        let drawn = Sample { stands_for: self.stratum };
        self.operations += u64::from(self.stratum);
        let passed = now.since(self.began);
        if passed >= WINDOW {
            self.stratum = stratum_of(self.operations, passed);
            (self.operations, self.began) = (0, now);
        }
        let before = self.random.u32(0..self.stratum);
        self.left = self.behind + before + 1;
        self.behind = self.stratum - before - 1;
        drawn
    }
}

/// How many operations one stands for, when there were so many in a window.
fn stratum_of(operations: u64, passed: Duration) -> u32 {
    let allowed = u128::from(DRAWN_PER_SECOND) * passed.as_nanos() / 1_000_000_000;
    let wanted = u128::from(operations).div_ceil(allowed.max(1)).min(u128::from(STRATUM_MAX));
    u32::try_from(wanted).expect("at most STRATUM_MAX").next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sampler after a window in which operations came every `gap` nanoseconds.
    fn steady(seed: u64, gap: u64) -> (Sampler, u64) {
        let (mut sampler, mut now) = (Sampler::new(seed), 0);
        while now < 5 * u64::try_from(WINDOW.as_nanos()).unwrap() {
            now += gap;
            sampler.draw(|| Nanos(now));
        }
        (sampler, now)
    }

    #[test]
    fn few_operations_are_all_drawn_and_many_as_often_as_allowed() {
        for (gap, stratum) in
            [(1_000_000, 1), (40_000, 1), (20_000, 2), (10_000, 4), (1000, 32), (561, 64), (1, 128)]
        {
            let (sampler, _) = steady(gap, gap);
            assert_eq!(sampler.stratum, stratum, "one each {gap} ns");
        }
    }

    #[test]
    fn a_quiet_shard_counts_everything_again() {
        let (mut sampler, mut now) = steady(1, 500);
        for _ in 0..3 * STRATUM_MAX {
            now += 1_000_000;
            sampler.draw(|| Nanos(now));
        }
        assert!((0..1000).all(|at| sampler.draw(|| Nanos(now + at * 1_000_000)) == Sample::ITSELF));
    }

    #[test]
    fn what_operations_stand_for_sums_to_how_many_there_were() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut sampler, mut now, mut counted) = (Sampler::new(seed), 0, 0);
            let mut gap = 1;
            for operation in 1..300_000_u64 {
                if operation % 20_000 == 0 {
                    gap = 1 << random.u32(0..16);
                }
                now += gap;
                counted += u64::from(sampler.draw(|| Nanos(now)).stands_for());
                assert!(counted.abs_diff(operation) <= 2 * u64::from(STRATUM_MAX), "seed {seed}");
            }
        }
    }

    /// Over many runs of the same operations, the mean of what is counted is what there was, for entities that come in
    /// patterns of the strata's own length too, and their spread is within what the module says.
    #[test]
    fn counts_have_no_bias_and_the_error_that_is_stated() {
        const RUNS: u32 = 4000;
        const OPERATIONS: u32 = 4096;
        // One of 64 at the same place of each 64; in blocks of 8; and rarely.
        let entities: [fn(u32) -> bool; 3] = [|at| at % 64 == 5, |at| at / 8 % 16 == 3, |at| at % 1000 == 7];
        let mut sums = [(0.0, 0.0); 3];
        for run in 0..RUNS {
            let (mut sampler, now) = steady(u64::from(run), 561);
            let mut counts = [0.0; 3];
            for at in 0..OPERATIONS {
                let stands_for = f64::from(sampler.draw(|| Nanos(now)).stands_for());
                for (count, is_its) in counts.iter_mut().zip(entities) {
                    *count += if is_its(at) { stands_for } else { 0.0 };
                }
            }
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = (sum.0 + count, sum.1 + count * count);
            }
        }
        for ((sum, squares), is_its) in sums.into_iter().zip(entities) {
            let truth = f64::from(u32::try_from((0..OPERATIONS).filter(|&at| is_its(at)).count()).unwrap());
            let (mean, runs) = (sum / f64::from(RUNS), f64::from(RUNS));
            let variance_max = truth * 63.0;
            assert!((mean - truth).abs() < 4.0 * (variance_max / runs).sqrt(), "{mean} of {truth}");
            let variance = squares / runs - mean * mean;
            assert!(variance < variance_max * 1.1, "{variance}, stated {variance_max}");
            assert!(variance > 0.0, "nothing is sampled here");
        }
    }
}
