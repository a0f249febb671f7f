//! What is asked of the kernel, with all the memory it refers to.
//!
//! Invariant: every pointer in an entry made here points into heap memory that its `Request` owns and that does not
//! move when the `Request` does. The queue keeps the request until the kernel is done with it.

use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};

use super::fd::Fd;
use crate::io::buffer::AlignedBuf;
use crate::io::unpark::Unpark;

/// An operation that completes once (or, where it says so, many times).
#[derive(Debug)]
pub(super) enum Request {
    /// Into `buf` from byte `from` on.
    Read {
        fd: Rc<Fd>,
        buf: AlignedBuf,
        from: usize,
        offset: u64,
    },
    /// Of `buf` from byte `from` on.
    Write {
        fd: Rc<Fd>,
        buf: AlignedBuf,
        from: usize,
        offset: u64,
    },
    /// Data, and what of the metadata is needed to read it back.
    SyncData {
        fd: Rc<Fd>,
    },
    /// Everything; of a directory, its names.
    Sync {
        fd: Rc<Fd>,
    },
    Allocate {
        fd: Rc<Fd>,
        len: u64,
    },
    Open {
        path: CString,
        flags: i32,
    },
    Close {
        fd: RawFd,
        /// Not in the system call that submits it.
        by_worker: bool,
    },
    StatPath {
        path: CString,
        out: Box<StatWords>,
    },
    StatFile {
        fd: Rc<Fd>,
        out: Box<StatWords>,
    },
    Rename {
        from: CString,
        to: CString,
    },
    Link {
        from: CString,
        to: CString,
    },
    Unlink {
        path: CString,
        flags: i32,
    },
    MakeDir {
        path: CString,
    },
    /// Reads the eventfd that other threads write to wake this one.
    Event {
        unpark: Unpark,
        out: Box<[u8; 8]>,
    },
    Accept {
        fd: Rc<Fd>,
    },
    /// Completes for each connection.
    AcceptMany {
        fd: Rc<Fd>,
    },
    Receive {
        fd: Rc<Fd>,
        buf: Box<[u8]>,
    },
    /// Completes for each buffer of the group that was filled.
    ReceiveMany {
        fd: Rc<Fd>,
        group: u16,
    },
    /// Completes once, with a buffer of the group.
    ReceiveOne {
        fd: Rc<Fd>,
        group: u16,
        bytes_max: u32,
    },
    Send {
        fd: Rc<Fd>,
        bytes: Vec<u8>,
        from: usize,
    },
    /// Of the operation with this user data; its own completion is of no interest.
    Cancel {
        target: u64,
    },
}

