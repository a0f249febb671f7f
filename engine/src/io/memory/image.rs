//! The two images of a memory disk: what readers see, and what a power cut is certain to leave.
//!
//! Between them lie the *pending* changes: completed, visible, and not durable. A sync moves a file's pending writes,
//! `sync_dir` a directory's pending names, from pending to durable; a crash keeps an arbitrary part of the rest.
//! Stricter than any one device on purpose:
//! - `Write::Synced` makes only its own bytes durable (a device may do so with FUA), not earlier writes of the file;
//! - names of one directory become durable in any order until it is synced;
//! - rename is atomic, as every journaling file system has it.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use crate::io::disk::Write;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct InodeId(u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    File(InodeId),
    Dir,
}

/// A completed write that is not durable.
#[derive(Clone, Debug)]
pub(super) struct PendingWrite {
    /// When it completed, in completions of the disk.
    completed: u64,
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<PendingWrite>,
    /// Bytes reserved from the start.
    pub(super) allocated: u64,
    pub(super) handles: usize,
}

/// A completed change of names that is not durable: what is where afterwards.
#[derive(Clone, Debug)]
pub(super) struct PendingNames {
    completed: u64,
    /// Applied together or not at all.
    changes: Vec<(PathBuf, Option<Node>)>,
}

/// A change of the disk, as issued.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write {
        inode: InodeId,
        offset: u64,
        bytes: Vec<u8>,
        durability: Write,
    },
    /// Covers what had completed when it was issued.
    Sync {
        inode: InodeId,
        upto: u64,
    },
    Allocate {
        inode: InodeId,
        len: u64,
    },
    Create {
        path: PathBuf,
    },
    CreateDir {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
        upto: u64,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    pub(super) live: BTreeMap<PathBuf, Node>,
    pub(super) durable: BTreeMap<PathBuf, Node>,
    pub(super) pending: Vec<PendingNames>,
    pub(super) capacity: u64,
    pub(super) completions: u64,
    pub(super) inodes_made: u64,
}

impl Image {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Completions so far: what a sync issued at this moment covers.
    pub(super) const fn completions(&self) -> u64 {
        self.completions
    }

    /// Completes a change.
    pub(super) fn apply(&mut self, change: Change) -> Result<()> {
        self.completions += 1;
        match change {
            Change::Write { inode, offset, bytes, durability } => {
                self.write(inode, offset, bytes, durability)
            }
            Change::Sync { inode, upto } => {
                self.inode_mut(inode).sync(upto);
                Ok(())
            }
            Change::Allocate { inode, len } => self.allocate(inode, len),
            Change::Create { path } => self.create(path),
            Change::CreateDir { path } => match self.live.get(&path) {
                Some(Node::Dir) => Ok(()),
                Some(Node::File(_)) => Err(ErrorKind::AlreadyExists.into()),
                None => {
                    self.need_parent(&path)?;
                    self.change_names(vec![(path, Some(Node::Dir))]);
                    Ok(())
                }
            },
            Change::Rename { from, to } => {
                let node = self.live.get(&from).copied().ok_or(ErrorKind::NotFound)?;
                self.need_parent(&to)?;
                if matches!(self.live.get(&to), Some(Node::Dir)) {
                    return Err(ErrorKind::IsADirectory.into());
                }
                if from != to {
                    self.change_names(vec![(from, None), (to, Some(node))]);
                }
                Ok(())
            }
            Change::Link { from, to } => {
                let node = Node::File(self.file(&from)?);
                self.need_free(&to)?;
                self.change_names(vec![(to, Some(node))]);
                Ok(())
            }
            Change::Remove { path } => {
                self.file(&path)?;
                self.change_names(vec![(path, None)]);
                Ok(())
            }
            Change::RemoveDir { path } => {
                if !self.list(&path)?.is_empty() {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                self.change_names(vec![(path, None)]);
                Ok(())
            }
            Change::SyncDir { path, upto } => {
                self.need_dir(&path)?;
                self.sync_dir(&path, upto);
                Ok(())
            }
        }
    }

    fn create(&mut self, path: PathBuf) -> Result<()> {
        self.need_free(&path)?;
        self.inodes_made += 1;
        let id = InodeId(self.inodes_made);
        self.inodes.insert(id, Inode::default());
        self.change_names(vec![(path, Some(Node::File(id)))]);
        Ok(())
    }

    /// The file at `path`.
    pub(super) fn file(&self, path: &Path) -> Result<InodeId> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The file at `path` after a power cut that loses all it may.
    pub(super) fn durable_file(&self, path: &Path) -> Option<&Inode> {
        match self.durable.get(path) {
            Some(Node::File(inode)) => Some(self.inode(*inode)),
            Some(Node::Dir) | None => None,
        }
    }

    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        self.inodes.get(&id).expect("an inode lives while a name or a handle has it")
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("an inode lives while a name or a handle has it")
    }

    /// A handle was opened.
    pub(super) fn hold(&mut self, id: InodeId) {
        self.inode_mut(id).handles += 1;
    }

    /// A handle was closed.
    pub(super) fn release(&mut self, id: InodeId) {
        self.inode_mut(id).handles -= 1;
        self.collect();
    }

    pub(super) fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.need_dir(dir)?;
        let below = self.live.range(dir.to_path_buf()..).take_while(|(path, _)| path.starts_with(dir));
        let children = below.filter(|(path, _)| path.parent() == Some(dir));
        Ok(children.filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity.saturating_sub(self.used_bytes())
    }

