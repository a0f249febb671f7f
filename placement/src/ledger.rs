//! What was said, what was done, and what then happened.
//!
//! Of forecasts it keeps how far off they were, [`LEAD`] hours ahead, beside the same hour of the day before; both fade over
//! days. A subject that does worse in life than its day before is to be demoted; then what its last days say is judged in place of
//! its model, and as that does not fall behind the day before, the model is tried again. Of moves it keeps why, what they cost,
//! and whether the source would have been over its capacity without them in the hours that they were for: the loads that came,
//! placed as they were before.
//!
//! Invariant: memory is bounded by [`MOVES_MAX`], and by [`LEAD`] forecasts of each subject.

use std::collections::{BTreeMap, VecDeque};

use foreshard_forecast::store::EntityId;

use crate::forecasts::Subject;

/// Hours ahead that forecasts are judged at: time enough to act on.
pub const LEAD: usize = 6;
/// Hours from the one that a move was for on in which it may prove to have been needed: the first hour of an overload is its
/// edge.
const JUDGED_HOURS: i64 = 6;
/// Moves that are remembered.
pub const MOVES_MAX: usize = 1000;
/// Part of a record that an hour leaves of it: half is gone after a day and a half.
const MEMORY: f64 = 0.98;
/// Hours, with what fading leaves of them, that a judgement needs.
const HOURS_MIN: f64 = 12.0;
/// Worse than the day before by so much is worse.
const WORSE: f64 = 1.1;

/// How a move ends that was not stopped.
const DONE: &str = "done";

/// What was said of an hour.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Said {
    /// Which hour.
    pub hour: i64,
    /// One in ten is less.
    pub q10: f64,
    /// Half is less.
    pub q50: f64,
    /// One in ten is more.
    pub q90: f64,
    /// What the day before had, if it is known.
    pub day_before: Option<f64>,
}

/// How good forecasts of a subject were; sums, which fade.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Record {
    /// Hours.
    pub hours: f64,
    /// Absolute errors of the median.
    pub error: f64,
    /// And of the day before.
    pub day_before_error: f64,
    /// Hours that lay within the inner 80 %.
    pub inside: f64,
}

/// Why an entity moves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Why {
    /// A plan says so.
    Planned {
        /// The migration score.
        score: f64,
        /// Overload avoided, in hours.
        avoided: f64,
        /// What it costs, likewise.
        cost: f64,
        /// The first hour whose overload it avoids.
        needed: i64,
    },
    /// Its partition was too busy, and nobody had seen that coming.
    Reactive,
    /// Its home has room again.
    Homeward,
    /// It joins those that it is named together with.
    Joining {
        /// By how much its tie is stronger there, in shares of its commands.
        gain: f64,
    },
    /// It fared worse where it had gone, and goes back.
    Back {
        /// The move that is taken back.
        of: u64,
    },
}

/// A move that was begun.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The engine's number of it.
    pub id: u64,
    /// What moves.
    pub entity: EntityId,
    /// Its name.
    pub name: Vec<u8>,
    /// From which partition.
    pub from: u32,
    /// To which.
    pub to: u32,
    /// Why.
    pub why: Why,
    /// When it began, in hours.
    pub began: f64,
    /// How it ended.
    pub ended: Option<Ended>,
    /// What then happened.
    pub judged: Option<Judged>,
    /// What became worse for it, if anything did, as the shard that it went to saw it.
    pub worse: Option<String>,
}

/// How a move ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Ended {
    /// When, in hours.
    pub at: f64,
    /// In a word: done, cancelled, failed, rejected by its shadow.
    pub how: String,
    /// Bytes that were copied or linked.
    pub bytes: u64,
    /// Seconds that requests waited at most.
    pub pause: f64,
}

