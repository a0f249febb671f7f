//! Moves of entities and changes of partitions under load, cut off by crashes at random I/Os: courses of lives on one disk.
//!
//! Besides what every life checks, each key's answers over all of them must have an order ([`super::history`]).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::campaign::MODES;
use super::kinds::Census;
use super::life::{Birth, Focus, Plan, live, tiny};
use super::model::Model;

/// A disk, and lives on it, all but the last cut off.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    pub seed: u64,
    pub callers: usize,
    /// Things each caller does in a life.
    pub work: usize,
    pub crashes: usize,
}

/// What courses did.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub courses: u64,
    /// Moves and changes of partitions that were begun.
    pub begun: u64,
    pub moves: [u64; 3],
    pub reshapes: [u64; 2],
    /// Lives that were cut off, while they were opened too.
    pub crashes: u64,
    pub opening: u64,
    /// What was under way then.
    pub cut_off: BTreeMap<(&'static str, &'static str), u64>,
    pub boundaries: Census,
    /// Operations of keys whose histories were kept: answered, and cut off.
    pub told: [u64; 2],
    pub acknowledged: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.courses += other.courses;
        self.begun += other.begun;
        self.moves = std::array::from_fn(|n| self.moves[n] + other.moves[n]);
        self.reshapes = std::array::from_fn(|n| self.reshapes[n] + other.reshapes[n]);
        self.crashes += other.crashes;
        self.opening += other.opening;
        for (what, count) in &other.cut_off {
            *self.cut_off.entry(*what).or_default() += count;
        }
        self.boundaries.add(&other.boundaries);
        self.told = std::array::from_fn(|n| self.told[n] + other.told[n]);
        self.acknowledged += other.acknowledged;
    }
}

impl Course {
    /// Lives all lives.
    ///
    /// # Panics
    /// When something is not as it was promised.
    pub fn run(self) -> Tally {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let model = Rc::new(Model::new(self.callers));
        let mut tally = Tally { courses: 1, ..Tally::default() };
        let mut options = tiny();
        options.compression = random.bool();
        let mut left = None;
        for life in 0..=self.crashes {
            let plan = Plan {
                seed: random.u64(..),
                shards: random.usize(2..4),
                work: self.work,
                // A life's boundaries are a few thousand; some are cut off while they are opened.
                crash_after: (life < self.crashes).then(|| random.u64(1..BOUNDARIES_MAX)),
                options: options.clone(),
                restores: false,
                focus: Focus::Changes,
            };
            let mode = MODES[random.usize(..MODES.len())];
            let birth = left.as_ref().map_or(Birth::New, |disk| Birth::After(disk, mode));
            let lived = live(birth, &model, &plan);
            if let Some(event) = &lived.stopped_by {
                tally.crashes += 1;
                tally.opening += u64::from(lived.opened_at == u64::MAX);
                tally.boundaries.count(event);
            }
            for what in lived.cut_off {
                *tally.cut_off.entry(what).or_default() += 1;
            }
            left = Some(lived.disk);
        }
        tally.begun = model.operator.begun.get();
        tally.moves = model.operator.moves.get();
        tally.reshapes = model.operator.reshapes.get();
        tally.told = model.histories.counts();
        tally.acknowledged = model.acknowledged.get();
        tally
    }
}

/// A life is cut off at one of so many boundaries.
const BOUNDARIES_MAX: u64 = 4000;
