//! What this kernel's io_uring can do, and what to do about it if it cannot.
//!
//! The floor is Linux 5.15. Above it, a ring is set up with the best of: single issuer with deferred task work (6.1),
//! cooperative task work (5.19), neither.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::error::{Error, Result};

/// How completions reach the shard; each kernel has the ones before its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Setup {
    /// As all kernels have it: completions interrupt the shard.
    Plain,
    /// Completions wait for the shard's next system call (5.19).
    Cooperative,
    /// Completions are worked off when the shard asks for them (6.1).
    Deferred,
}

/// Makes a ring of `entries`, with the best setup up to `best`.
pub(super) fn open(entries: u32, best: Setup) -> Result<(IoUring, Setup)> {
    let mut refused = None;
    for setup in [Setup::Deferred, Setup::Cooperative, Setup::Plain] {
        if setup > best {
            continue;
        }
        match build(entries, setup) {
            Ok(uring) => {
                check(&uring)?;
                return Ok((uring, setup));
            }
            Err(error) if error.raw_os_error() == Some(EINVAL) => refused = Some(error),
            Err(error) => return Err(explain(&error)),
        }
    }
    Err(explain(&refused.unwrap_or_else(|| io::Error::from_raw_os_error(EINVAL))))
}

fn build(entries: u32, setup: Setup) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // A burst of completions (multishot receives) is larger than what is submitted at once.
    builder.setup_clamp().setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_SUBMISSION));
    match setup {
        Setup::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        }
        Setup::Cooperative => {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        Setup::Plain => {}
    }
    builder.build(entries)
}

/// Refuses a kernel that lacks something the engine cannot do without.
fn check(uring: &IoUring) -> Result<()> {
    let parameters = uring.params();
    if !parameters.is_feature_ext_arg() || !parameters.is_feature_nodrop() {
        return Err(missing("waiting with a timeout, or keeping completions that overflow"));
    }
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(|error| explain(&error))?;
    match NEEDED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(missing(name)),
        None => Ok(()),
    }
}

fn missing(what: &str) -> Error {
    unsupported(format!("this kernel's io_uring lacks {what}; Linux 5.15 or later has it"))
}

/// What a failed setup means, and what to do.
fn explain(error: &io::Error) -> Error {
    let advice = match error.raw_os_error() {
        Some(EPERM | EACCES) => match disabled_sysctl().as_deref() {
            Some("2") => {
                "the sysctl kernel.io_uring_disabled is 2: set it to 0 (or to 1, with this user in kernel.io_uring_group)"
            }
            Some("1") => {
                "the sysctl kernel.io_uring_disabled is 1: set it to 0, or put this user into kernel.io_uring_group"
            }
            _ => {
                "a container's seccomp profile or a security module forbids it: allow io_uring_setup, io_uring_enter \
                 and io_uring_register (docker: --security-opt seccomp=.., without these in its deny list)"
            }
        },
        Some(ENOSYS) => {
            "the kernel has no io_uring, or a seccomp profile hides it: run Linux 5.15 or later, and allow \
             io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(ENOMEM) => {
            "too little memory may be locked: raise RLIMIT_MEMLOCK (`ulimit -l`), 8 MiB for each shard is enough"
        }
        Some(EMFILE | ENFILE) => "too many open files: raise RLIMIT_NOFILE (`ulimit -n`)",
        _ => "Linux 5.15 or later is needed",
    };
    unsupported(format!("cannot set up io_uring ({error}): {advice}"))
}

/// 0: everybody may; 1: a group may; 2: nobody may. None where the kernel has no such switch.
fn disabled_sysctl() -> Option<String> {
    // Read once, when a ring was refused: there is no ring to read it with.
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    Some(value.trim().to_owned())
}

fn unsupported(what: String) -> Error {
    Error::Unsupported(what.into())
}

/// What is used unconditionally, with its name in an error.
const NEEDED: [(u8, &str); 16] = [
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Fallocate::CODE, "fallocate"),
    (opcode::OpenAt::CODE, "openat"),
    (opcode::Close::CODE, "close"),
    (opcode::Statx::CODE, "statx"),
    (opcode::RenameAt::CODE, "renameat"),
    (opcode::UnlinkAt::CODE, "unlinkat"),
    (opcode::LinkAt::CODE, "linkat"),
    (opcode::MkDirAt::CODE, "mkdirat"),
    (opcode::Accept::CODE, "accept"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::AsyncCancel::CODE, "cancelling operations"),
    (opcode::Nop::CODE, "anything at all"),
];

const COMPLETIONS_PER_SUBMISSION: u32 = 8;
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOSYS: i32 = 38;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do() {
        for (errno, advice) in [
            (EPERM, "seccomp"),
            (ENOSYS, "5.15"),
            (ENOMEM, "RLIMIT_MEMLOCK"),
            (EMFILE, "RLIMIT_NOFILE"),
            (EINVAL, "5.15"),
        ] {
            let told = explain(&io::Error::from_raw_os_error(errno)).to_string();
            assert!(told.contains(advice), "{told}");
        }
        assert!(missing("linkat").to_string().contains("lacks linkat"));
    }
}
