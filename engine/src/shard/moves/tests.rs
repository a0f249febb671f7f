//! Counters that are counted up, and rows that are written and deleted, while their entities move: nothing is lost, nothing
//! is done twice, nothing comes back; and bugs that are planted are found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::planted::Bug;
use super::progress::Phase;
use super::shadow::{ShadowPolicy, Shadowing};
use crate::entry::Expiry;
use crate::error::Error;
use crate::ids::{Epoch, PartitionId};
use crate::io::disk::Disk;
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key;
use crate::options::Options;
use crate::partition::strategy::Shape;
use crate::store::simulated::SimulatedStore;
use crate::table::{Partitions, Placed, Table};
use crate::transaction::Transaction;
use crate::{Client, PageLimit};

pub(in crate::shard) const ENTITIES: u8 = 3;
const ROWS: u8 = 4;
pub(in crate::shard) const WORKERS: u8 = 4;
const WORK: usize = 60;
const MOVES: usize = 30;

pub(in crate::shard) fn options() -> Options {
    Options {
        partitions: 4,
        memory_bytes: 1 << 20,
        memtable_bytes: 4 << 10,
        memtables_bytes: 256 << 10,
        wal_file_bytes: 64 << 10,
        wal_batch_bytes: 16 << 10,
        wal_cap_bytes: 512 << 10,
        manifest_file_bytes: 16 << 10,
        block_bytes: 512,
        reserve_bytes: 64 << 10,
        shape: Shape { level0_trigger: 2, base_bytes: 16 << 10, fanout: 4, segment_bytes: 8 << 10 },
        ..Options::default()
    }
}

/// Half of the runs have every move validated, for as long as some of what is done takes: no shadow may be found wrong.
fn options_of(seed: u64) -> Options {
    let policy = if seed.is_multiple_of(2) { ShadowPolicy::Never } else { ShadowPolicy::Always };
    let shadowing = Shadowing { policy, share: 1.0, time_max: Duration::from_millis(2 + seed % 13) };
    Options { shadowing, ..options() }
}

pub(in crate::shard) fn entity(n: u8) -> Vec<u8> {
    vec![b'e', n]
}

/// What must be there.
#[derive(Default)]
pub(in crate::shard) struct Expected {
    /// Acknowledged increments of each counter.
    counted: RefCell<BTreeMap<(u8, u8), u64>>,
    /// What each worker's own rows hold; none: deleted.
    own: RefCell<BTreeMap<(u8, u8), Option<u64>>>,
    pub(in crate::shard) violation: RefCell<Option<String>>,
    pub(in crate::shard) moves: Cell<[u32; 2]>,
    /// Answers of shadows that were equal.
    equal: Cell<u64>,
}

impl Expected {
    pub(in crate::shard) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.borrow().is_none() {
            *self.violation.borrow_mut() = Some(what());
        }
    }
}

pub(in crate::shard) struct Worker {
    pub(in crate::shard) number: u8,
    pub(in crate::shard) client: Client,
    pub(in crate::shard) runtime: Runtime,
    pub(in crate::shard) random: fastrand::Rng,
    pub(in crate::shard) expected: Rc<Expected>,
}

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()))
}

impl Worker {
    pub(in crate::shard) async fn work(mut self) {
        for _ in 0..WORK {
            match self.random.u8(..10) {
                0..5 => self.count_up().await,
                5..8 => self.write_own().await,
                8 => self.scan_own().await,
                _ => self.runtime.sleep(Duration::from_micros(self.random.u64(..3000))).await,
            }
        }
    }

    /// Adds one to counters of one or two entities, all or none.
    async fn count_up(&mut self) {
        let cells: Vec<(u8, u8)> = (0..self.random.usize(1..3))
            .map(|_| (self.random.u8(..ENTITIES), self.random.u8(..ROWS)))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        loop {
            match self.try_count_up(&cells).await {
                Ok(()) => break,
                Err(Error::Conflict | Error::TryAgain(_)) => self.runtime.yield_now().await,
                Err(e) => return self.expected.check(false, || format!("an error: {e}")),
            }
        }
        let mut counted = self.expected.counted.borrow_mut();
        cells.iter().for_each(|cell| *counted.entry(*cell).or_default() += 1);
    }

