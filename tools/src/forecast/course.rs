//! `forecast` by itself: the next hours of every entity, as quantiles.

use std::fs::File;
use std::io::{BufWriter, Write};

use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::{Series, auto, recalibration};

use super::calibrated::calibrated;
use super::given::Given;
use super::hot::signed;
use super::models::Choice;
use super::options::Course;
use super::table::{self, Table};
use super::work;
use super::youth::Youth;
use crate::shell::Failure;

/// Entities that are forecast before any of them is written: their rows are held in memory.
const BATCH: usize = 1000;

pub(crate) fn run(options: &Course) -> Result<(), Failure> {
    let load = &options.load;
    let table = Table::read(load)?;
    super::tell_broken(&table);
    let wrong = |e: std::io::Error| table::at(&options.out, &e.to_string());
    let file = File::create(&options.out).map_err(wrong)?;
    let mut out = BufWriter::new(file);
    let quantiles: Vec<String> = options.quantiles.iter().map(|quantile| format!(",q{quantile}")).collect();
    writeln!(out, "entity,time,mean{}", quantiles.concat()).map_err(wrong)?;
    let origin = table.end;
    let mut given = Given::read(options.announced.events.as_deref(), &table, load.threads)?;
    given.train(&[options.model], &table, (origin, origin), (options.training.steps, options.drawn.seed))?;
    let series: Vec<(usize, &Series)> = table.entities.values().enumerate().collect();
    let long = recalibration::plan(origin, origin, options.horizon);
    let of = (origin, origin, options.horizon);
    let recalibrations = calibrated(&given, &series, load, of, options.drawn.seed, |index, series| {
        options.model.walk(&given, index, series, long)
    });
    let youth = match options.model {
        Choice::Auto => Youth::learn(&given, &table, options.horizon, load.threads),
        Choice::One(_) | Choice::Lstm => Youth::default(),
    };
    let plan = auto::plan(origin, origin, options.horizon);
    let entities: Vec<(usize, &String, &Series)> =
        table.entities.iter().enumerate().map(|(index, (entity, series))| (index, entity, series)).collect();
    for batch in entities.chunks(BATCH) {
        let rows = work::map(batch, load.threads, "forecasting", |&(index, entity, series)| {
            let walk = options.model.walk(&given, index, series, plan);
            let own = given.scenarios(index, series, &walk, origin).recalibrated(recalibrations.at(origin));
            rows(options, &table, entity, &youth.blend(&given, index, series, own, origin))
        });
        for rows in rows {
            out.write_all(&rows).map_err(wrong)?;
        }
    }
    out.flush().map_err(wrong)
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
