//! The command line of `foreshard forecast`.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use super::models::{self, AUTO, Choice};

const HOT_HELP: &str = "\
The limit is a load, or pNN: that percentile of all hours before the first origin. The window counts from the last known \
hour: 2..7 asks for six hours and leaves one to act. An origin is written as the start of the first unknown hour.

Example: foreshard forecast hot --in load.csv --metric reads+writes --limit 900 --window 2..7 --out hot.csv";

const BACKTEST_HELP: &str = "\
ratio, MASE and OWA compare the median with the daily seasonal naive method; Brier is of the probability that the peak exceeds \
the 95th percentile of a series' earlier hours. auto is the blend that forecast uses unless told otherwise.

Example: foreshard forecast backtest --in load.csv --metric reads+writes --horizon 24h
Example: foreshard forecast backtest --in load.csv --metric writes --horizon 48 --model auto --draw shop-7 --svg shop-7.svg";

const COURSE_HELP: &str = "\
Without a command: the hours after the last one, entity by entity, as entity,time,mean and a column per quantile. \
Rows that make no sense are left out and told of on stderr, with line and reason.

Example: foreshard forecast --in load.csv --metric writes --horizon 48 --out forecast.csv";

/// Forecast load: its course, how likely it exceeds a limit, and how good such forecasts were.
#[derive(Debug)]
pub(crate) enum Forecast {
    Course(Course),
    Other(What),
}

// By hand: derived, options beside a command are told from none by names of their own, not by those of a flattened struct.
impl FromArgMatches for Forecast {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand_name() {
            Some(_) => What::from_arg_matches(matches).map(Self::Other),
            None => Course::from_arg_matches(matches).map(Self::Course),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Forecast {
    fn augment_args(command: Command) -> Command {
        What::augment_subcommands(Course::augment_args(command))
            .about(
                "Forecast load: its course, how likely it exceeds a limit, and how good such forecasts were",
            )
            .after_help(COURSE_HELP)
            .arg_required_else_help(true)
            .args_conflicts_with_subcommands(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What else to do.
#[derive(Subcommand, Debug)]
pub(crate) enum What {
    /// Compare models by what they would have forecast in the last days.
    #[command(after_help = BACKTEST_HELP)]
    Backtest(Backtest),
    /// How likely the peak of each entity exceeds a limit in a window ahead, at every origin.
    #[command(after_help = HOT_HELP)]
    Hot(Hot),
    /// How well intervals of the sums of groups of entities held, from whole paths and as if entities were independent.
    #[command(
        after_help = "Example: foreshard forecast sums --in load.csv --metric reads+writes --horizon 24h --groups 50 \
        --size 20"
    )]
    Sums(Sums),
    /// How forecasts of entities with little history would have done.
    #[command(
        after_help = "Errors are relative to those of the shape of alike entities times the entity's own level.\n\
        Example: foreshard forecast cold --in load.csv --metric reads+writes --horizon 24h --history 48h"
    )]
    Cold(Cold),
    /// How good such probabilities were, beside those of simple methods.
    #[command(
        after_help = "Example: foreshard forecast score --in load.csv --metric reads+writes --limit 900 \
        --window 2..7 --forecast hot.csv"
    )]
    Score(Score),
}

/// Where the load is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// CSV, plain or gzip, with columns time (Unix seconds of the hour's start, or an hour index), entity, and metrics.
    #[arg(long = "in", visible_alias = "trace", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// The column, or several whose sum is meant, as in reads+writes; what follows _per_ may be left out.
    #[arg(long, default_value = "reads+writes")]
    pub(crate) metric: String,
    /// Leave off so many days at the end, as if they had not been yet.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub(crate) leave_off: u16,
    /// Threads to compute with. The result is the same for any number.
    #[arg(long, default_value = "1")]
    pub(crate) threads: NonZeroUsize,
}

/// The question.
#[derive(Args, Clone, Debug)]
pub(crate) struct Asking {
    #[command(flatten)]
    pub(crate) load: Load,
    /// The load that is too much, or pNN.
    #[arg(long, value_parser = parse_limit)]
    pub(crate) limit: Limit,
    /// Hours ahead, first..last; 1 is the first unknown hour.
    #[arg(long, value_parser = parse_window)]
    pub(crate) window: RangeInclusive<usize>,
}

