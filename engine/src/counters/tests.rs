use std::collections::BTreeMap;

use super::*;
use crate::io::runtime::Nanos;

fn name(entity: u64) -> Vec<u8> {
    format!("customer-{entity}").into_bytes()
}

fn random_load(rng: &mut fastrand::Rng) -> Load {
    let is_read = rng.bool();
    Load {
        reads: u64::from(is_read),
        writes: u64::from(!is_read),
        bytes_in: rng.u64(20..200),
        bytes_out: rng.u64(0..200),
        service_nanos: rng.u64(300..3000),
    }
}

fn assert_within(bounds: &Bounds<Load>, exact: &Load, what: &str) {
    let at_most = |a: &Load, b: &Load| a.zip_all(b, |x, y| x <= y);
    assert!(at_most(&bounds.lower, exact), "{what}: {bounds:?} {exact:?}");
    assert!(at_most(exact, &bounds.upper), "{what}: {bounds:?} {exact:?}");
}

impl Load {
    fn zip_all(&self, other: &Self, f: impl Fn(u64, u64) -> bool) -> bool {
        f(self.reads, other.reads)
            && f(self.writes, other.writes)
            && f(self.bytes_in, other.bytes_in)
            && f(self.bytes_out, other.bytes_out)
            && f(self.service_nanos, other.service_nanos)
    }
}

#[test]
fn ticks_are_deltas_exact_for_partitions_and_bounding_for_entities() {
    for seed in 0..8 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut counters = Counters::new(CountersConfig { entities_tracked: 64, pairs_tracked: 64 });
        let slots = [7, 3].map(|id| counters.open_partition(PartitionId(id)));
        for _ in 0..3 {
            let mut exact_partitions = [PartitionLoad::default(); 2];
            let mut exact_entities = BTreeMap::<u64, Load>::new();
            for _ in 0..5000 {
                let entity = rng.u64(0..400) * rng.u64(0..400) / 400;
                let (load, which) = (random_load(&mut rng), rng.usize(0..2));
                counters.record(slots[which], RoutingKey::of(&name(entity)), &name(entity), &load);
                exact_partitions[which].load.add(&load);
                exact_entities.entry(entity).or_default().add(&load);
            }
            counters.record_error(slots[1]);
            exact_partitions[1].errors = 1;
            let tick = counters.export();
            assert_eq!(
                tick.partitions,
                [(PartitionId(7), exact_partitions[0]), (PartitionId(3), exact_partitions[1])],
                "seed {seed}"
            );
            for (&entity, load) in &exact_entities {
                assert_within(&tick.entity(RoutingKey::of(&name(entity))), load, &format!("seed {seed}"));
            }
            for tracked in tick.entities() {
                assert_eq!(tick.entity(tracked.routing), tracked.load);
                assert!(tracked.name.is_none_or(|n| RoutingKey::of(n) == tracked.routing), "seed {seed}");
                let earned = tracked.load.lower.weight() * 2
                    > tracked.load.upper.weight() + tracked.load.lower.weight();
                assert!(tracked.name.is_some() || !earned || tick.names_refused() > 0);
            }
        }
        assert_eq!(counters.export().entities().count(), 0, "a tick begins empty");
    }
}

#[test]
fn the_heaviest_entities_of_a_skewed_load_are_tracked_named_and_close() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut counters = Counters::new(CountersConfig { entities_tracked: 4000, pairs_tracked: 1 });
    let slot = counters.open_partition(PartitionId(1));
    let mut exact = BTreeMap::<u64, Load>::new();
    for _ in 0..400_000 {
        // Rank r with a probability of about 1/r, up to 2^15 ranks: uniform within a uniform power of two.
        let entity = {
            let power = rng.u32(0..15);
            rng.u64(1 << power..2 << power)
        };
        let load = Load { reads: 1, bytes_out: 100, service_nanos: 1000, ..Load::default() };
        counters.record(slot, RoutingKey::of(&name(entity)), &name(entity), &load);
        exact.entry(entity).or_default().add(&load);
    }
    let tick = counters.export();
    let named: BTreeMap<RoutingKey, EntityLoad<'_>> =
        tick.entities().filter(|e| e.name.is_some()).map(|e| (e.routing, e)).collect();
    for entity in 1..64 {
        let found = named[&RoutingKey::of(&name(entity))];
        assert_eq!(found.name, Some(&name(entity)[..]));
        assert_within(&found.load, &exact[&entity], "heavy");
        let (lower, upper) = (found.load.lower.reads, found.load.upper.reads);
        let error_max = 2 * 400_000 / 4000;
        assert!(upper - lower <= error_max, "entity {entity}: {lower}..{upper}");
    }
}

