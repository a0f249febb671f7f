//! What a node is run with: the command line over a file over the defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use foreshard_engine::options::MOVE_BYTES_PER_SECOND_MIN;
use foreshard_engine::shard::capacity::Capacities;
use foreshard_engine::shard::moves::shadow::{ShadowPolicy, Shadowing};
use foreshard_engine::{Durability, Options};
use foreshard_net::Config;
use serde::{Deserialize, Serialize};

use crate::planner::PlannerSettings;
use crate::shell::Failure;

/// `foreshard node ..`
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    foreshard node                                  one shard per core, data in ./data, port 7379\n  \
    foreshard node --data /var/lib/foreshard --listen 0.0.0.0:7379 --config /etc/foreshard.toml\n  \
    foreshard node --print-config > foreshard.toml  everything that can be set, with its defaults\n\
    Exit status: 0 stopped cleanly, 2 it could not be started or stopped.")]
pub(crate) struct Arguments {
    /// Directory of the store; made if it is not there.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where Redis clients connect.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// Where metrics and health are told over HTTP.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
    /// Directory in which `foreshard backup --admin` may make backups. Without one, it may not.
    #[arg(long, value_name = "DIR")]
    backups: Option<PathBuf>,
    /// Shards: threads with a ring and a log each. Unless given, as many as the machine has cores.
    #[arg(long)]
    shards: Option<usize>,
    /// Partitions made when the store is created.
    #[arg(long)]
    partitions: Option<usize>,
    /// A TOML file of settings; what is given on the command line goes first.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show all settings as they would be used, as TOML, and do nothing.
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Directory of the store.
    pub(crate) data: PathBuf,
    /// Where Redis clients connect.
    listen: SocketAddr,
    /// Where metrics and health are told.
    pub(crate) admin: SocketAddr,
    /// Where whoever reaches `admin` may have backups made; empty: nowhere.
    pub(crate) backups: PathBuf,
    /// 0: as many as the machine has cores.
    shards: usize,
    partitions: usize,
    /// Pin shard n to the n-th of these.
    cores: Vec<usize>,
    /// "always", "interval:MS" or "none".
    pub(crate) durability: String,
    /// For memtables, cache, indexes and buffers of all shards together.
    memory_bytes: usize,
    memtables_bytes: usize,
    memtable_bytes: usize,
    /// A shard's log never exceeds this.
    wal_cap_bytes: u64,
    /// Kept back for flushes and deletes on a full device.
    reserve_bytes: u64,
    compression: bool,
    /// Empty: none, and only clients of this machine may connect.
    requirepass: String,
    protected_mode: bool,
    maxclients: usize,
    /// Bytes that clients' unfinished commands and unread replies may take, all together; 0: no limit.
    maxmemory_clients: usize,
    /// Seconds of silence after which a connection is closed; 0: never.
    timeout: u64,
    tcp_keepalive: u64,
    slowlog_log_slower_than: i64,
    slowlog_max_len: usize,
    latency_monitor_threshold: u64,
    /// Seconds for one pass of the background sweep.
    sweep_secs: u64,
    /// What shards and partitions may do a second.
    capacity: Capacity,
    /// How entities move, whoever moves them.
    moves: Moves,
    /// Forecasts and moves.
    pub(crate) planner: PlannerSettings,
}

/// What shards and partitions may do, in cost units a second, each about a microsecond of a core; 0: no limit. What is more
/// waits, and is not refused. The planner plans with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Capacity {
    /// Each shard.
    shard: f64,
    /// Each partition.
    partition: f64,
    /// These shards, by number, whatever the others.
    shards: BTreeMap<String, f64>,
    /// These partitions, by number, whatever the others.
    partitions: BTreeMap<String, f64>,
}

/// How entities move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Moves {
    /// Which moves have to prove themselves on a shadow: "always", "never", or "above:SIZE" of what the entity stores.
    shadow: String,
    /// The share of an entity's reads, above 0 and up to 1, that is mirrored to the shadow at first.
    shadow_share: f64,
    /// Seconds after which a move goes on although too little was read to tell.
    shadow_seconds: f64,
    /// What moves copy a second at most, bytes, in equal parts by the shards they leave; 0: as fast as it goes.
    bandwidth_max: u64,
    /// Seconds for which an entity is watched before its move copies anything, to compare with how it fares later.
    before_seconds: f64,
}

