//! The command line of `foreshard load`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::layout::Data;
use super::mix::{Mix, Workload};
use super::schedule::{Arrivals, Rate};
use super::sizes::Sizes;

const EXAMPLES: &str = "\
Closed loop (the default): every connection keeps --pipeline operations on their way.
Open loop (--rate): operations are due at times fixed ahead, and latency counts from then, so that a server that stalls \
is charged for what waited (coordinated omission). Service time, from sending, is shown beside it.

Verifying (--verify): every value names its key, connection and write, with a checksum; what was acknowledged has to be \
there. A write without an answer may be there or not. At the end everything is read back by other connections. \
--reconnect outlives restarts of the server, and --journal lets a later process check the same.

Ctrl-C or SIGTERM ends it early, with its report; a second one kills it.

Exit status: 0 done, 1 the server broke its word (--verify), 2 it could not be done.

Examples:
  foreshard load --connect 127.0.0.1:7379 --fill --keys 1000000 --workload b --seconds 60
  foreshard load --connections 50 --pipeline 16 --mix update=100 --requests 10000000 --json
  foreshard load --rate 1000..50000 --seconds 120 --connections 200 --hgrm latency.hgrm
  foreshard load --fill --workload e --keys 1000 --fields 1000
  foreshard load --fill --trace load.csv.gz --hour-seconds 2 --hours 48 --pipeline 64 --verify
  foreshard load --data transactions --verify --reconnect --journal acknowledged --seconds 60
  foreshard load --verify-only --journal acknowledged
Example: foreshard load --fill --workload a";

