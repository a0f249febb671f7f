//! The choice of models: the median of all, each weighed by what it was worth elsewhere and by how it did here.
//!
//! Combinations beat the choice of a single best one (Bates and Granger, "The Combination of Forecasts", 1969), as which
//! one did best is itself uncertain; and weights that are found anew for each series lose to fixed ones, unless they move
//! little (Smith and Wallis, "A Simple Explanation of the Forecast Combination Puzzle", 2009). So a model has a fixed
//! share, which its errors at the origins that are over bend: one that did twice as bad as the best has a quarter of it. A
//! median, as many series repeat one value exactly: a mean would never say it, and one wild path would move it.
//!
//! Invariant: a weight at an origin depends on hours before it only.
//! Invariant: hours taken one by one give the same paths as those taken at once.

use std::collections::VecDeque;

use crate::arima::Arima;
use crate::autoregression::Autoregression;
use crate::climatology::Climatology;
use crate::double_seasonal::DoubleSeasonal;
use crate::events::{Adjusted, EffectsOf};
use crate::measures::weighted_median;
use crate::model::Model;
use crate::scenarios;
use crate::series::{DAY, Series, WEEK, to_load};
use crate::walk::{Plan, Regressors, Walk, Walker, signed};

/// Hours between the origins of error paths: every part of the day has its turn.
pub const STEP: usize = 6;
/// Between fits; in between a method is updated.
pub const REFIT: usize = WEEK;
/// Entities, those with the most load, that are worth the models that cost milliseconds.
pub const HEAVY_MAX: usize = 300;

/// How far back a model's errors count.
const MEMORY: usize = 28 * DAY;
/// The power of the inverse error that bends a share: the first does too little, from the fourth on it is noise.
const SHARPNESS: i32 = 2;
/// Part of the largest error that every error is taken for at least: a perfect past is no proof.
const ERROR_SHARE_MIN: f32 = 0.05;

/// Hours between trainings of the network: those after one are forecast by a network that is no older.
const RETRAIN: usize = 21 * DAY;

/// For the origins from `first` to `last`: error paths come before them.
#[must_use]
pub fn plan(first: i64, last: i64, horizon: usize) -> Plan {
    let before = (scenarios::MEMORY + horizon).next_multiple_of(STEP);
    Plan { first: first - signed(before), last, step: STEP, refit: REFIT, horizon }
}

/// When to train the network that forecasts the origins from `first` to `last`: the first time so long before them that
/// error paths, and the places that these are judged by, are of hours that it did not see.
#[must_use]
pub fn trainings(first: i64, last: i64) -> Vec<i64> {
    (first - signed(2 * RETRAIN)..last).step_by(RETRAIN).collect()
}

/// A model that takes part, and its share.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The model.
    pub model: &'a dyn Model,
    /// What it weighs against others of equal errors.
    pub share: f32,
}

/// What forecasts everyone. Seasonal naive is what the others are measured by, and adds only noise.
pub const LIGHT: [Member<'static>; 4] = [
    Member { model: &Climatology::LAST_WEEK, share: 1.0 },
    Member { model: &Climatology::FADING, share: 1.0 },
    Member { model: &DoubleSeasonal, share: 0.5 },
    Member { model: &Autoregression, share: 0.5 },
];

/// What also forecasts a few hundred: `network` was trained over all entities.
#[must_use]
pub fn heavy(network: &dyn Model) -> Vec<Member<'_>> {
    let mut members = LIGHT.to_vec();
    members.push(Member { model: &Arima::DEFAULT, share: 1.0 });
    members.push(Member { model: network, share: 2.0 });
    members
}

