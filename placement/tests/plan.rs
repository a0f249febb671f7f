//! What plans say, corner by corner, and that they keep their word on random clusters.

use foreshard_placement::{
    CoAccess, Dimension, Entity, Fate, Hold, Kept, Loads, Partition, Paths, Plan, Settings, Shape, Snapshot,
    State, plan,
};

const HOURS: usize = 12;
const SHAPE: Shape = Shape { paths: 4, hours: HOURS };

fn partition(id: u32, capacity: f64) -> Partition {
    let capacity = [capacity, f64::INFINITY, f64::INFINITY];
    Partition {
        id,
        host: id,
        capacity,
        share: 1.0,
        burst: 0.05,
        state: State::Serving,
        distance: 0.0,
        penalty: 0.0,
    }
}

/// An entity in partition `at` whose load is `usual`, and `peak` in hours `hours`.
fn entity(id: u64, at: usize, usual: f32, peak: f32, hours: std::ops::Range<usize>) -> Entity {
    let course: Vec<f32> = (0..HOURS).map(|h| if hours.contains(&h) { peak } else { usual }).collect();
    Entity {
        id,
        at,
        home: at,
        bytes: 1e9,
        loads: Loads([Paths::certain(&course, SHAPE), Paths::none(), Paths::none()]),
        burst: 0.1,
        dependencies: 0,
        hold: None,
    }
}

fn snapshot(partitions: Vec<Partition>, entities: Vec<Entity>) -> Snapshot {
    Snapshot {
        hour: 1000,
        left: 1.0,
        shape: SHAPE,
        partitions,
        entities,
        rest: Vec::new(),
        co_access: Vec::new(),
        failed: 0.0,
        wasted: 0.0,
        settings: Settings::default(),
    }
}

/// Two partitions, the first of which has two entities whose peaks meet in hours 5 and 6.
fn meeting_peaks() -> Snapshot {
    let entities =
        vec![entity(1, 0, 10.0, 70.0, 5..7), entity(2, 0, 10.0, 70.0, 5..7), entity(3, 1, 10.0, 10.0, 0..0)];
    snapshot(vec![partition(0, 100.0), partition(1, 100.0)], entities)
}

fn fate(plan: &Plan, entity: usize) -> Option<Fate> {
    plan.fates.iter().find(|fate| fate.0 == entity).map(|fate| fate.1)
}

#[test]
fn peaks_that_will_meet_are_parted_before_they_do() {
    let plan = plan(&meeting_peaks()).unwrap();
    assert_eq!(plan.moves.len(), 1, "{plan:?}");
    let planned = &plan.moves[0];
    assert_eq!((planned.from, planned.to, planned.needed), (0, 1, 5));
    assert!(planned.begin < 5, "it ends before the peak");
    assert!(planned.score > plan.threshold && planned.score <= 1.0);
    assert!(plan.outlook[0].before[5] > 0.9 && plan.outlook[0].after[5] < 0.01);
    let fates = [fate(&plan, 0), fate(&plan, 1)];
    assert!(fates.contains(&Some(Fate::Moves(0))) && fates.iter().any(|f| matches!(f, Some(Fate::Stays(_)))));
}

#[test]
fn where_nothing_will_be_overloaded_nothing_moves_and_nobody_is_looked_at() {
    let entities = vec![entity(1, 0, 30.0, 30.0, 0..0), entity(2, 0, 30.0, 30.0, 0..0)];
    let plan = plan(&snapshot(vec![partition(0, 100.0), partition(1, 100.0)], entities)).unwrap();
    assert!(plan.moves.is_empty() && plan.fates.is_empty());
}

#[test]
fn what_is_held_stays_and_says_who_holds_it() {
    for hold in [Hold::Pinned, Hold::Excluded, Hold::Resting { until: 1002 }, Hold::Moving] {
        let mut snapshot = meeting_peaks();
        snapshot.entities[0].hold = Some(hold);
        snapshot.entities[1].hold = Some(hold);
        let plan = plan(&snapshot).unwrap();
        assert!(plan.moves.is_empty());
        assert_eq!(fate(&plan, 0), Some(Fate::Stays(Kept::Held(hold))));
    }
}

#[test]
fn an_entity_that_overloads_any_partition_finds_no_target() {
    let entities = vec![entity(1, 0, 150.0, 150.0, 0..0)];
    let plan = plan(&snapshot(vec![partition(0, 100.0), partition(1, 100.0)], entities)).unwrap();
    assert!(plan.moves.is_empty());
    assert_eq!(fate(&plan, 0), Some(Fate::Stays(Kept::NoTarget)));
}

