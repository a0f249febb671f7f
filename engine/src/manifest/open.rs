//! Opening a manifest: what is torn and cut, and what is corrupt (R2).
//!
//! The witness is the last edit that a durable batch of the log carries; the log still holds whatever later edits
//! made unneeded, and the segments they removed. Hence:
//!
//! | found | then |
//! |---|---|
//! | no file, or no file that begins with a whole snapshot | corrupt |
//! | the newest file's snapshot is not whole, the file before it ends at or above the witness | the newest was never finished: removed |
//! | the chain of edits ends below the witness | corrupt |
//! | the chain ends at or above the witness, and something follows | torn: cut, overwritten with zeros |
//! | a whole edit that contradicts the state, of another partition, or of an unknown format | corrupt |

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::frame::{Chain, Damage, read_chain};
use super::state::State;
use super::{FILE_BYTES_MAX, FILE_PREFIX, Location, Manifest, PIECE_BYTES, Tail, give_up_file, path_of};
use crate::error::{Error, Result};
use crate::ids::EditNumber;
use crate::io::buffer::{ALIGNMENT, AlignedBuf, align_up};
use crate::io::disk::{File, OpenMode, Write};

/// Something torn that was cut: no acknowledged write was in it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where it was cut; 0: it was removed.
    pub offset: u64,
    /// What was wrong there.
    pub what: &'static str,
}

struct Read {
    number: u64,
    path: PathBuf,
    file: Rc<dyn File>,
    bytes: AlignedBuf,
    chain: Chain,
}

impl Manifest {
    /// Opens the manifest in `place`; `witness` is the last edit that the log proves durable (0: none). What was torn
    /// is cut, durably, and returned.
    ///
    /// # Errors
    /// [`Error::Corrupt`] by the table above, [`Error::Io`] from the disk.
    pub async fn open(place: Location, witness: EditNumber) -> Result<(Self, Vec<Cut>)> {
        let numbers = numbers(&place).await?;
        let mut cuts = Vec::new();
        let mut found = None;
        let mut older = numbers.as_slice();
        while let Some((&number, rest)) = older.split_last() {
            older = rest;
            let read = read(&place, number).await?;
            if let Some(Damage::Foreign(what)) = read.chain.damage {
                return Err(Error::corrupt(read.path, read.chain.end, what));
            }
            if let Some(last) = read.chain.frames.last().map(|(_, frame)| frame.number) {
                found = Some((read, last));
                break;
            }
            let what = read.chain.damage.map_or("no edit", Damage::what);
            cuts.push(Cut { path: read.path, offset: 0, what });
        }
        let Some((read, last)) = found else { return Err(nothing_whole(&place, &cuts)) };
        if last < witness {
            return Err(ends_early(&read, last, witness, &cuts));
        }
        let state = replay(&read)?;
        for &newer in &numbers[older.len() + 1..] {
            give_up_file(&place, newer).await?;
        }
        cuts.extend(cut_tail(&read).await?);
        for cut in &cuts {
            let (path, offset, what) = (cut.path.display(), cut.offset, cut.what);
            tracing::warn!(%path, offset, what, "a torn manifest edit was cut; the log has what it said");
        }
        // What was read may not be durable yet, if the process died and the machine did not.
        read.file.sync().await?;
        place.disk.sync_dir(&place.dir).await?;
        let old = older.iter().map(|&number| (number, read.chain.frames[0].1.number)).collect();
        let tail = Tail {
            file_number: read.number,
            end: read.chain.end,
            soiled_end: read.chain.end,
            size: read.bytes.len() as u64,
            last,
            checksum: read.chain.checksum,
            file: read.file,
        };
        let manifest = Self::assemble(place, state, tail, old);
        manifest.witnessed(witness).await?;
        Ok((manifest, cuts))
    }
}

/// The numbers of the manifest files in `place`, ascending.
pub(super) async fn numbers(place: &Location) -> Result<Vec<u64>> {
    let names = place.disk.list(&place.dir).await?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number of the manifest file of this name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(FILE_PREFIX)?;
    // Other spellings of a number are not ours.
    digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
}

async fn read(place: &Location, number: u64) -> Result<Read> {
    let path = path_of(&place.dir, number);
    let file = place.disk.open(&path, OpenMode::ReadWrite).await?;
    let size = file.size().await?;
    if size > FILE_BYTES_MAX {
        return Err(Error::corrupt(path, 0, format!("{size} bytes: no manifest file is that long")));
    }
    let len = usize::try_from(size).expect("bounded above");
    let mut bytes = AlignedBuf::zeroed(len);
    if len > 0 {
        let (buf, count) = file.read_at(bytes, 0).await;
        count?;
        bytes = buf;
    }
    let chain = read_chain(&bytes, place.partition);
    Ok(Read { number, path, file, bytes, chain })
}

fn replay(read: &Read) -> Result<State> {
    let mut state = State::default();
    for (offset, frame) in &read.chain.frames {
        if let Err(what) = state.check(&frame.edit) {
            return Err(Error::corrupt(&read.path, *offset, format!("edit {} {what}", frame.number)));
        }
        state.apply(frame.edit.clone());
    }
    Ok(state)
}

/// Overwrites what follows the chain. Left there, it could one day follow a later edit.
async fn cut_tail(read: &Read) -> Result<Option<Cut>> {
    let start = usize::try_from(read.chain.end).expect("within the buffer");
    let rest = &read.bytes[start..];
    let Some(last) = rest.iter().rposition(|&b| b != 0) else { return Ok(None) };
    let end = start + align_up(last + 1);
    for at in (start..end).step_by(PIECE_BYTES) {
        let zeros = AlignedBuf::zeroed(PIECE_BYTES.min(end - at));
        read.file.write_at(zeros, at as u64, Write::Plain).await.1?;
    }
    let what = read.chain.damage.map_or("bytes after the last edit", Damage::what);
    Ok(Some(Cut { path: read.path.clone(), offset: read.chain.end, what }))
}

fn nothing_whole(place: &Location, cuts: &[Cut]) -> Error {
    match cuts.first() {
        Some(cut) => Error::corrupt(&cut.path, 0, format!("no manifest file is whole: {}", cut.what)),
        None => Error::corrupt(&place.dir, 0, "no manifest"),
    }
}

fn ends_early(read: &Read, last: EditNumber, witness: EditNumber, cuts: &[Cut]) -> Error {
    let (path, offset, what): (&Path, u64, &str) = match cuts.first() {
        Some(newest) => (&newest.path, 0, newest.what),
        None => (&read.path, read.chain.end, read.chain.damage.map_or("nothing follows", Damage::what)),
    };
    Error::corrupt(
        path,
        offset,
        format!("the manifest ends with edit {last}, the log proves edit {witness} durable: {what}"),
    )
}

const _: () = assert!(PIECE_BYTES.is_multiple_of(ALIGNMENT), "pieces are written as they are");
