//! What the two sides of a stream say, and a receiver that is told it.

use foreshard_engine::stream::{Frame, Receiver};

use super::checksum_without;
use crate::memory::bounded;

const HEADER_BYTES: usize = 32;
const LENGTH_AT: usize = 24;
const CHECKSUM_AT: usize = 28;

/// Tries the input as frames, as they are and with their checksums put right, and tells them to a receiver.
pub fn frames(data: &[u8]) {
    told(data);
    told(&resealed(data));
}

fn told(mut data: &[u8]) {
    let mut receiver: Option<Receiver> = None;
    // Rows are copied into a buffer of whole blocks that doubles.
    while let Ok((frame, rest)) = bounded(4 * data.len() + (64 << 10), || Frame::decode(data)) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, &data[..data.len() - rest.len()], "a frame has one encoding");
        receiver = match receiver.take() {
            None => Receiver::open(frame).ok().map(|(receiver, _)| receiver),
            Some(mut receiver) => {
                if receiver.handle(frame).is_ok() {
                    receiver.carried_out();
                }
                Some(receiver)
            }
        };
        data = rest;
    }
}

/// The input's frames with the right checksums.
fn resealed(mut data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(length) = super::u32_at(data, LENGTH_AT) {
        let Some((frame, rest)) = data.split_at_checked(HEADER_BYTES.saturating_add(length)) else { break };
        let mut frame = frame.to_vec();
        let checksum = checksum_without(&frame, CHECKSUM_AT);
        frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&frame);
        data = rest;
    }
    out.extend_from_slice(data);
    out
}