/// Which of the entities are heavy, by their load in the weeks before `origin`: at most [`HEAVY_MAX`].
#[must_use]
pub fn heaviest(entities: &[&Series], origin: i64) -> Vec<bool> {
    let load = |series: &Series| -> f64 {
        let known = series.before(origin).iter().rev().take(MEMORY).filter(|value| !value.is_nan());
        known.map(|&value| to_load(value)).sum()
    };
    let mut ranked: Vec<(f64, usize)> =
        entities.iter().enumerate().map(|(index, series)| (load(series), index)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut heavy = vec![false; entities.len()];
    ranked.iter().take(HEAVY_MAX).for_each(|&(_, index)| heavy[index] = true);
    heavy
}

/// Walks the blend of `members` over `series`.
///
/// # Panics
/// When there is no member.
#[must_use]
pub fn walk(members: &[Member<'_>], series: &Series, regressors: &dyn Regressors, plan: Plan) -> Walk {
    let mut followed = Followed::new(members, plan);
    for origin in plan.origins() {
        followed.advance(series, regressors, origin);
    }
    followed.walk
}

/// Likewise of an entity with events: no member sees what they did, and what those ahead will do is added to all.
///
/// # Panics
/// When there is no member.
#[must_use]
pub fn walk_with_events(members: &[Member<'_>], series: &Series, events: EffectsOf<'_>, plan: Plan) -> Walk {
    let adjusted: Vec<Adjusted<'_>> = members.iter().map(|member| Adjusted(member.model)).collect();
    let members = members.iter().zip(&adjusted).map(|(member, model)| Member { model, ..*member });
    walk(&members.collect::<Vec<Member<'_>>>(), series, &events, plan)
}

/// An entity's blend, hour by hour.
#[derive(Debug)]
pub struct Followed<'a> {
    members: Vec<Following<'a>>,
    walk: Walk,
    /// The next origin.
    next: i64,
    /// Origins that were passed.
    passed: usize,
    loads: Vec<f64>,
    weighed: Vec<(f32, f32)>,
    path: Vec<f32>,
}

#[derive(Debug)]
struct Following<'a> {
    walker: Walker<'a>,
    share: f32,
    /// From the origins that are not over yet, in a ring.
    paths: Vec<f32>,
    /// Of those that are, as far back as they count; NaN where there was no path, or nothing came to be known.
    errors: VecDeque<f32>,
    weight: f32,
}

impl<'a> Followed<'a> {
    /// From the plan's first origin on.
    ///
    /// # Panics
    /// When there is no member.
    #[must_use]
    pub fn new(members: &[Member<'a>], plan: Plan) -> Self {
        assert!(!members.is_empty(), "a blend of at least one member");
        let ring = (plan.horizon.div_ceil(plan.step) + 1) * plan.horizon;
        let members = members.iter().map(|member| Following {
            walker: Walker::new(member.model, plan),
            share: member.share,
            paths: vec![f32::NAN; ring],
            errors: VecDeque::new(),
            weight: 0.0,
        });
        Self {
            members: members.collect(),
            walk: Walk::empty(plan),
            next: plan.first,
            passed: 0,
            loads: Vec::new(),
            weighed: Vec::new(),
            path: vec![f32::NAN; plan.horizon],
        }
    }

    /// The paths from the origins so far.
    #[must_use]
    pub const fn walk(&self) -> &Walk {
        &self.walk
    }

    /// Takes the hours of `series` before `now`, and where that is an origin of the plan, draws its path.
    pub fn advance(&mut self, series: &Series, regressors: &dyn Regressors, now: i64) {
        while self.next <= now {
            self.pass(series, regressors);
        }
        for member in &mut self.members {
            member.walker.advance(series, regressors, now);
        }
    }

    /// Forgets all but the last `hours` of origins.
    pub fn keep(&mut self, hours: usize) {
        self.walk.keep(hours.div_ceil(self.walk.plan().step));
    }

    fn pass(&mut self, series: &Series, regressors: &dyn Regressors) {
        let plan = self.walk.plan();
        let origin = self.next;
        self.end_oldest(series);
        let row = self.passed % (self.members[0].paths.len() / plan.horizon) * plan.horizon;
        for member in &mut self.members {
            member.walker.path(series, regressors, origin, &mut member.paths[row..][..plan.horizon]);
        }
        self.weigh();
        for (hour, out) in self.path.iter_mut().enumerate() {
            self.weighed.clear();
            let values = self.members.iter().map(|member| (member.paths[row + hour], member.weight));
            self.weighed.extend(values.filter(|value| value.0.is_finite()));
            *out = weighted_median(&mut self.weighed).unwrap_or(f32::NAN);
        }
        self.walk.push(&self.path);
        self.next += signed(plan.step);
        self.passed += 1;
    }

    /// The errors from the origin whose last hour is the one before the next origin, or the step before it.
    fn end_oldest(&mut self, series: &Series) {
        let Plan { step, horizon, .. } = self.walk.plan();
        let lead = horizon.div_ceil(step);
        let Some(index) = self.passed.checked_sub(lead) else { return };
        let origin = self.next - signed(lead * step);
        self.loads.clear();
        self.loads.extend((origin..).take(horizon).map(|hour| series.load(hour).unwrap_or(f64::NAN)));
        let row = index % (lead + 1) * horizon;
        for member in &mut self.members {
            member.errors.push_back(error(&self.loads, &member.paths[row..][..horizon]));
            if member.errors.len() > MEMORY.div_ceil(step) {
                member.errors.pop_front();
            }
        }
    }

    /// Shares, bent by errors.
    fn weigh(&mut self) {
        for member in &mut self.members {
            member.weight = mean(&member.errors);
        }
        let errors = || self.members.iter().map(|member| member.weight).filter(|error| !error.is_nan());
        let floor = errors().fold(0.0, f32::max) * ERROR_SHARE_MIN;
        let least = errors().fold(f32::INFINITY, f32::min).max(floor);
        for member in &mut self.members {
            let error = member.weight.max(floor);
            let bent = if error > 0.0 { (least / error).powi(SHARPNESS) } else { 1.0 };
            member.weight = if member.weight.is_nan() { member.share } else { member.share * bent };
        }
    }
}

/// The mean absolute error of the load; NaN when there is no path or nothing came to be known.
fn error(loads: &[f64], path: &[f32]) -> f32 {
    let known = loads.iter().zip(path).filter(|(load, said)| !load.is_nan() && said.is_finite());
    let (sum, count) = known
        .fold((0.0, 0.0), |(sum, count), (load, &said)| (sum + (load - to_load(said)).abs(), count + 1.0));
    crate::narrow(sum / count)
}

/// Of what is not NaN; NaN of nothing.
fn mean(values: &VecDeque<f32>) -> f32 {
    let known = values.iter().filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0.0_f32), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}
