//! Answers as text.

use std::fmt::Write as _;

use serde_json::Value;

use crate::text::bytes;

/// Columns: a field's name, and how it is shown.
type Column = (&'static str, fn(&Value) -> String);

/// An object, a field a line.
pub(super) fn fields(answer: &Value) -> String {
    let object = answer.as_object().into_iter().flatten();
    let widest = answer.as_object().map_or(0, |all| all.keys().map(String::len).max().unwrap_or(0));
    let mut out = String::new();
    for (name, value) in object {
        let shown = if name.ends_with("_bytes") { size(value) } else { plain(value) };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<widest$}  {shown}");
    }
    out
}

/// The node.
pub(super) fn status(answer: &Value) -> String {
    let head = format!(
        "version {}, up {} s, {} clients, {} commands, table version {}\n",
        plain(&answer["version"]),
        answer["uptime_secs"],
        answer["clients"],
        answer["commands"],
        answer["table"]["version"]
    );
    const SHARDS: &[Column] = &[
        ("shard", plain),
        ("clients", plain),
        ("segments", plain),
        ("segment_bytes", size),
        ("memtable_bytes", size),
        ("wal_bytes", size),
        ("write_pressure", plain),
        ("failure", plain),
    ];
    head + &columns(&answer["shards"], SHARDS)
}

/// The partition table.
pub(super) fn table(answer: &Value) -> String {
    const PARTITIONS: &[Column] = &[
        ("partition", plain),
        ("shard", plain),
        ("epoch", plain),
        ("start", hex),
        ("end", hex),
        ("guests", plain),
        ("version", plain),
    ];
    const GUESTS: &[Column] = &[("entity", plain), ("partition", plain), ("version", plain)];
    const MOVES: &[Column] = &[("move", plain), ("entity", plain), ("from", plain), ("to", plain)];
    let mut out = format!("version {}, {} shards\n", answer["version"], answer["shards"]);
    out += &columns(&answer["partitions"], PARTITIONS);
    let told = answer["guests"].as_array().map_or(0, Vec::len);
    if told > 0 {
        let _ = write!(out, "\n{} of {} guests\n", told, answer["guest_count"]);
        out += &columns(&answer["guests"], GUESTS);
    }
    if answer["open_moves"].as_array().is_some_and(|moves| !moves.is_empty()) {
        out += "\nopen moves\n";
        out += &columns(&answer["open_moves"], MOVES);
    }
    out
}

const MOVES: &[Column] = &[
    ("move", plain),
    ("entity", plain),
    ("from", plain),
    ("to", plain),
    ("phase", plain),
    ("base_bytes", size),
    ("linked_bytes", size),
    ("log_bytes", size),
    ("lag_bytes", size),
    ("bytes_per_second", size),
    ("elapsed_seconds", seconds),
    ("pause_seconds", seconds),
    ("failure", plain),
];

/// Moves.
pub(super) fn moves(answer: &Value) -> String {
    match answer["moves"].as_array() {
        Some(all) if !all.is_empty() => columns(&answer["moves"], MOVES),
        _ => "no moves\n".to_owned(),
    }
}

/// One of them.
pub(super) fn moved(answer: &Value) -> String {
    columns(&Value::Array(vec![answer.clone()]), MOVES)
}

/// A table: a line an object, columns as wide as they need be.
fn columns(rows: &Value, columns: &[Column]) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|(name, _)| title(name)).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|(name, show)| show(&row[*name])).collect()));
    let widest = |n: usize| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    let mut out = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out += cells.collect::<Vec<_>>().join("  ").trim_end();
        out.push('\n');
    }
    out
}

fn title(name: &str) -> String {
    let short = name.strip_suffix("_bytes").or_else(|| name.strip_suffix("_seconds")).unwrap_or(name);
    short.replace("bytes_per_second", "per second").replace('_', " ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.2}", number.as_f64().unwrap_or_default()),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn size(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), bytes)
}

fn hex(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |number| format!("{number:016x}"))
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        Some(seconds) if seconds < 1.0 => format!("{:.2} ms", seconds * 1000.0),
        Some(seconds) => format!("{seconds:.2} s"),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_as_wide_as_what_is_in_them() {
        let answer = json!({"moves": [{
            "move": 12, "entity": "customer:7", "from": 0, "to": 3, "phase": "log", "base_bytes": 5_u64 << 20,
            "linked_bytes": 0, "log_bytes": 10, "lag_bytes": 7, "bytes_per_second": 1000, "elapsed_seconds": 1.5,
            "pause_seconds": null, "failure": null,
        }]});
        let text = moves(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("move  entity      from  to  phase  base"), "{text}");
        assert!(lines[1].starts_with("12    customer:7  0     3   log    5 MiB"), "{text}");
        assert!(lines[1].contains("1.50 s") && lines[1].ends_with("-      -"), "{text}");
        assert_eq!(moves(&json!({"moves": []})), "no moves\n");
    }
}
