//! What a segment's file is made of.

use std::path::Path;

use foreshard_engine::entry::{Entry, Expiry, Kind, order};
use foreshard_engine::ids::{SegmentId, Version};
use foreshard_engine::limits::{STORAGE_KEY_BYTES_MAX, VALUE_BYTES_MAX};
use foreshard_engine::segment::block::{Block, BlockBuilder, BlockCursor};
use foreshard_engine::segment::filter::Filter;
use foreshard_engine::segment::footer::{self, Footer};
use foreshard_engine::segment::frame::{self, BLOCK_TARGET_BYTES_MAX, Codec, FramePlace, FrameWriter};
use foreshard_engine::segment::index::{Index, IndexBuilder};
use foreshard_engine::tombstones::RangeTombstones;

use super::{resealed, u32_at};
use crate::memory::bounded;

const FRAME_HEADER_BYTES: usize = 16;
/// As the frame's decoder limits payloads.
const PAYLOAD_BYTES_MAX: usize = 2 * BLOCK_TARGET_BYTES_MAX + VALUE_BYTES_MAX + STORAGE_KEY_BYTES_MAX;
const PAGE_BYTES: usize = 4096;
const FOOTER_CRC_AT: usize = 12;
/// Where the footer says of its last section where it begins, and how long it is.
const PROPERTIES_AT: usize = 16 + 8 + 3 * 24;
/// Probes and comparisons are quadratic in these.
const PROBES_MAX: usize = 64;

type Row = (Vec<u8>, Version, Kind, Expiry, Vec<u8>);

/// A data block as it lies in the file.
pub fn frame(data: &[u8]) {
    decode_frame(data);
    if data.len() < FRAME_HEADER_BYTES {
        return;
    }
    let mut sealed = data.to_vec();
    let stored = u32::try_from(data.len() - FRAME_HEADER_BYTES).expect("inputs are short");
    sealed[4..8].copy_from_slice(&stored.to_le_bytes());
    sealed[13..16].fill(0);
    if let Some(sealed) = resealed(&sealed, 0, data.len()) {
        decode_frame(&sealed);
    }
}

fn decode_frame(bytes: &[u8]) {
    let crc = u32_at(bytes, 0).and_then(|crc| u32::try_from(crc).ok()).unwrap_or(0);
    let place = FramePlace { offset: 0, bytes: u32::try_from(bytes.len()).expect("inputs are short"), crc };
    // What it decompresses to, and the block made of that; or a message.
    let decoded = bounded(2 * PAYLOAD_BYTES_MAX + 1024, || {
        frame::decode(bytes, place, Path::new("s"), &mut Vec::new())
    });
    let Ok(block) = decoded else { return };
    let rows = check_block(&block);
    let Some(payload) = rebuilt(&rows) else { return };
    check_lookups(&Block::parse(&payload).expect("built just before"), &rows);
    for codec in [Codec::None, Codec::Lz4] {
        let mut writer = FrameWriter::new(codec);
        let (frame, crc) = writer.encode(&payload);
        let place = FramePlace {
            offset: 0,
            bytes: u32::try_from(frame.len()).expect("below the payload's limit"),
            crc,
        };
        let again =
            frame::decode(frame, place, Path::new("s"), &mut Vec::new()).expect("written just before");
        assert_eq!(walk(&again), rows);
    }
}

/// A data block's payload.
pub fn block(data: &[u8]) {
    let Ok(block) = bounded(data.len() + 64, || Block::parse(data)) else { return };
    let rows = check_block(&block);
    let Some(payload) = rebuilt(&rows) else { return };
    let again = Block::parse(&payload).expect("built just before");
    assert_eq!(walk(&again), rows, "a block says what it was built of");
    check_lookups(&again, &rows);
    assert_eq!(rebuilt(&rows), Some(payload), "the same rows make the same bytes");
}

fn walk(block: &Block) -> Vec<Row> {
    let mut cursor = BlockCursor::first(block.clone(), Vec::new());
    let mut rows = vec![row_of(&cursor.entry())];
    while cursor.advance() {
        rows.push(row_of(&cursor.entry()));
    }
    rows
}

