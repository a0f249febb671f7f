//! Commands as Redis reads them: an array of bulk strings, put at the end of a buffer. No I/O, no allocation beyond it.

/// Begins a command of so many words.
pub(crate) fn words(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// A word.
pub(crate) fn word(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A word of a known length that `fill` puts there.
pub(crate) fn word_by(out: &mut Vec<u8>, length: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    header(out, b'$', length);
    let before = out.len();
    fill(out);
    assert_eq!(out.len() - before, length, "the length that was told");
    out.extend_from_slice(b"\r\n");
}

/// A whole command.
pub(crate) fn command(out: &mut Vec<u8>, all: &[&[u8]]) {
    words(out, all.len());
    for one in all {
        word(out, one);
    }
}

fn header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    decimal(out, count as u64, 1);
    out.extend_from_slice(b"\r\n");
}

/// A number in at least `width` digits.
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u64, width: usize) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    while number > 0 {
        at -= 1;
        digits[at] = b"0123456789"[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
    }
    out.extend_from_slice(&digits[at.min(DIGITS_MAX - width.min(DIGITS_MAX))..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_these_bytes() {
        let mut out = Vec::new();
        command(&mut out, &[b"SET", b"k\r\n", b""]);
        words(&mut out, 12);
        word_by(&mut out, 3, |out| out.extend(b"abc"));
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n*12\r\n$3\r\nabc\r\n");
    }

    #[test]
    fn numbers_have_their_digits() {
        for (number, width, expected) in [
            (0, 1, "0"),
            (0, 0, ""),
            (7, 3, "007"),
            (1234, 3, "1234"),
            (u64::MAX, 12, "18446744073709551615"),
        ] {
            let mut out = Vec::new();
            decimal(&mut out, number, width);
            assert_eq!(out, expected.as_bytes(), "{number} in {width}");
        }
    }
}
