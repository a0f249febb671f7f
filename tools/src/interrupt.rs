//! A flag that is set when the user wants what runs to end: the first signal asks for it, a second one kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::shell::Failure;

/// As a shell tells of a program that a signal ended.
const KILLED: i32 = 128 + SIGINT;

/// From here on the two signals set the flag.
pub(crate) fn heard() -> Result<Arc<AtomicBool>, Failure> {
    let set = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second signal finds the flag that the first one set.
        flag::register_conditional_shutdown(signal, KILLED, Arc::clone(&set))
            .and_then(|_| flag::register(signal, Arc::clone(&set)))
            .map_err(|e| Failure::told(format!("cannot listen to signals: {e}")))?;
    }
    Ok(set)
}

/// Whether it is set.
pub(crate) fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}
