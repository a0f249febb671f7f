//! The engine against a sorted map: a store in virtual time on a memory disk, with crashes in the middle of anything,
//! reopenings with other numbers of shards, failing and full disks, snapshots, batches and transactions.
//!
//! What was acknowledged is there. What was not may be there or not, but a batch is there as a whole or not at all; once
//! a reopened store has shown which, it stays so. Reopening a disk that lost, tore and reordered what was not synced
//! never fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use foreshard_engine::io::disk::{Disk, DiskOp};
use foreshard_engine::io::fault::{Fault, FaultDisk, Rule, When};
use foreshard_engine::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::{
    Client, Error, Options, PageLimit, SimulatedStore, Snapshot, Transaction, WriteBatch, key,
};
use futures_lite::future::or;

use super::trace;

const DIR: &str = "/store";
const OPERATIONS_MAX: u32 = 300;
const REOPENINGS_MAX: u32 = 12;
const SHARDS_MAX: usize = 3;
const ENTITIES: u8 = 6;
const ROWS: u8 = 5;

type Name = (u8, u8);
/// A row's value: a number, repeated to a length that follows from it.
type Value = Option<u32>;

/// What must be there.
#[derive(Clone, Debug, Default)]
struct Model {
    rows: BTreeMap<Name, u32>,
    /// Batches whose outcome nobody was told, oldest first.
    in_doubt: Vec<BTreeMap<Name, Value>>,
}

impl Model {
    fn committed(&self, name: Name) -> Value {
        self.rows.get(&name).copied()
    }

    fn apply(&mut self, batch: &BTreeMap<Name, Value>) {
        for (&name, &value) in batch {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: Name, value: Value) {
        // A write that was acknowledged is newer than those in doubt.
        for batch in &mut self.in_doubt {
            batch.remove(&name);
        }
        match value {
            Some(value) => self.rows.insert(name, value),
            None => self.rows.remove(&name),
        };
    }

    fn allows(&self, name: Name, found: Value) -> bool {
        found == self.committed(name) || self.in_doubt.iter().any(|batch| batch.get(&name) == Some(&found))
    }

    /// Takes what a reopened store holds as decided, after checking that it may.
    fn settle(&mut self, found: &BTreeMap<Name, Value>) {
        for (&name, &value) in found {
            assert!(self.allows(name, value), "{name:?} is {value:?}: {self:?}");
        }
        for batch in &self.in_doubt {
            let contested =
                |name: &Name| self.in_doubt.iter().filter(|other| other.contains_key(name)).count() > 1;
            let decisive: Vec<bool> = batch
                .iter()
                .filter(|(name, value)| !contested(name) && self.committed(**name) != **value)
                .map(|(name, value)| found[name] == *value)
                .collect();
            let whole = decisive.iter().all(|&applied| applied) || decisive.iter().all(|&applied| !applied);
            assert!(whole, "a batch is there in part: {batch:?}, found {found:?}");
        }
        self.in_doubt.clear();
        for (&name, &value) in found {
            self.set(name, value);
        }
    }
}

/// How an opening of the store ended.
enum End {
    /// The input is used up.
    Done,
    /// The store was closed, or given up after a fault.
    Left,
    /// The disk stopped.
    Crashed,
}

/// Runs the operations that `data` is.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let (mut model, mut number) = (Model::default(), 0);
    let mut image: Option<MemoryDisk> = None;
    for opening in 0..REOPENINGS_MAX {
        let shards = input.int_in_range(1..=SHARDS_MAX).unwrap_or(1);
        let crash_after = crash_point(&mut input).unwrap_or(None);
        let world = VirtualRuntime::new(u64::from(opening));
        let runtimes: Vec<_> = (0..shards).map(|_| world.runtime()).collect();
        let seed = u64::from(opening) + 7;
        trace(|| format!("opening {opening}: {shards} shards, the disk stops after {crash_after:?}"));
        let disk = match image.take() {
            Some(image) => {
                let mode = *input
                    .choose(&[CrashMode::Scramble, CrashMode::Lose, CrashMode::Keep])
                    .unwrap_or(&CrashMode::Lose);
                trace(|| format!("found after {mode:?}"));
                image.crash(&runtimes[0], seed, mode)
            }
            None => {
                let config = MemoryConfig { latency_nanos: 0..50_000, ..MemoryConfig::default() };
                MemoryDisk::new(&runtimes[0], seed, config)
            }
        };
        if let Some(boundary) = crash_after {
            disk.crash_after(boundary);
        }
        let faults = FaultDisk::new(Rc::new(disk.clone()), &runtimes[0], seed);
        let lost = disk.clone();
        faults.on_failed_sync(move |path| lost.lose_unsynced(path));
        let mut opened = Opening {
            input: &mut input,
            model: &mut model,
            number: &mut number,
            faults,
            hurt: false,
            full: false,
        };
        let end = world.block_on(async {
            let stopped = async {
                disk.stopped().await;
                End::Crashed
            };
            or(stopped, opened.live(&runtimes, seed)).await
        });
        if matches!(end, End::Done) {
            return;
        }
        drop(world);
        image = Some(disk);
    }
}

