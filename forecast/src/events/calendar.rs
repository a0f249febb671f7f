//! The announced events, and those of one entity.

use std::collections::BTreeMap;

use crate::DAY;

/// Kinds that a calendar may have: an effect is learnt of each, from many events. A set of them is a word of bits.
pub const KINDS_MAX: usize = u64::BITS as usize;
/// Different patterns with `*` or `?`: each is held against each entity's name. Plain names are free.
pub const PATTERNS_MAX: usize = 10_000;
/// Events of a calendar: a bound on its memory.
pub const EVENTS_MAX: usize = 1_000_000;
/// Hours of one event: a year. What is longer is how things are.
pub const LENGTH_MAX: i64 = 366 * DAY as i64;

/// Hours before an event that it may act on: demand held back, or the eve of a holiday.
pub(super) const BEFORE: usize = 6;
/// Hours after its end.
pub(super) const AFTER: usize = 6;
/// Its first hours have an effect each; then each hour of its later days has that of its second day.
const HOURLY: usize = 2 * DAY;
/// Hours of an event, and around it, that are told apart.
pub(super) const PLACES: usize = BEFORE + HOURLY + AFTER;

/// One announced event; times are Unix hours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Events of one kind are expected to act alike.
    pub kind: String,
    /// Whom it concerns: a name, in which `*` stands for any characters and `?` for any one.
    pub entities: String,
    /// Its first hour.
    pub from: i64,
    /// The hour after its last.
    pub to: i64,
    /// It was known when this hour began.
    pub announced: i64,
}

impl Event {
    /// Whether it concerns the entity of this name.
    #[must_use]
    pub fn concerns(&self, entity: &str) -> bool {
        matches(&self.entities, entity)
    }
}

/// Why an event cannot be in a calendar.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EventError {
    /// It has no kind.
    #[error("the event has no kind")]
    NoKind,
    /// It has no entities.
    #[error("the event has no pattern of entities; * means all")]
    NoEntities,
    /// It has no hour.
    #[error("the event ends at {to}, which is not after its begin at {from} (Unix hours)")]
    Empty {
        /// Its first hour.
        from: i64,
        /// The hour after its last.
        to: i64,
    },
    /// It is longer than [`LENGTH_MAX`].
    #[error("the event has {hours} hours, at most {LENGTH_MAX} are possible")]
    TooLong {
        /// Its hours.
        hours: i64,
    },
    /// There are more than [`KINDS_MAX`].
    #[error("{kind:?} is one kind more than the {KINDS_MAX} that are possible")]
    TooManyKinds {
        /// The kind that is too much.
        kind: String,
    },
    /// There are more than [`PATTERNS_MAX`].
    #[error("{pattern:?} is one pattern with * or ? more than the {PATTERNS_MAX} that are possible")]
    TooManyPatterns {
        /// The pattern that is too much.
        pattern: String,
    },
    /// There are more than [`EVENTS_MAX`].
    #[error("a calendar has at most {EVENTS_MAX} events")]
    TooMany,
}

/// What was announced.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    kinds: BTreeMap<String, usize>,
    plain: BTreeMap<String, Vec<Dated>>,
    patterns: BTreeMap<String, Vec<Dated>>,
    count: usize,
}

impl Calendar {
    /// Puts an event in.
    ///
    /// # Errors
    /// When the event makes no sense or is one too many; the calendar is then as before.
    pub fn add(&mut self, event: &Event) -> Result<(), EventError> {
        let Event { kind, entities, from, to, announced } = event;
        let hours = to.saturating_sub(*from);
        if kind.is_empty() {
            return Err(EventError::NoKind);
        } else if entities.is_empty() {
            return Err(EventError::NoEntities);
        } else if hours <= 0 {
            return Err(EventError::Empty { from: *from, to: *to });
        } else if hours > LENGTH_MAX {
            return Err(EventError::TooLong { hours });
        } else if self.count == EVENTS_MAX {
            return Err(EventError::TooMany);
        } else if !self.kinds.contains_key(kind) && self.kinds.len() == KINDS_MAX {
            return Err(EventError::TooManyKinds { kind: kind.clone() });
        }
        let of = if entities.contains(['*', '?']) {
            if !self.patterns.contains_key(entities) && self.patterns.len() == PATTERNS_MAX {
                return Err(EventError::TooManyPatterns { pattern: entities.clone() });
            }
            &mut self.patterns
        } else {
            &mut self.plain
        };
        let next = self.kinds.len();
        let kind = *self.kinds.entry(kind.clone()).or_insert(next);
        let dated = Dated { from: *from, to: *to, announced: *announced, kind };
        of.entry(entities.clone()).or_default().push(dated);
        self.count += 1;
        Ok(())
    }

