//! Medians and ratios, on the terminal, as JSON, and drawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::Result;
use crate::scenario::Numbers;

/// A number that is reported.
#[derive(Debug)]
pub struct Metric {
    /// Its name in the JSON.
    pub name: &'static str,
    /// Its line's title.
    pub title: &'static str,
    /// What one unit of the table is in units of the JSON.
    pub scale: f64,
    /// More is better, or less is; None: neither.
    pub is_more_better: Option<bool>,
}

const fn metric(name: &'static str, title: &'static str, scale: f64, is_more_better: Option<bool>) -> Metric {
    Metric { name, title, scale, is_more_better }
}

/// In the order of the table.
pub const METRICS: &[Metric] = &[
    metric("fill_rows_per_s", "fill to zero debt, k rows/s", 1e3, Some(true)),
    metric("fill_unsettled_rows_per_s", "  of it the puts, k rows/s", 1e3, None),
    metric("fill_stall_ms_max", "longest put, ms", 1.0, Some(false)),
    metric("fill_turn_us_p999", "turns of the shard, p99.9, us", 1.0, None),
    metric("write_amplification", "write amplification (kernel)", 1.0, Some(false)),
    metric("write_amplification_own", "write amplification (own word)", 1.0, None),
    metric("disk_bytes", "on disk after, MB", 1e6, None),
    metric("warm_reads_per_s", "warm point reads, k/s", 1e3, Some(true)),
    metric("durable_writes_per_s", "durable writes, 64 callers, k/s", 1e3, Some(true)),
    metric("durable_latency_ms_max", "longest durable write, ms", 1.0, None),
    metric("durable_core_busy", "core busy meanwhile", 1.0, None),
    metric("durable_whole_core_busy", "  with interrupts and kernel threads", 1.0, None),
    metric("deep_reads_per_s", "reads, data 10x cache, depth 64, k/s", 1e3, Some(true)),
    metric("deep_device_bytes_per_read", "device bytes per read", 1.0, None),
    metric("deep_core_busy", "core busy meanwhile", 1.0, None),
    metric("log_bytes_per_s", "64 KiB synced log writes, MB/s", 1e6, Some(true)),
    metric("recovery_s", "opening after a crash, s", 1.0, None),
    metric("recovery_log_bytes", "  from a log of, MB", 1e6, None),
    metric("recovery_rows", "  with rows, k", 1e3, None),
    metric("recovery_core_busy", "  core busy meanwhile", 1.0, None),
    metric("resident_bytes_max", "peak resident, MB", 1e6, None),
];

/// All runs of all participants, the one that others are compared with first.
#[derive(Default, Debug, serde::Serialize)]
pub struct Report {
    /// Load averages at the begin of each run: how much others disturbed.
    pub load_averages: Vec<f64>,
    /// What was run.
    pub settings: serde_json::Value,
    order: Vec<String>,
    runs: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

impl Report {
    /// Adds a run's numbers.
    pub fn add(&mut self, participant: &str, numbers: &Numbers) {
        if !self.order.iter().any(|p| p == participant) {
            self.order.push(participant.to_owned());
        }
        let runs = self.runs.entry(participant.to_owned()).or_default();
        for (name, value) in numbers {
            runs.entry(name.clone()).or_default().push(*value);
        }
    }

    /// Fails if two engines read different things from the same rows.
    pub fn check_digests(&self) -> Result<()> {
        for name in ["warm_digest", "deep_digest"] {
            let mut digests = self.runs.values().filter_map(|r| r.get(name)).flatten();
            let first = digests.next();
            if digests.any(|d| Some(d) != first) {
                return Err(format!("{name}: engines did not read the same").into());
            }
        }
        Ok(())
    }

    /// The table: medians, and for each but the first how many times better the first is.
    pub fn table(&self) -> String {
        let mut out = format!("{:38}", "median of the runs");
        for participant in &self.order {
            let _ = write!(out, "{participant:>20}");
        }
        out.push('\n');
        for metric in METRICS {
            if self.order.iter().all(|p| self.median(p, metric).is_none()) {
                continue;
            }
            let _ = write!(out, "{:38}", metric.title);
            for participant in &self.order {
                let _ = write!(out, "{:>20}", self.cell(participant, metric));
            }
            out.push('\n');
        }
        if let Some(first) = self.order.first() {
            let _ = writeln!(
                out,
                "(1.50x): {first} is 1.5 times better. Load average of the machine: {:.1?}",
                self.load_averages
            );
        }
        out
    }

