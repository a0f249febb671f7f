//! `foreshard sim`: the same placement code over a modelled cluster, under several policies, on one trace.
//!
//! For each cell (how much the cluster is overloaded, how load varies within the hour) the reactive rule is tuned on the
//! trace itself, with every setting of [`tuning`]; the planner is given what was known at each hour. The oracle knows the
//! hours to come and what every other policy would have done, and takes what ends best: nothing that was tried here beats it.
//! Beside that, [`hot`] tells how well hot partitions were foretold.

pub(crate) mod cell;
pub(crate) mod fleet;
mod foresight;
mod hot;
pub(crate) mod options;
mod report;
mod tuning;

pub(crate) use options::Sim;

use std::io::Write;

use self::fleet::Fleet;
use self::hot::Hot;
use self::report::Report;
use crate::forecast::table::{self, Table};
use crate::shell::Failure;

pub(crate) fn run(options: &Sim) -> Result<(), Failure> {
    let table = Table::read(&options.load)?;
    crate::forecast::tell_broken(&table);
    let fleet = Fleet::of(&table, options).map_err(|what| table::at(&options.load.input, &what))?;
    let mut report = Report::new(options, &fleet);
    let hot = Hot::of(&fleet, options.load.threads);
    for overloaded in &options.overloaded {
        report.add_hot(*overloaded, hot.judge(fleet.world.capacity_for(*overloaded / 100.0)));
    }
    for bursts in options.bursts() {
        for overloaded in &options.overloaded {
            let cell =
                cell::run(&fleet, options, bursts, *overloaded).map_err(|e| Failure::told(e.to_string()))?;
            report.add(cell);
        }
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(report.text(options.json).as_bytes())?;
    Ok(stdout.flush()?)
}
