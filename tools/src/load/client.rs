//! One connection's conversation: which requests it sends, what each answer means. No socket, no clock.
//!
//! `top_up` puts requests into a buffer, `reply` takes answers in their order, `lost` says that no more will come. The
//! requests of one connection are executed in their order, so that a read's answer is judged by what was
//! acknowledged up to then and what was sent before the read.
//!
//! Invariants:
//! - at most `depth` operations are on their way; each has its answers counted, so that answers stay with their requests;
//! - a write without an answer, or with a refusal, stays unknown until a later write of its cell is acknowledged;
//! - nothing is allocated per operation.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::clock::{Nanos, SECOND};
use super::command::Commands;
use super::end::End;
use super::journal::Record;
use super::layout::{Data, Layout};
use super::ledger::{Ledger, Window, Wrong, judge};
use super::measure::{Measure, Times};
use super::mix::Kind;
use super::plan::{Operation, Plan};
use super::reply::{Items, Reply, is_for_now};
use super::request::word_by;
use super::schedule::Schedule;
use super::sizes::Sizes;
use super::value::{self, Filling, Found, Stamp};
use super::violation::Violations;

/// What was refused for a while is asked again; not at once, because a server that loads its data refuses all.
const REFUSED_PAUSE: Nanos = SECOND / 20;
/// After the end of an open loop, what was due before it is still sent for so long.
const OVERDUE_PATIENCE: Nanos = SECOND;

/// What all connections have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) layout: Arc<Layout>,
    pub(crate) sizes: Sizes,
    pub(crate) filling: Arc<Filling>,
    /// Operations on their way, per connection.
    pub(crate) depth: usize,
    /// What values are stamped with.
    pub(crate) run: u64,
    /// Nothing is begun later.
    pub(crate) end: Arc<End>,
}

/// What answers are judged by.
#[derive(Clone, Debug)]
pub(crate) enum Books {
    /// Nothing is judged.
    None,
    /// The cells of this connection, by its own numbers; and what was acknowledged and is not yet in the journal.
    Own { ledger: Ledger, untold: Vec<Record> },
    /// All cells; nothing is written.
    All(Arc<Ledger>),
}

/// A conversation.
#[derive(Debug)]
pub(crate) struct Client {
    common: Arc<Common>,
    connection: u32,
    plan: Plan,
    schedule: Option<Schedule>,
    books: Books,
    in_flight: VecDeque<Pending>,
    /// Every operation is done in the end: those that were lost, or refused for a while, are done again.
    repeats: bool,
    again: Vec<Operation>,
    resume_at: Nanos,
    refused_since: Option<Nanos>,
    is_exhausted: bool,
    commands: Commands,
    /// Cells found wrong: told once, and judged again after their next acknowledged write.
    accused: BTreeSet<u64>,
    pub(crate) violations: Violations,
}

/// Which half of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Read,
    Write,
    Scan,
}

/// A request that is on its way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    operation: Operation,
    step: Step,
    /// Of the write; of a read the last write that was sent before it.
    sequence: u32,
    answers_left: u32,
    is_refused: bool,
    /// Refused, and may be granted later.
    is_for_now: bool,
    due: Nanos,
    sent: Nanos,
    /// When this step was put into the buffer.
    asked: Nanos,
}

/// What an answer means.
enum Outcome<'a> {
    Done { missed: bool },
    Refused(&'a [u8]),
}

impl Client {
    pub(crate) fn new(
        common: Arc<Common>,
        connection: u32,
        plan: Plan,
        schedule: Option<Schedule>,
        books: Books,
    ) -> Self {
        let in_flight = VecDeque::with_capacity(common.depth);
        let commands = Commands::new(common.layout.clone());
        let repeats = plan.is_exhaustive();
        Self {
            common,
            connection,
            plan,
            schedule,
            books,
            in_flight,
            repeats,
            again: Vec::new(),
            resume_at: 0,
            refused_since: None,
            is_exhausted: false,
            commands,
            accused: BTreeSet::new(),
            violations: Violations::default(),
        }
    }

