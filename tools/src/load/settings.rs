//! What a run is to do, checked: options that contradict each other go no further. No I/O.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};

use super::clock::{Nanos, SECOND};
use super::keys::Distribution;
use super::layout::{CELLS_MAX, Data, Layout};
use super::mix::{Kind, Mix, Workload};
use super::numbers::{scrambled, whole};
use super::options::{DistributionName, Load};
use super::trace::Trace;
use super::value::VALUE_BYTES_MIN;

/// As many ports as one address has, roughly.
const CONNECTIONS_MAX: u32 = 60_000;
/// One reply's worth of memory each.
const PIPELINE_MAX: u32 = 100_000;
const THREADS_MAX: u32 = 256;
/// A transaction's answer has an item for each.
const MEMBERS_MAX: u16 = 1000;
const KEY_BYTES_MAX: usize = 512;
/// A year: longer sums of nanoseconds would need care.
const SECONDS_MAX: f64 = 365.0 * 86_400.0;
const DEFAULT_SECONDS: f64 = 10.0;

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) options: Load,
    pub(crate) layout: Arc<Layout>,
    pub(crate) mix: Mix,
    pub(crate) distribution: Distribution,
    /// How long; none for as long as operations last.
    pub(crate) seconds: Option<f64>,
    /// Operations of a kind are done after what --fill does.
    pub(crate) has_run: bool,
    /// What is replayed.
    pub(crate) trace: Option<Arc<Trace>>,
}

impl Settings {
    /// Of the options; in words what is wrong with them.
    pub(crate) fn new(mut options: Load, trace: Option<Trace>) -> Result<Self, String> {
        if let Some(trace) = &trace {
            let entities = trace.names.len();
            options.keys = entities as u64;
            options.connections = options.connections.min(u32::try_from(entities).unwrap_or(u32::MAX));
            options.seconds = Some(trace.seconds());
        }
        let within = |name: &str, number: u64, max: u64| {
            let is_within = (1..=max).contains(&number);
            if is_within { Ok(()) } else { Err(format!("{name} {number} is not between 1 and {max}")) }
        };
        within("--connections", options.connections.into(), CONNECTIONS_MAX.into())?;
        within("--pipeline", options.pipeline.into(), PIPELINE_MAX.into())?;
        within("--threads", options.threads.into(), THREADS_MAX.into())?;
        within("--keys", options.keys, CELLS_MAX)?;
        within("--fields", options.fields, CELLS_MAX)?;
        within("--transaction-keys", options.transaction_keys.into(), MEMBERS_MAX.into())?;
        within("--timeout-ms", options.timeout_ms, 3_600_000)?;
        within("--give-up-seconds", options.give_up_seconds, 86_400)?;
        if options.prefix.len() > KEY_BYTES_MAX {
            return Err(format!("--prefix is longer than {KEY_BYTES_MAX} bytes"));
        }
        if options.journal.is_some() && !options.verify && !options.verify_only {
            return Err("--journal is for --verify and --verify-only".into());
        }
        if options.user.is_some() && options.password.is_none() {
            return Err(
                "--user needs a password: --password, or FORESHARD_PASSWORD in the environment".into()
            );
        }
        let seconds = options.seconds.or(options.requests.is_none().then_some(DEFAULT_SECONDS));
        if seconds.is_some_and(|seconds| !(0.0..=SECONDS_MAX).contains(&seconds)) {
            return Err(format!("--seconds is not between 0 and {SECONDS_MAX}"));
        }
        if options.rate.is_some_and(|rate| rate.changes()) && seconds.is_none() {
            return Err("a rate that changes needs --seconds, at whose end it has its last value".into());
        }
        let has_run = seconds != Some(0.0);
        if !has_run && !options.fill {
            return Err("--seconds 0 without --fill does nothing".into());
        }
        let mix = match (options.workload, options.mix) {
            (Some(workload), _) => workload.mix(),
            (None, Some(mix)) => mix,
            (None, None) => Workload::A.mix(),
        };
        let names = trace.as_ref().map_or_else(Vec::new, |trace| trace.names.clone());
        let mut layout = Layout { names, ..layout(&options, mix)? };
        if trace.is_some() {
            layout.fields = options.fields;
            if layout.data == Data::Transactions {
                return Err("--trace replays --data strings or hashes".into());
            }
        }
        let layout = Arc::new(layout);
        if options.verify {
            check_verify(&options, &layout)?;
        }
        let distribution = distribution(&options)?;
        Ok(Self { options, layout, mix, distribution, seconds, has_run, trace: trace.map(Arc::new) })
    }

