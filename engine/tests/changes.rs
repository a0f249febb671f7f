//! A sample of the campaign of moves, splits, merges and hand-overs with crashes; what fails here names the course to give to
//! `cargo run --release -p foreshard-engine --example change_campaign`.

mod common;

use common::campaign::MODES;
use common::changes::{Course, Tally};
use common::script;

#[test]
fn entities_move_and_partitions_change_through_crashes_and_every_key_answers_in_one_order() {
    common::history::checker_bites();
    let mut tally = Tally::default();
    for seed in 0..8 {
        let course = Course { seed, callers: 2, work: 60, crashes: 6 };
        match std::panic::catch_unwind(|| course.run()) {
            Ok(more) => tally.add(&more),
            Err(panic) => {
                eprintln!("--seed {seed} --courses 1 --crashes 6 --callers 2 --work 60");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{tally:?}");
    assert!(tally.begun > 200 && tally.moves[0] > 50 && tally.reshapes[0] > 50, "{tally:?}");
    assert!(tally.crashes > 20 && tally.told[0] > 2000, "{tally:?}");
}

#[test]
fn a_script_of_changes_that_is_stopped_at_an_io_is_found_before_or_after_each_step() {
    let boundaries = script::boundaries();
    assert!(boundaries.end - boundaries.start > 500, "{boundaries:?}");
    for (n, boundary) in boundaries.step_by(31).enumerate() {
        script::stop_at(boundary, MODES[n % MODES.len()]);
    }
}
