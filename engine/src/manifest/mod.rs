//! A partition's manifest: which segments it has, and up to where its log is in them.
//!
//! An append-only file of edits; when it is full, the next one begins with a snapshot of the state. It deletes no
//! segment and reads no log: it is told which edit the log has witnessed (R2), and until then keeps the file before.
//!
//! Invariants:
//! - an edit is appended after all before it are durable, and never shares a block with them;
//! - a file's snapshot is durable, and so is its name, before an edit follows it;
//! - a file is removed only when the snapshot that replaced it is witnessed, and then no bit of it is needed;
//! - two files never hold different edits of one number: a file given up is gone for good before the other goes on;
//! - after a failed or abandoned append nothing more is appended (R3).

mod edit;
mod frame;
mod open;
mod state;

use std::cell::{Ref, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

pub use self::edit::{Edit, FORMAT_VERSION, FORMAT_VERSION_WHOLE};
pub use self::frame::{Chain, Damage, Found, Frame, FrameKind, decode, read_chain};
pub use self::open::Cut;
pub use self::state::State;
use crate::error::{Error, Result};
use crate::ids::{EditNumber, PartitionId};
use crate::io::buffer::{AlignedBuf, align_up};
use crate::io::disk::{Disk, File, OpenMode, Write};
use crate::turn::Turnstile;

/// Where a manifest lies.
#[derive(Debug, Clone)]
pub struct Location {
    /// The disk.
    pub disk: Rc<dyn Disk>,
    /// The partition's directory; it exists.
    pub dir: PathBuf,
    /// Whose it is.
    pub partition: PartitionId,
    /// Bytes of a manifest file, unless its snapshot needs more. A multiple of 4 KiB;
    /// [`MANIFEST_FILE_BYTES`] outside of tests.
    pub file_bytes: usize,
}

/// An open manifest. Of one thread; shared by the partition's tasks.
#[derive(Debug)]
pub struct Manifest {
    place: Location,
    state: RefCell<State>,
    tail: RefCell<Tail>,
    /// Files before the current one, each with the snapshot that replaced it.
    old: RefCell<Vec<(u64, EditNumber)>>,
    failed: RefCell<Option<Error>>,
    turnstile: Turnstile,
}

/// The file that takes edits.
#[derive(Debug, Clone)]
struct Tail {
    file: Rc<dyn File>,
    file_number: u64,
    /// Where the next edit goes.
    end: u64,
    /// Up to where an edit that was refused for want of room may have been written. It is overwritten by the next
    /// edit, and before another file goes on from here.
    soiled_end: u64,
    size: u64,
    last: EditNumber,
    /// Checksum of the last edit.
    checksum: u32,
}

impl Manifest {
    /// Creates the manifest of a partition that has none: its first edit, number 1, is `snapshot`. Durable on return.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the directory holds a manifest: what a crashed creation left is for the caller to remove
    /// ([`Manifest::remove_files`]), who knows that the partition was never named. Else what the disk says.
    pub async fn create(place: Location, snapshot: State) -> Result<Self> {
        if !open::numbers(&place).await?.is_empty() {
            return Err(Error::misuse(format!("{} has a manifest already", place.dir.display())));
        }
        let frame = Frame {
            partition: place.partition,
            number: EditNumber(1),
            kind: FrameKind::Snapshot,
            previous: 0,
            edit: snapshot.snapshot(),
        };
        let tail = write_file(&place, 0, &frame, 0).await?;
        Ok(Self::assemble(place, snapshot, tail, Vec::new()))
    }

    /// Removes all manifest files of a partition that is no more, or never was.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn remove_files(place: &Location) -> Result<()> {
        for number in open::numbers(place).await? {
            place.disk.remove(&path_of(&place.dir, number)).await?;
        }
        place.disk.sync_dir(&place.dir).await
    }

    /// Appends `edit`; durable on return. Waits while another append is under way.
    ///
    /// # Errors
    /// When the disk has no room, [`Error::Io`] of that kind: the state is as it was, and an append may be tried again.
    /// Any other failure is final (R3): this and all later appends return [`Error::Stopped`]. After either, the edit may
    /// still be found when the manifest is opened next: keep the segments it adds until a later append has succeeded.
    ///
    /// # Panics
    /// When the edit contradicts the state: it removes what is not there, or adds what is.
    pub async fn append(&self, edit: Edit) -> Result<EditNumber> {
        let _turn = self.turnstile.enter().await;
        if let Some(error) = &*self.failed.borrow() {
            return Err(error.clone());
        }
        if let Err(what) = self.state.borrow().check(&edit) {
            panic!("edit of partition {} {what}: {edit:?}", self.place.partition);
        }
        let mut guard = Abandoned { manifest: self, finished: false };
        let appended = self.append_durably(&edit).await;
        guard.finished = true;
        match appended {
            Ok(number) => {
                self.state.borrow_mut().apply(edit);
                Ok(number)
            }
            Err(Failure::Again(error)) => Err(error),
            Err(Failure::Final(error)) => Err(self.stop(&error.to_string())),
        }
    }

    /// Learns that a durable batch of the log carries `edit`: files before the snapshot at or below it are removed.
    ///
    /// # Errors
    /// What the disk says; the file is then tried again at the next call.
    pub async fn witnessed(&self, edit: EditNumber) -> Result<()> {
        loop {
            let done = self.old.borrow().iter().position(|&(_, replaced_by)| replaced_by <= edit);
            let Some(done) = done else { return Ok(()) };
            let (number, replaced_by) = self.old.borrow_mut().remove(done);
            if let Err(error) = self.place.disk.remove(&path_of(&self.place.dir, number)).await {
                self.old.borrow_mut().push((number, replaced_by));
                return Err(error);
            }
        }
    }

    /// The state after the last durable edit.
    pub fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// The number of the last durable edit: what the log is to witness.
    #[must_use]
    pub fn last(&self) -> EditNumber {
        self.tail.borrow().last
    }

    /// Why nothing more is appended, if so.
    #[must_use]
    pub fn failed(&self) -> Option<Error> {
        self.failed.borrow().clone()
    }

    fn assemble(place: Location, state: State, tail: Tail, old: Vec<(u64, EditNumber)>) -> Self {
        Self {
            place,
            state: RefCell::new(state),
            tail: RefCell::new(tail),
            old: RefCell::new(old),
            failed: RefCell::new(None),
            turnstile: Turnstile::default(),
        }
    }

    async fn append_durably(&self, edit: &Edit) -> Result<EditNumber, Failure> {
        let mut tail = self.tail.borrow().clone();
        let (mut bytes, mut checksum) = self.frame(&tail, edit)?;
        if tail.end + bytes.len() as u64 > tail.size {
            self.wipe(&tail).await?;
            tail = self.rotate(&tail, bytes.len()).await?;
            *self.tail.borrow_mut() = tail.clone();
            (bytes, checksum) = self.frame(&tail, edit)?;
        }
        self.write(&tail, &bytes).await?;
        tail.end += bytes.len() as u64;
        tail.last = tail.last.next();
        tail.checksum = checksum;
        let number = tail.last;
        *self.tail.borrow_mut() = tail;
        Ok(number)
    }

    /// Writes `bytes` at the tail's end, and zeros over whatever was left behind them.
    async fn write(&self, tail: &Tail, bytes: &[u8]) -> Result<(), Failure> {
        let soiled = usize::try_from(tail.soiled_end.saturating_sub(tail.end)).expect("at most an edit");
        let mut buf = AlignedBuf::zeroed(bytes.len().max(soiled));
        buf[..bytes.len()].copy_from_slice(bytes);
        let end = tail.end + buf.len() as u64;
        match tail.file.write_at(buf, tail.end, Write::Synced).await.1 {
            Ok(()) => Ok(()),
            Err(error) if error.is_no_space() => {
                self.tail.borrow_mut().soiled_end = end;
                Err(Failure::Again(error))
            }
            Err(error) => Err(Failure::Final(error)),
        }
    }

    /// Makes sure that the file ends with its last edit.
    async fn wipe(&self, tail: &Tail) -> Result<(), Failure> {
        if tail.soiled_end > tail.end { self.write(tail, &[]).await } else { Ok(()) }
    }

    fn frame(&self, tail: &Tail, edit: &Edit) -> Result<(Vec<u8>, u32), Failure> {
        let (partition, kind) = (self.place.partition, FrameKind::Edit);
        let frame =
            Frame { partition, number: tail.last.next(), kind, previous: tail.checksum, edit: edit.clone() };
        bounded(frame.encode()).map_err(Failure::Again)
    }

    /// Goes on in the next file, with room for an edit of `need` bytes.
    async fn rotate(&self, tail: &Tail, need: usize) -> Result<Tail, Failure> {
        let number = tail.file_number + 1;
        let snapshot_number = tail.last.next();
        let snapshot = self.state.borrow().snapshot();
        let frame = Frame {
            partition: self.place.partition,
            number: snapshot_number,
            kind: FrameKind::Snapshot,
            previous: tail.checksum,
            edit: snapshot,
        };
        match write_file(&self.place, number, &frame, need).await {
            Ok(next) => {
                self.old.borrow_mut().push((tail.file_number, snapshot_number));
                Ok(next)
            }
            Err(error) if error.is_no_space() => {
                // A snapshot that came back after a crash would hide the edits that this file takes meanwhile.
                give_up_file(&self.place, number).await.map_err(Failure::Final)?;
                Err(Failure::Again(error))
            }
            Err(error) => Err(Failure::Final(error)),
        }
    }

    fn stop(&self, why: &str) -> Error {
        let what = format!("manifest of partition {}: {why}", self.place.partition);
        let error = Error::Stopped(Arc::from(what));
        *self.failed.borrow_mut() = Some(error.clone());
        error
    }
}

