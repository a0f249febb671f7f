//! Patterns as KEYS and SCAN have them: `*`, `?`, `[a-z]`, `[^x]`, and `\` before what is meant literally.
//!
//! Invariant: the time is bounded by pattern times text: only the last star is ever tried again.

/// Whether `text` matches.
#[must_use]
pub(crate) fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to go on when a match fails: behind the last star, one byte of text later.
    let mut star: Option<(usize, usize)> = None;
    while text_at < text.len() {
        let rest = &pattern[pattern_at..];
        if rest.first() == Some(&b'*') {
            star = Some((pattern_at + 1, text_at));
            pattern_at += 1;
            continue;
        }
        match match_one(rest, text[text_at], ignore_case) {
            Some(len) => {
                pattern_at += len;
                text_at += 1;
            }
            None => match &mut star {
                Some((behind, from)) => {
                    *from += 1;
                    (pattern_at, text_at) = (*behind, *from);
                }
                None => return false,
            },
        }
    }
    pattern[pattern_at..].iter().all(|&b| b == b'*')
}

/// How much of the pattern matches this byte; none if it does not.
fn match_one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref class @ ..] => {
            let (len, matched) = match_class(class, fold(byte), fold);
            matched.then_some(1 + len)
        }
        [b'\\', literal, ..] => (fold(literal) == fold(byte)).then_some(2),
        [literal, ..] => (fold(literal) == fold(byte)).then_some(1),
    }
}

/// A class without its opening bracket: its length and whether the byte is in it. One that is not closed ends with the
/// pattern.
fn match_class(class: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> (usize, bool) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut matched = false;
    loop {
        match class.get(at..).unwrap_or_default() {
            [] => return (class.len(), matched != negated),
            [b']', ..] => return (at + 1, matched != negated),
            [b'\\', literal, ..] => {
                matched |= fold(*literal) == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                let (low, high) = (fold(*first).min(fold(*last)), fold(*first).max(fold(*last)));
                matched |= (low..=high).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                matched |= fold(*literal) == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_redis_means() {
        let cases = [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("a[bc", "ab", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("", "a", false),
            ("a**", "a", true),
        ];
        for (pattern, text, want) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), false), want, "{pattern} on {text}");
        }
        assert!(matches(b"MAX*", b"maxclients", true));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"*a".repeat(200);
        let text = b"a".repeat(10_000);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text, false));
    }
}
