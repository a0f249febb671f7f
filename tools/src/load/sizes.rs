//! How long values are. No I/O; randomness is an argument.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

use super::zipf::Zipf;

/// Redis takes no longer ones.
pub(crate) const VALUE_BYTES_MAX: u32 = 512 << 20;
/// With it a range of 10 to 1000 has its median near 60.
const THETA: f64 = 0.99;

/// A distribution of lengths.
#[derive(Clone, Debug)]
pub(crate) enum Sizes {
    /// All alike.
    Fixed(u32),
    /// Every length between the two, equally often.
    Uniform { min: u32, max: u32 },
    /// Every length between the two, short ones much more often.
    Zipf { min: u32, max: u32, ranks: Zipf },
}

impl Sizes {
    /// A length in bytes.
    pub(crate) fn pick(&self, random: &mut Rng) -> u32 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { min, max } => random.u32(*min..=*max),
            Self::Zipf { min, max, ranks } => {
                let above = u32::try_from(ranks.rank(random)).unwrap_or(u32::MAX);
                min.saturating_add(above).min(*max)
            }
        }
    }

    /// The shortest that is ever picked.
    pub(crate) const fn min(&self) -> u32 {
        match self {
            Self::Fixed(min) | Self::Uniform { min, .. } | Self::Zipf { min, .. } => *min,
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let bytes = text.parse::<u32>().ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX);
            bytes.ok_or_else(|| format!("{text:?} is no number of bytes up to {VALUE_BYTES_MAX}"))
        };
        let (is_zipf, range) = match text.strip_prefix("zipf:") {
            Some(range) => (true, range),
            None => (false, text),
        };
        let Some((min, max)) = range.split_once('-') else {
            return if is_zipf {
                Err("zipf: needs a range, as in zipf:10-1000".into())
            } else {
                number(range).map(Self::Fixed)
            };
        };
        let (min, max) = (number(min)?, number(max)?);
        if min > max {
            return Err(format!("the range {range} ends before it begins"));
        }
        Ok(if is_zipf {
            Self::Zipf { min, max, ranks: Zipf::new(u64::from(max - min) + 1, THETA) }
        } else {
            Self::Uniform { min, max }
        })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Uniform { min, max } => write!(f, "{min}-{max}"),
            Self::Zipf { min, max, .. } => write!(f, "zipf:{min}-{max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(text: &str) -> f64 {
        let sizes: Sizes = text.parse().unwrap();
        assert_eq!(sizes.to_string(), text);
        let mut random = Rng::with_seed(2);
        let all: Vec<u32> = (0..10_000).map(|_| sizes.pick(&mut random)).collect();
        assert!(all.iter().all(|size| (sizes.min()..=1000).contains(size)));
        all.iter().map(|size| f64::from(*size)).sum::<f64>() / 10_000.0
    }

    #[test]
    fn means_are_where_the_distributions_have_them() {
        assert!((mean("100") - 100.0).abs() < 0.001);
        assert!((mean("10-1000") - 505.0).abs() < 15.0, "{}", mean("10-1000"));
        let zipf = mean("zipf:10-1000");
        assert!((120.0..190.0).contains(&zipf), "{zipf}");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "-", "x", "10-", "20-10", "zipf:10", "zipf:", "1e3", "999999999999", "-5"] {
            assert!(text.parse::<Sizes>().is_err(), "{text:?}");
        }
    }
}
