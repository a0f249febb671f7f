//! What callers of a few keys asked and were answered, and whether each key could have answered so one after the other:
//! linearizability, key by key, by Wing and Gong's search as todc-utils has it.
//!
//! An operation that a crash, or an error that does not say, cut off may have been done at any time since, or never: it ends
//! after everything else, where it changes nothing that anybody saw. A read that was cut off said nothing and is left out, and
//! so is what was certainly not done.
//!
//! The search takes time that grows with what overlaps, and memory with the length: a key is given up after
//! [`OPERATIONS_MAX`], and the next one of its entity takes its place.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::{Client, Error, Transaction};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// Of one key: each step of the search looks through as many.
pub const OPERATIONS_MAX: usize = 100;
pub const ENTITIES: u8 = 4;
/// Keys of an entity that are used at once.
const KEYS: u8 = 2;
/// What makes memtables fill.
const VALUE_BYTES: usize = 90;

/// An operation, with what it answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Get(Option<u64>),
    Set(u64),
    /// Adds one, to nothing as to zero; none: what it answered is not known.
    Add(Option<u64>),
    Delete,
}

/// A register that can be counted up.
struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = Act;

    fn init() -> Self::State {
        None
    }

    fn apply(act: &Act, held: &Self::State) -> (bool, Self::State) {
        let sum = held.unwrap_or(0) + 1;
        match *act {
            Act::Get(seen) => (seen == *held, *held),
            Act::Set(value) => (true, Some(value)),
            Act::Add(answer) if answer.is_some_and(|answer| answer != sum) => (false, *held),
            Act::Add(_) => (true, Some(sum)),
            Act::Delete => (true, None),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// None yet, or none that says what happened.
    Unknown,
    Given,
    /// It was not done.
    Refused,
}

/// What was asked of one key.
#[derive(Clone, Default, Debug)]
pub struct Track {
    acts: Vec<(Act, Answer)>,
    /// Which of them began, or was answered, one after the other.
    order: Vec<usize>,
}

impl Track {
    fn begin(&mut self, act: Act) -> usize {
        self.acts.push((act, Answer::Unknown));
        self.order.push(self.acts.len() - 1);
        self.acts.len() - 1
    }

    fn end(&mut self, n: usize, act: Act, answer: Answer) {
        self.acts[n] = (act, answer);
        self.order.push(n);
    }

    /// Whether one order of all of it explains every answer.
    pub fn is_linearizable(&self) -> bool {
        let mut begun = vec![false; self.acts.len()];
        let (mut actions, mut open) = (Vec::new(), Vec::new());
        // Everybody asks once: an operation that is never answered is in nobody's way.
        for &n in &self.order {
            let is_end = std::mem::replace(&mut begun[n], true);
            match self.acts[n] {
                (_, Answer::Refused) | (Act::Get(_), Answer::Unknown) => {}
                (act, Answer::Given) if is_end => actions.push((n, Action::Response(act))),
                (act, Answer::Given) => actions.push((n, Action::Call(act))),
                (act, Answer::Unknown) if !is_end => {
                    actions.push((n, Action::Call(act)));
                    open.push((n, Action::Response(act)));
                }
                (_, Answer::Unknown) => {}
            }
        }
        actions.append(&mut open);
        actions.is_empty() || WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
    }

    fn told(&self) -> String {
        let mut begun = vec![false; self.acts.len()];
        let mut told = String::new();
        for &n in &self.order {
            let what = if std::mem::replace(&mut begun[n], true) { "ends  " } else { "begins" };
            writeln!(told, "  {n:>3} {what} {:?}", self.acts[n]).unwrap();
        }
        told
    }
}

/// The keys' histories, over all lives of a store.
#[derive(Clone, Default, Debug)]
pub struct Histories {
    tracks: RefCell<BTreeMap<(u8, u32), Track>>,
}

impl Histories {
    /// Operations that were answered, and those that were cut off.
    pub fn counts(&self) -> [u64; 2] {
        let mut counts = [0, 0];
        for (_, answer) in self.tracks.borrow().values().flat_map(|track| &track.acts) {
            match answer {
                Answer::Given => counts[0] += 1,
                Answer::Unknown => counts[1] += 1,
                Answer::Refused => {}
            }
        }
        counts
    }

    /// That every key's answers have an order.
    ///
    /// # Errors
    /// The key whose have none, and what was asked and answered.
    pub fn check(&self) -> Result<(), String> {
        for (key, track) in &*self.tracks.borrow() {
            if !track.is_linearizable() {
                return Err(format!("no order explains what key {key:?} answered:\n{}", track.told()));
            }
        }
        Ok(())
    }

    /// A key that is not given up.
    fn key(&self, random: &mut fastrand::Rng) -> (u8, u32) {
        let (entity, lane) = (random.u8(..ENTITIES), u32::from(random.u8(..KEYS)));
        let tracks = self.tracks.borrow();
        let mut row = lane;
        while tracks.get(&(entity, row)).is_some_and(|track| track.acts.len() >= OPERATIONS_MAX) {
            row += u32::from(KEYS);
        }
        (entity, row)
    }

    fn begin(&self, key: (u8, u32), act: Act) -> usize {
        self.tracks.borrow_mut().entry(key).or_default().begin(act)
    }

    fn end(&self, key: (u8, u32), n: usize, act: Act, answer: Answer) {
        self.tracks.borrow_mut().entry(key).or_default().end(n, act, answer);
    }
}

pub fn entity(n: u8) -> Vec<u8> {
    format!("register:{n}").into_bytes()
}

/// One of those who ask.
pub struct Teller {
    pub client: Client,
    pub runtime: Runtime,
    pub random: fastrand::Rng,
    pub histories: Rc<Histories>,
}

impl Teller {
    /// Asks `count` times, or until something says that the store is gone.
    pub async fn work(&mut self, count: usize) {
        for _ in 0..count {
            if self.random.u8(..4) == 0 {
                self.runtime.sleep(Duration::from_micros(self.random.u64(..2000))).await;
            }
            if !self.ask().await {
                return;
            }
        }
    }

    /// Whether the store is there.
    async fn ask(&mut self) -> bool {
        let key = self.histories.key(&mut self.random);
        let act = match self.random.u8(..10) {
            0..4 => Act::Get(None),
            // No two are the same, and none is what is counted up to from another.
            4..6 => Act::Set(self.random.u64(1..1 << 40) << 20),
            6..9 => Act::Add(None),
            _ => Act::Delete,
        };
        let n = self.histories.begin(key, act);
        let (entity, row) = (entity(key.0), key.1.to_be_bytes());
        let done = match act {
            Act::Get(_) => self.client.get(&entity, &row).await.map(|v| Act::Get(number(v.as_deref()))),
            Act::Set(value) => self.client.put(&entity, &row, &padded(value)).await.map(|()| act),
            Act::Add(_) => self.add(&entity, &row).await.map(|sum| Act::Add(Some(sum))),
            Act::Delete => self.client.delete(&entity, &row).await.map(|()| act),
        };
        let (act, answer) = match done {
            Ok(act) => (act, Answer::Given),
            Err(Error::Conflict | Error::TryAgain(_) | Error::Full(_)) => (act, Answer::Refused),
            Err(_) => return false,
        };
        self.histories.end(key, n, act, answer);
        true
    }

    async fn add(&self, entity: &[u8], row: &[u8]) -> Result<u64, Error> {
        let mut transaction = Transaction::new();
        let held = self.client.get_in(&mut transaction, entity, row).await?;
        let sum = number(held.as_deref()).unwrap_or(0) + 1;
        transaction.put(entity, row, &padded(sum))?;
        self.client.commit(transaction).await.map(|()| sum)
    }
}

fn number(value: Option<&[u8]>) -> Option<u64> {
    value.map(|bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()))
}

