//! One policy carried through a world, second by second.
//!
//! Invariants:
//! - what a policy knows at a moment lies before it, but for the oracle, which is given the trace;
//! - a move takes as long as its bytes take, loads both ends meanwhile, and changes where its entity is served only when
//!   it ends; at most one is under way at each partition.

use std::collections::VecDeque;

use super::bursts::{STEP_S, STEPS};
use super::world::World;
use crate::plan::plan;
use crate::reactive::{Reactive, ReactiveSettings, Seen};
use crate::snapshot::{Entity, Hold, Invalid, Loads, Partition, Settings, Snapshot, State};
use crate::{Paths, Shape};

/// A queue longer than so many seconds of capacity is a violation.
const QUEUE_LATE_S: f64 = 0.1;
/// Seconds of capacity that wait at most: behind them, clients are not read from.
const QUEUE_MAX_S: f64 = 1.0;
/// Hours that an entity rests after a move.
const REST_HOURS: i64 = 2;
/// How fast what was measured of bursts is forgotten, by hour.
const BURST_MEMORY: f64 = 0.9;
/// Before anything is measured.
const BURST_FIRST: f64 = 0.1;
/// How much ten seconds count in what is seen of an entity within an hour: after 40 s, 70 %.
const SEEN_WEIGHT: f64 = 0.25;
/// Seconds that a move takes whatever its size.
const MOVE_MIN_S: f64 = 1.0;

/// Loads to come, as a planner is told of them.
pub trait Foresee: Sync + std::fmt::Debug {
    /// Of all paths.
    fn shape(&self) -> Shape;
    /// One entity's, from `hour` of the world's trace on.
    fn paths(&self, entity: usize, hour: usize) -> Paths;
}

/// What decides on moves.
#[derive(Clone, Copy, Debug)]
pub enum Policy<'a> {
    /// Nothing: every entity stays at home.
    Static,
    /// The reactive rule.
    Reactive(ReactiveSettings),
    /// A plan every hour, and one at once, from what is seen, when the reactive rule finds a partition too busy.
    Planned(&'a dyn Foresee, Settings, ReactiveSettings),
}

/// A move that was made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Made {
    /// Second in which it began, from the trace's start.
    pub began_s: usize,
    /// Second in which it ended.
    pub ended_s: usize,
    /// What moved.
    pub entity: usize,
    /// From where.
    pub from: usize,
    /// To where.
    pub to: usize,
    /// Whether a plan asked for it; else the reactive rule.
    pub planned: bool,
}

/// How a policy did.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// Partition-seconds over capacity or with a long queue.
    pub violation_seconds: u64,
    /// Likewise, when one entity there would have been late in a partition of its own, or has more to do in that hour than a
    /// partition can: no placement helps.
    pub alone_seconds: u64,
    /// Moves, in the order of their beginnings.
    pub moves: Vec<Made>,
    /// Bytes that they copied.
    pub bytes_moved: f64,
}

/// A move under way.
#[derive(Clone, Copy)]
struct Moving {
    entity: usize,
    from: usize,
    to: usize,
    began_s: usize,
    ends_s: f64,
    planned: bool,
}

/// Carries `policy` through `world`, from hour `from` on.
///
/// # Errors
/// What is wrong with a snapshot.
pub fn run(world: &World, policy: &Policy<'_>, from: usize) -> Result<Outcome, Invalid> {
    let mut sim = Sim::new(world, policy);
    for hour in from..world.hours() {
        sim.draw(hour);
        if let Policy::Planned(foresee, ..) = policy {
            sim.foretold = (0..world.loads.len()).map(|entity| foresee.paths(entity, hour)).collect();
        }
        sim.plan(hour * 3600)?;
        sim.hour(hour)?;
    }
    Ok(sim.result)
}

struct Sim<'a> {
    world: &'a World,
    policy: Policy<'a>,
    at: Vec<usize>,
    moving: Vec<Moving>,
    /// Planned moves that wait for their turn: entity and target.
    waiting: VecDeque<(usize, usize)>,
    rests_until: Vec<i64>,
    reactive: Option<Reactive>,
    queues: Vec<f64>,
    /// Of each entity, measured; and of this hour the sum of its loads, and of their squares.
    bursts: Vec<f64>,
    spreads: Vec<(f64, f64)>,
    /// What planners were told of this hour.
    foretold: Vec<Paths>,
    /// Loads of entities, smoothed, as parts of capacity.
    smoothed: Vec<f64>,
    /// Factors of this hour, step by step, all entities in each.
    factors: Vec<f32>,
    /// Loads of entities in this step, as parts of capacity.
    entities: Vec<f64>,
    movable: Vec<bool>,
    takes: Vec<bool>,
    /// What each entity would have waiting in a partition of its own, in seconds of its capacity.
    own_queues: Vec<f64>,
    /// Partitions that one of their entities keeps too busy by itself, in this second.
    lone: Vec<bool>,
    result: Outcome,
}

