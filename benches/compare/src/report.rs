//! Medians and ratios of two servers: on the terminal, as JSON, and drawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::Result;

/// The one that is compared, and the one it is compared with.
pub const SERVERS: [&str; 2] = ["foreshard", "redis"];

/// A number that is reported of every cell.
#[derive(Debug)]
pub struct Metric {
    /// Its name in the JSON.
    pub name: &'static str,
    /// Its line's title.
    pub title: &'static str,
    /// More is better, or less is; None: neither.
    pub is_more_better: Option<bool>,
    /// Drawn.
    pub is_charted: bool,
}

const fn metric(
    name: &'static str,
    title: &'static str,
    is_more_better: Option<bool>,
    is_charted: bool,
) -> Metric {
    Metric { name, title, is_more_better, is_charted }
}

/// In the order of the table.
pub const METRICS: &[Metric] = &[
    metric("operations_per_s", "operations/s", Some(true), true),
    metric("latency_us_p50", "latency p50, us", Some(false), false),
    metric("latency_us_p99", "latency p99, us", Some(false), true),
    metric("latency_us_p99_9", "latency p99.9, us", Some(false), false),
    metric("server_us_per_operation", "server's CPU per operation, us", Some(false), true),
    metric("core_us_per_operation", "its core busy per operation, us", Some(false), false),
    metric("core_busy", "its core busy, of 1", None, false),
    metric("client_busy", "client busy, of 1", None, false),
    metric("memtables_flushed", "memtables flushed", None, false),
    metric("settle_cpu_s", "server's CPU afterwards, s", None, false),
];

/// What one run of one cell came to, by the metrics' names.
pub type Numbers = BTreeMap<&'static str, f64>;

/// All runs of all cells of both servers.
#[derive(Default, Debug, Serialize)]
pub struct Report {
    /// What was run, and on what.
    pub settings: serde_json::Value,
    /// Load averages at the begin of each run: how much others disturbed.
    pub load_averages: Vec<f64>,
    cells: Vec<Cell>,
}

/// One cell: a kind of load.
#[derive(Debug, Serialize)]
struct Cell {
    name: String,
    title: String,
    /// By server, then by metric.
    runs: BTreeMap<String, BTreeMap<&'static str, Vec<f64>>>,
}

impl Report {
    /// Without runs.
    #[must_use]
    pub fn of(settings: serde_json::Value) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Adds a run of a cell.
    pub fn add(&mut self, (name, title): (&str, &str), server: &str, numbers: &Numbers) {
        let place = self.cells.iter().position(|c| c.name == name).unwrap_or_else(|| {
            self.cells.push(Cell { name: name.into(), title: title.into(), runs: BTreeMap::new() });
            self.cells.len() - 1
        });
        let runs = self.cells[place].runs.entry(server.to_owned()).or_default();
        for (metric, value) in numbers {
            runs.entry(metric).or_default().push(*value);
        }
    }

