//! The settings of the reactive rule that are tried, and which did best.
//!
//! A grid in six dimensions is walked: first every combination of a few values of each, then from the best of these along
//! each dimension through all its values, until none is better.

use std::collections::BTreeMap;

use foreshard_placement::Invalid;
use foreshard_placement::ReactiveSettings;
use foreshard_placement::sim::{Outcome, Policy, World, run};

use super::options::Sim;
use crate::forecast::work;

const HIGH: [f64; 9] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98];
const BELOW: [f64; 6] = [0.02, 0.05, 0.1, 0.15, 0.25, 0.35];
const WINDOW_S: [f64; 6] = [3.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const HOLD_S: [u32; 6] = [1, 5, 15, 30, 120, 300];
const REST_S: [u32; 6] = [1, 10, 30, 60, 300, 1800];
/// The last one is never.
const ALONE: [f64; 4] = [0.8, 0.95, 1.2, 1000.0];
/// Where in each of them the walk begins: every combination of these.
const FIRST: [&[usize]; 6] = [&[1, 3, 5, 7], &[1, 4], &[1, 3], &[1, 3], &[1, 3], &[3]];
/// For a quick look: from one of each, and no further than once along each.
const COARSE: [&[usize]; 6] = [&[3, 5, 7], &[4], &[2], &[3], &[3], &[1, 3]];

/// Names of the dimensions, and how many values each has.
const DIMENSIONS: [(&str, usize); 6] = [
    ("high", HIGH.len()),
    ("low", BELOW.len()),
    ("window_s", WINDOW_S.len()),
    ("hold_s", HOLD_S.len()),
    ("rest_s", REST_S.len()),
    ("alone", ALONE.len()),
];

/// A place in the grid: which value of each dimension.
type Place = [usize; DIMENSIONS.len()];

/// The rule at its best.
#[derive(Clone, Debug)]
pub(crate) struct Tuned {
    pub(crate) settings: ReactiveSettings,
    pub(crate) outcome: Outcome,
    /// Settings that lie at an end of what was tried: there might be better ones beyond it.
    pub(crate) at_edge: Vec<&'static str>,
}

/// Walks the grid on the whole trace. The first one of equals is taken.
pub(crate) fn tune(world: &World, options: &Sim) -> Result<Tuned, Invalid> {
    let mut tried: BTreeMap<Place, Outcome> = BTreeMap::new();
    let mut best: Option<Place> = None;
    let mut next = combinations(if options.coarse { &COARSE } else { &FIRST });
    let place = loop {
        let outcomes = work::map(&next, options.load.threads, "tuning the reactive rule", |place| {
            run(world, &Policy::Reactive(settings(place)), 0)
        });
        for (place, outcome) in next.drain(..).zip(outcomes) {
            tried.insert(place, outcome?);
        }
        let least = |(place, outcome): &(&Place, &Outcome)| (outcome.violation_seconds, **place);
        let found = tried.iter().min_by_key(least).map_or_else(Place::default, |(place, _)| *place);
        if best == Some(found) || options.coarse {
            break found;
        }
        best = Some(found);
        next = along(found).filter(|place| !tried.contains_key(place)).collect();
    };
    // Beyond never there is nothing.
    let at_end = |(at, (name, count)): &(usize, &(&str, usize))| {
        place[*at] == 0 || (place[*at] == count - 1 && *name != "alone")
    };
    let at_edge = DIMENSIONS.iter().enumerate().filter(at_end).map(|(_, (name, _))| *name).collect();
    let outcome = tried.remove(&place).unwrap_or_default();
    Ok(Tuned { settings: settings(&place), outcome, at_edge })
}

fn settings(place: &Place) -> ReactiveSettings {
    let [high, below, window, hold, rest, alone] = *place;
    ReactiveSettings {
        high: HIGH[high],
        low: (HIGH[high] - BELOW[below]).max(0.0),
        window_s: WINDOW_S[window],
        hold_s: HOLD_S[hold],
        rest_s: REST_S[rest],
        alone: ALONE[alone],
    }
}

fn combinations(of: &[&[usize]; DIMENSIONS.len()]) -> Vec<Place> {
    let mut all = vec![Place::default()];
    for (dimension, values) in of.iter().enumerate() {
        let with = |place: &Place| {
            let place = *place;
            values.iter().map(move |value| {
                let mut place = place;
                place[dimension] = *value;
                place
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    all
}

/// All places that differ in one dimension.
fn along(from: Place) -> impl Iterator<Item = Place> {
    let counts = DIMENSIONS.iter().enumerate();
    counts.flat_map(move |(dimension, (_, count))| {
        (0..*count).map(move |value| {
            let mut place = from;
            place[dimension] = value;
            place
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_begins_inside_and_reaches_every_value() {
        let first = combinations(&FIRST);
        assert_eq!(first.len(), 4 * 2 * 2 * 2 * 2);
        assert!(first.iter().all(|place| place.iter().zip(DIMENSIONS).all(|(at, (_, count))| *at < count)));
        let ends: Vec<Place> = along([4, 3, 3, 3, 3, 3]).collect();
        assert_eq!(ends.len(), DIMENSIONS.iter().map(|one| one.1).sum::<usize>());
        assert!(ends.contains(&[0, 3, 3, 3, 3, 3]) && ends.contains(&[4, 3, 3, 3, 5, 3]));
        assert!(settings(&[0, 5, 0, 0, 0, 0]).low >= 0.0);
    }
}
