//! Reading a log back: where it begins, where it ends, and whether its end is a crash's or damage.
//!
//! The decision table is the one in `engine/FORMAT.md`, "WAL: torn or corrupt"; the tests next door have one test for
//! each of its rows. Streaming: memory is bounded by what is read ahead and one batch. Changes nothing on disk.
//!
//! Invariants:
//! - only an unbroken chain of whole batches is yielded (R1);
//! - the end is accepted only when no header anywhere later in the log says that something at or after it was
//!   durable (R2).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::batch::Batch;
use super::format::{BLOCK_BYTES, BatchHeader, Invalid, Link, LogId};
use super::scan::{Claim, LogFile, claim, durable_beyond};
use super::slots::{file_name, file_number};
use super::window::Window;
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::io::disk::{Disk, OpenMode};

/// Where a log ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEnd {
    /// The position after the last whole batch.
    pub lsn: Lsn,
    /// The number of the last whole batch.
    pub batch: u64,
    /// Batches read.
    pub batches: u64,
    /// Bytes of the batches read.
    pub bytes: u64,
    /// A batch that a crash cut short, and that was left out; as far as its remains show that there was one.
    pub torn: Option<Torn>,
}

/// The remains of a batch that was being written when the machine stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong with it.
    pub what: Invalid,
}

/// Reads one shard's log, batch by batch.
pub struct LogReader {
    dir: PathBuf,
    id: LogId,
    file_bytes: u64,
    /// All files with a log file's name.
    files: Vec<PathBuf>,
    /// The slots of this log, by sequence number.
    slots: BTreeMap<u64, LogFile>,
    /// Files of an earlier log, not yet used in this one.
    stale: Vec<PathBuf>,
    /// Files that neither belong to this log nor to an earlier one: damaged, or not yet used.
    unknown: Vec<LogFile>,
    window: Window,
    /// The slot being read and where in it.
    slot: u64,
    offset: u64,
    link: Link,
    end: LogEnd,
    /// Where an earlier reading found the end.
    known_end: Option<Lsn>,
    is_done: bool,
    /// Whether to go on where a file is lost or damaged, and what was passed over so.
    salvages: bool,
    losses: Vec<Arc<Corruption>>,
}

impl LogReader {
    /// Finds the log of `id` in `dir`, whose files have `file_bytes`, and goes to its beginning. The superblock has
    /// named that log, so it must be there.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a lost or damaged file that the log needs, [`Error::Io`].
    pub async fn open(disk: &Rc<dyn Disk>, dir: &Path, id: LogId, file_bytes: u64) -> Result<Self> {
        Self::open_as(disk, dir, id, file_bytes, false).await
    }

    /// As [`Self::open`], for what a damaged log still holds: a lost or damaged file is noted
    /// ([`Self::losses`]) and passed over. Batches are yielded under the same rules: an unbroken chain of whole ones.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no chain to begin with, [`Error::Io`].
    pub async fn salvage(disk: &Rc<dyn Disk>, dir: &Path, id: LogId, file_bytes: u64) -> Result<Self> {
        Self::open_as(disk, dir, id, file_bytes, true).await
    }

    async fn open_as(
        disk: &Rc<dyn Disk>,
        dir: &Path,
        id: LogId,
        file_bytes: u64,
        salvages: bool,
    ) -> Result<Self> {
        let end = LogEnd { lsn: Lsn(0), batch: 0, batches: 0, bytes: 0, torn: None };
        let mut reader = Self {
            dir: dir.to_path_buf(),
            id,
            file_bytes,
            files: Vec::new(),
            slots: BTreeMap::new(),
            stale: Vec::new(),
            unknown: Vec::new(),
            window: Window::default(),
            slot: 0,
            offset: 0,
            link: Link::default(),
            end,
            known_end: None,
            is_done: false,
            salvages,
            losses: Vec::new(),
        };
        reader.find_files(disk).await?;
        let Some(&newest) = reader.slots.keys().next_back() else {
            return Err(Error::corrupt(
                dir,
                0,
                format!("no file of the log of incarnation {}", id.incarnation),
            ));
        };
        let first = reader.find_first(newest).await?;
        reader.enter(first).await?;
        Ok(reader)
    }

    /// Ends where an earlier reading did, without judging that end again: all that lies after it was read then.
    #[must_use]
    pub(crate) const fn until(mut self, end: &LogEnd) -> Self {
        self.known_end = Some(end.lsn);
        self
    }

