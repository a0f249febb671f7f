//! The order of a whole run: fill, run, read back; or only reading back what a journal says.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::client::Books;
use super::clock;
use super::connection::Greeting;
use super::hgrm;
use super::journal::{Description, Journal};
use super::journal_file::{JournalFile, load};
use super::keys::Keys;
use super::layout::Layout;
use super::ledger::Ledger;
use super::numbers::scrambled;
use super::phase::{Outcome, Run, Task};
use super::plan::Work;
use super::report::{Report, Verified};
use super::settings::{Purpose, Settings};
use super::value::Filling;
use super::violation::Violations;
use super::worker::resolve;
use crate::interrupt;

/// Does what the settings say.
pub(crate) fn run(settings: Settings, interrupt: Arc<AtomicBool>) -> Result<Report, String> {
    let journal = settings.options.journal.as_deref().map(load).transpose()?.flatten();
    if settings.options.verify_only {
        verify_only(settings, journal, interrupt)
    } else {
        full(settings, journal, interrupt)
    }
}

fn verify_only(
    mut settings: Settings,
    journal: Option<Journal>,
    interrupt: Arc<AtomicBool>,
) -> Result<Report, String> {
    let Some(journal) = journal else {
        return Err("--verify-only: there is no such journal (--journal FILE)".into());
    };
    // Who reads what is this run's own choice, all else the journal's.
    let connections = settings.layout.connections;
    settings.layout = Arc::new(Layout { connections, ..journal.description.layout });
    let mut session = Session::new(settings, journal.description.run, interrupt)?;
    session.read_back(journal.ledger)?;
    session.end()
}

fn full(settings: Settings, journal: Option<Journal>, interrupt: Arc<AtomicBool>) -> Result<Report, String> {
    let layout = settings.layout.clone();
    let options = &settings.options;
    let verifies = options.verify;
    let path = options.journal.clone();
    let fills = options.fill;
    let known = match &journal {
        Some(journal) if journal.description.layout != *layout => {
            let name = path.unwrap_or_default();
            return Err(format!(
                "{}: the journal is of other keys or connections ({:?}); give the options it was made with, or \
                another file",
                name.display(),
                journal.description.layout
            ));
        }
        Some(journal) => Some((journal.description.run, journal.ledger.clone())),
        None => None,
    };
    // Not from the seed: what an earlier run with it left is not to be taken for this run's.
    let (run, ledger) = known.unwrap_or_else(|| (scrambled(clock::wall()), Ledger::default()));
    let mut session = Session::new(settings, run, interrupt)?;
    let mut file = match path {
        Some(path) => {
            let layout = Layout::clone(&layout);
            Some(JournalFile::create(&path, Description { run, layout }, ledger.clone())?)
        }
        None => None,
    };
    let mut books = if verifies { books_of(&layout, &ledger) } else { no_books(&layout) };
    if fills {
        books = session.go(("fill", Work::Fill, Purpose::Fill), books, file.as_mut())?;
    }
    let is_filled = !session.is_interrupted() && !session.is_cut_off();
    if session.run.settings.has_run && is_filled {
        books = session.go(("run", session.mixed(), Purpose::Run), books, file.as_mut())?;
    }
    if verifies {
        let ledger = ledger_of(&layout, books);
        if let Some(file) = file {
            file.close(&ledger)?;
        }
        if session.is_cut_off() {
            session.verified().cells_unknown = unknown(&ledger);
        } else {
            session.read_back(ledger)?;
        }
    }
    session.end()
}

/// A run on its way.
#[derive(Debug)]
struct Session {
    run: Run,
    filling: Arc<Filling>,
    phases: Vec<Outcome>,
    verified: Option<Verified>,
}

impl Session {
    fn new(settings: Settings, run: u64, interrupt: Arc<AtomicBool>) -> Result<Self, String> {
        let options = &settings.options;
        let addresses: Vec<_> = options.connect.iter().map(|name| resolve(name)).collect::<Result<_, _>>()?;
        let greeting = Arc::new(Greeting {
            user: options.user.clone(),
            password: options.password.clone(),
            hello: options.hello,
            fences: options.verify && options.reconnect,
        });
        let filling = Arc::new(Filling::new(settings.random(Purpose::Filling, 0)));
        let run = Run { settings, addresses, greeting, run, interrupt };
        Ok(Self { run, filling, phases: Vec::new(), verified: None })
    }

    fn mixed(&self) -> Work {
        let settings = &self.run.settings;
        if let Some(trace) = &settings.trace {
            return Work::Traced(Arc::clone(trace));
        }
        Work::Mixed {
            mix: settings.mix,
            keys: Arc::new(Keys::new(settings.distribution, settings.layout.cells())),
            owned: settings.options.verify,
            operations: settings.options.requests,
        }
    }

