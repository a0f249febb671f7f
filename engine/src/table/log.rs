//! The table's log on one host: two files of reserved space, of which one takes changes and the other the next
//! snapshot.
//!
//! Refuses what was made from entries that have changed since, and anything once a write has failed. It knows neither
//! who asks nor why.
//!
//! Invariants:
//! - a change is made when its frame is durable, and one is written at a time;
//! - whatever is written lies in blocks that were zero-written before, so that a full device does not keep a change
//!   from being made; a change that the table would outgrow them by is refused before anything is written;
//! - a file takes changes only when the other one is retired, durably: of a damaged file the other never makes a whole
//!   but older one;
//! - after a failed or abandoned write nothing more is written (R3).

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::change::Change;
use super::frame::{Body, Chain, Frame, Rest, choose, read_chain};
use super::refusal::Refusal;
use super::snapshot::write_behind_first;
use super::state::State;
use crate::error::{Error, Result};
use crate::ids::TableVersion;
use crate::io::buffer::{ALIGNMENT, AlignedBuf, align_up};
use crate::io::disk::{Disk, File, OpenMode, Write};
use crate::superblock::StoreId;

/// Where a table's log lies.
#[derive(Clone, Debug)]
pub struct Place {
    /// The disk.
    pub disk: Rc<dyn Disk>,
    /// The directory of its two files.
    pub dir: PathBuf,
    /// Whose table it is.
    pub store: StoreId,
    /// What each file has at least, bytes; [`RESERVED_BYTES_MIN`] outside of tests.
    pub reserved_bytes: usize,
}

/// An open log.
#[derive(Debug)]
pub struct TableLog {
    place: Place,
    state: State,
    files: [Rc<dyn File>; 2],
    /// What each of the files has, bytes.
    reserved_bytes: usize,
    /// The file that takes changes.
    current: usize,
    /// Where its next frame goes.
    end: usize,
    /// Checksum of its last frame.
    checksum: u32,
    /// Whether the mark says that all of it is durable.
    is_marked: bool,
    /// Set while something is written, and by what failed (R3).
    failed: Option<Error>,
}

/// What a crash left of a frame, and was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// What stood there.
    pub what: &'static str,
}

impl TableLog {
    /// Makes the log of a store that has none yet, `state` in it; durable on return, but for the directory's own name.
    /// What a crashed creation left is written over.
    ///
    /// # Errors
    /// What the disk says; [`Error::Misuse`] for a state that no table may have.
    pub async fn create(place: Place, state: State) -> Result<Self> {
        state.check().map_err(|what| Error::misuse(format!("table: {what}")))?;
        place.disk.create_dir(&place.dir).await?;
        let mut files = Vec::new();
        for path in paths(&place.dir) {
            if place.disk.exists(&path).await? {
                place.disk.remove(&path).await?;
            }
            files.push(place.disk.open(&path, OpenMode::Create).await?);
        }
        let files = <[Rc<dyn File>; 2]>::try_from(files).expect("two paths");
        let reserved_bytes =
            place.reserved_bytes.max(align_up(4 * state.encoded_bytes()).min(RESERVED_BYTES_MAX));
        let mut log = Self {
            place,
            state,
            files,
            reserved_bytes,
            // The first snapshot goes to the file that does not take changes.
            current: 1,
            end: 0,
            checksum: 0,
            is_marked: false,
            failed: None,
        };
        zero(&*log.files[1], 0, reserved_bytes).await?;
        log.files[1].sync().await?;
        log.turn().await?;
        log.place.disk.sync_dir(&log.place.dir).await?;
        Ok(log)
    }