    async fn try_count_up(&self, cells: &[(u8, u8)]) -> Result<(), Error> {
        let mut transaction = Transaction::new();
        for &(e, row) in cells {
            let known = self.expected.counted.borrow().get(&(e, row)).copied().unwrap_or(0);
            let got = self.client.get_in(&mut transaction, &entity(e), &[row]).await?;
            let n = number(got.as_deref());
            self.expected.check(n >= known, || format!("counter {e}/{row} is {n} after {known}"));
            transaction.put(&entity(e), &[row], &padded(n + 1))?;
        }
        self.client.commit(transaction).await
    }

    async fn write_own(&mut self) {
        let (e, is_deleted) = (self.random.u8(..ENTITIES), self.random.u8(..3) == 0);
        let key = (self.number, e);
        let (name, row) = (entity(e), vec![b'w', self.number]);
        let value = self.random.u64(1..);
        loop {
            let done = if is_deleted {
                self.client.delete(&name, &row).await
            } else {
                self.client.put_until(&name, &row, &padded(value), Expiry::NEVER).await
            };
            match done {
                Ok(()) => break,
                Err(Error::TryAgain(_)) => {}
                Err(e) => return self.expected.check(false, || format!("an error: {e}")),
            }
        }
        self.expected.own.borrow_mut().insert(key, (!is_deleted).then_some(value));
    }

    async fn scan_own(&mut self) {
        let e = self.random.u8(..ENTITIES);
        let limit = PageLimit { rows: 100, bytes: 1 << 20 };
        let page = loop {
            match self.client.scan(&entity(e), &[b'w', self.number], limit).await {
                Ok(page) => break page,
                Err(Error::TryAgain(_)) => {}
                Err(e) => return self.expected.check(false, || format!("an error: {e}")),
            }
        };
        let own = |key: &[u8]| key::decode(key).is_some_and(|(_, row)| row == [b'w', self.number]);
        let got = page.rows.iter().find(|row| own(&row.key)).map(|row| number(Some(&row.value)));
        let held = self.expected.own.borrow().get(&(self.number, e)).copied().flatten();
        self.expected.check(got == held, || format!("own row of {}: {got:?}, not {held:?}", self.number));
    }
}

/// A number, and what makes memtables fill.
fn padded(n: u64) -> Vec<u8> {
    let mut value = n.to_le_bytes().to_vec();
    value.resize(120, b'.');
    value
}

/// Somebody else changes a partition's entry, unless it is no more: a change that was made from the one before is refused.
/// Whether it was there.
pub(in crate::shard) async fn raise_epoch(table: &dyn Table, id: PartitionId) -> bool {
    let image = table.image();
    let Some(&entry) = image.state().partitions.get(&id) else { return false };
    let placed = Placed { epoch: Epoch(entry.placed.epoch.0 + 1), ..entry.placed };
    let (seen, edits) = (vec![(id, entry.version)], vec![(id, Some(placed))]);
    let change = Partitions { seen, edits, ..Partitions::default() };
    // Whoever changes partitions besides may have been first.
    let _decided = table.change(change.into()).await.unwrap();
    true
}

pub(in crate::shard) async fn move_about(
    store: &SimulatedStore,
    runtime: &Runtime,
    expected: &Expected,
    mut random: fastrand::Rng,
) {
    for _ in 0..MOVES {
        runtime.sleep(Duration::from_micros(random.u64(..2000))).await;
        let name = entity(random.u8(..ENTITIES));
        let mut prefix = Vec::new();
        key::encode_entity(&name, &mut prefix).unwrap();
        let table = store.table().unwrap();
        let from = table.image().home_of(&prefix);
        let to = random.bool().then(|| PartitionId(random.u32(..4)));
        let shard = store.shard(usize::from(from.shard.0)).unwrap();
        let Ok(id) = shard.begin_move(&name, to).await else { continue };
        if random.u8(..3) == 0 {
            // R13: a move whose partition has changed its configuration does not commit.
            runtime.sleep(Duration::from_micros(random.u64(..1500))).await;
            if !raise_epoch(&*table, from.partition).await {
                continue;
            }
        } else if random.u8(..6) == 0 {
            shard.cancel_move(id);
        }
        let status = shard.moved(id).await.unwrap();
        expected.check(status.phase != Phase::Rejected, || {
            format!("a shadow is found wrong: {:?}", status.failure)
        });
        expected.equal.set(expected.equal.get() + status.shadow.map_or(0, |shadow| shadow.equal));
        let mut moves = expected.moves.get();
        moves[usize::from(status.phase != Phase::Done)] += 1;
        expected.moves.set(moves);
    }
}

