//! `forecast backtest`: what each method would have said in the last days, and what then was.

use std::io::Write;

use foreshard_forecast::recalibration::{self, Rolling};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::series::to_load;
use foreshard_forecast::walk::Walk;
use foreshard_forecast::{DAY, Series};

use super::calibrated::{calibrated, random};
use super::draw::{self, Picture, Said};
use super::given::Given;
use super::hot::signed;
use super::models::Choice;
use super::options::Backtest;
use super::report::{self, Row};
use super::table::{self, Table};
use super::{event_days, work};
use crate::shell::Failure;

/// A series whose error is zero would make a product of ratios zero.
const RATIO_MIN: f64 = 0.01;
/// The quantiles whose pinball losses are averaged.
const QUANTILES: [f64; 7] = [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975];
/// The limit that the Brier score is about: this share of a series' earlier hours lie below it.
const LIMIT_PERCENTILE: f64 = 0.95;

pub(crate) fn run(options: &Backtest) -> Result<(), Failure> {
    let table = Table::read(&options.judged.load)?;
    super::tell_broken(&table);
    let series: Vec<(usize, &Series)> = table.entities.values().enumerate().collect();
    let drawn = options.drawing.draw.as_deref().map(|entity| find(options, &table, entity)).transpose()?;
    let choices = if options.model.is_empty() { Choice::all() } else { options.model.clone() };
    let first = table.end - signed(options.judged.last);
    let last = table.end - signed(options.judged.horizon);
    let mut given = Given::read(options.announced.events.as_deref(), &table, options.judged.load.threads)?;
    given.train(&choices, &table, (first, last), (options.training.steps, options.judged.drawn.seed))?;
    let plan = recalibration::plan(first, last, options.judged.horizon);
    let (mut rows, mut picture) = (Vec::new(), None);
    for &choice in &choices {
        let name = choice.name();
        let what = format!("backtest of {name}");
        let began = work::now();
        let walk = |index: usize, series: &Series| choice.walk(&given, index, series, plan);
        let walks =
            work::map(&series, options.judged.load.threads, &what, |&(index, series)| walk(index, series));
        let millis = began.elapsed().as_secs_f64() * 1000.0 * options.judged.load.threads.get() as f64;
        let of = (first, last, options.judged.horizon);
        let recalibrations =
            calibrated(&given, &series, &options.judged.load, of, options.judged.drawn.seed, |index, _| {
                walks[index].clone()
            });
        let measures = work::map(&series, options.judged.load.threads, &what, |&(index, series)| {
            judge(options, &given, &walks[index], &recalibrations, (index, series), &table)
        });
        rows.push(row(name, &measures, millis / series.len() as f64));
        if let Some((index, entity, series)) = drawn {
            let origin = (first..=last).step_by(DAY).last().unwrap_or(last);
            let scenarios = given.scenarios(index, series, &walks[index], origin);
            let scenarios = scenarios.recalibrated(recalibrations.at(origin));
            let said = Said { entity, series, model: name, scenarios: &scenarios, origin };
            let marks = draw::marks(options.announced.events.as_deref(), entity, &table)?;
            picture = Some(Picture::new(&said, &options.judged.load.metric, &table, marks));
        }
    }
    let events =
        given.effects().map(|effects| event_days::compare(options, &choices, &given, effects, &table));
    let mut stdout = std::io::stdout().lock();
    let report = match (&events, options.judged.told.json) {
        (events, true) => report::json(options, series.len(), &rows, events.as_deref().unwrap_or_default()),
        (Some(events), false) => report::text(&rows) + &event_days::text(events),
        (None, false) => report::text(&rows),
    };
    stdout.write_all(report.as_bytes())?;
    stdout.flush()?;
    drop(stdout);
    picture.map_or(Ok(()), |picture| draw::draw(&picture, options.drawing.svg.as_deref()))
}

/// The entity that is to be drawn, and its index.
fn find<'a>(
    options: &Backtest,
    table: &'a Table,
    wanted: &str,
) -> Result<(usize, &'a str, &'a Series), Failure> {
    let mut entities = table.entities.iter().enumerate();
    let found = entities.find(|(_, (entity, _))| *entity == wanted);
    let found = found.map(|(index, (entity, series))| (index, entity.as_str(), series));
    found.ok_or_else(|| table::at(&options.judged.load.input, &format!("has no entity {wanted:?} to draw")))
}

/// Sums over the hours of one series.
#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    hours: f64,
    error: f64,
    naive_error: f64,
    /// The naive method's error over the history before the first origin: the scale of the series.
    scale: f64,
    symmetric: f64,
    naive_symmetric: f64,
    pinball: f64,
    within_80: f64,
    within_95: f64,
    brier: f64,
    origins: f64,
}