    /// Opens the log in `place`. What was torn is cut, durably, and returned.
    ///
    /// # Errors
    /// [`Error::Corrupt`] by the table in FORMAT.md, [`Error::Io`] from the disk.
    pub async fn open(place: Place) -> Result<(Self, Option<Cut>)> {
        let paths = paths(&place.dir);
        let (first, one) = read(&place, &paths[0]).await?;
        let (second, other) = read(&place, &paths[1]).await?;
        let lens = [first.1, second.1];
        let chosen = choose([&one, &other]);
        let current = chosen.map_err(|(file, offset, what)| Error::corrupt(&paths[file], offset, what))?;
        let (chain, spare) = if current == 0 { (one, other) } else { (other, one) };
        if let Some(short) = lens.iter().position(|len| *len < chain.reserved_bytes) {
            let what =
                format!("{} bytes: a file of the table has at least {}", lens[short], chain.reserved_bytes);
            return Err(Error::corrupt(&paths[short], lens[short], what));
        }
        let reserved_bytes =
            lens.into_iter().min().and_then(|len| usize::try_from(len).ok()).unwrap_or_default();
        let mut log = Self {
            place,
            state: chain.state.expect("a chosen file has one"),
            files: [first.0, second.0],
            reserved_bytes: reserved_bytes / ALIGNMENT * ALIGNMENT,
            current,
            end: usize::try_from(chain.end).expect("read into memory"),
            checksum: chain.checksum,
            is_marked: chain.rest == Rest::Marked,
            failed: None,
        };
        // What was read may not be durable yet, if the process died and the machine did not.
        log.files[current].sync().await?;
        if !spare.is_retired() {
            log.retire(1 - current).await?;
        }
        let cut = match chain.rest {
            Rest::Torn(what) => {
                // Left there, a part of it could one day follow a later frame.
                zero(&*log.files[current], log.end, log.reserved_bytes).await?;
                log.files[current].sync().await?;
                let cut = Cut { path: paths[current].clone(), offset: chain.end, what };
                tracing::warn!(path = %cut.path.display(), offset = cut.offset, what, "a torn table change was cut");
                Some(cut)
            }
            Rest::Unused | Rest::Marked | Rest::Corrupt(_) => None,
        };
        log.settle().await?;
        Ok((log, cut))
    }

