//! What a run came to: lines for people, or one JSON object with stable names and units in them. No I/O.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::clock::{Nanos, SECOND};
use super::measure::KindMeasure;
use super::phase::Outcome;
use super::progress::microseconds;
use super::violation::Violations;

/// Above it a thread of this program had no time left, and the server may have been faster than it looks. Not told of
/// less than a second, which says little.
const BUSY: f64 = 0.9;
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)];

/// What was verified.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) violations: Violations,
    /// Cells that were read back at the end.
    pub(crate) cells_read_back: u64,
    /// Cells whose last writes nobody knows about: either value is right.
    pub(crate) cells_unknown: u64,
    pub(crate) was_read_back: bool,
}

/// A run that ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) settings: Value,
    /// Somebody ended it before its time: what it says is of the time it had.
    pub(crate) was_interrupted: bool,
    pub(crate) phases: Vec<Outcome>,
    pub(crate) verified: Option<Verified>,
    pub(crate) status: u8,
    /// Why it is not what was asked for.
    pub(crate) incomplete: Option<String>,
}

impl Report {
    pub(crate) fn json(&self) -> Value {
        json!({
            "program": "foreshard load",
            "version": env!("CARGO_PKG_VERSION"),
            "status": self.status,
            "incomplete": self.incomplete,
            "was_interrupted": self.was_interrupted,
            "settings": self.settings,
            "phases": self.phases.iter().map(phase_json).collect::<Vec<_>>(),
            "verify": self.verified.as_ref().map(|verified| json!({
                "violations": verified.violations.count,
                "first_violations": verified.violations.kept,
                "cells_read_back": verified.cells_read_back,
                "cells_unknown": verified.cells_unknown,
                "was_read_back": verified.was_read_back,
            })),
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.phases.iter().for_each(|phase| phase_text(phase, &mut out));
        if let Some(verified) = &self.verified {
            verified_text(verified, &mut out);
        }
        if self.was_interrupted {
            out += "ended by a signal: of the time it had\n";
        }
        if let Some(why) = &self.incomplete {
            out += &format!("incomplete: {why}\n");
        }
        out
    }
}

fn seconds(time: Nanos) -> f64 {
    time as f64 / SECOND as f64
}

fn per_second(operations: u64, elapsed: Nanos) -> f64 {
    if elapsed == 0 { 0.0 } else { (operations as f64 / seconds(elapsed) * 10.0).round() / 10.0 }
}

/// The mean over threads of the part of the time that each had a processor, and the largest.
fn busy(phase: &Outcome) -> (f64, f64) {
    let all = phase.threads_cpu.iter().map(|cpu| *cpu as f64 / (phase.elapsed as f64).max(1.0));
    let all: Vec<f64> = all.map(|part| (part.min(1.0) * 1000.0).round() / 1000.0).collect();
    let mean = all.iter().sum::<f64>() / (all.len() as f64).max(1.0);
    (mean, all.into_iter().fold(0.0, f64::max))
}

fn phase_json(phase: &Outcome) -> Value {
    let measure = &phase.measure;
    let kinds: Map<String, Value> =
        measure.kinds().map(|(kind, one)| (kind.name().into(), kind_json(one, phase.elapsed))).collect();
    let (busy_mean, busy_max) = busy(phase);
    json!({
        "name": phase.name,
        "seconds": seconds(phase.elapsed),
        "operations": measure.operations(),
        "operations_per_second": per_second(measure.operations(), phase.elapsed),
        "failed": measure.failures(),
        "errors": measure.errors(),
        "unsent": measure.unsent,
        "bytes_sent": measure.bytes_sent,
        "bytes_received": measure.bytes_received,
        "reconnects": measure.reconnects,
        "connections_lost": phase.connections_lost,
        "latency_us": latency_json(&measure.latency()),
        "kinds": kinds,
        "client": {
            "cpu_seconds": seconds(phase.process_cpu),
            "threads": phase.threads_cpu.len(),
            "busy_fraction_mean": busy_mean,
            "busy_fraction_max": busy_max,
        },
        "per_second": phase.seconds,
        "began_unix_seconds": seconds(phase.began),
        "timeline": phase.timeline,
    })
}

fn kind_json(kind: &KindMeasure, elapsed: Nanos) -> Value {
    json!({
        "operations": kind.operations,
        "operations_per_second": per_second(kind.operations, elapsed),
        "misses": kind.misses,
        "failed": kind.failed,
        "latency_us": latency_json(&kind.latency),
        "service_us": latency_json(kind.service.as_ref().unwrap_or(&kind.latency)),
    })
}

fn latency_json(histogram: &Histogram<u64>) -> Value {
    let mut all = Map::new();
    all.insert("mean".into(), ((histogram.mean() / 100.0).round() / 10.0).into());
    all.insert("min".into(), microseconds(histogram.min()).into());
    for (name, quantile) in QUANTILES {
        all.insert(name.into(), microseconds(histogram.value_at_quantile(quantile)).into());
    }
    all.insert("max".into(), microseconds(histogram.max()).into());
    Value::Object(all)
}

fn phase_text(phase: &Outcome, out: &mut String) {
    let measure = &phase.measure;
    let _infallible = writeln!(
        out,
        "{}: {:.2} s, {} operations, {:.0} per second, {} failed",
        phase.name,
        seconds(phase.elapsed),
        measure.operations(),
        per_second(measure.operations(), phase.elapsed),
        measure.failures()
    );
    let _infallible = writeln!(
        out,
        "  {:<28}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "microseconds", "operations", "per second", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    for (kind, one) in measure.kinds() {
        let what = if one.service.is_some() { ", since due" } else { "" };
        row_text(&format!("{}{what}", kind.name()), (one.operations, phase.elapsed), &one.latency, out);
        if let Some(service) = &one.service {
            let name = format!("{}, since sent", kind.name());
            row_text(&name, (one.operations, phase.elapsed), service, out);
        }
        if one.misses > 0 {
            let _infallible = writeln!(out, "  {} of {} found no row", one.misses, kind.name());
        }
    }
    for (text, count) in measure.errors() {
        let _infallible = writeln!(out, "  {count} failed: {text}");
    }
    if measure.unsent > 0 {
        let _infallible =
            writeln!(out, "  {} were due and never sent: the rate was not reached", measure.unsent);
    }
    if measure.reconnects + phase.connections_lost > 0 {
        let _infallible = writeln!(
            out,
            "  connections: {} lost and made again, {} lost for good",
            measure.reconnects, phase.connections_lost
        );
    }
    let (mean, max) = busy(phase);
    let _infallible = writeln!(
        out,
        "  client: {:.2} s of CPU; threads busy {:.0} % on average, {:.0} % at most{}",
        seconds(phase.process_cpu),
        mean * 100.0,
        max * 100.0,
        if max > BUSY && phase.elapsed >= SECOND {
            ": the client may be what limits (--threads)"
        } else {
            ""
        }
    );
}

fn row_text(name: &str, (operations, elapsed): (u64, Nanos), histogram: &Histogram<u64>, out: &mut String) {
    let _infallible = write!(out, "  {name:<28}{operations:>12}{:>12.0}", per_second(operations, elapsed));
    for (_, quantile) in QUANTILES {
        let _infallible = write!(out, "{:>10.1}", microseconds(histogram.value_at_quantile(quantile)));
    }
    let _infallible = writeln!(out, "{:>10.1}", microseconds(histogram.max()));
}

fn verified_text(verified: &Verified, out: &mut String) {
    for violation in &verified.violations.kept {
        let _infallible = writeln!(
            out,
            "violation: {}: {}: expected {}, found {}",
            violation.what, violation.key, violation.expected, violation.found
        );
    }
    let more = verified.violations.count - verified.violations.kept.len() as u64;
    if more > 0 {
        let _infallible = writeln!(out, "violation: and {more} more");
    }
    let _infallible = writeln!(
        out,
        "verify: {}; {} cells {}, {} of them with writes whose outcome is unknown",
        match verified.violations.count {
            0 => "no violation".to_owned(),
            1 => "1 violation".to_owned(),
            count => format!("{count} violations"),
        },
        verified.cells_read_back,
        if verified.was_read_back { "read back" } else { "read back before the server was lost" },
        verified.cells_unknown
    );
}
