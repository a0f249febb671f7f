//! Structures and the whole engine against naive models: the input is a list of operations.

pub mod commands;
pub mod engine;
pub mod memtable;
pub mod retention;
pub mod rows;
pub mod segment;
mod transactions;

/// Prints what a target does, for who reads a finding: `FUZZ_TRACE=1`.
fn trace(what: impl FnOnce() -> String) {
    static TRACED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *TRACED.get_or_init(|| std::env::var_os("FUZZ_TRACE").is_some()) {
        eprintln!("{}", what());
    }
}
