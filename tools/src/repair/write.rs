//! The new store that takes what was salvaged.

use std::path::{Path, PathBuf};

use foreshard_engine::ids::{PartitionId, Version};
use foreshard_engine::merge::Merge;
use foreshard_engine::table::Image;
use foreshard_engine::visible::{View, Visible};
use foreshard_engine::{Client, Durability, Options, Store, WriteBatch, block_on, key};

use super::gather::Gathered;
use crate::shell::{Failure, Tools};

/// Rows are written in batches of about this size.
const BATCH_BYTES: usize = 1 << 20;
/// What is written out on the way, in the target's directory until it is closed.
const SCRATCH: &str = "salvage";

/// A store being filled.
pub(super) struct Target {
    store: Store,
    client: Client,
    scratch: PathBuf,
}

/// Rows of one partition.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Written {
    pub(super) written: u64,
    /// Of them, those of which a newer version or a delete may be lost.
    pub(super) stale: u64,
    /// Left out: rows of entities that the table places elsewhere, of a move that was not finished, or not cleared away.
    pub(super) elsewhere: u64,
}

/// Checks that `into` can become a store.
pub(super) fn check_target(source: &Path, into: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::told(format!(
            "{}: {why}; give a directory that does not exist or is empty",
            into.display()
        )))
    };
    if into.is_dir() {
        let mut names =
            std::fs::read_dir(into).map_err(|e| Failure::told(format!("{}: {e}", into.display())))?;
        if names.next().is_some() {
            return refuse("is not empty");
        }
    } else if into.exists() {
        return refuse("is not a directory");
    }
    let absolute =
        std::path::absolute(into).map_err(|e| Failure::told(format!("{}: {e}", into.display())))?;
    if absolute.starts_with(source) {
        refuse("lies in the store to be repaired, which is not changed")
    } else {
        Ok(())
    }
}

impl Target {
    /// Creates the store.
    pub(super) fn create(into: &Path, options: Options) -> Result<Self, Failure> {
        // Nobody is told that a row is safe before the store is closed, and that flushes everything.
        let options = Options { durability: Durability::None, ..options };
        let store = Store::open(into, options)?;
        let client = store.client()?;
        let scratch = into.join(SCRATCH);
        std::fs::create_dir(&scratch).map_err(|e| Failure::told(format!("{}: {e}", scratch.display())))?;
        Ok(Self { store, client, scratch })
    }

    /// Where entries are kept that do not fit memory.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Writes the live rows of a partition, of the entities that `image` places there.
    pub(super) async fn write(
        &self,
        tools: &Tools,
        id: PartitionId,
        image: Option<&Image>,
        from: Gathered,
    ) -> Result<Written, Failure> {
        let mut from = from;
        let merge = Merge::new(std::mem::take(&mut from.sources));
        let view =
            View { at: Version::MAX, now_ms: from.time_ms, tombstones: std::mem::take(&mut from.tombstones) };
        let mut rows = Visible::new(merge, view);
        rows.seek(b"").await?;
        let what = format!("writing partition {id}");
        let (mut written, mut batch, mut bytes) = (Written::default(), WriteBatch::new(), 0);
        while let Some(entry) = rows.entry() {
            if image.is_some_and(|image| image.home_of(entry.key).partition != id) {
                written.elsewhere += 1;
                rows.next().await?;
                continue;
            }
            let Some((entity, row)) = key::decode(entry.key) else {
                return Err(Failure::told(format!(
                    "partition {id} holds a whole row whose key is no storage key: another program wrote it"
                )));
            };
            let size = entry.key.len() + entry.value.len();
            if bytes + size > BATCH_BYTES && !batch.is_empty() {
                self.commit(&mut batch)?;
                bytes = 0;
            }
            batch.put_until(&entity, row, entry.value, entry.expiry)?;
            bytes += size;
            written.written += 1;
            written.stale += u64::from(from.is_doubtful(entry.key, entry.version));
            tools.progress.step(&what, size as u64);
            rows.next().await?;
        }
        self.commit(&mut batch)?;
        drop(rows);
        from.scratch.clear().await?;
        Ok(written)
    }

    /// Flushes and closes the store.
    pub(super) fn close(self) -> Result<(), Failure> {
        drop(self.client);
        // Empty unless something failed on the way, which is told already.
        let removed = std::fs::remove_dir_all(&self.scratch);
        self.store.close()?;
        removed.map_err(|e| Failure::told(format!("remove {}: {e}", self.scratch.display())))
    }

    /// Waits without running this thread's ring: nothing of it is under way, and the store has threads of its own.
    fn commit(&self, batch: &mut WriteBatch) -> Result<(), Failure> {
        let batch = std::mem::take(batch);
        if batch.is_empty() { Ok(()) } else { Ok(block_on(self.client.write(batch))?) }
    }
}
