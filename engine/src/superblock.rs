//! The superblock: which store this is, and which logs are its last ones.
//!
//! `engine/FORMAT.md`, "Superblock", owns the layout: one file, two copies, written and synced one after the other.
//! Refuses to guess: when neither copy is whole, the store does not open.
//!
//! Invariants:
//! - at every moment one copy on disk is whole;
//! - what [`Superblock::open`] returns is in both copies, durably, before anyone acts on it: otherwise damage to the
//!   newer one could later bring an older state back to life;
//! - sequence numbers only grow.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};
use crate::ids::{Incarnation, ShardId};
use crate::io::buffer::AlignedBuf;
use crate::io::disk::{Disk, File, OpenMode, Write};
use crate::limits::SHARDS_MAX;
use crate::wal::format::{Invalid, checksum_without};

/// The superblock's file, in the store's directory.
pub const FILE_NAME: &str = "SUPER";
/// Where the second copy begins; the first begins at 0.
pub const COPY_BYTES: usize = 4096;

/// Names a store apart from every other one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the superblock says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Which store this is.
    pub store: StoreId,
    /// The incarnation whose logs are the last ones (R1).
    pub incarnation: Incarnation,
    /// How many shards, and so logs, that incarnation has.
    pub shards: u16,
    /// The size of its log files.
    pub wal_file_bytes: u64,
}

impl State {
    /// The directory of a shard's log of the last incarnation.
    #[must_use]
    pub fn wal_dir(&self, store_dir: &Path, shard: ShardId) -> PathBuf {
        store_dir.join("wal").join(self.incarnation.to_string()).join(shard.0.to_string())
    }
}

/// A copy that was found damaged and has been written again from the other one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repaired {
    /// Where it begins in the file.
    pub offset: u64,
    /// What was wrong with it.
    pub what: Invalid,
}

/// The open superblock of a store.
#[derive(Debug)]
pub struct Superblock {
    file: Rc<dyn File>,
    sequence: u64,
    state: State,
    /// Set by a failed write, after which what is on disk is not known (R3).
    failed: Option<Error>,
}

impl Superblock {
    /// Makes the superblock of a store that has none. It exists, whole and durable, or not at all.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Misuse`] for a state outside the limits or when there is a superblock.
    pub async fn create(disk: &Rc<dyn Disk>, dir: &Path, state: State) -> Result<Self> {
        check(&state).map_err(|invalid| Error::misuse(format!("superblock: {invalid}")))?;
        let path = dir.join(FILE_NAME);
        if disk.exists(&path).await? {
            return Err(Error::misuse(format!("{} exists: this is a store already", path.display())));
        }
        let draft = dir.join("SUPER.new");
        if disk.exists(&draft).await? {
            disk.remove(&draft).await?;
        }
        let file = disk.open(&draft, OpenMode::Create).await?;
        let mut superblock = Self { file, sequence: 0, state: state.clone(), failed: None };
        superblock.update(state).await?;
        disk.rename(&draft, &path).await?;
        disk.sync_dir(dir).await?;
        superblock.file = disk.open(&path, OpenMode::ReadWrite).await?;
        Ok(superblock)
    }

    /// Opens the superblock in `dir`; if one copy is damaged or behind, it is first written again from the other.
    /// A damaged one is reported.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when neither copy is whole, [`Error::Unsupported`] when they are of another format
    /// version, [`Error::Io`].
    pub async fn open(disk: &Rc<dyn Disk>, dir: &Path) -> Result<(Self, Option<Repaired>)> {
        let path = dir.join(FILE_NAME);
        let file = disk.open(&path, OpenMode::ReadWrite).await?;
        let first = read_copy(&*file, 0).await?;
        let second = read_copy(&*file, COPY_BYTES as u64).await?;
        let (newest, repair, repaired) = match (first, second) {
            (Ok(first), Ok(second)) if first == second => (first, None, None),
            (Ok(first), Ok(second)) if first.0 > second.0 => (first, Some(COPY_BYTES as u64), None),
            (Ok(first), Ok(second)) if first.0 < second.0 => (second, Some(0), None),
            (Ok(_), Ok(_)) => return Err(Error::corrupt(path, 0, "two superblocks of one sequence number")),
            (Ok(first), Err(what)) => {
                let offset = COPY_BYTES as u64;
                (first, Some(offset), Some(Repaired { offset, what }))
            }
            (Err(what), Ok(second)) => (second, Some(0), Some(Repaired { offset: 0, what })),
            (Err(Invalid::Version(version)), Err(Invalid::Version(_))) => {
                return Err(Error::Unsupported(
                    format!("{}: format version {version} is not known to this program", path.display())
                        .into(),
                ));
            }
            (Err(first), Err(second)) => {
                let what = format!("both copies of the superblock are damaged: {first}; {second}");
                return Err(Error::corrupt(path, 0, what));
            }
        };
        let (sequence, state) = newest;
        if let Some(offset) = repair {
            write_copy(&*file, sequence, &state, offset).await?;
        }
        // What a killed process left unsynced is read: its last copy, and its name.
        file.sync().await?;
        disk.sync_dir(dir).await?;
        Ok((Self { file, sequence, state, failed: None }, repaired))
    }

