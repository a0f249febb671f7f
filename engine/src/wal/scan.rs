//! What recovery asks of single log files: whose they are, and what their headers say was durable.

use std::path::PathBuf;
use std::rc::Rc;

use super::format::{BLOCK_BYTES, BatchHeader, Invalid, Link, LogId, SlotHeader};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::io::buffer::AlignedBuf;
use crate::io::disk::File;

/// One read: large enough for a device's full bandwidth.
const READ_BYTES: usize = 2 << 20;

/// A log's file and its first two headers, whole or not.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) file: Rc<dyn File>,
    pub(super) size: u64,
    pub(super) header: Result<SlotHeader, Invalid>,
    /// That of the first batch; its payload has not been looked at.
    pub(super) batch: Result<BatchHeader, Invalid>,
}

impl LogFile {
    pub(super) async fn read(path: PathBuf, file: Rc<dyn File>) -> Result<Self> {
        let size = file.size().await?;
        let (buf, read) = file.read_at(AlignedBuf::zeroed(2 * BLOCK_BYTES), 0).await;
        let (slot, batch) =
            buf.get(..read?).unwrap_or_default().split_at_checked(BLOCK_BYTES).unwrap_or_default();
        let (header, batch) = (SlotHeader::decode(slot), BatchHeader::decode(batch));
        Ok(Self { path, file, size, header, batch })
    }

    /// Whether the slot's own header is whole and says that it is this slot.
    pub(super) fn is_headed(&self, slot: u64) -> bool {
        self.header.as_ref().is_ok_and(|header| header.sequence == slot)
    }

    /// What the slot's first batch follows: from its header, or else from that batch itself.
    pub(super) fn anchor(&self, slot: u64) -> Link {
        match (&self.header, &self.batch) {
            (Ok(header), _) if header.sequence == slot => header.previous,
            (_, Ok(batch)) => Link { number: batch.number - 1, checksum: batch.previous },
            _ => Link::default(),
        }
    }
}

/// What a file is to a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// Holds this slot.
    Slot(u64),
    /// Holds an earlier incarnation's slot, waiting to be used again.
    Stale,
    /// Neither: zeroes, or damaged.
    Unknown,
}

/// What `file` is to the log of `id`. Writing a slot's header and its first batch is one write, which may tear: either
/// of them alone tells the slot, and the later one counts.
pub(super) fn claim(file: &LogFile, id: LogId, file_bytes: u64) -> Result<Claim> {
    let mut claim = Claim::Unknown;
    if let Ok(header) = &file.header {
        claim = Claim::Stale;
        check_owner(file, header.id, id)?;
        if header.id == id {
            if header.file_bytes != file_bytes || file.size != file_bytes {
                let what = format!(
                    "a log file of {} bytes, begun with {}; the superblock says {file_bytes}",
                    file.size, header.file_bytes
                );
                return Err(Error::corrupt(&file.path, 0, what));
            }
            claim = Claim::Slot(header.sequence);
        }
    }
    if let Ok(batch) = &file.batch
        && batch.id == id
        && batch.lsn.0 % file_bytes == BLOCK_BYTES as u64
    {
        let slot = batch.lsn.0 / file_bytes;
        claim = match claim {
            Claim::Slot(other) => Claim::Slot(other.max(slot)),
            Claim::Stale | Claim::Unknown => Claim::Slot(slot),
        };
    }
    Ok(claim)
}

fn check_owner(file: &LogFile, found: LogId, expected: LogId) -> Result<()> {
    let what = if found.store != expected.store {
        format!("belongs to store {}, this is {}", found.store, expected.store)
    } else if found.incarnation > expected.incarnation {
        format!("is of incarnation {}, the superblock knows of {}", found.incarnation, expected.incarnation)
    } else if found.incarnation == expected.incarnation && found.shard != expected.shard {
        format!("belongs to shard {}, this is {}", found.shard.0, expected.shard.0)
    } else {
        return Ok(());
    };
    Err(Error::corrupt(&file.path, 0, what))
}

/// The first header in `file` from `offset` on that says that something after `broken` was durable: where it stands
/// and what it says. Only headers are looked at: one that is whole is evidence, whether its batch is or not.
pub(super) async fn durable_beyond(
    file: &LogFile,
    id: LogId,
    file_bytes: u64,
    broken: Lsn,
    offset: u64,
) -> Result<Option<(u64, Lsn)>> {
    if let (0, Ok(header)) = (offset, &file.header)
        && header.id == id
        && header.durable > broken
    {
        return Ok(Some((0, header.durable)));
    }
    let mut offset = offset;
    let mut buf = AlignedBuf::zeroed(read_bytes(file));
    loop {
        let (returned, read) = file.file.read_at(buf, offset).await;
        let bytes = returned.get(..read?).unwrap_or_default();
        for (at, block) in (offset..).step_by(BLOCK_BYTES).zip(bytes.chunks(BLOCK_BYTES)) {
            let Ok(header) = BatchHeader::decode(block) else { continue };
            if header.id == id && header.lsn.0 % file_bytes == at && header.durable > broken {
                return Ok(Some((at, header.durable)));
            }
        }
        if bytes.len() < returned.len() {
            return Ok(None);
        }
        offset += bytes.len() as u64;
        buf = returned;
    }
}

fn read_bytes(file: &LogFile) -> usize {
    usize::try_from(file.size).unwrap_or(READ_BYTES).clamp(BLOCK_BYTES, READ_BYTES)
}
