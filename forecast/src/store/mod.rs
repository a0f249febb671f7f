//! The load of all tracked entities, hour by hour: what a planner keeps between its runs.
//!
//! Every tracked entity has a [`Typical`] profile of 1 KiB. Those of interest, chosen by whoever calls, also have their last
//! weeks hour by hour, from which a [`Series`] is taken. To lose interest in one frees its hours and keeps its profile.
//! An entity of which nothing is said in an hour costs nothing; the hour is a gap.
//!
//! It refuses to: read a clock (hours are arguments), keep names (an entity is a number; names belong to whoever gave it),
//! decide who is of interest ([`crate::tracking`] does), or grow beyond its [`Capacity`].
//!
//! Of stored bytes the growth is kept, and the last total to the byte: a total's own steps would swallow an hour's growth.
//!
//! Invariants:
//! - a load comes back within [`scale::ERROR`] of `1 + load`;
//! - at its capacity of 1M entities, of which 50,000 hour by hour for five weeks, it takes less than 1.6 GiB.

mod growth;
mod profile;
mod ring;
mod scale;

use std::collections::BTreeMap;

pub use growth::Growth;
pub use profile::Typical;
use profile::{NO_RING, Profile};
use ring::{Codes, Ring};
pub use scale::ERROR;

use crate::Series;
use crate::series::WEEK;

/// An entity: a number by which its owner knows it, as an engine's routing key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntityId(pub u64);

/// What is kept of an entity's hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// Rows or commands read.
    Reads,
    /// Rows or commands written.
    Writes,
    /// Bytes that came in.
    BytesIn,
    /// Bytes that went out.
    BytesOut,
    /// Bytes stored at the hour's end.
    StoredBytes,
    /// Nanoseconds of a core.
    ServiceNanos,
}

/// How many metrics there are.
pub const METRICS: usize = 6;

impl Metric {
    /// All, in order.
    pub const ALL: [Self; METRICS] =
        [Self::Reads, Self::Writes, Self::BytesIn, Self::BytesOut, Self::StoredBytes, Self::ServiceNanos];
}

/// An entity's hour; NaN is what is not known.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Loads([f64; METRICS]);

impl Loads {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self([f64::NAN; METRICS]);
    /// Nothing was done; what is stored is not known.
    pub const IDLE: Self = Self::UNKNOWN
        .with(Metric::Reads, 0.0)
        .with(Metric::Writes, 0.0)
        .with(Metric::BytesIn, 0.0)
        .with(Metric::BytesOut, 0.0)
        .with(Metric::ServiceNanos, 0.0);

    /// The same with one metric's load. One that is negative or not finite is not known.
    #[must_use]
    pub const fn with(mut self, metric: Metric, load: f64) -> Self {
        self.0[metric as usize] = load;
        self
    }

    /// A metric's load.
    #[must_use]
    pub const fn get(&self, metric: Metric) -> f64 {
        self.0[metric as usize]
    }
}

/// How much is kept at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Entities with a profile: 1 KiB each.
    pub entities: usize,
    /// Of these, entities with hours: 12 bytes for each hour.
    pub hourly: usize,
    /// Hours that are kept of these.
    pub hours: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        // Four weeks of errors, and one more to have learnt from: what a model uses.
        Self { entities: 1_000_000, hourly: 50_000, hours: 5 * WEEK }
    }
}

/// Why something was not taken. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// There are as many entities as there may be.
    #[error("{entities} entities are tracked, the most there may be: remove one first")]
    Full {
        /// The capacity.
        entities: usize,
    },
    /// There are as many entities with hours as there may be.
    #[error("{hourly} entities are kept hour by hour, the most there may be: demote one first")]
    HourlyFull {
        /// The capacity.
        hourly: usize,
    },
    /// The entity is not tracked.
    #[error("entity {:#018x} is not tracked: add it first", entity.0)]
    Unknown {
        /// Which one.
        entity: EntityId,
    },
    /// The hour is not after those that the entity has.
    #[error("hour {hour} of entity {:#018x} is not after its hours, which end before {next}", entity.0)]
    Late {
        /// Which one.
        entity: EntityId,
        /// Which hour.
        hour: i64,
        /// The first hour that it would take.
        next: i64,
    },
}

