//! Commands from bytes, as they arrive: arrays of bulk strings, and inline commands.
//!
//! The caller keeps the bytes and shows them from the start of the command that is not complete yet; the decoder keeps
//! how far it got, so that bytes are looked at once however they are cut. Arguments are places in the caller's bytes;
//! only inline commands, which may be quoted, are copied.
//!
//! Invariants:
//! - nothing is allocated for a length that was announced and has not arrived;
//! - every length is checked against [`Limits`] before the bytes it stands for are waited for;
//! - an error is final: what follows cannot be told apart from data.

use std::ops::Index;

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arguments of one command, its name included.
    pub arguments: usize,
    /// Bytes of one argument.
    pub bulk_bytes: usize,
    /// Bytes of one command, framing included.
    pub command_bytes: usize,
}

impl Limits {
    /// For a client that has yet to authenticate: enough for HELLO with everything in it, as Redis has it.
    pub const UNAUTHENTICATED: Self = Self { arguments: 10, bulk_bytes: 16 << 10, command_bytes: 1 << 18 };

    /// Whether these are for a client that has yet to authenticate.
    #[must_use]
    pub const fn is_unauthenticated(&self) -> bool {
        self.arguments == Self::UNAUTHENTICATED.arguments
    }
}

/// A length line, and an inline command, end within this many bytes. Redis has the same.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What the client sent is not the protocol. The message is Redis's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Protocol error: {0}")]
pub struct ProtocolError(pub String);

/// Where an argument lies in its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    start: usize,
    len: usize,
}

/// What one call found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// The first `len` bytes are a command: see [`Decoder::args`].
    Command {
        /// Bytes it took.
        len: usize,
    },
    /// The first `len` bytes are an empty command, which gets no answer.
    Empty {
        /// Bytes it took.
        len: usize,
    },
}

/// Decodes one client's commands.
#[derive(Debug, Default)]
pub struct Decoder {
    phase: Phase,
    /// Everything before is decoded. From the start of the command.
    at: usize,
    /// No line end lies between `at` and here.
    searched: usize,
    spans: Vec<Span>,
    /// The arguments of an inline command, unquoted; `spans` point here when `is_inline`.
    unquoted: Vec<u8>,
    is_inline: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// At the start of a command.
    #[default]
    Start,
    /// At the line with an argument's length; so many are to come.
    Length { left: usize },
    /// At an argument of `len` bytes; so many are to come, this one included.
    Bulk { left: usize, len: usize },
}

/// The arguments of one command.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    source: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// How many there are, the command's name included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none; no decoded command is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// An argument.
    #[must_use]
    pub fn get(&self, n: usize) -> Option<&'a [u8]> {
        self.spans.get(n).map(|span| self.slice(*span))
    }

    /// All arguments from the `from`-th on.
    pub fn from(&self, from: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let this = *self;
        this.spans.get(from..).unwrap_or_default().iter().map(move |span| this.slice(*span))
    }

    /// The arguments from the `from`-th on, as a command of their own.
    #[must_use]
    pub fn after(&self, from: usize) -> Self {
        Self { source: self.source, spans: self.spans.get(from..).unwrap_or_default() }
    }

    fn slice(&self, span: Span) -> &'a [u8] {
        &self.source[span.start..span.start + span.len]
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    /// The argument, which the command's arity says is there.
    fn index(&self, n: usize) -> &[u8] {
        self.slice(self.spans[n])
    }
}

/// A command kept for later: its own copy of its arguments.
#[derive(Clone, Debug, Default)]
pub struct OwnedArgs {
    source: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedArgs {
    /// A copy of `args`.
    #[must_use]
    pub fn of(args: Args<'_>) -> Self {
        let bytes = args.from(0).map(<[u8]>::len).sum();
        let mut owned = Self { source: Vec::with_capacity(bytes), spans: Vec::with_capacity(args.len()) };
        args.from(0).for_each(|arg| owned.push(arg));
        owned
    }

    /// Adds an argument.
    pub fn push(&mut self, arg: &[u8]) {
        self.spans.push(Span { start: self.source.len(), len: arg.len() });
        self.source.extend_from_slice(arg);
    }

    /// The arguments.
    #[must_use]
    pub fn as_args(&self) -> Args<'_> {
        Args { source: &self.source, spans: &self.spans }
    }

