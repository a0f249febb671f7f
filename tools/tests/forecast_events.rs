//! `foreshard forecast` with a calendar, with young entities, and with the network.
#![expect(clippy::unwrap_used, reason = "a test fails by its panic")]
#![expect(clippy::disallowed_methods, reason = "writes and reads files as a user would")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// 2023-06-19, a Monday.
const START: i64 = 1_687_132_800;
const HOURS: i64 = 40 * 24;

struct Trace {
    dir: TempDir,
}

impl Trace {
    /// Entities with a daily rhythm; the last one has two days, the others forty. Each Wednesday afternoon is a sale of
    /// shops 0 to 19.
    fn new(entities: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = "time,entity,requests\n".to_owned();
        let mut random = fastrand::Rng::with_seed(9);
        for entity in 0..entities {
            let young = entity + 1 == entities;
            for hour in if young { HOURS - 48..HOURS } else { 0..HOURS } {
                let day = 1.5 + (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
                let sale = if entity < 20 && is_sale(hour) { 4.0 } else { 1.0 };
                let load = (entity + 1) as f64 * 20.0 * day * sale * (0.8 + 0.4 * random.f64());
                writeln!(rows, "{},shop:{entity:02},{load:.2}", START + hour * 3600).unwrap();
            }
        }
        std::fs::write(dir.path().join("load.csv"), rows).unwrap();
        Self { dir }
    }

    fn calendar(&self, rows: &str) -> PathBuf {
        let path = self.dir.path().join("events.csv");
        std::fs::write(&path, format!("name,kind,entities,from,to,announced\n{rows}")).unwrap();
        path
    }

    /// The columns of the rows of an entity that are forecast.
    fn forecast(&self, more: &[&str], entity: &str) -> Vec<Vec<f64>> {
        let out = self.dir.path().join("out.csv");
        let output = self.run(&[&["--horizon", "24", "--out", out.to_str().unwrap()], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(out).unwrap();
        let rows = text.lines().filter(|line| line.starts_with(entity));
        rows.map(|line| line.split(',').skip(1).map(|cell| cell.parse().unwrap()).collect()).collect()
    }

    fn run(&self, more: &[&str]) -> Output {
        let load = self.dir.path().join("load.csv");
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreshard"));
        command.args(["forecast", "--in", load.to_str().unwrap(), "--metric", "requests"]).args(more);
        command.output().unwrap()
    }

    fn refused(&self, events: &Path) -> String {
        let out = self.dir.path().join("out.csv");
        let [events, out] = [events, &out].map(|path| path.to_str().unwrap());
        let output = self.run(&["--horizon", "24", "--out", out, "--events", events]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Wednesdays from 12:00 to 16:00.
fn is_sale(hour: i64) -> bool {
    hour / 24 % 7 == 2 && (12..16).contains(&(hour % 24))
}

fn sales(days: impl Iterator<Item = i64>) -> String {
    let mut rows = String::new();
    for day in days {
        let from = START + (day * 24 + 12) * 3600;
        writeln!(rows, "a sale,sale,shop:*,{from},{},{}", from + 4 * 3600, from - 86_400).unwrap();
    }
    rows
}

#[test]
fn an_announced_sale_is_in_the_forecast_and_another_day_is_not() {
    let trace = Trace::new(3);
    // The trace ends with a Saturday: the sale of the day after is one on a day that had none before.
    let events = trace.calendar(&sales((2..HOURS / 24).step_by(7).chain([HOURS / 24])));
    let plain = trace.forecast(&[], "shop:00");
    let with = trace.forecast(&["--events", events.to_str().unwrap()], "shop:00");
    assert_eq!(with.len(), 24);
    for (hour, (plain, with)) in plain.iter().zip(&with).enumerate() {
        let ratio = with[3] / plain[3];
        // The network, trained on three entities, answers to what was taken out elsewhere too: a little, and no sale.
        let expected = if (12..16).contains(&hour) { 3.0..5.5 } else { 0.7..1.4 };
        assert!(expected.contains(&ratio), "hour {hour}: {ratio}");
    }
}

#[test]
fn a_broken_calendar_is_refused_with_lines_and_reasons() {
    let trace = Trace::new(2);
    let good = sales(2..3);
    let told = trace.refused(&trace.calendar(&format!(
        "{good}x,sale,a,{START},{START},0\nx,,a,{START},{END},{START}\nx,sale,a,soon,{END},{START}\n",
        END = START + 3600
    )));
    for part in [
        "line 3: announced 0 is an hour index, the load's times are Unix seconds",
        "line 4: the event has no kind",
        "line 5: from \"soon\" is no whole number",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let told = trace.refused(&trace.calendar(&format!("x,sale,a,{START},{START},{START}\n")));
    assert!(told.contains("line 2: the event ends at"), "{told}");
    let headless = trace.dir.path().join("headless.csv");
    std::fs::write(&headless, "kind,entities,from,to\n").unwrap();
    assert!(trace.refused(&headless).contains("has no column \"announced\""));
    assert!(trace.refused(Path::new("/no/such/events.csv")).contains("/no/such/events.csv"));
}

#[test]
fn an_entity_of_two_days_is_forecast_from_what_others_did() {
    let trace = Trace::new(12);
    let rows = trace.forecast(&["--threads", "2"], "shop:11");
    for (hour, row) in rows.iter().enumerate() {
        let truth = 12.0 * 20.0 * (1.5 + (hour as f64 / 24.0 * std::f64::consts::TAU).sin());
        let (low, median, high) = (row[2], row[3], row[4]);
        // The median of its own hours alone is 180 % too high at night.
        assert!((median / truth - 1.0).abs() < 0.5, "hour {hour}: {median}, not {truth}");
        assert!(low < truth && truth < high, "hour {hour}: {truth} is not in {low}..{high}");
    }
}

#[test]
fn the_network_is_trained_by_name_and_a_seed_gives_the_same_bytes() {
    let trace = Trace::new(2);
    let said = |seed: &str| {
        trace.forecast(&["--model", "lstm", "--training-steps", "30", "--seed", seed], "shop:00")
    };
    let first = said("1");
    assert_eq!(first, said("1"));
    assert_ne!(first, said("2"));
    for (hour, row) in first.iter().enumerate() {
        let truth = 20.0 * (1.5 + (hour as f64 / 24.0 * std::f64::consts::TAU).sin());
        assert!((row[3] / truth - 1.0).abs() < 0.35, "hour {hour}: {}, not {truth}", row[3]);
    }
}
