//! Which moves avoid most overload for what they cost, one after the other, each on top of those before it.
//!
//! Only partitions that will be overloaded are looked into, of each the entities that weigh most in its overloaded hours,
//! and for each of those the few best targets: the work grows with the trouble that is ahead, not with the cluster.
//!
//! Invariants:
//! - a move never goes where, by the same forecast, it does not avoid more than it causes;
//! - a plan is within its budget of moves and bytes, and of each entity it looked at it says what became of it;
//! - the same snapshot gives the same plan.

use crate::overload::Carried;
use crate::schedule;
use crate::score::{self, OVERLOAD_MIN};
use crate::snapshot::{Entity, Hold, Invalid, Snapshot, State};
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
    carried: Vec<Carried>,
    /// Expected overload by partition and hour.
    overload: Vec<Vec<f64>>,
    fills: Vec<Fill>,
    /// Part of capacity that partitions use, by hour.
    used: Vec<Vec<f64>>,
    /// What an hour weighs.
    weights: Vec<f64>,
    /// Part of its partition's capacity that each entity takes in each hour, by the mean over paths.
    means: Vec<Vec<f64>>,
    /// Where each entity is when the moves so far are done.
    at: Vec<usize>,
    /// What moves together, and of each the best that was found; none: it has to be looked for.
    units: Vec<Unit>,
    found: Vec<Option<Found>>,
    fates: Vec<Option<Fate>>,
    moves: Vec<Move>,
    bytes: f64,
    threshold: f64,
    fullness: f64,
}

/// The best that could be done with a unit; none: nowhere is better.
type Found = Option<Choice>;

/// A move that could be made.
#[derive(Clone, Copy)]
struct Choice {
    target: Target,
    avoided: f64,
    cost: f64,
    score: f64,
    needed: usize,
    begin: usize,
}

