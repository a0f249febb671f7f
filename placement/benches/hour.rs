//! A planner's hour at full size, on one core: a million tracked entities updated, five thousand candidates fitted anew, a plan.
//!
//! `cargo bench -p foreshard-placement --bench hour [-- --smoke | --json]`. The load is generated: daily rhythms of every size, with
//! noise. Weeks of hours come first and are not timed; resident memory counts them too. Times are what the one thread had of
//! a processor: others on the machine do not count. Nothing is read or written.
#![expect(clippy::print_stdout, reason = "a measuring program prints what it measured")]

#[path = "../../forecast/benches/process/mod.rs"]
mod process;

use foreshard_forecast::Series;
use foreshard_forecast::events::Calendar;
use foreshard_forecast::store::EntityId;
use foreshard_forecast::tracking::Limits;
use foreshard_placement::forecasts::{Forecasts, Subject};
use foreshard_placement::history::{Counted, History};
use foreshard_placement::situation::{self, Placed};
use foreshard_placement::{Partition, Plan, Settings, State, plan};

use self::process::{Failure, processor_time, resident_mib};

const START: i64 = 480_000;
/// Hours in which everyone is counted, at the end of those that are known.
const ALL_HOURS: i64 = 3;
/// Part of a partition's capacity that its candidates take on average: their peaks meet, and there is something to plan.
const USED: f64 = 0.7;

/// How much of everything.
#[derive(Clone, Copy)]
struct Size {
    tracked: u64,
    hourly: u64,
    candidates: u64,
    partitions: u32,
    hours: i64,
}

const FULL: Size = Size { tracked: 1_000_000, hourly: 50_000, candidates: 5000, partitions: 256, hours: 700 };
const SMOKE: Size = Size { tracked: 4000, hourly: 400, candidates: 100, partitions: 8, hours: 400 };

fn main() -> Result<(), Failure> {
    let (mut size, mut json) = (FULL, false);
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        match argument.as_str() {
            "--smoke" => size = SMOKE,
            "--json" => json = true,
            _ => return Err("usage: hour [--smoke] [--json]".into()),
        }
    }
    let mut history = known(size);
    let before = processor_time()?;
    one_hour(&mut history, size.tracked);
    let updated = processor_time()?;
    let forecasts = refit(&history, size)?;
    let refitted = processor_time()?;
    let (overloaded, plan) = planned(&history, &forecasts, size)?;
    let done = processor_time()?;
    let [update, refit, planning] =
        [updated - before, refitted - updated, done - refitted].map(|spent| spent.as_secs_f64());
    let (all, resident) = (update + refit + planning, resident_mib()?);
    let (tracked, hourly) = history.tracked();
    let (candidates, moves) = (forecasts.subjects().count(), plan.moves.len());
    if json {
        println!(
            r#"{{"tracked":{tracked},"hourly":{hourly},"candidates":{candidates},"partitions":{},"overloaded":{overloaded},"moves":{moves},"update_s":{update:.3},"refit_s":{refit:.3},"plan_s":{planning:.3},"all_s":{all:.3},"resident_mib":{resident}}}"#,
            size.partitions
        );
        return Ok(());
    }
    println!("{tracked} entities tracked, of {hourly} the hours are kept: an hour more of all {update:.1} s");
    println!("{candidates} candidates fitted anew: {refit:.1} s");
    println!(
        "a plan over {} partitions, {overloaded} of them overloaded: {planning:.1} s, {moves} moves",
        size.partitions
    );
    println!("together {all:.1} s of one core; {resident} MiB resident at most");
    Ok(())
}

/// A history with weeks of the heavy entities, and hours of all.
fn known(size: Size) -> History {
    let limits = Limits {
        tracked: usize::try_from(size.tracked).unwrap_or(usize::MAX),
        hourly: usize::try_from(size.hourly).unwrap_or(usize::MAX),
        tracked_weight: 0.0,
        hourly_weight: 0.0,
    };
    let mut history = History::new(limits, START);
    for hour in 0..size.hours {
        let everyone = hour >= size.hours - ALL_HOURS;
        one_hour(&mut history, if everyone { size.tracked } else { size.hourly });
    }
    history
}

/// The first `count` entities are counted, and the hour ends.
fn one_hour(history: &mut History, count: u64) {
    let hour = history.hour();
    for id in 0..count {
        let requests = 3600.0 * load(id, hour);
        let counted = Counted {
            reads: (requests * 0.8).round(),
            writes: (requests * 0.2).round(),
            bytes_in: requests * 100.0,
            bytes_out: requests * 400.0,
            service_nanos: requests * 2000.0,
        };
        history.count(entity_of(id), Some(format!("tenant:{id}").as_bytes()), &counted, 0.0);
    }
    history.end_hour(3600.0, hour + 1, |_| None);
}

/// Numbers are hashes, as they are of names.
const fn entity_of(id: u64) -> EntityId {
    EntityId((id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Requests a second: the lower the number, the heavier.
fn load(id: u64, hour: i64) -> f64 {
    let mut random = fastrand::Rng::with_seed(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hour.unsigned_abs());
    let phase = (id % 24) as f64;
    let day = 1.2 + (std::f64::consts::TAU * (hour as f64 + phase) / 24.0).sin();
    let level = 2000.0 / (1.0 + id as f64).powf(0.7);
    level * day * (0.4 * (random.f64() - 0.5)).exp()
}

/// Forecasts of the candidates, none of whom was followed before.
fn refit(history: &History, size: Size) -> Result<Forecasts, Failure> {
    let one = |id: u64| -> Option<(Subject, String, Series)> {
        let entity = entity_of(id);
        Some((Subject::Entity(entity), format!("tenant:{id}"), history.requests(entity)?))
    };
    let subjects: Vec<_> = (0..size.candidates).filter_map(one).collect();
    if subjects.len() as u64 != size.candidates {
        return Err(format!("{} of {} candidates have hours", subjects.len(), size.candidates).into());
    }
    let mut forecasts = Forecasts::default();
    forecasts.advance(subjects, (&Calendar::default(), &[]), history.hour());
    Ok(forecasts)
}

/// The plan, and how many partitions were overloaded before it.
fn planned(history: &History, forecasts: &Forecasts, size: Size) -> Result<(usize, Plan), Failure> {
    let placed: Vec<Placed> = (0..size.candidates)
        .map(|id| {
            let at = usize::try_from(id % u64::from(size.partitions)).unwrap_or(0);
            Placed { entity: entity_of(id), at, home: at, bytes: 1e9, burst: 0.1, hold: None }
        })
        .collect();
    let mean: f64 = (0..size.candidates)
        .filter_map(|id| history.requests(entity_of(id)))
        .map(|series| series.load(history.hour() - 1).unwrap_or(0.0))
        .sum();
    let capacity = mean / f64::from(size.partitions) / USED;
    let partition = |id| Partition {
        id,
        host: 0,
        capacity: [capacity, f64::INFINITY, f64::INFINITY],
        burst: 0.1,
        state: State::Serving,
        distance: 0.0,
        penalty: 0.0,
        share: 1.0,
    };
    let partitions = (0..size.partitions).map(partition).collect();
    let snapshot = situation::snapshot((partitions, &placed), forecasts, history, (0.0, Settings::default()));
    let plan = plan(&snapshot)?;
    let is_overloaded = |before: &[f64]| before.iter().any(|overload| *overload > 0.1);
    let overloaded = plan.outlook.iter().filter(|outlook| is_overloaded(&outlook.before)).count();
    Ok((overloaded, plan))
}
