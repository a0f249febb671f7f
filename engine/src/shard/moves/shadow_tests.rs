//! Moves that have to prove themselves: a target as good as the source takes the entity, one that is slow or has other
//! bytes does not, and then nothing is left of it there. In virtual time, with clients who read and write all the while.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::planted::Bug;
use super::progress::{MoveStatus, Phase};
use super::shadow::{ShadowPolicy, Shadowing, Verdict};
use super::watch::{AFTER, Course};
use crate::ids::{MoveId, PartitionId};
use crate::io::disk::{Disk, DiskOp};
use crate::io::fault::{Fault, FaultDisk, Rule, When};
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key;
use crate::options::Options;
use crate::partition::strategy::Shape;
use crate::shard::capacity::Capacities;
use crate::store::simulated::SimulatedStore;
use crate::{Client, PageLimit};

const ROWS: u16 = 400;
const ENTITY: &[u8] = b"shop";

/// Caches hold a small part of the entity: reads go to the disk, here and there.
fn options() -> Options {
    Options {
        partitions: 2,
        memory_bytes: 1 << 20,
        memtable_bytes: 16 << 10,
        memtables_bytes: 768 << 10,
        wal_file_bytes: 256 << 10,
        wal_cap_bytes: 2 << 20,
        manifest_file_bytes: 16 << 10,
        reserve_bytes: 64 << 10,
        compression: false,
        shape: Shape { level0_trigger: 2, base_bytes: 64 << 10, fanout: 4, segment_bytes: 64 << 10 },
        shadowing: Shadowing { policy: ShadowPolicy::Above(100 << 10), ..Shadowing::default() },
        watch_before: Duration::from_millis(250),
        ..Options::default()
    }
}

fn value(row: u16, n: u64) -> Vec<u8> {
    let mut value = n.to_le_bytes().to_vec();
    value.resize(2000 + usize::from(row), 0x5a);
    value
}

/// A store whose target disk can be made slow, its clients, and what they know.
struct World {
    store: SimulatedStore,
    faults: FaultDisk,
    runtime: Runtime,
    written: Rc<RefCell<Vec<u64>>>,
    is_over: Rc<Cell<bool>>,
    slowest: Rc<Cell<Duration>>,
}

impl World {
    /// Where the entity is, and where it is not.
    fn places(&self) -> (PartitionId, PartitionId) {
        let mut prefix = Vec::new();
        key::encode_entity(ENTITY, &mut prefix).unwrap();
        let at = self.store.table().unwrap().image().home_of(&prefix).partition;
        (at, PartitionId(1 - at.0))
    }

    async fn fill(&self) {
        let client = self.store.client().unwrap();
        for row in 0..ROWS {
            client.put(ENTITY, &row.to_be_bytes(), &value(row, 0)).await.unwrap();
        }
        *self.written.borrow_mut() = vec![0; usize::from(ROWS)];
    }

    /// A client that reads, and now and then writes, until it is over; what it reads is what was written.
    fn client(&self, mut random: fastrand::Rng, readers_pause: Duration) -> crate::io::runtime::Task<()> {
        let client: Client = self.store.client().unwrap();
        let (written, is_over) = (Rc::clone(&self.written), Rc::clone(&self.is_over));
        let (runtime, slowest) = (self.runtime.clone(), Rc::clone(&self.slowest));
        self.runtime.spawn(async move {
            while !is_over.get() {
                let row = random.u16(..ROWS);
                let at = usize::from(row);
                if random.u8(..20) == 0 {
                    let limit = PageLimit { rows: 8, bytes: 1 << 20 };
                    client.scan(ENTITY, &row.to_be_bytes(), limit).await.unwrap();
                } else if random.u8(..20) == 0 {
                    let next = written.borrow()[at] + 1;
                    client.put(ENTITY, &row.to_be_bytes(), &value(row, next)).await.unwrap();
                    let mut all = written.borrow_mut();
                    all[at] = all[at].max(next);
                } else {
                    let (known, began) = (written.borrow()[at], runtime.now());
                    let got = client.get(ENTITY, &row.to_be_bytes()).await.unwrap().unwrap();
                    let n = u64::from_le_bytes(*got.first_chunk().unwrap());
                    assert!(n >= known && got == value(row, n), "row {row} is {n} after {known}");
                    slowest.set(slowest.get().max(runtime.now().since(began)));
                }
                runtime.sleep(readers_pause).await;
            }
        })
    }

