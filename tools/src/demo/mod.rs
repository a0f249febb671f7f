//! `foreshard demo`: a real node on this host, a trace replayed against it, forecasts, moves, and what came of them.
//!
//! `town` makes the trace, `live` has the node and the load and looks at both from outside, `view` shows it meanwhile,
//! `policies` simulates the same days, `picture` draws them.

mod live;
mod options;
mod picture;
mod policies;
mod town;
mod view;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use self::live::{Node, Sight};
pub(crate) use self::options::Demo;
use self::picture::Drawn;
use self::policies::{Modelled, PARTITIONS};
use self::town::{REPLAYED_HOURS, Town};
use self::view::{View, moved, number};
use crate::Verdict;
use crate::interrupt;
use crate::load::report::Report;
use crate::shell::Failure;
use crate::sim::cell::{Cell, POLICIES};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs it.
pub(crate) fn run(demo: &Demo) -> Result<Verdict, Failure> {
    let town = Town::new(demo.seed, demo.rate);
    if let Some(path) = &demo.write_trace {
        write(path, &town.text())?;
        return Ok(Verdict::Sound);
    }
    let temporary = tempfile::tempdir().map_err(|e| Failure::told(format!("no temporary directory: {e}")))?;
    let dir = match &demo.keep {
        Some(dir) => {
            std::fs::create_dir(dir).map_err(|e| Failure::told(format!("{}: {e}", dir.display())))?;
            dir.clone()
        }
        None => temporary.path().to_owned(),
    };
    let mut view = View::new(demo.json);
    let modelled = Modelled::new(&town, demo)?;
    let capacity = modelled.capacity(demo.overloaded);
    view.say(&format!(
        "{} shops, {PARTITIONS} partitions of {capacity:.0} requests/s each; {} hours of {} s are replayed",
        town.trace.names.len(),
        demo.hours,
        demo.hour_seconds
    ))?;
    let (sight, report) = live(demo, &town, &dir, capacity, &mut view)?;
    view.say("simulating the same days")?;
    let cell = modelled.run(demo.overloaded)?;
    let drawn = picture::svg(&Drawn {
        sight: &sight,
        sales: &town.sales,
        hours: i64::from(demo.hours),
        capacity,
        partitions: u64::from(PARTITIONS),
    });
    write(&demo.out, &drawn)?;
    let outcome = Outcome::of(&sight, &report);
    let mut out = std::io::stdout().lock();
    if demo.json {
        writeln!(out, "{}", outcome.json(&sight, &report, &cell, &demo.out))?;
    } else {
        out.write_all(outcome.text(&sight, &report, &cell, &demo.out).as_bytes())?;
    }
    out.flush()?;
    Ok(if outcome.holds() { Verdict::Sound } else { Verdict::Damaged })
}

/// The live part: a node, and the hours replayed against it.
fn live(
    demo: &Demo,
    town: &Town,
    dir: &Path,
    capacity: f64,
    view: &mut View,
) -> Result<(Sight, Report), Failure> {
    let stop = interrupt::heard()?;
    let known = dir.join("known.csv");
    write(&known, &town.known())?;
    let mut node = Node::start(&dir.join("data"))?;
    let hours = usize::try_from(demo.hours).unwrap_or(REPLAYED_HOURS);
    let replayed = town.trace.last(REPLAYED_HOURS).first(hours);
    live::fill(node.address(), &replayed)?;
    let admin = node.plan(demo, &known, capacity)?;
    let load = live::replay(node.address(), replayed.replayed(demo.hour_seconds, 1.0))?;
    live::announce(&admin, town)?;
    let mut sight = Sight::default();
    while !load.is_finished() {
        if interrupt::is_set(&stop) {
            node.stop()?;
            return Err(Failure::told("stopped before its end"));
        }
        if sight.look(&admin)? {
            view.show(&sight)?;
        }
        sleep(LOOK_EVERY);
    }
    let report = load.join().map_err(|_| Failure::told("the load's thread panicked"))??;
    sight.look(&admin)?;
    node.stop()?;
    Ok((sight, report))
}

