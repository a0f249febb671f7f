//! Answers of the table that are lost, late or never come, at each step that has it decide: of splits, merges, their
//! hand-overs and moves. What was made is finished, what was not is undone, and what nobody knows waits for a restart (R14).

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::progress::{Order, Phase};
use super::tests::{SHARDS, STORE, check_places};
use crate::error::{Error, Result};
use crate::ids::{PartitionId, ShardId, TableVersion};
use crate::io::disk::{Disk, DiskOp, LocalFuture};
use crate::io::fault::{Fault, FaultDisk, Rule, When};
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::shard::moves::progress::Phase as MovePhase;
use crate::shard::moves::shadow::ShadowPolicy;
use crate::shard::moves::tests::{Expected, options};
use crate::store::simulated::SimulatedStore;
use crate::table::{Change, Decision, Image, News, Table};

const ENTITIES: u8 = 24;

/// What becomes of a change whose answer is an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// It is made.
    Made,
    /// It is made once it was asked for a few times.
    MadeLate,
    /// It is not made.
    Never,
    /// It is made, and the table never says so.
    MadeUntold,
    /// It is not made, and the table never says so.
    NeverUntold,
}

/// A table that loses the answer to one change.
#[derive(Debug)]
struct Lossy {
    inner: Rc<dyn Table>,
    loses: fn(&Change) -> bool,
    loss: Loss,
    is_lost: Cell<bool>,
    asked: Cell<u32>,
    late: RefCell<Option<Change>>,
}

fn lost() -> Error {
    Error::try_again("the group did not answer in time")
}

impl Table for Lossy {
    fn image(&self) -> Arc<Image> {
        self.inner.image()
    }

    fn change(&self, change: Change) -> LocalFuture<Decision> {
        if self.is_lost.get() || !(self.loses)(&change) {
            return self.inner.change(change);
        }
        self.is_lost.set(true);
        match self.loss {
            Loss::Made | Loss::MadeUntold => {
                let made = self.inner.change(change);
                Box::pin(async move {
                    made.await.unwrap().unwrap();
                    Err(lost())
                })
            }
            Loss::MadeLate => {
                *self.late.borrow_mut() = Some(change);
                Box::pin(async { Err(lost()) })
            }
            Loss::Never | Loss::NeverUntold => Box::pin(async { Err(lost()) }),
        }
    }

    fn outcome(&self, change: Change, seen: TableVersion) -> LocalFuture<Result<Option<TableVersion>>> {
        self.asked.set(self.asked.get() + 1);
        if matches!(self.loss, Loss::MadeUntold | Loss::NeverUntold) {
            return Box::pin(async { Err(Error::Stopped("its log has failed".into())) });
        }
        if self.asked.get() < 4 {
            return Box::pin(async { Err(lost()) });
        }
        let late = self.late.borrow_mut().take().map(|change| self.inner.change(change));
        let outcome = self.inner.outcome(change, seen);
        Box::pin(async move {
            if let Some(made) = late {
                made.await.unwrap().unwrap();
            }
            outcome.await
        })
    }

    fn news(&self, seen: TableVersion) -> LocalFuture<Result<News>> {
        self.inner.news(seen)
    }

    fn close(&self) -> LocalFuture<()> {
        self.inner.close()
    }
}

/// A store of some rows.
struct World {
    runtimes: Vec<Runtime>,
    disk: Rc<MemoryDisk>,
    store: SimulatedStore,
}

impl World {
    async fn open(runtimes: &[Runtime], disk: &Rc<MemoryDisk>) -> Self {
        Self::open_on(runtimes, disk, Rc::clone(disk) as Rc<dyn Disk>).await
    }

    /// By way of another disk.
    async fn open_on(runtimes: &[Runtime], disk: &Rc<MemoryDisk>, shared: Rc<dyn Disk>) -> Self {
        let store = SimulatedStore::open(runtimes, shared, Path::new(STORE), options(), 1).await.unwrap();
        Self { runtimes: runtimes.to_vec(), disk: Rc::clone(disk), store }
    }

    async fn fill(&self) {
        let client = self.store.client().unwrap();
        for n in 0..ENTITIES {
            client.put(&[n], b"row", &[n; 300]).await.unwrap();
        }
    }

    fn image(&self) -> Arc<Image> {
        self.store.table().unwrap().image()
    }

    fn lossy(&self, loss: Loss, loses: fn(&Change) -> bool) -> Rc<Lossy> {
        let (is_lost, asked, late) = (Cell::new(false), Cell::new(0), RefCell::new(None));
        let first = self.store.shard(0).unwrap();
        first.wrap_table(|inner| Rc::new(Lossy { inner, loses, loss, is_lost, asked, late }))
    }

    async fn change(&self, order: Order) -> Phase {
        let driver = self.image().place_of(order.partition()).unwrap().shard;
        let id = self.store.shard(0).unwrap().begin_reshape(order).await.unwrap();
        self.store.shard(usize::from(driver.0)).unwrap().reshaped(id).await.unwrap().phase
    }