fn padded(n: u64) -> Vec<u8> {
    let mut value = n.to_le_bytes().to_vec();
    value.resize(VALUE_BYTES, b'.');
    value
}

/// What the checker must refuse, and what it must not: one that accepts everything would find no bug.
pub fn checker_bites() {
    let track = |steps: &[(usize, Act, Answer)], count: usize| {
        let mut track = Track { acts: vec![(Act::Delete, Answer::Unknown); count], order: Vec::new() };
        for &(n, act, answer) in steps {
            track.acts[n] = (act, answer);
            track.order.push(n);
        }
        track.is_linearizable()
    };
    use Act::{Add, Delete, Get, Set};
    use Answer::{Given, Refused, Unknown};
    let one = |n: usize, act: Act| [(n, act, Given), (n, act, Given)];
    let after = |acts: &[Act]| {
        let steps: Vec<_> = acts.iter().enumerate().flat_map(|(n, act)| one(n, *act)).collect();
        track(&steps, acts.len())
    };
    assert!(after(&[Get(None), Set(7), Get(Some(7)), Add(Some(8)), Delete, Get(None)]));
    assert!(!after(&[Set(7), Set(8), Get(Some(7))]), "an old value");
    assert!(!after(&[Set(7), Get(None)]), "a lost write");
    assert!(!after(&[Set(7), Delete, Get(Some(7))]), "a row that is back");
    assert!(!after(&[Add(Some(1)), Add(Some(1))]), "a lost increment");
    assert!(!after(&[Add(Some(1)), Get(Some(2))]), "an increment that was done twice");
    let cut = |acts: &[Act]| {
        let mut steps = vec![(0, Set(5), Unknown)];
        steps.extend(acts.iter().enumerate().flat_map(|(n, act)| one(n + 1, *act)));
        track(&steps, acts.len() + 1)
    };
    assert!(cut(&[Get(None), Get(Some(5))]), "it may have been done late");
    assert!(cut(&[Get(None), Set(6), Get(Some(6))]), "or never");
    assert!(!cut(&[Get(Some(5)), Get(None)]), "and not undone again");
    let refused =
        [(0, Set(5), Refused), (0, Set(5), Refused), (1, Get(Some(5)), Given), (1, Get(Some(5)), Given)];
    assert!(!track(&refused, 2), "what was refused was not done");
}
