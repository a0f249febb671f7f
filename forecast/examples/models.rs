//! Backtests one model on a trace: `zcat TRACE.csv.gz | models MODEL METRIC[+METRIC] [key=value ...]`.
//!
//! Rolling origins at every day's first hour over the last 21 days; prints the geometric mean over series of the mean
//! absolute error over seasonal naive's.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program: it prints, and reads a clock"
)]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Instant;

use foreshard_forecast::arima::{Arima, Order};
use foreshard_forecast::lstm::{Lstm, Training};
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::{Fitted, Model, Rows};

type Failure = Box<dyn std::error::Error>;

struct Options(BTreeMap<String, usize>);

impl Options {
    fn get(&self, key: &str, otherwise: usize) -> usize {
        self.0.get(key).copied().unwrap_or(otherwise)
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, metric, rest @ ..] = arguments.as_slice() else {
        return Err("usage: models MODEL METRIC[+METRIC] [key=value ...] < TRACE".into());
    };
    let mut options = BTreeMap::new();
    for pair in rest {
        let (key, value) = pair.split_once('=').ok_or("settings are key=value")?;
        options.insert(key.to_owned(), value.parse()?);
    }
    let options = Options(options);
    let (first, series) = read(metric)?;
    let every = options.get("every", 1);
    let picked: Vec<&Vec<f32>> = series.values().step_by(every).collect();
    backtest(name, &options, first, &picked)
}

/// The first hour, and each entity's hours from there, log1p.
fn read(metric: &str) -> Result<(i64, BTreeMap<String, Vec<f32>>), Failure> {
    let mut lines = std::io::stdin().lock().lines();
    let header = lines.next().ok_or("an empty trace")??;
    let names: Vec<&str> = header.split(',').collect();
    let wanted: Vec<usize> =
        (0..names.len()).filter(|&at| metric.split('+').any(|part| names[at].starts_with(part))).collect();
    let mut rows = Vec::new();
    for line in lines {
        let line = line?;
        let cells: Vec<&str> = line.split(',').collect();
        let sum = wanted.iter().map(|&at| cells[at].parse::<f32>()).sum::<Result<f32, _>>()?;
        rows.push((cells[0].parse::<i64>()? / 3600, cells[1].to_owned(), sum.ln_1p()));
    }
    let first = rows.iter().map(|row| row.0).min().ok_or("no rows")?;
    let last = rows.iter().map(|row| row.0).max().ok_or("no rows")?;
    let length = usize::try_from(last - first + 1)?;
    let mut series = BTreeMap::new();
    for (hour, entity, value) in rows {
        let values = series.entry(entity).or_insert_with(|| vec![f32::NAN; length]);
        values[usize::try_from(hour - first)?] = value;
    }
    Ok((first, series))
}

fn arima(options: &Options) -> Arima {
    let mut settings = Arima::default();
    let order = |text: &str, base: Order| Order {
        ar: options.get(&format!("{text}p"), base.ar),
        differences: options.get(&format!("{text}d"), base.differences),
        ma: options.get(&format!("{text}q"), base.ma),
    };
    settings.hourly = order("", settings.hourly);
    settings.daily = order("s", settings.daily);
    settings.harmonics.daily = options.get("fd", settings.harmonics.daily);
    settings.harmonics.weekly = options.get("fw", settings.harmonics.weekly);
    settings.window_hours = options.get("window", settings.window_hours);
    settings.huber = options.get("huber", 15) as f64 / 10.0;
    settings
}

/// Trained on what lies before the 21 days.
fn lstm(options: &Options, first: i64, series: &[&Vec<f32>]) -> Result<Lstm, Failure> {
    let before = Instant::now();
    let until = 24 * (21 + options.get("back", 0));
    let series: Vec<(i64, &[f32])> =
        series.iter().map(|values| (first, &values[..values.len() - until])).collect();
    let mut training = Training::default();
    training.hidden = options.get("hidden", training.hidden);
    training.batches = options.get("batches", training.batches);
    let model = Lstm::train(&series, training, 1)?;
    println!("trained in {:.1} s", before.elapsed().as_secs_f64());
    Ok(model)
}

