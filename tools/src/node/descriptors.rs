//! File descriptors: one per client and one per file of the store, out of as many as the system gives a process.
//!
//! The soft limit is raised to the hard one, which needs no privilege. A part is kept for files: clients that took the
//! last descriptor would make the next flush fail.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::shell::Failure;

/// This part of all descriptors is for files of the store.
const FILES_PART: u64 = 4;
/// And at least so many: the segments that some partitions open and write at once.
const FILES_MIN: u64 = 256;

/// Raises the limit as far as it goes. How many clients there may be at most.
pub(super) fn clients_max() -> Result<usize, Failure> {
    let limit = raise();
    // What is open already: logs, segments, rings. One of them is the listing's own.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    room(limit, open as u64).ok_or_else(|| {
        Failure::Told(format!(
            "this process may have {limit} files and sockets open, which leaves none for clients: {open} are open, and \
             {} are kept for the store's files. Raise the hard limit (ulimit -Hn, LimitNOFILE= of a systemd unit)",
            files(limit)
        ))
    })
}

fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!("the limit of open files stays {current:?} and is not raised to {maximum:?}: {e}");
    }
    // None: without a limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn files(limit: u64) -> u64 {
    (limit / FILES_PART).max(FILES_MIN)
}

/// What is left of `limit` for clients when `open` are open.
fn room(limit: u64, open: u64) -> Option<usize> {
    let left = limit.checked_sub(open)?.checked_sub(files(limit))?;
    usize::try_from(left).ok().filter(|left| *left > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stays_for_files_and_what_is_left_may_be_nothing() {
        assert_eq!(room(20_000, 100), Some(14_900));
        assert_eq!(room(1024, 68), Some(700));
        assert_eq!(room(300, 44), None);
        assert_eq!(room(300, 301), None);
        assert!(room(u64::MAX, 100).is_some_and(|room| room > 1 << 32));
    }
}
