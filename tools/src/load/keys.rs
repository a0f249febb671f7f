//! Which keys are used how often. No I/O; randomness is an argument.
//!
//! Invariant: a pick lies within the keys that were there when the run began, or is one counted back from the newest.

use fastrand::Rng;
use serde::Serialize;

use super::numbers::{folded, scrambled, whole};
use super::zipf::Zipf;

/// How operations spread over keys.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub(crate) enum Distribution {
    /// Some keys much more often than others; scrambled ones lie anywhere, others at the beginning.
    Zipf { theta: f64, scrambled: bool },
    /// All alike.
    Uniform,
    /// A share of the operations on a share of the keys, the first ones; the rest on the others.
    Hotspot { operations_percent: f64, keys_percent: f64 },
    /// The newest most often.
    Latest { theta: f64 },
}

/// One of the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pick {
    /// By its number.
    Key(u64),
    /// By how many are newer.
    Newest(u64),
}

/// Draws keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    count: u64,
    draw: Draw,
}

#[derive(Clone, Debug)]
enum Draw {
    Zipf { ranks: Zipf, scrambled: bool },
    Uniform,
    Hotspot { hot: u64, share: f64 },
    Latest(Zipf),
}

impl Keys {
    /// Of keys `0..count`.
    pub(crate) fn new(distribution: Distribution, count: u64) -> Self {
        assert!(count > 0);
        let draw = match distribution {
            Distribution::Zipf { theta, scrambled } => {
                Draw::Zipf { ranks: Zipf::new(count, theta), scrambled }
            }
            Distribution::Uniform => Draw::Uniform,
            Distribution::Hotspot { operations_percent, keys_percent } => Draw::Hotspot {
                hot: whole(count as f64 * keys_percent / 100.0).clamp(1, count),
                share: operations_percent / 100.0,
            },
            Distribution::Latest { theta } => Draw::Latest(Zipf::new(count, theta)),
        };
        Self { count, draw }
    }

    /// A key.
    pub(crate) fn pick(&self, random: &mut Rng) -> Pick {
        Pick::Key(match &self.draw {
            Draw::Zipf { ranks, scrambled: false } => ranks.rank(random),
            // As in YCSB, two ranks may fall on one key.
            Draw::Zipf { ranks, scrambled: true } => {
                folded(scrambled(ranks.rank(random).wrapping_add(SCRAMBLE)), self.count)
            }
            Draw::Uniform => random.u64(0..self.count),
            Draw::Hotspot { hot, share } => {
                if *hot == self.count || random.f64() < *share {
                    random.u64(0..*hot)
                } else {
                    random.u64(*hot..self.count)
                }
            }
            Draw::Latest(ranks) => return Pick::Newest(ranks.rank(random)),
        })
    }
}

/// Moves rank 0, the hottest, away from 0, which scrambling leaves where it is.
const SCRAMBLE: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 100_000;

    /// The part of all picks that the most used tenth of the keys gets.
    fn share_of_hottest_tenth(keys: &Keys, random: &mut Rng) -> f64 {
        let mut seen = vec![0_u32; usize::try_from(keys.count).unwrap()];
        for _ in 0..DRAWS {
            match keys.pick(random) {
                Pick::Key(key) | Pick::Newest(key) => seen[usize::try_from(key).unwrap()] += 1,
            }
        }
        seen.sort_unstable_by(|a, b| b.cmp(a));
        let hottest: u32 = seen.iter().take(seen.len() / 10).sum();
        f64::from(hottest) / f64::from(DRAWS)
    }

    fn keys(distribution: Distribution) -> Keys {
        Keys::new(distribution, 1000)
    }

    #[test]
    fn uniform_prefers_nobody_and_zipf_does() {
        let mut random = Rng::with_seed(3);
        let uniform = share_of_hottest_tenth(&keys(Distribution::Uniform), &mut random);
        assert!((0.10..0.13).contains(&uniform), "{uniform}");
        for scrambled in [false, true] {
            let zipf = keys(Distribution::Zipf { theta: 0.99, scrambled });
            let share = share_of_hottest_tenth(&zipf, &mut random);
            // The sum of 1/k^0.99 over 100 of 1000 ranks is 0.69 of all; scrambling lets a few ranks meet.
            assert!((0.66..0.78).contains(&share), "{share}");
        }
    }

    #[test]
    fn scrambled_hot_keys_are_not_neighbours() {
        let mut random = Rng::with_seed(5);
        let zipf = keys(Distribution::Zipf { theta: 1.2, scrambled: true });
        let low = (0..DRAWS).filter(|_| matches!(zipf.pick(&mut random), Pick::Key(0..100))).count();
        assert!(low < 40_000, "the first tenth got {low}");
        let zipf = keys(Distribution::Zipf { theta: 1.2, scrambled: false });
        let low = (0..DRAWS).filter(|_| matches!(zipf.pick(&mut random), Pick::Key(0..100))).count();
        assert!(low > 70_000, "the first tenth got {low}");
    }

    #[test]
    fn a_hotspot_gets_its_share_and_the_rest_gets_the_rest() {
        let mut random = Rng::with_seed(9);
        let hotspot = keys(Distribution::Hotspot { operations_percent: 80.0, keys_percent: 5.0 });
        let hot = (0..DRAWS).filter(|_| matches!(hotspot.pick(&mut random), Pick::Key(0..50))).count();
        assert!((79_000..81_000).contains(&hot), "{hot}");
        let all = keys(Distribution::Hotspot { operations_percent: 1.0, keys_percent: 100.0 });
        assert!((0..1000).all(|_| matches!(all.pick(&mut random), Pick::Key(0..1000))));
    }

    #[test]
    fn latest_counts_back_from_the_newest() {
        let mut random = Rng::with_seed(11);
        let latest = keys(Distribution::Latest { theta: 0.99 });
        let newest = (0..DRAWS).filter(|_| latest.pick(&mut random) == Pick::Newest(0)).count();
        assert!((12_000..14_500).contains(&newest), "one in 7.5 of 1000 at theta 0.99: {newest}");
    }
}
