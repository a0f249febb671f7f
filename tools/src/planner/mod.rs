//! The planner of a node: counts become hours, hours forecasts, forecasts a plan, and a plan moves.
//!
//! It is a thread that asks shards as a client does and writes nothing but the table, by moving entities. `mind` is what it
//! knows and its turns, `orders` what it has done, `pages` what it tells, `memory` what it was told, `hours` its clock.
//!
//! Invariant: a store is served alike without it.

mod hours;
mod memory;
mod mind;
mod orders;
mod pages;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use foreshard_engine::{Error, Store};
use foreshard_net::{Pages, Question};

use self::hours::instant;
use self::mind::Mind;
pub(crate) use self::settings::PlannerSettings;
use crate::shell::Failure;

/// An hour has so many ticks, or more.
const TICKS: u32 = 12;
/// Counters are not asked more often than this, nor less often than that.
const TICK_MIN: Duration = Duration::from_millis(100);
const TICK_MAX: Duration = Duration::from_secs(10);
/// How soon it notices that it is to stop.
const STOP_TIME: Duration = Duration::from_millis(50);
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
        let (pages, questions) = Pages::new(pages::PATHS, BODY_BYTES_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("planner".to_owned());
        let thread = thread.spawn(move || {
            // A store that closes ends it, and says so itself.
            match Mind::new(client, settings).and_then(|mut mind| run(&mut mind, &questions, &is_stopped)) {
                Ok(()) | Err(Error::Closed) => {}
                Err(e) => tracing::error!("nothing is planned any more: {e}"),
            }
        });
        let thread = thread.map_err(|e| Failure::told(format!("cannot start the planner's thread: {e}")))?;
        Ok((Self { stop, thread: Some(thread) }, pages))
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

fn run(mind: &mut Mind, questions: &Receiver<Question>, stop: &AtomicBool) -> Result<(), Error> {
    let period = (mind.hours.length() / TICKS).clamp(TICK_MIN, TICK_MAX);
    let mut ticked = instant();
    // What was counted before is of no hour.
    mind.tick()?;
    mind.forecast();
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
