//! `foreshard load`: puts load on a Redis-compatible server, measures it, and checks what it acknowledged.
//!
//! What is done and what an answer means is decided without I/O: `plan` and `schedule` say what comes next and when,
//! `client` is one connection's conversation, `command`, `request` and `reply` its language, `value`, `ledger` and
//! `journal` what verification knows. `connection` has a socket, `worker` a thread with many of them, `phase` the threads
//! of one stretch, `session` the order: fill, run, read back.
//!
//! Invariants:
//! - a clock is read in `clock.rs` only, files are touched in `journal_file.rs`, `session.rs` and `trace.rs` only;
//! - each connection's operations follow from the seed alone;
//! - the exit status is 1 if and only if an answer contradicts what was acknowledged or sent.

mod client;
#[cfg(test)]
mod client_tests;
pub(crate) mod clock;
mod command;
mod connection;
mod end;
mod hgrm;
mod journal;
mod journal_file;
mod keys;
mod layout;
mod ledger;
mod measure;
mod mix;
mod numbers;
mod options;
mod phase;
mod plan;
mod progress;
pub(crate) mod reply;
pub(crate) mod report;
pub(crate) mod request;
mod schedule;
mod session;
mod settings;
mod sizes;
pub(crate) mod trace;
mod value;
mod violation;
mod worker;
mod zipf;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::report::Report;
use self::settings::Settings;
use self::trace::Trace;
use crate::Verdict;
use crate::interrupt;
use crate::shell::Failure;

pub(crate) use self::options::Load;

/// Where a password may be, out of other users' sight.
const PASSWORD_VARIABLE: &str = "FORESHARD_PASSWORD";

/// Runs the command.
pub(crate) fn run(options: &Load) -> Result<Verdict, Failure> {
    let mut options = options.clone();
    let is_json = options.json;
    options.password = options.password.or_else(|| std::env::var(PASSWORD_VARIABLE).ok());
    let trace = match &options.trace {
        Some(path) => Some(Trace::read(path, options.hours)?.replayed(options.hour_seconds, options.scale)),
        None => None,
    };
    let report = measure(options, trace, interrupt::heard()?)?;
    tell(&report, is_json)?;
    Ok(match report.status {
        0 => Verdict::Sound,
        1 => Verdict::Damaged,
        _ => Verdict::Unreadable,
    })
}

/// Does what the options say, or replays a trace with them; ends it, and reports, once `interrupt` is set.
pub(crate) fn measure(
    options: Load,
    trace: Option<Trace>,
    interrupt: Arc<AtomicBool>,
) -> Result<Report, Failure> {
    Settings::new(options, trace)
        .and_then(|settings| session::run(settings, interrupt))
        .map_err(Failure::told)
}

fn tell(report: &Report, is_json: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if is_json {
        writeln!(out, "{}", report.json())?;
    } else {
        write!(out, "{}", report.text())?;
    }
    out.flush()?;
    Ok(())
}
