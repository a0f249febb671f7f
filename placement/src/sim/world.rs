//! What every policy of a simulation is given.

use crate::sim::Bursts;

/// A trace, and a cluster that it is to be served by.
#[derive(Clone, PartialEq, Debug)]
pub struct World {
    /// Mean load of each entity in each hour; entity by entity.
    pub loads: Vec<Vec<f32>>,
    /// Bytes of each entity.
    pub bytes: Vec<f64>,
    /// The partition that each is at home in.
    pub homes: Vec<usize>,
    /// How many partitions.
    pub partitions: usize,
    /// What each of them can do, in units of the loads.
    pub capacity: f64,
    /// How load varies within the hour.
    pub bursts: Bursts,
    /// Bytes a second that a move copies.
    pub copy_bytes_per_s: f64,
    /// Part of a partition's capacity that a move takes at either end.
    pub copy_share: f64,
}

/// How large entities are: log-normal, by this median and spread, within bounds; independent of their load.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sizes {
    /// Half of the entities are smaller. Bytes.
    pub median: f64,
    /// Standard deviation of the logarithm.
    pub spread: f64,
    /// None is smaller.
    pub min: f64,
    /// None is larger.
    pub max: f64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { median: 4e9, spread: 1.0, min: 64e6, max: 256e9 }
    }
}

impl Sizes {
    /// Sizes of `count` entities.
    #[must_use]
    pub fn draw(self, count: usize, seed: u64) -> Vec<f64> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let one = |_| (self.median * (self.spread * normal(&mut rng)).exp()).clamp(self.min, self.max);
        (0..count).map(one).collect()
    }
}

impl World {
    /// Hours that the trace has.
    #[must_use]
    pub fn hours(&self) -> usize {
        self.loads.first().map_or(0, Vec::len)
    }

    /// Loads of partitions in one hour, with entities where `at` says.
    #[must_use]
    pub fn carried(&self, at: &[usize], hour: usize) -> Vec<f64> {
        let mut sums = vec![0.0; self.partitions];
        for (loads, &at) in self.loads.iter().zip(at) {
            sums[at] += f64::from(loads[hour]);
        }
        sums
    }

    /// The capacity that the share `overloaded` of partition-hours exceeds while every entity stays at home.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a sorted list, in bounds"
    )]
    pub fn capacity_for(&self, overloaded: f64) -> f64 {
        let mut all: Vec<f64> = (0..self.hours()).flat_map(|hour| self.carried(&self.homes, hour)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let at = ((1.0 - overloaded.clamp(0.0, 1.0)) * all.len() as f64) as usize;
        all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or(1.0).max(f64::MIN_POSITIVE)
    }
}

/// Standard normal, by Box and Muller.
pub(super) fn normal(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}
