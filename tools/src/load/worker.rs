//! One thread: an epoll loop over its connections.
//!
//! Closed loop: an answer makes room for the next request. Open loop: requests wait for their time in a heap, which
//! holds each connection once at most.
//!
//! Invariants:
//! - nothing in the loop blocks but the wait for events (and a journal that cannot be written as fast, by intention);
//! - time is read once a turn: what is answered in one turn has one time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::client::Books;
use super::clock::{self, Nanos, SECOND};
use super::connection::{Connection, State, Trouble};
use super::end::End;
use super::journal::{FRAME_RECORDS_MAX, Record};
use super::measure::{IntervalMeasure, Measure};
use super::violation::Violations;

/// How often timeouts, lost connections and untold acknowledgements are looked after.
const ROUND: Nanos = SECOND / 10;
/// From the last thread's being connected to the beginning: time for all to learn of it.
const START_PAUSE: Nanos = SECOND / 100;
const EVENTS_MAX: usize = 1024;

/// What a thread tells while it runs.
#[derive(Debug)]
pub(crate) enum Message {
    /// Of one interval, counted from the beginning.
    Interval { interval: u64, is_whole: bool, measure: Box<IntervalMeasure> },
    /// Writes that were acknowledged.
    Acknowledged(Vec<Record>),
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Together {
    pub(crate) threads: u32,
    /// How many of them have all their connections.
    pub(crate) connected: AtomicU32,
    /// When all begin; known when all are connected.
    pub(crate) origin: OnceLock<Nanos>,
    /// Nothing is begun later.
    pub(crate) end: Arc<End>,
    /// One of them cannot go on.
    pub(crate) is_failed: AtomicBool,
}

/// How a thread behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Operations are due at their own times.
    pub(crate) scheduled: bool,
    /// A request without an answer for so long is lost, and its connection too.
    pub(crate) timeout: Nanos,
    /// Lost connections are made again.
    pub(crate) reconnects: bool,
    /// After so long without a working connection, or of refusals, it is no use.
    pub(crate) give_up: Nanos,
    pub(crate) journals: bool,
    /// It tells what it did after each.
    pub(crate) interval: Nanos,
}

/// What a thread leaves.
#[derive(Debug)]
pub(crate) struct Harvest {
    pub(crate) measure: Measure,
    pub(crate) books: Vec<(u32, Books)>,
    pub(crate) violations: Violations,
    /// What it had of a processor while it ran.
    pub(crate) cpu: Nanos,
    /// From the beginning to its last answer, or to the end.
    pub(crate) elapsed: Nanos,
    /// Connections that were lost for good before their work was done.
    pub(crate) connections_lost: u64,
}

/// A thread's state.
pub(crate) struct Worker<'a> {
    connections: Vec<Connection>,
    /// The number, among all, of each of them.
    numbers: Vec<u32>,
    manner: Manner,
    together: &'a Together,
    messages: SyncSender<Message>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    origin: Nanos,
    is_begun: bool,
    waiting: BinaryHeap<Reverse<(Nanos, usize)>>,
    measure: Measure,
    connections_lost: u64,
}

