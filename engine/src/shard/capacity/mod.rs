//! What partitions, and this core, may do a second: set, and then kept by pacing, or learnt, and then only told.
//!
//! `cost` says what work costs, `budget` when the next may go. A server paces each command once, before it runs
//! ([`Shard::due`], [`Shard::pace`]); what it then does is charged where it is done. It waits on its own shard, with nothing sent: of a
//! partition elsewhere the owner is asked for a time, which it tells at once.
//!
//! Invariants:
//! - nobody is refused, and nobody waits who is within what is set;
//! - where nothing is set, an operation costs two additions, and a command a look at one flag;
//! - all shards have been told the same settings.

mod budget;
pub mod cost;
pub mod work;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use self::budget::Budget;
use self::cost::MilliUnits;
use self::work::Work;
use super::{Owned, Shard};
use crate::counters::Load;
use crate::error::{Error, Result};
use crate::ids::{PartitionId, ShardId};
use crate::io::runtime::Nanos;
use crate::key::is_nodes_own;
use crate::table::Home;

/// Part of a core that is planned to be used, where capacity is learnt.
const CORE_SHARE: f64 = 0.8;
/// Before a core was busy for so long, it is taken to do what the cost model says: a unit a microsecond.
const BUSY_NANOS_MIN: f64 = 1e9;
/// Processor time in which what was learnt of the machine before is forgotten: what others do on it changes in minutes.
const FACTOR_NANOS: f64 = 60e9;
const UNITS_PER_SECOND: f64 = 1e6;
/// How soon whoever waits notices that something else was set.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What may be done, in cost units a second; what is not named, or 0, is not limited.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Capacities {
    /// Each shard.
    pub shard: f64,
    /// Each partition.
    pub partition: f64,
    /// These shards, whatever the others.
    pub shards: BTreeMap<u16, f64>,
    /// These partitions, whatever the others.
    pub partitions: BTreeMap<u32, f64>,
}

/// What is paced, and by how much.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Paced {
    /// What is set, units a second; none: nothing is.
    pub set: Option<f64>,
    /// Commands that wait for their time.
    pub waiting: usize,
}

/// How a shard does beside what it may.
#[derive(Clone, Debug)]
pub struct CapacityStatus {
    /// The shard itself.
    pub shard: Paced,
    /// Its partitions.
    pub partitions: Vec<(PartitionId, Paced)>,
    /// Units a second that it can do, as far as is known.
    pub learnt: f64,
    /// Microseconds of this machine's processor, the kernel's workers aside, that a cost unit takes.
    pub factor: f64,
    /// What was done since the start.
    pub totals: CapacityTotals,
}

/// Sums since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CapacityTotals {
    /// Cost of everything done.
    pub spent: MilliUnits,
    /// Of that, the cost of operations on rows, but for those that the node keeps of itself.
    pub spent_on_rows: MilliUnits,
    /// What was done.
    pub work: Work,
    /// Commands that waited.
    pub paced: u64,
    /// How long all of them did.
    pub paced_nanos: u64,
}

impl Capacities {
    /// Checks that all are numbers that can be kept.
    ///
    /// # Errors
    /// [`Error::Misuse`] naming the one.
    pub fn check(&self) -> Result<()> {
        let one = [("shard".to_owned(), self.shard), ("partition".to_owned(), self.partition)];
        let shards = self.shards.iter().map(|(id, units)| (format!("shard {id}"), *units));
        let partitions = self.partitions.iter().map(|(id, units)| (format!("partition {id}"), *units));
        for (what, units) in one.into_iter().chain(shards).chain(partitions) {
            // Less than one unit a second is a stop, and not a pace.
            if units != 0.0 && !(1.0..=1e12).contains(&units) {
                return Err(Error::misuse(format!(
                    "capacity of {what} = {units}: must be 0, for no limit, or between 1 and 1e12 cost units a second"
                )));
            }
        }
        Ok(())
    }

    /// Units a second of a shard, if they are limited.
    #[must_use]
    pub fn of_shard(&self, id: ShardId) -> Option<f64> {
        let units = self.shards.get(&id.0).copied().unwrap_or(self.shard);
        Some(units).filter(|units| *units > 0.0)
    }

    /// Units a second of a partition, if they are limited.
    #[must_use]
    pub fn of_partition(&self, id: PartitionId) -> Option<f64> {
        let units = self.partitions.get(&id.0).copied().unwrap_or(self.partition);
        Some(units).filter(|units| *units > 0.0)
    }

    fn is_empty(&self) -> bool {
        let any = self.shards.values().chain(self.partitions.values()).any(|units| *units > 0.0);
        !any && self.shard <= 0.0 && self.partition <= 0.0
    }
}

/// What is known of the machine, and when that was learnt.
#[derive(Clone, Copy, Default, Debug)]
struct Learnt {
    nanos: u64,
    spent: MilliUnits,
    factor: Option<f64>,
}

