//! A file of the table's log: a snapshot, then changes, each on 4 KiB blocks of its own, chained by their checksums;
//! and after the last, once it is known to be durable, a mark that says so.
//!
//! It reads bytes and does no I/O. `engine/FORMAT.md`, "Table", owns the layout and the argument.
//!
//! Invariants:
//! - every bit of a frame's blocks is covered: by its checksum, or by padding that must be zero;
//! - no frame of another store is taken for one of this one's.

use std::cmp::Ordering;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::change::Change;
use super::codec::old;
use super::state::State;
use crate::ids::TableVersion;
use crate::io::buffer::{ALIGNMENT, align_up};
use crate::superblock::StoreId;
use crate::wal::format::checksum_without;

/// What a frame says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Everything, as of the frame's version; with what each file has at least, bytes. The first of every file, and
    /// only that.
    Snapshot(State, u64),
    /// What led to the frame's version.
    Change(Change),
    /// Everything up to the frame's version is durable. The next change is written over it.
    Mark,
}

/// A frame as it lies in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Whose it is.
    pub store: StoreId,
    /// The table's version at this frame.
    pub version: TableVersion,
    /// Checksum of the frame before it in the file; 0 for the snapshot.
    pub previous: u32,
    /// What it says.
    pub body: Body,
}

/// What lies at a place where a frame may begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A frame, its checksum, and the bytes of its blocks.
    Whole(Box<Frame>, u32, usize),
    /// Nothing was written there.
    Unused,
    /// Something else: a frame that was being written, or damage.
    Damaged(&'static str),
    /// Whole, and no frame of this format.
    Foreign(&'static str),
}

/// What follows the last frame of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Nothing.
    Unused,
    /// The mark: every frame before it is durable.
    Marked,
    /// A frame that was being written when the store stopped.
    Torn(&'static str),
    /// A frame that something later in the file proves durable is not what was written.
    Corrupt(String),
}

/// One file, as far as its chain is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// What its frames say together; none if it does not begin with a whole snapshot.
    pub state: Option<State>,
    /// The version of its snapshot.
    pub snapshot: TableVersion,
    /// What its snapshot says that every file has, bytes.
    pub reserved_bytes: u64,
    /// How long the file is.
    pub file_bytes: u64,
    /// Its frames' offsets and versions.
    pub frames: Vec<(u64, TableVersion)>,
    /// Checksum of the last of them.
    pub checksum: u32,
    /// Where they end.
    pub end: u64,
    /// What is there.
    pub rest: Rest,
}