    /// What it says.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Replaces what it says; durable on return. When it fails, either may be found at the next opening, and no
    /// further update is taken.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Misuse`] for a state outside the limits, in which case nothing changed.
    pub async fn update(&mut self, state: State) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        check(&state).map_err(|invalid| Error::misuse(format!("superblock: {invalid}")))?;
        assert!(state.store == self.state.store, "a store keeps its identity");
        assert!(state.incarnation >= self.state.incarnation, "incarnations only grow");
        let sequence = self.sequence + 1;
        for offset in [0, COPY_BYTES as u64] {
            if let Err(error) = write_copy(&*self.file, sequence, &state, offset).await {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        (self.sequence, self.state) = (sequence, state);
        Ok(())
    }
}

/// The bytes of one copy, up to the last one used.
///
/// # Panics
/// When the state is outside the limits.
#[must_use]
pub fn encode(sequence: u64, state: &State) -> Vec<u8> {
    assert!(check(state).is_ok(), "checked by the caller");
    let header = RawHeader {
        magic: MAGIC,
        version: U32::new(VERSION),
        checksum: U32::ZERO,
        store: state.store.0,
        sequence: U64::new(sequence),
        incarnation: U64::new(state.incarnation.0),
        wal_file_bytes: U64::new(state.wal_file_bytes),
        shards: U16::new(state.shards),
        reserved: [0; 6],
    };
    let mut bytes = header.as_bytes().to_vec();
    let checksum = checksum_without(&bytes, CHECKSUM_AT);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The sequence number and state in one copy's bytes; what follows is not looked at.
///
/// # Errors
/// [`Invalid`], for any bytes that [`encode`] does not make.
pub fn decode(bytes: &[u8]) -> Result<(u64, State), Invalid> {
    let (raw, _) = RawHeader::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
    if raw.magic != MAGIC {
        return Err(Invalid::Magic);
    }
    let used = bytes.get(..size_of::<RawHeader>()).ok_or(Invalid::Short)?;
    if raw.checksum.get() != checksum_without(used, CHECKSUM_AT) {
        return Err(Invalid::Checksum("superblock"));
    }
    if raw.version.get() != VERSION {
        return Err(Invalid::Version(raw.version.get()));
    }
    if raw.reserved != [0; 6] {
        return Err(Invalid::Field("reserved bytes"));
    }
    let state = State {
        store: StoreId(raw.store),
        incarnation: Incarnation(raw.incarnation.get()),
        shards: raw.shards.get(),
        wal_file_bytes: raw.wal_file_bytes.get(),
    };
    check(&state)?;
    Ok((raw.sequence.get(), state))
}

fn check(state: &State) -> Result<(), Invalid> {
    if state.shards == 0 || usize::from(state.shards) > SHARDS_MAX {
        return Err(Invalid::Field("shard count"));
    }
    Ok(())
}

async fn write_copy(file: &dyn File, sequence: u64, state: &State, offset: u64) -> Result<()> {
    let buf = AlignedBuf::from_slice(&encode(sequence, state));
    assert!(buf.len() <= COPY_BYTES, "one copy ends before the other begins");
    file.write_at(buf, offset, Write::Synced).await.1
}

/// One copy, or why it is none.
async fn read_copy(file: &dyn File, offset: u64) -> Result<Result<(u64, State), Invalid>> {
    let (buf, read) = file.read_at(AlignedBuf::zeroed(COPY_BYTES), offset).await;
    let bytes = buf.get(..read?).unwrap_or_default();
    Ok(decode(bytes))
}

const MAGIC: [u8; 8] = *b"fsSUPERb";
const VERSION: u32 = 2;
const CHECKSUM_AT: usize = 12;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    store: [u8; 16],
    sequence: U64,
    incarnation: U64,
    wal_file_bytes: U64,
    shards: U16,
    reserved: [u8; 6],
}

const _: () = assert!(std::mem::offset_of!(RawHeader, checksum) == CHECKSUM_AT);
const _: () = assert!(size_of::<RawHeader>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
    use crate::io::runtime::Runtime;
    use crate::io::virtual_time::VirtualRuntime;

    fn state(incarnation: u64) -> State {
        State {
            store: StoreId([5; 16]),
            incarnation: Incarnation(incarnation),
            shards: 2,
            wal_file_bytes: 1 << 16,
        }
    }

    fn run<F: Future>(body: impl FnOnce(Runtime, MemoryDisk) -> F) -> F::Output {
        let time = VirtualRuntime::new(1);
        let runtime = time.runtime();
        let disk = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
        time.block_on(body(runtime, disk))
    }

    async fn open(disk: &MemoryDisk) -> Result<(Superblock, Option<Repaired>)> {
        let disk: Rc<dyn Disk> = Rc::new(disk.clone());
        Superblock::open(&disk, Path::new("/")).await
    }

    async fn create(disk: &MemoryDisk) -> Superblock {
        let disk: Rc<dyn Disk> = Rc::new(disk.clone());
        Superblock::create(&disk, Path::new("/"), state(1)).await.unwrap()
    }

    #[test]
    fn pins_its_bytes() {
        let one = state(3);
        let bytes = encode(9, &one);
        let mut expected = b"fsSUPERb\x02\0\0\0".to_vec();
        expected.extend_from_slice(&bytes[12..16]);
        expected.extend_from_slice(&[5; 16]);
        for n in [9_u64, 3, 1 << 16] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        expected.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes, expected);
        assert_eq!(decode(&bytes), Ok((9, one)));
    }