/// A shard's part in it.
#[derive(Debug, Default)]
pub(crate) struct Capacity {
    set: RefCell<Capacities>,
    is_set: Cell<bool>,
    /// How often that was set.
    changes: Cell<u64>,
    shard: RefCell<Option<Budget>>,
    partitions: RefCell<BTreeMap<PartitionId, Budget>>,
    totals: Cell<CapacityTotals>,
    /// What is in them of what the core does for everybody; none: it was not looked at.
    shared: Cell<Option<Work>>,
    learnt: Cell<Learnt>,
}

impl Capacity {
    pub(crate) fn new(set: Capacities, id: ShardId) -> Self {
        let capacity = Self::default();
        capacity.change(set, id);
        capacity
    }

    fn change(&self, set: Capacities, id: ShardId) {
        self.changes.set(self.changes.get() + 1);
        self.is_set.set(!set.is_empty());
        let kept = |budget: &Option<Budget>| budget.as_ref().map(Budget::units_per_second);
        if kept(&self.shard.borrow()) != set.of_shard(id) {
            *self.shard.borrow_mut() = set.of_shard(id).map(Budget::new);
        }
        let mut partitions = self.partitions.borrow_mut();
        partitions.retain(|id, budget| set.of_partition(*id) == Some(budget.units_per_second()));
        drop(partitions);
        *self.set.borrow_mut() = set;
    }

    /// Does something with a partition's budget, if it has one.
    fn with<R>(&self, id: PartitionId, f: impl FnOnce(&mut Budget) -> R) -> Option<R> {
        let units = self.set.borrow().of_partition(id)?;
        Some(f(self.partitions.borrow_mut().entry(id).or_insert_with(|| Budget::new(units))))
    }

    fn add(&self, f: impl FnOnce(&mut CapacityTotals)) {
        let mut totals = self.totals.get();
        f(&mut totals);
        self.totals.set(totals);
    }
}

impl Shard {
    /// From here on these are kept here. All shards are told the same.
    ///
    /// # Errors
    /// As [`Capacities::check`].
    pub fn set_capacities(&self, set: Capacities) -> Result<()> {
        set.check()?;
        self.capacity.change(set, self.id());
        Ok(())
    }

    /// What is set.
    #[must_use]
    pub fn capacities(&self) -> Capacities {
        self.capacity.set.borrow().clone()
    }

