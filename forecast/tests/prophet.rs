//! Prophet against the forecasts of the paper's own program: `prophet/reference.py` says how they were made.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::{Model, Rows};

const COLUMNS: usize = 2;
const FUTURE: usize = 48;

struct Reference {
    start: i64,
    history: Vec<f32>,
    regressors: Vec<f32>,
    forecasts: Vec<f32>,
}

fn reference() -> Reference {
    let mut reference =
        Reference { start: i64::MAX, history: Vec::new(), regressors: Vec::new(), forecasts: Vec::new() };
    for line in include_str!("prophet/reference.csv").lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        reference.start = reference.start.min(cells[0].parse().unwrap());
        reference.history.push(if cells[1].is_empty() { f32::NAN } else { cells[1].parse().unwrap() });
        reference.regressors.extend([cells[2], cells[3]].map(|cell| cell.parse::<f32>().unwrap()));
        reference.forecasts.push(cells[4].parse().unwrap());
    }
    reference.history.truncate(reference.history.len() - FUTURE);
    reference
}

fn largest_difference(path: &[f32], forecasts: &[f32]) -> f32 {
    path.iter().zip(forecasts).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max)
}

#[test]
fn two_days_are_forecast_as_by_the_papers_program() {
    let Reference { start, history, regressors, forecasts } = reference();
    let (past, future) = regressors.split_at(history.len() * COLUMNS);
    let fitted = Prophet::default().fit(start, &history, Rows::new(past, COLUMNS)).unwrap();
    let mut path = [0.0; FUTURE];
    fitted.path(Rows::new(future, COLUMNS), &mut path);
    let difference = largest_difference(&path, &forecasts[history.len()..]);
    assert!(difference < 0.02, "{difference} of values from 2 to 8");
    assert!(largest_difference(&path, &[forecasts[history.len() - 1]; FUTURE]) > 1.0, "the reference varies");
}

#[test]
fn a_history_taken_hour_by_hour_is_as_one_taken_at_once() {
    let Reference { start, history, regressors, .. } = reference();
    let (past, future) = regressors.split_at(history.len() * COLUMNS);
    let late = history.len() - 72;
    let mut fitted =
        Prophet::default().fit(start, &history[..late], Rows::new(&past[..late * COLUMNS], COLUMNS)).unwrap();
    let mut stale = [0.0; FUTURE];
    fitted.path(Rows::new(future, COLUMNS), &mut stale);
    for hour in late..history.len() {
        fitted.update(history[hour], &past[hour * COLUMNS..(hour + 1) * COLUMNS]);
    }
    let whole = Prophet::default().fit(start, &history, Rows::new(past, COLUMNS)).unwrap();
    let (mut updated, mut at_once) = ([0.0; FUTURE], [0.0; FUTURE]);
    fitted.path(Rows::new(future, COLUMNS), &mut updated);
    whole.path(Rows::new(future, COLUMNS), &mut at_once);
    // Bends and the unit of time lie a little apart.
    assert!(largest_difference(&updated, &at_once) < 0.1, "{updated:?} {at_once:?}");
}
