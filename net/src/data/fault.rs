//! Why a command is not done: an answer for its client.

use std::borrow::Cow;

use foreshard_engine::Error;
use foreshard_engine::ids::TableVersion;

/// What a command answers instead of its reply.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// An error reply: its code, then its text.
    Reply(Cow<'static, str>),
    /// A row that was read has changed before the writes were applied: run the command again.
    Conflict,
    /// A row that it needs has moved as of this version of the partition table: run the command again by that.
    Moved(TableVersion),
    /// What the engine says.
    Engine(Error),
}

/// A command's result.
pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

pub(crate) const WRONG_TYPE: Fault =
    Fault::text("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(crate) const SYNTAX: Fault = Fault::text("ERR syntax error");
pub(crate) const NOT_AN_INTEGER: Fault = Fault::text("ERR value is not an integer or out of range");
pub(crate) const NOT_A_FLOAT: Fault = Fault::text("ERR value is not a valid float");
pub(crate) const NO_SUCH_KEY: Fault = Fault::text("ERR no such key");

impl Fault {
    /// An error reply.
    pub(crate) const fn text(text: &'static str) -> Self {
        Self::Reply(Cow::Borrowed(text))
    }

    /// An error reply made here.
    pub(crate) fn told(text: impl Into<String>) -> Self {
        Self::Reply(Cow::Owned(text.into()))
    }

    /// As the client reads it.
    pub(crate) fn reply(&self) -> Cow<'static, str> {
        match self {
            Self::Reply(text) => text.clone(),
            Self::Conflict | Self::Engine(Error::Conflict) => {
                "TRYAGAIN the keys of this command are being changed by too many others".into()
            }
            Self::Moved(_) | Self::Engine(Error::Moved { .. }) => {
                "TRYAGAIN the keys of this command move too often".into()
            }
            Self::Engine(Error::TryAgain(why)) => format!("TRYAGAIN {why}").into(),
            // The code with which Redis refuses writes that it could not make durable.
            Self::Engine(e @ (Error::Full(_) | Error::Stopped(_))) => format!("MISCONF {e}").into(),
            Self::Engine(
                e @ (Error::Misuse(_)
                | Error::Corrupt(_)
                | Error::Io { .. }
                | Error::Closed
                | Error::Unsupported(_)),
            ) => format!("ERR {e}").into(),
        }
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        match e {
            Error::Conflict => Self::Conflict,
            Error::Moved { version } => Self::Moved(version),
            Error::Corrupt(_)
            | Error::Io { .. }
            | Error::Misuse(_)
            | Error::Full(_)
            | Error::Stopped(_)
            | Error::TryAgain(_)
            | Error::Closed
            | Error::Unsupported(_) => Self::Engine(e),
        }
    }
}
