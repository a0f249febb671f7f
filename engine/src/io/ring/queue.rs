//! Submission and completion: operations in flight, each with the memory the kernel may touch.
//!
//! Invariants:
//! - a request is owned by its slot from its submission until its last completion, whether anybody waits or not;
//! - a slot is free exactly when the kernel knows nothing of it;
//! - nothing that can run foreign code (a destructor, a waker) runs while the queue is borrowed, except wakers of
//!   this thread's executor, which only schedule.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

use super::buffers::{Buffers, Received};
use super::fd::adopt;
use super::operation::Request;

/// A shard's ring.
pub(super) struct Ring {
    queue: RefCell<Queue>,
    ended: Cell<bool>,
    buffers: OnceCell<Rc<Buffers>>,
}

struct Queue {
    uring: IoUring,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Requests the kernel is done with and nobody waits for: dropped outside the borrow.
    garbage: Vec<Request>,
    /// The next request is the first of a linked pair.
    link_next: bool,
    /// Operations that put something into a receive buffer, which may still wait for its reader.
    unread: Vec<u32>,
    /// Registered with the ring: after it, for fields are dropped in order.
    buffers: Option<Rc<Buffers>>,
}

enum Slot {
    Free,
    Once {
        request: Request,
        waker: Option<Waker>,
    },
    Done {
        request: Request,
        result: i32,
    },
    Many {
        request: Request,
        results: VecDeque<Completion>,
        waker: Option<Waker>,
        ended: bool,
    },
    /// Nobody waits any more.
    Forgotten {
        request: Request,
    },
}

/// One completion of an operation that has many.
#[derive(Debug)]
pub(super) struct Completion {
    /// Zero or more, or the negated error number.
    pub(super) result: i32,
    /// What it put into a provided buffer.
    pub(super) received: Option<Received>,
}

impl Ring {
    pub(super) fn new(uring: IoUring) -> Rc<Self> {
        let (slots, free, garbage) = (Vec::new(), Vec::new(), Vec::new());
        let queue =
            Queue { uring, slots, free, garbage, link_next: false, unread: Vec::new(), buffers: None };
        Rc::new(Self { queue: RefCell::new(queue), ended: Cell::new(false), buffers: OnceCell::new() })
    }

    /// Starts an operation that completes once.
    pub(super) fn start(self: &Rc<Self>, request: Request) -> Operation {
        if self.ended.get() {
            return Operation { ring: Rc::clone(self), state: OperationState::Refused(Some(request)) };
        }
        let slot = self.queue.borrow_mut().start(|request| Slot::Once { request, waker: None }, request);
        Operation { ring: Rc::clone(self), state: OperationState::Started(slot) }
    }

    /// Starts two operations of which the second begins when the first has succeeded in full, and else is cancelled.
    pub(super) fn start_linked(self: &Rc<Self>, first: Request, second: Request) -> (Operation, Operation) {
        if !self.ended.get() {
            self.queue.borrow_mut().link_next();
        }
        (self.start(first), self.start(second))
    }

    /// Starts an operation that completes many times.
    pub(super) fn start_many(self: &Rc<Self>, request: Request) -> Many {
        if self.ended.get() {
            return Many { ring: Rc::clone(self), slot: None };
        }
        let many = |request| Slot::Many { request, results: VecDeque::new(), waker: None, ended: false };
        let slot = self.queue.borrow_mut().start(many, request);
        Many { ring: Rc::clone(self), slot: Some(slot) }
    }

    /// Starts an operation whose result nobody wants.
    pub(super) fn forget(&self, request: Request) {
        self.queue.borrow_mut().start(|request| Slot::Forgotten { request }, request);
    }

    /// Whether [`Ring::forget`] can be called here.
    pub(super) fn accepts(&self) -> bool {
        !self.ended.get() && self.queue.try_borrow_mut().is_ok()
    }

    /// Hands queued operations to the kernel, without waiting.
    pub(super) fn submit(&self) {
        self.queue.borrow_mut().submit();
    }

