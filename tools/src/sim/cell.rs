//! One cell: one capacity, one kind of hours, every policy.

use foreshard_placement::sim::{self, Bursts, Outcome, Policy, World};
use foreshard_placement::{Invalid, ReactiveSettings, Settings};

use super::fleet::Fleet;
use super::foresight::{Future, Known};
use super::options::Sim;
use super::tuning::{Tuned, tune};

/// The names of policies, in the order in which they are told.
pub(crate) const POLICIES: [&str; 4] = ["static", "reactive", "predictive", "oracle"];

/// How every policy did.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) spread: f64,
    pub(crate) overloaded: f64,
    pub(crate) capacity: f64,
    /// In the order of [`POLICIES`].
    pub(crate) outcomes: [Outcome; 4],
    pub(crate) tuned: ReactiveSettings,
    pub(crate) at_edge: Vec<&'static str>,
    /// Whose moves the oracle took.
    pub(crate) oracle_is: String,
}

fn run_all(world: &World, fleet: &Fleet, options: &Sim) -> Result<(Tuned, [Outcome; 4], String), Invalid> {
    let still = sim::run(world, &Policy::Static, 0)?;
    let tuned = tune(world, options)?;
    let settings = Settings {
        copy_bytes_per_s: world.copy_bytes_per_s,
        copy_share: world.copy_share,
        ..Settings::default()
    };
    let known = Known(fleet);
    let predictive = sim::run(world, &Policy::Planned(&known, settings, ReactiveSettings::default()), 0)?;
    let future = Future(world);
    let mut best = (String::from("static"), still.clone());
    let nets = [("the usual rule", ReactiveSettings::default()), ("the tuned rule", tuned.settings)];
    let eager = Settings { improvement_min: settings.improvement_min / 3.0, ..settings };
    let mut tried =
        vec![("reactive".into(), tuned.outcome.clone()), ("predictive".into(), predictive.clone())];
    for (net, rule) in nets {
        for (how, settings) in [("planned", settings), ("planned eagerly", eager)] {
            let outcome = sim::run(world, &Policy::Planned(&future, settings, rule), 0)?;
            tried.push((format!("{how}, with {net}"), outcome));
        }
    }
    for (name, outcome) in tried {
        if outcome.violation_seconds < best.1.violation_seconds {
            best = (name, outcome);
        }
    }
    let (oracle_is, oracle) = best;
    let outcomes = [still, tuned.outcome.clone(), predictive, oracle];
    let least = outcomes.iter().map(|outcome| outcome.violation_seconds).min();
    assert_eq!(least, Some(outcomes[3].violation_seconds), "nothing that was tried beats the oracle");
    Ok((tuned, outcomes, oracle_is))
}

/// Runs every policy in a cell.
pub(crate) fn run(fleet: &Fleet, options: &Sim, spread: f64, overloaded: f64) -> Result<Cell, Invalid> {
    let mut world = fleet.world.clone();
    world.bursts = Bursts::new(spread, options.seed);
    world.capacity = world.capacity_for(overloaded / 100.0);
    let (tuned, outcomes, oracle_is) = run_all(&world, fleet, options)?;
    let Tuned { settings, at_edge, .. } = tuned;
    Ok(Cell { spread, overloaded, capacity: world.capacity, outcomes, tuned: settings, at_edge, oracle_is })
}
