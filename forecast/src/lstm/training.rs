//! Windows drawn at random, and steps down the gradient (Adam: Kingma and Ba, 2015).

use super::network::Network;
use super::window::{RECENT_HOURS, Window};
use super::{KNOWN_HOURS_MIN, Training, last_hours};
use crate::{DAY, FitError};

/// A window, and how the truth differs from what is typical at each of its steps; NaN where that is unknown.
struct Example {
    window: Window,
    differences: Vec<f32>,
}

pub(super) fn train(
    series: &[(i64, &[f32])],
    training: Training,
    seed: u64,
    mut reached: impl FnMut(usize),
) -> Result<Network, FitError> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut network = Network::random(training.hidden, &mut random);
    let mut adam = Adam::new(network.size());
    for batch in 0..training.batches {
        let across = network.across();
        let mut gradient = vec![0.0; network.size()];
        for _ in 0..training.batch_windows {
            let example = draw(series, &mut random)?;
            let run = network.run(&example.window.inputs);
            let slopes = slopes(&example, &run.outputs);
            network.backwards(&example.window.inputs, &run, &slopes, &across, &mut gradient);
        }
        let progress = batch as f32 / training.batches as f32;
        let rate = training.learning_rate * 0.5 * (1.0 + (std::f32::consts::PI * progress).cos());
        adam.step(network.weights_mut(), &mut gradient, rate);
        reached(batch + 1);
    }
    Ok(network)
}

fn draw(series: &[(i64, &[f32])], random: &mut fastrand::Rng) -> Result<Example, FitError> {
    for _ in 0..DRAWS_MAX {
        if series.is_empty() {
            break;
        }
        let (start, values) = series[random.usize(..series.len())];
        if values.len() <= KNOWN_HOURS_MIN {
            continue;
        }
        let origin = random.usize(KNOWN_HOURS_MIN..values.len());
        let mut recent = last_hours(&values[..origin]);
        if random.f32() < YOUNG_SHARE {
            let age = random.usize(KNOWN_HOURS_MIN..RECENT_HOURS);
            recent[..RECENT_HOURS - age].fill(f32::NAN);
        }
        let future = &values[origin..values.len().min(origin + HORIZON_HOURS)];
        let known = recent.iter().filter(|value| value.is_finite()).count();
        if known < KNOWN_HOURS_MIN || future.iter().all(|value| !value.is_finite()) {
            continue;
        }
        let window = Window::new(&recent, start + origin as i64, future.len());
        let stepped = &recent[RECENT_HOURS - window.first_unknown()..];
        let truth = stepped.iter().chain(future).enumerate();
        let differences = truth.map(|(step, &value)| window.difference(step, value)).collect();
        return Ok(Example { window, differences });
    }
    Err(FitError::TooShort { have: 0, need: KNOWN_HOURS_MIN + 1 })
}

/// How the loss, a smoothed absolute error averaged over the unknown hours, changes with each output.
fn slopes(example: &Example, outputs: &[f32]) -> Vec<f32> {
    let first_unknown = example.window.first_unknown();
    let hours = (outputs.len() - first_unknown) as f32;
    let slope = |(step, (output, truth)): (usize, (&f32, &f32))| {
        let error = output - truth;
        let share = if step < first_unknown { KNOWN_SHARE } else { 1.0 };
        if error.is_finite() {
            share * error / (hours * (error * error + SMOOTH * SMOOTH).sqrt())
        } else {
            0.0
        }
    };
    outputs.iter().zip(&example.differences).enumerate().map(slope).collect()
}

/// Running means of the gradient and of its square.
struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    mean_decay: f32,
    square_decay: f32,
}

impl Adam {
    fn new(size: usize) -> Self {
        Self { mean: vec![0.0; size], square: vec![0.0; size], mean_decay: 1.0, square_decay: 1.0 }
    }

    fn step(&mut self, weights: &mut [f32], gradient: &mut [f32], rate: f32) {
        let norm = gradient.iter().map(|slope| slope * slope).sum::<f32>().sqrt();
        // Steps do not depend on the gradient's scale: a norm of one is as good as any, and no batch outweighs another.
        gradient.iter_mut().for_each(|slope| *slope /= norm.max(f32::MIN_POSITIVE.sqrt()));
        self.mean_decay *= MEAN_KEPT;
        self.square_decay *= SQUARE_KEPT;
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((weight, slope), (mean, square)) in weights.iter_mut().zip(gradient).zip(moments) {
            *mean = MEAN_KEPT * *mean + (1.0 - MEAN_KEPT) * *slope;
            *square = SQUARE_KEPT * *square + (1.0 - SQUARE_KEPT) * *slope * *slope;
            let (unbiased, spread) = (*mean / (1.0 - self.mean_decay), *square / (1.0 - self.square_decay));
            *weight -= rate * unbiased / (spread.sqrt() + STEADY);
        }
    }
}

/// The furthest lead that is learnt.
const HORIZON_HOURS: usize = 2 * DAY;
/// Of the windows: how many begin late, as a young entity's.
const YOUNG_SHARE: f32 = 0.25;
/// Steps over known hours teach the memory too; forecasts are what counts.
const KNOWN_SHARE: f32 = 0.2;
/// In units of an entity's scale: smaller errors are pulled by their size, larger ones all alike.
const SMOOTH: f32 = 0.05;
/// Series that are short or all gaps are drawn in vain; with so many draws, all are.
const DRAWS_MAX: usize = 10_000;
/// Adam's, as its paper has them.
const MEAN_KEPT: f32 = 0.9;
const SQUARE_KEPT: f32 = 0.999;
const STEADY: f32 = 1e-8;
