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
    ("shadow", verdict),
    ("p99_before", time),
    ("p99_during", time),
    ("p99_after", time),
    ("errors", plain),
    ("regression", plain),
    ("failure", plain),
];

/// A move, with how its entity fared in fields of its own.
fn with_course(one: &Value) -> Value {
    let mut one = one.clone();
    let course = one["course"].take();
    let mut errors = 0;
    for stage in ["before", "during", "after"] {
        let stretch = &course[stage];
        errors += stretch["errors"].as_u64().unwrap_or_default();
        let is_told = stretch["operations"].as_u64().is_some_and(|count| count > 0);
        one[format!("p99_{stage}")] = if is_told { stretch["p99_us"].clone() } else { Value::Null };
    }
    one["errors"] = if course.is_null() { Value::Null } else { errors.into() };
    one["regression"] = course["regression"].clone();
    one
}

/// Microseconds.
fn time(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |micros| format!("{:.2} ms", micros / 1000.0))
}

/// Moves.
pub(super) fn moves(answer: &Value) -> String {
    match answer["moves"].as_array() {
        Some(all) if !all.is_empty() => columns(&all.iter().map(with_course).collect(), MOVES),
        _ => "no moves\n".to_owned(),
    }
}

/// One of them.
pub(super) fn moved(answer: &Value) -> String {
    columns(&Value::Array(vec![with_course(answer)]), MOVES)
}

const CHANGES: &[Column] = &[
    ("change", plain),
    ("kind", plain),
    ("partition", plain),
    ("other", plain),
    ("to_shard", plain),
    ("at", hex),
    ("phase", plain),
    ("linked_bytes", size),
    ("elapsed_seconds", seconds),
    ("pause_seconds", seconds),
    ("failure", plain),
];

/// Changes of partitions.
pub(super) fn changes(answer: &Value) -> String {
    match answer["changes"].as_array() {
        Some(all) if !all.is_empty() => columns(&answer["changes"], CHANGES),
        _ => "no changes of partitions\n".to_owned(),
    }
}

/// One of them.
pub(super) fn changed(answer: &Value) -> String {
    columns(&Value::Array(vec![answer.clone()]), CHANGES)
}

/// Where a partition would be split.
pub(super) fn split_point(answer: &Value) -> String {
    format!(
        "partition {} at {}, by {}: {} below and {} above, {} guests with what is above\n",
        plain(&answer["partition"]),
        hex(&answer["at"]),
        plain(&answer["by"]),
        plain(&answer["below"]),
        plain(&answer["above"]),
        plain(&answer["guests_above"])
    )
}

/// Capacities.
pub(super) fn capacity(answer: &Value) -> String {
    const SHARDS: &[Column] = &[
        ("shard", plain),
        ("set", whole),
        ("learnt", whole),
        ("unit_microseconds", plain),
        ("waiting", plain),
        ("spent", whole),
        ("paced", plain),
        ("paced_seconds", seconds),
    ];
    const PARTITIONS: &[Column] =
        &[("partition", plain), ("shard", plain), ("set", whole), ("waiting", plain)];
    let unit = plain(&answer["unit"]);
    let (shards, partitions) =
        (columns(&answer["shards"], SHARDS), columns(&answer["partitions"], PARTITIONS));
    format!("{unit}\n{shards}\n{partitions}")
}

/// What a shadow showed.
pub(super) fn shadow(answer: &Value) -> String {
    let verdict = answer["verdict"].as_str().unwrap_or("no verdict yet");
    let mut out =
        format!("{verdict} after {}: {}\n", seconds(&answer["elapsed_seconds"]), plain(&answer["reason"]));
    let _ = writeln!(
        out,
        "{} reads, {} mirrored ({} at last), {} dropped; {} equal, {} later, {} differing\n",
        answer["reads"],
        answer["mirrored"],
        percent(&answer["share"]),
        answer["dropped"],
        answer["equal"],
        answer["later"],
        answer["differing"]
    );
    const SPREAD: &[Column] = &[
        ("of", plain),
        ("count", plain),
        ("mean", plain),
        ("p50", plain),
        ("p90", plain),
        ("p99", plain),
        ("max", plain),
    ];
    let row = |name: &str, what: &str, show: fn(f64) -> String| {
        let mut row = serde_json::json!({"of": what, "count": answer[name]["count"]});
        for (of, _) in &SPREAD[2..] {
            row[*of] = Value::String(show(number(&answer[name][*of])));
        }
        row
    };
    let time: fn(f64) -> String = |nanos| format!("{:.3} ms", nanos / 1e6);
    let rate: fn(f64) -> String = |rate| format!("{rate:.0}/s");
    let rows = Value::Array(vec![
        row("source_nanos", "source, time", time),
        row("shadow_nanos", "shadow, time", time),
        row("source_per_second", "source, mirrored", rate),
        row("shadow_per_second", "shadow, answered", rate),
    ]);
    out + &columns(&rows, SPREAD)
}

/// Partitions by now and by the busiest hour ahead.
pub(super) fn outlook(answer: &Value) -> String {
    let empty = Vec::new();
    let partitions = answer["partitions"].as_array().unwrap_or(&empty).iter().map(|one| {
        let ahead = one["forecast"].as_array().unwrap_or(&empty);
        let busiest = ahead.iter().max_by(|a, b| number(&a["q50"]).total_cmp(&number(&b["q50"])));
        let busiest = busiest.unwrap_or(&Value::Null);
        let most = ahead.iter().map(|band| number(&band["p_over"])).fold(0.0, f64::max);
        serde_json::json!({
            "partition": one["id"], "shard": one["shard"], "capacity": one["capacity"],
            "left_of_it": one["capacity_share"], "load": one["load"],
            "busiest_hour": busiest["hour"], "median": busiest["q50"], "one_in_ten_above": busiest["q90"],
            "overloaded": most,
        })
    });
    const PARTITIONS: &[Column] = &[
        ("partition", plain),
        ("shard", plain),
        ("capacity", whole),
        ("left_of_it", percent),
        ("load", whole),
        ("busiest_hour", plain),
        ("median", whole),
        ("one_in_ten_above", whole),
        ("overloaded", percent),
    ];
    let rows = Value::Array(partitions.collect());
    format!("hour {}, {}\n{}", answer["hour"], plain(&answer["unit"]), columns(&rows, PARTITIONS))
}

