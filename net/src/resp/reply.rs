//! Replies, as RESP2 or RESP3 has them.
//!
//! A reply is appended to the connection's output. Aggregates are announced by their count; the writer trusts its
//! caller to append as many.

/// Which protocol a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// Before HELLO 3.
    #[default]
    Resp2,
    /// After it.
    Resp3,
}

/// A connection's replies that are gathered are no longer than this and one string: what comes after is left out, and
/// whoever gathers them says so instead. A hash of a million short fields fits.
pub const REPLY_BYTES_MAX: usize = 256 << 20;

/// Appends replies.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// Appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// What the client speaks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status: text without a line end.
    pub fn status(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code first. Line ends in it, which may be a client's, become blanks.
    pub fn error(&mut self, text: &str) {
        self.out.push(b'-');
        self.out.extend(text.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, n: i64) {
        match n {
            // What most commands answer.
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => self.line(b':', itoa::Buffer::new().format(n).as_bytes()),
        }
    }

    /// A count.
    pub fn count(&mut self, n: usize) {
        self.integer(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// A string of bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        if self.out.len() > REPLY_BYTES_MAX {
            return;
        }
        self.head(b'$', bytes.len());
        // With its end: two bytes more shall not double a buffer of megabytes.
        self.out.reserve(bytes.len() + 2);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer as a string.
    pub fn bulk_integer(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// A text that is shown as it is: a verbatim string in RESP3.
    pub fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.head(b'=', text.len() + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// No value.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No array.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// `value`, or null.
    pub fn bulk_or_null(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.null(),
        }
    }

    /// An array of `count` replies that follow.
    pub fn array(&mut self, count: usize) {
        self.head(b'*', count);
    }

    /// A set of `count` replies that follow: an array in RESP2.
    pub fn set(&mut self, count: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', count),
            Protocol::Resp3 => self.head(b'~', count),
        }
    }

    /// A map of `pairs` that follow, key and value in turn: a flat array in RESP2.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', 2 * pairs),
            Protocol::Resp3 => self.head(b'%', pairs),
        }
    }

    /// Replies that are complete already.
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.extend_from_slice(replies);
    }

    /// Bytes so far: a place to go back to.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// Forgets everything after `mark`.
    pub fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
    }

    fn head(&mut self, kind: u8, count: usize) {
        self.line(kind, itoa::Buffer::new().format(count).as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_only_resp3_has_degrades() {
        let all = |reply: &mut Reply<'_>| {
            reply.null();
            reply.null_array();
            reply.map(1);
            reply.set(2);
            reply.text("t");
        };
        assert_eq!(written(Protocol::Resp2, all), "$-1\r\n*-1\r\n*2\r\n*2\r\n$1\r\nt\r\n");
        assert_eq!(written(Protocol::Resp3, all), "_\r\n_\r\n%1\r\n~2\r\n=5\r\ntxt:t\r\n");
    }

    #[test]
    fn an_error_stays_on_its_line() {
        assert_eq!(written(Protocol::Resp2, |r| r.error("ERR a\r\nb")), "-ERR a  b\r\n");
    }

    #[test]
    fn integers_keep_their_sign_and_range() {
        let got = written(Protocol::Resp2, |r| [0, 1, -1, i64::MIN].iter().for_each(|n| r.integer(*n)));
        assert_eq!(got, ":0\r\n:1\r\n:-1\r\n:-9223372036854775808\r\n");
    }
}
