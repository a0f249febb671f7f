//! `foreshard forecast`: load in, probabilities out. Files and threads are here, all that is computed is in the forecast crate.

mod backtest;
mod calibrated;
mod cold;
mod course;
pub(crate) mod draw;
mod event_days;
mod events;
mod given;
mod hot;
mod models;
pub(crate) mod options;
mod report;
mod sums;
pub(crate) mod table;
pub(crate) mod work;
mod youth;

use std::io::Write;

pub(crate) use options::Forecast;

use options::What;

use crate::Verdict;
use crate::shell::Failure;

/// Runs the command.
pub(crate) fn run(forecast: &Forecast) -> Result<Verdict, Failure> {
    match (&forecast.what, &forecast.course) {
        (Some(What::Backtest(options)), _) => backtest::run(options),
        (Some(What::Cold(options)), _) => cold::run(options),
        (Some(What::Hot(options)), _) => hot::hot(options),
        (Some(What::Sums(options)), _) => sums::run(options),
        (Some(What::Score(options)), _) => hot::score(options),
        (None, Some(options)) => course::run(options),
        (None, None) => {
            Err(Failure::told("name the load with --in, or a command: see foreshard forecast --help"))
        }
    }
    .map(|()| Verdict::Sound)
}

/// On stderr, which rows were left out.
pub(crate) fn tell_broken(table: &table::Table) {
    let broken = &table.broken;
    let mut stderr = std::io::stderr().lock();
    for told in &broken.told {
        let _unheard = writeln!(stderr, "foreshard: row left out, {told}");
    }
    if broken.count > broken.told.len() {
        let _unheard = writeln!(stderr, "foreshard: {} rows were left out in all", broken.count);
    }
}
