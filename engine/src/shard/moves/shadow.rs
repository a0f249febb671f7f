//! When a move has to prove itself on a shadow before it commits, and what came of that.
//!
//! A shadow is what has arrived at the target, with the log running after it, before anybody is sent there. It is asked a
//! share of what clients ask the source.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Which moves are validated.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ShadowPolicy {
    /// None.
    #[default]
    Never,
    /// Those of entities with more bytes than this.
    Above(u64),
    /// All.
    Always,
}

/// How moves are validated.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shadowing {
    /// Which.
    pub policy: ShadowPolicy,
    /// The share of reads, 0..=1, that is mirrored at first; it grows as far as a decision needs.
    pub share: f64,
    /// After so long a decision is not waited for any more.
    pub time_max: Duration,
}

impl Default for Shadowing {
    fn default() -> Self {
        Self { policy: ShadowPolicy::Never, share: 0.01, time_max: Duration::from_secs(10) }
    }
}

impl ShadowPolicy {
    /// Whether the move of so many bytes is to be validated.
    #[must_use]
    pub const fn wants(self, bytes: u64) -> bool {
        match self {
            Self::Never => false,
            Self::Above(limit) => bytes > limit,
            Self::Always => true,
        }
    }
}

impl fmt::Display for ShadowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Above(bytes) => {
                let (shift, unit) =
                    UNITS.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift).unwrap_or_default();
                write!(f, "above:{}{unit}", bytes >> shift)
            }
            Self::Always => f.write_str("always"),
        }
    }
}

impl FromStr for ShadowPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: must be always, never or above:SIZE, as above:64MiB");
        match text {
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            _ => {
                let size = text.strip_prefix("above:").ok_or_else(wrong)?;
                let (shift, unit) =
                    UNITS.into_iter().find(|(_, unit)| size.ends_with(unit)).ok_or_else(wrong)?;
                let number: u64 = size[..size.len() - unit.len()].trim().parse().map_err(|_| wrong())?;
                number.checked_mul(1 << shift).map(Self::Above).ok_or_else(wrong)
            }
        }
    }
}

/// The last one is that of plain numbers.
const UNITS: [(u32, &str); 4] = [(30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "")];

/// What a validation says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The target answers the same, and not slower than may be.
    Accepted,
    /// It does not: the move is given up.
    Rejected,
    /// Too little was read, in the time there is, to tell: the move goes on.
    Inconclusive,
}

impl Verdict {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// A validation at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShadowReport {
    /// None: it is under way.
    pub verdict: Option<Verdict>,
    /// In words.
    pub reason: String,
    /// How long it has taken.
    pub elapsed: Duration,
    /// The share of reads that is mirrored, in parts of a million.
    pub share_ppm: u32,
    /// Reads of the entity meanwhile.
    pub reads: u64,
    /// Of these, those that were mirrored.
    pub mirrored: u64,
    /// And those that were to be, and for which there was no room.
    pub dropped: u64,
    /// Answers that were equal at an equal version.
    pub equal: u64,
    /// Answers that were of a later write, and tell nothing.
    pub later: u64,
    /// Answers that differed.
    pub differing: u64,
    /// How long reads took at the source.
    pub source: Spread,
    /// How long the same ones took at the shadow.
    pub shadow: Spread,
    /// Mirrored reads a second at the source, over a tenth of a second each.
    pub source_rate: Spread,
    /// Answers a second of the shadow, likewise.
    pub shadow_rate: Spread,
}

/// A histogram in a few numbers: nanoseconds, or reads a second.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: u64,
    /// What half of them do not exceed.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// Ninety-nine of a hundred.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mean of what is not negative"
    )]
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            mean: histogram.mean().round() as u64,
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_back_as_they_are_written_and_others_are_refused() {
        for text in ["never", "always", "above:64MiB", "above:1GiB", "above:1000", "above:3KiB"] {
            assert_eq!(text.parse::<ShadowPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("above:64MiB".parse(), Ok(ShadowPolicy::Above(64 << 20)));
        for wrong in ["", "sometimes", "above", "above:", "above:MiB", "above:-1", "above:99999999999GiB"] {
            assert!(wrong.parse::<ShadowPolicy>().is_err(), "{wrong}");
        }
        assert!(ShadowPolicy::Above(10).wants(11) && !ShadowPolicy::Above(10).wants(10));
    }
}
