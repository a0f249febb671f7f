//! `forecast` by itself: the next hours of every entity, as quantiles.

use std::fs::File;
use std::io::{BufWriter, Write};

use foreshard_forecast::Series;
use foreshard_forecast::scenarios::{MEMORY, Scenarios};
use foreshard_forecast::walk::Plan;

use super::hot::signed;
use super::models::{REFIT, STEP};
use super::options::Course;
use super::table::{self, Table};
use super::work;
use crate::shell::Failure;

/// Entities that are forecast before any of them is written: their rows are held in memory.
const BATCH: usize = 1000;

pub(crate) fn run(options: &Course) -> Result<(), Failure> {
    let load = options.load();
    let table = Table::read(&load)?;
    super::tell_broken(&table);
    let wrong = |e: std::io::Error| table::at(&options.out, &e.to_string());
    let file = File::create(&options.out).map_err(wrong)?;
    let mut out = BufWriter::new(file);
    let quantiles: Vec<String> = options.quantiles.iter().map(|quantile| format!(",q{quantile}")).collect();
    writeln!(out, "entity,time,mean{}", quantiles.concat()).map_err(wrong)?;
    let entities: Vec<(&String, &Series)> = table.entities.iter().collect();
    for batch in entities.chunks(BATCH) {
        let rows = work::map(batch, load.threads, "forecasting", |&(entity, series)| {
            rows(options, &table, entity, series)
        });
        for rows in rows {
            out.write_all(&rows).map_err(wrong)?;
        }
    }
    out.flush().map_err(wrong)
}

fn rows(options: &Course, table: &Table, entity: &str, series: &Series) -> Vec<u8> {
    let (origin, horizon) = (table.end, options.horizon);
    // Error paths end before the origin; weights are learnt from those before them.
    let before = (MEMORY + horizon).next_multiple_of(STEP);
    let plan = Plan { first: origin - signed(before), last: origin, step: STEP, refit: REFIT, horizon };
    let walk = options.model.walk(series, plan);
    let scenarios = Scenarios::new(series, &walk, origin);
    let mut out = csv::Writer::from_writer(Vec::new());
    for hour in 0..horizon {
        let mut record = vec![entity.to_owned(), table.time(origin + signed(hour)).to_string()];
        record.push(number(scenarios.mean(hour)));
        record.extend(options.quantiles.iter().map(|at| number(scenarios.quantile(hour, at / 100.0))));
        // A vector takes everything.
        let _infallible = out.write_record(&record);
    }
    out.into_inner().unwrap_or_default()
}

fn number(load: f64) -> String {
    format!("{load:.4}")
}
