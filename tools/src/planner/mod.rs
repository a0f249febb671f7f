//! The planner of a node: counts become hours, hours forecasts, forecasts a plan, and a plan moves.
//!
//! It is a thread that asks shards as a client does, and writes nothing but the table, by moving entities, and rows of the
//! node's own. `mind` is what it knows and its turns, `capacity` what partitions
//! can do, `burst` how loads vary within the hour, `made` how a plan is made, `orders` what it has done, `growth` which partitions
//! it has split and merged, `pages` what it tells, `memory` what it was
//! told, `keep` what of all that survives a restart, `hours` its clock.
//!
//! Invariant: a store is served alike without it.

mod burst;
mod capacity;
mod growth;
mod hours;
mod keep;
mod made;
mod memory;
mod mind;
mod orders;
mod pages;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use foreshard_engine::{Error, Store};
use foreshard_net::{Gauges, Pages, Question};
use foreshard_placement::forecasts::Subject;

use self::hours::instant;
use self::made::Basis;
use self::mind::Mind;
pub(crate) use self::settings::PlannerSettings;
use crate::forecast::table;
use crate::shell::Failure;

/// An hour has so many ticks, or more.
const TICKS: u32 = 12;
/// Counters are not asked more often than this, nor less often than that.
const TICK_MIN: Duration = Duration::from_millis(100);
const TICK_MAX: Duration = Duration::from_secs(10);
/// How soon it notices that it is to stop.
const STOP_TIME: Duration = Duration::from_millis(50);
/// A plan is in no hurry.
const NICE: i32 = 15;
/// A month of hours of thousands of entities.
const BODY_BYTES_MAX: usize = 256 << 20;

/// A planner, until it is dropped.
#[derive(Debug)]
pub(crate) struct Planner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Planner {
    /// Begins to plan for `store`; the pages are what it tells.
    pub(crate) fn start(store: &Store, settings: PlannerSettings) -> Result<(Self, Pages), Failure> {
        settings.check()?;
        let client = store.client()?;
        let read =
            |path: &Path| if path.as_os_str().is_empty() { Ok(String::new()) } else { table::text(path) };
        let (begun, foreseen) = (read(&settings.import)?, read(&settings.foreseen)?);
        let gauges = Gauges::new(GAUGES);
        let (pages, questions) = Pages::new(pages::PATHS, BODY_BYTES_MAX, gauges.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("planner".to_owned());
        let (ready, is_ready) = sync_channel(1);
        let thread = thread.spawn(move || {
            // Whoever serves goes first. What cannot be had is no reason not to plan.
            let _refused = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            let ran = Mind::new(client, settings).and_then(|mut mind| {
                let imported = foresee(&mut mind, &foreseen).and_then(|()| begin(&mut mind, &begun));
                let is_well = imported.is_ok();
                // Who starts it waits for this.
                let _heard = ready.send(imported);
                if is_well { run(&mut mind, &questions, &gauges, &is_stopped) } else { Ok(()) }
            });
            // A store that closes ends it, and says so itself.
            match ran {
                Ok(()) | Err(Error::Closed) => {}
                Err(e) => tracing::error!("nothing is planned any more: {e}"),
            }
        });
        let thread = thread.map_err(|e| Failure::told(format!("cannot start the planner's thread: {e}")))?;
        let planner = Self { stop, thread: Some(thread) };
        is_ready.recv().map_err(|_| Failure::told("the planner could not begin"))?.map_err(Failure::told)?;
        Ok((planner, pages))
    }
}

impl Drop for Planner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the planner's thread panicked");
        }
    }
}

/// Takes in the hours to come, where they are known.
fn foresee(mind: &mut Mind, hours: &str) -> Result<(), String> {
    let mut loads: BTreeMap<Subject, BTreeMap<i64, f64>> = BTreeMap::new();
    let rows = if hours.is_empty() { Vec::new() } else { pages::rows(hours.as_bytes())? };
    for (name, hour, load) in rows {
        let of = loads.entry(Subject::Entity(mind::entity_of(&name))).or_default();
        *of.entry(hour).or_default() += load.reads + load.writes;
    }
    loads.into_iter().for_each(|(subject, hours)| mind.forecasts.foresee(subject, hours));
    Ok(())
}