impl Frame {
    /// The frame's blocks, and its checksum.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = vec![0; FRAME_HEADER_BYTES];
        let kind = match &self.body {
            Body::Snapshot(state, reserved_bytes) => {
                state.encode(*reserved_bytes, &mut out);
                SNAPSHOT
            }
            Body::Change(change) => {
                change.encode(&mut out);
                CHANGE
            }
            Body::Mark => MARK,
        };
        let header =
            Header { previous: U32::new(self.previous), ..Header::of(self.store, self.version, kind) };
        let header = Header { length: length(out.len() - FRAME_HEADER_BYTES), ..header };
        out[..FRAME_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let checksum = checksum_without(&out, CHECKSUM_AT);
        out[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        out.resize(align_up(out.len()), 0);
        (out, checksum)
    }
}

/// A snapshot's frame without a checksum, up to where its guests begin.
pub(super) fn snapshot_head(store: StoreId, state: &State, reserved_bytes: u64) -> Vec<u8> {
    let header =
        Header { length: length(state.encoded_bytes()), ..Header::of(store, state.version, SNAPSHOT) };
    let mut out = header.as_bytes().to_vec();
    state.encode_head(reserved_bytes, &mut out);
    out
}

/// What lies at the start of `bytes`, the rest of a file from a multiple of 4 KiB on.
#[must_use]
pub fn decode(bytes: &[u8]) -> Found {
    if bytes.iter().take(ALIGNMENT).all(|&b| b == 0) {
        return Found::Unused;
    }
    let Ok((header, rest)) = Header::ref_from_prefix(bytes) else {
        return Found::Damaged("less than a header");
    };
    if header.magic != MAGIC {
        return Found::Damaged("no frame begins here");
    }
    let length = header.length.get() as usize;
    let Some(payload) = rest.get(..length) else { return Found::Damaged("longer than the rest of the file") };
    let (covered, padding) = bytes.split_at(FRAME_HEADER_BYTES + length);
    if checksum_without(covered, CHECKSUM_AT) != header.checksum.get() {
        return Found::Damaged("checksum mismatch");
    }
    let len = align_up(covered.len());
    let Some(padding) = padding.get(..len - covered.len()) else {
        return Found::Damaged("its last block is cut off");
    };
    if padding.iter().any(|&b| b != 0) {
        return Found::Damaged("padding is not zero");
    }
    // From here on it is what somebody wrote: no crash explains what is wrong.
    let format = header.format.get();
    if format != FORMAT_VERSION && format != FORMAT_OF_PARTITIONS {
        return Found::Foreign("a format of the table that this program does not know");
    }
    let is_old = format == FORMAT_OF_PARTITIONS;
    if header.reserved != [0; 15] {
        return Found::Foreign("reserved bytes are not zero");
    }
    let version = TableVersion(header.version.get());
    let body = match header.kind {
        SNAPSHOT => {
            let state =
                if is_old { old::decode_state(version, payload) } else { State::decode(version, payload) };
            state.map(|(state, reserved)| Body::Snapshot(state, reserved))
        }
        CHANGE if is_old => old::decode_change(payload).map(Body::Change),
        CHANGE => Change::decode(payload).map(Body::Change),
        MARK if payload.is_empty() => Ok(Body::Mark),
        _ => Err("kind of frame"),
    };
    match body {
        Ok(body) => {
            let frame =
                Frame { store: StoreId(header.store), version, previous: header.previous.get(), body };
            Found::Whole(Box::new(frame), header.checksum.get(), len)
        }
        Err(what) => Found::Foreign(what),
    }
}

/// Follows the chain in a file of `store`, and says what its end is: `each` is given every frame of it in turn.
#[must_use]
pub fn read_chain(bytes: &[u8], store: StoreId, mut each: impl FnMut(u64, &Frame)) -> Chain {
    let mut chain = Chain {
        state: None,
        snapshot: TableVersion(0),
        reserved_bytes: 0,
        file_bytes: bytes.len() as u64,
        frames: Vec::new(),
        checksum: 0,
        end: 0,
        rest: Rest::Unused,
    };
    loop {
        let rest = usize::try_from(chain.end).ok().and_then(|end| bytes.get(end..)).unwrap_or(&[]);
        match decode(rest) {
            Found::Unused => break,
            Found::Damaged(what) => {
                chain.rest = Rest::Torn(what);
                break;
            }
            Found::Foreign(what) => {
                chain.rest = Rest::Corrupt(what.to_owned());
                return chain;
            }
            Found::Whole(frame, checksum, len) => match chain.follow(&frame, store) {
                Ok(true) => {
                    each(chain.end, &frame);
                    chain.frames.push((chain.end, frame.version));
                    chain.checksum = checksum;
                    chain.end += len as u64;
                }
                Ok(false) => {
                    chain.rest = Rest::Marked;
                    break;
                }
                Err(what) => {
                    chain.rest = Rest::Corrupt(what);
                    return chain;
                }
            },
        }
    }
    // A file that was given up has only its first block cleared: what stands behind it is history.
    let is_retired = chain.is_retired();
    if let Some((at, version)) = chain.witness(bytes, store).filter(|_| !is_retired) {
        chain.rest = Rest::Corrupt(format!(
            "version {version} of the table is proved durable at offset {at}, the whole frames end with {}",
            chain.last()
        ));
    }
    chain
}

impl Chain {
    /// The version at its last whole frame; 0: there is none.
    #[must_use]
    pub fn last(&self) -> TableVersion {
        self.frames.last().map_or(TableVersion(0), |last| last.1)
    }

    /// Whether nothing was ever written here, or it was given up.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.frames.is_empty() && self.rest == Rest::Unused
    }