/// What happened in the hour that a move was for; requests a second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Judged {
    /// What the source had.
    pub source: f64,
    /// What it would have had with all that left it for these hours.
    pub source_without: f64,
    /// What the target had.
    pub target: f64,
    /// What the source can do.
    pub capacity: f64,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Ledger {
    said: BTreeMap<Subject, VecDeque<Said>>,
    records: BTreeMap<Subject, Record>,
    all: Record,
    moves: VecDeque<Entry>,
}

impl Record {
    /// The median's error, of the day before's; below 1 it is better.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let ratio = self.error / self.day_before_error;
        (self.hours >= HOURS_MIN && ratio.is_finite()).then_some(ratio)
    }

    fn fade(&mut self) {
        for sum in [&mut self.hours, &mut self.error, &mut self.day_before_error, &mut self.inside] {
            *sum *= MEMORY;
        }
    }

    fn add(&mut self, said: &Said, day_before: f64, load: f64) {
        self.hours += 1.0;
        self.error += (said.q50 - load).abs();
        self.day_before_error += (day_before - load).abs();
        self.inside += f64::from(u8::from((said.q10..=said.q90).contains(&load)));
    }
}

impl Entry {
    fn is_judged_by(&self, hour: i64) -> bool {
        let is_its = matches!(self.why, Why::Planned { needed, .. } if (needed..needed + JUDGED_HOURS).contains(&hour));
        is_its && self.ended.as_ref().is_some_and(Ended::is_done)
    }
}

impl Ended {
    /// Whether it came to its end, and was not stopped.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.how == DONE
    }
}

impl Judged {
    /// Whether the source would have been over its capacity without the move.
    #[must_use]
    pub fn was_needed(&self) -> bool {
        self.source_without > self.capacity
    }
}

impl Ledger {
    /// Keeps what is said of a subject.
    pub fn say(&mut self, subject: Subject, said: Said) {
        let all = self.said.entry(subject).or_default();
        all.push_back(said);
        if all.len() > LEAD + 1 {
            all.pop_front();
        }
    }

    /// An hour is over, in which each subject had so much: its forecasts are judged.
    pub fn happened(&mut self, hour: i64, loads: impl IntoIterator<Item = (Subject, f64)>) {
        self.all.fade();
        self.records.values_mut().for_each(Record::fade);
        for (subject, load) in loads {
            let Some(all) = self.said.get_mut(&subject) else { continue };
            while all.front().is_some_and(|said| said.hour < hour) {
                all.pop_front();
            }
            let Some(said) = all.pop_front_if(|said| said.hour == hour) else { continue };
            if let Some(day_before) = said.day_before {
                self.records.entry(subject).or_default().add(&said, day_before, load);
                self.all.add(&said, day_before, load);
            }
        }
    }

    /// Forgets whoever is not followed any more.
    pub fn keep(&mut self, is_followed: impl Fn(Subject) -> bool) {
        self.said.retain(|subject, _| is_followed(*subject));
        self.records.retain(|subject, _| is_followed(*subject));
    }

    /// How good forecasts of a subject were.
    #[must_use]
    pub fn record(&self, subject: Subject) -> Record {
        self.records.get(&subject).copied().unwrap_or_default()
    }

    /// How good all forecasts were.
    #[must_use]
    pub const fn all(&self) -> Record {
        self.all
    }

    /// Whether the model of a subject does clearly worse than the day before.
    #[must_use]
    pub fn is_worse(&self, subject: Subject) -> bool {
        self.record(subject).ratio().is_some_and(|ratio| ratio > WORSE)
    }

    /// A move began.
    pub fn begin(&mut self, entry: Entry) {
        self.moves.push_back(entry);
        if self.moves.len() > MOVES_MAX {
            self.moves.pop_front();
        }
    }

    /// Moves that have not ended.
    pub fn open(&self) -> impl Iterator<Item = &Entry> {
        self.moves.iter().filter(|entry| entry.ended.is_none())
    }

