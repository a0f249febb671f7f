//! Room in a log: who may append how much, who waits for it, and what must be released so that there is some again.
//!
//! A caller's rows wait until they fit besides a reserve; what frees room (witnesses, what transactions under way still
//! have to say) does not wait and uses the reserve. Refuses: to grow past the cap.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::format::BLOCK_BYTES;
use super::log::Wal;
use super::shared::Shared;
use super::tail::Tail;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::io::disk::File;

/// Bytes appended but not on the device above which [`Wal::ready`] waits, in batches: one in flight, one to follow,
/// and as much again so that the device never starves.
const PENDING_BATCHES_MAX: usize = 4;

impl Wal {
    /// Waits until the log takes `bytes` more of a caller's rows: until not too much waits for the device, and there
    /// is room besides what flushes need to free some. Append without an await in between.
    ///
    /// # Errors
    /// [`Error::Full`] when the device has no room for more log; [`Error::Stopped`], [`Error::Closed`];
    /// [`Error::Misuse`] for more than [`Wal::record_bytes_max`].
    pub async fn ready(&self, bytes: usize) -> Result<()> {
        poll_fn(|cx| {
            if let Err(error) = self.shared.check() {
                return Poll::Ready(Err(error));
            }
            match self.shared.admits(bytes) {
                Ok(false) => {
                    let is_news = self.shared.room.borrow().is_empty();
                    register(&self.shared.room, cx.waker());
                    if is_news {
                        self.shared.prepare.raise();
                        self.shared.wake_pressed();
                    }
                    Poll::Pending
                }
                Ok(true) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Whether `bytes` can be appended at once, as [`Wal::ready`] would say.
    ///
    /// # Errors
    /// As [`Wal::ready`].
    pub fn is_ready(&self, bytes: usize) -> Result<bool> {
        self.shared.check()?;
        self.shared.admits(bytes)
    }

    /// Whether a small record that nobody asked room for still has some, without the last blocks, which releasing log
    /// takes.
    #[must_use]
    pub fn has_reserve(&self) -> bool {
        let end = self.shared.tail.borrow().end_with(BLOCK_BYTES).0;
        end + 2 * BLOCK_BYTES as u64 + self.shared.promised.get() <= self.shared.space.borrow().limit().0
    }

    /// Keeps room for `bytes` that will be appended without asking: what a transaction still has to log once it has
    /// logged its rows. Given back by [`Wal::redeem`].
    pub fn promise(&self, bytes: u64) {
        let promised = &self.shared.promised;
        promised.set(promised.get() + bytes);
    }

    /// What was promised has been appended, or never will be.
    pub fn redeem(&self, bytes: u64) {
        let promised = &self.shared.promised;
        assert!(bytes <= promised.get(), "promised before");
        promised.set(promised.get() - bytes);
        self.shared.wake_room();
    }

    /// Refuses callers' rows from here on, those that wait for room included: nothing will release log any more. What
    /// is under way may still be appended.
    pub fn refuse(&self, why: Error) {
        let _first = self.shared.refusal.set(why);
        self.shared.wake_room();
    }

    /// Nothing before `upto` is needed any more, once what has been appended so far is on the device: copies, and witnesses of
    /// edits. Files wholly before it are used again once a durable batch says so.
    pub fn release(&self, upto: Lsn) {
        let shared = &self.shared;
        assert!(upto <= shared.tail.borrow().head(), "only what was appended can be released");
        if upto > shared.start_wanted.get() {
            shared.start_wanted.set(upto);
            shared.releases.borrow_mut().push_back((shared.tail.borrow().number(), upto));
        }
        if shared.is_release_due() {
            shared.work.raise();
        }
    }

    /// Whether releasing up to `upto` lets a file be used again.
    #[must_use]
    pub fn frees(&self, upto: Lsn) -> bool {
        let space = self.shared.space.borrow();
        space.live() > 1 && upto >= space.oldest_end() && self.shared.start_wanted.get() < space.oldest_end()
    }

    /// Completes when the log should be released from its oldest end, with the position up to which: everything
    /// before it should be flushed, then released. At once again while that has not happened.
    pub async fn pressed(&self) -> Lsn {
        poll_fn(|cx| match self.pressure() {
            Some(upto) => Poll::Ready(upto),
            None => {
                register(&self.shared.pressed, cx.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// The position that must be released for room, if it is time.
    #[must_use]
    pub fn pressure(&self) -> Option<Lsn> {
        let space = self.shared.space.borrow();
        let is_full = self.shared.full.get();
        let has_waiters = !self.shared.room.borrow().is_empty();
        let is_last =
            (space.spares() == 0 || has_waiters) && space.live() > 1 && (is_full || !space.can_grow());
        let is_waited_for = is_full || has_waiters;
        let upto = space.oldest_end();
        let is_asked = self.shared.start_wanted.get() >= upto;
        ((space.is_pressed() || is_last && is_waited_for) && !is_asked).then_some(upto)
    }

    /// The largest record that [`Wal::ready`] admits.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.shared.record_bytes_max(&self.shared.tail.borrow())
    }
}

impl Shared {
    /// Whether a caller may append `bytes`.
    fn admits(&self, bytes: usize) -> Result<bool> {
        if let Some(why) = self.refusal.get() {
            return Err(why.clone());
        }
        if self.starved.get() {
            return Err(Error::Full(self.config.dir.as_path().into()));
        }
        let tail = self.tail.borrow();
        let max = self.record_bytes_max(&tail);
        if bytes > max {
            return Err(Error::misuse(format!("{bytes} bytes in one log record: a log file holds {max}")));
        }
        let pending = tail.pending_bytes();
        // One that is longer than batches are does not wait until there are none: others would always be there first.
        let counted = bytes.min(self.config.batch_bytes_max);
        if pending > 0 && pending + counted > PENDING_BATCHES_MAX * self.config.batch_bytes_max {
            return Ok(false);
        }
        if tail.end_with(bytes).0 + self.reserve_bytes() + self.promised.get()
            <= self.space.borrow().limit().0
        {
            return Ok(true);
        }
        if self.full.get() { Err(Error::Full(self.config.dir.as_path().into())) } else { Ok(false) }
    }

    /// Room that [`Wal::ready`] leaves for what flushes and transactions under way append without asking, so that a
    /// full log can be emptied: a thousand batches of a default log's.
    const fn reserve_bytes(&self) -> u64 {
        self.config.file_bytes / 4
    }

    /// What fits an empty slot besides the reserve.
    fn record_bytes_max(&self, tail: &Tail) -> usize {
        let reserve = usize::try_from(self.reserve_bytes()).unwrap_or(usize::MAX);
        tail.record_bytes_max().saturating_sub(reserve + 2 * BLOCK_BYTES)
    }

    /// Whether another file should be made: none is spare, and a quarter of the newest is used or somebody waits.
    pub(super) fn is_file_due(&self) -> bool {
        let space = self.space.borrow();
        let is_waited_for = !self.room.borrow().is_empty();
        // A spare file may be smaller than what is promised to transactions.
        if !space.can_grow() || space.spares() > 0 && !is_waited_for {
            return false;
        }
        // Two at least, so that a log can always go on in another file than the one it frees.
        let used = self.written_end.get().0 % self.config.file_bytes;
        space.files() < 2 || is_waited_for || used >= self.config.file_bytes / 4 || self.needs_file()
    }

    /// Whether what was appended goes beyond the files there are.
    fn needs_file(&self) -> bool {
        self.tail.borrow().end_with(0) > self.space.borrow().limit()
    }

    /// A file has joined, written up to `zeroed_bytes`.
    pub(super) fn joined(&self, file: Rc<dyn File>, zeroed_bytes: u64) {
        let number = self.files.borrow().len();
        self.files.borrow_mut().push(file);
        self.zeroes.joined(zeroed_bytes);
        self.space.borrow_mut().add(number);
        self.spare.raise();
        self.wake_room();
    }

    pub(super) fn wake_room(&self) {
        let waiters = std::mem::take(&mut *self.room.borrow_mut());
        waiters.into_iter().for_each(Waker::wake);
    }

    pub(super) fn wake_pressed(&self) {
        let waiters = std::mem::take(&mut *self.pressed.borrow_mut());
        waiters.into_iter().for_each(Waker::wake);
    }
}

fn register(waiters: &RefCell<Vec<Waker>>, waker: &Waker) {
    let mut waiters = waiters.borrow_mut();
    if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
        waiters.push(waker.clone());
    }
}
