//! `forecast sums`: how well intervals of a group's sum hold, from whole paths and from the same quantiles alone.
//!
//! A group's load is summed twice: over its entities, hour by hour, and over its entities and all hours of the horizon. The
//! first is what an hour's capacity is held against, the second what the group brings while a decision lasts. Quantiles
//! tell what each entity does in each hour and nothing of what goes together, so that they can be added up only as if all were
//! independent, entities and hours alike. Both ways have the same marginals, to the bit.
//!
//! Hours in which an entity of the group is not known are left out of a sum, of what was and of what was said.

use std::fmt::Write as _;
use std::io::Write;

use foreshard_forecast::recalibration::{self, Rolling};
use foreshard_forecast::scenarios::Scenarios;
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
const WAYS: [&str; 2] = ["paths", "independent quantiles"];
/// What is summed over entities.
const SUMS: [&str; 2] = ["an hour", "the horizon"];
/// With fewer of its hours known, the sum over a horizon is none of that horizon.
const KNOWN_SHARE_MIN: f64 = 0.5;

pub(crate) fn run(options: &Sums) -> Result<(), Failure> {
    let table = Table::read(&options.judged.load)?;
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
        (options.training.steps, options.judged.drawn.seed),
    )?;
    let plan = recalibration::plan(first, last, options.judged.horizon);
    let walks = work::map(&series, options.judged.load.threads, "walking entities", |&(index, series)| {
        options.model.walk(&given, index, series, plan)
    });
    let of = (first, last, options.judged.horizon);
    let recalibrations =
        calibrated(&given, &series, &options.judged.load, of, options.judged.drawn.seed, |index, _| {
            walks[index].clone()
        });
    let groups = groups(options, series.len());
    let origins: Vec<i64> = (first..=last).step_by(DAY).collect();
    let held = work::map(&origins, options.judged.load.threads, "adding paths up", |&origin| {
        at_origin(options, &series, &walks, &recalibrations, &groups, origin)
    });
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(report(options, &rows(&held)).as_bytes())?;
    Ok(stdout.flush()?)
}

/// Sums, and how many were within the intervals.
#[derive(Clone, Copy, Default, Debug)]
struct Held {
    count: f64,
    within_80: f64,
    within_95: f64,
}

/// By [`WAYS`] and [`SUMS`].
type AllHeld = [[Held; SUMS.len()]; WAYS.len()];

/// Different entities each.
fn groups(options: &Sums, entities: usize) -> Vec<Vec<usize>> {
    let mut random = fastrand::Rng::with_seed(options.judged.drawn.seed);
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
) -> AllHeld {
    let of = |&(index, series): &(usize, &Series)| {
        Scenarios::new(series, &walks[index], origin).recalibrated(recalibrations.at(origin))
    };
    let scenarios: Vec<Scenarios> = series.iter().map(of).collect();
    let mut random = random(options.judged.drawn.seed, usize::try_from(origin).unwrap_or(0));
    let mut held = AllHeld::default();
    for group in groups {
        // A sum is known where all of it is.
        let was = |hour: i64| group.iter().map(|&entity| series[entity].1.load(hour)).sum::<Option<f64>>();
        let was: Vec<Option<f64>> = (origin..).take(options.judged.horizon).map(was).collect();
        let linked: Vec<Scenarios> = group.iter().map(|&entity| scenarios[entity].clone()).collect();
        let unlinked: Vec<Scenarios> = linked.iter().map(|paths| paths.shuffled(&mut random)).collect();
        for (held, paths) in held.iter_mut().zip([linked, unlinked]) {
            if let Some(sum) = Scenarios::sum(&paths) {
                judge(held, &sum, &was, &mut random);
            }
        }
    }
    held
}

/// What was said of a group, hour by hour and of all known hours together, beside what was.
fn judge(held: &mut [Held; SUMS.len()], sum: &Scenarios, was: &[Option<f64>], random: &mut fastrand::Rng) {
    for (hour, was) in was.iter().enumerate() {
        if let Some(was) = was {
            held[0].take(sum.place(hour, *was, random.f64()));
        }
    }
    let known: Vec<bool> = was.iter().map(Option::is_some).collect();
    let count = known.iter().filter(|known| **known).count();
    if count as f64 >= KNOWN_SHARE_MIN * was.len() as f64 {
        let was = was.iter().flatten().sum();
        held[1].take(sum.total(&known).place(0, was, random.f64()));
    }
}

impl Held {
    fn take(&mut self, place: f64) {
        self.count += 1.0;
        self.within_80 += f64::from(u8::from((0.1..=0.9).contains(&place)));
        self.within_95 += f64::from(u8::from((0.025..=0.975).contains(&place)));
    }
}

/// How the intervals of one way held.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    way: &'static str,
    sum: &'static str,
    /// The share of sums in the interval, ties broken by seeded draws.
    coverage_80: f64,
    coverage_95: f64,
    count: f64,
}

fn rows(held: &[AllHeld]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(WAYS.len() * SUMS.len());
    for (sum_index, sum) in SUMS.into_iter().enumerate() {
        for (way_index, way) in WAYS.into_iter().enumerate() {
            let all = |f: fn(&Held) -> f64| held.iter().map(|of| f(&of[way_index][sum_index])).sum::<f64>();
            let count = all(|held| held.count);
            let [coverage_80, coverage_95] =
                [all(|held| held.within_80), all(|held| held.within_95)].map(|within| within / count);
            rows.push(Row { way, sum, coverage_80, coverage_95, count });
        }
    }
    rows
}

fn report(options: &Sums, rows: &[Row]) -> String {
    if options.judged.told.json {
        let value = json!({
            "in": options.judged.load.input,
            "metric": options.judged.load.metric,
            "horizon_hours": options.judged.horizon,
            "last_hours": options.judged.last,
            "groups": options.groups,
            "size": options.size,
            "ways": rows,
        });
        return format!("{value}\n");
    }
    let mut text = format!("sums of {} groups of {}\n", options.groups, options.size);
    let _infallible =
        writeln!(text, "{:<14}{:<24}{:>8}{:>8}{:>10}", "sum over", "from", "80%", "95%", "count");
    for row in rows {
        let (within_80, within_95) = (100.0 * row.coverage_80, 100.0 * row.coverage_95);
        let _infallible = writeln!(
            text,
            "{:<14}{:<24}{within_80:>7.1}%{within_95:>7.1}%{:>10}",
            row.sum, row.way, row.count
        );
    }
    text
}
