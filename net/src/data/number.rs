//! Numbers as Redis reads and writes them.

/// An integer with nothing around it and no needless zeros: what Redis takes for one.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    let canonical = match digits {
        [b'0'] => !negative,
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    let magnitude = digits.iter().fold(0i128, |n, d| n * 10 + i128::from(d - b'0'));
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// A floating-point number with nothing around it, infinities included.
#[must_use]
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() || text.starts_with(char::is_whitespace) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // The parser takes "nan" too; Redis refuses it.
    (!number.is_nan()).then_some(number)
}

/// A number in fixed point with seventeen decimals, which is what Redis shows of the sums it keeps in 80-bit floats.
/// Exact where those are; numbers too large for it are kept as 64-bit floats.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Decimal {
    /// Units of 10^-17.
    Fixed(i128),
    /// Past the fixed point's range.
    Float(f64),
}

const DECIMALS: i32 = 17;
const ONE: i128 = 100_000_000_000_000_000;
/// Larger numbers are kept as floats: below, sums cannot overflow.
const FIXED_MAX: f64 = 8e20;

impl Decimal {
    /// Reads a number.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let float = parse_float(text)?;
        if float.is_infinite() && text.iter().any(u8::is_ascii_digit) {
            // Digits that no float holds.
            return None;
        }
        if !float.is_finite() || float.abs() >= FIXED_MAX {
            return Some(Self::Float(float));
        }
        Some(fixed(text).map_or(Self::Float(float), Self::Fixed))
    }

    /// The sum; none when it is not a finite number.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        if let (Self::Fixed(a), Self::Fixed(b)) = (self, other) {
            return Some(Self::Fixed(a + b));
        }
        let sum = self.to_float() + other.to_float();
        sum.is_finite().then_some(Self::Float(sum))
    }

    #[expect(clippy::cast_precision_loss, reason = "only beside a float of at least 1e20")]
    fn to_float(self) -> f64 {
        match self {
            Self::Fixed(n) => n as f64 / ONE as f64,
            Self::Float(n) => n,
        }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Float(n) => write!(f, "{n}"),
            Self::Fixed(n) => {
                let sign = if n < 0 { "-" } else { "" };
                let (whole, part) =
                    (n.unsigned_abs() / ONE.unsigned_abs(), n.unsigned_abs() % ONE.unsigned_abs());
                if part == 0 {
                    return write!(f, "{sign}{whole}");
                }
                let part = format!("{part:017}");
                write!(f, "{sign}{whole}.{}", part.trim_end_matches('0'))
            }
        }
    }
}

/// Decimal digits with an optional fraction and exponent, in units of 10^-17, rounded half away from zero.
fn fixed(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    let at = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
    let exponent: i32 = match text.get(at + 1..) {
        Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        None => 0,
    };
    let mantissa = &text[..at];
    let point = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
    let digits = mantissa.iter().filter(|b| b.is_ascii_digit()).map(|b| i128::from(b - b'0'));
    // The place of the first digit: 0 for units of 10^-17.
    let mut place = i32::try_from(point).ok()?.checked_add(exponent)?.checked_add(DECIMALS - 1)?;
    let mut sum = 0i128;
    for digit in digits {
        match place {
            0..=37 => sum = sum.checked_add(digit * 10i128.checked_pow(place.unsigned_abs())?)?,
            -1 if digit >= 5 => sum += 1,
            38.. if digit != 0 => return None,
            _ => {}
        }
        place = place.checked_sub(1)?;
    }
    Some(if negative { -sum } else { sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical_or_none() {
        let cases: [(&str, Option<i64>); 12] = [
            ("0", Some(0)),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("99999999999999999999999", None),
        ];
        for (text, number) in cases {
            assert_eq!(parse_integer(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn sums_show_what_eighty_bit_floats_show() {
        let cases = [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("1", "-1", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("3", "1e-17", "3.00000000000000001"),
            ("1.e1", ".5", "10.5"),
            ("17179869184", "0.00000000000000001", "17179869184.00000000000000001"),
        ];
        for (a, b, sum) in cases {
            let (a, b) = (Decimal::parse(a.as_bytes()).unwrap(), Decimal::parse(b.as_bytes()).unwrap());
            assert_eq!(a.plus(b).unwrap().to_string(), sum);
        }
    }

    #[test]
    fn what_is_not_a_number_is_none_and_infinite_sums_are_refused() {
        for text in ["", " 1", "1 ", "abc", "nan", "1e", "1,5"] {
            assert!(Decimal::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        let huge = Decimal::parse(b"1.7e308").unwrap();
        assert!(huge.plus(huge).is_none());
        assert_eq!(Decimal::parse(b"1e25").unwrap().to_string(), "10000000000000000000000000");
    }
}
