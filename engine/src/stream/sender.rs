//! The side of a stream that has the entity.

use super::Violation;
use super::frame::{Frame, Message, Opening};
use crate::ids::{MoveId, Version};
use crate::wal::RowSet;

/// Frames that may be under way: one that is carried out while the next is read.
const FRAMES_AHEAD_MAX: u64 = 2;

/// What the sender has said, and what was acknowledged.
#[derive(Debug)]
pub struct Sender {
    id: MoveId,
    said: u64,
    acknowledged: u64,
    base_rows: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Base,
    Log,
    Last,
    Ended,
}

impl Sender {
    /// A stream, and its first frame.
    #[must_use]
    pub const fn open(id: MoveId, opening: Opening) -> (Self, Frame) {
        let sender = Self { id, said: 1, acknowledged: 0, base_rows: 0, stage: Stage::Base };
        (sender, Frame { id, number: 1, message: Message::Open(opening) })
    }

    /// Whether another frame may be said before one is acknowledged.
    #[must_use]
    pub const fn may_send(&self) -> bool {
        self.said - self.acknowledged < FRAMES_AHEAD_MAX
    }

    /// Whether everything said was acknowledged.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.said == self.acknowledged
    }

    /// Rows of the base.
    pub fn base(&mut self, rows: RowSet) -> Frame {
        assert_eq!(self.stage, Stage::Base, "the base comes first");
        self.base_rows += rows.count();
        self.say(Message::Base(rows))
    }

    /// The base has ended; no version in it is larger, and no time.
    pub fn base_end(&mut self, version: Version, time_ms: u64) -> Frame {
        assert_eq!(self.stage, Stage::Base, "it ends once");
        self.stage = Stage::Log;
        self.say(Message::BaseEnd { rows: self.base_rows, version, time_ms })
    }

    /// Rows of the log.
    pub fn log(&mut self, rows: RowSet) -> Frame {
        assert_eq!(self.stage, Stage::Log, "between the base and the last frame");
        self.say(Message::Log(rows))
    }

    /// Nothing comes any more.
    pub fn last(&mut self, version: Version, time_ms: u64) -> Frame {
        assert_eq!(self.stage, Stage::Log, "after the base, once");
        self.stage = Stage::Last;
        self.say(Message::Last { version, time_ms })
    }

    /// The receiver owns the entity.
    pub fn done(&mut self) -> Frame {
        assert!(self.stage == Stage::Last && self.is_settled(), "everything is durable there");
        self.stage = Stage::Ended;
        self.say(Message::Done)
    }

    /// The receiver is to keep nothing.
    pub fn abort(&mut self) -> Frame {
        assert!(self.stage < Stage::Ended, "it has not ended");
        self.stage = Stage::Ended;
        self.say(Message::Abort)
    }

    fn say(&mut self, message: Message) -> Frame {
        self.said += 1;
        Frame { id: self.id, number: self.said, message }
    }

    /// What the receiver says.
    ///
    /// # Errors
    /// [`Violation`] for anything but the acknowledgement of the oldest frame that has none.
    pub fn handle(&mut self, frame: &Frame) -> Result<(), Violation> {
        let violation = |what| Err(Violation { number: frame.number, what });
        if frame.id != self.id {
            return violation("another stream's");
        }
        if !matches!(frame.message, Message::Ack) {
            return violation("a sender is told acknowledgements alone");
        }
        if frame.number != self.acknowledged + 1 || frame.number > self.said {
            return violation("acknowledgement out of order");
        }
        self.acknowledged = frame.number;
        Ok(())
    }
}
