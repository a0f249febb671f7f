//! `forecast`: what forecasts are worth on real traces, line by line beside what they have to be. See benches/README.md.
//!
//! Exit status: 0 every line holds; 1 one does not; 2 it could not be run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

mod parts;
mod said;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use foreshard_compare::child::Program;
use foreshard_compare::measured::{Bound, Measured};
use foreshard_compare::server::{empty, program};
use foreshard_compare::{Result, machine, tenants};
use serde_json::json;

/// What forecasts are worth on real traces, beside what they have to be.
#[derive(Parser)]
#[command(after_help = "Example: forecast --traces ../traces --threads 2 --only hot,backtest")]
struct Arguments {
    /// The directory with tenants-disk.csv.gz, tenants-net.csv.gz, calendar-rides.csv.gz and calendar-events.csv.
    #[arg(long, required_unless_present = "smoke")]
    traces: Option<PathBuf>,
    /// The parts to run.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Threads to compute with; numbers are the same for any.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A `foreshard` to run; built if not given.
    #[arg(long)]
    foreshard: Option<PathBuf>,
    /// Where files are kept meanwhile, and the report, forecast.json; emptied before.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/forecast"))]
    dir: PathBuf,
    /// A small generated trace: to see that it works. What the numbers are is not judged.
    #[arg(long)]
    smoke: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// Probabilities that the peak of a window exceeds a limit.
    Hot,
    /// Accuracy of all methods, and calibration of their blend.
    Backtest,
    /// What a calendar of events is worth, on rides and at an entity's first promotion.
    Events,
    /// Every method by name on every file.
    Models,
    /// Intervals of sums over groups.
    Sums,
    /// Entities with two days of history.
    Cold,
    /// A hundred thousand entities on one core.
    Fleet,
    /// Honesty, determinism, and series that make no sense: tests of the crate.
    Tests,
}

/// Files, and what is asked of them.
struct Forecasts {
    arguments: Arguments,
    foreshard: PathBuf,
    /// Name, file and the limit of hot.
    tenants: Vec<(&'static str, PathBuf, &'static str)>,
    measured: Measured,
}

fn main() -> ExitCode {
    let run = || -> Result<bool> {
        let arguments = Arguments::parse();
        machine::refuse_debug_build(arguments.smoke)?;
        let mut forecasts = Forecasts::new(arguments)?;
        let parts = match forecasts.arguments.only.as_slice() {
            [] => Part::value_variants().to_vec(),
            some => some.to_vec(),
        };
        for part in parts {
            let told = forecasts.measured.lines().len();
            forecasts.run(part)?;
            print!("{}", Measured::text(&forecasts.measured.lines()[told..]));
        }
        forecasts.finish()
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("forecast: {e}");
            ExitCode::from(2)
        }
    }
}

impl Forecasts {
    fn new(mut arguments: Arguments) -> Result<Self> {
        let foreshard = program(arguments.foreshard.take())?;
        empty(&arguments.dir)?;
        let tenants = match &arguments.traces {
            Some(dir) if !arguments.smoke => vec![
                ("disk", dir.join("tenants-disk.csv.gz"), "881.7"),
                ("net", dir.join("tenants-net.csv.gz"), "p97"),
            ],
            _ => {
                let path = arguments.dir.join("tenants.csv");
                std::fs::write(&path, tenants::trace(24, 80, 1))?;
                vec![("generated", path, "p97")]
            }
        };
        Ok(Self { arguments, foreshard, tenants, measured: Measured::default() })
    }

    fn run(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Hot => self.hot(),
            Part::Backtest => self.backtest(),
            Part::Events => self.events(),
            Part::Models => self.models(),
            Part::Sums => self.sums(),
            Part::Cold => self.cold(),
            Part::Fleet => self.fleet(),
            // Whoever runs the smoke runs the tests too.
            Part::Tests if self.arguments.smoke => Ok(()),
            Part::Tests => self.tests(),
        }
    }

    /// Writes the report; whether all is as it has to be.
    fn finish(self) -> Result<bool> {
        let path = self.arguments.dir.join("forecast.json");
        let report = json!({ "smoke": self.arguments.smoke, "lines": self.measured.lines() });
        std::fs::write(&path, format!("{report:#}\n"))?;
        let (count, failures) = (self.measured.lines().len(), self.measured.failures());
        if self.arguments.smoke {
            println!("{count} lines on a generated trace: they are not judged; {}", path.display());
            return Ok(self.measured.is_finite());
        }
        println!("{} of {count} lines hold; {}", count - failures, path.display());
        Ok(failures == 0)
    }

    fn add(&mut self, part: Part, what: impl Into<String>, value: f64, bound: Bound) {
        let part = part.to_possible_value().map_or_else(String::new, |part| part.get_name().to_owned());
        self.measured.add(part, what, value, bound);
    }

    /// `foreshard forecast` on a file.
    fn forecast(&self, what: &[&str], file: &Path) -> Program {
        let mut forecast = Program::new(&self.foreshard, None);
        forecast.argument("forecast").arguments(what).argument("--in").argument(file);
        forecast.arguments(["--threads", &self.arguments.threads.to_string()]);
        forecast
    }
}
