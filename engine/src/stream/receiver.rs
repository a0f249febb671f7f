//! The side of a stream that gets the entity.

use super::Violation;
use super::frame::{Frame, Message, Opening};
use crate::ids::{MoveId, Version};
use crate::wal::RowSet;

/// What has arrived, and what of it was carried out.
#[derive(Debug)]
pub struct Receiver {
    id: MoveId,
    /// The last frame that came, and the last one that was carried out.
    came: u64,
    carried_out: u64,
    base_rows: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Base,
    Log,
    Last,
    Ended,
}

/// What is to be carried out next.
#[derive(Debug)]
pub enum Step {
    /// Rows of the base, in storage order over all of its frames.
    Base(RowSet),
    /// The base is complete.
    BaseEnd {
        /// None of its rows has a larger version.
        version: Version,
        /// The source's partition time.
        time_ms: u64,
    },
    /// Rows to apply.
    Log(RowSet),
    /// Everything is to be made durable, later versions and times only to be given out.
    Last {
        /// The largest version that the source gave out.
        version: Version,
        /// Its partition time.
        time_ms: u64,
    },
    /// The entity is owned from here on.
    Done,
    /// All of it is to be removed.
    Abort,
}

impl Receiver {
    /// Of the first frame: what comes. It is acknowledged like any other.
    ///
    /// # Errors
    /// [`Violation`] when it does not open a stream.
    pub fn open(frame: Frame) -> Result<(Self, Opening), Violation> {
        match frame {
            Frame { id, number: 1, message: Message::Open(opening) } => {
                let receiver = Self { id, came: 1, carried_out: 0, base_rows: 0, stage: Stage::Base };
                Ok((receiver, opening))
            }
            Frame { number, .. } => Err(Violation { number, what: "not the first frame of a stream" }),
        }
    }

    /// The next frame, and what is to be done.
    ///
    /// # Errors
    /// [`Violation`], and nothing changes.
    pub fn handle(&mut self, frame: Frame) -> Result<Step, Violation> {
        let Frame { id, number, message } = frame;
        let violation = |what| Err(Violation { number, what });
        if id != self.id {
            return violation("another stream's");
        }
        if number != self.came + 1 {
            return violation("frames are missing before it");
        }
        let step = match (message, self.stage) {
            (Message::Abort, Stage::Base | Stage::Log | Stage::Last) => {
                self.stage = Stage::Ended;
                Step::Abort
            }
            (Message::Base(rows), Stage::Base) => {
                self.base_rows += rows.count();
                Step::Base(rows)
            }
            (Message::BaseEnd { rows, version, time_ms }, Stage::Base) if rows == self.base_rows => {
                self.stage = Stage::Log;
                Step::BaseEnd { version, time_ms }
            }
            (Message::BaseEnd { .. }, Stage::Base) => return violation("rows of the base are missing"),
            (Message::Log(rows), Stage::Log) => Step::Log(rows),
            (Message::Last { version, time_ms }, Stage::Log) => {
                self.stage = Stage::Last;
                Step::Last { version, time_ms }
            }
            (Message::Done, Stage::Last) if self.carried_out == self.came => {
                self.stage = Stage::Ended;
                Step::Done
            }
            (Message::Ack, _) => return violation("a receiver is told no acknowledgements"),
            (
                Message::Open(_)
                | Message::Base(_)
                | Message::BaseEnd { .. }
                | Message::Log(_)
                | Message::Last { .. }
                | Message::Done
                | Message::Abort,
                _,
            ) => return violation("not in its turn"),
        };
        self.came = number;
        Ok(step)
    }

    /// The oldest step that was not is carried out: what to say.
    pub fn carried_out(&mut self) -> Frame {
        assert!(self.carried_out < self.came, "nothing is left to carry out");
        self.carried_out += 1;
        Frame { id: self.id, number: self.carried_out, message: Message::Ack }
    }

    /// Whether it was said how it ends.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }
}
