//! Entries drawn from an input, and a model of what a reader sees: a list, searched from end to end.

use arbitrary::{Result, Unstructured};
use foreshard_engine::entry::{Entry, Expiry, Kind, RangeTombstone};
use foreshard_engine::ids::Version;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Kind, expiry and value of one version of one row.
pub type Stored = (Kind, Expiry, Vec<u8>);
/// Entries in storage order.
pub type Rows = BTreeMap<(Vec<u8>, Reverse<Version>), Stored>;

/// A short key of few letters, so that keys meet; sometimes a long common prefix.
pub fn key(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut key = match input.int_in_range(0..=9)? {
        0 => vec![7; 40],
        1 => vec![b'k'; input.int_in_range(1..=300)?],
        _ => vec![b'k'],
    };
    for _ in 0..input.int_in_range(0..=3)? {
        key.push(*input.choose(&[0, 1, 2, b'a', 0xff])?);
    }
    Ok(key)
}

/// A small version, or a very large one.
pub fn version(input: &mut Unstructured<'_>) -> Result<Version> {
    let small = u64::from(input.arbitrary::<u8>()?) + 1;
    Ok(Version(if input.ratio(1, 16)? { u64::MAX - 1 - small } else { small }))
}

/// What a version of a row says.
pub fn stored(input: &mut Unstructured<'_>) -> Result<Stored> {
    if input.ratio(1, 4)? {
        return Ok((Kind::Delete, Expiry::NEVER, Vec::new()));
    }
    let expiry = if input.ratio(1, 4)? { Expiry(input.int_in_range(1..=60)?) } else { Expiry::NEVER };
    let bytes = match input.int_in_range(0..=15)? {
        0 => 5000,
        1 => 300,
        n => n,
    };
    Ok((Kind::Put, expiry, vec![input.arbitrary()?; bytes]))
}

/// A tombstone over something.
pub fn tombstone(input: &mut Unstructured<'_>) -> Result<Option<RangeTombstone>> {
    let (start, end, version) = (key(input)?, key(input)?, version(input)?);
    Ok((start < end).then_some(RangeTombstone { start, end, version }))
}

/// Rows of one key and version given twice stay what they were first.
pub fn rows(input: &mut Unstructured<'_>, count_max: usize) -> Result<Rows> {
    let mut rows = Rows::new();
    for _ in 0..input.int_in_range(0..=count_max)? {
        let (key, version, stored) = (key(input)?, version(input)?, stored(input)?);
        rows.entry((key, Reverse(version))).or_insert(stored);
    }
    Ok(rows)
}

/// A model's row as an entry.
pub fn entry<'a>(key: &'a [u8], version: Version, stored: &'a Stored) -> Entry<'a> {
    Entry { key, version, kind: stored.0, expiry: stored.1, value: &stored.2 }
}

/// The newest version of `key` not newer than `at`.
pub fn newest<'a>(rows: &'a Rows, key: &[u8], at: Version) -> Option<(Version, &'a Stored)> {
    let ((found, Reverse(version)), stored) = rows.range((key.to_vec(), Reverse(at))..).next()?;
    (found == key).then_some((*version, stored))
}

/// What a reader at version `at` and time `now_ms` sees of `key`.
pub fn visible<'a>(
    rows: &'a Rows,
    tombstones: &[RangeTombstone],
    key: &[u8],
    at: Version,
    now_ms: u64,
) -> Option<(Version, &'a [u8])> {
    let (version, (kind, expiry, value)) = newest(rows, key, at)?;
    let covered = tombstones.iter().any(|t| {
        t.start.as_slice() <= key && key < t.end.as_slice() && t.version > version && t.version <= at
    });
    (*kind == Kind::Put && !expiry.is_past(now_ms) && !covered).then_some((version, value))
}