    /// Moves it while clients are at it.
    async fn moved(&self, to: PartitionId, seed: u64) -> MoveStatus {
        let mut random = fastrand::Rng::with_seed(seed);
        self.is_over.set(false);
        let clients: Vec<_> =
            (0..4).map(|_| self.client(random.fork(), Duration::from_micros(200))).collect();
        self.runtime.sleep(Duration::from_millis(100)).await;
        self.slowest.set(Duration::ZERO);
        let shard = self.store.shard(0).unwrap();
        let id = shard.begin_move(ENTITY, Some(to)).await.unwrap();
        let mut ended = None;
        for n in 0..2 {
            ended = ended.or(self.store.shard(n).unwrap().moved(id).await);
        }
        self.is_over.set(true);
        for client in clients {
            client.await;
        }
        ended.unwrap()
    }

    /// Clients are at it for so long, and nothing moves.
    async fn served(&self, time: Duration, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        self.is_over.set(false);
        let clients: Vec<_> = (0..2).map(|_| self.client(random.fork(), Duration::from_millis(20))).collect();
        self.runtime.sleep(time).await;
        self.is_over.set(true);
        for client in clients {
            client.await;
        }
    }

    /// How the entity fared in a move, as the only shard says that knows.
    fn course(&self, id: MoveId) -> Course {
        let shards = (0..2).map(|n| self.store.shard(n).unwrap());
        let mut all: Vec<_> = shards.flat_map(|shard| shard.courses()).filter(|one| one.id == id).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    async fn stored_at(&self, at: PartitionId) -> u64 {
        let shards = (0..2).map(|n| self.store.shard(n).unwrap());
        let mut partitions = shards.flat_map(|shard| shard.partitions().collect::<Vec<_>>());
        let partition = partitions.find(|partition| partition.id == at).unwrap();
        let (mut start, mut bytes) = (Vec::new(), 0);
        key::encode_entity(ENTITY, &mut start).unwrap();
        let end = key::prefix_end(&start);
        partition.levels().all().for_each(|s| bytes += s.bytes_between(&start, end.as_deref()));
        bytes
    }
}

fn run<F: Future<Output = ()>>(seed: u64, scenario: impl FnOnce(Rc<World>) -> F) {
    let world = VirtualRuntime::new(seed);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let config = MemoryConfig { latency_nanos: 50_000..150_000, ..MemoryConfig::default() };
    let memory: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], seed, config));
    let faults = FaultDisk::new(memory, &runtimes[0], seed);
    world.block_on(async {
        let disk: Rc<dyn Disk> = Rc::new(faults.clone());
        let store = SimulatedStore::open(&runtimes, disk, Path::new("/s"), options(), seed).await.unwrap();
        let world = Rc::new(World {
            store,
            faults,
            runtime: runtimes[0].clone(),
            written: Rc::default(),
            is_over: Rc::default(),
            slowest: Rc::default(),
        });
        world.fill().await;
        scenario(Rc::clone(&world)).await;
        let world = Rc::into_inner(world).unwrap();
        world.store.close().await.unwrap();
    });
}

fn verdict(status: &MoveStatus) -> Option<Verdict> {
    status.shadow.as_ref().and_then(|shadow| shadow.verdict)
}