/// What was announced.
#[derive(Args, Clone, Debug)]
pub(crate) struct Announced {
    /// CSV of announced events: name,kind,entities (a pattern with * and ?),from,to,announced, in the load's unit of time.
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
}

/// What is drawn at random.
#[derive(Args, Clone, Debug)]
pub(crate) struct Drawn {
    /// Of all that is drawn: to train, which entities are looked at or held out, and to break ties where coverage is counted.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// How the network is trained.
#[derive(Args, Clone, Debug)]
pub(crate) struct Training {
    /// Steps of the training of lstm; fewer are worse, many more are hardly better.
    #[arg(
        long = "training-steps",
        default_value_t = 1200,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(crate) steps: u32,
}

/// How measures are told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Told {
    /// The measures as one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which past forecasts are judged.
#[derive(Args, Clone, Debug)]
pub(crate) struct Judged {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Hours ahead: 24, 24h or 1d.
    #[arg(long, value_parser = parse_horizon)]
    pub(crate) horizon: usize,
    /// The origins, one a day, are in the time so long before the end.
    #[arg(long, value_parser = parse_hours, default_value = "21d")]
    pub(crate) last: usize,
    #[command(flatten)]
    pub(crate) drawn: Drawn,
    #[command(flatten)]
    pub(crate) told: Told,
}

/// The options of `forecast` without a command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Course {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Hours to forecast: 48, 48h or 2d.
    #[arg(long, value_parser = parse_horizon)]
    pub(crate) horizon: usize,
    /// The method: auto, or one by name, as `forecast backtest` lists them.
    #[arg(long, default_value = AUTO, value_parser = models::parse)]
    pub(crate) model: Choice,
    /// Percentages of what may come that a column each is for.
    #[arg(long, value_delimiter = ',', default_value = "2.5,50,97.5", value_parser = parse_percentage)]
    pub(crate) quantiles: Vec<f64>,
    #[command(flatten)]
    pub(crate) announced: Announced,
    #[command(flatten)]
    pub(crate) drawn: Drawn,
    #[command(flatten)]
    pub(crate) training: Training,
    /// Where to write entity,time,mean,q...
    #[arg(long)]
    pub(crate) out: PathBuf,
}

/// The options of `forecast backtest`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Backtest {
    #[command(flatten)]
    pub(crate) judged: Judged,
    /// The methods to compare, such as auto,week-median; all unless some are named.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = models::parse)]
    pub(crate) model: Vec<Choice>,
    #[command(flatten)]
    pub(crate) announced: Announced,
    #[command(flatten)]
    pub(crate) training: Training,
    #[command(flatten)]
    pub(crate) drawing: Drawing,
}

/// The options of `forecast sums`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sums {
    #[command(flatten)]
    pub(crate) judged: Judged,
    /// Groups of entities drawn at random.
    #[arg(long, default_value_t = 50)]
    pub(crate) groups: usize,
    /// Entities of a group.
    #[arg(long, default_value_t = 20)]
    pub(crate) size: usize,
    /// Draws of as many groups, by seeds that follow one another: how far chance alone moves the shares.
    #[arg(long, default_value = "1")]
    pub(crate) draws: NonZeroUsize,
    /// The method.
    #[arg(long, default_value = AUTO, value_parser = models::parse)]
    pub(crate) model: Choice,
    #[command(flatten)]
    pub(crate) training: Training,
}

/// The options of `forecast cold`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Cold {
    #[command(flatten)]
    pub(crate) judged: Judged,
    /// What is known of the entities that are held out.
    #[arg(long, value_parser = parse_hours, default_value = "48h")]
    pub(crate) history: usize,
    /// How many are held out.
    #[arg(long, default_value_t = 100)]
    pub(crate) entities: usize,
}

