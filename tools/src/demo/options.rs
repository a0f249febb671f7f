//! The command line of `foreshard demo`.

use std::path::PathBuf;

use clap::Args;

const HELP: &str = "\
A node in a temporary directory serves a generated trace: weeks of it are known when it begins, the last two days are \
replayed with short hours. It counts, forecasts, plans and moves as any node does, and is asked over HTTP as `foreshard ctl` \
asks. What is told as live was measured; what is told as simulated is the same trace in the modelled cluster of `foreshard sim`.

Exit status: 0 a move ended before the peak that it was for, and no request failed; 1 one of these does not hold; 2 it could \
not be run.

Examples: foreshard demo
          foreshard demo --hours 24 --hour-seconds 1 --json
          foreshard demo --write-trace town.csv";

/// Show it all on this machine: a node, a trace, forecasts, and moves that come before the load.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Demo {
    /// Hours of the trace that are replayed.
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(6..=48))]
    pub(super) hours: u32,
    /// Seconds that an hour takes.
    #[arg(long, default_value_t = 1.5, value_parser = parse_seconds)]
    pub(super) hour_seconds: f64,
    /// Requests a second on average.
    #[arg(long, default_value_t = 1200.0, value_parser = parse_rate)]
    pub(super) rate: f64,
    /// Percent of partition-hours that are over capacity if nothing moves.
    #[arg(long, default_value_t = 6.0, value_parser = parse_percent)]
    pub(super) overloaded: f64,
    /// Of the trace.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Where the picture goes.
    #[arg(long, default_value = "foreshard-demo.svg", value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Keep the node's directory: it is made here, and must not be there.
    #[arg(long, value_name = "DIR")]
    pub(super) keep: Option<PathBuf>,
    /// Write the trace as CSV, and do nothing else.
    #[arg(long, value_name = "FILE")]
    pub(super) write_trace: Option<PathBuf>,
    /// One JSON object at the end, and nothing else on standard output.
    #[arg(long)]
    pub(super) json: bool,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    within(text, 0.25, 60.0)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    within(text, 10.0, 100_000.0)
}

fn parse_percent(text: &str) -> Result<f64, String> {
    within(text, 0.1, 50.0)
}

fn within(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| format!("{text:?} is no number between {min} and {max}"))
}
