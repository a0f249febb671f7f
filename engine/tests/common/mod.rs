//! A store under a seeded workload on a disk that may die at any moment, and a model of what it has promised.
//!
//! `model` knows what every row may be; `workload` writes, reads and checks; `life` opens the store, runs the workload
//! until it ends or the disk stops, and hands on the disk that the next opening finds. Shared by the crash tests, the
//! campaign and the operation fuzzers.

#![allow(dead_code, reason = "each of its users takes a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::needless_pass_by_ref_mut,
    reason = "a test's harness fails by panicking"
)]
#![allow(missing_docs, unreachable_pub, reason = "not an interface")]

pub mod campaign;
pub mod changes;
pub mod faults;
pub mod flips;
pub mod history;
pub mod kinds;
pub mod life;
pub mod lossy;
pub mod model;
pub mod operator;
pub mod script;
pub mod workload;