    /// A move ended.
    pub fn end(&mut self, id: u64, ended: Ended) {
        if let Some(entry) = self.moves.iter_mut().find(|entry| entry.id == id) {
            entry.ended = Some(ended);
        }
    }

    /// Moves that were done since, in hours: how their entities fare may still be seen.
    pub fn watched(&self, since: f64) -> impl Iterator<Item = &Entry> {
        let is_recent = move |ended: &Ended| ended.is_done() && ended.at >= since;
        self.moves.iter().filter(move |entry| entry.ended.as_ref().is_some_and(is_recent))
    }

    /// An entity fares worse since its move. Says whether that is news.
    pub fn worsened(&mut self, id: u64, what: &str) -> bool {
        let entry = self.moves.iter_mut().find(|entry| entry.id == id && entry.worse.is_none());
        entry.map(|entry| entry.worse = Some(what.to_owned())).is_some()
    }

    /// Moves after which their entities fared worse, and nothing was done about that: each is taken back once, however that
    /// ends, and what was taken back is not.
    pub fn to_take_back(&self) -> impl Iterator<Item = &Entry> {
        let is_done = |entry: &Entry| entry.ended.as_ref().is_some_and(Ended::is_done);
        let mut last: BTreeMap<EntityId, &Entry> = BTreeMap::new();
        for entry in &self.moves {
            last.insert(entry.entity, entry);
        }
        let is_wanted = move |entry: &&Entry| {
            entry.worse.is_some() && is_done(entry) && !matches!(entry.why, Why::Back { .. })
        };
        last.into_values().filter(is_wanted)
    }

    /// Moves that are judged by an hour: planned, done, and for it or one of the few hours before it.
    pub fn judged_by(&self, hour: i64) -> impl Iterator<Item = &Entry> {
        self.moves.iter().filter(move |entry| entry.is_judged_by(hour))
    }

    /// An hour is over that moves were for: `loads` says what source and target had, and what the source can do. Of the hours that a
    /// move is judged by, the one in which its source would have been worst counts.
    pub fn judge(&mut self, hour: i64, loads: impl Fn(&Entry) -> Option<Judged>) {
        for entry in self.moves.iter_mut().filter(|entry| entry.is_judged_by(hour)) {
            let Some(judged) = loads(entry) else { continue };
            if entry.judged.is_none_or(|before| before.source_without < judged.source_without) {
                entry.judged = Some(judged);
            }
        }
    }

    /// Of the planned moves that were judged, the part that turned out to be needless.
    #[must_use]
    pub fn wasted(&self) -> f64 {
        let judged = self.moves.iter().filter_map(|entry| entry.judged);
        let (wasted, all) = judged.fold((0.0, 0.0), |(wasted, all), judged| {
            (wasted + f64::from(u8::from(!judged.was_needed())), all + 1.0)
        });
        if all > 0.0 { wasted / all } else { 0.0 }
    }