fn row_of(entry: &Entry<'_>) -> Row {
    (entry.key.to_vec(), entry.version, entry.kind, entry.expiry, entry.value.to_vec())
}

fn sorted(rows: &[Row]) -> bool {
    rows.windows(2).all(|pair| order((&pair[0].0, pair[0].1), (&pair[1].0, pair[1].1)).is_lt())
}

/// Walks a block of anybody's and seeks in it. Order, and that entries share all they can of their keys, is taken on
/// trust when a block is read, so that what is found may be anything; it must be in the block.
fn check_block(block: &Block) -> Vec<Row> {
    let rows = walk(block);
    assert_eq!(rows.len(), block.rows() as usize);
    for (key, at) in probes(&rows) {
        let Some(position) = block.seek(&key, at) else { continue };
        assert!(block.get(position).value().len() <= VALUE_BYTES_MAX);
        row_of(&BlockCursor::at_position(block.clone(), Vec::new(), position, &key).entry());
    }
    rows
}

/// Seeks in a block that was built of `rows`.
fn check_lookups(block: &Block, rows: &[Row]) {
    for (key, at) in probes(rows) {
        let position = block.seek(&key, at);
        let found = position.map(|position| {
            row_of(&BlockCursor::at_position(block.clone(), Vec::new(), position, &key).entry())
        });
        let expected = rows.iter().find(|row| order((&row.0, row.1), (&key, at)).is_ge());
        assert_eq!(found.as_ref(), expected, "the first entry at or after {key:?} at {at}");
        let same_key = position.map(|position| position.same_key);
        assert_eq!(same_key, expected.map(|row| row.0 == key), "whether it is the key {key:?}");
    }
}

/// Keys that are there, and next to ones that are.
fn probes(rows: &[Row]) -> Vec<(Vec<u8>, Version)> {
    let mut probes = Vec::new();
    for (key, version, ..) in rows.iter().take(PROBES_MAX) {
        probes.push((key.clone(), *version));
        probes.push((key.clone(), Version::MAX));
        probes.push((key.clone(), Version(version.0.saturating_sub(1))));
        probes.push(([key.as_slice(), &[0]].concat(), *version));
        probes.push((key[..key.len().saturating_sub(1)].to_vec(), *version));
    }
    probes
}

/// The payload that a builder makes of `rows`, if they are what a writer may be given.
fn rebuilt(rows: &[Row]) -> Option<Vec<u8>> {
    if !sorted(rows) || rows.iter().any(|row| row.0.is_empty()) {
        return None;
    }
    let mut builder = BlockBuilder::default();
    for (key, version, kind, expiry, value) in rows {
        let entry = Entry { key, version: *version, kind: *kind, expiry: *expiry, value };
        let relation = builder.relation(&entry);
        builder.push(&entry, relation);
    }
    Some(builder.finish().to_vec())
}

/// An index section.
pub fn index(data: &[u8]) {
    let Ok(index) = bounded(8 * data.len() + 1024, || Index::parse(data)) else { return };
    let count = index.block_count();
    let borders: Vec<Vec<u8>> = (0..count).map(|n| index.border(n)).collect();
    let continues: Vec<bool> = (0..count).map(|n| index.continues_with(n, &borders[n as usize])).collect();
    assert_eq!(index.offset(count), index.end());
    for n in 0..count {
        let place = index.place(n);
        assert_eq!((place.offset, index.block_at(place.offset)), (index.offset(n), n));
        assert_eq!(index.block_at(place.offset + u64::from(place.bytes) - 1), n);
    }
    for border in borders.iter().take(PROBES_MAX) {
        let longer = [border.as_slice(), &[0]].concat();
        for key in [border, &longer, &border[..border.len().saturating_sub(1)]] {
            let first = borders.iter().position(|border| border.as_slice() >= key);
            let begins = first.filter(|&n| borders[n] == key && !continues[n]);
            let expected = begins.or(first.unwrap_or(borders.len()).checked_sub(1));
            assert_eq!(index.block_of(key).map(|n| n as usize), expected, "block of {key:?}");
        }
    }
    let mut builder = IndexBuilder::default();
    for n in 0..count {
        builder.push(index.place(n), &borders[n as usize], continues[n as usize]);
    }
    let mut again = Vec::new();
    futures_lite::future::block_on(builder.encode(&mut again));
    if again[4..6] == data[4..6] {
        // Otherwise its common prefix is shorter than it could be, which only another writer does.
        assert_eq!(again, data, "an index has one encoding");
    }
    let again = Index::parse(&again).expect("encoded just before");
    assert!((0..count).all(|n| again.place(n) == index.place(n) && again.border(n) == borders[n as usize]));
}

