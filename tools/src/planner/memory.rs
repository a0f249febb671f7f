//! What operators told the planner: events, and entities that stay where they are.

use std::collections::BTreeMap;

use foreshard_forecast::events::{Calendar, Event};
use foreshard_placement::Hold;
use foreshard_placement::forecasts::Told;
use serde::{Deserialize, Serialize};

/// Events that are remembered.
const EVENTS_MAX: usize = 10_000;
/// Nothing makes more.
const FACTOR_MAX: f64 = 1000.0;
/// Entities that are held.
const HELD_MAX: usize = 100_000;

/// An event, by its name. Times are Unix hours.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// Events of one kind are expected to do alike; none: its own name is its kind.
    #[serde(default)]
    pub(crate) kind: String,
    /// Whom it concerns; `*` and `?` stand for other characters.
    pub(crate) entities: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// When it was known; none: when it was told.
    #[serde(default)]
    pub(crate) announced: Option<i64>,
    /// How many times as much it will make, if somebody knows; none: what events of its kind did.
    #[serde(default)]
    pub(crate) factor: Option<f64>,
}

/// Why an entity stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Held {
    Pinned,
    Excluded,
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    pub(crate) paused: bool,
    pub(crate) events: BTreeMap<String, Named>,
    pub(crate) held: BTreeMap<String, Held>,
}

impl Named {
    fn event(&self) -> Event {
        let kind = if self.kind.is_empty() { &self.name } else { &self.kind };
        Event {
            kind: kind.clone(),
            entities: self.entities.clone(),
            from: self.from,
            to: self.to,
            announced: self.announced.unwrap_or(self.from),
        }
    }
}

impl From<Held> for Hold {
    fn from(held: Held) -> Self {
        match held {
            Held::Pinned => Self::Pinned,
            Held::Excluded => Self::Excluded,
        }
    }
}

impl Memory {
    /// Remembers an event, told in this hour.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn add(&mut self, mut event: Named, hour: i64) -> Result<(), String> {
        if event.name.is_empty() {
            return Err("the event has no name: give it one, by which it can be removed".to_owned());
        }
        if self.events.len() >= EVENTS_MAX && !self.events.contains_key(&event.name) {
            return Err(format!("{EVENTS_MAX} events are remembered, the most there may be: remove some"));
        }
        if let Some(factor) = event.factor
            && !(factor.is_finite() && (0.0..=FACTOR_MAX).contains(&factor))
        {
            return Err(format!(
                "event {}: a factor of {factor} is not between 0 and {FACTOR_MAX}",
                event.name
            ));
        }
        event.announced = Some(event.announced.unwrap_or(hour));
        let before = self.events.insert(event.name.clone(), event.clone());
        if let Err(e) = self.calendar() {
            match before {
                Some(before) => self.events.insert(event.name, before),
                None => self.events.remove(&event.name),
            };
            return Err(e);
        }
        Ok(())
    }

    /// All events.
    ///
    /// # Errors
    /// Which one makes no sense.
    pub(crate) fn calendar(&self) -> Result<Calendar, String> {
        let mut calendar = Calendar::default();
        for event in self.events.values() {
            calendar.add(&event.event()).map_err(|e| format!("event {}: {e}", event.name))?;
        }
        Ok(calendar)
    }

    /// What somebody says that events will do, of those that were announced by `hour`.
    pub(crate) fn told(&self, hour: i64) -> Vec<Told> {
        let known =
            self.events.values().filter(|named| named.announced.is_none_or(|announced| announced <= hour));
        known.filter_map(|named| Some(Told { event: named.event(), factor: named.factor? })).collect()
    }

    /// The events that concern an entity.
    pub(crate) fn of<'a>(&'a self, entity: &'a str) -> impl Iterator<Item = &'a Named> {
        self.events.values().filter(move |event| event.event().concerns(entity))
    }

    /// Holds an entity where it is, or lets it go.
    ///
    /// # Errors
    /// When too many are held.
    pub(crate) fn hold(&mut self, entity: &str, held: Option<Held>) -> Result<(), String> {
        let Some(held) = held else {
            self.held.remove(entity);
            return Ok(());
        };
        if self.held.len() >= HELD_MAX && !self.held.contains_key(entity) {
            return Err(format!("{HELD_MAX} entities are held, the most there may be: let some go"));
        }
        self.held.insert(entity.to_owned(), held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, from: i64, to: i64) -> Named {
        let (name, kind, entities) = (name.to_owned(), String::new(), "shop:*".to_owned());
        Named { name, kind, entities, from, to, announced: None, factor: None }
    }

    #[test]
    fn an_event_that_makes_no_sense_leaves_everything_as_it_was() {
        let mut memory = Memory::default();
        memory.add(named("sale", 10, 14), 5).unwrap();
        assert!(memory.add(named("sale", 14, 10), 5).unwrap_err().contains("not after its begin"));
        assert!(memory.add(named("", 1, 2), 5).is_err());
        assert!(
            memory.add(Named { factor: Some(-1.0), ..named("x", 1, 2) }, 5).unwrap_err().contains("factor")
        );
        memory.add(Named { factor: Some(3.0), announced: Some(6), ..named("launch", 20, 22) }, 5).unwrap();
        assert_eq!((memory.told(5).len(), memory.told(6)[0].factor), (0, 3.0));
        memory.events.remove("launch");
        assert_eq!(memory.events["sale"].announced, Some(5));
        assert_eq!((memory.calendar().unwrap().len(), memory.of("shop:7").count()), (1, 1));
        assert_eq!(memory.of("cafe:7").count(), 0);
    }

    #[test]
    fn who_is_held_is_let_go_again() {
        let mut memory = Memory::default();
        memory.hold("a", Some(Held::Pinned)).unwrap();
        assert_eq!(memory.held["a"], Held::Pinned);
        memory.hold("a", None).unwrap();
        assert!(memory.held.is_empty());
    }
}
