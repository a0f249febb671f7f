//! The settings of the reactive rule that are tried, and which did best.

use foreshard_placement::Invalid;
use foreshard_placement::ReactiveSettings;
use foreshard_placement::sim::{Outcome, Policy, World, run};

use super::options::Sim;
use crate::forecast::work;

const HIGH: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];
const BELOW: [f64; 3] = [0.05, 0.15, 0.25];
const WINDOW_S: [f64; 4] = [10.0, 30.0, 120.0, 300.0];
const HOLD_S: [u32; 3] = [5, 30, 120];
const REST_S: [u32; 3] = [10, 60, 600];

/// The rule at its best.
#[derive(Clone, Debug)]
pub(crate) struct Tuned {
    pub(crate) settings: ReactiveSettings,
    pub(crate) outcome: Outcome,
    /// Settings that lie at an end of what was tried: there might be better ones beyond it.
    pub(crate) at_edge: Vec<&'static str>,
}

/// Tries all settings on the whole trace. The first one of equals is taken.
pub(crate) fn tune(world: &World, options: &Sim) -> Result<Tuned, Invalid> {
    let settings = settings(options.coarse);
    let outcomes = work::map(&settings, options.load.threads, "tuning the reactive rule", |settings| {
        run(world, &Policy::Reactive(*settings), 0)
    });
    let mut best: Option<Tuned> = None;
    for (settings, outcome) in settings.into_iter().zip(outcomes) {
        let outcome = outcome?;
        if best.as_ref().is_none_or(|best| outcome.violation_seconds < best.outcome.violation_seconds) {
            best = Some(Tuned { settings, outcome, at_edge: edges(&settings) });
        }
    }
    Ok(best.unwrap_or_else(|| unreachable!("there are settings")))
}

fn settings(coarse: bool) -> Vec<ReactiveSettings> {
    let mut all = Vec::new();
    for high in HIGH {
        for below in BELOW {
            for window_s in WINDOW_S {
                for hold_s in HOLD_S {
                    for rest_s in REST_S {
                        all.push(ReactiveSettings { high, low: high - below, window_s, hold_s, rest_s });
                    }
                }
            }
        }
    }
    if coarse {
        all.retain(|s| {
            s.hold_s == HOLD_S[1] && s.rest_s == REST_S[1] && s.window_s.total_cmp(&WINDOW_S[1]).is_eq()
        });
    }
    all
}

fn edges(settings: &ReactiveSettings) -> Vec<&'static str> {
    let is_end = |value: f64, tried: &[f64]| {
        [tried.first(), tried.last()].iter().flatten().any(|end| end.total_cmp(&value).is_eq())
    };
    let as_f64 = |tried: [u32; 3]| tried.map(f64::from);
    let all = [
        ("high", is_end(settings.high, &HIGH)),
        ("window_s", is_end(settings.window_s, &WINDOW_S)),
        ("hold_s", is_end(f64::from(settings.hold_s), &as_f64(HOLD_S))),
        ("rest_s", is_end(f64::from(settings.rest_s), &as_f64(REST_S))),
    ];
    all.into_iter().filter_map(|(name, at_end)| at_end.then_some(name)).collect()
}
