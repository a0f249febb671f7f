//! The C library's allocator, told to give back what long commands and replies took.
//!
//! glibc maps a long allocation by itself, and unmaps it when it is freed; but with each one that is freed its idea of what
//! is long grows, up to 32 MiB, and what is shorter then comes from heaps that shrink at their ends only. Clients that made
//! a node hold 64 MiB left 120 MiB of them behind, for good; with a fixed idea of what is long, 11 MiB.
//!
//! It is told through the environment, because the other way (mallopt) is a call that Rust calls unsafe. The environment is
//! read when a program starts: so the node starts itself again, once, as the same process.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Read by glibc; other C libraries do not know it.
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
/// What is shorter may stay in heaps; what is longer is mapped, which takes some microseconds and a fault a page: little
/// beside what is done with so many bytes.
const MAPPED_BYTES_MIN: &str = "262144";

/// Starts the program again with the variable set, unless it is: then whoever set it knows better. Returns only if that
/// cannot be done, which costs memory and nothing else.
pub(super) fn settle() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let e = start_again(MAPPED_BYTES_MIN.as_ref());
    tracing::warn!(
        "{VARIABLE} is not set, and the node cannot start itself again with it: {e}; it keeps more memory"
    );
}

fn start_again(value: &OsStr) -> io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    match std::env::current_exe() {
        Ok(program) => {
            let mut command = Command::new(program);
            if let Some(name) = name {
                command.arg0(name);
            }
            command.args(arguments).env(VARIABLE, value).exec()
        }
        Err(e) => e,
    }
}
