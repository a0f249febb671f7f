//! `forecast hot`: probabilities that a limit is exceeded.

use std::fs::File;
use std::io::BufWriter;

use foreshard_forecast::hot::{Asked, MEMORY, Question, rolling};
use foreshard_forecast::series::to_load;
use foreshard_forecast::walk::{Plan, Walk};
use foreshard_forecast::{Autoregression, DAY, Series};

use super::given::Given;
use super::options::{Asking, Hot, Limit, Load};
use super::table::{self, Table};
use super::work;
use crate::shell::Failure;

/// Error paths are taken this often at least: the origins of six hours see every part of the day.
const STEP_MAX: usize = 6;

pub(crate) fn run(options: &Hot) -> Result<(), Failure> {
    let table = Table::read(&options.asking.load)?;
    super::tell_broken(&table);
    let first = table.end - signed(options.last);
    let origins: Vec<i64> = (first..=table.end).step_by(options.origins).collect();
    let question = question(&options.asking, &table, first)?;
    let given = Given::read(options.announced.events.as_deref(), &table, options.asking.load.threads)?;
    let walks = walks(&table, &given, &options.asking.load, &question, &origins)?;
    let asked = table.entities.values().zip(&walks).enumerate();
    let asked: Vec<Asked<'_>> =
        asked.map(|(index, (series, walk))| Asked { series, walk, events: given.events_of(index) }).collect();
    let answers = rolling(&asked, &question, &origins);
    let file = File::create(&options.out).map_err(|e| table::at(&options.out, &e.to_string()))?;
    let mut out = csv::Writer::from_writer(BufWriter::new(file));
    let wrong = |e: csv::Error| table::at(&options.out, &e.to_string());
    out.write_record(["origin", "entity", "probability"]).map_err(wrong)?;
    for (&origin, answers) in origins.iter().zip(&answers) {
        let time = table.time(origin).to_string();
        for (entity, probability) in table.entities.keys().zip(answers) {
            out.write_record([&time, entity, &format!("{probability:.6}")]).map_err(wrong)?;
        }
    }
    out.flush().map_err(|e| table::at(&options.out, &e.to_string()))
}

/// Of every entity, at the origins and as long before as is learnt from.
pub(super) fn walks(
    table: &Table,
    given: &Given,
    load: &Load,
    question: &Question,
    origins: &[i64],
) -> Result<Vec<Walk>, Failure> {
    let (first, last) = (origins[0], origins[origins.len() - 1]);
    let step = origins.windows(2).fold(0, |step, pair| greatest_divisor(step, pair[1] - pair[0]));
    let step = usize::try_from(step).ok().filter(|&step| step > 0).unwrap_or(STEP_MAX);
    let step = (1..=STEP_MAX).rev().find(|divisor| step % divisor == 0).unwrap_or(1);
    // The outcomes learnt from lie one memory before the first origin, their error paths another one.
    let before = (2 * MEMORY).next_multiple_of(step);
    let plan = Plan { first: first - signed(before), last, step, refit: DAY, horizon: question.horizon() };
    let series: Vec<(usize, &Series)> = table.entities.values().enumerate().collect();
    Ok(work::map(&series, load.threads, "walking entities", |&(index, series)| {
        given.walk(&Autoregression, index, series, plan)
    }))
}

const fn greatest_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

pub(super) fn question(asking: &Asking, table: &Table, first: i64) -> Result<Question, Failure> {
    let limit = match asking.limit {
        Limit::Load(limit) => limit,
        Limit::Percentile(percent) => percentile(table, first, percent)?,
    };
    tracing::info!(limit, "the limit");
    Question::new(limit, *asking.window.start(), *asking.window.end())
        .ok_or_else(|| Failure::told("no load can exceed this limit in this window"))
}

/// Of all known hours before `end`, between neighbours as the line between them goes.
fn percentile(table: &Table, end: i64, percent: f64) -> Result<f64, Failure> {
    let known = table.entities.values().flat_map(|series| series.before(end)).filter(|v| !v.is_nan());
    let mut loads: Vec<f64> = known.map(|&value| to_load(value)).collect();
    loads.sort_by(f64::total_cmp);
    foreshard_forecast::measures::quantile(&loads, percent / 100.0)
        .ok_or_else(|| Failure::told("no hour is known before the first origin: give the limit as a load"))
}

pub(crate) fn signed(hours: usize) -> i64 {
    i64::try_from(hours).unwrap_or(i64::MAX)
}
