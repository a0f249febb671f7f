//! A file of the entity-partition table's log: a chain of frames, and what they say together.

use foreshard_engine::ids::TableVersion;
use foreshard_engine::superblock::StoreId;
use foreshard_engine::table::frame::{Body, Found, Frame, Rest, choose, decode, read_chain};
use foreshard_engine::table::{Change, FRAME_HEADER_BYTES, State};

use super::{checksum_without, u32_at};
use crate::memory::bounded;

const STORE_AT: usize = 16;
const VERSION_AT: usize = 32;
const PREVIOUS_AT: usize = 40;
const LENGTH_AT: usize = 44;
const FORMAT_AT: usize = 8;
const CHECKSUM_AT: usize = 12;
const FORMAT_WRITTEN: usize = 2;
/// A partition takes 40 bytes on disk, a guest 15: in memory a cache line, its part of two pages with their gaps and of
/// the nodes above them, and all of that again while a page is made anew.
const MEMORY_TIMES: usize = 64;
const GUEST_BYTES_MIN: usize = 15;
const BLOCK_BYTES: usize = 4096;

/// Tries the input as a state, as a change, as a file, and as a file whose frames are put on their blocks and chained
/// rightly.
pub fn chain(data: &[u8]) {
    let mut again = Vec::new();
    // A guest may be the first in a chunk of the filter, of which there are 64.
    let chunks = (data.len() / GUEST_BYTES_MIN).min(64);
    let memory = MEMORY_TIMES * data.len() + chunks * (16 << 10) + 4096;
    if let Ok((state, reserved)) = bounded(memory, || State::decode(TableVersion(7), data)) {
        state.encode(reserved, &mut again);
        assert_eq!(again, data, "a state has one encoding");
        assert_eq!(again.len(), state.encoded_bytes());
        assert_eq!((state.check(), state.check_entities()), (Ok(()), Ok(())), "what is decoded may be");
    }
    again.clear();
    if let Ok(change) = bounded(memory, || Change::decode(data)) {
        change.encode(&mut again);
        assert_eq!(again, data, "a change has one encoding");
    }
    file(data);
    file(&relaid(data));
}

fn file(bytes: &[u8]) {
    let store = bytes.get(STORE_AT..).and_then(<[u8]>::first_chunk).map_or([0; 16], |id| *id);
    let mut state: Option<State> = None;
    let chain = read_chain(bytes, StoreId(store), |offset, frame| {
        let at = usize::try_from(offset).expect("inside the input");
        let (again, checksum) = frame.encode();
        if u32_at(&bytes[at..], FORMAT_AT) == Some(FORMAT_WRITTEN) {
            assert_eq!(again, &bytes[at..at + again.len()], "a frame has one encoding");
            is(&bytes[at..], frame, checksum, again.len());
        }
        is(&again, frame, checksum, again.len());
        state = match &frame.body {
            Body::Snapshot(state, _) => Some(state.clone()),
            Body::Change(change) => {
                Some(state.take().expect("after a snapshot").after(change).expect("checked"))
            }
            Body::Mark => panic!("a mark is no part of the chain"),
        };
    });
    assert_eq!(chain.state, state, "the chain's state is what its frames say");
    let lawful = |state: &State| (state.check(), state.check_entities()) == (Ok(()), Ok(()));
    assert!(chain.state.as_ref().is_none_or(lawful), "whatever changes lead there");
    if let Ok(chosen) = choose([&chain, &chain]) {
        assert!(chain.state.is_some() && !matches!(chain.rest, Rest::Corrupt(_)), "file {chosen}");
    }
}

/// Checks that `frame` begins `bytes`.
fn is(bytes: &[u8], frame: &Frame, checksum: u32, len: usize) {
    match decode(bytes) {
        Found::Whole(found, found_checksum, found_len) => {
            assert_eq!((&*found, found_checksum, found_len), (frame, checksum, len));
        }
        other => panic!("{other:?} where the chain has a frame"),
    }
}

/// The input's frames, each padded to whole blocks, of the first one's store, and chained.
fn relaid(mut data: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let mut before: Option<(u32, u64, [u8; 16])> = None;
    while let Some(length) = u32_at(data, LENGTH_AT) {
        let Some((frame, rest)) = data.split_at_checked(FRAME_HEADER_BYTES.saturating_add(length)) else {
            break;
        };
        let mut frame = frame.to_vec();
        let version = u64::from_le_bytes(frame[VERSION_AT..VERSION_AT + 8].try_into().expect("eight bytes"));
        let (previous, version, store) = match before {
            Some((checksum, version, store)) => (checksum, version.wrapping_add(1), store),
            None => (0, version, frame[STORE_AT..STORE_AT + 16].try_into().expect("sixteen bytes")),
        };
        frame[STORE_AT..STORE_AT + 16].copy_from_slice(&store);
        frame[VERSION_AT..VERSION_AT + 8].copy_from_slice(&version.to_le_bytes());
        frame[PREVIOUS_AT..PREVIOUS_AT + 4].copy_from_slice(&previous.to_le_bytes());
        let checksum = checksum_without(&frame, CHECKSUM_AT);
        frame[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        before = Some((checksum, version, store));
        frame.resize(frame.len().next_multiple_of(BLOCK_BYTES), 0);
        out.extend_from_slice(&frame);
        data = rest;
    }
    out.extend_from_slice(data);
    out
}
