//! What `forecast backtest` says of each method: a table for people, or one JSON object.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use super::event_days;
use super::options::Backtest;

/// One method's measures, over all series.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) model: &'static str,
    /// Geometric mean over series of the median's absolute error over seasonal naive's.
    pub(crate) ratio: f64,
    pub(crate) smape: f64,
    pub(crate) mase: f64,
    pub(crate) owa: f64,
    /// Mean over quantiles, scaled as MASE is.
    pub(crate) pinball: f64,
    /// The share of hours in the interval, ties broken by seeded draws.
    pub(crate) coverage_80: f64,
    pub(crate) coverage_95: f64,
    /// Of the probability that the peak exceeds the 95th percentile of the series' earlier hours.
    pub(crate) brier: f64,
    pub(crate) millis_per_series: f64,
}

pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<16}{:>8}{:>8}{:>8}{:>8}{:>9}{:>8}{:>8}{:>8}{:>11}\n",
        "model", "ratio", "sMAPE", "MASE", "OWA", "pinball", "80%", "95%", "Brier", "ms/series"
    );
    for row in rows {
        let _infallible = writeln!(
            text,
            "{:<16}{:>8.3}{:>8.3}{:>8.3}{:>8.3}{:>9.3}{:>7.1}%{:>7.1}%{:>8.4}{:>11.2}",
            row.model,
            row.ratio,
            row.smape,
            row.mase,
            row.owa,
            row.pinball,
            100.0 * row.coverage_80,
            100.0 * row.coverage_95,
            row.brier,
            row.millis_per_series,
        );
    }
    text
}

/// A measure that does not exist, as the scaled error of series that never changed, is null.
pub(crate) fn json(options: &Backtest, series: usize, rows: &[Row], events: &[event_days::Row]) -> String {
    let value = json!({
        "in": options.judged.load.input,
        "metric": options.judged.load.metric,
        "horizon_hours": options.judged.horizon,
        "last_hours": options.judged.last,
        "series": series,
        "models": rows,
        "events": events,
    });
    format!("{value}\n")
}
