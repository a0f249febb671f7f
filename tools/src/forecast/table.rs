//! A trace: rows of time, entity and metrics, read into one series per entity.
//!
//! A row that makes no sense is left out and told of, with its line and the reason; the others count. Hours that are not
//! there are gaps.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};
use flate2::read::MultiGzDecoder;
use foreshard_forecast::Series;

use super::options::Load;
use crate::shell::Failure;

/// A time below is an hour index: as hours it is the year 3110, as seconds April 1970.
pub(crate) const HOUR_INDEX_END: i64 = 10_000_000;
pub(crate) const SECONDS_PER_HOUR: i64 = 3600;
/// Broken rows that are told of one by one; the others are counted.
pub(crate) const BROKEN_TOLD_MAX: usize = 10;
/// What gzip files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Series by entity.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) entities: BTreeMap<String, Series>,
    pub(crate) broken: Broken,
    /// The hour after the last one of any entity.
    pub(crate) end: i64,
    /// Whether times are seconds; else hour indexes.
    pub(crate) seconds: bool,
}

/// Rows that were left out.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    pub(crate) count: usize,
    pub(crate) told: Vec<String>,
}

impl Table {
    /// Reads what `load` names.
    pub(crate) fn read(load: &Load) -> Result<Self, Failure> {
        let path = &load.input;
        let mut reader = reader(path)?;
        let header = reader.headers().map_err(|e| unreadable(path, &e))?.clone();
        let columns = Columns::find(&header, &load.metric).map_err(|e| at(path, &e))?;
        let mut table = Self { end: i64::MIN, ..Self::default() };
        let mut record = StringRecord::new();
        loop {
            let line = reader.position().line();
            match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {
                    let line = record.position().map_or(line, csv::Position::line);
                    if let Err(reason) = table.take(&columns, &record) {
                        table.broken.add(line, &reason);
                    }
                }
                Err(e) if e.is_io_error() => return Err(unreadable(path, &e)),
                Err(e) => table.broken.add(line, &e.to_string()),
            }
        }
        if table.entities.is_empty() {
            return Err(at(path, &format!("no row of it can be used {}", table.broken.told.join("; "))));
        }
        table.leave_off(i64::from(load.leave_off) * 24);
        Ok(table)
    }

    /// A time as it is in the file.
    pub(crate) fn time(&self, hour: i64) -> i64 {
        if self.seconds { hour * SECONDS_PER_HOUR } else { hour }
    }

    /// Back from [`Self::time`].
    pub(crate) fn hour(text: &str) -> Result<(i64, bool), String> {
        let time: i64 = text.trim().parse().map_err(|_| format!("time {text:?} is no whole number"))?;
        if (-HOUR_INDEX_END..HOUR_INDEX_END).contains(&time) {
            return Ok((time, false));
        }
        if time % SECONDS_PER_HOUR != 0 {
            return Err(format!("time {time} is not the start of an hour"));
        }
        Ok((time / SECONDS_PER_HOUR, true))
    }

    fn take(&mut self, columns: &Columns, record: &StringRecord) -> Result<(), String> {
        let field = |index: usize| record.get(index).ok_or_else(|| format!("has {} fields", record.len()));
        let (hour, seconds) = Self::hour(field(columns.time)?)?;
        let mut load = 0.0;
        for &metric in &columns.metrics {
            let text = field(metric)?.trim();
            let value = if text.is_empty() { Ok(f64::NAN) } else { text.parse::<f64>() };
            load += value.map_err(|_| format!("{text:?} is no number"))?;
        }
        if load < 0.0 || load.is_infinite() {
            return Err(format!("a load of {load} cannot be"));
        }
        let entity = field(columns.entity)?;
        if entity.is_empty() {
            return Err("the entity has no name".to_owned());
        }
        if !self.entities.contains_key(entity) {
            self.entities.insert(entity.to_owned(), Series::new(hour));
        }
        let series = self.entities.get_mut(entity).ok_or("the entity is lost")?;
        if !series.at(hour).is_nan() {
            return Err(format!("{entity} has that hour already"));
        }
        series.set(hour, load).map_err(|e| e.to_string())?;
        self.end = self.end.max(hour + 1);
        self.seconds |= seconds;
        Ok(())
    }

    fn leave_off(&mut self, hours: i64) {
        self.end -= hours;
        for series in self.entities.values_mut() {
            series.cut(self.end);
            series.pad_to(self.end);
        }
    }
}

impl Broken {
    fn add(&mut self, line: u64, reason: &str) {
        self.count += 1;
        if self.told.len() < BROKEN_TOLD_MAX {
            self.told.push(format!("line {line}: {reason}"));
        }
    }
}

struct Columns {
    time: usize,
    entity: usize,
    metrics: Vec<usize>,
}

impl Columns {
    fn find(header: &StringRecord, metric: &str) -> Result<Self, String> {
        let named = |name: &str| {
            let is_it = |column: &str| {
                column == name || column.strip_prefix(name).is_some_and(|rest| rest.starts_with("_per_"))
            };
            let exact = header.iter().position(|column| column.trim() == name);
            exact.or_else(|| header.iter().position(|column| is_it(column.trim()))).ok_or_else(|| {
                let there = header.iter().collect::<Vec<_>>().join(", ");
                format!("has no column {name:?}; there are: {there}")
            })
        };
        let metrics = metric.split('+').map(|name| named(name.trim())).collect::<Result<_, _>>()?;
        Ok(Self { time: named("time")?, entity: named("entity")?, metrics })
    }
}

/// A CSV file with a header, plain or gzip.
pub(crate) fn reader(path: &Path) -> Result<csv::Reader<Box<dyn Read>>, Failure> {
    Ok(ReaderBuilder::new().from_reader(open(path)?))
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    #[expect(clippy::disallowed_methods, reason = "a trace is a file of the user's, not of a store")]
    let mut file = File::open(path).map_err(|e| at(path, &e.to_string()))?;
    let mut begin = Vec::new();
    file.by_ref().take(GZIP.len() as u64).read_to_end(&mut begin).map_err(|e| at(path, &e.to_string()))?;
    let is_gzip = begin == GZIP;
    let whole = BufReader::with_capacity(1 << 16, std::io::Cursor::new(begin).chain(file));
    Ok(if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(whole))) } else { Box::new(whole) })
}

/// A text file, plain or gzip.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).map_err(|e| at(path, &e.to_string()))?;
    Ok(text)
}

fn unreadable(path: &Path, e: &csv::Error) -> Failure {
    at(path, &e.to_string())
}

pub(crate) fn at(path: &Path, what: &str) -> Failure {
    Failure::told(format!("{}: {what}", path.display()))
}
