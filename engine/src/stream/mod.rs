//! One entity on its way from one partition to another: a base, then the log from there on, until nothing is missing.
//!
//! `frame` is what is said and its bytes, `sender` and `receiver` what each side may say next. No I/O: who drives them
//! reads rows, applies them and carries frames, in a channel between two cores or over a network.
//!
//! ```text
//! sender    Open  Base..  BaseEnd  Log..        Last         Done | Abort
//! receiver  Ack   Ack..   Ack      Ack..        Ack: durable
//! ```
//!
//! Frames are numbered from 1, without a gap, and each is acknowledged once it has been carried out: a base frame when
//! it is in a file, a log frame when it is in the log's buffer, the last one when everything is durable. `Abort` may be
//! said at any time before `Done`.
//!
//! Invariants:
//! - what was not acknowledged is bounded in number and in bytes;
//! - the receiver carries out nothing twice, nothing out of order, and nothing behind a gap.

pub mod frame;
pub mod receiver;
pub mod sender;

#[cfg(test)]
mod tests;

pub use self::frame::{FRAME_BYTES_MAX, Frame, Message, Opening};
pub use self::receiver::{Receiver, Step};
pub use self::sender::Sender;

/// The other side said what it may not say: the stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stream of a move: {what}, in frame {number}")]
pub struct Violation {
    /// The frame's number.
    pub number: u64,
    /// What is wrong with it.
    pub what: &'static str,
}
