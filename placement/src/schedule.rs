//! When something is needed, and when a move begins: so that it ends before the overload it is for, in the quietest hour that allows it.

/// The first hour that matters of what is to be avoided, hour by hour: what comes before a quarter of the most is its edge.
#[must_use]
pub fn needed(by_hour: &[f64]) -> usize {
    let most = by_hour.iter().copied().fold(0.0, f64::max);
    by_hour.iter().position(|one| *one > most / 4.0).unwrap_or(0)
}

/// The hour to begin in, counted from the one that begins.
///
/// `busy` is how busy source and target are in each hour, `needed` the first hour whose overload the move is to avoid,
/// `hours` how long it takes, and `lead` how many hours before that it is to have ended. Where the time is too short it
/// begins at once. Of equally quiet hours the last one is taken: more is known by then.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "hours of a horizon, not negative"
)]
pub fn begin(busy: &[f64], needed: usize, hours: f64, lead: usize) -> usize {
    let takes = hours.max(0.0).ceil() as usize;
    let Some(latest) = needed.checked_sub(takes + lead) else { return 0 };
    let mean = |begin: usize| {
        let of_move = busy.get(begin..begin + takes).unwrap_or(&[]);
        of_move.iter().sum::<f64>() / takes.max(1) as f64
    };
    (0..=latest).rev().min_by(|a, b| mean(*a).total_cmp(&mean(*b))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::begin;

    #[test]
    fn it_ends_before_it_is_needed_in_the_quietest_hour() {
        let busy = [0.5, 0.2, 0.4, 0.1, 0.9, 1.0];
        assert_eq!(begin(&busy, 5, 0.3, 0), 3);
        assert_eq!(begin(&busy, 3, 0.3, 0), 1);
        assert_eq!(begin(&busy, 5, 1.5, 0), 2, "two hours from 2: 0.4 and 0.1");
        assert_eq!(begin(&busy, 5, 0.3, 2), 1);
    }

    #[test]
    fn without_time_it_begins_at_once_and_with_all_hours_alike_at_the_last() {
        assert_eq!(begin(&[0.1, 0.2], 0, 0.2, 0), 0);
        assert_eq!(begin(&[0.1, 0.2], 1, 5.0, 0), 0);
        assert_eq!(begin(&[0.3; 6], 4, 0.5, 0), 3);
    }
}
