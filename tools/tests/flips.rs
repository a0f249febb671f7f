//! Single bits of a real store's files, flipped: `inspect` names them or they change nothing, and `repair` gives no row that
//! never was, and keeps quiet about none that it lost.
//!
//! A seeded sample; `engine/tests/damage.rs` and the crash campaign flip many more, below the programs.
#![expect(clippy::unwrap_used, reason = "also in helpers: a panic is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Rows, Sample, damages};

const SEED: u64 = 7;
/// Of each kind of file. Each flip runs `inspect` twice and `repair` once.
const FLIPS_EACH: usize = 6;

fn kind_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name().unwrap().to_string_lossy();
    Some(match &*name {
        "SUPER" => "superblock",
        name if name.ends_with(".wal") => "log",
        name if name.ends_with(".seg") => "segment",
        name if name.starts_with("manifest-") => "manifest",
        _ if path.parent().is_some_and(|dir| dir.ends_with("table")) => "table",
        // The lock, and the reserve: nothing is read from them.
        _ => return None,
    })
}

/// Bits to flip: most of them where something is written, as most of a log is not.
fn places(sample: &Sample, random: &mut fastrand::Rng) -> Vec<(&'static str, PathBuf, u64, u8)> {
    let mut files: BTreeMap<&'static str, Vec<(PathBuf, Vec<u8>)>> = BTreeMap::new();
    for (path, bytes) in sample.contents() {
        if let Some(kind) = kind_of(&path)
            && !bytes.is_empty()
        {
            files.entry(kind).or_default().push((path, bytes));
        }
    }
    assert_eq!(
        files.keys().copied().collect::<Vec<_>>(),
        ["log", "manifest", "segment", "superblock", "table"]
    );
    let mut places = Vec::new();
    for (kind, files) in files {
        for n in 0..FLIPS_EACH {
            let written =
                |bytes: &[u8]| -> Vec<usize> { (0..bytes.len()).filter(|&at| bytes[at] != 0).collect() };
            let (path, at) = if n == 0 {
                let (path, bytes) = &files[random.usize(..files.len())];
                (path, random.usize(..bytes.len()))
            } else {
                let some: Vec<_> = files.iter().filter(|(_, bytes)| bytes.iter().any(|&b| b != 0)).collect();
                let (path, bytes) = some[random.usize(..some.len())];
                let written = written(bytes);
                (path, written[random.usize(..written.len())])
            };
            places.push((kind, path.clone(), at as u64, random.u8(..8)));
        }
    }
    places
}

/// The rows that `found` lacks.
fn lost(rows: &Rows, found: &Rows) -> usize {
    for (key, value) in found {
        assert_eq!(rows.get(key), Some(value), "a row that never was: {key:?}");
    }
    rows.len() - found.len()
}

#[test]
fn a_flipped_bit_is_named_or_changes_nothing_and_repair_tells_what_it_lost() {
    let sample = Sample::new(2000, 60);
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut named: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (kind, path, at, bit) in places(&sample, &mut random) {
        let what = format!("seed {SEED}: bit {bit} of byte {at} of {}", path.display());
        sample.flip_bit(&path, at, bit);
        let (status, lines) = sample.inspect();
        assert!(matches!(status, 0 | 1), "{what}: {status}, {lines:?}");
        let found = damages(&lines);
        assert_eq!(status == 1, !found.is_empty(), "{what}: {lines:?}");
        let is_named = found.iter().any(|(file, offset)| *file == path && *offset <= at);
        assert!(found.is_empty() || is_named, "{what}, and {found:?} is found");
        named.entry(kind).or_default()[usize::from(is_named)] += 1;
        let (repaired, lines, rows) = sample.repair();
        let lost = lost(&sample.rows, &rows);
        assert!(matches!(repaired, 0 | 1), "{what}: {repaired}, {lines:?}");
        assert!(lost == 0 || repaired == 1 && is_named, "{what}: {lost} rows are lost, and nobody says so");
        sample.flip_bit(&path, at, bit);
    }
    eprintln!("harmless and named: {named:?}");
    // Most of a log tells of rows that are in segments: a flip there changes nothing. tests/damage.rs damages the rest.
    for kind in ["manifest", "segment"] {
        assert!(named[kind][1] > 0, "{named:?}");
    }
}