    /// The table: medians, and how many times better the first server is.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        for cell in &self.cells {
            let _ = writeln!(out, "{:36}{:>14}{:>14}{:>10}", cell.title, SERVERS[0], SERVERS[1], "better");
            for metric in METRICS {
                let _ = write!(out, "  {:34}", metric.title);
                for server in SERVERS {
                    let _ = write!(out, "{:>14}", shown(cell.median(server, metric)));
                }
                let ratio = cell.ratio(metric).map_or(String::new(), |r| format!("{r:.2}x"));
                let _ = writeln!(out, "{ratio:>10}");
            }
        }
        let _ = writeln!(
            out,
            "Medians. 1.50x: {} is 1.5 times better. Load average of the machine: {:.1?}",
            SERVERS[0], self.load_averages
        );
        out
    }

    /// Writes `compare.json` and `compare.svg` into `dir`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("compare.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(dir.join("compare.svg"), self.chart())?;
        Ok(())
    }

    /// Bars: a column for each charted metric, a row for each cell, the longer of two bars the larger number.
    fn chart(&self) -> String {
        let mut body = String::new();
        let mut bottom: f64 = 0.0;
        for (column, metric) in (0_u8..).zip(METRICS.iter().filter(|m| m.is_charted)) {
            let (x, mut y) = (10.0 + f64::from(column) * COLUMN, 30.0);
            let better =
                if metric.is_more_better == Some(true) { "longer is better" } else { "shorter is better" };
            let _ =
                writeln!(body, r#"<text x="{x}" y="{y}" class="title">{} ({better})</text>"#, metric.title);
            for cell in &self.cells {
                y += BAR * 1.6;
                let _ = writeln!(body, r#"<text x="{x}" y="{y:.0}">{}</text>"#, cell.title);
                let values = SERVERS.map(|s| cell.median(s, metric).unwrap_or(0.0));
                let longest = values[0].max(values[1]).max(f64::MIN_POSITIVE);
                for ((server, value), color) in SERVERS.iter().zip(values).zip(COLORS) {
                    y += BAR;
                    let ratio = cell.ratio(metric).filter(|_| *server == SERVERS[0]);
                    let ratio = ratio.map_or(String::new(), |r| format!(" ({r:.2}x)"));
                    let _ = writeln!(
                        body,
                        r#"<rect x="{x}" y="{:.0}" width="{:.1}" height="12" fill="{color}"/><text x="{:.1}" y="{y:.0}">{server} {}{ratio}</text>"#,
                        y - 10.0,
                        (value / longest * BAR_LENGTH).max(1.0),
                        x + 6.0 + value / longest * BAR_LENGTH,
                        shown(Some(value)),
                    );
                }
            }
            bottom = bottom.max(y + BAR);
        }
        let width = COLUMN * METRICS.iter().filter(|m| m.is_charted).count() as f64;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{bottom:.0}" font-family="sans-serif" font-size="12"><style>.title{{font-weight:bold}}</style><rect width="100%" height="100%" fill="white"/>
{body}</svg>
"#
        )
    }
}

impl Cell {
    fn median(&self, server: &str, metric: &Metric) -> Option<f64> {
        let mut values = self.runs.get(server)?.get(metric.name)?.clone();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(f64::midpoint(*low, *high))
    }

    /// How many times better the first server is; None where neither way is better, or nothing to divide by.
    fn ratio(&self, metric: &Metric) -> Option<f64> {
        let [first, second] = SERVERS.map(|server| self.median(server, metric));
        let (first, second) = (first?, second?);
        let ratio = if metric.is_more_better? { first / second } else { second / first };
        ratio.is_finite().then_some(ratio)
    }
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value < 100.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// Between two bars, in pixels.
const BAR: f64 = 17.0;
/// The longer of two, in pixels.
const BAR_LENGTH: f64 = 170.0;
/// A bar and its words, in pixels.
const COLUMN: f64 = 370.0;
const COLORS: [&str; 2] = ["#2f6f4f", "#c2703d"];

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: (&str, &str) = ("set_1", "SET");

    #[test]
    fn ratios_say_how_much_better_the_first_is_whichever_way_is_better() {
        let mut report = Report::default();
        for operations in [100e3, 300e3, 200e3] {
            let numbers = [("operations_per_s", operations), ("latency_us_p99", 10.0), ("client_busy", 0.5)];
            report.add(CELL, "foreshard", &Numbers::from(numbers));
        }
        let numbers = [("operations_per_s", 100e3), ("latency_us_p99", 30.0), ("client_busy", 0.9)];
        report.add(CELL, "redis", &Numbers::from(numbers));
        let ratio = |name: &str| report.cells[0].ratio(METRICS.iter().find(|m| m.name == name).unwrap());
        assert_eq!(ratio("operations_per_s"), Some(2.0));
        assert_eq!(ratio("latency_us_p99"), Some(3.0));
        assert_eq!(ratio("client_busy"), None);
        assert!(report.table().contains("200000        100000     2.00x"), "{}", report.table());
    }

    #[test]
    fn a_number_that_only_one_has_is_shown_and_not_divided() {
        let mut report = Report::default();
        report.add(CELL, "redis", &Numbers::from([("latency_us_p99", 0.0)]));
        assert!(report.table().lines().any(|l| l.contains("p99, us") && l.contains('-') && !l.contains('x')));
        assert!(report.chart().contains("<rect") && !report.chart().contains("NaN"));
    }
}
