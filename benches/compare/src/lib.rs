//! What the programs of this crate share: processes that end with whoever started them, what they cost, how load on
//! them went.
//!
//! Invariant: no process outlives the one that started it, whichever way that ends; and none is waited for without a
//! limit.

pub mod admin;
pub mod bare_log;
pub mod child;
pub mod filled;
pub mod fio;
pub mod fit;
pub mod idle;
pub mod live;
pub mod load;
pub mod machine;
pub mod measured;
pub mod metrics;
pub mod multi;
pub mod node;
pub mod operator;
pub mod probe;
pub mod replayed;
pub mod report;
pub mod server;
pub mod site;
pub mod tenants;
pub mod timeline;
pub mod trace;

/// What may go wrong here is only told, never handled.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