    /// Hands queued operations to the kernel and takes in what has completed. Whether that took a system call.
    pub(super) fn turn(&self) -> bool {
        let mut queue = self.queue.borrow_mut();
        let enters = queue.has_work_for_the_kernel();
        if enters {
            queue.enter(None);
        }
        queue.reap();
        self.clean(queue);
        enters
    }

    /// Likewise, but waits until at least one operation has completed or `timeout` has passed.
    pub(super) fn wait(&self, timeout: Option<Duration>) {
        let mut queue = self.queue.borrow_mut();
        queue.enter(Some(timeout));
        queue.reap();
        self.clean(queue);
    }

    /// Refuses new operations and waits for those in flight. Multishot ones are cancelled.
    pub(super) fn end(&self) {
        self.ended.set(true);
        let mut queue = self.queue.borrow_mut();
        let endless = queue.slots.iter().enumerate().filter(|(_, slot)| slot.is_endless());
        let endless: Vec<u64> = endless.map(|(slot, _)| slot as u64).collect();
        for target in endless {
            queue.start(|request| Slot::Forgotten { request }, Request::Cancel { target });
        }
        while queue.slots.iter().any(Slot::is_in_flight) {
            queue.enter(Some(None));
            queue.reap();
        }
        self.clean(queue);
    }

    /// Whether [`Ring::end`] was called: operations are refused.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Gives the kernel receive buffers, if it has none yet.
    pub(super) fn provide_buffers(&self, count: u16, bytes_each: u32) -> io::Result<()> {
        if self.buffers.get().is_none() {
            let buffers = Rc::new(Buffers::register(self, count, bytes_each)?);
            self.queue.borrow_mut().buffers = Some(Rc::clone(&buffers));
            let first = self.buffers.set(buffers).is_ok();
            assert!(first, "registered twice");
        }
        Ok(())
    }

    /// The receive buffers.
    pub(super) fn buffers(&self) -> &Rc<Buffers> {
        self.buffers.get().expect("only operations that use them ask for them")
    }

    /// Registers memory with the kernel: see the callers.
    pub(super) fn with_submitter<T>(&self, register: impl FnOnce(&io_uring::Submitter<'_>) -> T) -> T {
        register(&self.queue.borrow().uring.submitter())
    }

    fn clean(&self, mut queue: std::cell::RefMut<'_, Queue>) {
        if queue.garbage.is_empty() {
            return;
        }
        let garbage = std::mem::take(&mut queue.garbage);
        drop(queue);
        drop(garbage);
    }
}

impl Queue {
    /// Links the next request to the one after it. Both must go out in one submission: so there must be room for two.
    fn link_next(&mut self) {
        let queued = self.uring.submission();
        let room = queued.capacity() - queued.len();
        drop(queued);
        if room < 2 {
            self.submit();
        }
        self.link_next = true;
    }