    fn cell(&self, participant: &str, metric: &Metric) -> String {
        let Some(value) = self.median(participant, metric) else { return "-".into() };
        let shown = value / metric.scale;
        let digits = if shown < 100.0 { 2 } else { 0 };
        let ratio = self.order.first().filter(|first| *first != participant).and_then(|first| {
            let (first, is_more_better) = (self.median(first, metric)?, metric.is_more_better?);
            Some(if is_more_better { first / value } else { value / first })
        });
        match ratio {
            Some(ratio) => format!("{shown:.digits$} ({ratio:.2}x)"),
            None => format!("{shown:.digits$}"),
        }
    }

    fn median(&self, participant: &str, metric: &Metric) -> Option<f64> {
        let mut values = self.runs.get(participant)?.get(metric.name)?.clone();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(f64::midpoint(*low, *high))
    }

    /// Writes `peers.json` and `peers.svg` into `dir`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("peers.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(dir.join("peers.svg"), self.chart())?;
        Ok(())
    }

    /// Bars: each metric's best is full length, so that the longest bar always is the best.
    fn chart(&self) -> String {
        let charted = METRICS.iter().filter(|m| m.is_more_better.is_some());
        let (mut y, mut body) = (30.0, String::new());
        for metric in charted {
            let values: Vec<(&String, f64)> =
                self.order.iter().filter_map(|p| Some((p, self.median(p, metric)?))).collect();
            let is_more_better = metric.is_more_better == Some(true);
            let goodness = |value: f64| if is_more_better { value } else { 1.0 / value.max(1e-9) };
            let best = values.iter().map(|&(_, v)| goodness(v)).fold(0.0, f64::max);
            if values.is_empty() {
                continue;
            }
            let _ = writeln!(body, r#"<text x="10" y="{y}" class="title">{}</text>"#, metric.title.trim());
            for (participant, value) in values {
                y += BAR;
                let width = (goodness(value) / best * BAR_LENGTH).max(1.0);
                let color =
                    COLORS[self.order.iter().position(|p| p == participant).unwrap_or(0) % COLORS.len()];
                let _ = writeln!(
                    body,
                    r#"<text x="20" y="{:.0}">{participant}</text><rect x="110" y="{:.0}" width="{width:.1}" height="12" fill="{color}"/><text x="{:.1}" y="{:.0}">{}</text>"#,
                    y,
                    y - 10.0,
                    116.0 + width,
                    y,
                    self.cell(participant, metric)
                );
            }
            y += BAR * 2.0;
        }
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{y:.0}" font-family="sans-serif" font-size="12"><style>.title{{font-weight:bold}}</style><rect width="100%" height="100%" fill="white"/>
{body}</svg>
"#
        )
    }
}

/// Between two bars, in pixels.
const BAR: f64 = 17.0;
/// The best one's, in pixels.
const BAR_LENGTH: f64 = 500.0;
const COLORS: &[&str] = &["#2f6f4f", "#c2703d", "#4a6fa5", "#8a8a8a"];

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(pairs: &[(&str, f64)]) -> Numbers {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn ratios_say_how_much_better_the_first_is_whichever_way_is_better() {
        let mut report = Report::default();
        for fill in [100e3, 300e3, 200e3] {
            report.add("a", &numbers(&[("fill_rows_per_s", fill), ("fill_stall_ms_max", 10.0)]));
        }
        report.add("b", &numbers(&[("fill_rows_per_s", 100e3), ("fill_stall_ms_max", 30.0)]));
        assert_eq!(report.cell("a", &METRICS[0]), "200");
        assert_eq!(report.cell("b", &METRICS[0]), "100 (2.00x)");
        assert_eq!(report.cell("b", &METRICS[2]), "30.00 (3.00x)");
        assert!(report.chart().contains("<rect") && report.table().contains("(2.00x)"));
    }

    #[test]
    fn engines_that_read_different_things_are_an_error() {
        let mut report = Report::default();
        report.add("a", &numbers(&[("warm_digest", 1.0)]));
        assert!(report.check_digests().is_ok());
        report.add("b", &numbers(&[("warm_digest", 2.0)]));
        assert!(report.check_digests().is_err());
    }
}
