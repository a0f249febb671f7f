//! A shard's part in a cut over all partitions of the store: begun behind a fence, finished when what it holds is in
//! segments.

use std::rc::Rc;
use std::sync::Weak;

use super::Shard;
use crate::error::{Error, Result};
use crate::ids::{PartitionId, Version};
use crate::partition::Partition;
use crate::partition::cuts::{Cut, Part};

/// A cut that was begun here.
#[derive(Debug)]
pub(crate) struct Begun {
    version: Version,
    /// Whoever asked for it.
    alive: Weak<()>,
    cuts: Vec<(Rc<Partition>, Rc<Cut>)>,
}

impl Shard {
    /// Cuts every partition; kept as long as `alive` lives. Runs behind a fence.
    pub(crate) fn begin_cut(&self, version: Version, alive: Weak<()>) {
        let cuts = self.partitions().map(|p| (Rc::clone(&p), p.cut(version))).collect();
        self.cuts.borrow_mut().push(Begun { version, alive, cuts });
        self.look();
    }

    /// Everything in the cut, in segments that stay readable as long as they are held.
    ///
    /// # Errors
    /// When a transaction is in doubt, when writing has ended, what writing segments says.
    pub(crate) async fn finish_cut(&self, version: Version) -> Result<Vec<(PartitionId, Part)>> {
        let begun = {
            let mut all = self.cuts.borrow_mut();
            let at = all.iter().position(|begun| begun.version == version).ok_or(Error::Closed)?;
            all.swap_remove(at)
        };
        for (partition, cut) in &begun.cuts {
            partition.cut_decided(cut).await?;
        }
        self.settle(|_| begun.cuts.iter().all(|(_, cut)| cut.is_flushed())).await?;
        let mut parts = Vec::with_capacity(begun.cuts.len());
        for (partition, cut) in &begun.cuts {
            parts.push((partition.id, partition.part_of(cut).await?));
        }
        Ok(parts)
    }

    /// Lets go the cuts that nobody waits for.
    pub(super) fn release_cuts(&self) {
        self.cuts.borrow_mut().retain(|begun| begun.alive.strong_count() > 0);
    }
}