/// After how many boundaries the disk stops, if it does.
fn crash_point(input: &mut Unstructured<'_>) -> Result<Option<u64>> {
    Ok(match input.int_in_range(0..=3)? {
        0 => None,
        1 => Some(input.int_in_range(1..=60)?),
        _ => Some(input.int_in_range(1..=800)?),
    })
}

fn options() -> Options {
    let mut options = Options {
        partitions: 3,
        memory_bytes: 2 << 20,
        memtable_bytes: 16 << 10,
        memtables_bytes: 128 << 10,
        wal_file_bytes: 64 << 10,
        wal_batch_bytes: 16 << 10,
        wal_cap_bytes: 256 << 10,
        block_bytes: 512,
        reserve_bytes: 64 << 10,
        tracked_entities: 16,
        ..Options::default()
    };
    options.shape.level0_trigger = 2;
    options.shape.base_bytes = 32 << 10;
    options.shape.segment_bytes = 8 << 10;
    options.shape.fanout = 2;
    options
}

fn entity(n: u8) -> Vec<u8> {
    vec![b'e', n]
}

fn value_of(number: u32) -> Vec<u8> {
    let bytes = match number % 7 {
        0 => 4,
        1 => 6000,
        n => 60 * n as usize,
    };
    number.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

fn number_of(value: &[u8]) -> u32 {
    let number = u32::from_le_bytes(*value.first_chunk().expect("values hold their number"));
    assert_eq!(value, value_of(number), "a value nobody wrote");
    number
}

fn names() -> impl Iterator<Item = Name> {
    (0..ENTITIES).flat_map(|entity| (0..ROWS).map(move |row| (entity, row)))
}

/// One opening of the store.
struct Opening<'a, 'b> {
    input: &'a mut Unstructured<'b>,
    model: &'a mut Model,
    /// Of the last value written.
    number: &'a mut u32,
    faults: FaultDisk,
    /// A fault was planted: operations may fail.
    hurt: bool,
    /// The disk is full.
    full: bool,
}

impl Opening<'_, '_> {
    async fn live(&mut self, runtimes: &[foreshard_engine::io::runtime::Runtime], seed: u64) -> End {
        let disk: Rc<dyn Disk> = Rc::new(self.faults.clone());
        let store = SimulatedStore::open(runtimes, disk, Path::new(DIR), options(), seed)
            .await
            .expect("reopening never fails");
        let client = store.client().expect("it is open");
        let mut found = BTreeMap::new();
        for name in names() {
            found.insert(name, self.get(&client, name).await.expect("nothing is wrong with the disk"));
        }
        self.model.settle(&found);
        self.check_scans(&client).await.expect("nothing is wrong with the disk");
        let mut snapshots = Vec::new();
        for _ in 0..OPERATIONS_MAX {
            if self.input.is_empty() {
                break;
            }
            match self.step(&client, &mut snapshots).await {
                Ok(true) => {}
                Ok(false) => {
                    drop((snapshots, client));
                    self.faults.heal();
                    let closed = store.close().await;
                    trace(|| format!("close: {closed:?}"));
                    assert!(closed.is_ok() || self.hurt, "{closed:?}");
                    return End::Left;
                }
                Err(_) => break,
            }
        }
        self.faults.heal();
        let checked = self.check_scans(&client).await;
        assert!(checked.is_ok() || self.hurt, "{checked:?}");
        drop((snapshots, client));
        let closed = store.close().await;
        assert!(closed.is_ok() || self.hurt, "{closed:?}");
        End::Done
    }

    /// One operation; false when the store is to be closed.
    async fn step(&mut self, client: &Client, snapshots: &mut Vec<(Snapshot, Model)>) -> Result<bool> {
        match self.input.int_in_range(0..=31)? {
            0..=11 => {
                let batch = self.batch(1)?;
                self.write(client, batch).await;
            }
            12..=17 => {
                let rows = self.input.int_in_range(2..=8)?;
                let batch = self.batch(rows)?;
                self.write(client, batch).await;
            }
            18 | 19 => self.delete_entity(client).await?,
            20 | 21 => self.transact(client).await?,
            22 => self.fill(client).await?,
            // On a full disk a flush waits until there is room.
            23 if !self.full => {
                let flushed = client.flush().await;
                trace(|| format!("flush: {flushed:?}"));
                assert!(flushed.is_ok() || self.hurt, "{flushed:?}");
            }
            24 => {
                let checked = self.check_scans(client).await;
                assert!(checked.is_ok() || self.hurt, "{checked:?}");
            }
            25 | 26 if self.model.in_doubt.is_empty() && snapshots.len() < 4 => {
                if let Ok(snapshot) = client.snapshot().await {
                    snapshots.push((snapshot, self.model.clone()));
                }
            }
            27 => self.check_snapshots(client, snapshots).await?,
            28 => self.plant()?,
            29 => {
                trace(|| "heal".to_owned());
                self.faults.heal();
                self.full = false;
            }
            30 => return Ok(!self.input.ratio(1, 3)?),
            _ => {
                let name = self.name()?;
                let found = self.get(client, name).await;
                assert!(found.is_ok() || self.hurt, "{found:?}");
                if let Ok(found) = found {
                    assert!(self.model.allows(name, found), "{name:?} is {found:?}: {:?}", self.model);
                }
            }
        }
        Ok(true)
    }

    fn name(&mut self) -> Result<Name> {
        Ok((self.input.int_in_range(0..=ENTITIES - 1)?, self.input.int_in_range(0..=ROWS - 1)?))
    }

    fn value(&mut self) -> Result<Value> {
        if self.input.ratio(1, 5)? {
            return Ok(None);
        }
        *self.number += 1;
        Ok(Some(*self.number))
    }

    fn batch(&mut self, rows: u32) -> Result<BTreeMap<Name, Value>> {
        let mut batch = BTreeMap::new();
        for _ in 0..rows {
            batch.insert(self.name()?, self.value()?);
        }
        Ok(batch)
    }

    async fn write(&mut self, client: &Client, rows: BTreeMap<Name, Value>) {
        trace(|| format!("to write {rows:?}"));
        let mut batch = WriteBatch::new();
        for (&(name, row), value) in &rows {
            match value {
                Some(number) => batch.put(&entity(name), &[row], &value_of(*number)),
                None => batch.delete(&entity(name), &[row]),
            }
            .expect("within limits");
        }
        // Should the disk stop meanwhile, nobody is told how it ended.
        self.model.in_doubt.push(rows.clone());
        let written = client.write(batch).await;
        self.note(rows, written);
    }

    /// Takes a write's outcome into the model, where it is in doubt so far.
    fn note(&mut self, rows: BTreeMap<Name, Value>, written: foreshard_engine::Result<()>) {
        trace(|| format!("write {rows:?}: {written:?}"));
        assert!(written.is_ok() || self.hurt, "{written:?}");
        match written {
            Ok(()) => {
                self.model.in_doubt.pop();
                self.model.apply(&rows);
            }
            Err(Error::Full(_) | Error::Misuse(_) | Error::Conflict) => {
                self.model.in_doubt.pop();
            }
            Err(Error::Corrupt(what)) => panic!("{what}"),
            Err(_) => {}
        }
    }

    async fn delete_entity(&mut self, client: &Client) -> Result<()> {
        let (gone, row) = self.name()?;
        let mut rows: BTreeMap<Name, Value> = (0..ROWS).map(|row| ((gone, row), None)).collect();
        let mut batch = WriteBatch::new();
        batch.put(&entity(gone), &[row], b"given before it is deleted").expect("within limits");
        batch.delete_entity(&entity(gone)).expect("within limits");
        if let Some(number) = self.value()? {
            batch.put(&entity(gone), &[row], &value_of(number)).expect("within limits");
            rows.insert((gone, row), Some(number));
        }
        self.model.in_doubt.push(rows.clone());
        let written = client.write(batch).await;
        self.note(rows, written);
        Ok(())
    }

    /// Reads some rows and writes others, if the first are still the same; sometimes they are not.
    async fn transact(&mut self, client: &Client) -> Result<()> {
        let (seen, rows) = (self.batch(2)?, self.batch(3)?);
        let interfere = self.input.ratio(1, 3)?;
        let mut transaction = Transaction::new();
        for &(name, row) in seen.keys() {
            if client.get_in(&mut transaction, &entity(name), &[row]).await.is_err() {
                assert!(self.hurt);
                return Ok(());
            }
        }
        for (&(name, row), value) in &rows {
            match value {
                Some(number) => transaction.put(&entity(name), &[row], &value_of(*number)),
                None => transaction.delete(&entity(name), &[row]),
            }
            .expect("within limits");
        }
        let mut changed = false;
        if let Some((&name, _)) = seen.first_key_value().filter(|_| interfere) {
            *self.number += 1;
            let value = Some(*self.number);
            self.write(client, BTreeMap::from([(name, value)])).await;
            changed = self.model.committed(name) == value;
        }
        self.model.in_doubt.push(rows.clone());
        let written = client.commit(transaction).await;
        if changed {
            assert!(written.is_err(), "it read what was changed");
        }
        trace(|| format!("transaction that read {:?}: {written:?}", seen.keys()));
        if matches!(written, Err(Error::Conflict)) {
            assert!(interfere || self.hurt, "nobody interfered");
            self.model.in_doubt.pop();
            return Ok(());
        }
        self.note(rows, written);
        Ok(())
    }

    /// Enough rows for flushes and compactions.
    async fn fill(&mut self, client: &Client) -> Result<()> {
        for _ in 0..self.input.int_in_range(5..=40)? {
            *self.number += 1;
            let n = u8::try_from(*self.number % 251).expect("below 251");
            let rows = BTreeMap::from([((n % ENTITIES, n % ROWS), Some(*self.number))]);
            self.write(client, rows).await;
        }
        Ok(())
    }

    /// Makes the disk fail, or full.
    fn plant(&mut self) -> Result<()> {
        self.hurt = true;
        if self.input.ratio(1, 3)? {
            trace(|| "full".to_owned());
            self.faults.set_full(true);
            self.full = true;
            return Ok(());
        }
        let op = *self.input.choose(&[
            DiskOp::Write,
            DiskOp::Sync,
            DiskOp::Read,
            DiskOp::Open,
            DiskOp::SyncDir,
            DiskOp::Allocate,
            DiskOp::Remove,
            DiskOp::Rename,
        ])?;
        let fault = *self.input.choose(&[Fault::Failed, Fault::Short, Fault::NoSpace])?;
        let path_contains = (*self.input.choose(&["", "wal", "manifest", ".seg"])?).to_owned();
        let when = When::Nth(self.input.int_in_range(1..=20)?);
        trace(|| format!("{fault:?} at {when:?} {op:?} of {path_contains:?}"));
        self.faults.add(Rule { ops: vec![op], path_contains, when, fault });
        Ok(())
    }

    async fn get(&self, client: &Client, (name, row): Name) -> foreshard_engine::Result<Value> {
        Ok(client.get(&entity(name), &[row]).await?.map(|value| number_of(&value)))
    }

    /// All entities, page by page, against the model.
    async fn check_scans(&self, client: &Client) -> foreshard_engine::Result<()> {
        for name in 0..ENTITIES {
            let mut found: BTreeMap<Name, u32> = BTreeMap::new();
            let mut from = Vec::new();
            loop {
                let limit = PageLimit { rows: 3, bytes: 1 << 20 };
                let page = client.scan(&entity(name), &from, limit).await?;
                for row in &page.rows {
                    let (entity_of_row, key) = key::decode(&row.key).expect("a storage key");
                    assert_eq!(entity_of_row, entity(name));
                    let before = found.insert((name, key[0]), number_of(&row.value));
                    assert_eq!(before, None, "a row came twice");
                }
                let Some(resume) = page.resume else { break };
                from = key::decode(&resume).expect("a storage key").1.to_vec();
            }
            for row in 0..ROWS {
                let value = found.get(&(name, row)).copied();
                assert!(self.model.allows((name, row), value), "{name} {row} is {value:?}: {:?}", self.model);
            }
        }
        Ok(())
    }

    async fn check_snapshots(
        &mut self,
        client: &Client,
        snapshots: &mut Vec<(Snapshot, Model)>,
    ) -> Result<()> {
        for (snapshot, model) in snapshots.iter() {
            for name in names() {
                let Ok(found) = client.get_at(snapshot, &entity(name.0), &[name.1]).await else {
                    assert!(self.hurt);
                    continue;
                };
                let found = found.map(|value| number_of(&value));
                assert_eq!(found, model.committed(name), "{name:?} in a snapshot");
            }
        }
        if self.input.arbitrary()? {
            snapshots.clear();
        }
        let distinct: BTreeSet<u64> = snapshots.iter().map(|(snapshot, _)| snapshot.version().0).collect();
        assert!(distinct.len() <= snapshots.len());
        Ok(())
    }
}