    /// Takes in the frame where the chain ends; false: it is the mark. An error where no crash puts such a frame.
    fn follow(&mut self, frame: &Frame, store: StoreId) -> Result<bool, String> {
        if frame.store != store {
            return Err(format!("a frame of store {}", frame.store));
        }
        let is_first = self.frames.is_empty();
        match (&frame.body, &self.state) {
            (Body::Snapshot(state, reserved), None) if is_first && frame.previous == 0 => {
                self.state = Some(state.clone());
                (self.snapshot, self.reserved_bytes) = (frame.version, *reserved);
                Ok(true)
            }
            (Body::Mark, Some(_)) if (frame.version, frame.previous) == (self.last(), self.checksum) => {
                Ok(false)
            }
            (Body::Change(change), Some(state)) if frame.previous == self.checksum => {
                let next = state.after(change).map_err(|why| why.to_string())?;
                if next.version != frame.version {
                    return Err(format!("a change to version {} after {}", frame.version, state.version));
                }
                self.state = Some(next);
                Ok(true)
            }
            (Body::Snapshot(..) | Body::Mark | Body::Change(_), _) => {
                Err("a whole frame that does not follow the one before it".to_owned())
            }
        }
    }

    /// A whole frame behind the chain's end that nobody writes before a later version than the chain's last is durable.
    fn witness(&self, bytes: &[u8], store: StoreId) -> Option<(u64, TableVersion)> {
        let blocks = (0_u64..).step_by(ALIGNMENT).zip(bytes.chunks(ALIGNMENT));
        let behind =
            blocks.skip_while(|(at, _)| *at < self.end).filter(|(_, block)| block.starts_with(&MAGIC));
        let mut testimonies = behind.filter_map(|(at, _)| {
            let at_byte = usize::try_from(at).ok()?;
            let Found::Whole(frame, ..) = decode(bytes.get(at_byte..)?) else { return None };
            (frame.store == store && frame.version > self.last()).then_some((at, frame.version))
        });
        testimonies.next()
    }
}

/// Which of the log's two files counts, of their chains.
///
/// # Errors
/// The file that is damaged, the offset, and what is wrong with it.
pub fn choose(chains: [&Chain; 2]) -> Result<usize, (usize, u64, String)> {
    let [first, second] = chains;
    let chosen = match (&first.state, &second.state) {
        // What says no more than the other was being made from it: the other counts until it is retired.
        (Some(_), Some(_)) if first.last() == second.last() => usize::from(second.snapshot < first.snapshot),
        (Some(_), Some(_)) => usize::from(first.last() < second.last()),
        (Some(_), None) => 0,
        (None, Some(_)) => 1,
        (None, None) => {
            // Both are made with one length: a shorter one was cut.
            let damaged = match first.file_bytes.cmp(&second.file_bytes) {
                Ordering::Less => 0,
                Ordering::Greater => 1,
                Ordering::Equal => usize::from(first.is_retired()),
            };
            let what = match &chains[damaged].rest {
                Rest::Torn(what) => (*what).to_owned(),
                Rest::Corrupt(what) => what.clone(),
                Rest::Unused | Rest::Marked => "nothing is in it".to_owned(),
            };
            return Err((damaged, 0, format!("no file of the table begins with a whole snapshot: {what}")));
        }
    };
    match &chains[chosen].rest {
        Rest::Corrupt(what) => Err((chosen, chains[chosen].end, what.clone())),
        Rest::Unused | Rest::Marked | Rest::Torn(_) => Ok(chosen),
    }
}

/// A frame's header.
pub const FRAME_HEADER_BYTES: usize = size_of::<Header>();
const MAGIC: [u8; 8] = *b"fsTABLEf";
const FORMAT_VERSION: u32 = 2;
/// Without guests and moves. Frames of it are read; later ones of the same file are of the present format.
const FORMAT_OF_PARTITIONS: u32 = 1;
pub(super) const CHECKSUM_AT: usize = 12;
const SNAPSHOT: u8 = 1;
const CHANGE: u8 = 2;
const MARK: u8 = 3;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    format: U32,
    checksum: U32,
    store: [u8; 16],
    version: U64,
    previous: U32,
    length: U32,
    kind: u8,
    reserved: [u8; 15],
}

