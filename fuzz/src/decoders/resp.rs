//! What clients send: commands of RESP, and inline ones. The oracle is the decoder of another library.
//!
//! However the bytes are cut, the same commands are found. Where ours finds an array of strings, the other finds the
//! same; where the other finds one, ours does too, unless a length is written in a way that Redis does not take.

use foreshard_net::resp::{Decoder, Limits, ProtocolError, Step};
use redis_protocol::resp2::types::OwnedFrame;

use crate::memory::bounded;

const LIMITS: Limits = Limits { arguments: 64, bulk_bytes: 512, command_bytes: 2048 };

/// One command: where it began, how long it was, and its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    start: usize,
    len: usize,
    args: Vec<Vec<u8>>,
}

/// A client's bytes; the first says how they are cut.
pub fn commands(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let whole = decode(data, data.len().max(1));
    let parts = decode(data, usize::from(cut % 16) + 1);
    assert_eq!(parts, whole, "cut every {} bytes", cut % 16 + 1);
    let (found, error) = whole;
    for command in &found {
        let bytes = &data[command.start..];
        if bytes[0] == b'*' {
            assert_eq!(theirs(bytes), Some((command.args.clone(), command.len)), "{}", bytes.escape_ascii());
        }
        encoded_again(command);
    }
    let rest = found.last().map_or(0, |last| last.start + last.len);
    if error.is_none() && data.get(rest) == Some(&b'*') {
        // Ours waits for more: so must the other, for what it would take for a command.
        let taken = theirs(&data[rest..]);
        assert!(taken.is_none_or(|(args, _)| args.is_empty()), "{}", data[rest..].escape_ascii());
    }
}

/// All commands of `data`, shown `step` bytes at a time, and the error that ended them.
fn decode(data: &[u8], step: usize) -> (Vec<Found>, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let (mut found, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        // Places of arguments take sixteen bytes, in a vector that doubles; inline arguments are copied.
        let bytes_max = 3 * 16 * (LIMITS.arguments + 1) + 3 * data.len() + 1024;
        match bounded(bytes_max, || decoder.step(&data[start..end], &LIMITS)) {
            Err(e) => return (found, Some(e)),
            Ok(Step::More) if end == data.len() => return (found, None),
            Ok(Step::More) => end = (end + step).min(data.len()),
            Ok(Step::Empty { len }) => {
                assert!(len > 0);
                start += len;
            }
            Ok(Step::Command { len }) => {
                let args: Vec<Vec<u8>> =
                    decoder.args(&data[start..end]).from(0).map(<[u8]>::to_vec).collect();
                assert!(!args.is_empty() && args.len() <= LIMITS.arguments && len > 0);
                found.push(Found { start, len, args });
                start += len;
            }
        }
    }
}

/// What the other library finds, if it is an array of strings.
fn theirs(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (frame, len) = redis_protocol::resp2::decode::decode(bytes).ok()??;
    let OwnedFrame::Array(elements) = frame else { return None };
    let strings = elements.into_iter().map(|element| match element {
        OwnedFrame::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    strings.collect::<Option<_>>().map(|args| (args, len))
}

/// A command, written as every client does, is found again.
fn encoded_again(command: &Found) {
    let mut bytes = format!("*{}\r\n", command.args.len()).into_bytes();
    for arg in &command.args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    if bytes.len() <= LIMITS.command_bytes {
        let (again, error) = decode(&bytes, bytes.len());
        assert!(error.is_none() || command.args.iter().any(|arg| arg.len() > LIMITS.bulk_bytes));
        assert!(error.is_some() || again[0].args == command.args && again[0].len == bytes.len());
    }
}
