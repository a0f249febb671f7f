//! What a planner knows, and its turns: a tick's counts, an hour's end.
//!
//! It asks shards as any client does. What is decided is decided in `foreshard_placement`, from what is here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use foreshard_engine::counters::{Load, Tick};
use foreshard_engine::ids::{PartitionId, ShardId};
use foreshard_engine::key::{self, RoutingKey};
use foreshard_engine::shard::Shard;
use foreshard_engine::table::Image;
use foreshard_engine::{Client, Error, block_on};
use foreshard_forecast::store::EntityId;
use foreshard_placement::Reactive;
use foreshard_placement::forecasts::{Forecasts, Subject};
use foreshard_placement::history::{Counted, History};
use foreshard_placement::ledger::{Entry, Judged, LEAD, Ledger, Said, Why};

use super::burst::{BURST_FIRST, Burst};
use super::capacity::Capacity;
use super::growth::Change;
use super::hours::{Hours, instant};
use super::keep::{self, Kept};
use super::made::Made;
use super::memory::Memory;
use super::orders;
use super::settings::PlannerSettings;

/// How fast what was measured of bursts and of requests' cost is forgotten, by hour.
pub(super) const FADING: f64 = 0.9;
/// How much less a target is preferred after a rejection there: twice in a row, and it is the last that is tried.
const REJECTED_PENALTY: f64 = 0.5;
/// A smaller penalty changes no plan.
const FORGIVEN: f64 = 0.05;

/// A planner.
#[derive(Debug)]
pub(super) struct Mind {
    pub(super) client: Client,
    pub(super) settings: PlannerSettings,
    pub(super) hours: Hours,
    pub(super) history: History,
    pub(super) forecasts: Forecasts,
    pub(super) ledger: Ledger,
    pub(super) memory: Memory,
    pub(super) image: Arc<Image>,
    pub(super) made: Option<Made>,
    pub(super) rule: Rule,
    /// The first hour that was counted.
    first_hour: i64,
    /// Entities that could not be moved in this hour.
    pub(super) refused: BTreeSet<EntityId>,
    /// How much less partitions are preferred, 0..=1, because a shadow there did not bear what its entity is asked.
    pub(super) penalties: BTreeMap<u32, f64>,
    /// In which hour an entity moved last.
    pub(super) moved: BTreeMap<EntityId, i64>,
    /// Of those that were taken back, when.
    pub(super) returned: BTreeMap<EntityId, i64>,
    /// Changes of partitions that were begun, and in which hour a partition changed last.
    pub(super) changes: Vec<Change>,
    pub(super) changed: BTreeMap<u32, i64>,
    pub(super) sizes: BTreeMap<EntityId, f64>,
    /// How loads vary within the hour: of entities that are followed, and of partitions with all that they have.
    bursts: BTreeMap<Subject, Burst>,
    /// Ticks of the hour under way.
    ticks: f64,
    /// When the hour under way was begun to be counted.
    pub(super) counted_since: Instant,
    /// What partitions can do.
    pub(super) capacity: Capacity,
}

/// The reactive rule, and what it is shown of the second under way.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) rule: Reactive,
    pub(super) since: Instant,
    pub(super) partitions: BTreeMap<u32, f64>,
    pub(super) entities: BTreeMap<EntityId, f64>,
    /// Requests a second of entities, smoothed.
    pub(super) smoothed: BTreeMap<EntityId, f64>,
}

impl Mind {
    pub(super) fn new(client: Client, settings: PlannerSettings) -> Result<Self, Error> {
        let hours = Hours::new(settings.hour_seconds, settings.start_hour);
        let image = image(&client)?;
        let partitions = image.state().partitions.len();
        let rule = Rule {
            rule: Reactive::new(settings.rule(), partitions),
            since: instant(),
            partitions: BTreeMap::new(),
            entities: BTreeMap::new(),
            smoothed: BTreeMap::new(),
        };
        Ok(Self {
            history: History::new(settings.limits(), hours.hour()),
            forecasts: Forecasts::default(),
            ledger: Ledger::default(),
            memory: Memory { paused: settings.paused, ..Memory::default() },
            image,
            made: None,
            rule,
            first_hour: hours.hour(),
            refused: BTreeSet::new(),
            penalties: BTreeMap::new(),
            moved: BTreeMap::new(),
            returned: BTreeMap::new(),
            changes: Vec::new(),
            changed: BTreeMap::new(),
            sizes: BTreeMap::new(),
            bursts: BTreeMap::new(),
            ticks: 0.0,
            counted_since: instant(),
            capacity: Capacity::default(),
            client,
            settings,
            hours,
        })
    }

