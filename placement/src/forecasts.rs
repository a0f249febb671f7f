//! Forecasts of everything that a plan is made of, followed hour by hour.
//!
//! Each subject has the blend of [`auto::LIGHT`], which takes one hour more and is not fitted anew. Announced events are taken
//! out of what it sees, and what they are expected to do is put back onto the paths. A subject whose forecasts do worse in life
//! than its day before ([`crate::ledger`] counts) is demoted: its paths are then its own last days.

use std::collections::{BTreeMap, BTreeSet};

use foreshard_forecast::events::{Calendar, Effects, Event, Observed};
use foreshard_forecast::series::DAY;
use foreshard_forecast::store::EntityId;
use foreshard_forecast::walk::{NoRegressors, Plan};
use foreshard_forecast::{Series, auto};

use crate::foresight;
use crate::paths::{Paths, Shape};

/// Hours that a plan looks ahead.
pub const HORIZON: usize = 24;

/// What is forecast.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// An entity.
    Entity(EntityId),
    /// What a partition has besides.
    Rest(u32),
}

/// An event, and how many times as much it is said to make: nobody knows such events yet.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// In its hours.
    pub factor: f64,
}

/// All that are followed.
#[derive(Debug, Default)]
pub struct Forecasts {
    followed: BTreeMap<Subject, auto::Followed<'static>>,
    series: BTreeMap<Subject, Series>,
    /// The hour that paths begin with.
    hour: i64,
    effects: Option<Effects>,
    /// Whose effects are of which index.
    affected: BTreeMap<Subject, usize>,
    /// What somebody says that events will do: first hour, the hour after the last, and a factor.
    told: BTreeMap<Subject, Vec<(i64, i64, f32)>>,
    demoted: BTreeSet<Subject>,
    /// Requests a second of those whose hours to come are known, by hour.
    foreseen: BTreeMap<Subject, BTreeMap<i64, f64>>,
}

impl Forecasts {
    /// The shape of all paths.
    #[must_use]
    pub const fn shape() -> Shape {
        foresight::shape(HORIZON)
    }

    /// Takes what is known before `hour`: everyone's series, with the names by which events find them. Whoever is not among
    /// them is followed no longer.
    /// What was told of an event counts in its hours, and not what events of its kind did.
    pub fn advance(
        &mut self,
        subjects: Vec<(Subject, String, Series)>,
        (calendar, told): (&Calendar, &[Told]),
        hour: i64,
    ) {
        self.hour = hour;
        self.learn_events(&subjects, calendar);
        self.told.clear();
        for (subject, name, _) in &subjects {
            let concerned = told.iter().filter(|told| told.event.concerns(name));
            let of: Vec<(i64, i64, f32)> =
                concerned.map(|told| (told.event.from, told.event.to, crate::narrow(told.factor))).collect();
            if matches!(subject, Subject::Entity(_)) && !of.is_empty() {
                self.told.insert(*subject, of);
            }
        }
        let there: BTreeSet<Subject> = subjects.iter().map(|one| one.0).collect();
        self.followed.retain(|subject, _| there.contains(subject));
        self.demoted.retain(|subject| there.contains(subject));
        self.series.clear();
        for (subject, _, series) in subjects {
            let ordinary = match (&self.effects, self.affected.get(&subject)) {
                (Some(effects), Some(&index)) => effects.of(index).without(&series, hour),
                _ => series,
            };
            let followed = self.followed.entry(subject).or_insert_with(|| {
                let memory = i64::try_from(foresight::memory(HORIZON)).unwrap_or(i64::MAX);
                let first = hour.saturating_sub(memory).max(ordinary.start().saturating_add(DAY as i64));
                let (last, refit) = (i64::MAX, auto::REFIT);
                auto::Followed::new(&auto::LIGHT, Plan { first, last, step: 1, refit, horizon: HORIZON })
            });
            followed.advance(&ordinary, &NoRegressors, hour);
            followed.keep(foresight::memory(HORIZON));
            self.series.insert(subject, ordinary);
        }
    }

    /// From now on a subject's paths, while it is followed, are this load in requests a second, by hour, and nothing in other
    /// hours: what a plan would be that knew the future.
    pub fn foresee(&mut self, subject: Subject, hours: BTreeMap<i64, f64>) {
        self.foreseen.insert(subject, hours);
    }

