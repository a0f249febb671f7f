//! A rate of cost, kept by giving whoever comes a time from which on they may go. No I/O, no clock.
//!
//! What was done is charged when it is known. Whoever comes while more was done than the rate allows is promised the time
//! at which that, and everybody promised before, has been paid for, at what commands cost of late; the promise falls due
//! then, whether anybody comes or not, and what they do is charged like anything else.
//!
//! Invariants:
//! - over any time, what is charged is at most the rate times that time, a burst, and what those who are let go at once cost
//!   beyond what they were taken to;
//! - times are given out in the order in which they were asked for, while commands cost what they are taken to: where they
//!   cost less, what is left over goes to whoever comes next, and is not wasted for the sake of the order;
//! - nobody is refused.

use std::collections::VecDeque;
use std::time::Duration;

use super::cost::MilliUnits;
use crate::io::runtime::Nanos;

/// Who was idle may do as much at once as in so long: a pipeline is not to be cut into single commands.
const BURST: Duration = Duration::from_millis(10);
/// What a command is taken to cost before any was charged: little. Too much keeps those waiting who could go; too little lets
/// them go early once, and is made up for by what is charged.
const TYPICAL_FIRST: f64 = 500.0;
/// How much one command changes of that.
const TYPICAL_SHARE: f64 = 0.02;
/// Promises that are kept apart; later ones are at the same time as the last. A node has fewer connections, and each has
/// one command waiting.
const PROMISES_MAX: usize = 1 << 17;

/// A rate, and what was done of it.
#[derive(Debug)]
pub(super) struct Budget {
    units_per_second: f64,
    /// When everything charged and promised is paid for, nanoseconds.
    paid_at: f64,
    /// When they fall due, and by how much they moved `paid_at`.
    promises: VecDeque<(f64, f64)>,
    /// What a command costs of late, and what was charged since the last one came.
    typical: f64,
    charged: f64,
}

impl Budget {
    pub(super) const fn new(units_per_second: f64) -> Self {
        Self {
            units_per_second,
            paid_at: 0.0,
            promises: VecDeque::new(),
            typical: TYPICAL_FIRST,
            charged: 0.0,
        }
    }

    pub(super) const fn units_per_second(&self) -> f64 {
        self.units_per_second
    }

    /// This was done.
    #[expect(clippy::cast_precision_loss, reason = "a cost of less than a century")]
    pub(super) fn charge(&mut self, now: Nanos, cost: MilliUnits) {
        self.settle(now);
        self.charged += cost as f64;
        self.paid_at += self.nanos(cost as f64);
    }

    /// A command comes: when it may go.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of less than a century, after the start"
    )]
    pub(super) fn admit(&mut self, now: Nanos) -> Nanos {
        self.settle(now);
        self.typical += TYPICAL_SHARE * (std::mem::take(&mut self.charged) - self.typical);
        if self.paid_at <= now.0 as f64 {
            return now;
        }
        let at = self.paid_at;
        if self.promises.len() < PROMISES_MAX {
            let moved = self.nanos(self.typical);
            self.promises.push_back((at, moved));
            self.paid_at += moved;
        }
        Nanos(at.ceil() as u64)
    }

    /// Commands that were promised a time that has not come.
    pub(super) fn waiting(&mut self, now: Nanos) -> usize {
        self.settle(now);
        self.promises.len()
    }

    /// Lets promises fall due, and what was not used be forgotten.
    #[expect(clippy::cast_precision_loss, reason = "times of less than a century")]
    fn settle(&mut self, now: Nanos) {
        let now = now.0 as f64;
        while let Some((_, moved)) = self.promises.pop_front_if(|(at, _)| *at <= now) {
            self.paid_at -= moved;
        }
        self.paid_at = self.paid_at.max(now - BURST.as_nanos() as f64);
    }

    /// How long so much takes.
    fn nanos(&self, milli_units: f64) -> f64 {
        milli_units * 1e6 / self.units_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// `clients` that each send the next command when the last is done; what was charged over `seconds`.
    fn closed_loop(rate: f64, clients: usize, seconds: u64, seed: u64) -> u64 {
        let mut budget = Budget::new(rate);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut due: Vec<u64> = vec![0; clients];
        let (mut total, mut last) = (0, 0);
        loop {
            let (at, client) = due.iter().copied().zip(0..).min().unwrap();
            if at >= seconds * SECOND {
                return total;
            }
            assert!(at >= last, "time goes on");
            last = at;
            // It goes, costs something, and comes again a little later.
            let cost = random.u64(500..20_000);
            budget.charge(Nanos(at), cost);
            total += cost;
            let comes = Nanos(at + random.u64(1_000..50_000));
            due[client] = budget.admit(comes).0.max(comes.0);
        }
    }

    #[test]
    fn many_who_would_do_more_do_what_the_rate_allows_and_few_who_do_less_do_not_wait() {
        for clients in [4, 64, 500] {
            let done = closed_loop(20_000.0, clients, 10, clients as u64);
            let allowed = 20_000 * 1000 * 10;
            assert!(
                (done as f64 / allowed as f64 - 1.0).abs() < 0.05,
                "{clients} clients: {done} of {allowed}"
            );
        }
        // One client of about 10 units in 25 us: 400,000 a second are not reached.
        let free = closed_loop(1e9, 1, 10, 1);
        assert!(closed_loop(1e6, 1, 10, 1) == free, "nobody waits below the rate");
    }

    #[test]
    fn the_first_of_many_cheap_commands_do_not_wait_longer_than_they_have_to() {
        // A hundred units a second, and clients enough to wait.
        const CLIENTS: usize = 64;
        const COST: u64 = 700;
        let mut budget = Budget::new(100.0);
        let mut due: Vec<u64> = (0..CLIENTS).map(|_| budget.admit(Nanos(0)).0).collect();
        let mut total = 0;
        loop {
            let (at, client) = due.iter().copied().zip(0..).min().unwrap();
            if at >= 4 * SECOND {
                break;
            }
            budget.charge(Nanos(at), COST);
            total += COST;
            due[client] = budget.admit(Nanos(at + 1000)).0;
        }
        // All of them were let go once before anything was known.
        let allowed = 400_000 + CLIENTS as u64 * COST;
        let part = total as f64 / allowed as f64;
        assert!((0.9..=1.1).contains(&part), "{total} of {allowed}");
    }

    #[test]
    fn times_are_given_in_order_and_a_promise_nobody_keeps_costs_nothing() {
        let mut budget = Budget::new(1000.0);
        assert_eq!(budget.admit(Nanos(SECOND)), Nanos(SECOND), "nothing was done");
        // Half a second's worth; ten milliseconds of it were saved up.
        budget.charge(Nanos(SECOND), 500_000);
        let times: Vec<u64> = (0..5).map(|_| budget.admit(Nanos(SECOND)).0).collect();
        assert_eq!(times[0], SECOND + 490_000_000);
        assert!(times.is_sorted() && times[4] > times[0], "{times:?}");
        assert_eq!(budget.waiting(Nanos(SECOND)), 5);
        // They went away: whoever comes later does not wait for them.
        let later = Nanos(times[4] + 1);
        assert_eq!((budget.waiting(later), budget.admit(later)), (0, later));
    }
}
