//! What events are worth: each method's errors in their hours, with the calendar and without it.

use std::fmt::Write as _;

use foreshard_forecast::events::{Effects, EffectsOf};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::series::to_load;
use foreshard_forecast::walk::Walk;
use foreshard_forecast::{DAY, Series, WEEK, auto};
use serde::Serialize;

use super::given::Given;
use super::hot::signed;
use super::models::Choice;
use super::options::Backtest;
use super::table::Table;
use super::work;

/// An entity's first event of a kind is forecast from others': with fewer of these, there is little to forecast it from.
const OTHERS_MIN: usize = 3;

/// Which hours are compared. Among an entity's first of a kind are those of which nobody could know; those learnt from
/// others are apart.
const ROWS: [&str; 5] =
    ["event", "first, learnt from others", "first of its kind", "a day after", "a week after"];

/// Hours, and absolute errors of the median with events and without, by [`ROWS`].
#[derive(Clone, Copy, Default, Debug)]
struct Errors([[f64; 3]; ROWS.len()]);

/// What events are worth to one method in hours of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Row {
    model: &'static str,
    hours: &'static str,
    count: f64,
    /// Mean absolute errors of the median.
    error_without_events: f64,
    error_with_events: f64,
}

/// An event counts as far as it was announced before the origin.
pub(crate) fn compare(
    options: &Backtest,
    choices: &[Choice],
    given: &Given,
    effects: &Effects,
    table: &Table,
) -> Vec<Row> {
    let without = given.without_events();
    let series: Vec<(usize, &Series)> = table.entities.values().enumerate().collect();
    let series: Vec<(usize, &Series)> =
        series.into_iter().filter(|&(index, _)| !effects.of(index).dates().is_empty()).collect();
    let of_choice = |&choice: &Choice| {
        let what = format!("events with {}", choice.name());
        let errors = work::map(&series, options.judged.load.threads, &what, |&(index, series)| {
            let first = table.end - signed(options.judged.last);
            let plan = auto::plan(first, table.end - signed(options.judged.horizon), options.judged.horizon);
            let walks = [&without, given].map(|given| choice.walk(given, index, series, plan));
            let origins = (first..=plan.last).step_by(DAY);
            let effects = effects.of(index);
            origins.fold(Errors::default(), |errors, origin| errors.add(series, effects, &walks, origin))
        });
        let all = errors.into_iter().fold(Errors::default(), Errors::plus);
        let known = ROWS.into_iter().zip(all.0).filter(|row| row.1[0] > 0.0);
        known.map(move |(hours, [count, without, with])| Row {
            model: choice.name(),
            hours,
            count,
            error_without_events: without / count,
            error_with_events: with / count,
        })
    };
    choices.iter().flat_map(of_choice).collect()
}

pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "\nmean absolute error of the median\n{:<16}{:<26}{:>8}{:>14}{:>14}{:>9}\n",
        "model", "hours", "count", "without", "with events", "change"
    );
    for &Row { model, hours, count, error_without_events: without, error_with_events: with } in rows {
        let change = 100.0 * (with / without - 1.0);
        let _infallible =
            writeln!(text, "{model:<16}{hours:<26}{count:>8.0}{without:>14.3}{with:>14.3}{change:>8.1}%");
    }
    text
}

impl Errors {
    fn add(mut self, series: &Series, events: EffectsOf<'_>, walks: &[Walk; 2], origin: i64) -> Self {
        let dates = events.dates();
        let hours: Vec<i64> = (origin..).take(walks[0].plan().horizon).collect();
        let on = |hour: i64| dates.is_on(hour, origin);
        let is_of = |row: usize, hour: i64| match row {
            0 => on(hour),
            1 => dates.is_first_on(hour, origin) && events.learnt_from(hour, origin) >= OTHERS_MIN,
            2 => dates.is_first_on(hour, origin),
            3 => !on(hour) && on(hour - signed(DAY)),
            _ => !on(hour) && on(hour - signed(WEEK)),
        };
        if !hours.iter().any(|&hour| (0..ROWS.len()).any(|row| is_of(row, hour))) {
            return self;
        }
        let [without, with] = walks;
        let scenarios = [
            Scenarios::new(series, without, origin),
            Scenarios::with_events(series, with, origin, Some(events)),
        ];
        for (lead, &hour) in hours.iter().enumerate().filter(|(_, hour)| !series.at(**hour).is_nan()) {
            let was = to_load(series.at(hour));
            let [without, with] = scenarios.each_ref().map(|said| (said.quantile(lead, 0.5) - was).abs());
            for row in (0..ROWS.len()).filter(|&row| is_of(row, hour)) {
                for (sum, more) in self.0[row].iter_mut().zip([1.0, without, with]) {
                    *sum += more;
                }
            }
        }
        self
    }

    fn plus(mut self, other: Self) -> Self {
        for (sum, more) in self.0.iter_mut().flatten().zip(other.0.as_flattened()) {
            *sum += more;
        }
        self
    }
}