/// Whether an append that failed may be tried again.
enum Failure {
    /// Nothing counts as appended, and the next append writes over what is left of this one.
    Again(Error),
    /// Nobody knows what is on disk.
    Final(Error),
}

/// An append under way. Dropped with it, nobody knows what is on disk.
struct Abandoned<'a> {
    manifest: &'a Manifest,
    finished: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.manifest.stop("an append was abandoned");
        }
    }
}

/// Writes manifest file `number`, beginning with `snapshot` and zero after it, and makes it and its name durable.
async fn write_file(place: &Location, number: u64, snapshot: &Frame, need: usize) -> Result<Tail> {
    let (bytes, checksum) = bounded(snapshot.encode())?;
    // Twice what there is: a file that its snapshot fills would be followed by another at once.
    let size = align_up(place.file_bytes.max(2 * (bytes.len() + need)));
    let file = place.disk.open(&path_of(&place.dir, number), OpenMode::Create).await?;
    for start in (0..size).step_by(PIECE_BYTES) {
        let mut buf = AlignedBuf::zeroed(PIECE_BYTES.min(size - start));
        let piece = bytes.get(start..).unwrap_or(&[]);
        let len = piece.len().min(buf.len());
        buf[..len].copy_from_slice(&piece[..len]);
        file.write_at(buf, start as u64, Write::Plain).await.1?;
    }
    file.sync().await?;
    place.disk.sync_dir(&place.dir).await?;
    let (end, size) = (bytes.len() as u64, size as u64);
    Ok(Tail { file, file_number: number, end, soiled_end: end, size, last: snapshot.number, checksum })
}

