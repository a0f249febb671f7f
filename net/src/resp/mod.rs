//! The Redis serialization protocol: commands in, replies out.
//!
//! It knows nothing of sockets and of what commands mean. `decode` reads commands from bytes as they arrive, `reply`
//! writes RESP2 or RESP3.

pub mod decode;
pub mod reply;

pub use self::decode::{Args, Decoder, Limits, ProtocolError, Step};
pub use self::reply::{Protocol, Reply};
