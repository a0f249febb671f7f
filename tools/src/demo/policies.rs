//! The same days in the modelled cluster: static, reactive, predictive, oracle.

use clap::Parser;
use foreshard_forecast::Series;

use super::options::Demo;
use super::town::Town;
use crate::forecast::table::Table;
use crate::shell::Failure;
use crate::sim::cell::{self, Cell};
use crate::sim::fleet::Fleet;
use crate::sim::options::Sim;

/// Partitions, live and modelled.
pub(super) const PARTITIONS: u16 = 4;

/// The trace, to be simulated.
#[derive(Debug)]
pub(super) struct Modelled {
    fleet: Fleet,
    options: Sim,
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    sim: Sim,
}

impl Modelled {
    /// Of the last `days` of a town.
    pub(super) fn new(town: &Town, demo: &Demo) -> Result<Self, Failure> {
        let mut table = Table { end: i64::MIN, seconds: true, ..Table::default() };
        for (entity, name) in town.trace.names.iter().enumerate() {
            let mut series = Series::new(town.trace.start);
            for (index, hour) in (town.trace.start..).take(town.trace.hours()).enumerate() {
                let load = town.trace.rates(entity, index).iter().sum();
                series.set(hour, load).map_err(|e| Failure::told(e.to_string()))?;
            }
            table.end = table.end.max(series.end());
            table.entities.insert(name.clone(), series);
        }
        let days = demo.hours.div_ceil(24).to_string();
        let (partitions, seed) = (PARTITIONS.to_string(), demo.seed.to_string());
        let words = [
            "sim",
            "--in",
            "the demo's trace",
            "--metric",
            "reads+writes",
            "--days",
            &days,
            "--partitions",
            &partitions,
            "--seed",
            &seed,
            "--one-spread",
            "--coarse",
            "--spread",
            "0.1",
            "--median-bytes",
            "1000000000",
        ];
        let options = Line::try_parse_from(words).map_err(|e| Failure::told(e.to_string()))?.sim;
        let fleet = Fleet::of(&table, &options).map_err(Failure::told)?;
        Ok(Self { fleet, options })
    }

    /// Requests a second that a partition can do, so that so many percent of partition-hours exceed it if nothing moves.
    pub(super) fn capacity(&self, overloaded: f64) -> f64 {
        self.fleet.world.capacity_for(overloaded / 100.0)
    }

    /// Every policy.
    pub(super) fn run(&self, overloaded: f64) -> Result<Cell, Failure> {
        cell::run(&self.fleet, &self.options, self.options.spread, overloaded)
            .map_err(|e| Failure::told(e.to_string()))
    }
}