    #[test]
    fn every_flipped_bit_is_refused_and_random_bytes_never_panic() {
        let mut bytes = encode(1, &state(1));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let mut noise = bytes.clone();
            noise[16..].fill_with(|| rng.u8(..));
            noise.truncate(rng.usize(..noise.len()));
            assert!(decode(&noise).is_err());
        }
    }

    #[test]
    fn states_outside_the_limits_are_refused() {
        for shards in [0, 1025] {
            assert_eq!(check(&State { shards, ..state(1) }), Err(Invalid::Field("shard count")));
        }
        assert_eq!(check(&state(1)), Ok(()));
    }

    #[test]
    fn one_damaged_copy_is_repaired_and_reported_two_are_corrupt() {
        run(|_, disk| async move {
            let mut superblock = create(&disk).await;
            superblock.update(state(2)).await.unwrap();
            let path = Path::new("/SUPER");
            for offset in [0, COPY_BYTES as u64] {
                disk.flip(path, (offset + 33) * 8);
                let (opened, repaired) = open(&disk).await.unwrap();
                assert_eq!(opened.state(), &state(2));
                assert_eq!(repaired.unwrap().offset, offset);
                assert_eq!(open(&disk).await.unwrap().1, None, "repaired for good");
            }
            disk.flip(path, 33 * 8);
            disk.flip(path, (COPY_BYTES as u64 + 33) * 8);
            assert!(matches!(open(&disk).await, Err(Error::Corrupt(_))));
        });
    }

    #[test]
    fn a_copy_that_is_behind_is_brought_up_before_anyone_acts_on_the_other() {
        run(|_, disk| async move {
            create(&disk).await;
            disk.overwrite(Path::new("/SUPER"), 0, &encode(2, &state(2)));
            let (opened, repaired) = open(&disk).await.unwrap();
            assert_eq!((opened.state(), repaired), (&state(2), None));
            disk.flip(Path::new("/SUPER"), 33 * 8);
            assert_eq!(open(&disk).await.unwrap().0.state(), &state(2), "the older state stays dead");
        });
    }

    #[test]
    fn every_crash_point_leaves_the_old_state_or_the_next_one() {
        let workload = |disk: MemoryDisk, done: Rc<std::cell::Cell<u64>>| async move {
            let mut superblock = create(&disk).await;
            done.set(1);
            for incarnation in 2..5 {
                superblock.update(state(incarnation)).await.unwrap();
                done.set(incarnation);
            }
        };
        let total = run(|_, disk| async move {
            workload(disk.clone(), Rc::default()).await;
            disk.boundaries()
        });
        for boundary in 1..=total {
            run(|runtime, disk| async move {
                let done = Rc::new(std::cell::Cell::new(0));
                disk.crash_after(boundary);
                futures_lite::future::or(workload(disk.clone(), Rc::clone(&done)), disk.stopped()).await;
                for (seed, mode) in
                    [CrashMode::Lose, CrashMode::Keep, CrashMode::Scramble, CrashMode::Scramble]
                        .iter()
                        .enumerate()
                {
                    let left = disk.crash(&runtime, seed as u64, *mode);
                    if left.contents(Path::new("/SUPER")).is_none() {
                        assert_eq!(done.get(), 0, "boundary {boundary}");
                        continue;
                    }
                    let found = open(&left).await.unwrap().0.state().incarnation.0;
                    assert!((done.get()..=done.get() + 1).contains(&found), "boundary {boundary}: {found}");
                }
            });
        }
    }

    #[test]
    fn what_was_opened_after_a_killed_process_survives_a_power_cut_in_both_copies() {
        let workload = |disk: MemoryDisk| async move {
            create(&disk).await.update(state(2)).await.unwrap();
        };
        let total = run(|_, disk| async move {
            workload(disk.clone()).await;
            disk.boundaries()
        });
        for boundary in 1..=total {
            run(|runtime, disk| async move {
                disk.crash_after(boundary);
                futures_lite::future::or(workload(disk.clone()), disk.stopped()).await;
                for seed in 0..4 {
                    let left = disk.crash(&runtime, seed, CrashMode::Kill);
                    if left.contents(Path::new("/SUPER")).is_none() {
                        continue;
                    }
                    let found = open(&left).await.unwrap().0.state().clone();
                    let later = left.crash(&runtime, seed, CrashMode::Lose);
                    let bytes = later.contents(Path::new("/SUPER")).expect("its name is durable");
                    for copy in [&bytes[..COPY_BYTES], &bytes[COPY_BYTES..]] {
                        assert_eq!(decode(copy).unwrap().1, found, "boundary {boundary}");
                    }
                }
            });
        }
    }
}
