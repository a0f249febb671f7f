//! What was measured beside what it has to be: on the terminal, and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// What a number has to be.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At most.
    AtMost(f64),
    /// Less than.
    Below(f64),
    /// At least.
    AtLeast(f64),
    /// More than.
    Above(f64),
    /// From the first to the second.
    Within(f64, f64),
    /// Anywhere but there.
    Outside(f64, f64),
}

/// One number.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    part: String,
    what: String,
    value: f64,
    bound: Bound,
    holds: bool,
}

/// All of them.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct Measured {
    lines: Vec<Line>,
}

impl Bound {
    /// Nothing holds for what is no number.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Above(bound) => value > bound,
            Self::Within(low, high) => (low..=high).contains(&value),
            Self::Outside(low, high) => value < low || value > high,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {bound:.4}"),
            Self::Below(bound) => format!("<  {bound:.4}"),
            Self::AtLeast(bound) => format!(">= {bound:.4}"),
            Self::Above(bound) => format!(">  {bound:.4}"),
            Self::Within(low, high) => format!("{low:.4} to {high:.4}"),
            Self::Outside(low, high) => format!("not {low:.4} to {high:.4}"),
        }
    }
}

impl Measured {
    /// Adds a number of a part.
    pub fn add(&mut self, part: impl Into<String>, what: impl Into<String>, value: f64, bound: Bound) {
        self.lines.push(Line {
            part: part.into(),
            what: what.into(),
            value,
            bound,
            holds: bound.holds(value),
        });
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// How many lines do not hold.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.lines.iter().filter(|line| !line.holds).count()
    }

    /// Whether every value is a number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.lines.iter().all(|line| line.value.is_finite())
    }

    /// A table of lines.
    #[must_use]
    pub fn text(lines: &[Line]) -> String {
        let mut text = String::new();
        for Line { part, what, value, bound, holds } in lines {
            let verdict = if *holds { "" } else { "  DOES NOT HOLD" };
            let _infallible = writeln!(text, "{part:<10}{what:<64}{value:>10.4}  {}{verdict}", bound.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_judged_at_their_edges_and_nothing_holds_for_what_is_no_number() {
        let bounds = [
            (Bound::AtMost(1.0), [true, true, false]),
            (Bound::Below(1.0), [true, false, false]),
            (Bound::AtLeast(1.0), [false, true, true]),
            (Bound::Above(1.0), [false, false, true]),
            (Bound::Within(1.0, 1.5), [false, true, false]),
            (Bound::Outside(1.0, 1.5), [true, false, true]),
        ];
        for (bound, expected) in bounds {
            assert_eq!([0.5, 1.0, 2.0].map(|value| bound.holds(value)), expected, "{bound:?}");
            assert!(!bound.holds(f64::NAN), "{bound:?}");
        }
    }

    #[test]
    fn a_line_that_does_not_hold_is_counted_and_told() {
        let mut measured = Measured::default();
        measured.add("sums", "80 %", 0.749, Bound::Within(0.75, 0.85));
        measured.add("sums", "95 %", 0.93, Bound::AtLeast(0.9));
        assert_eq!(measured.failures(), 1);
        let text = Measured::text(measured.lines());
        assert_eq!(text.lines().filter(|line| line.ends_with("DOES NOT HOLD")).count(), 1, "{text}");
    }
}