/// What `forecast backtest` draws.
#[derive(Args, Clone, Debug)]
pub(crate) struct Drawing {
    /// Draw this entity too: its last week, what the last method said at the last origin, and what then was.
    #[arg(long, value_name = "ENTITY")]
    pub(crate) draw: Option<String>,
    /// Draw into this file, as SVG, instead of the terminal.
    #[arg(long, value_name = "FILE", requires = "draw")]
    pub(crate) svg: Option<PathBuf>,
}

/// The options of `forecast hot`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Hot {
    #[command(flatten)]
    pub(crate) asking: Asking,
    /// Between origins.
    #[arg(long, value_parser = parse_hours, default_value = "6h")]
    pub(crate) origins: usize,
    /// The first origin lies so long before the end of the load.
    #[arg(long, value_parser = parse_hours, default_value = "21d")]
    pub(crate) last: usize,
    #[command(flatten)]
    pub(crate) announced: Announced,
    /// Where to write origin,entity,probability.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

/// The options of `forecast score`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Score {
    #[command(flatten)]
    pub(crate) asking: Asking,
    /// What `forecast hot` wrote.
    #[arg(long)]
    pub(crate) forecast: PathBuf,
    #[command(flatten)]
    pub(crate) told: Told,
}

/// What is too much.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Limit {
    Load(f64),
    /// 0 to 100.
    Percentile(f64),
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    let wrong = || "must be a load of zero or more, or a percentile from p0 to p100".to_owned();
    let (digits, percentile) = text.strip_prefix('p').map_or((text, false), |digits| (digits, true));
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    match percentile {
        true if (0.0..=100.0).contains(&number) => Ok(Limit::Percentile(number)),
        false if number.is_finite() && number >= 0.0 => Ok(Limit::Load(number)),
        _ => Err(wrong()),
    }
}

fn parse_window(text: &str) -> Result<RangeInclusive<usize>, String> {
    /// A week ahead and beyond, the last hour says nothing.
    const HOURS_MAX: usize = 14 * 24;
    let ends = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match ends {
        Some((from, to)) if 1 <= from && from <= to && to <= HOURS_MAX => Ok(from..=to),
        _ => Err(format!("must be first..last with 1 <= first <= last <= {HOURS_MAX}")),
    }
}

fn parse_horizon(text: &str) -> Result<usize, String> {
    /// As far as a daily and a weekly rhythm carry.
    const HOURS_MAX: usize = 14 * 24;
    let hours = text.parse().or_else(|_| parse_hours(text))?;
    if (1..=HOURS_MAX).contains(&hours) { Ok(hours) } else { Err(format!("must be 1 to {HOURS_MAX} hours")) }
}

fn parse_percentage(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim().parse().map_err(|_| "must be a number".to_owned())?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err("must be 0 to 100".to_owned()) }
}

/// `6h` or `21d`, at least one hour and at most a year.
pub(crate) fn parse_hours(text: &str) -> Result<usize, String> {
    let hours = match (text.strip_suffix('h'), text.strip_suffix('d')) {
        (Some(hours), _) => hours.parse().ok(),
        (_, Some(days)) => days.parse::<usize>().ok().and_then(|days| days.checked_mul(24)),
        _ => None,
    };
    hours
        .filter(|hours| (1..=366 * 24).contains(hours))
        .ok_or_else(|| "must be hours or days, as in 6h or 21d, up to a year".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_windows_and_spans_are_read_or_refused() {
        assert_eq!(parse_limit("881.7"), Ok(Limit::Load(881.7)));
        assert_eq!(parse_limit("p97"), Ok(Limit::Percentile(97.0)));
        for wrong in ["", "p", "-1", "p101", "NaN", "inf"] {
            assert!(parse_limit(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_window("2..7"), Ok(2..=7));
        for wrong in ["0..7", "7..2", "2", "1..999", "a..b"] {
            assert!(parse_window(wrong).is_err(), "{wrong}");
        }
        assert_eq!((parse_hours("6h"), parse_hours("21d")), (Ok(6), Ok(504)));
        for wrong in ["0h", "6", "h", "999999999999999999999d", "367d"] {
            assert!(parse_hours(wrong).is_err(), "{wrong}");
        }
    }
}