    /// Paths of requests a second from the hour on; none of whom is not followed.
    #[must_use]
    pub fn paths(&self, subject: Subject) -> Option<Paths> {
        let series = self.series.get(&subject)?;
        if let Some(known) = self.foreseen.get(&subject) {
            let load = |hour: i64| crate::narrow(known.get(&hour).copied().unwrap_or(0.0));
            let course: Vec<f32> = (self.hour..).take(HORIZON).map(load).collect();
            return Some(Paths::certain(&course, Self::shape()));
        }
        let walk = self.followed.get(&subject).filter(|_| !self.demoted.contains(&subject));
        let paths = match walk {
            Some(followed) => foresight::paths(series, followed.walk(), self.hour, HORIZON),
            None => foresight::days(series, self.hour, HORIZON),
        };
        let learnt =
            self.effects.as_ref().zip(self.affected.get(&subject)).map(|(effects, &index)| effects.of(index));
        let told = self.told.get(&subject).map(Vec::as_slice).unwrap_or_default();
        if learnt.is_none() && told.is_empty() {
            return Some(paths);
        }
        let factor = |hour: i64| {
            let told = told.iter().find(|(from, to, _)| (*from..*to).contains(&hour)).map(|told| told.2);
            told.or(learnt.map(|effects| effects.effect(hour, self.hour).exp())).unwrap_or(1.0)
        };
        let factors: Vec<f32> = (self.hour..).take(HORIZON).map(factor).collect();
        Some(paths.times(&factors))
    }

    /// The load of this hour of the day before: what a forecast has to beat.
    #[must_use]
    pub fn day_before(&self, subject: Subject, hour: i64) -> Option<f64> {
        self.series.get(&subject)?.load(hour - DAY as i64)
    }

    /// Whether there are paths of a subject.
    #[must_use]
    pub fn follows(&self, subject: Subject) -> bool {
        self.series.contains_key(&subject)
    }

