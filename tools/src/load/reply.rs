//! Replies as Redis sends them (RESP2, and the types of RESP3 that answer a command). No I/O, no allocation.
//!
//! Bytes are checked from left to right; nothing is believed that was not counted.
//!
//! Invariants:
//! - whatever the bytes are, there is no panic, and a length that they claim is never used to allocate;
//! - a whole reply was checked to its last byte, so that going through its items cannot fail.

use std::fmt;

/// A status line, a number, or the header of what is longer. Redis' own are far below it.
const LINE_BYTES_MAX: usize = 64 << 10;
/// As Redis: no value is longer.
const BULK_BYTES_MAX: u64 = 512 << 20;
/// That are still to come, of all levels together. A scan of 100 rows has 203.
const ITEMS_MAX: u64 = 1 << 20;

/// One reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply<'a> {
    /// A status, or what RESP3 has as a line: a double, a boolean, a big number.
    Simple(&'a [u8]),
    /// A refusal: a code, a space, words.
    Error(&'a [u8]),
    Integer(i64),
    Bulk(&'a [u8]),
    Null,
    /// An array or a set; a map has a key and a value in turn.
    Array(Items<'a>),
}

/// The items of an array.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Items<'a> {
    count: u64,
    bytes: &'a [u8],
}

/// What lies at the beginning of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parsed<'a> {
    Whole {
        reply: Reply<'a>,
        /// How long it is.
        bytes: usize,
    },
    /// There is no use in trying again with fewer bytes than these.
    Partial { bytes_min: usize },
}

/// What is no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed {
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

/// The first reply in the bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    match extent(bytes)? {
        Extent::Partial(bytes_min) => Ok(Parsed::Partial { bytes_min }),
        Extent::Whole(length) => Ok(Parsed::Whole { reply: whole(&bytes[..length]), bytes: length }),
    }
}

/// Whether a refusal says that the same may be granted later.
pub(crate) fn is_for_now(refusal: &[u8]) -> bool {
    const CODES: [&[u8]; 5] = [b"LOADING", b"TRYAGAIN", b"BUSY", b"CLUSTERDOWN", b"MASTERDOWN"];
    CODES.iter().any(|code| refusal.starts_with(code))
}

/// How far the first reply reaches.
enum Extent {
    Whole(usize),
    Partial(usize),
}

/// The first line of a reply or of an item.
#[derive(Clone, Copy)]
enum Header<'a> {
    Line(Reply<'a>),
    /// So many bytes and a line end follow.
    Bulk {
        bytes: usize,
        is_error: bool,
    },
    /// So many items follow.
    Items(u64),
}

fn extent(bytes: &[u8]) -> Result<Extent, Malformed> {
    let mut at = 0;
    let mut items_left = 1_u64;
    while items_left > 0 {
        let Some((header, length)) = header(bytes, at)? else { return Ok(Extent::Partial(bytes.len() + 1)) };
        at += length;
        items_left -= 1;
        match header {
            Header::Line(_) => {}
            Header::Items(count) => {
                items_left += count;
                if items_left > ITEMS_MAX {
                    return Err(Malformed { offset: at, what: "more items than any command answers with" });
                }
            }
            Header::Bulk { bytes: length, .. } => {
                let end = at + length;
                let Some(line_end) = bytes.get(end..end + 2) else { return Ok(Extent::Partial(end + 2)) };
                if line_end != b"\r\n" {
                    return Err(Malformed { offset: end, what: "a bulk string without its line end" });
                }
                at = end + 2;
            }
        }
    }
    Ok(Extent::Whole(at))
}