    /// Puts what is to be sent; returns when there will be more, if time is what it waits for.
    pub(crate) fn top_up(&mut self, now: Nanos, out: &mut Vec<u8>) -> Option<Nanos> {
        self.stop_at_end(now);
        while self.in_flight.len() < self.common.depth {
            if now < self.resume_at {
                return Some(self.resume_at);
            }
            if let Some(operation) = self.again.pop() {
                self.begin(operation, now, now, out);
                continue;
            }
            if self.is_exhausted {
                break;
            }
            let mut due = now;
            if let Some(schedule) = &mut self.schedule {
                due = schedule.due();
                if self.common.end.at().is_some_and(|end| due >= end) {
                    self.is_exhausted = true;
                    break;
                }
                if due > now {
                    return Some(due);
                }
                schedule.advance();
            }
            match self.plan.next(due) {
                Some(operation) => self.begin(operation, due, now, out),
                None => self.is_exhausted = true,
            }
        }
        None
    }

    /// Nothing is begun at the end; what was due before and had to wait, a little later.
    pub(crate) fn stop_at_end(&mut self, now: Nanos) {
        let patience = if self.schedule.is_some() { OVERDUE_PATIENCE } else { 0 };
        self.is_exhausted |= self.common.end.at().is_some_and(|end| now >= end + patience);
    }

    /// Since when everything that has to be done in the end is refused.
    pub(crate) const fn refused_since(&self) -> Option<Nanos> {
        self.refused_since
    }

