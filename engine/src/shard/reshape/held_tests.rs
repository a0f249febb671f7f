//! What has to hold across a change of any kind: expiries, snapshots, scans that go on, and ranges that are deleted meanwhile.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::progress::{Order, Phase};
use super::tests::STORE;
use crate::entry::Expiry;
use crate::error::Error;
use crate::ids::{PartitionId, ShardId};
use crate::io::disk::Disk;
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key::{self, RoutingKey};
use crate::shard::moves::progress::Phase as MovePhase;
use crate::shard::moves::shadow::ShadowPolicy;
use crate::shard::moves::tests::options;
use crate::store::simulated::SimulatedStore;
use crate::table::Home;
use crate::{Client, PageLimit, WriteBatch};

const NAME: &[u8] = b"entity";
const ROWS: u32 = 120;
/// Rows that expire, one a millisecond: for longer than any change takes.
const EXPIRING: u32 = 500;
/// So slow that an expiry a millisecond falls on every step, between fence and release too.
const SLOW: std::ops::Range<u64> = 500_000..1_200_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Move,
    Split,
    Merge,
    HandOver,
}

const KINDS: [Kind; 4] = [Kind::Move, Kind::Split, Kind::Merge, Kind::HandOver];

/// A store with an entity that a change of some kind takes elsewhere.
struct World {
    store: SimulatedStore,
    runtime: Runtime,
}

impl World {
    fn home(&self) -> Home {
        let mut prefix = Vec::new();
        key::encode_entity(NAME, &mut prefix).unwrap();
        self.store.table().unwrap().image().home_of(&prefix)
    }

    fn client(&self) -> Client {
        self.store.client().unwrap()
    }

    async fn order(&self, order: Order) -> Duration {
        let image = self.store.table().unwrap().image();
        let driver =
            self.store.shard(usize::from(image.place_of(order.partition()).unwrap().shard.0)).unwrap();
        let id = driver.begin_reshape(order).await.unwrap();
        let status = driver.reshaped(id).await.unwrap();
        assert_eq!(status.phase, Phase::Done, "{status:?}");
        status.pause.unwrap()
    }

    /// Takes the entity to another partition, or its partition to another shard; how long requests waited.
    async fn change(&self, kind: Kind) -> Duration {
        let (home, image) = (self.home(), self.store.table().unwrap().image());
        let other = ShardId(1 - home.shard.0);
        let pause = match kind {
            Kind::Move => {
                let to = image.homes().iter().find(|to| to.shard == other).unwrap().partition;
                let shard = self.store.shard(usize::from(home.shard.0)).unwrap();
                let id = shard.begin_move_with(NAME, Some(to), ShadowPolicy::Never).await.unwrap();
                let status = shard.moved(id).await.unwrap();
                assert_eq!(status.phase, MovePhase::Done, "{status:?}");
                status.pause.unwrap()
            }
            Kind::Split => {
                let at = Some(RoutingKey::of(NAME));
                self.order(Order::Split { partition: home.partition, at }).await
            }
            Kind::Merge => {
                let homes = image.homes();
                let n = homes.iter().position(|at| at.partition == home.partition).unwrap();
                let into = homes[if n == 0 { 1 } else { n - 1 }].partition;
                self.order(Order::Merge { into, from: home.partition }).await
            }
            Kind::HandOver => self.order(Order::HandOver { partition: home.partition, to: other }).await,
        };
        let after = self.home();
        assert!((after.partition, after.shard) != (home.partition, home.shard), "{kind:?}: {after:?}");
        pause
    }

    /// What is there of the entity, page by page, each of a few rows; `between` two of them.
    async fn scan(&self, mut between: impl AsyncFnMut(usize)) -> Vec<Vec<u8>> {
        let (client, mut from, mut rows) = (self.client(), Vec::new(), Vec::new());
        for n in 0.. {
            let limit = PageLimit { rows: 7, bytes: 1 << 20 };
            let page = again(async || client.scan(NAME, &from, limit).await).await;
            rows.extend(page.rows.iter().map(|row| key::decode(&row.key).unwrap().1.to_vec()));
            let Some(resume) = page.resume else { break };
            from = key::decode(&resume).unwrap().1.to_vec();
            between(n).await;
        }
        rows
    }
}