    /// The table after the last change.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Why no more changes are made, if so.
    #[must_use]
    pub const fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Makes `change`, if everything that it was made from is as it was: durable on return.
    ///
    /// # Errors
    /// When the table has outgrown its files and the disk has no room for larger ones, [`Error::Io`] of that kind; it
    /// may be tried again. Any other failure is final (R3): this and all later changes return [`Error::Stopped`], and
    /// whether this one is found when the log is opened next is not known.
    pub async fn change(&mut self, change: &Change) -> Result<Result<TableVersion, Refusal>> {
        self.check_open()?;
        let next = match self.state.after(change) {
            Ok(next) => next,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let body = Body::Change(change.clone());
        let (mut frame, mut checksum) = self.frame(next.version, self.checksum, body.clone());
        // After the next turn it fits, whatever else comes.
        let need = snapshot_bytes(&next) + 2 * frame.len();
        if need > self.reserved_bytes {
            self.grow((2 * need).min(RESERVED_BYTES_MAX).max(need)).await?;
        }
        if self.end + frame.len() > self.reserved_bytes {
            self.turn().await?;
            (frame, checksum) = self.frame(next.version, self.checksum, body);
        }
        self.write(&frame).await?;
        (self.end, self.checksum, self.is_marked) = (self.end + frame.len(), checksum, false);
        self.state = next;
        Ok(Ok(self.state.version))
    }

    /// What is done while nobody waits: says in the log that all of it is durable, and makes room for more.
    ///
    /// # Errors
    /// As [`TableLog::change`].
    pub async fn settle(&mut self) -> Result<()> {
        self.check_open()?;
        let snapshot = snapshot_bytes(&self.state);
        if 3 * snapshot > self.reserved_bytes
            && self.reserved_bytes < RESERVED_BYTES_MAX
            && let Err(e) = self.grow((2 * self.reserved_bytes).min(RESERVED_BYTES_MAX)).await
        {
            if !e.is_no_space() {
                return Err(e);
            }
            tracing::warn!("the table cannot be given more room before it needs it: {e}");
        }
        if self.end > self.reserved_bytes / 4 * 3 && self.end > 2 * snapshot {
            self.turn().await?;
        }
        if !self.is_marked && self.end < self.reserved_bytes {
            let (mark, _) = self.frame(self.state.version, self.checksum, Body::Mark);
            self.write(&mark).await?;
            self.is_marked = true;
        }
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn frame(&self, version: TableVersion, previous: u32, body: Body) -> (Vec<u8>, u32) {
        Frame { store: self.place.store, version, previous, body }.encode()
    }

    /// Writes a frame, or the mark, where the current file ends.
    async fn write(&mut self, frame: &[u8]) -> Result<()> {
        let (file, at) = (Rc::clone(&self.files[self.current]), self.end as u64);
        let buf = AlignedBuf::from_slice(frame);
        self.guard(async move { file.write_at(buf, at, Write::Synced).await.1 }).await
    }

    /// Goes on in the other file, beginning with what there is.
    async fn turn(&mut self) -> Result<()> {
        let (to, reserved) = (1 - self.current, self.reserved_bytes);
        let (file, store, state) = (Rc::clone(&self.files[to]), self.place.store, self.state.clone());
        assert!(snapshot_bytes(&state) <= reserved, "a state is only made if its snapshot fits");
        let written = self.guard(async move {
            let (first, written) = write_behind_first(&*file, store, &state, reserved as u64).await?;
            zero(&*file, written.bytes, reserved).await?;
            file.write_at(first, 0, Write::Plain).await.1?;
            file.sync().await?;
            Ok(written)
        });
        let written = written.await?;
        self.retire(self.current).await?;
        (self.current, self.end, self.checksum, self.is_marked) =
            (to, written.bytes, written.checksum, false);
        Ok(())
    }

    /// From here on the other file counts, whatever becomes of it.
    async fn retire(&mut self, n: usize) -> Result<()> {
        let file = Rc::clone(&self.files[n]);
        self.guard(async move { file.write_at(AlignedBuf::zeroed(ALIGNMENT), 0, Write::Synced).await.1 })
            .await
    }

    /// Gives both files more room. When there is none, all is as it was.
    async fn grow(&mut self, reserved: usize) -> Result<()> {
        let (files, from, reserved) = (self.files.clone(), self.reserved_bytes, align_up(reserved));
        if reserved > RESERVED_BYTES_MAX {
            return Err(Error::misuse(format!("a table of {reserved} bytes: at most {RESERVED_BYTES_MAX}")));
        }
        let grown = self.guard(async move {
            for file in files {
                match zero(&*file, from, reserved).await {
                    Err(e) if e.is_no_space() => return Ok(Err(e)),
                    filled => filled?,
                }
                file.sync().await?;
            }
            Ok(Ok(()))
        });
        grown.await??;
        self.reserved_bytes = reserved;
        Ok(())
    }

    /// Does `work`; if it fails, or whoever waits for it goes away, it was the last.
    async fn guard<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.check_open()?;
        self.failed = Some(self.stopped("a write was abandoned"));
        let result = work.await;
        self.failed = result.as_ref().err().map(|e| self.stopped(&e.to_string()));
        self.check_open()?;
        result
    }

    fn stopped(&self, why: &str) -> Error {
        let what = format!("table in {}: {why}; restart to go on", self.place.dir.display());
        Error::Stopped(Arc::from(what))
    }
}

/// The log's two files.
#[must_use]
pub fn paths(dir: &Path) -> [PathBuf; 2] {
    ["0", "1"].map(|name| dir.join(name))
}

/// A file, its length, and what is in it.
async fn read(place: &Place, path: &Path) -> Result<((Rc<dyn File>, u64), Chain)> {
    let file = match place.disk.open(path, OpenMode::ReadWrite).await {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::corrupt(path, 0, "a file of the table is lost"));
        }
        file => file?,
    };
    let len = file.size().await?;
    if len > RESERVED_BYTES_MAX as u64 {
        return Err(Error::corrupt(path, 0, format!("{len} bytes: no file of the table is that long")));
    }
    let mut bytes = AlignedBuf::zeroed(usize::try_from(len).expect("bounded above"));
    if len > 0 {
        let (buf, count) = file.read_at(bytes, 0).await;
        count?;
        bytes = buf;
    }
    let chain = read_chain(&bytes, place.store, |_, _| {});
    Ok(((file, len), chain))
}

/// What a snapshot's frame takes.
fn snapshot_bytes(state: &State) -> usize {
    align_up(super::FRAME_HEADER_BYTES + state.encoded_bytes())
}

/// Writes zeros from `start` to `end`.
async fn zero(file: &dyn File, start: usize, end: usize) -> Result<()> {
    for at in (start..end).step_by(PIECE_BYTES) {
        let buf = AlignedBuf::zeroed(PIECE_BYTES.min(end - at));
        file.write_at(buf, at as u64, Write::Plain).await.1?;
    }
    Ok(())
}

/// What each file has at first: some 250 small changes, or 8,000 partitions or guests before it has to grow.
pub const RESERVED_BYTES_MIN: usize = 1 << 20;
/// A file is not let grow beyond this, nor read: guests to their limit take 70 MB with names of twenty bytes. Names near
/// their own limit reach it with fewer, and the change that would is refused.
pub const RESERVED_BYTES_MAX: usize = 1 << 30;
/// Files are filled in pieces of this, so that no device queue is held up by one write.
const PIECE_BYTES: usize = 1 << 20;