#[test]
fn sampled_operations_are_exact_for_partitions_and_without_bias_for_entities() {
    const RUNS: u32 = 400;
    const OPERATIONS: u64 = 20_000;
    let at_500_ns = |operation: u64| Nanos(operation * 500);
    // Of these, one of 64 is the second entity's, and one of 1000 the third's, in far more bytes.
    let entity_of = |operation: u64| match operation {
        n if n % 1000 == 17 => 3_u64,
        n if n % 64 == 3 => 2,
        _ => 1,
    };
    let load_of = |operation: u64| match entity_of(operation) {
        3 => Load { reads: 1, bytes_out: BYTES_SAMPLED_MAX + 1, ..Load::default() },
        _ => Load { writes: 1, bytes_in: 100, ..Load::default() },
    };
    let exact = |entity: u64| {
        let mut sum = Load::default();
        (0..OPERATIONS).filter(|&n| entity_of(n) == entity).for_each(|n| sum.add(&load_of(n)));
        sum
    };
    let mut sums = [Load::default(); 3];
    for seed in 0..RUNS {
        let mut sampler = Sampler::new(u64::from(seed));
        (0..100_000).for_each(|before| _ = sampler.draw(|| at_500_ns(before)));
        let mut counters = Counters::new(CountersConfig { entities_tracked: 8, pairs_tracked: 1 });
        let slot = counters.open_partition(PartitionId(1));
        let mut whole = Load::default();
        for operation in 0..OPERATIONS {
            let sample = sampler.draw(|| at_500_ns(100_000 + operation));
            let name = name(entity_of(operation));
            counters.record_sampled(slot, RoutingKey::of(&name), &name, &load_of(operation), sample);
            whole.add(&load_of(operation));
        }
        let tick = counters.export();
        assert_eq!(tick.partitions[0].1.load, whole, "seed {seed}");
        assert_eq!(tick.sampled_one_in(), 64);
        for (entity, sum) in (1..).zip(&mut sums) {
            let bounds = tick.entity(RoutingKey::of(&name(entity)));
            assert_eq!(bounds.lower, bounds.upper, "there is a place for each");
            sum.add(&bounds.lower);
        }
        assert_eq!(sums[2], exact(3).counted_for(seed + 1), "large ones are counted for themselves");
    }
    for (entity, sum) in (1..3).zip(&sums) {
        let runs = u64::from(RUNS);
        let (mean, truth) = (sum.writes / runs, exact(entity).writes);
        assert_eq!(sum.bytes_in, 100 * sum.writes);
        // Four standard errors of the mean of all runs, each as far off as the module says.
        let error_max = 4 * (truth * 63 / runs).isqrt() + 1;
        assert!(mean.abs_diff(truth) <= error_max, "entity {entity}: {mean} of {truth}");
    }
    assert_eq!(Counters::new(CountersConfig::default()).export().sampled_one_in(), 1);
}

#[test]
fn pairs_count_each_two_entities_of_a_command_once_whatever_their_order() {
    let mut counters = Counters::new(CountersConfig { entities_tracked: 1, pairs_tracked: 100 });
    let names = [name(1), name(2), name(3)];
    let with_routing = |n: usize| (RoutingKey::of(&names[n]), &names[n][..]);
    counters.record_together(&[with_routing(0), with_routing(1), with_routing(2)]);
    counters.record_together(&[with_routing(1), with_routing(0), with_routing(1)]);
    counters.record_together(&[with_routing(2)]);
    let tick = counters.export();
    let counts: BTreeMap<_, _> = tick.pairs().map(|p| (p.names.map(Option::unwrap), p.count.lower)).collect();
    let ordered = |a: usize, b: usize| {
        if with_routing(a).0 < with_routing(b).0 {
            [&names[a][..], &names[b]]
        } else {
            [&names[b][..], &names[a]]
        }
    };
    assert_eq!(counts, BTreeMap::from([(ordered(0, 1), 2), (ordered(0, 2), 1), (ordered(1, 2), 1)]));
}

#[test]
fn a_command_of_many_entities_costs_a_bounded_number_of_pairs() {
    let mut counters = Counters::new(CountersConfig { entities_tracked: 1, pairs_tracked: 10_000 });
    let names: Vec<Vec<u8>> = (0..1000).map(name).collect();
    let entities: Vec<(RoutingKey, &[u8])> = names.iter().map(|n| (RoutingKey::of(n), &n[..])).collect();
    counters.record_together(&entities);
    let pairs = COACCESS_ENTITIES_MAX * (COACCESS_ENTITIES_MAX - 1) / 2;
    assert_eq!(counters.export().pairs().count(), pairs);
}

#[test]
fn a_closed_partition_reports_once_more_and_frees_its_slot() {
    let mut counters = Counters::new(CountersConfig { entities_tracked: 8, pairs_tracked: 8 });
    let first = counters.open_partition(PartitionId(1));
    counters.record(first, RoutingKey(9), b"e", &Load { reads: 1, ..Load::default() });
    counters.close_partition(first);
    let second = counters.open_partition(PartitionId(2));
    assert_ne!(first, second, "the closed one has not reported");
    let tick = counters.export();
    assert_eq!(tick.partitions[0].0, PartitionId(1));
    assert_eq!(tick.partitions[0].1.load.reads, 1);
    assert_eq!(counters.export().partitions.len(), 1);
    assert_eq!(counters.open_partition(PartitionId(3)), first);
}

#[test]
fn a_tick_can_leave_its_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Tick>();
}
