//! Heavy hitters: a bounded table of what weighs most in a stream, with hard bounds for everything in it, tracked or not.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data
//! Streams", ICDT 2005, section 3) run apart in each bucket of [`WAYS`] places, so that one record costs one bucket
//! at most: no heap, no list, no purge pass that would stop the shard. A key's bucket follows from its hash bits.
//!
//! It refuses to: keep names (labels are small and plain), shrink, or forget within its life; a tick gets a table
//! of its own.
//!
//! Invariants, per bucket that saw weight `N`:
//! - an item's true tally lies between [`Bounds::lower`] (counted while it was tracked) and [`Bounds::upper`];
//! - `missed` is at most `N / WAYS`: what comes in takes the place of the lightest, whose upper weight is at most the
//!   mean of the bucket's, and those sum to `N`. So an item of more than `N / WAYS` is always tracked;
//! - what an untracked item may have is at most `evicted`, which only grows.

use zerocopy::FromZeros;

/// Places in a bucket. The error is `N / WAYS`; a miss looks at all of them.
pub(super) const WAYS: usize = 8;
/// Buckets taken at once: about 50 KiB, zeroed in a few microseconds.
const CHUNK_BUCKETS: usize = 64;
/// Set in every stored key, so that an empty place (all zeroes) is no key.
const OCCUPIED: u64 = 1 << 63;
/// Keys have their hash in these low bits: of a routing key, the six bytes below the slot.
const HASH_BITS: u32 = 48;

/// What is counted of an item. All zeroes is nothing counted.
pub(super) trait Tally: Copy + FromZeros {
    /// By which items compete for a place. Every component is at most the weight.
    fn weight(&self) -> u64;
    /// Component by component.
    fn add(&mut self, other: &Self);
    /// Component by component.
    fn max(&mut self, other: &Self);
    /// Each component, but none above `bound`.
    fn min(&self, bound: u64) -> Self;
}

/// Between what and what an item's true tally lies, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds<T> {
    /// Certainly this much.
    pub lower: T,
    /// Certainly not more.
    pub upper: T,
}

/// A tracked item.
#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
pub(super) struct Place<T, L> {
    counted: T,
    /// No component of what came before it was tracked was more.
    missed: u64,
    /// The owner's; all zeroes when the item comes in.
    pub(super) label: L,
}

/// The first two lines serve to find and to choose; a record touches these and one place.
#[derive(Clone, FromZeros)]
#[repr(C, align(128))]
struct Bucket<T, L> {
    keys: [u64; WAYS],
    /// Upper weights: counted and missed.
    weights: [u64; WAYS],
    /// No item that lost its place had more, by component and by weight.
    evicted: T,
    evicted_weight: u64,
    places: [Place<T, L>; WAYS],
}

/// The table.
pub(super) struct HeavyHitters<T, L> {
    /// A chunk is taken, zeroed, when its first item comes: a table costs nothing to make.
    chunks: Vec<Vec<Bucket<T, L>>>,
}

impl<T: Tally, L: Copy + FromZeros> HeavyHitters<T, L> {
    /// Room for at least `capacity` items.
    pub(super) fn new(capacity: usize) -> Self {
        let count = capacity.div_ceil(WAYS * CHUNK_BUCKETS).max(1);
        Self { chunks: std::iter::repeat_with(Vec::new).take(count).collect() }
    }

    /// Adds `tally` to the item `key`, which takes the lightest place of its bucket if it has none.
    #[inline]
    pub(super) fn record(&mut self, key: u64, tally: &T) -> &mut Place<T, L> {
        let index = self.index(key);
        let chunk = &mut self.chunks[index / CHUNK_BUCKETS];
        if chunk.is_empty() {
            *chunk = new_chunk();
        }
        let bucket = &mut chunk[index % CHUNK_BUCKETS];
        let way = bucket.find(key).unwrap_or_else(|| bucket.replace_lightest(key));
        bucket.weights[way] = bucket.weights[way].saturating_add(tally.weight());
        let place = &mut bucket.places[way];
        place.counted.add(tally);
        place
    }