    /// Whether anything is: if not, everything is due at once.
    #[inline]
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.capacity.is_set.get()
    }

    /// When a command may run here that goes on with these partitions; none: at once. It has that place from now on, and is
    /// to ask once: who is sent on waits with [`Shard::pace`] first.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn due(self: &Rc<Self>, homes: &[Home]) -> Result<Option<Nanos>> {
        let now = self.runtime().now();
        let mut wait = self.time_for(None).since(now);
        for home in homes {
            let (id, owner) = (home.partition, home.shard);
            let is_elsewhere = owner != self.id();
            let is_limited = {
                let set = self.capacity.set.borrow();
                set.of_partition(id).is_some() || (is_elsewhere && set.of_shard(owner).is_some())
            };
            if !is_limited {
                continue;
            }
            let reserve = move |shard: Rc<Self>| async move {
                let now = shard.runtime().now();
                let core = if is_elsewhere { shard.time_for(None).since(now) } else { Duration::ZERO };
                Ok(core.max(shard.time_for(Some(id)).since(now)))
            };
            wait = wait.max(self.on_shard(owner, reserve).await?);
        }
        Ok(Some(now.after(wait)).filter(|_| !wait.is_zero()))
    }

    /// Waits until then, or until something else is set, and counts that.
    pub async fn pace(&self, due: Nanos) {
        let (began, changes) = (self.runtime().now(), self.capacity.changes.get());
        while self.runtime().now() < due && self.capacity.changes.get() == changes {
            let look = self.runtime().now().after(LOOK_EVERY);
            self.runtime().sleep_until(due.min(look)).await;
        }
        let waited = u64::try_from(self.runtime().now().since(began).as_nanos()).unwrap_or(u64::MAX);
        self.capacity.add(|totals| {
            totals.paced += 1;
            totals.paced_nanos = totals.paced_nanos.saturating_add(waited);
        });
    }

    /// Charges what the core has done for everybody since the last look: nobody knows beforehand how many will share a
    /// batch of the log, or a wake-up.
    fn spend_shared(&self) {
        let (wakes, log_batches) = (self.runtime().wakes(), self.common.wal().committed_batch());
        let so_far = Work { wakes, log_batches, ..Work::NONE };
        let before = self.capacity.shared.replace(Some(so_far)).unwrap_or(so_far);
        if so_far != before {
            let wakes = wakes.saturating_sub(before.wakes);
            let log_batches = log_batches.saturating_sub(before.log_batches);
            self.spend(&Work { wakes, log_batches, ..Work::NONE });
        }
    }

    /// From when on one more command may go that a partition, or this core, pays for.
    pub(super) fn time_for(&self, partition: Option<PartitionId>) -> Nanos {
        if partition.is_none() {
            self.spend_shared();
        }
        let now = self.runtime().now();
        let at = match partition {
            Some(id) => self.capacity.with(id, |budget| budget.admit(now)),
            None => self.capacity.shard.borrow_mut().as_mut().map(|budget| budget.admit(now)),
        };
        at.unwrap_or(now)
    }

    /// An operation on an entity's row of a partition was done here.
    pub(super) fn spend_on_row(&self, owned: &Owned, row: (&[u8], &[u8]), load: &Load) {
        self.spend_for(owned, row, &Work::of_operation(load));
    }

    /// A page was read here, from an entity's row on.
    pub(super) fn spend_on_page(&self, owned: &Owned, row: (&[u8], &[u8]), rows: usize) {
        self.spend_for(owned, row, &Work::of_page(rows));
    }

    /// Returns when a read of a shadow may go, which pays as whoever is served here does.
    pub(super) async fn pace_shadow(&self, id: PartitionId) {
        if self.is_paced() {
            self.runtime().sleep_until(self.time_for(None).max(self.time_for(Some(id)))).await;
        }
        self.spend_in(id, &Work { operations: 1, reads: 1, ..Work::NONE });
    }

    /// What the node keeps of itself is its core's work, and takes nothing of what a partition may do.
    fn spend_for(&self, owned: &Owned, (entity, key): (&[u8], &[u8]), work: &Work) {
        if is_nodes_own(entity, key) {
            self.spend(work);
        } else {
            self.spend_in(owned.partition.id, work);
        }
    }

    fn spend_in(&self, id: PartitionId, work: &Work) {
        let cost = cost::of(work);
        self.capacity.add(|totals| totals.spent_on_rows += cost);
        if self.is_paced() {
            let now = self.runtime().now();
            self.capacity.with(id, |budget| budget.charge(now, cost));
        }
        self.spend(work);
    }

    /// Something was done here that no partition pays for: commands were decoded and answered.
    pub fn spend(&self, work: &Work) {
        let cost = cost::of(work);
        self.capacity.add(|totals| {
            totals.spent += cost;
            totals.work.add(work);
        });
        if self.is_paced()
            && let Some(budget) = self.capacity.shard.borrow_mut().as_mut()
        {
            budget.charge(self.runtime().now(), cost);
        }
    }

    /// As [`CapacityStatus::factor`].
    #[must_use]
    pub fn capacity_factor(&self) -> f64 {
        self.spend_shared();
        self.learn_factor()
    }

    /// What was spent, and who waited.
    #[must_use]
    pub fn capacity_totals(&self) -> CapacityTotals {
        self.spend_shared();
        self.capacity.totals.get()
    }

    /// How it does beside what it may.
    #[must_use]
    pub fn capacity_status(&self) -> CapacityStatus {
        let now = self.runtime().now();
        let set = self.capacities();
        let partitions = self.partitions().map(|partition| {
            let waiting = self.capacity.with(partition.id, |budget| budget.waiting(now)).unwrap_or(0);
            (partition.id, Paced { set: set.of_partition(partition.id), waiting })
        });
        let waiting = self.capacity.shard.borrow_mut().as_mut().map_or(0, |budget| budget.waiting(now));
        let totals = self.capacity_totals();
        CapacityStatus {
            shard: Paced { set: set.of_shard(self.id()), waiting },
            partitions: partitions.collect(),
            learnt: self.capacity_learnt(),
            factor: self.learn_factor(),
            totals,
        }
    }

    /// Units a second that this core does when it is as busy as it is planned to be.
    fn capacity_learnt(&self) -> f64 {
        CORE_SHARE * UNITS_PER_SECOND / self.learn_factor()
    }

    /// Microseconds of this machine's processor that a cost unit takes, by what was done so far; what was done long ago counts
    /// less.
    #[expect(clippy::cast_precision_loss, reason = "times of less than a century")]
    fn learn_factor(&self) -> f64 {
        let Learnt { nanos, spent, factor } = self.capacity.learnt.get();
        let Some(nanos_now) = self.runtime().processor_nanos() else { return 1.0 };
        let spent_now = self.capacity.totals.get().spent;
        let (nanos, spent) = (nanos_now.saturating_sub(nanos) as f64, spent_now.saturating_sub(spent) as f64);
        if nanos < BUSY_NANOS_MIN || spent <= 0.0 {
            return factor.unwrap_or(1.0);
        }
        let seen = nanos / spent;
        let weight = (nanos / FACTOR_NANOS).min(1.0);
        let learnt = factor.map_or(seen, |factor| factor + weight * (seen - factor));
        self.capacity.learnt.set(Learnt { nanos: nanos_now, spent: spent_now, factor: Some(learnt) });
        learnt
    }
}