    /// The hours begin now: those of a replay behind the last one that was kept.
    pub(super) fn begin_hours(&mut self, kept: Option<i64>) {
        let replayed = self.settings.start_hour.max(kept.map_or(i64::MIN, |last| last + 1));
        let start = if self.settings.start_hour == 0 { 0 } else { replayed };
        self.hours = Hours::new(self.settings.hour_seconds, start);
        self.first_hour = self.hours.hour();
        self.counted_since = instant();
        self.history.forget_hour(self.hours.hour());
    }

    /// Goes on from what was kept.
    pub(super) fn restore(&mut self, kept: &Kept) {
        let refused = kept.restore(&mut self.history);
        if refused > 0 {
            tracing::warn!(
                "{refused} kept hours of entities are not over yet by the planner's clock, and left out"
            );
        }
        if let Some(memory) = &kept.memory {
            self.memory = memory.clone();
        }
        for kept in &kept.moves {
            let entry = orders::entry(kept);
            #[expect(clippy::cast_possible_truncation, reason = "hours since 1970")]
            let hour = entry.began.floor() as i64;
            self.moved.insert(entry.entity, hour);
            if matches!(entry.why, Why::Back { .. }) {
                self.returned.insert(entry.entity, hour);
            }
            self.ledger.begin(entry);
        }
    }

    /// Keeps what was told.
    ///
    /// # Errors
    /// That it counts until the next restart only.
    pub(super) fn keep_memory(&self) -> Result<(), String> {
        keep::save_memory(&self.client, &self.memory)
            .map_err(|e| format!("it counts from now on, but is not kept over a restart: {e}"))
    }

    /// Keeps moves, those under way too: who moved rests, also after a restart.
    pub(super) fn keep_moves(&self) {
        if let Err(e) = keep::save_moves(&self.client, &orders::kept(&self.ledger)) {
            tracing::warn!("moves are not kept over a restart: {e}");
        }
    }

    /// Keeps all hours that are known.
    ///
    /// # Errors
    /// That they are known until the next restart only.
    pub(super) fn keep_hours(&self) -> Result<(), String> {
        keep::save_hours(&self.client, &self.history)
            .map_err(|e| format!("hours are known from now on, but not kept over a restart: {e}"))
    }

    fn keep_hour(&self, hour: i64, entities: &[(Vec<u8>, Counted)]) {
        let was_emptied = || -> Result<bool, Error> {
            Ok(hour > self.first_hour && !keep::has_hour(&self.client, hour - 1)?)
        };
        let saved = was_emptied().and_then(|was_emptied| {
            if was_emptied {
                keep::save_hours(&self.client, &self.history)?;
                keep::save_memory(&self.client, &self.memory)?;
            }
            keep::save_hour(&self.client, hour, entities)
        });
        if let Err(e) = saved {
            tracing::warn!("hour {hour} is not kept over a restart: {e}");
        }
        self.keep_moves();
    }