fn judge(
    options: &Backtest,
    given: &Given,
    walk: &Walk,
    recalibrations: &Rolling,
    (index, series): (usize, &Series),
    table: &Table,
) -> Sums {
    let horizon = options.judged.horizon;
    let first = table.end - signed(options.judged.last);
    let last = table.end - signed(horizon);
    let mut random = random(!options.judged.drawn.seed, index);
    let mut history: Vec<f64> =
        series.before(first).iter().filter(|v| !v.is_nan()).map(|&v| to_load(v)).collect();
    history.sort_unstable_by(f64::total_cmp);
    let limit = foreshard_forecast::measures::quantile(&history, LIMIT_PERCENTILE).unwrap_or(0.0);
    let mut sums = Sums { scale: scale(series, first), ..Sums::default() };
    for origin in (first..=last).step_by(DAY) {
        let scenarios = given.scenarios(index, series, walk, origin).recalibrated(recalibrations.at(origin));
        for hour in 0..horizon {
            sums.add_hour(series, &scenarios, origin, hour, random.f64());
        }
        let peak = (origin..origin + signed(horizon)).map(|hour| series.at(hour)).fold(f32::NAN, f32::max);
        if !peak.is_nan() {
            let hot = f64::from(u8::from(to_load(peak) > limit));
            sums.brier += (scenarios.exceeds(0..horizon, limit) - hot).powi(2);
            sums.origins += 1.0;
        }
    }
    sums
}

impl Sums {
    fn add_hour(&mut self, series: &Series, scenarios: &Scenarios, origin: i64, hour: usize, draw: f64) {
        let was = series.at(origin + signed(hour));
        if was.is_nan() {
            return;
        }
        let was = to_load(was);
        let said = scenarios.quantile(hour, 0.5);
        let naive = to_load(naive(series, origin, hour));
        let place = scenarios.place(hour, was, draw);
        self.hours += 1.0;
        self.error += (was - said).abs();
        self.naive_error += (was - naive).abs();
        self.symmetric += symmetric(was, said);
        self.naive_symmetric += symmetric(was, naive);
        self.pinball += pinball(scenarios, hour, was);
        self.within_80 += f64::from(u8::from((0.1..=0.9).contains(&place)));
        self.within_95 += f64::from(u8::from((0.025..=0.975).contains(&place)));
    }

    /// NaN of a series that seasonal naive foretells exactly: nothing is worse by any factor, and there is no ratio.
    fn ratio(&self) -> f64 {
        if self.naive_error > 0.0 { (self.error / self.naive_error).max(RATIO_MIN) } else { f64::NAN }
    }
}

/// The same hour of the last known day before the origin that has it; zero if none of a week has.
fn naive(series: &Series, origin: i64, hour: usize) -> f32 {
    let days = hour / DAY + 1..=hour / DAY + 7;
    let values = days.map(|day| series.at(origin + signed(hour) - signed(day * DAY)));
    values.filter(|value| !value.is_nan()).take(1).fold(0.0, |_, value| value)
}

/// The mean error of seasonal naive over the history before `first`.
pub(crate) fn scale(series: &Series, first: i64) -> f64 {
    let history = series.before(first);
    let steps = history.iter().zip(history.iter().skip(DAY)).map(|(&a, &b)| (to_load(b) - to_load(a)).abs());
    let pairs = history.iter().zip(history.iter().skip(DAY)).map(|(a, b)| a.is_nan() || b.is_nan());
    let (sum, count) = steps
        .zip(pairs)
        .filter(|s| !s.1)
        .fold((0.0, 0.0), |(sum, count), (step, _)| (sum + step, count + 1.0));
    sum / count
}

/// The mean of the pinball losses.
pub(crate) fn pinball(scenarios: &Scenarios, hour: usize, was: f64) -> f64 {
    let losses = QUANTILES.map(|at| {
        let over = was - scenarios.quantile(hour, at);
        (at * over).max((at - 1.0) * over)
    });
    losses.iter().sum::<f64>() / QUANTILES.len() as f64
}

/// The terms of sMAPE, 0 to 2; two zeros are equal.
fn symmetric(was: f64, said: f64) -> f64 {
    let both = was + said;
    if both > 0.0 { 2.0 * (was - said).abs() / both } else { 0.0 }
}

fn row(model: &'static str, sums: &[Sums], millis_per_series: f64) -> Row {
    let of = |f: &dyn Fn(&Sums) -> f64| mean(sums.iter().map(f));
    let all = |f: &dyn Fn(&Sums) -> f64| sums.iter().map(f).sum::<f64>();
    let hours = all(&|s| s.hours);
    let smape = of(&|s| s.symmetric / s.hours);
    let (mase, naive_mase) =
        (of(&|s| s.error / s.hours / s.scale), of(&|s| s.naive_error / s.hours / s.scale));
    Row {
        model,
        ratio: of(&|s| s.ratio().ln()).exp(),
        smape,
        mase,
        owa: f64::midpoint(smape / of(&|s| s.naive_symmetric / s.hours), mase / naive_mase),
        pinball: of(&|s| s.pinball / s.hours / s.scale),
        coverage_80: all(&|s| s.within_80) / hours,
        coverage_95: all(&|s| s.within_95) / hours,
        brier: all(&|s| s.brier) / all(&|s| s.origins),
        millis_per_series,
    }
}

/// Of what is finite: a series that never changed has no scale.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.filter(|v| v.is_finite()).fold((0.0, 0.0), |(s, c), v| (s + v, c + 1.0));
    sum / count
}