    /// How many events there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The events of one entity.
    #[must_use]
    pub fn of(&self, entity: &str) -> Dates {
        let matching = self.patterns.iter().filter(|(pattern, _)| matches(pattern, entity));
        let mut events: Vec<Dated> = matching.flat_map(|(_, events)| events).copied().collect();
        events.extend(self.plain.get(entity).into_iter().flatten());
        events.sort_unstable();
        let longest = events.iter().map(|event| event.to - event.from).max().unwrap_or(0);
        Dates { events, longest }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Dated {
    from: i64,
    to: i64,
    announced: i64,
    kind: usize,
}

/// The events of one entity.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dates {
    /// By their begin.
    events: Vec<Dated>,
    longest: i64,
}

/// What acts on an hour: a place of an event of a kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) kind: usize,
    /// Less than [`PLACES`].
    pub(super) hour: usize,
}

impl Dates {
    /// Whether the entity has no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether an event is on in an hour, as known when `known_at` began.
    #[must_use]
    pub fn is_on(&self, hour: i64, known_at: i64) -> bool {
        self.near(hour, known_at).any(|event| event.is_on(hour))
    }

    /// Whether an event is on, of a kind of which the entity had none before.
    #[must_use]
    pub fn is_first_on(&self, hour: i64, known_at: i64) -> bool {
        self.near(hour, known_at).filter(|event| event.is_on(hour)).any(|event| {
            let earlier = self.events.iter().take_while(|other| other.from < event.from);
            !earlier.into_iter().any(|other| other.kind == event.kind)
        })
    }

    /// What acts on an hour, as known when `known_at` began: events that are on, else those close by; of events of one kind,
    /// the one that began last.
    pub(super) fn acting(&self, hour: i64, known_at: i64, mut act: impl FnMut(Place)) {
        if self.near(hour, known_at).next().is_none() {
            return;
        }
        let any_on = self.is_on(hour, known_at);
        let mut kinds = 0_u64;
        for event in self.near(hour, known_at).filter(|event| event.is_on(hour) == any_on) {
            if kinds & (1 << event.kind) == 0 {
                kinds |= 1 << event.kind;
                act(Place { kind: event.kind, hour: event.place(hour) });
            }
        }
    }

    /// The hours that events act on, known or not, each once.
    pub(super) fn hours(&self) -> Vec<i64> {
        let around = |event: &Dated| event.from - BEFORE as i64..event.to + AFTER as i64;
        let mut hours: Vec<i64> = self.events.iter().flat_map(around).collect();
        hours.sort_unstable();
        hours.dedup();
        hours
    }

    /// When the first event of those near the hour was announced.
    pub(super) fn announced(&self, hour: i64) -> i64 {
        self.near(hour, i64::MAX).map(|event| event.announced).min().unwrap_or(i64::MAX)
    }

    /// Events that are on in the hour or not far from it, the latest first.
    fn near(&self, hour: i64, known_at: i64) -> impl Iterator<Item = &Dated> {
        let begun = self.events.partition_point(|event| event.from <= hour + BEFORE as i64);
        let begins_after = hour - AFTER as i64 - self.longest;
        self.events[..begun]
            .iter()
            .rev()
            .take_while(move |event| event.from >= begins_after)
            .filter(move |event| event.announced <= known_at && hour < event.to + AFTER as i64)
    }
}

impl Dated {
    const fn is_on(&self, hour: i64) -> bool {
        self.from <= hour && hour < self.to
    }

