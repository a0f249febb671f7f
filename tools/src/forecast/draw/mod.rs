//! One entity's last days, what would have been forecast at the last origin, what then was, and events: as text and as SVG.

mod axis;
mod svg;
mod terminal;

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::{DAY, Series};

use super::events;
use super::table::{self, Table};
use crate::shell::Failure;

use axis::Axis;
/// Days of history that are drawn: a week has each kind of day once.
const HISTORY_DAYS: i64 = 7;
/// The lower edges of the bands, outermost first; the upper ones are as far from the other end.
const BANDS: [f64; 2] = [0.025, 0.1];

/// An event's name and hours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    name: String,
    from: i64,
    /// The hour after its last one.
    to: i64,
}

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Picture {
    title: String,
    /// The hours of the picture (Unix hours, or the file's).
    hours: Range<i64>,
    /// The first hour that was not known to the forecast.
    origin: i64,
    /// Whether hours are those of a calendar.
    is_dated: bool,
    /// Loads by hour; NaN is a gap.
    was: Vec<f64>,
    /// From the origin on.
    median: Vec<f64>,
    /// From the origin on, lower and upper, outermost first.
    bands: [Vec<(f64, f64)>; BANDS.len()],
    marks: Vec<Mark>,
}

/// An entity, a method's name, and what it said at an origin.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    pub(crate) entity: &'a str,
    pub(crate) series: &'a Series,
    pub(crate) model: &'a str,
    pub(crate) scenarios: &'a Scenarios,
    pub(crate) origin: i64,
}

/// A forecast as a node tells it; hours are Unix hours.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) title: String,
    pub(crate) origin: i64,
    pub(crate) was: Vec<(i64, f64)>,
    pub(crate) median: Vec<f64>,
    pub(crate) bands: [Vec<(f64, f64)>; BANDS.len()],
    /// Names of events, and their hours.
    pub(crate) marks: Vec<(String, i64, i64)>,
}

impl Picture {
    /// What a node told.
    pub(crate) fn of_answer(answer: Answer) -> Self {
        let Answer { title, origin, was, median, bands, marks } = answer;
        let start = was.first().map_or(origin, |first| first.0);
        let hours = start..origin + i64::try_from(median.len()).unwrap_or(0);
        let mut all = vec![f64::NAN; usize::try_from(hours.end - hours.start).unwrap_or(0)];
        for (hour, load) in was {
            if let Some(slot) = usize::try_from(hour - start).ok().and_then(|at| all.get_mut(at)) {
                *slot = load;
            }
        }
        let marks = marks.into_iter().map(|(name, from, to)| Mark { name, from, to });
        let marks = marks.filter(|mark| mark.from < hours.end && mark.to > hours.start).collect();
        Self { title, origin, is_dated: true, was: all, median, bands, marks, hours }
    }

    /// As characters.
    pub(crate) fn terminal(&self) -> String {
        terminal::draw(self)
    }

    pub(crate) fn new(said: &Said<'_>, metric: &str, table: &Table, marks: Vec<Mark>) -> Self {
        let horizon = said.scenarios.horizon();
        let ahead = 0..horizon;
        let end = said.origin + i64::try_from(horizon).unwrap_or(0);
        let hours = said.origin - HISTORY_DAYS * DAY as i64..end;
        let was = hours.clone().map(|hour| said.series.load(hour).unwrap_or(f64::NAN));
        let band = |lower: f64| {
            let edges =
                |hour| (said.scenarios.quantile(hour, lower), said.scenarios.quantile(hour, 1.0 - lower));
            ahead.clone().map(edges).collect()
        };
        Self {
            title: format!("{}: {metric}, {horizon} h ahead by {}", said.entity, said.model),
            was: was.collect(),
            median: ahead.clone().map(|hour| said.scenarios.quantile(hour, 0.5)).collect(),
            bands: BANDS.map(band),
            marks: marks.into_iter().filter(|mark| mark.from < hours.end && mark.to > hours.start).collect(),
            origin: said.origin,
            is_dated: table.seconds,
            hours,
        }
    }

    /// For all that was, and the inner band; an outer band may be cut.
    fn axis(&self) -> Axis {
        let inner = self.bands[BANDS.len() - 1].iter().map(|band| band.1);
        let all = self.was.iter().copied().chain(self.median.iter().copied()).chain(inner);
        let mut all: Vec<f64> = all.filter(|load| load.is_finite()).collect();
        all.sort_unstable_by(f64::total_cmp);
        Axis::new(all.last().copied().unwrap_or(0.0), all.get(all.len() / 2).copied().unwrap_or(0.0))
    }

    fn title(&self, axis: Axis) -> String {
        let scale = if axis.is_log() { ", logarithmic" } else { "" };
        format!("{}{scale}", self.title)
    }
}

/// The events of one entity, if a file of events is given.
pub(crate) fn marks(path: Option<&Path>, entity: &str, table: &Table) -> Result<Vec<Mark>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let events = events::of_entity(path, table, entity)?;
    Ok(events.into_iter().map(|(name, event)| Mark { name, from: event.from, to: event.to }).collect())
}

/// To standard output, or to the SVG file that is asked for.
pub(crate) fn draw(picture: &Picture, svg: Option<&Path>) -> Result<(), Failure> {
    if let Some(path) = svg {
        #[expect(clippy::disallowed_methods, reason = "a picture is a file of the user's, not of a store")]
        return fs::write(path, svg::draw(picture)).map_err(|e| table::at(path, &e.to_string()));
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(terminal::draw(picture).as_bytes())?;
    Ok(stdout.flush()?)
}