    /// A phase; returns what is known after it.
    fn go(
        &mut self,
        (name, work, purpose): (&'static str, Work, Purpose),
        books: Vec<Books>,
        journal: Option<&mut JournalFile>,
    ) -> Result<Vec<Books>, String> {
        let mut outcome = self.run.phase(Task { name, work, purpose, books }, &self.filling, journal)?;
        let books = std::mem::take(&mut outcome.books);
        if self.run.settings.options.verify || self.run.settings.options.verify_only {
            let violations = std::mem::take(&mut outcome.violations);
            self.verified().violations.append(violations);
        }
        self.phases.push(outcome);
        Ok(books)
    }

    fn read_back(&mut self, ledger: Ledger) -> Result<(), String> {
        let cells = ledger.written().count() as u64;
        self.verified().cells_unknown = unknown(&ledger);
        let ledger = Arc::new(ledger);
        let connections = self.run.settings.layout.connections;
        let books = (0..connections).map(|_| Books::All(ledger.clone())).collect();
        self.go(("read_back", Work::ReadBack(ledger), Purpose::ReadBack), books, None)?;
        let done = self.phases.last().map_or(0, |phase| phase.measure.operations());
        let verified = self.verified();
        verified.cells_read_back = done;
        verified.was_read_back = done == cells;
        Ok(())
    }

    fn verified(&mut self) -> &mut Verified {
        self.verified.get_or_insert_with(|| Verified {
            violations: Violations::default(),
            cells_read_back: 0,
            cells_unknown: 0,
            was_read_back: false,
        })
    }

    fn is_cut_off(&self) -> bool {
        self.phases.last().is_some_and(|phase| phase.is_cut_off)
    }

    fn is_interrupted(&self) -> bool {
        interrupt::is_set(&self.run.interrupt)
    }

    fn end(self) -> Result<Report, String> {
        if let (Some(path), Some(phase)) = (&self.run.settings.options.hgrm, self.phases_of_interest()) {
            write_hgrm(path, phase)?;
        }
        let is_broken = self.verified.as_ref().is_some_and(|verified| verified.violations.count > 0);
        let incomplete = if self.is_cut_off() {
            Some("every connection was lost (--reconnect makes them again)")
        } else if self.verified.as_ref().is_some_and(|verified| !verified.was_read_back) {
            Some("not everything was read back")
        } else if self
            .phases
            .iter()
            .any(|phase| phase.measure.operations() == 0 && phase.measure.failures() > 0)
        {
            Some("every operation of a phase failed")
        } else if self.is_interrupted() && self.phases.last().is_none_or(|phase| phase.name == "fill") {
            Some("interrupted before its rows were written")
        } else {
            None
        };
        let status = match (is_broken, incomplete) {
            (true, _) => 1,
            (false, Some(_)) => 2,
            (false, None) => 0,
        };
        Ok(Report {
            settings: self.run.settings.json(),
            was_interrupted: self.is_interrupted(),
            phases: self.phases,
            verified: self.verified,
            status,
            incomplete: incomplete.map(str::to_owned),
        })
    }

    /// The phase whose latencies are asked for: the run, or what there is instead.
    fn phases_of_interest(&self) -> Option<&Outcome> {
        self.phases.iter().find(|phase| phase.name == "run").or(self.phases.first())
    }
}

fn no_books(layout: &Layout) -> Vec<Books> {
    (0..layout.connections).map(|_| Books::None).collect()
}

/// To each connection what is known of its cells.
fn books_of(layout: &Layout, known: &Ledger) -> Vec<Books> {
    let own = |connection| Ledger::new(layout.owned(connection));
    let mut ledgers: Vec<Ledger> = (0..layout.connections).map(own).collect();
    for (cell, window) in known.written() {
        let (owner, local) = layout.owner(cell);
        ledgers[usize::try_from(owner).expect("32 bits")].learn(local, window);
    }
    ledgers.into_iter().map(|ledger| Books::Own { ledger, untold: Vec::new() }).collect()
}

/// What all connections know of all cells.
fn ledger_of(layout: &Layout, books: Vec<Books>) -> Ledger {
    let mut all = Ledger::new(layout.cells());
    for (connection, books) in (0..).zip(books) {
        if let Books::Own { ledger, .. } = books {
            for (local, window) in ledger.written() {
                all.learn(layout.cell(connection, local), window);
            }
        }
    }
    all
}

/// Cells whose last writes were not acknowledged.
fn unknown(ledger: &Ledger) -> u64 {
    ledger.written().filter(|(_, window)| window.acknowledged < window.sent).count() as u64
}

fn write_hgrm(path: &Path, phase: &Outcome) -> Result<(), String> {
    let write = |path: &Path, text: String| {
        let written = File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| format!("{}: {error}", path.display()))
    };
    write(path, hgrm::text(&phase.measure.latency()))?;
    for (kind, one) in phase.measure.kinds() {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(kind.name());
        write(Path::new(&name), hgrm::text(&one.latency))?;
    }
    Ok(())
}
