//! The node of a demo, the load on it, and what is seen of it from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use foreshard_engine::{Options, Store};
use foreshard_net::{Admin, Config, Server};
use serde_json::{Value, json};

use super::options::Demo;
use super::policies::PARTITIONS;
use super::town::{Town, replay_start};
use crate::ctl::http;
use crate::load::report::Report;
use crate::load::trace::Trace;
use crate::load::{self, Load};
use crate::planner::{Planner, PlannerSettings};
use crate::shell::Failure;

/// Clients have this long to get their answers when the node stops.
const DRAIN: Duration = Duration::from_secs(2);
/// Rows of each shop.
const FIELDS: &str = "40";
const MEMORY_BYTES: usize = 256 << 20;

/// A node in this process.
#[derive(Debug)]
pub(super) struct Node {
    store: Store,
    server: Server,
    planner: Option<Planner>,
    admin: Option<Admin>,
}

/// What was seen of one hour of a partition.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Seen {
    /// Requests a second.
    pub(super) load: Option<f64>,
    /// What had been expected of it some hours before: one in ten less, median, one in ten more.
    pub(super) expected: Option<[f64; 3]>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// By partition and hour.
    pub(super) hours: BTreeMap<(u64, i64), Seen>,
    pub(super) planner: Value,
    pub(super) outlook: Value,
    pub(super) ledger: Value,
    hour: i64,
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    load: Load,
}

impl Node {
    /// Over a new store in `dir`. Without a planner, until [`Node::plan`].
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = cores.min(usize::from(PARTITIONS));
        let options = Options {
            shards,
            partitions: usize::from(PARTITIONS),
            memory_bytes: MEMORY_BYTES,
            memtables_bytes: MEMORY_BYTES / 4,
            memtable_bytes: MEMORY_BYTES / 64,
            ..Options::default()
        };
        let store = Store::open(dir, options)?;
        let config = Config { listen: loopback(), ..Config::default() };
        let server = Server::start(&store, shards, config)?;
        Ok(Self { store, server, planner: None, admin: None })
    }

    /// Begins to plan from what is in the file `known`, and to answer.
    pub(super) fn plan(&mut self, demo: &Demo, known: &Path, capacity: f64) -> Result<String, Failure> {
        let settings = PlannerSettings {
            hour_seconds: demo.hour_seconds,
            start_hour: replay_start(),
            import: known.to_owned(),
            capacity,
            ..PlannerSettings::default()
        };
        let (planner, pages) = Planner::start(&self.store, settings)?;
        let admin = Admin::start(&self.store, loopback(), None, Some(pages))?;
        let address = admin.address().to_string();
        (self.planner, self.admin) = (Some(planner), Some(admin));
        Ok(address)
    }

    /// Where it serves clients.
    pub(super) const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(super) fn stop(mut self) -> Result<(), Failure> {
        self.server.stop(&self.store, DRAIN)?;
        self.admin = None;
        self.planner = None;
        Ok(self.store.close()?)
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Writes every row once.
pub(super) fn fill(address: SocketAddr, trace: &Trace) -> Result<(), Failure> {
    let report = run(address, &["--fill"], trace.last(0))?;
    let failed: u64 = report.phases.iter().map(|phase| phase.measure.failures()).sum();
    if failed > 0 { Err(Failure::told(format!("{failed} rows could not be written"))) } else { Ok(()) }
}

/// Begins to replay the hours of `trace`, on a thread.
pub(super) fn replay(
    address: SocketAddr,
    trace: Trace,
) -> Result<JoinHandle<Result<Report, Failure>>, Failure> {
    let thread = std::thread::Builder::new().name("replay".to_owned());
    thread
        .spawn(move || run(address, &["--pipeline", "64", "--verify"], trace))
        .map_err(|e| Failure::told(format!("cannot start a thread: {e}")))
}

fn run(address: SocketAddr, more: &[&str], trace: Trace) -> Result<Report, Failure> {
    let address = address.to_string();
    let mut words = vec![
        "load",
        "--connect",
        &address,
        "--quiet",
        "--fields",
        FIELDS,
        "--prefix",
        "",
        "--connections",
        "1000",
    ];
    words.extend(more);
    let options = Line::try_parse_from(words).map_err(|e| Failure::told(e.to_string()))?.load;
    load::measure(options, Some(trace), Arc::default())
}

/// Announces a town's sales.
pub(super) fn announce(admin: &str, town: &Town) -> Result<(), Failure> {
    for sale in &town.sales {
        let event = json!({
            "name": sale.name, "kind": "sale", "entities": sale.entities, "from": sale.from, "to": sale.to,
            "announced": sale.announced,
        });
        http::post(admin, "/events", &event)?;
    }
    Ok(())
}

impl Sight {
    /// Looks; whether another hour has begun since the last look.
    pub(super) fn look(&mut self, admin: &str) -> Result<bool, Failure> {
        self.planner = http::get(admin, "/planner")?;
        self.outlook = http::get(admin, "/outlook")?;
        let hour = self.outlook["hour"].as_i64().unwrap_or_default();
        if hour == self.hour {
            return Ok(false);
        }
        self.hour = hour;
        self.ledger = http::get(admin, "/ledger")?;
        let empty = Vec::new();
        for partition in self.outlook["partitions"].as_array().unwrap_or(&empty) {
            let Some(id) = partition["id"].as_u64() else { continue };
            // The hour that is over.
            if let Some(last) = partition["history"].as_array().and_then(|all| all.last())
                && let (Some(hour), Some(load)) = (last["hour"].as_i64(), last["load"].as_f64())
                && hour >= replay_start()
            {
                self.hours.entry((id, hour)).or_default().load = Some(load);
            }
            let ahead = partition["forecast"].as_array().unwrap_or(&empty);
            for band in ahead.iter().take(LEAD + 1) {
                let Some(hour) = band["hour"].as_i64() else { continue };
                let of = |name: &str| band[name].as_f64().unwrap_or_default();
                // What was said first, farthest ahead, stays.
                let seen = self.hours.entry((id, hour)).or_default();
                seen.expected.get_or_insert([of("q10"), of("q50"), of("q90")]);
            }
        }
        Ok(true)
    }
}

/// Hours ahead that forecasts are drawn of.
const LEAD: usize = 6;
