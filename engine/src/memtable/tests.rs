use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Memtable;
use crate::entry::{Entry, Expiry, Kind};
use crate::ids::Version;

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), Vec<u8>>;

fn put<'a>(key: &'a [u8], version: u64, value: &'a [u8]) -> Entry<'a> {
    Entry { key, version: Version(version), kind: Kind::Put, expiry: Expiry::NEVER, value }
}

/// Keys that stress the heads: long common prefixes, zero bytes, keys that are prefixes of others, many versions.
fn random_key(rng: &mut fastrand::Rng, shape: u32) -> Vec<u8> {
    match shape {
        0 => rng.u64(..).to_be_bytes().to_vec(),
        1 => [&[7; 40][..], &rng.u32(..3000).to_be_bytes()].concat(),
        2 => vec![rng.u8(..2); rng.usize(..30)],
        3 => (0..rng.usize(..12)).map(|_| rng.u8(..2)).collect(),
        _ => b"one row".to_vec(),
    }
}

fn check_get(table: &Memtable, model: &Model, key: &[u8], at: u64) {
    let expected = model
        .range((key.to_vec(), Reverse(at))..)
        .next()
        .filter(|((k, _), _)| k == key)
        .map(|((_, Reverse(version)), value)| (*version, value.clone()));
    let found = table.get(key, Version(at), |e| (e.version.0, e.value.to_vec()));
    assert_eq!(found, expected, "get {key:?} at {at}");
}

fn check_walk(table: &Rc<Memtable>, model: &Model) {
    let mut cursor = table.cursor();
    cursor.seek(b"", Version::MAX);
    for ((key, Reverse(version)), value) in model {
        let entry = cursor.entry().expect("as many as the model has");
        assert_eq!((entry.key, entry.version.0, entry.value), (&key[..], *version, &value[..]));
        cursor.advance();
    }
    assert!(cursor.entry().is_none());
    cursor.advance();
    assert!(cursor.entry().is_none());
}

#[test]
fn behaves_as_a_sorted_map_for_every_shape_of_key() {
    for seed in 0..24 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (table, mut model) = (Rc::new(Memtable::new()), Model::new());
        // Some seeds mix the shapes, so that long runs of one meet another's.
        let shapes =
            if seed < 5 { u32::try_from(seed).unwrap()..u32::try_from(seed).unwrap() + 1 } else { 0..5 };
        for i in 0..6000_u64 {
            let shape = rng.u32(shapes.clone());
            let key = random_key(&mut rng, shape);
            let version = if rng.bool() { i } else { rng.u64(..6000) };
            let value = i.to_le_bytes();
            table.insert(put(&key, version, &value));
            model.entry((key.clone(), Reverse(version))).or_insert_with(|| value.to_vec());
            // A look puts a leaf in order: there are stretches without any.
            if i / 300 % 2 == 0 {
                check_get(&table, &model, &key, rng.u64(..7000));
                let other = random_key(&mut rng, shape);
                check_get(&table, &model, &other, rng.u64(..7000));
            }
        }
        check_walk(&table, &model);
        assert_eq!(table.rows(), model.len());
    }
}

#[test]
fn ascending_and_descending_keys_and_versions_keep_their_order() {
    for descending in [false, true] {
        let (table, mut model) = (Rc::new(Memtable::new()), Model::new());
        for i in 0..20_000_u64 {
            let n = if descending { 20_000 - i } else { i };
            let (key, version) = ((n / 300).to_be_bytes(), 1 + n % 300);
            table.insert(put(&key, version, b"v"));
            model.insert((key.to_vec(), Reverse(version)), b"v".to_vec());
        }
        check_walk(&table, &model);
        for n in 0..70_u64 {
            check_get(&table, &model, &n.to_be_bytes(), 151);
        }
    }
}

#[test]
fn ascending_keys_fill_their_leaves() {
    let table = Memtable::new();
    for i in 0..100_000_u64 {
        table.insert(put(&i.to_be_bytes(), 1, b""));
    }
    let per_row = table.rows.borrow().tree.bytes() / table.rows();
    assert!(per_row < 16, "{per_row} bytes of tree per row");
}

#[test]
fn a_duplicate_replaces_nothing() {
    let table = Memtable::new();
    table.insert(put(b"k", 1, b"first"));
    table.insert(put(b"k", 1, b"second"));
    assert_eq!(table.get(b"k", Version::MAX, |e| e.value.to_vec()).unwrap(), b"first");
    assert_eq!(table.rows(), 1);
}

#[test]
fn a_cursor_sees_what_was_there_and_what_comes_ahead_of_it() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (table, mut model) = (Rc::new(Memtable::new()), Model::new());
        let insert = |rng: &mut fastrand::Rng, model: &mut Model, version| {
            let key = random_key(rng, 1);
            table.insert(put(&key, version, b""));
            model.entry((key, Reverse(version))).or_default();
        };
        for version in 0..1000 {
            insert(&mut rng, &mut model, version);
        }
        let mut cursor = table.cursor();
        cursor.seek(b"", Version::MAX);
        let mut at = model.keys().next().unwrap().clone();
        let mut version = 1000;
        while let Some(entry) = cursor.entry() {
            assert_eq!((entry.key, entry.version.0), (&at.0[..], at.1.0));
            for _ in 0..rng.u32(..4) {
                insert(&mut rng, &mut model, version);
                version += 1;
            }
            assert_eq!(cursor.entry().unwrap().key, &at.0[..], "inserts do not move it");
            cursor.advance();
            use std::ops::Bound::{Excluded, Unbounded};
            match model.range((Excluded(at.clone()), Unbounded)).next() {
                Some((key, _)) => at = key.clone(),
                None => assert!(cursor.entry().is_none()),
            }
        }
    }
}

#[test]
fn a_cursor_at_a_large_value_shares_it() {
    let table = Rc::new(Memtable::new());
    let large = vec![7; crate::limits::VALUE_BYTES_MAX];
    table.insert(put(b"a", 1, b"small"));
    table.insert(put(b"b", 1, &large));
    table.insert(put(b"c", 1, b"small"));
    let mut cursor = table.cursor();
    cursor.seek(b"b", Version(5));
    assert_eq!(cursor.entry().unwrap().value, large);
    cursor.advance();
    assert_eq!(cursor.entry().unwrap().key, b"c");
    cursor.seek(b"a", Version::ZERO);
    assert_eq!(cursor.entry().unwrap().key, b"b", "a has no version that old");
    assert!(table.bytes() > large.len());
}

#[test]
fn pieces_free_everything_and_end() {
    let table = Memtable::new();
    for i in 0..50_000_u64 {
        table.insert(put(&i.to_be_bytes(), 1, &[0; 100]));
    }
    let mut pieces = table.into_pieces();
    let mut count = 0;
    while pieces.free_one() {
        count += 1;
    }
    assert!(count > 7, "{count} pieces");
}