impl<'a> Sim<'a> {
    fn new(world: &'a World, policy: &Policy<'a>) -> Self {
        let settings = match policy {
            Policy::Static => None,
            Policy::Reactive(settings) | Policy::Planned(_, _, settings) => Some(*settings),
        };
        let entities = world.loads.len();
        Self {
            world,
            policy: *policy,
            at: world.homes.clone(),
            moving: Vec::new(),
            waiting: VecDeque::new(),
            rests_until: vec![i64::MIN; entities],
            reactive: settings.map(|settings| Reactive::new(settings, world.partitions)),
            queues: vec![0.0; world.partitions],
            bursts: vec![BURST_FIRST; entities],
            spreads: vec![(0.0, 0.0); entities],
            foretold: Vec::new(),
            smoothed: vec![0.0; entities],
            factors: vec![1.0; entities * STEPS],
            entities: vec![0.0; entities],
            movable: vec![true; entities],
            takes: vec![true; world.partitions],
            own_queues: vec![0.0; entities],
            lone: vec![false; world.partitions],
            result: Outcome::default(),
        }
    }

    fn draw(&mut self, hour: usize) {
        let count = self.at.len();
        for entity in 0..count {
            for (step, factor) in self.world.bursts.draw(entity, hour).enumerate() {
                self.factors[step * count + entity] = factor;
            }
        }
    }

    /// Plans, where the policy does: at the beginning of an hour or, when trouble is seen, within it.
    fn plan(&mut self, now_s: usize) -> Result<(), Invalid> {
        let Policy::Planned(foresee, foretold, _) = self.policy else { return Ok(()) };
        let shape = foresee.shape();
        let (hour, second) = (now_s / 3600, now_s % 3600);
        let settings = if second == 0 { foretold } else { foretold.when_seen() };
        let capacity = [self.world.capacity, f64::INFINITY, f64::INFINITY];
        let partition = |id: usize| Partition {
            id: u32::try_from(id).unwrap_or(u32::MAX),
            host: 0,
            capacity,
            burst: 0.0,
            state: State::Serving,
            distance: 0.0,
            penalty: 0.0,
            share: 1.0,
        };
        let now = hour as i64;
        let entity = |index: usize| {
            let moving = self.moving.iter().find(|m| m.entity == index);
            let resting = Hold::Resting { until: self.rests_until[index] };
            let rests = (self.rests_until[index] > now).then_some(resting);
            Entity {
                id: index as u64,
                at: moving.map_or(self.at[index], |m| m.to),
                home: self.world.homes[index],
                bytes: self.world.bytes[index],
                loads: Loads([self.paths(index, second, shape), Paths::none(), Paths::none()]),
                burst: self.bursts[index],
                dependencies: 0,
                hold: moving.map(|_| Hold::Moving).or(rests),
            }
        };
        let snapshot = Snapshot {
            hour: now,
            left: 1.0 - second as f64 / 3600.0,
            shape,
            partitions: (0..self.world.partitions).map(partition).collect(),
            entities: (0..self.at.len()).map(entity).collect(),
            rest: Vec::new(),
            co_access: Vec::new(),
            failed: 0.0,
            wasted: 0.0,
            settings,
        };
        let plan = plan(&snapshot)?;
        // What an earlier plan asked for and did not get to is planned anew.
        self.waiting.clear();
        for planned in plan.moves.iter().filter(|planned| planned.begin == 0) {
            self.waiting.extend(planned.entities.iter().map(|entity| (*entity, planned.to)));
        }
        Ok(())
    }

    /// What is known of an entity's loads to come: what was foretold, and within the hour what is seen.
    fn paths(&self, entity: usize, second: usize, shape: Shape) -> Paths {
        let foretold = self.foretold[entity].clone();
        if second == 0 { foretold } else { foretold.with_seen(self.seen(entity), shape) }
    }

    /// The load that an entity has now.
    fn seen(&self, entity: usize) -> f32 {
        crate::narrow(self.smoothed[entity] * self.world.capacity)
    }

    fn hour(&mut self, hour: usize) -> Result<(), Invalid> {
        let world = self.world;
        let mut sums = vec![0.0; world.partitions];
        for step in 0..STEPS {
            self.begin_step(hour, step);
            for second in 0..STEP_S {
                let now_s = hour * 3600 + step * STEP_S + second;
                if self.step_moves(now_s) || second == 0 {
                    sums.fill(0.0);
                    for (load, at) in self.entities.iter().zip(&self.at) {
                        sums[*at] += load;
                    }
                    for moving in &self.moving {
                        sums[moving.from] += world.copy_share;
                        sums[moving.to] += world.copy_share;
                    }
                }
                self.count_violations(hour, &sums);
                self.react(now_s, &sums)?;
            }
        }
        for (burst, sums) in self.bursts.iter_mut().zip(&mut self.spreads) {
            let (sum, squares) = std::mem::take(sums);
            let mean: f64 = sum / STEPS as f64;
            if mean > 0.0 {
                let variance: f64 = (squares / STEPS as f64 - mean * mean).max(0.0);
                *burst = BURST_MEMORY * *burst + (1.0 - BURST_MEMORY) * variance.sqrt() / mean;
            }
        }
        Ok(())
    }

