//! Reads a whole segment and checks everything that can be: for `inspect`, and for those who do not trust a disk.

use std::path::Path;

use super::block::{Block, BlockCursor};
use super::filter::Filter;
use super::index::{BlockNumber, Index};
use super::meta::SegmentMeta;
use super::{Tail, frame, read};
use crate::entry::{Expiry, Kind, RangeTombstone};
use crate::error::{Error, Result};
use crate::ids::Version;
use crate::io::buffer::align_up_u64;
use crate::io::disk::{Disk, OpenMode};

/// What a segment holds, proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// As its file describes it; the level, which only a manifest knows, is 0.
    pub meta: SegmentMeta,
    /// Data blocks.
    pub blocks: u64,
    /// Bytes of keys, uncompressed.
    pub key_bytes: u64,
    /// Bytes of values, uncompressed.
    pub value_bytes: u64,
    /// Bytes of the data blocks as stored.
    pub stored_bytes: u64,
    /// Its range tombstones.
    pub range_tombstones: Vec<RangeTombstone>,
}

/// Reads all of `path` and checks it: checksums, structure, order, counts, bounds, filter and padding.
///
/// # Errors
/// [`Error::Corrupt`] names the first damage; [`Error::Io`].
pub async fn verify(disk: &dyn Disk, path: &Path) -> Result<Report> {
    let file = disk.open(path, OpenMode::Read).await?;
    let size = file.size().await?;
    let tail = Tail::read(&*file, size).await?;
    let end = tail.footer.properties.end().unwrap_or(size);
    let padding = usize::try_from(align_up_u64(end) - end).expect("less than a page");
    if padding > 0 && read(&*file, end, padding).await?.get().iter().any(|&b| b != 0) {
        return Err(Error::corrupt(path, end, "padding is not zero"));
    }
    let mut walk =
        Walk { index: &tail.index, filter: &tail.filter, path, found: found_nothing(&tail), last: None };
    let mut scratch = Vec::new();
    for number in 0..tail.index.block_count() {
        let place = tail.index.place(number);
        let bytes = read(&*file, place.offset, place.bytes as usize).await?;
        let block = frame::decode(bytes.get(), place, path, &mut scratch)?;
        walk.block(number, block)?;
    }
    let mut report = walk.found;
    report.cover_tombstones();
    report.stored_bytes = tail.index.end();
    if report.meta != tail.meta {
        let what = format!("properties say {:?}, the file holds {:?}", tail.meta, report.meta);
        return Err(Error::corrupt(path, tail.footer.properties.offset.get(), what));
    }
    Ok(report)
}

/// A report to be filled: what cannot be counted is taken from the file's word.
fn found_nothing(tail: &Tail) -> Report {
    let meta = SegmentMeta {
        rows: 0,
        deletes: 0,
        range_tombstones: 0,
        first: Vec::new(),
        last: Vec::new(),
        version_min: Version::MAX,
        version_max: Version::ZERO,
        expiry_min: Expiry::NEVER,
        ..tail.meta.clone()
    };
    Report {
        meta,
        blocks: 0,
        key_bytes: 0,
        value_bytes: 0,
        stored_bytes: 0,
        range_tombstones: tail.tombstones.clone(),
    }
}

impl Report {
    fn cover_tombstones(&mut self) {
        let meta = &mut self.meta;
        for t in &self.range_tombstones {
            if (meta.rows == 0 && meta.range_tombstones == 0) || t.start < meta.first {
                meta.first.clone_from(&t.start);
            }
            if t.end > meta.last {
                meta.last.clone_from(&t.end);
            }
            meta.version_min = meta.version_min.min(t.version);
            meta.version_max = meta.version_max.max(t.version);
            meta.range_tombstones += 1;
        }
    }
}

struct Walk<'a> {
    index: &'a Index,
    filter: &'a Filter,
    path: &'a Path,
    found: Report,
    last: Option<(Vec<u8>, Version)>,
}

impl Walk<'_> {
    fn block(&mut self, number: BlockNumber, block: Block) -> Result<()> {
        let corrupt = |what: &str| Err(Error::corrupt(self.path, self.index.offset(number), what));
        let mut cursor = BlockCursor::first(block, Vec::new());
        let first = cursor.entry().key.to_vec();
        let before = self.last.as_ref().map(|(key, _)| key.as_slice());
        let border = self.index.border(number);
        let continues = before == Some(&first);
        if border > first || (!continues && before.is_some_and(|before| before >= border.as_slice())) {
            return corrupt("the index's separator does not part this block from the one before");
        }
        if continues != self.index.continues_with(number, &first) {
            return corrupt("the index is wrong on whether this block continues a row");
        }
        loop {
            let e = cursor.entry();
            if let Some((key, version)) = &self.last
                && crate::entry::order((key, *version), (e.key, e.version)).is_ge()
            {
                return corrupt("entries out of order");
            }
            if !self.filter.may_contain(crate::hash::stable(e.key)) {
                return corrupt("the filter denies a key that is here");
            }
            let meta = &mut self.found.meta;
            if meta.rows == 0 {
                meta.first = e.key.to_vec();
            }
            meta.rows += 1;
            meta.deletes += u64::from(e.kind == Kind::Delete);
            meta.version_min = meta.version_min.min(e.version);
            meta.version_max = meta.version_max.max(e.version);
            if e.expiry != Expiry::NEVER && (meta.expiry_min == Expiry::NEVER || e.expiry < meta.expiry_min) {
                meta.expiry_min = e.expiry;
            }
            self.found.key_bytes += e.key.len() as u64;
            self.found.value_bytes += e.value.len() as u64;
            let last = self.last.get_or_insert_default();
            last.0.clear();
            last.0.extend_from_slice(e.key);
            last.1 = e.version;
            if !cursor.advance() {
                break;
            }
        }
        self.found.meta.last.clone_from(&self.last.get_or_insert_default().0);
        self.found.blocks += 1;
        Ok(())
    }
}
