//! Gives back fields that no hash has any more.
//!
//! A SET over a hash, and a hash that expires, leave the fields behind under a generation that is never used again:
//! nobody sees them, but they take room. A sweep walks a partition's rows, page by page, and deletes the generations
//! that their key's meta row does not name.
//!
//! Invariant: a generation is deleted only after its key's meta row was seen without it, later than a field of it was:
//! from then on no write can bring it back.

use std::collections::VecDeque;
use std::rc::Rc;

use foreshard_engine::ids::PartitionId;
use foreshard_engine::key;
use foreshard_engine::table::{Home, Image};
use foreshard_engine::{Error, Op, PageLimit, Result, Shard};

use super::keyspace::{end_of, piece};
use super::layout;
use super::value::Value;

/// Where a sweep of one partition is.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    partition: PartitionId,
    /// What is left of its range and of its guests; the first is under way.
    left: VecDeque<(Vec<u8>, Vec<u8>)>,
}

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Step {
    /// Bytes of rows looked at.
    pub(crate) bytes: usize,
    /// Generations deleted.
    pub(crate) generations: u64,
    /// Whether the partition's end is reached.
    pub(crate) is_last: bool,
}

/// A turn's work, and what a step brings into the block cache at most.
const PAGE: PageLimit = PageLimit { rows: 256, bytes: 256 << 10 };

impl Sweep {
    /// Of a partition of this shard, from its first row on: of its range, then of the guests that it has.
    pub(crate) fn new(map: &Image, home: Home) -> Self {
        let range = (layout::start_of(home.start), end_of(home));
        let guests = map.guests_in(home.partition);
        let guests = guests.filter_map(|g| Some((g.prefix.to_vec(), key::prefix_end(g.prefix)?)));
        let left = std::iter::once(range).chain(guests).filter(|(start, end)| start < end).collect();
        Self { partition: home.partition, left }
    }

    /// Looks at the next page.
    ///
    /// # Errors
    /// What the engine says; the step may be tried again.
    pub(crate) async fn step(&mut self, shard: &Rc<Shard>) -> Result<Step> {
        let Some((start, end)) = self.left.pop_front() else {
            return Ok(Step { is_last: true, ..Step::default() });
        };
        let stepped = self.page(shard, &start, &end).await;
        let (mut step, resume) = match stepped {
            Ok(stepped) => stepped,
            Err(e) => {
                self.left.push_front((start, end));
                // It is looked up anew.
                return if matches!(e, Error::Moved { .. }) { Ok(Step::default()) } else { Err(e) };
            }
        };
        if let Some(resume) = resume.filter(|resume| *resume < end) {
            self.left.push_front((resume, end));
        }
        step.is_last = self.left.is_empty();
        Ok(step)
    }

    /// Looks at a page from `start` on: where to go on, if not at the end.
    async fn page(&self, shard: &Rc<Shard>, start: &[u8], end: &[u8]) -> Result<(Step, Option<Vec<u8>>)> {
        let (home, behind) = piece(&shard.map(), start);
        let behind = behind.min(end.to_vec());
        if home.partition != self.partition || home.shard != shard.id() {
            // Somebody else's: what lies here of it leaves, or is on its way.
            return Ok((Step::default(), Some(behind)));
        }
        let (page, _) = shard.scan_observe(home, start, &behind, PAGE).await?;
        let mut step = Step::default();
        let mut resume = page.resume.or(Some(behind));
        let mut checked: Vec<u8> = Vec::new();
        for row in &page.rows {
            step.bytes += row.key.len() + row.value.len();
            let Some((_, rest)) = layout::key_of(&row.key) else { continue };
            let Some((generation, _)) = rest.split_first_chunk::<8>() else { continue };
            let prefix = &row.key[..row.key.len() - rest.len() + 8];
            if checked == prefix {
                continue;
            }
            checked = prefix.to_vec();
            let meta = &row.key[..row.key.len() - rest.len()];
            if !self.is_named(shard, meta, u64::from_be_bytes(*generation)).await? {
                self.delete(shard, prefix).await?;
                step.generations += 1;
            }
        }
        // What is left of the last generation has been decided.
        let behind = key::prefix_end(&checked).filter(|_| !checked.is_empty());
        if let (Some(next), Some(behind)) = (&resume, behind)
            && next.starts_with(&checked)
        {
            resume = Some(behind);
        }
        Ok((step, resume))
    }

    /// Whether a meta row names this generation.
    async fn is_named(&self, shard: &Rc<Shard>, meta: &[u8], generation: u64) -> Result<bool> {
        let entity = entity_of(meta);
        // A row that this version does not know may name anything.
        let named = |value: &[u8]| match Value::decode(value) {
            Ok(Value::Hash(hash)) => hash.generation == generation,
            Ok(Value::String(_)) => false,
            Err(_) => true,
        };
        let home = self.place(shard, meta)?;
        let (found, _) =
            shard.observe(home, &entity, meta, |row| row.is_some_and(|row| named(row.value))).await?;
        Ok(found)
    }

    async fn delete(&self, shard: &Rc<Shard>, prefix: &[u8]) -> Result<()> {
        let Some(end) = key::prefix_end(prefix) else { return Ok(()) };
        let op = Op::DeleteRange { start: prefix, end: &end };
        let home = self.place(shard, prefix)?;
        shard.apply_one(home, &entity_of(prefix), &op).await?;
        Ok(())
    }

    /// Where a key is, if that is still the partition that is swept.
    fn place(&self, shard: &Shard, key: &[u8]) -> Result<Home> {
        let map = shard.map();
        let home = map.home_of(key);
        if home.partition == self.partition { Ok(home) } else { Err(Error::Moved { version: map.version() }) }
    }
}

fn entity_of(storage: &[u8]) -> Vec<u8> {
    key::decode(storage).map(|(entity, _)| entity).unwrap_or_default()
}
