//! The planner of a node: counts become hours, hours forecasts, forecasts a plan, and a plan moves.
//!
//! It is a thread that asks shards as a client does and writes nothing but the table, by moving entities. `mind` is what it
//! knows and its turns, `orders` what it has done, `pages` what it tells, `memory` what it was told, `hours` its clock.
//!
//! Invariant: a store is served alike without it.

mod hours;
mod keep;
mod memory;
mod mind;
mod orders;
mod pages;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use foreshard_engine::{Error, Store};
use foreshard_net::{Pages, Question};

use self::hours::instant;
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
        let begun = if settings.import.as_os_str().is_empty() {
            String::new()
        } else {
            table::text(&settings.import)?
        };
        let (pages, questions) = Pages::new(pages::PATHS, BODY_BYTES_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("planner".to_owned());
        let (ready, is_ready) = sync_channel(1);
        let thread = thread.spawn(move || {
            // Whoever serves goes first. What cannot be had is no reason not to plan.
            let _refused = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            let ran = Mind::new(client, settings).and_then(|mut mind| {
                let imported = begin(&mut mind, &begun);
                let is_well = imported.is_ok();
                // Who starts it waits for this.
                let _heard = ready.send(imported);
                if is_well { run(&mut mind, &questions, &is_stopped) } else { Ok(()) }
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

/// Takes in the hours that there are to begin with; then its clock begins.
fn begin(mind: &mut Mind, hours: &str) -> Result<(), String> {
    let kept = keep::load(&mind.client).map_err(|e| e.to_string())?;
    mind.restore(&kept);
    if !hours.is_empty() {
        let (rows, refused) = pages::import_rows(mind, hours.as_bytes())?;
        tracing::info!("the planner begins with {rows} hours of entities, {refused} of which were not over");
    }
    // What was counted before is of no hour.
    mind.tick().map_err(|e| e.to_string())?;
    mind.begin_hours();
    mind.forecast();
    mind.made = Some(mind.plan()?);
    Ok(())
}

fn run(mind: &mut Mind, questions: &Receiver<Question>, stop: &AtomicBool) -> Result<(), Error> {
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
    }
    Ok(())
}

/// Makes the hour's plan.
fn replan(mind: &mut Mind) {
    match mind.plan() {
        Ok(made) => mind.made = Some(made),
        Err(why) => tracing::warn!("no plan for hour {}: {why}", mind.history.hour()),
    }
}
