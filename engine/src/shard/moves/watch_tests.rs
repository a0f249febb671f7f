use super::*;

const A: &[u8] = b"a\0";
const B: &[u8] = b"b\0";

fn at(seconds: u64) -> Nanos {
    Nanos(seconds * 1_000_000_000)
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// A move of A from the one shard to the other, with as many operations before.
fn moved(source: &Watches, target: &Watches, before: u64) {
    source.begin(at(0), MoveId(7), b"a", A);
    (0..before).for_each(|_| source.note(at(0), b"a\0row", micros(100), false));
    source.copying(A);
    source.note(at(1), b"a\0row", micros(900), true);
    let handed = source.hand_over(MoveId(7), A, (PartitionId(1), PartitionId(2)));
    target.take_over(at(2), A, handed.unwrap());
}

#[test]
fn operations_count_for_the_stage_in_which_they_ended_and_only_those_of_the_entity() {
    let (source, target) = (Watches::default(), Watches::default());
    moved(&source, &target, 150);
    assert!(!source.any() && source.courses(at(3)).is_empty());
    target.note(at(3), b"a\0row", micros(110), false);
    target.note(at(3), b"ab\0row", micros(110), false);
    target.note(at(3), b"b\0row", micros(110), false);
    let courses = target.courses(at(4));
    let [course] = &courses[..] else { panic!("{courses:?}") };
    assert_eq!((course.before.operations, course.during.operations, course.after.operations), (150, 1, 1));
    assert_eq!((course.before.errors, course.during.errors, course.after.errors), (0, 1, 0));
    assert_eq!((course.watched, course.is_watched), (Duration::from_secs(2), true));
    assert_eq!(course.regression, None);
}

#[test]
fn a_window_that_is_worse_is_told_once_and_a_good_one_before_it_does_not_hide_it() {
    let (source, target) = (Watches::default(), Watches::default());
    moved(&source, &target, 150);
    (0..10_000).for_each(|_| target.note(at(10), b"a\0row", micros(100), false));
    assert_eq!(target.courses(at(70))[0].regression, None);
    (0..150).for_each(|_| target.note(at(71), b"a\0row", micros(3_000), false));
    // The window has not ended.
    assert_eq!(target.courses(at(75))[0].regression, None);
    let course = target.courses(at(200)).remove(0);
    assert!(course.regression.is_some_and(|what| what.starts_with("p99 ")));
    assert_eq!(course.after.operations, 10_150);
    (0..150).for_each(|_| target.note(at(201), b"a\0row", micros(9_000), false));
    let _second = target.courses(at(300));
    assert_eq!(target.regressed(), 1);
    let told = |seconds| target.regressions(at(seconds)).into_iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!(
        (told(300), told(90_000)),
        (vec![MoveId(7)], vec![MoveId(7)]),
        "also when nobody watches any more"
    );
}

#[test]
fn failures_are_a_regression_and_few_operations_are_none() {
    let judged = |before: u64, after: u64, failed: u64| {
        let (source, target) = (Watches::default(), Watches::default());
        moved(&source, &target, before);
        (0..after).for_each(|n| target.note(at(3), b"a\0row", micros(100), n < failed));
        target.courses(at(70))[0].regression.clone()
    };
    assert_eq!(judged(200, 200, 3).as_deref(), Some("1.5 % of operations fail, 0.0 % did before"));
    assert_eq!(judged(200, 200, 2), None);
    assert_eq!((judged(99, 200, 200), judged(200, 99, 99)), (None, None));
}

#[test]
fn it_ends_after_an_hour_or_with_the_next_move_and_is_remembered() {
    let (source, target) = (Watches::default(), Watches::default());
    moved(&source, &target, 1);
    target.note(at(3), b"a\0row", micros(100), false);
    assert!(target.courses(at(3601))[0].is_watched);
    let over = target.courses(at(3602)).remove(0);
    assert_eq!((over.is_watched, over.watched, over.after.operations), (false, AFTER, 1));
    assert!(!target.any());
    // A move that does not come to be leaves what was seen before and during.
    target.begin(at(4000), MoveId(9), b"a", A);
    target.note(at(4000), b"a\0row", micros(100), false);
    target.stays(at(4001), MoveId(8), A);
    assert!(target.any(), "another move's end");
    target.stays(at(4001), MoveId(9), A);
    let all = target.courses(at(4001));
    assert_eq!((all.len(), all[1].id, all[1].before.operations), (2, MoveId(9), 1));
}

#[test]
fn more_than_may_be_watched_make_the_oldest_end() {
    let watches = Watches::default();
    watches.begin(at(0), MoveId(1), b"b", B);
    for n in 0..WATCHED_MAX as u64 {
        watches.begin(at(1 + n), MoveId(2 + n), b"x", format!("x{n}\0").as_bytes());
    }
    let all = watches.courses(at(1000));
    assert_eq!(all.iter().filter(|course| course.is_watched).count(), WATCHED_MAX);
    assert!(!all[0].is_watched && all[0].id == MoveId(1));
}