/// A filter section, after eight bytes of a hash to ask it for.
pub fn filter(data: &[u8]) {
    let Some((hash, section)) = data.split_first_chunk() else { return };
    let Ok(filter) = bounded(section.len() + 64, || Filter::parse(section)) else { return };
    let hash = u64::from_le_bytes(*hash);
    let contained = filter.may_contain(hash);
    if section.iter().all(|&byte| byte == 0xff) {
        assert_eq!(contained, !section.is_empty());
    } else if section.iter().all(|&byte| byte == 0) {
        assert!(!contained);
    }
    let mut again = Vec::new();
    filter.encode(&mut again);
    assert_eq!((again.as_slice(), again.len()), (section, filter.bytes()), "a filter has one encoding");
}

/// A footer page; the file's length is the one it implies, then the input's.
pub fn footer(data: &[u8]) {
    let mut page = data.to_vec();
    page.resize(page.len().max(PAGE_BYTES), 0);
    decode_footer(&page);
    page.truncate(PAGE_BYTES);
    if let Some(sealed) = seal_footer(&page) {
        decode_footer(&sealed);
    }
}

fn seal_footer(page: &[u8]) -> Option<Vec<u8>> {
    let mut zeroed = page.to_vec();
    zeroed[FOOTER_CRC_AT..FOOTER_CRC_AT + 4].fill(0);
    let crc = crc32fast::hash(&zeroed);
    zeroed[FOOTER_CRC_AT..FOOTER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    Some(zeroed)
}

fn decode_footer(page: &[u8]) {
    let number =
        |at: usize| page.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u64::from_le_bytes(*n));
    let end = number(PROPERTIES_AT).wrapping_add(number(PROPERTIES_AT + 8));
    let file_bytes = end.checked_next_multiple_of(4096).and_then(|n| n.checked_add(4096)).unwrap_or(u64::MAX);
    for file_bytes in [file_bytes, data_len(page), u64::MAX] {
        let Ok(footer) = bounded(1024, || Footer::decode(page, file_bytes)) else { continue };
        let mut again = vec![0; PAGE_BYTES];
        assert_eq!(footer.encode(&mut again), footer.crc());
        assert_eq!(again, page, "a footer has one encoding");
        for section in footer.sections() {
            assert!(section.end().is_some_and(|end| end <= file_bytes), "sections lie in the file");
        }
    }
}

fn data_len(page: &[u8]) -> u64 {
    page.len() as u64
}

/// A properties section, and a section of range tombstones.
pub fn properties(data: &[u8]) {
    if let Ok(meta) = bounded(data.len() + 64, || footer::decode_properties(data, SegmentId(7))) {
        let mut again = Vec::new();
        footer::encode_properties(&meta, &mut again);
        assert_eq!(again, data, "properties have one encoding");
    }
    // A tombstone takes at least 13 bytes here, 56 in memory, and its vector doubles.
    let Ok(tombstones) = bounded(16 * data.len() + 1024, || footer::decode_tombstones(data)) else { return };
    let mut again = Vec::new();
    tombstones.iter().for_each(|tombstone| footer::encode_tombstone(tombstone, &mut again));
    assert_eq!(again, data, "range tombstones have one encoding");
    let some = &tombstones[..tombstones.len().min(PROBES_MAX / 2)];
    let mut set = RangeTombstones::default();
    some.iter().for_each(|tombstone| set.add(tombstone.clone()));
    for key in some.iter().flat_map(|tombstone| [&tombstone.start, &tombstone.end]) {
        let covering = some.iter().filter(|t| &t.start <= key && key < &t.end).map(|t| t.version).max();
        assert_eq!(set.covering(key, Version::MAX), covering);
    }
}
