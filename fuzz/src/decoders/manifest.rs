//! A manifest file: a chain of edits, and what they say together.

use foreshard_engine::ids::PartitionId;
use foreshard_engine::manifest::{
    Edit, FORMAT_VERSION, FORMAT_VERSION_WHOLE, Found, State, decode, read_chain,
};

use super::{checksum_without, u32_at};
use crate::memory::bounded;

const VERSION_AT: usize = 4;
const PARTITION_AT: usize = 8;
const LENGTH_AT: usize = 12;
const PREVIOUS_AT: usize = 24;
const CHECKSUM_AT: usize = 28;
const HEADER_BYTES: usize = 32;
const BLOCK_BYTES: usize = 4096;

/// Tries the input as an edit, as a file, and as a file whose edits are put on their blocks and chained rightly.
pub fn chain(data: &[u8]) {
    edit(data);
    file(data);
    file(&relaid(data));
}

fn edit(data: &[u8]) {
    // An added segment takes at least 88 bytes on disk, in memory some 220 and its keys; a range takes 4 and 48, a name 2
    // and 24.
    let room = 16 * data.len() + 256;
    // What format 1 says is written as format 2 says it.
    if let Ok(old) = bounded(room, || Edit::decode(data, FORMAT_VERSION_WHOLE)) {
        let mut again = Vec::new();
        old.encode(&mut again);
        assert_eq!(Edit::decode(&again, FORMAT_VERSION).as_ref(), Ok(&old));
    }
    let Ok(edit) = bounded(room, || Edit::decode(data, FORMAT_VERSION)) else { return };
    let mut again = Vec::new();
    edit.encode(&mut again);
    assert_eq!(again, data, "an edit has one encoding");
}

fn file(bytes: &[u8]) {
    let partition = u32_at(bytes, PARTITION_AT).and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
    let chain = bounded(64 * bytes.len() + 1024, || read_chain(bytes, PartitionId(partition)));
    let mut state = State::default();
    for (offset, frame) in &chain.frames {
        let at = usize::try_from(*offset).expect("inside the input");
        let (again, checksum) = frame.encode();
        let is_current = bytes[at + VERSION_AT] == FORMAT_VERSION.to_le_bytes()[0];
        if !is_current {
            let Found::Whole(found, ..) = decode(&again) else { panic!("what is read is written whole") };
            assert_eq!(&*found, frame);
        } else {
            assert_eq!(again, &bytes[at..at + again.len()], "a frame has one encoding");
        }
        match decode(&bytes[at..]) {
            Found::Whole(found, found_checksum, len) => {
                assert_eq!(&*found, frame);
                assert!(!is_current || (found_checksum, len) == (checksum, again.len()));
            }
            other => panic!("{other:?} where the chain has an edit"),
        }
        if state.check(&frame.edit).is_err() {
            break;
        }
        state.apply(frame.edit.clone());
    }
    let mut snapshot = State::default();
    let edit = state.snapshot();
    assert_eq!(snapshot.check(&edit), Ok(()), "a state's snapshot applies to an empty one");
    snapshot.apply(edit);
    assert_eq!(snapshot, state);
}

/// The input's edits, each padded to whole blocks, with its checksum and that of the edit before it.
fn relaid(mut data: &[u8]) -> Vec<u8> {
    let (mut out, mut previous) = (Vec::new(), None);
    while let Some(length) = u32_at(data, LENGTH_AT) {
        let Some((frame, rest)) = data.split_at_checked(HEADER_BYTES.saturating_add(length)) else { break };
        let mut frame = frame.to_vec();
        if let Some(previous) = previous {
            frame[PREVIOUS_AT..PREVIOUS_AT + 4].copy_from_slice(&u32::to_le_bytes(previous));
        }
        let checksum = checksum_without(&frame, CHECKSUM_AT);
        frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        previous = Some(checksum);
        frame.resize(frame.len().next_multiple_of(BLOCK_BYTES), 0);
        out.extend_from_slice(&frame);
        data = rest;
    }
    out.extend_from_slice(data);
    out
}
