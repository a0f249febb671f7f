//! What a crash leaves of a memory disk.

use std::path::PathBuf;

use super::image::{Change, Image, Inode, Node, put, put_names};
use crate::io::disk::Write;

/// What happens to what was not durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashMode {
    /// All of it is lost: the least a power cut leaves.
    Lose,
    /// All that had completed is kept, nothing in flight: the process was killed, and what it wrote has become durable.
    Keep,
    /// The process was killed, and nothing has become durable by that: all that had completed is seen, of what was in
    /// flight an arbitrary part, and a later crash may take it. Whoever acts on what it reads makes it durable first.
    Kill,
    /// Each write is dropped, kept or torn at sectors, in any order; each change of names is kept or not; operations
    /// in flight may have happened, in whole or in part.
    Scramble,
}

/// The image a restart finds.
pub(super) fn crash(
    mut image: Image,
    in_flight: impl Iterator<Item = Change>,
    random: &mut fastrand::Rng,
    mode: CrashMode,
) -> Image {
    if matches!(mode, CrashMode::Scramble | CrashMode::Kill) {
        let mut in_flight: Vec<Change> = in_flight.filter(|_| random.bool()).collect();
        random.shuffle(&mut in_flight);
        for change in in_flight.into_iter().filter_map(unsynced) {
            // One that would have failed changes nothing.
            let _ = image.apply(change);
        }
    }
    if mode == CrashMode::Kill {
        for inode in image.inodes.values_mut() {
            inode.handles = 0;
        }
        image.collect();
        return image;
    }
    let mut names = image.durable.clone();
    for pending in &image.pending {
        if keep(mode, random) {
            put_names(&mut names, pending.changes());
        }
    }
    // A name whose directory is not there cannot be reached.
    let reachable =
        |path: &PathBuf| path.ancestors().skip(1).all(|dir| is_root(dir) || names.contains_key(dir));
    let names =
        names.iter().filter(|(path, _)| reachable(path)).map(|(path, node)| (path.clone(), *node)).collect();
    let mut left = Image { live: names, pending: Vec::new(), ..image };
    left.durable = left.live.clone();
    for inode in left.inodes.values_mut() {
        *inode = crashed_file(inode, random, mode);
    }
    left.collect();
    left
}

fn crashed_file(inode: &Inode, random: &mut fastrand::Rng, mode: CrashMode) -> Inode {
    let mut content = inode.durable.clone();
    let mut pending: Vec<_> = inode.pending.iter().collect();
    if mode == CrashMode::Scramble {
        random.shuffle(&mut pending);
    }
    for write in pending {
        match mode {
            CrashMode::Lose => {}
            CrashMode::Keep | CrashMode::Kill => put(&mut content, write.offset, &write.bytes),
            CrashMode::Scramble => match random.u8(..3) {
                0 => {}
                1 => put(&mut content, write.offset, &write.bytes),
                _ => tear(&mut content, write.offset, &write.bytes, random),
            },
        }
    }
    Inode { live: content.clone(), durable: content, allocated: inode.allocated, ..Inode::default() }
}

/// Writes some of the sectors.
fn tear(content: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut fastrand::Rng) {
    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        if random.bool() {
            put(content, offset + number * SECTOR_BYTES, sector);
        }
    }
}

/// An operation in flight, had it happened without being durable.
fn unsynced(change: Change) -> Option<Change> {
    match change {
        Change::Write { inode, offset, bytes, .. } => {
            Some(Change::Write { inode, offset, bytes, durability: Write::Plain })
        }
        Change::Sync { .. } | Change::SyncDir { .. } => None,
        Change::Allocate { .. }
        | Change::Create { .. }
        | Change::CreateDir { .. }
        | Change::Rename { .. }
        | Change::Link { .. }
        | Change::Remove { .. }
        | Change::RemoveDir { .. } => Some(change),
    }
}

fn keep(mode: CrashMode, random: &mut fastrand::Rng) -> bool {
    match mode {
        CrashMode::Lose => false,
        CrashMode::Keep | CrashMode::Kill => true,
        CrashMode::Scramble => random.bool(),
    }
}

fn is_root(dir: &std::path::Path) -> bool {
    dir.parent().is_none() || dir.as_os_str().is_empty()
}

impl Image {
    /// Forgets which of a file's visible writes were never made durable: no later sync makes them so.
    pub(super) fn lose_unsynced(&mut self, path: &std::path::Path) {
        if let Some(Node::File(inode)) = self.live.get(path) {
            let inode = *inode;
            self.inode_mut(inode).pending.clear();
        }
    }
}

/// What a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;
