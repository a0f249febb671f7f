//! `forecast cold`: how forecasts of entities with a few hours of history would have done.
//!
//! Some entities, drawn by a seed, are held out: at each origin all that is known of them are their last hours, and of the
//! others everything before the origin. Shares of the entity's own paths are what such shares were worth for the others.

use std::fmt::Write as _;
use std::io::Write;

use foreshard_forecast::recalibration::{self, Rolling};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::series::to_load;
use foreshard_forecast::young::{self, Pool};
use foreshard_forecast::{DAY, Series, auto};
use serde::Serialize;
use serde_json::json;

use super::backtest;
use super::calibrated::calibrated;
use super::given::Given;
use super::hot::signed;
use super::models::Choice;
use super::options::Cold;
use super::table::Table;
use super::work;
use crate::shell::Failure;

/// Who is compared; the first is what the others are measured by.
const ROWS: [&str; 4] = ["shape-times-level", "pooled", "auto by itself", "the forecast"];

/// Sums over the hours of one entity.
#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    hours: f64,
    pinball: [f64; ROWS.len()],
    within_80: [f64; ROWS.len()],
    within_95: [f64; ROWS.len()],
}

pub(crate) fn run(options: &Cold) -> Result<(), Failure> {
    let table = Table::read(&options.judged.load)?;
    super::tell_broken(&table);
    let first = table.end - signed(options.judged.last);
    let (held_out, donors) = split(options, &table, first)?;
    let last = table.end - signed(options.judged.horizon);
    let recalibrations = recalibrations(options, &donors, first, last);
    let origins: Vec<i64> = (first..=last).step_by(DAY).collect();
    let of_origins = work::map(&origins, options.judged.load.threads, "origins", |&origin| {
        judge(options, &recalibrations, &held_out, &donors, origin)
    });
    let mut sums = vec![Sums::default(); held_out.len()];
    for of_origin in of_origins {
        let of_origin = of_origin.ok_or_else(|| {
            Failure::told("the other entities have too little history before the first origin to learn from")
        })?;
        for (sum, more) in sums.iter_mut().zip(of_origin) {
            sum.add(&more);
        }
    }
    let scales: Vec<f64> = held_out.iter().map(|series| backtest::scale(series, first)).collect();
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(report(options, &rows(&sums, &scales)).as_bytes())?;
    Ok(stdout.flush()?)
}

/// The held out, and the others. Only an entity that is old enough to be made young is drawn.
fn split<'a>(
    options: &Cold,
    table: &'a Table,
    first: i64,
) -> Result<(Vec<&'a Series>, Vec<&'a Series>), Failure> {
    let is_old = |series: &Series| young::age(series, first) >= options.history;
    let (mut old, mut donors): (Vec<&Series>, Vec<&Series>) =
        table.entities.values().partition(|s| is_old(s));
    if old.len() <= options.entities {
        let there = old.len();
        return Err(Failure::told(format!(
            "{} entities are to be held out, and only {there} have {} h of history before the first origin",
            options.entities, options.history
        )));
    }
    fastrand::Rng::with_seed(options.judged.drawn.seed).shuffle(&mut old);
    donors.extend(old.drain(options.entities..));
    Ok((old, donors))
}

/// What shares of the paths of auto were worth, for the entities that are not held out.
fn recalibrations(options: &Cold, donors: &[&Series], first: i64, last: i64) -> Rolling {
    let given = Given::default();
    let donors: Vec<(usize, &Series)> = donors.iter().copied().enumerate().collect();
    let plan = recalibration::plan(first, last, options.judged.horizon);
    let of = (first, last, options.judged.horizon);
    calibrated(&given, &donors, &options.judged.load, of, options.judged.drawn.seed, |index, series| {
        Choice::Auto.walk(&given, index, series, plan)
    })
}

/// None if nothing could be learnt.
fn judge(
    options: &Cold,
    recalibrations: &Rolling,
    held_out: &[&Series],
    donors: &[&Series],
    origin: i64,
) -> Option<Vec<Sums>> {
    let age = young::AGES.into_iter().rfind(|&age| age <= options.history)?;
    let pool = Pool::learn(donors, origin, age, options.judged.horizon)?;
    let mut sums = Vec::with_capacity(held_out.len());
    for (index, series) in held_out.iter().enumerate() {
        let mut sum = Sums::default();
        let young = young_again(series, origin, options.history);
        if let (Some(plain), Some(pooled)) = (pool.shape_times_level(&young), pool.scenarios(&young)) {
            let plan = auto::plan(origin, origin, options.judged.horizon);
            let walk = Choice::Auto.walk(&Given::default(), index, &young, plan);
            let own = Scenarios::new(&young, &walk, origin).recalibrated(recalibrations.at(origin));
            let days = young::days(&young, origin, options.judged.horizon);
            let forecast = young::blend(options.history, Some(pooled.clone()), days, own.clone());
            let seed = options.judged.drawn.seed ^ (index as u64) << 32 ^ origin.unsigned_abs();
            sum.judge(series, &[plain, pooled, own, forecast], origin, seed);
        }
        sums.push(sum);
    }
    Some(sums)
}

