//! A trace replayed against a node that plans: the node, what it knows beforehand, and the load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::child::Program;
use crate::server::{Server, empty, free_address, program};
use crate::trace::Trace;
use crate::{Result, admin, load};

/// Rows of an entity.
const FIELDS: &str = "40";
/// A planner that takes in weeks of hours begins within it.
const BEGIN_MAX: Duration = Duration::from_secs(60);

/// Which hours, how long they are, and how much comes in them.
#[derive(Clone, Copy, Debug)]
pub struct Hours {
    /// The last ones of the trace, which are replayed; those before are known from the start.
    pub count: i64,
    /// Seconds that an hour takes.
    pub seconds: f64,
    /// Requests a second on average: the trace is scaled to it.
    pub rate: f64,
}

/// What the node is.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// Its shards.
    pub shards: usize,
    /// Its partitions.
    pub partitions: usize,
    /// When it answers writes.
    pub durability: &'static str,
}

/// Where a trace is replayed.
#[derive(Debug)]
pub struct Stage {
    foreshard: PathBuf,
    /// A directory with the node's data, and what it said.
    pub store: PathBuf,
    trace: PathBuf,
    /// What comes.
    pub loads: Trace,
    listen: SocketAddr,
    /// Where the node takes orders.
    pub admin: SocketAddr,
    hours: Hours,
    cluster: Cluster,
    /// Where entities are if nothing moves; known when the rows are there.
    homes: BTreeMap<String, u64>,
}

impl Stage {
    /// Empties a directory `store` in `dir`. Without a trace, the town of `foreshard demo` is what comes.
    pub fn new(
        (foreshard, dir): (Option<PathBuf>, &Path),
        trace: Option<&Path>,
        hours: Hours,
        cluster: Cluster,
    ) -> Result<Self> {
        let foreshard = program(foreshard)?;
        let store = dir.join("store");
        empty(&store)?;
        let trace = match trace {
            Some(trace) => trace.to_path_buf(),
            None => {
                let trace = dir.join("town.csv");
                let mut demo = Program::new(&foreshard, None);
                demo.arguments(["demo", "--write-trace"]).argument(&trace);
                demo.heard().run(Duration::from_secs(60))?;
                trace
            }
        };
        let loads = Trace::read(&trace)?;
        let (listen, admin) = (free_address()?, free_address()?);
        Ok(Self { foreshard, store, trace, loads, listen, admin, hours, cluster, homes: BTreeMap::new() })
    }

    /// The first hour that is replayed, in Unix hours.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.loads.end - self.hours.count
    }

    /// How many times the trace's requests come.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.hours.rate / self.loads.mean(self.hours.count)
    }

    /// Requests a second that the share `overloaded` of partition-hours exceeds if nothing moves, once the rows were written.
    #[must_use]
    pub fn capacity(&self, overloaded: f64) -> f64 {
        self.scale() * self.loads.capacity(self.hours.count, &self.homes, overloaded)
    }

    /// Forgets everything that was stored.
    pub fn empty(&self) -> Result<()> {
        empty(&self.store)
    }

    /// A node whose planner, if it plans, begins in hour `start` with all that lies before it. `settings` are those of `[planner]`,
    /// then whatever other sections there are.
    pub fn node(&self, start: Option<i64>, settings: &str) -> Result<Server> {
        let Cluster { shards, partitions, durability } = self.cluster;
        let known = self.store.join("known.csv");
        if let Some(start) = start
            && !known.exists()
        {
            self.write_hours(&known, i64::MIN..start)?;
        }
        let import = if known.exists() { known.display().to_string() } else { String::new() };
        let config = self.store.join("node.toml");
        std::fs::write(
            &config,
            format!(
                "durability = {durability:?}\n[planner]\nenabled = {}\nhour_seconds = {:.3}\nstart_hour = {}\nimport = {import:?}\n{settings}",
                start.is_some(),
                self.hours.seconds,
                start.unwrap_or(0),
            ),
        )?;
        let mut node = Program::new(&self.foreshard, None);
        node.arguments(["node", "--shards", &shards.to_string(), "--partitions", &partitions.to_string()]);
        node.arguments([
            "--listen",
            &self.listen.to_string(),
            "--admin",
            &self.admin.to_string(),
            "--config",
        ]);
        node.argument(&config).argument("--data").argument(self.store.join("data"));
        let server = Server::start_heard(&mut node, self.listen, &self.store.join("said"))?;
        // Its clock has begun when it answers at its admin port.
        let begin = Instant::now();
        while start.is_some() && admin::get(self.admin, "/planner").is_err() {
            if begin.elapsed() > BEGIN_MAX {
                return Err(format!("the planner did not begin within {BEGIN_MAX:?}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    /// A file of the hours of the replay, as they will come: what a planner that knows the future is given.
    pub fn to_come(&self) -> Result<PathBuf> {
        let path = self.store.join("to-come.csv");
        self.write_hours(&path, self.start()..i64::MAX)?;
        Ok(path)
    }

    /// Hours of the trace, scaled as the load is.
    fn write_hours(&self, path: &Path, hours: Range<i64>) -> Result<()> {
        let mut text = String::from("time,entity,reads,writes\n");
        let scale = self.scale();
        for (name, hour, load) in self.loads.within(hours) {
            text += &format!("{},{name},{:.4},0\n", hour * 3600, load * scale);
        }
        Ok(std::fs::write(path, text)?)
    }

    /// Writes all rows, by a node that plans nothing, and ends that.
    pub fn fill(&mut self) -> Result<()> {
        let mut node = self.node(None, "")?;
        let filled = load::run(self.load().arguments(["--fill", "--hours", "0"]), 0.0)?;
        if filled.status != 0 {
            return Err(format!("the rows could not be written: {:?}", filled.incomplete).into());
        }
        // They are the same each time that the store is made.
        if self.homes.is_empty() {
            for name in self.loads.names() {
                let at = admin::ask(self.admin, &format!("/entity?name={}", admin::escaped(name)), None)?;
                self.homes.insert(name.to_owned(), at["home"].as_u64().ok_or("an entity without a home")?);
            }
        }
        node.child().kill()?;
        Ok(())
    }

    /// The load of the replay.
    #[must_use]
    pub fn load(&self) -> Program {
        let mut load = load::generator(&self.foreshard, None, self.listen);
        load.arguments([
            "--fields",
            FIELDS,
            "--prefix",
            "",
            "--pipeline",
            "64",
            "--connections",
            "1000",
            "--trace",
        ]);
        load.argument(&self.trace);
        load.arguments(["--hour-seconds", &self.hours.seconds.to_string()]);
        load.arguments(["--scale", &self.scale().to_string()]);
        load
    }
}