    /// Closed and opened again: everything is there.
    async fn reopened(self, runtimes: &[Runtime], disk: &Rc<MemoryDisk>, when: &str) -> Self {
        self.store.close().await.unwrap();
        let world = Self::open(runtimes, disk).await;
        world.check(when).await;
        world
    }

    /// Everything is there and can be written, and every partition is where the table says.
    async fn check(&self, when: &str) {
        let client = self.store.client().unwrap();
        for n in 0..ENTITIES {
            let found = client.get(&[n], b"row").await.unwrap();
            assert_eq!(found.as_deref(), Some(&[n; 300][..]), "{when}: entity {n}");
            client.put(&[n], b"row", &[n; 300]).await.unwrap();
        }
        let expected = Expected::default();
        check_places(&self.store, &self.disk, &expected).await;
        assert_eq!(expected.violation.take(), None, "{when}");
    }

    /// How many entities answer that they are to be asked for again, and nothing else.
    async fn parked(&self) -> usize {
        let asks = (0..ENTITIES).map(|n| {
            let client = self.store.client().unwrap();
            self.runtimes[0].spawn(async move { client.get(&[n], b"row").await })
        });
        let mut parked = 0;
        for ask in asks.collect::<Vec<_>>() {
            match ask.await {
                Ok(found) => assert!(found.is_some()),
                Err(Error::TryAgain(_)) => parked += 1,
                Err(e) => panic!("{e}"),
            }
        }
        parked
    }
}

fn in_a_world(test: impl AsyncFn(&[Runtime], &Rc<MemoryDisk>)) {
    let world = VirtualRuntime::new(1);
    let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
    world.block_on(test(&runtimes, &disk));
}

fn is_of_partitions(change: &Change) -> bool {
    matches!(change, Change::Partitions(_))
}

/// The first two neighbours that are on one shard or not.
fn neighbours(image: &Image, together: bool) -> Option<(PartitionId, PartitionId)> {
    let pair = image.homes().windows(2).find(|pair| (pair[0].shard == pair[1].shard) == together)?;
    Some((pair[0].partition, pair[1].partition))
}

/// What is asked for, and which of its changes of the table is lost: the first of partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Split,
    HandOver,
    Merge,
    HandOverOfMerge,
}

const STEPS: [Step; 4] = [Step::Split, Step::HandOver, Step::Merge, Step::HandOverOfMerge];

impl Step {
    async fn order(self, world: &World) -> Order {
        let image = world.image();
        let first = image.homes()[0];
        let other = ShardId((first.shard.0 + 1) % image.state().shards);
        match self {
            Self::Split => Order::Split { partition: first.partition, at: None },
            Self::HandOver => Order::HandOver { partition: first.partition, to: other },
            Self::Merge => {
                let apart = neighbours(&image, false);
                if neighbours(&image, true).is_none()
                    && let Some((into, from)) = apart
                {
                    let to = image.place_of(into).unwrap().shard;
                    assert_eq!(world.change(Order::HandOver { partition: from, to }).await, Phase::Done);
                }
                let (into, from) = neighbours(&world.image(), true).unwrap();
                Order::Merge { into, from }
            }
            Self::HandOverOfMerge => {
                let (into, from) = neighbours(&image, false).unwrap();
                Order::Merge { into, from }
            }
        }
    }
}

#[test]
fn a_change_of_partitions_whose_answer_is_lost_is_finished_or_undone_as_the_table_decided() {
    for step in STEPS {
        for loss in [Loss::Made, Loss::MadeLate, Loss::Never] {
            in_a_world(async |runtimes, disk| {
                let when = format!("{step:?}, {loss:?}");
                let world = World::open(runtimes, disk).await;
                world.fill().await;
                let order = step.order(&world).await;
                let before = world.image();
                let lossy = world.lossy(loss, is_of_partitions);
                let expected = if loss == Loss::Never { Phase::Failed } else { Phase::Done };
                assert_eq!(world.change(order).await, expected, "{when}");
                assert!(lossy.is_lost.get() && lossy.asked.get() >= 4, "{when}");
                assert_eq!(world.image() == before, loss == Loss::Never, "{when}");
                world.check(&when).await;
                // Whoever comes next is not in its way.
                let partition = world.image().homes()[0].partition;
                assert_eq!(world.change(Order::Split { partition, at: None }).await, Phase::Done, "{when}");
                world.check(&when).await;
                let world = world.reopened(runtimes, disk, &when).await;
                world.store.close().await.unwrap();
            });
        }
    }
}