/// As if the entity had begun so many hours before `origin`.
fn young_again(series: &Series, origin: i64, history: usize) -> Series {
    let begin = origin - signed(history);
    let mut young = Series::new(begin);
    young.pad_to(origin);
    for hour in begin..origin {
        // Within the span that was just made.
        let _infallible = young.set(hour, to_load(series.at(hour)));
    }
    young
}

impl Sums {
    fn judge(&mut self, series: &Series, said: &[Scenarios; ROWS.len()], origin: i64, seed: u64) {
        let mut draws = fastrand::Rng::with_seed(seed);
        for (lead, hour) in (origin..).take(said[0].horizon()).enumerate() {
            let was = series.at(hour);
            if was.is_nan() {
                continue;
            }
            let was = to_load(was);
            let draw = draws.f64();
            self.hours += 1.0;
            for (row, said) in said.iter().enumerate() {
                let place = said.place(lead, was, draw);
                self.pinball[row] += backtest::pinball(said, lead, was);
                self.within_80[row] += f64::from(u8::from((0.1..=0.9).contains(&place)));
                self.within_95[row] += f64::from(u8::from((0.025..=0.975).contains(&place)));
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.hours += other.hours;
        for row in 0..ROWS.len() {
            self.pinball[row] += other.pinball[row];
            self.within_80[row] += other.within_80[row];
            self.within_95[row] += other.within_95[row];
        }
    }
}

/// How one forecast did over all entities; losses are pinball losses.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    forecast: &'static str,
    /// Mean over entities, scaled as MASE is. An entity that all but rested before the first origin has hardly a scale.
    pinball: f64,
    /// The sum over all entities, relative to that of the first row: those with the most load count most.
    of_all: f64,
    /// Geometric mean over entities of the loss relative to that of the first row: each counts the same.
    ratio: f64,
    /// Entities that it did better for than the first row.
    better: usize,
    coverage_80: f64,
    coverage_95: f64,
}

fn rows(sums: &[Sums], scales: &[f64]) -> Vec<Row> {
    let all = |of: &dyn Fn(&Sums) -> f64| sums.iter().map(of).sum::<f64>();
    let hours = all(&|sum| sum.hours);
    let row = |(row, forecast)| {
        let scaled = sums.iter().zip(scales).map(|(sum, scale)| sum.pinball[row] / sum.hours / scale);
        let ratios = sums.iter().map(|sum| sum.pinball[row] / sum.pinball[0]);
        let logs = ratios.clone().filter(|ratio| *ratio > 0.0).map(f64::ln);
        Row {
            forecast,
            pinball: backtest::mean(scaled),
            of_all: all(&|sum| sum.pinball[row]) / all(&|sum| sum.pinball[0]),
            ratio: backtest::mean(logs).exp(),
            better: ratios.filter(|ratio| *ratio < 1.0).count(),
            coverage_80: all(&|sum| sum.within_80[row]) / hours,
            coverage_95: all(&|sum| sum.within_95[row]) / hours,
        }
    };
    ROWS.into_iter().enumerate().map(row).collect()
}

fn report(options: &Cold, rows: &[Row]) -> String {
    let (history, horizon) = (options.history, options.judged.horizon);
    if options.judged.told.json {
        let value = json!({
            "in": options.judged.load.input,
            "metric": options.judged.load.metric,
            "horizon_hours": horizon,
            "last_hours": options.judged.last,
            "history_hours": history,
            "entities": options.entities,
            "forecasts": rows,
        });
        return format!("{value}\n");
    }
    let mut text = format!("{} entities with {history} h of history, {horizon} h ahead\n", options.entities);
    let _infallible = writeln!(
        text,
        "{:<20}{:>9}{:>8}{:>8}{:>10}{:>8}{:>8}",
        "forecast", "pinball", "of all", "ratio", "better", "80%", "95%"
    );
    for row in rows {
        let _infallible = writeln!(
            text,
            "{:<20}{:>9.4}{:>8.3}{:>8.3}{:>10}{:>7.1}%{:>7.1}%",
            row.forecast,
            row.pinball,
            row.of_all,
            row.ratio,
            row.better,
            100.0 * row.coverage_80,
            100.0 * row.coverage_95,
        );
    }
    text
}