impl Capacity {
    fn capacities(&self) -> Result<Capacities, Failure> {
        Ok(Capacities {
            shard: self.shard,
            partition: self.partition,
            shards: numbered("capacity.shards", &self.shards)?,
            partitions: numbered("capacity.partitions", &self.partitions)?,
        })
    }
}

/// A table whose names are numbers.
fn numbered<N: FromStr + Ord>(
    what: &str,
    named: &BTreeMap<String, f64>,
) -> Result<BTreeMap<N, f64>, Failure> {
    let one = |(name, units): (&String, &f64)| {
        let number = name.parse().map_err(|_| Failure::Told(format!("{what}: {name:?} must be a number")))?;
        Ok((number, *units))
    };
    named.iter().map(one).collect()
}

/// Smaller entities move, and move back, in less time than it takes to judge them.
const SHADOW_ABOVE_BYTES: u64 = 64 << 20;
/// A move that is watched for longer than an hour is planned again before it ends.
const SHADOW_SECONDS_MAX: f64 = 3600.0;
/// A few hundred operations of an entity that is worth moving.
const BEFORE_SECONDS: f64 = 0.25;
/// Moves that wait for longer than this are late for what they are for.
const BEFORE_SECONDS_MAX: f64 = 60.0;

impl Default for Moves {
    fn default() -> Self {
        let shadowing = Shadowing::default();
        Self {
            shadow: ShadowPolicy::Above(SHADOW_ABOVE_BYTES).to_string(),
            shadow_share: shadowing.share,
            shadow_seconds: shadowing.time_max.as_secs_f64(),
            bandwidth_max: 0,
            before_seconds: BEFORE_SECONDS,
        }
    }
}

impl Moves {
    fn bandwidth(&self) -> Result<Option<u64>, Failure> {
        match self.bandwidth_max {
            0 => Ok(None),
            rate if rate < MOVE_BYTES_PER_SECOND_MIN => Err(Failure::Told(format!(
                "moves.bandwidth_max = {rate}: must be 0, which is no limit, or at least {MOVE_BYTES_PER_SECOND_MIN} bytes a second"
            ))),
            rate => Ok(Some(rate)),
        }
    }

    fn watch_before(&self) -> Result<Duration, Failure> {
        if (0.0..=BEFORE_SECONDS_MAX).contains(&self.before_seconds) {
            return Ok(Duration::from_secs_f64(self.before_seconds));
        }
        let seconds = self.before_seconds;
        Err(Failure::Told(format!(
            "moves.before_seconds = {seconds}: must be between 0 and {BEFORE_SECONDS_MAX}"
        )))
    }

