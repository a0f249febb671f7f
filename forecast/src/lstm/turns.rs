//! Networks trained one after the other, each for the time after its training: a walk's early origins must not be asked
//! of a network that has seen what came.

use super::{Lstm, Training};
use crate::{FitError, Fitted, Model, Rows, Series};

/// Networks, and from which hour on each is used.
#[derive(Clone, Debug)]
pub struct Turns {
    networks: Vec<(i64, Lstm)>,
}

impl Turns {
    /// Trains one on what lies before each of the hours `at`, in rising order. Hours before which nothing can be learnt
    /// are left out. `reached` is told how many steps are done, of the steps of all of them.
    ///
    /// # Errors
    /// When nothing can be learnt before any of them.
    pub fn train(
        series: &[&Series],
        at: &[i64],
        training: Training,
        seed: u64,
        mut reached: impl FnMut(usize),
    ) -> Result<Self, FitError> {
        let mut networks = Vec::new();
        let mut refused = FitError::TooShort { have: 0, need: super::KNOWN_HOURS_MIN };
        for (turn, &hour) in at.iter().enumerate() {
            let known: Vec<(i64, &[f32])> =
                series.iter().map(|series| (series.start(), series.before(hour))).collect();
            match Lstm::train(&known, training, seed, |step| reached(turn * training.batches + step)) {
                Ok(network) => networks.push((hour, network)),
                Err(error) => refused = error,
            }
        }
        if networks.is_empty() { Err(refused) } else { Ok(Self { networks }) }
    }
}

impl Model for Turns {
    fn name(&self) -> &'static str {
        "lstm"
    }

    /// It steps over yesterday, and differs from what is typical as yesterday did.
    fn is_led_by_yesterday(&self) -> bool {
        true
    }

    fn fit(&self, start: i64, history: &[f32], regressors: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let next_hour = start + history.len() as i64;
        match self.networks.iter().rev().find(|(from, _)| *from <= next_hour) {
            Some((_, network)) => network.fit(start, history, regressors),
            None => Err(FitError::TooShort { have: 0, need: super::KNOWN_HOURS_MIN }),
        }
    }
}
