//! A node that is changed while it serves: an open loop that verifies stands for everybody else, probes for whoever it happens
//! to, and a window is judged beside one of the same length in which nothing happened.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::child::{Program, Speaking};
use crate::load::Said;
use crate::server::{Server, empty, free_address};
use crate::{Result, load};

/// After a release, requests that it made wait count as long as this.
pub const AFTER: Duration = Duration::from_millis(100);
/// What nobody notices, whatever windows without a change are.
pub const UNNOTICED: Duration = Duration::from_millis(10);
/// A longest delay of so many times that of windows without a change is noticed.
pub const NOTICED_TIMES: f64 = 3.0;
/// Everybody else's p99 may be so many times what it is without.
pub const OTHERS_TIMES: f64 = 2.0;

/// A bench that takes longer than a day has failed.
const OTHERS_SECONDS_MAX: f64 = 86_400.0;
/// The others' latencies are told of each so many milliseconds: short beside what is done to the node.
const INTERVAL_MS: u32 = 20;

/// The node, over a store of its own.
#[derive(Debug)]
pub struct Live {
    _server: Server,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where it takes orders.
    pub admin: SocketAddr,
    /// What the load is besides keys and rate.
    load: Vec<String>,
}

/// How everybody else fared.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Requests.
    pub operations: u64,
    /// Of all of them, microseconds.
    pub p99_us: f64,
    /// Likewise.
    pub p999_us: f64,
    /// Requests that failed.
    pub failed: u64,
    /// Answers that contradict what was acknowledged.
    pub violations: u64,
}

impl Live {
    /// Empties `dir` and starts the node over it. `load` are options of everybody's load.
    pub fn start(
        foreshard: &Path,
        dir: &Path,
        (shards, partitions): (u32, u64),
        settings: &str,
        load: &[&str],
    ) -> Result<Self> {
        empty(dir)?;
        std::fs::write(dir.join("node.toml"), settings)?;
        let (listen, admin) = (free_address()?, free_address()?);
        let mut program = Program::new(foreshard, None);
        program.arguments(["node", "--shards", &shards.to_string(), "--partitions", &partitions.to_string()]);
        program.arguments(["--listen", &listen.to_string(), "--admin", &admin.to_string(), "--config"]);
        program.argument(dir.join("node.toml")).argument("--data").argument(dir.join("data"));
        let server = Server::start_heard(&mut program, listen, &dir.join("said"))?;
        let load = load.iter().map(ToString::to_string).collect();
        Ok(Self { _server: server, listen, admin, load })
    }

    /// Fills the rows of the load, and finds how many requests a second it reaches in a closed loop afterwards.
    pub fn fill(&self, foreshard: &Path) -> Result<f64> {
        let mut generator = load::generator(foreshard, None, self.listen);
        generator.arguments(&self.load).arguments(["--fill", "--seconds", "5", "--connections", "50"]);
        let said = load::run(&mut generator, 3600.0)?;
        Ok(said.phase("run").ok_or("a load that did not run")?.operations_per_second)
    }

    /// Everyone else, verified, from here on: for so many seconds, or until they are ended.
    pub fn others(&self, foreshard: &Path, rate: f64, seconds: Option<f64>) -> Result<Speaking> {
        let seconds = seconds.unwrap_or(OTHERS_SECONDS_MAX);
        let mut generator = load::generator(foreshard, None, self.listen);
        generator.arguments(&self.load).arguments(["--verify", "--connections", "50"]);
        generator.arguments(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()]);
        generator.arguments(["--timeline", &INTERVAL_MS.to_string()]);
        generator.heard().start_read()
    }

    /// A connection of one's own.
    pub fn connect(&self) -> Result<BufReader<TcpStream>> {
        Ok(BufReader::new(TcpStream::connect(self.listen)?))
    }

    /// Looks whether a counter is what was counted.
    pub fn check(&self, key: &str, counted: u64) -> Result<()> {
        let mut stream = self.connect()?;
        stream.get_mut().write_all(format!("INCRBY {key} 0\r\n").as_bytes())?;
        expect(&mut stream, &format!(":{counted}"))
            .map_err(|e| format!("{key} was counted to {counted}: {e}").into())
    }
}

impl Others {
    /// By what the load said.
    pub fn of(said: &Said) -> Result<Self> {
        let phase = said.phase("run").ok_or("a load that did not run")?;
        Ok(Self {
            operations: phase.operations,
            p99_us: phase.latency_us.p99,
            p999_us: phase.latency_us.p99_9,
            failed: phase.failed,
            violations: said.verify.as_ref().map_or(0, |verified| verified.violations),
        })
    }

    /// An error where a request failed or an answer was wrong.
    pub fn check(&self, said: &Said) -> Result<()> {
        if self.failed > 0 || self.violations > 0 || said.status != 0 {
            let (failed, violations) = (self.failed, self.violations);
            return Err(format!("{failed} failed requests, {violations} violations: {said:?}").into());
        }
        Ok(())
    }
}

/// Reads a line that has to be `wanted`.
pub fn expect(stream: &mut BufReader<TcpStream>, wanted: &str) -> Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if line.trim_end() == wanted { Ok(()) } else { Err(format!("{line:?}, not {wanted:?}").into()) }
}

/// Whether somebody notices delays of `during`, where without a change they are of `without`; both in milliseconds.
#[must_use]
pub fn is_noticed(during: f64, without: f64) -> bool {
    during > (UNNOTICED.as_secs_f64() * 1e3).max(NOTICED_TIMES * without)
}

/// The value that so many in a hundred of `values` do not exceed, in milliseconds.
#[must_use]
pub fn percentile(values: impl Iterator<Item = Duration>, hundredths: usize) -> f64 {
    let mut millis: Vec<f64> = values.map(|v| v.as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    let at = (millis.len() * hundredths).div_ceil(100).max(1) - 1;
    millis.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_noticed_beyond_both_bounds_and_percentiles_are_values_that_were_seen() {
        assert!(!is_noticed(9.9, 0.1) && is_noticed(10.1, 0.1));
        assert!(!is_noticed(29.9, 10.0) && is_noticed(30.1, 10.0));
        let millis = |values: &[u64]| values.iter().map(|v| Duration::from_millis(*v)).collect::<Vec<_>>();
        assert_eq!(percentile(millis(&[3, 1, 2]).into_iter(), 50).round(), 2.0);
        assert_eq!(percentile((1..=200).map(Duration::from_millis), 99).round(), 198.0);
        assert_eq!(percentile(millis(&[]).into_iter(), 99), 0.0);
    }
}
