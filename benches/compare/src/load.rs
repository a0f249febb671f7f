//! One run of `foreshard load`, and what it said.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use serde::Deserialize;

use crate::Result;
use crate::child::Program;
use crate::timeline::{Timeline, Window, Within};

/// Beyond the time it was given to: connecting, what is still on its way, reading back.
const MORE_MAX: Duration = Duration::from_secs(300);

/// What `foreshard load --json` says, as far as it is of use here.
#[derive(Debug, Deserialize)]
pub struct Said {
    /// 0 done, 1 the server broke its word, 2 it could not be done.
    pub status: u8,
    /// Why it could not.
    pub incomplete: Option<String>,
    /// fill, run, `read_back`: those there were.
    pub phases: Vec<Phase>,
    /// What was verified.
    pub verify: Option<Verified>,
}

/// A stretch of it.
#[derive(Debug, Deserialize)]
pub struct Phase {
    /// Which.
    pub name: String,
    /// Answered.
    pub operations: u64,
    /// The same per second.
    pub operations_per_second: f64,
    /// Refused, or without an answer.
    pub failed: u64,
    /// The same by why, in the server's words or the socket's.
    pub errors: BTreeMap<String, u64>,
    /// Connections lost and made again.
    pub reconnects: u64,
    /// Of all operations, in microseconds.
    pub latency_us: Latency,
    /// When it began, seconds since 1970.
    pub began_unix_seconds: f64,
    /// Interval by interval, where that was asked for.
    pub timeline: Option<Timeline>,
    /// By kind of operation.
    pub kinds: BTreeMap<String, Kind>,
    /// The load generator itself.
    pub client: Client,
    /// Second by second.
    pub per_second: Vec<Second>,
}

/// A second of it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Second {
    /// Which, counted from the begin.
    pub second: u64,
    /// Refused, or without an answer.
    pub failed: u64,
    /// One in a hundred of those that were answered in it took longer, since they were due, microseconds.
    pub latency_us_p99: f64,
}

/// Percentiles in microseconds.
#[derive(Debug, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// One in a hundred is longer.
    pub p99: f64,
    /// One in a thousand is longer.
    pub p99_9: f64,
}

/// One kind of operation.
#[derive(Debug, Deserialize)]
pub struct Kind {
    /// Reads that found no row.
    pub misses: u64,
}

/// What the load generator had of its processor.
#[derive(Debug, Deserialize)]
pub struct Client {
    /// Of its busiest thread.
    pub busy_fraction_max: f64,
}

/// What verification found.
#[derive(Debug, Deserialize)]
pub struct Verified {
    /// Answers that contradict what was acknowledged.
    pub violations: u64,
    /// The first of them, as they were told.
    pub first_violations: Vec<serde_json::Value>,
    /// Everything that was written was looked at in the end.
    pub was_read_back: bool,
}

impl Said {
    /// A stretch by its name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|p| p.name == name)
    }

    /// What the run, asked for its timeline, saw within windows.
    pub fn within(&self, windows: &[Window]) -> Result<Within> {
        let run = self.phase("run").ok_or("a load that did not run")?;
        let timeline = run.timeline.as_ref().ok_or("a load without a timeline")?;
        Ok(timeline.within(run.began_unix_seconds, windows))
    }
}

/// The `foreshard` at `path` as a load generator on `core`, with options that every run has.
#[must_use]
pub fn generator(path: &Path, core: Option<usize>, server: SocketAddr) -> Program {
    let mut program = Program::new(path, core);
    program.arguments(["load", "--json", "--quiet", "--connect", &server.to_string()]);
    program
}

/// Runs a generator that was told to take `seconds`.
pub fn run(generator: &mut Program, seconds: f64) -> Result<Said> {
    parse(&generator.heard().run(limit(seconds))?)
}

/// How long one that was told to take `seconds` may take.
#[must_use]
pub fn limit(seconds: f64) -> Duration {
    MORE_MAX + Duration::from_secs_f64(seconds)
}

/// What it said in the end; its exit status alone says too little.
pub fn parse((status, said): &(ExitStatus, String)) -> Result<Said> {
    serde_json::from_str(said).map_err(|e| format!("foreshard load: {status}, and said {said:?}: {e}").into())
}