    /// Whether all is done and answered.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_exhausted && self.in_flight.is_empty() && self.again.is_empty()
    }

    /// When the oldest request that is not answered was put into the buffer.
    pub(crate) fn oldest(&self) -> Option<Nanos> {
        self.in_flight.front().map(|pending| pending.asked)
    }

    /// Counts what was due before `end` and will not be sent.
    pub(crate) fn count_unsent(&mut self, end: Nanos) -> u64 {
        let mut count = 0;
        if let Some(schedule) = &mut self.schedule {
            loop {
                let due = schedule.due();
                if due >= end || self.plan.next(due).is_none() {
                    break;
                }
                schedule.advance();
                count += 1;
            }
        }
        count
    }

    /// What was acknowledged and is to be told to the journal.
    pub(crate) fn untold(&mut self) -> Option<&mut Vec<Record>> {
        match &mut self.books {
            Books::Own { untold, .. } => Some(untold),
            Books::None | Books::All(_) => None,
        }
    }

    /// What was written, at the end.
    pub(crate) fn into_books(self) -> (Books, Violations) {
        (self.books, self.violations)
    }

    fn begin(&mut self, operation: Operation, due: Nanos, now: Nanos, out: &mut Vec<u8>) {
        let step = match operation.kind {
            Kind::Read | Kind::ReadModifyWrite => Step::Read,
            Kind::Update | Kind::Insert => Step::Write,
            Kind::Scan => Step::Scan,
        };
        let times = Times { due, sent: now, done: now };
        self.ask(operation, step, times, out);
    }

    fn ask(&mut self, operation: Operation, mut step: Step, times: Times, out: &mut Vec<u8>) {
        let mut sequence = self.window(operation.cell).sent;
        if let (Step::Write, Books::Own { ledger, .. }) = (step, &mut self.books) {
            match ledger.send(self.common.layout.owner(operation.cell).1) {
                Some(next) => sequence = next,
                // The numbers of this cell are used up: it is not written any more.
                None => step = Step::Read,
            }
        }
        match step {
            Step::Read => self.commands.read(operation.cell, out),
            Step::Write => self.put_write(operation.cell, sequence, out),
            Step::Scan => self.commands.scan(operation.cell, operation.rows, out),
        }
        let answers_left = if step == Step::Scan { 1 } else { self.commands.answers() };
        let Times { due, sent, done: asked } = times;
        self.in_flight.push_back(Pending {
            operation,
            step,
            sequence,
            answers_left,
            is_refused: false,
            is_for_now: false,
            due,
            sent,
            asked,
        });
    }

    fn put_write(&mut self, cell: u64, sequence: u32, out: &mut Vec<u8>) {
        let Self { common, connection, plan, books, commands, .. } = self;
        let (run, connection, filling) = (common.run, *connection, &common.filling);
        let random = plan.random();
        commands.write(cell, out, |member, out| {
            let length = common.sizes.pick(random);
            let bytes = usize::try_from(length).expect("32 bits");
            match books {
                Books::None => word_by(out, bytes, |out| filling.put(bytes, random.u64(..), out)),
                Books::Own { .. } | Books::All(_) => {
                    let stamp = Stamp { run, cell, connection, sequence, member };
                    word_by(out, bytes, |out| value::put(stamp, length, filling, out));
                }
            }
        });
    }

    /// Takes the next answer; an error when nothing was asked.
    pub(crate) fn reply(
        &mut self,
        reply: Reply<'_>,
        now: Nanos,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), &'static str> {
        let pending = self.in_flight.front_mut().ok_or("an answer that nothing asked for")?;
        pending.answers_left -= 1;
        if pending.answers_left > 0 {
            let refusal = match reply {
                Reply::Simple(_) => None,
                Reply::Error(text) => Some(text),
                Reply::Integer(_) | Reply::Bulk(_) | Reply::Null | Reply::Array(_) => Some(UNEXPECTED),
            };
            // One refusal counts once, however many answers tell it.
            if let Some(text) = refusal.filter(|_| !pending.is_refused) {
                pending.is_refused = true;
                pending.is_for_now = is_for_now(text);
                measure.failed(pending.operation.kind, text);
            }
            return Ok(());
        }
        let pending = *pending;
        self.in_flight.pop_front();
        let kind = pending.operation.kind;
        let times = Times { due: pending.due, sent: pending.sent, done: now };
        match self.outcome(&pending, reply) {
            Outcome::Done { .. } if pending.is_refused => {}
            Outcome::Done { .. } if pending.step == Step::Read && kind == Kind::ReadModifyWrite => {
                self.ask(pending.operation, Step::Write, times, out);
            }
            Outcome::Done { missed } => {
                self.refused_since = None;
                measure.done(kind, times, missed);
            }
            Outcome::Refused(text) => {
                if !pending.is_refused {
                    measure.failed(kind, text);
                }
                if self.repeats && (pending.is_for_now || is_for_now(text)) {
                    self.again.push(pending.operation);
                    self.resume_at = now + REFUSED_PAUSE;
                    self.refused_since.get_or_insert(now);
                }
            }
        }
        Ok(())
    }

    /// The connection is gone: what is on its way is unknown.
    pub(crate) fn lost(&mut self, why: &str, measure: &mut Measure) {
        while let Some(pending) = self.in_flight.pop_front() {
            measure.failed(pending.operation.kind, why.as_bytes());
            if self.repeats {
                self.again.push(pending.operation);
            }
        }
    }

    fn outcome<'a>(&mut self, pending: &Pending, reply: Reply<'a>) -> Outcome<'a> {
        let is_transaction = self.common.layout.data == Data::Transactions;
        match (pending.step, reply) {
            (_, Reply::Error(text)) => Outcome::Refused(text),
            (Step::Read, Reply::Bulk(_) | Reply::Null) if !is_transaction => {
                self.check(pending, std::iter::once(reply));
                Outcome::Done { missed: reply == Reply::Null }
            }
            (Step::Read | Step::Write, Reply::Array(items)) if is_transaction => {
                self.executed(pending, items)
            }
            (Step::Read | Step::Write, Reply::Null) if is_transaction => {
                Outcome::Refused(b"EXEC answered nil")
            }
            (Step::Write, Reply::Simple(_) | Reply::Integer(_)) if !is_transaction => {
                self.acknowledge(pending);
                Outcome::Done { missed: false }
            }
            (Step::Scan, Reply::Array(mut parts)) => match (parts.next(), parts.next(), parts.next()) {
                (Some(Reply::Bulk(_)), Some(Reply::Array(rows)), None) if rows.left() % 2 == 0 => {
                    self.check_scan(pending, rows);
                    Outcome::Done { missed: rows.left() == 0 }
                }
                _ => Outcome::Refused(UNEXPECTED),
            },
            (_, Reply::Simple(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Null | Reply::Array(_)) => {
                Outcome::Refused(UNEXPECTED)
            }
        }
    }

    /// EXEC's answer: one of each command.
    fn executed<'a>(&mut self, pending: &Pending, items: Items<'a>) -> Outcome<'a> {
        if items.left() != u64::from(self.common.layout.members) {
            return Outcome::Refused(UNEXPECTED);
        }
        let mut missed = false;
        for item in items {
            match (pending.step, item) {
                (_, Reply::Error(text)) => return Outcome::Refused(text),
                (Step::Read, Reply::Bulk(_)) | (Step::Write, Reply::Simple(_)) => {}
                (Step::Read, Reply::Null) => missed = true,
                _ => return Outcome::Refused(UNEXPECTED),
            }
        }
        if !pending.is_refused {
            match pending.step {
                Step::Read => self.check(pending, items),
                Step::Write | Step::Scan => self.acknowledge(pending),
            }
        }
        Outcome::Done { missed }
    }

    fn acknowledge(&mut self, pending: &Pending) {
        if let Books::Own { ledger, untold } = &mut self.books {
            let cell = pending.operation.cell;
            self.accused.remove(&cell);
            let (_, local) = self.common.layout.owner(cell);
            ledger.acknowledge(local, pending.sequence);
            let window = Window { acknowledged: pending.sequence, sent: pending.sequence };
            untold.push(Record { cell, window });
        }
    }

    fn window(&self, cell: u64) -> Window {
        match &self.books {
            Books::None => Window::default(),
            Books::Own { ledger, .. } => ledger.window(self.common.layout.owner(cell).1),
            Books::All(ledger) => ledger.window(cell),
        }
    }

    fn check<'a>(&mut self, pending: &Pending, replies: impl Iterator<Item = Reply<'a>> + Clone) {
        if matches!(self.books, Books::None) {
            return;
        }
        let cell = pending.operation.cell;
        let window = Window { sent: pending.sequence, ..self.window(cell) };
        self.judge(cell, window, replies.map(found));
    }

    /// Rows that were there are judged; which are missing, one answer of a scan does not tell.
    fn check_scan(&mut self, pending: &Pending, mut rows: Items<'_>) {
        if matches!(self.books, Books::None) {
            return;
        }
        while let (Some(Reply::Bulk(field)), Some(value)) = (rows.next(), rows.next()) {
            if let Some(cell) = self.common.layout.sibling(pending.operation.cell, field) {
                self.judge(cell, self.window(cell), std::iter::once(found(value)));
            }
        }
    }

    fn judge(&mut self, cell: u64, window: Window, found: impl Iterator<Item = Found> + Clone) {
        if let Err(wrong) = judge((self.common.run, cell), window, found.clone()) {
            self.report(wrong, cell, window, found);
        }
    }

    #[cold]
    fn report(&mut self, wrong: Wrong, cell: u64, window: Window, found: impl Iterator<Item = Found>) {
        if self.accused.insert(cell) {
            self.violations.add(wrong, || {
                let found: Vec<String> = found.map(|found| found.to_string()).collect();
                [self.common.layout.name(cell, 0), window.to_string(), found.join("; ")]
            });
        }
    }
}

const UNEXPECTED: &[u8] = b"an answer of another type than this command has";

fn found(reply: Reply<'_>) -> Found {
    match reply {
        Reply::Null => Found::Absent,
        Reply::Bulk(bytes) => value::read(bytes),
        Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Array(_) => Found::Foreign,
    }
}
