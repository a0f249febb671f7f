//! Redis keys as rows of the engine: where they lie, what they hold, how commands read and change them.
//!
//! `net/FORMAT.md` owns the layout.

pub(crate) mod fault;
pub(crate) mod glob;
pub(crate) mod hash;
pub(crate) mod keyspace;
pub(crate) mod layout;
pub mod number;
pub(crate) mod sweep;
pub(crate) mod tx;
pub(crate) mod value;