    /// Takes what shards counted since the last time.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        let ticks = block_on(self.client.ticks())?;
        self.image = image(&self.client)?;
        self.ticks += 1.0;
        for tick in &ticks {
            self.take(tick);
        }
        self.learn_capacities()
    }

    fn take(&mut self, tick: &Tick) {
        for (id, load) in &tick.partitions {
            let counted = counted(&load.load);
            self.history.count_partition(id.0, &counted);
            *self.rule.partitions.entry(id.0).or_default() += counted.requests();
            self.burst(Subject::Rest(id.0)).take(counted.requests());
        }
        let own = RoutingKey::of(key::NODES_OWN);
        for entity in tick.entities() {
            let (lower, upper) = (counted(&entity.load.lower), counted(&entity.load.upper));
            // By its key: it may not have earned its name.
            if entity.routing == own {
                continue;
            }
            let id = EntityId(entity.routing.0);
            self.history.count(id, entity.name, &lower, upper.requests() - lower.requests());
            *self.rule.entities.entry(id).or_default() += lower.requests();
            if self.forecasts.follows(Subject::Entity(id)) {
                self.burst(Subject::Entity(id)).take(lower.requests());
            }
        }
        for pair in tick.pairs() {
            let [a, b] = pair.routing.map(|routing| EntityId(routing.0));
            #[expect(clippy::cast_precision_loss, reason = "a count that is weighed")]
            self.history.count_pair(a, b, pair.count.lower as f64);
        }
    }

    fn burst(&mut self, subject: Subject) -> &mut Burst {
        self.bursts.entry(subject).or_insert_with(Burst::new)
    }

    /// Spread of a load's seconds within an hour, as a part of its mean.
    pub(super) fn spread(&self, subject: Subject) -> f64 {
        self.bursts.get(&subject).map_or(BURST_FIRST, |burst| burst.spread)
    }

    /// The hour under way is over: it is kept, what was said of it is judged, and everything is forecast anew.
    pub(super) fn end_hour(&mut self, next: i64) {
        let hour = self.history.hour();
        let seconds = self.counted_since.elapsed().as_secs_f64();
        self.counted_since = instant();
        let named = |(entity, load)| Some((self.history.name(entity)?.to_vec(), load));
        let entities: Vec<(Vec<u8>, Counted)> = self.history.hour_so_far(seconds).filter_map(named).collect();
        self.refused.clear();
        let settings = &self.settings;
        let forgotten = next - settings.home_hours.max(settings.rest_hours).max(settings.back_rest_hours);
        self.moved.retain(|_, moved| *moved >= forgotten);
        self.returned.retain(|_, returned| *returned >= forgotten);
        self.learn_cost();
        self.end_hour_of_answers();
        let ticks = std::mem::take(&mut self.ticks);
        self.bursts.values_mut().for_each(|burst| burst.end_hour(ticks));
        self.bursts.retain(|subject, _| self.forecasts.follows(*subject));
        self.forgive();
        let places: BTreeMap<EntityId, u32> =
            self.history.entities().filter_map(|id| Some((id, self.partition_of(id)?.0))).collect();
        self.history.end_hour(seconds, next, |entity| places.get(&entity).copied());
        let ids: BTreeSet<u32> = self.partition_ids().into_iter().map(|id| id.0).collect();
        self.history.keep_partitions(|id| ids.contains(&id));
        let loads: BTreeMap<Subject, f64> = self
            .subjects()
            .into_iter()
            .filter_map(|(subject, _, series)| Some((subject, series.load(hour)?)))
            .collect();
        self.judge(hour, &loads);
        self.ledger.happened(hour, loads);
        self.keep_hour(hour, &entities);
        self.forecast();
        self.say();
    }

    /// A shadow did not bear its entity in a partition: others are preferred for some hours.
    pub(super) fn penalize(&mut self, partition: u32) {
        let penalty = self.penalties.entry(partition).or_default();
        *penalty = (*penalty + REJECTED_PENALTY).min(1.0);
    }

    pub(super) fn penalty(&self, id: PartitionId) -> f64 {
        self.penalties.get(&id.0).copied().unwrap_or(0.0)
    }

    /// Whether the rule for seconds, which knows no preference, may send anybody there.
    pub(super) fn takes(&self, id: PartitionId) -> bool {
        self.penalty(id) < REJECTED_PENALTY / 2.0
    }

    fn forgive(&mut self) {
        self.penalties.values_mut().for_each(|penalty| *penalty *= FADING);
        self.penalties.retain(|_, penalty| *penalty > FORGIVEN);
    }

    /// Forecasts everything from the hour under way on.
    pub(super) fn forecast(&mut self) {
        let hour = self.history.hour();
        // Checked whenever an event is told.
        let calendar = self.memory.calendar().unwrap_or_default();
        let told = self.memory.told(hour);
        self.forecasts.advance(self.subjects(), (&calendar, &told), hour);
    }

    /// Keeps what is forecast of an hour some hours ahead, once an hour: what it will be judged by. Who did worse than the day
    /// before is demoted first.
    pub(super) fn say(&mut self) {
        let hour = self.history.hour();
        self.ledger.keep(|subject| self.forecasts.follows(subject));
        let shape = Forecasts::shape();
        for subject in self.forecasts.subjects().collect::<Vec<_>>() {
            self.forecasts.demote(subject, self.ledger.is_worse(subject));
            if let Some(paths) = self.forecasts.paths(subject) {
                let at = |share| paths.quantile(LEAD, share, shape);
                let said = hour + LEAD as i64;
                let day_before = self.forecasts.day_before(subject, said);
                self.ledger
                    .say(subject, Said { hour: said, q10: at(0.1), q50: at(0.5), q90: at(0.9), day_before });
            }
        }
    }

    /// Where an entity is.
    pub(super) fn partition_of(&self, entity: EntityId) -> Option<PartitionId> {
        let mut prefix = Vec::new();
        key::encode_entity(self.history.name(entity)?, &mut prefix).ok()?;
        Some(self.image.home_of(&prefix).partition)
    }

    /// Partitions, in the order in which a plan counts them.
    pub(super) fn partition_ids(&self) -> Vec<PartitionId> {
        self.image.state().partitions.keys().copied().collect()
    }

    /// All that is followed, with names and hours.
    fn subjects(&self) -> Vec<(Subject, String, foreshard_forecast::Series)> {
        let entities = self.history.entities().filter_map(|entity| {
            let name = String::from_utf8_lossy(self.history.name(entity)?).into_owned();
            Some((Subject::Entity(entity), name, self.history.requests(entity)?))
        });
        let rests = self
            .partition_ids()
            .into_iter()
            .filter_map(|id| Some((Subject::Rest(id.0), String::new(), self.history.rest(id.0)?.clone())));
        entities.chain(rests).collect()
    }

    /// Judges the moves that were for this hour.
    fn judge(&mut self, hour: i64, loads: &BTreeMap<Subject, f64>) {
        let load = |id: u32| self.history.load(id)?.load(hour);
        let entity = |entry: &Entry| loads.get(&Subject::Entity(entry.entity)).copied().unwrap_or(0.0);
        // Those that left together are needed or not together.
        let mut left: BTreeMap<u32, f64> = BTreeMap::new();
        for entry in self.ledger.judged_by(hour) {
            *left.entry(entry.from).or_default() += entity(entry);
        }
        let facts = |entry: &Entry| {
            let (source, target) = (load(entry.from)?, load(entry.to)?);
            let source_without = source + left.get(&entry.from).copied().unwrap_or(0.0);
            Some(Judged { source, source_without, target, capacity: self.capacity(PartitionId(entry.from)) })
        };
        let judged: BTreeMap<u64, Judged> =
            self.ledger.judged_by(hour).filter_map(|entry| Some((entry.id, facts(entry)?))).collect();
        self.ledger.judge(hour, |entry| judged.get(&entry.id).copied());
    }

    /// What each shard says, one after the other.
    pub(super) fn of_all_shards<T: Send + 'static>(
        &self,
        say: impl Fn(&Shard) -> Vec<T> + Copy + Send + 'static,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        for shard in self.client.shards() {
            all.extend(block_on(self.client.on(shard, move |shard| async move { Ok(say(&shard)) }))?);
        }
        Ok(all)
    }
}

/// By what an entity of this name is known.
pub(super) fn entity_of(name: &[u8]) -> EntityId {
    EntityId(RoutingKey::of(name).0)
}

/// The table as the first shard knows it.
pub(super) fn image(client: &Client) -> Result<Arc<Image>, Error> {
    block_on(client.on(ShardId(0), |shard| async move { Ok(shard.image()) }))
}

#[expect(clippy::cast_precision_loss, reason = "counts that are weighed")]
fn counted(load: &Load) -> Counted {
    Counted {
        reads: load.reads as f64,
        writes: load.writes as f64,
        bytes_in: load.bytes_in as f64,
        bytes_out: load.bytes_out as f64,
        service_nanos: load.service_nanos as f64,
    }
}
