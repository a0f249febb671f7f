//! The command line of `foreshard sim`.

use clap::Args;

use crate::forecast::options::Load;

const HELP: &str = "\
Policies: static (every entity stays at home), reactive (a rule that looks at the last seconds, tuned on this very trace), \
predictive (a plan every hour from what was known then, and one at once, from what is seen too, when a partition is too \
busy; what that has no answer to, the rule relieves with its usual settings), oracle (knows the hours to come). A violation-second is a partition-second whose arrivals exceed capacity, or whose \
queue exceeds 100 ms of it; those in which one entity would have been as late in a partition of its own, or that lie in an hour in which one entity has more than a partition can do, are counted apart.

Modelled, and not measured: homes by routing key; sizes log-normal by --seed; load within the hour by --seed and --spread; \
capacity such that the static policy has --overloaded percent of its partition-hours above it; moves at --copy-rate, each \
taking --copy-share of both partitions' capacity while it lasts.

Example: foreshard sim --trace load.csv --days 21 --threads 2";

/// Compare policies of placement on a trace, in a modelled cluster.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Sim {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Days at the end of the trace that are simulated; what lies before them is known from the start.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..=365))]
    pub(crate) days: u16,
    /// Partitions of the cluster.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub(crate) partitions: u16,
    /// Percent of partition-hours that are over capacity while nothing moves; a cell each.
    #[arg(long, value_delimiter = ',', default_value = "5,10,20", value_parser = parse_percentage)]
    pub(crate) overloaded: Vec<f64>,
    /// Spread of load within the hour: the standard deviation of the logarithm of each ten seconds of an entity. Cells
    /// with flat hours and with the doubled spread are added, unless it is 0.
    #[arg(long, default_value_t = 0.25, value_parser = parse_spread)]
    pub(crate) spread: f64,
    /// Only the spread that was given.
    #[arg(long)]
    pub(crate) one_spread: bool,
    /// Median size of an entity, bytes.
    #[arg(long, default_value_t = 4_000_000_000)]
    pub(crate) median_bytes: u64,
    /// Bytes a second that a move copies.
    #[arg(long, default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) copy_rate: u64,
    /// Percent of a partition's capacity that a move takes at either end.
    #[arg(long, default_value_t = 5.0, value_parser = parse_percentage)]
    pub(crate) copy_share: f64,
    /// Of all draws.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// JSON: cells, an object for each and each policy, and totals, one for each policy.
    #[arg(long)]
    pub(crate) json: bool,
    /// Tune with a few settings only: for a quick look.
    #[arg(long)]
    pub(crate) coarse: bool,
}

impl Sim {
    /// The spreads that are simulated.
    pub(crate) fn bursts(&self) -> Vec<f64> {
        if self.one_spread || self.spread <= 0.0 {
            vec![self.spread]
        } else {
            vec![0.0, self.spread, 2.0 * self.spread]
        }
    }
}

fn parse_percentage(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| format!("{text:?} is no number"))?;
    if value > 0.0 && value < 100.0 { Ok(value) } else { Err(format!("{value} is not between 0 and 100")) }
}

fn parse_spread(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=2.0).contains(&value) { Ok(value) } else { Err(format!("{value} is not in 0..=2")) }
}
