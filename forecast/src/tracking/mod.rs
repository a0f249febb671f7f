//! Which entities have a series: the heaviest, as an engine's heavy-hitter counters bound them, and whoever an operator
//! named.
//!
//! Two tiers: tracked entities, which have a profile, and of these the ones whose hours are kept. In each an entity comes in
//! by what it certainly had, its lower bound, and goes by what it may have had, its upper bound; a stay has a least length,
//! and to be put out by another takes a clear difference. So neither the counters' error nor an hour's noise moves anybody
//! to and fro.
//!
//! It counts nothing itself: an [`Estimate`] an hour is all it hears of an entity. Of those that are not tracked it remembers
//! the heaviest, as many as hours are kept of, so that one of them comes in by its days and not by a burst.
//! It decides, and [`Changes::apply`] carries out; both are bounded by the [`Limits`].
//!
//! Invariants:
//! - no tier has more members than it may, and whoever is hourly is tracked;
//! - an entity that was named is in both tiers, whatever its load;
//! - the same hours in the same order give the same changes.

mod interest;
mod tier;

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{EntityId, Refused, Store};
use interest::Interest;
use tier::{Candidate, Member, Moves};

/// What a counter says of an entity's hour.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// Its weight, in whatever unit the counters weigh; it was not more than this.
    pub weight: f64,
    /// By how much that may be too high.
    pub error: f64,
}

/// How many, and how settled.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// Entities that are tracked.
    pub tracked: usize,
    /// Of these, entities whose hours are kept.
    pub hourly: usize,
    /// Weight an hour that is worth a profile.
    pub tracked_weight: f64,
    /// Weight an hour, on average, that is worth its hours.
    pub hourly_weight: f64,
}

impl Limits {
    /// As many as a [`Store`] of default capacity has room for, however light.
    pub const DEFAULT: Self =
        Self { tracked: 1_000_000, hourly: 50_000, tracked_weight: 1.0, hourly_weight: 1.0 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// There are as many named entities as entities whose hours may be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{named} entities are named, as many as hours are kept of: raise that limit or name fewer")]
pub struct TooManyNamed {
    /// The limit.
    pub named: usize,
}

/// What has changed. The order in which to carry it out is that of the fields.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// Whose hours are no longer kept.
    pub demoted: Vec<EntityId>,
    /// Who is no longer tracked.
    pub dropped: Vec<EntityId>,
    /// Who is tracked from here on.
    pub tracked: Vec<EntityId>,
    /// Whose hours are kept from here on.
    pub promoted: Vec<EntityId>,
}

/// Who is tracked, and how much of interest each is.
#[derive(Debug)]
pub struct Tracking {
    limits: Limits,
    members: BTreeMap<EntityId, Tracked>,
    /// Who may come in when there is no free place.
    watched: BTreeMap<EntityId, Interest>,
    named: BTreeSet<EntityId>,
}

#[derive(Clone, Copy, Debug)]
struct Tracked {
    interest: Interest,
    since: i64,
    /// When its hours began to be kept, if they are.
    hourly_since: Option<i64>,
}

impl Estimate {
    /// Exactly this much.
    #[must_use]
    pub const fn exact(weight: f64) -> Self {
        Self { weight, error: 0.0 }
    }

    fn lower(self) -> f64 {
        (self.weight - self.error).max(0.0)
    }
}

impl Tracking {
    /// Of nobody.
    ///
    /// # Panics
    /// When more hours would be kept than entities tracked.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        assert!(limits.hourly <= limits.tracked, "hours are kept of tracked entities");
        Self { limits, members: BTreeMap::new(), watched: BTreeMap::new(), named: BTreeSet::new() }
    }

    /// Keeps the entity's hours from the next hour on, whatever its load, until [`Tracking::unname`].
    ///
    /// # Errors
    /// When as many are named as hours are kept of.
    pub fn name(&mut self, entity: EntityId) -> Result<(), TooManyNamed> {
        if self.named.len() >= self.limits.hourly && !self.named.contains(&entity) {
            return Err(TooManyNamed { named: self.limits.hourly });
        }
        self.named.insert(entity);
        Ok(())
    }

    /// Lets the entity's load decide again. False if it was not named.
    pub fn unname(&mut self, entity: EntityId) -> bool {
        self.named.remove(&entity)
    }

    /// Takes an hour's estimates and decides.
    ///
    /// `hour` is one after the other; of an entity that is not among `estimates` the load was at most `others_max`. An
    /// entity given twice, by two shards, has the sum.
    pub fn hour(
        &mut self,
        hour: i64,
        estimates: impl IntoIterator<Item = (EntityId, Estimate)>,
        others_max: f64,
    ) -> Changes {
        let mut strangers: BTreeMap<EntityId, Estimate> = BTreeMap::new();
        let mut heard: BTreeMap<EntityId, Estimate> = BTreeMap::new();
        for (entity, estimate) in estimates.into_iter().filter(|pair| pair.1.weight.is_finite()) {
            let among = if self.members.contains_key(&entity) { &mut heard } else { &mut strangers };
            let sum = among.entry(entity).or_insert(Estimate::exact(0.0));
            sum.weight += estimate.weight.max(0.0);
            sum.error += estimate.error.max(0.0);
        }
        for (entity, member) in &mut self.members {
            match heard.get(entity) {
                Some(estimate) => member.interest.take(estimate.lower(), estimate.weight),
                None => member.interest.take(0.0, others_max.max(0.0)),
            }
        }
        self.watch(&strangers);
        let mut changes = Changes::default();
        self.track(hour, &strangers, &mut changes);
        self.promote(hour, &mut changes);
        changes
    }