    /// The next whole batch; none at the end of the log.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming file and offset of damage to what was durable, [`Error::Io`].
    pub async fn next_batch(&mut self) -> Result<Option<Batch<'_>>> {
        if self.is_done || self.known_end == Some(self.end.lsn) {
            return Ok(None);
        }
        let header = loop {
            match self.read_batch().await? {
                Ok(header) => break header,
                Err(_) if self.continues() => self.enter(self.slot + 1).await?,
                Err(what) if self.known_end.is_some() => {
                    let path = &self.slots[&self.slot].path;
                    let what = format!("{what}; it was whole when it was read before");
                    return Err(Error::corrupt(path, self.offset, what));
                }
                Err(what) => {
                    self.judge(what).await?;
                    self.is_done = true;
                    return Ok(None);
                }
            }
        };
        let (offset, bytes) = (self.offset, header.batch_bytes());
        self.advance(&header);
        self.end.batches += 1;
        self.end.bytes += bytes as u64;
        Ok(Some(Batch::decoded(header, self.window.bytes(offset, bytes))))
    }

    /// Makes durable what was read. A process that is killed leaves what it wrote and had not synced yet; that is read
    /// like anything else, and a power loss after it would take it away again from under whoever acted on it.
    ///
    /// # Errors
    /// What syncing says.
    pub(crate) async fn sync(&self, disk: &dyn Disk) -> Result<()> {
        for file in self.slots.values() {
            file.file.sync().await?;
        }
        disk.sync_dir(&self.dir).await
    }

    /// Where the log ended; final once [`Self::next_batch`] has returned none.
    #[must_use]
    pub const fn end(&self) -> &LogEnd {
        &self.end
    }

    /// All its files.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Its files that were written to their ends, where they were zeroed ahead: all but the newest slot's and those never used.
    /// Once nothing in them is needed, an open log can take them over.
    #[must_use]
    pub fn written_files(&self) -> Vec<PathBuf> {
        let older = self.slots.values().rev().skip(1).map(|file| &file.path);
        older.chain(&self.stale).cloned().collect()
    }

    /// The file being read, and where in it the next batch begins.
    #[must_use]
    pub fn place(&self) -> (&Path, u64) {
        (self.slots.get(&self.slot).map_or(&self.dir, |file| &file.path), self.offset)
    }

    /// What a salvaging reader passed over.
    #[must_use]
    pub fn losses(&self) -> &[Arc<Corruption>] {
        &self.losses
    }

    /// Damage is an error, unless this reader salvages: then it is noted, and there is nothing.
    fn tolerate<T>(&mut self, found: Result<T>) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::Corrupt(corruption)) if self.salvages => {
                self.losses.push(corruption);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    async fn find_files(&mut self, disk: &Rc<dyn Disk>) -> Result<()> {
        if !disk.exists(&self.dir).await? {
            return Err(Error::corrupt(&self.dir, 0, "the log's directory is lost"));
        }
        for name in disk.list(&self.dir).await? {
            if file_number(&name).is_none() {
                continue;
            }
            let path = self.dir.join(name);
            self.files.push(path.clone());
            let handle = disk.open(&path, OpenMode::Read).await?;
            let file = LogFile::read(path, handle).await?;
            let Some(claim) = self.tolerate(claim(&file, self.id, self.file_bytes))? else { continue };
            match claim {
                Claim::Slot(sequence) => {
                    if let Some(other) = self.slots.insert(sequence, file) {
                        let what = format!("another file claims to be slot {sequence} too");
                        self.tolerate(Err::<(), _>(Error::corrupt(other.path, 0, what)))?;
                    }
                }
                Claim::Stale => self.stale.push(file.path),
                Claim::Unknown => self.unknown.push(file),
            }
        }
        Ok(())
    }

    /// The slot to begin with: that of the oldest position still needed, as the newest batch says before which no slot
    /// is missing. What a batch that is not whole says does not count: nothing was recycled on its word. A missing
    /// slot is one that was never flushed, unless something says otherwise.
    async fn find_first(&mut self, newest: u64) -> Result<u64> {
        // What tore may have left an earlier incarnation's batch behind this one's header.
        let batches = self.slots.values().filter_map(|file| file.batch.ok());
        let mut files = batches.filter(|batch| batch.id == self.id).map(|batch| batch.files).max();
        let mut first = None;
        for slot in (0..=newest).rev() {
            if !self.slots.contains_key(&slot) {
                if first.is_some_and(|first| first > slot) {
                    break;
                }
                let lost = self.check_lost(slot).await;
                self.tolerate(lost)?;
                first = None;
            } else if first.is_none() {
                let (start, known) = self.probe(slot).await?;
                first = start.map(|start| start.0 / self.file_bytes);
                files = files.max(known);
            }
        }
        let lost = self.check_files(files.unwrap_or(1));
        self.tolerate(lost)?;
        Ok(first.unwrap_or(0))
    }

    /// The last start and the largest file count in a slot's whole batches.
    async fn probe(&mut self, slot: u64) -> Result<(Option<Lsn>, Option<u32>)> {
        self.link = self.slots[&slot].anchor(slot);
        (self.slot, self.offset) = (slot, BLOCK_BYTES as u64);
        let (mut start, mut files) = (None, None);
        while let Ok(batch) = self.read_batch().await? {
            start = Some(batch.start);
            files = files.max(Some(batch.files));
            self.advance(&batch);
        }
        Ok((start, files))
    }

    async fn check_lost(&self, slot: u64) -> Result<()> {
        match self.evidence(Lsn(slot * self.file_bytes), 0).await? {
            Some(proof) => {
                Err(Error::corrupt(&self.dir, 0, format!("the log file of slot {slot} is lost; {proof}")))
            }
            None => Ok(()),
        }
    }

    /// Every file whose name was durable must be there.
    fn check_files(&self, known: u32) -> Result<()> {
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let is_there = |number: &usize| self.files.contains(&self.dir.join(file_name(*number)));
        match (0..known).find(|number| !is_there(number)) {
            Some(number) => {
                Err(Error::corrupt(self.dir.join(file_name(number)), 0, "this file of the log is lost"))
            }
            None => Ok(()),
        }
    }

    /// Goes to the beginning of a slot. Its header may be damaged only if its first batch may be in doubt.
    async fn enter(&mut self, slot: u64) -> Result<()> {
        let Some(file) = self.slots.get(&slot) else {
            return Err(Error::corrupt(&self.dir, 0, format!("the log file of slot {slot} is lost")));
        };
        self.link = file.anchor(slot);
        (self.slot, self.offset) = (slot, BLOCK_BYTES as u64);
        self.end.lsn = Lsn(slot * self.file_bytes);
        self.end.batch = self.link.number;
        if file.is_headed(slot) {
            return Ok(());
        }
        let (path, what) =
            (file.path.clone(), file.header.err().unwrap_or(Invalid::Field("sequence number")));
        let begin = Lsn(slot * self.file_bytes);
        let damaged = match self.evidence(begin, 0).await? {
            Some(proof) => Err(Error::corrupt(path, 0, format!("{what}; {proof}"))),
            None if slot == 0 => Err(Error::corrupt(path, 0, format!("{what}, in the log's first file"))),
            None => Ok(()),
        };
        self.tolerate(damaged).map(|_| ())
    }

    /// The batch at the current place if it continues the chain.
    async fn read_batch(&mut self) -> Result<Result<BatchHeader, Invalid>> {
        let file = &self.slots[&self.slot];
        let (offset, file_bytes) = (self.offset, self.file_bytes);
        if offset >= file_bytes {
            return Ok(Err(Invalid::Short));
        }
        let head = self.window.read(file, self.slot, offset, BLOCK_BYTES).await?;
        let header = match BatchHeader::decode(head) {
            Ok(header) => header,
            Err(invalid) => return Ok(Err(invalid)),
        };
        let expected =
            (self.id, Lsn(self.slot * file_bytes + offset), self.link.number + 1, self.link.checksum);
        if (header.id, header.lsn, header.number, header.previous) != expected {
            return Ok(Err(Invalid::Field("place in the chain")));
        }
        if offset + header.batch_bytes() as u64 > file_bytes {
            return Ok(Err(Invalid::Field("batch length")));
        }
        let bytes = self.window.read(file, self.slot, offset, header.batch_bytes()).await?;
        Ok(Batch::decode(bytes).map(|batch| *batch.header()))
    }

    const fn advance(&mut self, header: &BatchHeader) {
        self.offset += header.batch_bytes() as u64;
        self.link = header.link();
        self.end.lsn = header.end();
        self.end.batch = header.number;
    }

    /// Whether the log goes on in the next slot from the last batch read.
    fn continues(&self) -> bool {
        self.slots.get(&(self.slot + 1)).is_some_and(|next| next.anchor(self.slot + 1) == self.link)
    }

    /// The chain broke at the current place: is that the log's end, or damage?
    async fn judge(&mut self, what: Invalid) -> Result<()> {
        let broken = Lsn(self.slot * self.file_bytes + self.offset);
        let path = self.slots[&self.slot].path.clone();
        if broken.0 == BLOCK_BYTES as u64 {
            // It was durable before the superblock named this log.
            return Err(Error::corrupt(path, self.offset, format!("{what}, in the log's first batch")));
        }
        if let Some(proof) = self.evidence(broken, self.offset + BLOCK_BYTES as u64).await? {
            return Err(Error::corrupt(path, self.offset, format!("{what}; {proof}")));
        }
        if let Invalid::Checksum(_) = what {
            self.end.torn = Some(Torn { path, offset: self.offset, what });
        }
        Ok(())
    }

    /// A header that says that something at or after `broken` was durable; `offset` is where to begin in its slot.
    async fn evidence(&self, broken: Lsn, offset: u64) -> Result<Option<String>> {
        let (id, file_bytes) = (self.id, self.file_bytes);
        let first = broken.0 / file_bytes;
        let later = self.slots.range(first..).map(|(&slot, file)| (file, Some(slot)));
        for (file, slot) in later.chain(self.unknown.iter().map(|file| (file, None))) {
            let from = if slot == Some(first) { offset } else { 0 };
            if let Some((at, durable)) = durable_beyond(file, id, file_bytes, broken, from).await? {
                let path = file.path.display();
                return Ok(Some(format!(
                    "{path} says at offset {at} that all before position {durable} was durable"
                )));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("dir", &self.dir).field("end", &self.end).finish_non_exhaustive()
    }
}
