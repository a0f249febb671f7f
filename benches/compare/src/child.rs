//! A process that was started here: bound to cores, waited for within a limit, and never left behind.
//!
//! It is killed when its [`Child`] is dropped, and by the kernel when this process dies without dropping anything
//! (`setpriv --pdeathsig`), so that a bench that is itself killed leaves no server on the machine. The kernel looks at
//! the thread that started it: the main one has to.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// Between two looks whether it ended: short against the shortest run.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running process.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
}

/// What is to be started.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
}

impl Program {
    /// A program on one core, or on all. What it says goes nowhere unless [`Program::log`] says where.
    pub fn new(program: impl AsRef<OsStr>, core: Option<usize>) -> Self {
        let name =
            Path::new(program.as_ref()).file_name().unwrap_or(program.as_ref()).to_string_lossy().into();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(core) = core {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        command.arg(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { name, command }
    }

    /// Adds an argument.
    pub fn argument(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn arguments<A: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.command.args(arguments);
        self
    }

    /// Appends all it says to a file.
    pub fn log(&mut self, path: &Path) -> Result<&mut Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
        self.command.stdout(file.try_clone()?).stderr(file);
        Ok(self)
    }

    /// Lets it complain where this process does.
    pub fn heard(&mut self) -> &mut Self {
        self.command.stderr(Stdio::inherit());
        self
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<Child> {
        let process = self.command.spawn();
        let process = process.map_err(|e| format!("setpriv (of util-linux), to start {}: {e}", self.name))?;
        Ok(Child { name: self.name.clone(), process })
    }

    /// Starts it, keeping what it says on standard output.
    pub fn start_read(&mut self) -> Result<Speaking> {
        self.command.stdout(Stdio::piped());
        let mut child = self.start()?;
        let mut pipe = child.process.stdout.take().ok_or("its output is piped")?;
        // Read beside the waiting: what is longer than the pipe holds would keep it from ending.
        let reader = std::thread::Builder::new().spawn(move || {
            let mut said = String::new();
            pipe.read_to_string(&mut said).map(|_bytes| said)
        })?;
        Ok(Speaking { child, reader })
    }

    /// Runs it to its end, which comes within `limit`; returns how it ended and what it said on standard output.
    pub fn run(&mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        self.start_read()?.finish(limit)
    }
}

/// A running process whose words are kept.
#[derive(Debug)]
pub struct Speaking {
    child: Child,
    reader: JoinHandle<std::io::Result<String>>,
}

impl Speaking {
    /// Waits for its end, which comes within `limit`; returns how it ended and what it said.
    pub fn finish(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let status = self.child.wait(limit)?;
        let said = self.reader.join().map_err(|_panic| "reading what it said panicked")??;
        Ok((status, said))
    }

    /// Asks for its end, with SIGTERM, and waits for it.
    pub fn end(self, limit: Duration) -> Result<(ExitStatus, String)> {
        let id =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("a process without an id")?;
        kill_process(id, Signal::TERM)?;
        self.finish(limit)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.ended()?.is_some())
    }
}

impl Child {
    /// Its process id, which is also that of the program: what is in front of it replaces itself.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// Waits for its end; one that takes longer than `limit` is killed, which is an error.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if begin.elapsed() > limit {
                self.kill()?;
                return Err(format!("{} did not end within {limit:?}: killed", self.name).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()?;
        Ok(self.process.wait()?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that ended cannot be killed, which is as well.
        let _ended = self.process.kill();
        let _gone = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_hangs_is_killed_at_its_limit() {
        let error = Program::new("sleep", Some(0)).argument("60").run(Duration::from_millis(200));
        assert!(error.unwrap_err().to_string().contains("sleep did not end within 200ms"));
    }

    #[test]
    fn one_that_is_asked_to_end_says_what_it_has_to() {
        let listens = std::env::temp_dir().join(format!("foreshard-child-{}", std::process::id()));
        let script = format!(
            "trap 'echo asked; exit 3' TERM; : > {}; while :; do sleep 0.01; done",
            listens.display()
        );
        let child = Program::new("sh", None).arguments(["-c", &script]).start_read().unwrap();
        while !listens.exists() {
            std::thread::sleep(LOOK_EVERY);
        }
        let (status, said) = child.end(Duration::from_secs(20)).unwrap();
        std::fs::remove_file(listens).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(3), "asked\n"));
    }

    #[test]
    fn output_longer_than_a_pipe_is_read_whole() {
        let (status, said) = Program::new("head", None)
            .arguments(["-c", "1000000", "/dev/zero"])
            .run(Duration::from_secs(20))
            .unwrap();
        assert!(status.success());
        assert_eq!(said.len(), 1_000_000);
    }

    #[test]
    fn one_that_is_dropped_is_gone() {
        let child = Program::new("sleep", None).argument("60").start().unwrap();
        let entry = format!("/proc/{}", child.id());
        assert!(Path::new(&entry).exists());
        drop(child);
        assert!(!Path::new(&entry).exists());
    }
}
