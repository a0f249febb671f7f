//! `foreshard forecast`: load in, probabilities out. Files and threads are here, all that is computed is in the forecast crate.

mod hot;
mod options;
mod table;
mod work;

use std::io::Write;

pub(crate) use options::Forecast;

use crate::Verdict;
use crate::shell::Failure;

/// Runs the command.
pub(crate) fn run(what: &Forecast) -> Result<Verdict, Failure> {
    match what {
        Forecast::Hot(options) => hot::hot(options),
        Forecast::Score(options) => hot::score(options),
    }
    .map(|()| Verdict::Sound)
}

/// On stderr, which rows were left out.
fn tell_broken(table: &table::Table) {
    let broken = &table.broken;
    let mut stderr = std::io::stderr().lock();
    for told in &broken.told {
        let _unheard = writeln!(stderr, "foreshard: row left out, {told}");
    }
    if broken.count > broken.told.len() {
        let _unheard = writeln!(stderr, "foreshard: {} rows were left out in all", broken.count);
    }
}