/// Takes in the hours that there are to begin with; then its clock begins.
fn begin(mind: &mut Mind, hours: &str) -> Result<(), String> {
    let mut kept = keep::load(&mind.client).map_err(|e| e.to_string())?;
    let last = kept.hours.keys().next_back().copied();
    let added = if hours.is_empty() { 0 } else { kept.add(pages::rows(hours.as_bytes())?) };
    mind.begin_hours(last);
    mind.restore(&kept);
    if added > 0 {
        tracing::info!("the planner begins with {added} hours of entities that were not kept before");
        mind.keep_hours()?;
    }
    // What was counted before is of no hour.
    mind.tick().map_err(|e| e.to_string())?;
    mind.begin_hours(last);
    mind.forecast();
    mind.say();
    mind.made = Some(mind.plan(Basis::Foretold)?);
    Ok(())
}

fn run(
    mind: &mut Mind,
    questions: &Receiver<Question>,
    gauges: &Gauges,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let period = (mind.hours.length() / TICKS).clamp(TICK_MIN, TICK_MAX);
    let mut ticked = instant();
    while !stop.load(Ordering::Relaxed) {
        let wait = period.saturating_sub(ticked.elapsed()).min(STOP_TIME);
        match questions.recv_timeout(wait) {
            Ok(question) => pages::answer(mind, question),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if ticked.elapsed() < period {
            continue;
        }
        ticked = instant();
        mind.tick()?;
        let hour = mind.hours.hour();
        if hour > mind.history.hour() {
            mind.end_hour(hour);
            replan(mind);
        }
        mind.act()?;
        mind.grow()?;
        measure(mind, gauges);
    }
    Ok(())
}

/// What the metrics tell of a planner.
const GAUGES: &[(&str, &str)] = &[
    ("planner_paused", "Whether plans are made and nothing is moved."),
    ("planner_entities_followed", "Entities whose hours are kept and forecast."),
    ("planner_open_moves", "Moves under way that the planner has begun."),
    ("planner_plan_seconds", "How long the last plan took to make."),
    ("planner_overloaded_hours", "Partition-hours of overload expected in the next day, as things are."),
    (
        "planner_overloaded_hours_after",
        "The same with the last plan carried out: what moves on this host cannot help.",
    ),
    (
        "planner_forecast_error_ratio",
        "Error of forecasts six hours ahead, of the day before's; 0 before it is known.",
    ),
    (
        "planner_capacity_share_min",
        "What the shard that is slowed most has left of its capacity: 1 where none answers more slowly than it used to.",
    ),
    ("planner_moves_worse", "Of the moves that are remembered, those after which the entity fared worse."),
    (
        "planner_moves_wasted_share",
        "Of the planned moves that were judged, the part that turned out to be needless.",
    ),
];

fn measure(mind: &Mind, gauges: &Gauges) {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
    let float = |count: usize| count as f64;
    gauges.set("planner_paused", f64::from(u8::from(mind.memory.paused)));
    gauges.set("planner_entities_followed", float(mind.history.tracked().1));
    gauges.set("planner_open_moves", float(mind.ledger.open().count()));
    gauges.set("planner_forecast_error_ratio", mind.ledger.all().ratio().unwrap_or(0.0));
    gauges.set("planner_moves_wasted_share", mind.ledger.wasted());
    let least = mind.answers().map(|(_, answers)| answers.share()).fold(1.0, f64::min);
    gauges.set("planner_capacity_share_min", least);
    gauges
        .set("planner_moves_worse", float(mind.ledger.moves().filter(|entry| entry.worse.is_some()).count()));
    if let Some(made) = &mind.made {
        let sum = |hours: &[f64]| hours.iter().sum::<f64>();
        gauges.set("planner_plan_seconds", made.took.as_secs_f64());
        gauges.set("planner_overloaded_hours", made.plan.outlook.iter().map(|one| sum(&one.before)).sum());
        gauges
            .set("planner_overloaded_hours_after", made.plan.outlook.iter().map(|one| sum(&one.after)).sum());
    }
}

/// Makes the hour's plan.
fn replan(mind: &mut Mind) {
    match mind.plan(Basis::Foretold) {
        Ok(made) => mind.made = Some(made),
        Err(why) => tracing::warn!("no plan for hour {}: {why}", mind.history.hour()),
    }
}

#[cfg(test)]
mod back_tests;
