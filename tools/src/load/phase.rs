//! One stretch of a run: fill, the run itself, or reading back. Starts the threads, listens, gathers what they leave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::client::{Books, Client, Common};
use super::clock::{self, Nanos, SECOND};
use super::connection::{Connection, Greeting};
use super::end::End;
use super::journal_file::JournalFile;
use super::measure::Measure;
use super::plan::{Plan, Work};
use super::progress::{Progress, Second, Timeline};
use super::schedule::{Schedule, Steps};
use super::settings::{Purpose, Settings};
use super::value::Filling;
use super::violation::Violations;
use super::worker::{Harvest, Manner, Message, Together, Worker};

/// Messages on their way: acknowledgements wait here for the journal, and when it is full, threads wait for it.
const MESSAGES_MAX: usize = 64;

/// What is the same in every phase.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) settings: Settings,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) greeting: Arc<Greeting>,
    /// What values are stamped with.
    pub(crate) run: u64,
    /// Set when it is to end before its time.
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// What a phase left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) measure: Measure,
    /// By connection.
    pub(crate) books: Vec<Books>,
    pub(crate) violations: Violations,
    pub(crate) seconds: Vec<Second>,
    /// Interval by interval, where that was asked for.
    pub(crate) timeline: Option<Timeline>,
    /// When it began, since 1970.
    pub(crate) began: Nanos,
    pub(crate) elapsed: Nanos,
    /// What each thread had of a processor.
    pub(crate) threads_cpu: Vec<Nanos>,
    /// What the whole program had.
    pub(crate) process_cpu: Nanos,
    pub(crate) connections_lost: u64,
    /// Connections that were lost for good are all there were.
    pub(crate) is_cut_off: bool,
}

/// What a phase does.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) purpose: Purpose,
    /// By connection.
    pub(crate) books: Vec<Books>,
}

impl Run {
    /// Does it.
    pub(crate) fn phase(
        &self,
        task: Task,
        filling: &Arc<Filling>,
        journal: Option<&mut JournalFile>,
    ) -> Result<Outcome, String> {
        let options = &self.settings.options;
        let is_run = task.purpose == Purpose::Run;
        let threads = options.threads.min(options.connections);
        let name = task.name;
        // What was written is read back however little of the rest was done.
        let interrupt =
            if task.purpose == Purpose::ReadBack { Arc::default() } else { Arc::clone(&self.interrupt) };
        let end = Arc::new(End::new(self.settings.end().filter(|_| is_run), interrupt));
        let together = Together {
            threads,
            connected: AtomicU32::new(0),
            origin: OnceLock::new(),
            end: Arc::clone(&end),
            is_failed: AtomicBool::new(false),
        };
        let manner = Manner {
            scheduled: is_run && self.settings.is_open(),
            timeout: options.timeout_ms * (SECOND / 1000),
            reconnects: options.reconnect,
            give_up: options.give_up_seconds * SECOND,
            journals: journal.is_some(),
            interval: options.timeline.map_or(SECOND, |millis| u64::from(millis) * (SECOND / 1000)),
        };
        let common = Arc::new(Common {
            layout: self.settings.layout.clone(),
            sizes: options.value_bytes.clone(),
            filling: filling.clone(),
            depth: usize::try_from(options.pipeline).expect("32 bits"),
            run: self.run,
            end,
        });
        let mut progress = Progress::new(name, threads, options.quiet);
        if options.timeline.is_some() {
            progress.keep(manner.interval);
        }
        let process_cpu = clock::process_cpu();
        let connections = self.connections(task, &common);
        let harvests = thread::scope(|scope| {
            let (sender, receiver) = sync_channel(MESSAGES_MAX);
            let mut handles = Vec::new();
            for (thread, connections) in (0..threads).zip(shared_out(connections, threads)) {
                let together = &together;
                let sender: SyncSender<Message> = sender.clone();
                let body = move || work(connections, manner, together, sender);
                let handle = thread::Builder::new().name(format!("load {thread}")).spawn_scoped(scope, body);
                together.is_failed.fetch_or(handle.is_err(), Ordering::AcqRel);
                handles.push(handle.map_err(|error| format!("cannot start a thread: {error}")));
            }
            drop(sender);
            let heard = listen(&receiver, &mut progress, journal);
            drop(receiver);
            let harvests: Vec<Result<Harvest, String>> = handles
                .into_iter()
                .map(|handle| handle?.join().map_err(|_| "a thread of this program panicked".to_owned())?)
                .collect();
            heard?;
            harvests.into_iter().collect::<Result<Vec<_>, String>>()
        })?;
        progress.end();
        let process_cpu = clock::process_cpu() - process_cpu;
        let origin = together.origin.get().copied().unwrap_or_else(clock::now);
        let told = (progress.seconds, progress.timeline);
        let began = clock::wall() - (clock::now() - origin);
        Ok(Outcome { began, ..gather(name, harvests, manner.scheduled, told, process_cpu) })
    }

