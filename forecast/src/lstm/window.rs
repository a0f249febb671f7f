//! What the network sees of a series: its last two days, and what the week before says of each hour, scaled by entity.
//!
//! The same window is made for learning and for forecasting. Hours beyond the last known one are steps like all others,
//! whose value is unknown: so are gaps.

use crate::{DAY, Harmonics};

/// How far back the network steps.
const STEPPED_HOURS: usize = 2 * DAY;
/// How many days say what an hour of the day is like.
const TYPICAL_DAYS: usize = 7;
/// All that a window is made of.
pub(super) const RECENT_HOURS: usize = STEPPED_HOURS + TYPICAL_DAYS * DAY;
/// Numbers a step is told: the value before it and whether that is known; what is typical of its hour, on how many days
/// that rests, and the last such value; hours since a value was known; day and week.
pub(super) const INPUTS: usize = 6 + 4;

const CALENDAR: Harmonics = Harmonics { daily: 1, weekly: 1 };
/// In units of the entity's scale: rarer values are outliers, and nothing is learnt from how far they lie.
const SCALED_MAX: f32 = 8.0;
/// On the log1p scale: a series that moves less is constant.
const SCALE_MIN: f32 = 0.01;

/// The steps of a window, oldest first, the unknown hours last.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) inputs: Vec<[f32; INPUTS]>,
    /// What is typical of each step's hour, unscaled: outputs are scaled differences from it.
    typical: Vec<f32>,
    scale: f32,
    low: f32,
    high: f32,
}

impl Window {
    /// `recent`: the last [`RECENT_HOURS`] values before `next_hour` (Unix hours).
    pub(super) fn new(recent: &[f32], next_hour: i64, horizon: usize) -> Self {
        assert_eq!(recent.len(), RECENT_HOURS, "a window is made of so many hours");
        let (centre, scale) = centre_and_scale(recent);
        let steps = STEPPED_HOURS + horizon;
        let known = recent.iter().copied().filter(|value| value.is_finite());
        let (low, high) =
            known.fold((centre, centre), |(low, high), value| (low.min(value), high.max(value)));
        let (inputs, typical) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
        let mut window = Self { inputs, typical, scale, low, high };
        let mut unknown_hours = 0.0_f32;
        for index in RECENT_HOURS - STEPPED_HOURS..RECENT_HOURS + horizon {
            let before = recent.get(index - 1).copied().filter(|value| value.is_finite());
            unknown_hours = if before.is_some() { 0.0 } else { unknown_hours + 1.0 };
            let mut same: Vec<f32> = same_hour(recent, index).collect();
            let last = same.first().copied().unwrap_or(centre);
            let days = same.len();
            let typical = median(&mut same).unwrap_or(centre);
            let mut calendar = [0.0; 4];
            CALENDAR.fill(next_hour + index as i64 - RECENT_HOURS as i64, &mut calendar);
            let [a, b, c, d] = calendar.map(crate::narrow);
            window.inputs.push([
                before.map_or(0.0, |value| window.scaled(value, centre)),
                if before.is_some() { 1.0 } else { 0.0 },
                window.scaled(typical, centre),
                days as f32 / TYPICAL_DAYS as f32,
                window.scaled(last, centre),
                (unknown_hours / DAY as f32).min(2.0),
                a,
                b,
                c,
                d,
            ]);
            window.typical.push(typical);
        }
        window
    }

    /// The step of the first unknown hour.
    pub(super) fn first_unknown(&self) -> usize {
        STEPPED_HOURS
    }

    /// How far a value lies from what is typical of a step, in the entity's scale.
    pub(super) fn difference(&self, step: usize, value: f32) -> f32 {
        self.scaled(value, self.typical[step])
    }

    /// How far a value lies from another, in the entity's scale.
    fn scaled(&self, value: f32, from: f32) -> f32 {
        ((value - from) / self.scale).clamp(-SCALED_MAX, SCALED_MAX)
    }

    /// The value that differs so from what is typical of a step, within what was seen.
    pub(super) fn value(&self, step: usize, difference: f32) -> f32 {
        (self.typical[step] + difference * self.scale).clamp(self.low, self.high)
    }
}

/// Known values of the same hour on days before, newest first.
fn same_hour(recent: &[f32], index: usize) -> impl Iterator<Item = f32> {
    let back = (1..).map_while(move |day| index.checked_sub(day * DAY));
    back.filter_map(|at| recent.get(at).copied()).filter(|value| value.is_finite()).take(TYPICAL_DAYS)
}

/// The median, and how far values lie from it.
fn centre_and_scale(recent: &[f32]) -> (f32, f32) {
    let mut known: Vec<f32> = recent.iter().copied().filter(|value| value.is_finite()).collect();
    let Some(centre) = median(&mut known) else { return (0.0, 1.0) };
    // Halved first: the largest values there are lie further apart than the largest number.
    let distance =
        known.iter().map(|value| (0.5 * value - 0.5 * centre).abs() / known.len() as f32).sum::<f32>();
    (centre, (2.0 * distance).clamp(SCALE_MIN, f32::MAX / (4.0 * SCALED_MAX)))
}

fn median(values: &mut [f32]) -> Option<f32> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f32::total_cmp).1)
}
