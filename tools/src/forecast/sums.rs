//! `forecast sums`: how well intervals of a group's sum hold, from whole paths and as if entities were independent.

use std::fmt::Write as _;
use std::io::Write;

use foreshard_forecast::recalibration::{self, Rolling};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::series::to_load;
use foreshard_forecast::walk::Walk;
use foreshard_forecast::{DAY, Series};
use serde::Serialize;
use serde_json::json;

use super::calibrated::{calibrated, random};
use super::given::Given;
use super::hot::signed;
use super::options::Sums;
use super::table::Table;
use super::work;
use crate::shell::Failure;

/// How the paths of a group are put together, as the report names it.
const WAYS: [&str; 2] = ["paths", "as if independent"];

pub(crate) fn run(options: &Sums) -> Result<(), Failure> {
    let table = Table::read(&options.load)?;
    super::tell_broken(&table);
    let series: Vec<(usize, &Series)> = table.entities.values().enumerate().collect();
    if series.len() < options.size {
        let (size, there) = (options.size, series.len());
        return Err(Failure::told(format!("a group of {size} cannot be drawn from {there} entities")));
    }
    let (first, last) = (table.end - signed(options.judged.last), table.end - signed(options.judged.horizon));
    let mut given = Given::default();
    given.train(
        &[options.model],
        &table,
        (first, last),
        (options.drawn.training_steps, options.drawn.seed),
    )?;
    let plan = recalibration::plan(first, last, options.judged.horizon);
    let walks = work::map(&series, options.load.threads, "walking entities", |&(index, series)| {
        options.model.walk(&given, index, series, plan)
    });
    let of = (first, last, options.judged.horizon);
    let recalibrations =
        calibrated(&given, &series, &options.load, of, options.drawn.seed, |index, _| walks[index].clone());
    let groups = groups(options, series.len());
    let origins: Vec<i64> = (first..=last).step_by(DAY).collect();
    let held = work::map(&origins, options.load.threads, "adding paths up", |&origin| {
        at_origin(options, &series, &walks, &recalibrations, &groups, origin)
    });
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(report(options, &rows(&held)).as_bytes())?;
    Ok(stdout.flush()?)
}

/// Hours, and how many were within the intervals.
#[derive(Clone, Copy, Default, Debug)]
struct Held {
    hours: f64,
    within_80: f64,
    within_95: f64,
}

/// Different entities each.
fn groups(options: &Sums, entities: usize) -> Vec<Vec<usize>> {
    let mut random = fastrand::Rng::with_seed(options.drawn.seed);
    let draw = |_| random.choose_multiple(0..entities, options.size);
    (0..options.groups).map(draw).collect()
}

fn at_origin(
    options: &Sums,
    series: &[(usize, &Series)],
    walks: &[Walk],
    recalibrations: &Rolling,
    groups: &[Vec<usize>],
    origin: i64,
) -> [Held; WAYS.len()] {
    let of = |&(index, series): &(usize, &Series)| {
        Scenarios::new(series, &walks[index], origin).recalibrated(recalibrations.at(origin))
    };
    let scenarios: Vec<Scenarios> = series.iter().map(of).collect();
    let mut random = random(options.drawn.seed, usize::try_from(origin).unwrap_or(0));
    let mut held = [Held::default(); WAYS.len()];
    for group in groups {
        let linked: Vec<Scenarios> = group.iter().map(|&entity| scenarios[entity].clone()).collect();
        let unlinked: Vec<Scenarios> = linked.iter().map(|paths| paths.shuffled(&mut random)).collect();
        for (held, paths) in held.iter_mut().zip([linked, unlinked]) {
            let Some(sum) = Scenarios::sum(&paths) else { continue };
            for hour in 0..options.judged.horizon {
                // A sum is known where all of it is.
                let was = group.iter().map(|&entity| series[entity].1.at(origin + signed(hour)));
                let was: f64 = was.map(|value| if value.is_nan() { f64::NAN } else { to_load(value) }).sum();
                if !was.is_nan() {
                    held.take(sum.place(hour, was, random.f64()));
                }
            }
        }
    }
    held
}

impl Held {
    fn take(&mut self, place: f64) {
        self.hours += 1.0;
        self.within_80 += f64::from(u8::from((0.1..=0.9).contains(&place)));
        self.within_95 += f64::from(u8::from((0.025..=0.975).contains(&place)));
    }
}

/// How the intervals of one way held.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    way: &'static str,
    /// The share of hours in the interval, ties broken by seeded draws.
    coverage_80: f64,
    coverage_95: f64,
    hours: f64,
}

fn rows(held: &[[Held; WAYS.len()]]) -> Vec<Row> {
    let row = |(index, way)| {
        let sum = |f: fn(&Held) -> f64| held.iter().map(|of: &[Held; WAYS.len()]| f(&of[index])).sum::<f64>();
        let hours = sum(|held| held.hours);
        let [coverage_80, coverage_95] =
            [sum(|held| held.within_80), sum(|held| held.within_95)].map(|within| within / hours);
        Row { way, coverage_80, coverage_95, hours }
    };
    WAYS.into_iter().enumerate().map(row).collect()
}

fn report(options: &Sums, rows: &[Row]) -> String {
    if options.json {
        let value = json!({
            "in": options.load.input,
            "metric": options.load.metric,
            "horizon_hours": options.judged.horizon,
            "last_hours": options.judged.last,
            "groups": options.groups,
            "size": options.size,
            "ways": rows,
        });
        return format!("{value}\n");
    }
    let mut text = format!("sums of {} groups of {}\n", options.groups, options.size);
    let _infallible = writeln!(text, "{:<20}{:>8}{:>8}{:>10}", "", "80%", "95%", "hours");
    for row in rows {
        let (within_80, within_95) = (100.0 * row.coverage_80, 100.0 * row.coverage_95);
        let _infallible =
            writeln!(text, "{:<20}{within_80:>7.1}%{within_95:>7.1}%{:>10}", row.way, row.hours);
    }
    text
}
