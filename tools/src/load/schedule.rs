//! When operations are due: fixed ahead, whatever the server does. No clock; randomness is an argument.
//!
//! Every connection has its own sequence of due times; together they have the wanted rate. An operation's latency
//! counts from when it was due, so that a server that stalls is charged for what was due meanwhile (coordinated
//! omission).

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use fastrand::Rng;
use serde::Serialize;

use super::clock::Nanos;
use super::numbers::whole;

/// Operations per second, which may change evenly from the beginning of a run to its end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rate {
    pub(crate) first: f64,
    pub(crate) last: f64,
}

/// How operations lie in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrivals {
    /// At equal distances.
    Even,
    /// As if of many independent clients.
    Poisson,
}

/// One connection's due times.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    rate: Rate,
    /// Seconds in which the rate goes from its first value to its last; none where both are the same.
    ramp: Option<f64>,
    arrivals: Arrivals,
    /// How many operations of all connections are due before this connection's next one.
    position: f64,
    connections: f64,
    random: Rng,
    steps: Option<Steps>,
}

/// A rate that is another in each step.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    /// Operations that are due before each step begins, and before the last one ends.
    pub(crate) before: Vec<f64>,
    /// Of each.
    pub(crate) seconds: f64,
}

impl Steps {
    /// When so many were due, in seconds; none: that many never are.
    fn at(&self, position: f64) -> Option<f64> {
        let next = self.before.partition_point(|before| *before <= position);
        let (first, last) = (self.before.get(next.checked_sub(1)?)?, self.before.get(next)?);
        Some(self.seconds * (next as f64 - 1.0 + (position - first) / (last - first)))
    }
}

impl Schedule {
    /// For connection `index` of `connections`; the rate is that of all. A changing rate needs the run's seconds.
    pub(crate) fn new(
        (rate, seconds): (Rate, Option<f64>),
        arrivals: Arrivals,
        (index, connections): (u32, u32),
        mut random: Rng,
    ) -> Self {
        let ramp = seconds.filter(|_| rate.changes());
        assert!(ramp.is_some() || !rate.changes(), "a changing rate without an end");
        let connections = f64::from(connections);
        let position = match arrivals {
            Arrivals::Even => f64::from(index),
            Arrivals::Poisson => gap(&mut random) * connections,
        };
        Self { rate, ramp, arrivals, position, connections, random, steps: None }
    }

    /// Of a connection by itself, whose operations come as if of many independent clients.
    pub(crate) fn stepped(steps: Steps, mut random: Rng) -> Self {
        let (rate, arrivals) = (Rate { first: 0.0, last: 0.0 }, Arrivals::Poisson);
        let position = gap(&mut random);
        Self { rate, ramp: None, arrivals, position, connections: 1.0, random, steps: Some(steps) }
    }

    /// When the next operation is due, from the beginning of the run.
    pub(crate) fn due(&self) -> Nanos {
        if let Some(steps) = &self.steps {
            return steps.at(self.position).map_or(Nanos::MAX, |seconds| whole(seconds * 1e9));
        }
        let seconds = match self.ramp {
            None => self.position / self.rate.first,
            Some(ramp) => {
                // Due before t are first * t + slope * t^2 / 2; solved for t so that nothing cancels at a small slope.
                let slope = (self.rate.last - self.rate.first) / ramp;
                let square = self.rate.first * self.rate.first + 2.0 * slope * self.position;
                if square < 0.0 {
                    return Nanos::MAX; // A falling rate reached 0.
                }
                let divisor = self.rate.first + square.sqrt();
                if divisor > 0.0 { 2.0 * self.position / divisor } else { 0.0 }
            }
        };
        whole(seconds * 1e9)
    }

    /// Goes on to the next operation.
    pub(crate) fn advance(&mut self) {
        self.position += match self.arrivals {
            Arrivals::Even => self.connections,
            Arrivals::Poisson => gap(&mut self.random) * self.connections,
        };
    }
}