    fn connections(&self, task: Task, common: &Arc<Common>) -> Vec<Connection> {
        let options = &self.settings.options;
        let layout = &self.settings.layout;
        let is_run = task.purpose == Purpose::Run;
        let mut all = Vec::new();
        for (number, books) in (0..options.connections).zip(task.books) {
            let inserted = match &books {
                Books::Own { ledger, .. } => ledger.len().saturating_sub(layout.owned(number)),
                Books::None | Books::All(_) => 0,
            };
            let random = self.settings.random(task.purpose, number);
            let plan = Plan::new((number, inserted), layout.clone(), task.work.clone(), random);
            let schedule = is_run.then(|| self.schedule(number)).flatten();
            let client = Client::new(common.clone(), number, plan, schedule, books);
            let address = self.addresses[usize::try_from(number).expect("32 bits") % self.addresses.len()];
            let token = u64::from(number / options.threads.min(options.connections));
            all.push(Connection::new(client, address, token, self.greeting.clone()));
        }
        all
    }

    /// When what a connection does is due; none: at once.
    fn schedule(&self, number: u32) -> Option<Schedule> {
        let options = &self.settings.options;
        let random = self.settings.random(Purpose::Arrivals, number);
        if let Some(trace) = &self.settings.trace {
            let before = trace.due_before(number, options.connections);
            return Some(Schedule::stepped(Steps { before, seconds: trace.hour_seconds }, random));
        }
        let place = (number, options.connections);
        options.rate.map(|rate| Schedule::new((rate, self.settings.seconds), options.arrivals, place, random))
    }
}

/// To each thread its connections and their numbers: every `threads`th.
fn shared_out(connections: Vec<Connection>, threads: u32) -> Vec<Vec<(u32, Connection)>> {
    let mut all: Vec<Vec<(u32, Connection)>> = (0..threads).map(|_| Vec::new()).collect();
    for (number, connection) in (0..).zip(connections) {
        let thread = usize::try_from(number % threads).expect("32 bits");
        all[thread].push((number, connection));
    }
    all
}

fn work(
    connections: Vec<(u32, Connection)>,
    manner: Manner,
    together: &Together,
    messages: SyncSender<Message>,
) -> Result<Harvest, String> {
    let mut alarm = Alarm { together, is_well: false };
    let harvest = Worker::new(connections, manner, together, messages)?.run()?;
    alarm.is_well = true;
    Ok(harvest)
}

/// The others do not wait for a thread that failed, nor for one that panicked.
struct Alarm<'a> {
    together: &'a Together,
    is_well: bool,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.together.is_failed.fetch_or(!self.is_well, Ordering::AcqRel);
    }
}

fn listen(
    receiver: &Receiver<Message>,
    progress: &mut Progress,
    mut journal: Option<&mut JournalFile>,
) -> Result<(), String> {
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Interval { interval, is_whole, measure } => progress.add(interval, is_whole, &measure),
            Message::Acknowledged(records) => {
                if let Some(journal) = &mut journal {
                    journal.append(&records)?;
                }
            }
        }
    }
    Ok(())
}

fn gather(
    name: &'static str,
    harvests: Vec<Harvest>,
    scheduled: bool,
    (seconds, timeline): (Vec<Second>, Option<Timeline>),
    process_cpu: Nanos,
) -> Outcome {
    let mut outcome = Outcome {
        name,
        measure: Measure::new(scheduled),
        books: Vec::new(),
        violations: Violations::default(),
        seconds,
        timeline,
        began: 0,
        elapsed: 0,
        threads_cpu: Vec::new(),
        process_cpu,
        connections_lost: 0,
        is_cut_off: false,
    };
    let mut books = Vec::new();
    for harvest in harvests {
        outcome.measure.add(&harvest.measure);
        outcome.violations.append(harvest.violations);
        outcome.elapsed = outcome.elapsed.max(harvest.elapsed);
        outcome.threads_cpu.push(harvest.cpu);
        outcome.connections_lost += harvest.connections_lost;
        books.extend(harvest.books);
    }
    outcome.is_cut_off = outcome.connections_lost == books.len() as u64;
    books.sort_by_key(|(number, _)| *number);
    outcome.books = books.into_iter().map(|(_, books)| books).collect();
    outcome
}
