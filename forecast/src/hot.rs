//! Will an entity's peak in a window ahead exceed a limit? A probability, learnt from how such questions ended.
//!
//! Two answers come from the entity alone: the share of error paths, added to its latest path, that exceed the limit; and
//! climatology, the share of earlier days that did in this window of the day. Neither is right by itself: a path knows
//! little of bursts that begin out of nothing, climatology nothing of this morning. [`Evidence`] is both as log
//! odds, with how the last hours stood to the limit; [`Pooled`] weighs it by a logistic regression over all entities' past
//! questions (stacking: Wolpert, "Stacked Generalization", Neural Networks 1992), which also calibrates the answer: it is
//! fitted to outcomes that none of the evidence had seen.
//!
//! Invariant: evidence at an origin, and the outcomes learnt from for it, lie before that origin.

use crate::events::EffectsOf;
use crate::logistic::Logistic;
use crate::series::{DAY, Series, WEEK, to_log};
use crate::walk::Walk;

/// Numbers that the evidence is.
const FEATURES: usize = 9;
/// How far back error paths and climatology look: half of it leaves too few cases, twice is of another time.
pub const MEMORY: usize = 21 * DAY;
/// Days that the fading and the weekly climatology look at.
const CLIMATOLOGY_DAYS: usize = 28;
/// Days after which a day weighs half as much in the fading climatology.
const HALF_LIFE_DAYS: f64 = 3.0;
/// Hours in which an entity that crossed no limit is cold.
pub const COLD_HOURS: usize = 6;
/// Hours before the last hot one is forgotten.
const SINCE_MAX: usize = 500;
/// Bounds of how far below and above the limit, in log1p, still makes a difference.
const LEVEL: (f64, f64) = (-6.0, 3.0);
/// Past questions that are learnt from at most. Ten weights need no more.
const CASES_MAX: usize = 100_000;
/// Of these, so many must have ended hot, and cold, or the two answers are averaged instead.
const CASES_OF_EACH_MIN: usize = 30;

/// How much of the answer the plain blend of paths and climatology is: the regression is surer of itself than it should
/// be when loads change their ways; a quarter brought its high probabilities down to what came true.
const BLEND_SHARE: f64 = 0.25;

/// What is asked of an entity.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Question {
    limit: f32,
    from: usize,
    to: usize,
}

/// What is known at an origin that bears on the question.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Evidence {
    /// Share of error paths that exceed the limit.
    pub paths: f64,
    /// Share of the last days that did.
    pub climatology: f64,
    features: [f64; FEATURES],
}

/// Weighs evidence as earlier outcomes say.
#[derive(Clone, PartialEq, Debug)]
pub struct Pooled {
    logistic: Option<Logistic<FEATURES>>,
}

impl Question {
    /// Does the load exceed `limit` in one of the hours `from..=to` after the last known one? The first unknown hour is 1.
    ///
    /// None if the window is empty or begins before hour 1, or the limit is no load.
    #[must_use]
    pub fn new(limit: f64, from: usize, to: usize) -> Option<Self> {
        let log = to_log(limit);
        (from >= 1 && from <= to && !log.is_nan()).then_some(Self { limit: log, from, to })
    }

    /// Hours ahead that a path must reach.
    #[must_use]
    pub const fn horizon(&self) -> usize {
        self.to
    }

    /// The hours that are asked about.
    pub fn window(&self, origin: i64) -> impl Iterator<Item = i64> + use<> {
        hour(origin, self.from)..=hour(origin, self.to)
    }

    /// How the question asked at `origin` ended; none if no hour of the window is known.
    #[must_use]
    pub fn outcome(&self, series: &Series, origin: i64) -> Option<bool> {
        let peak = self.peak(series, origin);
        (!peak.is_nan()).then_some(peak > self.limit)
    }

    /// Whether the entity crossed the limit in none of the last [`COLD_HOURS`] before `origin`.
    #[must_use]
    pub fn is_cold(&self, series: &Series, origin: i64) -> bool {
        let peak = recent_peak(series, origin, COLD_HOURS);
        peak.is_nan() || peak <= self.limit
    }

    /// The peak that is asked about, on the log scale; NaN if no hour is known.
    fn peak(&self, series: &Series, origin: i64) -> f32 {
        self.window(origin).map(|hour| series.at(hour)).fold(f32::NAN, f32::max)
    }

