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
mod score;
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
    match forecast {
        Forecast::Course(options) => course::run(options),
        Forecast::Other(What::Backtest(options)) => backtest::run(options),
        Forecast::Other(What::Cold(options)) => cold::run(options),
        Forecast::Other(What::Hot(options)) => hot::run(options),
        Forecast::Other(What::Sums(options)) => sums::run(options),
        Forecast::Other(What::Score(options)) => score::run(options),
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