/// A plan.
pub(super) fn plan(answer: &Value) -> String {
    const MOVES: &[Column] = &[
        ("entities", plain),
        ("from", plain),
        ("to", plain),
        ("score", plain),
        ("avoided", plain),
        ("cost", plain),
        ("begin_hour", plain),
        ("peak_hour", plain),
        ("bytes", float_size),
    ];
    const HOMEWARD: &[Column] = &[("entity", plain), ("from", plain), ("to", plain)];
    const JOINING: &[Column] = &[("entity", plain), ("from", plain), ("to", plain), ("gain", plain)];
    const KEPT: &[Column] = &[("entity", plain), ("reason", plain)];
    const GROWTH: &[Column] = &[
        ("what", plain),
        ("partition", plain),
        ("other", plain),
        ("entity", plain),
        ("needed_hour", plain),
        ("overloaded_hours", plain),
        ("busiest", plain),
    ];
    const CHANGED: &[Column] = &[("change", plain), ("hour", plain), ("phase", plain), ("why", plain)];
    let mut out = format!(
        "hour {}: expected overload {:.2} partition-hours, {:.2} with the plan; threshold {:.3}; made in {} ms\n",
        answer["hour"],
        number(&answer["overloaded_hours_before"]),
        number(&answer["overloaded_hours_after"]),
        number(&answer["threshold"]),
        answer["took_ms"],
    );
    let parts = [
        ("moves", "moves", MOVES),
        ("homeward", "homeward", HOMEWARD),
        ("joining others", "joining", JOINING),
        ("stay", "kept", KEPT),
        ("partitions", "growth", GROWTH),
        ("partitions changed", "changes", CHANGED),
    ];
    for (title, name, of) in parts {
        if answer[name].as_array().is_some_and(|all| !all.is_empty()) {
            let _ = write!(out, "\n{title}\n{}", columns(&answer[name], of));
        }
    }
    out
}

/// Events.
pub(super) fn events(answer: &Value) -> String {
    const EVENTS: &[Column] = &[
        ("name", plain),
        ("kind", plain),
        ("entities", plain),
        ("from", plain),
        ("to", plain),
        ("announced", plain),
        ("factor", plain),
    ];
    match answer["events"].as_array() {
        Some(all) if !all.is_empty() => {
            format!("times in Unix hours\n{}", columns(&answer["events"], EVENTS))
        }
        _ => "no events\n".to_owned(),
    }
}

/// What came of it.
pub(super) fn ledger(answer: &Value) -> String {
    let record = &answer["forecasts"];
    let mut out = String::new();
    let _ = match record["ratio"].as_f64() {
        Some(ratio) => writeln!(
            out,
            "forecasts, 6 hours ahead: error {:.2} of the day before's, {} within the inner 80 %; {} demoted",
            ratio,
            percent(&record["inside_80"]),
            answer["demoted"]
        ),
        None => writeln!(out, "forecasts: too few hours to judge them"),
    };
    let _ = writeln!(out, "planned moves that turned out needless: {}", percent(&answer["wasted"]));
    if answer["moves"].as_array().is_some_and(|moves| !moves.is_empty()) {
        out.push('\n');
        out += &ledger_moves(&answer["moves"]);
    }
    out
}

/// The ledger's moves.
pub(super) fn ledger_moves(moves: &Value) -> String {
    const MOVES: &[Column] = &[
        ("move", plain),
        ("entity", plain),
        ("from", plain),
        ("to", plain),
        ("kind", plain),
        ("score", plain),
        ("began", plain),
        ("ended", plain),
        ("peak_hour", plain),
        ("outcome", plain),
        ("bytes", size),
        ("pause_ms", plain),
        ("was_needed", plain),
        ("worse", plain),
    ];
    let mut rows = moves.clone();
    for row in rows.as_array_mut().into_iter().flatten() {
        row["was_needed"] = row["judged"]["was_needed"].clone();
    }
    columns(&rows, MOVES)
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

fn verdict(shadow: &Value) -> String {
    let untold = if shadow.is_null() { "-" } else { "under way" };
    shadow["verdict"].as_str().unwrap_or(untold).to_owned()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn whole(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"))
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes that are shown")]
fn float_size(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| bytes(number as u64))
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
            "pause_seconds": null, "failure": null, "course": {
                "before": {"operations": 5, "errors": 0, "p99_us": 250.0},
                "during": {"operations": 9, "errors": 1, "p99_us": 1000.0},
                "after": {"operations": 0, "errors": 0, "p99_us": 0.0}, "regression": null,
            },
        }]});
        let text = moves(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("move  entity      from  to  phase  base"), "{text}");
        assert!(lines[1].starts_with("12    customer:7  0     3   log    5 MiB"), "{text}");
        assert!(
            lines[1].contains("1.50 s") && lines[1].contains("0.25 ms     1.00 ms     -          1"),
            "{text}"
        );
        assert_eq!(moves(&json!({"moves": []})), "no moves\n");
    }
}
