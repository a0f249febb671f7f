//! Crash points: a life cut off at a boundary, others cut off while they recover, and one that looks at what is left.

use std::collections::BTreeSet;
use std::rc::Rc;

use foreshard_engine::io::memory::CrashMode;

use super::kinds::Census;
use super::life::{Birth, Focus, Lived, Plan, live, tiny};
use super::model::Model;

pub const MODES: [CrashMode; 4] = [CrashMode::Lose, CrashMode::Keep, CrashMode::Scramble, CrashMode::Kill];

/// Which lives, and what is done in them.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub seed: u64,
    pub callers: usize,
    /// Things each caller does.
    pub work: usize,
}

/// What a crash point's run did.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// At which boundaries the first life stopped, and at which later ones did.
    pub first: Census,
    pub later: Census,
    /// Crashes of later lives before they were open.
    pub opening: u64,
    pub acknowledged: u64,
    /// Moves of entities that were done, that were undone, and that were refused.
    pub moves: [u64; 3],
    /// Changes of partitions that were done, and that were undone.
    pub reshapes: [u64; 2],
}

impl Tally {
    pub fn crashes(&self) -> u64 {
        self.first.0.values().chain(self.later.0.values()).sum()
    }

    pub fn add(&mut self, other: &Self) {
        self.first.add(&other.first);
        self.later.add(&other.later);
        self.opening += other.opening;
        self.acknowledged += other.acknowledged;
        self.moves = std::array::from_fn(|n| self.moves[n] + other.moves[n]);
        self.reshapes = std::array::from_fn(|n| self.reshapes[n] + other.reshapes[n]);
    }
}

impl Field {
    /// The plan of the seed's first life.
    pub fn plan(self) -> Plan {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut options = tiny();
        options.compression = random.bool();
        let shards = random.usize(1..4);
        Plan {
            seed: self.seed,
            shards,
            work: self.work,
            crash_after: None,
            options,
            restores: true,
            focus: Focus::Everything,
        }
    }

    /// How many boundaries the seed's first life has when nothing stops it.
    pub fn boundaries(self) -> u64 {
        live(Birth::New, &Rc::new(Model::new(self.callers)), &self.plan()).boundaries
    }

    /// Stops the first life at `point`, some of the next ones too, and works on in the last.
    pub fn crash_at(self, point: u64) -> Tally {
        let random = fastrand::Rng::with_seed(self.seed ^ point.rotate_left(32));
        let model = Rc::new(Model::new(self.callers));
        let first = Plan { crash_after: Some(point), ..self.plan() };
        let lived = live(Birth::New, &model, &first);
        let mut tally = Tally::default();
        if let Some(event) = &lived.stopped_by {
            tally.first.count(event);
        }
        live_on(lived, &model, &first, random, &mut tally);
        tally
    }

    /// Stops the first life at `point`, the reopening at up to `count` of its boundaries, one after the other, and looks
    /// at what is left each time.
    pub fn crash_reopening(self, point: u64, mode: CrashMode, count: u64, tally: &mut Tally) {
        let model = Model::new(self.callers);
        let first = Plan { crash_after: Some(point), ..self.plan() };
        let model = Rc::new(model);
        let left = live(Birth::New, &model, &first);
        let mut random = fastrand::Rng::with_seed(self.seed ^ point.rotate_left(16));
        let again = Plan { seed: random.u64(..), work: 0, restores: false, ..self.plan() };
        let whole = live(Birth::After(&left.disk, mode), &Rc::new((*model).clone()), &again).boundaries;
        for boundary in choose(whole - 1, count, self.seed) {
            let model = Rc::new((*model).clone());
            let stopped = Plan { crash_after: Some(boundary), ..again.clone() };
            let lived = live(Birth::After(&left.disk, mode), &model, &stopped);
            tally.count_later(&lived);
            live_on(lived, &model, &again, random.fork(), tally);
        }
    }
}

impl Tally {
    fn count_later(&mut self, lived: &Lived) {
        if let Some(event) = &lived.stopped_by {
            self.later.count(event);
            self.opening += u64::from(lived.opened_at == u64::MAX);
        }
    }
}

/// Lives after `lived`, until one is not stopped.
fn live_on(mut lived: Lived, model: &Rc<Model>, first: &Plan, mut random: fastrand::Rng, tally: &mut Tally) {
    let mut shards = first.shards;
    loop {
        let mode = MODES[random.usize(..MODES.len())];
        if random.u8(..4) == 0 {
            shards = random.usize(1..4);
        }
        let again = random.u8(..3) == 0;
        let crash_after = again.then(|| random.u64(1..250));
        let work = if random.u8(..4) == 0 { first.work / 8 + 1 } else { 0 };
        let (seed, restores) = (random.u64(..), random.u8(..4) == 0);
        let next = Plan {
            seed,
            shards,
            work,
            crash_after,
            options: first.options.clone(),
            restores,
            focus: first.focus,
        };
        if std::env::var_os("CRASH_TRACE").is_some() {
            eprintln!("{mode:?}: {shards} shards, {work} things, stops at {crash_after:?}, seed {seed}");
        }
        lived = live(Birth::After(&lived.disk, mode), model, &next);
        tally.count_later(&lived);
        if !lived.is_crashed {
            tally.acknowledged += model.acknowledged.get();
            let moves = model.operator.moves.get();
            tally.moves = std::array::from_fn(|n| tally.moves[n] + moves[n]);
            let reshapes = model.operator.reshapes.get();
            tally.reshapes = std::array::from_fn(|n| tally.reshapes[n] + reshapes[n]);
            return;
        }
    }
}

/// Up to `count` of the boundaries 1 to `whole`, each once.
pub fn choose(whole: u64, count: u64, seed: u64) -> BTreeSet<u64> {
    if count >= whole {
        return (1..=whole).collect();
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chosen = BTreeSet::new();
    while (chosen.len() as u64) < count {
        chosen.insert(random.u64(1..=whole));
    }
    chosen
}