/// None for the methods that need no learning.
fn model(
    name: &str,
    options: &Options,
    first: i64,
    series: &[&Vec<f32>],
) -> Result<Option<Box<dyn Model>>, Failure> {
    Ok(match name {
        "naive" | "median7" => None,
        "arima" => Some(Box::new(arima(options))),
        "prophet" => Some(Box::new(Prophet::default())),
        "lstm" => Some(Box::new(lstm(options, first, series)?)),
        _ => return Err(format!("no model is called {name}").into()),
    })
}

fn backtest(name: &str, options: &Options, first: i64, series: &[&Vec<f32>]) -> Result<(), Failure> {
    let horizon = options.get("horizon", 24);
    let refit_hours = options.get("refit", 7) * 24;
    let model = model(name, options, first, series)?;
    let (mut log_ratios, mut fits, mut spent, mut short) = (Vec::new(), 0_u32, 0.0, 0_u32);
    let (mut updates, mut updating, mut pathing) = (0_usize, 0.0, 0.0);
    for values in series {
        // `back`: days before the end at which the 21 days end.
        let end = values.len() - 24 * options.get("back", 0);
        let origins: Vec<usize> = (end - 21 * 24..=end - horizon).step_by(24).collect();
        let (mut own, mut naive) = (0.0_f64, 0.0_f64);
        let mut fitted: Option<(usize, Box<dyn Fitted>)> = None;
        let mut known_until = 0;
        for &origin in &origins {
            let mut path = vec![0.0_f32; horizon];
            if let Some(model) = &model {
                if fitted.as_ref().is_none_or(|(at, _)| origin >= at + refit_hours) {
                    let before = Instant::now();
                    fitted =
                        model.fit(first, &values[..origin], Rows::NONE).ok().map(|fitted| (origin, fitted));
                    spent += before.elapsed().as_secs_f64();
                    fits += 1;
                    known_until = origin;
                }
                match &mut fitted {
                    Some((_, fitted)) => {
                        let before = Instant::now();
                        values[known_until..origin].iter().for_each(|&value| fitted.update(value, &[]));
                        updating += before.elapsed().as_secs_f64();
                        updates += origin - known_until;
                        let before = Instant::now();
                        fitted.path(Rows::NONE, &mut path);
                        pathing += before.elapsed().as_secs_f64();
                    }
                    None => {
                        short += 1;
                        same_hour(values, origin, 1, &mut path);
                    }
                }
                known_until = origin;
            } else {
                same_hour(values, origin, if name == "naive" { 1 } else { 7 }, &mut path);
            }
            let mut baseline = vec![0.0; horizon];
            same_hour(values, origin, 1, &mut baseline);
            for lead in 0..horizon {
                let truth = values[origin + lead];
                if truth.is_finite() {
                    assert!(path[lead].is_finite(), "a forecast that is no number");
                    let error =
                        |forecast: f32| f64::from((forecast.exp_m1().max(0.0) - truth.exp_m1()).abs());
                    own += error(path[lead]);
                    naive += error(baseline[lead]);
                }
            }
        }
        // A series that seasonal naive foretells exactly has no ratio.
        if naive > 0.0 {
            log_ratios.push((own / naive).max(0.01).ln());
        }
    }
    let mean = log_ratios.iter().sum::<f64>() / log_ratios.len() as f64;
    let worse = log_ratios.iter().filter(|ratio| **ratio > 0.0).count();
    println!(
        "{name}: {:.4} of seasonal naive over {} series ({worse} worse, {short} unfit), {:.2} ms a fit, {:.2} us an hour taken, {:.0} us a path",
        mean.exp(),
        log_ratios.len(),
        1e3 * spent / f64::from(fits.max(1)),
        1e6 * updating / updates.max(1) as f64,
        1e6 * pathing / (21 * log_ratios.len()) as f64,
    );
    Ok(())
}

/// The median of the same hour on the last `days` days that are known.
fn same_hour(values: &[f32], origin: usize, days: usize, out: &mut [f32]) {
    for (lead, slot) in out.iter_mut().enumerate() {
        let back = (1..)
            .map(|day| day * 24)
            .filter(|back| *back > lead)
            .map_while(|back| (origin + lead).checked_sub(back));
        let mut seen: Vec<f32> =
            back.map(|hour| values[hour]).filter(|value| value.is_finite()).take(days).collect();
        seen.sort_by(f32::total_cmp);
        *slot = seen.get(seen.len() / 2).copied().unwrap_or(0.0);
    }
}