/// Compares everything at the end.
pub(in crate::shard) async fn compare(client: &Client, expected: &Expected) {
    let (counted, own) = (expected.counted.borrow().clone(), expected.own.borrow().clone());
    for ((e, row), n) in counted {
        let got = number(client.get(&entity(e), &[row]).await.unwrap().as_deref());
        expected.check(got == n, || format!("counter {e}/{row} is {got}, counted {n}"));
    }
    for ((worker, e), held) in own {
        let got = client.get(&entity(e), &[b'w', worker]).await.unwrap().map(|v| number(Some(&v)));
        expected.check(got == held, || format!("row {worker} of {e} is {got:?}, not {held:?}"));
    }
}

/// A run of the seed: moves done and undone, and answers of shadows that were equal, or what was wrong.
fn run(seed: u64, bug: Option<Bug>) -> Result<([u32; 2], u64), String> {
    let world = VirtualRuntime::new(seed);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let config = MemoryConfig { latency_nanos: 5_000..200_000, ..MemoryConfig::default() };
    let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], seed, config));
    let expected = Rc::new(Expected::default());
    let life = async {
        let open =
            || SimulatedStore::open(&runtimes, Rc::clone(&disk), Path::new("/s"), options_of(seed), seed);
        let store = open().await.unwrap();
        for n in 0..2 {
            store.shard(n).unwrap().common.planted.plant(bug);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let workers = (0..WORKERS).map(|number| {
            let client = store.client().unwrap();
            let (runtime, expected) = (runtimes[0].clone(), Rc::clone(&expected));
            Worker { number, client, runtime, random: random.fork(), expected }
        });
        let tasks: Vec<_> = workers.map(|worker| runtimes[0].spawn(worker.work())).collect();
        move_about(&store, &runtimes[0], &expected, random.fork()).await;
        for task in tasks {
            task.await;
        }
        let client = store.client().unwrap();
        compare(&client, &expected).await;
        drop(client);
        store.close().await.unwrap();
        let store = open().await.unwrap();
        compare(&store.client().unwrap(), &expected).await;
        store.close().await.unwrap();
    };
    let hang = async {
        runtimes[0].sleep(Duration::from_secs(600)).await;
        expected.check(false, || "ten minutes, and somebody still waits".to_owned());
    };
    world.block_on(futures_lite::future::or(life, hang));
    let violation = expected.violation.take();
    violation.map_or(Ok((expected.moves.get(), expected.equal.get())), Err)
}

/// Looks whether `run`, of one of so many seeds, finds a bug, and says how.
pub(in crate::shard) fn found_by<T>(bug: Bug, run: impl Fn(u64, Option<Bug>) -> Result<T, String>) {
    let outcome = |seed| catch_unwind(AssertUnwindSafe(|| run(seed, Some(bug))));
    for seed in 0..40 {
        match outcome(seed) {
            Ok(Ok(_)) => {}
            Ok(Err(what)) => {
                eprintln!("{bug:?}, seed {seed}: {what}");
                return;
            }
            Err(_panic) => {
                eprintln!("{bug:?}, seed {seed}: an assertion");
                return;
            }
        }
    }
    panic!("{bug:?} is not found");
}

fn found(bug: Bug) {
    found_by(bug, run);
}

#[test]
fn entities_that_move_under_load_lose_nothing_and_count_exactly() {
    let (mut moves, mut equal) = ([0, 0], 0);
    for seed in 0..24 {
        match run(seed, None) {
            Ok((more, compared)) => {
                (moves, equal) = ([moves[0] + more[0], moves[1] + more[1]], equal + compared);
            }
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    eprintln!("{moves:?} moves done and undone, {equal} answers of shadows equal");
    assert!(moves[0] > 100 && moves[1] > 20 && equal > 30, "{moves:?} done and undone, {equal} equal");
}

#[test]
fn a_fence_that_opens_before_the_table_has_decided_is_found() {
    found(Bug::FenceLifted);
}

#[test]
fn a_source_that_drops_before_the_table_has_decided_is_found() {
    found(Bug::DroppedBeforeCommit);
}

#[test]
fn an_arrival_that_is_visible_early_is_found() {
    found(Bug::VisibleEarly);
}

#[test]
fn a_parked_request_that_is_forgotten_is_found() {
    found(Bug::ParkedForgotten);
}

#[test]
fn old_rows_that_are_back_with_their_entity_are_found() {
    found(Bug::OldRowsKept);
}