/// The distance between two arrivals that know nothing of each other, 1 on average.
fn gap(random: &mut Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

impl Rate {
    /// Whether it is not the same all the time.
    #[expect(clippy::float_cmp, reason = "both come from the same text when they are meant to be the same")]
    pub(crate) fn changes(&self) -> bool {
        self.first != self.last
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=RATE_MAX).contains(rate));
            rate.ok_or_else(|| format!("{text:?} is no rate between 0 and {RATE_MAX}"))
        };
        let rate = match text.split_once("..") {
            Some((first, last)) => Self { first: number(first)?, last: number(last)? },
            None => {
                let rate = number(text)?;
                Self { first: rate, last: rate }
            }
        };
        if rate.first + rate.last <= 0.0 {
            return Err("a rate of 0 does nothing".into());
        }
        Ok(rate)
    }
}

/// One a nanosecond: due times are told apart by no less.
const RATE_MAX: f64 = 1e9;

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes() { write!(f, "{}..{}", self.first, self.last) } else { write!(f, "{}", self.first) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(rate: &str, arrivals: Arrivals, connections: u32, seconds: f64) -> Vec<u64> {
        let rate: Rate = rate.parse().unwrap();
        let mut all = Vec::new();
        for index in 0..connections {
            let random = Rng::with_seed(u64::from(index));
            let mut schedule = Schedule::new((rate, Some(seconds)), arrivals, (index, connections), random);
            let mut before = 0;
            while schedule.due() < whole(seconds * 1e9) {
                assert!(schedule.due() >= before, "time goes forward");
                before = schedule.due();
                all.push(before);
                schedule.advance();
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn even_arrivals_of_several_connections_are_one_even_sequence() {
        let times = times("1000", Arrivals::Even, 7, 2.0);
        assert_eq!(times.len(), 2000);
        for (n, time) in (0_u64..).zip(times) {
            assert!(time.abs_diff(n * 1_000_000) <= 1, "{n}: {time}");
        }
    }

    #[test]
    fn a_ramp_is_as_steep_as_it_says_up_and_down() {
        for (rate, expected) in [("0..2000", [125, 375, 625, 875]), ("2000..0", [875, 625, 375, 125])] {
            let times = times(rate, Arrivals::Even, 3, 2.0);
            for (quarter, expected) in (0..4).zip(expected) {
                let range = quarter * 500_000_000..(quarter + 1) * 500_000_000;
                let found = times.iter().filter(|time| range.contains(*time)).count();
                assert!(found.abs_diff(expected) <= 2, "{rate} quarter {quarter}: {found}");
            }
        }
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_its_variance() {
        let times = times("10000", Arrivals::Poisson, 5, 10.0);
        assert!(times.len().abs_diff(100_000) < 1600, "five standard deviations: {}", times.len());
        let mut counts = vec![0.0_f64; 1000];
        for time in &times {
            counts[usize::try_from(time / 10_000_000).unwrap()] += 1.0;
        }
        let variance = counts.iter().map(|count| (count - 100.0).powi(2)).sum::<f64>() / 1000.0;
        assert!((75.0..125.0).contains(&variance), "{variance}");
    }

    #[test]
    fn steps_have_their_rates_and_nothing_is_due_in_one_without() {
        let steps = Steps { before: vec![0.0, 4000.0, 4000.0, 5000.0], seconds: 2.0 };
        let mut schedule = Schedule::stepped(steps, Rng::with_seed(4));
        let mut counts = [0_i32; 3];
        while schedule.due() < Nanos::MAX {
            counts[usize::try_from(schedule.due() / 2_000_000_000).unwrap()] += 1;
            schedule.advance();
        }
        assert!(
            (counts[0] - 4000).abs() < 320 && counts[1] == 0 && (counts[2] - 1000).abs() < 160,
            "{counts:?}"
        );
        let idle = Steps { before: vec![0.0, 0.0], seconds: 2.0 };
        assert_eq!(Schedule::stepped(idle, Rng::with_seed(4)).due(), Nanos::MAX);
    }

    #[test]
    fn rates_are_read_and_told_alike() {
        for text in ["1000", "0.5", "1000..50000", "5..0"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0..0", "-1", "x", "1..", "NaN", "inf", "1..2..3"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }
}