    /// Bytes it holds on to.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.source.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for OwnedArgs {
    fn from_iter<I: IntoIterator<Item = T>>(args: I) -> Self {
        let mut owned = Self::default();
        args.into_iter().for_each(|arg| owned.push(arg.as_ref()));
        owned
    }
}

impl Decoder {
    /// Goes on with the command that starts at `input[0]`; `input` only grows until the command is complete.
    ///
    /// # Errors
    /// What is wrong with it; the decoder is of no use any more.
    pub fn step(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        if self.phase == Phase::Start && self.at == 0 {
            match input.first() {
                None => return Ok(Step::More),
                Some(b'*') => {}
                Some(_) => return self.inline(input, limits),
            }
        }
        loop {
            match self.phase {
                Phase::Start => {
                    let Some(line) = self.line(input, "mbulk count")? else { return Ok(Step::More) };
                    let count = number(&line[1..]).ok_or_else(|| wrong("invalid multibulk length"))?;
                    if count <= 0 {
                        return Ok(self.finish_empty());
                    }
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    if count > limits.arguments {
                        return Err(over(
                            limits,
                            "invalid multibulk length",
                            "unauthenticated multibulk length",
                        ));
                    }
                    self.begin(false);
                    self.phase = Phase::Length { left: count };
                }
                Phase::Length { left: 0 } => return Ok(self.finish()),
                Phase::Length { left } => {
                    let Some(line) = self.line(input, "bulk count")? else { return Ok(Step::More) };
                    let len = bulk_length(line, limits)?;
                    if self.at + len > limits.command_bytes {
                        return Err(wrong("command too long"));
                    }
                    self.phase = Phase::Bulk { left, len };
                }
                Phase::Bulk { left, len } => {
                    let Some(end) = input.get(self.at + len..self.at + len + 2) else {
                        return Ok(Step::More);
                    };
                    if end != b"\r\n" {
                        return Err(wrong("expected CRLF after a bulk string"));
                    }
                    self.spans.push(Span { start: self.at, len });
                    self.skip_to(self.at + len + 2);
                    self.phase = Phase::Length { left: left - 1 };
                }
            }
        }
    }

