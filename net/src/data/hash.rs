//! A hash: its meta row, and a row per field.
//!
//! Every change of a hash rewrites its meta row, so that one version stands for all of it: WATCH and transactions look
//! there only.

use foreshard_engine::PageLimit;
use foreshard_engine::entry::Expiry;
use foreshard_engine::shard::applied::Moment;

use super::fault::{Result, WRONG_TYPE};
use super::layout::{self, Path};
use super::tx::{Held, Tx};
use super::value::{HashMeta, Value};

/// A hash where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Hash {
    pub(crate) path: Path,
    pub(crate) meta: HashMeta,
    pub(crate) expiry: Expiry,
}

/// A walk over the fields of a hash, by their places.
#[derive(Debug)]
pub(crate) struct Walk {
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    /// Long walks see the hash as it was when they began.
    at: Option<Moment>,
}

/// A field met on a walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Field {
    /// What orders it among the others.
    pub(crate) place: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Rows of a page: a turn's work.
const PAGE: PageLimit = PageLimit { rows: 256, bytes: 1 << 20 };

impl Hash {
    /// The hash at a path whose meta row is `held`; none where there is no key.
    ///
    /// # Errors
    /// When the key is something else.
    pub(crate) fn of(path: Path, held: Option<&Held>) -> Result<Option<Self>> {
        let Some(held) = held else { return Ok(None) };
        match Value::decode(&held.value)? {
            Value::Hash(meta) => Ok(Some(Self { path, meta, expiry: held.expiry })),
            Value::String(_) => Err(WRONG_TYPE),
        }
    }

    /// A field's value.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn get(&self, tx: &mut Tx, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = layout::field(&self.path.meta, self.meta.generation, name)?;
        Ok(tx.get(self.path.home, &key).await?.map(|held| held.value))
    }

    /// Sets a field; whether there was none of that name. [`Hash::write`] the hash afterwards.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn set(&mut self, tx: &mut Tx, name: &[u8], value: &[u8]) -> Result<bool> {
        let is_new = self.get(tx, name).await?.is_none();
        let key = layout::field(&self.path.meta, self.meta.generation, name)?;
        tx.put(key, value.to_vec(), Expiry::NEVER);
        self.meta.fields += u64::from(is_new);
        Ok(is_new)
    }

    /// Removes a field; whether there was one of that name. [`Hash::write`] the hash afterwards.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn remove(&mut self, tx: &mut Tx, name: &[u8]) -> Result<bool> {
        if self.get(tx, name).await?.is_none() {
            return Ok(false);
        }
        tx.delete(layout::field(&self.path.meta, self.meta.generation, name)?);
        self.meta.fields = self.meta.fields.saturating_sub(1);
        Ok(true)
    }

    /// Writes the meta row, or deletes it with the last field.
    pub(crate) fn write(self, tx: &mut Tx) {
        if self.meta.fields == 0 {
            tx.delete(self.path.meta);
        } else {
            tx.put(self.path.meta, self.meta.row(), self.expiry);
        }
    }

    /// Whether a page has all its fields, where they are not large.
    pub(crate) const fn is_short(&self) -> bool {
        self.meta.fields <= PAGE.rows as u64
    }

    /// A walk over all fields from `place` on. A hash of more than a page is walked as it is at this moment, whatever is
    /// written meanwhile; `self` is what it is then, or none is left.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn walk(&mut self, tx: &mut Tx, place: u32) -> Result<Option<Walk>> {
        let mut at = None;
        if !self.is_short()
            && let Some((moment, held)) = tx.moment(&self.path).await?
        {
            let Some(then) = Self::of(self.path.clone(), held.as_ref())? else { return Ok(None) };
            *self = then;
            at = Some(moment);
        }
        let prefix = layout::fields(&self.path.meta, self.meta.generation);
        let end = foreshard_engine::key::prefix_end(&prefix).unwrap_or_else(|| vec![u8::MAX]);
        let next = Some([&prefix[..], &place.to_be_bytes()].concat());
        Ok(Some(Walk { next, end, at }))
    }
}

impl Walk {
    /// The next fields, at most so many if one page holds more; empty at the end.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn next(&mut self, tx: &mut Tx, hash: &Hash, rows_max: usize) -> Result<Vec<Field>> {
        let limit = PageLimit { rows: rows_max.clamp(1, PAGE.rows), ..PAGE };
        while let Some(start) = self.next.take() {
            let page = match &self.at {
                Some(moment) => tx.scan_at(moment, &start, &self.end, limit).await?,
                None => tx.scan(hash.path.home, &start, &self.end, limit).await?,
            };
            self.next = page.resume;
            let fields: Vec<Field> = page
                .rows
                .into_iter()
                .filter_map(|row| {
                    let (place, name) = layout::field_of(&hash.path.meta, &row.key)?;
                    Some(Field { place, name: name.to_vec(), value: row.value })
                })
                .collect();
            if !fields.is_empty() {
                return Ok(fields);
            }
        }
        Ok(Vec::new())
    }
}