/// All tracked entities.
#[derive(Debug)]
pub struct Store {
    capacity: Capacity,
    /// Where each entity's profile is.
    places: BTreeMap<EntityId, u32>,
    /// In chunks, so that to grow moves nothing.
    profiles: Vec<Vec<Profile>>,
    profiles_free: Vec<u32>,
    rings: Vec<Option<Ring>>,
    rings_free: Vec<u32>,
    /// The hour after the last one of any entity.
    end: Option<i64>,
}

impl Store {
    /// Without entities.
    ///
    /// # Panics
    /// When the capacity counts to more than 2^32 - 2 entities, or hours to none.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        assert!(capacity.entities < NO_RING as usize, "entities are numbered by 32 bits");
        assert!(capacity.hours > 0, "hourly entities keep hours");
        Self {
            capacity,
            places: BTreeMap::new(),
            profiles: Vec::new(),
            profiles_free: Vec::new(),
            rings: Vec::new(),
            rings_free: Vec::new(),
            end: None,
        }
    }

    /// Tracks an entity, by its profile. False if it is tracked already.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn add(&mut self, entity: EntityId) -> Result<bool, Refused> {
        if self.places.contains_key(&entity) {
            return Ok(false);
        }
        if self.places.len() >= self.capacity.entities {
            return Err(Refused::Full { entities: self.capacity.entities });
        }
        let place = self.profiles_free.pop().unwrap_or_else(|| self.grow());
        *self.profile_mut(place) = Profile::new(entity);
        self.places.insert(entity, place);
        Ok(true)
    }

    /// Forgets an entity. False if it was not tracked.
    pub fn remove(&mut self, entity: EntityId) -> bool {
        self.demote(entity);
        let place = self.places.remove(&entity);
        self.profiles_free.extend(place);
        place.is_some()
    }

    /// Keeps the entity's hours, from the next one that is recorded. False if they are kept already.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::HourlyFull`].
    pub fn promote(&mut self, entity: EntityId) -> Result<bool, Refused> {
        let place = *self.places.get(&entity).ok_or(Refused::Unknown { entity })?;
        if self.profile(place).ring != NO_RING {
            return Ok(false);
        }
        if self.hourly_count() >= self.capacity.hourly {
            return Err(Refused::HourlyFull { hourly: self.capacity.hourly });
        }
        let ring = Ring::new(self.capacity.hours);
        let at = self.rings_free.pop().unwrap_or_else(|| {
            self.rings.push(None);
            number(self.rings.len() - 1)
        });
        self.rings[at as usize] = Some(ring);
        self.profile_mut(place).ring = at;
        Ok(true)
    }

    /// Drops the entity's hours and keeps its profile. False if there were none.
    pub fn demote(&mut self, entity: EntityId) -> bool {
        let Some(&place) = self.places.get(&entity) else { return false };
        let ring = std::mem::replace(&mut self.profile_mut(place).ring, NO_RING);
        if ring == NO_RING {
            return false;
        }
        self.rings[ring as usize] = None;
        self.rings_free.push(ring);
        true
    }

    /// Takes one hour of one entity. Cheapest in the order of the entities' numbers.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Late`].
    pub fn record(&mut self, hour: i64, entity: EntityId, loads: &Loads) -> Result<(), Refused> {
        let place = *self.places.get(&entity).ok_or(Refused::Unknown { entity })?;
        let profile = self.profile_mut(place);
        if hour < profile.next {
            return Err(Refused::Late { entity, hour, next: profile.next });
        }
        let codes = codes(profile, hour, loads);
        profile.learn(hour, codes);
        let ring = profile.ring;
        if ring != NO_RING
            && let Some(ring) = &mut self.rings[ring as usize]
        {
            ring.push(hour, codes);
        }
        self.end = Some(self.end.map_or(hour + 1, |end| end.max(hour + 1)));
        Ok(())
    }

    /// The tracked entities, in the order of their numbers.
    pub fn entities(&self) -> impl Iterator<Item = EntityId> {
        self.places.keys().copied()
    }

    /// Those whose hours are kept, in the order of their numbers.
    pub fn hourly(&self) -> impl Iterator<Item = EntityId> {
        let hourly = self.places.iter().filter(|entry| self.profile(*entry.1).ring != NO_RING);
        hourly.map(|entry| *entry.0)
    }

    /// How many entities are tracked.
    #[must_use]
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Of how many the hours are kept.
    #[must_use]
    pub const fn hourly_count(&self) -> usize {
        self.rings.len() - self.rings_free.len()
    }

    /// The first hour of which nothing is known of anybody; none before the first hour.
    #[must_use]
    pub const fn end(&self) -> Option<i64> {
        self.end
    }

    /// The kept hours of an entity, up to [`Store::end`]; of stored bytes, the totals. None unless hours are kept.
    #[must_use]
    pub fn series(&self, entity: EntityId, metric: Metric) -> Option<Series> {
        let (profile, ring) = self.ring(entity)?;
        let logs = if metric == Metric::StoredBytes {
            growth::totals(ring, profile.stored)
        } else {
            ring.codes(metric).map(scale::log).collect()
        };
        Some(self.hours_of(ring, logs))
    }

    /// How the entity's stored bytes grew. None unless hours are kept.
    #[must_use]
    pub fn growth(&self, entity: EntityId) -> Option<Growth> {
        let (profile, ring) = self.ring(entity)?;
        let [grown, shrunk] = growth::sides(ring).map(|logs| self.hours_of(ring, logs));
        Some(Growth { grown, shrunk, last: profile.stored })
    }

    /// What the entity is like. None unless it is tracked.
    #[must_use]
    pub fn typical(&self, entity: EntityId) -> Option<Typical<'_>> {
        self.places.get(&entity).map(|&place| Typical::new(self.profile(place)))
    }

    /// Bytes of memory that are taken, with what is set aside.
    ///
    /// The map of places is counted as if its nodes were half full, which is the least they may be.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// A leaf of a B-tree map: eleven keys and values at most, five at least, and its parent.
        const PLACE_BYTES: usize = (11 * (size_of::<EntityId>() + size_of::<u32>()) + 16) / 5;
        let profiles: usize = self.profiles.iter().map(|chunk| chunk.capacity() * size_of::<Profile>()).sum();
        let rings: usize = self.rings.iter().flatten().map(Ring::bytes).sum();
        let numbers = self.profiles_free.capacity() + self.rings_free.capacity();
        profiles
            + rings
            + self.rings.capacity() * size_of::<Option<Ring>>()
            + self.places.len() * PLACE_BYTES
            + numbers * size_of::<u32>()
            + self.profiles.capacity() * size_of::<Vec<Profile>>()
    }

    fn ring(&self, entity: EntityId) -> Option<(&Profile, &Ring)> {
        let profile = self.profile(*self.places.get(&entity)?);
        let ring = self.rings.get(profile.ring as usize)?.as_ref()?;
        Some((profile, ring))
    }

    /// A series of a ring's hours, with the gaps behind them.
    fn hours_of(&self, ring: &Ring, logs: Vec<f32>) -> Series {
        let end = self.end.unwrap_or(0);
        let mut series = Series::from_logs(ring.begin().unwrap_or(end), logs);
        series.pad_to(end);
        series
    }

    /// A place that was never used.
    fn grow(&mut self) -> u32 {
        let place = self.places.len() + self.profiles_free.len();
        if place.is_multiple_of(CHUNK) {
            let left = self.capacity.entities.saturating_sub(place);
            self.profiles.push(Vec::with_capacity(left.min(CHUNK)));
        }
        if let Some(chunk) = self.profiles.last_mut() {
            chunk.push(Profile::new(EntityId(0)));
        }
        number(place)
    }

    fn profile(&self, place: u32) -> &Profile {
        &self.profiles[place as usize / CHUNK][place as usize % CHUNK]
    }

    fn profile_mut(&mut self, place: u32) -> &mut Profile {
        &mut self.profiles[place as usize / CHUNK][place as usize % CHUNK]
    }
}

/// Profiles taken at once: 1 MiB.
const CHUNK: usize = 1024;

/// What an hour is kept as. Its stored bytes become the growth of each hour since they were last known.
fn codes(profile: &mut Profile, hour: i64, loads: &Loads) -> Codes {
    let mut codes = Metric::ALL.map(|metric| scale::code(metric, loads.get(metric)));
    let stored = loads.get(Metric::StoredBytes);
    let is_known = stored.is_finite() && stored >= 0.0;
    codes[Metric::StoredBytes as usize] = scale::GAP;
    if is_known {
        let stored = stored.min(crate::series::LOAD_MAX);
        let growth = (stored - profile.stored) / (hour - profile.stored_hour) as f64;
        codes[Metric::StoredBytes as usize] = scale::code(Metric::StoredBytes, growth);
        (profile.stored, profile.stored_hour) = (stored, hour);
    }
    codes
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("bounded by the capacity")
}
