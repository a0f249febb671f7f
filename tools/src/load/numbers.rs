//! Numbers from one type to another, and scrambled ones. No state.

/// The whole part: 0 for what is negative or not a number, the largest number for what is too large.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
pub(crate) const fn whole(value: f64) -> u64 {
    value as u64
}

/// A count as an index into memory.
pub(crate) fn index(count: u64) -> usize {
    usize::try_from(count).expect("what is in memory can be indexed")
}

/// Spreads a number over all 64 bits, one to one (the finalizer of SplitMix64).
pub(crate) const fn scrambled(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A number spread over 64 bits, brought into `0..count`.
pub(crate) fn folded(spread: u64, count: u64) -> u64 {
    let product = u128::from(spread) * u128::from(count);
    u64::try_from(product >> 64).expect("the upper half of 128 bits")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whole_saturates() {
        let cases = [(f64::NAN, 0), (-1.0, 0), (2.9, 2), (f64::INFINITY, u64::MAX)];
        for (value, expected) in cases {
            assert_eq!(whole(value), expected, "{value}");
        }
    }

    #[test]
    fn scrambling_loses_nothing_and_folding_keeps_the_bound() {
        let all: BTreeSet<u64> = (0..10_000).map(scrambled).collect();
        assert_eq!(all.len(), 10_000);
        let folded: BTreeSet<u64> = all.iter().map(|n| folded(*n, 10)).collect();
        assert_eq!(folded, (0..10).collect());
    }
}
