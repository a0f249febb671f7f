//! Crash points: a life cut off at a boundary, another cut off while it recovers, and one that looks at what is left.

use std::rc::Rc;

use foreshard_engine::io::memory::CrashMode;

use super::life::{Birth, Lived, Plan, live, tiny};
use super::model::Model;

const MODES: [CrashMode; 3] = [CrashMode::Lose, CrashMode::Keep, CrashMode::Scramble];

/// What a crash point's run did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Crashes, those during recovery included.
    pub crashes: u64,
    pub acknowledged: u64,
}

/// The plan of a seed's first life.
pub fn plan(seed: u64, work: usize) -> Plan {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut options = tiny();
    options.compression = random.bool();
    Plan { seed, shards: random.usize(1..4), work, crash_after: None, options }
}

/// Boundaries of a seed's first life when nothing stops it.
pub fn boundaries(seed: u64, callers: usize, work: usize) -> Lived {
    live(Birth::New, &Rc::new(Model::new(callers)), &plan(seed, work))
}

/// Stops the first life at `point`, some of the next ones too, and works on in the last.
pub fn crash_at(seed: u64, callers: usize, work: usize, point: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed ^ point.rotate_left(32));
    let model = Rc::new(Model::new(callers));
    let first = Plan { crash_after: Some(point), ..plan(seed, work) };
    let mut lived = live(Birth::New, &model, &first);
    let mut tally = Tally { crashes: u64::from(lived.is_crashed), acknowledged: 0 };
    let mut shards = first.shards;
    loop {
        let mode = MODES[random.usize(..3)];
        if random.u8(..4) == 0 {
            shards = random.usize(1..4);
        }
        let again = random.u8(..3) == 0;
        let crash_after = again.then(|| random.u64(1..250));
        let work = if random.u8(..4) == 0 { work / 8 + 1 } else { 0 };
        let next = Plan { seed: random.u64(..), shards, work, crash_after, options: first.options.clone() };
        if std::env::var_os("CRASH_TRACE").is_some() {
            eprintln!(
                "{mode:?}: {shards} shards, {work} things, stops at {crash_after:?}, seed {}",
                next.seed
            );
        }
        lived = live(Birth::After(&lived.disk, mode), &model, &next);
        tally.crashes += u64::from(lived.is_crashed);
        if !lived.is_crashed {
            tally.acknowledged = model.acknowledged.get();
            return tally;
        }
    }
}
