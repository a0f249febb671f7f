//! A trace as far as a replay needs it: which entities have how much in which hour, and where they are at home.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::Result;

/// Loads by entity and hour, requests a second.
#[derive(Debug)]
pub struct Trace {
    loads: BTreeMap<String, BTreeMap<i64, f64>>,
    /// The hour after the last one, in Unix hours.
    pub end: i64,
}

#[derive(Deserialize)]
struct Row {
    time: i64,
    entity: String,
    #[serde(alias = "reads_per_s", alias = "reads_per_second")]
    reads: Option<f64>,
    #[serde(alias = "writes_per_s", alias = "writes_per_second")]
    writes: Option<f64>,
}

impl Trace {
    /// Of a CSV file, plain or gzip, with columns time, entity, reads and writes.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
        let input: Box<dyn Read> = if is_gzip {
            Box::new(MultiGzDecoder::new(BufReader::new(file)))
        } else {
            Box::new(BufReader::new(file))
        };
        let mut loads: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
        let mut end = i64::MIN;
        for row in csv::Reader::from_reader(input).deserialize() {
            let row: Row = row?;
            let load = row.reads.unwrap_or(0.0) + row.writes.unwrap_or(0.0);
            *loads.entry(row.entity).or_default().entry(row.time / 3600).or_default() += load;
            end = end.max(row.time / 3600 + 1);
        }
        if loads.is_empty() {
            Err(format!("{}: no rows", path.display()).into())
        } else {
            Ok(Self { loads, end })
        }
    }

    /// How many entities.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.loads.len()
    }

    /// Names, hours and loads of some hours.
    pub fn within(&self, hours: Range<i64>) -> impl Iterator<Item = (&str, i64, f64)> {
        let all = self.loads.iter();
        all.flat_map(move |(name, loads)| {
            loads.range(hours.clone()).map(move |(hour, load)| (name.as_str(), *hour, *load))
        })
    }

    /// Requests a second of all together, on average over the last hours.
    #[must_use]
    pub fn mean(&self, hours: i64) -> f64 {
        let all = self.loads.values().flat_map(|loads| loads.range(self.end - hours..));
        all.map(|(_, load)| load).sum::<f64>() / hours as f64
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.loads.keys().map(String::as_str)
    }

    /// The capacity that the share `overloaded` of partition-hours of the last hours exceeds while every entity is in its
    /// partition of `homes`, of which there is one for each.
    #[must_use]
    pub fn capacity(&self, hours: i64, homes: &BTreeMap<String, u64>, overloaded: f64) -> f64 {
        let mut sums: BTreeMap<(Option<&u64>, i64), f64> = BTreeMap::new();
        for (name, loads) in &self.loads {
            let home = homes.get(name);
            for (hour, load) in loads.range(self.end - hours..) {
                *sums.entry((home, *hour)).or_default() += load;
            }
        }
        let mut all: Vec<f64> = sums.into_values().collect();
        all.sort_unstable_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in a sorted list"
        )]
        let at = ((1.0 - overloaded) * all.len() as f64).floor() as usize;
        all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or(1.0)
    }
}
