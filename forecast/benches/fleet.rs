//! A hundred thousand entities on one core: forecasts of 48 hours with quantiles by `auto`, and an hour more of each.
//!
//! `cargo bench -p foreshard-forecast --bench fleet [-- --smoke | --entities N | --json]`. The load is generated: daily rhythms,
//! noise, bursts, and entities that are idle most of the time. What is timed: training of the network, recalibration, and
//! each entity's walks, error paths and three quantiles of each hour. Nothing is read or written. Times are what the one
//! thread had of a processor: others on the machine do not count.
#![expect(clippy::print_stdout, reason = "a measuring program prints what it measured")]

mod process;

use std::time::Duration;

use foreshard_forecast::auto::{self, Followed};
use foreshard_forecast::lstm::{Training, Turns};
use foreshard_forecast::recalibration::{self, ENTITIES_MAX, Fallen, Rolling};
use foreshard_forecast::scenarios::{MEMORY, Scenarios};
use foreshard_forecast::walk::{NoRegressors, Walk};
use foreshard_forecast::{Series, WEEK};

use self::process::{Failure, processor_time, resident_mib};

const START: i64 = 480_000;
const HOURS: usize = 700;
const HORIZON: usize = 48;
const QUANTILES: [f64; 3] = [0.025, 0.5, 0.975];
const SEED: u64 = 1;
/// Entities whose hours are timed one by one, for a week each.
const FOLLOWED: usize = 200;

fn main() -> Result<(), Failure> {
    let (mut entities, mut training, mut json) = (100_000_usize, Training::default(), false);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => (entities, training.batches) = (400, 20),
            "--json" => json = true,
            "--entities" => entities = arguments.next().ok_or("--entities needs a number")?.parse()?,
            _ => return Err("usage: fleet [--smoke] [--entities N] [--json]".into()),
        }
    }
    let fleet: Vec<Series> = (0..entities).map(|index| entity(index as u64, HOURS)).collect();
    let mut hash = Hash::default();
    let before = processor_time()?;
    let told = forecast(&fleet, training, &mut hash)?;
    let spent = processor_time()? - before;
    let (seconds, resident, hour_us) = (spent.as_secs_f64(), resident_mib()?, follow(&mut hash)?);
    if json {
        println!(
            r#"{{"entities":{entities},"hours":{HOURS},"horizon_hours":{HORIZON},"seconds":{seconds:.3},"resident_mib":{resident},"hour_us":{hour_us:.3},"hash":"{:016x}"}}"#,
            hash.0
        );
        return Ok(());
    }
    println!("{told}");
    println!(
        "{entities} entities x {HOURS} hours, {HORIZON} hours ahead, 3 quantiles: {seconds:.1} s, {:.3} ms an entity, {resident} MiB resident at most",
        1e3 * seconds / entities as f64,
    );
    println!(
        "an hour of one entity: {hour_us:.2} us, a path every {} hours and a fit every {} included",
        auto::STEP,
        auto::REFIT,
    );
    println!("result hash {:016x}", hash.0);
    Ok(())
}

/// An entity of one of four kinds.
fn entity(index: u64, hours: usize) -> Series {
    let mut random = fastrand::Rng::with_seed(SEED ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let level = 10_f64.powf(3.0 * random.f64());
    let (phase, noise, kind) = (24.0 * random.f64(), 0.6 * random.f64(), random.u8(0..4));
    let mut series = Series::new(START);
    let mut burst = 0.0;
    for hour in 0..hours {
        let day = (std::f64::consts::TAU * (hour as f64 + phase) / 24.0).sin();
        let weekend = if (hour / 24) % 7 >= 5 { 0.5 } else { 1.0 };
        burst = if random.f64() < 0.02 { 20.0 * random.f64() } else { burst * 0.5 };
        let load = match kind {
            0 => 1.5 + day,
            1 => (1.5 + day) * weekend + burst,
            2 => 0.2 + burst,
            _ if random.f64() < 0.7 => 0.0,
            _ => burst + random.f64(),
        };
        let known = random.f64() > 0.02;
        let load = level * load * (noise * (random.f64() - 0.5)).exp();
        // Whole operations; the hours are within the span of a series.
        let _within = series.set(START + hour as i64, if known { load.round() } else { f64::NAN });
    }
    series
}

fn forecast(fleet: &[Series], training: Training, hash: &mut Hash) -> Result<String, Failure> {
    let origin = START + HOURS as i64;
    let all: Vec<&Series> = fleet.iter().collect();
    let began = processor_time()?;
    let heavy = auto::heaviest(&all, origin);
    let learnt: Vec<&Series> =
        all.iter().zip(&heavy).filter(|entity| *entity.1).map(|entity| *entity.0).collect();
    let network = Turns::train(&learnt, &auto::trainings(origin, origin), training, SEED, |_| ()).ok();
    let trained = processor_time()? - began;
    let walk = |index: usize, plan| -> Walk {
        match &network {
            Some(network) if heavy[index] => {
                auto::walk(&auto::heavy(network), all[index], &NoRegressors, plan)
            }
            _ => auto::walk(&auto::LIGHT, all[index], &NoRegressors, plan),
        }
    };
    let long = recalibration::plan(origin, origin, HORIZON);
    let mut random = fastrand::Rng::with_seed(SEED);
    let sample = (0..all.len()).step_by(all.len().div_ceil(ENTITIES_MAX));
    let fallen: Vec<Fallen> =
        sample.map(|index| Fallen::new(all[index], &walk(index, long), None, origin, &mut random)).collect();
    let recalibrations = Rolling::learn(origin, origin, HORIZON, &fallen);
    let calibrated = processor_time()? - began - trained;
    let plan = auto::plan(origin, origin, HORIZON);
    for index in
        (0..all.len()).filter(|&index| heavy[index]).chain((0..all.len()).filter(|&index| !heavy[index]))
    {
        let scenarios =
            Scenarios::new(all[index], &walk(index, plan), origin).recalibrated(recalibrations.at(origin));
        for hour in 0..HORIZON {
            QUANTILES.iter().for_each(|&at| hash.take(scenarios.quantile(hour, at)));
        }
    }
    let (trained, calibrated) = (trained.as_secs_f64(), calibrated.as_secs_f64());
    Ok(format!("training {trained:.1} s, recalibration {calibrated:.1} s"))
}

/// Microseconds of an hour of one entity: over a week of hours, each taken by itself.
fn follow(hash: &mut Hash) -> Result<f64, Failure> {
    let origin = START + HOURS as i64;
    let plan = auto::plan(origin, origin, HORIZON);
    let mut spent = Duration::ZERO;
    for index in 0..FOLLOWED {
        let series = entity(index as u64, HOURS + WEEK);
        let mut followed = Followed::new(&auto::LIGHT, plan);
        followed.advance(&series, &NoRegressors, origin);
        let before = processor_time()?;
        for hour in origin + 1..=origin + WEEK as i64 {
            followed.advance(&series, &NoRegressors, hour);
            followed.keep(MEMORY + HORIZON);
        }
        spent += processor_time()? - before;
        let walk = followed.walk();
        walk.path(walk.plan().last).into_iter().flatten().for_each(|&value| hash.take(f64::from(value)));
    }
    Ok(1e6 * spent.as_secs_f64() / (FOLLOWED * WEEK) as f64)
}

/// Fowler, Noll and Vo's, of the bits of numbers.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn take(&mut self, value: f64) {
        for byte in value.to_bits().to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
