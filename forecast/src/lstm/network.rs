//! One layer of long short-term memory (Hochreiter and Schmidhuber, *Neural Computation* 9, 1997, with the forget gate of
//! Gers et al., 2000) and a linear output; forwards, and backwards through time.
//!
//! Loops run over weights that lie one after another and never reorder a sum, so that they are fast without any library
//! of matrices and give the same bits everywhere.

use std::ops::Range;

use super::window::INPUTS;

/// All weights, one after another: a row of four gates for each input and each hidden unit, the gates' biases, the output's
/// weights, the output's bias. A row holds the input gates, the forget gates, the output gates, the candidates.
#[derive(Clone, Debug)]
pub(super) struct Network {
    hidden: usize,
    weights: Vec<f32>,
}

/// What going backwards needs of a step.
#[derive(Clone, Debug)]
struct Step {
    gates: Vec<f32>,
    cell_before: Vec<f32>,
    cell_tanh: Vec<f32>,
    hidden_before: Vec<f32>,
    hidden: Vec<f32>,
}

/// A run over a window, kept for going backwards.
#[derive(Clone, Debug)]
pub(super) struct Run {
    steps: Vec<Step>,
    /// What each step puts out.
    pub(super) outputs: Vec<f32>,
}

impl Network {
    /// Small random weights; forget gates start open, so that the memory reaches far from the first step on, and the output
    /// starts at zero, so that what is typical is forecast until something better is learnt.
    pub(super) fn random(hidden: usize, random: &mut fastrand::Rng) -> Self {
        let size = (INPUTS + hidden + 1) * GATES * hidden + hidden + 1;
        let bound = 1.0 / (hidden as f32).sqrt();
        let mut network = Self { hidden, weights: vec![0.0; size] };
        network.weights.iter_mut().for_each(|weight| *weight = bound * (2.0 * random.f32() - 1.0));
        let biases = network.biases();
        network.weights[biases.start + hidden..biases.start + 2 * hidden].fill(1.0);
        network.weights[biases.end..].fill(0.0);
        network
    }

    pub(super) fn weights_mut(&mut self) -> &mut [f32] {
        &mut self.weights
    }

    pub(super) fn size(&self) -> usize {
        self.weights.len()
    }

    fn row(&self, index: usize) -> Range<usize> {
        index * GATES * self.hidden..(index + 1) * GATES * self.hidden
    }

    fn biases(&self) -> Range<usize> {
        self.row(INPUTS + self.hidden)
    }

    fn output(&self) -> Range<usize> {
        let start = self.biases().end;
        start..start + self.hidden
    }

    pub(super) fn run(&self, inputs: &[[f32; INPUTS]]) -> Run {
        let mut run =
            Run { steps: Vec::with_capacity(inputs.len()), outputs: Vec::with_capacity(inputs.len()) };
        let (mut hidden, mut cell) = (vec![0.0; self.hidden], vec![0.0; self.hidden]);
        for input in inputs {
            let step = self.step(input, hidden, &mut cell);
            let weighted =
                self.weights[self.output()].iter().zip(&step.hidden).map(|(weight, unit)| weight * unit);
            run.outputs.push(weighted.sum::<f32>() + self.weights[self.output().end]);
            hidden = step.hidden.clone();
            run.steps.push(step);
        }
        run
    }

    fn step(&self, input: &[f32; INPUTS], hidden_before: Vec<f32>, cell: &mut Vec<f32>) -> Step {
        let size = self.hidden;
        let mut gates = self.weights[self.biases()].to_vec();
        for (index, &x) in input.iter().chain(&hidden_before).enumerate() {
            add_scaled(&mut gates, x, &self.weights[self.row(index)]);
        }
        let (sigmoids, candidates) = gates.split_at_mut(3 * size);
        sigmoids.iter_mut().for_each(|gate| *gate = 0.5 + 0.5 * tanh(0.5 * *gate));
        candidates.iter_mut().for_each(|gate| *gate = tanh(*gate));
        let cell_before = std::mem::replace(cell, vec![0.0; size]);
        for (unit, slot) in cell.iter_mut().enumerate() {
            *slot = gates[size + unit] * cell_before[unit] + gates[unit] * gates[3 * size + unit];
        }
        let cell_tanh: Vec<f32> = cell.iter().map(|&value| tanh(value)).collect();
        let hidden = cell_tanh.iter().zip(&gates[2 * size..]).map(|(value, gate)| value * gate).collect();
        Step { gates, cell_before, cell_tanh, hidden_before, hidden }
    }

