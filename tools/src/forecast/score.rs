//! `forecast score`: how good probabilities that a limit is exceeded were, beside those of simple methods.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use foreshard_forecast::hot::{Asked, Question};
use foreshard_forecast::measures::{Bin, Judged, average_precision, brier, reliability};
use foreshard_forecast::series::to_load;
use foreshard_forecast::walk::Walk;
use foreshard_forecast::{DAY, Series};
use serde::Serialize;
use serde_json::json;

use super::given::Given;
use super::hot::{question, signed, walks};
use super::options::Score;
use super::table::{self, Table};
use crate::shell::Failure;

/// Reliability is told of bins with as many cases.
const BIN_CASES_MIN: usize = 100;

/// `forecast score`.
pub(crate) fn run(options: &Score) -> Result<(), Failure> {
    let table = Table::read(&options.asking.load)?;
    super::tell_broken(&table);
    let answers = read_answers(options)?;
    let origins: Vec<i64> = answers.keys().copied().collect();
    let first = *origins.first().ok_or_else(|| table::at(&options.forecast, "has no rows"))?;
    let question = question(&options.asking, &table, first)?;
    let walks = walks(&table, &Given::default(), &options.asking.load, &question, &origins)?;
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
    stdout.write_all(report(options, &cases).as_bytes())?;
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

/// How well one of [`ROWS`] ranked the cases.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    ranking: &'static str,
    average_precision: f64,
    /// Of the entities that were cold in the last hours.
    average_precision_emerging: f64,
    /// Of probabilities only.
    brier: Option<f64>,
}

fn judged(cases: &[Case], row: usize, emerging: bool) -> Vec<Judged> {
    let cases = cases.iter().filter(|case| case.cold_before || !emerging);
    cases.map(|case| Judged { probability: case.said[row], came_true: case.hot }).collect()
}

fn rows(cases: &[Case]) -> Vec<Row> {
    let row = |(row, &(ranking, says_probability)): (usize, &(&'static str, bool))| {
        let all = judged(cases, row, false);
        Row {
            ranking,
            average_precision: average_precision(&all),
            average_precision_emerging: average_precision(&judged(cases, row, true)),
            brier: says_probability.then(|| brier(&all)),
        }
    };
    ROWS.iter().enumerate().map(row).collect()
}

fn report(options: &Score, cases: &[Case]) -> String {
    let rows = rows(cases);
    let hot = cases.iter().filter(|case| case.hot).count();
    let bins: Vec<Bin> =
        reliability(&judged(cases, ROWS.len() - 1, false)).into_iter().filter(|bin| bin.count > 0).collect();
    if options.told.json {
        let bins = bins.iter().map(|bin| json!({"cases": bin.count, "said": bin.said, "was": bin.came_true}));
        let value = json!({
            "in": options.asking.load.input,
            "metric": options.asking.load.metric,
            "cases": cases.len(),
            "hot": hot,
            "rankings": rows,
            "reliability": bins.collect::<Vec<_>>(),
        });
        return format!("{value}\n");
    }
    let mut text = format!("{} cases, {hot} of them hot\n", cases.len());
    let _infallible = writeln!(text, "{:<32}{:>8}{:>10}{:>10}", "ranking by", "AP all", "emerging", "Brier");
    for row in &rows {
        let brier = row.brier.map_or_else(String::new, |brier| format!("{brier:.5}"));
        let (all, emerging) = (row.average_precision, row.average_precision_emerging);
        let _infallible = writeln!(text, "{:<32}{all:>8.3}{emerging:>10.3}{brier:>10}", row.ranking);
    }
    let _infallible =
        writeln!(text, "\nreliability of the forecast\n{:>10}{:>8}{:>8}", "cases", "said", "was");
    for bin in &bins {
        let few = if bin.count < BIN_CASES_MIN { "  few" } else { "" };
        let _infallible = writeln!(text, "{:>10}{:>8.3}{:>8.3}{few}", bin.count, bin.said, bin.came_true);
    }
    text
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