impl<'a> Planner<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let hours = snapshot.shape.hours;
        let at: Vec<usize> = snapshot.entities.iter().map(|entity| entity.at).collect();
        let carried = Carried::by_partition(snapshot, &at);
        let mut planner = Self {
            snapshot,
            overload: vec![vec![0.0; hours]; carried.len()],
            fills: vec![Fill::default(); carried.len()],
            used: vec![Vec::new(); carried.len()],
            weights: weights(snapshot),
            means: snapshot.entities.iter().map(|entity| means(snapshot, entity)).collect(),
            units: Vec::new(),
            found: Vec::new(),
            at,
            fates: vec![None; snapshot.entities.len()],
            moves: Vec::new(),
            bytes: 0.0,
            threshold: 0.0,
            fullness: 0.0,
            carried,
        };
        planner.units = Unit::all(snapshot, &planner.at);
        planner.found = vec![None; planner.units.len()];
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
        self.carried[partition].by_hour(facts, 0.0, &mut self.overload[partition]);
        let carried = &self.carried[partition];
        self.used[partition] = (0..self.snapshot.shape.hours).map(|hour| carried.used(facts, hour)).collect();
        self.fills[partition] = Fill::of(&self.used[partition]);
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
        let mut best: Option<(usize, Choice)> = None;
        for unit in self.candidates() {
            let found = match self.found[unit] {
                Some(found) => found,
                None => self.best_target(&self.units[unit]),
            };
            self.found[unit] = Some(found);
            let kept = match (self.judge(unit, found), found) {
                (None, Some(choice)) => {
                    let gain = |choice: &Choice| choice.avoided - choice.cost;
                    if best.as_ref().is_none_or(|(_, b)| gain(&choice) > gain(b)) {
                        best = Some((unit, choice));
                    }
                    Kept::Relieved
                }
                (kept, _) => kept.unwrap_or(Kept::NoTarget),
            };
            for &member in &self.units[unit].members {
                self.fates[member] = Some(Fate::Stays(kept));
            }
        }
        let Some((unit, choice)) = best else { return false };
        self.make(unit, choice);
        true
    }

    /// Why the best that could be done with a unit is not done; none: it is.
    fn judge(&self, unit: usize, found: Found) -> Option<Kept> {
        let (unit, settings) = (&self.units[unit], &self.snapshot.settings);
        let evacuates = self.evacuates(unit);
        match (unit.hold, found) {
            (Some(Hold::Resting { .. }), _) if evacuates => {}
            (Some(hold), _) => return Some(Kept::Held(hold)),
            (None, _) => {}
        }
        let score = match found {
            None => return Some(Kept::NoTarget),
            Some(choice) if evacuates || self.is_worth(&choice) => choice.score,
            Some(choice) if choice.avoided < settings.improvement_min => {
                return Some(Kept::TooLittle { avoided: choice.avoided });
            }
            Some(choice) => return Some(Kept::BelowThreshold { score: choice.score }),
        };
        let fits = self.moves.len() < settings.moves_max && self.bytes + unit.bytes <= settings.bytes_max;
        if fits { None } else { Some(Kept::Budget { score }) }
    }

    fn evacuates(&self, unit: &Unit) -> bool {
        self.snapshot.partitions[unit.at].state != State::Serving
    }

    fn is_worth(&self, option: &Choice) -> bool {
        option.avoided >= self.snapshot.settings.improvement_min
            && option.avoided > option.cost
            && option.score >= self.threshold
    }

    /// Units of partitions in trouble, of each those that weigh most when it is.
    fn candidates(&self) -> Vec<usize> {
        let troubled: Vec<bool> = (0..self.carried.len())
            .map(|p| {
                let serves = self.snapshot.partitions[p].state == State::Serving;
                !serves || self.weighed(&self.overload[p]) >= OVERLOAD_MIN
            })
            .collect();
        let moved = |unit: &Unit| matches!(self.fates[unit.members[0]], Some(Fate::Moves(_)));
        let mut units: Vec<(f64, usize)> = (0..self.units.len())
            .filter(|&unit| troubled[self.units[unit].at] && !moved(&self.units[unit]))
            .map(|unit| (self.weight(&self.units[unit]), unit))
            .collect();
        let at = |unit: usize| self.units[unit].at;
        units.sort_by(|x, y| at(x.1).cmp(&at(y.1)).then(y.0.total_cmp(&x.0)).then(x.1.cmp(&y.1)));
        let mut taken = vec![0_usize; self.carried.len()];
        units.retain(|(_, unit)| {
            taken[at(*unit)] += 1;
            taken[at(*unit)] <= CANDIDATES_MAX || self.evacuates(&self.units[*unit])
        });
        units.into_iter().map(|(_, unit)| unit).collect()
    }

    /// How much of its partition a unit takes in the hours in which that is overloaded.
    fn weight(&self, unit: &Unit) -> f64 {
        let overload = self.overload[unit.at].iter().zip(&self.weights).enumerate();
        overload
            .map(|(hour, (overload, weight))| {
                overload * weight * unit.members.iter().map(|&m| self.means[m][hour]).sum::<f64>()
            })
            .sum()
    }

    /// Where it would be best for a unit to be, if anywhere is better than here.
    fn best_target(&self, unit: &Unit) -> Found {
        let (entities, partitions) = (&self.snapshot.entities, &self.snapshot.partitions);
        let hours = self.snapshot.shape.hours;
        let mut without = self.carried[unit.at].clone();
        unit.add_to(&mut without, entities, -1.0);
        let mut relieved = vec![0.0; hours];
        without.by_hour(&partitions[unit.at], 0.0, &mut relieved);
        let source = self.weighed(&self.overload[unit.at]);
        let copying = score::hours_of_copying(&self.snapshot.settings, unit.bytes);
        let targets =
            target::best(self.snapshot, &self.fills, unit.at, |p| self.together(unit, p), TARGETS_MAX);
        let mut options = Vec::with_capacity(targets.len());
        for target in targets {
            let mut with = self.carried[target.partition].clone();
            unit.add_to(&mut with, entities, 1.0);
            let mut burdened = vec![0.0; hours];
            with.by_hour(&partitions[target.partition], 0.0, &mut burdened);
            let here = self.overload[unit.at].iter().zip(&relieved).map(|(before, after)| before - after);
            let there =
                burdened.iter().zip(&self.overload[target.partition]).map(|(after, before)| after - before);
            let gain = here.zip(there).enumerate();
            let by_hour: Vec<f64> =
                gain.map(|(hour, (gain, loss))| (gain - loss) * self.after(copying, hour)).collect();
            let avoided = self.weighed(&by_hour);
            options.push((avoided, schedule::needed(&by_hour), target));
        }
        let most = options.iter().map(|option| option.0).fold(f64::NEG_INFINITY, f64::max);
        let evacuates = self.evacuates(unit);
        let alike = |avoided: f64| avoided >= most - ALIKE * most.abs();
        // They are in the order of their target scores.
        let (avoided, needed, target) = options.into_iter().find(|(avoided, ..)| alike(*avoided))?;
        if avoided <= 0.0 && !evacuates {
            return None;
        }
        let ends = [unit.at, target.partition];
        let begin = if evacuates { 0 } else { self.begin(ends, needed, copying) };
        let cost = score::cost(&self.snapshot.settings, self.burden(ends, begin, copying), unit.dependencies);
        let score = if evacuates { 1.0 } else { score::score(source, avoided, cost) };
        Some(Choice { target, avoided, cost, score, needed, begin })
    }

    /// The part of an hour that lies behind a move that begins now and takes `copying` hours.
    fn after(&self, copying: f64, hour: usize) -> f64 {
        let left = self.snapshot.left;
        let ends = left + hour as f64;
        let long = if hour == 0 { left } else { 1.0 };
        if long > 0.0 { ((ends - copying) / long).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// When a move between these two begins.
    fn begin(&self, ends: [usize; 2], needed: usize, copying: f64) -> usize {
        let [from, to] = ends.map(|p| &self.used[p]);
        let busy: Vec<f64> = from.iter().zip(to).map(|(from, to)| from.max(*to)).collect();
        schedule::begin(&busy, needed, copying, self.snapshot.settings.lead_hours)
    }

    /// The overload that copying causes.
    fn burden(&self, ends: [usize; 2], begin: usize, copying: f64) -> f64 {
        let mut with = vec![0.0; self.snapshot.shape.hours];
        let mut sum = 0.0;
        for end in ends {
            self.carried[end].by_hour(
                &self.snapshot.partitions[end],
                self.snapshot.settings.copy_share,
                &mut with,
            );
            let caused =
                with.iter().zip(&self.overload[end]).map(|(with, without)| (with - without).max(0.0));
            let parts = (0..).map(|hour| (copying - f64::from(hour)).clamp(0.0, 1.0));
            sum += caused.skip(begin).zip(parts).map(|(caused, part)| caused * part).sum::<f64>();
        }
        sum
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

    fn make(&mut self, unit: usize, choice: Choice) {
        let Choice { target, avoided, cost, score, needed, begin } = choice;
        let evacuation = self.evacuates(&self.units[unit]);
        let Unit { members, at: from, bytes, .. } = self.units[unit].clone();
        let to = target.partition;
        let [lost, gained] = [(from, -1.0), (to, 1.0)];
        for (partition, times) in [lost, gained] {
            self.units[unit].add_to(&mut self.carried[partition], &self.snapshot.entities, times);
            self.look(partition);
        }
        self.units[unit].at = to;
        for &member in &members {
            self.at[member] = to;
            self.fates[member] = Some(Fate::Moves(self.moves.len()));
        }
        self.forget(from, to);
        self.bytes += bytes;
        self.moves.push(Move {
            entities: members,
            from,
            to,
            score,
            avoided,
            cost,
            target_score: target.score,
            bytes,
            needed,
            begin,
            evacuation,
        });
    }

    /// What was found for units that a move between these two concerns is found anew.
    fn forget(&mut self, from: usize, to: usize) {
        let concerned = |p: usize| p == from || p == to;
        for (unit, found) in self.units.iter().zip(&mut self.found) {
            let target = found.flatten().map(|choice| choice.target.partition);
            if concerned(unit.at) || target.is_none_or(concerned) {
                *found = None;
            }
        }
    }
}

/// What hours weigh: each a little less than the one before, and of the first one what is left of it.
fn weights(snapshot: &Snapshot) -> Vec<f64> {
    let falling = |w: &mut f64, _| Some(std::mem::replace(w, *w * snapshot.settings.discount));
    let mut weights: Vec<f64> = (0..snapshot.shape.hours).scan(1.0, falling).collect();
    weights.iter_mut().take(1).for_each(|first| *first *= snapshot.left);
    weights
}

/// See [`Planner::means`].
fn means(snapshot: &Snapshot, entity: &Entity) -> Vec<f64> {
    let capacity = snapshot.partitions[entity.at].capacity;
    (0..snapshot.shape.hours)
        .map(|hour| {
            let loads = entity.loads.0.iter().zip(capacity);
            loads.map(|(l, c)| f64::from(l.mean(hour, snapshot.shape)) / c).fold(0.0, f64::max)
        })
        .collect()
}
