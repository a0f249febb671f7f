//! Which kinds of operations there are, and how often each is done. No I/O; randomness is an argument.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use fastrand::Rng;
use serde::Serialize;

use super::keys::Distribution;

/// A kind of operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// One row, or the rows of a transaction.
    Read,
    /// Overwrites one row, or the rows of a transaction.
    Update,
    /// Writes a row that was not there.
    Insert,
    /// Up to a hundred rows of a hash.
    Scan,
    /// Reads, and on the answer writes.
    ReadModifyWrite,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 5;

impl Kind {
    /// All of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; KINDS] =
        [Self::Read, Self::Update, Self::Insert, Self::Scan, Self::ReadModifyWrite];

    /// As in options and reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read_modify_write",
        }
    }
}

/// The weight of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mix {
    weights: [u32; KINDS],
}

/// A weight above it says nothing that a smaller one does not.
const WEIGHT_MAX: u32 = 1_000_000;

impl Mix {
    fn of(weights: &[(Kind, u32)]) -> Self {
        let mut mix = Self { weights: [0; KINDS] };
        for (kind, weight) in weights {
            mix.weights[*kind as usize] = *weight;
        }
        mix
    }

    /// A kind, as often as its weight says.
    pub(crate) fn pick(&self, random: &mut Rng) -> Kind {
        let mut at = random.u32(0..self.weights.iter().sum());
        for (kind, weight) in Kind::ALL.into_iter().zip(self.weights) {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        unreachable!("less than the sum of all weights was drawn")
    }

    /// Whether the kind is ever picked.
    pub(crate) const fn has(&self, kind: Kind) -> bool {
        self.weights[kind as usize] > 0
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { weights: [0; KINDS] };
        for part in text.split(',') {
            let (name, weight) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is not KIND=WEIGHT, as in read=95"))?;
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == name)
                .ok_or_else(|| format!("{name:?} is none of {}", Kind::ALL.map(Kind::name).join(", ")))?;
            let weight = weight.parse::<u32>().ok().filter(|weight| *weight <= WEIGHT_MAX);
            mix.weights[kind as usize] =
                weight.ok_or_else(|| format!("the weight of {name} is no number up to {WEIGHT_MAX}"))?;
        }
        if mix.weights.iter().all(|weight| *weight == 0) {
            return Err("every weight is 0".into());
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (kind, weight) in Kind::ALL.into_iter().zip(self.weights).filter(|(_, weight)| *weight > 0) {
            write!(f, "{comma}{}={weight}", kind.name())?;
            comma = ",";
        }
        Ok(())
    }
}

/// The core workloads of YCSB (Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC 2010).
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads only.
    C,
    /// 95 % reads of the latest, 5 % inserts.
    D,
    /// 95 % scans of 1 to 100 rows of a hash, 5 % inserts.
    E,
    /// Half reads, half read-modify-writes.
    F,
}

impl Workload {
    pub(crate) fn mix(self) -> Mix {
        match self {
            Self::A => Mix::of(&[(Kind::Read, 50), (Kind::Update, 50)]),
            Self::B => Mix::of(&[(Kind::Read, 95), (Kind::Update, 5)]),
            Self::C => Mix::of(&[(Kind::Read, 100)]),
            Self::D => Mix::of(&[(Kind::Read, 95), (Kind::Insert, 5)]),
            Self::E => Mix::of(&[(Kind::Scan, 95), (Kind::Insert, 5)]),
            Self::F => Mix::of(&[(Kind::Read, 50), (Kind::ReadModifyWrite, 50)]),
        }
    }

    pub(crate) const fn distribution(self, theta: f64, scrambled: bool) -> Distribution {
        match self {
            Self::D => Distribution::Latest { theta },
            Self::A | Self::B | Self::C | Self::E | Self::F => Distribution::Zipf { theta, scrambled },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_as_often_as_their_weights_say() {
        let mix: Mix = "read=70,scan=10,read_modify_write=20".parse().unwrap();
        let mut random = Rng::with_seed(4);
        let mut seen = [0_u32; KINDS];
        for _ in 0..100_000 {
            seen[mix.pick(&mut random) as usize] += 1;
        }
        for (seen, expected) in seen.into_iter().zip([70_000_u32, 0, 0, 10_000, 20_000]) {
            assert!(seen.abs_diff(expected) <= 750, "{seen} for {expected}");
        }
    }

    #[test]
    fn a_mix_is_told_as_it_was_given() {
        for text in ["read=50,update=50", "insert=1", "scan=95,read_modify_write=5"] {
            assert_eq!(text.parse::<Mix>().unwrap().to_string(), text);
        }
        for text in ["", "read", "read=", "read=x", "write=5", "read=0", "read=1,,", "read=99999999"] {
            assert!(text.parse::<Mix>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_workloads_are_those_of_ycsb() {
        let all = Workload::value_variants().iter().map(|workload| workload.mix().to_string());
        let expected = [
            "read=50,update=50",
            "read=95,update=5",
            "read=100",
            "read=95,insert=5",
            "insert=5,scan=95",
            "read=50,read_modify_write=50",
        ];
        assert_eq!(all.collect::<Vec<_>>(), expected);
    }
}