    /// Adds to `gradient` (as long as the weights) what each weight does to the loss, given what each output does.
    pub(super) fn backwards(
        &self,
        inputs: &[[f32; INPUTS]],
        run: &Run,
        by_output: &[f32],
        across: &Across,
        gradient: &mut [f32],
    ) {
        let size = self.hidden;
        let (mut by_hidden, mut by_cell) = (vec![0.0; size], vec![0.0; size]);
        let mut by_gate = vec![0.0; GATES * size];
        for ((input, step), &by_output) in inputs.iter().zip(&run.steps).zip(by_output).rev() {
            add_scaled(&mut gradient[self.output()], by_output, &step.hidden);
            gradient[self.output().end] += by_output;
            add_scaled(&mut by_hidden, by_output, &self.weights[self.output()]);
            for unit in 0..size {
                let [input_gate, forget, output, candidate] =
                    [0, 1, 2, 3].map(|gate| step.gates[gate * size + unit]);
                let tanh = step.cell_tanh[unit];
                let cell = by_cell[unit] + by_hidden[unit] * output * (1.0 - tanh * tanh);
                by_gate[unit] = cell * candidate * input_gate * (1.0 - input_gate);
                by_gate[size + unit] = cell * step.cell_before[unit] * forget * (1.0 - forget);
                by_gate[2 * size + unit] = by_hidden[unit] * tanh * output * (1.0 - output);
                by_gate[3 * size + unit] = cell * input_gate * (1.0 - candidate * candidate);
                by_cell[unit] = cell * forget;
            }
            for (index, &x) in input.iter().chain(&step.hidden_before).enumerate() {
                add_scaled(&mut gradient[self.row(index)], x, &by_gate);
            }
            add_scaled(&mut gradient[self.biases()], 1.0, &by_gate);
            by_hidden.fill(0.0);
            for (&by_gate, row) in by_gate.iter().zip(across.0.chunks_exact(size)) {
                add_scaled(&mut by_hidden, by_gate, row);
            }
        }
    }

    /// The weights from hidden units to gates, a row for each gate.
    pub(super) fn across(&self) -> Across {
        let gates = GATES * self.hidden;
        let mut across = vec![0.0; gates * self.hidden];
        for unit in 0..self.hidden {
            for (gate, &weight) in self.weights[self.row(INPUTS + unit)].iter().enumerate() {
                across[gate * self.hidden + unit] = weight;
            }
        }
        Across(across)
    }
}

/// See [`Network::across`]: made once for all the windows that the same weights run over.
pub(super) struct Across(Vec<f32>);

/// Lambert's continued fraction of tanh (1770), nine deep: off by less than 1e-5, in vector registers, and with the same
/// bits on every machine, which the C library's is not.
fn tanh(x: f32) -> f32 {
    let square = x * x;
    let over = x * (34_459_425.0 + square * (4_729_725.0 + square * (135_135.0 + square * (990.0 + square))));
    let under =
        34_459_425.0 + square * (16_216_200.0 + square * (945_945.0 + square * (13_860.0 + square * 45.0)));
    // Its own bound is reached by seven; far out the squares would overflow.
    if x.abs() < 7.0 { (over / under).clamp(-1.0, 1.0) } else { x.signum() }
}

/// `to += scale · from`.
fn add_scaled(to: &mut [f32], scale: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += scale * from;
    }
}

const GATES: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::window::INPUTS;
    use super::{Network, tanh};

    #[test]
    fn tanh_is_close_everywhere_and_within_one() {
        for step in -4000..=4000_i16 {
            let x = f32::from(step) * 0.01;
            let off = (f64::from(tanh(x)) - f64::from(x).tanh()).abs();
            assert!(off < 1e-5 && tanh(x).abs() <= 1.0, "{x}: {}", tanh(x));
        }
        assert_eq!((tanh(f32::INFINITY), tanh(-1e30)), (1.0, -1.0));
    }

    #[test]
    fn gradients_are_what_moving_a_weight_does() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut network = Network::random(3, &mut random);
        network.weights_mut().iter_mut().for_each(|weight| *weight = 2.0 * random.f32() - 1.0);
        let inputs: Vec<[f32; INPUTS]> =
            (0..5).map(|_| std::array::from_fn(|_| 2.0 * random.f32() - 1.0)).collect();
        let by_output: Vec<f32> = (0..5).map(|_| 2.0 * random.f32() - 1.0).collect();
        let loss = |network: &Network| {
            let outputs = network.run(&inputs).outputs;
            outputs
                .iter()
                .zip(&by_output)
                .map(|(output, by)| f64::from(*output) * f64::from(*by))
                .sum::<f64>()
        };
        let mut gradient = vec![0.0; network.size()];
        network.backwards(&inputs, &network.run(&inputs), &by_output, &network.across(), &mut gradient);
        for (index, slope) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut moved = network.clone();
                moved.weights_mut()[index] += by;
                loss(&moved)
            };
            let expected = (moved(0.005) - moved(-0.005)) / 0.01;
            assert!((f64::from(*slope) - expected).abs() < 2e-4, "weight {index}: {slope}, not {expected}");
        }
        assert!(
            gradient.iter().filter(|slope| slope.abs() > 1e-2).count() > network.size() / 3,
            "{gradient:?}"
        );
    }
}