/// The move was given up: the entity is where it was, nothing is where it was to go, and why is told.
async fn assert_without_trace(world: &World, status: &MoveStatus, (from, to): (PartitionId, PartitionId)) {
    assert_eq!((status.phase, verdict(status)), (Phase::Rejected, Some(Verdict::Rejected)), "{status:?}");
    assert_eq!(world.places().0, from);
    assert!(world.store.table().unwrap().image().open_moves().is_empty());
    assert_eq!((world.stored_at(to).await, world.stored_at(from).await > 100 << 10), (0, true));
    let totals: Vec<_> = (0..2).map(|n| world.store.shard(n).unwrap().move_totals()).collect();
    assert_eq!(totals.iter().map(|totals| totals.rejected).sum::<u64>(), 1);
    let why = status.failure.as_ref().unwrap();
    assert!(why.starts_with("rejected by its shadow: "), "{why}");
}

#[test]
fn a_healthy_target_is_accepted_and_answers_are_compared_while_rows_are_written() {
    run(1, |world| async move {
        let (_, to) = world.places();
        let status = world.moved(to, 1).await;
        assert_eq!((status.phase, verdict(&status)), (Phase::Done, Some(Verdict::Accepted)), "{status:?}");
        assert_eq!(world.places().0, to);
        let shadow = status.shadow.unwrap();
        assert!(shadow.equal >= 200 && shadow.differing == 0 && shadow.dropped == 0, "{shadow:?}");
        assert!(shadow.mirrored < shadow.reads, "a share, and not all of it: {shadow:?}");
        assert!(shadow.source.count >= 200 && shadow.source.count == shadow.shadow.count, "{shadow:?}");
        // And back, without a reason not to.
        let status = world.moved(PartitionId(1 - to.0), 2).await;
        assert_eq!((status.phase, verdict(&status)), (Phase::Done, Some(Verdict::Accepted)), "{status:?}");
    });
}

#[test]
fn a_target_whose_disk_is_slow_is_rejected_without_a_trace_and_clients_do_not_wait_for_it() {
    run(2, |world| async move {
        let (from, to) = world.places();
        world.faults.add(Rule {
            ops: vec![DiskOp::Read],
            path_contains: format!("partitions/{}/", to.0),
            when: When::From(1),
            fault: Fault::Slow(Duration::from_millis(5)),
        });
        let status = world.moved(to, 1).await;
        assert!(world.faults.struck() > 50, "the target was slow");
        assert_without_trace(&world, &status, (from, to)).await;
        let shadow = status.shadow.unwrap();
        assert!(shadow.reason.contains("slow"), "{shadow:?}");
        assert!(shadow.shadow.p50 > 4_000_000 && shadow.source.p50 < 1_000_000, "{shadow:?}");
        assert!(world.slowest.get() < Duration::from_millis(4), "a client waited {:?}", world.slowest.get());
        world.faults.heal();
        let status = world.moved(to, 2).await;
        assert_eq!(status.phase, Phase::Done, "{status:?}");
    });
}

#[test]
fn a_target_that_may_do_little_is_rejected() {
    run(6, |world| async move {
        let (from, to) = world.places();
        // A few dozen reads a second.
        let partitions = [(to.0, 20.0)].into();
        for n in 0..2 {
            let set = Capacities { partitions: Clone::clone(&partitions), ..Capacities::default() };
            world.store.shard(n).unwrap().set_capacities(set).unwrap();
        }
        let status = world.moved(to, 1).await;
        assert_without_trace(&world, &status, (from, to)).await;
        for n in 0..2 {
            world.store.shard(n).unwrap().set_capacities(Capacities::default()).unwrap();
        }
        assert_eq!(world.moved(to, 2).await.phase, Phase::Done);
    });
}