    fn shadowing(&self) -> Result<Shadowing, Failure> {
        let policy = self.shadow.parse().map_err(|e| Failure::Told(format!("moves.shadow = {e}")))?;
        if !(self.shadow_share > 0.0 && self.shadow_share <= 1.0) {
            let share = self.shadow_share;
            return Err(Failure::Told(format!(
                "moves.shadow_share = {share}: must be above 0 and at most 1"
            )));
        }
        if !(0.0..=SHADOW_SECONDS_MAX).contains(&self.shadow_seconds) {
            let seconds = self.shadow_seconds;
            return Err(Failure::Told(format!(
                "moves.shadow_seconds = {seconds}: must be between 0 and {SHADOW_SECONDS_MAX}"
            )));
        }
        Ok(Shadowing {
            policy,
            share: self.shadow_share,
            time_max: Duration::from_secs_f64(self.shadow_seconds),
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        let (options, server) = (Options::default(), Config::default());
        Self {
            data: PathBuf::from("data"),
            listen: server.listen,
            admin: SocketAddr::new(server.listen.ip(), 7381),
            backups: PathBuf::new(),
            shards: 0,
            partitions: options.partitions,
            cores: options.cores,
            durability: server.durability,
            memory_bytes: options.memory_bytes,
            memtables_bytes: options.memtables_bytes,
            memtable_bytes: options.memtable_bytes,
            wal_cap_bytes: options.wal_cap_bytes,
            reserve_bytes: options.reserve_bytes,
            compression: options.compression,
            requirepass: server.requirepass,
            protected_mode: server.protected_mode,
            maxclients: server.maxclients,
            maxmemory_clients: server.maxmemory_clients,
            timeout: server.timeout,
            tcp_keepalive: server.tcp_keepalive,
            slowlog_log_slower_than: server.slowlog_log_slower_than,
            slowlog_max_len: server.slowlog_max_len,
            latency_monitor_threshold: server.latency_monitor_threshold,
            sweep_secs: server.sweep_secs,
            capacity: Capacity::default(),
            moves: Moves::default(),
            planner: PlannerSettings::default(),
        }
    }
}

impl Settings {
    /// As the command line and its file have it.
    pub(crate) fn read(arguments: &Arguments) -> Result<Self, Failure> {
        let mut settings = match &arguments.config {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| Failure::Told(format!("cannot read {}: {e}", path.display())))?;
                toml::from_str(&text).map_err(|e| Failure::Told(format!("{}: {e}", path.display())))?
            }
        };
        if let Some(data) = &arguments.data {
            settings.data.clone_from(data);
        }
        settings.listen = arguments.listen.unwrap_or(settings.listen);
        settings.admin = arguments.admin.unwrap_or(settings.admin);
        if let Some(backups) = &arguments.backups {
            settings.backups.clone_from(backups);
        }
        settings.shards = arguments.shards.unwrap_or(settings.shards);
        settings.partitions = arguments.partitions.unwrap_or(settings.partitions);
        if settings.shards == 0 {
            settings.shards = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        }
        Ok(settings)
    }

    /// As a file that reads back as these.
    pub(crate) fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(|e| Failure::Told(format!("settings do not fit TOML: {e}")))
    }

    /// How the store is opened.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let options = Options {
            shards: self.shards,
            partitions: self.partitions,
            cores: self.cores.clone(),
            memory_bytes: self.memory_bytes,
            memtables_bytes: self.memtables_bytes,
            memtable_bytes: self.memtable_bytes,
            durability: durability(&self.durability)?,
            wal_cap_bytes: self.wal_cap_bytes,
            reserve_bytes: self.reserve_bytes,
            compression: self.compression,
            shadowing: self.moves.shadowing()?,
            move_bytes_per_second: self.moves.bandwidth()?,
            watch_before: self.moves.watch_before()?,
            capacities: self.capacity.capacities()?,
            ..Options::default()
        };
        options.check().map_err(|e| Failure::Told(e.to_string()))?;
        Ok(options)
    }

    /// How it is served.
    pub(crate) fn server(&self) -> Config {
        Config {
            listen: self.listen,
            requirepass: self.requirepass.clone(),
            protected_mode: self.protected_mode,
            maxclients: self.maxclients,
            maxclients_most: usize::MAX,
            maxmemory_clients: self.maxmemory_clients,
            timeout: self.timeout,
            tcp_keepalive: self.tcp_keepalive,
            slowlog_log_slower_than: self.slowlog_log_slower_than,
            slowlog_max_len: self.slowlog_max_len,
            latency_monitor_threshold: self.latency_monitor_threshold,
            sweep_secs: self.sweep_secs,
            durability: self.durability.clone(),
        }
    }
}

fn durability(text: &str) -> Result<Durability, Failure> {
    let unknown = || Failure::Told(format!("durability = {text:?}: must be always, interval:MS or none"));
    match text {
        "always" => Ok(Durability::Always),
        "none" => Ok(Durability::None),
        _ => {
            let ms = text.strip_prefix("interval:").and_then(|ms| ms.parse().ok()).ok_or_else(unknown)?;
            Ok(Durability::Interval(Duration::from_millis(ms)))
        }
    }
}