/// What was to be shown, and whether it was.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Planned moves that ended before the peaks that they were for.
    ahead: usize,
    requests: u64,
    failed: u64,
    violations: u64,
    was_read_back: bool,
}

impl Outcome {
    fn of(sight: &Sight, report: &Report) -> Self {
        let is_ahead = |one: &&Value| {
            let (ended, peak) = (one["ended"].as_f64(), one["peak_hour"].as_f64());
            one["outcome"] == "done" && ended.zip(peak).is_some_and(|(ended, peak)| ended < peak)
        };
        let verified = report.verified.as_ref();
        let measures = || report.phases.iter().map(|phase| &phase.measure);
        Self {
            ahead: sight.ledger["moves"].as_array().map_or(0, |moves| moves.iter().filter(is_ahead).count()),
            requests: measures().map(|measure| measure.operations()).sum(),
            failed: measures().map(|measure| measure.failures() + measure.unsent).sum(),
            violations: verified.map_or(0, |verified| verified.violations.count),
            was_read_back: verified.is_some_and(|verified| verified.was_read_back),
        }
    }

    const fn holds(self) -> bool {
        self.ahead > 0 && self.failed == 0 && self.violations == 0 && self.was_read_back
    }

    fn json(self, sight: &Sight, report: &Report, cell: &Cell, picture: &Path) -> Value {
        let policies = POLICIES.iter().zip(&cell.outcomes).map(|(policy, outcome)| {
            json!({"policy": policy, "violation_seconds": outcome.violation_seconds,
                "alone_seconds": outcome.alone_seconds, "moves": outcome.moves.len()})
        });
        json!({
            "holds": self.holds(),
            "live": {
                "moves_ahead_of_peak": self.ahead, "requests": self.requests, "failed": self.failed,
                "violations": self.violations, "was_read_back": self.was_read_back,
                "ledger": sight.ledger, "load": report.json(),
            },
            "simulated": policies.collect::<Vec<_>>(),
            "picture": picture,
        })
    }

    fn text(self, sight: &Sight, report: &Report, cell: &Cell, picture: &Path) -> String {
        let moves = sight.ledger["moves"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut text = format!(
            "\nlive: {} requests, {} failed, {} wrong answers; {} moves, {} of them ended before the peak they were for\n",
            self.requests,
            self.failed,
            self.violations,
            moves.len(),
            self.ahead
        );
        for one in moves.iter().rev() {
            text += &moved(one);
        }
        if let Some(phase) = report.phases.iter().find(|phase| phase.name == "run") {
            let at = |share| phase.measure.latency().value_at_quantile(share) as f64 / 1e6;
            text += &format!(
                "latency: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms\n",
                at(0.5),
                at(0.99),
                at(0.999)
            );
        }
        let record = &sight.ledger["forecasts"];
        if record["ratio"].is_number() {
            text += &format!(
                "forecasts six hours ahead: error {:.2} of the day before's, {:.0} % within the inner 80 %\n",
                number(&record["ratio"]),
                100.0 * number(&record["inside_80"])
            );
        }
        text +=
            "\nsimulated, the same days in the modelled cluster:\n  policy      violation-seconds  moves\n";
        for (policy, outcome) in POLICIES.iter().zip(&cell.outcomes) {
            let (seconds, moves) = (outcome.violation_seconds, outcome.moves.len());
            text += &format!("  {policy:<10}  {seconds:>17}  {moves:>5}\n");
        }
        text += &format!("\ndrawn in {}\n", picture.display());
        text += match self {
            Self { ahead: 0, .. } => "FAILED: no move ended before the peak that it was for\n",
            Self { failed: 1.., .. } => "FAILED: requests failed\n",
            Self { violations: 1.., .. } => "FAILED: answers were wrong\n",
            Self { was_read_back: false, .. } => "FAILED: not everything was read back\n",
            _ => "a move ended before its peak, and no request failed\n",
        };
        text
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "files of the user's, not of a store")]
    std::fs::write(path, text).map_err(|e| Failure::told(format!("{}: {e}", PathBuf::from(path).display())))
}

#[expect(clippy::disallowed_methods, reason = "a program that looks now and then")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