#[test]
fn an_entity_that_fares_worse_where_it_went_is_told_and_one_that_does_not_is_not() {
    run(7, |world| async move {
        let (from, to) = world.places();
        let status = world.moved(to, 1).await;
        assert_eq!(status.phase, Phase::Done, "{status:?}");
        assert!(status.elapsed >= Duration::from_millis(250));
        world.served(Duration::from_secs(90), 2).await;
        let course = world.course(status.id);
        assert!(course.before.operations > 500 && course.during.operations > 500, "{course:?}");
        assert!(course.after.operations > 5000 && course.after.errors == 0, "{course:?}");
        assert!(course.is_watched && course.regression.is_none(), "{course:?}");
        world.faults.add(Rule {
            ops: vec![DiskOp::Read],
            path_contains: format!("partitions/{}/", to.0),
            when: When::From(1),
            fault: Fault::Slow(Duration::from_millis(5)),
        });
        world.served(Duration::from_secs(130), 3).await;
        let course = world.course(status.id);
        assert!(course.regression.as_ref().is_some_and(|what| what.contains("before")), "{course:?}");
        let regressed = |n| world.store.shard(n).unwrap().move_totals().regressed;
        assert_eq!(regressed(0) + regressed(1), 1);
        // Back it goes: the course of the move that was not good has ended, and is remembered.
        world.faults.heal();
        let back = world.moved(from, 4).await;
        assert_eq!(back.phase, Phase::Done, "{back:?}");
        let ended = world.course(status.id);
        assert!(!ended.is_watched && ended.regression == course.regression, "{ended:?}");
        world.runtime.sleep(AFTER).await;
        let course = world.course(back.id);
        assert!(!course.is_watched && course.watched == AFTER && course.regression.is_none(), "{course:?}");
    });
}

#[test]
fn a_flipped_byte_is_caught_and_the_row_is_named() {
    run(3, |world| async move {
        let places = world.places();
        let target = (0..2).map(|n| world.store.shard(n).unwrap());
        let mut target = target.filter(|shard| shard.partitions().any(|p| p.id == places.1));
        let target = target.next().unwrap();
        target.common.planted.plant(Some(Bug::FlippedByte));
        let status = world.moved(places.1, 1).await;
        target.common.planted.plant(None);
        assert_without_trace(&world, &status, places).await;
        let shadow = status.shadow.as_ref().unwrap();
        assert!(shadow.differing >= 1 && shadow.reason.contains("is not the same"), "{shadow:?}");
        let status = world.moved(places.1, 2).await;
        assert_eq!(status.phase, Phase::Done, "{status:?}");
    });
}

#[test]
fn nobody_reads_and_the_move_goes_on_without_a_verdict() {
    run(4, |world| async move {
        let (_, to) = world.places();
        let shard = world.store.shard(0).unwrap();
        let id = shard.begin_move_with(ENTITY, Some(to), ShadowPolicy::Always).await.unwrap();
        let mut ended = None;
        for n in 0..2 {
            ended = ended.or(world.store.shard(n).unwrap().moved(id).await);
        }
        let status = ended.unwrap();
        assert_eq!(
            (status.phase, verdict(&status)),
            (Phase::Done, Some(Verdict::Inconclusive)),
            "{status:?}"
        );
        assert!(status.elapsed >= Shadowing::default().time_max);
        let id = shard.begin_move_with(ENTITY, None, ShadowPolicy::Never).await.unwrap();
        for n in 0..2 {
            let status = world.store.shard(n).unwrap().moved(id).await;
            assert!(status.is_none_or(|status| status.phase == Phase::Done && status.shadow.is_none()));
        }
    });
}

#[test]
fn a_move_is_cancelled_while_its_shadow_is_asked() {
    run(5, |world| async move {
        let (from, to) = world.places();
        let shard = world.store.shard(0).unwrap();
        let id = shard.begin_move_with(ENTITY, Some(to), ShadowPolicy::Always).await.unwrap();
        world.runtime.sleep(Duration::from_secs(1)).await;
        let shards = [0, 1].map(|n| world.store.shard(n).unwrap());
        let status = shards.iter().find_map(|s| s.moves().into_iter().find(|one| one.id == id)).unwrap();
        assert_eq!(status.phase, Phase::Shadow);
        assert!(shards.iter().any(|shard| shard.cancel_move(id)));
        let mut ended = None;
        for shard in &shards {
            ended = ended.or(shard.moved(id).await);
        }
        assert_eq!(ended.unwrap().phase, Phase::Cancelled);
        assert_eq!((world.places().0, world.stored_at(to).await), (from, 0));
    });
}
