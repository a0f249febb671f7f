//! Two sides in one place, and frames that are lost, repeated or out of turn.

use super::*;
use crate::entry::Expiry;
use crate::ids::{Epoch, MoveId, PartitionId, Version};
use crate::wal::{RowOp, RowSet};

const ID: MoveId = MoveId(7);

fn opening() -> Opening {
    let (from, to) = ((PartitionId(1), Epoch(1)), (PartitionId(2), Epoch(3)));
    Opening { entity: b"customer:7".to_vec(), from, to }
}

fn rows(count: u64) -> RowSet {
    let mut set = RowSet::default();
    for n in 1..=count {
        set.push(&RowOp::Put { key: b"key", value: b"value", expiry: Expiry(n % 2), version: Version(n) });
    }
    set
}

fn opened() -> (Sender, Receiver) {
    let (mut sender, frame) = Sender::open(ID, opening());
    let (mut receiver, got) = Receiver::open(frame).unwrap();
    assert_eq!(got, opening());
    sender.handle(&receiver.carried_out()).unwrap();
    (sender, receiver)
}

fn carry(sender: &mut Sender, receiver: &mut Receiver, frame: Frame) -> Step {
    let step = receiver.handle(frame).unwrap();
    sender.handle(&receiver.carried_out()).unwrap();
    step
}

#[test]
fn a_whole_stream_comes_through_in_its_order() {
    let (mut sender, mut receiver) = opened();
    for count in [3, 1] {
        let frame = sender.base(rows(count));
        let Step::Base(got) = carry(&mut sender, &mut receiver, frame) else { panic!("the base") };
        assert_eq!(got.count(), count);
    }
    let frame = sender.base_end(Version(8), 3);
    assert!(matches!(
        carry(&mut sender, &mut receiver, frame),
        Step::BaseEnd { version: Version(8), time_ms: 3 }
    ));
    let frame = sender.log(rows(2));
    assert!(matches!(carry(&mut sender, &mut receiver, frame), Step::Log(_)));
    let frame = sender.last(Version(9), 4);
    let step = carry(&mut sender, &mut receiver, frame);
    assert!(matches!(step, Step::Last { version: Version(9), time_ms: 4 }));
    let frame = sender.done();
    assert!(matches!(carry(&mut sender, &mut receiver, frame), Step::Done));
    assert!(receiver.is_ended() && sender.is_settled());
}

#[test]
fn no_more_than_two_frames_are_under_way() {
    let (mut sender, mut receiver) = opened();
    let first = sender.base(rows(1));
    assert!(sender.may_send());
    let second = sender.base(rows(1));
    assert!(!sender.may_send());
    receiver.handle(first).unwrap();
    receiver.handle(second).unwrap();
    sender.handle(&receiver.carried_out()).unwrap();
    assert!(sender.may_send() && !sender.is_settled());
}

#[test]
fn a_gap_a_repetition_and_a_frame_out_of_turn_change_nothing() {
    let (mut sender, mut receiver) = opened();
    let lost = sender.base(rows(1));
    let next = sender.base(rows(1));
    assert_eq!(receiver.handle(next).unwrap_err().what, "frames are missing before it");
    receiver.handle(lost).unwrap();
    let again = Frame { id: ID, number: 2, message: Message::Base(rows(1)) };
    assert_eq!(receiver.handle(again).unwrap_err().what, "frames are missing before it");
    for (message, what) in [
        (Message::Log(rows(1)), "not in its turn"),
        (Message::Done, "not in its turn"),
        (Message::Last { version: Version(1), time_ms: 1 }, "not in its turn"),
        (Message::BaseEnd { rows: 2, version: Version(4), time_ms: 6 }, "rows of the base are missing"),
        (Message::Ack, "a receiver is told no acknowledgements"),
    ] {
        let violation = receiver.handle(Frame { id: ID, number: 3, message }).unwrap_err();
        assert_eq!((violation.number, violation.what), (3, what));
    }
    let other = Frame { id: MoveId(8), number: 3, message: Message::Abort };
    assert_eq!(receiver.handle(other).unwrap_err().what, "another stream's");
    let end =
        Frame { id: ID, number: 3, message: Message::BaseEnd { rows: 1, version: Version(4), time_ms: 6 } };
    assert!(matches!(receiver.handle(end), Ok(Step::BaseEnd { .. })));
}

#[test]
fn nobody_owns_what_is_not_durable_yet() {
    let (mut sender, mut receiver) = opened();
    let frame = sender.base_end(Version(8), 3);
    carry(&mut sender, &mut receiver, frame);
    let last = sender.last(Version(1), 1);
    let number = last.number;
    receiver.handle(last).unwrap();
    let early = Frame { id: ID, number: number + 1, message: Message::Done };
    assert_eq!(receiver.handle(early).unwrap_err().what, "not in its turn");
    receiver.carried_out();
    let done = Frame { id: ID, number: number + 1, message: Message::Done };
    assert!(matches!(receiver.handle(done), Ok(Step::Done)));
    let abort = Frame { id: ID, number: number + 2, message: Message::Abort };
    assert_eq!(receiver.handle(abort).unwrap_err().what, "not in its turn");
}

#[test]
fn acknowledgements_come_in_order_and_of_what_was_said() {
    let (mut sender, _) = opened();
    let ack = |number| Frame { id: ID, number, message: Message::Ack };
    assert_eq!(sender.handle(&ack(2)).unwrap_err().what, "acknowledgement out of order");
    let _said = [sender.base(rows(1)), sender.base(rows(1))];
    assert_eq!(sender.handle(&ack(3)).unwrap_err().what, "acknowledgement out of order");
    sender.handle(&ack(2)).unwrap();
    assert_eq!(sender.handle(&ack(2)).unwrap_err().what, "acknowledgement out of order");
    let abort = Frame { id: ID, number: 3, message: Message::Abort };
    assert_eq!(sender.handle(&abort).unwrap_err().what, "a sender is told acknowledgements alone");
}

#[test]
fn the_bytes_of_a_frame_are_these() {
    let mut bytes = Vec::new();
    Frame { id: ID, number: 2, message: Message::BaseEnd { rows: 5, version: Version(4), time_ms: 6 } }
        .encode(&mut bytes);
    let head = [b"FSST".as_slice(), &[1, 3, 0, 0], &7_u64.to_le_bytes(), &2_u64.to_le_bytes()].concat();
    assert_eq!(bytes[..24], head);
    assert_eq!(bytes[24..28], 24_u32.to_le_bytes());
    assert_eq!(bytes[32..], [5_u64, 4, 6].map(u64::to_le_bytes).concat());
}

#[test]
fn every_frame_is_read_back_and_none_that_was_changed() {
    let messages = [
        Message::Open(opening()),
        Message::Base(rows(2)),
        Message::BaseEnd { rows: 2, version: Version(4), time_ms: 6 },
        Message::Log(rows(1)),
        Message::Last { version: Version(3), time_ms: 9 },
        Message::Done,
        Message::Abort,
        Message::Ack,
    ];
    for (message, number) in messages.into_iter().zip(1..) {
        let (frame, mut bytes) = (Frame { id: ID, number, message }, Vec::new());
        frame.encode(&mut bytes);
        let (got, rest) = Frame::decode(&bytes).unwrap();
        assert!(rest.is_empty());
        let mut again = Vec::new();
        got.encode(&mut again);
        assert_eq!(again, bytes);
        for at in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Frame::decode(&flipped).is_err(), "flipped at {at}");
        }
    }
}
