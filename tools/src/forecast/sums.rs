//! `forecast sums`: how well intervals of a group's sum hold, from whole paths and from the same quantiles alone.
//!
//! A group's load is summed twice: over its entities and all hours of the horizon, and over its entities, hour by hour. The
//! first is what the group brings while a decision lasts, the second what an hour's capacity is held against. Quantiles
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
const SUMS: [&str; 2] = ["the horizon", "an hour"];
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
    let draws: Vec<Vec<Vec<usize>>> =
        (0..).take(options.draws.get()).map(|draw| groups(options, draw, series.len())).collect();
    let origins: Vec<i64> = (first..=last).step_by(DAY).collect();
    let held = work::map(&origins, options.judged.load.threads, "adding paths up", |&origin| {
        at_origin(options, &series, &walks, &recalibrations, &draws, origin)
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

/// Different entities each, dealt like cards: over all groups no entity is drawn much more often than another, so that what is told is
/// of the entities and not of the few that chance likes.
fn groups(options: &Sums, draw: u64, entities: usize) -> Vec<Vec<usize>> {
    let mut random = fastrand::Rng::with_seed(options.judged.drawn.seed.wrapping_add(draw));
    let mut deck = Vec::new();
    let mut deal = |_| {
        let mut group = Vec::with_capacity(options.size);
        let mut twice = Vec::new();
        while group.len() < options.size {
            if deck.is_empty() {
                deck.extend(0..entities);
                random.shuffle(&mut deck);
            }
            match deck.pop() {
                Some(entity) if group.contains(&entity) => twice.push(entity),
                Some(entity) => group.push(entity),
                None => {}
            }
        }
        deck.append(&mut twice);
        group
    };
    (0..options.groups).map(&mut deal).collect()
}

fn at_origin(
    options: &Sums,
    series: &[(usize, &Series)],
    walks: &[Walk],
    recalibrations: &Rolling,
    draws: &[Vec<Vec<usize>>],
    origin: i64,
) -> Vec<AllHeld> {
    let of = |&(index, series): &(usize, &Series)| {
        Scenarios::new(series, &walks[index], origin).recalibrated(recalibrations.at(origin))
    };
    let scenarios: Vec<Scenarios> = series.iter().map(of).collect();
    let mut random = random(options.judged.drawn.seed, usize::try_from(origin).unwrap_or(0));
    let mut held = vec![AllHeld::default(); draws.len()];
    for (held, groups) in held.iter_mut().zip(draws) {
        for group in groups {
            // A sum is known where all of it is.
            let was =
                |hour: i64| group.iter().map(|&entity| series[entity].1.load(hour)).sum::<Option<f64>>();
            let was: Vec<Option<f64>> = (origin..).take(options.judged.horizon).map(was).collect();
            let linked: Vec<Scenarios> = group.iter().map(|&entity| scenarios[entity].clone()).collect();
            let unlinked: Vec<Scenarios> = linked.iter().map(|paths| paths.shuffled(&mut random)).collect();
            for (held, paths) in held.iter_mut().zip([linked, unlinked]) {
                if let Some(sum) = Scenarios::sum(&paths) {
                    judge(held, &sum, &was, &mut random);
                }
            }
        }
    }
    held
}

/// What was said of a group, hour by hour and of all known hours together, beside what was.
fn judge(held: &mut [Held; SUMS.len()], sum: &Scenarios, was: &[Option<f64>], random: &mut fastrand::Rng) {
    for (hour, was) in was.iter().enumerate() {
        if let Some(was) = was {
            held[1].take(sum.place(hour, *was, random.f64()));
        }
    }
    let known: Vec<bool> = was.iter().map(Option::is_some).collect();
    let count = known.iter().filter(|known| **known).count();
    if count as f64 >= KNOWN_SHARE_MIN * was.len() as f64 {
        let was = was.iter().flatten().sum();
        held[0].take(sum.total(&known).place(0, was, random.f64()));
    }
}

impl Held {
    fn take(&mut self, place: f64) {
        self.count += 1.0;
        self.within_80 += f64::from(u8::from((0.1..=0.9).contains(&place)));
        self.within_95 += f64::from(u8::from((0.025..=0.975).contains(&place)));
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.within_80 += other.within_80;
        self.within_95 += other.within_95;
    }
}

/// How the intervals of one way held: the share of sums in the interval, ties broken by seeded draws.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    way: &'static str,
    sum: &'static str,
    /// Of the first draw of groups, and of all.
    coverage_80: f64,
    coverage_80_all: f64,
    /// Of the draw in which fewest were inside, and of that in which most were.
    coverage_80_lowest: f64,
    coverage_80_highest: f64,
    coverage_95: f64,
    /// Over all draws.
    count: f64,
}

/// From what held at each origin, draw by draw.
fn rows(held: &[Vec<AllHeld>]) -> Vec<Row> {
    let draws = held.first().map_or(0, Vec::len);
    let mut rows = Vec::with_capacity(WAYS.len() * SUMS.len());
    for (sum_index, sum) in SUMS.into_iter().enumerate() {
        for (way_index, way) in WAYS.into_iter().enumerate() {
            let (mut first, mut all) = (f64::NAN, Held::default());
            let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
            for draw in 0..draws {
                let mut of_draw = Held::default();
                held.iter().for_each(|origin| of_draw.add(&origin[draw][way_index][sum_index]));
                let coverage = of_draw.within_80 / of_draw.count;
                first = if draw == 0 { coverage } else { first };
                (lowest, highest) = (lowest.min(coverage), highest.max(coverage));
                all.add(&of_draw);
            }
            rows.push(Row {
                way,
                sum,
                coverage_80: first,
                coverage_80_all: all.within_80 / all.count,
                coverage_80_lowest: lowest,
                coverage_80_highest: highest,
                coverage_95: all.within_95 / all.count,
                count: all.count,
            });
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
            "draws": options.draws,
            "ways": rows,
        });
        return format!("{value}\n");
    }
    let mut text = format!("sums of {} groups of {}, drawn anew each time\n", options.groups, options.size);
    let _infallible = writeln!(
        text,
        "{:<14}{:<24}{:>8}{:>8}{:>9}{:>8}{:>8}{:>10}",
        "sum over", "from", "80%", "lowest", "highest", "of all", "95%", "count"
    );
    for row in rows {
        let shares = [
            row.coverage_80,
            row.coverage_80_lowest,
            row.coverage_80_highest,
            row.coverage_80_all,
            row.coverage_95,
        ];
        let [first, lowest, highest, all, within_95] = shares.map(|share| 100.0 * share);
        let _infallible = writeln!(
            text,
            "{:<14}{:<24}{first:>7.1}%{lowest:>7.1}%{highest:>8.1}%{all:>7.1}%{within_95:>7.1}%{:>10}",
            row.sum, row.way, row.count
        );
    }
    text
}