#[test]
fn entities_that_are_named_together_go_together() {
    let mut snapshot = meeting_peaks();
    // A third load in the first partition, so that parting the pair would be enough.
    snapshot.entities.push(entity(4, 0, 5.0, 20.0, 5..7));
    snapshot.co_access.push(CoAccess { a: 0, b: 3, share: 0.9 });
    let plan = plan(&snapshot).unwrap();
    for planned in &plan.moves {
        let together = planned.entities.contains(&0) == planned.entities.contains(&3);
        assert!(together, "{planned:?}");
    }
    assert!(!plan.moves.is_empty());
}

#[test]
fn of_targets_that_are_alike_the_one_with_its_friends_is_taken_and_a_marked_down_one_is_not() {
    let mut snapshot = meeting_peaks();
    snapshot.partitions.push(partition(2, 100.0));
    snapshot.entities.push(entity(4, 2, 10.0, 10.0, 0..0));
    snapshot.co_access.extend([CoAccess { a: 0, b: 3, share: 0.2 }, CoAccess { a: 1, b: 3, share: 0.2 }]);
    assert_eq!(plan(&snapshot).unwrap().moves[0].to, 2);
    snapshot.partitions[2].penalty = 0.8;
    assert_eq!(plan(&snapshot).unwrap().moves[0].to, 1);
    snapshot.partitions[1].penalty = 1.0;
    snapshot.partitions[2].penalty = 1.0;
    assert!(plan(&snapshot).unwrap().moves.is_empty());
}

#[test]
fn a_partition_that_drains_is_emptied_and_takes_nothing() {
    let mut snapshot = meeting_peaks();
    snapshot.partitions[1].state = State::Draining;
    let plan = plan(&snapshot).unwrap();
    let [evacuated] = plan.moves.as_slice() else { panic!("{plan:?}") };
    assert_eq!((evacuated.entities.as_slice(), evacuated.to, evacuated.evacuation), (&[2][..], 0, true));
    assert_eq!(evacuated.begin, 0);
}

#[test]
fn large_entities_are_left_where_small_ones_will_do_and_the_budget_is_kept() {
    let mut snapshot = meeting_peaks();
    snapshot.entities[0].bytes = 400e9;
    let planned = plan(&snapshot).unwrap();
    assert_eq!(planned.moves[0].entities, [1]);
    snapshot.settings.bytes_max = 0.5e9;
    let planned = plan(&snapshot).unwrap();
    assert!(planned.moves.is_empty());
    assert!(matches!(fate(&planned, 1), Some(Fate::Stays(Kept::Budget { .. }))));
    snapshot.settings.moves_max = 0;
    assert!(plan(&snapshot).unwrap().moves.is_empty());
}

#[test]
fn numbers_that_cannot_be_are_refused_by_name() {
    type Damage = fn(&mut Snapshot);
    let damages: [(Damage, &str); 8] = [
        (|s| s.partitions[1].capacity[0] = 0.0, "the capacity of partition 1 cannot be"),
        (|s| s.partitions[0].burst = f64::NAN, "the burst, distance or penalty of partition 0 cannot be"),
        (|s| s.entities[2].at = 9, "the place of entity 2 cannot be"),
        (|s| s.entities[0].bytes = -1.0, "the size of entity 0 cannot be"),
        (|s| s.entities[1].burst = f64::INFINITY, "the burst of entity 1 cannot be"),
        (|s| s.left = 1.5, "what is left of hour 0 cannot be"),
        (|s| s.shape.hours = 3, "the load of entity 0 cannot be"),
        (|s| s.co_access.push(CoAccess { a: 0, b: 7, share: 0.5 }), "an end of pair 0 cannot be"),
    ];
    for (damage, said) in damages {
        let mut snapshot = meeting_peaks();
        damage(&mut snapshot);
        assert_eq!(plan(&snapshot).unwrap_err().to_string(), said);
    }
}