    /// How it would have ended on an earlier day if the events of that day had been those of the window from `origin` on.
    fn outcome_then(&self, asked: &Asked<'_>, origin: i64, hours_ago: i64) -> Option<bool> {
        let Some(events) = asked.events else { return self.outcome(asked.series, origin - hours_ago) };
        let as_if = |hour: i64| {
            let [now, then] = [hour, hour - hours_ago].map(|hour| events.effect(hour, origin));
            asked.series.at(hour - hours_ago) + now - then
        };
        let peak = self.window(origin).map(as_if).fold(f32::NAN, f32::max);
        (!peak.is_nan()).then_some(peak > self.limit)
    }

    /// What is known at `origin` that bears on it.
    #[must_use]
    pub fn evidence(&self, asked: &Asked<'_>, origin: i64) -> Evidence {
        let Asked { series, walk, .. } = *asked;
        let past = Past::of(self, asked, origin);
        let paths = self.share_of_paths(series, walk, origin).unwrap_or(past.all);
        let since = (1..=SINCE_MAX).find(|&ago| series.at(origin - ago as i64) > self.limit);
        let below = |value: f32| match f64::from(value - self.limit) {
            unknown if unknown.is_nan() => f64::from(-self.limit).clamp(LEVEL.0, LEVEL.1),
            distance => distance.clamp(LEVEL.0, LEVEL.1),
        };
        let features = [
            log_odds(paths, 0.01),
            log_odds(past.all, 0.02),
            log_odds(past.fading, 0.05),
            log_odds(past.weekly, 0.1),
            log_odds(self.share_of_hours(series, origin, WEEK), 0.01),
            log_odds(self.share_of_hours(series, origin, DAY), 0.03),
            below(recent_peak(series, origin, COLD_HOURS)),
            below(series.at(origin - 1)),
            (since.unwrap_or(SINCE_MAX) as f64).ln(),
        ];
        Evidence { paths, climatology: past.all, features }
    }

    /// Of the earlier origins' errors, added to the path of `origin`, the share that exceeds the limit.
    fn share_of_paths(&self, series: &Series, walk: &Walk, origin: i64) -> Option<f64> {
        let path = walk.path(origin)?;
        let (mut count, mut above) = (0_u32, 0_u32);
        for (earlier, earlier_path) in walk.earlier(origin, MEMORY, self.to) {
            let peak = (self.from..=self.to)
                .map(|lead| path[lead - 1] + series.at(hour(earlier, lead)) - earlier_path[lead - 1])
                .fold(f32::NAN, f32::max);
            if !peak.is_nan() {
                count += 1;
                above += u32::from(peak > self.limit);
            }
        }
        (count > 0).then(|| f64::from(above) / f64::from(count))
    }

    fn share_of_hours(&self, series: &Series, origin: i64, hours: usize) -> f64 {
        let hot = (1..=hours).filter(|&ago| series.at(origin - ago as i64) > self.limit).count();
        hot as f64 / hours as f64
    }
}

impl Evidence {
    /// Paths and climatology averaged: the answer of one who has seen no outcomes.
    #[must_use]
    pub const fn blend(&self) -> f64 {
        f64::midpoint(self.paths, self.climatology)
    }
}

impl Pooled {
    /// Learns from questions and how they ended.
    #[must_use]
    pub fn learn(cases: &[(Evidence, bool)]) -> Self {
        let hot = cases.iter().filter(|case| case.1).count();
        if hot.min(cases.len() - hot) < CASES_OF_EACH_MIN {
            return Self { logistic: None };
        }
        let stride = cases.len().div_ceil(CASES_MAX);
        let cases: Vec<_> = cases.iter().step_by(stride).map(|case| (case.0.features, case.1)).collect();
        Self { logistic: Logistic::fit(&cases) }
    }

    /// The probability that it ends hot.
    #[must_use]
    pub fn probability(&self, evidence: &Evidence) -> f64 {
        let learnt = self.logistic.as_ref().map(|logistic| logistic.probability(&evidence.features));
        let blend = evidence.blend();
        blend + (1.0 - BLEND_SHARE) * (learnt.unwrap_or(blend) - blend)
    }
}

/// An entity of whom the question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its history.
    pub series: &'a Series,
    /// A model's walk over it.
    pub walk: &'a Walk,
    /// What its events do, if it has any.
    pub events: Option<EffectsOf<'a>>,
}