impl Header {
    /// Of a frame without a payload or a predecessor.
    fn of(store: StoreId, version: TableVersion, kind: u8) -> Self {
        Self {
            magic: MAGIC,
            format: U32::new(FORMAT_VERSION),
            checksum: U32::ZERO,
            store: store.0,
            version: U64::new(version.0),
            previous: U32::ZERO,
            length: U32::ZERO,
            kind,
            reserved: [0; 15],
        }
    }
}

fn length(len: usize) -> U32 {
    U32::new(u32::try_from(len).expect("a table is below 4 GiB"))
}

const _: () = assert!(std::mem::offset_of!(Header, checksum) == CHECKSUM_AT && FRAME_HEADER_BYTES == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, PartitionId};
    use crate::table::Partitions;

    const STORE: StoreId = StoreId([5; 16]);

    fn frame(version: u64, previous: u32, body: Body) -> (Vec<u8>, u32) {
        Frame { store: STORE, version: TableVersion(version), previous, body }.encode()
    }

    /// Raises the epoch of partition 0.
    fn raise(state: &State) -> Change {
        let id = PartitionId(0);
        let placed = state.partitions[&id].placed;
        let raised = super::super::Placed { epoch: Epoch(placed.epoch.0 + 1), ..placed };
        let seen = vec![(id, state.version_of(id))];
        Partitions { seen, edits: vec![(id, Some(raised))], ..Partitions::default() }.into()
    }

    /// A snapshot, `changes` changes, and the mark; with the state at the end and the frames' offsets.
    fn file(changes: u64, is_marked: bool) -> (Vec<u8>, State) {
        let mut state = State::first(&State::even_ranges(2), 2).unwrap();
        let (mut bytes, mut previous) = frame(1, 0, Body::Snapshot(state.clone(), 1 << 20));
        for _ in 0..changes {
            let change = raise(&state);
            state = state.after(&change).unwrap();
            let (frame, checksum) = frame(state.version.0, previous, Body::Change(change));
            bytes.extend(frame);
            previous = checksum;
        }
        if is_marked {
            bytes.extend(frame(state.version.0, previous, Body::Mark).0);
        }
        bytes.resize(1 << 16, 0);
        (bytes, state)
    }

    fn read(bytes: &[u8]) -> Chain {
        read_chain(bytes, STORE, |_, _| {})
    }

    #[test]
    fn pins_the_bytes_of_a_header() {
        let (bytes, checksum) = frame(9, 0x0a0b_0c0d, Body::Mark);
        let mut expected = b"fsTABLEf\x02\0\0\0".to_vec();
        expected.extend_from_slice(&checksum.to_le_bytes());
        expected.extend_from_slice(&[5; 16]);
        expected.extend_from_slice(&9_u64.to_le_bytes());
        expected.extend_from_slice(&[0x0d, 0x0c, 0x0b, 0x0a, 0, 0, 0, 0, 3]);
        expected.resize(4096, 0);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_file_of_the_format_without_guests_and_moves_is_read() {
        let bytes = include_bytes!("fixtures/format-1");
        let mut kinds = String::new();
        let chain = read_chain(bytes, StoreId(*b"a store of old. "), |_, frame| {
            kinds.push(if matches!(frame.body, Body::Snapshot(..)) { 's' } else { 'c' });
        });
        assert_eq!((kinds.as_str(), &chain.rest), ("scccc", &Rest::Marked));
        let state = chain.state.unwrap();
        assert_eq!((state.version, state.shards, state.next_partition), (TableVersion(5), 3, PartitionId(4)));
        let placed: Vec<_> =
            state.partitions.iter().map(|(id, e)| (id.0, e.placed.shard.0, e.placed.epoch.0)).collect();
        assert_eq!(placed, [(0, 0, 7), (1, 1, 1), (3, 2, 1)]);
        assert!(state.guests.is_empty() && state.moves.is_empty());
    }

    #[test]
    fn a_chain_is_read_to_its_mark() {
        let (bytes, state) = file(3, true);
        let chain = read(&bytes);
        assert_eq!((chain.state.as_ref(), &chain.rest), (Some(&state), &Rest::Marked));
        assert_eq!(chain.frames.len(), 4);
        assert_eq!(read(&file(3, false).0).rest, Rest::Unused);
    }

    #[test]
    fn a_flipped_bit_is_corrupt_below_the_mark_and_torn_without_one() {
        let mut random = fastrand::Rng::with_seed(1);
        let (whole, state) = file(3, true);
        let at = |offset: u64, rng: &mut fastrand::Rng| usize::try_from(offset).unwrap() + rng.usize(..4096);
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            let block = random.u64(..4) * 4096;
            let byte = at(block, &mut random);
            bytes[byte] ^= 1 << random.u8(..8);
            let chain = read(&bytes);
            assert!(matches!(chain.rest, Rest::Corrupt(_)) && chain.end == block, "byte {byte}: {chain:?}");
        }
        for bit in 0..8 * FRAME_HEADER_BYTES {
            let mut bytes = whole.clone();
            bytes[4 * 4096 + bit / 8] ^= 1 << (bit % 8);
            let chain = read(&bytes);
            assert_eq!(chain.state.as_ref(), Some(&state), "a damaged mark costs nothing");
            let (mut bytes, _) = file(3, false);
            bytes[3 * 4096 + bit / 8] ^= 1 << (bit % 8);
            let chain = read(&bytes);
            assert!(matches!(chain.rest, Rest::Torn(_)), "nothing says that it was durable: {chain:?}");
            assert_eq!(chain.last(), TableVersion(3));
        }
    }

    #[test]
    fn a_change_that_reads_as_zeros_is_missed() {
        let (mut bytes, _) = file(3, true);
        bytes[3 * 4096..4 * 4096].fill(0);
        assert!(matches!(read(&bytes).rest, Rest::Corrupt(_)));
    }

    #[test]
    fn whole_frames_that_no_crash_puts_there_are_corrupt() {
        let (bytes, state) = file(1, false);
        let chain = read(&bytes);
        let mut stranger = bytes.clone();
        stranger[..4096].copy_from_slice(
            &Frame {
                store: StoreId([6; 16]),
                version: TableVersion(1),
                previous: 0,
                body: Body::Snapshot(state.clone(), 0),
            }
            .encode()
            .0,
        );
        assert!(matches!(read(&stranger).rest, Rest::Corrupt(_)));
        let change = raise(&state);
        for (version, previous) in [(3, 7), (4, chain.checksum), (2, chain.checksum)] {
            let mut bytes = bytes.clone();
            let next = frame(version, previous, Body::Change(change.clone())).0;
            bytes[2 * 4096..3 * 4096].copy_from_slice(&next);
            assert!(matches!(read(&bytes).rest, Rest::Corrupt(_)), "{version} {previous}");
        }
        let mut unsealed = bytes;
        unsealed[8] = 3;
        let sum = checksum_without(&unsealed[..FRAME_HEADER_BYTES + state.encoded_bytes()], CHECKSUM_AT);
        unsealed[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(
            read(&unsealed).rest,
            Rest::Corrupt("a format of the table that this program does not know".into())
        );
    }

    #[test]
    fn of_two_files_the_one_that_says_more_counts_and_the_older_of_equal_ones() {
        let (longer, state) = file(3, true);
        let (shorter, _) = file(2, true);
        let again = {
            let mut bytes = frame(4, 0, Body::Snapshot(state, 1 << 20)).0;
            bytes.resize(1 << 16, 0);
            bytes
        };
        let (longer, shorter, again) = (read(&longer), read(&shorter), read(&again));
        let (empty, noise) = (read(&[0; 8192]), read(&[7; 8192]));
        assert_eq!(choose([&longer, &shorter]), Ok(0));
        assert_eq!(choose([&shorter, &longer]), Ok(1));
        assert_eq!(choose([&longer, &again]), Ok(0));
        assert_eq!(choose([&again, &longer]), Ok(1));
        assert_eq!(choose([&noise, &again]), Ok(1));
        assert_eq!(choose([&again, &empty]), Ok(0));
        assert_eq!(choose([&empty, &noise]).unwrap_err().0, 1);
        assert_eq!(choose([&noise, &empty]).unwrap_err().0, 0);
        assert!(choose([&empty, &empty]).is_err());
    }
}
