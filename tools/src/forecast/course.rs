//! `forecast` by itself: the next hours of every entity, as quantiles.

use std::fs::File;
use std::io::{BufWriter, Write};

use foreshard_forecast::Series;
use foreshard_forecast::scenarios::{MEMORY, Scenarios};
use foreshard_forecast::walk::{Plan, Walk};

use super::given::Given;
use super::hot::signed;
use super::models::{Choice, REFIT, STEP};
use super::options::Course;
use super::table::{self, Table};
use super::work;
use super::youth::Youth;
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
    let mut given = Given::read(options.events.as_deref(), &table, load.threads)?;
    given.train(&[options.model], &table, table.end, (options.training_steps, options.seed))?;
    let youth = match options.model {
        Choice::Auto => Youth::learn(&given, &table, options.horizon, load.threads),
        Choice::One(_) | Choice::Lstm => Youth::default(),
    };
    let entities: Vec<(usize, (&String, &Series))> = table.entities.iter().enumerate().collect();
    for batch in entities.chunks(BATCH) {
        let rows = work::map(batch, load.threads, "forecasting", |&(index, (entity, series))| {
            let walk = walk(options, &given, &table, index, series);
            let own = Scenarios::new(series, &walk, table.end);
            rows(options, &table, entity, &youth.blend(&given, index, series, own, table.end))
        });
        for rows in rows {
            out.write_all(&rows).map_err(wrong)?;
        }
    }
    out.flush().map_err(wrong)
}

fn walk(options: &Course, given: &Given, table: &Table, index: usize, series: &Series) -> Walk {
    let (origin, horizon) = (table.end, options.horizon);
    // Error paths end before the origin; weights are learnt from those before them.
    let before = (MEMORY + horizon).next_multiple_of(STEP);
    let plan = Plan { first: origin - signed(before), last: origin, step: STEP, refit: REFIT, horizon };
    options.model.walk(given, index, series, plan)
}

fn rows(options: &Course, table: &Table, entity: &str, scenarios: &Scenarios) -> Vec<u8> {
    let mut out = csv::Writer::from_writer(Vec::new());
    for hour in 0..options.horizon {
        let mut record = vec![entity.to_owned(), table.time(table.end + signed(hour)).to_string()];
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