    /// Whether operations are due at times fixed ahead.
    pub(crate) const fn is_open(&self) -> bool {
        self.options.rate.is_some() || self.trace.is_some()
    }

    /// When nothing is begun any more.
    pub(crate) fn end(&self) -> Option<Nanos> {
        self.seconds.map(|seconds| whole(seconds * SECOND as f64))
    }

    /// Randomness of its own for each use and connection.
    pub(crate) fn random(&self, purpose: Purpose, connection: u32) -> Rng {
        let stream = (u64::from(connection) << 8) | purpose as u64;
        Rng::with_seed(scrambled(self.options.seed ^ scrambled(stream + 1)))
    }

    /// All of it, for a report; no password.
    pub(crate) fn json(&self) -> Value {
        let options = &self.options;
        json!({
            "connect": options.connect,
            "loop": if self.is_open() { "open" } else { "closed" },
            "trace": options.trace,
            "hour_seconds": self.trace.as_ref().map(|trace| trace.hour_seconds),
            "rate_per_second": options.rate.map(|rate| rate.to_string()),
            "arrivals": options.rate.map(|_| options.arrivals),
            "connections": options.connections,
            "pipeline": options.pipeline,
            "threads": options.threads,
            "data": self.layout.data,
            "keys": options.keys,
            "fields": (self.layout.data == Data::Hashes).then_some(self.layout.fields),
            "transaction_keys": (self.layout.data == Data::Transactions).then_some(self.layout.members),
            "prefix": self.layout.prefix,
            "value_bytes": options.value_bytes.to_string(),
            "workload": options.workload,
            "mix": self.mix.to_string(),
            "distribution": self.distribution,
            "seconds": self.seconds,
            "requests": options.requests,
            "fill": options.fill,
            "seed": options.seed,
            "timeout_ms": options.timeout_ms,
            "reconnect": options.reconnect,
            "verify": options.verify || options.verify_only,
            "hello": options.hello,
        })
    }
}

/// What randomness is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Fill,
    Run,
    ReadBack,
    Arrivals,
    Filling,
}

fn layout(options: &Load, mix: Mix) -> Result<Layout, String> {
    let scans = mix.has(Kind::Scan);
    let data = options.data.unwrap_or(if scans { Data::Hashes } else { Data::Strings });
    if scans && data != Data::Hashes {
        return Err("scans are HSCAN: they need --data hashes".into());
    }
    let (entities, fields, members) = match data {
        Data::Strings => (options.keys, 1, 1),
        Data::Hashes => (options.keys, options.fields, 1),
        Data::Transactions => {
            (options.keys / u64::from(options.transaction_keys), 1, options.transaction_keys)
        }
    };
    if entities == 0 {
        return Err("--keys are fewer than --transaction-keys".into());
    }
    if entities.saturating_mul(fields) > CELLS_MAX {
        return Err(format!("--keys times --fields is more than {CELLS_MAX}"));
    }
    let prefix = options.prefix.clone();
    let (connections, names) = (options.connections, Vec::new());
    Ok(Layout { data, prefix, entities, fields, members, connections, names })
}

fn check_verify(options: &Load, layout: &Layout) -> Result<(), String> {
    if options.value_bytes.min() < VALUE_BYTES_MIN {
        return Err(format!(
            "--verify needs --value-bytes of at least {VALUE_BYTES_MIN}, for what is checked"
        ));
    }
    if layout.entities < u64::from(options.connections) {
        return Err(format!(
            "--verify gives every connection keys of its own: {} connections cannot share {} (--keys)",
            options.connections, layout.entities
        ));
    }
    Ok(())
}

fn distribution(options: &Load) -> Result<Distribution, String> {
    let theta = options.theta;
    if !(theta > 0.0 && theta <= 100.0) {
        return Err(format!("--theta {theta} is not above 0 and at most 100"));
    }
    let percent = |text: &str| text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
    let scrambled = !options.unscrambled;
    Ok(match options.distribution {
        None => options.workload.unwrap_or(Workload::A).distribution(theta, scrambled),
        Some(DistributionName::Zipf) => Distribution::Zipf { theta, scrambled },
        Some(DistributionName::Uniform) => Distribution::Uniform,
        Some(DistributionName::Latest) => Distribution::Latest { theta },
        Some(DistributionName::Hotspot) => {
            let shares = options.hotspot.split_once(':').and_then(|(a, b)| Some((percent(a)?, percent(b)?)));
            let (operations_percent, keys_percent) = shares.ok_or_else(|| {
                format!("--hotspot {:?} is not two percentages, as in 80:20", options.hotspot)
            })?;
            Distribution::Hotspot { operations_percent, keys_percent }
        }
    })
}