    /// Of an hour that is near.
    fn place(&self, hour: i64) -> usize {
        let since = |from: i64| usize::try_from(hour - from).unwrap_or(0);
        let place = if hour < self.from {
            since(self.from - BEFORE as i64)
        } else if hour < self.to {
            let hours = since(self.from);
            BEFORE + if hours < HOURLY { hours } else { HOURLY - DAY + hours % DAY }
        } else {
            BEFORE + HOURLY + since(self.to)
        };
        assert!(place < PLACES, "hour {hour} is not near the event");
        place
    }
}

/// Whether `text` is of the pattern: `*` any characters, `?` any one. After a mismatch, the last `*` takes one more.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, of));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[of] => (at, of) = (at + 1, of + 1),
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                (at, of) = (after, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, entities: &str, from: i64, to: i64, announced: i64) -> Event {
        Event { kind: kind.to_owned(), entities: entities.to_owned(), from, to, announced }
    }

    fn acting(dates: &Dates, hour: i64, known_at: i64) -> Vec<(usize, usize)> {
        let mut places = Vec::new();
        dates.acting(hour, known_at, |place| places.push((place.kind, place.hour)));
        places
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in
            [("a", "a"), ("*", ""), ("*", "x"), ("a*c", "abbc"), ("a*b*c", "axbybzc"), ("?é*", "aé")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("a", "ab"), ("ab", "a"), ("a*c", "abcd"), ("?", ""), ("a*b*c", "acb"), ("", "x")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn an_hour_has_its_place_before_in_and_after_an_event() {
        let mut calendar = Calendar::default();
        calendar.add(&event("sale", "shop:*", 1000, 1100, 900)).unwrap();
        let dates = calendar.of("shop:1");
        assert!(calendar.of("other").is_empty());
        let expected = [
            (993, vec![]),
            (994, vec![0]),
            (999, vec![5]),
            (1000, vec![6]),
            (1047, vec![53]),
            (1048, vec![30]),
            (1099, vec![33]),
            (1100, vec![54]),
            (1105, vec![59]),
            (1106, vec![]),
        ];
        for (hour, places) in expected {
            let found: Vec<usize> = acting(&dates, hour, 900).into_iter().map(|place| place.1).collect();
            assert_eq!(found, places, "hour {hour}");
            assert_eq!(acting(&dates, hour, 899), [], "hour {hour} before the announcement");
        }
    }

    #[test]
    fn events_that_are_on_hide_those_close_by_and_one_of_a_kind_acts() {
        let mut calendar = Calendar::default();
        for event in
            [event("a", "x", 100, 200, 0), event("a", "x", 150, 160, 0), event("b", "?", 152, 158, 0)]
        {
            calendar.add(&event).unwrap();
        }
        let dates = calendar.of("x");
        assert_eq!(acting(&dates, 98, 0), [(0, 4)]);
        assert_eq!(acting(&dates, 149, 0), [(0, 30 + 1)], "before the second, which is not on");
        assert_eq!(acting(&dates, 155, 0), [(1, 9), (0, 11)], "the second of a, and b");
        assert_eq!(acting(&dates, 161, 0), [(0, 30 + 13)], "the first again");
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let mut calendar = Calendar::default();
        assert_eq!(calendar.add(&event("", "x", 1, 2, 0)), Err(EventError::NoKind));
        assert_eq!(calendar.add(&event("a", "", 1, 2, 0)), Err(EventError::NoEntities));
        assert_eq!(calendar.add(&event("a", "x", 2, 2, 0)), Err(EventError::Empty { from: 2, to: 2 }));
        let endless = calendar.add(&event("a", "x", i64::MIN, i64::MAX, 0));
        assert_eq!(endless, Err(EventError::TooLong { hours: i64::MAX }));
        for kind in 0..KINDS_MAX {
            calendar.add(&event(&kind.to_string(), "x", 1, 2, 0)).unwrap();
        }
        let kind = "more".to_owned();
        assert_eq!(calendar.add(&event("more", "x", 1, 2, 0)), Err(EventError::TooManyKinds { kind }));
        assert_eq!(calendar.len(), KINDS_MAX);
    }
}