    /// The moves, oldest first.
    pub fn moves(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.moves.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject::Entity(EntityId(1));

    fn said(hour: i64, median: f64) -> Said {
        Said { hour, q10: median - 10.0, q50: median, q90: median + 10.0, day_before: Some(100.0) }
    }

    #[test]
    fn who_does_worse_than_the_day_before_is_told_within_two_days() {
        for (median, is_worse) in [(300.0, true), (110.0, false)] {
            let mut ledger = Ledger::default();
            for hour in 0..48 {
                ledger.say(SUBJECT, said(hour + LEAD as i64, median));
                ledger.happened(hour, [(SUBJECT, 115.0)]);
            }
            assert_eq!(ledger.is_worse(SUBJECT), is_worse, "{:?}", ledger.record(SUBJECT));
            let record = ledger.record(SUBJECT);
            assert_eq!(record.inside > 0.99 * record.hours, !is_worse);
        }
    }

    #[test]
    fn hours_that_nobody_foretold_judge_nothing() {
        let mut ledger = Ledger::default();
        ledger.happened(3, [(SUBJECT, 1.0)]);
        ledger.say(SUBJECT, said(5, 1.0));
        ledger.happened(4, [(SUBJECT, 1.0)]);
        ledger.happened(6, [(SUBJECT, 1.0)]);
        assert_eq!(ledger.record(SUBJECT), Record::default());
        ledger.keep(|_| false);
        assert!(ledger.said.is_empty());
    }

    #[test]
    fn a_move_is_judged_by_the_hour_that_it_was_for() {
        let mut ledger = Ledger::default();
        for (id, needed) in [(1, 10), (2, 11)] {
            let why = Why::Planned { score: 0.5, avoided: 1.0, cost: 0.1, needed };
            let (entity, name) = (EntityId(id), Vec::new());
            ledger.begin(Entry {
                id,
                entity,
                name,
                from: 0,
                to: 1,
                why,
                began: 8.0,
                ended: None,
                judged: None,
                worse: None,
            });
            ledger.end(id, Ended { at: 8.5, how: "done".to_owned(), bytes: 1, pause: 0.001 });
        }
        assert_eq!(ledger.open().count(), 0);
        let loads = |without| Judged { source: 60.0, source_without: without, target: 50.0, capacity: 100.0 };
        ledger.judge(10, |_| Some(loads(120.0)));
        assert_eq!(ledger.wasted(), 0.0);
        ledger.judge(11, |_| Some(loads(90.0)));
        assert_eq!(ledger.wasted(), 0.5, "the worst hour of the first one counts");
        assert_eq!((ledger.judged_by(15).count(), ledger.judged_by(16).count()), (2, 1));
        assert_eq!(ledger.moves().filter(|entry| entry.judged.is_some()).count(), 2);
    }

    #[test]
    fn a_move_that_made_it_worse_is_taken_back_once_and_what_was_taken_back_stays() {
        let mut ledger = Ledger::default();
        let mut moves = 0;
        let mut done = |ledger: &mut Ledger, entity, (from, to), why, how: &str| {
            moves += 1;
            let (id, began, ended) = (moves, 0.0, None);
            let entity = EntityId(entity);
            ledger.begin(Entry {
                id,
                entity,
                name: Vec::new(),
                from,
                to,
                why,
                began,
                ended,
                judged: None,
                worse: None,
            });
            ledger.end(id, Ended { at: 1.0, how: how.to_owned(), bytes: 0, pause: 0.0 });
            id
        };
        let back = |ledger: &Ledger| ledger.to_take_back().map(|entry| entry.id).collect::<Vec<u64>>();
        let well = done(&mut ledger, 1, (0, 1), Why::Reactive, "done");
        let worse = done(&mut ledger, 2, (0, 1), Why::Reactive, "done");
        let failed = done(&mut ledger, 3, (0, 1), Why::Reactive, "failed");
        assert!(ledger.worsened(worse, "p99 9 ms, before 1 ms") && ledger.worsened(failed, "x"));
        assert!(!ledger.worsened(worse, "again") && !ledger.worsened(99, "of a move that is not known"));
        assert_eq!(back(&ledger), [worse]);
        assert_eq!(ledger.watched(1.0).map(|entry| entry.id).collect::<Vec<u64>>(), [well, worse]);
        assert_eq!(ledger.watched(1.5).count(), 0);

        let returned = done(&mut ledger, 2, (1, 0), Why::Back { of: worse }, "done");
        assert_eq!(back(&ledger), [] as [u64; 0], "it is done");
        ledger.worsened(returned, "p99 9 ms, before 1 ms");
        assert_eq!(back(&ledger), [] as [u64; 0], "it does not go to and fro");

        ledger.worsened(well, "p99 9 ms, before 1 ms");
        assert_eq!(back(&ledger), [well]);
        done(&mut ledger, 1, (1, 0), Why::Back { of: well }, "cancelled");
        assert_eq!(back(&ledger), [] as [u64; 0], "it is tried once");
    }
}