impl<'a> Worker<'a> {
    /// `connections` with the number each has among all; their tokens count them from 0.
    pub(crate) fn new(
        connections: Vec<(u32, Connection)>,
        manner: Manner,
        together: &'a Together,
        messages: SyncSender<Message>,
    ) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| format!("epoll_create1: {e}"))?;
        let (numbers, connections) = connections.into_iter().unzip();
        Ok(Self {
            connections,
            numbers,
            manner,
            together,
            messages,
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
            origin: clock::now(),
            is_begun: false,
            waiting: BinaryHeap::new(),
            measure: Measure::new(manner.scheduled),
            connections_lost: 0,
        })
    }

    /// Connects, waits for the others, works to the end.
    pub(crate) fn run(mut self) -> Result<Harvest, String> {
        if self.manner.scheduled {
            // Without it the kernel wakes a thread up to 50 us late. A kernel that refuses costs exactness only.
            let _exactness = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        }
        self.connect_all()?;
        self.wait_for_all()?;
        let cpu = clock::thread_cpu();
        self.work()?;
        Ok(self.harvest(cpu))
    }

    fn connect_all(&mut self) -> Result<(), String> {
        loop {
            self.look_after(self.now())?;
            let open = |connection: &Connection| !matches!(connection.state, State::Up | State::Ended);
            if !self.connections.iter().any(open) || self.is_failed() {
                return Ok(());
            }
            self.turn(self.now() + ROUND)?;
        }
    }

    /// All threads begin at one moment.
    fn wait_for_all(&mut self) -> Result<(), String> {
        if self.together.connected.fetch_add(1, Ordering::AcqRel) + 1 == self.together.threads {
            self.together.origin.get_or_init(|| clock::now() + START_PAUSE);
        }
        while !self.is_failed() {
            let left = self.together.origin.get().map(|origin| origin.saturating_sub(clock::now()));
            if left == Some(0) {
                break;
            }
            self.turn(self.now() + left.unwrap_or(START_PAUSE).min(START_PAUSE / 4))?;
        }
        self.origin = self.together.origin.get().copied().unwrap_or(self.origin);
        self.is_begun = true;
        Ok(())
    }

    fn work(&mut self) -> Result<(), String> {
        for index in 0..self.connections.len() {
            self.pump(index, 0)?;
        }
        let mut next_round = 0;
        let interval = self.manner.interval;
        let mut next_interval = interval;
        loop {
            let now = self.now();
            if now >= next_round {
                self.look_after(now)?;
                next_round = now + ROUND;
                if self.connections.iter().all(|connection| connection.state == State::Ended) {
                    break;
                }
            }
            while now >= next_interval {
                self.tell_interval(next_interval / interval - 1, true);
                next_interval += interval;
            }
            if self.is_failed() {
                break;
            }
            let due = self.waiting.peek().map_or(Nanos::MAX, |Reverse((due, _))| *due);
            self.turn(next_round.min(next_interval).min(due))?;
        }
        self.tell_interval(next_interval / interval - 1, false);
        Ok(())
    }

    fn tell_interval(&mut self, interval: u64, is_whole: bool) {
        let measure = Box::new(self.measure.take_interval());
        self.tell(Message::Interval { interval, is_whole, measure });
    }

    /// Waits for events, no longer than to the deadline, and handles them.
    fn turn(&mut self, deadline: Nanos) -> Result<(), String> {
        let wait = deadline.saturating_sub(self.now());
        let wait = Timespec {
            tv_sec: i64::try_from(wait / SECOND).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(wait % SECOND).unwrap_or(0),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("epoll_wait: {error}")),
        }
        let now = self.now();
        for event in &events {
            let token = event.data;
            let index = usize::try_from(token.u64()).expect("tokens are indexes");
            match self.connections[index].ready(now, &mut self.measure) {
                Ok(()) => self.pump(index, now)?,
                Err(trouble) => self.troubled(index, trouble, now)?,
            }
        }
        self.events = events;
        while let Some(Reverse((due, index))) = self.waiting.peek().copied()
            && due <= now
        {
            self.waiting.pop();
            self.connections[index].is_queued = false;
            self.pump(index, now)?;
        }
        Ok(())
    }

    /// Sends what a connection has to send, and notes when it has more.
    fn pump(&mut self, index: usize, now: Nanos) -> Result<(), String> {
        let connection = &mut self.connections[index];
        let due = if self.is_begun { connection.top_up(now) } else { None };
        if let Err(trouble) = connection.send(&self.epoll, &mut self.measure) {
            return self.troubled(index, trouble, now);
        }
        if let Some(due) = due
            && !connection.is_queued
        {
            connection.is_queued = true;
            self.waiting.push(Reverse((due, index)));
        }
        if connection.client.untold().is_some_and(|untold| untold.len() >= FRAME_RECORDS_MAX) {
            self.tell_acknowledged(index);
        }
        Ok(())
    }

    /// What is not answered to anything: timeouts, retries, ends.
    fn look_after(&mut self, now: Nanos) -> Result<(), String> {
        if self.is_begun {
            self.together.end.heed(now);
        }
        for index in 0..self.connections.len() {
            self.tell_acknowledged(index);
            let connection = &mut self.connections[index];
            if self.is_begun {
                connection.client.stop_at_end(now);
                if connection.is_settled() && connection.state != State::Ended {
                    connection.end();
                }
            }
            if let Some(since) = connection.client.refused_since()
                && now >= since + self.manner.give_up
            {
                return Err(format!("{}: refused all the time: {}", connection.address(), self.errors()));
            }
            let is_retried = matches!(connection.state, State::Down { retry_at } if now >= retry_at);
            let attempt = if is_retried { connection.connect(&self.epoll, now) } else { Ok(()) };
            if let Err(trouble) = attempt {
                self.troubled(index, trouble, now)?;
            } else if connection.waiting_since().is_some_and(|since| now >= since + self.manner.timeout) {
                let why = format!("timed out after {} ms", self.manner.timeout / 1_000_000);
                self.troubled(index, Trouble::Lost(why), now)?;
            }
        }
        Ok(())
    }

    fn troubled(&mut self, index: usize, trouble: Trouble, now: Nanos) -> Result<(), String> {
        let connection = &mut self.connections[index];
        let address = connection.address();
        let why = match trouble {
            Trouble::Refused(why) => return Err(format!("{address} refused the connection: {why}")),
            Trouble::Lost(why) => why,
        };
        let again = self.manner.reconnects;
        if !again && !connection.ever_up {
            return Err(format!("{address}: {why}; is a server there? (--connect HOST:PORT)"));
        }
        self.measure.reconnects += u64::from(again && connection.state == State::Up);
        connection.lost(&why, (now, again), &mut self.measure);
        if again && now >= connection.down_since + self.manner.give_up {
            let seconds = self.manner.give_up / SECOND;
            return Err(format!("{address}: no connection for {seconds} s (--give-up-seconds): {why}"));
        }
        self.connections_lost += u64::from(!again);
        Ok(())
    }

    fn tell_acknowledged(&mut self, index: usize) {
        let Some(untold) = self.connections[index].client.untold() else { return };
        if !self.manner.journals {
            untold.clear();
        } else if !untold.is_empty() {
            let room = Vec::with_capacity(untold.capacity());
            let records = std::mem::replace(untold, room);
            self.tell(Message::Acknowledged(records));
        }
    }

    fn tell(&self, message: Message) {
        if self.messages.send(message).is_err() {
            // Who listens has failed, and says why.
            self.together.is_failed.store(true, Ordering::Release);
        }
    }

    fn harvest(mut self, cpu: Nanos) -> Harvest {
        let end = self.together.end.at();
        let elapsed = self.now().min(self.measure.last_done.max(end.unwrap_or(0)));
        if let Some(end) = end {
            self.measure.unsent =
                self.connections.iter_mut().map(|connection| connection.client.count_unsent(end)).sum();
        }
        let mut violations = Violations::default();
        let mut books = Vec::new();
        for (number, connection) in self.numbers.into_iter().zip(self.connections) {
            let (own, found) = connection.client.into_books();
            violations.append(found);
            books.push((number, own));
        }
        Harvest {
            measure: self.measure,
            books,
            violations,
            cpu: clock::thread_cpu() - cpu,
            elapsed,
            connections_lost: self.connections_lost,
        }
    }

    fn errors(&self) -> String {
        self.measure.errors().keys().cloned().collect::<Vec<_>>().join("; ")
    }

    fn is_failed(&self) -> bool {
        self.together.is_failed.load(Ordering::Acquire)
    }

    fn now(&self) -> Nanos {
        clock::now() - self.origin
    }
}

/// The addresses that a name has, the first of them.
pub(crate) fn resolve(name: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    let mut all = name.to_socket_addrs().map_err(|error| format!("{name}: {error}; give HOST:PORT"))?;
    all.next().ok_or_else(|| format!("{name}: the name has no address"))
}