    /// Reads what a record of `key` reads first, and nothing that depends on it: run for many keys in a row, their
    /// cache misses overlap. What it returns is only to be used, so that it is not optimised away.
    #[inline]
    pub(super) fn touch_keys(&self, key: u64) -> u64 {
        self.bucket(key).map_or(0, |bucket| bucket.keys[0] ^ bucket.weights[0])
    }

    /// Reads what a record of `key` reads next, as [`Self::touch_keys`].
    #[inline]
    pub(super) fn touch_place(&self, key: u64) -> u64 {
        self.bucket(key).map_or(0, |bucket| match bucket.find(key) {
            Some(way) => bucket.places[way].missed,
            None => bucket.places[bucket.lightest()].missed ^ bucket.evicted_weight,
        })
    }

    /// The bounds of any item, seen or not.
    pub(super) fn bounds(&self, key: u64) -> Bounds<T> {
        let Some(bucket) = self.bucket(key) else {
            return Bounds { lower: T::new_zeroed(), upper: T::new_zeroed() };
        };
        match bucket.find(key) {
            Some(way) => bucket.bounds(way),
            None => Bounds { lower: T::new_zeroed(), upper: bucket.evicted.min(bucket.evicted_weight) },
        }
    }

    /// Every tracked item: key, bounds, label.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Bounds<T>, &L)> {
        self.chunks.iter().flatten().flat_map(|bucket| {
            let occupied = (0..WAYS).filter(|&way| bucket.keys[way] != 0);
            occupied.map(|way| (bucket.keys[way] & !OCCUPIED, bucket.bounds(way), &bucket.places[way].label))
        })
    }

    /// None when nothing has come near it.
    #[inline]
    fn bucket(&self, key: u64) -> Option<&Bucket<T, L>> {
        let index = self.index(key);
        self.chunks[index / CHUNK_BUCKETS].get(index % CHUNK_BUCKETS)
    }

    #[inline]
    fn index(&self, key: u64) -> usize {
        let hash = key << (u64::BITS - HASH_BITS);
        let scaled = (u128::from(hash) * (self.chunks.len() * CHUNK_BUCKETS) as u128) >> u64::BITS;
        usize::try_from(scaled).expect("below the number of buckets")
    }
}

#[cold]
fn new_chunk<T: FromZeros, L: FromZeros>() -> Vec<Bucket<T, L>> {
    Bucket::new_vec_zeroed(CHUNK_BUCKETS).expect("memory for the counters")
}

impl<T: Tally, L: Copy + FromZeros> Bucket<T, L> {
    /// All ways are compared: which one it is cannot be predicted, and a wrong guess costs more than the comparisons.
    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        let mask = self
            .keys
            .iter()
            .enumerate()
            .fold(0_u32, |mask, (way, &k)| mask | u32::from(k == key | OCCUPIED) << way);
        (mask != 0).then(|| mask.trailing_zeros() as usize)
    }

    /// An empty place weighs nothing, so it is taken first, and `evicted` stays zero until all are taken.
    #[inline]
    fn lightest(&self) -> usize {
        let mut lightest = 0;
        for way in 1..WAYS {
            lightest = if self.weights[way] < self.weights[lightest] { way } else { lightest };
        }
        lightest
    }

    fn replace_lightest(&mut self, key: u64) -> usize {
        let way = self.lightest();
        let loser = self.bounds(way).upper;
        self.evicted.max(&loser);
        self.evicted_weight = self.evicted_weight.max(self.weights[way]);
        self.keys[way] = key | OCCUPIED;
        self.weights[way] = self.evicted_weight;
        self.places[way] = Place { missed: self.evicted_weight, ..Place::new_zeroed() };
        way
    }

    fn bounds(&self, way: usize) -> Bounds<T> {
        let place = &self.places[way];
        let mut upper = place.counted;
        // What it had before it came in is within `evicted` as it was, hence within `evicted` as it is.
        upper.add(&self.evicted.min(place.missed));
        Bounds { lower: place.counted, upper }
    }
}