    fn used_bytes(&self) -> u64 {
        let mut named: Vec<InodeId> = self.live.values().filter_map(Node::inode).collect();
        named.sort_unstable();
        let used = |(id, inode): (&InodeId, &Inode)| {
            if inode.handles > 0 || named.binary_search(id).is_ok() {
                inode.allocated.max(inode.live.len() as u64)
            } else {
                0
            }
        };
        self.inodes.iter().map(used).sum()
    }

    /// Refuses to let `inode` take `len` bytes if the device has not that many.
    fn grow(&self, inode: InodeId, len: u64) -> Result<()> {
        let has = self.inode(inode);
        let has = has.allocated.max(has.live.len() as u64);
        if len > has && len - has > self.free_bytes() {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn write(&mut self, inode: InodeId, offset: u64, bytes: Vec<u8>, durability: Write) -> Result<()> {
        self.grow(inode, offset + bytes.len() as u64)?;
        let completed = self.completions;
        let offset = usize::try_from(offset).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        let inode = self.inode_mut(inode);
        put(&mut inode.live, offset, &bytes);
        match durability {
            Write::Plain => inode.pending.push(PendingWrite { completed, offset, bytes }),
            Write::Synced => {
                // Older bytes of the same place must not come back in a crash.
                inode.pending =
                    inode.pending.drain(..).flat_map(|old| old.outside(offset, bytes.len())).collect();
                put(&mut inode.durable, offset, &bytes);
            }
        }
        Ok(())
    }

    fn allocate(&mut self, inode: InodeId, len: u64) -> Result<()> {
        self.grow(inode, len)?;
        let inode = self.inode_mut(inode);
        inode.allocated = inode.allocated.max(len);
        Ok(())
    }

    fn change_names(&mut self, changes: Vec<(PathBuf, Option<Node>)>) {
        put_names(&mut self.live, &changes);
        self.pending.push(PendingNames { completed: self.completions, changes });
        self.collect();
    }

    fn sync_dir(&mut self, dir: &Path, upto: u64) {
        // What is synced drags along what touches the same names before it, or it would be undone by it later.
        let mut names: Vec<PathBuf> = Vec::new();
        let mut synced = vec![false; self.pending.len()];
        for (pending, synced) in self.pending.iter().zip(&mut synced).rev() {
            let here = pending.completed <= upto && pending.touches(|path| path.parent() == Some(dir));
            if here || pending.touches(|path| names.iter().any(|name| name == path)) {
                *synced = true;
                names.extend(pending.changes.iter().map(|(path, _)| path.clone()));
            }
        }
        let mut synced = synced.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            let synced = synced.next().unwrap_or(false);
            if synced {
                put_names(durable, &pending.changes);
            }
            !synced
        });
        self.collect();
    }

    /// Frees inodes that no name, handle or pending name has.
    pub(super) fn collect(&mut self) {
        let mut used: Vec<InodeId> =
            self.live.values().chain(self.durable.values()).filter_map(Node::inode).collect();
        let pending = self.pending.iter().flat_map(|pending| &pending.changes);
        used.extend(pending.filter_map(|(_, node)| node.as_ref()?.inode()));
        used.sort_unstable();
        self.inodes.retain(|id, inode| inode.handles > 0 || used.binary_search(id).is_ok());
    }

    fn need_dir(&self, path: &Path) -> Result<()> {
        match self.live.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None if path.parent().is_none() || path.as_os_str().is_empty() => Ok(()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn need_parent(&self, path: &Path) -> Result<()> {
        path.parent().map_or(Ok(()), |parent| self.need_dir(parent))
    }

    fn need_free(&self, path: &Path) -> Result<()> {
        self.need_parent(path)?;
        if self.live.contains_key(path) { Err(ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }
}

impl Inode {
    /// Makes durable what had completed by `upto`.
    fn sync(&mut self, upto: u64) {
        let durable = &mut self.durable;
        self.pending.retain(|write| {
            let covered = write.completed <= upto;
            if covered {
                put(durable, write.offset, &write.bytes);
            }
            !covered
        });
    }
}

impl Node {
    fn inode(&self) -> Option<InodeId> {
        match self {
            Self::File(inode) => Some(*inode),
            Self::Dir => None,
        }
    }
}

impl PendingWrite {
    /// What of this write lies outside `len` bytes from `offset`.
    fn outside(self, offset: usize, len: usize) -> Vec<Self> {
        let (start, end) = (self.offset, self.offset + self.bytes.len());
        let part = |from: usize, to: usize| {
            (from < to).then(|| Self {
                completed: self.completed,
                offset: from,
                bytes: self.bytes[from - start..to - start].to_vec(),
            })
        };
        let (before, after) = (part(start, end.min(offset)), part(start.max(offset + len), end));
        before.into_iter().chain(after).collect()
    }
}

impl PendingNames {
    fn touches(&self, of_interest: impl Fn(&Path) -> bool) -> bool {
        self.changes.iter().any(|(path, _)| of_interest(path))
    }

    pub(super) fn changes(&self) -> &[(PathBuf, Option<Node>)] {
        &self.changes
    }
}

/// Writes `bytes` at `offset`, with zeros in a gap before it.
pub(super) fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// Applies a change of names.
pub(super) fn put_names(names: &mut BTreeMap<PathBuf, Node>, changes: &[(PathBuf, Option<Node>)]) {
    for (path, node) in changes {
        match node {
            Some(node) => drop(names.insert(path.clone(), *node)),
            None => drop(names.remove(path)),
        }
    }
}
