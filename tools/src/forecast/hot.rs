//! `forecast hot` and `forecast score`: probabilities that a limit is exceeded, and how good they were.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};

use foreshard_forecast::hot::{Asked, MEMORY, Question, rolling};
use foreshard_forecast::measures::{Judged, average_precision, brier, reliability};
use foreshard_forecast::series::to_load;
use foreshard_forecast::walk::{Plan, Walk};
use foreshard_forecast::{Autoregression, DAY, Series};

use super::given::Given;
use super::options::{Asking, Hot, Limit, Load, Score};
use super::table::{self, Table};
use super::work;
use crate::shell::Failure;

/// Error paths are taken this often at least: the origins of six hours see every part of the day.
const STEP_MAX: usize = 6;
/// Reliability is told of bins with as many cases.
const BIN_CASES_MIN: usize = 100;

/// `forecast hot`.
pub(crate) fn hot(options: &Hot) -> Result<(), Failure> {
    let table = Table::read(&options.load)?;
    super::tell_broken(&table);
    let first = table.end - signed(options.last);
    let origins: Vec<i64> = (first..=table.end).step_by(options.origins).collect();
    let question = question(&options.asking, &table, first)?;
    let given = Given::read(options.events.as_deref(), &table, options.load.threads)?;
    let walks = walks(&table, &given, &options.load, &question, &origins)?;
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

/// `forecast score`.
pub(crate) fn score(options: &Score) -> Result<(), Failure> {
    let table = Table::read(&options.load)?;
    super::tell_broken(&table);
    let answers = read_answers(options)?;
    let origins: Vec<i64> = answers.keys().copied().collect();
    let first = *origins.first().ok_or_else(|| table::at(&options.forecast, "has no rows"))?;
    let question = question(&options.asking, &table, first)?;
    let walks = walks(&table, &Given::default(), &options.load, &question, &origins)?;
    let mut cases = Vec::new();
    for ((entity, series), walk) in table.entities.iter().zip(&walks) {
        for (&origin, answers) in &answers {
            let (Some(&said), Some(hot)) = (answers.get(entity), question.outcome(series, origin)) else {
                continue;
            };
            cases.push(case(&question, series, walk, origin, said, hot));
        }
    }
    if cases.is_empty() {
        return Err(table::at(&options.forecast, "names no entity and origin whose window is in the load"));
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(report(&cases).as_bytes())?;
    Ok(stdout.flush()?)
}

/// What was said of one entity at one origin, by everybody.
struct Case {
    hot: bool,
    cold_before: bool,
    said: [f64; ROWS.len()],
}

/// Who is compared; only some say probabilities.
const ROWS: [(&str, bool); 7] = [
    ("last hour (reactive)", false),
    ("seasonal naive, 24 h", false),
    ("autoregression, point forecast", false),
    ("climatology, 21 days", true),
    ("autoregression, error paths", true),
    ("mean of the last two", true),
    ("the forecast", true),
];

fn case(question: &Question, series: &Series, walk: &Walk, origin: i64, said: f64, hot: bool) -> Case {
    let window = || question.window(origin);
    let peak = |values: &mut dyn Iterator<Item = f32>| to_load(values.fold(0.0, f32::max));
    let point = walk.path(origin).map_or(0.0, |path| {
        peak(&mut window().filter_map(|hour| usize::try_from(hour - origin).ok()).map(|lead| path[lead]))
    });
    let evidence = question.evidence(&Asked { series, walk, events: None }, origin);
    let day_ago = peak(&mut window().map(|hour| series.at(hour - signed(DAY))));
    let last = peak(&mut std::iter::once(series.at(origin - 1)));
    let said = [last, day_ago, point, evidence.climatology, evidence.paths, evidence.blend(), said];
    Case { hot, cold_before: question.is_cold(series, origin), said }
}

fn report(cases: &[Case]) -> String {
    let of = |row: usize, emerging: bool| -> Vec<Judged> {
        let cases = cases.iter().filter(|case| case.cold_before || !emerging);
        cases.map(|case| Judged { probability: case.said[row], came_true: case.hot }).collect()
    };
    let hot = cases.iter().filter(|case| case.hot).count();
    let mut text = format!("{} cases, {hot} of them hot\n", cases.len());
    let _infallible = writeln!(text, "{:<32}{:>8}{:>10}{:>10}", "ranking by", "AP all", "emerging", "Brier");
    for (row, (name, says_probability)) in ROWS.iter().enumerate() {
        let all = of(row, false);
        let brier = if *says_probability { format!("{:.5}", brier(&all)) } else { String::new() };
        let (all, emerging) = (average_precision(&all), average_precision(&of(row, true)));
        let _infallible = writeln!(text, "{name:<32}{all:>8.3}{emerging:>10.3}{brier:>10}");
    }
    let _infallible =
        writeln!(text, "\nreliability of the forecast\n{:>10}{:>8}{:>8}", "cases", "said", "was");
    for bin in reliability(&of(ROWS.len() - 1, false)).iter().filter(|bin| bin.count > 0) {
        let few = if bin.count < BIN_CASES_MIN { "  few" } else { "" };
        let _infallible = writeln!(text, "{:>10}{:>8.3}{:>8.3}{few}", bin.count, bin.said, bin.came_true);
    }
    text
}

/// Of every entity, at the origins and as long before as is learnt from.
fn walks(
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

fn question(asking: &Asking, table: &Table, first: i64) -> Result<Question, Failure> {
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

type Answers = BTreeMap<i64, BTreeMap<String, f64>>;

fn read_answers(options: &Score) -> Result<Answers, Failure> {
    let mut reader = table::reader(&options.forecast)?;
    let mut answers = Answers::new();
    for record in reader.records() {
        let record = record.map_err(|e| table::at(&options.forecast, &e.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |what: &str| table::at(&options.forecast, &format!("line {line}: {what}"));
        let (Some(origin), Some(entity), Some(said)) = (record.get(0), record.get(1), record.get(2)) else {
            return Err(wrong("must be origin,entity,probability"));
        };
        let (origin, _) = Table::hour(origin).map_err(|e| wrong(&e))?;
        let said: f64 = said.trim().parse().map_err(|_| wrong("the probability is no number"))?;
        if !(0.0..=1.0).contains(&said) {
            return Err(wrong("the probability is not between 0 and 1"));
        }
        answers.entry(origin).or_default().insert(entity.to_owned(), said);
    }
    Ok(answers)
}

pub(crate) fn signed(hours: usize) -> i64 {
    i64::try_from(hours).unwrap_or(i64::MAX)
}