/// Random clusters: a plan avoids overload in sum, is within its budget, moves nobody twice, and is the same again.
#[test]
fn plans_keep_their_word_on_random_clusters() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let partitions: Vec<Partition> =
            (0..rng.u32(2..6)).map(|id| partition(id, 50.0 + 100.0 * rng.f64())).collect();
        let entities: Vec<Entity> = (0..rng.u64(1..40))
            .map(|id| {
                let from = rng.usize(0..HOURS);
                let (usual, peak) = (rng.f32() * 10.0, rng.f32() * 60.0);
                let mut entity = entity(id, rng.usize(0..partitions.len()), usual, peak, from..from + 3);
                entity.bytes = 1e6 * f64::from(rng.u32(1..20_000));
                entity.dependencies = rng.u32(0..3);
                entity
            })
            .collect();
        let mut snapshot = snapshot(partitions, entities);
        for _ in 0..rng.usize(0..6) {
            let (a, b) = (rng.usize(0..snapshot.entities.len()), rng.usize(0..snapshot.entities.len()));
            snapshot.co_access.push(CoAccess { a, b, share: rng.f64() });
        }
        snapshot.settings.moves_max = rng.usize(0..6);
        let planned = plan(&snapshot).unwrap();
        assert_eq!(planned, plan(&snapshot).unwrap(), "seed {seed}");
        assert!(planned.moves.len() <= snapshot.settings.moves_max, "seed {seed}");
        assert!(planned.moves.iter().map(|m| m.bytes).sum::<f64>() <= snapshot.settings.bytes_max);
        let mut moved: Vec<usize> = planned.moves.iter().flat_map(|m| m.entities.clone()).collect();
        let count = moved.len();
        moved.sort_unstable();
        moved.dedup();
        assert_eq!(moved.len(), count, "seed {seed}: nobody moves twice");
        let weighed = |by_hour: &[f64]| -> f64 {
            by_hour.iter().enumerate().map(|(h, o)| o * snapshot.settings.discount.powf(h as f64)).sum()
        };
        let before: f64 = planned.outlook.iter().map(|o| weighed(&o.before)).sum();
        let after: f64 = planned.outlook.iter().map(|o| weighed(&o.after)).sum();
        let promised: f64 = planned.moves.iter().map(|m| m.avoided).sum();
        // What lies before a move's end it neither avoids nor causes: up to three overloaded hours, in extent, an hour.
        let copying = |m: &foreshard_placement::Move| {
            foreshard_placement::score::hours_of_copying(&snapshot.settings, m.bytes)
        };
        let early: f64 = planned.moves.iter().map(copying).sum();
        assert!(
            (before - after - promised).abs() < 3.0 * early + 1e-3,
            "seed {seed}: {before} {after} {promised}"
        );
        assert!(planned.moves.iter().all(|m| m.avoided > m.cost && (0.0..=1.0).contains(&m.score)));
    }
}

#[test]
fn any_dimension_overloads() {
    for dimension in 0..Dimension::ALL.len() {
        let mut snapshot = meeting_peaks();
        for partition in &mut snapshot.partitions {
            partition.capacity = [f64::INFINITY; 3];
            partition.capacity[dimension] = 100.0;
        }
        for entity in &mut snapshot.entities {
            let load = std::mem::take(&mut entity.loads.0[0]);
            entity.loads.0[dimension] = load;
        }
        assert_eq!(plan(&snapshot).unwrap().moves.len(), 1, "{:?}", Dimension::ALL[dimension]);
    }
}

/// A partition whose own burst is known, with so much of the hour under way left, and an entity of so many bytes.
fn half_gone(left: f64, bytes: f64) -> Snapshot {
    let mut snapshot = meeting_peaks();
    snapshot.left = left;
    for entity in &mut snapshot.entities {
        entity.bytes = bytes;
    }
    snapshot
}

#[test]
fn an_hour_that_is_nearly_over_is_worth_no_move() {
    // Everything is overloaded now, and never again.
    let now = |left: f64, bytes: f64| {
        let mut snapshot = half_gone(left, bytes);
        for (n, entity) in snapshot.entities.iter_mut().enumerate() {
            let mut course = vec![1.0; HOURS];
            course[0] = if n < 2 { 80.0 } else { 1.0 };
            entity.loads.0[0] = foreshard_placement::Paths::certain(&course, snapshot.shape);
        }
        plan(&snapshot).unwrap().moves.len()
    };
    assert_eq!(now(1.0, 1e6), 1);
    assert_eq!(now(0.001, 1e6), 0, "four seconds are left");
    assert_eq!(now(0.1, 50e6 * 360.0), 0, "it would end when the hour does");
}
