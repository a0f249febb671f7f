//! Bits flipped in the files of a small store: named with file and offset, or without effect; never served, never a
//! panic.
//!
//! Without effect is allowed to a flip in what nothing is read from (unused space, files that the next opening removes),
//! in one copy of the superblock, and in what a crash leaves in doubt (R2): a log's last batch, the edit of a manifest
//! that no batch witnesses (all it says is still in the log), the table's last change.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{CrashMode, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::segment::verify::verify as verify_segment;
use foreshard_engine::{Error, Options, SimulatedStore};

use super::kinds::kind_of;
use super::life::{Birth, DIR, Focus, Plan, live, tiny};
use super::model::Model;
use super::operator::Operator;
use super::workload::verify;

/// In runs of equal bytes longer than this, one byte of so many is damaged: unused space.
const RUN_STRIDE: usize = 61;
const BLOCK: usize = 4096;
const SHARDS: usize = 2;

/// A store at rest, to be damaged.
pub struct Subject {
    disk: MemoryDisk,
    model: Model,
    is_closed: bool,
    /// Of each log the file and bytes of its last batch, with what was written together with it.
    last_batches: Vec<(PathBuf, Range<usize>)>,
}

/// What came of flips in one kind of file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    pub named: u64,
    pub harmless: u64,
    /// Of the harmless ones, those in a log's last batch.
    pub in_doubt: u64,
}

pub type Report = BTreeMap<&'static str, Flips>;

/// Where a bit is.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: PathBuf,
    pub byte: usize,
    pub bit: u8,
}

fn options() -> Options {
    Options { partitions: 2, wal_cap_bytes: 192 << 10, ..tiny() }
}

impl Subject {
    /// A store after a life: closed, or as a power cut leaves it.
    pub fn new(seed: u64, work: usize, is_closed: bool) -> Self {
        let model = Rc::new(Model::new(2));
        let plan = Plan {
            seed,
            shards: SHARDS,
            work,
            crash_after: None,
            options: options(),
            restores: false,
            focus: Focus::Everything,
        };
        let mut lived = live(Birth::New, &model, &plan);
        // A second life, so that there is log that was used before.
        let (seed, restores) = (seed + 1000, false);
        let mut again = Plan { seed, restores, ..plan };
        if !is_closed {
            let whole = live(Birth::After(&lived.disk, CrashMode::Lose), &Rc::new((*model).clone()), &again);
            again.crash_after = Some(whole.boundaries * 9 / 10);
        }
        lived = live(Birth::After(&lived.disk, CrashMode::Lose), &model, &again);
        assert_eq!(lived.is_crashed, !is_closed);
        let world = VirtualRuntime::new(1);
        let disk = lived.disk.crash(&world.runtime(), 1, CrashMode::Lose);
        let mut subject =
            Self { last_batches: last_batches(&disk), disk, model: (*model).clone(), is_closed };
        let (settled, _) = subject.open(&subject.disk, false);
        subject.model = settled.expect("undamaged");
        subject
    }

