//! Which moves avoid most overload for what they cost, one after the other, each on top of those before it.
//!
//! Only partitions that will be overloaded are looked into, of each the entities that weigh most in its overloaded hours,
//! and for each of those the few best targets: the work grows with the trouble that is ahead, not with the cluster.
//!
//! Invariants:
//! - a move never goes where, by the same forecast, it does not avoid more than it causes;
//! - a plan is within its budget of moves and bytes, and of each entity it looked at it says what became of it;
//! - the same snapshot gives the same plan.

use crate::overload::{Carried, Curve};
use crate::schedule;
use crate::score::{self, OVERLOAD_MIN};
use crate::snapshot::{Hold, Invalid, Snapshot, State};
use crate::target::{self, Fill, Target};
use crate::unit::Unit;

/// Entities of a partition that are looked at: behind the heaviest, none is worth its move.
const CANDIDATES_MAX: usize = 24;
/// Targets of each that are looked at.
const TARGETS_MAX: usize = 6;
/// Of targets that avoid all but this part of the most, the one with the best target score is taken.
const ALIKE: f64 = 0.1;

/// A move that is worth it.
#[derive(Clone, PartialEq, Debug)]
pub struct Move {
    /// Indexes of the entities that go, together.
    pub entities: Vec<usize>,
    /// Index of the partition they leave.
    pub from: usize,
    /// Index of the partition they go to.
    pub to: usize,
    /// The migration score.
    pub score: f64,
    /// Overload avoided, in overloaded hours.
    pub avoided: f64,
    /// What it costs, likewise.
    pub cost: f64,
    /// What spoke for the target.
    pub target_score: f64,
    /// Bytes to be copied.
    pub bytes: f64,
    /// The first overloaded hour that it avoids, counted from the snapshot's.
    pub needed: usize,
    /// The hour to begin in, likewise: 0 is at once.
    pub begin: usize,
    /// Whether its partition is being emptied, or its host is gone: it goes whatever its score.
    pub evacuation: bool,
}

/// Why an entity stays.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kept {
    /// Somebody or something holds it.
    Held(Hold),
    /// No partition that takes it is better off with it than this one.
    NoTarget,
    /// What the best move avoids is within what a forecast can tell.
    TooLittle {
        /// In overloaded hours.
        avoided: f64,
    },
    /// Its score is below the threshold.
    BelowThreshold {
        /// Its score.
        score: f64,
    },
    /// Other moves used up what may be moved at once.
    Budget {
        /// Its score.
        score: f64,
    },
    /// Others left, and what is left of the overload is too little.
    Relieved,
}

/// What became of an entity that was looked at.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fate {
    /// It moves, as the move of this index.
    Moves(usize),
    /// It stays.
    Stays(Kept),
}

/// What lies ahead of a partition.
#[derive(Clone, PartialEq, Debug)]
pub struct Outlook {
    /// Expected overload by hour as things are.
    pub before: Vec<f64>,
    /// And with the plan carried out.
    pub after: Vec<f64>,
    /// Part of capacity used at the busiest hour, as things are.
    pub busiest: f64,
}

/// What to do, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// In the order in which they were found worth it.
    pub moves: Vec<Move>,
    /// What became of entities that were looked at, by index, ascending.
    pub fates: Vec<(usize, Fate)>,
    /// Partition by partition.
    pub outlook: Vec<Outlook>,
    /// What a score had to reach.
    pub threshold: f64,
    /// Part of all serving capacity used at the busiest hour.
    pub fullness: f64,
}

/// Plans.
///
/// # Errors
/// What is wrong with the snapshot.
pub fn plan(snapshot: &Snapshot) -> Result<Plan, Invalid> {
    snapshot.check()?;
    let mut planner = Planner::new(snapshot);
    let before: Vec<Vec<f64>> = planner.overload.clone();
    let busiest: Vec<f64> = planner.fills.iter().map(|fill| fill.busiest).collect();
    while planner.step() {}
    let outlook = before.into_iter().zip(planner.overload).zip(busiest);
    let outlook = outlook.map(|((before, after), busiest)| Outlook { before, after, busiest }).collect();
    let fates = planner.fates.into_iter().enumerate();
    Ok(Plan {
        moves: planner.moves,
        fates: fates.filter_map(|(entity, fate)| Some((entity, fate?))).collect(),
        outlook,
        threshold: planner.threshold,
        fullness: planner.fullness,
    })
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    curve: Curve,
    carried: Vec<Carried>,
    /// Expected overload by partition and hour.
    overload: Vec<Vec<f64>>,
    fills: Vec<Fill>,
    /// What an hour weighs.
    weights: Vec<f64>,
    /// Where each entity is when the moves so far are done.
    at: Vec<usize>,
    fates: Vec<Option<Fate>>,
    moves: Vec<Move>,
    bytes: f64,
    threshold: f64,
    fullness: f64,
}

/// A move that could be made.
struct Choice {
    unit: Unit,
    target: Target,
    avoided: f64,
    cost: f64,
    score: f64,
    needed: usize,
}