/// What the line at `at` says, and how long it is; none while its end is missing.
fn header(bytes: &[u8], at: usize) -> Result<Option<(Header<'_>, usize)>, Malformed> {
    let malformed = |what| Malformed { offset: at, what };
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\r') else {
        // Told at the first byte, before a line of anything is waited for.
        if rest.first().is_some_and(|kind| !KINDS.contains(kind)) {
            return Err(malformed("no type of a reply begins so"));
        }
        return if rest.len() >= LINE_BYTES_MAX { Err(malformed("a line without an end")) } else { Ok(None) };
    };
    match rest.get(end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(malformed("a carriage return that ends no line")),
    }
    let Some((kind, line)) = rest[..end].split_first() else { return Err(malformed("an empty line")) };
    let length = |max: u64| {
        let count = number(line).and_then(|count| u64::try_from(count).ok()).filter(|count| *count <= max);
        count.ok_or_else(|| malformed("a length that is no number, or beyond every limit"))
    };
    let bulk = |is_error| {
        let bytes = length(BULK_BYTES_MAX)?;
        let bytes = usize::try_from(bytes).map_err(|_| malformed("a length beyond this machine's"))?;
        Ok(Header::Bulk { bytes, is_error })
    };
    let header = match kind {
        b'$' | b'*' if line == b"-1" => Header::Line(Reply::Null),
        b'_' => Header::Line(Reply::Null),
        b'+' | b',' | b'#' | b'(' => Header::Line(Reply::Simple(line)),
        b'-' => Header::Line(Reply::Error(line)),
        b':' => {
            Header::Line(Reply::Integer(number(line).ok_or_else(|| malformed("an integer that is none"))?))
        }
        b'$' | b'=' => bulk(false)?,
        b'!' => bulk(true)?,
        b'*' | b'~' => Header::Items(length(ITEMS_MAX)?),
        b'%' => Header::Items(length(ITEMS_MAX)? * 2),
        _ => return Err(malformed("no type of a reply begins so")),
    };
    Ok(Some((header, end + 2)))
}

const KINDS: &[u8] = b"+-:$*_,#(=!~%";

/// The reply that `bytes` are, which were measured.
fn whole(bytes: &[u8]) -> Reply<'_> {
    let Ok(Some((header, length))) = header(bytes, 0) else { unreachable!("it was read before") };
    match header {
        Header::Line(reply) => reply,
        Header::Items(count) => Reply::Array(Items { count, bytes: &bytes[length..] }),
        Header::Bulk { bytes: content, is_error: false } => Reply::Bulk(&bytes[length..length + content]),
        Header::Bulk { bytes: content, is_error: true } => Reply::Error(&bytes[length..length + content]),
    }
}

