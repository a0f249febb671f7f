//! Load within the hour: the hour's mean times a factor of its own for each entity and ten seconds.
//!
//! Factors are log-normal and follow one another (the logarithm is an autoregression of first order), and have mean 1 in
//! every hour, so that the trace's hours stay what they are. They depend on the seed, the entity and the hour, and on
//! nothing that a policy does. Some hundred hours are drawn, and each entity's hour is one of them, begun somewhere.

use super::world::normal;

/// Seconds of a step.
pub(super) const STEP_S: usize = 10;
/// Steps of an hour.
pub(super) const STEPS: usize = 3600 / STEP_S;
/// How alike two steps are that follow one another: after 100 s, a third is left.
const FOLLOWS: f64 = 0.9;

/// Hours that are drawn; each entity and hour takes one of them, from a place of its own.
const PATTERNS: usize = 512;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Bursts {
    /// Empty: hours are flat.
    patterns: Vec<[f32; STEPS]>,
    seed: u64,
}

impl Bursts {
    /// `spread` is the standard deviation of a factor's logarithm; 0: hours are flat.
    #[must_use]
    pub fn new(spread: f64, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = if spread > 0.0 { PATTERNS } else { 0 };
        Self { patterns: (0..count).map(|_| pattern(spread, &mut rng)).collect(), seed }
    }

    /// The factors of one entity's hour, step by step.
    pub fn draw(&self, entity: usize, hour: usize) -> impl Iterator<Item = f32> + '_ {
        let drawn = mixed(self.seed, entity as u64, hour as u64);
        let at = |bound: usize, bits: u64| usize::try_from(bits % bound.max(1) as u64).unwrap_or(0);
        let pattern = self.patterns.get(at(self.patterns.len(), drawn >> 32));
        let first = at(STEPS, drawn & 0xffff_ffff);
        (0..STEPS).map(move |step| pattern.map_or(1.0, |pattern| pattern[(first + step) % STEPS]))
    }
}

/// An hour of mean 1.
fn pattern(spread: f64, rng: &mut fastrand::Rng) -> [f32; STEPS] {
    let news = (1.0 - FOLLOWS * FOLLOWS).sqrt();
    let mut at = normal(rng);
    let mut factors = [0.0; STEPS];
    for factor in &mut factors {
        at = FOLLOWS * at + news * normal(rng);
        *factor = crate::narrow((spread * at).exp());
    }
    let mean = factors.iter().sum::<f32>() / STEPS as f32;
    factors.map(|factor| factor / mean)
}

/// One number of three, so that neighbours are as different as strangers (SplitMix64's finaliser, Steele et al. 2014).
fn mixed(seed: u64, entity: u64, hour: u64) -> u64 {
    let finish = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    finish(finish(finish(seed).wrapping_add(entity)).wrapping_add(hour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_keeps_its_mean_and_the_same_draw_gives_the_same_factors() {
        let bursts = Bursts::new(0.5, 7);
        let drawn = |entity, hour| bursts.draw(entity, hour).collect::<Vec<f32>>();
        assert_eq!(drawn(3, 9), drawn(3, 9));
        assert_ne!(drawn(3, 9), drawn(4, 9));
        assert_ne!(drawn(3, 9), drawn(3, 10));
        let factors = drawn(3, 9);
        let mean = factors.iter().sum::<f32>() / STEPS as f32;
        assert!((mean - 1.0).abs() < 1e-4, "{mean}");
        assert!(factors.iter().any(|f| *f > 1.3) && factors.iter().any(|f| *f < 0.7));
    }

    #[test]
    fn without_a_spread_hours_are_flat() {
        assert!(Bursts::new(0.0, 1).draw(0, 0).all(|f| (f - 1.0).abs() < f32::EPSILON));
    }
}