impl<'a> Planner<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let hours = snapshot.shape.hours;
        let mut carried = vec![Carried::nothing(snapshot.shape); snapshot.partitions.len()];
        for (rest, carried) in snapshot.rest.iter().zip(&mut carried) {
            carried.add(rest, 1.0);
        }
        for entity in &snapshot.entities {
            carried[entity.at].add(&entity.loads, 1.0);
        }
        let mut planner = Self {
            snapshot,
            curve: Curve::default(),
            overload: vec![vec![0.0; hours]; carried.len()],
            fills: vec![Fill::default(); carried.len()],
            weights: (0..hours)
                .scan(1.0, |w, _| Some(std::mem::replace(w, *w * snapshot.settings.discount)))
                .collect(),
            at: snapshot.entities.iter().map(|entity| entity.at).collect(),
            fates: vec![None; snapshot.entities.len()],
            moves: Vec::new(),
            bytes: 0.0,
            threshold: 0.0,
            fullness: 0.0,
            carried,
        };
        for partition in 0..planner.carried.len() {
            planner.look(partition);
        }
        planner.fullness = planner.fullness();
        planner.threshold = score::threshold(snapshot, planner.fullness);
        planner
    }

    /// Takes what a partition carries into account.
    fn look(&mut self, partition: usize) {
        let facts = &self.snapshot.partitions[partition];
        self.carried[partition].by_hour(facts, &self.curve, &mut self.overload[partition]);
        self.fills[partition] = Fill::of(&self.carried[partition], facts, self.snapshot.shape.hours);
    }

    fn fullness(&self) -> f64 {
        let serving =
            self.snapshot.partitions.iter().zip(&self.fills).filter(|(p, _)| p.state == State::Serving);
        let (sum, count) =
            serving.fold((0.0, 0.0), |(sum, count), (_, fill)| (sum + fill.busiest.min(1.0), count + 1.0));
        if count > 0.0 { sum / count } else { 1.0 }
    }

    fn weighed(&self, by_hour: &[f64]) -> f64 {
        by_hour.iter().zip(&self.weights).map(|(overload, weight)| overload * weight).sum()
    }

    /// Finds the best move and makes it; false: there is none any more.
    fn step(&mut self) -> bool {
        let settings = &self.snapshot.settings;
        let full = self.moves.len() >= settings.moves_max;
        let mut best: Option<Choice> = None;
        for unit in self.candidates() {
            let evacuates = self.snapshot.partitions[unit.at].state != State::Serving;
            let fate = match (unit.hold, self.best_target(&unit)) {
                (Some(hold), _) if !(evacuates && matches!(hold, Hold::Resting { .. })) => Kept::Held(hold),
                (_, None) => Kept::NoTarget,
                (_, Some(option)) if evacuates || self.is_worth(&option) => {
                    let score = option.score;
                    let fits = self.bytes + option.unit.bytes <= settings.bytes_max;
                    if full || !fits {
                        Kept::Budget { score }
                    } else {
                        let gain = |o: &Choice| o.avoided - o.cost;
                        let members = option.unit.members.clone();
                        if best.as_ref().is_none_or(|b| gain(&option) > gain(b)) {
                            best = Some(option);
                        }
                        for member in members {
                            self.fates[member] = Some(Fate::Stays(Kept::Relieved));
                        }
                        continue;
                    }
                }
                (_, Some(option)) if option.avoided < settings.improvement_min => {
                    Kept::TooLittle { avoided: option.avoided }
                }
                (_, Some(option)) => Kept::BelowThreshold { score: option.score },
            };
            for member in unit.members {
                self.fates[member] = Some(Fate::Stays(fate));
            }
        }
        let Some(option) = best else { return false };
        self.make(option);
        true
    }

    fn is_worth(&self, option: &Choice) -> bool {
        option.avoided >= self.snapshot.settings.improvement_min
            && option.avoided > option.cost
            && option.score >= self.threshold
    }

    /// Entities of partitions in trouble, of each those that weigh most when it is.
    fn candidates(&self) -> Vec<Unit> {
        let entities = &self.snapshot.entities;
        let moved = |unit: &Unit| matches!(self.fates[unit.members[0]], Some(Fate::Moves(_)));
        let mut units: Vec<(f64, Unit)> = Unit::all(self.snapshot, &self.at)
            .into_iter()
            .filter(|unit| !moved(unit))
            .filter_map(|unit| {
                let partition = &self.snapshot.partitions[unit.at];
                let overload = &self.overload[unit.at];
                if partition.state == State::Serving && self.weighed(overload) < OVERLOAD_MIN {
                    return None;
                }
                let weight: f64 = (0..overload.len())
                    .map(|hour| {
                        let load = |member: &usize| {
                            let loads = entities[*member].loads.0.iter().zip(partition.capacity);
                            loads
                                .map(|(l, c)| f64::from(l.mean(hour, self.snapshot.shape)) / c)
                                .fold(0.0, f64::max)
                        };
                        overload[hour] * self.weights[hour] * unit.members.iter().map(load).sum::<f64>()
                    })
                    .sum();
                Some((weight, unit))
            })
            .collect();
        units.sort_by(|x, y| (x.1.at, y.0).partial_cmp(&(y.1.at, x.0)).unwrap_or(std::cmp::Ordering::Equal));
        let mut taken = vec![0_usize; self.carried.len()];
        units.retain(|(_, unit)| {
            taken[unit.at] += 1;
            taken[unit.at] <= CANDIDATES_MAX || self.snapshot.partitions[unit.at].state != State::Serving
        });
        units.into_iter().map(|(_, unit)| unit).collect()
    }

    /// Where it would be best for a unit to be, if anywhere is better than here.
    fn best_target(&self, unit: &Unit) -> Option<Choice> {
        let (entities, partitions) = (&self.snapshot.entities, &self.snapshot.partitions);
        let hours = self.snapshot.shape.hours;
        let mut without = self.carried[unit.at].clone();
        unit.add_to(&mut without, entities, -1.0);
        let mut relieved = vec![0.0; hours];
        without.by_hour(&partitions[unit.at], &self.curve, &mut relieved);
        let source = self.weighed(&self.overload[unit.at]);
        let cost = score::cost(&self.snapshot.settings, unit.bytes, unit.dependencies);
        let targets =
            target::best(self.snapshot, &self.fills, unit.at, |p| self.together(unit, p), TARGETS_MAX);
        let mut options = Vec::with_capacity(targets.len());
        for target in targets {
            let mut with = self.carried[target.partition].clone();
            unit.add_to(&mut with, entities, 1.0);
            let mut burdened = vec![0.0; hours];
            with.by_hour(&partitions[target.partition], &self.curve, &mut burdened);
            let here = self.overload[unit.at].iter().zip(&relieved).map(|(before, after)| before - after);
            let there =
                burdened.iter().zip(&self.overload[target.partition]).map(|(after, before)| after - before);
            let by_hour: Vec<f64> = here.zip(there).map(|(gain, loss)| gain - loss).collect();
            let avoided = self.weighed(&by_hour);
            let most = by_hour.iter().copied().fold(0.0, f64::max);
            let needed = by_hour.iter().position(|gain| *gain > most / 4.0).unwrap_or(0);
            options.push((avoided, needed, target));
        }
        let most = options.iter().map(|option| option.0).fold(f64::NEG_INFINITY, f64::max);
        let evacuates = partitions[unit.at].state != State::Serving;
        let alike = |avoided: f64| avoided >= most - ALIKE * most.abs();
        // They are in the order of their target scores.
        let (avoided, needed, target) = options.into_iter().find(|(avoided, ..)| alike(*avoided))?;
        if avoided <= 0.0 && !evacuates {
            return None;
        }
        let score = if evacuates { 1.0 } else { score::score(source, avoided, cost) };
        Some(Choice { unit: unit.clone(), target, avoided, cost, score, needed })
    }

    /// How much of what a unit is named together with a partition has.
    fn together(&self, unit: &Unit, partition: usize) -> f64 {
        let is_member = |entity: &usize| unit.members.binary_search(entity).is_ok();
        let (mut here, mut all) = (0.0, 0.0);
        for pair in &self.snapshot.co_access {
            let other = match (is_member(&pair.a), is_member(&pair.b)) {
                (true, false) => pair.b,
                (false, true) => pair.a,
                _ => continue,
            };
            all += pair.share;
            here += if self.at[other] == partition { pair.share } else { 0.0 };
        }
        if all > 0.0 { here / all } else { 0.0 }
    }

    fn make(&mut self, option: Choice) {
        let Choice { unit, target, avoided, cost, score, needed } = option;
        let settings = &self.snapshot.settings;
        let (from, to) = (unit.at, target.partition);
        let partitions = &self.snapshot.partitions;
        let busy: Vec<f64> = (0..self.snapshot.shape.hours)
            .map(|hour| {
                let used = |p: usize| self.carried[p].used(&partitions[p], hour);
                used(from).max(used(to))
            })
            .collect();
        let evacuation = partitions[from].state != State::Serving;
        let copying = score::hours_of_copying(settings, unit.bytes);
        let begin = if evacuation { 0 } else { schedule::begin(&busy, needed, copying, settings.lead_hours) };
        unit.add_to(&mut self.carried[from], &self.snapshot.entities, -1.0);
        unit.add_to(&mut self.carried[to], &self.snapshot.entities, 1.0);
        self.look(from);
        self.look(to);
        for &member in &unit.members {
            self.at[member] = to;
            self.fates[member] = Some(Fate::Moves(self.moves.len()));
        }
        self.bytes += unit.bytes;
        let (entities, bytes, target_score) = (unit.members, unit.bytes, target.score);
        self.moves.push(Move {
            entities,
            from,
            to,
            score,
            avoided,
            cost,
            target_score,
            bytes,
            needed,
            begin,
            evacuation,
        });
    }
}
