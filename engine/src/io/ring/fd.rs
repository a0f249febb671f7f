//! A file descriptor that the ring closes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};

use super::operation::Request;
use super::queue::Ring;

/// Open until the last operation on it is done and the last handle is gone; then closed without blocking the shard.
#[derive(Debug)]
pub(super) struct Fd {
    fd: Option<OwnedFd>,
    ring: Weak<Ring>,
    by_worker: bool,
}

impl Fd {
    pub(super) fn new(fd: OwnedFd, ring: &Rc<Ring>) -> Rc<Self> {
        Rc::new(Self { fd: Some(fd), ring: Rc::downgrade(ring), by_worker: false })
    }

    /// As [`Fd::new`], of a file with data. Its last close, where it has no name left, frees its blocks, and waits for the
    /// file system's journal: the kernel would do that in the system call that submits the close, at the shard's expense,
    /// so one of its workers is asked to.
    pub(super) fn of_file(fd: OwnedFd, ring: &Rc<Ring>) -> Rc<Self> {
        Rc::new(Self { fd: Some(fd), ring: Rc::downgrade(ring), by_worker: true })
    }

    pub(super) fn borrow(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("it is there until the drop").as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.borrow().as_raw_fd()
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // Without a ring, or while it is borrowed, the descriptor closes itself here and now.
        if let Some(fd) = self.fd.take()
            && let Some(ring) = self.ring.upgrade()
            && ring.accepts()
        {
            ring.forget(Request::Close { fd: fd.into_raw_fd(), by_worker: self.by_worker });
        }
    }
}

/// Takes over a descriptor that an operation returned.
#[expect(unsafe_code, reason = "the kernel hands out descriptors as numbers")]
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "an operation that failed opened nothing");
    // SAFETY: `fd` is the result of an open or accept that nobody else has seen: nobody else owns or closes it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