impl Request {
    /// The kernel's form of it. `&mut`: some of what it points to is written by the kernel.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        match self {
            Self::Read { fd, buf, from, offset } => {
                let rest = &mut buf[*from..];
                opcode::Read::new(fd.target(), rest.as_mut_ptr(), length(rest)).offset(*offset).build()
            }
            Self::Write { fd, buf, from, offset } => {
                let rest = &buf[*from..];
                opcode::Write::new(fd.target(), rest.as_ptr(), length(rest)).offset(*offset).build()
            }
            Self::SyncData { fd } => {
                opcode::Fsync::new(fd.target()).flags(types::FsyncFlags::DATASYNC).build()
            }
            Self::Sync { fd } => opcode::Fsync::new(fd.target()).build(),
            Self::Allocate { fd, len } => {
                opcode::Fallocate::new(fd.target(), *len).mode(FALLOC_FL_KEEP_SIZE).build()
            }
            Self::Accept { fd } => {
                let none = std::ptr::null_mut();
                opcode::Accept::new(fd.target(), none, std::ptr::null_mut()).flags(SOCK_CLOEXEC).build()
            }
            Self::AcceptMany { fd } => opcode::AcceptMulti::new(fd.target()).flags(SOCK_CLOEXEC).build(),
            Self::Receive { fd, buf } => {
                opcode::Recv::new(fd.target(), buf.as_mut_ptr(), length(buf)).build()
            }
            Self::ReceiveMany { fd, group } => opcode::RecvMulti::new(fd.target(), *group).build(),
            Self::ReceiveOne { fd, group, bytes_max } => {
                let chosen =
                    opcode::Recv::new(fd.target(), std::ptr::null_mut(), *bytes_max).buf_group(*group);
                chosen.build().flags(squeue::Flags::BUFFER_SELECT)
            }
            Self::Send { fd, bytes, from } => {
                let rest = &bytes[*from..];
                opcode::Send::new(fd.target(), rest.as_ptr(), length(rest)).flags(MSG_NOSIGNAL).build()
            }
            Self::Cancel { target } => opcode::AsyncCancel::new(*target).build(),
            Self::Event { unpark, out } => {
                opcode::Read::new(types::Fd(unpark.event_fd()), out.as_mut_ptr(), length(&**out)).build()
            }
            Self::Close { .. }
            | Self::Open { .. }
            | Self::StatPath { .. }
            | Self::StatFile { .. }
            | Self::Rename { .. }
            | Self::Link { .. }
            | Self::Unlink { .. }
            | Self::MakeDir { .. } => self.path_entry(),
        }
    }

    /// Those about names.
    fn path_entry(&mut self) -> squeue::Entry {
        let here = types::Fd(AT_FDCWD);
        match self {
            Self::Open { path, flags } => {
                opcode::OpenAt::new(here, path.as_ptr()).flags(*flags).mode(FILE_MODE).build()
            }
            Self::Close { fd, by_worker } => {
                let close = opcode::Close::new(types::Fd(*fd)).build();
                if *by_worker { close.flags(squeue::Flags::ASYNC) } else { close }
            }
            Self::StatPath { path, out } => {
                let out: *mut StatWords = &raw mut **out;
                opcode::Statx::new(here, path.as_ptr(), out.cast()).mask(STATX_WANTED).build()
            }
            Self::StatFile { fd, out } => {
                let out: *mut StatWords = &raw mut **out;
                opcode::Statx::new(fd.target(), c"".as_ptr(), out.cast())
                    .flags(AT_EMPTY_PATH)
                    .mask(STATX_WANTED)
                    .build()
            }
            Self::Rename { from, to } => {
                opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build()
            }
            Self::Link { from, to } => opcode::LinkAt::new(here, from.as_ptr(), here, to.as_ptr()).build(),
            Self::Unlink { path, flags } => opcode::UnlinkAt::new(here, path.as_ptr()).flags(*flags).build(),
            Self::MakeDir { path } => opcode::MkDirAt::new(here, path.as_ptr()).mode(DIR_MODE).build(),
            Self::Read { .. }
            | Self::Write { .. }
            | Self::SyncData { .. }
            | Self::Sync { .. }
            | Self::Allocate { .. }
            | Self::Event { .. }
            | Self::Accept { .. }
            | Self::AcceptMany { .. }
            | Self::Receive { .. }
            | Self::ReceiveMany { .. }
            | Self::ReceiveOne { .. }
            | Self::Send { .. }
            | Self::Cancel { .. } => unreachable!("not about a name"),
        }
    }

    /// Whether a result of zero or more is a file descriptor that somebody must close.
    pub(super) const fn opens(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Accept { .. } | Self::AcceptMany { .. })
    }
}

/// The kernel's `struct statx`: 256 bytes, of which only a few are of interest.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct StatWords {
    words: [u64; 32],
}

impl StatWords {
    /// The file's length.
    pub(super) const fn size(&self) -> u64 {
        self.words[5]
    }

    /// Alignment that O_DIRECT asks of memory and of offsets; None where the kernel does not say (before 6.1).
    pub(super) fn direct_alignment(&self) -> Option<(u32, u32)> {
        let [mask, _] = halves(self.words[0]);
        let [memory, offset] = halves(self.words[19]);
        (mask & STATX_DIOALIGN != 0).then_some((memory, offset))
    }
}

/// The two 32-bit fields of a word, in the order of their addresses.
#[expect(clippy::cast_possible_truncation, reason = "each half is cut out on purpose")]
const fn halves(word: u64) -> [u32; 2] {
    let (low, high) = (word as u32, (word >> 32) as u32);
    if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("one operation moves less than 4 GiB")
}

impl Fd {
    fn target(&self) -> types::Fd {
        types::Fd(self.as_raw_fd())
    }
}

const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: i32 = 0x1000;
const FALLOC_FL_KEEP_SIZE: i32 = 1;
const SOCK_CLOEXEC: i32 = 0o2_000_000;
const MSG_NOSIGNAL: i32 = 0x4000;
const STATX_DIOALIGN: u32 = 0x2000;
/// Size, type and O_DIRECT alignment.
const STATX_WANTED: u32 = 0x0200 | 0x0001 | STATX_DIOALIGN;
/// Readable by all, as the directory allows.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

const _: () = assert!(size_of::<StatWords>() == 256, "the kernel writes a whole struct statx");
