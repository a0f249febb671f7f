//! How the server behaves: given at the start, in part changed by CONFIG SET.
//!
//! Every shard has a copy; a change is a job to each.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use foreshard_engine::limits::VALUE_BYTES_MAX;

use crate::resp::Limits;

/// The server's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The password; empty: none is asked for, and only clients of this machine may connect.
    pub requirepass: String,
    /// Whether clients of other machines are refused while there is no password.
    pub protected_mode: bool,
    /// Connections at once; more are told so and closed.
    pub maxclients: usize,
    /// What CONFIG SET may raise that to: what the process has descriptors for.
    pub maxclients_most: usize,
    /// Bytes that all clients together may make the server hold: commands that are not complete, replies that are not
    /// read, as their buffers are allocated. Where they hold more, those that hold most are closed. 0: no limit.
    pub maxmemory_clients: usize,
    /// A connection that is silent for so many seconds is closed; 0: never.
    pub timeout: u64,
    /// Seconds after which the kernel asks a silent peer whether it is there; 0: never.
    pub tcp_keepalive: u64,
    /// Commands that run for so many microseconds are kept in the slow log; negative: none.
    pub slowlog_log_slower_than: i64,
    /// Entries of the slow log, per shard.
    pub slowlog_max_len: usize,
    /// Waits for the log of so many milliseconds are events of LATENCY; 0: none.
    pub latency_monitor_threshold: u64,
    /// Seconds in which all rows are looked at once for fields that no hash has any more.
    pub sweep_secs: u64,
    /// What operators are told about durability: as the store was opened.
    pub durability: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7379),
            requirepass: String::new(),
            protected_mode: true,
            maxclients: 10_000,
            maxclients_most: usize::MAX,
            // Two of the longest replies, or eight of the longest commands.
            maxmemory_clients: 512 << 20,
            timeout: 0,
            tcp_keepalive: 300,
            slowlog_log_slower_than: 10_000,
            slowlog_max_len: 128,
            latency_monitor_threshold: 0,
            // A day: looking at a terabyte in that time takes 12 MB/s.
            sweep_secs: 24 * 3600,
            durability: "always".to_owned(),
        }
    }
}

/// What clients may send: a string is one row, and its argument as long as the longest row.
pub(crate) const LIMITS: Limits =
    Limits { arguments: 1 << 20, bulk_bytes: VALUE_BYTES_MAX, command_bytes: COMMAND_BYTES_MAX };
/// One command with all its arguments. What is written at once is a quarter of it at most.
const COMMAND_BYTES_MAX: usize = 64 << 20;

/// A parameter of CONFIG.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) get: fn(&Config) -> String,
    /// None: it is fixed.
    pub(crate) set: Option<Set>,
}

/// Sets a parameter from its text, or says why not.
type Set = fn(&mut Config, &str) -> Result<(), String>;

/// All of them, by name.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter { name: "appendfsync", get: appendfsync, set: None },
    Parameter { name: "appendonly", get: |_| "yes".to_owned(), set: None },
    Parameter { name: "bind", get: |c| c.listen.ip().to_string(), set: None },
    Parameter { name: "databases", get: |_| "1".to_owned(), set: None },
    Parameter {
        name: "latency-monitor-threshold",
        get: |c| c.latency_monitor_threshold.to_string(),
        set: Some(|c, v| number(v, 0, i64::MAX).map(|n| c.latency_monitor_threshold = n.unsigned_abs())),
    },
    Parameter {
        name: "maxclients",
        get: |c| c.maxclients.to_string(),
        set: Some(|c, v| {
            let most = i64::try_from(c.maxclients_most).unwrap_or(i64::MAX).min(1 << 20);
            number(v, 1, most).map(|n| c.maxclients = usize::try_from(n).unwrap_or(1))
        }),
    },
    Parameter { name: "maxmemory", get: |_| "0".to_owned(), set: None },
    Parameter {
        name: "maxmemory-clients",
        get: |c| c.maxmemory_clients.to_string(),
        set: Some(|c, v| bytes(v).map(|n| c.maxmemory_clients = usize::try_from(n).unwrap_or(usize::MAX))),
    },
    Parameter { name: "maxmemory-policy", get: |_| "noeviction".to_owned(), set: None },
    Parameter { name: "port", get: |c| c.listen.port().to_string(), set: None },
    Parameter { name: "proto-max-bulk-len", get: |_| LIMITS.bulk_bytes.to_string(), set: None },
    Parameter {
        name: "protected-mode",
        get: |c| yes_no(c.protected_mode),
        set: Some(|c, v| {
            c.protected_mode = match v {
                "yes" => true,
                "no" => false,
                _ => return Err("argument must be 'yes' or 'no'".to_owned()),
            };
            Ok(())
        }),
    },
    Parameter {
        name: "requirepass",
        get: |c| c.requirepass.clone(),
        set: Some(|c, v| {
            v.clone_into(&mut c.requirepass);
            Ok(())
        }),
    },
    Parameter { name: "save", get: |_| String::new(), set: None },
    Parameter {
        name: "slowlog-log-slower-than",
        get: |c| c.slowlog_log_slower_than.to_string(),
        set: Some(|c, v| number(v, -1, i64::MAX).map(|n| c.slowlog_log_slower_than = n)),
    },
    Parameter {
        name: "slowlog-max-len",
        get: |c| c.slowlog_max_len.to_string(),
        set: Some(|c, v| number(v, 0, 1 << 16).map(|n| c.slowlog_max_len = usize::try_from(n).unwrap_or(0))),
    },
    Parameter {
        name: "tcp-keepalive",
        get: |c| c.tcp_keepalive.to_string(),
        set: Some(|c, v| number(v, 0, KEEPALIVE_SECONDS_MAX).map(|n| c.tcp_keepalive = n.unsigned_abs())),
    },
    Parameter {
        name: "timeout",
        get: |c| c.timeout.to_string(),
        set: Some(|c, v| number(v, 0, i64::from(i32::MAX)).map(|n| c.timeout = n.unsigned_abs())),
    },
];

/// What the kernel takes.
const KEEPALIVE_SECONDS_MAX: i64 = 32767;

impl Config {
    /// After which silence the kernel is to ask.
    pub(crate) fn keep_alive(&self) -> Option<Duration> {
        (self.tcp_keepalive > 0).then(|| Duration::from_secs(self.tcp_keepalive))
    }
}

fn appendfsync(config: &Config) -> String {
    match config.durability.as_str() {
        "always" => "always",
        "none" => "no",
        _ => "everysec",
    }
    .to_owned()
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// A number of bytes, with Redis' units.
fn bytes(text: &str) -> Result<i64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let times: i64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err("argument must be a memory value".to_owned()),
    };
    let bytes = digits.parse::<i64>().ok().and_then(|n| n.checked_mul(times));
    bytes.ok_or_else(|| "argument must be a memory value".to_owned())
}

fn number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let number: i64 = text.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(format!("argument must be between {least} and {most} inclusive"))
}
