//! Reading a store's structures without changing them: each module one of them, what is wrong goes into
//! [`Findings`](crate::finding::Findings), what is whole comes back.

pub(crate) mod log;
pub(crate) mod manifest;
pub(crate) mod segment;
pub(crate) mod superblock;
pub(crate) mod table;