/// The probabilities at each of the `origins`, in rising order, entity by entity as in `asked`.
///
/// What is learnt from outcomes is learnt anew every day: loads change their ways, and ten weights cost little.
#[must_use]
pub fn rolling(asked: &[Asked<'_>], question: &Question, origins: &[i64]) -> Vec<Vec<f64>> {
    let (Some(&first), Some(&last)) = (origins.first(), origins.last()) else { return Vec::new() };
    let evidence: Vec<Vec<(i64, Evidence)>> = asked
        .iter()
        .map(|entity| {
            let origins = entity.walk.plan().origins();
            let origins = origins.filter(|&o| o >= first - MEMORY as i64 && o <= last);
            origins.map(|o| (o, question.evidence(entity, o))).collect()
        })
        .collect();
    let mut answers = Vec::with_capacity(origins.len());
    let mut learnt: Option<(i64, Pooled)> = None;
    for &origin in origins {
        let pooled = match learnt.take() {
            Some((at, pooled)) if origin - at < DAY as i64 => (at, pooled),
            _ => (origin, Pooled::learn(&ended(asked, question, &evidence, origin))),
        };
        answers.push(
            evidence
                .iter()
                .map(|of| of.binary_search_by_key(&origin, |case| case.0).ok().map(|i| of[i].1))
                .map(|evidence| evidence.map_or(0.0, |evidence| pooled.1.probability(&evidence)))
                .collect(),
        );
        learnt = Some(pooled);
    }
    answers
}

/// The questions of the last [`MEMORY`] that had ended before `origin`, except those of hours before an entity's first.
fn ended(
    asked: &[Asked<'_>],
    question: &Question,
    evidence: &[Vec<(i64, Evidence)>],
    origin: i64,
) -> Vec<(Evidence, bool)> {
    let mut cases = Vec::new();
    for (entity, of) in asked.iter().zip(evidence) {
        let times = (origin - MEMORY as i64).max(entity.series.start() + MEMORY as i64 / 2)
            ..=origin - question.to as i64;
        for (at, evidence) in of.iter().filter(|case| times.contains(&case.0)) {
            cases.extend(question.outcome(entity.series, *at).map(|hot| (*evidence, hot)));
        }
    }
    cases
}

/// How often the same window of earlier days was hot.
struct Past {
    /// Over [`MEMORY`], all days alike.
    all: f64,
    /// Recent days weigh more.
    fading: f64,
    /// The same day of earlier weeks.
    weekly: f64,
}

impl Past {
    fn of(question: &Question, asked: &Asked<'_>, origin: i64) -> Self {
        let (mut all, mut fading, mut weekly) = (Share::default(), Share::default(), Share::default());
        for day in 1..=CLIMATOLOGY_DAYS {
            let Some(hot) = question.outcome_then(asked, origin, (day * DAY) as i64) else { continue };
            if day * DAY <= MEMORY {
                all.count(hot, 1.0);
            }
            fading.count(hot, 0.5_f64.powf(day as f64 / HALF_LIFE_DAYS));
            if day % 7 == 0 {
                weekly.count(hot, 1.0);
            }
        }
        Self { all: all.get(), fading: fading.get(), weekly: weekly.get() }
    }
}

#[derive(Default)]
struct Share {
    hot: f64,
    seen: f64,
}

impl Share {
    fn count(&mut self, hot: bool, weight: f64) {
        self.seen += weight;
        self.hot += if hot { weight } else { 0.0 };
    }

    fn get(&self) -> f64 {
        if self.seen > 0.0 { self.hot / self.seen } else { 0.0 }
    }
}

/// The highest of the `hours` before `origin`; NaN if none is known.
fn recent_peak(series: &Series, origin: i64, hours: usize) -> f32 {
    (1..=hours).map(|ago| series.at(origin - ago as i64)).fold(f32::NAN, f32::max)
}

/// The hour that is `lead` after the last known one.
const fn hour(origin: i64, lead: usize) -> i64 {
    origin + lead as i64 - 1
}

/// Finite for every share; `doubt` is what a share of zero is taken for.
fn log_odds(share: f64, doubt: f64) -> f64 {
    ((share + doubt) / (1.0 - share + doubt)).ln()
}
