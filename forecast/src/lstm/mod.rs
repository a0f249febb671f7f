//! A recurrent network pooled over entities: it learns from many series what the last days of one say of the next.
//!
//! Long short-term memory (Hochreiter and Schmidhuber, 1997) steps over the last two days and on into the unknown hours,
//! and puts out how each differs from the median of the same hour on the last seven days. Trained for the
//! absolute error, so that the output is a median, on windows drawn from all series, part of which begin late: an entity
//! with half a day of history is forecast from what others did.
//!
//! - One seed gives one network, to the bit.
//! - Learning an entity is remembering its last nine days; an hour more is constant work.
//! - Regressors are not used: announced events are for the other models.

mod network;
mod training;
mod turns;
mod window;

use std::sync::Arc;

use crate::{FitError, Fitted, Model, Rows};
use network::Network;
pub use turns::Turns;
use window::{RECENT_HOURS, Window};

/// How a network is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Units of memory.
    pub hidden: usize,
    /// Steps down the gradient.
    pub batches: usize,
    /// Windows a step.
    pub batch_windows: usize,
    /// The first steps' length; it falls to nothing by half a cosine.
    pub learning_rate: f32,
}

impl Default for Training {
    fn default() -> Self {
        Self { hidden: 32, batches: 1200, batch_windows: 32, learning_rate: 0.004 }
    }
}

/// A trained network, which forecasts any entity.
#[derive(Clone, Debug)]
pub struct Lstm {
    network: Arc<Network>,
}

impl Lstm {
    /// Learns from all `series`, each the hour index (Unix hours) of its first value and its values (log1p, NaN is a gap).
    /// `reached` is told how many steps are done.
    ///
    /// # Errors
    /// When no series has a known hour after enough known ones.
    pub fn train(
        series: &[(i64, &[f32])],
        training: Training,
        seed: u64,
        reached: impl FnMut(usize),
    ) -> Result<Self, FitError> {
        Ok(Self { network: Arc::new(training::train(series, training, seed, reached)?) })
    }
}

impl Model for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    /// It steps over yesterday, and differs from what is typical as yesterday did.
    fn is_led_by_yesterday(&self) -> bool {
        true
    }

    fn fit(&self, start: i64, history: &[f32], _: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let recent = last_hours(history);
        let have = recent.iter().filter(|value| value.is_finite()).count();
        if have < KNOWN_HOURS_MIN {
            return Err(FitError::TooShort { have, need: KNOWN_HOURS_MIN });
        }
        let next_hour = start + history.len() as i64;
        Ok(Box::new(Fit { network: Arc::clone(&self.network), recent, oldest: 0, next_hour }))
    }
}

/// An entity's last hours, in a ring.
#[derive(Debug)]
struct Fit {
    network: Arc<Network>,
    recent: Vec<f32>,
    oldest: usize,
    /// The index (Unix hours) of the first unknown hour.
    next_hour: i64,
}

impl Fitted for Fit {
    fn update(&mut self, value: f32, _: &[f32]) {
        self.recent[self.oldest] = value;
        self.oldest = (self.oldest + 1) % self.recent.len();
        self.next_hour += 1;
    }

    fn path(&self, _: Rows<'_>, out: &mut [f32]) {
        let (newer, older) = self.recent.split_at(self.oldest);
        let window = Window::new(&[older, newer].concat(), self.next_hour, out.len());
        let run = self.network.run(&window.inputs);
        for (slot, step) in out.iter_mut().zip(window.first_unknown()..) {
            *slot = window.value(step, run.outputs[step]);
        }
    }
}

/// The end of a history, behind gaps when it is shorter than a window.
fn last_hours(history: &[f32]) -> Vec<f32> {
    let mut recent = vec![f32::NAN; RECENT_HOURS.saturating_sub(history.len())];
    recent.extend(&history[history.len().saturating_sub(RECENT_HOURS)..]);
    recent
}

/// With fewer, an entity's level is not known.
const KNOWN_HOURS_MIN: usize = 6;