    /// The loads of ten seconds.
    fn begin_step(&mut self, hour: usize, step: usize) {
        let count = self.at.len();
        let drawn = self.world.loads.iter().zip(&self.factors[step * count..][..count]);
        let measured = self.entities.iter_mut().zip(&mut self.spreads).zip(&mut self.smoothed);
        for ((loads, factor), ((entity, spread), smoothed)) in drawn.zip(measured) {
            *entity = f64::from(loads[hour] * factor) / self.world.capacity;
            *spread = (spread.0 + *entity, spread.1 + *entity * *entity);
            *smoothed += SEEN_WEIGHT * (*entity - *smoothed);
        }
    }

    /// Ends and begins moves; whether anything changed.
    fn step_moves(&mut self, now_s: usize) -> bool {
        let mut changed = false;
        let mut index = 0;
        while index < self.moving.len() {
            if self.moving[index].ends_s > now_s as f64 {
                index += 1;
                continue;
            }
            let Moving { entity, from, to, began_s, planned, .. } = self.moving.swap_remove(index);
            self.at[entity] = to;
            self.movable[entity] = true;
            self.rests_until[entity] = (now_s / 3600) as i64 + REST_HOURS;
            self.result.moves.push(Made { began_s, ended_s: now_s, entity, from, to, planned });
            self.result.bytes_moved += self.world.bytes[entity];
            changed = true;
        }
        for _ in 0..self.waiting.len() {
            let Some((entity, to)) = self.waiting.pop_front() else { break };
            if self.at[entity] == to || !self.movable[entity] {
                continue;
            }
            if self.is_free(self.at[entity]) && self.is_free(to) {
                self.begin(entity, to, now_s, true);
                changed = true;
            } else {
                self.waiting.push_back((entity, to));
            }
        }
        changed
    }

    fn is_free(&self, partition: usize) -> bool {
        self.moving.iter().all(|m| m.from != partition && m.to != partition)
    }

    fn begin(&mut self, entity: usize, to: usize, now_s: usize, planned: bool) {
        let takes_s = MOVE_MIN_S + self.world.bytes[entity] / self.world.copy_bytes_per_s;
        let from = self.at[entity];
        self.movable[entity] = false;
        self.moving.push(Moving {
            entity,
            from,
            to,
            began_s: now_s,
            ends_s: now_s as f64 + takes_s,
            planned,
        });
    }

    fn count_violations(&mut self, hour: usize, sums: &[f64]) {
        self.lone.fill(false);
        for (entity, (load, queue)) in self.entities.iter().zip(&mut self.own_queues).enumerate() {
            *queue = queued(*queue, *load);
            let exceeds = f64::from(self.world.loads[entity][hour]) > self.world.capacity;
            if exceeds || is_late(*load, *queue) {
                self.lone[self.at[entity]] = true;
            }
        }
        for (partition, load) in sums.iter().enumerate() {
            let queue = queued(self.queues[partition], *load);
            self.queues[partition] = queue;
            if is_late(*load, queue) {
                if self.lone[partition] {
                    self.result.alone_seconds += 1;
                } else {
                    self.result.violation_seconds += 1;
                }
            }
        }
    }

    fn react(&mut self, now_s: usize, sums: &[f64]) -> Result<(), Invalid> {
        let Some(mut reactive) = self.reactive.take() else { return Ok(()) };
        self.takes.fill(true);
        for moving in &self.moving {
            self.takes[moving.from] = false;
            self.takes[moving.to] = false;
        }
        let seen = Seen {
            partitions: sums,
            takes: &self.takes,
            entities: &self.entities,
            smoothed: &self.smoothed,
            at: &self.at,
            movable: &self.movable,
        };
        if let Some(worst) = reactive.trouble(&seen)
            && self.takes[worst]
        {
            // The rule acts where there is no plan, and where a plan that is told of what is seen has no answer.
            let reaction = reactive.answer(worst, &seen);
            self.plan(now_s)?;
            let is_planned = self.waiting.iter().any(|(entity, _)| self.at[*entity] == worst);
            if let Some(reaction) = reaction.filter(|_| !is_planned) {
                self.begin(reaction.entity, reaction.to, now_s + 1, false);
            }
        }
        self.reactive = Some(reactive);
        Ok(())
    }
}

/// What waits after a second more, in seconds of capacity.
fn queued(queue: f64, load: f64) -> f64 {
    (queue + load - 1.0).clamp(0.0, QUEUE_MAX_S)
}

/// Whether a second is one of violation.
fn is_late(load: f64, queue: f64) -> bool {
    load > 1.0 || queue > QUEUE_LATE_S
}