    /// Who is tracked, and whether by the hour.
    pub fn members(&self) -> impl Iterator<Item = (EntityId, bool)> {
        self.members.iter().map(|(entity, member)| (*entity, member.hourly_since.is_some()))
    }

    /// Remembers the heaviest of those who are not tracked.
    fn watch(&mut self, strangers: &BTreeMap<EntityId, Estimate>) {
        let worthy = strangers.iter().filter(|entry| entry.1.lower() >= self.limits.tracked_weight);
        for (&entity, estimate) in worthy {
            self.watched.entry(entity).or_insert(Interest::unseen(estimate.weight));
        }
        for (entity, interest) in &mut self.watched {
            let estimate = strangers.get(entity).copied().unwrap_or(Estimate::exact(0.0));
            interest.take(estimate.lower(), estimate.weight);
        }
        let mut lightest: Vec<(f64, EntityId)> =
            self.watched.iter().map(|(&entity, interest)| (interest.lower(), entity)).collect();
        lightest.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let too_many = lightest.len().saturating_sub(self.limits.hourly);
        for (_, entity) in &lightest[..too_many] {
            self.watched.remove(entity);
        }
    }

    /// Decides who is tracked.
    fn track(&mut self, hour: i64, strangers: &BTreeMap<EntityId, Estimate>, changes: &mut Changes) {
        let unnamed = |entity: &EntityId| !self.named.contains(entity);
        let members = self.members.iter().filter(|entry| unnamed(entry.0));
        let members = members.map(|(&entity, member)| Member {
            entity,
            upper: member.interest.upper(),
            since: member.since,
        });
        let known = |entity: &EntityId| self.watched.get(entity).map_or(0.0, |interest| interest.lower());
        let candidates = strangers.iter().filter(|entry| unnamed(entry.0));
        let candidates = candidates.map(|(&entity, estimate)| Candidate {
            entity,
            hour: estimate.lower(),
            lower: known(&entity),
        });
        let room = self.limits.tracked - self.named.len();
        let Moves { leaving, coming } =
            tier::moves(room, self.limits.tracked_weight, hour, members, candidates);
        for entity in leaving {
            if self.members.remove(&entity).is_some_and(|member| member.hourly_since.is_some()) {
                changes.demoted.push(entity);
            }
            changes.dropped.push(entity);
        }
        let named = self.named.iter().copied().filter(|entity| !self.members.contains_key(entity));
        for entity in coming.into_iter().chain(named.collect::<Vec<_>>()) {
            let interest = self.watched.remove(&entity).unwrap_or_else(|| first_hour(strangers.get(&entity)));
            self.members.insert(entity, Tracked { interest, since: hour, hourly_since: None });
            changes.tracked.push(entity);
        }
    }

    /// Decides whose hours are kept, of those tracked.
    fn promote(&mut self, hour: i64, changes: &mut Changes) {
        let (mut members, mut candidates) = (Vec::new(), Vec::new());
        for (&entity, member) in self.members.iter().filter(|entry| !self.named.contains(entry.0)) {
            match member.hourly_since {
                Some(since) => members.push(Member { entity, upper: member.interest.upper(), since }),
                None => {
                    let lower = member.interest.lower();
                    candidates.push(Candidate { entity, hour: lower, lower });
                }
            }
        }
        let room = self.limits.hourly - self.named.len();
        let Moves { leaving, coming } =
            tier::moves(room, self.limits.hourly_weight, hour, members.into_iter(), candidates.into_iter());
        for entity in leaving {
            self.set_hourly(entity, None);
            changes.demoted.push(entity);
        }
        let named = self.named.iter().copied();
        let named: Vec<EntityId> = named
            .filter(|entity| self.members.get(entity).is_some_and(|m| m.hourly_since.is_none()))
            .collect();
        for entity in coming.into_iter().chain(named) {
            self.set_hourly(entity, Some(hour));
            changes.promoted.push(entity);
        }
    }

    fn set_hourly(&mut self, entity: EntityId, since: Option<i64>) {
        if let Some(member) = self.members.get_mut(&entity) {
            member.hourly_since = since;
        }
    }
}

/// Of one that nothing is remembered of.
fn first_hour(estimate: Option<&Estimate>) -> Interest {
    let estimate = estimate.copied().unwrap_or(Estimate::exact(0.0));
    let mut interest = Interest::unseen(estimate.weight);
    interest.take(estimate.lower(), estimate.weight);
    interest
}

impl Changes {
    /// Carries them out.
    ///
    /// # Errors
    /// When the store has less room than the limits allow.
    pub fn apply(&self, store: &mut Store) -> Result<(), Refused> {
        for &entity in &self.demoted {
            store.demote(entity);
        }
        for &entity in &self.dropped {
            store.remove(entity);
        }
        for &entity in &self.tracked {
            store.add(entity)?;
        }
        for &entity in &self.promoted {
            store.promote(entity)?;
        }
        Ok(())
    }
}