    /// Every byte of every file, thinned out in unused space; of the superblock every bit, of others one.
    pub fn places(&self, seed: u64) -> Vec<Place> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut places = Vec::new();
        for file in self.disk.files() {
            let kind = kind_of(&file);
            if matches!(kind, "reserve" | "backup") {
                continue;
            }
            let bytes = self.disk.contents(&file).expect("listed");
            let mut run = 0;
            for (byte, value) in bytes.iter().enumerate() {
                run = if byte > 0 && bytes[byte - 1] == *value { run + 1 } else { 0 };
                if run > RUN_STRIDE && !run.is_multiple_of(RUN_STRIDE) {
                    continue;
                }
                let all = if kind == "superblock" { 0..8 } else { 0..1 };
                for bit in all {
                    let bit = if kind == "superblock" { bit } else { random.u8(..8) };
                    places.push(Place { file: file.clone(), byte, bit });
                }
            }
        }
        places
    }

    /// Flips one bit, opens the store, reads all of it, and judges.
    ///
    /// # Panics
    /// When damage was served, missed or misnamed.
    pub fn flip(&self, place: &Place, report: &mut Report) {
        let Place { file, byte, bit } = place;
        let world = VirtualRuntime::new(3);
        let disk = self.disk.crash(&world.runtime(), 3, CrashMode::Lose);
        drop(world);
        assert!(disk.flip(file, *byte as u64 * 8 + u64::from(*bit)), "{place:?}");
        let in_last = self.last_batches.iter().any(|(path, range)| path == file && range.contains(byte));
        let may_lose = in_last && !self.is_closed;
        let (opened, after) = self.open(&disk, may_lose);
        let flips = report.entry(kind_of(file)).or_default();
        match opened {
            Ok(_) => {
                flips.harmless += 1;
                flips.in_doubt += u64::from(may_lose);
                self.check_missed(place, &disk, &after);
            }
            Err(Error::Corrupt(found)) => {
                flips.named += 1;
                assert!(found.path == *file, "{place:?} is named as {found}");
                assert!(found.offset <= *byte as u64, "{place:?} is named as {found}");
            }
            Err(other) => panic!("{place:?}: {other}"),
        }
    }

    /// A segment is read block by block: what no read came by, `verify` finds.
    fn check_missed(&self, place: &Place, damaged: &MemoryDisk, after: &MemoryDisk) {
        let is_needed = after.contents(&place.file).is_some();
        if kind_of(&place.file) != "segment" || !is_needed {
            return;
        }
        let world = VirtualRuntime::new(4);
        let found = world.block_on(async {
            let disk = damaged.crash(&world.runtime(), 4, CrashMode::Lose);
            verify_segment(&disk, &place.file).await
        });
        assert!(matches!(&found, Err(Error::Corrupt(c)) if c.path == place.file), "{place:?}: {found:?}");
    }

    /// The model once a copy of `disk` was opened and compared, and that copy.
    fn open(&self, disk: &MemoryDisk, may_lose: bool) -> (Result<Model, Error>, MemoryDisk) {
        let world = VirtualRuntime::new(7);
        let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
        let disk = disk.crash(&runtimes[0], 7, CrashMode::Lose);
        let model = self.model.clone();
        let result = world.block_on(async {
            let shared: Rc<dyn Disk> = Rc::new(disk.clone());
            let store = SimulatedStore::open(&runtimes, shared, Path::new(DIR), options(), 7).await?;
            if may_lose {
                return Ok(());
            }
            verify(&store.client()?, &model, &runtimes[0]).await?;
            if self.is_closed {
                let operator = Operator { store: &store, runtime: &runtimes[0], disk: &disk, model: &model };
                operator.verify().await?;
            }
            Ok(())
        });
        (result.map(|()| model), disk)
    }
}

/// By `engine/FORMAT.md`, "Batch".
fn last_batches(disk: &MemoryDisk) -> Vec<(PathBuf, Range<usize>)> {
    let mut last: BTreeMap<PathBuf, ([u64; 2], PathBuf, Range<usize>)> = BTreeMap::new();
    for file in disk.files().into_iter().filter(|file| kind_of(file) == "log") {
        let bytes = disk.contents(&file).expect("listed");
        for at in (0..bytes.len()).step_by(BLOCK).filter(|at| bytes[*at..].starts_with(b"fsWALbat")) {
            let number = |offset: usize| {
                u64::from_le_bytes(bytes[at + offset..at + offset + 8].try_into().expect("eight bytes"))
            };
            let payload = usize::try_from(number(76) & u64::from(u32::MAX)).expect("a batch's length");
            let end = at + (96 + payload).next_multiple_of(BLOCK);
            let start = if at == BLOCK { 0 } else { at };
            let found = ([number(32), number(40)], file.clone(), start..end);
            let dir = file.parent().expect("a log's directory").to_path_buf();
            let known = last.entry(dir).or_insert_with(|| found.clone());
            if found.0 > known.0 {
                *known = found;
            }
        }
    }
    last.into_values().map(|(_, file, range)| (file, range)).collect()
}