    /// Queues a request in a slot of its own.
    fn start(&mut self, slot: impl FnOnce(Request) -> Slot, mut request: Request) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 operations in flight")
        });
        let mut entry = request.entry().user_data(u64::from(number));
        if std::mem::take(&mut self.link_next) {
            entry = entry.flags(squeue::Flags::IO_LINK);
        }
        self.slots[number as usize] = slot(request);
        self.push(&entry);
        number
    }

    #[expect(unsafe_code, reason = "the kernel reads and writes memory by address")]
    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: every pointer in the entry is into heap memory owned by its request (`operation`). The request
            // was put into its slot before this call, moving it did not move that memory, and the slot gives it up
            // only in `reap`, at the operation's last completion; `Ring::end` waits for that before the ring goes.
            let pushed = unsafe { self.uring.submission().push(entry) };
            match pushed {
                Ok(()) => return,
                Err(_full) => self.submit(),
            }
        }
    }

    /// Whether a system call would submit anything, or bring completions in.
    fn has_work_for_the_kernel(&mut self) -> bool {
        let submission = self.uring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    fn submit(&mut self) {
        if !self.uring.submission().is_empty() {
            self.enter(None);
        }
    }

    /// One system call: submits, runs deferred work, and with `wait` waits for a completion (or its timeout).
    fn enter(&mut self, wait: Option<Option<Duration>>) {
        loop {
            if wait.is_some() && !self.uring.completion().is_empty() {
                // Something is there already; but what is queued must go out all the same.
                return self.enter(None);
            }
            let submitter = self.uring.submitter();
            let result = match wait {
                None => submitter.submit(),
                Some(None) => submitter.submit_and_wait(1),
                Some(Some(timeout)) => {
                    let timeout = Timespec::from(timeout);
                    submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
                }
            };
            match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) | Err((Some(ETIME), _)) => return,
                // A signal: the shard has other things to look at than the one it waited for.
                Err((Some(EINTR), _)) if wait.is_some() => return,
                Err((Some(EINTR), _)) => {}
                // No memory for more requests, or completions wait to be taken in: make room first.
                Err((Some(EAGAIN | EBUSY), _)) => self.reap(),
                Err((_, error)) => {
                    panic!("io_uring_enter failed, which none of its arguments explains: {error}")
                }
            }
        }
    }

    /// Takes in all completions.
    fn reap(&mut self) {
        let Self { uring, slots, free, garbage, unread, buffers, .. } = self;
        let mut lagging = Vec::new();
        for entry in uring.completion() {
            let number = u32::try_from(entry.user_data()).expect("user data is a slot's number");
            let slot = &mut slots[number as usize];
            let result = entry.result();
            let used = cqueue::buffer_select(entry.flags());
            let received = buffers
                .as_ref()
                .zip(used)
                .map(|(buffers, number)| buffers.take(number, u32::try_from(result).unwrap_or_default()));
            if received.is_some() {
                unread.push(number);
            }
            complete(slot, Completion { result, received }, cqueue::more(entry.flags()), garbage);
            match slot {
                Slot::Free => free.push(number),
                Slot::Many { results, ended: false, .. } if results.len() == WAITING_MAX => {
                    lagging.push(number);
                }
                Slot::Many { .. } | Slot::Once { .. } | Slot::Done { .. } | Slot::Forgotten { .. } => {}
            }
        }
        for number in lagging {
            self.start(|request| Slot::Forgotten { request }, Request::Cancel { target: number.into() });
        }
        self.relieve();
    }

    /// When few receive buffers are left, what waits for readers that lag behind is copied out of them: whoever reads on
    /// is not to wait for those who do not.
    fn relieve(&mut self) {
        let Self { slots, unread, buffers, .. } = self;
        if buffers.as_ref().is_some_and(|buffers| buffers.are_short()) {
            for number in unread.drain(..) {
                if let Slot::Many { results, .. } = &mut slots[number as usize] {
                    let received = results.iter_mut().filter_map(|completion| completion.received.as_mut());
                    received.for_each(Received::detach);
                }
            }
        } else if unread.len() > UNREAD_MAX {
            let waits = |number: &u32| matches!(&slots[*number as usize], Slot::Many { results, .. } if !results.is_empty());
            unread.retain(waits);
        }
    }

    /// Gives up interest in a slot.
    fn forget(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        match std::mem::replace(slot, Slot::Free) {
            Slot::Once { request, .. } => *slot = Slot::Forgotten { request },
            Slot::Done { request, result } => {
                abandon(&request, result);
                self.garbage.push(request);
                self.free.push(number);
            }
            Slot::Many { request, results, ended, .. } => {
                for completion in results {
                    abandon(&request, completion.result);
                }
                if ended {
                    self.garbage.push(request);
                    self.free.push(number);
                } else {
                    *slot = Slot::Forgotten { request };
                    self.start(
                        |request| Slot::Forgotten { request },
                        Request::Cancel { target: number.into() },
                    );
                }
            }
            Slot::Free | Slot::Forgotten { .. } => unreachable!("only a waiter gives up interest"),
        }
    }
}

/// Moves a slot on by one completion.
fn complete(slot: &mut Slot, completion: Completion, more: bool, garbage: &mut Vec<Request>) {
    match std::mem::replace(slot, Slot::Free) {
        Slot::Once { request, waker } => {
            *slot = Slot::Done { request, result: completion.result };
            waker.into_iter().for_each(Waker::wake);
        }
        Slot::Many { request, mut results, waker, .. } => {
            results.push_back(completion);
            *slot = Slot::Many { request, results, waker: None, ended: !more };
            waker.into_iter().for_each(Waker::wake);
        }
        Slot::Forgotten { request } => {
            abandon(&request, completion.result);
            if more {
                *slot = Slot::Forgotten { request };
            } else {
                garbage.push(request);
            }
        }
        Slot::Free | Slot::Done { .. } => unreachable!("the kernel completed what it was not asked for"),
    }
}