#[test]
fn a_change_of_partitions_that_nobody_knows_of_is_not_called_failed_and_keeps_its_fence_until_a_restart() {
    for step in STEPS {
        for loss in [Loss::MadeUntold, Loss::NeverUntold] {
            in_a_world(async |runtimes, disk| {
                let when = format!("{step:?}, {loss:?}");
                let world = World::open(runtimes, disk).await;
                world.fill().await;
                let order = step.order(&world).await;
                let before = world.image();
                let lossy = world.lossy(loss, is_of_partitions);
                assert_eq!(world.change(order).await, Phase::Unknown, "{when}");
                assert!(lossy.is_lost.get(), "{when}");
                // Where it was made, shards are told all the same, and the partition that it made serves.
                let parked = world.parked().await;
                assert!(parked > 0 || loss == Loss::MadeUntold, "{when}: a fence was opened");
                let after = world.image();
                assert_eq!(after == before, loss == Loss::NeverUntold, "{when}");
                let world = world.reopened(runtimes, disk, &when).await;
                assert_eq!(*world.image(), *after, "{when}");
                world.store.close().await.unwrap();
            });
        }
    }
}

/// Begins a move of entity 0 to another partition; how it ended.
async fn moved(world: &World, cancels: bool) -> Result<MovePhase> {
    let image = world.image();
    let mut prefix = Vec::new();
    crate::key::encode_entity(&[0], &mut prefix).unwrap();
    let from = image.home_of(&prefix);
    let to = image.homes().iter().find(|home| home.shard != from.shard).unwrap().partition;
    let shard = world.store.shard(usize::from(from.shard.0)).unwrap();
    let id = shard.begin_move_with(&[0], Some(to), ShadowPolicy::Never).await?;
    if cancels {
        assert!(shard.cancel_move(id));
    }
    Ok(shard.moved(id).await.unwrap().phase)
}

#[test]
fn a_move_whose_answer_is_lost_goes_on_or_is_undone_as_the_table_decided() {
    let begins: fn(&Change) -> bool = |change| matches!(change, Change::BeginMove(_));
    let commits: fn(&Change) -> bool = |change| matches!(change, Change::CommitMove { .. });
    let aborts: fn(&Change) -> bool = |change| matches!(change, Change::AbortMove { .. });
    for loss in [Loss::Made, Loss::MadeLate, Loss::Never] {
        for (what, loses) in [("begin", begins), ("commit", commits), ("abort", aborts)] {
            in_a_world(async |runtimes, disk| {
                let when = format!("{what}, {loss:?}");
                let world = World::open(runtimes, disk).await;
                world.fill().await;
                let lossy = world.lossy(loss, loses);
                let ended = moved(&world, what == "abort").await;
                assert!(lossy.is_lost.get(), "{when}");
                match (what, loss) {
                    ("abort", _) => assert_eq!(ended.unwrap(), MovePhase::Cancelled, "{when}"),
                    ("begin", Loss::Never) => assert!(matches!(ended, Err(Error::TryAgain(_))), "{when}"),
                    ("commit", Loss::Never) => assert_eq!(ended.unwrap(), MovePhase::Failed, "{when}"),
                    _ => assert_eq!(ended.unwrap(), MovePhase::Done, "{when}"),
                }
                assert!(world.image().open_moves().is_empty(), "{when}: a move that nobody drives");
                world.check(&when).await;
                assert!(matches!(moved(&world, false).await.unwrap(), MovePhase::Done), "{when}");
                world.check(&when).await;
                world.store.close().await.unwrap();
            });
        }
    }
}

#[test]
fn a_move_that_nobody_knows_of_keeps_its_fence_until_a_restart() {
    for loss in [Loss::MadeUntold, Loss::NeverUntold] {
        in_a_world(async |runtimes, disk| {
            let world = World::open(runtimes, disk).await;
            world.fill().await;
            world.lossy(loss, |change| matches!(change, Change::CommitMove { .. }));
            assert_eq!(moved(&world, false).await.unwrap(), MovePhase::Unknown, "{loss:?}");
            if loss == Loss::NeverUntold {
                assert_eq!(world.parked().await, 1, "a fence was opened");
            }
            world.reopened(runtimes, disk, "after a restart").await.store.close().await.unwrap();
        });
    }
}

#[test]
fn a_table_whose_log_has_failed_makes_no_partition_unreachable() {
    in_a_world(async |runtimes, disk| {
        let faulty = FaultDisk::new(Rc::clone(disk) as Rc<dyn Disk>, &runtimes[0], 1);
        let world = World::open_on(runtimes, disk, Rc::new(faulty.clone())).await;
        world.fill().await;
        let path_contains = "/table/".to_owned();
        faulty.add(Rule {
            ops: vec![DiskOp::Write],
            path_contains,
            when: When::From(1),
            fault: Fault::Failed,
        });
        // In the course of this one: nobody knows what came of it, and nothing waits for it.
        assert!(matches!(moved(&world, false).await, Err(Error::Stopped(_))));
        for step in [Step::Split, Step::HandOver] {
            let order = step.order(&world).await;
            assert_eq!(world.change(order).await, Phase::Failed, "{step:?}: nothing was written");
            world.check("a table that takes no more changes").await;
        }
        faulty.heal();
        drop(world);
        let world = World::open(runtimes, disk).await;
        world.check("after a restart").await;
        world.store.close().await.unwrap();
    });
}
