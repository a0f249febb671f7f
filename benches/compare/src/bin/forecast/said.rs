//! What programs say: run to their end, and read.

use std::path::Path;
use std::time::Duration;

use foreshard_compare::child::Program;
use foreshard_compare::{Result, machine};
use serde_json::Value;

/// No command takes as long: the longest, a backtest of all methods, takes ten minutes of one core.
pub(crate) const COMMAND_MAX: Duration = Duration::from_secs(3600);

/// Of the forecast crate.
pub(crate) fn cargo(command: &str, arguments: &[&str]) -> Program {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut cargo = Program::new("cargo", None);
    cargo.arguments([command, "--profile", machine::PROFILE, "--package", "foreshard-forecast"]);
    cargo.argument("--manifest-path").argument(manifest).arguments(arguments);
    cargo
}

/// What it says; it has to end well.
pub(crate) fn run(program: &mut Program) -> Result<String> {
    let (status, said) = program.heard().run(COMMAND_MAX)?;
    if !status.success() {
        return Err(format!("{program:?}: {status}").into());
    }
    Ok(said)
}

/// Of a list.
pub(crate) fn rows(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().ok_or_else(|| format!("not a list of rows: {value}").into())
}

/// The row of that name.
pub(crate) fn row<'a>(value: &'a Value, key: &str, name: &str) -> Result<&'a Value> {
    let found = rows(value)?.iter().find(|row| row[key] == name);
    found.ok_or_else(|| format!("no row whose {key} is {name:?}: {value}").into())
}

/// A number of a row.
pub(crate) fn number(row: &Value, key: &str) -> Result<f64> {
    row[key].as_f64().ok_or_else(|| format!("no number {key:?}: {row}").into())
}

/// A word of a row.
pub(crate) fn text<'a>(row: &'a Value, key: &str) -> Result<&'a str> {
    row[key].as_str().ok_or_else(|| format!("no word {key:?}: {row}").into())
}

/// How many rows of a course there are, all of whose numbers are finite; an error if one is not.
pub(crate) fn finite_rows(path: &Path) -> Result<f64> {
    let mut rows = 0.0;
    for record in csv::Reader::from_path(path)?.records() {
        let record = record?;
        for number in record.iter().skip(2) {
            if !number.parse::<f64>()?.is_finite() {
                return Err(format!("{}: {record:?} has a number that is not finite", path.display()).into());
            }
        }
        rows += 1.0;
    }
    Ok(rows)
}

/// Prints rows as a table of a document, of the columns `keys`; what they are named by comes first.
pub(crate) fn table(title: &str, of: &Value, name: &str, keys: &[&str]) -> Result<()> {
    println!("\n{title}\n\n| {name} | {} |\n|{}", keys.join(" | "), "---|".repeat(keys.len() + 1));
    for row in rows(of)? {
        let cell = |&key: &&str| {
            let text = row[key].as_str().map(str::to_owned);
            text.or_else(|| Some(format!("{:.3}", row[key].as_f64()?))).unwrap_or_else(|| "-".to_owned())
        };
        let name = row[name].as_str().ok_or_else(|| format!("no {name:?}: {row}"))?;
        println!("| {name} | {} |", keys.iter().map(cell).collect::<Vec<String>>().join(" | "));
    }
    println!();
    Ok(())
}
