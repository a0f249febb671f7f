//! The tree against an ordered map, every version of it kept.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Word(Vec<u8>, u32);

impl Item for Word {
    fn key(&self) -> &[u8] {
        &self.0
    }
}

/// A routing key, mostly of few, a name and its terminator.
fn any_key(random: &mut fastrand::Rng, crowded: bool) -> Vec<u8> {
    let routing = match (crowded, random.u8(..4)) {
        (true, 0) => 7,
        (true, _) => random.u64(..40),
        (false, _) => random.u64(..1 << 62),
    };
    let mut key = routing.to_be_bytes().to_vec();
    key.extend((0..random.usize(1..4)).map(|_| random.u8(1..4)));
    key.extend([0, 1]);
    key
}

fn check(tree: &Tree<Word>, model: &BTreeMap<Vec<u8>, u32>, random: &mut fastrand::Rng) {
    assert_eq!(tree.len(), model.len());
    assert!(tree.iter().map(|word| (&word.0, &word.1)).eq(model.iter()));
    let crowded = random.bool();
    let start = any_key(random, crowded);
    let start = &start[..random.usize(..=start.len())];
    assert!(tree.from(start).map(|word| &word.0).eq(model.range(start.to_vec()..).map(|(key, _)| key)));
}

#[test]
fn every_version_is_what_a_map_was_then() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut tree, mut model, mut kept) = (Tree::default(), BTreeMap::new(), Vec::new());
        for n in 0..3000 {
            let crowded = seed % 2 == 0;
            // Grows, and shrinks to almost nothing.
            let grows = n % 1500 < 900;
            if random.u8(..10) < if grows { 8 } else { 1 } {
                let key = any_key(&mut random, crowded);
                let replaced = tree.insert(Word(key.clone(), n));
                assert_eq!(replaced.map(|word| word.1), model.insert(key, n));
            } else {
                let nth = random.usize(..=model.len());
                let key = model.keys().nth(nth).cloned().unwrap_or_else(|| any_key(&mut random, crowded));
                assert_eq!(tree.remove(&key).map(|word| word.1), model.remove(&key));
            }
            if n % 100 == 0 {
                check(&tree, &model, &mut random);
                kept.push((tree.clone(), model.clone()));
            }
        }
        for (tree, model) in kept {
            check(&tree, &model, &mut random);
            for (key, n) in &model {
                let row = [key, &b"row"[..]].concat();
                assert_eq!(tree.covering(&row).map(|word| word.1), Some(*n));
            }
        }
    }
}

#[test]
fn only_what_begins_with_a_key_is_covered_by_it() {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
    for n in 0..2000 {
        let key = any_key(&mut random, true);
        model.insert(key.clone(), n);
        tree.insert(Word(key, n));
    }
    for _ in 0..20_000 {
        let crowded = random.bool();
        let mut row = any_key(&mut random, crowded);
        row.truncate(random.usize(..=row.len()));
        row.extend((0..random.usize(..3)).map(|_| random.u8(..4)));
        let expected = model.iter().find(|(key, _)| row.starts_with(key)).map(|(_, n)| *n);
        assert_eq!(tree.covering(&row).map(|word| word.1), expected, "{row:?}");
    }
}