    /// The arguments of the command that [`Decoder::step`] found at the start of `input`.
    #[must_use]
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        let source = if self.is_inline { &self.unquoted } else { input };
        Args { source, spans: &self.spans }
    }

    /// Whether a command has begun that is not complete.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.phase != Phase::Start || self.searched > 0
    }

    /// The line at `self.at` without its end, once that has arrived; `self.at` is after it then.
    fn line<'a>(&mut self, input: &'a [u8], what: &str) -> Result<Option<&'a [u8]>, ProtocolError> {
        let from = self.searched.max(self.at);
        let Some(cr) = input[from..].iter().position(|&b| b == b'\r').map(|n| from + n) else {
            self.searched = input.len();
            if input.len() - self.at > LINE_BYTES_MAX {
                return Err(wrong(format!("too big {what} string")));
            }
            return Ok(None);
        };
        match input.get(cr + 1) {
            None => {
                self.searched = cr;
                Ok(None)
            }
            Some(b'\n') => {
                let line = &input[self.at..cr];
                self.skip_to(cr + 2);
                Ok(Some(line))
            }
            Some(_) => Err(wrong(format!("expected CRLF after a {what}"))),
        }
    }

    /// A command of one line, its arguments apart by blanks.
    fn inline(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let Some(end) = input[self.searched..].iter().position(|&b| b == b'\n').map(|n| self.searched + n)
        else {
            self.searched = input.len();
            if input.len() > LINE_BYTES_MAX {
                return Err(wrong("too big inline request"));
            }
            return Ok(Step::More);
        };
        if end > LINE_BYTES_MAX {
            return Err(wrong("too big inline request"));
        }
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.begin(true);
        // A zero byte ends the line, as it ends what Redis takes for a string.
        let line = line.split(|&b| b == 0).next().unwrap_or_default();
        split_quoted(line, limits.arguments, &mut self.unquoted, &mut self.spans)
            .ok_or_else(|| wrong("unbalanced quotes in request"))?;
        if self.spans.len() > limits.arguments {
            return Err(over(limits, "invalid multibulk length", "unauthenticated multibulk length"));
        }
        self.at = end + 1;
        Ok(if self.spans.is_empty() { self.finish_empty() } else { self.finish() })
    }

    /// Gives up memory that a long command took, unless one is being decoded.
    pub fn release(&mut self, bytes_max: usize) {
        if !self.is_within() {
            self.spans = kept(std::mem::take(&mut self.spans), bytes_max);
            self.unquoted = kept(std::mem::take(&mut self.unquoted), bytes_max);
        }
    }

    /// Bytes it holds on to.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.unquoted.capacity()
    }

    fn begin(&mut self, is_inline: bool) {
        self.spans.clear();
        self.unquoted.clear();
        self.is_inline = is_inline;
    }

    fn skip_to(&mut self, at: usize) {
        self.at = at;
        self.searched = at;
    }

    fn finish(&mut self) -> Step {
        let len = self.at;
        (self.phase, self.at, self.searched) = (Phase::Start, 0, 0);
        Step::Command { len }
    }

    fn finish_empty(&mut self) -> Step {
        let len = self.at;
        (self.phase, self.at, self.searched) = (Phase::Start, 0, 0);
        Step::Empty { len }
    }
}

/// A buffer for reuse, empty; one that holds more than `bytes_max` is freed.
pub(crate) fn kept<T>(mut buffer: Vec<T>, bytes_max: usize) -> Vec<T> {
    if buffer.capacity() * size_of::<T>() > bytes_max {
        return Vec::new();
    }
    buffer.clear();
    buffer
}

fn wrong(what: impl Into<String>) -> ProtocolError {
    ProtocolError(what.into())
}

fn over(limits: &Limits, what: &str, unauthenticated: &str) -> ProtocolError {
    wrong(if limits.is_unauthenticated() { unauthenticated } else { what })
}

fn bulk_length(line: &[u8], limits: &Limits) -> Result<usize, ProtocolError> {
    let Some((b'$', digits)) = line.split_first() else {
        let got = line.first().map_or_else(|| "\\r".to_owned(), |&b| b.escape_ascii().to_string());
        return Err(wrong(format!("expected '$', got '{got}'")));
    };
    let len =
        number(digits).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| wrong("invalid bulk length"))?;
    if len > limits.bulk_bytes {
        return Err(over(limits, "invalid bulk length", "unauthenticated bulk length"));
    }
    Ok(len)
}

/// A decimal number with nothing around it.
fn number(digits: &[u8]) -> Option<i64> {
    // The usual length has one to four digits.
    if !digits.is_empty() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit) {
        return Some(digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')));
    }
    crate::data::number::parse_integer(digits)
}

/// Splits a line as a shell would, into one word more than `words_max` at most; none where a quote is not closed or is
/// followed by more than a blank.
fn split_quoted(line: &[u8], words_max: usize, out: &mut Vec<u8>, spans: &mut Vec<Span>) -> Option<()> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() || spans.len() > words_max {
            return Some(());
        }
        let start = out.len();
        while let Some((&first, tail)) = rest.split_first() {
            rest = match first {
                b'"' => double_quoted(tail, out)?,
                b'\'' => single_quoted(tail, out)?,
                _ if first.is_ascii_whitespace() => break,
                _ => {
                    out.push(first);
                    tail
                }
            };
        }
        spans.push(Span { start, len: out.len() - start });
    }
}

