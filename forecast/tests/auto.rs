//! The blend: hour by hour as at once, the same bytes, nothing of the future with the network in it, and who is heavy.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use foreshard_forecast::auto::{self, Followed, HEAVY_MAX, Member};
use foreshard_forecast::lstm::{Training, Turns};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{FitError, Fitted, Model, Rows, Series};

const START: i64 = 480_000;
const ORIGIN: i64 = START + 45 * 24;
const END: i64 = ORIGIN + 10 * 24;
const HORIZON: usize = 30;

fn load(seed: u64) -> Series {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut series = Series::new(START);
    for hour in START..END {
        let daily = 1.5 + (std::f64::consts::TAU * hour as f64 / 24.0).sin();
        let burst = if random.u8(..) < 6 { 800.0 } else { 0.0 };
        if random.u8(..) > 8 {
            series.set(hour, 100.0 * daily * (0.5 + random.f64()) + burst).unwrap();
        }
    }
    series.pad_to(END);
    series
}

fn plan(last: i64) -> Plan {
    auto::plan(ORIGIN, last, HORIZON)
}

fn bits(path: &[f32]) -> Vec<u32> {
    path.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn hours_taken_one_by_one_are_as_those_taken_at_once() {
    for seed in 0..4 {
        let series = load(seed);
        let mut followed = Followed::new(&auto::LIGHT, plan(END));
        for hour in plan(END).first..=END {
            followed.advance(&series, &NoRegressors, hour);
            followed.keep(20 * 24);
        }
        let at_once = auto::walk(&auto::LIGHT, &series, &NoRegressors, plan(END));
        let kept = followed.walk().plan();
        assert_eq!((kept.last, kept.origins().len()), (at_once.plan().last, 80), "seed {seed}");
        for origin in kept.origins() {
            assert_eq!(bits(followed.walk().path(origin).unwrap()), bits(at_once.path(origin).unwrap()));
        }
    }
}

#[test]
fn nothing_of_the_future_is_used_with_a_network_either() {
    let said = |fleet: &[Series]| -> Vec<u64> {
        let all: Vec<&Series> = fleet.iter().collect();
        let small = Training { hidden: 4, batches: 10, batch_windows: 4, ..Training::default() };
        let network = Turns::train(&all, &auto::trainings(ORIGIN, ORIGIN), small, 3, |_| ()).unwrap();
        let mut said = Vec::new();
        for series in fleet {
            let walk = auto::walk(&auto::heavy(&network), series, &NoRegressors, plan(ORIGIN));
            let scenarios = Scenarios::new(series, &walk, ORIGIN);
            said.extend((0..HORIZON).map(|hour| scenarios.quantile(hour, 0.9).to_bits()));
        }
        said
    };
    let fleet: Vec<Series> = (0..4).map(load).collect();
    let mut other = fleet.clone();
    let mut random = fastrand::Rng::with_seed(9);
    for series in &mut other {
        series.cut(ORIGIN);
        (ORIGIN..END).for_each(|hour| series.set(hour, 1e6 * random.f64()).unwrap());
    }
    assert_eq!(said(&fleet), said(&other));
    assert_eq!(said(&fleet), said(&fleet), "nor of chance");
    other[0].set(ORIGIN - 1, 1e6).unwrap();
    assert_ne!(said(&fleet), said(&other), "the past is");
}

#[test]
fn a_network_forecasts_from_its_training_on() {
    let fleet: Vec<Series> = (0..3).map(load).collect();
    let all: Vec<&Series> = fleet.iter().collect();
    let small = Training { hidden: 4, batches: 5, batch_windows: 4, ..Training::default() };
    let turns = Turns::train(&all, &[START, ORIGIN - 48, ORIGIN], small, 3, |_| ()).unwrap();
    let walk = Walk::run(&turns, all[0], &NoRegressors, plan(END));
    for origin in plan(END).origins() {
        assert_eq!(walk.path(origin).is_some(), origin >= ORIGIN - 48, "origin {}", origin - ORIGIN);
    }
    let refused = Turns::train(&all, &[START], small, 3, |_| ()).unwrap_err();
    assert!(matches!(refused, FitError::TooShort { have: 0, .. }), "{refused}");
}

/// Says one value.
#[derive(Debug)]
struct Says(f32);

impl Model for Says {
    fn name(&self) -> &'static str {
        "says"
    }

    fn fit(&self, _: i64, _: &[f32], _: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        Ok(Box::new(Says(self.0)))
    }
}

impl Fitted for Says {
    fn update(&mut self, _: f32, _: &[f32]) {}

    fn path(&self, _: Rows<'_>, out: &mut [f32]) {
        out.fill(self.0);
    }
}

#[test]
fn errors_bend_shares_until_the_better_model_has_the_say() {
    let mut series = Series::new(START);
    (START..END).for_each(|hour| series.set(hour, 5.0_f64.exp_m1()).unwrap());
    let (wrong, right) = (Says(2.0), Says(5.0));
    let members = [Member { model: &wrong, share: 3.0 }, Member { model: &right, share: 1.0 }];
    let walk = auto::walk(&members, &series, &NoRegressors, plan(END));
    let first = |origin| walk.path(origin).unwrap()[0].to_bits();
    assert_eq!(first(plan(END).first), 2.0_f32.to_bits(), "by its share, as long as nothing is over");
    assert_eq!(first(walk.plan().last), 5.0_f32.to_bits());
}

#[test]
fn the_heaviest_before_an_origin_are_heavy() {
    let of = |load: f64, late: f64| {
        let mut series = Series::new(START);
        series.set(ORIGIN - 10, load).unwrap();
        series.set(END, late).unwrap();
        series
    };
    let fleet: Vec<Series> =
        (0..HEAVY_MAX + 50).map(|i| of(i as f64, if i < 10 { 1e9 } else { 0.0 })).collect();
    let heavy = auto::heaviest(&fleet.iter().collect::<Vec<_>>(), ORIGIN);
    assert!(heavy[..50].iter().all(|heavy| !heavy) && heavy[50..].iter().all(|heavy| *heavy));
}
