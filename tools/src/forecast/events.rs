//! A file of announced events. One row that makes no sense refuses it: what is forecast from half a calendar looks right.

use std::path::Path;

use csv::StringRecord;
use foreshard_forecast::events::{Calendar, Event};

use super::table::{self, BROKEN_TOLD_MAX, HOUR_INDEX_END, SECONDS_PER_HOUR, Table};
use crate::shell::Failure;

/// What the header must have, in any order. A name, if there is such a column, is for people.
const COLUMNS: [&str; 5] = ["kind", "entities", "from", "to", "announced"];

/// Times are in the unit of `table`: an event has every hour that it touches, and is known from the first full hour on.
pub(crate) fn read(path: &Path, table: &Table) -> Result<Calendar, Failure> {
    let mut calendar = Calendar::default();
    each(path, table, |_, event| calendar.add(&event).map_err(|e| e.to_string()))?;
    Ok(calendar)
}

/// Those that concern one entity, with their names; an event without one has its kind.
pub(crate) fn of_entity(path: &Path, table: &Table, entity: &str) -> Result<Vec<(String, Event)>, Failure> {
    let mut events = Vec::new();
    each(path, table, |name, event| {
        if event.concerns(entity) {
            events.push((if name.is_empty() { event.kind.clone() } else { name.to_owned() }, event));
        }
        Ok(())
    })?;
    Ok(events)
}

fn each(
    path: &Path,
    table: &Table,
    mut take: impl FnMut(&str, Event) -> Result<(), String>,
) -> Result<(), Failure> {
    let mut reader = table::reader(path)?;
    let header = reader.headers().map_err(|e| table::at(path, &e.to_string()))?.clone();
    let columns = find(&header).map_err(|e| table::at(path, &e))?;
    let name = header.iter().position(|column| column.trim() == "name");
    let (mut broken, mut told) = (0_usize, Vec::new());
    for (index, record) in reader.records().enumerate() {
        let taken = match &record {
            Ok(record) => event(record, columns, table).and_then(|event| {
                take(name.and_then(|column| record.get(column)).unwrap_or("").trim(), event)
            }),
            Err(e) => Err(e.to_string()),
        };
        if let Err(reason) = taken {
            let position = record.as_ref().ok().and_then(|record| record.position());
            // The header is the first line.
            let line = position.map_or(index as u64 + 2, csv::Position::line);
            broken += 1;
            if told.len() < BROKEN_TOLD_MAX {
                told.push(format!("line {line}: {reason}"));
            }
        }
    }
    if broken > 0 {
        let more = broken - told.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        return Err(table::at(path, &format!("{}{more}", told.join("; "))));
    }
    Ok(())
}

fn find(header: &StringRecord) -> Result<[usize; COLUMNS.len()], String> {
    let mut columns = [0; COLUMNS.len()];
    for (slot, name) in columns.iter_mut().zip(COLUMNS) {
        *slot = header.iter().position(|column| column.trim() == name).ok_or_else(|| {
            let there = header.iter().collect::<Vec<_>>().join(", ");
            format!("has no column {name:?}; there are: {there}")
        })?;
    }
    Ok(columns)
}

fn event(record: &StringRecord, columns: [usize; COLUMNS.len()], table: &Table) -> Result<Event, String> {
    let [kind, entities, from, to, announced] = columns.map(|column| record.get(column).unwrap_or("").trim());
    let unit = if table.seconds { SECONDS_PER_HOUR } else { 1 };
    let time = |name: &str, text: &str| {
        let time: i64 = text.parse().map_err(|_| format!("{name} {text:?} is no whole number"))?;
        let seconds = !(-HOUR_INDEX_END..HOUR_INDEX_END).contains(&time);
        let units = ["an hour index", "Unix seconds"];
        if seconds == table.seconds {
            Ok(time)
        } else {
            let [is, are] = [seconds, table.seconds].map(|seconds| units[usize::from(seconds)]);
            Err(format!("{name} {time} is {is}, the load's times are {are}"))
        }
    };
    let begins = |time: i64| time.div_euclid(unit);
    let next = |time: i64| begins(time) + i64::from(time.rem_euclid(unit) > 0);
    Ok(Event {
        kind: kind.to_owned(),
        entities: entities.to_owned(),
        from: begins(time("from", from)?),
        to: next(time("to", to)?),
        announced: next(time("announced", announced)?),
    })
}