/// Until it is not to be tried again.
async fn again<T>(work: impl AsyncFn() -> Result<T, Error>) -> T {
    loop {
        match work().await {
            Ok(done) => return done,
            Err(Error::TryAgain(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

fn in_worlds(latency_nanos: std::ops::Range<u64>, test: impl AsyncFn(World, Kind)) {
    for kind in KINDS {
        let world = VirtualRuntime::new(7);
        let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
        let config = MemoryConfig { latency_nanos: latency_nanos.clone(), ..MemoryConfig::default() };
        let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], 7, config));
        world.block_on(async {
            let store = SimulatedStore::open(&runtimes, disk, Path::new(STORE), options(), 7).await.unwrap();
            test(World { store, runtime: runtimes[0].clone() }, kind).await;
        });
    }
}

/// The storage key of a row.
fn stored(row: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    key::encode(NAME, row, &mut key).unwrap();
    key
}

fn row(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Somebody who looks at rows that expire one after the other.
struct Looks {
    client: Client,
    runtime: Runtime,
    expiries: BTreeMap<u32, u64>,
    is_over: Rc<Cell<bool>>,
    /// So many rows are gone.
    seen_gone: Rc<Cell<u32>>,
}

impl Looks {
    /// Until it is over and all are gone.
    async fn look(self, kind: Kind) {
        while !self.is_over.get() || self.seen_gone.get() < EXPIRING {
            let gone = self.seen_gone.get();
            // The next to go, those around it, and one that is gone.
            for n in [gone.saturating_sub(1), gone, gone + 1, gone / 2] {
                let Some(expiry) = self.expiries.get(&n) else { continue };
                let before = self.runtime.wall_ms();
                let found = again(async || self.client.get(NAME, &row(n)).await).await;
                let after = self.runtime.wall_ms();
                let is_gone = found.is_none();
                assert!(!is_gone || *expiry <= after, "{kind:?}: row {n} is gone at {after}, not {expiry}");
                assert!(is_gone || *expiry > before, "{kind:?}: row {n} is there at {before}, not {expiry}");
                assert!(is_gone || n >= self.seen_gone.get(), "{kind:?}: row {n} is back");
                if is_gone {
                    self.seen_gone.set(self.seen_gone.get().max(n + 1));
                }
            }
            self.runtime.sleep(Duration::from_micros(200)).await;
        }
    }
}

#[test]
fn a_row_expires_when_it_was_to_wherever_it_is_by_then_and_stays_gone() {
    in_worlds(SLOW, async |world, kind| {
        let (client, runtime) = (world.client(), world.runtime.clone());
        let expiries: BTreeMap<u32, u64> = {
            let first = runtime.wall_ms() + 4000;
            (0..EXPIRING).map(|n| (n, first + u64::from(n))).collect()
        };
        for (n, expiry) in &expiries {
            client.put_until(NAME, &row(*n), &[1; 100], Expiry(*expiry)).await.unwrap();
            client.put(NAME, &row(EXPIRING + n), &[2; 100]).await.unwrap();
        }
        let (is_over, seen_gone) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let looks = Looks {
            client: world.client(),
            runtime: runtime.clone(),
            expiries: expiries.clone(),
            is_over: Rc::clone(&is_over),
            seen_gone: Rc::clone(&seen_gone),
        };
        let looking = runtime.spawn(async move { looks.look(kind).await });
        // Some have expired when it begins, and some have when it ends.
        let first = expiries[&5];
        runtime.sleep(Duration::from_millis(first.saturating_sub(runtime.wall_ms()))).await;
        let before = seen_gone.get();
        let pause = world.change(kind).await;
        let after = seen_gone.get();
        assert!(pause >= Duration::from_millis(1), "{kind:?}: no expiry in {pause:?}");
        assert!(before < after && after < EXPIRING, "{kind:?}: {before} and {after} rows gone");
        // What is left has the expiry that it had.
        let left = world.store.shard(usize::from(world.home().shard.0)).unwrap();
        let mut compared = 0;
        for (n, expiry) in &expiries {
            // One that may expire while it is looked for says nothing.
            if *expiry < runtime.wall_ms() + 20 {
                continue;
            }
            compared += 1;
            let found = left.fetch(&stored(&row(*n))).await.unwrap();
            assert_eq!(found.map(|row| row.expiry), Some(Expiry(*expiry)), "{kind:?}: row {n}");
        }
        assert!(compared > 20, "{kind:?}: {compared} rows left");
        is_over.set(true);
        looking.await;
        for n in 0..EXPIRING {
            assert!(
                client.get(NAME, &row(EXPIRING + n)).await.unwrap().is_some(),
                "{kind:?}: row {n} never expires"
            );
        }
        world.store.close().await.unwrap();
    });
}

#[test]
fn a_snapshot_that_is_held_over_a_change_shows_what_it_showed() {
    in_worlds(5_000..200_000, async |world, kind| {
        let client = world.client();
        for n in 0..ROWS {
            client.put(NAME, &row(n), &[1; 100]).await.unwrap();
        }
        let snapshot = client.snapshot().await.unwrap();
        let write = async |value: u8| {
            for n in 0..ROWS {
                match n % 3 {
                    0 => again(async || client.put(NAME, &row(n), &[value; 100]).await).await,
                    1 => again(async || client.delete(NAME, &row(n)).await).await,
                    _ => {}
                }
            }
        };
        write(2).await;
        let (writing, changing) = (write(3), world.change(kind));
        futures_lite::future::zip(writing, changing).await;
        write(4).await;
        let shard = world.store.shard(usize::from(world.home().shard.0)).unwrap();
        shard.flush().await.unwrap();
        for n in 0..ROWS {
            let then = again(async || client.get_at(&snapshot, NAME, &row(n)).await).await;
            assert_eq!(then.as_deref(), Some(&[1; 100][..]), "{kind:?}: row {n} of the snapshot");
            let now = client.get(NAME, &row(n)).await.unwrap();
            let expected = [Some(vec![4; 100]), None, Some(vec![1; 100])][n as usize % 3].clone();
            assert_eq!(now, expected, "{kind:?}: row {n}");
        }
        let limit = PageLimit { rows: 1000, bytes: 1 << 20 };
        let page = again(async || client.scan_at(&snapshot, NAME, b"", limit).await).await;
        assert_eq!(page.rows.len(), ROWS as usize, "{kind:?}");
        assert!(page.rows.iter().all(|row| row.value == [1; 100]), "{kind:?}");
        drop(snapshot);
        world.store.close().await.unwrap();
    });
}

#[test]
fn a_moment_that_is_held_over_a_change_shows_what_it_showed_or_says_that_the_rows_have_left() {
    in_worlds(5_000..200_000, async |world, kind| {
        let client = world.client();
        client.put(NAME, b"row", b"before").await.unwrap();
        let (home, stored) = (world.home(), stored(b"row"));
        let shard = world.store.shard(usize::from(home.shard.0)).unwrap();
        let moment = shard.moment(home).await.unwrap();
        client.put(NAME, b"row", b"after").await.unwrap();
        let look = async || shard.observe_at(&moment, &stored).await;
        assert_eq!(look().await.unwrap().0.unwrap().value, b"before", "{kind:?}");
        world.change(kind).await;
        assert!(matches!(look().await, Err(Error::Moved { .. })), "{kind:?}: rows that are elsewhere");
        let limit = PageLimit { rows: 10, bytes: 1 << 20 };
        let page = shard.scan_observe_at(&moment, &stored, &[0xff; 9], limit).await;
        assert!(matches!(page, Err(Error::Moved { .. })), "{kind:?}: rows that are elsewhere");
        drop(moment);
        drop(shard);
        world.store.close().await.unwrap();
    });
}

#[test]
fn a_scan_that_goes_on_over_a_change_returns_every_row_that_was_there_all_the_time_once() {
    in_worlds(5_000..200_000, async |world, kind| {
        let client = world.client();
        for n in 0..ROWS {
            client.put(NAME, &row(2 * n), &[1; 100]).await.unwrap();
        }
        let rows = world
            .scan(async |page| {
                // Others come and go.
                let n = u32::try_from(page).unwrap();
                client.put(NAME, &row(2 * n + 101), b"new").await.unwrap();
                client.delete(NAME, &row(2 * n + 99)).await.unwrap();
                if page == 5 {
                    world.change(kind).await;
                }
            })
            .await;
        let stayed: Vec<&Vec<u8>> = rows.iter().filter(|name| name[3] % 2 == 0).collect();
        assert_eq!(stayed.len(), ROWS as usize, "{kind:?}");
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{kind:?}: in order, each once");
        world.store.close().await.unwrap();
    });
}

#[test]
fn an_entity_that_is_deleted_whole_while_it_leaves_arrives_without_what_it_had() {
    for delay_us in (0..6000).step_by(300) {
        in_worlds(5_000..200_000, async |world, kind| {
            let when = format!("{kind:?}, after {delay_us} us");
            let client = world.client();
            for n in 0..ROWS {
                client.put(NAME, &row(n), &[1; 100]).await.unwrap();
            }
            // Of two partitions: who deletes both ranges at once is FLUSHALL.
            client.put(b"another", b"row", b"value").await.unwrap();
            let deleting = async {
                world.runtime.sleep(Duration::from_micros(delay_us)).await;
                let delete = async || {
                    let mut batch = WriteBatch::new();
                    batch.delete_entity(NAME).unwrap();
                    batch.delete_entity(b"another").unwrap();
                    batch.put(NAME, b"first", b"after").unwrap();
                    client.write(batch).await
                };
                again(delete).await;
                again(async || client.put(NAME, b"later", b"after").await).await;
            };
            futures_lite::future::zip(world.change(kind), deleting).await;
            let rows = world.scan(async |_| ()).await;
            assert_eq!(rows, [b"first".to_vec(), b"later".to_vec()], "{when}");
            assert_eq!(client.get(b"another", b"row").await.unwrap(), None, "{when}");
            if kind == Kind::Move {
                // Nothing of it is left where it was, to be there again with it.
                move_back(&world, world.home().partition).await;
                assert_eq!(world.scan(async |_| ()).await.len(), 2, "{when}, and back");
            }
            world.store.close().await.unwrap();
        });
    }
}

async fn move_back(world: &World, from: PartitionId) {
    let shard = world.store.shard(usize::from(world.home().shard.0)).unwrap();
    let id = shard.begin_move_with(NAME, None, ShadowPolicy::Never).await.unwrap();
    assert_eq!(shard.moved(id).await.unwrap().phase, MovePhase::Done);
    assert_ne!(world.home().partition, from);
}
