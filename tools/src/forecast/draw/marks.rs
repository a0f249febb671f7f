//! The events to be drawn over one entity's hours.

use std::path::Path;

use csv::StringRecord;

use crate::forecast::table::{self, Table};
use crate::shell::Failure;

/// An event's name and hours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) from: i64,
    /// The hour after its last one.
    pub(crate) to: i64,
}

/// Those of `entity`, from a file with the columns name, entities, from and to.
pub(super) fn read(path: &Path, entity: &str, table: &Table) -> Result<Vec<Mark>, Failure> {
    let mut reader = table::reader(path)?;
    let header = reader.headers().map_err(|e| table::at(path, &e.to_string()))?.clone();
    let column = |name: &str| {
        let index = header.iter().position(|column| column.trim() == name);
        index.ok_or_else(|| table::at(path, &format!("has no column {name:?}")))
    };
    let columns = [column("name")?, column("entities")?, column("from")?, column("to")?];
    let mut marks = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| table::at(path, &e.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mark = mark(&record, columns, entity, table);
        marks.extend(mark.map_err(|e| table::at(path, &format!("line {line}: {e}")))?);
    }
    Ok(marks)
}

/// None of one that concerns others.
fn mark(
    record: &StringRecord,
    columns: [usize; 4],
    entity: &str,
    table: &Table,
) -> Result<Option<Mark>, String> {
    let [name, entities, from, to] = columns.map(|column| record.get(column).unwrap_or("").trim());
    if !concerns(entities, entity) {
        return Ok(None);
    }
    let hours = if table.seconds { 3600 } else { 1 };
    let time = |text: &str| text.parse::<i64>().map_err(|_| format!("time {text:?} is no whole number"));
    let (from, to) = (time(from)?.div_euclid(hours), -(-time(to)?).div_euclid(hours));
    Ok(Some(Mark { name: name.to_owned(), from, to }))
}

/// Whether a name is one that a pattern means, in which `*` stands for any characters and `?` for any one.
fn concerns(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Whether the pattern so far means the first characters of the name, for each number of them.
    let mut meant = vec![false; name.len() + 1];
    meant[0] = true;
    for part in pattern {
        let before = meant.clone();
        for count in 0..meant.len() {
            meant[count] = match part {
                '*' => before[count] || (count > 0 && meant[count - 1]),
                _ => count > 0 && before[count - 1] && (part == '?' || part == name[count - 1]),
            };
        }
    }
    meant[name.len()]
}

#[cfg(test)]
mod tests {
    use super::concerns;

    #[test]
    fn patterns_mean_names() {
        for (pattern, name) in
            [("*", ""), ("*", "a"), ("shop-*", "shop-7"), ("s?op*7", "shop-17"), ("a*b*c", "axxbyc")]
        {
            assert!(concerns(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("?", ""), ("shop-*", "shop"), ("a*b", "abc"), ("A", "a")] {
            assert!(!concerns(pattern, name), "{pattern} {name}");
        }
    }
}