/// Closes what an operation opened: nobody will take it.
fn abandon(request: &Request, result: i32) {
    if request.opens() && result >= 0 {
        drop(adopt(result));
    }
}

impl Slot {
    const fn is_in_flight(&self) -> bool {
        match self {
            Self::Once { .. } | Self::Forgotten { .. } => true,
            Self::Many { ended, .. } => !*ended,
            Self::Free | Self::Done { .. } => false,
        }
    }

    /// Whether it may never complete by itself.
    const fn is_endless(&self) -> bool {
        match self {
            Self::Once { request, .. } | Self::Forgotten { request } => matches!(
                request,
                Request::Event { .. }
                    | Request::Accept { .. }
                    | Request::Receive { .. }
                    | Request::Send { .. }
                    | Request::AcceptMany { .. }
                    | Request::ReceiveMany { .. }
                    | Request::ReceiveOne { .. }
            ),
            Self::Many { ended, .. } => !*ended,
            Self::Free | Self::Done { .. } => false,
        }
    }
}

/// Completes with the kernel's result and the request's memory. Dropped, the operation goes on.
pub(super) struct Operation {
    ring: Rc<Ring>,
    state: OperationState,
}

enum OperationState {
    Started(u32),
    /// The ring had ended.
    Refused(Option<Request>),
    Taken,
}

impl Future for Operation {
    type Output = (io::Result<u32>, Request);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let number = match &mut self.state {
            OperationState::Started(number) => *number,
            OperationState::Refused(request) => {
                let request = request.take().expect("polled after it was done");
                return Poll::Ready((Err(io::Error::from_raw_os_error(ECANCELED)), request));
            }
            OperationState::Taken => panic!("polled after it was done"),
        };
        let mut queue = self.ring.queue.borrow_mut();
        let slot = &mut queue.slots[number as usize];
        if let Slot::Once { waker, .. } = slot {
            match waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        let Slot::Done { request, result } = std::mem::replace(slot, Slot::Free) else {
            unreachable!("a waiter's slot is waiting or done")
        };
        queue.free.push(number);
        drop(queue);
        self.state = OperationState::Taken;
        Poll::Ready((u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)), request))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let OperationState::Started(number) = self.state {
            let mut queue = self.ring.queue.borrow_mut();
            queue.forget(number);
            self.ring.clean(queue);
        }
    }
}

/// The completions of an operation that has many. Dropped, it is cancelled.
pub(super) struct Many {
    ring: Rc<Ring>,
    slot: Option<u32>,
}

impl Many {
    /// The next completion; None: the operation has ended and must be started again.
    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Completion>> {
        let Some(number) = self.slot else { return Poll::Ready(None) };
        let mut queue = self.ring.queue.borrow_mut();
        let Slot::Many { results, waker, ended, .. } = &mut queue.slots[number as usize] else {
            unreachable!("a waiter's slot stays its own")
        };
        if let Some(completion) = results.pop_front() {
            return Poll::Ready(Some(completion));
        }
        if !*ended {
            *waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        queue.forget(number);
        self.slot = None;
        self.ring.clean(queue);
        Poll::Ready(None)
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        if let Some(number) = self.slot {
            let mut queue = self.ring.queue.borrow_mut();
            queue.forget(number);
            self.ring.clean(queue);
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Completions of one operation that may wait to be taken: then it is cancelled, and started again when they are. Few,
/// because each of ten thousand clients that do not read their replies makes that many buffers' worth of bytes wait.
const WAITING_MAX: usize = 4;
/// Entries of `unread`, before those that were read are forgotten: many times as many as there are receive buffers.
const UNREAD_MAX: usize = 4096;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const ETIME: i32 = 62;
const ECANCELED: i32 = 125;