/// Digits and perhaps a sign; Redis sends nothing else.
fn number(digits: &[u8]) -> Option<i64> {
    if digits.first() == Some(&b'+') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Items<'_> {
    /// How many there are.
    pub(crate) const fn left(&self) -> u64 {
        self.count
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        self.count = self.count.checked_sub(1)?;
        let Ok(Extent::Whole(length)) = extent(self.bytes) else { unreachable!("all items were measured") };
        let (item, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Some(whole(item))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the answer: {}", self.offset, self.what)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// A reply as a tree, for the model: encodes itself.
    #[derive(PartialEq, Debug)]
    enum Tree {
        Simple(Vec<u8>),
        Error(Vec<u8>),
        Integer(i64),
        Bulk(Vec<u8>),
        Null,
        Array(Vec<Tree>),
    }

    impl Tree {
        fn any(random: &mut Rng, depth: u32) -> Self {
            let text = |random: &mut Rng| (0..random.usize(0..20)).map(|_| random.u8(b' '..=b'~')).collect();
            match random.u8(0..if depth == 0 { 5 } else { 6 }) {
                0 => Self::Simple(text(random)),
                1 => Self::Error(text(random)),
                2 => Self::Integer(random.i64(..)),
                3 => Self::Bulk((0..random.usize(0..300)).map(|_| random.u8(..)).collect()),
                4 => Self::Null,
                _ => Self::Array((0..random.u8(0..5)).map(|_| Self::any(random, depth - 1)).collect()),
            }
        }

        fn encode(&self, out: &mut Vec<u8>) {
            match self {
                Self::Simple(text) => out.extend([b"+", &text[..], b"\r\n"].concat()),
                Self::Error(text) => out.extend([b"-", &text[..], b"\r\n"].concat()),
                Self::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
                Self::Bulk(bytes) => {
                    out.extend(format!("${}\r\n", bytes.len()).bytes());
                    out.extend([bytes, &b"\r\n"[..]].concat());
                }
                Self::Null => out.extend(b"$-1\r\n"),
                Self::Array(items) => {
                    out.extend(format!("*{}\r\n", items.len()).bytes());
                    items.iter().for_each(|item| item.encode(out));
                }
            }
        }

        fn of(reply: Reply<'_>) -> Self {
            match reply {
                Reply::Simple(text) => Self::Simple(text.to_vec()),
                Reply::Error(text) => Self::Error(text.to_vec()),
                Reply::Integer(number) => Self::Integer(number),
                Reply::Bulk(bytes) => Self::Bulk(bytes.to_vec()),
                Reply::Null => Self::Null,
                Reply::Array(items) => Self::Array(items.map(Self::of).collect()),
            }
        }
    }

    #[test]
    fn what_was_encoded_is_parsed_and_every_prefix_of_it_is_partial() {
        let mut random = Rng::with_seed(21);
        for round in 0..2000 {
            let tree = Tree::any(&mut random, 3);
            let mut bytes = Vec::new();
            tree.encode(&mut bytes);
            let length = bytes.len();
            bytes.extend(b"+next\r\n");
            let Ok(Parsed::Whole { reply, bytes: parsed }) = parse(&bytes) else {
                panic!("{round}: {tree:?}")
            };
            assert_eq!((Tree::of(reply), parsed), (tree, length), "round {round}");
            for cut in 0..length {
                match parse(&bytes[..cut]) {
                    Ok(Parsed::Partial { bytes_min }) => assert!(cut < bytes_min && bytes_min <= length),
                    other => panic!("round {round} cut at {cut}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic_and_never_reach_beyond_the_end() {
        let mut random = Rng::with_seed(22);
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            Tree::any(&mut random, 2).encode(&mut bytes);
            for _ in 0..random.u8(1..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = if random.bool() {
                    random.u8(..)
                } else {
                    *random.choice(b"0123456789-\r\n$*%").unwrap()
                };
            }
            if let Ok(Parsed::Whole { reply, bytes: length }) = parse(&bytes) {
                assert!(length <= bytes.len());
                Tree::of(reply);
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_named() {
        let line = [b"+", &vec![b'x'; LINE_BYTES_MAX][..]].concat();
        let cases: [(&[u8], &str); 13] = [
            (b"HTTP/1.1 400", "no type"),
            (b"?\r\n", "no type"),
            (b"\r\n", "an empty line"),
            (b"+a\rb", "carriage return"),
            (b"$x\r\n", "a length"),
            (b"$-2\r\n", "a length"),
            (b"$+2\r\nab\r\n", "a length"),
            (b"$536870913\r\n", "a length"),
            (b"*99999999999999999999\r\n", "a length"),
            (b"$2\r\nabc\r\n", "without its line end"),
            (b":1.5\r\n", "an integer"),
            (b"*1048576\r\n*2\r\n", "more items"),
            (&line, "a line without an end"),
        ];
        for (bytes, expected) in cases {
            let error = parse(bytes).expect_err("malformed");
            assert!(error.to_string().contains(expected), "{}: {error}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_types_of_resp3_are_taken_for_their_like() {
        let parsed = |bytes| match parse(bytes) {
            Ok(Parsed::Whole { reply, bytes: length }) if length == bytes.len() => Tree::of(reply),
            other => panic!("{other:?}"),
        };
        assert_eq!(parsed(b"_\r\n"), Tree::Null);
        assert_eq!(parsed(b"*-1\r\n"), Tree::Null);
        assert_eq!(parsed(b",1.5\r\n"), Tree::Simple(b"1.5".to_vec()));
        assert_eq!(parsed(b"=5\r\ntxt:a\r\n"), Tree::Bulk(b"txt:a".to_vec()));
        assert_eq!(parsed(b"!3\r\nERR\r\n"), Tree::Error(b"ERR".to_vec()));
        let pair = vec![Tree::Integer(1), Tree::Null];
        assert_eq!(parsed(b"%1\r\n:1\r\n_\r\n"), Tree::Array(pair));
    }
}