    /// Who is followed.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        self.series.keys().copied()
    }

    /// Whether a subject's paths are its last days.
    #[must_use]
    pub fn is_demoted(&self, subject: Subject) -> bool {
        self.demoted.contains(&subject)
    }

    /// Has a subject's paths be its last days, or takes that back.
    pub fn demote(&mut self, subject: Subject, is_demoted: bool) {
        if is_demoted {
            self.demoted.insert(subject);
        } else {
            self.demoted.remove(&subject);
        }
    }

    fn learn_events(&mut self, subjects: &[(Subject, String, Series)], calendar: &Calendar) {
        let mut affected = BTreeMap::new();
        let mut observed = Vec::new();
        if !calendar.is_empty() {
            for (subject, name, series) in subjects {
                let dates = calendar.of(name);
                if matches!(subject, Subject::Entity(_)) && !dates.is_empty() {
                    affected.insert(*subject, observed.len());
                    observed.push(Observed::new(series, dates));
                }
            }
        }
        // Whoever has events that it did not have is shown other hours: it begins anew.
        let changed: Vec<Subject> = affected
            .keys()
            .chain(self.affected.keys())
            .filter(|subject| affected.contains_key(subject) != self.affected.contains_key(subject))
            .copied()
            .collect();
        changed.iter().for_each(|subject| drop(self.followed.remove(subject)));
        self.effects = (!observed.is_empty()).then(|| Effects::pool(observed));
        self.affected = affected;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1000 * 24;

    /// Ten at night, a hundred in the day; in `high`, three times as much.
    fn daily(hours: i64, high: impl Fn(i64) -> bool) -> Series {
        let mut series = Series::new(START);
        for hour in START..START + hours {
            let day = if (8..20).contains(&hour.rem_euclid(24)) { 100.0 } else { 10.0 };
            series.set(hour, if high(hour) { 3.0 * day } else { day }).unwrap();
        }
        series
    }

    fn entity(id: u64, series: Series) -> (Subject, String, Series) {
        (Subject::Entity(EntityId(id)), format!("shop:{id}"), series)
    }

    fn mean(forecasts: &Forecasts, id: u64, hour: usize) -> f32 {
        forecasts.paths(Subject::Entity(EntityId(id))).unwrap().mean(hour, Forecasts::shape())
    }

    #[test]
    fn a_rhythm_is_followed_hour_by_hour_as_if_it_were_learnt_at_once() {
        let (mut followed, mut at_once) = (Forecasts::default(), Forecasts::default());
        for hours in 400..410 {
            followed.advance(
                vec![entity(1, daily(hours, |_| false))],
                (&Calendar::default(), &[]),
                START + hours,
            );
        }
        at_once.advance(vec![entity(1, daily(409, |_| false))], (&Calendar::default(), &[]), START + 409);
        // It is one in the night, 409 hours in; eight hours later the day has begun.
        assert!((mean(&followed, 1, 2) - 10.0).abs() < 1.0 && (mean(&followed, 1, 9) - 100.0).abs() < 8.0);
        for hour in 0..HORIZON {
            assert!((mean(&followed, 1, hour) - mean(&at_once, 1, hour)).abs() < 1.0, "hour {hour}");
        }
    }

    #[test]
    fn an_announced_event_is_expected_to_do_what_others_of_its_kind_did() {
        let mut calendar = Calendar::default();
        let end = START + 504;
        // Two had a sale a week ago, from noon to four; the third has its first one tomorrow, at noon.
        for (entities, from) in [("shop:1", end - 156), ("shop:2", end - 156), ("shop:3", end + 12)] {
            let event = Event {
                kind: "sale".into(),
                entities: entities.into(),
                from,
                to: from + 4,
                announced: from - 48,
            };
            calendar.add(&event).unwrap();
        }
        let sold = |hour: i64| (end - 156..end - 152).contains(&hour);
        let subjects = || {
            let of = |id: u64| entity(id, daily(504, |hour| id < 3 && sold(hour)));
            (1..=4).map(of).collect::<Vec<_>>()
        };
        let mut forecasts = Forecasts::default();
        forecasts.advance(subjects(), (&calendar, &[]), end);
        let (first, ordinary) = (mean(&forecasts, 3, 13), mean(&forecasts, 4, 13));
        assert!(first > 1.8 * ordinary, "{first} with a sale, {ordinary} without");
        assert!((mean(&forecasts, 3, 18) / mean(&forecasts, 4, 18) - 1.0).abs() < 0.35, "after it");
        forecasts.advance(subjects(), (&Calendar::default(), &[]), end);
        assert!((mean(&forecasts, 3, 13) - mean(&forecasts, 4, 13)).abs() < 1.0, "nothing is announced");
    }

    #[test]
    fn what_somebody_says_of_an_event_counts_in_its_hours() {
        let end = START + 504;
        let (kind, entities) = ("launch".to_owned(), "shop:1".to_owned());
        let event = Event { kind, entities, from: end + 10, to: end + 12, announced: end };
        let subjects = || vec![entity(1, daily(504, |_| false)), entity(2, daily(504, |_| false))];
        let mut forecasts = Forecasts::default();
        forecasts.advance(subjects(), (&Calendar::default(), &[Told { event, factor: 3.0 }]), end);
        for hour in 0..HORIZON {
            let times = if (10..12).contains(&hour) { 3.0 } else { 1.0 };
            assert!(
                (mean(&forecasts, 1, hour) - times * mean(&forecasts, 2, hour)).abs() < 1.0,
                "hour {hour}"
            );
        }
    }

    #[test]
    fn who_is_foreseen_is_forecast_as_it_will_be() {
        let mut forecasts = Forecasts::default();
        let end = START + 504;
        forecasts.foresee(Subject::Entity(EntityId(1)), BTreeMap::from([(end, 7.0), (end + 2, 9.0)]));
        assert!(forecasts.paths(Subject::Entity(EntityId(1))).is_none(), "nobody follows it");
        let subjects = vec![entity(1, daily(504, |_| false)), entity(2, daily(504, |_| false))];
        forecasts.advance(subjects, (&Calendar::default(), &[]), end);
        let paths = forecasts.paths(Subject::Entity(EntityId(1))).unwrap();
        let shape = Forecasts::shape();
        for (hour, load) in [7.0, 0.0, 9.0, 0.0].into_iter().enumerate() {
            for share in [0.0, 0.5, 1.0] {
                assert!((paths.quantile(hour, share, shape) - load).abs() < 1e-9, "hour {hour}");
            }
        }
        assert!(mean(&forecasts, 2, 9) > 50.0, "others are forecast");
    }

    #[test]
    fn who_is_demoted_repeats_its_days_and_who_is_gone_is_forgotten() {
        let mut forecasts = Forecasts::default();
        forecasts.advance(vec![entity(1, daily(504, |_| false))], (&Calendar::default(), &[]), START + 504);
        let subject = Subject::Entity(EntityId(1));
        forecasts.demote(subject, true);
        assert!(forecasts.is_demoted(subject) && (mean(&forecasts, 1, 12) - 100.0).abs() < 1.0);
        forecasts.advance(vec![entity(2, daily(505, |_| false))], (&Calendar::default(), &[]), START + 505);
        assert!(forecasts.paths(subject).is_none() && !forecasts.is_demoted(subject));
    }
}