/// Removes manifest file `number`, which may be there in part, for good.
async fn give_up_file(place: &Location, number: u64) -> Result<()> {
    let path = path_of(&place.dir, number);
    if place.disk.exists(&path).await? {
        place.disk.remove(&path).await?;
    }
    place.disk.sync_dir(&place.dir).await
}

fn bounded(encoded: (Vec<u8>, u32)) -> Result<(Vec<u8>, u32)> {
    if encoded.0.len() > EDIT_BYTES_MAX {
        return Err(Error::misuse(format!(
            "manifest edit of {} bytes: at most {EDIT_BYTES_MAX}",
            encoded.0.len()
        )));
    }
    Ok(encoded)
}

/// Whether a file of this name is a manifest's.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    open::number_of(name).is_some()
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{FILE_PREFIX}{number}"))
}

/// A manifest file: some 250 small edits.
pub const MANIFEST_FILE_BYTES: usize = 1 << 20;
/// A larger file is not read: nothing writes one.
const FILE_BYTES_MAX: u64 = 4 * EDIT_BYTES_MAX as u64;
/// An edit with its header: names some 400,000 segments with short keys.
const EDIT_BYTES_MAX: usize = 64 << 20;
/// A file is first written in pieces of this, so that no device queue is held up by one write.
const PIECE_BYTES: usize = 1 << 20;
const FILE_PREFIX: &str = "manifest-";

#[cfg(test)]
mod tests;