/// What follows the closing quote, which must be a blank or the end.
fn after_quote(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (&first, tail) = rest.split_first()?;
        rest = tail;
        match first {
            b'"' => return after_quote(rest),
            b'\\' => {
                if let [b'x', high, low, tail @ ..] = rest
                    && let (Some(high), Some(low)) = (hex(*high), hex(*low))
                {
                    out.push(high << 4 | low);
                    rest = tail;
                    continue;
                }
                let (&escaped, tail) = rest.split_first()?;
                rest = tail;
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
            }
            other => out.push(other),
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                out.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return after_quote(tail),
            [first, tail @ ..] => {
                out.push(*first);
                rest = tail;
            }
            [] => return None,
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { arguments: 1024, bulk_bytes: 1 << 20, command_bytes: 1 << 22 };

    /// All commands of `bytes`, shown to the decoder `step` bytes at a time.
    fn commands(bytes: &[u8], step: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut decoder = Decoder::default();
        let (mut found, mut start, mut end) = (Vec::new(), 0, 0);
        loop {
            match decoder.step(&bytes[start..end], &LIMITS)? {
                Step::More if end == bytes.len() => return Ok(found),
                Step::More => end = (end + step).min(bytes.len()),
                Step::Empty { len } => start += len,
                Step::Command { len } => {
                    let args = decoder.args(&bytes[start..end]);
                    found.push(args.from(0).map(<[u8]>::to_vec).collect());
                    start += len;
                }
            }
        }
    }

    fn each_cut(bytes: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let whole = commands(bytes, usize::MAX / 2);
        for step in [1, 2, 3, 7] {
            assert_eq!(commands(bytes, step), whole, "cut every {step} bytes");
        }
        whole
    }

    #[test]
    fn a_pipeline_is_the_same_however_it_is_cut() {
        let got =
            each_cut(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\nPING\r\n\r\n*1\r\n$0\r\n\r\n*-1\r\n").unwrap();
        let want: [&[&[u8]]; 3] = [&[b"GET", b"a"], &[b"PING"], &[b""]];
        assert_eq!(got, want.map(|args| args.iter().map(|a| a.to_vec()).collect::<Vec<_>>()));
    }

    #[test]
    fn inline_arguments_are_unquoted_as_redis_does() {
        let got = each_cut(b"set k \"a\\x41\\n\\\"\" 'it\\'s' \"\"\n  \r\n").unwrap();
        let want: [&[u8]; 5] = [b"set", b"k", b"aA\n\"", b"it's", b""];
        assert_eq!(got, [want.map(<[u8]>::to_vec).to_vec()]);
    }

    #[test]
    fn a_zero_byte_ends_an_inline_command() {
        assert_eq!(each_cut(b"ping\0\0\0 more\n\0\0\n").unwrap(), [[b"ping".to_vec()]]);
    }

    #[test]
    fn what_is_not_the_protocol_is_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1025\r\n", "invalid multibulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$1048577\r\n", "invalid bulk length"),
            (b"*1\r\n$1\r\nabc", "expected CRLF after a bulk string"),
            (b"*1\rx", "expected CRLF after a mbulk count"),
            (b"get \"a\n", "unbalanced quotes in request"),
            (b"get 'a'b\n", "unbalanced quotes in request"),
        ];
        for (bytes, what) in cases {
            assert_eq!(each_cut(bytes), Err(ProtocolError(what.into())), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_its_bound() {
        for first in [b'*', b'x'] {
            let endless = vec![first; LINE_BYTES_MAX + 2];
            assert!(commands(&endless, 4096).is_err());
        }
    }

    #[test]
    fn a_client_without_a_password_may_say_little() {
        let mut decoder = Decoder::default();
        let error = decoder.step(b"*11\r\n", &Limits::UNAUTHENTICATED).unwrap_err();
        assert_eq!(error.to_string(), "Protocol error: unauthenticated multibulk length");
        let mut decoder = Decoder::default();
        let error = decoder.step(b"*1\r\n$16385\r\n", &Limits::UNAUTHENTICATED).unwrap_err();
        assert_eq!(error.to_string(), "Protocol error: unauthenticated bulk length");
    }
}