/// Puts load on a Redis-compatible server, measures it, and checks what it acknowledged.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Load {
    /// The server, HOST:PORT. Several: connections take them in turn.
    #[arg(long, default_value = "127.0.0.1:7379")]
    pub(crate) connect: Vec<String>,
    /// User for AUTH or HELLO. The password comes from --password, or the environment: FORESHARD_PASSWORD.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Password for AUTH or HELLO. Other users of this machine can see it here; not so in the environment.
    #[arg(long)]
    pub(crate) password: Option<String>,
    /// Begin with HELLO and this version of the protocol.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(crate) hello: Option<u8>,
    /// Connections, of all threads together.
    #[arg(long, short, default_value_t = 50)]
    pub(crate) connections: u32,
    /// Operations on their way, per connection.
    #[arg(long, short = 'P', default_value_t = 1)]
    pub(crate) pipeline: u32,
    /// Threads of this program.
    #[arg(long, short, default_value_t = 1)]
    pub(crate) threads: u32,

    /// What rows are made of.
    #[arg(long, value_enum)]
    pub(crate) data: Option<Data>,
    /// Keys there are; hashes, for hashes.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) keys: u64,
    /// Fields of each hash.
    #[arg(long, default_value_t = 100)]
    pub(crate) fields: u64,
    /// Keys of each transaction, each in a hash tag of its own.
    #[arg(long, default_value_t = 3)]
    pub(crate) transaction_keys: u16,
    /// What all keys begin with.
    #[arg(long, default_value = "key:")]
    pub(crate) prefix: String,
    /// Length of values: 100, 10-1000 (all equally often), zipf:10-1000 (short ones more often).
    #[arg(long, default_value = "100", allow_hyphen_values = true)]
    pub(crate) value_bytes: Sizes,

    /// A workload of YCSB: mix and distribution (E needs hashes, and takes them).
    #[arg(long, value_enum, conflicts_with = "mix")]
    pub(crate) workload: Option<Workload>,
    /// Weights of kinds: read, update, insert, scan, read_modify_write; as in read=95,update=5. [default: half of
    /// each of the first two]
    #[arg(long)]
    pub(crate) mix: Option<Mix>,
    /// How operations spread over keys. [default: zipf, or the workload's]
    #[arg(long, value_enum)]
    pub(crate) distribution: Option<DistributionName>,
    /// Skew of zipf and latest, above 0.
    #[arg(long, default_value_t = 0.99)]
    pub(crate) theta: f64,
    /// The hottest keys of zipf are the first ones, and not spread over all.
    #[arg(long)]
    pub(crate) unscrambled: bool,
    /// For hotspot: percent of operations, and of the keys that they go to.
    #[arg(long, default_value = "80:20")]
    pub(crate) hotspot: String,

    /// Open loop: operations per second of all connections; 1000..50000 rises over the run. Those beyond
    /// --pipeline wait, and their latency counts it.
    #[arg(long)]
    pub(crate) rate: Option<Rate>,
    /// How operations of an open loop lie in time.
    #[arg(long, value_enum, default_value = "even")]
    pub(crate) arrivals: Arrivals,
    /// How long. [default: 10, unless --requests says where it ends] 0: only what --fill does.
    #[arg(long, short)]
    pub(crate) seconds: Option<f64>,
    /// How many operations, if not ended by time before.
    #[arg(long, short = 'n')]
    pub(crate) requests: Option<u64>,
    /// Replay a trace, open loop: a CSV file with columns time, entity, reads and writes, as operations a second, plain or
    /// gzip. Each entity has its name as hash tag, and --fields keys, or fields of a hash; its operations are one connection's.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "workload", "mix", "distribution", "requests", "seconds", "keys", "verify_only"])]
    pub(crate) trace: Option<PathBuf>,
    /// Seconds that an hour of the trace takes.
    #[arg(long, default_value_t = 3600.0, requires = "trace", value_parser = parse_hour)]
    pub(crate) hour_seconds: f64,
    /// Only the last so many hours of the trace.
    #[arg(long, requires = "trace")]
    pub(crate) hours: Option<usize>,
    /// So many times the trace's operations.
    #[arg(long, default_value_t = 1.0, requires = "trace", value_parser = parse_scale)]
    pub(crate) scale: f64,
    /// First write every key once.
    #[arg(long)]
    pub(crate) fill: bool,
    /// The same seed gives each connection the same operations.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// An operation without an answer for so long is lost, and its connection too.
    #[arg(long, default_value_t = 5000)]
    pub(crate) timeout_ms: u64,
    /// Make lost connections again.
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// End after so long without a connection, with --reconnect.
    #[arg(long, default_value_t = 60)]
    pub(crate) give_up_seconds: u64,

    /// Check what is read against what was acknowledged.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Only read back what a journal says was acknowledged.
    #[arg(long, requires = "journal", conflicts_with_all = ["verify", "fill", "rate", "requests", "seconds"])]
    pub(crate) verify_only: bool,
    /// Where to note what was acknowledged; an existing one is gone on with.
    #[arg(long)]
    pub(crate) journal: Option<PathBuf>,

    /// One JSON object on standard output instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write latency percentiles for HdrHistogram's plotter: of all operations, and of each kind in FILE.KIND.
    #[arg(long)]
    pub(crate) hgrm: Option<PathBuf>,
    /// With --json: latencies of each so many milliseconds, as counts; 1000 are a multiple of it.
    #[arg(long, requires = "json", value_name = "MILLISECONDS", value_parser = parse_interval)]
    pub(crate) timeline: Option<u32>,
    /// Say nothing while it runs.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

fn parse_interval(text: &str) -> Result<u32, String> {
    let millis = text.parse::<u32>().ok().filter(|millis| (1..=1000).contains(millis) && 1000 % millis == 0);
    millis.ok_or_else(|| format!("{text:?} divides no second into milliseconds"))
}

fn parse_hour(text: &str) -> Result<f64, String> {
    parse_within(text, 0.01, 3600.0)
}

fn parse_scale(text: &str) -> Result<f64, String> {
    parse_within(text, 1e-6, 1e6)
}

fn parse_within(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| format!("{text:?} is no number between {min} and {max}"))
}

/// A distribution's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum DistributionName {
    /// Some keys much more often than others (--theta, --unscrambled).
    Zipf,
    /// All alike.
    Uniform,
    /// A share of operations on a share of keys (--hotspot).
    Hotspot,
    /// The newest most often (--theta).
    Latest,
}