impl<T: Tally, L> Place<T, L> {
    /// More was counted than can have been missed: the item has earned its place, and is worth a name.
    #[inline]
    pub(super) fn is_earned(&self) -> bool {
        self.counted.weight() > self.missed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromZeros)]
    #[repr(C)]
    struct Two(u64, u64);

    impl Tally for Two {
        fn weight(&self) -> u64 {
            self.0 + self.1
        }
        fn add(&mut self, other: &Self) {
            self.0 += other.0;
            self.1 += other.1;
        }
        fn max(&mut self, other: &Self) {
            self.0 = self.0.max(other.0);
            self.1 = self.1.max(other.1);
        }
        fn min(&self, bound: u64) -> Self {
            Self(self.0.min(bound), self.1.min(bound))
        }
    }

    fn check_against(exact: &BTreeMap<u64, Two>, table: &HeavyHitters<Two, u64>, seed: u64) {
        let tracked: BTreeSet<u64> = table.iter().map(|(key, _, _)| key).collect();
        let mut bucket_weights = vec![0; table.chunks.len() * CHUNK_BUCKETS];
        for (&key, tally) in exact {
            bucket_weights[table.index(key)] += tally.weight();
        }
        for (&key, tally) in exact {
            let Bounds { lower, upper } = table.bounds(key);
            assert!(lower.0 <= tally.0 && tally.0 <= upper.0, "seed {seed}: {lower:?} {tally:?} {upper:?}");
            assert!(lower.1 <= tally.1 && tally.1 <= upper.1, "seed {seed}: {lower:?} {tally:?} {upper:?}");
            let error_max = bucket_weights[table.index(key)] / WAYS as u64;
            assert!(upper.0 - lower.0 <= error_max && upper.1 - lower.1 <= error_max, "seed {seed}");
            let tracked = tracked.contains(&key);
            assert!(
                tracked || tally.weight() <= error_max,
                "seed {seed}: {tally:?} is heavy and not tracked"
            );
        }
    }

    #[test]
    fn bounds_hold_for_every_item_at_every_step_against_exact_counts() {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut table =
                HeavyHitters::<Two, u64>::new(if seed % 2 == 0 { 1 } else { 2 * WAYS * CHUNK_BUCKETS });
            let mut exact = BTreeMap::<u64, Two>::new();
            let items = rng.u64(4..20_000);
            for step in 0..3000 {
                // Skewed: the square of a uniform draw; spread over the hash bits by a multiplier.
                let draw = rng.u64(0..items) * rng.u64(0..items) / items;
                let key = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
                let tally = if rng.u8(..) < 8 { Two(rng.u64(0..500), 0) } else { Two(1, rng.u64(0..9)) };
                table.record(key, &tally);
                exact.entry(key).or_default().add(&tally);
                if step % 997 == 0 {
                    check_against(&exact, &table, seed);
                }
            }
            check_against(&exact, &table, seed);
        }
    }

    #[test]
    fn as_many_items_as_places_in_a_bucket_are_counted_exactly() {
        let mut table = HeavyHitters::<Two, u64>::new(WAYS);
        for round in 0..100 {
            for key in 0..WAYS as u64 {
                table.record(key, &Two(key, round));
            }
        }
        for (key, bounds, _) in table.iter() {
            assert_eq!(bounds, Bounds { lower: Two(100 * key, 4950), upper: Two(100 * key, 4950) });
        }
        assert_eq!(table.iter().count(), WAYS);
    }

    #[test]
    fn a_new_item_starts_with_a_label_of_zeroes_and_key_zero_is_a_key() {
        let mut table = HeavyHitters::<Two, u64>::new(1);
        table.record(0, &Two(1, 0)).label = 7;
        assert_eq!(table.record(0, &Two(1, 0)).label, 7);
        for key in 1..=WAYS as u64 {
            assert_eq!(table.record(key, &Two(9, 0)).label, 0);
        }
        assert_eq!(table.bounds(0), Bounds { lower: Two(0, 0), upper: Two(2, 0) });
    }
}
